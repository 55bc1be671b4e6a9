//! Who is let in, and how the others are told.
use super::recorder::count;
use super::wire::{Connect, Raw, V4, V5, packet, text};
use super::world::{Authority, LAB, OTHER, TELEMETRY, World};
use crate::BrokerLimits;
use federation::identity::Peer;
use federation::pki::Reason;
use node::clock::Clock;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;

async fn answer(world: &World, identity: &str, connect: Connect) -> Vec<u8> {
    let mut raw = world.dial(identity).await;
    raw.send(&connect.bytes()).await;
    let answer = raw.next().await.expect("closed without CONNACK");
    raw.closed().await;
    answer
}

#[tokio::test]
async fn the_announced_limits_are_the_brokers() {
    let world = World::new().await;
    let mut raw = world.dial(LAB).await;
    let mut connect = Connect::lasting(V5, "lab-1");
    connect.properties = vec![0x11, 0xff, 0xff, 0xff, 0xff];
    raw.send(&connect.bytes()).await;
    raw.expect(&[
        0x20, 27, 0, 0, 24, 0x11, 0, 1, 0x51, 0x80, 0x21, 4, 0, 0x27, 0, 1, 0, 0, 0x22, 0, 0, 0x25,
        1, 0x28, 1, 0x29, 0, 0x2a, 0,
    ])
    .await;
    let mut v4 = world.dial(LAB).await;
    v4.send(&Connect::new(V4, "lab-1").bytes()).await;
    v4.expect(&[0x20, 2, 0, 0]).await;
}

#[tokio::test]
async fn only_a_known_device_of_this_facility_under_its_own_name_is_let_in() {
    let world = World::new().await;
    let device = |path: &str| format!("spiffe://medmesh/device/{path}");
    for (identity, id, v4, v5) in [
        (LAB.to_owned(), "lab-2", 5, 0x87),
        (OTHER.to_owned(), "lab-1", 5, 0x87),
        (LAB.to_owned(), "", 2, 0x85),
        (LAB.to_owned(), "LAB-1", 5, 0x87),
        (device("us/us/us-f1/ghost"), "ghost", 5, 0x87),
        (device("us/us/us-f2/lab-1"), "lab-1", 5, 0x87),
        (device("us/west/us-f1/lab-1"), "lab-1", 5, 0x87),
        (device("eu/us/us-f1/lab-1"), "lab-1", 5, 0x87),
    ] {
        let refused = answer(&world, &identity, Connect::new(V4, id)).await;
        assert_eq!(refused, [0x20, 2, 0, v4], "{identity} as {id:?}");
        let refused = answer(&world, &identity, Connect::new(V5, id)).await;
        assert_eq!(refused, [0x20, 3, 0, v5, 0], "{identity} as {id:?}");
    }
    assert!(count("medmesh_mqtt_refused_total{identity}") >= 8);
}

#[tokio::test]
async fn wills_methods_and_values_that_are_not_offered_are_refused() {
    let world = World::new().await;
    for topic in [
        TELEMETRY,
        "devices/us/us-f1/lab-2/status",
        "devices/us/us-f1/lab-1/+",
        "status",
    ] {
        for (level, refused) in [(V4, &[0x20, 2, 0, 5][..]), (V5, &[0x20, 3, 0, 0x87, 0][..])] {
            let mut connect = Connect::new(level, "lab-1");
            connect.will = Some((topic.into(), "gone".into(), true, vec![]));
            assert_eq!(answer(&world, LAB, connect).await, refused, "{topic}");
        }
    }
    let mut method = vec![0x15];
    method.extend(text("SCRAM-SHA-1"));
    for (properties, reason) in [
        (method, 0x8c),
        (vec![0x21, 0, 0], 0x82),
        (vec![0x27, 0, 0, 0, 0], 0x82),
    ] {
        let mut connect = Connect::new(V5, "lab-1");
        connect.properties = properties;
        assert_eq!(answer(&world, LAB, connect).await, [0x20, 3, 0, reason, 0]);
    }
}

