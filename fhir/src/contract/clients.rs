//! Promises of what clients write, and of histories.
use super::{Engine, fixture};
use crate::admit::Holding;
use crate::axis::Commits;
use crate::search::Query;
use crate::store::{
    Change, Delivery, Draft, Expect, FhirId, HistoryQuery, Kind, ResourceStore, ResourceType,
    Scope, Stored, There, Transacted, Transaction, Unmet, Versions,
};
use std::{collections::BTreeSet, sync::Arc};
use types::Timestamp;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn basic() -> ResourceType {
    ResourceType::parse("Basic").unwrap()
}

fn id(number: u32) -> FhirId {
    format!("b-{number}").parse().unwrap()
}

/// A decimal that no float keeps.
fn draft(number: u32, content: u32) -> Draft {
    let text = format!(
        r#"{{"resourceType":"Basic","code":{{"text":"{content}"}},
        "extension":[{{"url":"http://x","valueDecimal":1.500000000000000000001}}]}}"#
    );
    Draft::parse(&Holding::Identified, basic(), id(number), &text, "").unwrap()
}

fn put(number: u32, content: u32, expect: Expect) -> Change {
    Change::Put {
        draft: draft(number, content),
        expect,
    }
}

fn delete(number: u32, expect: Expect) -> Change {
    Change::Delete {
        kind: basic(),
        id: id(number),
        expect,
    }
}

async fn transact(store: &dyn ResourceStore, changes: Vec<Change>) -> Transacted {
    let transaction = Transaction {
        author: "writer".into(),
        now: NOW,
        changes,
        guards: Vec::new(),
    };
    store.transact(transaction).await.unwrap()
}

/// The versions of one change.
async fn one(store: &dyn ResourceStore, change: Change) -> (u32, bool) {
    match transact(store, vec![change]).await {
        Transacted::Done(written) => (written[0].version, written[0].existed),
        unmet => panic!("{unmet:?}"),
    }
}

fn all(scope: Scope) -> HistoryQuery {
    HistoryQuery {
        scope,
        commits: None,
        updated: None,
        there: None,
        by_id: false,
        after: None,
        count: 1_000,
    }
}

async fn versions(store: &dyn ResourceStore, mut query: HistoryQuery) -> Vec<Stored> {
    let mut found = Vec::new();
    loop {
        let page = store.history(&query).await.unwrap();
        assert!(page.versions.len() <= usize::from(query.count));
        found.extend(page.versions);
        query.after = page.next;
        if query.after.is_none() {
            return found;
        }
    }
}

pub async fn what_a_client_writes_is_read_back_and_every_version_stays(engine: &dyn Engine) {
    let store = engine.open().await;
    assert_eq!(one(&*store, put(1, 1, Expect::Absent)).await, (1, false));
    let stored = store.read(basic(), &id(1)).await.unwrap().unwrap();
    assert_eq!(stored.json, draft(1, 1).json());
    assert!(stored.json.contains("1.500000000000000000001"));
    assert_eq!(
        (stored.version, stored.updated, stored.source),
        (1, NOW, None)
    );
    assert_eq!(one(&*store, put(1, 1, Expect::Anything)).await, (1, true));
    assert_eq!(one(&*store, put(1, 2, Expect::Version(1))).await, (2, true));
    assert_eq!(one(&*store, delete(1, Expect::Version(2))).await, (3, true));
    assert_eq!(one(&*store, delete(1, Expect::Anything)).await, (3, false));
    assert_eq!(store.read(basic(), &id(1)).await.unwrap(), None);
    assert_eq!(
        store.search(&Query::all(basic())).await.unwrap().resources,
        []
    );
    assert_eq!(one(&*store, put(1, 3, Expect::Absent)).await, (4, false));
    assert_eq!(one(&*store, delete(9, Expect::Anything)).await, (0, false));
    let store = engine.open().await;
    for (version, text) in [(1, "\"1\""), (2, "\"2\""), (3, ""), (4, "\"3\"")] {
        let stored = store.vread(basic(), &id(1), version).await.unwrap();
        let stored = stored.unwrap();
        assert!(stored.json.contains(text), "{version}");
        assert_eq!(stored.is_deleted(), version == 3, "{version}");
    }
    let found = store.search(&Query::all(basic())).await.unwrap().resources;
    assert_eq!(found.len(), 1);
    let history = versions(&*store, all(Scope::Instance(basic(), id(1)))).await;
    let numbers: Vec<u32> = history.iter().map(|one| one.version).collect();
    assert_eq!(numbers, [4, 3, 2, 1]);
}

