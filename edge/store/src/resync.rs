//! When the region and this store do not agree on what was sent ([`federation::meet`]): what the region lacks is shipped
//! again from the samples that are kept, with the same uids, pseudonyms and shifts, and what retention has deleted is
//! counted and declared.
use super::{Store, StoreError, StoreErrorKind, apply::Apply, job::Job, pack, research};
use async_trait::async_trait;
use federation::{
    audit::{self, Entry, witness::Witness},
    gap::{self, Gap},
    meet::{Begin, Cause, Next},
    outbox::{self, Sender},
    port::{PortError, PortErrorKind},
    watch::Looked,
    wire::{Hello, Loss, Welcome},
};
use rusqlite::{Connection, Transaction};
use std::{collections::HashMap, sync::atomic::Ordering};
use types::Priority;

/// Samples that the region lacks: their parcel has its final receipt, and the region does not have it. What it took only
/// when it was shipped again it has as that later parcel.
fn lacking() -> String {
    format!("{BEYOND} AND NOT EXISTS ({})", outbox::WAITS_ABOVE)
}

/// Beyond what the region has.
const BEYOND: &str = "parcel IS NOT NULL
   AND (parcel > CASE priority WHEN 0 THEN ?1 WHEN 1 THEN ?2 ELSE ?3 END
     OR (priority, parcel) IN (SELECT priority, parcel FROM cured
          WHERE now_parcel > CASE now_priority WHEN 0 THEN ?1 WHEN 1 THEN ?2 ELSE ?3 END))";

impl Apply<'_> {
    /// Compares with what the region said of where it stands, and follows if it does not agree.
    pub(super) fn resync(
        &mut self,
        welcome: &Welcome,
        fresh: [u8; 16],
    ) -> Result<Option<Hello>, StoreError> {
        // Samples of this commit were promised the sequences that their parcels take.
        for priority in Priority::ALL {
            self.ship(priority)?;
        }
        // The rest of this commit goes behind what the region lacks.
        self.unshipped = true;
        let said = resync(self.tx, &self.parcels.sender(&self.now), welcome, fresh)?;
        self.directory.forget_patients();
        Ok(said)
    }
}

/// Compares, and follows: what to say to the region next, or none when both agree.
fn resync(
    tx: &Transaction<'_>,
    sender: &Sender<'_>,
    welcome: &Welcome,
    fresh: [u8; 16],
) -> Result<Option<Hello>, StoreError> {
    let begun = match outbox::judge(tx, sender, welcome)? {
        Next::Flow => {
            federation::audit::heads::keep(tx, &welcome.head)?;
            return Ok(None);
        }
        Next::Introduce => return Ok(Some(outbox::introduce(tx, sender.to)?)),
        Next::Begin(begun) => begun,
    };
    let loss = loss(tx, &begun)?;
    let ([alarm, live, backlog], lacking) = (sequences(&begun), lacking());
    let again = tx.execute(
        &format!("UPDATE sample SET parcel = NULL, shipped = 1 WHERE {lacking}"),
        [alarm, live, backlog],
    )?;
    // The region may have again, as of another patient, what was withdrawn since.
    tx.execute(
        &format!("UPDATE withdrawal SET parcel = NULL WHERE {lacking}"),
        [alarm, live, backlog],
    )?;
    tx.execute(
        &format!("UPDATE patient SET parcel = NULL WHERE {lacking}"),
        [alarm, live, backlog],
    )?;
    research::tell_again(tx)?;
    // From here on they are counted with the parcels that they are shipped in next, or declared.
    tx.execute(
        &format!("DELETE FROM shipped WHERE {lacking}"),
        [alarm, live, backlog],
    )?;
    tracing::warn!(samples = again, "samples are shipped again");
    let said = outbox::begin(tx, sender, &begun, loss, fresh, welcome)?;
    Ok(Some(said))
}

/// Whether the two meet for the first time: nothing is to be shipped again.
pub(super) fn is_introduction(hello: &Hello) -> bool {
    let cause = hello
        .begin
        .as_ref()
        .and_then(|begin| Cause::parse(&begin.cause));
    cause == Some(Cause::Introduced)
}

/// Up to which of its own sequences the region has everything.
fn sequences(begun: &Begin) -> [i64; 3] {
    begun.has.map(|seq| i64::try_from(seq).unwrap_or(i64::MAX))
}

/// What nobody has any more: readings of parcels that the region lacks and whose samples were deleted here. Where it is
/// not certain what the region has, what was deleted here had its receipt, and only what the counters tell is lost.
fn loss(tx: &Transaction<'_>, begun: &Begin) -> Result<Loss, StoreError> {
    let mut loss = Loss {
        parcels: begun.unknown_parcels,
        ..Loss::default()
    };
    if !begun.is_certain {
        return Ok(loss);
    }
    let kept = kept(tx, begun)?;
    let ([alarm, live, backlog], lacking) = (sequences(begun), lacking());
    let mut query = tx.prepare(&format!(
        "SELECT priority, parcel, readings, at_ms FROM shipped WHERE {lacking} ORDER BY n"
    ))?;
    let mut rows = query.query([alarm, live, backlog])?;
    while let Some(row) = rows.next()? {
        let parcel: (u8, i64) = (row.get(0)?, row.get(1)?);
        let (held, at): (i64, i64) = (row.get(2)?, row.get(3)?);
        let here = kept.get(&parcel).copied().unwrap_or(0);
        let gone = held.unsigned_abs().saturating_sub(here);
        if gone > 0 {
            loss.parcels += 1;
            loss.records += gone;
            loss.from_ms = if loss.from_ms == 0 {
                at
            } else {
                loss.from_ms.min(at)
            };
            loss.to_ms = loss.to_ms.max(at);
        }
    }
    Ok(loss)
}

