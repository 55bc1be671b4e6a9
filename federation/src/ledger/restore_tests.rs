//! A region and the global node put back to older states, with their real ledgers and no network between.
use crate::{
    audit::{
        self, Decision, Entry, Signer, restore,
        witness::{HEADS_FILE, Witness},
    },
    db,
    envelope::{Envelope, Intact},
    ledger::{Handler, Handlers, Ledger, Shipped},
    policy::Rules,
    port::{Arrival, Gate, Inbox, LeaseLimits, Outbox, PortError, PortErrorKind, Verdict},
    restored,
    watch::Looked,
    wire::{Begin, Hello, Outcome, Parcel, Receipt, Sent},
};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use messages::{AuditCheckpoint, DeviceRecord, DeviceRecords};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

const ALL: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: 1 << 30,
};

struct Takes;

#[async_trait]
impl Handler for Takes {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let accepted = |parcel: &Intact| Verdict::Accepted {
            stored: parcel.count,
        };
        Ok(parcels.iter().map(accepted).collect())
    }
}

fn handlers(of: &Ledger) -> Handlers {
    Handlers::new()
        .on::<DeviceRecords>(Takes)
        .on::<AuditCheckpoint>(of.keeps_heads())
}

fn region() -> Place {
    "regional/eu/eu".parse().unwrap()
}

fn key(place: &Place) -> SigningKey {
    SigningKey::from_bytes(&[place.to_string().len() as u8; 32])
}

fn open(dir: &Path, here: &Place) -> Ledger {
    let signer = Signer::new(here, key(here));
    let rules = Rules::builtin().unwrap();
    let now = Arc::new(|| Timestamp(1_000));
    Ledger::open(&dir.join("ledger.db"), here.clone(), rules, signer, now).unwrap()
}

/// The same of a node that starts.
async fn start(dir: &Path, here: &Place) -> Ledger {
    let ledger = open(dir, here);
    ledger.begin_log().await.unwrap();
    ledger
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
    }
    to
}

/// Both ends say where they stand until they agree: how often the sender did.
async fn meet(sender: &Ledger, receiver: &Ledger) -> usize {
    let (from, to) = (sender.place(), receiver.place());
    let mut hello = sender.hello(to).await.unwrap();
    for said in 1..5u8 {
        let welcome = receiver
            .inbox(handlers(receiver))
            .meet(from, &hello)
            .await
            .unwrap();
        let fresh = [hello.stream[0].wrapping_add(said); 16];
        match sender.resync(to, &welcome, fresh).await.unwrap() {
            None => return said.into(),
            Some(next) => hello = next,
        }
    }
    panic!("they do not come to agree");
}

async fn ship(sender: &Ledger, id: u8) {
    let envelope = Envelope {
        from: sender.place().clone(),
        to: match sender.place() {
            Place::Edge { .. } => region(),
            _ => Place::Global,
        },
        purpose: Purpose::Operations,
        body: DeviceRecords {
            devices: vec![DeviceRecord::default()],
            ..DeviceRecords::default()
        },
    };
    let id = EnvelopeId::from_bytes([id; 16]);
    let shipped = sender.ship(envelope, Priority::Live, id).await.unwrap();
    assert!(matches!(shipped, Shipped::Queued(_)));
}

