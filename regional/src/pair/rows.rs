//! Who read and wrote what at the node that waits, in the region's one audit log.
//!
//! Before that node answers, its rows are durable in the region's PostgreSQL, signed with the region's key. The node that
//! writes takes them from there into the log once a second, each once whatever ends in between: what was taken is kept in
//! the commit that takes it, so that rows which are still there are known. A node that was fenced commits nothing, and so
//! forgets nothing either.
use async_trait::async_trait;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use federation::{
    audit::Entry,
    db::DbError,
    ledger::{Commit, Ledger},
    port::{PortError, PortErrorKind},
};
use fhir::{
    postgres::{Pair, Waiting},
    store::StoreError,
};
use node::health::Check;
use rusqlite::params;
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How often it is looked for rows.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For how long what was taken is remembered once it is gone from PostgreSQL: whoever put it and was not answered puts it
/// again, at the latest once its connection has ended (15 s without an answer, or the 20 s of a statement).
const REMEMBERED: Duration = Duration::from_mins(5);
/// Of these so many are forgotten in one commit at most.
const MAX_FORGOTTEN: usize = 1_024;
/// Bundles of rows in one commit: with 256 rows of half a kilobyte each it is 2 MiB.
const MAX_COMMIT: i64 = 16;
/// What is signed begins with this, so that no signature is good for anything else.
const CONTEXT: &[u8] = b"medmesh/rows-of-a-pair/v1\n";

const TABLE: &str = "rows of the other node";
const SCHEMA: &[&str] = &["
CREATE TABLE taken_rows(id BLOB PRIMARY KEY) STRICT, WITHOUT ROWID;
"];

/// Where rows wait.
#[async_trait]
pub(crate) trait Bundles: Send + Sync + 'static {
    /// Puts rows, durably.
    ///
    /// # Errors
    /// They may be there all the same.
    async fn put(&self, id: &[u8], rows: &[u8], seal: &[u8]) -> Result<(), StoreError>;

    /// At most so many, by their numbers, after a number.
    ///
    /// # Errors
    /// What the engine says.
    async fn read(&self, after: i64, most: i64) -> Result<Vec<Waiting>, StoreError>;

    /// Forgets some.
    ///
    /// # Errors
    /// They may be gone all the same.
    async fn forget(&self, ids: &[Vec<u8>]) -> Result<(), StoreError>;
}

#[async_trait]
impl Bundles for Pair {
    async fn put(&self, id: &[u8], rows: &[u8], seal: &[u8]) -> Result<(), StoreError> {
        self.put_rows(id, rows, seal).await
    }

    async fn read(&self, after: i64, most: i64) -> Result<Vec<Waiting>, StoreError> {
        self.waiting_rows(after, most).await
    }

    async fn forget(&self, ids: &[Vec<u8>]) -> Result<(), StoreError> {
        self.forget_rows(ids).await
    }
}

/// Writes rows down for the node that waits.
#[derive(Clone)]
pub(super) struct Waits {
    pair: Arc<dyn Bundles>,
    key: Arc<SigningKey>,
}

impl Waits {
    pub(super) fn new(pair: Arc<dyn Bundles>, key: SigningKey) -> Self {
        Self {
            pair,
            key: Arc::new(key),
        }
    }

    /// Durable when this returns.
    ///
    /// # Errors
    /// [`PortError`]: they may be there all the same.
    pub(super) async fn write_down(&self, rows: Vec<Entry>) -> Result<(), PortError> {
        let lines: Result<Vec<_>, _> = rows.iter().map(Entry::encode).collect();
        let lines = lines.map_err(|_| unwritten(PortErrorKind::Internal))?;
        let rows = lines.join(&b'\n');
        let id = rand::random::<[u8; 16]>();
        let seal = self.key.sign(&signed(&id, &rows)).to_bytes();
        let put = self.pair.put(&id, &rows, &seal).await;
        put.map_err(|error| {
            tracing::warn!(%error, "audit rows cannot be put into PostgreSQL");
            unwritten(PortErrorKind::Unavailable)
        })
    }
}

