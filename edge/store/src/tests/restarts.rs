//! A device's counter that restarts in the same epoch: nothing of it is lost, and somebody is told once.
use super::*;

/// A sample of device `m1` whose value says which one it is.
fn measured(seq: u64, ms: i64) -> Sample {
    let mut sample = Sample {
        source_time: Timestamp(START + ms),
        ..sample("m1", seq)
    };
    sample.readings[0].value = Value::Quantity(types::Decimal::from_parts(ms, -3));
    sample
}

async fn give(store: &Store, sample: Sample) -> Stored {
    store.append(sample).await.unwrap()
}

/// How many samples are stored, and how many alarms the edge raised.
async fn stored(store: &Store) -> (i64, i64) {
    store
        .read(|db| {
            let sql = "SELECT count(*) FILTER (WHERE epoch <> ?1), count(*) FILTER (WHERE epoch = ?1) FROM sample";
            let counts = db.query_row(sql, [EDGE_EPOCH], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(counts)
        })
        .await
        .unwrap()
}

async fn receipt_all(store: &Store) {
    for priority in Priority::ALL {
        let receipts = parcels(store, priority).await;
        let receipts = receipts.iter().map(|p| receipt(p, Outcome::Accepted));
        store
            .settle(store.region(), receipts.collect())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_counter_that_restarts_in_its_epoch_loses_nothing_and_raises_one_alarm_a_run() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let count = 1_500;
    for run in 0..3_i64 {
        let samples = (1..=count).map(|seq| measured(seq, run * 10_000 + seq.cast_signed()));
        for answer in store.append_batch(samples.collect()).await {
            assert_eq!(answer.unwrap(), Stored::New);
        }
        assert_eq!(stored(&store).await, (1_500 * (run + 1), run));
    }
    // Whatever comes again is known, of whichever run it is, also after a start.
    store.close().await;
    let store = self::store(&dir);
    for run in 0..3_i64 {
        for seq in [1, 2, 700, count] {
            let again = measured(seq, run * 10_000 + seq.cast_signed());
            assert_eq!(give(&store, again).await, Stored::Duplicate, "{run} {seq}");
        }
    }
    assert_eq!(stored(&store).await, (4_500, 2));
    // It goes on in its last run.
    assert_eq!(give(&store, measured(count + 1, 22_000)).await, Stored::New);
    assert_eq!(stored(&store).await, (4_501, 2));
}

#[tokio::test]
async fn a_counter_that_stands_still_loses_nothing_and_raises_one_alarm() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for ms in 0..200 {
        assert_eq!(give(&store, measured(1, ms)).await, Stored::New);
    }
    assert_eq!(stored(&store).await, (200, 1));
    assert_eq!(give(&store, measured(1, 100)).await, Stored::Duplicate);
    // It counts again, and restarts once more: that is another fault.
    for (seq, ms) in [(2, 300), (3, 310), (1, 320)] {
        assert_eq!(give(&store, measured(seq, ms)).await, Stored::New);
    }
    assert_eq!(stored(&store).await, (203, 2));
}

/// Rows that are kept of the runs of a counter, and of what was deleted.
async fn kept_of_runs(store: &Store) -> (i64, i64) {
    let count = |db: &Connection, sql| db.query_row(sql, [], |row| row.get(0));
    store
        .read(move |db| {
            let runs = count(db, "SELECT count(*) FROM run")?;
            Ok((runs, count(db, "SELECT count(*) FROM forgotten")?))
        })
        .await
        .unwrap()
}

#[tokio::test]
async fn a_counter_that_stands_still_makes_two_runs_however_long_it_does() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let mut store = Store::open(options(dir.path(), time.clone())).unwrap();
    for half in 0..2 {
        let samples = (0..600).map(|ms| measured(1, 2 * (half * 600 + ms)));
        for answer in store.append_batch(samples.collect()).await {
            assert_eq!(answer.unwrap(), Stored::New);
        }
        // Nobody is told again when the node starts again.
        store.close().await;
        store = Store::open(options(dir.path(), time.clone())).unwrap();
        assert_eq!(stored(&store).await, (600 * (half + 1), 1));
        assert_eq!(kept_of_runs(&store).await, (3, 0));
    }
    for ms in [0, 2, 4, 1_000, 2_398] {
        assert_eq!(
            give(&store, measured(1, ms)).await,
            Stored::Duplicate,
            "{ms}"
        );
    }
    // Another payload of the same instant is refused, and one that comes late is stored.
    let mut other = measured(1, 1_000);
    other.readings[0].value = Value::Absent(AbsentReason::Error);
    assert!(is_conflict(&store.append(other).await));
    assert_eq!(give(&store, measured(1, 1_001)).await, Stored::New);
    assert_eq!(give(&store, measured(1, 1_001)).await, Stored::Duplicate);
    // What is deleted is remembered in as few rows, and is never taken for another sample.
    receipt_all(&store).await;
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 1_203);
    let (_, forgotten) = kept_of_runs(&store).await;
    assert!(forgotten <= 4, "{forgotten}");
    assert!(is_conflict(&store.append(measured(1, 1_002)).await));
    assert_eq!(give(&store, measured(1, 3_000)).await, Stored::New);
    assert_eq!(give(&store, measured(2, 3_001)).await, Stored::New);
    assert_eq!(kept_of_runs(&store).await.0, 3);
}