/// One round of the link: how many parcels were taken, and how many not.
async fn deliver(sender: &Ledger, receiver: &Ledger) -> (usize, usize) {
    let sent = sender
        .lease(&Place::Global, Priority::Live, ALL)
        .await
        .unwrap();
    let arrival = |parcel: &Parcel| Arrival {
        parcel: parcel.clone(),
        fault: None,
    };
    let mut arrivals: Vec<_> = sent.iter().map(arrival).collect();
    let from = sender.place();
    receiver.admit(from, &mut arrivals).await.unwrap();
    let good = arrivals
        .into_iter()
        .filter(|arrival| arrival.fault.is_none());
    let good = Intact::all(good.map(|arrival| arrival.parcel)).unwrap();
    let inbox = receiver.inbox(handlers(receiver));
    let verdicts = inbox.accept(from, good.clone()).await.unwrap();
    let head = inbox.head().await.unwrap();
    let taken = good
        .iter()
        .zip(verdicts)
        .filter(|(_, it)| matches!(it, Verdict::Accepted { .. }));
    let receipts: Vec<_> = taken
        .map(|(parcel, _)| Receipt {
            id: parcel.id.clone(),
            priority: parcel.priority,
            seq: parcel.seq,
            digest: parcel.digest.clone(),
            outcome: Outcome::Accepted.into(),
            stored: parcel.count,
            head: head.clone(),
            ..Receipt::default()
        })
        .collect();
    let taken = receipts.len();
    sender.settle(&Place::Global, receipts).await.unwrap();
    sender.release(&Place::Global).await.unwrap();
    (taken, sent.len() - taken)
}

#[tokio::test]
async fn a_global_node_put_back_is_sent_the_registry_again_and_takes_what_is_new() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (
        start(here.path(), &region()).await,
        start(there.path(), &Place::Global).await,
    );
    assert_eq!(meet(&sender, &receiver).await, 2, "introduced");
    ship(&sender, 1).await;
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
    let backup = copy(there.path());
    ship(&sender, 2).await;
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
    assert!(!sender.reship_wanted().await.unwrap());
    let receiver = open(backup.path(), &Place::Global);
    assert_eq!(meet(&sender, &receiver).await, 2);
    assert!(sender.reship_wanted().await.unwrap());
    ship(&sender, 3).await;
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
    assert_eq!(meet(&sender, &receiver).await, 1);
    assert!(
        sender.gaps().await.unwrap().is_empty(),
        "the region has all of it"
    );
    sender.reshipped().await.unwrap();
    assert!(!sender.reship_wanted().await.unwrap());
    // The restored node's log is not what the region holds: that is seen until a person has acknowledged it.
    receiver.verify().await.unwrap_err();
    let signer = Signer::new(&Place::Global, key(&Place::Global));
    let file = backup.path().join("ledger.db");
    let witness = Witness::beside(&file, &Place::Global, signer.verifying_key());
    let node = restore::Node {
        place: &Place::Global,
        signer: &signer,
        witness: &witness,
        now: Timestamp(2_000),
    };
    let mut beside = db::open(&file).unwrap();
    let done = restore::acknowledge(&mut beside, &node).unwrap();
    assert_eq!((done.gaps, done.heads), (0, 1));
    receiver.verify().await.unwrap();
    assert_eq!(meet(&sender, &receiver).await, 1);
    receiver.verify().await.unwrap();
}

#[tokio::test]
async fn a_region_put_back_goes_on_in_a_stream_of_its_own_and_the_gap_stays_until_acknowledged() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (
        start(here.path(), &region()).await,
        start(there.path(), &Place::Global).await,
    );
    meet(&sender, &receiver).await;
    ship(&sender, 1).await;
    deliver(&sender, &receiver).await;
    let backup = copy(here.path());
    for id in 2..=5 {
        ship(&sender, id).await;
        deliver(&sender, &receiver).await;
    }
    let sender = open(backup.path(), &region());
    for id in 12..=14 {
        ship(&sender, id).await;
    }
    meet(&sender, &receiver).await;
    assert_eq!(deliver(&sender, &receiver).await, (3, 0));
    for ledger in [&sender, &receiver] {
        let gaps = ledger.gaps().await.unwrap();
        assert_eq!((gaps.len(), gaps[0].cause.as_str()), (1, "sender-restored"));
    }
    let signer = Signer::new(&region(), key(&region()));
    let file = backup.path().join("ledger.db");
    let node = restore::Node {
        place: &region(),
        signer: &signer,
        witness: &Witness::beside(&file, &region(), signer.verifying_key()),
        now: Timestamp(2_000),
    };
    let mut beside = db::open(&file).unwrap();
    assert_eq!(restore::acknowledge(&mut beside, &node).unwrap().gaps, 1);
    assert_eq!(restore::acknowledge(&mut beside, &node).unwrap().gaps, 0);
    assert!(sender.gaps().await.unwrap().is_empty());
    sender.verify().await.unwrap();
}

