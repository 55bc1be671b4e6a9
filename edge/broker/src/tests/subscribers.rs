//! Subscribers, with clients that we did not write: rumqttc, MQTT 3.1.1 and 5.
use super::wire::{Connect, PATIENCE, V5, got, packet, publish, subscribe};
use super::world::{COMMAND, LAB, PREFIX, STATUS, TELEMETRY, World, sample};
use bytes::Bytes;
use rumqttc::{Event, Incoming, QoS, TlsConfiguration, Transport, v5};
use std::time::Duration;
use tokio::time::timeout;

fn transport(world: &World) -> Transport {
    Transport::tls_with_config(TlsConfiguration::Rustls(world.authority.client(Some(LAB))))
}

#[tokio::test]
async fn a_v4_client_publishes_at_every_qos_and_gets_its_command_and_status() {
    let world = World::new().await;
    let port = world.broker.local_addr().port();
    let mut options = rumqttc::MqttOptions::new("lab-1", "localhost", port);
    options
        .set_transport(transport(&world))
        .set_keep_alive(Duration::from_secs(30));
    options.set_inflight(50);
    let (client, mut events) = rumqttc::AsyncClient::new(options, 500);
    client.subscribe(COMMAND, QoS::ExactlyOnce).await.unwrap();
    client.subscribe(STATUS, QoS::AtLeastOnce).await.unwrap();
    client
        .publish(STATUS, QoS::AtLeastOnce, true, "birth")
        .await
        .unwrap();
    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for seq in 0..300_u64 {
        client
            .publish(TELEMETRY, qos[(seq % 3) as usize], false, sample(seq))
            .await
            .unwrap();
    }
    let (mut acked, mut completed, mut seen) = (0, 0, Vec::new());
    timeout(PATIENCE, async {
        while acked < 101 || completed < 100 || seen.len() < 2 {
            match events.poll().await.unwrap() {
                Event::Incoming(Incoming::PubAck(_)) => acked += 1,
                Event::Incoming(Incoming::PubComp(_)) => completed += 1,
                Event::Incoming(Incoming::SubAck(_)) => {
                    world.broker.publish(COMMAND, Bytes::from_static(b"do"));
                }
                Event::Incoming(Incoming::Publish(message)) => seen.push(message.topic),
                _ => {}
            }
        }
    })
    .await
    .expect("everything acknowledged");
    assert!(seen.contains(&COMMAND.into()) && seen.contains(&STATUS.into()));
    assert_eq!(world.journal.sequences(), (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_v5_client_publishes_with_properties_and_sees_the_reasons_of_refusals() {
    let world = World::new().await;
    let port = world.broker.local_addr().port();
    let mut options = v5::MqttOptions::new("lab-1", "localhost", port);
    options
        .set_transport(transport(&world))
        .set_keep_alive(Duration::from_secs(30));
    options.set_topic_alias_max(Some(10));
    let (client, mut events) = v5::AsyncClient::new(options, 500);
    let all = format!("{PREFIX}#");
    client
        .subscribe(all, v5::mqttbytes::QoS::AtLeastOnce)
        .await
        .unwrap();
    client
        .subscribe("#", v5::mqttbytes::QoS::AtLeastOnce)
        .await
        .unwrap();
    let mut reasons = Vec::new();
    let mut seen = 0;
    timeout(PATIENCE, async {
        while reasons.len() < 4 || seen < 2 {
            use v5::mqttbytes::v5::{Packet, PublishProperties};
            match events.poll().await.unwrap() {
                v5::Event::Incoming(Packet::ConnAck(connack)) => {
                    let limits = connack.properties.unwrap();
                    assert_eq!(limits.max_packet_size, Some(64 << 10));
                    assert_eq!(limits.topic_alias_max, Some(0));
                    assert_eq!(limits.shared_subscription_available, Some(0));
                }
                v5::Event::Incoming(Packet::SubAck(suback)) => {
                    reasons.push(format!("{:?}", suback.return_codes));
                    if reasons.len() == 2 {
                        let properties = PublishProperties {
                            user_properties: vec![("k".into(), "v".into())],
                            ..Default::default()
                        };
                        let qos = v5::mqttbytes::QoS::AtLeastOnce;
                        client
                            .publish_with_properties(TELEMETRY, qos, false, sample(1), properties)
                            .await
                            .unwrap();
                        client.publish(TELEMETRY, qos, false, "{}").await.unwrap();
                        world.broker.publish(COMMAND, Bytes::from_static(b"do"));
                    }
                }
                v5::Event::Incoming(Packet::PubAck(ack)) => {
                    reasons.push(format!("{:?}", ack.reason))
                }
                v5::Event::Incoming(Packet::Publish(message)) => {
                    assert!(!message.topic.is_empty());
                    seen += 1;
                }
                _ => {}
            }
        }
    })
    .await
    .expect("everything answered");
    assert_eq!(
        reasons,
        [
            "[Success(AtLeastOnce)]",
            "[NotAuthorized]",
            "Success",
            "PayloadFormatInvalid"
        ]
    );
}

#[tokio::test]
async fn a_subscription_that_is_replaced_loses_nothing_of_what_waits() {
    let world = World::new().await;
    let mut connect = Connect::new(V5, "lab-1");
    // One message at a time: the others wait.
    connect.properties = vec![0x21, 0, 1];
    let (mut raw, _) = world.join(connect).await;
    raw.send(&subscribe(V5, 1, &[(STATUS, 1)])).await;
    raw.next().await.unwrap();
    for pkid in 1..=4 {
        raw.send(&publish(V5, 2, pkid, STATUS, &[b'0' + pkid as u8]))
            .await;
    }
    let (mut acknowledged, mut seen) = (0, Vec::new());
    while acknowledged < 4 || seen.is_empty() {
        let next = raw.next().await.unwrap();
        match next[0] >> 4 {
            3 => seen.push(got(V5, &next)),
            _ => acknowledged += 1,
        }
    }
    // No Local from here on, and QoS 0.
    raw.send(&subscribe(V5, 2, &[(STATUS, 4)])).await;
    assert_eq!(raw.next().await.unwrap()[0], 0x90);
    while seen.len() < 4 {
        let pkid = seen.last().unwrap().pkid;
        raw.send(&packet(0x40, &pkid.to_be_bytes())).await;
        seen.push(got(V5, &raw.next().await.unwrap()));
    }
    let said: Vec<_> = seen
        .iter()
        .map(|got| (&got.payload[..], got.flags & 6))
        .collect();
    assert_eq!(said, [("1", 2), ("2", 2), ("3", 2), ("4", 2)]);
}

#[tokio::test]
async fn a_subscription_waits_for_what_its_client_published_before_it() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    let mut both = publish(V5, 3, 1, STATUS, b"new");
    both.extend(subscribe(V5, 2, &[(STATUS, 1)]));
    raw.send(&both).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let next = raw.next().await.unwrap();
        if next[0] >> 4 == 3 {
            let got = got(V5, &next);
            seen.push((got.payload, got.flags & 1));
        }
    }
    assert_eq!(seen, [("new".to_owned(), 1)], "as a retained message");
    raw.quiet().await;
}

#[tokio::test]
async fn overlapping_filters_deliver_once_at_the_highest_qos() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    let all = format!("{PREFIX}#");
    raw.send(&subscribe(
        V5,
        1,
        &[(&all, 0), (COMMAND, 1), (&format!("{PREFIX}+"), 2)],
    ))
    .await;
    raw.next().await.unwrap();
    world.broker.publish(COMMAND, Bytes::from_static(b"one"));
    world.broker.publish(STATUS, Bytes::from_static(b"two"));
    for payload in ["one", "two"] {
        let message = got(V5, &raw.next().await.unwrap());
        assert_eq!((message.payload.as_str(), message.flags), (payload, 2));
    }
    raw.quiet().await;
}

