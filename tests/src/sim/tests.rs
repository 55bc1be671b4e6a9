//! The suite's share of simulation, and every failure that was found by it, by name.
use super::*;
use std::collections::BTreeSet;

/// Seeds of the suite. `MEDMESH_SIM_SEEDS=10000+50000` sweeps others, and `MEDMESH_SIM_SKIP=uB` leaves happenings out.
const SEEDS: u64 = 10_000;

/// A line that replays, if one is given.
const VARIABLE: &str = "MEDMESH_SIM";

fn report(failures: &[Failure]) -> String {
    let lines = failures.iter().map(|failure| {
        format!(
            "{VARIABLE}='{}'  # seed {}: {}\n",
            failure.line, failure.seed, failure.found
        )
    });
    lines.collect()
}

/// Named lines take turns at a hand of their own, beside the sweep.
static TURN: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

fn outcome(text: &str) -> Result<(), Found> {
    after(text, async |_| ())
}

/// Facilities of which it is said, at the end of a line that breaks no promise, that something is missing.
fn said(text: &str) -> BTreeSet<usize> {
    after(text, World::told).unwrap()
}

/// What is seen of a mesh at the end of a line that breaks no promise.
fn after<T>(text: &str, look: impl AsyncFn(&World) -> T) -> Result<T, Found> {
    let _turn = TURN.lock();
    let line: Line = text.parse().unwrap();
    let (runtime, templates) = (runtime().unwrap(), Templates::new().unwrap());
    carry_out(&line, &runtime, clock::WORKERS - 1, &templates, look).unwrap()
}

/// One more than there are cores, as each waits for the writers of its stores now and then, within what may simulate at
/// once beside the named lines.
fn threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores + 1).min(clock::WORKERS - 1)
}

#[test]
fn no_seed_breaks_a_promise() {
    let set = std::env::var("MEDMESH_SIM_SEEDS").ok();
    let range = set.and_then(|text| {
        let (first, seeds) = text.split_once('+')?;
        Some((first.parse().ok()?, seeds.parse().ok()?))
    });
    let (first, seeds) = range.unwrap_or((0, SEEDS));
    let skipped = std::env::var("MEDMESH_SIM_SKIP").unwrap_or_default();
    let sweep = Sweep {
        first,
        seeds,
        skipped: skipped.chars().filter_map(What::of).collect(),
        threads: threads(),
    };
    let failures = sweep.run().unwrap();
    assert!(failures.is_empty(), "\n{}", report(&failures));
}

#[test]
fn a_line_that_is_given_breaks_no_promise() {
    if let Ok(text) = std::env::var(VARIABLE) {
        assert_eq!(outcome(&text), Ok(()));
    }
}

#[test]
fn a_line_ends_alike_whenever_it_is_carried_out() {
    for seed in 0..3 {
        let text = draw::line(seed, &[]).to_string();
        let left = || after(&text, async |world| world.left().await.unwrap());
        assert_eq!(left(), left(), "{text}");
    }
}

/// Carries out a line that failed once.
fn holds(text: &str) {
    assert_eq!(outcome(text), Ok(()), "{text}");
}

#[test]
fn what_a_mistaken_policy_of_the_region_refused_arrives_once_it_is_mended() {
    holds("small m10 a00 .00");
    holds("small a00 m10 A01 .00 t00 M10");
}

#[test]
fn what_an_older_region_did_not_know_arrives_once_it_is_upgraded() {
    holds("small a00 q10 .00");
    holds("ward l00 q30 .00 .20 Q30");
}

#[test]
fn what_a_mistaken_policy_of_the_facility_kept_back_arrives_once_it_is_mended() {
    holds("small m00 A01 M00 A01");
}

#[test]
fn nobody_writes_into_what_is_another_facilitys() {
    holds("small a00 .00 z00");
    holds("small a01 .00 X10 z00");
    holds("mesh l00 l10 .00 .10 z00 z10");
}

#[test]
fn a_region_that_is_put_back_gets_again_what_its_facility_still_has() {
    holds("small a00 .00 c10 a00 .00 u10");
    holds("small c10 a00 .00 u10");
}