fn among(versions: &[u32]) -> Expect {
    Expect::Among(Versions::of(versions).unwrap())
}

pub async fn a_transaction_is_done_as_a_whole_or_not_at_all(engine: &dyn Engine) {
    let store = engine.open().await;
    let first = vec![put(1, 1, Expect::Absent), put(2, 1, Expect::Absent)];
    assert!(matches!(transact(&*store, first).await, Transacted::Done(done) if done.len() == 2));
    let before = store.head().await.unwrap();
    for (last, why) in [
        (put(2, 2, Expect::Absent), Unmet::Exists),
        (put(2, 2, Expect::Version(7)), Unmet::Version),
        (put(9, 2, Expect::Version(1)), Unmet::Version),
        (put(2, 2, among(&[7, 9])), Unmet::Version),
        (put(9, 2, among(&[1, 7])), Unmet::Version),
        (delete(9, Expect::Version(1)), Unmet::Version),
        (put(1, 5, Expect::Anything), Unmet::Twice),
    ] {
        let changes = vec![put(1, 2, Expect::Anything), put(3, 1, Expect::Absent), last];
        let found = transact(&*store, changes).await;
        assert_eq!(found, Transacted::Unmet { at: 2, why });
    }
    assert_eq!(store.head().await.unwrap(), before);
    assert_eq!(store.read(basic(), &id(3)).await.unwrap(), None);
    let kept = store.read(basic(), &id(1)).await.unwrap().unwrap();
    assert_eq!(kept.version, 1);
    let changes = vec![
        put(1, 2, among(&[1, 9])),
        delete(2, Expect::Anything),
        put(3, 1, Expect::Absent),
    ];
    let Transacted::Done(done) = transact(&*store, changes).await else {
        panic!("the changes are done");
    };
    assert!(done.iter().all(|one| one.head == before + 3), "{done:?}");
    assert_eq!(store.head().await.unwrap(), before + 3);
    assert_eq!(store.read(basic(), &id(2)).await.unwrap(), None);
}

/// Also of what is not there, and of what is older than the last commit.
pub async fn whoever_looks_is_told_the_last_commit_at_that_moment(engine: &dyn Engine) {
    let store = engine.open().await;
    assert_eq!(store.look(basic(), &id(1)).await.unwrap(), (None, 0));
    one(&*store, put(1, 1, Expect::Absent)).await;
    one(&*store, put(2, 1, Expect::Absent)).await;
    let (stored, head) = store.look(basic(), &id(1)).await.unwrap();
    assert_eq!((stored.unwrap().seq, head), (1, 2));
    assert_eq!(store.look(basic(), &id(3)).await.unwrap(), (None, 2));
    one(&*store, delete(1, Expect::Anything)).await;
    assert_eq!(store.look(basic(), &id(1)).await.unwrap(), (None, 3));
    // What is there already is no commit, and the last one is told.
    let same = transact(&*store, vec![put(2, 1, Expect::Anything)]).await;
    let Transacted::Done(done) = same else {
        panic!("{same:?}");
    };
    assert_eq!((done[0].seq, done[0].head), (2, 3));
}

