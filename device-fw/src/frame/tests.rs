//! The frame code against real frames, a capture with another implementation's decode, and arbitrary bytes.
use super::*;
use proptest::prelude::*;
use std::{fs, path::PathBuf, string::String, vec::Vec};

fn data(path: &str) -> PathBuf {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| shared.into());
    PathBuf::from(root).join(path)
}

fn hex(text: &str) -> Vec<u8> {
    text.split(' ')
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect()
}

#[test]
fn real_rtu_frames_are_opened_read_and_written_back_byte_for_byte() {
    let csv = fs::read_to_string(data("modbus-register-maps/rtu_frames.csv")).unwrap();
    let mut count = 0;
    for line in csv.lines().skip(1) {
        let fields: Vec<&str> = line.splitn(5, ',').collect();
        let frame = hex(fields[2]);
        let opened = open_rtu(&frame);
        assert_eq!(opened.is_ok(), fields[3] == "ok", "{line}");
        let Ok((unit, pdu)) = opened else { continue };
        count += 1;
        let mut out = [0; MAX_PDU];
        let len = if fields[1] == "request" {
            assert_eq!(rtu_request_len(&frame), Ok(Some(frame.len())));
            Request::parse(pdu).unwrap().encode(&mut out)
        } else {
            Response::parse(pdu).unwrap().encode(&mut out)
        };
        let mut sealed = [0; MAX_RTU];
        let sealed_len = seal_rtu(unit, &out[..len.unwrap()], &mut sealed).unwrap();
        assert_eq!(&sealed[..sealed_len], &frame[..], "{line}");
        let mut wrong = frame.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(
            matches!(open_rtu(&wrong), Err(FrameError::Crc { .. })),
            "{line}"
        );
    }
    assert!(count >= 12);
}

/// The TCP payloads of a classic little-endian capture (Ethernet, IPv4), with the source port, in order.
fn payloads(capture: &[u8]) -> Vec<(u16, u16, Vec<u8>)> {
    assert_eq!(capture[..4], [0xd4, 0xc3, 0xb2, 0xa1]);
    let be = |b: &[u8]| u16::from_be_bytes([b[0], b[1]]);
    let (mut at, mut out) = (24, Vec::new());
    while at + 16 <= capture.len() {
        let len = u32::from_le_bytes(capture[at + 8..at + 12].try_into().unwrap()) as usize;
        let packet = &capture[at + 16..at + 16 + len];
        at += 16 + len;
        if be(&packet[12..]) != 0x0800 || packet[23] != 6 {
            continue;
        }
        let ip = &packet[14..14 + usize::from(be(&packet[16..]))];
        let tcp = &ip[usize::from(ip[0] & 15) * 4..];
        let payload = &tcp[usize::from(tcp[12] >> 4) * 4..];
        if !payload.is_empty() {
            out.push((be(tcp), be(&tcp[2..]), payload.to_vec()));
        }
    }
    out
}

#[test]
fn every_message_of_a_real_capture_is_read_as_zeek_reads_it() {
    let zeek =
        fs::read_to_string(data("modbus-mqtt-traces/modbus.coil_parsing_small__output")).unwrap();
    let mut expected: Vec<String> = zeek
        .lines()
        .filter(|line| line.contains(" modbus_message,"))
        .map(String::from)
        .collect();
    let capture = fs::read(data("modbus-mqtt-traces/modbusSmall.pcap")).unwrap();
    let mut seen = Vec::new();
    for (from, to, payload) in payloads(&capture) {
        let head = Mbap::parse(payload.first_chunk().unwrap()).unwrap();
        assert_eq!(payload.len(), MBAP + head.pdu_len);
        assert_eq!(head.encode(), payload[..MBAP]);
        let function = payload[MBAP];
        let request = to == 502;
        // Coils (1, 15) are not spoken by these devices: a clear error, as for any foreign function code.
        assert_eq!(
            Request::parse(&payload[MBAP..]),
            Err(FrameError::Function(function))
        );
        let orig = if request { from } else { to };
        seen.push(format!(
            "1 modbus_message, [orig_h=118.189.96.132, orig_p={orig}/tcp, resp_h=118.189.96.132, resp_p=502/tcp, \
             proto=6, ctx=[]], [tid={}, pid=0, uid={}, function_code={function}, len={}], {}",
            head.transaction,
            head.unit,
            head.pdu_len + 1,
            if request { "T" } else { "F" },
        ));
    }
    let squeeze = |line: &String| {
        line.split_once(' ')
            .map(|(_, rest)| rest.to_owned())
            .unwrap()
    };
    let mut seen: Vec<String> = seen.iter().map(squeeze).collect();
    let mut expected: Vec<String> = expected.drain(..).map(|line| squeeze(&line)).collect();
    seen.sort();
    expected.sort();
    assert!(!expected.is_empty());
    assert_eq!(seen, expected);
}

#[test]
fn a_request_outside_the_protocols_bounds_is_refused() {
    for (pdu, error) in [
        (&[][..], FrameError::Short),
        (&[3, 0, 0, 0][..], FrameError::Short),
        (&[3, 0, 0, 0, 0], FrameError::Value),
        (&[3, 0, 0, 0, 126], FrameError::Value),
        (&[4, 0, 0, 0, 1, 9], FrameError::Long),
        (&[16, 0, 0, 0, 1, 2, 0], FrameError::Short),
        (&[16, 0, 0, 0, 1, 4, 0, 0, 0, 0], FrameError::Value),
        (&[16, 0, 0, 0, 124, 248], FrameError::Value),
        (&[0x2b, 14], FrameError::Function(0x2b)),
    ] {
        assert_eq!(Request::parse(pdu), Err(error), "{pdu:?}");
    }
}

#[test]
fn a_tcp_head_with_a_foreign_protocol_or_an_impossible_length_is_refused() {
    for (head, error) in [
        ([0, 1, 0, 9, 0, 6, 1], FrameError::Protocol(9)),
        ([0, 1, 0, 0, 0, 0, 1], FrameError::Short),
        ([0, 1, 0, 0, 0, 1, 1], FrameError::Short),
        ([0, 1, 0, 0, 0, 255, 1], FrameError::Long),
        ([0, 1, 0, 0, 0xff, 0xff, 1], FrameError::Long),
    ] {
        assert_eq!(Mbap::parse(&head), Err(error), "{head:?}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_read_or_refused_and_what_is_read_is_written_back(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut out = [0; MAX_PDU];
        if let Ok(request) = Request::parse(&bytes) {
            let len = request.encode(&mut out).unwrap();
            prop_assert_eq!(&out[..len], &bytes[..]);
        }
        if let Ok(response) = Response::parse(&bytes) {
            let len = response.encode(&mut out).unwrap();
            prop_assert_eq!(&out[..len], &bytes[..]);
        }
        let _ = open_rtu(&bytes);
        let _ = rtu_request_len(&bytes);
    }

    #[test]
    fn a_changed_bit_never_passes_the_checksum(pdu in prop::collection::vec(any::<u8>(), 1..MAX_PDU), bit in any::<prop::sample::Index>()) {
        let mut frame = [0; MAX_RTU];
        let len = seal_rtu(7, &pdu, &mut frame).unwrap();
        let bit = bit.index(len * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
        let refused = matches!(open_rtu(&frame[..len]), Err(FrameError::Crc { .. }));
        prop_assert!(refused);
    }
}