#[test]
fn a_facility_that_is_put_back_delivers_what_it_measures_afterwards() {
    holds("small c00 a00 .00 u00 a00 .00");
    holds("small c00 a00 .00 u00");
}

#[test]
fn what_nobody_has_after_a_restore_is_said() {
    holds("small c10 a00 .00 t02 u10");
}

#[test]
fn a_clinical_store_that_is_put_back_alone_gets_again_what_it_lost() {
    holds("small c10 a00 .00 U10");
}

#[test]
fn a_counter_that_restarts_within_its_epoch_loses_nothing() {
    holds("small a00 n00 a00");
    holds("small a00 .00 t02 n00 a00");
}

#[test]
fn a_counter_that_restarts_loses_nothing_when_its_facility_is_killed_before_or_after() {
    holds("small a00 n00 x00 a00");
    holds("small a00 .00 n00 a00 x00 a00 .00");
    holds("small a00 a00 .00 n00 a00 x00 g00 a00");
    holds("small a00 .00 t02 n00 x00 a00 x00 n00 a00");
}

#[test]
fn what_a_facility_kept_back_goes_before_what_its_device_measured_later() {
    holds("small m00 A01 M00 A01");
    holds("small m00 a01 p00 M00 a01 h00");
}

#[test]
fn what_a_device_sends_again_to_a_facility_that_was_put_back_is_there_once() {
    holds("small c00 a01 c00 s00 p00 u01 g01");
    holds("small a01 .00 c00 a01 .00 u00 g01");
    holds("small c00 a01 .00 u00 t02 g01");
}

#[test]
fn both_ends_that_are_put_back_at_once_go_on_and_say_what_is_missing() {
    holds("small a00 .00 C00 a00 .00 B00 a00");
    holds("small C00 a00 .00 t02 C00 a00 .00 B00 a00");
    holds("small C00 a00 .00 t02 a00 .00 B00");
}

#[test]
fn both_ends_that_are_put_back_to_the_same_moment_say_so_once_a_third_one_shows_it() {
    let said = |text| said(text).into_iter().collect::<Vec<usize>>();
    assert_eq!(
        said("ward a00 .00 a10 .10 C00 a00 .00 a10 .10 B00 a10 .10 a00 .00"),
        [0],
        "the other facility shows it"
    );
    assert_eq!(
        said("ward a00 .00 C00 l00 .00 .20 B00 .20 a00 .00"),
        [0],
        "the global node shows it"
    );
    assert_eq!(
        said("ward a00 .00 a10 .10 C00 a00 .00 a10 .10 u20 a10 .10 a00 .00"),
        Vec::<usize>::new(),
        "nothing is missing where the facilities have all of it"
    );
}

#[test]
fn a_global_node_that_is_put_back_is_told_of_every_device_again() {
    holds("ward c30 l00 l10 .00 .10 .20 u30");
    holds("mesh C00 l00 l10 .00 .10 .20 .30 u40 l00");
    holds("mesh C00 l00 .00 .20 u20");
    holds("mesh C00 l00 .00 .20 B20");
}

#[test]
fn what_was_under_way_when_a_facility_was_put_back_arrives_before_they_meet_or_never() {
    holds("small s00 c00 A00 s00 u00 .00");
    holds("small s00 c00 A00 s00 u00 L00 .00");
}

#[test]
fn what_goes_down_comes_once_and_in_order_whatever_is_killed_put_back_or_cut() {
    holds("small o00 o01 .00");
    holds("small o00 s00 d01 k00 o01 L00 .00");
    holds("small o00 s00 w00 v00 d00 x00 .00");
    holds("small c00 o00 .00 u00 o00 .00");
    holds("small c10 o00 .00 u10 o00 .00");
    holds("small C00 o00 .00 B00 o01 .00");
    holds("small f00 o01 o00 .00 F00");
    holds("small q00 o00 .00 Q00");
    holds("mesh o00 o10 .00 .10 p00 o00 t02 h00");
}
