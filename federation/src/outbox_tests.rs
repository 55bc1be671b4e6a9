//! The outbox keeps what has no receipt, in order, and lets go of what has one.
use super::*;
use crate::audit::Signer;
use crate::envelope::digest;
use ed25519_dalek::SigningKey;
use messages::{DeviceRecord, DeviceRecords};
use types::Purpose;

const ALL: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: usize::MAX,
};

fn me() -> Place {
    "edge/us/us/us-f1".parse().unwrap()
}

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    audit::schema(&conn).unwrap();
    schema(&conn).unwrap();
    conn
}

fn envelope(model: &str) -> Envelope<DeviceRecords> {
    Envelope {
        from: me(),
        to: "regional/us/us".parse().unwrap(),
        purpose: Purpose::Operations,
        body: DeviceRecords {
            devices: vec![DeviceRecord {
                model: model.into(),
                ..DeviceRecord::default()
            }],
            ..DeviceRecords::default()
        },
    }
}

fn put(conn: &Connection, priority: Priority, n: u8) -> Queued {
    let rules = Rules::builtin().unwrap();
    let id = EnvelopeId::from_bytes([n; 16]);
    ship(
        conn,
        &rules,
        envelope(&n.to_string()),
        priority,
        id,
        Timestamp(0),
    )
    .unwrap()
    .unwrap()
}

fn receipt(parcel: &Parcel, outcome: Outcome) -> Receipt {
    Receipt {
        id: parcel.id.clone(),
        priority: parcel.priority,
        seq: parcel.seq,
        digest: parcel.digest.clone(),
        outcome: outcome.into(),
        stored: match outcome {
            Outcome::Accepted => parcel.count,
            _ => 0,
        },
        reason: "policy".into(),
        ..Receipt::default()
    }
}

fn seqs(conn: &Connection, priority: Priority, after: u64) -> Vec<u64> {
    let leased = lease_from(conn, priority, after, ALL).unwrap();
    leased.iter().map(|parcel| parcel.seq).collect()
}

#[test]
fn the_sequence_is_dense_from_one_within_a_priority() {
    let conn = database();
    for n in 1..=3 {
        assert_eq!(put(&conn, Priority::Live, n).seq, u64::from(n));
    }
    assert_eq!(put(&conn, Priority::Alarm, 9).seq, 1);
    assert_eq!(seqs(&conn, Priority::Live, 0), [1, 2, 3]);
    assert_eq!(seqs(&conn, Priority::Live, 2), [3]);
    assert!(seqs(&conn, Priority::Backlog, 0).is_empty());
    assert_eq!(depths(&conn).unwrap(), Depths([1, 3, 0]));
}

#[test]
fn a_rolled_back_parcel_leaves_no_hole() {
    let mut conn = database();
    let tx = conn.transaction().unwrap();
    put(&tx, Priority::Live, 1);
    tx.rollback().unwrap();
    assert_eq!(put(&conn, Priority::Live, 2).seq, 1);
}

#[test]
fn a_lease_is_bounded_by_parcels_and_by_bytes_and_never_empty() {
    let conn = database();
    let bytes = (1..=4)
        .map(|n| put(&conn, Priority::Live, n).bytes)
        .max()
        .unwrap();
    let leased = |parcels, bytes| {
        let limits = LeaseLimits { parcels, bytes };
        lease_from(&conn, Priority::Live, 0, limits).unwrap().len()
    };
    assert_eq!(leased(2, usize::MAX), 2);
    assert_eq!(leased(9, bytes * 3), 3);
    assert_eq!(leased(9, 1), 1);
}

#[test]
fn a_receipt_settles_its_parcel_once_and_no_other() {
    let conn = database();
    for n in 1..=4 {
        put(&conn, Priority::Live, n);
    }
    let parcels = lease_from(&conn, Priority::Live, 0, ALL).unwrap();
    let mut of_another_body = receipt(&parcels[3], Outcome::Accepted);
    of_another_body.digest = digest(b"other");
    let receipts = [
        receipt(&parcels[0], Outcome::Accepted),
        receipt(&parcels[0], Outcome::Accepted),
        receipt(&parcels[1], Outcome::Refused),
        receipt(&parcels[2], Outcome::Deferred),
        of_another_body,
        Receipt {
            priority: 7,
            ..receipt(&parcels[3], Outcome::Accepted)
        },
        Receipt {
            seq: u64::MAX,
            ..receipt(&parcels[3], Outcome::Accepted)
        },
    ];
    let settled = settle(&conn, &me(), &receipts, Timestamp(0)).unwrap();
    let expected = Settled {
        accepted: 1,
        refused: 1,
        deferred: 1,
        unknown: 4,
        untaken: vec![(Priority::Live, 2)],
        ..Settled::default()
    };
    assert_eq!(settled, expected);
    assert_eq!(seqs(&conn, Priority::Live, 0), [3, 4]);
    let one = &held(&conn, 0, 9).unwrap()[0];
    assert_eq!(
        (one.time.as_str(), one.reason, one.tries, one.under_way),
        ("1970-01-01T00:00:00.000Z", "policy", 0, false)
    );
    // What is held is of no stream until it is shipped again.
    let of_no_stream = Parcel {
        stream: bytes::Bytes::new(),
        ..parcels[1].clone()
    };
    assert_eq!(
        (&one.parcel, one.origin),
        (&of_no_stream, (Priority::Live, 2))
    );
    let rest: Vec<_> = parcels[2..]
        .iter()
        .map(|parcel| receipt(parcel, Outcome::Quarantined))
        .collect();
    assert_eq!(
        settle(&conn, &me(), &rest, Timestamp(0))
            .unwrap()
            .quarantined,
        2
    );
    assert_eq!(load(&conn).unwrap(), Load::default());
}

