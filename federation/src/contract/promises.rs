//! The promises, each over empty files.
use super::{
    Ports, Side,
    wire::{LIMITS, Peer, down, up},
};
use crate::{
    blobs::{self, Bulk as _, CHUNK_BYTES, Descriptor, Digest, Missing},
    port::Verdict,
    reason,
};
use bytes::Bytes;
use messages::{Classified as _, DeviceRecords};
use sha2::{Digest as _, Sha256};
use types::{Place, Priority, Purpose};

const ACCEPTED: Verdict = Verdict::Accepted { stored: 1 };
const CONTENT: &[u8] = b"what is larger than a parcel";

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Three numbers for each priority, the least urgent first: 1, 2, 3 of the backlog, then 11.. live, then 21.. alarms.
fn numbers() -> impl Iterator<Item = (Priority, u32)> {
    let priorities = [
        (Priority::Backlog, 0),
        (Priority::Live, 10),
        (Priority::Alarm, 20),
    ];
    priorities
        .into_iter()
        .flat_map(|(priority, base)| (1..=6).map(move |n| (priority, base + n)))
}

/// Each once, and within its priority in the order in which it was shipped.
fn in_order(taken: &[u32]) {
    for base in [0, 10, 20] {
        let of_priority: Vec<u32> = taken
            .iter()
            .copied()
            .filter(|n| n / 10 * 10 == base)
            .collect();
        let expected: Vec<u32> = (base + 1..=base + 6).collect();
        assert_eq!(of_priority, expected, "{taken:?}");
    }
}

pub(super) async fn what_is_shipped_arrives_once_and_in_order_whatever_the_line_does(
    side: &dyn Side,
) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for (priority, number) in numbers() {
        side.ship(priority, number).await;
    }
    let inbox = peer.inbox();
    let line = up((&here, &ports), &peer, inbox.as_ref());
    line.meet().await;
    line.carry_badly(1).await;
    in_order(&peer.taken());
}

pub(super) async fn what_comes_is_taken_in_once_and_in_order_whatever_the_line_does(
    side: &dyn Side,
) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for (priority, number) in numbers() {
        peer.ship(&here, priority, number).await;
    }
    let line = down((&here, &ports), &peer);
    line.meet().await;
    // Half of it is answered, and nobody hears the answers; the node is killed.
    let batch = line.waiting(Priority::Live, 3).await;
    assert_eq!(line.deliver(batch).await, vec![ACCEPTED; 3]);
    let ports = side.open().await;
    let line = down((&here, &ports), &peer);
    line.meet().await;
    line.carry_badly(7).await;
    in_order(&side.taken().await);
}

pub(super) async fn a_lease_ends_with_its_process_or_its_link_and_nothing_is_lost(side: &dyn Side) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for number in 1..=4 {
        side.ship(Priority::Live, number).await;
    }
    let inbox = peer.inbox();
    up((&here, &ports), &peer, inbox.as_ref()).meet().await;
    let lease = |ports: Ports| {
        let to = peer.place.clone();
        async move {
            let leased = ports.outbox.lease(&to, Priority::Live, LIMITS).await;
            leased.expect("a lease").len()
        }
    };
    assert_eq!(lease(ports.clone()).await, 4);
    assert_eq!(
        lease(ports.clone()).await,
        0,
        "what is in lease is not leased again"
    );
    ports.outbox.release(&peer.place).await.expect("given back");
    assert_eq!(lease(ports.clone()).await, 4, "the link broke");
    drop(ports);
    let ports = side.open().await;
    assert_eq!(lease(ports.clone()).await, 4, "the process ended");
    let depths = ports.outbox.depths(&peer.place).await.expect("depths");
    assert_eq!(depths.of(Priority::Live), 4);
}

pub(super) async fn a_lease_takes_no_more_than_was_asked_for(side: &dyn Side) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for number in 1..=4 {
        side.ship(Priority::Live, number).await;
    }
    let inbox = peer.inbox();
    let line = up((&here, &ports), &peer, inbox.as_ref());
    line.meet().await;
    for most in [1, 3, 4, 5] {
        let leased = line.waiting(Priority::Live, most).await;
        assert_eq!(leased.len(), most.min(4));
        let sequences: Vec<u64> = leased.iter().map(|parcel| parcel.seq).collect();
        assert!(sequences.is_sorted(), "{sequences:?}");
    }
    assert!(line.waiting(Priority::Alarm, 5).await.is_empty());
}

pub(super) async fn the_same_receipt_twice_is_one_step_and_one_of_nothing_changes_nothing(
    side: &dyn Side,
) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for number in 1..=2 {
        side.ship(Priority::Live, number).await;
    }
    let inbox = peer.inbox();
    let line = up((&here, &ports), &peer, inbox.as_ref());
    line.meet().await;
    let batch = line.waiting(Priority::Live, 1).await;
    let verdicts = line.deliver(batch.clone()).await;
    for _ in 0..2 {
        line.settle(&batch, &verdicts).await;
        assert_eq!(line.waiting(Priority::Live, 9).await.len(), 1);
    }
    let mut unknown = batch;
    for parcel in &mut unknown {
        parcel.id = vec![0xee; 16].into();
        parcel.seq = 99;
    }
    line.settle(&unknown, &verdicts).await;
    assert_eq!(line.waiting(Priority::Live, 9).await.len(), 1);
    line.carry_badly(3).await;
    assert_eq!(peer.taken(), [1, 2]);
}

