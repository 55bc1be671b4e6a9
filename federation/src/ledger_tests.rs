//! The door of a node, from the arrival of a parcel to its answer.
use super::*;
use crate::{
    envelope::{self, Envelope, Refusal},
    outbox::Load,
    port::{Depths, LeaseLimits, Outbox},
    reason,
    wire::{Outcome, Parcel, Receipt},
};
use ed25519_dalek::SigningKey;
use messages::{Body, DeviceRecord, DeviceRecords, ReadingBatch};
use tempfile::TempDir;
use types::{EnvelopeId, Priority, Purpose, Timestamp};

const KEY: [u8; 32] = [7; 32];

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

struct Node {
    ledger: Ledger,
    dir: TempDir,
}

fn node() -> Node {
    let dir = tempfile::tempdir().unwrap();
    let ledger = reopen(&dir);
    Node { ledger, dir }
}

fn reopen(dir: &TempDir) -> Ledger {
    let here = place("global");
    let signer = Signer::new(&here, SigningKey::from_bytes(&KEY));
    let rules = Rules::builtin().unwrap();
    let now = Arc::new(|| Timestamp(1_000));
    Ledger::open(&dir.path().join("ledger.db"), here, rules, signer, now).unwrap()
}

fn parcel_of<T: Body>(body: &T, seq: u64) -> Parcel {
    let bytes = body.encode_to_vec();
    Parcel {
        id: vec![u8::try_from(seq).unwrap(); 16].into(),
        priority: 1,
        seq,
        data_class: T::CLASS.as_str().into(),
        purpose: "operations".into(),
        from: "regional/eu/eu".into(),
        to: "global".into(),
        kind: T::KIND.into(),
        count: body.count(),
        digest: envelope::digest(&bytes),
        body: bytes.into(),
        ..Parcel::default()
    }
}

fn devices(seq: u64) -> Parcel {
    let body = DeviceRecords {
        devices: vec![DeviceRecord::default(); 2],
        ..DeviceRecords::default()
    };
    parcel_of(&body, seq)
}

fn intact(parcels: impl IntoIterator<Item = Parcel>) -> Vec<Intact> {
    Intact::all(parcels).unwrap()
}

fn arrivals(parcels: impl IntoIterator<Item = Parcel>) -> Vec<Arrival> {
    parcels
        .into_iter()
        .map(|parcel| Arrival {
            parcel,
            fault: None,
        })
        .collect()
}

/// Answers with the sequence of each parcel, and counts.
#[derive(Clone, Default)]
struct Counting {
    applied: Arc<Mutex<Vec<u64>>>,
    fails: Arc<Mutex<bool>>,
}

#[async_trait]
impl Apply for Counting {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        if std::mem::take(&mut *self.fails.lock()) {
            return Err(PortError {
                kind: PortErrorKind::Unavailable,
                ..internal("apply")
            });
        }
        self.applied
            .lock()
            .extend(parcels.iter().map(|parcel| parcel.seq));
        let answers = parcels.iter().map(|parcel| Verdict::Accepted {
            stored: u32::try_from(parcel.seq).unwrap(),
        });
        Ok(answers.collect())
    }
}

/// A second connection to the node's file.
fn look(node: &Node) -> Connection {
    db::open(&node.dir.path().join("ledger.db")).unwrap()
}

/// Entries of the audit log, which is as it was signed.
fn verified(node: &Node) -> u64 {
    let key = SigningKey::from_bytes(&KEY).verifying_key();
    audit::verify(&look(node), "medmesh/global", &key, &[])
        .unwrap()
        .size
}

fn log(node: &Node) -> Vec<(Decision, String)> {
    let entries = audit::list(&look(node), 0, 100).unwrap();
    entries
        .into_iter()
        .map(|(_, entry)| (entry.decision(), entry.reason().to_owned()))
        .collect()
}

