//! AuditEvents of the region's FHIR: rows of its signed audit log about accesses, projected into the FHIR store, where they
//! are searched as everything else.
//!
//! The log is the truth, and has everything; what is in the store is made of it by a task of the node that writes the log,
//! in the order of the log, and can be made again. The place in the log is kept in the step that stores the events, and the
//! id of an event is derived from its row, so that a crash at any moment, or a store that is put back, loses and doubles
//! nothing. Nothing is stored before the store is known to have what was answered for: a commit would hide that it was put
//! back. Whoever asks for AuditEvents waits until the rows that there are by then have theirs ([`AccessLog::caught_up`]).
mod patients;
mod standing;

use crate::reads::{Keeping, Reads, reads};
use crate::server::TrueTimes;
use async_trait::async_trait;
use federation::{
    audit::{Decision, Entry},
    ledger::{Engine, Leaves, Ledger},
    port::PortError,
    tls::TimeSource,
};
use fhir::audit::{self, Ended, Logged, OwnEvents, PLACE};
use fhir::rest::{Access, AccessLog, Behind, Refused, Unwritten};
use fhir::store::{FhirId, ResourceStore, StoreError};
use node::health::Check;
use parking_lot::Mutex;
use patients::Patients;
use sha2::{Digest as _, Sha256};
use standing::Standing;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use types::Id128;

/// Events in one commit of the store, and as many that it takes away.
const MAX_EVENTS: usize = 256;
/// Rows of the log that are looked at for one commit: most are of parcels. Some 2 MiB.
const MAX_ROWS: u32 = 4_096;
/// How often it is looked for rows while nobody asks for AuditEvents.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While more accesses than this wait for their own rows, nobody's AuditEvents are made unless somebody asks for them.
const BUSY: usize = 64;
/// Between two commits for whoever waits there is a pause as long as the one before took, so that live writes have the store
/// for half of the time at least; no shorter than this.
const MIN_PAUSE: Duration = Duration::from_millis(2);
/// And no longer.
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// How long somebody waits who asks for AuditEvents; and whoever asks so soon after one who waited in vain does not wait, so
/// that what asks many times, as a batch does, is not held up each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How far the events are made.
#[derive(Clone)]
struct Progress {
    /// The first position of the log of which none is made.
    at: watch::Sender<u64>,
    /// Up to where somebody waits.
    wanted: watch::Sender<u64>,
    asked: Arc<Notify>,
    /// When somebody waited in vain; none once all events are made.
    vain: Arc<Mutex<Option<Instant>>>,
}

/// The log of accesses, which knows how far AuditEvents are made of it.
#[derive(Clone)]
pub struct Audited {
    reads: Reads,
    ledger: Ledger,
    progress: Progress,
    patience: Duration,
}

/// What the tasks of the log need: the one that writes rows, and the one that makes events of them.
pub struct Kept {
    pub keeping: Keeping,
    pub projector: Projector,
}

/// Makes AuditEvents of rows: see the head of this file.
pub struct Projector {
    ledger: Ledger,
    store: Arc<dyn ResourceStore>,
    true_times: TrueTimes,
    now: TimeSource,
    draw: fn() -> [u8; 16],
    patients: Patients,
    progress: Progress,
    reads: Reads,
    /// Where it stands; none before that was read, and after a step that failed ([`Projector::failed`]).
    stands: Option<Stands>,
    /// Of how many rows events are kept.
    max_kept: u64,
}

/// Where it stands, and what the store keeps of that, if it does: rows of which nothing is made are passed without a commit.
#[derive(Clone)]
struct Stands {
    kept: Option<Standing>,
    now: Standing,
}

/// Rows of accesses, and the position behind the last row that was looked at for them.
struct Rows {
    of: Vec<(u64, Vec<u8>, Entry, Ended)>,
    until: u64,
    proof: Option<Id128>,
}