const fn unwritten(kind: PortErrorKind) -> PortError {
    PortError {
        kind,
        op: "rows of the node that waits",
        source: None,
    }
}

fn signed(id: &[u8], rows: &[u8]) -> Vec<u8> {
    [CONTEXT, id, rows].concat()
}

/// The rows of a bundle; none when no node of this region has written them so.
fn opened(waiting: &Waiting, key: &VerifyingKey) -> Option<Vec<Entry>> {
    let seal = Signature::from_slice(&waiting.seal).ok()?;
    let signed = signed(&waiting.id, &waiting.rows);
    key.verify_strict(&signed, &seal).ok()?;
    let lines = waiting.rows.split(|byte| *byte == b'\n');
    lines.map(|line| Entry::decode(line).ok()).collect()
}

/// Takes rows into the log of the node that writes.
pub(crate) struct Takes {
    pair: Arc<dyn Bundles>,
    ledger: Ledger,
    key: VerifyingKey,
    check: Check,
    /// What was taken and is gone from PostgreSQL, and since when: whoever put it may not know, and put it again.
    left: VecDeque<(Instant, Vec<u8>)>,
}

impl Takes {
    /// `check` says whether there are rows that no node of this region has written.
    ///
    /// # Errors
    /// [`PortError`].
    pub(crate) async fn open(
        pair: Arc<dyn Bundles>,
        ledger: Ledger,
        key: VerifyingKey,
        check: Check,
    ) -> Result<Self, PortError> {
        ledger.tables(TABLE, SCHEMA).await?;
        check.pass();
        Ok(Self {
            pair,
            ledger,
            key,
            check,
            left: VecDeque::new(),
        })
    }

