//! Parcels that go down on a connection that the lower tier dialled.
use super::*;

/// A region that sends down, and a facility that collects.
struct Pair {
    address: SocketAddr,
    /// What waits at the region for the facility.
    down: Arc<MemOutbox>,
    /// What waits at the facility for the region.
    up: Arc<MemOutbox>,
    /// The facility's.
    inbox: Arc<MemInbox>,
    gate: Arc<MemGate>,
    region: Arc<MemInbox>,
    state: watch::Receiver<LinkState>,
    stop: CancellationToken,
}

fn door(bed: &Testbed, holder: &Holder, inbox: &Arc<MemInbox>, gate: &Arc<MemGate>) -> Door {
    Door {
        here: holder.identity.place().unwrap().clone(),
        key: holder.key.clone(),
        gate: Arc::clone(gate) as _,
        inbox: Arc::clone(inbox) as _,
        tls: bed.tls(holder),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    }
}

/// Serves, and dials through `via` if there is one.
async fn pair(bed: &Testbed, via: Option<&Proxy>) -> Pair {
    let (us, f1) = both(bed);
    let (region, down) = (Arc::default(), Arc::new(MemOutbox::new(US, EDGE)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Door {
        outbox: Some(Arc::clone(&down) as _),
        ..door(bed, &us, &region, &Arc::new(MemGate::new(&region)))
    };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, serving, stop.clone()));
    if let Some(proxy) = via {
        proxy.turn_to(address);
    }
    let inbox = Arc::new(MemInbox::default());
    let gate = Arc::new(MemGate::new(&inbox));
    let up = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&up) as _,
        collect: Some(Arc::new(door(bed, &f1, &inbox, &gate))),
        bulk: None,
        ..parts(bed, &f1, via.map_or(address, |proxy| proxy.address), US)
    })
    .unwrap();
    let state = uplink.state();
    tokio::spawn(uplink.run(stop.clone()));
    Pair {
        address,
        down,
        up,
        inbox,
        gate,
        region,
        state,
        stop,
    }
}

async fn collected(pair: &Pair) {
    eventually("everything collected", || pair.down.waiting() == 0).await;
}

async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

#[tokio::test]
async fn parcels_go_both_ways_at_once_each_once_in_order_and_leave_by_their_receipts() {
    let bed = Testbed::new();
    let pair = pair(&bed, None).await;
    for n in 0..300 {
        pair.down.add(Priority::ALL[n % 3], 100);
        pair.up.add(Priority::ALL[n % 3], 100);
    }
    collected(&pair).await;
    eventually("everything delivered", || pair.up.waiting() == 0).await;
    let all: Vec<u64> = (1..=100).collect();
    for priority in Priority::ALL {
        assert_eq!(pair.inbox.applied(priority), all);
        assert_eq!(pair.region.applied(priority), all);
    }
    assert_eq!((pair.down.settled(), pair.up.settled()), (300, 300));
    // What is added later comes without another call.
    pair.down.add(Priority::Alarm, 10);
    collected(&pair).await;
    assert_eq!(pair.inbox.applied(Priority::Alarm).len(), 101);
    pair.stop.cancel();
}

#[tokio::test]
async fn what_was_collected_and_got_no_receipt_comes_again_and_is_applied_once() {
    let bed = Testbed::new();
    let proxy = Proxy::to(nobody().await).await;
    let mut pair = pair(&bed, Some(&proxy)).await;
    let up = |state: &LinkState| matches!(state, LinkState::Up { .. });
    pair.state.wait_for(up).await.unwrap();
    pair.inbox.after_next_accept(proxy.breaker());
    for _ in 0..50 {
        pair.down.add(Priority::Live, 100);
    }
    collected(&pair).await;
    assert!(proxy.breaks() > 0);
    assert!(pair.inbox.duplicates() > 0);
    let all: Vec<u64> = (1..=50).collect();
    assert_eq!(pair.inbox.applied(Priority::Live), all);
    pair.stop.cancel();
}

#[tokio::test]
async fn what_a_facility_refuses_is_held_above_and_holds_up_nothing_behind_it() {
    let bed = Testbed::new();
    let pair = pair(&bed, None).await;
    pair.gate.refuse(2, "policy");
    // Of another facility, and not what its digest says.
    for _ in 0..3 {
        pair.down.add(Priority::Live, 10);
    }
    pair.down.add_bent(Priority::Live, |parcel| {
        parcel.to = "edge/us/us/us-f2".into();
    });
    pair.down.add_bent(Priority::Live, |parcel| {
        parcel.digest = vec![1; 32].into();
    });
    pair.down.add(Priority::Live, 10);
    collected(&pair).await;
    assert_eq!(pair.inbox.applied(Priority::Live), [1, 3, 6]);
    let refused: Vec<_> = pair.down.refused();
    let expected = [(2, "policy"), (4, "wrong-receiver"), (5, "digest-mismatch")];
    assert_eq!(refused.len(), expected.len());
    for ((seq, reason), expected) in refused.iter().zip(expected) {
        assert_eq!((*seq, reason.as_str()), expected);
    }
    pair.stop.cancel();
}

#[tokio::test]
async fn a_facility_that_collects_from_a_region_that_sends_nothing_down_delivers_all_the_same() {
    let bed = Testbed::new();
    let (us, f1) = both(&bed);
    let region = region(&bed, &us).await;
    let inbox = Arc::default();
    let outbox = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        collect: Some(Arc::new(door(&bed, &f1, &inbox, &Arc::default()))),
        bulk: None,
        ..parts(&bed, &f1, region.address, US)
    });
    let stop = CancellationToken::new();
    tokio::spawn(uplink.unwrap().run(stop.clone()));
    outbox.add(Priority::Live, 10);
    eventually("delivered", || outbox.waiting() == 0).await;
    assert_eq!(region.inbox.applied(Priority::Live), [1]);
    stop.cancel();
}

#[tokio::test]
async fn nobody_collects_what_is_for_another() {
    let bed = Testbed::new();
    let pair = pair(&bed, None).await;
    let other = bed.holder(&node("edge/us/us/us-f2"));
    let inbox = Arc::<MemInbox>::default();
    let outbox = Arc::new(MemOutbox::new("edge/us/us/us-f2", US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        collect: Some(Arc::new(door(&bed, &other, &inbox, &Arc::default()))),
        bulk: None,
        ..parts(&bed, &other, pair.address, US)
    });
    tokio::spawn(uplink.unwrap().run(pair.stop.clone()));
    for _ in 0..20 {
        pair.down.add(Priority::Live, 10);
        outbox.add(Priority::Live, 10);
    }
    collected(&pair).await;
    eventually("delivered", || outbox.waiting() == 0).await;
    assert_eq!(pair.inbox.applied(Priority::Live).len(), 20);
    assert!(inbox.order().is_empty());
    pair.stop.cancel();
}
