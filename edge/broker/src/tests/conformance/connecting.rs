//! CONNECT and CONNACK (§3.1, §3.2), and AUTH, which is not offered.
use super::super::wire::{Connect, V4, V5, packet, publish, subscribe, text};
use super::super::world::{COMMAND, STATUS, TELEMETRY, sample};
use super::{
    Row,
    Step::{self, Alive, End, Get, NotLetIn, OldEnd, Open, Refused, Send, Shut, Stored},
};

/// A CONNECT of these flags, v5 properties and payload fields.
fn raw(level: u8, flags: u8, properties: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([level, flags, 0, 0]);
    if level == V5 {
        body.push(properties.len() as u8);
        body.extend(properties);
    }
    body.extend(payload.concat());
    packet(0x10, &body)
}

fn id() -> Vec<u8> {
    text("lab-1")
}

/// Will properties (v5), topic and message.
fn will(level: u8, properties: &[u8], topic: &[u8]) -> Vec<u8> {
    let mut will = Vec::new();
    if level == V5 {
        will.push(properties.len() as u8);
        will.extend(properties);
    }
    will.extend((topic.len() as u16).to_be_bytes());
    will.extend(topic);
    will.extend(text("gone"));
    will
}

/// The CONNACK of a new session: what is offered, and nothing that was not asked for.
fn welcome(level: u8) -> Step {
    Get(match level {
        V4 => vec![0x20, 2, 0, 0],
        _ => vec![
            0x20, 22, 0, 0, 19, 0x21, 4, 0, 0x27, 0, 1, 0, 0, 0x22, 0, 0, 0x25, 1, 0x28, 1, 0x29,
            0, 0x2a, 0,
        ],
    })
}

fn not_let_in(reason: u8, connects: Vec<Vec<u8>>) -> Vec<Step> {
    let each = |connect| [Open(connect), NotLetIn(reason)];
    connects.into_iter().flat_map(each).collect()
}

fn with_properties(all: &[&[u8]]) -> Vec<Vec<u8>> {
    let each = |properties: &&[u8]| raw(V5, 2, properties, &[&id()]);
    all.iter().map(each).collect()
}

fn with_will_properties(all: &[&[u8]]) -> Vec<Vec<u8>> {
    let each = |properties: &&[u8]| {
        raw(
            V5,
            6,
            &[],
            &[&id(), &will(V5, properties, STATUS.as_bytes())],
        )
    };
    all.iter().map(each).collect()
}

