//! Nothing is acknowledged before the commit, everything in order, nothing twice.
use super::journal::Mood;
use super::recorder::count;
use super::wire::{Connect, Raw, V4, V5, packet, publish};
use super::world::{ALARM, STATUS, TELEMETRY, World, sample, valued};
use ingest::Urgency;
use std::sync::Arc;

async fn say(raw: &mut Raw, level: u8, flags: u8, pkid: u16, payload: &str) {
    raw.send(&publish(level, flags, pkid, TELEMETRY, payload.as_bytes()))
        .await;
}

#[tokio::test]
async fn a_publish_is_acknowledged_only_after_its_commit() {
    for level in [V4, V5] {
        for (flags, ack) in [(2, 0x40), (4, 0x50)] {
            let world = World::new().await;
            let mut raw = world.lab(level).await;
            world.mood(Mood::Held);
            say(&mut raw, level, flags, 7, &sample(1)).await;
            raw.quiet().await;
            world.mood(Mood::Well);
            raw.expect(&[ack, 2, 0, 7]).await;
            assert_eq!(world.journal.sequences(), [1]);
        }
    }
}

#[tokio::test]
async fn a_burst_is_one_commit_and_its_acknowledgements_keep_their_order() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    world.mood(Mood::Held);
    say(&mut raw, V5, 2, 1, &sample(1)).await;
    world
        .until("the first commit", |kept| kept.batches == 1)
        .await;
    let mut burst = Vec::new();
    for seq in 2..=300_u16 {
        let payload = if seq % 50 == 0 {
            "no sample".into()
        } else {
            sample(seq.into())
        };
        burst.extend(publish(V5, 2, seq, TELEMETRY, payload.as_bytes()));
    }
    burst.extend(publish(V5, 4, 301, TELEMETRY, sample(301).as_bytes()));
    burst.extend(publish(V5, 2, 302, ALARM, sample(302).as_bytes()));
    raw.send(&burst).await;
    raw.quiet().await;
    world.mood(Mood::Well);
    for seq in 1..=302_u16 {
        let [high, low] = seq.to_be_bytes();
        match seq {
            301 => raw.expect(&[0x50, 2, high, low]).await,
            seq if seq % 50 == 0 => raw.expect(&[0x40, 3, high, low, 0x99]).await,
            _ => raw.expect(&[0x40, 2, high, low]).await,
        }
    }
    let kept = world.journal.kept.lock();
    assert!(kept.batches < 10, "{} commits", kept.batches);
    assert!(kept.largest > 100, "{} samples at most", kept.largest);
    assert!(kept.samples.is_sorted_by_key(|sample| sample.seq));
    assert_eq!(kept.samples.last().unwrap().urgency, Urgency::Alarm);
}

#[tokio::test]
async fn a_full_or_absent_store_acknowledges_nothing_and_the_client_can_send_again() {
    for mood in [Mood::Full, Mood::Unavailable] {
        for flags in [2, 4] {
            let world = World::new().await;
            let mut v4 = world.lab(V4).await;
            say(&mut v4, V4, flags, 1, &sample(1)).await;
            v4.next().await.unwrap();
            world.mood(mood);
            let later = count("medmesh_mqtt_publishes_total{later}");
            let mut two = publish(V4, flags, 2, TELEMETRY, sample(2).as_bytes());
            two.extend(publish(V4, flags, 3, TELEMETRY, sample(3).as_bytes()));
            v4.send(&two).await;
            v4.closed().await;
            assert!(count("medmesh_mqtt_publishes_total{later}") >= later + 2);

            // Neither PUBACK nor PUBREC: a client that got one must not send again (MQTT-4.4.0-2).
            let mut two = publish(V5, flags, 2, TELEMETRY, sample(2).as_bytes());
            two.extend(publish(V5, flags, 3, TELEMETRY, sample(3).as_bytes()));
            let mut v5 = world.lab(V5).await;
            v5.send(&two).await;
            v5.expect(&[0xe0, 2, 0x97, 0]).await;
            v5.closed().await;
            assert_eq!(world.journal.sequences(), [1]);
            world.mood(Mood::Well);
            let ack = if flags == 2 { 0x40 } else { 0x50 };
            let mut v5 = world.lab(V5).await;
            say(&mut v5, V5, flags, 2, &sample(2)).await;
            v5.expect(&[ack, 2, 0, 2]).await;
            assert_eq!(world.journal.sequences(), [1, 2]);
        }
    }
}

