//! The ten defects of rumqttd's own listeners, each shown to be absent from this broker.
use super::wire::{Connect, PATIENCE, V4, V5, got, packet, publish, publish_with, subscribe, text};
use super::world::{COMMAND, PREFIX, STATUS, TELEMETRY, World, sample};
use crate::BrokerLimits;
use bytes::Bytes;
use std::sync::Arc;
use tokio::net::TcpStream;

#[tokio::test]
async fn defect_1_idle_connections_block_nobody() {
    let limits = BrokerLimits {
        handshakes: 256,
        ..Default::default()
    };
    let world = World::with(limits.clone()).await;
    let mut idle = Vec::new();
    // More than there are places for who is not known yet.
    let begun = std::time::Instant::now();
    for _ in 0..limits.handshakes + 20 {
        idle.push(TcpStream::connect(world.broker.local_addr()).await.unwrap());
    }
    let mut raw = world.lab(V4).await;
    raw.send(&packet(0xc0, &[])).await;
    raw.expect(&[0xd0, 0]).await;
    assert!(
        begun.elapsed() < limits.connect_timeout,
        "they were waited for"
    );
}

#[tokio::test]
async fn defect_1_a_peer_that_never_finishes_connecting_is_closed_in_time() {
    let limits = BrokerLimits {
        connect_timeout: std::time::Duration::from_millis(100),
        handshakes: 2,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut silent = world.dial(super::world::LAB).await;
    silent.closed().await;
    let mut half = world.dial(super::world::LAB).await;
    half.send(&Connect::new(V5, "lab-1").bytes()[..9]).await;
    half.closed().await;
}

#[tokio::test]
async fn defect_2_no_topic_alias_is_offered_taken_or_used() {
    let world = World::new().await;
    let mut connect = Connect::new(V5, "lab-1");
    connect.properties = vec![0x22, 0, 10];
    let (mut raw, _) = world.join(connect).await;
    raw.send(&subscribe(V5, 1, &[(&format!("{PREFIX}#"), 0)]))
        .await;
    raw.next().await.unwrap();
    for name in ["command", "a", "a", "b", "a"] {
        let topic = format!("{PREFIX}{name}");
        world.broker.publish(&topic, Bytes::from_static(b"x"));
        assert_eq!(got(V5, &raw.next().await.unwrap()).topic, topic);
    }
    let alias = [0x23, 0, 1];
    raw.send(&publish_with(
        V5,
        2,
        1,
        TELEMETRY,
        &alias,
        sample(1).as_bytes(),
    ))
    .await;
    raw.expect(&[0xe0, 2, 0x94, 0]).await;
    raw.closed().await;
    assert!(world.journal.sequences().is_empty());
}

#[tokio::test]
async fn defect_3_properties_of_a_v5_publish_reach_a_v5_subscriber_and_harm_no_v4_one() {
    let world = World::new().await;
    let (mut raw, _) = world.join(Connect::lasting(V5, "lab-1")).await;
    raw.send(&subscribe(V5, 1, &[(TELEMETRY, 1)])).await;
    raw.next().await.unwrap();
    let mut properties = vec![0x01, 1, 0x02, 0, 0, 0, 9, 0x26];
    properties.extend(text("patient"));
    properties.extend(text("Jane Doe"));
    for block in [0x03, 0x08, 0x09] {
        properties.push(block);
        properties.extend(text("x"));
    }
    raw.send(&publish_with(
        V5,
        2,
        7,
        TELEMETRY,
        &properties,
        sample(1).as_bytes(),
    ))
    .await;
    raw.expect(&[0x40, 2, 0, 7]).await;
    let here = got(V5, &raw.next().await.unwrap());
    let (expiry, others) = here.properties.split_at(5);
    assert_eq!(expiry, [2, 0, 0, 0, 9]);
    let sent = [&properties[..2], &properties[7..]].concat();
    assert_eq!(others, sent, "unaltered and in their order");
    drop(raw);
    let (mut raw, present) = world.join(Connect::lasting(V4, "lab-1")).await;
    assert!(present);
    let there = got(V4, &raw.next().await.unwrap());
    assert_eq!((&there.payload, &here.payload), (&sample(1), &sample(1)));
    raw.send(&packet(0xc0, &[])).await;
    raw.expect(&[0xd0, 0]).await;
}

#[tokio::test]
async fn defect_4_every_retained_message_arrives_and_before_any_live_one() {
    let world = World::new().await;
    for at in 0..600 {
        let topic = format!("{PREFIX}config/{at:03}");
        world
            .journal
            .kept
            .lock()
            .retained
            .insert(topic, Bytes::from(at.to_string()));
    }
    for (level, qos) in [(V4, 0), (V4, 1), (V5, 0), (V5, 1), (V5, 2)] {
        // They were put into the journal at QoS 1.
        let mut raw = world.lab(level).await;
        raw.send(&subscribe(level, 1, &[(&format!("{PREFIX}config/#"), qos)]))
            .await;
        assert_eq!(raw.next().await.unwrap()[0], 0x90);
        world
            .broker
            .publish(&format!("{PREFIX}config/live"), Bytes::from_static(b"live"));
        for at in 0..600 {
            let message = got(level, &raw.next().await.unwrap());
            assert_eq!(message.payload, at.to_string());
            assert_eq!(
                message.flags,
                qos.min(1) << 1 | 1,
                "retain flag, QoS at most 1"
            );
            if message.pkid != 0 {
                raw.send(&packet(0x40, &message.pkid.to_be_bytes())).await;
            }
        }
        let live = got(level, &raw.next().await.unwrap());
        assert_eq!((live.payload.as_str(), live.flags & 1), ("live", 0));
    }
}

#[tokio::test]
async fn defect_5_what_is_lost_beyond_the_limit_ends_the_session_for_all_to_see() {
    let limits = BrokerLimits {
        queue_messages: 50,
        ..Default::default()
    };
    let world = World::with(limits).await;
    for (commands, kept) in [(50, true), (51, false)] {
        let mut raw = world.lab(V4).await;
        raw.send(&packet(0xe0, &[])).await;
        raw.closed().await;
        let (mut raw, _) = world.join(Connect::lasting(V4, "lab-1")).await;
        raw.send(&subscribe(V4, 1, &[(COMMAND, 1)])).await;
        raw.next().await.unwrap();
        raw.send(&packet(0xe0, &[])).await;
        raw.closed().await;
        for at in 0..commands {
            world.broker.publish(COMMAND, Bytes::from(at.to_string()));
        }
        let (mut raw, present) = world.join(Connect::lasting(V4, "lab-1")).await;
        if kept {
            assert!(present);
            for at in 0..commands {
                let command = got(V4, &raw.next().await.unwrap());
                assert_eq!(command.payload, at.to_string());
                raw.send(&packet(0x40, &command.pkid.to_be_bytes())).await;
            }
            continue;
        }
        // Present or not, the loss is not silent: the session is gone at the latest now.
        if present {
            while raw.next().await.is_some() {}
            assert!(!world.join(Connect::lasting(V4, "lab-1")).await.1);
        }
    }
}

#[tokio::test]
async fn defect_6_retained_messages_survive_the_process_and_sessions_say_that_they_did_not() {
    let world = World::new().await;
    let (mut raw, _) = world.join(Connect::lasting(V4, "lab-1")).await;
    raw.send(&publish(V4, 3, 1, STATUS, b"birth")).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    world.stop.cancel();
    world.broker.stopped().await;
    let journal = Arc::clone(&world.journal);
    let world = World::of(
        Arc::clone(&world.authority),
        journal,
        BrokerLimits::default(),
    )
    .await;
    let (mut raw, present) = world.join(Connect::lasting(V4, "lab-1")).await;
    assert!(!present);
    raw.send(&subscribe(V4, 1, &[(STATUS, 0)])).await;
    raw.next().await.unwrap();
    assert_eq!(got(V4, &raw.next().await.unwrap()).payload, "birth");
}

#[tokio::test]
async fn defect_7_no_filter_reaches_another_device_and_the_others_of_the_packet_are_granted() {
    let world = World::new().await;
    let foreign = "devices/us/us-f1/lab-2/telemetry";
    world
        .journal
        .kept
        .lock()
        .retained
        .insert(foreign.into(), Bytes::from_static(b"secret"));
    let all = format!("{PREFIX}#");
    let shared = format!("$share/g/{COMMAND}");
    let filters = [
        ("#", 0x87),
        (all.as_str(), 1),
        ("devices/#", 0x87),
        ("devices/+/us-f1/lab-1/command", 0x87),
        ("+/+/+/+/+", 0x87),
        (foreign, 0x87),
        ("$SYS/#", 0x87),
        (shared.as_str(), 0x9e),
        ("devices/us/us-f1/lab-1/x#", 0x8f),
        (COMMAND, 1),
    ];
    for level in [V4, V5] {
        let mut raw = world.lab(level).await;
        let asked = filters.map(|(filter, _)| (filter, 1));
        raw.send(&subscribe(level, 3, &asked)).await;
        let suback = raw.next().await.unwrap();
        let codes = filters.map(|(_, code)| if level == V4 && code > 2 { 0x80 } else { code });
        assert_eq!(suback[suback.len() - filters.len()..], codes);
        world.broker.publish(foreign, Bytes::from_static(b"secret"));
        let mut neighbour = world.join(Connect::new(level, "lab-2")).await.0;
        neighbour
            .send(&publish(level, 2, 1, foreign, sample(1).as_bytes()))
            .await;
        neighbour.next().await.unwrap();
        raw.quiet().await;
    }
}

#[tokio::test]
async fn defect_7_a_publish_on_a_foreign_topic_is_refused_and_not_stored() {
    let world = World::new().await;
    for topic in ["devices/us/us-f1/lab-2/telemetry", COMMAND, "x", "$SYS/x"] {
        let mut v5 = world.lab(V5).await;
        for (flags, ack) in [(2, 0x40), (4, 0x50)] {
            v5.send(&publish(V5, flags, 1, topic, sample(1).as_bytes()))
                .await;
            v5.expect(&[ack, 3, 0, 1, 0x87]).await;
        }
        let mut v4 = world.lab(V4).await;
        v4.send(&publish(V4, 2, 1, topic, sample(1).as_bytes()))
            .await;
        v4.closed().await;
    }
    assert!(world.journal.kept.lock().samples.is_empty());
}

// Defect 8 (the hook sees no certificate, a refusal has no CONNACK): `admitting`.

#[tokio::test]
async fn defect_9_an_empty_message_deletes_the_retained_one_only_with_the_retain_flag() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    raw.send(&publish(V4, 3, 1, STATUS, b"birth")).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    raw.send(&publish(V4, 2, 2, STATUS, b"")).await;
    raw.expect(&[0x40, 2, 0, 2]).await;
    assert!(world.journal.kept.lock().retained.contains_key(STATUS));
    raw.send(&publish(V4, 3, 3, STATUS, b"")).await;
    raw.expect(&[0x40, 2, 0, 3]).await;
    assert!(!world.journal.kept.lock().retained.contains_key(STATUS));
    // A retained sample is stored and kept; an empty one only deletes what was kept.
    raw.send(&publish(V4, 3, 4, TELEMETRY, sample(1).as_bytes()))
        .await;
    raw.expect(&[0x40, 2, 0, 4]).await;
    assert_eq!(world.journal.kept.lock().retained[TELEMETRY], sample(1));
    raw.send(&publish(V4, 3, 5, TELEMETRY, b"")).await;
    raw.expect(&[0x40, 2, 0, 5]).await;
    let kept = world.journal.kept.lock();
    assert!(kept.retained.is_empty() && kept.quarantined.is_empty());
}

