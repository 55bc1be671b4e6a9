//! The bounded run: every parser is fed its corpus and mutations of it.
use super::{TARGETS, Target, mutate::mutate};
use rand::{SeedableRng as _, rngs::StdRng};
use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::PathBuf,
    time::{Duration, Instant},
};

/// Mutations of each target in the suite.
const ROUNDS: u64 = 4_000;
/// Seconds for each target instead, where there is more time (`cargo xtask fuzz`).
const SECONDS: &str = "MEDMESH_FUZZ_SECONDS";
/// The targets that are asked for, with commas; all when it is not set.
const ASKED: &str = "MEDMESH_FUZZ_TARGETS";

fn corpus_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus"))
}

/// The inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let dir = corpus_dir().join(target.name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths: BTreeSet<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    let inputs: Vec<_> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!inputs.is_empty(), "{}: no inputs", target.name);
    inputs
}

fn feed(target: &Target, input: &[u8]) {
    let run = target.run;
    if catch_unwind(|| run(input)).is_err() {
        panic!(
            "{}: panics on {:?}",
            target.name,
            input.escape_ascii().to_string()
        );
    }
}

#[test]
fn no_parser_panics_on_mutations_of_what_it_reads() {
    let seconds = std::env::var(SECONDS)
        .ok()
        .map(|text| text.parse().unwrap());
    let asked = std::env::var(ASKED).ok();
    let wanted = |name: &str| {
        asked
            .as_ref()
            .is_none_or(|all| all.split(',').any(|it| it == name))
    };
    let mut fed = 0;
    for target in TARGETS.iter().filter(|target| wanted(target.name)) {
        let corpus = corpus(target);
        corpus.iter().for_each(|input| feed(target, input));
        let mut random = StdRng::seed_from_u64(seconds.unwrap_or(0));
        let begin = Instant::now();
        let mut round = 0;
        while seconds.map_or(round < ROUNDS, |s| begin.elapsed() < Duration::from_secs(s)) {
            feed(target, &mutate(&corpus, &mut random));
            round += 1;
        }
        println!("{}: {round} inputs", target.name);
        fed += round;
    }
    assert!(fed > 0, "nothing was fed");
}

#[test]
fn every_target_has_inputs_and_every_folder_of_inputs_a_target() {
    let folders: BTreeSet<String> = fs::read_dir(corpus_dir())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let targets: BTreeSet<String> = TARGETS.iter().map(|it| it.name.to_owned()).collect();
    assert_eq!(folders, targets);
}
