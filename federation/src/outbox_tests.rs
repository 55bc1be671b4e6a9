//! The outbox keeps what has no receipt, in order, and lets go of what has one.
use super::*;
use crate::audit::Signer;
use crate::envelope::digest;
use crate::wire::Outcome;
use ed25519_dalek::SigningKey;
use messages::{DeviceRecord, DeviceRecords};
use std::collections::BTreeSet;
use types::Purpose;

const ALL: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: usize::MAX,
};

fn me() -> Place {
    "edge/us/us/us-f1".parse().unwrap()
}

fn there() -> Place {
    "regional/us/us".parse().unwrap()
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
    let leased = lease_from(conn, &there(), priority, after, ALL).unwrap();
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
    assert_eq!(depths(&conn, &there()).unwrap(), Depths([1, 3, 0]));
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
        lease_from(&conn, &there(), Priority::Live, 0, limits)
            .unwrap()
            .len()
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
    let parcels = lease_from(&conn, &there(), Priority::Live, 0, ALL).unwrap();
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
    let settled = settle(&conn, (&me(), &there()), &receipts, Timestamp(0)).unwrap();
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
        settle(&conn, (&me(), &there()), &rest, Timestamp(0))
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
    assert_eq!(depths(&conn, &there()).unwrap(), Depths([0, 1, 0]));
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
    let parcels = lease_from(
        &conn,
        &there(),
        Priority::Live,
        leases.after(&there(), Priority::Live),
        ALL,
    )
    .unwrap();
    leases.take(&there(), Priority::Live, &parcels);
    assert_eq!(leases.after(&there(), Priority::Live), 5);
    leases.settle(
        &there(),
        &[
            receipt(&parcels[3], Outcome::Deferred),
            receipt(&parcels[0], Outcome::Accepted),
        ],
    );
    assert_eq!(leases.after(&there(), Priority::Live), 3);
    assert_eq!(leases.after(&there(), Priority::Alarm), 0);
    leases.release(&there());
    assert_eq!(leases.after(&there(), Priority::Live), 0);
}

