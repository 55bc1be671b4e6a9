//! Whatever fails, and whenever the writer ends, the replica has what was acknowledged.
use super::*;
use crate::sqlite::{Reopening, in_doubt};
use std::collections::BTreeSet;

/// Rows that a database of a test grows to, more than once emptied: some hundred pages.
const STEPS: i64 = 40;

/// How a put fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing of it is there.
    Lost,
    /// It is there, and its answer is lost.
    Unanswered,
    /// Another node writes from then on.
    Fenced,
    /// It has lost all that it had.
    Older,
}

/// What another machine has.
#[derive(Default)]
struct Elsewhere(Mutex<Image>);

#[derive(Default)]
struct Image {
    pages: BTreeMap<u32, Vec<u8>>,
    beside: Vec<u8>,
    puts: u64,
    wholes: u64,
    /// The put that fails, and how.
    fails: Option<(u64, Fault)>,
}

impl Replica for Elsewhere {
    fn put(&self, _: &str, change: Change<'_>) -> Result<(), NotPut> {
        let mut image = self.0.lock();
        image.puts += 1;
        let fault = match image.fails {
            Some((at, Fault::Fenced)) if image.puts >= at => Some(Fault::Fenced),
            Some((at, fault)) if image.puts == at => Some(fault),
            _ => None,
        };
        match fault {
            Some(Fault::Lost) => return Err(NotPut::Unavailable("lost".into())),
            Some(Fault::Fenced) => return Err(NotPut::Fenced),
            Some(Fault::Older) => {
                image.pages.clear();
                image.beside.clear();
                return Err(NotPut::Older);
            }
            Some(Fault::Unanswered) | None => {}
        }
        image.wholes += u64::from(change.is_whole);
        for page in change.changed {
            let (number, bytes) = page?;
            assert_eq!(bytes.len(), change.page_bytes as usize);
            image.pages.insert(number, bytes);
        }
        image.pages.retain(|number, _| *number <= change.pages);
        assert_eq!(
            image.pages.len(),
            change.pages as usize,
            "no page is missing"
        );
        if let Some(Appended { at, bytes }) = change.beside {
            image.beside.truncate(usize::try_from(at).unwrap());
            image.beside.extend(bytes);
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(NotPut::Unavailable("no answer".into())),
        }
    }

    fn is_newest(&self) -> Result<(), NotPut> {
        let image = self.0.lock();
        match image.fails {
            Some((at, Fault::Fenced)) if image.puts >= at => Err(NotPut::Fenced),
            _ => Ok(()),
        }
    }
}

impl Elsewhere {
    fn fence(&self) {
        let mut image = self.0.lock();
        image.fails = Some((image.puts, Fault::Fenced));
    }

    fn failing(at: u64, fault: Fault) -> Arc<Self> {
        let this = Arc::new(Self::default());
        this.0.lock().fails = Some((at, fault));
        this
    }

    /// The rows that a node which takes over finds.
    fn rows(&self) -> BTreeSet<i64> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let bytes: Vec<u8> = self.0.lock().pages.values().flatten().copied().collect();
        if bytes.is_empty() {
            return BTreeSet::new();
        }
        std::fs::write(&path, bytes).unwrap();
        let connection = connect(&path).unwrap();
        assert_eq!(crate::copy::fault(&connection).unwrap(), None);
        all(&connection)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What a power loss takes is not looked at here.
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection
        .execute_batch("CREATE TABLE IF NOT EXISTS t (n INTEGER PRIMARY KEY, x BLOB NOT NULL)")?;
    Ok(connection)
}

fn all(connection: &Connection) -> BTreeSet<i64> {
    let mut query = connection.prepare("SELECT n FROM t").unwrap();
    let rows = query.query_map([], |row| row.get(0)).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn open(dir: &Path, replica: &Arc<Elsewhere>, is_there: bool) -> Reopening {
    let path = dir.join("t.db");
    let kept = Kept::new(replica.clone(), "t", &path, is_there).with(dir.join("heads"));
    let connection = connect(&path).unwrap();
    let file = Reopening::new(&path, connection, connect);
    file.kept(Some(kept)).unwrap()
}

/// Step `n`: rows come, some of many pages; now and then most go, and the file becomes shorter.
fn work(connection: &Connection, n: i64) -> rusqlite::Result<()> {
    if n % 20 == 19 {
        connection.execute("DELETE FROM t WHERE n < ?1", [n - 3])?;
        return connection.execute_batch("VACUUM");
    }
    let bytes = if n % 7 == 3 { 700_000 } else { 900 };
    connection
        .execute("INSERT INTO t VALUES (?1, randomblob(?2))", [n, bytes])
        .map(drop)
}

/// What [`work`] makes of rows.
fn expected(rows: &mut BTreeSet<i64>, n: i64) {
    if n % 20 == 19 {
        rows.retain(|row| *row >= n - 3);
    } else {
        rows.insert(n);
    }
}

fn step(file: &Reopening, n: i64) -> bool {
    file.step(|connection| work(connection, n), in_doubt)
        .is_ok()
}

#[test]
fn what_the_replica_has_lost_is_put_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Elsewhere::failing(5, Fault::Older);
    let file = open(dir.path(), &replica, true);
    let mut rows = BTreeSet::new();
    for n in 0..10 {
        std::fs::write(dir.path().join("heads"), "head\n".repeat(n as usize)).unwrap();
        assert!(step(&file, n), "step {n}");
        expected(&mut rows, n);
        assert_eq!(replica.rows(), rows, "after step {n}");
        let beside = replica.0.lock().beside.clone();
        assert_eq!(beside, "head\n".repeat(n as usize).into_bytes());
    }
    assert_eq!(replica.0.lock().wholes, 1);
}

