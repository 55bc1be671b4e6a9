//! What the server sends to subscribers: QoS, order, properties, lifetimes (§3.3, §4.3 to §4.6).
use super::super::wire::{Connect, V4, publish, publish_with, subscribe};
use super::super::world::{COMMAND, PREFIX, STATUS};
use super::{
    Row,
    Step::{
        self, Alive, Answer, Break, Carrying, Command, Get, Join, Lapsed, Leave, Message, Open,
        Send,
    },
    ack,
    publishing::{subscribed, taken},
};

/// Every property that goes on, in an order of its own, and one user property twice.
const ALL: &[u8] = &[
    0x26, 0, 1, b'z', 0, 1, b'1', 0x01, 1, 0x03, 0, 4, b't', b'e', b'x', b't', 0x26, 0, 1, b'a', 0,
    1, b'2', 0x08, 0, 3, b'r', b'/', b't', 0x26, 0, 1, b'z', 0, 1, b'1', 0x09, 0, 2, 0, 0xff,
];

fn lasting(level: u8, present: bool) -> Step {
    Join(Connect::lasting(level, "lab-1"), present)
}

/// A session that lasts, subscribed to the status at QoS 2 and to commands at QoS 1.
fn session(level: u8) -> Vec<Step> {
    let mut steps = vec![lasting(level, false)];
    steps.extend(subscribed(level, STATUS, 2));
    steps.extend(subscribed(level, COMMAND, 1));
    steps
}

fn narrow(properties: &[u8]) -> Connect {
    let mut connect = Connect::new(super::V5, "lab-1");
    connect.properties = properties.to_vec();
    connect
}

