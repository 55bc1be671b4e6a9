//! Times as numbers, devices as names, beds as lists.
use super::*;

const LIMITS: FreshnessLimits = FreshnessLimits {
    late_after_ms: 100,
    stale_after_ms: 100,
};

fn device() -> DeviceId {
    "m1".parse().unwrap()
}

fn signal(code: &str) -> (Code, Unit) {
    let code: Code = code.parse().unwrap();
    (code, code.info().unit.parse().unwrap())
}

fn stale_at(signal: (Code, Unit), at: i64) -> Change {
    let gone = Gone {
        signal,
        at: Timestamp(at),
        patient: None,
    };
    Change::Stale(device(), vec![gone])
}

fn known(signal: (Code, Unit), alarmed: bool) -> LastValue {
    LastValue {
        device: device(),
        signal,
        at: Timestamp(0),
        patient: None,
        alarmed,
    }
}

fn monitor() -> Monitor {
    Monitor::new([(device(), LIMITS, None)], 10)
}

#[test]
fn a_signal_that_stops_goes_stale_once_and_comes_back_once() {
    let (mut monitor, heart) = (monitor(), signal("8867-4"));
    monitor.stored(&device(), Timestamp(0), None, [heart]);
    assert_eq!(
        monitor.step(Timestamp(1)),
        [Change::Device(device(), Freshness::Live)]
    );
    assert_eq!(monitor.step(Timestamp(109)), []);
    let stale = stale_at(heart, 0);
    let silent = Change::Device(device(), Freshness::Stale);
    assert_eq!(monitor.step(Timestamp(110)), [silent, stale]);
    assert_eq!(monitor.step(Timestamp(500)), []);
    monitor.stored(&device(), Timestamp(500), None, [heart]);
    let fresh = Change::Fresh(device(), vec![heart]);
    let alive = Change::Device(device(), Freshness::Live);
    assert_eq!(monitor.step(Timestamp(501)), [alive, fresh]);
}

#[test]
fn a_device_that_answers_is_live_while_one_of_its_signals_is_stale() {
    let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
    monitor.stored(&device(), Timestamp(0), None, [heart, breath]);
    monitor.step(Timestamp(0));
    monitor.stored(&device(), Timestamp(105), None, [heart]);
    let stale = stale_at(breath, 0);
    assert_eq!(monitor.step(Timestamp(110)), [stale]);
    monitor.seen(&device(), Timestamp(300));
    assert_eq!(monitor.step(Timestamp(300)), [stale_at(heart, 105)]);
    assert_eq!(monitor.counts().live, 1);
}

#[test]
fn a_late_delivery_makes_nothing_fresh() {
    let (mut monitor, heart) = (monitor(), signal("8867-4"));
    monitor.stored(&device(), Timestamp(1_000), None, [heart]);
    monitor.step(Timestamp(1_000));
    monitor.stored(&device(), Timestamp(5), None, [heart]);
    assert_eq!(monitor.step(Timestamp(1_109)), []);
    assert_eq!(monitor.step(Timestamp(1_110)).len(), 2);
}

#[test]
fn an_alarm_that_was_raised_before_a_restart_is_not_raised_again() {
    let (mut monitor, heart, breath) = (monitor(), signal("8867-4"), signal("9279-1"));
    monitor.recall(known(heart, true));
    monitor.recall(known(breath, false));
    assert_eq!(monitor.step(Timestamp(10_000)), [stale_at(breath, 0)]);
}

#[test]
fn a_source_time_in_the_future_keeps_nothing_fresh() {
    let (mut monitor, heart) = (monitor(), signal("8867-4"));
    monitor.stored(&device(), Timestamp(1_000_000), None, [heart]);
    assert_eq!(
        monitor.step(Timestamp(1)),
        [Change::Device(device(), Freshness::Live)]
    );
    monitor.seen(&device(), Timestamp(i64::MAX));
    let silent = Change::Device(device(), Freshness::Stale);
    monitor.step(Timestamp(2));
    assert_eq!(monitor.step(Timestamp(111)), [stale_at(heart, 1)]);
    assert_eq!(monitor.step(Timestamp(112)), [silent]);
}

#[test]
fn each_patient_whom_a_device_names_has_signals_of_their_own() {
    let (mut monitor, heart) = (monitor(), signal("8867-4"));
    let named = |id: &str| Some(Phi::new(id.to_owned()));
    monitor.stored(&device(), Timestamp(5), named("p-1").as_ref(), [heart]);
    monitor.stored(&device(), Timestamp(7), named("p-2").as_ref(), [heart]);
    monitor.stored(&device(), Timestamp(6), named("p-1").as_ref(), [heart]);
    monitor.step(Timestamp(8));
    let Some(Change::Stale(_, gone)) = monitor.step(Timestamp(500)).pop() else {
        panic!("an alarm");
    };
    let whose: Vec<_> = gone
        .into_iter()
        .map(|gone| (gone.patient, gone.at))
        .collect();
    let expected = [(named("p-1"), Timestamp(6)), (named("p-2"), Timestamp(7))];
    assert_eq!(whose, expected);
}

#[test]
fn a_device_that_was_never_seen_is_absent() {
    let mut monitor = monitor();
    assert_eq!(monitor.step(Timestamp(0)), []);
    let absent = Counts {
        absent: 1,
        ..Counts::default()
    };
    assert_eq!(monitor.counts(), absent);
}