#[tokio::test]
async fn defect_9_unsubscribe_is_always_answered() {
    let world = World::new().await;
    let filter = |level, pkid: u16, filters: &[&str]| {
        let mut body = pkid.to_be_bytes().to_vec();
        body.extend(if level == V5 { &[0][..] } else { &[] });
        filters.iter().for_each(|filter| body.extend(text(filter)));
        packet(0xa2, &body)
    };
    let mut v4 = world.lab(V4).await;
    v4.send(&filter(V4, 5, &["never", COMMAND])).await;
    v4.expect(&[0xb0, 2, 0, 5]).await;
    let mut v5 = world.lab(V5).await;
    v5.send(&subscribe(V5, 1, &[(COMMAND, 1)])).await;
    v5.next().await.unwrap();
    v5.send(&filter(V5, 6, &["never", COMMAND, COMMAND])).await;
    v5.expect(&[0xb0, 6, 0, 6, 0, 0x11, 0, 0x11]).await;
    world.broker.publish(COMMAND, Bytes::from_static(b"x"));
    v5.quiet().await;
}

#[tokio::test]
async fn defect_9_a_pubrel_with_properties_is_completed() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    raw.send(&publish(V5, 4, 8, TELEMETRY, sample(1).as_bytes()))
        .await;
    raw.expect(&[0x50, 2, 0, 8]).await;
    let mut body = vec![0, 8, 0, 10, 0x26];
    body.extend(text("k"));
    body.extend(text("abcd"));
    raw.send(&packet(0x62, &body)).await;
    raw.expect(&[0x70, 2, 0, 8]).await;
}