/// The log of accesses in a ledger, with AuditEvents in a store, of so many of the last rows. The check says whether it can
/// be written; `draw` gives 16 random bytes.
pub fn audited(
    (check, ledger, store): (Check, &Ledger, &Arc<dyn ResourceStore>),
    (now, true_times): (TimeSource, &TrueTimes),
    draw: fn() -> [u8; 16],
    max_kept: u64,
) -> (Audited, Kept) {
    let (reads, keeping) = reads(ledger.place().clone(), now.clone(), check);
    let progress = Progress {
        at: watch::Sender::new(0),
        wanted: watch::Sender::new(0),
        asked: Arc::default(),
        vain: Arc::default(),
    };
    let projector = Projector {
        ledger: ledger.clone(),
        store: store.clone(),
        true_times: true_times.clone(),
        now,
        draw,
        patients: Patients::default(),
        progress: progress.clone(),
        reads: reads.clone(),
        stands: None,
        max_kept,
    };
    let audited = Audited {
        reads,
        ledger: ledger.clone(),
        progress,
        patience: PATIENCE,
    };
    (audited, Kept { keeping, projector })
}

#[async_trait]
impl AccessLog for Audited {
    async fn given(&self, access: Access) -> Result<(), Unwritten> {
        self.reads.given(access).await
    }

    fn refused(&self, refused: Refused) {
        self.reads.refused(refused);
    }

    async fn caught_up(&self) -> Result<(), Behind> {
        let Progress {
            at,
            wanted,
            asked,
            vain,
        } = &self.progress;
        let mut at = at.subscribe();
        let size = match self.ledger.leaves(0, 0).await {
            Ok(log) => log.size,
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be read");
                return Err(Behind { rows: 1 });
            }
        };
        if *at.borrow_and_update() >= size {
            return Ok(());
        }
        wanted.send_modify(|wanted| *wanted = (*wanted).max(size));
        asked.notify_one();
        let lately = *vain.lock();
        if lately.is_some_and(|lately| lately.elapsed() < self.patience) {
            return Err(self.behind(size));
        }
        let passed = at.wait_for(|at| *at >= size);
        match tokio::time::timeout(self.patience, passed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                *vain.lock() = Some(Instant::now());
                Err(self.behind(size))
            }
        }
    }
}

impl Audited {
    fn behind(&self, size: u64) -> Behind {
        let at = *self.progress.at.borrow();
        Behind {
            rows: size.saturating_sub(at),
        }
    }
}

/// Why no events were made.
#[derive(Debug, thiserror::Error)]
enum Unmade {
    #[error(transparent)]
    Log(#[from] PortError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("what the store keeps of how far they are made is of another version of this program")]
    Standing,
}

impl Projector {
    /// Makes events until the stop: at most a batch in a second while nobody asks for them. `engine` says whether the store
    /// has what was answered for.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(
        mut self,
        engine: Arc<dyn Engine>,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let work = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let asked = self.progress.asked.clone();
            let mut said = false;
            loop {
                tokio::select! {
                    () = asked.notified() => {}
                    _ = look.tick() => {}
                }
                match self.turn(&*engine).await {
                    Ok(()) => said = false,
                    Err(error) => {
                        self.failed(&error);
                        if !said {
                            tracing::error!(%error, "AuditEvents cannot be made now");
                        }
                        said = true;
                    }
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            never = work => never,
        }
    }

    /// What the store has is asked of it again, all of its patients too, but for where it is the store that failed: another
    /// place than it was told last says that it was put back, and a store that takes nothing is not to be read whole for it.
    fn failed(&mut self, error: &Unmade) {
        if !matches!(error, Unmade::Store(_)) {
            self.stands = None;
        }
    }

    /// A batch, and more of them while somebody waits for them; none while many accesses wait for their own rows and nobody
    /// for these.
    async fn turn(&mut self, engine: &dyn Engine) -> Result<(), Unmade> {
        if self.reads.waiting() > BUSY && !self.is_wanted() {
            let log = self.ledger.leaves(0, 0).await?;
            self.show_behind(log.size);
            return Ok(());
        }
        loop {
            let begun = Instant::now();
            let has_more = self.step(engine).await?;
            if !has_more || !self.is_wanted() {
                return Ok(());
            }
            tokio::time::sleep(begun.elapsed().clamp(MIN_PAUSE, MAX_PAUSE)).await;
        }
    }