fn id(text: &str) -> Phi<String> {
    Phi::new(text.to_owned())
}

/// Of each bed, from when on who lies in it.
fn beds(entries: &[(&str, i64, Option<&str>)]) -> Timeline {
    let mut beds = Timeline::new();
    for (bed, from, patient) in entries {
        let intervals = beds.entry((*bed).to_owned()).or_default();
        intervals.push((Timestamp(*from), patient.map(id)));
    }
    beds
}

/// Monitors `m1` and `m2` at beds `b1` and `b2`, and an analyser at none.
fn ward(entries: &[(&str, i64, Option<&str>)]) -> Monitor {
    let at =
        |name: &str, bed: Option<&str>| (name.parse().unwrap(), LIMITS, bed.map(ToOwned::to_owned));
    let mut monitor = Monitor::new(
        [at("m1", Some("b1")), at("m2", Some("b2")), at("lab", None)],
        10,
    );
    monitor.set_beds(beds(entries));
    monitor
}

/// How many signals went stale and how many alarms were over, at an instant.
fn told(monitor: &mut Monitor, at: i64) -> (usize, usize) {
    let mut told = (0, 0);
    for change in monitor.step(Timestamp(at)) {
        match change {
            Change::Stale(_, gone) => told.0 += gone.len(),
            Change::Fresh(_, signals) => told.1 += signals.len(),
            Change::Device(..) => {}
        }
    }
    told
}

#[test]
fn a_patient_who_has_left_has_no_stale_signals() {
    let heart = signal("8867-4");
    for after in [&[("b1", 50, None)][..], &[("b1", 50, Some("p-2"))]] {
        let mut monitor = ward(&[&[("b1", 0, Some("p-1"))][..], after].concat());
        monitor.stored(&device(), Timestamp(40), None, [heart]);
        assert_eq!(told(&mut monitor, 5_000), (0, 0));
    }
    // One who is there has.
    let mut monitor = ward(&[("b1", 0, Some("p-1"))]);
    monitor.stored(&device(), Timestamp(40), None, [heart]);
    assert_eq!(told(&mut monitor, 5_000), (1, 0));
    // Until it is entered, late or not, that they left.
    monitor.set_beds(beds(&[("b1", 0, Some("p-1")), ("b1", 60, None)]));
    assert_eq!(told(&mut monitor, 5_001), (0, 1));
    assert_eq!(told(&mut monitor, 9_000), (0, 0));
}

#[test]
fn a_signal_that_the_patient_in_the_bed_never_had_is_not_stale() {
    let (heart, breath) = (signal("8867-4"), signal("9279-1"));
    let mut monitor = ward(&[("b1", 0, Some("p-1")), ("b1", 50, Some("p-2"))]);
    monitor.stored(&device(), Timestamp(40), None, [heart, breath]);
    monitor.stored(&device(), Timestamp(60), None, [heart]);
    assert_eq!(told(&mut monitor, 5_000), (1, 0));
    // Nobody lay in the bed when it was measured.
    let mut monitor = ward(&[("b1", 50, Some("p-1"))]);
    monitor.stored(&device(), Timestamp(40), None, [heart]);
    assert_eq!(told(&mut monitor, 5_000), (0, 0));
}

#[test]
fn a_signal_is_the_patients_and_not_the_devices() {
    let (heart, lab) = (signal("8867-4"), "lab".parse().unwrap());
    let mut monitor = ward(&[("b1", 0, Some("p-1")), ("b2", 0, Some("p-2"))]);
    monitor.stored(&device(), Timestamp(40), None, [heart]);
    monitor.stored(&lab, Timestamp(100), Some(&id("p-1")), [heart]);
    // What another device measures of them keeps it fresh; when that stops there is one alarm.
    assert_eq!(told(&mut monitor, 160), (0, 0));
    assert_eq!(told(&mut monitor, 500), (1, 0));
    assert_eq!(told(&mut monitor, 900), (0, 0));
    // A patient whom the device names and who lies in no bed any more.
    let mut monitor = ward(&[("b1", 0, Some("p-1")), ("b1", 200, None)]);
    monitor.stored(&lab, Timestamp(100), Some(&id("p-1")), [heart]);
    assert_eq!(told(&mut monitor, 500), (0, 0));
}

#[test]
fn what_is_measured_once_never_goes_stale() {
    let mut monitor = ward(&[("b1", 0, Some("p-1"))]);
    let once = ["8302-2", "29463-7"].map(signal);
    monitor.stored(&device(), Timestamp(40), None, once);
    assert_eq!(told(&mut monitor, Timestamp::DAY_MS * 90), (0, 0));
    assert_eq!(monitor.counts().stale, 1);
}

#[test]
fn beyond_its_bound_a_device_is_followed_by_what_it_measured_last() {
    let (heart, lab): (_, DeviceId) = (signal("8867-4"), "lab".parse().unwrap());
    let mut monitor = ward(&[]);
    for number in 0..MAX_SIGNALS + 10 {
        let at = Timestamp(i64::try_from(number).unwrap());
        monitor.stored(&lab, at, Some(&id(&format!("p-{number}"))), [heart]);
    }
    let signals = &monitor.devices[&lab].signals;
    assert_eq!(signals.len(), MAX_SIGNALS);
    assert!(signals.values().all(|last| last.at >= Timestamp(10)));
}
