//! What a person decides of what is held, beside the running store.
use super::*;
use federation::port::Outbox as _;
use federation::wire::{Outcome, Receipt};
use ingest::Journal as _;
use store::testbed::{START, hand, options, parcels, receipt, sample, sweep};
use store::{Holding, Store};
use tempfile::TempDir;

fn person(dir: &TempDir) -> Quarantine {
    let me: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let signer = audit::Signer::new(&me, key);
    Quarantine::of(dir.path(), &Secret::new([7; 32]), me, signer).unwrap()
}

/// The log, which its signed head covers to the last row.
async fn rows(store: &Store) -> Vec<(u64, audit::Entry)> {
    let rows = store.read(|db| {
        let me = "edge/eu/eu/eu-f1".parse().unwrap();
        let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key();
        audit::verify(db, &audit::origin(&me), &key, &[]).unwrap();
        Ok(audit::list(db, 0, 10_000)?)
    });
    rows.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_releases_and_discards_beside_a_store_that_writes_and_both_are_audited() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    for seq in 1..=3 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let refused = parcels(&store, Priority::Backlog).await;
    let refused = refused.iter().map(|parcel| Receipt {
        reason: "conflict".into(),
        ..receipt(parcel, Outcome::Refused)
    });
    store
        .settle(store.region(), refused.collect())
        .await
        .unwrap();
    let writing = tokio::spawn({
        let store = store.clone();
        async move {
            for seq in 100..300 {
                store.append(sample("m1", seq)).await.unwrap();
            }
        }
    });
    let mut person = person(&dir);
    let mut numbers = Vec::new();
    person.parcels(|held| numbers.push(held.number)).unwrap();
    let now = Timestamp(START);
    let released = person.release(numbers[0], now).unwrap();
    assert!(matches!(released, Decided::Done(..)));
    let discarded = person.discard(numbers[1], now).unwrap();
    assert!(matches!(discarded, Decided::Done(..)));
    writing.await.unwrap();
    assert_eq!(store.ship_again().await.unwrap(), 1);
    for parcel in parcels(&store, Priority::Backlog).await {
        let taken = receipt(&parcel, Outcome::Accepted);
        store.settle(store.region(), vec![taken]).await.unwrap();
    }
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 202, "all but the one that is held");
    let rows = rows(&store).await;
    let count = |one: audit::Decision| {
        let of = rows.iter().filter(|(_, row)| row.decision() == one);
        of.count()
    };
    assert_eq!(count(audit::Decision::Released), 1);
    assert_eq!(count(audit::Decision::Discarded), 1);
}

#[tokio::test]
async fn a_message_that_could_not_be_understood_is_held_shown_and_given_up() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(options(dir.path(), hand())).unwrap();
    let device = "m1".parse().unwrap();
    let message = bytes::Bytes::from_static(b"{\"not\": \"a sample\"}");
    store
        .quarantine(&device, "unknown code", message.clone())
        .await
        .unwrap();
    let held = Holding {
        parcels: false,
        messages: true,
    };
    assert_eq!(store.holding().await.unwrap(), held);
    let mut person = person(&dir);
    let mut found = Vec::new();
    person.messages(|message| found.push(message)).unwrap();
    let number = found[0].number;
    assert_eq!(
        (found.len(), found[0].device.as_str(), found[0].bytes),
        (1, "m1", message.len() as u64)
    );
    let (_, content) = person.message(number).unwrap().unwrap();
    assert_eq!(content, message);
    assert!(person.discard_message(number, Timestamp(START)).unwrap());
    let (_, last) = rows(&store).await.pop().unwrap();
    assert_eq!(last.decision(), audit::Decision::Discarded);
    assert!(!person.discard_message(number, Timestamp(START)).unwrap());
    assert_eq!(store.holding().await.unwrap(), Holding::default());
}
