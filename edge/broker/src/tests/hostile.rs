//! Bytes that are not MQTT, or almost: nothing panics, the connection ends, it is counted, the others go on.
use super::recorder::count;
use super::wire::{Connect, V4, V5, packet, publish, publish_with, subscribe, text};
use super::world::{COMMAND, LAB, TELEMETRY, World, sample};
use crate::connect::{self, Unfit};
use crate::decode::{self, Packet, Version};
use crate::frame::{self, Kind};
use crate::fuzzing::read_all;
use bytes::BytesMut;
use proptest::prelude::*;
use std::path::PathBuf;

const MAX: usize = 64 << 10;

/// Good packets of every kind, to be damaged.
fn good(level: u8) -> Vec<Vec<u8>> {
    let mut connect = Connect::lasting(level, "lab-1");
    connect.will = Some((
        TELEMETRY.into(),
        "gone".into(),
        true,
        vec![0x18, 0, 0, 0, 9],
    ));
    let mut user = vec![0x26];
    user.extend(text("k"));
    user.extend(text("v"));
    let mut reasoned = vec![0, 1, 0, user.len() as u8];
    reasoned.extend(&user);
    let mut unsubscribe = vec![0, 1];
    unsubscribe.extend(if level == V5 { &[0][..] } else { &[] });
    unsubscribe.extend(text(COMMAND));
    let mut packets = vec![
        connect.bytes(),
        publish_with(level, 2, 7, TELEMETRY, &user, sample(1).as_bytes()),
        publish(level, 0, 0, TELEMETRY, b"{}"),
        subscribe(level, 1, &[(COMMAND, 1), (TELEMETRY, 2)]),
        packet(0xa2, &unsubscribe),
        packet(0xc0, &[]),
        packet(0xe0, &[]),
    ];
    for first in [0x40, 0x50, 0x62, 0x70] {
        packets.push(packet(first, &[0, 1]));
        if level == V5 {
            packets.push(packet(first, &reasoned));
        }
    }
    packets
}

fn version(level: u8) -> Version {
    if level == V4 {
        Version::V4
    } else {
        Version::V5
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn any_bytes_end_in_packets_or_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..120), v5: bool) {
        read_all(if v5 { Version::V5 } else { Version::V4 }, &bytes);
    }

    #[test]
    fn any_body_of_any_kind_ends_in_a_packet_or_a_fault(
        first in prop::sample::select(vec![0x10_u8, 0x30, 0x32, 0x35, 0x3d, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0]),
        body in prop::collection::vec(any::<u8>(), 0..60),
        v5: bool,
    ) {
        let version = if v5 { Version::V5 } else { Version::V4 };
        let whole = packet(first, &body);
        let (packets, fault) = read_all(version, &whole);
        prop_assert!(packets.len() + usize::from(fault.is_some()) <= 1);
        prop_assert!(first == 0x10 || packets.len() + usize::from(fault.is_some()) == 1, "a whole packet is never waited for");
    }

    #[test]
    fn a_good_packet_with_damaged_bytes_ends_in_packets_or_a_fault(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        v5: bool,
    ) {
        let level = if v5 { V5 } else { V4 };
        let packets = good(level);
        let mut bytes = packets[which.index(packets.len())].clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_all(version(level), &bytes);
        read_all(version(level), &bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn how_the_stream_is_cut_does_not_matter(cuts in prop::collection::vec(1..40_usize, 1..60), v5: bool) {
        let level = if v5 { V5 } else { V4 };
        let stream: Vec<u8> = good(level).into_iter().skip(1).flatten().collect();
        let (expected, fault) = read_all(version(level), &stream);
        prop_assert_eq!(fault, None);
        let mut input = BytesMut::new();
        let (mut rest, mut packets, mut cuts) = (&stream[..], Vec::new(), cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            input.extend_from_slice(now);
            rest = later;
            while let Some(frame) = frame::next(&mut input, MAX).unwrap() {
                packets.push(decode::packet(version(level), frame).unwrap());
            }
        }
        prop_assert_eq!(packets, expected);
    }
}

#[tokio::test]
async fn malformed_and_oversized_packets_end_their_connection_and_no_other() {
    let world = World::new().await;
    let mut neighbour = world.join(Connect::new(V4, "lab-2")).await.0;
    let ended = count("medmesh_mqtt_ended_total{fault}");
    let mut alone = vec![0, 1, 0];
    alone.extend(text(COMMAND));
    let mut identified = vec![0, 1, 2, 0x0b, 5];
    identified.extend(text(COMMAND));
    identified.push(1);
    let wildcard = publish(V5, 2, 1, "devices/us/us-f1/lab-1/+", b"{}");
    for (bytes, reason) in [
        (vec![0xf0, 0], 0x82),
        (vec![0x20, 2, 0, 0], 0x81),
        (vec![0xb0, 3, 0, 1, 0], 0x81),
        (vec![0x30, 0xff, 0xff, 0xff, 0xff], 0x81),
        (vec![0x30, 0x80, 0x80, 0x04], 0x95),
        (publish(V5, 6, 1, TELEMETRY, b"{}"), 0x81),
        (publish(V5, 2, 0, TELEMETRY, b"{}"), 0x81),
        (publish(V5, 2, 1, "", b"{}"), 0x82),
        (wildcard, 0x81),
        (publish_with(V5, 2, 1, TELEMETRY, &[0x0b, 1], b"{}"), 0x82),
        (
            publish_with(V5, 2, 1, TELEMETRY, &[0x26, 0, 9], b"{}"),
            0x81,
        ),
        (subscribe(V5, 0, &[(COMMAND, 1)]), 0x81),
        (subscribe(V5, 1, &[]), 0x82),
        (subscribe(V5, 1, &[(COMMAND, 3)]), 0x82),
        (subscribe(V5, 1, &[(COMMAND, 0xc1)]), 0x81),
        (packet(0x82, &alone), 0x81),
        (packet(0x82, &identified), 0xa1),
        (packet(0xa2, &[0, 1, 0]), 0x82),
        (packet(0xc0, &[0]), 0x81),
    ] {
        let mut raw = world.lab(V5).await;
        raw.send(&bytes).await;
        raw.expect(&[0xe0, 2, reason, 0]).await;
        raw.closed().await;
    }
    assert!(count("medmesh_mqtt_ended_total{fault}") >= ended + 19);
    neighbour.send(&packet(0xc0, &[])).await;
    neighbour.expect(&[0xd0, 0]).await;
}

#[tokio::test]
async fn what_came_whole_before_the_fault_is_still_stored_and_acknowledged() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    let mut bytes = publish(V5, 2, 1, TELEMETRY, sample(1).as_bytes());
    bytes.extend([0xf0, 0]);
    raw.send(&bytes).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    raw.expect(&[0xe0, 2, 0x82, 0]).await;
    assert_eq!(world.journal.sequences(), [1]);
}