/// What is looked at at once may be read in one statement.
pub async fn of_many_who_look_at_once_each_gets_its_own(engine: &dyn Engine) {
    const CLIENTS: u32 = 300;
    let store = engine.open().await;
    for number in (0..CLIENTS).step_by(3) {
        one(&*store, put(number, number, Expect::Absent)).await;
    }
    let head = store.head().await.unwrap();
    let clients = (0..CLIENTS).map(|number| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            // Some go away before they are answered, which costs no other its answer.
            if number % 7 == 0 {
                let id = id(number);
                let look = store.look(basic(), &id);
                drop(tokio::time::timeout(std::time::Duration::ZERO, look).await);
            }
            // Two ask for the same.
            let asked = id(number - number % 2);
            (number - number % 2, store.look(basic(), &asked).await)
        })
    });
    for client in clients.collect::<Vec<_>>() {
        let (number, looked) = client.await.unwrap();
        let (found, at) = looked.unwrap();
        assert_eq!(at, head);
        let found = found.map(|stored| (stored.id, stored.version));
        let there = number % 3 == 0;
        assert_eq!(found, there.then(|| (id(number), 1)), "{number}");
    }
}

/// What is asked at once may be done in one commit of the engine.
pub async fn of_many_at_once_each_is_done_as_if_alone_and_one_that_cannot_be_costs_no_other(
    engine: &dyn Engine,
) {
    const CLIENTS: u32 = 40;
    let store = engine.open().await;
    one(&*store, put(0, 0, Expect::Absent)).await;
    let before = store.head().await.unwrap();
    let clients = (1..=CLIENTS).map(|client| {
        let store = Arc::clone(&store);
        // Of three the first writes a resource of its own and one that all write, the second expects what is not so, and
        // the third is by a name that PostgreSQL does not keep.
        let changes = match client % 3 {
            0 => vec![
                put(client, client, Expect::Absent),
                put(0, client, Expect::Anything),
            ],
            1 => vec![
                put(client, client, Expect::Absent),
                put(1_000, client, Expect::Version(1)),
            ],
            _ => vec![put(client, client, Expect::Absent)],
        };
        let author = match client % 3 {
            2 => format!("writer\0{client}"),
            _ => format!("writer-{client}"),
        };
        tokio::spawn(async move {
            let transaction = Transaction {
                author,
                now: NOW,
                changes,
                guards: Vec::new(),
            };
            (client, store.transact(transaction).await)
        })
    });
    let (mut versions, mut seqs) = (BTreeSet::new(), BTreeSet::new());
    for client in clients.collect::<Vec<_>>() {
        let (client, done) = client.await.unwrap();
        let there = store.read(basic(), &id(client)).await.unwrap();
        let is_done = match (client % 3, done) {
            (0, Ok(Transacted::Done(written))) => {
                versions.insert(written[1].version);
                seqs.extend(written.iter().map(|one| one.seq));
                true
            }
            (1, Ok(Transacted::Unmet { at, why })) => {
                assert_eq!((at, why), (1, Unmet::Version));
                false
            }
            (2, Ok(Transacted::Done(written))) => {
                seqs.extend(written.iter().map(|one| one.seq));
                true
            }
            (2, Err(error)) => {
                assert_eq!(error.kind, Kind::Internal);
                false
            }
            (_, other) => panic!("{client}: {other:?}"),
        };
        assert_eq!(there.is_some(), is_done, "{client}");
    }
    // Every version of what all wrote is there once, and no place in the order of commits is given twice or left out.
    let all_wrote = (1..=CLIENTS).filter(|client| client % 3 == 0).count();
    let last = u32::try_from(all_wrote).unwrap() + 1;
    assert_eq!(versions, (2..=last).collect());
    assert_eq!(seqs, (before + 1..=store.head().await.unwrap()).collect());
    let history = versions_of(&*store, 0).await;
    assert_eq!(history, (1..=last).rev().collect::<Vec<_>>());
}

