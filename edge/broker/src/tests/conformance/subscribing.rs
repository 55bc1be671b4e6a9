//! SUBSCRIBE and UNSUBSCRIBE, filters and options (§3.8 to §3.11, §4.7).
use super::super::wire::{V4, V5, publish, subscribe, text};
use super::super::world::{COMMAND, STATUS};
use super::{
    Row,
    Step::{self, Alive, Answer, Command, Get, Message, Retained, Send},
    ack,
    publishing::{subscribed, taken},
    shapes::{each_ends, listing, unsubscribe},
};

/// SUBACK or UNSUBACK of packet id 7; codes above 2 are 0x80 in 3.1.1.
fn codes(level: u8, first: u8, codes: &[u8]) -> Step {
    let mut bytes = vec![first, 2 + codes.len() as u8, 0, 7];
    if level == V5 {
        bytes[1] += 1;
        bytes.push(0);
        bytes.extend(codes);
    } else {
        bytes.extend(
            codes
                .iter()
                .map(|code| if *code > 2 { 0x80 } else { *code }),
        );
    }
    Get(bytes)
}

fn unsuback(level: u8, all: &[u8]) -> Step {
    match level {
        V4 => Get(vec![0xb0, 2, 0, 7]),
        _ => codes(V5, 0xb0, all),
    }
}

/// A retained status, kept.
fn kept(level: u8) -> Vec<Step> {
    vec![
        Send(publish(level, 3, 1, STATUS, b"kept")),
        Get(ack(0x40, 1)),
    ]
}

fn empty(level: u8) -> Vec<Vec<u8>> {
    vec![
        listing(level, 0x82, &[], &[0, 0, 0]),
        listing(level, 0xa2, &[], &[0, 0]),
    ]
}