    /// Takes until a stop, whatever fails meanwhile.
    ///
    /// # Errors
    /// There are none.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut said = false;
        loop {
            match self.turn().await {
                Ok(()) => said = false,
                Err(()) if !said => {
                    tracing::warn!("audit rows of the other node are taken later");
                    said = true;
                }
                Err(()) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Takes all that there are.
    async fn turn(&mut self) -> Result<(), ()> {
        let (mut after, mut forged) = (0, 0_u32);
        loop {
            let read = self.pair.read(after, MAX_COMMIT).await;
            let found = read.map_err(|error: StoreError| tracing::debug!(%error, "no rows"))?;
            let Some(last) = found.last() else { break };
            after = last.number;
            let mut good = Vec::with_capacity(found.len());
            for waiting in found {
                match opened(&waiting, &self.key) {
                    Some(rows) => good.push((waiting.id, rows)),
                    None => forged += 1,
                }
            }
            self.take(good).await?;
        }
        match forged {
            0 => self.check.pass(),
            _ => {
                tracing::error!(
                    forged,
                    "audit rows in PostgreSQL that no node of this region has written are left there"
                );
                self.check.fail("forged");
            }
        }
        Ok(())
    }

    /// Appends rows that were not taken yet, and forgets them in PostgreSQL once that is durable.
    async fn take(&mut self, bundles: Vec<(Vec<u8>, Vec<Entry>)>) -> Result<(), ()> {
        if bundles.is_empty() {
            return Ok(());
        }
        let ids: Vec<_> = bundles.iter().map(|(id, _)| id.clone()).collect();
        let old = self.left.iter().take(MAX_FORGOTTEN);
        let old = old.take_while(|(since, _)| since.elapsed() >= REMEMBERED);
        let mut gone: Vec<_> = old.map(|(_, id)| id.clone()).collect();
        let forgotten = gone.len();
        gone.retain(|id| !ids.contains(id));
        let step = move |commit: &mut Commit<'_>| -> Result<(), DbError> {
            let tx = commit.tx();
            for id in &gone {
                let mut forget = tx.prepare_cached("DELETE FROM taken_rows WHERE id = ?1")?;
                forget.execute(params![id])?;
            }
            for (id, rows) in &bundles {
                let mut put = tx.prepare_cached("INSERT OR IGNORE INTO taken_rows VALUES (?1)")?;
                if put.execute(params![id])? == 0 {
                    continue;
                }
                for row in rows {
                    commit.note(row)?;
                }
            }
            Ok(())
        };
        let failed = |error: &dyn std::fmt::Display| tracing::debug!(%error, "rows are not taken");
        let taken = self.ledger.commit("take rows", step).await;
        taken.map_err(|error| failed(&error))?;
        self.left.drain(..forgotten);
        let forgotten = self.pair.forget(&ids).await;
        forgotten.map_err(|error| failed(&error))?;
        self.left.retain(|(_, id)| !ids.contains(id));
        let now = Instant::now();
        self.left.extend(ids.into_iter().map(|id| (now, id)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation::{
        audit::{Asked, Decision, Log, Signer as LogSigner},
        policy::Rules,
    };
    use fhir::store::Kind;
    use node::health::Health;
    use parking_lot::Mutex;
    use std::path::Path;
    use types::{Place, Timestamp};

    /// A table that forgets as it is told to, or not, or does and does not say so.
    #[derive(Default)]
    struct Table {
        rows: Mutex<Vec<Waiting>>,
        /// Of each time that it is to forget, whether it does, and whether it says so; both when there is no more.
        forgets: Mutex<Vec<(bool, bool)>>,
    }

    #[async_trait]
    impl Bundles for Table {
        async fn put(&self, id: &[u8], rows: &[u8], seal: &[u8]) -> Result<(), StoreError> {
            let mut all = self.rows.lock();
            let number = all.last().map_or(1, |last| last.number + 1);
            all.push(Waiting {
                number,
                id: id.to_vec(),
                rows: rows.to_vec(),
                seal: seal.to_vec(),
            });
            Ok(())
        }

        async fn read(&self, after: i64, most: i64) -> Result<Vec<Waiting>, StoreError> {
            let rows = self.rows.lock();
            let found = rows.iter().filter(|row| row.number > after);
            Ok(found
                .take(usize::try_from(most).unwrap())
                .cloned()
                .collect())
        }

        async fn forget(&self, ids: &[Vec<u8>]) -> Result<(), StoreError> {
            let (does, says) = self.forgets.lock().pop().unwrap_or((true, true));
            if does {
                self.rows.lock().retain(|row| !ids.contains(&row.id));
            }
            let failed = StoreError::new(Kind::Unavailable, "forget");
            says.then_some(()).ok_or(failed)
        }
    }

    fn here() -> Place {
        "regional/eu/eu".parse().unwrap()
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    async fn ledger(dir: &Path) -> Ledger {
        let signer = LogSigner::new(&here(), key());
        let time = Arc::new(|| Timestamp(1_800_000_000_000));
        let rules = Rules::builtin().unwrap();
        let path = dir.join("ledger.db");
        let ledger = Ledger::open(&path, here(), rules, signer, time).unwrap();
        ledger.begin_log().await.unwrap();
        ledger
    }

    fn row(of: &str) -> Entry {
        let asked = Asked {
            interaction: "read",
            kind: "Patient",
            request: Some(of),
            ..Asked::default()
        };
        let now = Timestamp(1_800_000_000_000);
        Entry::of_read(now, Decision::DataRead, "dashboard", &here(), &asked, 1)
    }

    /// The rows of reads in the log, by their digests.
    fn in_log(dir: &Path) -> Vec<String> {
        let log = Log::open(&dir.join("ledger.db")).unwrap();
        let entries = log.list(0, 1_000).unwrap();
        let reads = entries
            .iter()
            .filter(|(_, entry)| entry.decision() == Decision::DataRead);
        reads.map(|(_, entry)| entry.digest().to_owned()).collect()
    }

    async fn takes(table: &Arc<Table>, ledger: &Ledger, health: &Health) -> Takes {
        let (table, check) = (table.clone(), health.optional("rows"));
        let opened = Takes::open(table, ledger.clone(), key().verifying_key(), check);
        opened.await.unwrap()
    }

    #[tokio::test]
    async fn rows_of_the_node_that_waits_are_in_the_log_once_whatever_is_not_forgotten_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let (table, health) = (Arc::<Table>::default(), Health::new());
        let waits = Waits::new(table.clone(), key());
        let names: Vec<String> = (0..60).map(|n| format!("Patient/{n}")).collect();
        for two in names.chunks(2) {
            let rows = two.iter().map(|name| row(name)).collect();
            waits.write_down(rows).await.unwrap();
        }
        // Forgets and does not say so; then does not.
        *table.forgets.lock() = vec![(false, false), (true, false)];
        let first = ledger(dir.path()).await;
        let mut one = takes(&table, &first, &health).await;
        for _ in 0..2 {
            one.turn().await.unwrap_err();
        }
        assert!(!table.rows.lock().is_empty());
        drop((one, first));
        // The next node that writes has the ledger as it was.
        let next = ledger(dir.path()).await;
        let mut other = takes(&table, &next, &health).await;
        waits.write_down(vec![row("last")]).await.unwrap();
        other.turn().await.unwrap();
        other.turn().await.unwrap();
        assert!(table.rows.lock().is_empty());
        let mut expected: Vec<_> = names.iter().map(|name| row(name)).collect();
        expected.push(row("last"));
        let expected: Vec<_> = expected.iter().map(|row| row.digest().to_owned()).collect();
        assert_eq!(in_log(dir.path()), expected);
        next.verify().await.unwrap();
        assert!(health.degraded().is_empty());
    }

    #[tokio::test]
    async fn a_bundle_that_is_put_again_after_it_was_taken_is_in_the_log_once() {
        let dir = tempfile::tempdir().unwrap();
        let (table, health) = (Arc::<Table>::default(), Health::new());
        let waits = Waits::new(table.clone(), key());
        waits.write_down(vec![row("first")]).await.unwrap();
        let put = table.rows.lock().clone();
        let ledger = ledger(dir.path()).await;
        let mut takes = takes(&table, &ledger, &health).await;
        takes.turn().await.unwrap();
        assert!(table.rows.lock().is_empty());
        for other in ["second", "third"] {
            waits.write_down(vec![row(other)]).await.unwrap();
            takes.turn().await.unwrap();
        }
        // Its commit was not answered, which was noticed late.
        table.rows.lock().extend(put);
        takes.turn().await.unwrap();
        assert!(table.rows.lock().is_empty());
        let all = ["first", "second", "third"].map(row);
        let all: Vec<_> = all.iter().map(|row| row.digest().to_owned()).collect();
        assert_eq!(in_log(dir.path()), all);
    }

    #[tokio::test]
    async fn rows_that_no_node_of_the_region_has_written_are_left_and_shown_and_hold_up_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (table, health) = (Arc::<Table>::default(), Health::new());
        let forger = Waits::new(table.clone(), SigningKey::from_bytes(&[8; 32]));
        for n in 0..MAX_COMMIT + 1 {
            forger
                .write_down(vec![row(&format!("forged {n}"))])
                .await
                .unwrap();
        }
        let waits = Waits::new(table.clone(), key());
        waits.write_down(vec![row("changed")]).await.unwrap();
        let changed = table.rows.lock().last().cloned().unwrap();
        let text = String::from_utf8(changed.rows).unwrap();
        let text = text.replace("dashboard", "nobody");
        assert!(text.contains("nobody"));
        table.rows.lock().last_mut().unwrap().rows = text.into_bytes();
        waits.write_down(vec![row("good")]).await.unwrap();
        let ledger = ledger(dir.path()).await;
        let mut takes = takes(&table, &ledger, &health).await;
        takes.turn().await.unwrap();
        assert_eq!(in_log(dir.path()), [row("good").digest()]);
        let left = i64::try_from(table.rows.lock().len()).unwrap();
        assert_eq!(left, MAX_COMMIT + 2);
        let degraded = health.degraded();
        assert_eq!((degraded[0].check, degraded[0].reason), ("rows", "forged"));
    }
}
