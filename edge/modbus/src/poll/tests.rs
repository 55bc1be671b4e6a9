//! The state machine, step by step, with made-up registers, times and journals.
use super::*;
use crate::profile::BUILT_IN;
use storage::{StoreError, StoreErrorKind};

struct Bench {
    poller: Poller,
    now: Now,
    notices: Vec<Notice>,
}

impl Bench {
    fn new(profile: usize, interval_ms: i64) -> Self {
        let profile = toml::from_str(BUILT_IN[profile].1).unwrap();
        let decoder = Decoder::new(Arc::new(profile)).unwrap();
        let poller = Poller::new("m1".parse().unwrap(), Arc::new(decoder), interval_ms, 9);
        let now = Now {
            mesh: Timestamp(1_000_000),
            real: Timestamp(5_000),
            random: 1.0,
        };
        Self {
            poller,
            now,
            notices: Vec::new(),
        }
    }

    fn step(&mut self, input: Input) -> Step {
        self.notices.clear();
        self.poller.step(input, self.now, &mut self.notices)
    }

    fn answer(&mut self, answer: Answer) -> Step {
        self.step(Input::Answer(answer))
    }

    fn shows(&mut self, monitor: &Monitor) -> Step {
        self.answer(Answer::Registers(monitor.registers()))
    }

    fn stored(&mut self, result: Result<Stored, Rejected>) -> Step {
        self.step(Input::Stored(result))
    }
}

#[derive(Clone, Copy)]
struct Monitor {
    health: u16,
    heartbeat: u16,
    epoch: u16,
    seq: u16,
    pending: u16,
    time: u16,
    torn: bool,
}

const MONITOR: Monitor = Monitor {
    health: 0,
    heartbeat: 1,
    epoch: 3,
    seq: 7,
    pending: 1,
    time: 500,
    torn: false,
};

impl Monitor {
    /// Registers 1 to 56.
    fn registers(&self) -> Vec<u16> {
        let mut image = vec![0_u16; 57];
        image[1] = self.health;
        image[6] = self.heartbeat;
        image[8] = 40;
        image[10] = self.epoch;
        image[14] = self.seq;
        image[15] = self.pending;
        image[19] = self.time;
        for signal in 0..12 {
            image[22 + 3 * signal] = 0x8000;
        }
        image[21] = 730;
        image[22] = 0xffff;
        image[56] = 40 - u16::from(self.torn);
        image.split_off(1)
    }
}

fn unavailable() -> Rejected {
    Rejected::Unavailable(StoreError {
        kind: StoreErrorKind::Unavailable,
        op: "commit",
        source: None,
    })
}

fn is_read(step: &Step) -> bool {
    matches!(step, Step::Ask(Ask::Read(_)))
}

fn written(step: Step) -> Vec<u16> {
    match step {
        Step::Ask(Ask::Write { address: 0, words }) => words,
        other => panic!("{other:?}"),
    }
}

