//! What waits for a session is bounded, whichever way it comes: what is counted is the queue, not the process.
use super::journal::Mood;
use super::wire::{Connect, LOOK, V4, V5, packet, publish, publish_with, subscribe};
use super::world::{ALARM, COMMAND, PREFIX, STATUS, TELEMETRY, World, sample, until};
use crate::{BrokerLimits, room::Load};
use bytes::Bytes;
use tokio::time::timeout;

/// A retained message as long as the store keeps.
const LONG: usize = 60_000;

fn waiting(world: &World) -> Load {
    world.broker.ctx.seats.load(&"lab-1".parse().unwrap())
}

fn within(world: &World) -> Load {
    let (load, limits) = (waiting(world), BrokerLimits::default());
    assert!(load.bytes <= limits.queue_bytes && load.messages <= limits.queue_messages);
    load
}

fn keep(world: &World, topic: &str, payload: Vec<u8>) {
    let mut kept = world.journal.kept.lock();
    kept.retained.insert(topic.into(), Bytes::from(payload));
}

#[tokio::test]
async fn subscribes_that_are_repeated_do_not_multiply_what_waits() {
    let world = World::new().await;
    for topic in [STATUS, TELEMETRY, ALARM] {
        keep(&world, topic, vec![b'x'; LONG]);
    }
    for level in [V4, V5] {
        for qos in [0, 1] {
            let mut raw = world.lab(level).await;
            let all = format!("{PREFIX}#");
            // The attack: its client reads nothing, so what it asks for waits. Where the broker stops reading too, the
            // client's socket fills, and it cannot send more: that is the bound at work.
            let hundred = subscribe(level, 1, &[(&all, qos)]).repeat(100);
            for _ in 0..444_000 / hundred.len() {
                let sent = timeout(LOOK, raw.send(&hundred)).await;
                within(&world);
                if sent.is_err() {
                    break;
                }
            }
            raw.cut().await;
            within(&world);
        }
        let mut neighbour = world.join(Connect::new(level, "lab-2")).await.0;
        neighbour.send(&packet(0xc0, &[])).await;
        neighbour.expect(&[0xd0, 0]).await;
    }
}

#[tokio::test]
async fn a_subscription_whose_retained_messages_find_no_room_is_refused_and_nothing_of_it_waits() {
    let world = World::new().await;
    for at in 0..40 {
        keep(&world, &format!("{PREFIX}config/{at}"), vec![b'x'; LONG]);
    }
    let all = format!("{PREFIX}config/#");
    for (level, code) in [(V4, 0x80), (V5, 0x97)] {
        let mut raw = world.lab(level).await;
        raw.send(&subscribe(level, 1, &[(&all, 1), (COMMAND, 1)]))
            .await;
        let suback = raw.next().await.unwrap();
        assert_eq!(suback[suback.len() - 2..], [code, 1]);
        assert_eq!(waiting(&world), Load::default());
        world
            .broker
            .publish(&format!("{PREFIX}config/1"), Bytes::from_static(b"x"));
        raw.send(&packet(0xc0, &[])).await;
        raw.expect(&[0xd0, 0]).await;
    }
}

#[tokio::test]
async fn live_messages_and_wills_count_in_the_same_bound_and_what_does_not_fit_ends_the_session() {
    let limits = BrokerLimits {
        queue_bytes: 200_000,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut connect = Connect::lasting(V5, "lab-1");
    connect.will = Some((STATUS.into(), "w".repeat(LONG), false, vec![]));
    let (mut raw, _) = world.join(connect).await;
    keep(&world, STATUS, vec![b'r'; LONG]);
    raw.send(&subscribe(V5, 1, &[(STATUS, 1), (COMMAND, 1)]))
        .await;
    raw.next().await.unwrap();
    world.broker.publish(COMMAND, Bytes::from(vec![b'l'; LONG]));
    until("retained and live wait", || waiting(&world).messages == 2).await;
    drop(raw);
    until("the will waits too", || waiting(&world).messages == 3).await;
    assert!(waiting(&world).bytes > 3 * LONG && waiting(&world).bytes <= 200_000);
    // One byte more than there is room for: nothing is missed in silence, and nothing is held for nobody.
    world.broker.publish(COMMAND, Bytes::from(vec![b'l'; LONG]));
    let (_, present) = world.join(Connect::lasting(V5, "lab-1")).await;
    assert!(!present);
    assert_eq!(waiting(&world), Load::default());
}

#[tokio::test]
async fn properties_count_and_shares_come_back_when_messages_are_acknowledged() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    raw.send(&subscribe(V5, 1, &[(STATUS, 1)])).await;
    raw.next().await.unwrap();
    let properties = [&[0x09, 0, 100][..], &[7; 100]].concat();
    raw.send(&publish_with(V5, 2, 9, STATUS, &properties, b"x"))
        .await;
    raw.expect(&[0x40, 2, 0, 9]).await;
    raw.next().await.unwrap();
    let load = waiting(&world);
    assert_eq!(load.messages, 1, "in flight it waits still");
    assert_eq!(load.bytes, 256 + STATUS.len() + 1 + properties.len());
    raw.send(&packet(0x40, &[0, 1])).await;
    until("it is given back", || waiting(&world) == Load::default()).await;
}

#[tokio::test]
async fn publishes_that_are_not_answered_are_bounded_in_bytes_and_nothing_is_lost() {
    let limits = BrokerLimits {
        unanswered_bytes: 1_000,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut raw = world.lab(V5).await;
    world.mood(Mood::Held);
    let mut bytes = Vec::new();
    for seq in 1..=60_u16 {
        bytes.extend(publish(
            V5,
            2,
            seq,
            TELEMETRY,
            sample(seq.into()).as_bytes(),
        ));
    }
    raw.send(&bytes).await;
    raw.quiet().await;
    world.mood(Mood::Well);
    for seq in 1..=60_u16 {
        let [high, low] = seq.to_be_bytes();
        raw.expect(&[0x40, 2, high, low]).await;
    }
    let most = 1 + 1_000 / sample(1).len();
    assert!(world.journal.kept.lock().largest <= most);
}
