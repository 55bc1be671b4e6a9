//! A simulated line with a simulated device, in simulated time: delays, copies, losses and noise, thousands of polls a
//! second. Each register has another value in each answer, so that a value that belongs to another question is seen.
use super::*;
use crate::plan::{Read, Space};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;

const MS: Micros = 1_000;
const TIMEOUT: Micros = 400 * MS;

fn pace() -> Pace {
    Pace {
        timeout: TIMEOUT,
        after_connect: 0,
        between_requests: 0,
        longest_answer: 2_000 * MS,
        copies_within: TIMEOUT,
        reconnect_after: 2,
    }
}

const RTU: Carrier = Carrier {
    rtu: true,
    character: 1_146,
    silence: 4_011,
    echo: false,
};

/// How often what goes wrong, of a thousand.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    late: u32,
    copied: u32,
    request_lost: u32,
    answer_lost: u32,
    damaged: u32,
    noise: u32,
}

/// How a device takes a read that its profile does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stranger {
    Answers,
    Refuses,
    Ignores,
}

/// A line with its devices. Time passes only as the machine under test waits.
struct World {
    random: StdRng,
    now: Micros,
    talk: Talk,
    faults: Faults,
    stranger: Stranger,
    /// The longest time that an answer takes.
    longest: Micros,
    echo: bool,
    /// Whether every register always shows 0.
    constant: bool,
    /// What the master will hear, and when.
    coming: BTreeMap<(Micros, u64), Vec<u8>>,
    numbered: u64,
    /// When each unit is free for the next request: it answers in order.
    busy: BTreeMap<u8, Micros>,
    next_value: u16,
    /// Of each value: of which unit, space and register it is, and when the request came.
    shown: BTreeMap<u16, (u8, Space, u16, Micros)>,
    /// When the last request was sent, and the shortest silence before one since something was on the line.
    last_on_line: Micros,
    silence: Micros,
}