fn other_region() -> Place {
    "regional/us/us".parse().unwrap()
}

/// Causes of the gaps that nobody has acknowledged.
async fn gaps(node: &Ledger) -> Vec<String> {
    let gaps = node.gaps().await.unwrap();
    gaps.into_iter().map(|gap| gap.cause).collect()
}

/// Meets, ships one and delivers it.
async fn tell(sender: &Ledger, receiver: &Ledger, id: u8) {
    meet(sender, receiver).await;
    ship(sender, id).await;
    assert_eq!(deliver(sender, receiver).await, (1, 0));
}

#[tokio::test]
async fn both_ends_put_back_to_the_same_moment_declare_a_gap_once_a_third_one_shows_it() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (sender, witness) = (
        open(dirs[0].path(), &region()),
        open(dirs[1].path(), &other_region()),
    );
    let receiver = open(dirs[2].path(), &Place::Global);
    tell(&sender, &receiver, 1).await;
    tell(&witness, &receiver, 2).await;
    let backups = (copy(dirs[0].path()), copy(dirs[2].path()));
    tell(&sender, &receiver, 3).await;
    tell(&witness, &receiver, 4).await;
    let sender = open(backups.0.path(), &region());
    let receiver = open(backups.1.path(), &Place::Global);
    assert_eq!(
        meet(&sender, &receiver).await,
        1,
        "they agree, and cannot know"
    );
    assert_eq!(meet(&witness, &receiver).await, 2, "it knows");
    ship(&sender, 5).await;
    assert_eq!(
        deliver(&sender, &receiver).await,
        (0, 1),
        "nothing before they have met"
    );
    assert_eq!(meet(&sender, &receiver).await, 2);
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
    for node in [&sender, &receiver] {
        assert_eq!(gaps(node).await, ["in-doubt"]);
    }
    assert!(
        gaps(&witness).await.is_empty(),
        "it has what the receiver lost"
    );
    for node in [&sender, &witness] {
        assert_eq!(meet(node, &receiver).await, 1, "nobody is doubted twice");
    }
}

#[tokio::test]
async fn whoever_says_that_a_node_was_put_back_needs_no_third_one_to_show_it() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let sender = open(dirs[0].path(), &region());
    let receiver = start(dirs[1].path(), &Place::Global).await;
    tell(&sender, &receiver, 1).await;
    let backups = (copy(dirs[0].path()), copy(dirs[1].path()));
    tell(&sender, &receiver, 2).await;
    drop(receiver);
    let mut tables = db::open(&backups.1.path().join("ledger.db")).unwrap();
    let signer = Signer::new(&Place::Global, key(&Place::Global));
    let marked = restored::mark(&mut tables, &Place::Global, &signer, Timestamp(2_000));
    assert_eq!(marked.unwrap(), 1);
    drop(tables);
    let receiver = open(backups.1.path(), &Place::Global);
    // What is not put back has what is missing, and nothing is lost.
    assert_eq!(meet(&sender, &receiver).await, 2, "it has what is missing");
    assert!(gaps(&sender).await.is_empty());
    // What was put back to the same moment agrees, and is asked all the same.
    drop(receiver);
    let backup = copy(backups.1.path());
    let mut tables = db::open(&backup.path().join("ledger.db")).unwrap();
    restored::mark(&mut tables, &Place::Global, &signer, Timestamp(2_000)).unwrap();
    drop(tables);
    let receiver = open(backup.path(), &Place::Global);
    let sender = open(copy(dirs[0].path()).path(), &region());
    assert_eq!(meet(&sender, &receiver).await, 2);
    for node in [&sender, &receiver] {
        assert_eq!(gaps(node).await, ["in-doubt"]);
    }
}

