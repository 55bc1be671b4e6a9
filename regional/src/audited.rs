//! AuditEvents of the region's FHIR: rows of its signed audit log about accesses, projected into the FHIR store, where they
//! are searched as everything else.
//!
//! The log is the truth, and has everything; what is in the store is made of it by a task of the node that writes the log,
//! in the order of the log, and can be made again. The place in the log is kept in the step that stores the events, and the
//! id of an event is derived from its row, so that a crash at any moment loses and doubles nothing. Whoever asks for
//! AuditEvents waits until the rows that there are by then have theirs ([`AccessLog::caught_up`]).
mod patients;

use crate::reads::{Keeping, Reads, reads};
use crate::server::TrueTimes;
use async_trait::async_trait;
use federation::{
    audit::{Decision, Entry},
    ledger::Ledger,
    port::PortError,
    tls::TimeSource,
};
use fhir::audit::{self, Ended, Logged, OwnEvents, PLACE};
use fhir::rest::{Access, AccessLog, Behind, Refused, Unwritten};
use fhir::store::{FhirId, ResourceStore, StoreError};
use node::health::Check;
use patients::Patients;
use sha2::{Digest as _, Sha256};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{Notify, watch},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use types::Id128;

/// Events in one commit of the store.
const MAX_EVENTS: usize = 256;
/// Rows of the log that are looked at for one commit: most are of parcels. Some 2 MiB.
const MAX_ROWS: u32 = 4_096;
/// How often it is looked for rows while nobody asks for AuditEvents.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While more accesses than this wait for their own rows, nobody's AuditEvents are made unless somebody asks for them.
const BUSY: usize = 64;
/// How long somebody waits who asks for AuditEvents.
const PATIENCE: Duration = Duration::from_secs(5);
/// AuditEvents are kept of so many of the last rows of the log. Each is some 4 KiB with what it is found by, so 8 GiB at
/// most, of which every row of another kind takes its part away. The log keeps all.
const MAX_KEPT_ROWS: u64 = 2_000_000;

/// How far the events are made.
#[derive(Clone)]
struct Progress {
    /// The first position of the log of which none is made.
    at: watch::Sender<u64>,
    /// Up to where somebody waits.
    wanted: watch::Sender<u64>,
    asked: Arc<Notify>,
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
    secret: [u8; 32],
    patients: Patients,
    progress: Progress,
    reads: Reads,
    /// The first position of which no event is made; none before the place was read.
    at: Option<u64>,
    /// The place that the store has.
    kept: u64,
    /// Of how many rows events are kept.
    max_kept: u64,
}