#[tokio::test]
async fn what_the_rules_allow_is_admitted_and_what_they_do_not_is_refused_and_both_are_audited() {
    let node = node();
    let eu = place("regional/eu/eu");
    let mut claims = devices(3);
    claims.data_class = "aggregate".into();
    let mut arrivals = arrivals([devices(1), parcel_of(&ReadingBatch::default(), 2), claims]);
    node.ledger.admit(&eu, &mut arrivals).await.unwrap();
    assert_eq!(arrivals[0].fault, None);
    let refusal = arrivals[1]
        .fault
        .expect("patient-level data never come here");
    assert_eq!(arrivals[2].fault, Some(reason::WRONG_CLASS));
    let expected = [
        (Decision::Admitted, String::new()),
        (Decision::Denied, refusal.to_owned()),
        (Decision::Denied, reason::WRONG_CLASS.to_owned()),
    ];
    assert_eq!(log(&node), expected);
    assert_eq!(verified(&node), 3);
}

#[tokio::test]
async fn a_refusal_is_final_and_does_not_hold_up_what_comes_after_it() {
    let node = node();
    let eu = place("regional/eu/eu");
    let refused = parcel_of(&ReadingBatch::default(), 2);
    let mut batch = arrivals([devices(1), refused.clone(), devices(3)]);
    node.ledger.admit(&eu, &mut batch).await.unwrap();
    let counting = Counting::default();
    let inbox = node.ledger.inbox(counting.clone());
    let answers = inbox.accept(&eu, intact([devices(1), devices(3)])).await;
    let stored = |stored| Verdict::Accepted { stored };
    assert_eq!(answers.unwrap(), [stored(1), stored(3)]);
    let mut again = arrivals([refused]);
    node.ledger.admit(&eu, &mut again).await.unwrap();
    assert_eq!(again[0].fault, batch[1].fault);
    assert_eq!(log(&node).len(), 3, "an answer given again is no decision");
}

#[tokio::test]
async fn a_parcel_that_comes_again_gets_the_same_answer_and_is_applied_once() {
    let node = node();
    let eu = place("regional/eu/eu");
    let counting = Counting::default();
    let stored = |stored| Verdict::Accepted { stored };
    let inbox = node.ledger.inbox(counting.clone());
    let first = inbox.accept(&eu, intact([devices(1), devices(2)])).await;
    assert_eq!(first.unwrap(), [stored(1), stored(2)]);
    drop(inbox);
    let inbox = reopen(&node.dir).inbox(counting.clone());
    let again = inbox
        .accept(&eu, intact([devices(2), devices(1), devices(3)]))
        .await;
    assert_eq!(again.unwrap(), [stored(2), stored(1), stored(3)]);
    assert_eq!(*counting.applied.lock(), [1, 2, 3]);
}

#[tokio::test]
async fn a_parcel_after_a_gap_is_deferred_and_each_sender_has_its_own_order() {
    let node = node();
    let counting = Counting::default();
    let inbox = node.ledger.inbox(counting.clone());
    let late = Verdict::Deferred {
        reason: reason::OUT_OF_ORDER,
    };
    let stored = |stored| Verdict::Accepted { stored };
    let eu = place("regional/eu/eu");
    let answers = inbox
        .accept(&eu, intact([devices(1), devices(3), devices(2)]))
        .await;
    assert_eq!(answers.unwrap(), [stored(1), late.clone(), stored(2)]);
    let answers = inbox
        .accept(&place("regional/us/us"), intact([devices(2)]))
        .await;
    assert_eq!(answers.unwrap(), [late]);
    assert_eq!(*counting.applied.lock(), [1, 2]);
}

#[tokio::test]
async fn a_store_that_is_out_of_reach_leaves_no_answer_behind() {
    let node = node();
    let eu = place("regional/eu/eu");
    let counting = Counting::default();
    *counting.fails.lock() = true;
    let inbox = node.ledger.inbox(counting.clone());
    let error = inbox.accept(&eu, intact([devices(1)])).await.unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Unavailable);
    let answers = inbox.accept(&eu, intact([devices(1)])).await.unwrap();
    assert_eq!(answers, [Verdict::Accepted { stored: 1 }]);
}