#[tokio::test]
async fn a_place_that_was_away_since_a_restore_brings_nobody_else_into_doubt_weeks_later() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let present = open(dirs[0].path(), &region());
    let away = open(dirs[1].path(), &other_region());
    let node = open(dirs[2].path(), &Place::Global);
    tell(&present, &node, 1).await;
    tell(&away, &node, 2).await;
    let backup = copy(dirs[2].path());
    tell(&present, &node, 3).await;
    tell(&away, &node, 4).await;
    drop(node);
    let node = open(backup.path(), &Place::Global);
    assert_eq!(meet(&present, &node).await, 2, "it knows");
    drop(node);
    let node = open(backup.path(), &Place::Global);
    assert_eq!(meet(&away, &node).await, 2, "it knows too, now");
    assert_eq!(meet(&present, &node).await, 1, "nothing of it is in doubt");
    assert!(gaps(&present).await.is_empty());
    assert_eq!(meet(&away, &node).await, 1);
    // Another restore is another doubt.
    let backup = copy(backup.path());
    tell(&present, &node, 5).await;
    tell(&away, &node, 6).await;
    drop(node);
    let node = open(backup.path(), &Place::Global);
    assert_eq!(meet(&away, &node).await, 2);
    assert_eq!(meet(&present, &node).await, 2, "it knows as well");
}

#[tokio::test]
async fn a_node_that_learns_from_its_receiver_that_it_was_put_back_doubts_those_who_send_to_it() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let open_all = |below: &Path, node: &Path| {
        (
            open(below, &"edge/eu/eu/eu-f1".parse().unwrap()),
            open(node, &region()),
            open(dirs[2].path(), &Place::Global),
        )
    };
    let (below, node, above) = open_all(dirs[0].path(), dirs[1].path());
    tell(&below, &node, 1).await;
    tell(&node, &above, 2).await;
    let backups = (copy(dirs[0].path()), copy(dirs[1].path()));
    tell(&below, &node, 3).await;
    tell(&node, &above, 4).await;
    drop(above);
    let (below, node, above) = open_all(backups.0.path(), backups.1.path());
    assert_eq!(meet(&below, &node).await, 1, "they agree, and cannot know");
    assert_eq!(meet(&node, &above).await, 2, "it is told");
    assert_eq!(meet(&below, &node).await, 2);
    assert_eq!(gaps(&below).await, ["in-doubt"]);
    assert_eq!(gaps(&node).await, ["sender-restored", "in-doubt"]);
    assert_eq!(meet(&below, &node).await, 1);
}

#[tokio::test]
async fn a_receiver_that_shows_a_restore_is_not_doubted_as_a_sender_whoever_showed_it_first() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let below = open(dirs[0].path(), &"edge/eu/eu/eu-f1".parse().unwrap());
    let node = open(dirs[1].path(), &region());
    let above = open(dirs[2].path(), &Place::Global);
    tell(&below, &node, 1).await;
    tell(&node, &above, 2).await;
    meet(&above, &node).await;
    let backup = copy(dirs[1].path());
    tell(&below, &node, 3).await;
    tell(&node, &above, 4).await;
    meet(&above, &node).await;
    drop(node);
    let node = open(backup.path(), &region());
    assert_eq!(meet(&below, &node).await, 2, "it shows the restore first");
    assert_eq!(meet(&node, &above).await, 2, "so does the one above");
    meet(&above, &node).await;
    assert_eq!(gaps(&node).await, ["sender-restored"]);
    assert_eq!(gaps(&above).await, ["sender-restored"]);
    for _ in 0..2 {
        assert_eq!(meet(&above, &node).await, 1, "they agree");
    }
    assert_eq!(gaps(&node).await.len(), 1);
}

