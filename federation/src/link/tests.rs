//! Links between real sockets, with certificates of a real authority, over the real outbox and an inbox in memory.
mod attack;
mod blobs;
mod down;
mod fakes;
mod lists;
mod renewing;
mod rogue;
mod traced;
mod urls;

use super::*;
use crate::{
    testbed::{Holder, Testbed, eventually, node, place},
    tls::ReloadingTls,
    wire::Parcel,
};
use fakes::{MemGate, MemInbox, MemOutbox, Proxy};
use rand::{SeedableRng, rngs::StdRng};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use types::Priority;

const EDGE: &str = "edge/us/us/us-f1";
const US: &str = "regional/us/us";

/// A region that receives.
struct Region {
    address: SocketAddr,
    tls: Arc<ReloadingTls>,
    inbox: Arc<MemInbox>,
    gate: Arc<MemGate>,
    stop: CancellationToken,
    served: JoinHandle<Result<(), LinkError>>,
}

async fn region(bed: &Testbed, holder: &Holder) -> Region {
    region_with(bed, holder, None).await
}

async fn region_with(
    bed: &Testbed,
    holder: &Holder,
    authority: Option<Arc<dyn super::renew::Renews>>,
) -> Region {
    let inbox = Arc::new(MemInbox::default());
    let gate = Arc::new(MemGate::new(&inbox));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = bed.tls(holder);
    let door = Door {
        here: holder.identity.place().unwrap().clone(),
        key: holder.key.clone(),
        gate: Arc::clone(&gate) as _,
        inbox: Arc::clone(&inbox) as _,
        tls: Arc::clone(&tls),
        outbox: None,
        bulk: None,
        authority,
        tap: None,
    };
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(listener, door, stop.clone()));
    Region {
        address,
        tls,
        inbox,
        gate,
        stop,
        served,
    }
}

/// An edge that sends.
struct Edge {
    outbox: Arc<MemOutbox>,
    state: watch::Receiver<LinkState>,
    audit: Arc<MemGate>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

fn parts(bed: &Testbed, holder: &Holder, to: SocketAddr, there: &str) -> UplinkParts {
    UplinkParts {
        urls: vec![format!("https://{to}")],
        here: holder.identity.place().unwrap().clone(),
        there: place(there),
        outbox: Arc::new(MemOutbox::new(EDGE, US)),
        collect: None,
        bulk: None,
        audit: Arc::new(MemGate::default()),
        tls: bed.tls(holder),
        time: bed.time(),
        rng: StdRng::seed_from_u64(5),
        tap: None,
    }
}

fn edge(bed: &Testbed, holder: &Holder, to: SocketAddr, there: &str) -> Edge {
    let here = holder.identity.place().unwrap().to_string();
    let outbox = Arc::new(MemOutbox::new(&here, there));
    let audit = Arc::new(MemGate::default());
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        audit: Arc::clone(&audit) as _,
        ..parts(bed, holder, to, there)
    })
    .unwrap();
    let state = uplink.state();
    let stop = CancellationToken::new();
    let running = tokio::spawn(uplink.run(stop.clone()));
    Edge {
        outbox,
        state,
        audit,
        stop,
        running,
    }
}

impl Edge {
    async fn up(&mut self) {
        let up = |state: &LinkState| matches!(state, LinkState::Up { .. });
        self.state.wait_for(up).await.unwrap();
    }

    async fn down(&mut self) {
        let down = |state: &LinkState| matches!(state, LinkState::Down { .. });
        self.state.wait_for(down).await.unwrap();
    }

    async fn drained(&self) {
        eventually("an empty outbox", || self.outbox.waiting() == 0).await;
    }
}

fn both(bed: &Testbed) -> (Holder, Holder) {
    (bed.holder(&node(US)), bed.holder(&node(EDGE)))
}

#[test]
fn only_a_facility_to_its_region_and_a_region_to_the_global_node_deliver() {
    for (from, to, expected) in [
        (EDGE, US, Ok(())),
        ("regional/eu/eu", "global", Ok(())),
        ("edge/eu/eu/eu-f1", US, Err("other-jurisdiction")),
        ("edge/us/west/us-f1", US, Err("other-region")),
        (EDGE, "global", Err("no-link")),
        (EDGE, EDGE, Err("no-link")),
        (US, "regional/eu/eu", Err("no-link")),
        (US, EDGE, Err("no-link")),
        ("global", US, Err("no-link")),
    ] {
        assert_eq!(route(&place(from), &place(to)), expected, "{from} to {to}");
    }
}

