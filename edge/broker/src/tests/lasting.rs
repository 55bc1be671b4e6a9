//! What outlives a connection: wills, sessions, the broker's end.
use super::journal::Mood;
use super::wire::{Connect, V4, V5, got, packet, publish, subscribe};
use super::world::{COMMAND, LAB, STATUS, TELEMETRY, World, sample};
use crate::BrokerLimits;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

fn with_will(level: u8, properties: Vec<u8>) -> Connect {
    let mut connect = Connect::new(level, "lab-1");
    connect.will = Some((STATUS.into(), "gone".into(), true, properties));
    connect
}

fn death(world: &World) -> Option<Bytes> {
    world.journal.kept.lock().retained.get(STATUS).cloned()
}

#[tokio::test]
async fn a_connection_that_breaks_leaves_its_will_and_one_that_leaves_does_not() {
    for level in [V4, V5] {
        let world = World::new().await;
        let (mut raw, _) = world.join(with_will(level, vec![])).await;
        raw.send(&packet(0xe0, &[])).await;
        raw.closed().await;
        // The next connection is let in only after the old one has ended altogether.
        let (raw, _) = world.join(with_will(level, vec![])).await;
        assert_eq!(death(&world), None);
        drop(raw);
        world
            .until("the will", |kept| kept.retained.contains_key(STATUS))
            .await;
        assert_eq!(death(&world).unwrap(), "gone");
    }
}

#[tokio::test]
async fn a_v5_client_can_leave_and_ask_for_its_will() {
    for last in [&[0x04][..], &[0x04, 0][..]] {
        let world = World::new().await;
        let (mut raw, _) = world.join(with_will(V5, vec![])).await;
        raw.send(&packet(0xe0, last)).await;
        raw.closed().await;
        world
            .until("the will", |kept| kept.retained.contains_key(STATUS))
            .await;
    }
}

#[tokio::test]
async fn the_old_death_is_durable_before_the_new_birth() {
    let world = World::new().await;
    let (first, _) = world.join(with_will(V4, vec![])).await;
    world.mood(Mood::Held);
    let mut second = world.dial(LAB).await;
    second.send(&Connect::new(V4, "lab-1").bytes()).await;
    second.quiet().await;
    world.mood(Mood::Well);
    second.expect(&[0x20, 2, 0, 0]).await;
    assert_eq!(death(&world).unwrap(), "gone");
    second.send(&publish(V4, 3, 1, STATUS, b"birth")).await;
    second.expect(&[0x40, 2, 0, 1]).await;
    drop(first);
    assert_eq!(death(&world).unwrap(), "birth");
}

#[tokio::test]
async fn a_delayed_will_is_dropped_when_the_device_comes_back_to_its_session() {
    let world = World::new().await;
    let mut connect = Connect::lasting(V5, "lab-1");
    connect.will = Some((STATUS.into(), "gone".into(), true, vec![0x18, 0, 0, 0, 90]));
    drop(world.join(connect.clone()).await);
    let (raw, present) = world.join(connect.clone()).await;
    assert!(present);
    assert_eq!(death(&world), None);
    drop(raw);
    // A new session ends the old one, and with it the delay.
    connect.clean = true;
    let _raw = world.join(connect).await;
    assert_eq!(death(&world).unwrap(), "gone");
}

#[tokio::test]
async fn a_will_reaches_the_session_that_subscribed_to_it() {
    let world = World::new().await;
    let mut connect = Connect::lasting(V5, "lab-1");
    connect.will = Some((STATUS.into(), "gone".into(), false, vec![]));
    let (mut raw, _) = world.join(connect).await;
    raw.send(&subscribe(V5, 1, &[(STATUS, 1)])).await;
    raw.expect(&[0x90, 4, 0, 1, 0, 1]).await;
    drop(raw);
    let (mut raw, present) = world.join(Connect::lasting(V5, "lab-1")).await;
    assert!(present);
    let will = got(V5, &raw.next().await.unwrap());
    assert_eq!(
        (will.topic.as_str(), will.payload.as_str()),
        (STATUS, "gone")
    );
}

