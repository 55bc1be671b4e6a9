//! PUBLISH of a client and its acknowledgements (§3.3 to §3.7, §4.3).
use super::super::wire::{V4, V5, publish, publish_with, subscribe};
use super::super::world::{COMMAND, STATUS, TELEMETRY, sample};
use super::{
    Row,
    Step::{self, Alive, Answer, Answered, Get, Message, Retained, Send, Stored},
    ack,
    shapes::each_ends,
};

fn tell(level: u8, flags: u8, pkid: u16, seq: u64) -> Step {
    Send(publish(
        level,
        flags,
        pkid,
        TELEMETRY,
        sample(seq).as_bytes(),
    ))
}

fn status(level: u8, flags: u8, pkid: u16, words: &str) -> Step {
    Send(publish(level, flags, pkid, STATUS, words.as_bytes()))
}

/// The answers to a publish of this QoS, up to its end.
fn completed(qos: u8, pkid: u16) -> Vec<Step> {
    match qos {
        0 => vec![],
        1 => vec![Get(ack(0x40, pkid))],
        _ => vec![
            Get(ack(0x50, pkid)),
            Send(ack(0x62, pkid)),
            Get(ack(0x70, pkid)),
        ],
    }
}

pub(super) fn subscribed(level: u8, filter: &str, options: u8) -> Vec<Step> {
    let suback = match level {
        V4 => vec![0x90, 3, 0, 7, options & 3],
        _ => vec![0x90, 4, 0, 7, 0, options & 3],
    };
    vec![Send(subscribe(level, 7, &[(filter, options)])), Get(suback)]
}

/// Answers a message of this QoS, up to its end.
pub(super) fn taken(qos: u8) -> Vec<Step> {
    match qos {
        0 => vec![],
        1 => vec![Answer(0x40)],
        _ => vec![Answer(0x50), Answered(0x62), Answer(0x70)],
    }
}

fn retained_at_every_qos(level: u8) -> Vec<Step> {
    let mut steps = Vec::new();
    for published in 0..=2 {
        for granted in 0..=2 {
            steps.push(status(level, published << 1 | 1, 3, "kept"));
            steps.extend(completed(published, 3));
            steps.push(Retained(STATUS, Some("kept")));
            steps.extend(subscribed(level, STATUS, granted));
            let qos = published.min(granted);
            steps.push(Message(qos << 1 | 1, STATUS, "kept"));
            steps.extend(taken(qos));
            steps.push(Send(super::shapes::unsubscribe(level, &[STATUS])));
            steps.push(Get(match level {
                V4 => vec![0xb0, 2, 0, 7],
                _ => vec![0xb0, 4, 0, 7, 0, 0],
            }));
        }
    }
    steps
}

fn with_properties(reason: u8, all: &[&[u8]]) -> Vec<Step> {
    let each = |properties: &&[u8]| publish_with(V5, 3, 1, STATUS, properties, b"x");
    let mut steps = each_ends(V5, reason, all.iter().map(each).collect());
    steps.push(Retained(STATUS, None));
    steps
}