#[tokio::test]
async fn every_parcel_arrives_once_in_order_and_leaves_the_outbox_by_its_receipt() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let edge = edge(&bed, &f1, region.address, US);
    for n in 0..500 {
        edge.outbox.add(Priority::ALL[n % 3], 100);
    }
    edge.drained().await;
    for priority in Priority::ALL {
        let count = edge.outbox.added_in(priority);
        assert_eq!(
            region.inbox.applied(priority),
            (1..=count).collect::<Vec<_>>()
        );
    }
    assert_eq!(edge.outbox.settled(), 500);
    edge.stop.cancel();
    edge.running.await.unwrap();
    region.stop.cancel();
    region.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_got_no_receipt_is_sent_again_and_applied_once() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let proxy = Proxy::to(region.address).await;
    let mut edge = edge(&bed, &f1, proxy.address, US);
    edge.up().await;
    // The line breaks after the inbox has the first batch and before its receipts are out.
    region.inbox.after_next_accept(proxy.breaker());
    for _ in 0..50 {
        edge.outbox.add(Priority::Live, 100);
    }
    edge.drained().await;
    assert!(proxy.breaks() > 0);
    assert!(region.inbox.duplicates() > 0);
    assert!(edge.outbox.releases() > 0);
    let all: Vec<u64> = (1..=50).collect();
    assert_eq!(region.inbox.applied(Priority::Live), all);
}

#[tokio::test]
async fn a_region_that_was_away_is_found_again() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let first = region(&bed, &us).await;
    let proxy = Proxy::to(first.address).await;
    let mut edge = edge(&bed, &f1, proxy.address, US);
    edge.outbox.add(Priority::Live, 10);
    edge.drained().await;
    first.stop.cancel();
    first.served.await.unwrap().unwrap();
    edge.down().await;
    edge.outbox.add(Priority::Backlog, 10);
    let second = region(&bed, &us).await;
    proxy.turn_to(second.address);
    edge.drained().await;
    assert_eq!(second.inbox.applied(Priority::Backlog), [1]);
}

#[tokio::test]
async fn every_alarm_is_sent_before_the_backlog_however_many_there_are() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(nobody.local_addr().unwrap()).await;
    drop(nobody);
    let edge = edge(&bed, &f1, proxy.address, US);
    for _ in 0..10 {
        edge.outbox.add(Priority::Backlog, 10);
    }
    let alarms = flight::WINDOWS[0].parcels + 50;
    for _ in 0..alarms {
        edge.outbox.add(Priority::Alarm, 10);
    }
    proxy.turn_to(region.address);
    edge.drained().await;
    let order = region.inbox.order();
    let first = order.iter().position(|(p, _)| *p == Priority::Backlog);
    assert_eq!(first, Some(alarms));
}

#[tokio::test]
async fn an_alarm_and_a_live_reading_pass_a_backlog_that_is_being_drained() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    region.inbox.pause();
    let edge = edge(&bed, &f1, region.address, US);
    let (count, bytes) = (400, 32 << 10);
    for _ in 0..count {
        edge.outbox.add(Priority::Backlog, bytes);
    }
    let window = flight::WINDOWS[2];
    let under_way = window.bytes / bytes;
    eventually("a full window", || edge.outbox.leased() == under_way).await;
    edge.outbox.add(Priority::Live, 100);
    edge.outbox.add(Priority::Alarm, 100);
    region.inbox.resume();
    edge.drained().await;
    let order = region.inbox.order();
    let before = |priority| order.iter().position(|(p, _)| *p == priority).unwrap();
    // Whatever was under way goes first, and what was leased while the alarm was written; no more.
    let bound = 2 * under_way;
    assert!(
        before(Priority::Alarm) <= bound,
        "{}",
        before(Priority::Alarm)
    );
    assert!(
        before(Priority::Live) <= bound,
        "{}",
        before(Priority::Live)
    );
    assert_eq!(order.len(), count + 2);
    assert!(edge.outbox.most_leased_bytes(Priority::Backlog) <= window.bytes);
}

#[tokio::test]
async fn a_parcel_that_is_refused_does_not_hold_up_the_next() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    region.gate.refuse(2, "policy");
    let edge = edge(&bed, &f1, region.address, US);
    for _ in 0..5 {
        edge.outbox.add(Priority::Live, 10);
    }
    edge.drained().await;
    assert_eq!(region.inbox.applied(Priority::Live), [1, 3, 4, 5]);
    assert_eq!(edge.outbox.refused(), [(2, "policy".to_owned())]);
}