#[tokio::test]
async fn another_parcel_in_the_same_place_of_the_order_is_refused() {
    let node = node();
    let eu = place("regional/eu/eu");
    let inbox = node.ledger.inbox(Counting::default());
    inbox.accept(&eu, intact([devices(1)])).await.unwrap();
    let mut other = devices(1);
    other.id = vec![9; 16].into();
    let answers = inbox.accept(&eu, intact([other])).await.unwrap();
    let conflict = Verdict::Refused {
        reason: reason::CONFLICT,
    };
    assert_eq!(answers, [conflict]);
}

#[tokio::test]
async fn a_peer_that_is_turned_away_is_in_the_signed_log() {
    let node = node();
    let peer = Identity::Node(place("edge/eu/eu/eu-f1"));
    node.ledger
        .turned_away(&peer, reason::WRONG_PEER)
        .await
        .unwrap();
    let expected = [(Decision::PeerDenied, reason::WRONG_PEER.to_owned())];
    assert_eq!(log(&node), expected);
}

#[tokio::test]
async fn a_parcel_that_is_tried_again_before_its_answer_is_one_decision() {
    let node = node();
    let eu = place("regional/eu/eu");
    for _ in 0..3 {
        let mut batch = arrivals([devices(1)]);
        node.ledger.admit(&eu, &mut batch).await.unwrap();
        assert_eq!(batch[0].fault, None);
    }
    assert_eq!(log(&node), [(Decision::Admitted, String::new())]);
}

#[tokio::test]
async fn a_conflict_is_found_and_audited_by_the_gate() {
    let node = node();
    let eu = place("regional/eu/eu");
    let inbox = node.ledger.inbox(Counting::default());
    inbox.accept(&eu, intact([devices(1)])).await.unwrap();
    let mut other = devices(1);
    other.id = vec![9; 16].into();
    let mut batch = arrivals([other]);
    node.ledger.admit(&eu, &mut batch).await.unwrap();
    assert_eq!(batch[0].fault, Some(reason::CONFLICT));
    assert_eq!(
        log(&node),
        [(Decision::Denied, reason::CONFLICT.to_owned())]
    );
    assert_eq!(verified(&node), 1);
}

const LIMITS: LeaseLimits = LeaseLimits {
    parcels: 10,
    bytes: 1 << 20,
};

fn outgoing() -> Envelope<DeviceRecords> {
    Envelope {
        from: place("global"),
        to: place("regional/eu/eu"),
        purpose: Purpose::Operations,
        body: DeviceRecords::default(),
    }
}

fn accepted(parcel: &Parcel) -> Receipt {
    Receipt {
        id: parcel.id.clone(),
        priority: parcel.priority,
        seq: parcel.seq,
        digest: parcel.digest.clone(),
        outcome: Outcome::Accepted.into(),
        ..Receipt::default()
    }
}

#[tokio::test]
async fn an_envelope_is_shipped_once_and_leased_until_it_is_settled() {
    let node = node();
    let id = EnvelopeId::from_bytes([1; 16]);
    let shipped = node.ledger.ship(outgoing(), Priority::Live, id).await;
    assert!(matches!(shipped.unwrap(), Shipped::Queued(_)));
    let again = node.ledger.ship(outgoing(), Priority::Live, id).await;
    assert_eq!(again.unwrap(), Shipped::Known);
    node.ledger.added(&outgoing().to).await;
    let parcels = node
        .ledger
        .lease(&outgoing().to, Priority::Live, LIMITS)
        .await
        .unwrap();
    assert_eq!(parcels.len(), 1);
    let more = node
        .ledger
        .lease(&outgoing().to, Priority::Live, LIMITS)
        .await
        .unwrap();
    assert!(more.is_empty());
    let restarted = reopen(&node.dir);
    let leased = restarted
        .lease(&outgoing().to, Priority::Live, LIMITS)
        .await
        .unwrap();
    assert_eq!(leased, parcels);
    let receipt = accepted(&parcels[0]);
    restarted
        .settle(&outgoing().to, vec![receipt.clone(), receipt])
        .await
        .unwrap();
    assert_eq!(restarted.load().await.unwrap(), Load::default());
    let again = restarted.ship(outgoing(), Priority::Live, id).await;
    assert_eq!(again.unwrap(), Shipped::Known);
    assert_eq!(log(&node), [(Decision::Cleared, String::new())]);
    assert_eq!(verified(&node), 1);
}

