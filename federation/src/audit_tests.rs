//! The audit log finds every change.
use super::*;
use crate::merkle::{
    consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion,
};
use crate::wire::Parcel;
use ed25519_dalek::SigningKey;
use types::Timestamp;

fn me() -> Place {
    "regional/eu/eu".parse().unwrap()
}

fn signer() -> Signer {
    Signer::new(&me(), SigningKey::from_bytes(&[5; 32]))
}

fn entry(n: u32) -> Entry {
    let parcel = Parcel {
        kind: "ReadingBatch".into(),
        purpose: "care".into(),
        count: n,
        ..Parcel::default()
    };
    let peer = "edge/eu/eu/eu-f1".parse().unwrap();
    Entry::of_parcel(
        Timestamp(i64::from(n)),
        Decision::Admitted,
        "",
        &peer,
        &me(),
        &parcel,
    )
}

fn log(entries: u32) -> Connection {
    let mut conn = Connection::open_in_memory().unwrap();
    schema(&conn).unwrap();
    for n in 0..entries {
        let tx = conn.transaction().unwrap();
        assert_eq!(append(&tx, &entry(n)).unwrap(), u64::from(n));
        sign_head(&tx, &signer()).unwrap();
        tx.commit().unwrap();
    }
    conn
}

fn check(conn: &Connection, witnessed: &[String]) -> Result<TreeHead, VerifyError> {
    verify(
        conn,
        &origin(&me()),
        &signer().key.verifying_key(),
        witnessed,
    )
}

#[test]
fn another_text_is_signed_under_a_name_that_is_no_log() {
    let name = format!("{}/ledger", origin(&me()));
    let (note, key) = signer().sign_text(&format!("{name}\nspent\n"), &name);
    let verifying = signer().verifying_key();
    assert_eq!(
        note::verify(&note, &name, &verifying),
        Ok(format!("{name}\nspent\n").as_str())
    );
    assert!(key.starts_with(&format!("{name}+")));
    assert_eq!(signer().open(&note), None, "it is no head of the log");
    let forged = note.replace("spent", "spend");
    assert!(note::verify(&forged, &name, &verifying).is_err());
}

#[test]
fn an_untouched_log_verifies_and_lists_its_entries() {
    let conn = log(21);
    assert_eq!(check(&conn, &[]).unwrap().size, 21);
    let listed = list(&conn, 19, 10).unwrap();
    assert_eq!(listed, vec![(19, entry(19)), (20, entry(20))]);
}