#[tokio::test]
async fn a_parcel_that_is_not_what_it_claims_is_refused_before_the_inbox() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let edge = edge(&bed, &f1, region.address, US);
    type Bend = fn(&mut Parcel);
    let bends: [(Bend, &str); 6] = [
        (|p| p.from = "edge/us/us/us-f2".into(), "wrong-sender"),
        (|p| p.to = "regional/eu/eu".into(), "wrong-receiver"),
        (|p| p.body = vec![1].into(), "digest-mismatch"),
        (|p| p.digest = vec![0; 31].into(), "malformed"),
        (|p| p.id = vec![0; 16].into(), ""),
        (
            |p| p.body = vec![0; MAX_PARCEL_BYTES + 1].into(),
            "too-large",
        ),
    ];
    for (bend, _) in &bends {
        edge.outbox.add_bent(Priority::Live, bend);
    }
    edge.drained().await;
    let expected: Vec<_> = (1..)
        .zip(bends.map(|(_, reason)| reason.to_owned()))
        .filter(|(_, reason)| !reason.is_empty())
        .collect();
    assert_eq!(edge.outbox.refused(), expected);
    assert_eq!(region.inbox.applied(Priority::Live), [5]);
}

#[tokio::test]
async fn what_the_region_cannot_store_now_is_kept_and_stored_later() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    region.inbox.fail_next(3);
    let edge = edge(&bed, &f1, region.address, US);
    for _ in 0..20 {
        edge.outbox.add(Priority::Alarm, 10);
    }
    edge.drained().await;
    let all: Vec<u64> = (1..=20).collect();
    assert_eq!(region.inbox.applied(Priority::Alarm), all);
    assert!(edge.outbox.deferred() > 0);
}

#[tokio::test]
async fn a_region_that_defers_many_times_ends_up_with_everything_once() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let edge = edge(&bed, &f1, region.address, US);
    // Each round defers a window whose rear is still under way, in every priority.
    for _ in 0..3 {
        region.inbox.fail_next(2);
        for n in 0..600 {
            edge.outbox.add(Priority::ALL[n % 3], 2_000);
        }
        edge.drained().await;
    }
    for priority in Priority::ALL {
        let all: Vec<u64> = (1..=600).collect();
        assert_eq!(region.inbox.applied(priority), all);
    }
    assert!(edge.outbox.deferred() > 0);
    assert_eq!(edge.outbox.settled(), 1_800);
}

#[tokio::test]
async fn an_edge_of_another_region_is_refused_by_the_server_with_an_audit_row() {
    let bed = Testbed::new();
    let (us, _) = both(&bed);
    let region = region(&bed, &us).await;
    for (other, reason) in [
        ("edge/eu/eu/eu-f1", "other-jurisdiction"),
        ("edge/us/west/us-f9", "other-region"),
        ("global", "no-link"),
    ] {
        let stranger = bed.holder(&node(other));
        for _ in 0..2 {
            let mut client = rogue::client(&bed, &stranger, region.address, US).await;
            let refused = client.deliver(tokio_stream::empty::<Parcel>()).await;
            let status = refused.unwrap_err();
            assert_eq!(status.code(), tonic::Code::PermissionDenied);
            assert_eq!(status.message(), reason);
        }
        assert_eq!(region.gate.turned_away_last(), (node(other), reason));
    }
    assert_eq!(region.gate.turned_away_count(), 3, "one row a peer");
    assert!(region.inbox.order().is_empty());
}

#[tokio::test]
async fn an_edge_that_dials_another_region_refuses_it_and_writes_one_audit_row() {
    let bed = Testbed::new();
    let (us, _) = both(&bed);
    let region = region(&bed, &us).await;
    let eu_f1 = bed.holder(&node("edge/eu/eu/eu-f1"));
    let proxy = Proxy::to(region.address).await;
    let edge = edge(&bed, &eu_f1, proxy.address, "regional/eu/eu");
    edge.outbox.add(Priority::Alarm, 10);
    eventually("three tries", || proxy.connections() >= 3).await;
    let row = (node(US), "other-jurisdiction");
    assert_eq!(edge.audit.turned_away_last(), row);
    assert_eq!(edge.audit.turned_away_count(), 1);
    assert_eq!(edge.outbox.waiting(), 1);
    assert!(matches!(*edge.state.borrow(), LinkState::Down { .. }));
    assert!(region.inbox.order().is_empty());
}