#[tokio::test]
async fn the_same_identity_with_another_payload_is_refused_or_quarantined() {
    let world = World::new().await;
    let conflicts = count("medmesh_mqtt_publishes_total{conflict}");
    let mut v5 = world.lab(V5).await;
    say(&mut v5, V5, 2, 1, &sample(1)).await;
    v5.expect(&[0x40, 2, 0, 1]).await;
    say(&mut v5, V5, 2, 2, &valued(1, "141")).await;
    v5.expect(&[0x40, 3, 0, 2, 0x83]).await;
    let mut v4 = world.lab(V4).await;
    say(&mut v4, V4, 2, 3, &valued(1, "142")).await;
    v4.expect(&[0x40, 2, 0, 3]).await;
    let kept = world.journal.kept.lock();
    assert_eq!(kept.quarantined.len(), 1);
    assert_eq!(kept.quarantined[0].0, "same identity, other payload");
    assert!(count("medmesh_mqtt_publishes_total{conflict}") >= conflicts + 2);
}

#[tokio::test]
async fn what_is_not_a_sample_is_refused_or_durably_quarantined_before_its_acknowledgement() {
    let world = World::new().await;
    let mut v5 = world.lab(V5).await;
    for (flags, ack) in [(2, 0x40), (4, 0x50)] {
        say(&mut v5, V5, flags, 9, "{}").await;
        v5.expect(&[ack, 3, 0, 9, 0x99]).await;
    }
    assert!(world.journal.kept.lock().quarantined.is_empty());
    let mut v4 = world.lab(V4).await;
    world.mood(Mood::Held);
    say(&mut v4, V4, 2, 1, "{}").await;
    say(&mut v4, V4, 0, 0, "[]").await;
    v4.quiet().await;
    world.mood(Mood::Well);
    v4.expect(&[0x40, 2, 0, 1]).await;
    world
        .until("both in quarantine", |kept| kept.quarantined.len() == 2)
        .await;
    world.mood(Mood::Full);
    say(&mut v4, V4, 2, 2, "{}").await;
    v4.closed().await;
}

#[tokio::test]
async fn qos_0_is_stored_too_even_when_the_client_leaves_at_once() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    let mut bytes = Vec::new();
    for seq in 1..=50 {
        bytes.extend(publish(V4, 0, 0, TELEMETRY, sample(seq).as_bytes()));
    }
    bytes.extend(packet(0xe0, &[]));
    raw.send(&bytes).await;
    world
        .until("all stored", |kept| kept.samples.len() == 50)
        .await;
}

#[tokio::test]
async fn a_qos_2_publish_that_is_sent_again_is_stored_once() {
    for level in [V4, V5] {
        let world = World::new().await;
        let (mut raw, _) = world.join(Connect::lasting(level, "lab-1")).await;
        say(&mut raw, level, 4, 5, &sample(1)).await;
        raw.expect(&[0x50, 2, 0, 5]).await;
        say(&mut raw, level, 12, 5, &sample(1)).await;
        raw.expect(&[0x50, 2, 0, 5]).await;
        assert_eq!(world.journal.sequences(), [1]);
        drop(raw);
        let (mut raw, present) = world.join(Connect::lasting(level, "lab-1")).await;
        assert!(present);
        say(&mut raw, level, 12, 5, &sample(1)).await;
        raw.expect(&[0x50, 2, 0, 5]).await;
        raw.send(&packet(0x62, &[0, 5])).await;
        raw.expect(&[0x70, 2, 0, 5]).await;
        // The id is free again: the next publish under it is another message.
        say(&mut raw, level, 4, 5, &sample(2)).await;
        raw.expect(&[0x50, 2, 0, 5]).await;
        assert_eq!(world.journal.sequences(), [1, 2]);
        // And in a new session the identity alone tells that it was stored.
        let mut raw = world.lab(level).await;
        say(&mut raw, level, 4, 5, &sample(2)).await;
        raw.expect(&[0x50, 2, 0, 5]).await;
        assert_eq!(world.journal.sequences(), [1, 2]);
    }
}

#[tokio::test]
async fn a_release_of_an_unknown_id_is_completed_and_in_v5_says_so() {
    let world = World::new().await;
    let mut v4 = world.lab(V4).await;
    v4.send(&packet(0x62, &[0, 9])).await;
    v4.expect(&[0x70, 2, 0, 9]).await;
    let mut v5 = world.lab(V5).await;
    v5.send(&packet(0x62, &[0, 9])).await;
    v5.expect(&[0x70, 3, 0, 9, 0x92]).await;
}

