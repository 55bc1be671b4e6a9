//! Devices whose numbers are not those that everybody expects, and a writer that ends.
use super::*;
use std::time::Duration;

/// The region takes everything that waits.
async fn take_all(store: &Store) {
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
async fn what_a_device_that_counts_down_has_sent_is_deleted_in_its_time_and_still_known() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let samples = (101..=3_100).rev().map(|seq| sample("m1", seq));
    for answer in store.append_batch(samples.collect()).await {
        assert_eq!(answer.unwrap(), Stored::New);
    }
    take_all(&store).await;
    time.forward(2 * 86_400_000);
    for seq in (1..=100).rev() {
        store.append(sample("m1", seq)).await.unwrap();
    }
    take_all(&store).await;
    assert_eq!(sweep(&store).await, 3_000);
    for seq in [1, 100, 101, 1_700, 3_100] {
        let again = store.append(sample("m1", seq)).await;
        assert_eq!(again.unwrap(), Stored::Duplicate, "{seq}");
    }
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 100);
}

#[tokio::test]
async fn numbers_in_any_order_are_deleted_by_their_arrival() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for (turn, seqs) in [[5, 900, 31], [1, 40, 1_000], [6, 899, 500]]
        .iter()
        .enumerate()
    {
        for seq in seqs {
            store.append(sample("m1", *seq)).await.unwrap();
        }
        take_all(&store).await;
        assert_eq!(sweep(&store).await, if turn == 0 { 0 } else { 3 });
        time.forward(2 * 86_400_000);
    }
    assert_eq!(sweep(&store).await, 3);
}

#[tokio::test]
async fn the_largest_number_is_stored_known_again_in_conflict_and_deleted_as_any_other() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let largest = i64::MAX.unsigned_abs();
    for seq in [largest, largest - 1, largest - 3, 0] {
        assert_eq!(store.append(sample("m1", seq)).await.unwrap(), Stored::New);
    }
    let mut other = sample("m1", largest);
    other.readings.pop();
    assert!(is_conflict(&store.append(other).await));
    let beyond = store.append(sample("m1", largest + 1)).await;
    assert!(matches!(beyond, Err(Rejected::Invalid(_))), "{beyond:?}");
    take_all(&store).await;
    time.forward(2 * 86_400_000);
    // The four, and the alarm of the conflict.
    assert_eq!(sweep(&store).await, 5);
    store.close().await;
    let store = Store::open(options(dir.path(), time)).unwrap();
    for seq in [largest, largest - 1, largest - 3, 0] {
        let again = store.append(sample("m1", seq)).await;
        assert_eq!(again.unwrap(), Stored::Duplicate, "{seq}");
    }
    assert_eq!(
        store.append(sample("m1", largest - 2)).await.unwrap(),
        Stored::New
    );
}

static ARMED: AtomicBool = AtomicBool::new(false);

/// Ends the writer's thread when it is armed.
fn deadly(bytes: &mut [u8]) {
    let of_writer = std::thread::current().name() == Some("store-writer");
    assert!(!(of_writer && ARMED.load(Ordering::SeqCst)), "on purpose");
    system_entropy(bytes);
}

#[tokio::test]
async fn the_end_of_the_writer_is_seen_and_nothing_is_acknowledged_after_it() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    options.entropy = deadly;
    let store = Store::open(options).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    let ended = store.writer_ended();
    tokio::pin!(ended);
    let now = tokio::time::timeout(Duration::from_millis(1), ended.as_mut()).await;
    assert!(now.is_err(), "it lives");
    ARMED.store(true, Ordering::SeqCst);
    // A new device: its pseudonym is drawn by the writer.
    let answer = store.append(sample("d9", 1)).await;
    assert!(
        matches!(answer, Err(Rejected::Unavailable(_))),
        "{answer:?}"
    );
    let seen = tokio::time::timeout(Duration::from_secs(60), ended).await;
    seen.expect("the end is seen");
    let answer = store.append(sample("m1", 2)).await;
    assert!(
        matches!(answer, Err(Rejected::Unavailable(_))),
        "{answer:?}"
    );
}