pub(super) const ROWS: &[Row] = &[
    (
        &["4:3.1.0-1", "5:3.1.0-1"],
        "the first packet is CONNECT",
        |_| vec![Open(packet(0xc0, &[])), Shut],
    ),
    (
        &[
            "4:3.1.0-2",
            "5:3.1.0-2",
            "4:4.8.0-1",
            "5:4.13.1-1",
            "5:3.14.2-1",
            "5:3.14.2-2",
        ],
        "a second CONNECT ends the connection",
        |l| vec![Send(Connect::new(l, "lab-1").bytes()), End(0x82)],
    ),
    (
        &["4:3.1.2-1", "5:3.1.2-1"],
        "another protocol name is not taken",
        |l| {
            let mut body = text("MQTX");
            body.extend([l, 2, 0, 0]);
            body.extend(id());
            vec![Open(packet(0x10, &body)), Get(vec![0x20, 2, 0, 1]), Shut]
        },
    ),
    (
        &["4:3.1.2-2", "5:3.1.2-2", "5:3.14.0-1"],
        "another protocol level is told so, without a DISCONNECT",
        |_| {
            let mut body = text("MQTT");
            body.extend([6, 2, 0, 0, 0]);
            body.extend(id());
            vec![Open(packet(0x10, &body)), Get(vec![0x20, 2, 0, 1]), Shut]
        },
    ),
    (
        &[
            "4:3.1.2-3",
            "5:3.1.2-3",
            "4:3.2.2-6",
            "4:3.1.4-1",
            "5:3.1.4-1",
        ],
        "the reserved flag is zero",
        |l| not_let_in(0x81, vec![raw(l, 3, &[], &[&id()])]),
    ),
    (
        &["4:3.1.2-11", "4:3.1.2-13", "5:3.1.2-11"],
        "no will, no will QoS",
        |l| {
            let flags = [0x0a, 0x12];
            not_let_in(
                0x81,
                flags.map(|flags| raw(l, flags, &[], &[&id()])).to_vec(),
            )
        },
    ),
    (
        &["4:3.1.2-15", "5:3.1.2-13"],
        "no will, no will retain",
        |l| not_let_in(0x81, vec![raw(l, 0x22, &[], &[&id()])]),
    ),
    (&["4:3.1.2-14", "5:3.1.2-12"], "will QoS 3 is none", |l| {
        let will = will(l, &[], STATUS.as_bytes());
        not_let_in(0x81, vec![raw(l, 0x1e, &[], &[&id(), &will])])
    }),
    (&["4:3.1.2-9", "5:3.1.2-9"], "a will has its fields", |l| {
        let cut = &will(l, &[], STATUS.as_bytes())[..20];
        let connects = vec![raw(l, 6, &[], &[&id()]), raw(l, 6, &[], &[&id(), cut])];
        not_let_in(0x81, connects)
    }),
    (
        &["4:3.1.2-18", "5:3.1.2-16"],
        "no user name beside its flag",
        |l| not_let_in(0x81, vec![raw(l, 2, &[], &[&id(), &text("user")])]),
    ),
    (
        &["4:3.1.2-19", "5:3.1.2-17"],
        "a user name with its flag",
        |l| not_let_in(0x81, vec![raw(l, 0x82, &[], &[&id()])]),
    ),
    (
        &["4:3.1.2-20", "5:3.1.2-18"],
        "no password beside its flag",
        |l| {
            let payload = [&id()[..], &text("user"), &text("password")];
            not_let_in(0x81, vec![raw(l, 0x82, &[], &payload)])
        },
    ),
    (
        &["4:3.1.2-21", "5:3.1.2-19"],
        "a password with its flag",
        |l| not_let_in(0x81, vec![raw(l, 0xc2, &[], &[&id(), &text("user")])]),
    ),
    (&["4:3.1.2-22"], "no password without a user name", |l| {
        not_let_in(0x81, vec![raw(l, 0x42, &[], &[&id(), &text("password")])])
    }),
    (
        &["5:3.1.2-19"],
        "a password without a user name is allowed in MQTT 5",
        |l| {
            vec![
                Open(raw(l, 0x42, &[], &[&id(), &text("password")])),
                welcome(l),
                Alive,
            ]
        },
    ),
    (
        &["4:3.1.3-1", "5:3.1.3-1", "4:3.1.2-18", "5:3.1.2-16"],
        "id, will, user name, password, in this order",
        |l| {
            let will = will(l, &[], STATUS.as_bytes());
            let payload = [&id()[..], &will, &text("user"), &text("password")];
            vec![Open(raw(l, 0xce, &[], &payload)), welcome(l), Alive]
        },
    ),
    (&["4:3.1.3-3", "5:3.1.3-3"], "a client id is there", |l| {
        not_let_in(0x81, vec![raw(l, 2, &[], &[])])
    }),
    (&["4:3.1.3-4", "5:3.1.3-4"], "a client id is UTF-8", |l| {
        not_let_in(0x81, vec![raw(l, 2, &[], &[&[0, 2, 0xc3, 0x28]])])
    }),
    (
        &[
            "4:3.1.3-7",
            "4:3.1.3-8",
            "4:3.1.3-9",
            "5:3.1.3-8",
            "4:3.2.2-5",
            "5:3.2.2-7",
        ],
        "a client id that is empty is refused",
        |l| {
            let connects = [0, 2].map(|flags| raw(l, flags, &[], &[&text("")]));
            connects
                .into_iter()
                .flat_map(|one| [Open(one), Refused(2, 0x85)])
                .collect()
        },
    ),
    (
        &[
            "5:3.1.4-2",
            "4:3.2.2-4",
            "5:3.2.2-6",
            "5:3.2.2-8",
            "5:4.13.2-1",
        ],
        "another device's client id is refused",
        |l| vec![Open(raw(l, 0, &[], &[&text("lab-2")])), Refused(5, 0x87)],
    ),
    (
        &["4:3.1.3-10", "5:3.1.3-11"],
        "a will topic is UTF-8",
        |l| {
            let will = will(l, &[], b"\xed\xa0\x80");
            not_let_in(0x81, vec![raw(l, 6, &[], &[&id(), &will])])
        },
    ),
    (&["4:3.1.3-11", "5:3.1.3-12"], "a user name is UTF-8", |l| {
        not_let_in(0x81, vec![raw(l, 0x82, &[], &[&id(), &[0, 1, 0xff]])])
    }),
    (
        &["4:3.1.4-2", "5:3.1.4-3"],
        "a second connection takes over",
        |l| {
            vec![
                Open(Connect::new(l, "lab-1").bytes()),
                welcome(l),
                OldEnd(0x8e),
                Alive,
            ]
        },
    ),
    (
        &[
            "4:3.1.4-4",
            "4:3.2.0-1",
            "5:3.1.4-5",
            "5:3.2.0-1",
            "5:3.2.0-2",
            "5:3.2.2-1",
            "5:3.1.2-27",
            "5:3.1.2-28",
            "5:4.12.0-6",
        ],
        "CONNACK is the first answer, once, and says what is offered",
        |l| {
            let mut bytes = Connect::new(l, "lab-1").bytes();
            bytes.extend([0xc0, 0]);
            vec![Open(bytes), welcome(l), Get(vec![0xd0, 0]), Alive]
        },
    ),
    (
        &["4:3.1.4-5", "5:3.1.4-6"],
        "nothing behind a refused CONNECT is done",
        |l| {
            let mut bytes = raw(l, 2, &[], &[&text("lab-2")]);
            bytes.extend(publish(l, 2, 1, TELEMETRY, sample(1).as_bytes()));
            vec![Open(bytes), Refused(5, 0x87), Stored(&[])]
        },
    ),
    (
        &["5:4.12.0-1"],
        "an authentication method is not offered",
        |l| {
            vec![
                Open(raw(l, 2, &[0x15, 0, 1, b'X'], &[&id()])),
                Refused(0, 0x8c),
            ]
        },
    ),
    (
        &["5:4.12.0-7"],
        "AUTH without a method is a protocol error",
        |_| vec![Send(vec![0xf0, 0]), End(0x82)],
    ),
    (&["5:3.15.1-1"], "reserved flags of AUTH are zero", |_| {
        vec![Send(vec![0xf1, 0]), End(0x81)]
    }),
    (&["4:2.2.2-2"], "AUTH is no packet of 3.1.1", |_| {
        vec![Send(vec![0xf0, 0]), Shut]
    }),
    (
        &["5:3.1.2-29"],
        "no reason string where none is wanted",
        |l| {
            vec![
                Open(raw(l, 2, &[0x17, 0], &[&id()])),
                welcome(l),
                Send(publish(l, 2, 1, COMMAND, b"x")),
                Get(vec![0x40, 3, 0, 1, 0x87]),
            ]
        },
    ),
    (
        &["5:3.1.2-24"],
        "no packet is longer than the client takes",
        |l| {
            let filters: Vec<String> = (0..30).map(|at| format!("foreign/{at}")).collect();
            let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (&filter[..], 0)).collect();
            vec![
                Open(raw(l, 2, &[0x27, 0, 0, 0, 20], &[&id()])),
                Refused(0, 0x95),
                Open(raw(l, 2, &[0x27, 0, 0, 0, 4], &[&id()])),
                Shut,
                Open(raw(l, 2, &[0x27, 0, 0, 0, 4], &[&text("lab-2")])),
                Shut,
                Open(raw(l, 2, &[0x27, 0, 0, 0, 5], &[&text("lab-2")])),
                Refused(0, 0x87),
                Open(raw(l, 2, &[0x27, 0, 0, 0, 30], &[&id()])),
                welcome(l),
                Send(subscribe(l, 1, &filters)),
                End(0x95),
            ]
        },
    ),
    (
        &["5:3.1.4-1"],
        "properties of CONNECT come once, with values that they may have",
        |_| {
            let all: &[&[u8]] = &[
                &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1],
                &[0x21, 0, 5, 0x21, 0, 5],
                &[0x27, 0, 0, 1, 0, 0x27, 0, 0, 1, 0],
                &[0x22, 0, 0, 0x22, 0, 5],
                &[0x19, 1, 0x19, 1],
                &[0x17, 1, 0x17, 1],
                &[0x15, 0, 1, b'X', 0x15, 0, 1, b'X'],
                &[0x19, 2],
                &[0x17, 2],
                &[0x21, 0, 0],
                &[0x27, 0, 0, 0, 0],
                &[0x16, 0, 1, b'X'],
            ];
            not_let_in(0x82, with_properties(all))
        },
    ),
    (
        &["5:3.1.4-1", "5:1.5.7-1"],
        "only properties of CONNECT, well-formed, are in it",
        |_| {
            let all: &[&[u8]] = &[
                &[0x02, 0, 0, 0, 1],
                &[0x24, 1],
                &[0x77],
                &[0x21, 0],
                &[0x26, 0, 1, b'k', 0, 1, 0xff],
                &[0x26, 0, 1, b'k'],
                &[0xa1, 0, 0, 5],
            ];
            not_let_in(0x81, with_properties(all))
        },
    ),
    (
        &["5:3.1.4-1"],
        "properties of a will come once, with values that they may have",
        |_| {
            let all: &[&[u8]] = &[
                &[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1],
                &[0x01, 1, 0x01, 1],
                &[0x01, 2],
                &[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1],
                &[0x03, 0, 1, b'a', 0x03, 0, 1, b'a'],
                &[0x08, 0, 1, b'a', 0x08, 0, 1, b'a'],
                &[0x08, 0, 1, b'+'],
                &[0x09, 0, 1, b'a', 0x09, 0, 1, b'a'],
            ];
            not_let_in(0x82, with_will_properties(all))
        },
    ),
    (
        &["5:3.1.4-1"],
        "only properties of a will, well-formed, are in it",
        |_| {
            let all: &[&[u8]] = &[&[0x11, 0, 0, 0, 1], &[0x23, 0, 1], &[0x03, 0, 1, 0xff]];
            not_let_in(0x81, with_will_properties(all))
        },
    ),
    (
        &["4:3.1.4-1", "5:3.1.4-1"],
        "nothing is behind the last field",
        |l| not_let_in(0x81, vec![raw(l, 2, &[], &[&id(), &[0]])]),
    ),
    (
        &["5:1.5.5-1"],
        "the length of the properties is in its shortest form",
        |l| {
            let mut body = text("MQTT");
            body.extend([l, 2, 0, 0, 0x80, 0]);
            body.extend(id());
            not_let_in(0x81, vec![packet(0x10, &body)])
        },
    ),
];