#[tokio::test]
async fn parcels_of_another_stream_wait_until_both_have_met() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (
        start(here.path(), &region()).await,
        start(there.path(), &Place::Global).await,
    );
    meet(&sender, &receiver).await;
    ship(&sender, 1).await;
    let entries = receiver.verify().await.unwrap();
    let mut old = sender
        .lease(&Place::Global, Priority::Live, ALL)
        .await
        .unwrap();
    old[0].stream = vec![9; 16].into();
    let mut arrivals = vec![Arrival {
        parcel: old[0].clone(),
        fault: None,
    }];
    receiver.admit(&region(), &mut arrivals).await.unwrap();
    assert_eq!(arrivals[0].fault, None);
    let verdicts = receiver
        .inbox(handlers(&receiver))
        .accept(&region(), Intact::all(old).unwrap())
        .await
        .unwrap();
    let reason = crate::reason::OTHER_STREAM;
    assert_eq!(verdicts, [Verdict::Deferred { reason }]);
    assert_eq!(
        receiver.verify().await.unwrap(),
        entries,
        "nothing was decided"
    );
    sender.release(&Place::Global).await.unwrap();
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
}

#[tokio::test]
async fn a_stream_is_taken_only_in_place_of_the_one_that_was_named_and_senseless_hellos_change_nothing()
 {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (
        open(here.path(), &region()),
        open(there.path(), &Place::Global),
    );
    meet(&sender, &receiver).await;
    let known = sender.hello(&Place::Global).await.unwrap().stream;
    let begin = Some(Begin {
        replaces: vec![1; 16].into(),
        cause: "receiver-restored".into(),
        loss: None,
    });
    let sent = |first, last| Sent {
        first,
        last,
        holes: Vec::new(),
    };
    let hello = |stream: Vec<u8>, sent: Vec<Sent>| Hello {
        stream: stream.into(),
        sent,
        begin: begin.clone(),
        ..Hello::default()
    };
    let inbox = receiver.inbox(handlers(&receiver));
    let other = hello(vec![2; 16], vec![sent(1, 0), sent(7, 9), sent(1, 0)]);
    let welcome = inbox.meet(&region(), &other).await.unwrap();
    assert_eq!(welcome.stream, known);
    for senseless in [
        Hello::default(),
        hello(vec![2; 3], vec![sent(1, 0), sent(1, 0), sent(1, 0)]),
        hello(vec![2; 16], vec![sent(1, 0), sent(9, 7), sent(1, 0)]),
        hello(vec![2; 16], vec![sent(0, 7), sent(1, 0), sent(1, 0)]),
        hello(vec![2; 16], vec![sent(1, u64::MAX), sent(1, 0), sent(1, 0)]),
    ] {
        inbox.meet(&region(), &senseless).await.unwrap_err();
    }
}

#[tokio::test]
async fn heads_of_facilities_go_up_and_those_of_others_are_not_kept() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sender, receiver) = (
        open(here.path(), &region()),
        open(there.path(), &Place::Global),
    );
    meet(&sender, &receiver).await;
    let head = |origin: &str| {
        let (origin, root) = (origin.to_owned(), [3; 32]);
        crate::note::TreeHead {
            origin,
            size: 5,
            root,
        }
        .sign(&SigningKey::from_bytes(&[1; 32]))
    };
    let facility = head("medmesh/edge/eu/eu/eu-f1");
    for note in [
        &facility,
        &head("medmesh/edge/us/us/us-f1"),
        &head("medmesh/global"),
    ] {
        let beside = db::open(&here.path().join("ledger.db")).unwrap();
        audit::heads::keep(&beside, note).unwrap();
    }
    let id = EnvelopeId::from_bytes([4; 16]);
    assert_eq!(sender.ship_heads(Place::Global, id).await.unwrap(), 1);
    assert_eq!(deliver(&sender, &receiver).await, (1, 0));
    let held = receiver.heads().await.unwrap();
    assert!(held.contains(&facility));
    assert!(!held.iter().any(|note| note.contains("us-f1")));
    // What the receiver holds of the sender came with its parcels.
    assert!(
        held.iter()
            .any(|note| note.starts_with("medmesh/regional/eu/eu\n"))
    );
}

