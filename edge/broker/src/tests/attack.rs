//! The attack on the broker: two thousand hostile connections, strangers and holders of certificates of others, while
//! honest devices are answered.
use super::wire::{Connect, V4, V5, packet, publish};
use super::world::{OTHER, TELEMETRY, World, sample};
use crate::BrokerLimits;
use node::{descriptors, telemetry::resident_bytes};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// Connections of the attack, where descriptors allow; in one process each takes two.
const HOSTILE: usize = 2_000;
/// Descriptors for everything else.
const SPARE: usize = 512;
/// From being cut off to coming again.
const AGAIN: Duration = Duration::from_secs(3);
/// How long the attack may take to stand.
const STANDS_WITHIN: Duration = Duration::from_secs(180);
/// Pause between two bytes of a packet.
const DROP: Duration = Duration::from_millis(20);
/// Memory that the attack may cost, of both its sides.
const MAX_BYTES: f64 = 400e6;

/// Holds a connection of one kind until it is cut off.
async fn attack(
    to: std::net::SocketAddr,
    tls: Option<(Arc<rustls::ClientConfig>, Vec<u8>)>,
    half: bool,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    let Some((config, words)) = tls else {
        if half {
            // A record that promises a ClientHello of 512 bytes.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await?;
        }
        while stream.read(&mut [0; 64]).await? > 0 {}
        return Ok(());
    };
    let name = "localhost".try_into().map_err(io::Error::other)?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await?;
    stream.write_all(&words).await?;
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_hostile_connections_keep_no_publish_from_its_acknowledgement() {
    let world = World::new().await;
    let mut kept = world.lab(V4).await;
    let before = resident_bytes().unwrap();
    let foreign = world.client("spiffe://medmesh/device/us/us/us-f2/lab-1");
    // The device that is honest comes with a certificate of its own all the while.
    let other = world.client(OTHER);
    let part = Connect::new(V5, "lab-2").bytes()[..9].to_vec();
    let kinds = [
        (None, false),
        (None, true),
        (Some((foreign.clone(), Vec::new())), false),
        (Some((foreign, part.clone())), false),
        (Some((other, part)), false),
    ];
    let descriptors = usize::try_from(descriptors::raise()).unwrap();
    let count = HOSTILE.min(descriptors.saturating_sub(SPARE) / 2);
    let begun = Arc::new(AtomicUsize::new(0));
    for n in 0..count {
        let ((tls, half), begun) = (kinds[n % kinds.len()].clone(), begun.clone());
        let to = world.broker.local_addr();
        tokio::spawn(async move {
            loop {
                begun.fetch_add(1, SeqCst);
                let _cut = attack(to, tls.clone(), half).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    let deadline = tokio::time::Instant::now() + STANDS_WITHIN;
    let mut sent: u16 = 0;
    while sent < 200 || begun.load(SeqCst) < count {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{begun:?} of {count}"
        );
        sent += 1;
        let message = sample(u64::from(sent));
        kept.send(&publish(V4, 2, sent, TELEMETRY, message.as_bytes()))
            .await;
        let [high, low] = sent.to_be_bytes();
        kept.expect(&[0x40, 2, high, low]).await;
    }
    // A device that comes new, at its first try.
    drop(kept);
    let mut new = world.lab(V5).await;
    new.send(&packet(0xc0, &[])).await;
    new.expect(&[0xd0, 0]).await;
    let cost = resident_bytes().unwrap() - before;
    assert!(cost < MAX_BYTES, "{cost} bytes");
    world.stop.cancel();
}

#[tokio::test]
async fn a_packet_that_drips_is_cut_off_and_one_that_waits_for_room_is_not() {
    let limits = BrokerLimits {
        packet_timeout: Duration::from_millis(300),
        ..Default::default()
    };
    let world = World::with(limits).await;
    let mut raw = world.lab(V5).await;
    let whole = publish(V5, 2, 1, TELEMETRY, sample(1).as_bytes());
    let mut drops = whole[..whole.len() - 1].iter();
    let said = loop {
        raw.send(&[*drops.next().expect("never cut off")]).await;
        if let Ok(said) = tokio::time::timeout(DROP, raw.next()).await {
            break said;
        }
    };
    assert_eq!(said.as_deref(), Some(&[0xe0, 2, 0x8d, 0][..]));
    raw.closed().await;
    let mut raw = world.lab(V5).await;
    raw.send(&whole[..5]).await;
    raw.send(&whole[5..]).await;
    raw.expect(&[0x40, 2, 0, 1]).await;
}