async fn versions_of(store: &dyn ResourceStore, number: u32) -> Vec<u32> {
    let history = versions(store, all(Scope::Instance(basic(), id(number)))).await;
    history.iter().map(|one| one.version).collect()
}

pub async fn of_clients_that_expect_the_same_one_has_its_way(engine: &dyn Engine) {
    let stores = [engine.open().await, engine.open().await];
    for round in 0..10 {
        let clients = (0..16_u32).map(|client| {
            let at = usize::try_from(client).unwrap() % stores.len();
            let store = Arc::clone(&stores[at]);
            tokio::spawn(async move {
                let change = put(round, client, Expect::Absent);
                transact(&*store, vec![change]).await
            })
        });
        let mut done = 0;
        for client in clients.collect::<Vec<_>>() {
            match client.await.unwrap() {
                Transacted::Done(_) => done += 1,
                Transacted::Unmet { why, .. } => assert_eq!(why, Unmet::Exists),
            }
        }
        assert_eq!(done, 1, "{round}");
    }
}

pub async fn what_a_facility_delivered_is_no_clients_to_change(engine: &dyn Engine) {
    let store = engine.open().await;
    let all = [
        fixture::patient(1, 1950),
        fixture::device(1),
        fixture::observation(1),
    ];
    let delivery = Delivery {
        parcel: fixture::parcel(1),
        source: fixture::source(1),
        resources: all.to_vec(),
    };
    store.apply(vec![delivery], NOW).await.unwrap();
    for delivered in all {
        let (kind, id) = (delivered.kind(), delivered.id().clone());
        let text = format!("{{\"resourceType\":\"{kind}\"}}");
        let draft = Draft::unjudged(kind, id.clone(), &text, "").unwrap();
        let expect = Expect::Anything;
        for change in [
            Change::Put {
                draft: draft.clone(),
                expect,
            },
            Change::Put {
                draft,
                expect: Expect::Version(1),
            },
            Change::Delete {
                kind,
                id: id.clone(),
                expect,
            },
        ] {
            let why = Unmet::Delivered;
            let found = transact(&*store, vec![change]).await;
            assert_eq!(found, Transacted::Unmet { at: 0, why });
        }
        let kept = store.read(kind, &id).await.unwrap().unwrap();
        assert_eq!((kept.version, kept.json.as_str()), (1, delivered.json()));
    }
}

/// Eight commits: a patient, a reading and what a client wrote; each again; a deletion; another reading.
async fn eight_commits(store: &dyn ResourceStore) {
    let deliver = async |number, resources| {
        let delivery = Delivery {
            parcel: fixture::parcel(number),
            source: fixture::source(1),
            resources,
        };
        store.apply(vec![delivery], NOW).await.unwrap();
    };
    deliver(1, vec![fixture::patient(1, 1950), fixture::observation(1)]).await;
    one(store, put(1, 1, Expect::Absent)).await;
    deliver(2, vec![fixture::patient(1, 1951), fixture::withdrawn(1)]).await;
    one(store, put(1, 2, Expect::Anything)).await;
    one(store, delete(1, Expect::Anything)).await;
    deliver(3, vec![fixture::observation(2)]).await;
}