impl World {
    fn new(seed: u64, carrier: Carrier, faults: Faults, stranger: Stranger) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            now: 0,
            talk: Talk::new(carrier, 7),
            faults,
            stranger,
            longest: 1_500 * MS,
            echo: carrier.echo,
            constant: false,
            coming: BTreeMap::new(),
            numbered: 0,
            busy: BTreeMap::new(),
            next_value: 1,
            shown: BTreeMap::new(),
            last_on_line: 0,
            silence: Micros::MAX,
        }
    }

    fn happens(&mut self, of_a_thousand: u32) -> bool {
        self.random.random_range(0..1_000) < of_a_thousand
    }

    fn arrives(&mut self, at: Micros, bytes: Vec<u8>) {
        self.numbered += 1;
        self.coming.insert((at, self.numbered), bytes);
    }

    /// The master sends; the device hears it and will answer.
    fn sends(&mut self, frame: &[u8], barrier: bool) {
        let rtu = self.talk.carrier.rtu;
        self.silence = self.silence.min(self.now - self.last_on_line);
        let there = self.now + self.talk.carrier.character * frame.len() as u64;
        self.last_on_line = there;
        if self.echo {
            self.arrives(there, frame.to_vec());
        }
        if self.happens(self.faults.noise) {
            let noise = (0..self.random.random_range(1..9))
                .map(|_| self.random.random())
                .collect();
            let at = there + self.random.random_range(0..TIMEOUT);
            self.arrives(at, noise);
        }
        if self.happens(self.faults.request_lost) || (barrier && self.stranger == Stranger::Ignores)
        {
            return;
        }
        let (head, pdu) = if rtu {
            (frame[..1].to_vec(), frame[1..frame.len() - 2].to_vec())
        } else {
            (frame[..7].to_vec(), frame[7..].to_vec())
        };
        let unit = *head.last().unwrap();
        let delay = if self.happens(self.faults.late) {
            self.random.random_range(0..self.longest)
        } else {
            self.random.random_range(2 * MS..60 * MS)
        };
        let busy = self.busy.entry(unit).or_default();
        let at = there.max(*busy) + delay;
        // One that is asked on and on must still answer within its longest time.
        let at = at.min(there + self.longest).max(*busy);
        *busy = at;
        let answer = self.answer(&pdu, barrier, unit, there);
        let mut out = head.clone();
        if rtu {
            out.extend(&answer);
            out.extend(crc(&out).to_le_bytes());
        } else {
            out[4..6].copy_from_slice(&(answer.len() as u16 + 1).to_be_bytes());
            out.extend(&answer);
        }
        self.answers(at, out);
    }

    fn answers(&mut self, at: Micros, frame: Vec<u8>) {
        let at = at + self.talk.carrier.character * frame.len() as u64;
        if self.happens(self.faults.copied) {
            let after = self.random.random_range(0..TIMEOUT - 20 * MS);
            self.arrives(at + after, frame.clone());
        }
        if self.happens(self.faults.answer_lost) {
            return;
        }
        let mut frame = frame;
        if self.happens(self.faults.damaged) {
            let at = self.random.random_range(0..frame.len());
            frame[at] ^= self.random.random_range(1..=255);
        }
        if self.happens(self.faults.noise) {
            frame.insert(0, self.random.random());
        }
        // In two pieces, as a kernel may give it.
        let cut = self.random.random_range(0..frame.len());
        let rest = frame.split_off(cut);
        self.arrives(at, frame);
        self.arrives(at, rest);
    }

    fn answer(&mut self, pdu: &[u8], barrier: bool, unit: u8, at: Micros) -> Vec<u8> {
        let function = pdu[0];
        if barrier && self.stranger == Stranger::Refuses {
            return vec![function | 0x80, 2];
        }
        let [address, count] =
            [&pdu[1..3], &pdu[3..5]].map(|it| u16::from_be_bytes([it[0], it[1]]));
        let space = if function == 3 {
            Space::Holding
        } else {
            Space::Input
        };
        let mut out = vec![function, (2 * count) as u8];
        for register in address..address + count {
            let value = if self.constant { 0 } else { self.next_value };
            self.next_value = self.next_value.wrapping_add(1);
            self.shown.insert(value, (unit, space, register, at));
            out.extend(value.to_be_bytes());
        }
        out
    }

    /// Asks as a poller would, and checks what is believed.
    fn ask(&mut self, unit: u8, read: Read, barrier: &Barrier) -> Answer {
        let (ask, pace) = (Ask::Read(read), pace());
        let question = Question {
            unit,
            ask: &ask,
            barrier: Some(barrier),
            pace: &pace,
        };
        let mut step = self.talk.begin(&question, self.now);
        // When the request itself was sent for the last time.
        let mut sent = 0;
        loop {
            step = match step {
                Do::Send(frame) => {
                    let is_barrier = matches!(self.talk.phase, Phase::Barrier(_));
                    sent = self.now;
                    self.sends(&frame, is_barrier);
                    self.talk.sent(&question, self.now)
                }
                Do::Listen(until) => match self.next_before(until) {
                    Some(bytes) => {
                        self.last_on_line = self.last_on_line.max(self.now);
                        self.talk.heard(&question, &bytes, self.now)
                    }
                    None => {
                        self.now = self.now.max(until);
                        self.talk.passed(&question, self.now)
                    }
                },
                Do::Leave(until) => {
                    self.now = self.now.max(until.min(self.now + 50 * MS));
                    self.talk.begin(&question, self.now)
                }
                Do::Done(answer) => {
                    self.check(&answer, unit, read, sent);
                    return answer;
                }
            };
        }
    }

    fn next_before(&mut self, until: Micros) -> Option<Vec<u8>> {
        let first = self.coming.first_entry()?;
        let at = first.key().0;
        // Equal times: what has come is heard first.
        if at > until.max(self.now) {
            return None;
        }
        self.now = self.now.max(at);
        Some(first.remove())
    }

    fn check(&self, answer: &Answer, unit: u8, read: Read, sent: Micros) {
        let Answer::Registers(words) = answer else {
            return;
        };
        assert_eq!(words.len(), usize::from(read.count));
        for (register, word) in (read.address..).zip(words) {
            if self.constant {
                assert_eq!(*word, 0);
                continue;
            }
            let (of, space, at, when) = self.shown[word];
            assert_eq!(
                (of, space, at),
                (unit, read.space, register),
                "a value of another register"
            );
            assert!(when >= sent, "a value of an earlier poll");
        }
    }
}

fn crc(bytes: &[u8]) -> u16 {
    device_fw::frame::crc16(bytes)
}

fn input(address: u16, count: u16) -> Read {
    Read {
        space: Space::Input,
        address,
        count,
    }
}

fn barrier() -> Barrier {
    Barrier {
        space: Space::Holding,
        address: 1,
        counts: (1..9).collect(),
        alone: true,
    }
}

/// Polls two units with reads that look alike; says how many answers were believed.
fn poll(world: &mut World, cycles: u32, barrier: &Barrier, reads: &[Read]) -> u32 {
    let mut believed = 0;
    for _ in 0..cycles {
        for unit in [1, 2] {
            for read in reads {
                match world.ask(unit, *read, barrier) {
                    Answer::Registers(_) => believed += 1,
                    // A poller gives the cycle up and waits a little.
                    _ => {
                        world.now += world.random.random_range(50 * MS..100 * MS);
                        break;
                    }
                }
            }
        }
        // Faster polls can be answered by a copy that is as old as copies may be.
        world.now += world.random.random_range(TIMEOUT..1_000 * MS);
    }
    believed
}

