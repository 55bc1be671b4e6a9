//! Frames beside those of the specification and of the simulators' own codec, which is another one.
use super::*;
use device_fw::frame;
use proptest::prelude::*;

fn read(space: Space, address: u16, count: u16) -> Ask {
    Ask::Read(Read {
        space,
        address,
        count,
    })
}

fn sealed(unit: u8, pdu: &[u8], framing: Framing) -> Vec<u8> {
    let mut out = [0; 300];
    match framing {
        Framing::Rtu => {
            let len = frame::seal_rtu(unit, pdu, &mut out).unwrap();
            out[..len].to_vec()
        }
        Framing::Tcp(transaction) => {
            let head = frame::Mbap {
                transaction,
                unit,
                pdu_len: pdu.len(),
            };
            [&head.encode()[..], pdu].concat()
        }
    }
}

fn reply(ask: &Ask, unit: u8, bytes: &[u8], framing: Framing) -> Option<Reply> {
    let shape = ask.shape(unit);
    let found = shape.find(bytes, framing)?;
    shape.read(&bytes[found], framing)
}

const FRAMINGS: [Framing; 2] = [Framing::Rtu, Framing::Tcp(0x0105)];

#[test]
fn requests_are_those_of_the_specification() {
    // The examples of MODBUS Application Protocol 1.1b3 §6.1 to §6.4 and §6.12.
    let write = Ask::Write {
        address: 1,
        words: vec![0x000a, 0x0102],
    };
    for (ask, pdu) in [
        (read(Space::Coil, 0x13, 0x13), &[1, 0, 0x13, 0, 0x13][..]),
        (read(Space::Discrete, 0xc4, 0x16), &[2, 0, 0xc4, 0, 0x16]),
        (read(Space::Holding, 0x6b, 3), &[3, 0, 0x6b, 0, 3]),
        (read(Space::Input, 8, 1), &[4, 0, 8, 0, 1]),
        (write, &[16, 0, 1, 0, 2, 4, 0, 0x0a, 1, 2]),
    ] {
        for framing in FRAMINGS {
            assert_eq!(ask.frame(17, framing), sealed(17, pdu, framing));
        }
    }
}

#[test]
fn answers_are_those_of_the_specification() {
    let bits = |bytes: &[u8], count: usize| {
        let all = bytes
            .iter()
            .flat_map(|byte| (0..8).map(move |bit| u16::from(byte >> bit & 1)));
        Reply::Values(all.take(count).collect())
    };
    for (ask, pdu, said) in [
        (
            read(Space::Coil, 0x13, 0x13),
            &[1, 3, 0xcd, 0x6b, 5][..],
            bits(&[0xcd, 0x6b, 5], 19),
        ),
        (
            read(Space::Discrete, 0xc4, 0x16),
            &[2, 3, 0xac, 0xdb, 0x35],
            bits(&[0xac, 0xdb, 0x35], 22),
        ),
        (
            read(Space::Holding, 0x6b, 3),
            &[3, 6, 2, 0x2b, 0, 0, 0, 0x64],
            Reply::Values(vec![555, 0, 100]),
        ),
        (read(Space::Input, 8, 1), &[0x84, 2], Reply::Refused(2)),
        (
            Ask::Write {
                address: 1,
                words: vec![1, 2],
            },
            &[16, 0, 1, 0, 2],
            Reply::Written,
        ),
    ] {
        for framing in FRAMINGS {
            let frame = sealed(17, pdu, framing);
            assert_eq!(reply(&ask, 17, &frame, framing), Some(said.clone()));
            // Wherever it stands, and only when it is whole.
            let among = [&[0, 17, 3, 0x80][..], &frame, &[9]].concat();
            assert_eq!(reply(&ask, 17, &among, framing), Some(said.clone()));
            for len in 0..frame.len() {
                assert_eq!(reply(&ask, 17, &frame[..len], framing), None);
            }
        }
    }
}

#[test]
fn what_is_of_another_unit_function_length_checksum_or_transaction_is_no_answer() {
    let ask = read(Space::Input, 1, 2);
    for framing in FRAMINGS {
        for (unit, pdu) in [
            (2, &[4, 4, 0, 1, 0, 2][..]),
            (1, &[3, 4, 0, 1, 0, 2]),
            (1, &[0x83, 2]),
            (1, &[4, 2, 0, 1]),
            (1, &[4, 6, 0, 1, 0, 2, 0, 3]),
        ] {
            assert_eq!(reply(&ask, 1, &sealed(unit, pdu, framing), framing), None);
        }
    }
    let right = sealed(1, &[4, 4, 0, 1, 0, 2], Framing::Rtu);
    for at in 0..right.len() {
        let mut wrong = right.clone();
        wrong[at] ^= 0x10;
        assert_eq!(reply(&ask, 1, &wrong, Framing::Rtu), None);
    }
    let old = sealed(1, &[4, 4, 0, 1, 0, 2], Framing::Tcp(4));
    assert_eq!(reply(&ask, 1, &old, Framing::Tcp(5)), None);
    let whole = |bytes: &[u8], transaction| {
        let found = whole_tcp_frames(bytes, transaction);
        (found.len, found.own)
    };
    assert_eq!(whole(&old, 5), (old.len(), 0));
    assert_eq!(whole(&old, 4), (old.len(), 1));
    assert_eq!(whole(&old[..9], 4), (0, 0));
    assert_eq!(whole(&[0, 4, 0, 9, 0, 2, 1, 1], 4), (0, 0));
}

/// The echo of a request on a line that hears itself is never taken for its answer.
#[test]
fn no_request_is_an_answer_to_itself() {
    for space in [Space::Input, Space::Holding] {
        for address in (0..=u16::MAX).step_by(7) {
            let ask = read(space, address, 1 + address % 125);
            let echo = ask.frame(1, Framing::Rtu);
            assert_eq!(reply(&ask, 1, &echo, Framing::Rtu), None);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = probe(&bytes);
    }

    #[test]
    fn an_answer_is_found_in_any_noise(
        before in prop::collection::vec(any::<u8>(), 0..40),
        after in prop::collection::vec(any::<u8>(), 0..40),
        values in prop::collection::vec(any::<u16>(), 1..125),
    ) {
        let ask = read(Space::Input, 7, u16::try_from(values.len()).unwrap());
        let data: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes()).collect();
        let pdu = [&[4, u8::try_from(data.len()).unwrap()][..], &data].concat();
        for framing in FRAMINGS {
            let bytes = [&before[..], &sealed(9, &pdu, framing), &after].concat();
            prop_assert_eq!(reply(&ask, 9, &bytes, framing), Some(Reply::Values(values.clone())));
        }
    }
}