pub async fn the_history_says_what_was_created_by_post(engine: &dyn Engine) {
    let store = engine.open().await;
    let deliver = Delivery {
        parcel: fixture::parcel(1),
        source: fixture::source(1),
        resources: vec![fixture::patient(1, 1950), fixture::observation(1)],
    };
    store.apply(vec![deliver], NOW).await.unwrap();
    let posted = Change::Put {
        draft: draft(1, 1).posted(),
        expect: Expect::Absent,
    };
    one(&*store, posted).await;
    one(&*store, put(2, 1, Expect::Absent)).await;
    one(&*store, put(1, 2, Expect::Anything)).await;
    one(&*store, delete(2, Expect::Anything)).await;
    one(&*store, put(2, 2, Expect::Absent)).await;
    one(&*store, put(2, 3, Expect::Anything)).await;
    for by_id in [false, true] {
        let query = HistoryQuery {
            by_id,
            ..all(Scope::Everything)
        };
        let page = store.history(&query).await.unwrap();
        assert_eq!(page.versions.len(), 8);
        let posted = page
            .versions
            .iter()
            .filter(|one| page.came.posted.contains(&one.seq));
        let posted: Vec<_> = posted.map(|one| (one.id.clone(), one.version)).collect();
        assert_eq!(posted, [(id(1), 1)], "{by_id}");
        let revived = page.versions.iter();
        let revived = revived.filter(|one| page.came.revived.contains(&one.seq));
        let revived: Vec<_> = revived.map(|one| (one.id.clone(), one.version)).collect();
        assert_eq!(revived, [(id(2), 3)], "{by_id}");
    }
}

pub async fn the_history_shows_every_version_once_in_either_order(engine: &dyn Engine) {
    let store = engine.open().await;
    eight_commits(&*store).await;
    let whole = versions(&*store, all(Scope::Everything)).await;
    let seqs: Vec<i64> = whole.iter().map(|one| one.seq).collect();
    assert_eq!(seqs, [8, 7, 6, 5, 4, 3, 2, 1]);
    for (kind, count) in [
        (ResourceType::Observation, 3),
        (ResourceType::Patient, 2),
        (ResourceType::Device, 0),
        (basic(), 3),
    ] {
        let found = versions(&*store, all(Scope::Type(kind))).await;
        assert_eq!(found.len(), count, "{kind}");
        assert!(found.iter().all(|one| one.kind == kind));
    }
    for by_id in [false, true] {
        for count in [1, 3] {
            let query = HistoryQuery {
                by_id,
                count,
                ..all(Scope::Everything)
            };
            let found = versions(&*store, query).await;
            let keys: BTreeSet<_> = found.iter().map(|one| one.seq).collect();
            assert_eq!((found.len(), keys.len()), (8, 8), "{by_id} {count}");
        }
    }
    let some = HistoryQuery {
        commits: Some(Commits {
            after: 3,
            until: Some(6),
        }),
        ..all(Scope::Everything)
    };
    let seqs: Vec<i64> = versions(&*store, some)
        .await
        .iter()
        .map(|one| one.seq)
        .collect();
    assert_eq!(seqs, [6, 5, 4]);
}

pub async fn a_history_shows_what_was_there_at_a_moment(engine: &dyn Engine) {
    let store = engine.open().await;
    eight_commits(&*store).await;
    let commit = There::Commit;
    for (there, until, expected) in [
        (commit(0), None, vec![8, 7, 6, 5, 4, 3, 2, 1]),
        (commit(3), Some(3), vec![3, 2, 1]),
        (commit(4), Some(4), vec![4, 3, 2]),
        (commit(5), Some(7), vec![7, 6, 5, 4, 3]),
        (commit(6), Some(6), vec![6, 5, 4]),
        // What was deleted by then was not there.
        (commit(7), Some(7), vec![5, 4]),
        (There::Time(NOW.0), None, vec![8, 5, 4]),
        (There::Time(NOW.0 - 1), None, vec![8, 7, 6, 5, 4, 3, 2, 1]),
    ] {
        for by_id in [false, true] {
            let query = HistoryQuery {
                commits: until.map(|until| Commits {
                    after: 0,
                    until: Some(until),
                }),
                there: Some(there),
                by_id,
                ..all(Scope::Everything)
            };
            let found = versions(&*store, query).await;
            let seqs: BTreeSet<i64> = found.iter().map(|one| one.seq).collect();
            let seqs: Vec<i64> = seqs.into_iter().rev().collect();
            assert_eq!(
                (found.len(), &seqs),
                (expected.len(), &expected),
                "{there:?}"
            );
        }
    }
}
