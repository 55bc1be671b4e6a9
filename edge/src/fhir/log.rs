//! Who read and wrote what of the facility's own FHIR, in its audit log (45 CFR 164.312(b)): a row is durable before the
//! answer is given. Rows that wait together share a commit of the store. What was given nothing waits for nobody: it is
//! counted, and a row says how often, once a minute for each program and reason.
use crate::context::Shared;
use async_trait::async_trait;
use federation::audit::{Asked, Decision, Entry};
use fhir::rest::{Access, AccessLog, Refused, Unwritten, Why};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};
use store::Store;
use store::clockguard::Time;
use types::{Place, Timestamp};

/// Between two rows of requests that were given nothing (real time).
const TELL_EVERY_MS: i64 = 60_000;
/// Programs and reasons that one such row each is kept for; what is beyond is counted in
/// `medmesh_fhir_reads_refused_total` alone. Programs are few.
const MAX_TALLIES: usize = 512;

/// The log of accesses.
pub(super) struct InLog {
    store: Store,
    time: Arc<dyn Time>,
    here: Place,
    refused: Mutex<HashMap<Refused, u32>>,
    told: Mutex<Timestamp>,
}

impl InLog {
    pub(super) fn of(shared: &Shared) -> Self {
        Self::new(
            shared.store.clone(),
            shared.guard.clone(),
            shared.here.clone(),
        )
    }

    pub(super) fn new(store: Store, time: Arc<dyn Time>, here: Place) -> Self {
        Self {
            told: Mutex::new(time.now().real),
            store,
            time,
            here,
            refused: Mutex::default(),
        }
    }

    /// Writes rows of what was given nothing, if they are due.
    pub(super) async fn tell(&self) {
        let now = self.time.now().real;
        if now.since(*self.told.lock()) < TELL_EVERY_MS || self.refused.lock().is_empty() {
            return;
        }
        *self.told.lock() = now;
        let tallies = std::mem::take(&mut *self.refused.lock());
        let rows = tallies.iter().map(|(refused, count)| {
            let what = Asked {
                interaction: refused.interaction.as_str(),
                kind: refused.kind.as_str(),
                ..Asked::default()
            };
            let who = refused.reader.as_ref().map_or("", |reader| &reader.0);
            let decision = match refused.why {
                Why::Unauthenticated => Decision::ReadUnauthenticated,
                Why::Forbidden => Decision::ReadForbidden,
                Why::Unanswered => Decision::ReadUnanswered,
            };
            Entry::of_read(now, decision, who, &self.here, &what, *count)
        });
        if let Err(error) = self.store.note(rows.collect()).await {
            tracing::warn!(%error, "rows of what was given nothing are not written yet");
            let mut kept = self.refused.lock();
            for (refused, count) in tallies {
                let sum = kept.entry(refused).or_default();
                *sum = sum.saturating_add(count);
            }
        }
    }
}

#[async_trait]
impl AccessLog for InLog {
    async fn given(&self, access: Access) -> Result<(), Unwritten> {
        let patient = access.patient.as_ref().map(|id| format!("Patient/{id}"));
        let asked = Asked {
            interaction: access.interaction.as_str(),
            kind: &access.asked(),
            about: patient.as_deref(),
            request: Some(&access.request),
        };
        let decision = match access.interaction.writes() {
            true => Decision::DataWritten,
            false => Decision::DataRead,
        };
        let (now, who) = (self.time.now().real, &access.reader.0);
        let row = Entry::of_read(now, decision, who, &self.here, &asked, access.resources);
        self.store.note(vec![row]).await.map_err(|error| {
            tracing::warn!(%error, "nothing is shown that cannot be written down");
            metrics::counter!("medmesh_fhir_reads_refused_total", "reason" => "unaudited")
                .increment(1);
            Unwritten
        })
    }

    fn refused(&self, refused: Refused) {
        let reason = refused.why.as_str();
        metrics::counter!("medmesh_fhir_reads_refused_total", "reason" => reason).increment(1);
        let mut tallies = self.refused.lock();
        if tallies.len() < MAX_TALLIES || tallies.contains_key(&refused) {
            let count = tallies.entry(refused).or_default();
            *count = count.saturating_add(1);
        }
    }
}