pub(super) const ROWS: &[Row] = &[
    (&["4:3.3.1-2", "5:3.3.1-2"], "no DUP at QoS 0", |l| {
        each_ends(l, 0x81, vec![publish(l, 8, 0, STATUS, b"x")])
    }),
    (&["4:3.3.1-4", "5:3.3.1-4"], "no QoS 3", |l| {
        let three = [6, 7, 14].map(|flags| publish(l, flags, 1, STATUS, b"x"));
        each_ends(l, 0x81, three.to_vec())
    }),
    (
        &[
            "4:3.3.1-5",
            "4:3.3.1-6",
            "4:3.3.1-8",
            "4:3.8.4-6",
            "5:3.3.1-5",
            "5:3.8.4-8",
            "5:3.3.1-9",
        ],
        "a retained message keeps its QoS: it comes at the lower of both",
        retained_at_every_qos,
    ),
    (
        &["4:3.3.1-5", "4:3.3.1-7", "5:3.3.1-5"],
        "the last one replaces the one before",
        |l| {
            let mut steps = vec![
                status(l, 3, 3, "old"),
                Get(ack(0x40, 3)),
                status(l, 1, 0, "new"),
            ];
            steps.push(Retained(STATUS, Some("new")));
            steps.extend(subscribed(l, STATUS, 2));
            steps.extend([Message(1, STATUS, "new"), Alive]);
            steps
        },
    ),
    (
        &["4:3.3.1-10", "4:3.3.1-11", "5:3.3.1-6", "5:3.3.1-7"],
        "an empty message deletes, reaches who is subscribed, and is not kept",
        |l| {
            let mut steps = vec![status(l, 3, 3, "old"), Get(ack(0x40, 3))];
            steps.extend(subscribed(l, STATUS, 0));
            steps.extend([
                Message(1, STATUS, "old"),
                status(l, 3, 4, ""),
                Get(ack(0x40, 4)),
            ]);
            steps.extend([Message(0, STATUS, ""), Retained(STATUS, None)]);
            steps.extend(subscribed(l, STATUS, 0));
            steps.push(Alive);
            steps
        },
    ),
    (
        &["4:3.3.1-12", "5:3.3.1-8"],
        "without the flag nothing is kept or deleted",
        |l| {
            vec![
                status(l, 3, 3, "kept"),
                Get(ack(0x40, 3)),
                status(l, 2, 4, "passing"),
                Get(ack(0x40, 4)),
                status(l, 2, 5, ""),
                Get(ack(0x40, 5)),
                Retained(STATUS, Some("kept")),
            ]
        },
    ),
    (
        &["4:3.3.2-1", "5:3.3.2-1", "4:4.7.3-1", "5:4.7.3-1"],
        "a topic is there",
        |l| {
            let reason = if l == V5 { 0x82 } else { 0 };
            each_ends(
                l,
                reason,
                vec![publish(l, 0, 0, "", b"x"), publish(l, 2, 1, "", b"x")],
            )
        },
    ),
    (
        &["4:3.3.2-2", "5:3.3.2-2", "4:4.7.1-1", "5:4.7.0-1"],
        "no wildcard is in a topic",
        |l| {
            let topics = ["devices/us/us-f1/lab-1/+", "devices/us/us-f1/lab-1/#", "#"];
            each_ends(
                l,
                0x81,
                topics.map(|topic| publish(l, 2, 1, topic, b"x")).to_vec(),
            )
        },
    ),
    (
        &[
            "4:3.3.4-1",
            "5:3.3.4-1",
            "4:2.3.1-6",
            "5:2.2.1-5",
            "5:3.4.2-1",
            "5:3.5.2-1",
            "5:3.7.2-1",
            "5:4.3.3-8",
            "5:4.3.3-11",
            "5:4.3.2-4",
        ],
        "a publish is answered by its QoS, with its packet id",
        |l| {
            let mut steps = vec![tell(l, 0, 0, 1)];
            steps.push(tell(l, 2, 0x0102, 2));
            steps.extend(completed(1, 0x0102));
            steps.push(tell(l, 4, 0xffff, 3));
            steps.extend(completed(2, 0xffff));
            steps.extend([Alive, Stored(&[1, 2, 3])]);
            steps
        },
    ),
    (
        &["4:3.3.5-2"],
        "a publish that is not allowed closes the connection",
        |l| {
            each_ends(
                l,
                0,
                vec![
                    publish(l, 2, 1, COMMAND, b"x"),
                    publish(l, 0, 0, "other", b"x"),
                ],
            )
        },
    ),
    (
        &["5:3.4.2-1", "5:3.5.2-1"],
        "a publish that is not allowed is refused",
        |l| {
            vec![
                Send(publish(l, 2, 1, COMMAND, b"x")),
                Get(vec![0x40, 3, 0, 1, 0x87]),
                Send(publish(l, 4, 2, COMMAND, b"x")),
                Get(vec![0x50, 3, 0, 2, 0x87]),
                Alive,
            ]
        },
    ),
    (
        &["4:4.3.2-2", "5:4.3.2-5"],
        "after PUBACK the packet id is another message's",
        |l| {
            let mut steps = vec![tell(l, 2, 5, 1), Get(ack(0x40, 5))];
            steps.extend([tell(l, 2, 5, 2), Get(ack(0x40, 5))]);
            steps.extend([tell(l, 10, 5, 3), Get(ack(0x40, 5)), Stored(&[1, 2, 3])]);
            steps
        },
    ),
    (
        &["5:4.3.3-9"],
        "after a PUBREC that refuses the packet id is another message's",
        |l| {
            vec![
                Send(publish(l, 4, 5, TELEMETRY, b"{}")),
                Get(vec![0x50, 3, 0, 5, 0x99]),
                tell(l, 4, 5, 1),
                Get(ack(0x50, 5)),
                Stored(&[1]),
            ]
        },
    ),
    (
        &["4:4.3.3-2", "5:4.3.3-10"],
        "until PUBREL a message is answered and not told twice",
        |l| {
            let mut steps = subscribed(l, STATUS, 0);
            steps.extend([
                status(l, 4, 5, "once"),
                Get(ack(0x50, 5)),
                Message(0, STATUS, "once"),
            ]);
            steps.extend([status(l, 12, 5, "once"), Get(ack(0x50, 5)), Alive]);
            steps.extend([
                tell(l, 4, 6, 1),
                Get(ack(0x50, 6)),
                tell(l, 12, 6, 1),
                Get(ack(0x50, 6)),
            ]);
            steps.push(Stored(&[1]));
            steps
        },
    ),
    (
        &["4:4.3.3-2", "5:4.3.3-10", "5:4.3.3-12"],
        "another message under a packet id that was not released is taken, never dropped",
        |l| {
            let mut steps = vec![tell(l, 4, 5, 1), Get(ack(0x50, 5))];
            steps.extend([tell(l, 4, 5, 2), Get(ack(0x50, 5)), Stored(&[1, 2])]);
            steps.extend([tell(l, 12, 5, 3), Get(ack(0x50, 5)), Stored(&[1, 2, 3])]);
            steps.extend([tell(l, 12, 5, 1), Get(ack(0x50, 5)), Stored(&[1, 2, 3])]);
            steps.extend([status(l, 5, 5, "one"), Get(ack(0x50, 5))]);
            steps.extend([status(l, 5, 5, "two"), Get(ack(0x50, 5))]);
            steps.push(Retained(STATUS, Some("two")));
            steps.extend([Send(ack(0x62, 5)), Get(ack(0x70, 5))]);
            steps.extend([tell(l, 4, 5, 4), Get(ack(0x50, 5)), Stored(&[1, 2, 3, 4])]);
            steps
        },
    ),
    (
        &[
            "4:4.6.0-2",
            "4:4.6.0-3",
            "4:4.6.0-4",
            "5:4.6.0-2",
            "5:4.6.0-3",
            "5:4.6.0-4",
        ],
        "answers come in the order of what they answer",
        |l| {
            let mut bytes = Vec::new();
            for (flags, pkid, seq) in [(2, 9, 1), (4, 8, 2), (2, 7, 3), (4, 6, 4)] {
                bytes.extend(publish(l, flags, pkid, TELEMETRY, sample(seq).as_bytes()));
            }
            let mut steps = vec![Send(bytes)];
            steps.extend([(0x40, 9), (0x50, 8), (0x40, 7), (0x50, 6)].map(|(a, p)| Get(ack(a, p))));
            steps.push(Send([ack(0x62, 8), ack(0x62, 6)].concat()));
            steps.extend([Get(ack(0x70, 8)), Get(ack(0x70, 6)), Stored(&[1, 2, 3, 4])]);
            steps
        },
    ),
    (
        &["5:3.6.2-1", "5:3.7.2-1"],
        "PUBREL of an unknown packet id is said to be so",
        |_| vec![Send(ack(0x62, 9)), Get(vec![0x70, 3, 0, 9, 0x92])],
    ),
    (
        &["5:3.6.2-1"],
        "PUBREC of an unknown packet id is said to be so",
        |_| vec![Send(ack(0x50, 9)), Get(vec![0x62, 3, 0, 9, 0x92])],
    ),
    (
        &["5:4.13.1-1", "5:3.3.2-14"],
        "properties come once, with values that they may have",
        |_| {
            with_properties(
                0x82,
                &[
                    &[0x01, 0, 0x01, 0],
                    &[0x01, 2],
                    &[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1],
                    &[0x03, 0, 1, b'a', 0x03, 0, 1, b'b'],
                    &[0x08, 0, 1, b'a', 0x08, 0, 1, b'b'],
                    &[0x08, 0, 3, b'a', b'/', b'+'],
                    &[0x08, 0, 1, b'#'],
                    &[0x09, 0, 1, b'a', 0x09, 0, 1, b'b'],
                    &[0x0b, 0],
                ],
            )
        },
    ),
    (
        &["5:3.3.2-13", "5:3.3.2-19", "5:1.5.7-1"],
        "properties are well-formed",
        |_| {
            with_properties(
                0x81,
                &[
                    &[0x08, 0, 1, 0xff],
                    &[0x08, 0, 0],
                    &[0x03, 0, 1, 0xff],
                    &[0x03, 0, 1, 0],
                    &[0x26, 0, 1, 0xff, 0, 1, b'v'],
                    &[0x26, 0, 1, b'k', 0, 1, 0xff],
                    &[0x11, 0, 0, 0, 1],
                    &[0x02, 0, 0],
                ],
            )
        },
    ),
    (
        &["5:3.3.4-6"],
        "a client sends no subscription identifier",
        |_| with_properties(0x82, &[&[0x0b, 1]]),
    ),
    (
        &["5:3.3.2-8"],
        "a topic alias is not taken, zero or not",
        |_| with_properties(0x94, &[&[0x23, 0, 0], &[0x23, 0, 1]]),
    ),
];
