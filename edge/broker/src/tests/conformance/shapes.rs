//! The shape of packets (§1.5, §2) other than CONNECT: lengths, flags, strings, packet ids, reasons.
use super::super::wire::{Connect, V4, V5, packet, publish, publish_with, subscribe, text};
use super::super::world::{COMMAND, PREFIX, STATUS, TELEMETRY};
use super::{
    Row,
    Step::{self, Alive, End, Get, Join, Retained, Send},
    ack,
};

/// Each of them ends a connection of its own.
pub(super) fn each_ends(level: u8, reason: u8, packets: Vec<Vec<u8>>) -> Vec<Step> {
    let each = |packet| {
        let connect = Connect::new(level, "lab-1");
        [Join(connect, false), Send(packet), End(reason)]
    };
    packets.into_iter().flat_map(each).collect()
}

/// SUBSCRIBE or UNSUBSCRIBE: packet id, v5 properties and what follows.
pub(super) fn listing(level: u8, first: u8, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 7];
    if level == V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(payload);
    packet(first, &body)
}

pub(super) fn unsubscribe(level: u8, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    listing(level, 0xa2, &[], &filters)
}

/// PUBLISH, SUBSCRIBE and UNSUBSCRIBE with these bytes as topic or filter.
fn named(level: u8, name: &[u8]) -> Vec<Vec<u8>> {
    let block = [&(name.len() as u16).to_be_bytes()[..], name].concat();
    let properties: &[u8] = if level == V5 { &[0] } else { &[] };
    vec![
        packet(0x30, &[&block, properties, b"x"].concat()),
        listing(level, 0x82, &[], &[&block[..], &[0]].concat()),
        listing(level, 0xa2, &[], &block),
    ]
}

fn with(first: u8, body: &[u8]) -> Vec<u8> {
    packet(first, body)
}

