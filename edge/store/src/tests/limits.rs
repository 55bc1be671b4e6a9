//! What the store refuses when it is full, and what it deletes and still knows.
use super::*;

#[tokio::test]
async fn above_its_bound_messages_are_refused_as_routine_samples_are() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.bounds = Bounds {
        max: Size(420 << 10),
        alarm_reserve: Size(200 << 10),
    };
    let store = Store::open(options).unwrap();
    let device = "m1".parse().unwrap();
    let long = bytes::Bytes::from(vec![1; 1_000]);
    let mut kept = 0;
    let refused = loop {
        let message = bytes::Bytes::from(vec![u8::try_from(kept % 251).unwrap(); 1_000]);
        match store.quarantine(&device, "malformed", message).await {
            Ok(()) => kept += 1,
            Err(error) => break error.kind,
        }
        assert!(kept < 1_000);
    };
    assert!(kept > 10);
    assert_eq!(refused, StoreErrorKind::Full);
    let status = "devices/eu/eu-f1/m1/status";
    let retained = store.retain(RetainedMessage::plain(status, long)).await;
    assert_eq!(retained.unwrap_err().kind, StoreErrorKind::Full);
    // That a device is there may be said as long as alarms may be.
    let online = bytes::Bytes::from_static(b"online");
    store
        .retain(RetainedMessage::plain(status, online))
        .await
        .unwrap();
    let alarm = Sample {
        urgency: Urgency::Alarm,
        ..sample("m1", 1)
    };
    assert_eq!(store.append(alarm).await.unwrap(), Stored::New);
    assert!(matches!(
        store.append(sample("m1", 2)).await,
        Err(Rejected::Full)
    ));
}

#[tokio::test]
async fn the_alarm_of_a_conflict_that_found_no_room_is_raised_the_next_time() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.bounds = Bounds {
        max: Size(380 << 10),
        alarm_reserve: Size(1 << 10),
    };
    let store = Store::open(options).unwrap();
    let mut last = 0;
    while store.append(sample("m1", last + 1)).await.is_ok() {
        last += 1;
    }
    // The reserve too.
    let alarm = |seq| Sample {
        urgency: Urgency::Alarm,
        ..sample("m1", seq)
    };
    while store.append(alarm(last + 1)).await.is_ok() {
        last += 1;
    }
    let mut other = sample("m1", 1);
    other.readings.pop();
    assert!(is_conflict(&store.append(other.clone()).await));
    for priority in Priority::ALL {
        let receipts = parcels(&store, priority).await;
        let receipts = receipts.iter().map(|p| receipt(p, Outcome::Accepted));
        store
            .settle(store.region(), receipts.collect())
            .await
            .unwrap();
    }
    assert_eq!(store.depths(store.region()).await.unwrap().0, [0; 3]);
    assert!(is_conflict(&store.append(other.clone()).await));
    assert!(is_conflict(&store.append(other).await));
    assert_eq!(
        store
            .depths(store.region())
            .await
            .unwrap()
            .of(Priority::Alarm),
        1
    );
}

#[tokio::test]
async fn above_its_bound_the_store_refuses_routine_samples_and_still_takes_alarms() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.bounds = Bounds {
        max: above_empty(Size(72 << 10)),
        alarm_reserve: Size(60 << 10),
    };
    let store = Store::open(options).unwrap();
    let fill = async |urgency, from: u64| {
        for seq in from..from + 10_000 {
            let sample = Sample {
                urgency,
                ..sample("m1", seq)
            };
            match store.append(sample).await {
                Ok(Stored::New) => {}
                Err(Rejected::Full) => return seq,
                other => panic!("{other:?}"),
            }
        }
        panic!("never full")
    };
    let routine = fill(Urgency::Routine, 0).await;
    assert!(routine > 10);
    assert_eq!(store.condition(), Condition::Full);
    let alarm = fill(Urgency::Alarm, routine).await;
    assert!(alarm > routine + 10);
    let size = std::fs::metadata(dir.path().join(Store::FILE))
        .unwrap()
        .len();
    assert!(size < 800 << 10, "{size}");
    // What was taken in is still there, and once.
    assert_eq!(
        store.append(sample("m1", 0)).await.unwrap(),
        Stored::Duplicate
    );
    for priority in [Priority::Alarm, Priority::Backlog] {
        for parcel in parcels(&store, priority).await {
            store
                .settle(store.region(), vec![receipt(&parcel, Outcome::Accepted)])
                .await
                .unwrap();
        }
    }
    assert_eq!(
        store.append(sample("m1", 999_999)).await.unwrap(),
        Stored::New
    );
    assert_eq!(store.condition(), Condition::Good);
}

