//! Retained messages with a lifetime, over restarts and with a clock that is wrong.
use super::{START, hand, options};
use crate::Store;
use ingest::{Journal, RetainedMessage};
use std::{sync::atomic::Ordering, time::Duration};
use tempfile::TempDir;

const PREFIX: &str = "devices/eu/eu-f1/m1/";

fn command(lapses_in: Option<Duration>) -> RetainedMessage {
    RetainedMessage {
        qos: 2,
        properties: vec![1, 1],
        lapses_in,
        ..RetainedMessage::plain("devices/eu/eu-f1/m1/command", b"bolus")
    }
}

#[tokio::test]
async fn a_retained_message_keeps_its_terms_and_lapses_by_the_time_that_passed_also_while_the_node_was_off()
 {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let minute = Some(Duration::from_secs(60));
    store.retain(command(minute)).await.unwrap();
    let kept = store.retained(PREFIX).await.unwrap();
    assert_eq!((kept[0].qos, &kept[0].properties[..]), (2, &[1, 1][..]));
    assert!(kept[0].lapses_in <= minute && kept[0].lapses_in.is_some());
    store.close().await;
    time.0.store(START + 59_000, Ordering::Relaxed);
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let kept = store.retained(PREFIX).await.unwrap();
    assert_eq!(kept, [command(Some(Duration::from_secs(1)))]);
    time.0.store(START + 60_000, Ordering::Relaxed);
    assert!(store.retained(PREFIX).await.unwrap().is_empty());
    store.housekeep().await.unwrap();
    // It is gone, not hidden: even a clock that goes back does not bring it back.
    time.0.store(START, Ordering::Relaxed);
    assert!(store.retained(PREFIX).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_can_lapse_is_held_back_after_a_restart_until_the_clock_is_believed() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store
        .retain(command(Some(Duration::from_secs(60))))
        .await
        .unwrap();
    let status = RetainedMessage::plain("devices/eu/eu-f1/m1/status", b"on");
    store.retain(status.clone()).await.unwrap();
    store.close().await;
    time.1.store(false, Ordering::Relaxed);
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    assert_eq!(store.retained(PREFIX).await.unwrap(), [status]);
    time.1.store(true, Ordering::Relaxed);
    assert_eq!(store.retained(PREFIX).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_put_back_does_not_prolong_a_retained_message() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store
        .retain(command(Some(Duration::from_millis(1))))
        .await
        .unwrap();
    time.0.store(START - 3_600_000, Ordering::Relaxed);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !store.retained(PREFIX).await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it never lapsed");
    }
}