/// Readings that are kept here of each parcel that the region lacks, also where they were given to another patient since.
fn kept(tx: &Transaction<'_>, begun: &Begin) -> Result<HashMap<(u8, i64), u64>, StoreError> {
    let lacking = lacking();
    let mut query = tx.prepare(&format!(
        "SELECT priority, parcel, readings FROM sample WHERE {lacking}
         UNION ALL SELECT priority, parcel, readings FROM
           (SELECT was_priority AS priority, was_parcel AS parcel, readings FROM withdrawal) WHERE {lacking}"
    ))?;
    let mut rows = query.query(sequences(begun))?;
    let mut kept: HashMap<_, u64> = HashMap::new();
    while let Some(row) = rows.next()? {
        let readings = pack::count(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?);
        *kept.entry((row.get(0)?, row.get(1)?)).or_default() += readings;
    }
    Ok(kept)
}

impl Store {
    /// Whether a new stream was begun since the last call: what the catalog is to know is shipped again.
    #[must_use]
    pub fn take_resynced(&self) -> bool {
        self.0.status.resynced.swap(false, Ordering::Relaxed)
    }

    /// Gaps that nobody has acknowledged.
    ///
    /// # Errors
    /// As any read.
    pub async fn gaps(&self) -> Result<Vec<Gap>, StoreError> {
        self.read(|db| Ok(gap::list(db, false)?)).await
    }

    /// Writes entries to the audit log that are of no parcel.
    ///
    /// # Errors
    /// As any write.
    pub async fn note(&self, entries: Vec<Entry>) -> Result<(), StoreError> {
        self.ask_step(|reply| Job::Note(entries, reply)).await
    }

    /// The audit log of a node that starts: an empty one begins with an entry; one that is empty though the node has
    /// run before was emptied, which is a gap.
    ///
    /// # Errors
    /// As any write.
    pub async fn begin_log(&self) -> Result<(), StoreError> {
        let has_run = self.boot() > 1;
        if self.read(|db| Ok(audit::is_empty(db)?)).await? {
            self.with_witness(|witness| witness.create()).await?;
        }
        self.ask_step(|reply| Job::BeginLog { has_run, reply })
            .await?;
        match self.read(|db| Ok(audit::first_head(db)?)).await? {
            Some(head) => self.with_witness(move |witness| witness.begin(&head)).await,
            None => Ok(()),
        }
    }

    /// A step on the file of heads, on a thread that may block.
    async fn with_witness(
        &self,
        step: impl FnOnce(&Witness) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let shared = self.0.clone();
        let op = "keep a head of the audit log";
        tokio::task::spawn_blocking(move || step(&shared.witness))
            .await
            .map_err(|_| StoreError::new(StoreErrorKind::Internal, op))?
            .map_err(StoreError::io(op))
    }

    /// Keeps what the region says that it holds of this log, in the file beside the database.
    pub(super) async fn keep_witness(&self, note: String) -> Result<(), StoreError> {
        if note.is_empty() {
            return Ok(());
        }
        self.with_witness(move |witness| witness.keep(&note)).await
    }

    /// Recomputes the whole audit log and compares it with its own head and with every head that the region said it
    /// holds: how many entries there are.
    ///
    /// # Errors
    /// As any read; `Corrupt` with the reason when the log is not to be believed.
    pub async fn verify_audit(&self) -> Result<u64, StoreError> {
        let shared = self.0.clone();
        let verified = tokio::task::spawn_blocking(move || {
            let connection = shared.file.open_reader()?;
            check(connection, &shared.witness)
        });
        verified
            .await
            .map_err(|_| StoreError::new(StoreErrorKind::Internal, "verify the audit log"))?
    }
}

#[async_trait]
impl Looked for Store {
    async fn open_gaps(&self) -> Result<usize, PortError> {
        let gaps = self.gaps().await;
        Ok(gaps.map_err(PortError::of("gaps"))?.len())
    }

    async fn verify(&self) -> Result<u64, PortError> {
        let verified = self.verify_audit().await;
        verified.map_err(PortError::of("verify the audit log"))
    }

    async fn keep_head(&self) -> Result<(), PortError> {
        let op = "keep the head of the audit log";
        let head = self.read(|db| Ok(audit::checkpoint(db)?)).await;
        let head = head.map_err(PortError::of(op))?.unwrap_or_default();
        let kept = self.keep_witness(head).await;
        kept.map_err(PortError::of(op))
    }
}

fn check(connection: Connection, witness: &Witness) -> Result<u64, StoreError> {
    let op = "verify the audit log";
    let log = audit::Log::of(connection)?;
    let verified = log.verify_beside(witness, &[]);
    verified
        .map(|(head, _)| head.size)
        .map_err(|error| StoreError {
            kind: match error.kind() {
                PortErrorKind::Unavailable => StoreErrorKind::Unavailable,
                _ => StoreErrorKind::Corrupt,
            },
            op,
            source: Some(Box::new(error)),
        })
}