#[tokio::test]
async fn a_log_that_a_reader_holds_counts_towards_the_bound() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.bounds.max = Size(24 << 20);
    let store = Store::open(options).unwrap();
    let reader = open_read_only(dir.path(), &Secret::new([7; 32])).unwrap();
    store.append(sample("m1", 0)).await.unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM sample").unwrap();
    let mut seq = 1;
    // Small commits: they write the same pages again and again, which the database has once and the log each time.
    while store.append(sample("m1", seq)).await.is_ok() {
        seq += 1;
        assert!(seq < 10_000);
    }
    assert_eq!(store.condition(), Condition::Full);
    let used = store.read(apply::used_bytes).await.unwrap();
    assert!(used < 16 << 20, "{used}");
    drop(reader);
    // The commit that is refused tells that the log is free again.
    let first = store.append(sample("m1", seq)).await;
    let again = store.append(sample("m1", seq)).await.unwrap();
    // Unless the log was written into the database just after the reader went.
    let stored = if first.is_ok() {
        Stored::Duplicate
    } else {
        Stored::New
    };
    assert_eq!(again, stored);
}

#[tokio::test]
async fn retention_deletes_what_is_old_and_receipted_and_still_knows_it() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for seq in 1..=3 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let waiting = parcels(&store, Priority::Backlog).await;
    store
        .settle(
            store.region(),
            vec![receipt(&waiting[1], Outcome::Accepted)],
        )
        .await
        .unwrap();
    assert_eq!(sweep(&store).await, 0, "not old");
    time.forward(2 * 86_400_000);
    store.append(sample("m1", 4)).await.unwrap();
    assert_eq!(sweep(&store).await, 1, "old and receipted");
    store.close().await;
    let store = Store::open(options(dir.path(), time)).unwrap();
    assert_eq!(sweep(&store).await, 0, "the others have no receipt");
    for seq in 1..=4 {
        assert_eq!(
            store.append(sample("m1", seq)).await.unwrap(),
            Stored::Duplicate
        );
    }
    let rows: i64 = store
        .read(|db| Ok(db.query_row("SELECT count(*) FROM sample", [], |r| r.get(0))?))
        .await
        .unwrap();
    assert_eq!(rows, 3);
}

#[tokio::test]
async fn a_step_of_retention_looks_at_a_bounded_number_of_samples() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let samples = (0..5_000).map(|seq| sample("m1", seq)).collect();
    store.append_batch(samples).await;
    time.forward(2 * 86_400_000);
    let mut looked = Vec::new();
    loop {
        let swept = store.housekeep().await.unwrap();
        looked.push(swept.looked);
        if swept.done {
            break;
        }
    }
    assert_eq!(looked, [2_000, 2_000, 1_000]);
}

#[tokio::test]
async fn what_the_region_refused_quarantined_or_stored_in_part_is_not_deleted() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for seq in 1..=4 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let waiting = parcels(&store, Priority::Backlog).await;
    let in_part = Receipt {
        stored: waiting[2].count - 1,
        ..receipt(&waiting[2], Outcome::Accepted)
    };
    let receipts = vec![
        receipt(&waiting[0], Outcome::Refused),
        receipt(&waiting[1], Outcome::Quarantined),
        in_part,
        receipt(&waiting[3], Outcome::Accepted),
    ];
    store
        .settle(store.region(), receipts.clone())
        .await
        .unwrap();
    store.settle(store.region(), receipts).await.unwrap();
    assert!(parcels(&store, Priority::Backlog).await.is_empty());
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 1, "the one that the region has");
    store.close().await;
    let store = Store::open(options(dir.path(), time)).unwrap();
    assert_eq!(sweep(&store).await, 0);
    let kept: Vec<i64> = store
        .read(|db| {
            let mut query = db.prepare("SELECT seq FROM sample ORDER BY seq")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    assert_eq!(kept, [1, 2, 3]);
    let held = store
        .read(|db| Ok(federation::outbox::held(db, 0, 9)?))
        .await;
    assert_eq!(held.unwrap().len(), 3);
}
