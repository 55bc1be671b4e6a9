//! Sessions, wills and their ends (§3.1.2, §3.14, §4.1).
use super::super::wire::{Connect, V4, publish, subscribe};
use super::super::world::{COMMAND, STATUS};
use super::{
    Row,
    Step::{
        self, Alive, Answer, Break, Carrying, Command, End, Get, Join, Leave, Message, Retained,
        Send,
    },
    ack,
    publishing::subscribed,
};

fn lasting(level: u8, present: bool) -> Step {
    Join(Connect::lasting(level, "lab-1"), present)
}

fn fresh(level: u8) -> Step {
    Join(Connect::new(level, "lab-1"), false)
}

fn with_will(mut connect: Connect, retain: bool, properties: &[u8]) -> Connect {
    connect.will = Some((STATUS.into(), "gone".into(), retain, properties.to_vec()));
    connect
}

fn will(level: u8) -> Step {
    Join(with_will(Connect::new(level, "lab-1"), true, &[]), false)
}

pub(super) const ROWS: &[Row] = &[
    (
        &[
            "4:3.1.2-4",
            "4:3.1.2-5",
            "4:3.2.2-2",
            "4:3.2.2-3",
            "4:3.1.3-2",
            "4:4.1.0-1",
            "4:4.5.0-1",
            "5:3.1.2-5",
            "5:3.1.2-6",
            "5:3.1.2-23",
            "5:3.2.2-3",
            "5:3.1.3-2",
            "5:4.1.0-1",
            "5:4.5.0-1",
        ],
        "a session is made, kept and resumed",
        |l| {
            let mut steps = vec![lasting(l, false)];
            steps.extend(subscribed(l, COMMAND, 1));
            steps.extend([Leave, Command("while away"), lasting(l, true)]);
            steps.extend([Message(2, COMMAND, "while away"), Answer(0x40)]);
            steps.extend([
                Command("here"),
                Message(2, COMMAND, "here"),
                Answer(0x40),
                Alive,
            ]);
            steps
        },
    ),
    (
        &[
            "4:3.1.2-6",
            "4:3.1.4-3",
            "4:3.2.2-1",
            "5:3.1.2-4",
            "5:3.1.4-4",
            "5:3.2.2-2",
        ],
        "a new session has nothing of the one before",
        |l| {
            let mut steps = vec![lasting(l, false)];
            steps.extend(subscribed(l, COMMAND, 1));
            steps.extend([Leave, Command("lost"), fresh(l), Command("lost"), Alive]);
            steps.extend([Leave, lasting(l, false), Command("lost"), Alive]);
            steps
        },
    ),
    (
        &["5:4.1.0-1"],
        "what a session that is taken over has not acknowledged is not lost",
        |l| {
            let mut steps = vec![lasting(l, false)];
            steps.extend(subscribed(l, COMMAND, 1));
            steps.extend([
                Command("once more"),
                Message(2, COMMAND, "once more"),
                lasting(l, true),
            ]);
            steps.extend([Message(10, COMMAND, "once more"), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["4:3.1.2-7", "5:3.3.1-5"],
        "retained messages are not of the session",
        |l| {
            let mut steps = vec![Send(publish(l, 3, 1, STATUS, b"kept")), Get(ack(0x40, 1))];
            steps.extend([Leave, fresh(l)]);
            steps.extend(subscribed(l, STATUS, 0));
            steps.push(Message(1, STATUS, "kept"));
            steps
        },
    ),
    (
        &[
            "4:3.1.2-8",
            "4:3.1.2-17",
            "5:3.1.2-7",
            "5:3.1.2-8",
            "5:3.1.2-15",
        ],
        "a will is published, and kept if it says so",
        |l| vec![will(l), Break, Retained(STATUS, Some("gone")), fresh(l)],
    ),
    (
        &["4:3.1.2-16", "5:3.1.2-14"],
        "a will without the flag is not kept",
        |l| {
            let connect = with_will(Connect::lasting(l, "lab-1"), false, &[]);
            let mut steps = vec![Join(connect, false)];
            steps.extend(subscribed(l, STATUS, 1));
            steps.extend([
                Break,
                lasting(l, true),
                Message(2, STATUS, "gone"),
                Answer(0x40),
            ]);
            steps.extend([Retained(STATUS, None), Alive]);
            steps
        },
    ),
    (
        &[
            "4:3.1.2-10",
            "4:3.1.2-12",
            "4:3.14.4-3",
            "5:3.1.2-10",
            "5:3.14.4-3",
        ],
        "DISCONNECT takes the will back, and no will is none",
        |l| {
            let steps = [
                will(l),
                Leave,
                fresh(l),
                Retained(STATUS, None),
                Break,
                fresh(l),
            ];
            steps.into_iter().chain([Retained(STATUS, None)]).collect()
        },
    ),
    (
        &["5:3.1.2-8"],
        "a client may leave and ask for its will",
        |l| {
            let steps = [will(l), Send(vec![0xe0, 1, 4]), Step::Shut];
            steps
                .into_iter()
                .chain([Retained(STATUS, Some("gone"))])
                .collect()
        },
    ),
    (
        &["5:3.1.3-9", "5:3.1.2-8"],
        "a delayed will is not sent to who comes back",
        |l| {
            let connect = || with_will(Connect::lasting(l, "lab-1"), true, &[0x18, 0, 0, 0, 90]);
            let mut steps = vec![Join(connect(), false), Break, Join(connect(), true)];
            // The end of the session ends the delay.
            steps.extend([
                Retained(STATUS, None),
                Break,
                fresh(l),
                Retained(STATUS, Some("gone")),
            ]);
            steps
        },
    ),
    (
        &["5:3.3.2-20", "5:3.3.2-6", "5:3.1.2-15"],
        "a will has its properties and QoS",
        |l| {
            let properties = [
                0x02, 0, 0, 0x0e, 0x10, 0x01, 1, 0x18, 0, 0, 0, 0, 0x03, 0, 1, b't',
            ];
            let connect = with_will(Connect::new(l, "lab-1"), true, &properties);
            let mut steps = vec![Join(connect, false), Break, Retained(STATUS, Some("gone"))];
            steps.push(fresh(l));
            steps.extend(subscribed(l, STATUS, 2));
            let came = vec![0x02, 0, 0, 0x0e, 0x10, 0x01, 1, 0x03, 0, 1, b't'];
            steps.extend([Carrying(3, STATUS, "gone", came), Answer(0x40), Alive]);
            steps
        },
    ),
    (
        &["5:4.13.1-1", "5:3.14.2-1"],
        "DISCONNECT does not prolong a session of no length",
        |l| {
            let mut steps = vec![
                Send(subscribe(l, 1, &[(STATUS, 1)])),
                Get(vec![0x90, 4, 0, 1, 0, 1]),
            ];
            steps.push(Send(vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0x0e, 0x10]));
            steps.extend([End(0x82), lasting(l, false)]);
            // Zero stays zero, and a session that lasts may end.
            steps.extend([
                fresh(l),
                Send(vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
                Step::Shut,
            ]);
            steps.extend([
                lasting(l, false),
                Send(vec![0xe0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
            ]);
            steps.extend([Step::Shut, lasting(l, false)]);
            steps
        },
    ),
    (
        &["4:3.1.2-24", "4:3.2.2-1"],
        "keep alive zero is none",
        |l| {
            let mut connect = Connect::new(V4, "lab-1");
            connect.level = l;
            vec![Join(connect, false), Alive]
        },
    ),
];
