//! The store on real files.
mod again;
mod beds;
mod contract;
mod counting;
mod down;
mod fault;
mod leaving;
mod limits;
mod naming;
mod restarts;
mod resync;
mod retained;
mod traced;
mod view;

use super::{testbed::*, *};
use federation::{
    port::Outbox,
    wire::{Outcome, Parcel, Receipt},
};
use ingest::{Journal, Rejected, RetainedMessage, Sample, SampleReading, Stored, Urgency};
use messages::ReadingBatch;
use node::quantity::Size;
use tempfile::TempDir;
use types::{AbsentReason, Flags, Phi, Priority, Timestamp, Value};

/// A bound that leaves so much room beside what an empty store takes, however many tables it has.
fn above_empty(room: Size) -> Size {
    let dir = TempDir::new().unwrap();
    let _store = Store::open(options(dir.path(), hand())).unwrap();
    let reader = open_read_only(dir.path(), &Secret::new([7; 32])).unwrap();
    Size(apply::used_bytes(&reader).unwrap() + room.0)
}

fn store(dir: &TempDir) -> Store {
    Store::open(options(dir.path(), hand())).unwrap()
}

/// Every batch that waits, over all priorities.
async fn batches(store: &Store) -> Vec<ReadingBatch> {
    let mut batches = Vec::new();
    for priority in Priority::ALL {
        for parcel in parcels(store, priority).await {
            batches.push(opened(&parcel));
        }
    }
    store.release(store.region()).await.unwrap();
    batches
}

fn is_conflict(answer: &Result<Stored, Rejected>) -> bool {
    matches!(answer, Err(Rejected::Conflict { epoch: 1, .. }))
}

#[tokio::test]
async fn a_redelivered_sample_is_a_duplicate_and_keeps_its_uids_even_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    assert_eq!(store.append(sample("m1", 1)).await.unwrap(), Stored::New);
    let before = batches(&store).await;
    assert_eq!(
        store.append(sample("m1", 1)).await.unwrap(),
        Stored::Duplicate
    );
    store.close().await;
    let store = self::store(&dir);
    assert_eq!(
        store.append(sample("m1", 1)).await.unwrap(),
        Stored::Duplicate
    );
    assert_eq!(batches(&store).await, before);
    assert_eq!(before[0].readings.len(), 2);
    assert_ne!(before[0].readings[0].uid, before[0].readings[1].uid);
}

#[tokio::test]
async fn the_same_identity_with_another_payload_is_refused_and_raises_one_alarm() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(sample("m1", 1)).await.unwrap();
    let mut other = sample("m1", 1);
    other.readings[0].value = Value::Quantity("99".parse().unwrap());
    for _ in 0..3 {
        assert!(is_conflict(&store.append(other.clone()).await));
    }
    let alarms = parcels(&store, Priority::Alarm).await;
    assert_eq!(alarms.len(), 1);
    let alarm: ReadingBatch = opened(&alarms[0]);
    let error = messages::reading::Value::Absent("error".into());
    assert!(
        alarm
            .readings
            .iter()
            .all(|r| r.value.as_ref() == Some(&error))
    );
    assert_eq!(
        store.append(sample("m1", 1)).await.unwrap(),
        Stored::Duplicate
    );
}

#[tokio::test]
async fn a_device_may_not_use_the_epoch_of_the_edge() {
    let dir = TempDir::new().unwrap();
    let mut sample = sample("m1", 1);
    sample.epoch = EDGE_EPOCH;
    let answer = store(&dir).append(sample).await;
    assert!(matches!(answer, Err(Rejected::Invalid(_))));
}