#[tokio::test]
async fn a_link_that_the_rules_do_not_know_is_refused_before_it_is_dialled() {
    let bed = Testbed::new();
    let eu_f1 = bed.holder(&node("edge/eu/eu/eu-f1"));
    let nowhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let refused = Uplink::new(parts(&bed, &eu_f1, nowhere, US));
    assert!(matches!(
        refused,
        Err(LinkError::NoRoute {
            reason: "other-jurisdiction",
            ..
        })
    ));
    let mut other = parts(&bed, &eu_f1, nowhere, "regional/eu/eu");
    other.here = place("edge/eu/eu/eu-f2");
    assert!(matches!(
        Uplink::new(other),
        Err(LinkError::NotThisNode { .. })
    ));
}

#[tokio::test]
async fn a_link_is_cut_when_its_peer_is_revoked_and_not_made_again() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let mut edge = edge(&bed, &f1, region.address, US);
    edge.up().await;
    bed.revoke(&f1);
    region.tls.look().unwrap();
    edge.down().await;
    edge.outbox.add(Priority::Live, 10);
    let mut again = edge.state.clone();
    again.mark_unchanged();
    let refused = rogue::dial(&bed, &f1, region.address, US).await;
    assert!(refused.is_err());
    assert!(region.inbox.order().is_empty());
    assert!(!again.has_changed().unwrap());
}

#[tokio::test]
async fn idle_connections_block_nobody() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let mut idle = Vec::new();
    // Each would hold a place for as long as a handshake may take.
    let begun = std::time::Instant::now();
    for _ in 0..300 {
        idle.push(
            tokio::net::TcpStream::connect(region.address)
                .await
                .unwrap(),
        );
    }
    let edge = edge(&bed, &f1, region.address, US);
    edge.outbox.add(Priority::Live, 10);
    edge.drained().await;
    assert!(
        begun.elapsed() < super::HANDSHAKE_TIMEOUT,
        "they were waited for"
    );
    drop(idle);
}

#[tokio::test]
async fn a_receipt_with_another_key_digest_or_receiver_settles_nothing_and_ends_the_link() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    for lie in [rogue::Lie::Key, rogue::Lie::Digest, rogue::Lie::Receiver] {
        let (address, calls) = rogue::serve(&bed, &us, lie).await;
        let edge = edge(&bed, &f1, address, US);
        edge.outbox.add(Priority::Live, 10);
        eventually("a second call", || calls() >= 2).await;
        assert_eq!(edge.outbox.settled(), 0);
        assert_eq!(edge.outbox.waiting(), 1);
        edge.stop.cancel();
        edge.running.await.unwrap();
    }
}

#[tokio::test]
async fn receipts_that_come_reordered_or_twice_settle_each_parcel_once() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    for lie in [rogue::Lie::Reversed, rogue::Lie::Twice] {
        let (address, calls) = rogue::serve(&bed, &us, lie).await;
        let edge = edge(&bed, &f1, address, US);
        for _ in 0..rogue::PAIRS * 2 {
            edge.outbox.add(Priority::Live, 10);
        }
        edge.drained().await;
        assert_eq!(edge.outbox.settled(), rogue::PAIRS * 2);
        assert_eq!(calls(), 1);
    }
}

#[tokio::test]
async fn a_tap_reads_what_goes_over_the_link_and_is_refused_outside_a_local_mesh() {
    let bed = Testbed::new();
    let dir = bed.dir.path().join("tap");
    let refused = Tap::new(dir.clone(), false);
    assert!(matches!(refused, Err(LinkError::TapRefused)));
    assert!(!dir.exists());
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let outbox = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        tap: Some(Tap::new(dir.clone(), true).unwrap()),
        ..parts(&bed, &f1, region.address, US)
    });
    tokio::spawn(uplink.unwrap().run(CancellationToken::new()));
    let canary = b"Canary-Quetzalcoatl";
    outbox.add_bent(Priority::Live, |parcel| {
        parcel.body = canary.to_vec().into();
        fakes::seal(parcel);
    });
    eventually("an empty outbox", || outbox.waiting() == 0).await;
    let seen = std::fs::read_dir(&dir).unwrap().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes.windows(canary.len()).any(|window| window == canary)
    });
    assert!(seen);
}

#[tokio::test]
async fn a_region_whose_certificate_or_key_is_not_its_own_does_not_serve() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let inbox = Arc::new(MemInbox::default());
    for (here, key) in [("regional/eu/eu", &us.key), (US, &f1.key)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Door {
            here: place(here),
            key: key.clone(),
            gate: Arc::new(MemGate::new(&inbox)),
            inbox: Arc::clone(&inbox) as _,
            tls: bed.tls(&us),
            outbox: None,
            bulk: None,
            authority: None,
            tap: None,
        };
        serve(listener, door, CancellationToken::new())
            .await
            .unwrap_err();
    }
}
