//! Tests of the rows of reads: when they are written, what stands in them, and what bounds them.
use super::*;
use crate::intake::tests::intake;
use federation::{audit::Log, port::PortErrorKind};
use fhir::rest::{Interaction, Reader};
use fhir::store::ResourceType;
use node::health::Health;
use serde_json::Value;
use std::future::ready;
use tokio::sync::Semaphore;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn me() -> Place {
    "regional/eu/eu".parse().unwrap()
}

fn new() -> (Reads, Keeping, Health) {
    let health = Health::new();
    let check = health.optional("reads");
    let (reads, keeping) = reads(me(), Arc::new(|| NOW), check);
    (reads, keeping, health)
}

fn access() -> Access {
    let id = "3f1c9d2e-secret-pseudonym";
    Access {
        reader: Reader("dashboard".into()),
        kind: ResourceType::Observation,
        interaction: Interaction::SearchType,
        parameters: vec!["code".into(), "patient".into()],
        request: format!("Observation?code=8867-4&patient={id}"),
        patient: Some(id.parse().unwrap()),
        resources: 12,
    }
}

fn refused(reader: Option<&str>, why: Why) -> Refused {
    Refused {
        reader: reader.map(|name| Reader(name.into())),
        kind: ResourceType::Patient,
        interaction: Interaction::Read,
        why,
    }
}

fn unavailable() -> PortError {
    PortError {
        kind: PortErrorKind::Unavailable,
        op: "note",
        source: None,
    }
}