fn waits(step: Step) -> u64 {
    match step {
        Step::Wait(time) => u64::try_from(time.as_millis()).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sample_is_acknowledged_only_after_the_journal_has_it() {
    let mut bench = Bench::new(0, 100);
    assert!(is_read(&bench.step(Input::Waited)));
    let Step::Append(sample) = bench.shows(&MONITOR) else {
        panic!()
    };
    assert_eq!(
        (sample.epoch, sample.seq, sample.source_time),
        (3, 7, Timestamp(500))
    );
    assert_eq!(sample.readings.len(), 1);
    assert_eq!(bench.notices, [Notice::Seen]);
    for result in [Ok(Stored::New), Ok(Stored::Duplicate)] {
        let mut bench = Bench::new(0, 100);
        bench.step(Input::Waited);
        bench.shows(&MONITOR);
        assert_eq!(written(bench.stored(result)), [0, 3, 0, 0, 0, 7]);
    }
}

#[test]
fn a_sample_that_the_journal_cannot_take_now_is_kept_in_hand_and_never_acknowledged() {
    for rejected in [Rejected::Full, unavailable()] {
        let mut bench = Bench::new(0, 100);
        bench.step(Input::Waited);
        bench.shows(&MONITOR);
        let first = waits(bench.stored(Err(rejected)));
        let Step::Append(again) = bench.step(Input::Waited) else {
            panic!()
        };
        assert_eq!(again.seq, 7);
        assert_eq!(
            (first, waits(bench.stored(Err(Rejected::Full)))),
            (100, 200)
        );
        assert!(matches!(bench.step(Input::Waited), Step::Append(_)));
        assert_eq!(written(bench.stored(Ok(Stored::New))), [0, 3, 0, 0, 0, 7]);
    }
}

#[test]
fn a_sample_that_can_never_be_stored_is_acknowledged_once_its_quarantine_is_durable() {
    type Reject = fn() -> Rejected;
    let rejections: [(Reject, &str); 2] = [
        (|| Rejected::Invalid("reason"), "reason"),
        (
            || Rejected::Conflict { epoch: 3, seq: 7 },
            "same identity, other payload",
        ),
    ];
    for (rejected, reason) in rejections {
        let mut bench = Bench::new(0, 100);
        bench.step(Input::Waited);
        bench.shows(&MONITOR);
        let Step::Quarantine(said, sample) = bench.stored(Err(rejected())) else {
            panic!("{reason}")
        };
        assert_eq!((said, sample.seq), (reason, 7));
        assert_eq!(waits(bench.step(Input::Kept(false))), 100);
        assert!(matches!(bench.step(Input::Waited), Step::Append(_)));
        bench.stored(Err(rejected()));
        assert_eq!(written(bench.step(Input::Kept(true))), [0, 3, 0, 0, 0, 7]);
    }
}

#[test]
fn a_device_that_dies_while_the_store_is_full_is_said_to_be_dead() {
    let mut bench = Bench::new(0, 100);
    bench.step(Input::Waited);
    bench.shows(&MONITOR);
    for _ in 0..5 {
        bench.stored(Err(Rejected::Full));
        bench.step(Input::Waited);
    }
    bench.stored(Ok(Stored::New));
    let mut dead = 0;
    for _ in 0..6 {
        bench.answer(Answer::TimedOut);
        dead += usize::from(bench.notices == [Notice::TimedOut, Notice::Dead]);
        bench.step(Input::Waited);
    }
    assert_eq!(dead, 1);
}

#[test]
fn while_samples_wait_the_device_is_read_again_at_once_and_otherwise_in_its_interval() {
    for (pending, at_once) in [(1, false), (2, true)] {
        let mut bench = Bench::new(0, 100);
        bench.step(Input::Waited);
        bench.shows(&Monitor { pending, ..MONITOR });
        bench.stored(Ok(Stored::New));
        bench.now.real = bench.now.real.plus_ms(30);
        let step = bench.answer(Answer::Written);
        if at_once {
            assert!(is_read(&step));
        } else {
            assert_eq!(waits(step), 70);
        }
    }
    let mut bench = Bench::new(0, 100);
    bench.step(Input::Waited);
    assert_eq!(
        waits(bench.shows(&Monitor {
            pending: 0,
            ..MONITOR
        })),
        100
    );
}

#[test]
fn an_acknowledged_sample_that_is_still_shown_is_not_stored_again() {
    let mut bench = Bench::new(0, 100);
    bench.step(Input::Waited);
    bench.shows(&Monitor {
        pending: 9,
        ..MONITOR
    });
    bench.stored(Ok(Stored::New));
    assert!(is_read(&bench.answer(Answer::Written)));
    assert_eq!(
        written(bench.shows(&Monitor {
            pending: 9,
            ..MONITOR
        })),
        [0, 3, 0, 0, 0, 7]
    );
    assert_eq!(waits(bench.answer(Answer::Written)), 100);
    bench.step(Input::Waited);
    assert!(matches!(
        bench.shows(&Monitor {
            epoch: 4,
            ..MONITOR
        }),
        Step::Append(_)
    ));
}

#[test]
fn an_acknowledgement_that_fails_leads_to_another_read() {
    for answer in [Answer::TimedOut, Answer::Broken, Answer::Refused(3)] {
        let mut bench = Bench::new(0, 100);
        bench.step(Input::Waited);
        bench.shows(&MONITOR);
        bench.stored(Ok(Stored::New));
        assert_eq!(waits(bench.answer(answer)), 100);
        assert!(is_read(&bench.step(Input::Waited)));
        assert!(matches!(bench.shows(&MONITOR), Step::Append(_)));
    }
}

#[test]
fn torn_registers_are_read_again_at_once_a_few_times_and_never_used() {
    let mut bench = Bench::new(0, 100);
    bench.step(Input::Waited);
    let torn = Monitor {
        torn: true,
        ..MONITOR
    };
    for _ in 0..TORN_RETRIES {
        assert!(is_read(&bench.shows(&torn)));
        assert_eq!(bench.notices, [Notice::Torn]);
    }
    assert_eq!(waits(bench.shows(&torn)), 100);
    bench.step(Input::Waited);
    assert!(matches!(bench.shows(&MONITOR), Step::Append(_)));
}

#[test]
fn a_failing_device_is_asked_less_and_less_often_and_said_to_be_dead_once() {
    let mut bench = Bench::new(0, 100);
    let mut pauses = Vec::new();
    let mut dead = 0;
    for _ in 0..9 {
        bench.step(Input::Waited);
        pauses.push(waits(bench.answer(Answer::TimedOut)));
        dead += bench
            .notices
            .iter()
            .filter(|notice| **notice == Notice::Dead)
            .count();
    }
    assert_eq!(
        pauses,
        [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]
    );
    assert_eq!(dead, 1);
    bench.now.random = 0.0;
    bench.step(Input::Waited);
    assert_eq!(waits(bench.answer(Answer::Broken)), 2_500);
    bench.step(Input::Waited);
    bench.shows(&Monitor {
        pending: 0,
        ..MONITOR
    });
    assert_eq!(bench.notices, [Notice::Seen]);
    bench.step(Input::Waited);
    for (answer, notice) in [
        (Answer::Refused(4), Notice::Exception(4)),
        (Answer::TimedOut, Notice::TimedOut),
        (Answer::Broken, Notice::Broken),
        (Answer::Malformed, Notice::Malformed),
    ] {
        bench.answer(answer);
        assert_eq!(bench.notices.first(), Some(&notice));
        bench.step(Input::Waited);
    }
}

#[test]
fn a_device_whose_heart_and_clock_stand_still_is_frozen_once_and_thaws() {
    let mut bench = Bench::new(0, 100);
    let mut frozen = 0;
    for (after_ms, heartbeat, expected) in [
        (0, 1, false),
        (1_999, 1, false),
        (1, 1, true),
        (5_000, 1, false),
        (1, 2, false),
        (1_999, 2, false),
        (1, 2, true),
    ] {
        bench.now.real = bench.now.real.plus_ms(after_ms);
        bench.step(Input::Waited);
        bench.shows(&Monitor {
            heartbeat,
            pending: 0,
            ..MONITOR
        });
        assert_eq!(bench.notices.contains(&Notice::Frozen), expected);
        let still = expected || after_ms == 5_000;
        assert_eq!(bench.notices.contains(&Notice::Seen), !still);
        frozen += u32::from(expected);
    }
    assert_eq!(frozen, 2);
}

#[test]
fn faults_are_told_when_they_change() {
    let mut bench = Bench::new(0, 100);
    for (health, told) in [(0, false), (4, true), (4, false), (0, true)] {
        bench.step(Input::Waited);
        bench.shows(&Monitor {
            health,
            pending: 0,
            ..MONITOR
        });
        assert_eq!(bench.notices.contains(&Notice::Health(health)), told);
    }
}

#[test]
fn a_late_sample_is_historical() {
    // The profile's limit is five minutes.
    for (age_ms, flags) in [(299_999, Flags::NONE), (300_000, Flags::HISTORICAL)] {
        let mut bench = Bench::new(0, 100);
        bench.now.mesh = Timestamp(i64::from(MONITOR.time) + age_ms);
        bench.step(Input::Waited);
        let Step::Append(sample) = bench.shows(&MONITOR) else {
            panic!()
        };
        assert_eq!(sample.readings[0].flags, flags);
    }
}

/// A poller of a device without a counter, with these points of one register each and this much of other keys.
fn plain(points: &[u16], more: &str) -> Bench {
    let mut text = format!(
        "name = 'plain'\nmodel = 'plain'\ninterval = '1s'\ntimeout = '1s'\nstale_after = '1m'\nlate_after = '1m'\n{more}\n"
    );
    for address in points {
        text += &format!(
            "[[points]]\ncode = 'urn:medmesh:code|relative-humidity'\nunit = '%'\naddress = {address}\ntype = 'u16'\n"
        );
    }
    let mut bench = Bench::new(1, 100);
    let decoder = Decoder::new(Arc::new(toml::from_str(&text).unwrap())).unwrap();
    bench.poller = Poller::new("p1".parse().unwrap(), Arc::new(decoder), 100, 9);
    bench
}

/// Answers as a device would that has every register but these, until the cycle is over.
fn cycle(bench: &mut Bench, lacks: &[u16], code: u8) -> (Step, usize, Vec<Notice>) {
    let (mut step, mut asked, mut notices) = (bench.step(Input::Waited), 0, Vec::new());
    while let Step::Ask(Ask::Read(read)) = step {
        asked += 1;
        let registers = read.address..read.address + read.count;
        let refused = registers.clone().any(|register| lacks.contains(&register));
        step = bench.answer(if refused {
            Answer::Refused(code)
        } else {
            Answer::Registers(registers.collect())
        });
        notices.extend_from_slice(&bench.notices);
    }
    (step, asked, notices)
}

fn shown(step: &Step) -> Vec<String> {
    let Step::Append(sample) = step else {
        panic!("{step:?}")
    };
    let value = |reading: &SampleReading| match &reading.value {
        types::Value::Quantity(decimal) => decimal.to_string(),
        types::Value::Absent(reason) => reason.as_str().to_owned(),
    };
    sample.readings.iter().map(value).collect()
}

#[test]
fn a_register_that_the_device_refuses_is_absent_the_others_are_stored_and_it_is_said_once() {
    for code in 1..=4 {
        let mut bench = plain(&[1, 2, 3, 4, 100], "");
        let expected = ["1", "2", "error", "4", "100"];
        let (step, asked, notices) = cycle(&mut bench, &[3], code);
        assert_eq!(shown(&step), expected);
        // The merged read, its halves, the two registers of the refused half, and the far register.
        assert_eq!(asked, 6);
        let said = |notices: &[Notice]| {
            let refused = notices.iter();
            refused
                .filter(|notice| matches!(notice, Notice::Refused(..)))
                .count()
        };
        assert_eq!(said(&notices), 1);
        for _ in 0..3 {
            bench.stored(Ok(Stored::New));
            let (step, asked, notices) = cycle(&mut bench, &[3], code);
            assert_eq!((shown(&step), asked), (expected.map(Into::into).into(), 3));
            assert_eq!(said(&notices), 0);
        }
        // After a while it is asked for again; it is not said again, and when it is there it is stored.
        bench.now.real = bench.now.real.plus_ms(REFUSED_MS.0);
        bench.stored(Ok(Stored::New));
        let (step, asked, notices) = cycle(&mut bench, &[3], code);
        assert_eq!((shown(&step), asked), (expected.map(Into::into).into(), 6));
        assert_eq!(said(&notices), 0);
        bench.now.real = bench.now.real.plus_ms(REFUSED_MS.0);
        bench.stored(Ok(Stored::New));
        let (step, ..) = cycle(&mut bench, &[], code);
        assert_eq!(shown(&step), ["1", "2", "3", "4", "100"]);
    }
}

#[test]
fn a_device_that_refuses_everything_fails_and_stores_nothing() {
    let mut bench = plain(&[1, 2, 100], "");
    let mut dead = 0;
    for failures in 0..4_u32 {
        let (step, asked, notices) = cycle(&mut bench, &[1, 2, 100], 2);
        assert_eq!(asked, 4);
        assert_eq!(waits(step), 100 << failures);
        dead += notices
            .iter()
            .filter(|notice| **notice == Notice::Dead)
            .count();
        assert!(
            !notices
                .iter()
                .any(|notice| matches!(notice, Notice::Refused(..)))
        );
    }
    assert_eq!(dead, 1);
}

#[test]
fn a_busy_device_is_asked_again_and_no_register_is_left_out() {
    for code in [5, 6, 8, 10, 11] {
        let mut bench = plain(&[1, 2], "");
        let (step, asked, _) = cycle(&mut bench, &[2], code);
        assert_eq!((waits(step), asked), (100, 1));
        let (step, ..) = cycle(&mut bench, &[], code);
        assert_eq!(shown(&step), ["1", "2"]);
    }
}

#[test]
fn a_first_request_that_may_be_lost_is_asked_once_more_at_once() {
    let mut bench = plain(&[1, 100], "[timing]\nfirst_request_lost = true");
    for failures in 0..2_u32 {
        bench.step(Input::Waited);
        assert!(is_read(&bench.answer(Answer::TimedOut)));
        assert_eq!(bench.notices, [Notice::TimedOut]);
        assert_eq!(waits(bench.answer(Answer::TimedOut)), 100 << failures);
    }
    // Only the first of a cycle.
    bench.step(Input::Waited);
    assert!(is_read(&bench.answer(Answer::Registers(vec![1]))));
    assert_eq!(waits(bench.answer(Answer::TimedOut)), 400);
}

/// A counter that began again shows a number that was acknowledged before; what it counts now was never stored.
#[test]
fn a_number_that_comes_again_with_another_sample_is_stored_and_not_just_acknowledged() {
    let mut bench = Bench::new(0, 100);
    bench.step(Input::Waited);
    bench.shows(&MONITOR);
    bench.stored(Ok(Stored::New));
    bench.answer(Answer::Written);
    for again in [
        Monitor {
            time: 501,
            ..MONITOR
        },
        Monitor {
            seq: 1,
            time: 502,
            ..MONITOR
        },
    ] {
        bench.step(Input::Waited);
        let Step::Append(sample) = bench.shows(&again) else {
            panic!("it was not offered to the journal")
        };
        assert_eq!(sample.source_time, Timestamp(i64::from(again.time)));
        assert_eq!(
            written(bench.stored(Ok(Stored::New))),
            [0, 3, 0, 0, 0, again.seq]
        );
        bench.answer(Answer::Written);
    }
    // What cannot be kept is not acknowledged, however often it is shown.
    bench.step(Input::Waited);
    bench.shows(&Monitor {
        seq: 2,
        time: 503,
        ..MONITOR
    });
    bench.stored(Err(Rejected::Conflict { epoch: 3, seq: 2 }));
    for _ in 0..3 {
        waits(bench.step(Input::Kept(false)));
        assert!(matches!(bench.step(Input::Waited), Step::Append(_)));
        bench.stored(Err(Rejected::Conflict { epoch: 3, seq: 2 }));
    }
}

#[test]
fn a_device_without_a_counter_gets_the_edges_own_numbers_and_time() {
    let mut bench = Bench::new(1, 100);
    for seq in 1..=2 {
        assert!(is_read(&bench.step(Input::Waited)));
        let Step::Append(sample) = bench.answer(Answer::Registers(vec![305, 546])) else {
            panic!()
        };
        assert_eq!(
            (sample.epoch, sample.seq, sample.source_time),
            (9, seq, bench.now.mesh)
        );
        assert_eq!(waits(bench.stored(Err(Rejected::Full))), 100);
        assert!(matches!(bench.step(Input::Waited), Step::Append(_)));
        assert_eq!(waits(bench.stored(Ok(Stored::New))), 100);
    }
}

#[test]
fn what_takes_several_reads_was_measured_at_the_latest_when_the_first_was_answered() {
    let mut bench = plain(&[1, 100], "");
    for _ in 0..2 {
        bench.step(Input::Waited);
        bench.now.mesh = bench.now.mesh.plus_ms(40);
        let first = bench.now.mesh;
        assert!(is_read(&bench.answer(Answer::Registers(vec![1]))));
        bench.now.mesh = bench.now.mesh.plus_ms(9_000);
        let Step::Append(sample) = bench.answer(Answer::Registers(vec![100])) else {
            panic!()
        };
        assert_eq!(sample.source_time, first);
        bench.stored(Ok(Stored::New));
    }
}