    /// Whether somebody waits for what is not made yet.
    fn is_wanted(&self) -> bool {
        let wanted = *self.progress.wanted.borrow();
        self.stands
            .as_ref()
            .is_none_or(|stands| wanted > stands.now.at)
    }

    /// One batch, if there are rows; whether there are more.
    async fn step(&mut self, engine: &dyn Engine) -> Result<bool, Unmade> {
        let Stands { kept, now } = self.stands().await?;
        let log = self.ledger.leaves(now.at, MAX_ROWS).await?;
        let size = log.size;
        let rows = Rows::of((now.at, now.proof), log);
        let of_patients = rows.of.iter().map(|(_, _, entry, _)| entry.id());
        self.patients.look(&*self.store, of_patients).await?;
        let is_true = (self.true_times)();
        let events = rows.of.iter().filter_map(|(position, leaf, entry, ended)| {
            let id = self.id(now.secret, *position, leaf)?;
            self.event((id, *position), entry, *ended, is_true)
        });
        let events: Vec<_> = events.collect();
        let (first, dropped) = self.outdated(&now, rows.until).await?;
        let next = Standing {
            at: rows.until,
            first,
            proof: rows.proof,
            secret: now.secret,
        };
        let is_far = kept.as_ref().is_none_or(|kept| {
            let made = next.at.saturating_sub(kept.at);
            made.max(next.first.saturating_sub(kept.first)) >= u64::from(MAX_ROWS)
        });
        let made = events.len();
        let mut stands = Stands { kept, now: next };
        if made > 0 || !dropped.is_empty() || is_far {
            engine.is_current().await?;
            let audit = OwnEvents {
                events,
                dropped,
                place: stands.now.to_text(),
                now: if is_true { (self.now)().0 } else { 0 },
            };
            self.store.keep_audit(audit).await?;
            stands.kept = Some(stands.now.clone());
        }
        metrics::counter!("medmesh_audit_events_total").increment(made as u64);
        let has_more = stands.now.at < size;
        self.passed(stands, size);
        Ok(has_more)
    }

    fn passed(&mut self, stands: Stands, size: u64) {
        if stands.now.at >= size {
            *self.progress.vain.lock() = None;
        }
        self.progress.at.send_replace(stands.now.at);
        self.stands = Some(stands);
        self.show_behind(size);
    }

    fn show_behind(&self, size: u64) {
        let at = self.stands.as_ref().map_or(0, |stands| stands.now.at);
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("medmesh_audit_events_behind").set(size.saturating_sub(at) as f64);
    }

    /// Where to go on. The store says it each time: where it says another than it was told last, it was put back.
    async fn stands(&mut self) -> Result<Stands, Unmade> {
        let text = self.store.marks(PLACE).await?.unwrap_or_default();
        let kept = Standing::of_text(&text);
        if kept.is_none() && !text.is_empty() {
            return Err(Unmade::Standing);
        }
        if let Some(stands) = self.stands.as_ref().filter(|stands| stands.kept == kept) {
            return Ok(stands.clone());
        }
        // So were the patients.
        self.patients = Patients::default();
        let size = self.ledger.leaves(0, 0).await?.size;
        let again = size.saturating_sub(self.max_kept);
        let now = match kept.clone() {
            None => Standing {
                at: again,
                first: again,
                proof: self.proof(again).await?,
                secret: Id128::from_bytes((self.draw)()),
            },
            Some(kept) => {
                let is_same = kept.at <= size && self.proof(kept.at).await? == kept.proof;
                if !is_same {
                    tracing::warn!("the audit log is not the one of which AuditEvents were made");
                }
                match is_same && kept.at >= again {
                    true => kept,
                    // What the log has is gone through again: it was put back itself, or is far ahead.
                    false => Standing {
                        at: again,
                        first: kept.first.min(again),
                        proof: self.proof(again).await?,
                        secret: kept.secret,
                    },
                }
            }
        };
        let stands = Stands { kept, now };
        self.passed(stands.clone(), size);
        Ok(stands)
    }