#[test]
fn what_a_step_did_is_elsewhere_when_it_is_done_and_never_needs_every_page() {
    let (dir, replica) = (tempfile::tempdir().unwrap(), Arc::new(Elsewhere::default()));
    let file = open(dir.path(), &replica, true);
    let mut rows = BTreeSet::new();
    for n in 0..STEPS {
        std::fs::write(dir.path().join("heads"), "head\n".repeat(n as usize)).unwrap();
        assert!(step(&file, n));
        expected(&mut rows, n);
        assert_eq!(replica.rows(), rows, "after step {n}");
        let beside = replica.0.lock().beside.clone();
        assert_eq!(beside, "head\n".repeat(n as usize).into_bytes());
    }
    let image = replica.0.lock();
    assert_eq!(image.wholes, 0, "the log was followed");
    // The log was emptied meanwhile: all of it would be longer.
    let log = std::fs::metadata(dir.path().join("t.db-wal"))
        .unwrap()
        .len();
    assert!(log < 12_000_000, "{log}");
}

#[test]
fn a_writer_that_fails_at_any_commit_has_put_what_it_acknowledged_and_goes_on() {
    for fault in [Fault::Lost, Fault::Unanswered] {
        for at in 1..=STEPS.unsigned_abs() {
            let (dir, replica) = (tempfile::tempdir().unwrap(), Elsewhere::failing(at, fault));
            let file = open(dir.path(), &replica, true);
            let mut rows = BTreeSet::new();
            let mut failed = 0;
            for n in 0..STEPS {
                let before = rows.clone();
                expected(&mut rows, n);
                if step(&file, n) {
                    let after = n.unsigned_abs() + 1 - at.min(n.unsigned_abs() + 1);
                    if after == 1 || n == STEPS - 1 {
                        assert_eq!(replica.rows(), rows, "{fault:?} at {at}, after step {n}");
                    }
                    continue;
                }
                failed += 1;
                // Nobody was told, so either is right.
                let there = replica.rows();
                assert!(
                    there == before || there == rows,
                    "{fault:?} at {at}: {there:?}"
                );
                if fault == Fault::Unanswered {
                    assert_eq!(there, rows);
                }
            }
            assert_eq!(
                (failed, replica.0.lock().wholes),
                (1, 0),
                "{fault:?} at {at}"
            );
        }
    }
}

#[test]
fn a_writer_that_is_fenced_at_any_commit_acknowledges_and_puts_nothing_more() {
    for at in 1..STEPS.unsigned_abs() {
        let (dir, replica) = (
            tempfile::tempdir().unwrap(),
            Elsewhere::failing(at, Fault::Fenced),
        );
        let file = open(dir.path(), &replica, true);
        let mut rows = BTreeSet::new();
        for n in 0..STEPS {
            let done = step(&file, n);
            assert_eq!(done, n.unsigned_abs() + 1 < at, "fenced at {at}, step {n}");
            if done {
                expected(&mut rows, n);
            }
        }
        assert_eq!(replica.rows(), rows);
        // Not even what only reads is answered: it could show what nobody has.
        let read = file.step(
            |connection| Ok::<_, rusqlite::Error>(all(connection)),
            in_doubt,
        );
        assert!(read.is_err());
    }
}

#[test]
fn what_may_not_be_the_newest_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let replica = Arc::new(Elsewhere::default());
    let file = open(dir.path(), &replica, true);
    let read = || {
        let look = |connection: &mut Connection| Ok::<_, rusqlite::Error>(all(connection));
        file.step(look, in_doubt)
    };
    assert!(step(&file, 0));
    assert!(read().is_ok());
    replica.fence();
    assert!(read().is_err());
}

#[test]
fn what_another_process_wrote_is_elsewhere_with_the_next_step() {
    let (dir, replica) = (tempfile::tempdir().unwrap(), Arc::new(Elsewhere::default()));
    let file = open(dir.path(), &replica, true);
    let mut rows = BTreeSet::new();
    for n in 0..STEPS {
        assert!(step(&file, n));
        expected(&mut rows, n);
        // It empties the log whenever it likes, and begins it anew.
        let other = connect(&dir.path().join("t.db")).unwrap();
        let foreign = 10_000 + n;
        let insert = "INSERT INTO t VALUES (?1, randomblob(2000))";
        other.execute(insert, [foreign]).unwrap();
        rows.insert(foreign);
        if n % 3 == 0 {
            other
                .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
                .unwrap();
            other.execute(insert, [20_000 + n]).unwrap();
            rows.insert(20_000 + n);
        }
        let look = file.step(
            |connection| Ok::<_, rusqlite::Error>(all(connection)),
            in_doubt,
        );
        assert_eq!(look.unwrap(), rows);
        assert_eq!(replica.rows(), rows, "after step {n}");
    }
    assert!(replica.0.lock().wholes > 0, "the log was begun anew unseen");
}

#[test]
fn a_file_that_was_there_is_put_whole_and_followed_then() {
    let (dir, replica) = (tempfile::tempdir().unwrap(), Arc::new(Elsewhere::default()));
    let connection = connect(&dir.path().join("t.db")).unwrap();
    for n in 0..10 {
        work(&connection, n).unwrap();
    }
    drop(connection);
    let file = open(dir.path(), &replica, false);
    assert!(step(&file, 10) && step(&file, 11));
    assert_eq!(replica.rows(), (0..12).collect());
    assert_eq!(replica.0.lock().wholes, 1);
}