#[tokio::test]
async fn many_callers_share_commits_and_each_sample_is_stored_once_in_its_order() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let callers = (0..8).map(|caller| {
        let store = store.clone();
        tokio::spawn(async move {
            let device = format!("d{caller}");
            let window = (0..50).map(|seq| store.append(sample(&device, seq)));
            futures_util::future::join_all(window).await
        })
    });
    for answers in futures_util::future::join_all(callers).await {
        for answer in answers.unwrap() {
            assert_eq!(answer.unwrap(), Stored::New);
        }
    }
    let batches = batches(&store).await;
    assert!(
        batches.len() < 200,
        "{} commits for 400 samples",
        batches.len()
    );
    let mut seen: std::collections::HashMap<_, Vec<String>> = Default::default();
    for batch in &batches {
        for reading in batch.readings.iter().filter(|r| r.code == "8867-4") {
            let device = batch.devices[reading.device as usize].pseudonym.clone();
            let Some(messages::reading::Value::Quantity(value)) = &reading.value else {
                panic!("a quantity")
            };
            seen.entry(device).or_default().push(value.clone());
        }
    }
    assert_eq!(seen.len(), 8);
    let expected: Vec<_> = (0..50).map(|seq| format!("0.{seq:02}")).collect();
    assert!(seen.values().all(|values| *values == expected));
}

#[tokio::test]
async fn a_batch_answers_each_sample_in_its_place() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let mut invalid = sample("m1", 2);
    invalid.readings.clear();
    let batch = vec![sample("m1", 1), invalid, sample("m1", 1), sample("m1", 3)];
    let answers = store.append_batch(batch).await;
    assert!(matches!(
        answers[..],
        [
            Ok(Stored::New),
            Err(Rejected::Invalid(_)),
            Ok(Stored::Duplicate),
            Ok(Stored::New)
        ]
    ));
}

#[test]
fn what_the_configuration_said_of_a_bed_it_cannot_say_otherwise() {
    let dir = TempDir::new().unwrap();
    drop(store(&dir));
    let mut changed = options(dir.path(), hand());
    changed.beds[0] = bed("2025-12-31T00:00:00Z", Some("p-2"));
    let error = Store::open(changed).err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::Refused);
    drop(store(&dir));
}

#[test]
fn a_wrong_key_a_lost_key_and_a_newer_schema_are_refused() {
    let dir = TempDir::new().unwrap();
    drop(store(&dir));
    let open = |key: [u8; 32]| {
        let mut options = options(dir.path(), hand());
        options.facility_key = Secret::new(key);
        Store::open(options).map(drop).map_err(|error| error.kind)
    };
    assert_eq!(open([7; 32]), Ok(()));
    assert_eq!(open([8; 32]), Err(StoreErrorKind::Refused));
    let db = open_writable(&dir);
    db.pragma_update(None, "user_version", schema::VERSION + 1)
        .unwrap();
    drop(db);
    assert_eq!(open([7; 32]), Err(StoreErrorKind::Refused));
    std::fs::remove_file(dir.path().join("store.key")).unwrap();
    assert!(open([7; 32]).is_err());
}

fn open_writable(dir: &TempDir) -> Connection {
    let file = schema::File {
        path: dir.path().join(Store::FILE),
        key: key::open_existing(dir.path(), &Secret::new([7; 32])).unwrap(),
        vfs: None,
    };
    file.open_writer().unwrap()
}

fn found(dir: &Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(needle.len()).any(|w| w == needle.as_bytes())
    })
}

const CANARIES: [&str; 5] = [
    "CANARY-MRN-p-1",
    "Canary Name",
    "CANARY-PATIENT",
    "8867-4",
    "1950-03-04",
];

async fn write_canaries(store: &Store) {
    let mut named = sample("m1", 1);
    named.patient = Some(Phi::new("CANARY-PATIENT".into()));
    store.append(named).await.unwrap();
    let message = bytes::Bytes::from_static(b"CANARY-PATIENT unreadable");
    store
        .quarantine(&"m1".parse().unwrap(), "malformed", message.clone())
        .await
        .unwrap();
    store
        .retain(RetainedMessage::plain(
            "devices/eu/eu-f1/m1/status",
            message,
        ))
        .await
        .unwrap();
}