    /// The digest of the row before a position.
    async fn proof(&self, at: u64) -> Result<Option<Id128>, Unmade> {
        let Some(before) = at.checked_sub(1) else {
            return Ok(None);
        };
        let log = self.ledger.leaves(before, 1).await?;
        Ok(log.leaves.first().map(|leaf| digest(leaf)))
    }

    fn event(
        &self,
        (id, position): (FhirId, u64),
        entry: &Entry,
        ended: Ended,
        is_true: bool,
    ) -> Option<(fhir::store::Draft, Option<types::FacilityPseudonym>)> {
        let (whom, facility) = self.patients.whom(entry.id());
        let place = self.ledger.place().to_string();
        let logged = Logged {
            interaction: entry.reason(),
            asked: entry.kind(),
            ended,
            client: entry.from(),
            place: &place,
            count: entry.count(),
            whom,
            request: entry.digest(),
            recorded: entry.time().filter(|_| is_true),
        };
        let event = audit::event(id, &logged);
        if event.is_none() {
            tracing::error!(position, "a row of the audit log makes no AuditEvent");
        }
        Some((event?, facility))
    }

    fn id(&self, secret: Id128, position: u64, leaf: &[u8]) -> Option<FhirId> {
        let place = self.ledger.place().to_string();
        audit::own_id(secret.as_bytes(), &place, position, leaf)
    }

    /// Events of rows that are too far back once those before `until` are made, at most a batch, and the first position of
    /// which one may be there then.
    async fn outdated(&self, now: &Standing, until: u64) -> Result<(u64, Vec<FhirId>), Unmade> {
        let end = until.saturating_sub(self.max_kept);
        if now.first >= end {
            return Ok((now.first, Vec::new()));
        }
        let rows = u32::try_from(end - now.first).unwrap_or(MAX_ROWS);
        let log = self.ledger.leaves(now.first, rows.min(MAX_ROWS)).await?;
        let rows = Rows::of((now.first, None), log);
        let ids = rows
            .of
            .iter()
            .filter_map(|(position, leaf, ..)| self.id(now.secret, *position, leaf));
        Ok((rows.until, ids.collect()))
    }
}

impl Rows {
    /// Those of accesses among the rows from a position on, with the digest of the row before; at most a batch.
    fn of((from, mut proof): (u64, Option<Id128>), log: Leaves) -> Self {
        let (mut of, mut until) = (Vec::new(), from);
        for (position, leaf) in (from..).zip(log.leaves) {
            if of.len() == MAX_EVENTS {
                break;
            }
            until = position + 1;
            proof = Some(digest(&leaf));
            if let Some((entry, ended)) = access_of(&leaf) {
                of.push((position, leaf, entry, ended));
            }
        }
        Self { of, until, proof }
    }
}

/// An entry, if it is of an access by FHIR, and what became of that.
fn access_of(leaf: &[u8]) -> Option<(Entry, Ended)> {
    let entry = Entry::decode(leaf).ok()?;
    let ended = match entry.decision() {
        Decision::DataRead => Ended::Given,
        Decision::DataWritten => Ended::Begun,
        Decision::ReadUnauthenticated => Ended::Unauthenticated,
        Decision::ReadForbidden => Ended::Forbidden,
        Decision::ReadUnanswered => Ended::Unanswered,
        _ => return None,
    };
    Some((entry, ended))
}

fn digest(leaf: &[u8]) -> Id128 {
    let hash: [u8; 32] = Sha256::digest(leaf).into();
    let half = hash.first_chunk::<16>();
    Id128::from_bytes(half.copied().unwrap_or_default())
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "audited_tests.rs"]
mod tests;