#[tokio::test]
async fn commands_wait_for_a_device_that_is_away_and_are_repeated_until_acknowledged() {
    for level in [V4, V5] {
        let world = World::new().await;
        let (mut raw, present) = world.join(Connect::lasting(level, "lab-1")).await;
        assert!(!present);
        raw.send(&subscribe(level, 1, &[(COMMAND, 1)])).await;
        raw.next().await.unwrap();
        world.broker.publish(COMMAND, Bytes::from_static(b"0"));
        assert_eq!(got(level, &raw.next().await.unwrap()).flags, 2);
        raw.send(&packet(0xe0, &[])).await;
        raw.closed().await;
        for at in 1..=300 {
            world.broker.publish(COMMAND, Bytes::from(at.to_string()));
        }
        let (mut raw, present) = world.join(Connect::lasting(level, "lab-1")).await;
        assert!(present);
        for at in 0..=300 {
            let command = got(level, &raw.next().await.unwrap());
            assert_eq!(command.payload, at.to_string());
            // DUP only on what was sent before.
            assert_eq!(command.flags, if at == 0 { 10 } else { 2 });
            raw.send(&packet(0x40, &command.pkid.to_be_bytes())).await;
        }
        raw.quiet().await;
        let (_, present) = world.join(Connect::new(level, "lab-1")).await;
        assert!(!present, "a clean start ends the session");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_expiry_or_at_once_without_one() {
    let limits = BrokerLimits {
        session_expiry: Duration::from_millis(50),
        ..Default::default()
    };
    let world = World::with(limits).await;
    let (mut raw, _) = world.join(Connect::lasting(V4, "lab-1")).await;
    raw.send(&packet(0xe0, &[])).await;
    raw.closed().await;
    let deadline = tokio::time::Instant::now() + super::wire::PATIENCE;
    // Each look is a new connection of the same device, which prolongs what it finds; so leave time in between.
    let mut pause = Duration::from_millis(100);
    while world.join(Connect::lasting(V4, "lab-1")).await.1 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the session never ended"
        );
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
    let world = World::new().await;
    let mut connect = Connect::new(V5, "lab-1");
    connect.clean = false;
    drop(world.join(connect.clone()).await);
    assert!(!world.join(connect).await.1);
}

#[tokio::test]
async fn a_stop_stores_and_answers_what_was_received_says_goodbye_and_ends_every_task() {
    let world = World::new().await;
    let (mut raw, _) = world.join(with_will(V5, vec![])).await;
    raw.send(&subscribe(V5, 1, &[(COMMAND, 1)])).await;
    raw.next().await.unwrap();
    let mut away = Connect::lasting(V4, "lab-2");
    away.will = None;
    drop(world.join(away).await);
    let idle = tokio::net::TcpStream::connect(world.broker.local_addr())
        .await
        .unwrap();
    world.mood(Mood::Held);
    raw.send(&publish(V5, 2, 9, TELEMETRY, sample(1).as_bytes()))
        .await;
    world.until("in hand", |kept| kept.batches == 1).await;
    world.stop.cancel();
    raw.quiet().await;
    world.mood(Mood::Well);
    raw.expect(&[0x40, 2, 0, 9]).await;
    raw.expect(&[0xe0, 2, 0x8b, 0]).await;
    raw.closed().await;
    let stopped = tokio::time::timeout(super::wire::PATIENCE, world.broker.stopped()).await;
    stopped.expect("a task did not end");
    assert_eq!(death(&world).unwrap(), "gone");
    assert_eq!(Arc::strong_count(&world.broker.ctx), 1);
    drop(idle);
    let again = tokio::net::TcpListener::bind(world.broker.local_addr()).await;
    again.expect("the port is free");
}