#[tokio::test]
async fn phi_is_not_found_in_the_bytes_of_any_file_and_is_found_without_encryption() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    write_canaries(&store).await;
    let names: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(names.iter().any(|name| name == "store.db-wal"), "{names:?}");
    for canary in CANARIES {
        assert!(!found(dir.path(), canary), "{canary}");
    }
    store.close().await;
    for canary in CANARIES {
        assert!(!found(dir.path(), canary), "{canary}");
    }
    // The same rows in the clear, so that the scan itself is known to find them.
    let clear = TempDir::new().unwrap();
    let db = open_writable(&dir);
    let target = clear.path().join("clear.db");
    db.execute("ATTACH ?1 AS clear KEY ''", [target.to_str().unwrap()])
        .unwrap();
    db.query_row("SELECT sqlcipher_export('clear')", [], |_| Ok(()))
        .unwrap();
    db.execute_batch("DETACH clear").unwrap();
    for canary in CANARIES {
        assert!(found(clear.path(), canary), "{canary}");
    }
}

#[tokio::test]
async fn what_is_committed_while_the_link_is_down_is_backlog_and_alarms_go_apart() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let mut alarm = sample("m1", 3);
    alarm.urgency = Urgency::Alarm;
    store.append(sample("m1", 1)).await.unwrap();
    store.set_link(true);
    store.append(sample("m1", 2)).await.unwrap();
    store.append(alarm).await.unwrap();
    assert_eq!(store.depths(store.region()).await.unwrap().0, [1, 1, 1]);
}

#[tokio::test]
async fn what_is_measured_while_live_parcels_pile_up_is_backlog_until_they_are_receipted() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.set_link(true);
    let bound = super::parcels::MAX_LIVE_PARCELS;
    for seq in 0..bound + 3 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let live = parcels(&store, Priority::Live).await;
    assert_eq!(live.len() as u64, bound);
    assert_eq!(parcels(&store, Priority::Backlog).await.len(), 3);
    let first = receipt(&live[0], Outcome::Accepted);
    store.settle(store.region(), vec![first]).await.unwrap();
    store.append(sample("m1", bound + 3)).await.unwrap();
    assert_eq!(parcels(&store, Priority::Live).await.len(), 1);
}

#[tokio::test]
async fn a_parcel_goes_when_it_is_receipted_and_is_leased_again_after_a_broken_link() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for seq in 1..=3 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let first = parcels(&store, Priority::Backlog).await;
    assert_eq!(first.iter().map(|p| p.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(parcels(&store, Priority::Backlog).await.is_empty());
    let receipts = vec![
        receipt(&first[0], Outcome::Accepted),
        receipt(&first[1], Outcome::Quarantined),
    ];
    store
        .settle(store.region(), receipts.clone())
        .await
        .unwrap();
    store.settle(store.region(), receipts).await.unwrap();
    store.release(store.region()).await.unwrap();
    let mut again = parcels(&store, Priority::Backlog).await;
    assert_ne!(again[0].head, first[2].head, "the log has grown");
    again[0].head.clone_from(&first[2].head);
    assert_eq!(again, first[2..]);
    assert_eq!(
        store
            .depths(store.region())
            .await
            .unwrap()
            .of(Priority::Backlog),
        1
    );
}

#[tokio::test]
async fn a_new_parcel_wakes_the_uplink() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(sample("m1", 1)).await.unwrap();
    store.added(store.region()).await;
}

#[tokio::test]
async fn late_and_untrusted_readings_say_so() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    time.forward(DeviceFacts::DEFAULT_LIMITS.late_after_ms);
    store.append(sample("m1", 2)).await.unwrap();
    time.1.store(false, Ordering::Relaxed);
    store.append(sample("m1", 3)).await.unwrap();
    let flags: Vec<_> = batches(&store)
        .await
        .iter()
        .map(|b| b.readings[0].flags)
        .collect();
    let late = Flags::HISTORICAL;
    let expected = [Flags::NONE, late, late.with(Flags::CLOCK_UNTRUSTED)];
    assert_eq!(flags, expected.map(|f| u32::from(f.bits())));
}