#[test]
fn no_lease_reaches_further_than_the_receiver_remembers() {
    let conn = database();
    let parcel = Parcel::default().encode_to_vec();
    for seq in 1..=WINDOW + 10 {
        conn.execute(
            "INSERT INTO outbox (key, id, digest, parcel) VALUES (?1, x'', x'', ?2)",
            (Peer::ABOVE.key(Priority::Live, seq).unwrap(), &parcel),
        )
        .unwrap();
    }
    let many = LeaseLimits {
        parcels: usize::MAX,
        bytes: usize::MAX,
    };
    let leased = lease_from(&conn, &there(), Priority::Live, 0, many).unwrap();
    assert_eq!(leased.len() as u64, WINDOW);
    assert!(
        lease_from(&conn, &there(), Priority::Live, WINDOW, many)
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
    let parcels = lease_from(&conn, &there(), Priority::Live, 0, ALL).unwrap();
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
    let settled = settle(&conn, (&me(), &there()), &receipts, Timestamp(0)).unwrap();
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

fn facility(n: u8) -> Place {
    format!("edge/us/us/us-f{n}").parse().unwrap()
}

fn down(to: &Place, n: u8) -> Envelope<DeviceRecords> {
    Envelope {
        from: there(),
        to: to.clone(),
        ..envelope(&n.to_string())
    }
}

fn put_down(conn: &Connection, to: &Place, n: u8) -> u64 {
    let id = EnvelopeId::from_bytes([n; 16]);
    let rules = Rules::builtin().unwrap();
    let put = ship(conn, &rules, down(to, n), Priority::Live, id, Timestamp(0));
    put.unwrap().unwrap().seq
}

#[test]
fn each_receiver_has_an_order_a_stream_and_leases_of_its_own() {
    let conn = database();
    let (one, other, up) = (facility(1), facility(2), Place::Global);
    for n in 1..=3 {
        assert_eq!(put_down(&conn, &one, n), u64::from(n));
    }
    assert_eq!(put_down(&conn, &other, 4), 1);
    assert_eq!(put_down(&conn, &up, 5), 1);
    let of = |to: &Place| {
        let leased = lease_from(&conn, to, Priority::Live, 0, ALL).unwrap();
        assert!(leased.iter().all(|parcel| parcel.to == to.to_string()));
        leased
    };
    let leased = [of(&one), of(&other), of(&up)];
    assert_eq!(leased.each_ref().map(Vec::len), [3, 1, 1]);
    let streams: BTreeSet<_> = leased
        .iter()
        .map(|parcels| parcels[0].stream.clone())
        .collect();
    assert_eq!(streams.len(), 3);
    assert!(of(&facility(3)).is_empty(), "nothing waits for a stranger");

    // The receipt of one settles nothing of another, whoever has the same sequence.
    let receipts = [receipt(&leased[0][0], Outcome::Accepted)];
    let by = |to: &Place| settle(&conn, (&there(), to), &receipts, Timestamp(0)).unwrap();
    assert_eq!((by(&other).unknown, by(&up).unknown), (1, 1));
    assert_eq!((by(&one).accepted, by(&one).unknown), (1, 1));
    let waiting = |to: &Place| depths(&conn, to).unwrap().of(Priority::Live);
    assert_eq!([waiting(&one), waiting(&other), waiting(&up)], [2, 1, 1]);
    assert_eq!(load(&conn).unwrap().parcels, Depths([0, 4, 0]));

    let mut leases = Leases::default();
    leases.take(&one, Priority::Live, &leased[0]);
    assert_eq!(leases.after(&one, Priority::Live), 3);
    assert_eq!(leases.after(&other, Priority::Live), 0);
    leases.release(&other);
    assert_eq!(leases.after(&one, Priority::Live), 3);
}

#[test]
fn what_is_put_into_quarantine_for_one_receiver_goes_to_it_again_and_to_no_other() {
    let conn = database();
    let (one, other) = (facility(1), facility(2));
    put_down(&conn, &other, 1);
    put_down(&conn, &one, 2);
    let parcels = lease_from(&conn, &one, Priority::Live, 0, ALL).unwrap();
    let refused = [receipt(&parcels[0], Outcome::Refused)];
    let settled = settle(&conn, (&there(), &one), &refused, Timestamp(0)).unwrap();
    assert_eq!(settled.untaken, [(Priority::Live, 1)]);
    let rules = Rules::builtin().unwrap();
    let later = Timestamp(i64::from(u32::MAX));
    let mut draw = |id: &mut [u8]| id.fill(9);
    let again = ship_again(&conn, &rules, &there(), &mut draw, later).unwrap();
    assert_eq!(again.shipped, 1);
    let back = lease_from(&conn, &one, Priority::Backlog, 0, ALL).unwrap();
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].body, parcels[0].body);
    assert_eq!(depths(&conn, &other).unwrap(), Depths([0, 1, 0]));
}

#[test]
fn a_place_that_was_given_out_is_filled_or_taken_back_and_nothing_else_takes_it() {
    let conn = database();
    let (live, rules) = (Priority::Live, Rules::builtin().unwrap());
    let place = reserve(&conn, (&me(), &there()), live).unwrap();
    assert_eq!(place.seq(), 1);
    assert_eq!(depths(&conn, &there()).unwrap(), Depths::default());
    assert_eq!(put(&conn, live, 2).seq, 2, "behind it");
    let place = give_back(&conn, place).unwrap().unwrap();
    let cleared = clear(&rules, envelope("1")).unwrap();
    let id = EnvelopeId::from_bytes([1; 16]);
    assert_eq!(
        fill(&conn, place, cleared, id, Timestamp(0)).unwrap().seq,
        1
    );
    assert_eq!(seqs(&conn, live, 0), [1, 2]);

    let place = reserve(&conn, (&me(), &there()), live).unwrap();
    assert_eq!(give_back(&conn, place).unwrap(), None);
    assert_eq!(put(&conn, live, 3).seq, 3, "no hole is left");

    let place = reserve(&conn, (&there(), &facility(1)), live).unwrap();
    let elsewhere = clear(&rules, down(&facility(2), 4)).unwrap();
    let filled = fill(&conn, place, elsewhere, id, Timestamp(0));
    assert!(matches!(filled, Err(DbError::Corrupt(_))));
}