#[tokio::test]
async fn v5_subscription_options_are_kept() {
    let world = World::new().await;
    world
        .journal
        .kept
        .lock()
        .retained
        .insert(STATUS.into(), Bytes::from_static(b"old"));
    let mut raw = world.lab(V5).await;
    let code = async |raw: &mut super::wire::Raw, options: u8| {
        raw.send(&subscribe(V5, 1, &[(STATUS, options)])).await;
        raw.expect(&[0x90, 4, 0, 1, 0, options & 3]).await;
    };
    // Retain handling 2: never; 1: on a new subscription only; 0: on every one.
    code(&mut raw, 0x20).await;
    raw.quiet().await;
    code(&mut raw, 0x10).await;
    raw.quiet().await;
    code(&mut raw, 0x00).await;
    assert_eq!(got(V5, &raw.next().await.unwrap()).flags, 1);
    // Retain as published.
    code(&mut raw, 0x28).await;
    raw.send(&publish(V5, 3, 1, STATUS, b"new")).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
    assert_eq!(got(V5, &raw.next().await.unwrap()).flags, 1);
    // No local: not its own, but the node's.
    code(&mut raw, 0x24).await;
    raw.send(&publish(V5, 3, 2, STATUS, b"own")).await;
    raw.expect(&[0x40, 2, 0, 2]).await;
    world.broker.publish(STATUS, Bytes::from_static(b"node"));
    assert_eq!(got(V5, &raw.next().await.unwrap()).payload, "node");
}