#[tokio::test]
async fn another_protocol_level_is_told_so() {
    let world = World::new().await;
    for (name, level) in [("MQTT", 3), ("MQTT", 6), ("MQIsdp", 3)] {
        let mut body = text(name);
        body.extend([level, 2, 0, 0]);
        body.extend(text("lab-1"));
        let mut raw = world.dial(LAB).await;
        raw.send(&packet(0x10, &body)).await;
        raw.expect(&[0x20, 2, 0, 1]).await;
        raw.closed().await;
    }
}

#[tokio::test]
async fn the_first_packet_must_be_connect_and_it_must_come_once() {
    let world = World::new().await;
    let mut raw = world.dial(LAB).await;
    raw.send(&packet(0xc0, &[])).await;
    raw.closed().await;
    let mut raw = world.lab(V5).await;
    raw.send(&Connect::new(V5, "lab-1").bytes()).await;
    raw.expect(&[0xe0, 2, 0x82, 0]).await;
    raw.closed().await;
}

#[tokio::test]
async fn a_peer_without_a_certificate_or_with_one_of_another_authority_is_refused() {
    let world = World::new().await;
    let stranger = Authority::new();
    let trusting = |config: Arc<rustls::ClientConfig>| config;
    for config in [trusting(world.authority.client(None)), {
        // Trusts our server, shows a certificate of its own authority.
        let mut config = (*world.authority.client(Some(LAB))).clone();
        config.client_auth_cert_resolver =
            Arc::clone(&stranger.client(Some(LAB)).client_auth_cert_resolver);
        Arc::new(config)
    }] {
        let tcp = TcpStream::connect(world.broker.local_addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(config);
        // A TLS 1.3 client learns of the refusal when it reads.
        if let Ok(stream) = connector.connect(name, tcp).await {
            Raw::new(stream).closed().await;
        }
    }
}

#[tokio::test]
async fn a_connection_ends_when_its_certificate_is_revoked() {
    let authority = Arc::new(Authority::new());
    let world = World::of(
        Arc::clone(&authority),
        Arc::default(),
        BrokerLimits::default(),
    )
    .await;
    let mut kept = world.join(Connect::new(V5, "lab-2")).await.0;
    let mut revoked = world.lab(V5).await;
    let pem = authority.cert_pem(LAB);
    let peer = Peer::from_cert(&CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let now = Clock::new(None).real();
    authority
        .ca
        .revoke(&peer.serial, Reason::KeyCompromise, now)
        .unwrap();
    assert!(world.tls.look().unwrap());
    revoked.expect(&[0xe0, 2, 0x98, 0]).await;
    revoked.closed().await;
    kept.send(&packet(0xc0, &[])).await;
    kept.expect(&[0xd0, 0]).await;
}

#[tokio::test]
async fn a_second_connection_of_a_device_takes_over_and_the_latest_wins() {
    let world = World::new().await;
    let mut raws = vec![world.lab(V5).await];
    for level in [V5, V4, V5] {
        raws.push(world.lab(level).await);
    }
    for (at, raw) in raws.iter_mut().enumerate().take(3) {
        if at != 2 {
            raw.expect(&[0xe0, 2, 0x8e, 0]).await;
        }
        raw.closed().await;
    }
    raws[3].send(&packet(0xc0, &[])).await;
    raws[3].expect(&[0xd0, 0]).await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_one_and_a_half_times_its_keep_alive() {
    let world = World::new().await;
    let mut connect = Connect::new(V5, "lab-1");
    connect.keep_alive = 1;
    let (mut raw, _) = world.join(connect).await;
    let began = std::time::Instant::now();
    raw.expect(&[0xe0, 2, 0x8d, 0]).await;
    assert!(began.elapsed() >= Duration::from_millis(1_400));
    raw.closed().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_that_the_broker_is_busy() {
    let limits = BrokerLimits {
        connections: 1,
        ..Default::default()
    };
    let world = World::with(limits).await;
    let _first = world.lab(V4).await;
    let busy = answer(&world, OTHER, Connect::new(V4, "lab-2")).await;
    assert_eq!(busy, [0x20, 2, 0, 3]);
    let busy = answer(&world, OTHER, Connect::new(V5, "lab-2")).await;
    assert_eq!(busy, [0x20, 3, 0, 0x97, 0]);
}