#[tokio::test]
async fn more_than_the_window_waits_unread_and_nothing_is_lost() {
    let limits = crate::BrokerLimits {
        receive_maximum: 8,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut raw = world.lab(V4).await;
    world.mood(Mood::Held);
    let mut bytes = Vec::new();
    for seq in 1..=100_u16 {
        bytes.extend(publish(
            V4,
            2,
            seq,
            TELEMETRY,
            sample(seq.into()).as_bytes(),
        ));
    }
    raw.send(&bytes).await;
    raw.quiet().await;
    world.mood(Mood::Well);
    for seq in 1..=100_u16 {
        let [high, low] = seq.to_be_bytes();
        raw.expect(&[0x40, 2, high, low]).await;
    }
    assert!(world.journal.kept.lock().largest <= 8);
}

#[tokio::test]
async fn qos_2_ids_that_are_never_released_end_the_connection_at_the_limit() {
    let limits = crate::BrokerLimits {
        receive_maximum: 4,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut raw = world.lab(V5).await;
    for pkid in 1..=4_u16 {
        say(&mut raw, V5, 4, pkid, &sample(pkid.into())).await;
        raw.expect(&[0x50, 2, 0, pkid as u8]).await;
    }
    say(&mut raw, V5, 4, 5, &sample(5)).await;
    raw.expect(&[0xe0, 2, 0x93, 0]).await;
    raw.closed().await;
}

#[tokio::test]
async fn a_retained_status_is_durable_before_its_acknowledgement() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    world.mood(Mood::Held);
    raw.send(&publish(V4, 3, 1, STATUS, b"birth")).await;
    raw.quiet().await;
    world.mood(Mood::Well);
    raw.expect(&[0x40, 2, 0, 1]).await;
    assert_eq!(world.journal.kept.lock().retained[STATUS], "birth");
    world.mood(Mood::Full);
    raw.send(&publish(V4, 3, 2, STATUS, b"other")).await;
    raw.closed().await;
    assert_eq!(world.journal.kept.lock().retained[STATUS], "birth");
}

#[tokio::test]
async fn an_acknowledgement_rests_on_the_samples_identity_whichever_way_it_comes_again() {
    for (level, flags, ack) in [(V4, 2, 0x40), (V5, 2, 0x40), (V4, 4, 0x50), (V5, 4, 0x50)] {
        let world = World::new().await;
        let again = flags | 8;
        let (mut first, _) = world.join(Connect::lasting(level, "lab-1")).await;
        // Another sample under the same packet id, with DUP and without.
        for (flags, seq) in [(flags, 1), (again, 1), (flags, 2), (again, 3), (again, 1)] {
            say(&mut first, level, flags, 5, &sample(seq)).await;
            first.expect(&[ack, 2, 0, 5]).await;
        }
        // The next connection takes over the session, and with it what was not released.
        let (mut second, present) = world.join(Connect::lasting(level, "lab-1")).await;
        assert!(present);
        for (flags, seq) in [(again, 3), (again, 4), (flags, 5)] {
            say(&mut second, level, flags, 5, &sample(seq)).await;
            second.expect(&[ack, 2, 0, 5]).await;
        }
        // What the store does not take now is not acknowledged, also where the packet id was answered before.
        world.mood(Mood::Unavailable);
        say(&mut second, level, again, 5, &sample(6)).await;
        if level == V5 {
            second.expect(&[0xe0, 2, 0x97, 0]).await;
        }
        second.closed().await;
        world.mood(Mood::Well);
        world.stop.cancel();
        world.broker.stopped().await;
        // A restart forgets sessions and knows samples.
        let journal = Arc::clone(&world.journal);
        let limits = crate::BrokerLimits::default();
        let world = World::of(Arc::clone(&world.authority), journal, limits).await;
        let (mut third, present) = world.join(Connect::lasting(level, "lab-1")).await;
        assert!(!present);
        for (flags, seq) in [(again, 5), (again, 6), (flags, 7)] {
            say(&mut third, level, flags, 5, &sample(seq)).await;
            third.expect(&[ack, 2, 0, 5]).await;
        }
        assert_eq!(world.journal.sequences(), [1, 2, 3, 4, 5, 6, 7]);
    }
}