#[tokio::test]
async fn what_is_against_the_rules_is_audited_and_not_shipped() {
    let node = node();
    let envelope = Envelope {
        purpose: Purpose::Care,
        ..outgoing()
    };
    let id = EnvelopeId::from_bytes([1; 16]);
    let shipped = node.ledger.ship(envelope, Priority::Live, id).await;
    assert_eq!(shipped.unwrap(), Shipped::Refused(Refusal::WrongPurpose));
    assert_eq!(
        node.ledger.depths(&outgoing().to).await.unwrap(),
        Depths::default()
    );
    assert_eq!(
        log(&node),
        [(Decision::Refused, "wrong-purpose".to_owned())]
    );
    assert_eq!(verified(&node), 1);
}

#[tokio::test]
async fn after_failed_fsyncs_the_ledger_goes_on_and_a_power_loss_takes_no_answer() {
    use storage::fault::{Survivors, register};
    let dir = tempfile::tempdir().unwrap();
    let (disk, path) = (register("ledger"), dir.path().join("ledger.db"));
    let open = |path: &std::path::Path| {
        let here = place("global");
        let signer = Signer::new(&here, SigningKey::from_bytes(&KEY));
        let now = Arc::new(|| Timestamp(1_000));
        Ledger::open(path, here, Rules::builtin().unwrap(), signer, now).unwrap()
    };
    let uri = format!("file:{}?vfs=ledger", path.display());
    let ledger = open(std::path::Path::new(&uri));
    let from = place("regional/eu/eu");
    let mut admitted = Vec::new();
    for seq in 1..=9 {
        match seq {
            3 => disk.fail_syncs(1),
            6 => disk.fail_syncs(2),
            _ => {}
        }
        let mut arriving = arrivals([devices(seq)]);
        arriving[0].fault = Some(reason::WRONG_RECEIVER);
        if ledger.admit(&from, &mut arriving).await.is_ok() {
            admitted.push(seq);
        }
    }
    assert!(admitted.len() < 9 && admitted.contains(&9));
    for survivors in Survivors::ALL {
        let found = tempfile::tempdir().unwrap();
        disk.after_power_loss(survivors, found.path());
        let path = found.path().join("ledger.db");
        let ledger = open(&path);
        for seq in &admitted {
            let mut again = arrivals([devices(*seq)]);
            ledger.admit(&from, &mut again).await.unwrap();
            assert_eq!(
                again[0].fault,
                Some(reason::WRONG_RECEIVER),
                "{survivors:?}"
            );
        }
        let key = SigningKey::from_bytes(&KEY).verifying_key();
        audit::verify(&db::open(&path).unwrap(), "medmesh/global", &key, &[]).unwrap();
    }
}

#[tokio::test]
async fn what_a_node_keeps_and_what_follows_from_it_are_one_commit() {
    let node = node();
    node.ledger
        .tables("t", &["CREATE TABLE kept (n INTEGER PRIMARY KEY) STRICT"])
        .await
        .unwrap();
    let step = |fails: bool| {
        move |commit: &mut Commit<'_>| {
            let tx = commit.tx();
            tx.execute("INSERT INTO kept (n) VALUES (1)", [])?;
            let to = place("regional/eu/eu");
            let body = outgoing().body;
            let how = (Purpose::Operations, Priority::Live);
            let shipped = commit.ship(&to, how, EnvelopeId::from_bytes([7; 16]), body)?;
            assert!(matches!(shipped, Shipped::Queued(_)));
            if fails {
                return Err(db::DbError::Full);
            }
            Ok(())
        }
    };
    let region = place("regional/eu/eu");
    node.ledger.commit("keep", step(true)).await.unwrap_err();
    assert_eq!(node.ledger.depths(&region).await.unwrap().0, [0; 3]);
    assert_eq!(log(&node), []);
    node.ledger.commit("keep", step(false)).await.unwrap();
    assert_eq!(node.ledger.depths(&region).await.unwrap().0, [0, 1, 0]);
    assert_eq!(log(&node), [(Decision::Cleared, String::new())]);
    verified(&node);
}