/// The log of accesses in a ledger, with AuditEvents in a store. The check says whether it can be written; `secret` is the node's own key; ids of events are derived with it.
pub fn audited(
    (check, ledger, store): (Check, &Ledger, &Arc<dyn ResourceStore>),
    (now, true_times): (TimeSource, &TrueTimes),
    secret: [u8; 32],
) -> (Audited, Kept) {
    let (reads, keeping) = reads(ledger.place().clone(), now.clone(), check);
    let progress = Progress {
        at: watch::Sender::new(0),
        wanted: watch::Sender::new(0),
        asked: Arc::default(),
    };
    let projector = Projector {
        ledger: ledger.clone(),
        store: store.clone(),
        true_times: true_times.clone(),
        now,
        secret,
        patients: Patients::default(),
        progress: progress.clone(),
        reads: reads.clone(),
        at: None,
        kept: 0,
        max_kept: MAX_KEPT_ROWS,
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
        let Progress { at, wanted, asked } = &self.progress;
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
        let passed = at.wait_for(|at| *at >= size);
        match tokio::time::timeout(self.patience, passed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                let rows = size.saturating_sub(*self.progress.at.borrow());
                Err(Behind { rows })
            }
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
}

impl Projector {
    /// Makes events until the stop: at most a batch in a second while nobody asks for them.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let asked = self.progress.asked.clone();
        let mut said = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = asked.notified() => {}
                _ = look.tick() => {
                    if self.reads.waiting() > BUSY && !self.is_wanted() {
                        continue;
                    }
                }
            }
            loop {
                let made = tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    made = self.step() => made,
                };
                match made {
                    Ok(()) => said = false,
                    Err(error) if !said => {
                        tracing::error!(%error, "AuditEvents cannot be made now");
                        said = true;
                        break;
                    }
                    Err(_) => break,
                }
                if !self.is_wanted() {
                    break;
                }
            }
        }
    }

    /// Whether somebody waits for what is not made yet.
    fn is_wanted(&self) -> bool {
        self.at.is_none_or(|at| *self.progress.wanted.borrow() > at)
    }

    /// One batch, if there are rows.
    async fn step(&mut self) -> Result<(), Unmade> {
        let from = match self.at {
            Some(at) => at,
            None => self.begin().await?,
        };
        let log = self.ledger.leaves(from, MAX_ROWS).await?;
        let (mut rows, mut until) = (Vec::new(), from);
        for (position, leaf) in (from..).zip(&log.leaves) {
            if rows.len() == MAX_EVENTS {
                break;
            }
            until = position + 1;
            rows.extend(access_of(leaf).map(|(entry, ended)| (position, leaf, entry, ended)));
        }
        let of_patients = rows.iter().map(|(_, _, entry, _)| entry.id());
        self.patients.look(&*self.store, of_patients).await?;
        let is_true = (self.true_times)();
        let events = rows.iter().filter_map(|(position, leaf, entry, ended)| {
            self.event((*position, leaf.as_slice()), entry, *ended, is_true)
        });
        let events: Vec<_> = events.collect();
        let made = events.len();
        let dropped = self.outdated(from, until).await?;
        let is_far = until.saturating_sub(self.kept) >= u64::from(MAX_ROWS);
        if made > 0 || !dropped.is_empty() || is_far {
            let last = usize::try_from(until.saturating_sub(from + 1)).unwrap_or(usize::MAX);
            let audit = OwnEvents {
                events,
                dropped,
                place: place(until, log.leaves.get(last).map(Vec::as_slice)),
                now: if is_true { (self.now)().0 } else { 0 },
            };
            self.store.keep_audit(audit).await?;
            self.kept = until;
        }
        metrics::counter!("medmesh_audit_events_total").increment(made as u64);
        self.passed(until, log.size);
        Ok(())
    }

    fn passed(&mut self, at: u64, size: u64) {
        self.at = Some(at);
        #[expect(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("medmesh_audit_events_behind").set(size.saturating_sub(at) as f64);
        self.progress.at.send_replace(at);
    }

    /// Where to go on. A log in which the last row is another one was put back meanwhile: what it has is gone through again.
    async fn begin(&mut self) -> Result<u64, Unmade> {
        let kept = self.store.marks(PLACE).await?.unwrap_or_default();
        let (at, proof) = kept.split_once(' ').unwrap_or_default();
        let at: u64 = at.parse().unwrap_or(0);
        let log = self.ledger.leaves(at.saturating_sub(1), 1).await?;
        let again = log.size.saturating_sub(self.max_kept);
        let is_same = log.leaves.first().is_some_and(|leaf| digest(leaf) == proof);
        let at = match is_same {
            true => at.max(again),
            false if kept.is_empty() => again,
            false => {
                tracing::warn!("the audit log is not the one of which AuditEvents were made");
                again
            }
        };
        self.kept = at;
        self.passed(at, log.size);
        Ok(at)
    }

    fn event(
        &self,
        (position, leaf): (u64, &[u8]),
        entry: &Entry,
        ended: Ended,
        is_true: bool,
    ) -> Option<(fhir::store::Draft, Option<types::FacilityPseudonym>)> {
        let id = self.id(position, leaf)?;
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

    fn id(&self, position: u64, leaf: &[u8]) -> Option<FhirId> {
        let place = self.ledger.place().to_string();
        audit::own_id(&self.secret, &place, position, leaf)
    }

    /// The events of rows that are too far back once these are passed.
    async fn outdated(&self, from: u64, until: u64) -> Result<Vec<FhirId>, Unmade> {
        let first = from.saturating_sub(self.max_kept);
        let end = until.saturating_sub(self.max_kept);
        if first == end {
            return Ok(Vec::new());
        }
        let rows = u32::try_from(end - first).unwrap_or(MAX_ROWS);
        let log = self.ledger.leaves(first, rows).await?;
        let ids = (first..).zip(&log.leaves).filter_map(|(position, leaf)| {
            access_of(leaf)?;
            self.id(position, leaf)
        });
        Ok(ids.collect())
    }
}

/// An entry, if it is of an access by FHIR, and what became of that.
fn access_of(leaf: &[u8]) -> Option<(Entry, Ended)> {
    let entry = Entry::decode(leaf).ok()?;
    let ended = match entry.decision() {
        Decision::DataRead | Decision::DataWritten => Ended::Given,
        Decision::ReadUnauthenticated => Ended::Unauthenticated,
        Decision::ReadForbidden => Ended::Forbidden,
        Decision::ReadUnanswered => Ended::Unanswered,
        _ => return None,
    };
    Some((entry, ended))
}

/// A place in the log, with the row before it.
fn place(at: u64, last: Option<&[u8]>) -> String {
    format!("{at} {}", last.map(digest).unwrap_or_default())
}

fn digest(leaf: &[u8]) -> String {
    let hash: [u8; 32] = Sha256::digest(leaf).into();
    let [first, _] = *hash.as_chunks::<16>().0 else {
        return String::new();
    };
    Id128::from_bytes(first).to_string()
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "audited_tests.rs"]
mod tests;