pub(super) async fn what_is_not_what_it_claims_is_refused_stays_so_and_holds_up_nobody(
    side: &dyn Side,
) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for number in 1..=3 {
        peer.ship(&here, Priority::Live, number).await;
    }
    let line = down((&here, &ports), &peer);
    line.meet().await;
    let mut batch = line.waiting(Priority::Live, 9).await;
    for (parcel, class) in batch.iter_mut().zip(["pseudonymous", "phi"]) {
        parcel.data_class = class.into();
    }
    let refused = Verdict::Refused {
        reason: reason::WRONG_CLASS,
    };
    let expected = [refused.clone(), refused, ACCEPTED];
    assert_eq!(line.deliver(batch.clone()).await, expected);
    let ports = side.open().await;
    let line = down((&here, &ports), &peer);
    line.meet().await;
    assert_eq!(line.deliver(batch).await, expected, "an answer stays");
    assert_eq!(side.taken().await, [3]);
}

pub(super) async fn what_comes_before_its_turn_is_deferred_and_taken_in_its_turn(side: &dyn Side) {
    let dir = dir();
    let peer = Peer::of(side, dir.path()).await;
    let (here, ports) = (side.here(), side.open().await);
    for number in 1..=3 {
        peer.ship(&here, Priority::Live, number).await;
    }
    let line = down((&here, &ports), &peer);
    line.meet().await;
    let batch = line.waiting(Priority::Live, 9).await;
    let deferred = Verdict::Deferred {
        reason: reason::OUT_OF_ORDER,
    };
    let later = batch.get(1..).unwrap_or_default().to_vec();
    assert_eq!(line.deliver(later.clone()).await, vec![deferred; 2]);
    assert!(side.taken().await.is_empty());
    assert_eq!(line.deliver(batch).await, vec![ACCEPTED; 3]);
    assert_eq!(side.taken().await, [1, 2, 3]);
}

fn other() -> Place {
    Place::Regional {
        jurisdiction: types::Jurisdiction::Apac,
        region: "elsewhere".parse().expect("a name"),
    }
}

pub(super) async fn who_was_granted_a_blob_gets_it_and_nobody_else(side: &dyn Side) {
    let ports = side.open().await;
    let descriptor = side.grants(CONTENT).await;
    let at = |offset| Missing {
        digest: descriptor.digest,
        offset,
    };
    let (peer, bulk) = (side.peer(), &ports.bulk);
    let gets = async |to: &Place, offset| {
        bulk.chunk(to, at(offset), CHUNK_BYTES)
            .await
            .expect("an answer")
    };
    assert_eq!(gets(&peer, 0).await.as_deref(), Some(CONTENT));
    assert_eq!(gets(&peer, 9).await.as_deref(), CONTENT.get(9..));
    assert_eq!(
        gets(&peer, 99).await,
        None,
        "there is nothing behind its end"
    );
    assert_eq!(gets(&other(), 0).await, None);
    let unknown = Missing {
        digest: Digest::from_bytes([1; 32]),
        offset: 0,
    };
    assert_eq!(
        bulk.chunk(&peer, unknown, CHUNK_BYTES)
            .await
            .expect("an answer"),
        None
    );
    assert!(bulk.grants_to(&peer).await.expect("an answer"));
    assert!(!bulk.grants_to(&other()).await.expect("an answer"));
}

pub(super) async fn a_blob_is_taken_from_whom_it_is_wanted_where_it_stopped_and_seen_once_it_is_whole(
    side: &dyn Side,
) {
    let dir = dir();
    let giver = Peer::of(side, dir.path()).await;
    let put = giver.blobs.files().put_in(CONTENT).expect("it is put in");
    let (descriptor, to) = (put.descriptor, side.here());
    let class = (DeviceRecords::CLASS, Purpose::Operations);
    let granted = giver.ledger.commit("grant", move |commit| {
        blobs::keep(commit.tx(), descriptor, "contract")?;
        blobs::grant(commit.tx(), descriptor.digest, &to, class)
    });
    granted.await.expect("it is granted");
    let ports = side.open().await;
    let unwanted = Missing {
        digest: descriptor.digest,
        offset: 0,
    };
    let half = Bytes::from_static(CONTENT.get(..9).unwrap_or_default());
    let took = ports.bulk.take(&side.peer(), unwanted, half.clone()).await;
    took.expect("what is not wanted is no error");
    side.wants(descriptor).await;
    let first = ports.bulk.missing(&side.peer()).await.expect("an answer");
    assert_eq!(
        first,
        Some(unwanted),
        "nothing of what was not wanted was kept"
    );
    let others = ports.bulk.missing(&other()).await.expect("an answer");
    assert_eq!(others, None, "nobody else is asked for it");
    let took = ports.bulk.take(&side.peer(), unwanted, half.clone()).await;
    took.expect("a half");
    // The same half again, and the node is killed.
    let took = ports.bulk.take(&side.peer(), unwanted, half).await;
    took.expect("the same half");
    drop(ports);
    let ports = side.open().await;
    let missing = ports.bulk.missing(&side.peer()).await.expect("an answer");
    let missing = missing.expect("the other half");
    assert_eq!(missing.offset, 9, "it goes on where it stopped");
    let rest = giver.blobs.chunk(&side.here(), missing, CHUNK_BYTES).await;
    let rest = rest.expect("an answer").expect("it is granted");
    let took = ports.bulk.take(&side.peer(), missing, rest).await;
    took.expect("the rest");
    assert_eq!(
        ports.bulk.missing(&side.peer()).await.expect("an answer"),
        None
    );
    let whole = Descriptor {
        digest: Digest::from_bytes(Sha256::digest(CONTENT).into()),
        size: CONTENT.len() as u64,
    };
    assert_eq!(descriptor, whole);
}
