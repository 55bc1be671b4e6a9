//! When a facility answers its region.
use super::*;
use federation::{
    blobs::Files,
    port::Outbox as _,
    wire::{Received, Welcome},
};
use fl::{
    order::{Aim, RoundKey},
    secagg::Member,
    wire,
};
use prost::Message as _;
use std::path::Path;
use store::testbed::{hand, options};
use types::Timestamp;

const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "zero", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

/// A facility at which nothing may be learnt, so that it declines.
fn learner(dir: &Path) -> Learner {
    learner_that(dir, "")
}

/// The same with more in its configuration.
fn learner_that(dir: &Path, more: &str) -> Learner {
    let at = dir.display();
    let text = format!(
        r#"
jurisdiction = "eu"
region = "eu"
facility = "eu-f1"
data_dir = "{at}"
key_file = "{at}/facility.key"
profiles = "{at}"
tls = {{ ca = "ca.pem", cert = "node.pem", key = "node.key", signing_key = "signing.key", crl = "crl.pem" }}
https = {{ listen = "127.0.0.1:0" }}
mqtt = {{ listen = "127.0.0.1:0" }}
uplink = {{ url = "https://127.0.0.1:1" }}
{more}
"#
    );
    let time = hand();
    let store = Store::open(options(dir, time.clone())).unwrap();
    let files = Arc::new(Files::open(&dir.join("blobs")).unwrap());
    let blobs = Arc::new(Blobs::new(store.clone(), files));
    let view = Facility {
        store,
        monitor: Arc::new(Mutex::new(crate::freshness::Monitor::new([], 0))),
        changes: crate::facility::Changes::default(),
    };
    let config = toml::from_str(&text).unwrap();
    Learner::new(config, view, blobs, time, OWN_BINARY.into())
}

/// The region is met, as by the link: it has nothing of this facility but the name of its stream.
async fn meet(store: &Store) {
    let region = store.region().clone();
    for _ in 0..4 {
        let hello = store.hello(&region).await.unwrap();
        let welcome = Welcome {
            stream: hello.stream,
            received: vec![Received::default(); 3],
            ..Welcome::default()
        };
        let said = store.resync(&region, &welcome, [3; 16]).await.unwrap();
        if said.is_none() {
            return;
        }
    }
    panic!("they do not come to agree");
}

#[tokio::test]
async fn an_ask_that_was_there_before_waits_until_the_region_was_met() {
    let dir = tempfile::tempdir().unwrap();
    let learner = learner(dir.path());
    learner.store.begin_log().await.unwrap();
    let key = RoundKey {
        study: "heart-1".parse().unwrap(),
        round: 1,
        attempt: 1,
    };
    let order = RoundOrder {
        key,
        text: STUDY.into(),
        aim: Aim::Train,
        model: vec![0.0; 2],
        large: None,
        code: None,
        signature: None,
    };
    let message = wire::ask(&order, Member(2), &Ask::Invite);
    let body = message.encode_to_vec();
    let asked = wire::read_ask(message).unwrap();
    let there = learner
        .store
        .in_commit(move |commit| rows::add(commit.tx(), &asked, &body));
    there.await.unwrap();
    let left = async || {
        let count = learner.store.in_commit(|commit| rows::waiting(commit.tx()));
        count.await.unwrap()
    };
    assert!(!learner.step_when_met().await.unwrap());
    assert_eq!(left().await, 1);
    meet(&learner.store).await;
    assert!(learner.step_when_met().await.unwrap());
    assert_eq!(left().await, 0);
}

#[tokio::test]
async fn a_study_stands_at_a_facility_as_its_rounds_do() {
    let dir = tempfile::tempdir().unwrap();
    let learner = learner(dir.path());
    learner.store.begin_log().await.unwrap();
    let stands = async |now: i64| {
        let found = learner.store.in_commit(move |commit| {
            let study = ("heart-1", STUDY);
            consent::stands(commit.tx(), study, Timestamp(0), Timestamp(now))
        });
        found.await.unwrap()
    };
    let run = async |sql: &'static str| {
        let run = learner
            .store
            .in_commit(move |commit| Ok(commit.tx().execute(sql, [])?));
        run.await.unwrap();
    };
    // A day to accept, an hour to train, half an hour of exchanges, and ten minutes of grace.
    let patience = 92_400_000;
    assert_eq!(stands(patience).await, Stands::Between);
    assert_eq!(stands(patience + 1).await, Stands::Ended);
    run("INSERT INTO study_ask (study, round, attempt, step, body) VALUES ('heart-1', 1, 1, 'invite', x'00')").await;
    assert_eq!(stands(2 * patience).await, Stands::Asked);
    run("INSERT INTO study_member (study, round, attempt, state, at_ms) VALUES ('heart-1', 1, 1, '', 0)").await;
    assert_eq!(stands(2 * patience).await, Stands::Running);
    run("DELETE FROM study_ask").await;
    run("DELETE FROM study_member").await;
    // The fifth round is the last one, and the sixth judges.
    run("INSERT INTO study_done (study, round, attempt, at_ms) VALUES ('heart-1', 5, 1, 1000)")
        .await;
    assert_eq!(stands(patience + 1_000).await, Stands::Between);
    run("INSERT INTO study_done (study, round, attempt, at_ms) VALUES ('heart-1', 6, 1, 2000)")
        .await;
    assert_eq!(stands(2_001).await, Stands::Ended);
}