/// So many seeds, or as many times more as `MEDMESH_SEEDS` says.
fn seeds(usual: u64) -> u64 {
    let times = std::env::var("MEDMESH_SEEDS").ok();
    usual * times.and_then(|times| times.parse().ok()).unwrap_or(1)
}

const STRANGERS: [Stranger; 3] = [Stranger::Answers, Stranger::Refuses, Stranger::Ignores];

fn some(random: &mut StdRng) -> Faults {
    let mut often = || [0, 0, 20, 100, 400][random.random_range(0..5)];
    Faults {
        late: often(),
        copied: often(),
        request_lost: often() / 2,
        answer_lost: often() / 2,
        damaged: often() / 2,
        noise: often(),
    }
}

/// Wrong values: none, whatever is late, copied, lost or damaged.
#[test]
fn no_value_on_a_serial_line_is_ever_of_another_register_or_another_poll() {
    let mut believed = 0;
    for seed in 0..seeds(100) {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = some(&mut random);
        for stranger in STRANGERS {
            let carrier = Carrier {
                echo: seed % 4 == 0,
                ..RTU
            };
            let mut world = World::new(seed, carrier, Faults::default(), stranger);
            poll(&mut world, 4, &barrier(), &[input(1, 1)]);
            world.faults = faults;
            // A device of which it is known that it answers barriers may take as long as it likes.
            if stranger != Stranger::Ignores && seed % 3 == 0 {
                world.longest = 20_000 * MS;
            }
            let reads = [input(1, 1), input(100, 1), input(200, 1), input(300, 2)];
            believed += poll(&mut world, 20, &barrier(), &reads);
            assert!(
                world.silence >= RTU.silence,
                "a request after {} us of silence, seed {seed}",
                world.silence
            );
        }
    }
    assert!(believed > 12_000, "{believed} answers were believed");
}

/// Where a profile reads by both functions, a barrier is a number of registers that no other request has.
#[test]
fn no_value_is_wrong_where_a_profile_uses_both_functions() {
    for seed in 0..seeds(50) {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = some(&mut random);
        for stranger in STRANGERS {
            let mut world = World::new(seed, RTU, Faults::default(), stranger);
            poll(&mut world, 4, &barrier(), &[input(1, 1)]);
            world.faults = faults;
            let holding = |address| Read {
                space: Space::Holding,
                ..input(address, 1)
            };
            let reads = [input(1, 1), holding(1), input(100, 1), holding(50)];
            let barrier = Barrier {
                counts: (2..10).collect(),
                alone: false,
                ..barrier()
            };
            poll(&mut world, 20, &barrier, &reads);
        }
    }
}

#[test]
fn on_tcp_an_old_or_foreign_answer_is_passed_over_and_the_right_one_is_taken() {
    let tcp = Carrier {
        rtu: false,
        character: 0,
        silence: 0,
        echo: false,
    };
    let mut believed = 0;
    for seed in 0..seeds(50) {
        let mut random = StdRng::seed_from_u64(seed);
        // TCP itself finds damage.
        let faults = Faults {
            copied: 500,
            damaged: 0,
            ..some(&mut random)
        };
        let mut world = World::new(seed, tcp, faults, Stranger::Answers);
        believed += poll(&mut world, 20, &barrier(), &[input(1, 1), input(100, 1)]);
    }
    assert!(believed > 2_000, "{believed} answers were believed");
}

/// The seventh answer comes after the time-out, as [`Pace::timeout`] has it; everything is answered, in turn.
#[test]
fn after_one_late_answer_the_next_samples_are_right_at_once() {
    for late in [410, 520, 560, 620, 700, 1_900, 9_000] {
        for stranger in [Stranger::Answers, Stranger::Refuses] {
            let mut world = World::new(1, RTU, Faults::default(), stranger);
            let reads = [input(1, 1), input(100, 1)];
            assert_eq!(poll(&mut world, 2, &barrier(), &reads), 8);
            // What comes now is late by so much.
            world.busy.insert(1, world.now + late * MS);
            let after = poll(&mut world, 30, &barrier(), &reads);
            assert!(after >= 90, "{after} of 120 after {late} ms");
        }
    }
}

/// What is missing after a damaged answer is that sample, not a minute.
#[test]
fn damaged_and_lost_frames_cost_samples_and_not_the_device() {
    for stranger in STRANGERS {
        let faults = Faults {
            damaged: 20,
            answer_lost: 20,
            noise: 100,
            ..Faults::default()
        };
        let mut world = World::new(5, RTU, faults, stranger);
        let believed = poll(&mut world, 250, &barrier(), &[input(1, 1), input(100, 1)]);
        assert!(believed > 800, "{believed} of 1000, {stranger:?}");
    }
}