#[tokio::test]
async fn a_log_that_is_put_back_alone_is_found_by_the_head_that_its_node_kept() {
    let dir = tempfile::tempdir().unwrap();
    let me = Place::Global;
    let node = open(dir.path(), &me);
    node.begin_log().await.unwrap();
    let old = copy(dir.path());
    let entry = Entry::of_event(Timestamp(1), Decision::Started, "", (&me, &me), 0);
    node.write_down(vec![entry]).await.unwrap();
    node.keep_head().await.unwrap();
    assert_eq!(node.verify().await.unwrap(), 2);
    drop(node);
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-shm"] {
        let file = dir.path().join(name);
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::copy(old.path().join(name), &file);
    }
    let found = open(dir.path(), &me).verify().await.unwrap_err();
    assert_eq!(found.kind, PortErrorKind::Corrupt);
}

#[tokio::test]
async fn a_node_that_starts_has_a_head_and_one_whose_log_was_emptied_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &region());
    ledger.begin_log().await.unwrap();
    ledger.begin_log().await.unwrap();
    assert_eq!(ledger.verify().await.unwrap(), 1);
    ship(&ledger, 1).await;
    drop(ledger);
    let empty =
        "DELETE FROM audit_entry; UPDATE audit_head SET size = 0, frontier = x'', checkpoint = ''";
    db::open(&dir.path().join("ledger.db"))
        .unwrap()
        .execute_batch(empty)
        .unwrap();
    let ledger = open(dir.path(), &region());
    ledger.begin_log().await.unwrap();
    let gaps = ledger.gaps().await.unwrap();
    assert_eq!(gaps[0].cause, "log-lost");
}

#[tokio::test]
async fn a_log_whose_heads_are_gone_has_failed_until_a_person_has_acknowledged_it() {
    for me in [region(), Place::Global] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(HEADS_FILE);
        let node = start(dir.path(), &me).await;
        let entry = Entry::of_event(Timestamp(1), Decision::Started, "", (&me, &me), 0);
        node.write_down(vec![entry; 3]).await.unwrap();
        node.keep_head().await.unwrap();
        assert_eq!(node.verify().await.unwrap(), 4);
        for emptied in [false, true] {
            if emptied {
                std::fs::write(&file, "").unwrap();
            } else {
                std::fs::remove_file(&file).unwrap();
            }
            // While it runs, and what it keeps every minute does not hide it.
            node.keep_head().await.unwrap();
            let found = node.verify().await.unwrap_err();
            assert_eq!(found.kind, PortErrorKind::Corrupt);
            // When it starts again.
            let again = start(dir.path(), &me).await;
            again.keep_head().await.unwrap();
            let found = again.verify().await.unwrap_err();
            assert_eq!(found.kind, PortErrorKind::Corrupt);
            let signer = Signer::new(&me, key(&me));
            let beside = restore::Node {
                place: &me,
                signer: &signer,
                witness: &Witness::beside(
                    &dir.path().join("ledger.db"),
                    &me,
                    signer.verifying_key(),
                ),
                now: Timestamp(2_000),
            };
            let mut db = db::open(&dir.path().join("ledger.db")).unwrap();
            assert!(restore::acknowledge(&mut db, &beside).unwrap().begun);
            assert!(!restore::acknowledge(&mut db, &beside).unwrap().begun);
            node.verify().await.unwrap();
            node.keep_head().await.unwrap();
            again.verify().await.unwrap();
        }
        let rows = node.db.step("list", |db| audit::list(db, 0, 100)).await;
        let rows = rows.unwrap();
        let lost = rows.iter().filter(|(_, row)| row.reason() == "heads-lost");
        assert_eq!(lost.count(), 2);
    }
}

#[tokio::test]
async fn a_node_that_was_killed_before_its_first_head_was_kept_keeps_it_when_it_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path(), &region()).await;
    std::fs::write(dir.path().join(HEADS_FILE), "medmesh/reg").unwrap();
    let again = start(dir.path(), &region()).await;
    assert_eq!(again.verify().await.unwrap(), 1);
    // One whose log has only begun is no exception when the file is gone.
    std::fs::remove_file(dir.path().join(HEADS_FILE)).unwrap();
    let again = start(dir.path(), &region()).await;
    again.verify().await.unwrap_err();
}