#[tokio::test]
async fn the_readings_of_every_run_say_the_epoch_of_the_device() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for (seq, ms) in [(1, 0), (2, 10), (1, 20), (2, 30)] {
        assert_eq!(give(&store, measured(seq, ms)).await, Stored::New);
    }
    let keys: Vec<(i64, i64)> = store
        .read(|db| {
            let mut query =
                db.prepare("SELECT epoch, seq FROM sample WHERE epoch <> ?1 ORDER BY epoch, seq")?;
            let rows = query.query_map([EDGE_EPOCH], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    let said: Vec<_> = keys
        .iter()
        .map(|(epoch, seq)| (run_and_epoch(*epoch), *seq))
        .collect();
    assert_eq!(said, [((0, 1), 1), ((0, 1), 2), ((1, 1), 1), ((1, 1), 2)]);
}

#[tokio::test]
async fn a_late_sample_of_the_run_before_is_stored_there() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for (seq, ms) in [(1, 0), (2, 10), (4, 30), (1, 100)] {
        assert_eq!(give(&store, measured(seq, ms)).await, Stored::New);
    }
    assert_eq!(give(&store, measured(3, 20)).await, Stored::New);
    assert_eq!(give(&store, measured(3, 120)).await, Stored::New);
    assert_eq!(give(&store, measured(3, 20)).await, Stored::Duplicate);
    assert_eq!(stored(&store).await, (6, 1));
}

#[tokio::test]
async fn a_counter_that_restarts_with_its_clock_is_refused_with_one_alarm_and_not_acknowledged() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for seq in 1..=100 {
        give(&store, measured(seq, seq.cast_signed())).await;
    }
    let reset = |seq: u64| measured(seq, seq.cast_signed() - 1_000_000);
    for seq in 1..=100 {
        assert!(is_conflict(&store.append(reset(seq)).await));
    }
    assert_eq!(stored(&store).await, (100, 1));
    // The same when what was stored is long deleted: a digest is not needed to see that it was never measured then.
    receipt_all(&store).await;
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 101);
    assert!(is_conflict(&store.append(reset(1)).await));
    assert_eq!(give(&store, measured(1, 1)).await, Stored::Duplicate);
    assert_eq!(
        stored(&store).await,
        (0, 0),
        "one alarm, which is deleted too"
    );
}

#[tokio::test]
async fn a_counter_that_restarts_among_forgotten_numbers_begins_a_run() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for seq in 1..=3 {
        give(&store, measured(seq, 0)).await;
    }
    receipt_all(&store).await;
    let later = 2 * 86_400_000;
    time.forward(later);
    assert_eq!(sweep(&store).await, 3);
    store.close().await;
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    assert_eq!(give(&store, measured(2, 0)).await, Stored::Duplicate);
    for seq in 1..=3 {
        assert_eq!(give(&store, measured(seq, later)).await, Stored::New);
        assert_eq!(give(&store, measured(seq, later)).await, Stored::Duplicate);
        assert_eq!(give(&store, measured(seq, 0)).await, Stored::Duplicate);
    }
    assert_eq!(stored(&store).await, (3, 1));
    // And the run that is forgotten in its turn.
    receipt_all(&store).await;
    time.forward(later);
    assert_eq!(sweep(&store).await, 4);
    assert_eq!(give(&store, measured(2, later)).await, Stored::Duplicate);
    assert_eq!(give(&store, measured(2, 2 * later)).await, Stored::New);
}

#[tokio::test]
async fn a_run_that_finds_no_room_is_not_begun_and_not_acknowledged() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.bounds = Bounds {
        max: Size(384 << 10),
        alarm_reserve: Size(64 << 10),
    };
    let store = Store::open(options).unwrap();
    let mut last = 0;
    while store
        .append(measured(last + 1, last.cast_signed()))
        .await
        .is_ok()
    {
        last += 1;
    }
    for _ in 0..3 {
        let answer = store.append(measured(1, 1_000_000)).await;
        assert!(matches!(answer, Err(Rejected::Full)), "{answer:?}");
    }
    assert_eq!(stored(&store).await.1, 0);
    receipt_all(&store).await;
    assert_eq!(give(&store, measured(1, 1_000_000)).await, Stored::New);
    assert_eq!(stored(&store).await.1, 1);
}