#[test]
fn a_parcel_and_its_audit_row_are_stored_together_and_a_refusal_stores_only_the_row() {
    let conn = database();
    let (rules, id) = (Rules::builtin().unwrap(), EnvelopeId::from_bytes([1; 16]));
    let abroad = Envelope {
        to: "regional/eu/eu".parse().unwrap(),
        ..envelope("x")
    };
    let shipped = ship(&conn, &rules, abroad, Priority::Live, id, Timestamp(0)).unwrap();
    assert_eq!(shipped, Err(Refusal::OtherJurisdiction));
    put(&conn, Priority::Live, 2);
    let signer = Signer::new(&me(), SigningKey::from_bytes(&[1; 32]));
    audit::sign_head(&conn, &signer).unwrap();
    let rows = audit::list(&conn, 0, 9).unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|(_, row)| (row.decision(), row.reason(), row.count()))
        .collect();
    assert_eq!(
        rows,
        [
            (Decision::Refused, "other-jurisdiction", 1),
            (Decision::Cleared, "", 1)
        ]
    );
    assert_eq!(depths(&conn).unwrap(), Depths([0, 1, 0]));
    let key = SigningKey::from_bytes(&[1; 32]).verifying_key();
    assert_eq!(
        audit::verify(&conn, &audit::origin(&me()), &key, &[])
            .unwrap()
            .size,
        2
    );
}

#[test]
fn a_body_larger_than_a_parcel_is_not_stored() {
    let conn = database();
    let (rules, id) = (Rules::builtin().unwrap(), EnvelopeId::from_bytes([1; 16]));
    let large = envelope(&"x".repeat(MAX_BODY_BYTES));
    let shipped = ship(&conn, &rules, large, Priority::Live, id, Timestamp(0));
    assert!(matches!(shipped, Err(DbError::TooLarge { .. })));
    assert_eq!(put(&conn, Priority::Live, 1).seq, 1);
}

#[test]
fn leases_begin_after_the_last_and_again_at_what_was_deferred() {
    let conn = database();
    for n in 1..=5 {
        put(&conn, Priority::Live, n);
    }
    let mut leases = Leases::default();
    let parcels = lease_from(&conn, Priority::Live, leases.after(Priority::Live), ALL).unwrap();
    leases.take(Priority::Live, &parcels);
    assert_eq!(leases.after(Priority::Live), 5);
    leases.settle(&[
        receipt(&parcels[3], Outcome::Deferred),
        receipt(&parcels[0], Outcome::Accepted),
    ]);
    assert_eq!(leases.after(Priority::Live), 3);
    assert_eq!(leases.after(Priority::Alarm), 0);
    leases.release();
    assert_eq!(leases.after(Priority::Live), 0);
}

#[test]
fn no_lease_reaches_further_than_the_receiver_remembers() {
    let conn = database();
    let parcel = Parcel::default().encode_to_vec();
    for seq in 1..=WINDOW + 10 {
        conn.execute(
            "INSERT INTO outbox VALUES (?1, x'', x'', ?2)",
            (key(Priority::Live, seq).unwrap(), &parcel),
        )
        .unwrap();
    }
    let many = LeaseLimits {
        parcels: usize::MAX,
        bytes: usize::MAX,
    };
    let leased = lease_from(&conn, Priority::Live, 0, many).unwrap();
    assert_eq!(leased.len() as u64, WINDOW);
    assert!(
        lease_from(&conn, Priority::Live, WINDOW, many)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn what_the_receiver_did_not_take_in_whole_stays_in_this_database() {
    let conn = database();
    for n in 1..=4 {
        put(&conn, Priority::Live, n);
    }
    let parcels = lease_from(&conn, Priority::Live, 0, ALL).unwrap();
    let partial = Receipt {
        stored: parcels[1].count - 1,
        reason: String::new(),
        ..receipt(&parcels[1], Outcome::Accepted)
    };
    let receipts = [
        receipt(&parcels[0], Outcome::Accepted),
        partial,
        receipt(&parcels[2], Outcome::Quarantined),
        receipt(&parcels[3], Outcome::Refused),
    ];
    let settled = settle(&conn, &me(), &receipts, Timestamp(0)).unwrap();
    let counts = (settled.accepted, settled.partial, settled.quarantined);
    assert_eq!((counts, settled.held()), ((1, 1, 1), 3));
    let why: Vec<_> = held(&conn, 0, 9)
        .unwrap()
        .into_iter()
        .map(|held| held.reason)
        .collect();
    assert_eq!(why, ["left-out", "policy", "policy"]);
    let live = Priority::Live;
    assert_eq!(settled.untaken, [(live, 2), (live, 3), (live, 4)]);
    assert_eq!(load(&conn).unwrap(), Load::default());
    let signer = Signer::new(&me(), SigningKey::from_bytes(&[1; 32]));
    audit::sign_head(&conn, &signer).unwrap();
    let rows = audit::list(&conn, 0, 9).unwrap();
    let rows: Vec<_> = rows[4..]
        .iter()
        .map(|(_, row)| (row.decision(), row.reason()))
        .collect();
    let quarantined = Decision::QuarantinedByPeer;
    assert_eq!(
        rows,
        [
            (quarantined, "left-out"),
            (quarantined, "policy"),
            (Decision::RefusedByPeer, "policy")
        ]
    );
}