pub(super) const ROWS: &[Row] = &[
    (
        &[
            "4:3.8.4-1",
            "4:3.8.4-2",
            "4:3.8.4-4",
            "4:3.8.4-5",
            "4:3.9.3-1",
            "4:3.9.3-2",
            "4:2.3.1-7",
            "5:3.8.4-1",
            "5:3.8.4-2",
            "5:3.8.4-5",
            "5:3.8.4-6",
            "5:3.8.4-7",
            "5:3.9.3-1",
            "5:3.9.3-2",
            "5:2.2.1-6",
            "5:2.2.2-1",
        ],
        "one SUBACK with the packet id and a code for each filter in their order",
        |l| {
            let filters = [
                (COMMAND, 2),
                ("#", 1),
                (STATUS, 0),
                (COMMAND, 1),
                ("$share/g/x", 0),
            ];
            let shared = if l == V4 { 0x87 } else { 0x9e };
            vec![
                Send(subscribe(l, 7, &filters)),
                codes(l, 0x90, &[2, 0x87, 0, 1, shared]),
                Command("once"),
                Message(2, COMMAND, "once"),
                Answer(0x40),
                Alive,
            ]
        },
    ),
    (
        &["4:3.8.4-3", "5:3.8.4-3", "5:3.8.4-4"],
        "the same filter replaces its subscription",
        |l| {
            let mut steps = kept(l);
            steps.extend(subscribed(l, STATUS, 0));
            steps.push(Message(1, STATUS, "kept"));
            steps.extend(subscribed(l, STATUS, 1));
            steps.extend([Message(3, STATUS, "kept"), Answer(0x40)]);
            steps.extend([Send(publish(l, 2, 2, STATUS, b"live")), Get(ack(0x40, 2))]);
            steps.extend([Message(2, STATUS, "live"), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["5:3.8.4-4"],
        "two SUBSCRIBEs at once get their retained messages each",
        |l| {
            let twice = [
                subscribe(l, 7, &[(STATUS, 1)]),
                subscribe(l, 7, &[(STATUS, 0)]),
            ];
            let mut steps = kept(l);
            steps.extend([
                Send(twice.concat()),
                codes(l, 0x90, &[1]),
                Message(3, STATUS, "kept"),
            ]);
            steps.extend([codes(l, 0x90, &[0]), Message(1, STATUS, "kept"), Alive]);
            steps
        },
    ),
    (
        &["4:3.8.3-1", "5:3.8.3-1", "4:3.10.3-1", "5:3.10.3-1"],
        "filters are UTF-8",
        |l| {
            let bad = [0, 2, 0xc3, 0x28];
            let packets = vec![
                listing(l, 0x82, &[], &[&bad[..], &[0]].concat()),
                listing(l, 0xa2, &[], &bad),
            ];
            each_ends(l, 0x81, packets)
        },
    ),
    (
        &["4:3.8.3-3", "5:3.8.3-2", "4:3.10.3-2", "5:3.10.3-2"],
        "there is at least one filter",
        |l| {
            each_ends(
                l,
                0x82,
                vec![listing(l, 0x82, &[], &[]), listing(l, 0xa2, &[], &[])],
            )
        },
    ),
    (
        &["4:3.8.3-4", "5:3.8.3-5"],
        "reserved bits of every filter's options are zero",
        |l| {
            let mut packets = Vec::new();
            let reserved: &[u8] = if l == V4 {
                &[0x04, 0x08, 0x10, 0x40, 0x80]
            } else {
                &[0x40, 0x80]
            };
            for bits in reserved {
                packets.push(subscribe(l, 7, &[(COMMAND, *bits), (STATUS, 0)]));
                packets.push(subscribe(l, 7, &[(COMMAND, 1), (STATUS, *bits | 1)]));
            }
            each_ends(l, 0x81, packets)
        },
    ),
    (
        &["4:3.8.3-4", "5:4.13.1-1"],
        "no filter asks for QoS 3",
        |l| {
            let first = subscribe(l, 7, &[(COMMAND, 3), (STATUS, 0)]);
            each_ends(
                l,
                0x82,
                vec![first, subscribe(l, 7, &[(COMMAND, 0), (STATUS, 3)])],
            )
        },
    ),
    (
        &["5:4.13.1-1"],
        "retain handling 3 is a protocol error",
        |l| {
            each_ends(
                l,
                0x82,
                vec![subscribe(l, 7, &[(COMMAND, 0x30), (STATUS, 0)])],
            )
        },
    ),
    (
        &[
            "4:3.8.3-2",
            "4:3.3.2-3",
            "5:3.3.2-3",
            "4:4.7.1-2",
            "4:4.7.1-3",
        ],
        "wildcards match",
        |l| {
            let mut steps = Vec::new();
            for filter in ["devices/us/us-f1/lab-1/+", "devices/us/us-f1/lab-1/#"] {
                steps.extend(subscribed(l, filter, 1));
                steps.extend([Command("any"), Message(2, COMMAND, "any"), Answer(0x40)]);
                steps.extend([Send(unsubscribe(l, &[filter])), unsuback(l, &[0])]);
            }
            steps.extend(subscribed(l, "devices/us/us-f1/lab-1/+/command", 1));
            steps.extend([Command("any"), Alive]);
            steps
        },
    ),
    (
        &["4:4.7.1-2", "4:4.7.1-3", "5:4.7.1-1", "5:4.7.1-2"],
        "a wildcard is a whole level, and # the last",
        |l| {
            let prefix = "devices/us/us-f1/lab-1/";
            let filters = ["a#", "#/a", "a+", "+a/b", "##", "a/#b"];
            let filters = filters.map(|filter| format!("{prefix}{filter}"));
            let asked = filters.each_ref().map(|filter| (filter.as_str(), 0));
            vec![
                Send(subscribe(l, 7, &asked)),
                codes(l, 0x90, &[0x8f; 6]),
                Alive,
            ]
        },
    ),
    (
        &["4:4.7.2-1", "5:4.7.2-1"],
        "no wildcard reaches a topic of the server",
        |l| {
            let filters = [("#", 0), ("+/broker", 0), ("$SYS/#", 0)];
            vec![
                Send(subscribe(l, 7, &filters)),
                codes(l, 0x90, &[0x87; 3]),
                Alive,
            ]
        },
    ),
    (
        &["4:4.7.3-1", "5:4.7.3-1"],
        "a filter has a character",
        |l| each_ends(l, 0x81, empty(l)),
    ),
    (
        &["4:4.7.3-3", "5:4.7.3-3"],
        "a long filter is a filter",
        |l| {
            let long = "x".repeat(60_000);
            vec![
                Send(subscribe(l, 7, &[(&long, 0)])),
                codes(l, 0x90, &[0x87]),
                Alive,
            ]
        },
    ),
    (
        &["4:4.7.3-4", "5:4.7.3-4"],
        "topics are compared as they are written",
        |l| {
            let prefix = "devices/us/us-f1/lab-1/";
            let filters = ["Command", "command/", "command ", "/command", "commandé"];
            let filters = filters.map(|filter| format!("{prefix}{filter}"));
            let asked = filters.each_ref().map(|filter| (filter.as_str(), 0));
            let steps = [Send(subscribe(l, 7, &asked)), codes(l, 0x90, &[0; 5])];
            steps.into_iter().chain([Command("x"), Alive]).collect()
        },
    ),
    (
        &["5:3.8.3-3"],
        "No Local keeps from a client what it published, retained or not",
        |l| {
            let mut steps = kept(l);
            steps.extend(subscribed(l, STATUS, 4));
            steps.extend([
                Send(publish(l, 3, 2, STATUS, b"own")),
                Get(ack(0x40, 2)),
                Alive,
            ]);
            steps.extend(subscribed(l, COMMAND, 4));
            steps.extend([Command("the node's"), Message(0, COMMAND, "the node's")]);
            steps
        },
    ),
    (
        &["5:3.8.3-4"],
        "No Local on a shared subscription is a protocol error",
        |l| each_ends(l, 0x82, vec![subscribe(l, 7, &[("$share/g/a", 4)])]),
    ),
    (
        &["5:3.3.1-9", "5:3.3.1-10", "5:3.3.1-11"],
        "retain handling 0, 1 and 2",
        |l| {
            let mut steps = kept(l);
            steps.extend(subscribed(l, STATUS, 0x20));
            steps.push(Alive);
            steps.extend(subscribed(l, STATUS, 0x10));
            steps.push(Alive);
            for _ in 0..2 {
                steps.extend(subscribed(l, STATUS, 0x00));
                steps.push(Message(1, STATUS, "kept"));
            }
            steps.extend([Send(unsubscribe(l, &[STATUS])), unsuback(l, &[0])]);
            steps.extend(subscribed(l, STATUS, 0x10));
            steps.push(Message(1, STATUS, "kept"));
            steps
        },
    ),
    (
        &["5:3.3.1-12", "5:3.3.1-13", "4:3.3.1-9"],
        "retain as published",
        |l| {
            let mut steps = Vec::new();
            let options: &[u8] = if l == V4 { &[0] } else { &[0, 8] };
            for options in options {
                steps.extend(subscribed(l, STATUS, *options));
                let retain = u8::from(*options == 8);
                steps.extend([Send(publish(l, 3, 2, STATUS, b"kept")), Get(ack(0x40, 2))]);
                steps.extend([Message(retain, STATUS, "kept")]);
                steps.extend([Send(publish(l, 2, 2, STATUS, b"live")), Get(ack(0x40, 2))]);
                steps.extend([Message(0, STATUS, "live")]);
                steps.extend([Send(publish(l, 3, 2, STATUS, b"")), Get(ack(0x40, 2))]);
                steps.extend([Message(retain, STATUS, ""), Retained(STATUS, None)]);
            }
            steps
        },
    ),
    (
        &["5:4.13.1-1"],
        "a subscription identifier is not offered, and 0 is none",
        |l| {
            let filter = [&text(COMMAND)[..], &[0]].concat();
            let mut steps = each_ends(l, 0xa1, vec![listing(l, 0x82, &[0x0b, 5], &filter)]);
            let twice = [&[0x0b, 5, 0x0b, 5][..], &[0x0b, 0]];
            let twice = twice.map(|properties| listing(l, 0x82, properties, &filter));
            steps.extend(each_ends(l, 0x82, twice.to_vec()));
            steps
        },
    ),
    (
        &[
            "4:3.10.4-1",
            "4:3.10.4-2",
            "4:3.10.4-4",
            "4:3.10.4-5",
            "4:3.10.4-6",
            "5:3.10.4-1",
            "5:3.10.4-2",
            "5:3.10.4-4",
            "5:3.10.4-5",
            "5:3.10.4-6",
            "5:3.11.3-1",
            "5:3.11.3-2",
        ],
        "UNSUBSCRIBE ends exactly its filters and is always answered",
        |l| {
            let all = "devices/us/us-f1/lab-1/#";
            let mut steps = subscribed(l, COMMAND, 0);
            steps.extend(subscribed(l, all, 0));
            steps.extend([Send(unsubscribe(
                l,
                &["devices/us/us-f1/lab-1/+", COMMAND, COMMAND],
            ))]);
            steps.extend([
                unsuback(l, &[0x11, 0, 0x11]),
                Command("x"),
                Message(0, COMMAND, "x"),
            ]);
            steps.extend([
                Send(unsubscribe(l, &[all])),
                unsuback(l, &[0]),
                Command("y"),
                Alive,
            ]);
            steps.extend([Send(unsubscribe(l, &[all])), unsuback(l, &[0x11])]);
            steps
        },
    ),
    (
        &["4:3.10.4-3", "5:3.10.4-3"],
        "what is on its way is completed after UNSUBSCRIBE",
        |l| {
            let mut steps = subscribed(l, STATUS, 2);
            steps.extend([Send(publish(l, 4, 2, STATUS, b"x")), Get(ack(0x50, 2))]);
            steps.extend([Message(4, STATUS, "x"), Send(unsubscribe(l, &[STATUS]))]);
            steps.push(unsuback(l, &[0]));
            steps.extend(taken(2));
            steps.push(Alive);
            steps
        },
    ),
];