#[tokio::test]
async fn studies_that_wait_for_a_person_hold_nothing_else_up() {
    let dir = tempfile::tempdir().unwrap();
    let person = r#"
[learning]
budget = { epsilon = 1.0, delta = 1e-5 }
allow = { data = [], jurisdictions = [], minimum_records = 40, minimum_participants = 3, single_updates = false, without_privacy = false }
"#;
    let learner = learner_that(dir.path(), person);
    learner.store.begin_log().await.unwrap();
    meet(&learner.store).await;
    let ask = |study: String, ask: &Ask| {
        let order = RoundOrder {
            key: RoundKey {
                study: study.parse().unwrap(),
                round: 1,
                attempt: 1,
            },
            text: STUDY.into(),
            aim: Aim::Train,
            model: vec![0.0; 2],
            large: None,
            code: None,
            signature: None,
        };
        let message = wire::ask(&order, Member(2), ask);
        let body = message.encode_to_vec();
        (wire::read_ask(message).unwrap(), body)
    };
    // As many as are looked at together, and one more that nobody has to decide.
    let mut asks: Vec<_> = (0..64)
        .map(|n| ask(format!("heart-{n}"), &Ask::Invite))
        .collect();
    asks.push(ask("lungs-1".into(), &Ask::Keys));
    let there = learner.store.in_commit(move |commit| {
        for (asked, body) in &asks {
            rows::add(commit.tx(), asked, body)?;
        }
        Ok(())
    });
    there.await.unwrap();
    assert!(learner.step().await.unwrap());
    let left = learner.store.in_commit(|commit| rows::waiting(commit.tx()));
    assert_eq!(left.await.unwrap(), 64);
    assert!(!learner.step().await.unwrap());
    // One of them is decided, and answered; the others are not looked at meanwhile.
    let decided = learner.store.in_commit(|commit| {
        let tx = commit.tx();
        tx.execute(
            "UPDATE study_consent SET decided = 'approved' WHERE study = 'heart-7'",
            [],
        )?;
        Ok(rows::pending(tx, 0, true)?.len())
    });
    assert_eq!(decided.await.unwrap(), 1);
    assert!(learner.step().await.unwrap());
    let left = learner.store.in_commit(|commit| rows::waiting(commit.tx()));
    assert_eq!(left.await.unwrap(), 63);
}

#[tokio::test]
async fn a_flood_of_studies_leaves_a_thousand_of_them_and_everything_that_a_person_said() {
    let dir = tempfile::tempdir().unwrap();
    let learner = learner(dir.path());
    learner.store.begin_log().await.unwrap();
    let flood = learner.store.in_commit(|commit| {
        let tx = commit.tx();
        let come = |study: &str, at: i64| {
            consent::decided(tx, (study, "heart", STUDY), false, Timestamp(at))
        };
        come("first", 0)?;
        come("refused", 0)?;
        tx.execute(
            "UPDATE study_consent SET decided = 'refused', by = 'jane' WHERE study = 'refused'",
            [],
        )?;
        for n in 1..=1_000 {
            come(&format!("flood-{n}"), n)?;
        }
        let count = "SELECT count(*) FROM study_consent WHERE by = ''";
        let undecided: i64 = tx.query_row(count, [], |row| row.get(0))?;
        let refused = consent::is_refused(tx, ("refused", STUDY))?;
        // It is gone, and waits anew when it comes again.
        Ok((undecided, refused, come("first", 2_000)?))
    });
    assert_eq!(flood.await.unwrap(), (1_000, true, Decided::Waiting));
}