#[tokio::test]
async fn readings_from_far_ahead_of_the_clock_say_that_their_clock_is_wrong() {
    let (dir, ahead) = (TempDir::new().unwrap(), types::Freshness::MAX_AHEAD_MS);
    let store = store(&dir);
    for (seq, ms) in [(1, ahead), (2, ahead + 1)] {
        let source_time = Timestamp(START + ms);
        let sample = Sample {
            source_time,
            ..sample("m1", seq)
        };
        store.append(sample).await.unwrap();
    }
    let batches = batches(&store).await;
    let flags: Vec<_> = batches.iter().map(|b| b.readings[0].flags).collect();
    assert_eq!(flags, [0, u32::from(Flags::CLOCK_UNTRUSTED.bits())]);
    // Remembered as of its arrival, so that it is not fresh for ever after a restart either.
    assert_eq!(store.last_values().await.unwrap()[0].at, Timestamp(START));
}

#[tokio::test]
async fn a_store_of_the_first_version_is_brought_forward() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let key = key::open_or_create(dir.path(), &Secret::new([7; 32]), system_entropy).unwrap();
    let file = schema::File {
        path: dir.path().join(Store::FILE),
        key,
        vfs: None,
    };
    let db = file.open_bare().unwrap();
    schema::make_first_version(&db).unwrap();
    db.execute_batch(&format!(
        "INSERT INTO meta VALUES ('time_ms', {START});
         INSERT INTO device (row, id, pseudonym, catalog_id) VALUES (1, 'm1', zeroblob(16), zeroblob(16));
         INSERT INTO forgotten VALUES (1, 1, 1, 9);"
    ))
    .unwrap();
    drop(db);
    assert_eq!(
        file.open_reader().err().map(|error| error.kind),
        Some(StoreErrorKind::Refused)
    );
    let store = Store::open(options(dir.path(), time)).unwrap();
    let old = store.append(sample("m1", 5)).await.unwrap();
    assert_eq!(old, Stored::Duplicate);
    let newer = Sample {
        source_time: Timestamp(START + 1),
        ..sample("m1", 5)
    };
    assert_eq!(store.append(newer).await.unwrap(), Stored::New);
    let device = store.device(&"m1".parse().unwrap()).await.unwrap();
    assert_ne!(device.shift.days(), 0);
    let alarm = parcels(&store, Priority::Alarm).await;
    let refused = receipt(&alarm[0], Outcome::Refused);
    store.settle(store.region(), vec![refused]).await.unwrap();
}

#[tokio::test]
async fn a_time_that_no_region_would_store_is_refused_at_the_door() {
    let dir = TempDir::new().unwrap();
    let mut sample = sample("m1", 1);
    sample.source_time = Timestamp(i64::MAX);
    let answer = store(&dir).append(sample).await;
    assert!(matches!(answer, Err(Rejected::Invalid(_))), "{answer:?}");
}

#[tokio::test]
async fn what_cannot_be_understood_is_kept_for_good_and_beyond_a_bound_it_is_not_taken() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let device = "m1".parse().unwrap();
    let message = |n: i32| bytes::Bytes::from(format!("{n}"));
    let keep = (0..999).map(|n| store.quarantine(&device, "malformed", message(n)));
    for kept in futures_util::future::join_all(keep).await {
        kept.unwrap();
    }
    let last = store.quarantine(&device, "malformed", message(999)).await;
    assert!(last.is_ok());
    for n in 1_000..1_003 {
        let answer = store.quarantine(&device, "malformed", message(n)).await;
        assert_eq!(answer.unwrap_err().kind, StoreErrorKind::Full);
    }
    // What was answered and comes again needs no room, and another device has room of its own.
    let again = store.quarantine(&device, "malformed", message(999)).await;
    assert!(again.is_ok());
    let neighbour = "m2".parse().unwrap();
    let other = store.quarantine(&neighbour, "malformed", message(1)).await;
    assert!(other.is_ok());
    assert_eq!(store.condition(), Condition::Good);
    let count: i64 = store
        .read(|db| {
            let sql = "SELECT count(*) FROM unreadable WHERE device = 'm1'";
            Ok(db.query_row(sql, [], |row| row.get(0))?)
        })
        .await
        .unwrap();
    assert_eq!(count, 1_000);
}