pub(super) const ROWS: &[Row] = &[
    (
        &[
            "4:2.3.1-4",
            "4:4.3.1-1",
            "4:4.3.2-1",
            "4:4.3.3-1",
            "5:2.2.1-4",
            "5:4.3.1-1",
            "5:4.3.2-1",
            "5:4.3.2-2",
            "5:4.3.2-3",
            "5:4.3.3-1",
            "5:4.3.3-2",
            "5:4.3.3-3",
            "5:4.3.3-4",
            "5:4.3.3-5",
        ],
        "each QoS has its exchange, with a packet id that is not in use",
        |l| {
            let mut steps = subscribed(l, STATUS, 2);
            for qos in 0..=2 {
                steps.push(Send(publish(l, qos << 1, 5, STATUS, b"x")));
                match qos {
                    0 => {}
                    1 => steps.push(Get(ack(0x40, 5))),
                    _ => steps.push(Get(ack(0x50, 5))),
                }
                steps.push(Message(qos << 1, STATUS, "x"));
                steps.extend(taken(qos));
            }
            steps.extend([Send(ack(0x62, 5)), Get(ack(0x70, 5)), Alive]);
            steps
        },
    ),
    (
        &["4:3.3.5-1", "5:3.3.4-2"],
        "overlapping filters: once, at the highest QoS",
        |l| {
            let all = format!("{PREFIX}#");
            let plus = format!("{PREFIX}+");
            let filters = [(&all[..], 0), (COMMAND, 1), (&plus[..], 0)];
            let suback = match l {
                V4 => vec![0x90, 5, 0, 1, 0, 1, 0],
                _ => vec![0x90, 6, 0, 1, 0, 0, 1, 0],
            };
            vec![
                Send(subscribe(l, 1, &filters)),
                Get(suback),
                Command("x"),
                Message(2, COMMAND, "x"),
                Answer(0x40),
                Alive,
            ]
        },
    ),
    (
        &[
            "4:3.3.1-1",
            "4:3.3.1-3",
            "4:4.4.0-1",
            "4:4.6.0-1",
            "5:3.3.1-1",
            "5:3.3.1-3",
            "5:4.4.0-1",
            "5:4.6.0-1",
        ],
        "what was not acknowledged comes again, marked, under its packet id, in its order",
        |l| {
            let mut steps = session(l);
            steps.extend([Send(publish(l, 4, 5, STATUS, b"two")), Get(ack(0x50, 5))]);
            steps.extend([
                Message(4, STATUS, "two"),
                Command("one"),
                Message(2, COMMAND, "one"),
            ]);
            steps.extend([Break, lasting(l, true)]);
            steps.extend([Message(12, STATUS, "two"), Message(10, COMMAND, "one")]);
            steps.extend([Answer(0x40), Send(ack(0x50, 1)), Get(ack(0x62, 1))]);
            // The PUBLISH is not sent again once its PUBREL was (MQTT-4.3.3-6).
            steps.extend([
                Break,
                lasting(l, true),
                Get(ack(0x62, 1)),
                Send(ack(0x70, 1)),
            ]);
            steps.extend([Alive, Break, lasting(l, true), Alive, Leave]);
            steps
        },
    ),
    (
        &["5:4.3.3-6"],
        "a PUBREL takes the place of its PUBLISH",
        |l| {
            let mut steps = session(l);
            steps.extend([Send(publish(l, 4, 5, STATUS, b"two")), Get(ack(0x50, 5))]);
            steps.extend([Message(4, STATUS, "two"), Answer(0x50), Get(ack(0x62, 1))]);
            steps.extend([Break, lasting(l, true), Get(ack(0x62, 1)), Alive]);
            steps
        },
    ),
    (
        &["5:4.4.0-2"],
        "what the client refuses is not sent again",
        |l| {
            let mut steps = session(l);
            steps.extend([Command("no"), Message(2, COMMAND, "no")]);
            steps.push(Send(vec![0x40, 3, 0, 1, 0x83]));
            steps.extend([Send(publish(l, 4, 5, STATUS, b"no")), Get(ack(0x50, 5))]);
            steps.extend([
                Message(4, STATUS, "no"),
                Send(vec![0x50, 3, 0, 2, 0x97]),
                Alive,
            ]);
            steps.extend([Break, lasting(l, true), Alive]);
            steps
        },
    ),
    (
        &[
            "4:4.6.0-5",
            "4:4.6.0-6",
            "5:4.6.0-5",
            "5:4.6.0-6",
            "4:4.5.0-1",
            "5:4.5.0-1",
        ],
        "messages come in the order of their publishing, also after an absence",
        |l| {
            let mut steps = session(l);
            steps.extend([
                Leave,
                Command("1"),
                Command("2"),
                Command("3"),
                lasting(l, true),
            ]);
            for payload in ["1", "2", "3"] {
                steps.extend([Message(2, COMMAND, payload), Answer(0x40)]);
            }
            steps.push(Alive);
            steps
        },
    ),
    (
        &[
            "5:3.3.2-4",
            "5:3.3.2-6",
            "5:3.3.2-15",
            "5:3.3.2-16",
            "5:3.3.2-17",
            "5:3.3.2-18",
            "5:3.3.2-20",
        ],
        "properties go on unaltered and in their order, the expiry less the time waited",
        |l| {
            let hour = [0x02, 0, 0, 0x0e, 0x10];
            let sent = [ALL, &hour].concat();
            let came = [&hour, ALL].concat();
            let mut steps = subscribed(l, STATUS, 1);
            steps.push(Send(publish_with(l, 3, 5, STATUS, &sent, b"x")));
            steps.extend([Get(ack(0x40, 5)), Carrying(2, STATUS, "x", came.clone())]);
            steps.push(Answer(0x40));
            steps.extend(subscribed(l, STATUS, 1));
            steps.extend([Carrying(3, STATUS, "x", came), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["5:3.3.2-5"],
        "a message that has lapsed is delivered to nobody",
        |l| {
            let second = [0x02, 0, 0, 0, 1];
            let none = [0x02, 0, 0, 0, 0];
            let mut steps = vec![Send(publish_with(l, 3, 5, STATUS, &second, b"x"))];
            steps.extend([Get(ack(0x40, 5)), Lapsed]);
            steps.extend(subscribed(l, STATUS, 1));
            steps.push(Alive);
            steps.extend([
                Send(publish_with(l, 2, 6, STATUS, &none, b"x")),
                Get(ack(0x40, 6)),
            ]);
            steps.extend([Send(publish(l, 2, 7, STATUS, b"y")), Get(ack(0x40, 7))]);
            steps.extend([Message(2, STATUS, "y"), Alive]);
            steps
        },
    ),
    (
        &["5:3.3.4-9", "5:3.3.4-10", "5:4.9.0-3"],
        "no more than the client's receive maximum, and nothing else waits for that",
        |_| {
            let mut steps = vec![Join(narrow(&[0x21, 0, 1]), false)];
            steps.extend(subscribed(super::V5, COMMAND, 1));
            steps.extend([Command("1"), Command("2"), Message(2, COMMAND, "1"), Alive]);
            steps.extend(subscribed(super::V5, STATUS, 1));
            steps.extend([Answer(0x40), Message(2, COMMAND, "2"), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["5:3.1.2-25"],
        "what is longer than the client takes is as good as sent",
        |_| {
            let mut steps = vec![Join(narrow(&[0x27, 0, 0, 0, 50]), false)];
            steps.extend(subscribed(super::V5, COMMAND, 1));
            steps.extend([
                Command("longer than there is room in fifty bytes"),
                Command("short"),
            ]);
            steps.extend([Message(2, COMMAND, "short"), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["4:3.14.4-3", "5:3.14.4-1", "5:3.14.4-2"],
        "nothing comes after a DISCONNECT",
        |l| {
            let mut bytes = publish(l, 2, 5, STATUS, b"x");
            bytes.extend([0xe0, 0]);
            let mut steps = vec![Open(Connect::new(l, "lab-1").bytes())];
            steps.push(Step::Welcome);
            steps.extend([Send(bytes), Get(ack(0x40, 5)), Step::Shut]);
            steps
        },
    ),
];