pub(super) const ROWS: &[Row] = &[
    (
        &["4:2.2.2-1", "4:2.2.2-2", "5:2.1.3-1"],
        "flags of the fixed header are as listed",
        |l| {
            let firsts = [0x41, 0x52, 0x74, 0xc8, 0x00, 0x20, 0x90, 0xb0, 0xd0];
            each_ends(l, 0x81, firsts.map(|first| with(first, &[0, 1])).to_vec())
        },
    ),
    (&["4:3.6.1-1", "5:3.6.1-1"], "flags of PUBREL", |l| {
        each_ends(
            l,
            0x81,
            [0x60, 0x61, 0x6a].map(|first| ack(first, 1)).to_vec(),
        )
    }),
    (&["4:3.8.1-1", "5:3.8.1-1"], "flags of SUBSCRIBE", |l| {
        let mut bytes = subscribe(l, 1, &[(COMMAND, 0)]);
        bytes[0] = 0x80;
        each_ends(l, 0x81, vec![bytes])
    }),
    (&["4:3.10.1-1", "5:3.10.1-1"], "flags of UNSUBSCRIBE", |l| {
        let mut bytes = unsubscribe(l, &[COMMAND]);
        bytes[0] = 0xa0;
        each_ends(l, 0x81, vec![bytes])
    }),
    (&["4:3.14.1-1", "5:3.14.1-1"], "flags of DISCONNECT", |l| {
        each_ends(l, 0x81, vec![vec![0xe1, 0]])
    }),
    (
        &["5:1.5.5-1", "4:4.8.0-1"],
        "the remaining length is in its shortest form",
        |l| {
            let mut packets = vec![vec![0xc0, 0x80, 0], vec![0xc0, 0x80, 0x80, 0x80, 0x80, 0]];
            let mut long = publish(l, 0, 0, STATUS, b"x");
            long[1] |= 0x80;
            long.insert(2, 0);
            packets.push(long);
            each_ends(l, 0x81, packets)
        },
    ),
    (
        &["4:1.5.3-1", "5:1.5.4-1"],
        "strings are well-formed UTF-8",
        |l| {
            let bad: [&[u8]; 4] = [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"];
            each_ends(l, 0x81, bad.iter().flat_map(|bad| named(l, bad)).collect())
        },
    ),
    (
        &["4:1.5.3-2", "5:1.5.4-2", "4:4.7.3-2", "5:4.7.3-2"],
        "strings have no null character",
        |l| each_ends(l, 0x81, named(l, format!("{PREFIX}a\0").as_bytes())),
    ),
    (
        &["4:1.5.3-3", "5:1.5.4-3"],
        "a zero width no-break space is a character like others",
        |l| {
            let marked = format!("{PREFIX}\u{feff}command");
            let mut steps = vec![
                Send(subscribe(l, 1, &[(&marked, 0)])),
                Get(if l == V4 {
                    vec![0x90, 3, 0, 1, 0]
                } else {
                    vec![0x90, 4, 0, 1, 0, 0]
                }),
                Step::Command("not for it"),
                Alive,
                Send(unsubscribe(l, &[COMMAND, &marked])),
            ];
            let unsuback = [&[0xb0, 5, 0, 7, 0, 0x11, 0][..], &[0xb0, 2, 0, 7]];
            steps.push(Get(unsuback[usize::from(l == V4)].to_vec()));
            steps
        },
    ),
    (&["4:2.3.1-1"], "a packet id is not zero", |l| {
        let mut packets = vec![
            publish(l, 2, 0, STATUS, b"x"),
            publish(l, 4, 0, STATUS, b"x"),
        ];
        packets.push(subscribe(l, 0, &[(COMMAND, 0)]));
        packets.extend([0x40, 0x50, 0x62, 0x70].map(|first| ack(first, 0)));
        each_ends(l, 0x81, packets)
    }),
    (&["4:2.3.1-5", "5:2.2.1-2"], "QoS 0 has no packet id", |l| {
        vec![
            Send(publish(l, 1, 0, STATUS, b"01")),
            Retained(STATUS, Some("01")),
        ]
    }),
    (
        &["4:4.8.0-1", "5:4.13.1-1"],
        "nothing is behind the last field of a packet",
        |l| {
            let mut packets = vec![with(0xc0, &[0])];
            let four = [0x40, 0x50, 0x62, 0x70];
            match l {
                V4 => {
                    packets.extend(four.map(|first| with(first, &[0, 1, 0])));
                    packets.push(with(0xe0, &[0]));
                }
                _ => {
                    packets.extend(four.map(|first| with(first, &[0, 1, 0, 0, 9])));
                    packets.push(with(0xe0, &[0, 0, 9]));
                }
            }
            packets.push(listing(
                l,
                0x82,
                &[],
                &[&text(COMMAND)[..], &[0, 0]].concat(),
            ));
            packets.push(listing(l, 0xa2, &[], &[&text(COMMAND)[..], &[0]].concat()));
            each_ends(l, 0x81, packets)
        },
    ),
    (
        &["4:4.8.0-1", "5:4.13.1-1"],
        "a packet is not shorter than its fields",
        |l| {
            let mut packets: Vec<_> = [0x40, 0x50, 0x62, 0x70]
                .map(|first| with(first, &[0]))
                .into();
            packets.extend([0x30, 0x82, 0xa2].map(|first| with(first, &[0])));
            packets.push(with(0x32, &text(STATUS)));
            packets.push(listing(l, 0x82, &[], &text(COMMAND)));
            packets.push(listing(l, 0xa2, &[], &[0, 9, b'a']));
            each_ends(l, 0x81, packets)
        },
    ),
    (
        &[
            "5:3.4.2-1",
            "5:3.5.2-1",
            "5:3.6.2-1",
            "5:3.7.2-1",
            "5:3.14.2-1",
        ],
        "reasons are of the packet's list",
        |l| {
            let mut packets: Vec<_> = [(0x40, 1), (0x50, 0x92), (0x62, 0x80), (0x70, 0x10)]
                .map(|(first, reason)| with(first, &[0, 1, reason]))
                .into();
            packets.extend([0x01, 0x8b, 0x8e, 0xa2].map(|reason| with(0xe0, &[reason])));
            each_ends(l, 0x82, packets)
        },
    ),
    (
        &["5:4.13.1-1"],
        "properties of acknowledgements and DISCONNECT come once",
        |l| {
            let twice = [0x1f, 0, 1, b'a', 0x1f, 0, 1, b'a'];
            let mut packets: Vec<_> = [0x40, 0x50, 0x62, 0x70]
                .map(|first| with(first, &[&[0, 1, 0, 8][..], &twice].concat()))
                .into();
            packets.push(with(0xe0, &[&[0, 8][..], &twice].concat()));
            packets.push(with(0xe0, &[0, 10, 0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0]));
            each_ends(l, 0x82, packets)
        },
    ),
    (
        &["5:1.5.7-1", "5:4.13.1-1"],
        "only their own, well-formed properties are in packets",
        |l| {
            let user = [0x26, 0, 1, b'k', 0, 2, 0xc3, 0x28];
            let mut packets: Vec<_> = [0x40, 0x50, 0x62, 0x70]
                .map(|first| with(first, &[&[0, 1, 0, 8][..], &user].concat()))
                .into();
            packets.extend([
                with(0xe0, &[&[0, 8][..], &user].concat()),
                with(0x40, &[0, 1, 0, 2, 0x01, 0]),
                with(0xe0, &[0, 4, 0x1c, 0, 1, b'x']),
                publish_with(l, 2, 1, TELEMETRY, &user, b"x"),
                listing(l, 0x82, &user, &[&text(COMMAND)[..], &[0]].concat()),
                listing(l, 0xa2, &user, &text(COMMAND)),
                listing(
                    l,
                    0x82,
                    &[0x1f, 0, 1, b'a'],
                    &[&text(COMMAND)[..], &[0]].concat(),
                ),
                listing(l, 0xa2, &[0x0b, 1], &text(COMMAND)),
            ]);
            each_ends(l, 0x81, packets)
        },
    ),
    (&["4:3.12.4-1", "5:3.12.4-1"], "PINGREQ is answered", |_| {
        vec![Alive, Alive]
    }),
];