#[tokio::test]
async fn reads_wait_for_a_commit_and_those_that_wait_together_share_one() {
    let (reads, keeping, _health) = new();
    let begin = Arc::new(Semaphore::new(0));
    let commits = Arc::new(Mutex::new(Vec::new()));
    let write = {
        let (begin, commits) = (begin.clone(), commits.clone());
        move |rows: Vec<Entry>| {
            let (begin, commits) = (begin.clone(), commits.clone());
            async move {
                begin.acquire().await.unwrap().forget();
                commits.lock().push(rows.len());
                Ok(())
            }
        }
    };
    let all = MAX_COMMIT + 10;
    let mut waiting: Vec<_> = (0..all)
        .map(|_| {
            let reads = reads.clone();
            tokio::spawn(async move { reads.given(access()).await })
        })
        .collect();
    // Every row is in the queue before the first commit begins.
    while reads.queue.capacity() > MAX_WAITING - all {
        tokio::task::yield_now().await;
    }
    let keeping = tokio::spawn(keeping.keep(write, CancellationToken::new()));
    assert!(waiting.iter().all(|read| !read.is_finished()));
    begin.add_permits(1);
    for read in waiting.drain(..MAX_COMMIT) {
        assert_eq!(read.await.unwrap(), Ok(()));
    }
    assert!(waiting.iter().all(|read| !read.is_finished()));
    begin.add_permits(1);
    for read in waiting {
        assert_eq!(read.await.unwrap(), Ok(()));
    }
    assert_eq!(*commits.lock(), [MAX_COMMIT, 10]);
    drop(reads);
    assert_eq!(keeping.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_read_whose_row_is_not_written_is_refused_and_the_next_one_is_tried() {
    let (reads, keeping, health) = new();
    let works = Arc::new(Mutex::new(false));
    let tried = works.clone();
    let write = move |_| {
        ready(if *tried.lock() {
            Ok(())
        } else {
            Err(unavailable())
        })
    };
    tokio::spawn(keeping.keep(write, CancellationToken::new()));
    assert_eq!(reads.given(access()).await, Err(Unwritten));
    assert_eq!(health.degraded()[0].check, "reads");
    *works.lock() = true;
    assert_eq!(reads.given(access()).await, Ok(()));
    assert_eq!(health.degraded(), []);
}

#[tokio::test]
async fn beyond_the_bound_and_after_the_end_a_read_is_refused() {
    let (reads, keeping, _health) = new();
    let waiting: Vec<_> = (0..MAX_WAITING)
        .map(|_| {
            let reads = reads.clone();
            tokio::spawn(async move { reads.given(access()).await })
        })
        .collect();
    while reads.queue.capacity() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(reads.given(access()).await, Err(Unwritten));
    drop(keeping);
    for read in waiting {
        assert_eq!(read.await.unwrap(), Err(Unwritten));
    }
    assert_eq!(reads.given(access()).await, Err(Unwritten));
}

#[tokio::test]
async fn a_row_says_who_what_and_how_much_and_no_value_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = intake(&dir).ledger;
    ledger.begin_log().await.unwrap();
    let (reads, keeping, _health) = new();
    let written = ledger.clone();
    let write = move |rows| {
        let ledger = written.clone();
        async move { ledger.write_down(rows).await }
    };
    let keeping = tokio::spawn(keeping.keep(write, CancellationToken::new()));
    for why in [Why::Unauthenticated, Why::Unauthenticated] {
        reads.refused(refused(None, why));
    }
    reads.refused(refused(Some("dashboard"), Why::Forbidden));
    reads.given(access()).await.unwrap();
    drop(reads);
    keeping.await.unwrap().unwrap();
    let rows = rows(&dir);
    let of = |decision: &str| {
        let found = rows.iter().find(|row| row["decision"] == decision);
        found.unwrap_or_else(|| panic!("no {decision} in {rows:?}"))
    };
    let read = of("data-read");
    assert_eq!(
        ["from", "reason", "kind", "class"].map(|key| read[key].as_str().unwrap()),
        [
            "dashboard",
            "search-type",
            "Observation?code&patient",
            "pseudonymous"
        ]
    );
    assert_eq!(read["count"], 12);
    let patient = access().patient.unwrap();
    let about = federation::audit::about(&format!("Patient/{patient}"));
    assert_eq!(read["id"], about);
    let text = read.to_string();
    assert!(!text.contains("secret") && !text.contains("8867"), "{text}");
    let strangers = of("read-unauthenticated");
    assert_eq!(
        (&strangers["from"], &strangers["count"]),
        (&"".into(), &2.into())
    );
    assert_eq!(of("read-forbidden")["from"], "dashboard");
    ledger.verify().await.unwrap();
}

fn rows(dir: &tempfile::TempDir) -> Vec<Value> {
    let log = Log::open(&dir.path().join("ledger.db")).unwrap();
    let entries = log.list(0, 100).unwrap();
    let leaf = |(_, entry): &(u64, Entry)| serde_json::from_slice(&entry.encode().unwrap());
    entries.iter().map(|entry| leaf(entry).unwrap()).collect()
}

#[test]
fn what_is_given_nothing_has_a_row_an_hour_however_often_it_comes() {
    let mut tallies = Tallies::default();
    let stranger = || refused(None, Why::Unauthenticated);
    let mut rows = Vec::new();
    for second in 0..10_000 {
        for _ in 0..3 {
            tallies.add(stranger());
        }
        rows.extend(tallies.due(NOW.plus_ms(second * 1_000), false));
    }
    let counts: Vec<u32> = rows.iter().map(|(_, count)| *count).collect();
    assert_eq!(counts, [3, 10_800, 10_800]);
    let rest = tallies.due(NOW.plus_ms(10_000_000), true);
    assert_eq!(rest, [(stranger(), 30_000 - 21_603)]);
    // Another client and another reason have rows of their own.
    tallies.add(refused(Some("a"), Why::Forbidden));
    tallies.add(refused(Some("b"), Why::Forbidden));
    tallies.add(refused(Some("b"), Why::Unanswered));
    assert_eq!(tallies.due(NOW.plus_ms(10_000_000), false).len(), 3);
    // What was silent for an hour is forgotten.
    assert_eq!(tallies.due(NOW.plus_ms(20_000_000), false), []);
    assert_eq!(tallies.0.len(), 0);
}

#[test]
fn a_count_whose_row_was_not_written_is_due_again_and_a_clock_that_is_set_back_holds_nothing_up() {
    let mut tallies = Tallies::default();
    let stranger = || refused(None, Why::Unauthenticated);
    tallies.add(stranger());
    let due = tallies.due(NOW, false);
    tallies.add(stranger());
    tallies.put_back(due);
    assert_eq!(tallies.due(NOW, false), [(stranger(), 2)]);
    tallies.add(stranger());
    assert_eq!(tallies.due(NOW.plus_ms(-1), false), [(stranger(), 1)]);
}

#[test]
fn rows_of_what_is_given_nothing_are_bounded_whoever_asks() {
    let mut tallies = Tallies::default();
    for number in 0..2 * MAX_TALLIES {
        tallies.add(refused(Some(&number.to_string()), Why::Unanswered));
    }
    assert_eq!(tallies.due(NOW, false).len(), MAX_TALLIES);
}

#[test]
fn what_strangers_try_of_every_type_and_in_every_way_costs_no_client_its_rows() {
    let mut tallies = Tallies::default();
    use Interaction::{Create, Delete, HistoryInstance, Read, SearchType, Update, Vread};
    let ways = [
        Create,
        Delete,
        HistoryInstance,
        Read,
        SearchType,
        Update,
        Vread,
    ];
    assert!(ResourceType::every().count() * ways.len() > MAX_TALLIES_OF_STRANGERS);
    for kind in ResourceType::every() {
        for interaction in ways {
            tallies.add(Refused {
                kind,
                interaction,
                ..refused(None, Why::Unauthenticated)
            });
        }
    }
    tallies.add(refused(Some("a"), Why::Forbidden));
    let due = tallies.due(NOW, false);
    assert!(due.len() <= MAX_TALLIES_OF_STRANGERS + 1, "{}", due.len());
    assert!(due.contains(&(refused(Some("a"), Why::Forbidden), 1)));
}