/// Registers that show the same are read all the same: what can be a copy is asked again.
#[test]
fn registers_that_show_the_same_value_are_still_read() {
    for stranger in STRANGERS {
        let mut world = World::new(9, RTU, Faults::default(), stranger);
        world.constant = true;
        let reads = [input(1, 1), input(100, 1), input(200, 1)];
        let believed = poll(&mut world, 20, &barrier(), &reads);
        assert!(believed >= 116, "{believed} of 120, {stranger:?}");
    }
}

/// An exchange by hand, for what the simulation does not tell apart.
fn begun(pace: &Pace, carrier: Carrier) -> (Talk, Vec<u8>) {
    let ask = Ask::Read(input(1, 1));
    let question = asked(&ask, pace);
    let mut talk = Talk::new(carrier, 1);
    talk.opened(0);
    let Do::Listen(due) = talk.begin(&question, 0) else {
        panic!("it is not listened first")
    };
    let Do::Send(frame) = talk.passed(&question, due) else {
        panic!("nothing is sent")
    };
    (talk, frame)
}

const fn asked<'a>(ask: &'a Ask, pace: &'a Pace) -> Question<'a> {
    Question {
        unit: 1,
        ask,
        barrier: None,
        pace,
    }
}

#[test]
fn a_request_waits_for_what_the_device_needs_after_a_connect_and_between_requests() {
    let ask = Ask::Read(input(1, 1));
    let pace = Pace {
        after_connect: 1_000 * MS,
        between_requests: 50 * MS,
        ..pace()
    };
    let tcp = Carrier {
        rtu: false,
        character: 0,
        silence: 0,
        echo: false,
    };
    let question = asked(&ask, &pace);
    let mut talk = Talk::new(tcp, 0);
    talk.opened(10);
    assert_eq!(talk.begin(&question, 10), Do::Listen(10 + 1_000 * MS));
    let Do::Send(frame) = talk.passed(&question, 10 + 1_000 * MS) else {
        panic!("nothing is sent")
    };
    let sent = 10 + 1_000 * MS;
    assert_eq!(talk.sent(&question, sent), Do::Listen(sent + TIMEOUT));
    let answer = [&frame[..4], &[0, 5, 1, 4, 2, 0, 9]].concat();
    let done = talk.heard(&question, &answer, sent + MS);
    assert_eq!(done, Do::Done(Answer::Registers(vec![9])));
    assert_eq!(
        talk.begin(&question, sent + 2 * MS),
        Do::Listen(sent + 51 * MS)
    );
}

#[test]
fn a_connection_is_given_up_after_as_many_time_outs_as_the_profile_says() {
    let tcp = Carrier {
        rtu: false,
        character: 0,
        silence: 0,
        echo: false,
    };
    let ask = Ask::Read(input(1, 1));
    for reconnect_after in [1, 2, 5] {
        let pace = Pace {
            reconnect_after,
            ..pace()
        };
        let question = asked(&ask, &pace);
        let mut talk = Talk::new(tcp, 0);
        let mut now = 0;
        for time_outs in 1..=reconnect_after {
            assert!(!talk.is_stale(&pace));
            let Do::Send(_) = talk.begin(&question, now) else {
                panic!("nothing is sent")
            };
            now += TIMEOUT;
            assert_eq!(talk.passed(&question, now), Do::Done(Answer::TimedOut));
            assert_eq!(talk.is_stale(&pace), time_outs == reconnect_after);
        }
    }
}

#[test]
fn a_line_that_is_never_silent_is_not_asked_and_one_with_echo_answers_after_it() {
    let pace = pace();
    let ask = Ask::Read(input(1, 1));
    let question = asked(&ask, &pace);
    let mut talk = Talk::new(RTU, 0);
    let (mut now, mut step) = (0, talk.begin(&question, 0));
    while let Do::Listen(due) = step {
        now = due - 1;
        step = talk.heard(&question, &[0x55], now);
    }
    assert_eq!(step, Do::Done(Answer::Malformed));
    assert!(now > NEVER_SILENT);

    let answer = [1, 4, 2, 0, 9, 0x79, 0x36];
    for echo in [true, false] {
        let (mut talk, frame) = begun(&pace, Carrier { echo, ..RTU });
        let Do::Listen(_) = talk.sent(&question, 10 * MS) else {
            panic!("it is not listened")
        };
        // What is heard before the echo is not the answer.
        let early = talk.heard(&question, &answer, 11 * MS);
        assert_eq!(matches!(early, Do::Done(_)), !echo);
        if echo {
            let heard = [&frame[..], &answer].concat();
            let done = talk.heard(&question, &heard, 12 * MS);
            assert_eq!(done, Do::Done(Answer::Registers(vec![9])));
        }
    }
}
