//! The ledger answers the same parcel the same way, and takes each place in the order once.
use super::*;
use bytes::Bytes;

fn sender() -> Place {
    "edge/us/us/us-f1".parse().unwrap()
}

fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    schema(&conn).unwrap();
    conn
}

fn parcel(seq: u64) -> Parcel {
    Parcel {
        id: Bytes::copy_from_slice(&[seq as u8; 16]),
        digest: Bytes::copy_from_slice(&[seq as u8; 32]),
        priority: 1,
        seq,
        ..Parcel::default()
    }
}

fn look(conn: &Connection, parcel: &Parcel) -> Check {
    look_all(conn, std::slice::from_ref(parcel)).remove(0)
}

fn look_all(conn: &Connection, parcels: &[Parcel]) -> Vec<Check> {
    check(conn, &sender(), parcels).unwrap()
}

fn accept(conn: &Connection, seq: u64) -> Verdict {
    let verdict = Verdict::Accepted { stored: seq as u32 };
    record(conn, &sender(), &parcel(seq), &verdict).unwrap();
    verdict
}

#[test]
fn a_parcel_is_fresh_once_and_then_answered_the_same() {
    let conn = database();
    assert_eq!(look(&conn, &parcel(1)), Check::Fresh);
    let verdict = accept(&conn, 1);
    assert_eq!(look(&conn, &parcel(1)), Check::Seen(verdict.clone()));
    record(
        &conn,
        &sender(),
        &parcel(1),
        &Verdict::Refused {
            reason: reason::OTHER,
        },
    )
    .unwrap();
    assert_eq!(look(&conn, &parcel(1)), Check::Seen(verdict));
    assert_eq!(last(&conn, &sender(), Priority::Live).unwrap(), 1);
}

#[test]
fn every_final_answer_is_kept_and_a_deferral_is_not() {
    let conn = database();
    let answers = [
        Verdict::Accepted { stored: 7 },
        Verdict::Quarantined {
            reason: reason::UNMAPPABLE,
        },
        Verdict::Refused {
            reason: reason::UNKNOWN_KIND,
        },
    ];
    for (seq, verdict) in (1..).zip(&answers) {
        record(&conn, &sender(), &parcel(seq), verdict).unwrap();
        assert_eq!(look(&conn, &parcel(seq)), Check::Seen(verdict.clone()));
    }
    record(
        &conn,
        &sender(),
        &parcel(4),
        &Verdict::Deferred {
            reason: reason::NO_SPACE,
        },
    )
    .unwrap();
    assert_eq!(look(&conn, &parcel(4)), Check::Fresh);
}

#[test]
fn a_parcel_after_a_gap_is_deferred_unless_the_batch_fills_it() {
    let conn = database();
    accept(&conn, 1);
    assert_eq!(look(&conn, &parcel(3)), Check::Gap);
    let batch = look_all(&conn, &[parcel(2), parcel(3), parcel(5), parcel(3)]);
    assert_eq!(batch, [Check::Fresh, Check::Fresh, Check::Gap, Check::Gap]);
    let gap = Check::Gap.verdict();
    assert_eq!(
        gap,
        Some(Verdict::Deferred {
            reason: reason::OUT_OF_ORDER
        })
    );
}

#[test]
fn the_same_place_in_the_order_with_another_parcel_is_a_conflict() {
    let conn = database();
    accept(&conn, 1);
    for other in [
        Parcel {
            id: Bytes::from_static(&[9; 16]),
            ..parcel(1)
        },
        Parcel {
            digest: Bytes::from_static(&[9; 32]),
            ..parcel(1)
        },
    ] {
        assert_eq!(look(&conn, &other), Check::Conflict);
    }
}

#[test]
fn senders_and_priorities_have_their_own_order() {
    let conn = database();
    accept(&conn, 1);
    let alarm = Parcel {
        priority: 0,
        ..parcel(1)
    };
    assert_eq!(look(&conn, &alarm), Check::Fresh);
    let other = "edge/us/us/us-f2".parse().unwrap();
    assert_eq!(check(&conn, &other, &[parcel(2)]).unwrap(), [Check::Gap]);
}

#[test]
fn a_refusal_that_the_gate_recorded_ahead_does_not_hold_up_what_follows() {
    let conn = database();
    record(
        &conn,
        &sender(),
        &parcel(2),
        &Verdict::Refused { reason: "policy" },
    )
    .unwrap();
    assert_eq!(last(&conn, &sender(), Priority::Live).unwrap(), 0);
    let batch = look_all(&conn, &[parcel(1), parcel(3)]);
    assert_eq!(batch, [Check::Fresh, Check::Fresh]);
    accept(&conn, 1);
    assert_eq!(last(&conn, &sender(), Priority::Live).unwrap(), 2);
    assert_eq!(look(&conn, &parcel(3)), Check::Fresh);
}

#[test]
fn answers_before_the_window_are_forgotten_and_refused() {
    let conn = database();
    for seq in 1..=WINDOW + 2 {
        accept(&conn, seq);
    }
    assert_eq!(look(&conn, &parcel(2)), Check::Forgotten);
    assert!(matches!(look(&conn, &parcel(3)), Check::Seen(_)));
}

#[test]
fn a_parcel_without_a_place_in_the_order_is_refused() {
    let conn = database();
    for odd in [
        parcel(0),
        parcel(u64::MAX),
        Parcel {
            priority: 3,
            ..parcel(1)
        },
    ] {
        let verdict = look(&conn, &odd).verdict();
        assert_eq!(
            verdict,
            Some(Verdict::Refused {
                reason: reason::MALFORMED
            })
        );
    }
}

#[test]
fn a_sender_cannot_fill_the_ledger_with_places_far_ahead() {
    let conn = database();
    let refused = Verdict::Refused {
        reason: reason::MALFORMED,
    };
    for seq in [WINDOW, WINDOW + 1, WINDOW + 2, 1 << 40] {
        record(&conn, &sender(), &parcel(seq), &refused).unwrap();
    }
    let rows: i64 = conn
        .query_row("SELECT count(*) FROM inbox_answer", [], |row| row.get(0))
        .unwrap();
    assert_eq!(rows, 1);
}