#[tokio::test]
async fn retained_messages_outlive_a_restart_and_an_empty_one_deletes() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let status = bytes::Bytes::from_static(b"online");
    for topic in [
        "devices/eu/eu-f1/m1/status",
        "devices/eu/eu-f1/m10/status",
        "devices/eu/eu-f1/m2/status",
    ] {
        let message = RetainedMessage::plain(topic, status.clone());
        store.retain(message).await.unwrap();
    }
    store
        .retain(RetainedMessage::plain(
            "devices/eu/eu-f1/m2/status",
            bytes::Bytes::new(),
        ))
        .await
        .unwrap();
    store.close().await;
    let store = self::store(&dir);
    let kept = store.retained("devices/eu/eu-f1/m1/").await.unwrap();
    let expected = RetainedMessage::plain("devices/eu/eu-f1/m1/status", status);
    assert_eq!(kept, [expected]);
    assert_eq!(store.retained("").await.unwrap().len(), 2);
}

#[tokio::test]
async fn one_topic_too_many_is_refused_and_those_that_are_there_can_change() {
    let dir = TempDir::new().unwrap();
    store(&dir).close().await;
    let db = open_writable(&dir);
    db.execute(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
         INSERT INTO retained (topic, message) SELECT 't/' || n, x'00' FROM n",
        [super::retained::MAX_ROWS],
    )
    .unwrap();
    drop(db);
    let store = self::store(&dir);
    let message = bytes::Bytes::from_static(b"online");
    let message = |topic: &str| RetainedMessage::plain(topic, message.clone());
    let refused = store.retain(message("t/new")).await.unwrap_err();
    assert_eq!(refused.kind, StoreErrorKind::Refused);
    assert_eq!(store.condition(), Condition::Good);
    store.retain(message("t/1")).await.unwrap();
    let none = RetainedMessage::plain("t/2", bytes::Bytes::new());
    store.retain(none).await.unwrap();
    store.retain(message("t/new")).await.unwrap();
    let all = store.retained("t/").await.unwrap();
    assert_eq!(all.len() as i64, super::retained::MAX_ROWS);
}

#[tokio::test]
async fn a_closed_store_refuses_and_does_not_hang() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.close().await;
    let answer = store.append(sample("m1", 1)).await;
    assert!(matches!(answer, Err(Rejected::Unavailable(_))));
    store.close().await;
}

#[tokio::test]
async fn the_last_values_and_the_alarms_about_them_are_remembered_over_a_restart() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    let before = store.last_values().await.unwrap();
    let heart = sample("m1", 1).readings.remove(0);
    let expected = LastValue {
        device: "m1".parse().unwrap(),
        signal: (heart.code, heart.unit),
        at: Timestamp(START),
        patient: None,
        alarmed: false,
    };
    assert_eq!(before, std::slice::from_ref(&expected));
    let alarm = EdgeSample {
        device: "m1".parse().unwrap(),
        source_time: Timestamp(START + 1),
        patient: None,
        owned_at: Timestamp(START),
        readings: vec![SampleReading {
            value: Value::Absent(AbsentReason::Stale),
            ..heart
        }],
    };
    assert!(store.raise(vec![alarm]).await[0].is_ok());
    store.close().await;
    let first = store.boot();
    let store = Store::open(options(dir.path(), time)).unwrap();
    assert_eq!(store.boot(), first + 1);
    let alarmed = LastValue {
        alarmed: true,
        ..expected
    };
    assert_eq!(store.last_values().await.unwrap(), [alarmed]);
}
