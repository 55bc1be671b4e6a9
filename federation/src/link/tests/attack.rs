//! The attack on the link: two thousand hostile connections, strangers and holders of good certificates of others,
//! while an honest facility delivers; and messages that are too long or never whole.
use super::*;
use node::{descriptors, telemetry::resident_bytes};
use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_stream::wrappers::ReceiverStream;

/// Connections of the attack, where descriptors allow; in one process each takes two.
const HOSTILE: usize = 2_000;
/// Descriptors for everything else.
const SPARE: usize = 512;
/// From being cut off to coming again.
const AGAIN: Duration = Duration::from_secs(3);
/// Memory that the attack may cost, of both its sides.
const MAX_BYTES: f64 = 400e6;

/// Holds a connection of one kind until it is cut off.
async fn attack(bed: &Testbed, holder: &Holder, to: SocketAddr, kind: usize) -> io::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    match kind {
        0 => while stream.read(&mut [0; 64]).await? > 0 {},
        1 => {
            // A record that promises a ClientHello of 512 bytes.
            stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await?;
            while stream.read(&mut [0; 64]).await? > 0 {}
        }
        _ => {
            drop(stream);
            // A good certificate of the mesh, and not a byte.
            let mut stream = rogue::dial(bed, holder, to, US).await?;
            while stream.read(&mut [0; 64]).await? > 0 {}
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_hostile_connections_keep_no_parcel_from_its_receipt() {
    let bed = Arc::new(Testbed::new());
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let mut honest = edge(&bed, &f1, region.address, US);
    honest.up().await;
    let before = resident_bytes().unwrap();
    let hostile = [
        "edge/eu/eu/eu-f1",
        "edge/us/us/us-f2",
        "regional/eu/eu",
        "edge/us/west/us-f9",
    ]
    .map(|name| Arc::new(bed.holder(&self::node(name))));
    let descriptors = usize::try_from(descriptors::raise()).unwrap();
    let count = HOSTILE.min(descriptors.saturating_sub(SPARE) / 2);
    let begun = Arc::new(AtomicUsize::new(0));
    for n in 0..count {
        let (bed, holder) = (bed.clone(), hostile[n % 4].clone());
        let (to, begun) = (region.address, begun.clone());
        tokio::spawn(async move {
            loop {
                begun.fetch_add(1, SeqCst);
                let _cut = attack(&bed, &holder, to, n % 5).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    let mut again = honest.state.clone();
    again.mark_unchanged();
    eventually("all of them", || begun.load(SeqCst) >= count).await;
    for _ in 0..20 {
        for _ in 0..20 {
            honest.outbox.add(Priority::Live, 10);
        }
        honest.drained().await;
    }
    assert!(
        !again.has_changed().unwrap(),
        "the link was up all the time"
    );
    // One that comes new.
    honest.stop.cancel();
    honest.running.await.unwrap();
    let new = edge(&bed, &f1, region.address, US);
    let cost = resident_bytes().unwrap() - before;
    assert!(cost < MAX_BYTES, "{cost} bytes");
    eventually("a link", || {
        matches!(*new.state.borrow(), LinkState::Up { .. })
    })
    .await;
}

#[tokio::test]
async fn of_one_identity_the_newest_connection_and_the_newest_stream_are_kept() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(rogue::dial(&bed, &f1, region.address, US).await.unwrap());
    }
    for stream in &mut silent[..2] {
        while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
    }
    let mut client = rogue::client(&bed, &f1, region.address, US).await;
    let (_open, parcels) = tokio::sync::mpsc::channel::<Parcel>(1);
    let first = client.deliver(ReceiverStream::new(parcels)).await.unwrap();
    let (_open, parcels) = tokio::sync::mpsc::channel::<Parcel>(1);
    let _second = client.deliver(ReceiverStream::new(parcels)).await.unwrap();
    let ended = first.into_inner().message().await.unwrap_err();
    assert_eq!(ended.code(), tonic::Code::Aborted);
}

#[tokio::test]
async fn a_message_that_is_too_long_is_an_error_and_what_came_before_it_is_answered() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let good = MemOutbox::new(EDGE, US);
    good.add(Priority::Live, 10);
    let limits = crate::port::LeaseLimits {
        parcels: 1,
        bytes: 1 << 20,
    };
    let good = crate::port::Outbox::lease(&good, &place(US), Priority::Live, limits)
        .await
        .unwrap()
        .remove(0);
    let long = Parcel {
        body: vec![0; MAX_MESSAGE_BYTES + 1].into(),
        seq: 2,
        ..good.clone()
    };
    for before in [0, 1] {
        let parcels = vec![good.clone(); before].into_iter().chain([long.clone()]);
        let sent: Vec<_> = parcels.collect();
        let mut client = rogue::client(&bed, &f1, region.address, US).await;
        let mut receipts = client
            .deliver(tokio_stream::iter(sent))
            .await
            .unwrap()
            .into_inner();
        for _ in 0..before {
            let receipt = receipts.message().await.unwrap().unwrap();
            assert_eq!(receipt.seq, 1);
        }
        let ended = receipts.message().await.unwrap_err();
        assert_eq!(ended.code(), tonic::Code::ResourceExhausted, "{ended:?}");
    }
}

#[tokio::test]
async fn a_parcel_that_no_message_can_hold_is_refused_and_holds_up_nothing() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let edge = edge(&bed, &f1, region.address, US);
    edge.outbox.add(Priority::Live, 10);
    edge.outbox.add_bent(Priority::Live, |parcel| {
        parcel.body = vec![0; 2 * MAX_MESSAGE_BYTES].into();
        fakes::seal(parcel);
    });
    edge.outbox.add(Priority::Live, 10);
    edge.drained().await;
    assert_eq!(edge.outbox.settled(), 3);
}
