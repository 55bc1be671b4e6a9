//! The decoder as a fuzzer calls it: any bytes in, and nothing may happen but that they are read or refused.
use super::{
    connect,
    decode::{self, Packet, Version},
    fault::Fault,
    frame::{self, Kind},
};
use bytes::BytesMut;

/// The longest packet that is read, in bytes.
const MAX: usize = 64 << 10;

/// Reads all packets of a stream as a connection would. The first byte says the version (even: 3.1.1, odd: 5), the rest
/// is the stream. Returns how many packets were read before its end or the first fault; a fuzzer looks only for panics
/// and for memory beyond a small multiple of the input.
#[must_use]
pub fn packets(bytes: &[u8]) -> usize {
    match bytes.split_first() {
        Some((first, stream)) if first % 2 == 0 => read_all(Version::V4, stream).0.len(),
        Some((_, stream)) => read_all(Version::V5, stream).0.len(),
        None => 0,
    }
}

/// Decodes everything in `bytes` as a connection would; the packets, and why it ended. A CONNECT is decoded and left out.
pub(super) fn read_all(version: Version, bytes: &[u8]) -> (Vec<Packet>, Option<Fault>) {
    let mut input = BytesMut::from(bytes);
    let mut packets = Vec::new();
    loop {
        let packet = match frame::next(&mut input, MAX) {
            Ok(Some(frame)) if frame.kind == Kind::Connect => match connect::connect(frame) {
                Ok(_) => continue,
                Err(_) => Err(Fault::Malformed),
            },
            Ok(Some(frame)) => decode::packet(version, frame),
            Ok(None) => return (packets, None),
            Err(unreadable) => Err(unreadable.into()),
        };
        match packet {
            Ok(packet) => packets.push(packet),
            Err(fault) => return (packets, Some(fault)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode::Filter, properties::Properties};
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    /// Streams of every kind of packet, the first byte of which says the version.
    const SEEDS: [&[u8]; 8] = [
        b"\x04\x10\x12\0\x04MQTT\x04\x02\0\x3c\0\x06device\x30\x05\0\x01ax\xff\xc0\0\xe0\0",
        b"\x05\x10\x1f\0\x04MQTT\x05\x86\0\x3c\x05\x11\0\0\0\x09\0\x01d\x02\x01\x01\0\x01t\0\x01w\0\x01u",
        b"\x05\x32\x21\0\x03a/b\0\x07\x12\x01\x01\x02\0\0\0\x09\x03\0\x01t\x26\0\x01k\0\x01vpayload",
        b"\x05\x82\x0e\0\x01\x07\x26\0\x01k\0\x01v\0\x01a\x2d\xa2\x06\0\x02\0\0\x01a",
        b"\x04\x82\x0a\0\x01\0\x01a\x01\0\x01b\x02\xa2\x05\0\x02\0\x01a",
        b"\x05\x40\x0b\0\x01\0\x07\x26\0\x01k\0\x01v\x50\x03\0\x01\x83\x62\x02\0\x01\x70\x02\0\x01",
        b"\x05\xe0\x07\0\x05\x11\0\0\0\0",
        b"\x04\x34\x06\0\x01a\0\x09x\x62\x02\0\x09",
    ];

    /// What a packet holds in memory beside its own frame, in bytes.
    fn weight(packet: &Packet) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        match packet {
            Packet::Publish(publish) => publish.properties.len(),
            Packet::Subscribe { filters, .. } => filters
                .iter()
                .map(|one| size_of::<Filter>() + one.path.len())
                .sum(),
            Packet::Unsubscribe { filters, .. } => filters.iter().map(text).sum(),
            _ => 0,
        }
    }

    #[test]
    fn a_seeded_run_of_damaged_packets_neither_panics_nor_takes_more_than_a_multiple_of_its_input()
    {
        // A filter takes three bytes of a packet at least, a numeric property two.
        let most = size_of::<Filter>() / 3 + size_of::<Properties>();
        for seed in 0..20_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut bytes = SEEDS[rng.random_range(0..SEEDS.len())].to_vec();
            for _ in 0..rng.random_range(0..5) {
                let at = rng.random_range(0..bytes.len());
                match rng.random_range(0..4) {
                    0 => bytes[at] = rng.random(),
                    1 => bytes[at] ^= 1 << rng.random_range(0..8),
                    2 => bytes.truncate(at + 1),
                    _ => {
                        let again = bytes[at..].to_vec();
                        bytes.extend(again);
                    }
                }
            }
            let count = packets(&bytes);
            assert!(count <= bytes.len() / 2, "a packet has two bytes");
            for version in [Version::V4, Version::V5] {
                let (packets, _) = read_all(version, &bytes);
                let weight: usize = packets.iter().map(weight).sum();
                assert!(weight <= most * bytes.len(), "{weight} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn the_seeds_are_packets_before_they_are_damaged() {
        let read = SEEDS.map(packets);
        assert!(read.iter().skip(2).all(|count| *count > 0), "{read:?}");
    }
}