#[test]
fn a_log_holds_every_head_that_it_signed_and_no_other_at_the_cost_of_few_bytes() {
    let mut conn = Connection::open_in_memory().unwrap();
    // An earlier version kept a root for every commit, and no frontier of its first entries.
    migrate(&conn, "audit", &SCHEMA[..2]).unwrap();
    migrate(&conn, "audit", SCHEMA).unwrap();
    let entries = u32::try_from(3 * heads::KEPT_EVERY).unwrap() + 5;
    let (mut signed, tx) = (Vec::new(), conn.transaction().unwrap());
    for n in 0..entries {
        append(&tx, &entry(n)).unwrap();
        let now = frontier(&tx).unwrap();
        if now.size().is_multiple_of(100) || now.size().abs_diff(2 * heads::KEPT_EVERY) < 3 {
            let (origin, size, root) = (origin(&me()), now.size(), now.root());
            signed.push(TreeHead { origin, size, root });
        }
    }
    tx.commit().unwrap();
    let hold = |head: &TreeHead| heads::holds(&conn, head).unwrap();
    for head in &signed {
        assert!(hold(head), "{}", head.size);
        let forged = TreeHead {
            root: [7; 32],
            ..head.clone()
        };
        assert!(!hold(&forged), "{}", head.size);
    }
    let beside: (i64, i64) = conn
        .query_row(
            "SELECT count(*), sum(length(frontier)) FROM audit_frontier",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .unwrap();
    assert_eq!(beside, (3, 4 * 32));
    sign_head(&conn, &signer()).unwrap();
    check(&conn, &[]).unwrap();
    conn.execute_batch("DELETE FROM audit_frontier WHERE size < 3000")
        .unwrap();
    assert!(signed.iter().all(hold), "also without them");
}

#[test]
fn what_is_kept_beside_a_log_to_compare_heads_with_is_verified_with_it() {
    let entries = u32::try_from(2 * heads::KEPT_EVERY).unwrap() + 5;
    let filled = || {
        let conn = log(0);
        let all: Vec<Entry> = (0..entries).map(entry).collect();
        append_all(&conn, &all).unwrap();
        sign_head(&conn, &signer()).unwrap();
        heads::keep(&conn, &head_of("medmesh/global")).unwrap();
        check(&conn, &[]).unwrap();
        conn
    };
    for (change, size) in [
        (
            "UPDATE audit_frontier SET frontier = zeroblob(32) WHERE size = 1024",
            1_024,
        ),
        ("DELETE FROM audit_frontier WHERE size = 1024", 1_024),
        ("DELETE FROM audit_frontier", 1_024),
        (
            "UPDATE audit_frontier SET size = 1025 WHERE size = 1024",
            1_024,
        ),
        ("INSERT INTO audit_frontier VALUES (7, x'')", 7),
        ("INSERT INTO audit_frontier VALUES (4096, x'')", 4_096),
    ] {
        let conn = filled();
        conn.execute_batch(change).unwrap();
        let found = check(&conn, &[]).unwrap_err();
        assert!(
            matches!(found, VerifyError::Frontier { size: at } if at == size),
            "{change}: {found}"
        );
    }
    for change in [
        "UPDATE audit_peer SET size = 3",
        "UPDATE audit_peer SET origin = 'medmesh/regional/us/us'",
        "UPDATE audit_peer SET note = 'none'",
    ] {
        let conn = filled();
        conn.execute_batch(change).unwrap();
        let found = check(&conn, &[]).unwrap_err();
        assert!(
            matches!(found, VerifyError::Peer { .. }),
            "{change}: {found}"
        );
    }
}

/// A signed head of another node's log.
fn head_of(origin: &str) -> String {
    let head = TreeHead {
        origin: origin.to_owned(),
        size: 5,
        root: [3; 32],
    };
    head.sign(&signer().key)
}

#[test]
fn frontiers_of_before_they_were_kept_are_made_once_when_the_tables_come_up_to_date() {
    let conn = log(0);
    let all: Vec<Entry> = (0..2_100).map(entry).collect();
    append_all(&conn, &all).unwrap();
    sign_head(&conn, &signer()).unwrap();
    conn.execute_batch(
        "DELETE FROM audit_frontier WHERE size = 1024;
         UPDATE federation_schema SET version = 3 WHERE part = 'audit'",
    )
    .unwrap();
    // A program of the new version that only reads takes the old tables as they are.
    check(&conn, &[]).unwrap();
    schema(&conn).unwrap();
    check(&conn, &[]).unwrap();
    conn.execute_batch("DELETE FROM audit_frontier WHERE size = 1024")
        .unwrap();
    schema(&conn).unwrap();
    check(&conn, &[]).unwrap_err();
}

#[test]
fn an_emptied_log_that_grew_again_does_not_hold_its_old_heads() {
    let old = u32::try_from(heads::KEPT_EVERY).unwrap() + 50;
    let conn = log(0);
    let fill = |from: u32| {
        let entries: Vec<Entry> = (from..from + old).map(entry).collect();
        append_all(&conn, &entries).unwrap();
        sign_head(&conn, &signer()).unwrap();
    };
    fill(0);
    let head = checkpoint(&conn).unwrap().unwrap();
    let head = signer().open(&head).unwrap();
    conn.execute_batch(
        "DELETE FROM audit_entry; UPDATE audit_head SET size = 0, frontier = x'', checkpoint = ''",
    )
    .unwrap();
    assert!(!heads::holds(&conn, &head).unwrap());
    fill(1);
    fill(1);
    assert!(!heads::holds(&conn, &head).unwrap());
    check(&conn, &[]).unwrap();
}

#[test]
fn an_exported_log_is_its_head_and_its_leaves_in_bundles_as_tlog_tiles_has_them() {
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("log");
    let conn = log(0);
    for n in 0..300 {
        append(&conn, &entry(n)).unwrap();
    }
    sign_head(&conn, &signer()).unwrap();
    let head = checkpoint(&conn).unwrap().unwrap();
    let key = signer().verifying_key();
    let whole = Log::of(conn).unwrap();
    assert_eq!(export(&whole, &origin(&me()), &key, &to).unwrap(), 300);
    assert_eq!(
        std::fs::read_to_string(to.join("checkpoint")).unwrap(),
        head
    );
    let mut leaves = Vec::new();
    for bundle in ["tile/entries/000", "tile/entries/001.p/44"] {
        let bytes = std::fs::read(to.join(bundle)).unwrap();
        let mut rest = &bytes[..];
        while let Some((length, more)) = rest.split_first_chunk::<2>() {
            let (leaf, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
            leaves.push(leaf_hash(leaf));
            rest = more;
        }
    }
    assert_eq!(root(&leaves), signer().open(&head).unwrap().root);
    let again = export(&whole, &origin(&me()), &key, &to);
    assert!(matches!(again, Err(ExportError::File { .. })));
    let empty = export(&Log::of(log(0)).unwrap(), &origin(&me()), &key, &to);
    assert!(matches!(empty, Err(ExportError::Empty)));
}

#[test]
fn an_empty_log_verifies() {
    assert_eq!(check(&log(0), &[]).unwrap().size, 0);
}

#[test]
fn an_entry_is_one_line_of_json_that_any_tool_reads() {
    let line = String::from_utf8(entry(7).encode().unwrap()).unwrap();
    assert_eq!(
        line,
        r#"{"v":1,"time":"1970-01-01T00:00:00.007Z","decision":"admitted","reason":"","class":"pseudonymous","purpose":"care","from":"edge/eu/eu/eu-f1","to":"regional/eu/eu","kind":"ReadingBatch","count":7,"id":"","digest":""}"#
    );
    assert_eq!(Entry::decode(line.as_bytes()).unwrap(), entry(7));
    assert!(Entry::decode(line.replace(':', ": ").as_bytes()).is_err());
}

#[test]
fn every_edit_drop_reorder_and_addition_is_found() {
    let altered = hex::encode(entry(99).encode().unwrap());
    let edits = [
        format!("UPDATE audit_entry SET leaf = x'{altered}' WHERE idx = 3"),
        "UPDATE audit_entry SET leaf = CAST(replace(CAST(leaf AS TEXT), 'admitted', 'denied') AS BLOB) WHERE idx = 0".into(),
        "DELETE FROM audit_entry WHERE idx = 4".into(),
        "DELETE FROM audit_entry WHERE idx = 9".into(),
        "DELETE FROM audit_entry WHERE idx = 9; UPDATE audit_head SET size = 9".into(),
        "DELETE FROM audit_entry".into(),
        format!("INSERT INTO audit_entry VALUES (10, x'{altered}')"),
        "UPDATE audit_entry SET idx = 99 WHERE idx = 2; UPDATE audit_entry SET idx = 2 WHERE idx = 3; UPDATE audit_entry SET idx = 3 WHERE idx = 99".into(),
        "UPDATE audit_entry SET leaf = x'00' WHERE idx = 5".into(),
        "UPDATE audit_head SET checkpoint = ''".into(),
        "UPDATE audit_head SET checkpoint = replace(checkpoint, char(10) || '10' || char(10), char(10) || '9' || char(10))".into(),
        "UPDATE audit_head SET frontier = zeroblob(64)".into(),
    ];
    for edit in edits {
        let conn = log(10);
        conn.execute_batch(&edit).unwrap();
        assert!(check(&conn, &[]).is_err(), "{edit}");
    }
}

#[test]
fn a_fork_and_an_old_copy_are_found_by_a_head_that_somebody_else_holds() {
    let later = checkpoint(&log(8)).unwrap().unwrap();
    assert!(check(&log(8), std::slice::from_ref(&later)).is_ok());
    assert!(check(&log(12), std::slice::from_ref(&later)).is_ok());
    let old_copy = check(&log(5), std::slice::from_ref(&later));
    assert!(matches!(
        old_copy,
        Err(VerifyError::Size {
            entries: 5,
            signed: 8
        })
    ));
    let fork = log(7);
    append(&fork, &entry(99)).unwrap();
    sign_head(&fork, &signer()).unwrap();
    assert!(check(&fork, &[]).is_ok());
    assert!(matches!(
        check(&fork, &[later]),
        Err(VerifyError::Root { size: 8 })
    ));
}

#[test]
fn a_log_is_not_verified_with_another_key_or_name() {
    let conn = log(3);
    let other = SigningKey::from_bytes(&[6; 32]).verifying_key();
    assert!(verify(&conn, &origin(&me()), &other, &[]).is_err());
    let key = signer().key.verifying_key();
    assert!(verify(&conn, "medmesh/global", &key, &[]).is_err());
}

#[test]
fn an_append_that_was_rolled_back_left_nothing() {
    let mut conn = log(3);
    let tx = conn.transaction().unwrap();
    append(&tx, &entry(3)).unwrap();
    tx.rollback().unwrap();
    assert_eq!(check(&conn, &[]).unwrap().size, 3);
    assert_eq!(append(&conn, &entry(3)).unwrap(), 3);
}

#[test]
fn inclusion_and_consistency_of_a_stored_log_are_proved() {
    let conn = log(13);
    let head = check(&conn, &[]).unwrap();
    let leaves = leaf_hashes(&conn, 13).unwrap();
    let path = inclusion_proof(&leaves, 6);
    assert!(verify_inclusion(leaves[6], 6, 13, &path, &head.root));
    let path = consistency_proof(&leaves, 9);
    assert!(verify_consistency(
        9,
        13,
        &path,
        &root(&leaves[..9]),
        &head.root
    ));
    assert!(leaf_hashes(&conn, 14).is_err());
}

#[test]
fn what_a_peer_writes_freely_is_not_written_to_the_log() {
    let parcel = Parcel {
        kind: "Jane Doe".into(),
        purpose: "Jane Doe".into(),
        from: "Jane Doe".into(),
        data_class: "Jane Doe".into(),
        id: b"Jane Doe, born 1960-01-01, and more of her"
            .to_vec()
            .into(),
        body: b"Jane Doe".to_vec().into(),
        ..Parcel::default()
    };
    let peer = "edge/eu/eu/eu-f1".parse().unwrap();
    let entry = Entry::of_parcel(
        Timestamp(0),
        Decision::Denied,
        "unknown-kind",
        &peer,
        &me(),
        &parcel,
    );
    let text = String::from_utf8(entry.encode().unwrap()).unwrap();
    assert!(
        !text.contains("Jane") && !text.contains(&hex::encode("Jane")),
        "{text}"
    );
    let turned_away = Entry::peer_denied(Timestamp(0), "Jane Doe", &me(), "no-identity");
    assert!(turned_away.from().starts_with("sha256:"));
}

#[test]
fn a_log_that_is_being_listed_is_of_one_instant_and_holds_up_no_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let writer = crate::db::open(&path).unwrap();
    schema(&writer).unwrap();
    let grow = |entries: std::ops::Range<u32>| {
        for n in entries {
            append(&writer, &entry(n)).unwrap();
            sign_head(&writer, &signer()).unwrap();
        }
    };
    grow(0..3);
    let opened = Log::open(&path).unwrap();
    grow(3..5);
    assert_eq!(opened.list(0, 9).unwrap().len(), 3);
    assert_eq!(opened.list(3, 9).unwrap(), []);
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    let busy: i64 = writer.query_row(checkpoint, [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
    let key = signer().key.verifying_key();
    let head = opened.verify(&origin(&me()), &key, &[]).unwrap();
    assert_eq!(head.size, 5);
}

#[test]
fn an_export_that_fails_on_its_way_leaves_nothing_and_one_that_is_there_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let mut writer = crate::db::open(&path).unwrap();
    schema(&writer).unwrap();
    let tx = writer.transaction().unwrap();
    for n in 0..600 {
        append(&tx, &entry(n)).unwrap();
    }
    sign_head(&tx, &signer()).unwrap();
    // Two bundles are written before the last one turns out to lack an entry.
    let moved = "UPDATE audit_entry SET idx = ?2 WHERE idx = ?1";
    tx.execute(moved, [599, 700]).unwrap();
    tx.commit().unwrap();
    let (origin, key) = (origin(&me()), signer().key.verifying_key());
    let folder = dir.path().join("exports");
    std::fs::create_dir(&folder).unwrap();
    let to = folder.join("log");
    let exported = || export(&Log::open(&path).unwrap(), &origin, &key, &to);
    let names = || {
        let entries = std::fs::read_dir(&folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    let failed = exported();
    assert!(
        matches!(failed, Err(ExportError::Missing(599))),
        "{failed:?}"
    );
    assert!(names().is_empty(), "{:?}", names());
    writer.execute(moved, [700, 599]).unwrap();
    assert_eq!(exported().unwrap(), 600);
    assert_eq!(names(), ["log"]);
    for file in ["checkpoint", "key", "tile/entries/002.p/88"] {
        assert!(to.join(file).is_file(), "{file}");
    }
    assert!(exported().is_err(), "it is there");
    assert_eq!(names(), ["log"]);
}
