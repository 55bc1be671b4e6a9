//! What a ledger knows of its own restores: marks of the store beside it, gaps, and heads that peers hold.
use super::Ledger;
use crate::{
    audit::{self, Decision, Entry, Log, heads, witness::Witness},
    db::DbError,
    gap::{self, Gap},
    inbox,
    port::{PortError, PortErrorKind},
    started,
};
use rusqlite::Connection;
use std::io;
use types::Place;

/// What became of a comparison of marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// The other store has everything that was answered for.
    Agrees,
    /// It was put back: so many parcels are asked of their senders again.
    PutBack {
        /// Parcels.
        parcels: u64,
    },
}

impl Ledger {
    /// Where its node stands.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.inner.here
    }

    /// Compares where the store beside this ledger stands with the last mark of it that was seen. When that store is
    /// behind, what was applied since is as if it had never come, and senders are asked for it when they meet this node
    /// again: until then nothing of them is taken.
    ///
    /// `stands` asks the store, and is asked last: the store only grows, so that what is taken meanwhile for another
    /// sender is in neither number or in both. The other way round it would be noted behind a mark that was read before.
    ///
    /// # Errors
    /// [`PortError`], that of `stands` too.
    pub async fn compare_mark<F>(
        &self,
        stands: impl FnOnce() -> F + Send,
    ) -> Result<Marked, PortError>
    where
        F: Future<Output = Result<Option<u64>, PortError>> + Send,
    {
        let seen = self.db.step("last_mark", inbox::last_mark).await?;
        let (Some(seen), Some(mark)) = (seen, stands().await?) else {
            return Ok(Marked::Agrees);
        };
        if seen <= mark {
            return Ok(Marked::Agrees);
        }
        self.step("compare_mark", move |inner, tx| {
            // Somebody else may have found it meanwhile.
            if inbox::last_mark(tx)?.is_none_or(|seen| seen <= mark) {
                return Ok(Marked::Agrees);
            }
            let parcels = inbox::rewind(tx, mark)?;
            let here = &inner.here;
            let count = u32::try_from(parcels).unwrap_or(u32::MAX);
            let why = "store-behind-ledger";
            let entry = Entry::of_event((inner.now)(), Decision::PutBack, why, (here, here), count);
            audit::append(tx, &entry)?;
            audit::sign_head(tx, &inner.signer)?;
            tracing::error!(
                mark,
                parcels,
                "the store is older than the ledger: it was put back; senders are asked to ship again"
            );
            Ok(Marked::PutBack { parcels })
        })
        .await
    }

    /// Places whose parcels have been waiting for longer than [`super::OUT_OF_ORDER_LIMIT`] for one before them.
    #[must_use]
    pub fn stuck(&self) -> Vec<Place> {
        let now = (self.inner.now)();
        self.inner.order.lock().stuck(now)
    }

    /// Gaps that nobody has acknowledged.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn gaps(&self) -> Result<Vec<Gap>, PortError> {
        self.db.step("gaps", |tx| gap::list(tx, false)).await
    }

    /// Writes entries to the audit log that are of no parcel, in one commit.
    ///
    /// # Errors
    /// [`PortError`]: none was written.
    pub async fn write_down(&self, entries: Vec<Entry>) -> Result<(), PortError> {
        self.step("note", move |inner, tx| {
            audit::append_all(tx, &entries)?;
            audit::sign_head(tx, &inner.signer)
        })
        .await
    }

    /// Heads of other logs that are kept here.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn heads(&self) -> Result<Vec<String>, PortError> {
        self.db.step("heads", heads::all).await
    }

    /// Keeps what a peer says that it holds of this log, in the file beside the ledger.
    pub(crate) async fn keep_witness(&self, note: String) -> Result<(), PortError> {
        if note.is_empty() {
            return Ok(());
        }
        self.with_witness(move |witness| witness.keep(&note)).await
    }

    /// Recomputes the whole audit log and compares it with its own head and with every head that peers said they hold:
    /// how many entries there are.
    ///
    /// # Errors
    /// [`PortError`]; corrupt, with the reason, when the log is not to be believed.
    pub async fn verify(&self) -> Result<u64, PortError> {
        let inner = self.inner.clone();
        let verified = move || check(&inner.witness, &inner.path);
        let done = tokio::task::spawn_blocking(verified).await;
        done.map_err(|error| failed(error.into()))?
    }

    /// The log of a node that starts: an empty one begins with an entry. One that is empty though the node has run
    /// before was emptied: that is a gap.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn begin_log(&self) -> Result<(), PortError> {
        const OP: &str = "begin the audit log";
        if self.db.step(OP, audit::is_empty).await? {
            self.with_witness(|witness| witness.create()).await?;
        }
        let first = self
            .step(OP, |inner, tx| {
                let (here, now) = (&inner.here, (inner.now)());
                started::begin_log(tx, here, &inner.signer, now, has_run(tx)?)?;
                audit::first_head(tx)
            })
            .await?;
        match first {
            Some(head) => self.with_witness(move |witness| witness.begin(&head)).await,
            None => Ok(()),
        }
    }

    /// A step on the file of heads, on a thread that may block.
    async fn with_witness(
        &self,
        step: impl FnOnce(&Witness) -> io::Result<()> + Send + 'static,
    ) -> Result<(), PortError> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || step(&inner.witness)).await;
        done.map_err(|error| failed(error.into()))?
            .map_err(|error| failed(error.into()))
    }
}

/// Whether anything was ever sent or answered from these tables.
fn has_run(conn: &Connection) -> Result<bool, DbError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox_counter WHERE last > 0)
               OR EXISTS (SELECT 1 FROM inbox_last) OR EXISTS (SELECT 1 FROM audit_peer)";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

fn failed(source: Box<dyn std::error::Error + Send + Sync>) -> PortError {
    PortError {
        kind: PortErrorKind::Unavailable,
        op: "verify the audit log",
        source: Some(source),
    }
}

fn check(witness: &Witness, database: &std::path::Path) -> Result<u64, PortError> {
    let log = Log::open(database).map_err(|error| error.port("open the audit log"))?;
    let verified = log.verify_beside(witness, &[]);
    verified
        .map(|(head, _)| head.size)
        .map_err(|error| PortError {
            kind: error.kind(),
            op: "verify the audit log",
            source: Some(Box::new(error)),
        })
}

#[cfg(test)]
#[cfg(not(medmesh_unguarded))]
#[path = "restore_tests.rs"]
mod tests;