#[test]
fn what_an_earlier_version_held_goes_on_in_its_order_and_its_stream() {
    let conn = Connection::open_in_memory().unwrap();
    audit::schema(&conn).unwrap();
    migrate(&conn, "outbox", &SCHEMA[..SCHEMA.len() - 1]).unwrap();
    let parcel = Parcel {
        to: "regional/us/us".into(),
        priority: 1,
        seq: 5,
        ..Parcel::default()
    };
    conn.execute_batch(
        "UPDATE outbox_counter SET last = 5, parcels = 1, bytes = 9 WHERE priority = 1",
    )
    .unwrap();
    let row = ((1_i64 << 56) + 5, parcel.encode_to_vec());
    conn.execute(
        "INSERT INTO outbox (key, id, digest, parcel) VALUES (?1, x'', x'', ?2)",
        row,
    )
    .unwrap();
    let stream: Vec<u8> = conn
        .query_row("SELECT id FROM outbox_stream", [], |row| row.get(0))
        .unwrap();
    schema(&conn).unwrap();
    let load = load_for(&conn, &there()).unwrap();
    assert_eq!((load.parcels, load.bytes), (Depths([0, 1, 0]), 9));
    let leased = lease_from(&conn, &there(), Priority::Live, 0, ALL).unwrap();
    assert_eq!((leased[0].seq, &leased[0].stream[..]), (5, &stream[..]));
    assert_eq!(put(&conn, Priority::Live, 6).seq, 6);
    assert!(waits_above(&conn, Priority::Live, 5).unwrap());
    assert!(!waits_above(&conn, Priority::Live, 4).unwrap());
}

#[test]
fn the_oldest_parcel_that_waits_is_known_by_when_it_was_sealed_until_it_has_its_receipt() {
    let conn = database();
    let rules = Rules::builtin().unwrap();
    assert_eq!(oldest(&conn, &there()).unwrap(), None);
    for (priority, n, at) in [
        (Priority::Live, 1, 500),
        (Priority::Live, 2, 600),
        (Priority::Alarm, 3, 700),
    ] {
        let id = EnvelopeId::from_bytes([n; 16]);
        let now = Timestamp(at);
        let queued = ship(&conn, &rules, envelope("m"), priority, id, now).unwrap();
        queued.unwrap();
    }
    let leased = lease_from(&conn, &there(), Priority::Live, 0, ALL).unwrap();
    for (settles, expected) in [(0, 500), (1, 600), (2, 700)] {
        let receipts: Vec<_> = leased[..settles]
            .iter()
            .map(|parcel| receipt(parcel, Outcome::Accepted))
            .collect();
        settle(&conn, (&me(), &there()), &receipts, Timestamp(0)).unwrap();
        let found = oldest(&conn, &there()).unwrap();
        assert_eq!(found, Some(Timestamp(expected)), "{settles} settled");
    }
    assert_eq!(held_count(&conn).unwrap(), 0);
    let alarm = lease_from(&conn, &there(), Priority::Alarm, 0, ALL).unwrap();
    let refused = [receipt(&alarm[0], Outcome::Refused)];
    settle(&conn, (&me(), &there()), &refused, Timestamp(0)).unwrap();
    assert_eq!(held_count(&conn).unwrap(), 1);
    assert_eq!(oldest(&conn, &there()).unwrap(), None);
}