#[tokio::test]
async fn bytes_that_are_not_tls_or_not_connect_are_counted_and_closed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::new().await;
    let tls = count("medmesh_mqtt_refused_total{tls}");
    let mut tcp = tokio::net::TcpStream::connect(world.broker.local_addr())
        .await
        .unwrap();
    tcp.write_all(&Connect::new(V4, "lab-1").bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = tcp.read_to_end(&mut answer).await;
    assert!(count("medmesh_mqtt_refused_total{tls}") > tls);
    let malformed = count("medmesh_mqtt_refused_total{malformed}");
    for bytes in [
        &[0x10, 4, 0, 4, b'M', b'Q'][..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x10, 0],
    ] {
        let mut raw = world.dial(LAB).await;
        raw.send(bytes).await;
        while raw.next().await.is_some() {}
    }
    assert!(count("medmesh_mqtt_refused_total{malformed}") >= malformed + 3);
}

/// The public traces, if this machine has them.
fn traces() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| default.into(), PathBuf::from);
    let file = data.join("modbus-mqtt-traces/mqtt.pcap");
    file.exists().then_some(file)
}

/// Payloads of the TCP segments to port 1883 (pcap, Ethernet, IPv4).
fn to_broker(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    let mut at = 24;
    while at + 16 <= pcap.len() {
        let length = u32::from_le_bytes(pcap[at + 8..at + 12].try_into().unwrap()) as usize;
        let ip = &pcap[at + 16 + 14..at + 16 + length];
        let header = usize::from(ip[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let tcp = &ip[header..total];
        if u16::from_be_bytes([tcp[2], tcp[3]]) == 1883 {
            payloads.push(tcp[usize::from(tcp[12] >> 4) * 4..].to_vec());
        }
        at += 16 + length;
    }
    payloads.retain(|payload| !payload.is_empty());
    payloads
}

#[test]
#[cfg_attr(not(medmesh_data), ignore = "needs the traces: MEDMESH_DATA")]
fn a_recorded_session_of_another_client_is_read_packet_by_packet() {
    let pcap = std::fs::read(traces().expect("MEDMESH_DATA has no modbus-mqtt-traces")).unwrap();
    let (mut connects, mut packets) = (0, Vec::new());
    for payload in to_broker(&pcap) {
        let mut input = BytesMut::from(&payload[..]);
        while let Some(frame) = frame::next(&mut input, MAX).unwrap() {
            match frame.kind {
                // The recorded client speaks MQTT 3.1 (MQIsdp), which is answered and not spoken.
                Kind::Connect => {
                    assert_eq!(connect::connect(frame), Err(Unfit::UnknownProtocol));
                    connects += 1;
                }
                _ => packets.push(decode::packet(Version::V4, frame).unwrap()),
            }
        }
        assert!(input.is_empty());
    }
    assert_eq!(connects, 2);
    let pings = packets
        .iter()
        .filter(|packet| **packet == Packet::PingReq)
        .count();
    assert_eq!((packets.len(), pings), (8, 5));
    assert!(
        matches!(&packets[0], Packet::Subscribe { pkid: 1, filters } if filters[0].path == "SampleTopic")
    );
    assert!(packets.iter().any(
        |packet| matches!(packet, Packet::Publish(publish) if publish.payload == "Hello MQTT")
    ));
}