#[tokio::test]
async fn a_message_longer_than_the_client_takes_is_left_out() {
    let world = World::new().await;
    let mut connect = Connect::new(V5, "lab-1");
    connect.properties = vec![0x27, 0, 0, 0, 100];
    let (mut raw, _) = world.join(connect).await;
    raw.send(&subscribe(V5, 1, &[(COMMAND, 1)])).await;
    raw.next().await.unwrap();
    world.broker.publish(COMMAND, Bytes::from(vec![b'x'; 100]));
    world.broker.publish(COMMAND, Bytes::from_static(b"short"));
    assert_eq!(got(V5, &raw.next().await.unwrap()).payload, "short");
}

#[tokio::test]
async fn a_subscription_is_refused_when_its_retained_messages_cannot_be_read() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    world.mood(super::journal::Mood::Unavailable);
    raw.send(&subscribe(V5, 1, &[(COMMAND, 1), ("#", 1)])).await;
    raw.expect(&[0x90, 5, 0, 1, 0, 0x80, 0x87]).await;
    world.mood(super::journal::Mood::Well);
    raw.send(&subscribe(V5, 2, &[(COMMAND, 1)])).await;
    raw.expect(&[0x90, 4, 0, 2, 0, 1]).await;
}

#[tokio::test]
async fn filters_beyond_the_limit_are_refused() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    let filters: Vec<String> = (0..17).map(|at| format!("{PREFIX}{at}")).collect();
    let asked: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    raw.send(&subscribe(V5, 1, &asked)).await;
    let suback = raw.next().await.unwrap();
    assert_eq!(suback[5..21], [0; 16]);
    assert_eq!(suback[21], 0x97);
}

#[tokio::test]
async fn thousands_of_messages_pass_the_router_in_order() {
    let world = World::new().await;
    let mut raw = world.lab(V5).await;
    raw.send(&subscribe(V5, 1, &[(COMMAND, 1)])).await;
    raw.next().await.unwrap();
    for round in 0..10 {
        for at in 0..300 {
            world
                .broker
                .publish(COMMAND, Bytes::from((round * 300 + at).to_string()));
        }
        for at in 0..300 {
            let message = got(V5, &raw.next().await.unwrap());
            assert_eq!(message.payload, (round * 300 + at).to_string());
            raw.send(&packet(0x40, &message.pkid.to_be_bytes())).await;
        }
    }
}

#[tokio::test]
async fn sessions_that_come_and_go_leave_the_router_alive() {
    let world = World::new().await;
    for round in 0..50_u8 {
        let id = if round % 2 == 0 { "lab-1" } else { "lab-2" };
        let (mut raw, _) = world.join(Connect::new(V5, id)).await;
        let command = format!("devices/us/us-f1/{id}/command");
        raw.send(&subscribe(V5, 1, &[(&command, 0)])).await;
        raw.next().await.unwrap();
        for _ in 0..250 {
            world.broker.publish(&command, Bytes::from_static(b"x"));
        }
        if round % 3 == 0 {
            for _ in 0..250 {
                got(V5, &raw.next().await.unwrap());
            }
        }
    }
}