#[tokio::test]
async fn defect_9_a_message_comes_at_the_lower_qos_of_publish_and_subscription() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    for granted in 0..=2_u8 {
        raw.send(&subscribe(V4, 1, &[(TELEMETRY, granted)])).await;
        raw.expect(&[0x90, 3, 0, 1, granted]).await;
        for published in 0..=2_u8 {
            let seq = u64::from(granted * 3 + published);
            let bytes = publish(V4, published << 1, 9, TELEMETRY, sample(seq).as_bytes());
            raw.send(&bytes).await;
            if published > 0 {
                let ack = raw.next().await.unwrap();
                assert_eq!(ack, [0x30 + published * 0x10, 2, 0, 9]);
            }
            let message = got(V4, &raw.next().await.unwrap());
            if published == 2 {
                raw.send(&packet(0x62, &[0, 9])).await;
                raw.expect(&[0x70, 2, 0, 9]).await;
            }
            assert_eq!(message.flags, published.min(granted) << 1);
            let [high, low] = message.pkid.to_be_bytes();
            match published.min(granted) {
                0 => {}
                1 => raw.send(&packet(0x40, &[high, low])).await,
                _ => {
                    raw.send(&packet(0x50, &[high, low])).await;
                    raw.expect(&[0x62, 2, high, low]).await;
                    raw.send(&packet(0x70, &[high, low])).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn defect_9_messages_in_flight_are_bounded_by_the_broker_and_by_the_client() {
    let limits = BrokerLimits {
        outbound_inflight: 5,
        ..Default::default()
    };
    let world = World::with(limits).await;
    for (level, properties, window) in [(V4, vec![], 5), (V5, vec![0x21, 0, 3], 3)] {
        let mut connect = Connect::new(level, "lab-1");
        connect.properties = properties;
        let (mut raw, _) = world.join(connect).await;
        raw.send(&subscribe(level, 1, &[(COMMAND, 1)])).await;
        raw.next().await.unwrap();
        for _ in 0..20 {
            world.broker.publish(COMMAND, Bytes::from_static(b"x"));
        }
        for at in 1..=20_u16 {
            if at > window {
                raw.send(&packet(0x40, &(at - window).to_be_bytes())).await;
            } else if at == window {
                got(level, &raw.next().await.unwrap());
                raw.quiet().await;
                continue;
            }
            assert_eq!(got(level, &raw.next().await.unwrap()).pkid, at);
        }
    }
}

#[tokio::test]
async fn defect_9_keep_alive_zero_is_accepted() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    raw.quiet().await;
    raw.send(&packet(0xc0, &[])).await;
    raw.expect(&[0xd0, 0]).await;
}

#[tokio::test]
async fn defect_10_a_broker_with_idle_connections_stops() {
    let world = World::new().await;
    let mut raw = world.lab(V4).await;
    let _idle = TcpStream::connect(world.broker.local_addr()).await.unwrap();
    world.stop.cancel();
    raw.closed().await;
    let stopped = tokio::time::timeout(PATIENCE, world.broker.stopped()).await;
    stopped.expect("a task did not end");
}
