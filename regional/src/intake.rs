//! What facilities deliver, made durable: readings into the FHIR store, device records into the registry and on to
//! the global node. Everything is idempotent, so that a parcel that comes again after a crash changes nothing.
use crate::again::is_same_reading;
#[cfg(not(medmesh_unguarded))]
use crate::decode::decode;
use crate::decode::{Decoded, Fault};
use crate::numbering::Numbering;
use crate::registry::{Device, Registry};
use crate::server::TrueTimes;
#[cfg(medmesh_unguarded)]
use crate::unguarded::decode;
use async_trait::async_trait;
use federation::{
    envelope::{self, Envelope, Intact, OpenError},
    ledger::{Engine, Handler, Handlers, Ledger, Marked, Shipped, notes::LeftOut},
    models::DeviceModels,
    port::{PortError, PortErrorKind, Verdict},
    reason,
    wire::Parcel,
};
use fhir::store::{Applied, Delivery, MAX_APPLY, NewResource, ResourceStore, Source};
use messages::{AuditCheckpoint, Body, Correction, DeviceRecords, ReadingBatch};
use node::{
    clock::Clock,
    trace::{self, Name, Open},
};
use prost::Message;
use std::{sync::Arc, time::Instant};
use types::{EnvelopeId, FacilityPseudonym, Place, Priority, Purpose, Timestamp};

/// Applies what facilities deliver.
#[derive(Clone)]
pub struct Intake {
    /// Where readings go.
    pub store: Arc<dyn ResourceStore>,
    /// Where device records go.
    pub registry: Registry,
    /// By which device records are passed on, and where notes on what was left out go.
    pub ledger: Ledger,
    /// The region.
    pub here: Place,
    /// Real time.
    pub clock: Clock,
    /// Draws 16 random bytes: the pseudonym of a facility that delivers for the first time.
    pub draw: fn() -> [u8; 16],
    /// What the catalog may name.
    pub models: DeviceModels,
    /// Whether the region may say when it stores something. What it may not say it does not keep with resources.
    pub true_times: TrueTimes,
    /// Which numbering the events of subscriptions have.
    pub numbering: Numbering,
}

/// A parcel of readings on its way into the store.
struct Readings {
    parcel: EnvelopeId,
    decoded: Decoded,
    count: u32,
}

/// The kinds that carry readings.
struct TakesReadings(Intake);
/// The kind that carries device records.
struct TakesRecords(Intake);

#[async_trait]
impl Handler for TakesReadings {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        self.0.readings(from, parcels).await
    }
}

#[async_trait]
impl Handler for TakesRecords {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        self.0.records(from, parcels).await
    }
}

#[async_trait]
impl Engine for Intake {
    async fn is_current(&self) -> Result<(), PortError> {
        self.compare_store().await
    }

    /// How far the store's order of commits has come: it only grows, with whatever is written. What clients write holds the
    /// store to it until it is looked at again.
    async fn mark(&self) -> Result<Option<u64>, PortError> {
        let head = self.store.head().await?;
        self.store.stands_at(head);
        Ok(Some(head.unsigned_abs()))
    }
}

const fn refused(reason: &'static str) -> Verdict {
    Verdict::Refused { reason }
}

impl Intake {
    /// What a region takes in, by kind.
    #[must_use]
    pub fn handlers(&self) -> Handlers {
        Handlers::over(Arc::new(self.clone()))
            .on::<ReadingBatch>(TakesReadings(self.clone()))
            .on::<Correction>(TakesReadings(self.clone()))
            .on::<DeviceRecords>(TakesRecords(self.clone()))
            .on::<AuditCheckpoint>(self.ledger.keeps_heads())
    }

    /// Whether the store has what was answered for. When it was put back, senders are asked to ship again, and nothing is
    /// taken before they have met this node.
    ///
    /// # Errors
    /// Unavailable when it was put back just now.
    pub async fn compare_store(&self) -> Result<(), PortError> {
        match self.ledger.compare_mark(|| self.mark()).await? {
            Marked::Agrees => Ok(()),
            Marked::PutBack { .. } => {
                self.numbering.begin_anew((self.draw)())?;
                Err(PortError {
                    kind: PortErrorKind::Unavailable,
                    op: "compare the store with the ledger",
                    source: None,
                })
            }
        }
    }

    /// One transaction of the store for as many parcels as it takes.
    async fn readings(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let begun = Instant::now();
        let owned = parcels.to_vec();
        let now = self.clock.mesh();
        let traced = traced(Name::FhirMap, parcels);
        let opened = tokio::task::spawn_blocking(move || {
            owned.iter().map(|parcel| open(parcel, now)).collect()
        });
        let mut opened: Vec<Result<Readings, Verdict>> =
            opened.await.map_err(|_| internal("decode"))?;
        trace::end_all(traced);
        let traced = self::traced(Name::FhirCommit, parcels);
        let results = self.store(from, &mut opened).await?;
        trace::end_all(traced);
        let mut verdicts = Vec::with_capacity(parcels.len());
        let mut results = results.into_iter();
        for (parcel, opened) in parcels.iter().zip(opened) {
            verdicts.push(match opened {
                Err(verdict) => verdict,
                Ok(readings) => {
                    let applied = results.next().ok_or_else(|| internal("apply"))?;
                    let applied = self.without_known(parcel, applied).await?;
                    let (verdict, faults) = close(&readings, &applied);
                    count(&verdict, &applied, &faults);
                    let left_out = left_out(parcel, &faults);
                    if !left_out.is_empty() {
                        self.ledger.note(from, parcel, left_out).await?;
                    }
                    verdict
                }
            });
        }
        metrics::histogram!("medmesh_observation_lag_seconds").record(begun.elapsed());
        Ok(verdicts)
    }

    /// Takes out of the conflicts of a parcel what is here already by another name ([`crate::again`]). The parcel is
    /// opened again, as this is rare.
    async fn without_known(
        &self,
        parcel: &Intact,
        mut applied: Applied,
    ) -> Result<Applied, PortError> {
        if applied.conflicts.is_empty() {
            return Ok(applied);
        }
        let Ok(batch) = opened::<ReadingBatch>(parcel) else {
            return Ok(applied);
        };
        let now = self.clock.mesh();
        let decoded = tokio::task::spawn_blocking(move || decode(&batch, now));
        let resources = decoded.await.map_err(|_| internal("decode"))?.resources;
        let mut conflicts = Vec::new();
        for at in applied.conflicts {
            let new = usize::try_from(at).ok().and_then(|at| resources.get(at));
            if !self.has(new).await? {
                conflicts.push(at);
            }
        }
        applied.conflicts = conflicts;
        Ok(applied)
    }

    async fn has(&self, new: Option<&NewResource>) -> Result<bool, PortError> {
        let Some(new) = new else {
            return Ok(false);
        };
        let stored = self.store.read(new.kind(), new.id()).await;
        let stored = stored?;
        Ok(stored.is_some_and(|stored| is_same_reading(&stored, new)))
    }

    async fn store(
        &self,
        from: &Place,
        opened: &mut [Result<Readings, Verdict>],
    ) -> Result<Vec<Applied>, PortError> {
        let mut results = Vec::with_capacity(opened.len());
        let source = Source {
            place: from.to_string(),
            fresh: FacilityPseudonym::from_bytes((self.draw)()),
        };
        let mut batch = Vec::new();
        let mut size = 0;
        for readings in opened.iter_mut().flatten() {
            let resources = std::mem::take(&mut readings.decoded.resources);
            if size + resources.len() > MAX_APPLY {
                results.extend(self.commit(std::mem::take(&mut batch)).await?);
                size = 0;
            }
            size += resources.len();
            let parcel = readings.parcel;
            let source = source.clone();
            batch.push(Delivery {
                parcel,
                source,
                resources,
            });
        }
        results.extend(self.commit(batch).await?);
        Ok(results)
    }

    async fn commit(&self, batch: Vec<Delivery>) -> Result<Vec<Applied>, PortError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let now = if (self.true_times)() {
            self.clock.real()
        } else {
            Timestamp(0)
        };
        self.store.apply(batch, now).await.map_err(PortError::from)
    }

    async fn records(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let verdict = match take(from, parcel, &self.models, self.clock.real()) {
                Ok(taken) => self.register(from, parcel, taken).await?,
                Err(verdict) => verdict,
            };
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    /// Into the registry, then into the outbox under the id of the parcel that brought it: a repetition is known.
    async fn register(
        &self,
        from: &Place,
        parcel: &Parcel,
        taken: Taken,
    ) -> Result<Verdict, PortError> {
        let Taken {
            devices,
            body,
            left_out,
        } = taken;
        let stored = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        let id = EnvelopeId::try_from(&parcel.id[..]).map_err(|_| internal("register"))?;
        if !self.registry.put(devices).await? {
            return Ok(refused(reason::WRONG_SENDER));
        }
        if !left_out.is_empty() {
            self.ledger.note(from, parcel, left_out).await?;
        }
        let envelope = Envelope {
            from: self.here.clone(),
            to: Place::Global,
            purpose: Purpose::Operations,
            body,
        };
        if let Shipped::Refused(refusal) = self.ledger.ship(envelope, Priority::Live, id).await? {
            // Policy may keep device metadata in the region; the decision is in the audit log.
            tracing::warn!(reason = refusal.reason(), "device records not passed on");
        }
        Ok(Verdict::Accepted { stored })
    }
}

/// A span for each parcel that is traced.
fn traced(name: Name, parcels: &[Intact]) -> Vec<Open> {
    trace::steps(name, parcels.iter().map(|parcel| &parcel.traceparent))
}

/// Opens and decodes a parcel, or says what becomes of it as a whole.
fn open(parcel: &Intact, now: Timestamp) -> Result<Readings, Verdict> {
    let batch = batch_of(parcel)?;
    let id = EnvelopeId::try_from(&parcel.id[..]).map_err(|_| refused(reason::MALFORMED))?;
    let decoded = decode(&batch, now);
    if decoded.resources.len() > MAX_APPLY {
        return Err(Verdict::Quarantined {
            reason: reason::TOO_LARGE,
        });
    }
    Ok(Readings {
        parcel: id,
        count: batch.count(),
        decoded,
    })
}

/// The readings of a parcel, whether they are new or correct others.
fn batch_of(parcel: &Intact) -> Result<ReadingBatch, Verdict> {
    if parcel.kind == Correction::KIND {
        return Ok(opened::<Correction>(parcel)?.batch.unwrap_or_default());
    }
    opened(parcel)
}

fn opened<T: Body>(parcel: &Intact) -> Result<T, Verdict> {
    envelope::open(parcel).map_err(|error| match error {
        OpenError::Kind => refused(error.reason()),
        OpenError::Malformed => Verdict::Quarantined {
            reason: reason::MALFORMED,
        },
    })
}

/// The verdict on a parcel whose transaction is committed, and the faults that are noted before it is given.
fn close(readings: &Readings, applied: &Applied) -> (Verdict, Vec<(u32, Fault)>) {
    if !applied.foreign.is_empty() {
        return (refused(reason::WRONG_SENDER), Vec::new());
    }
    let decoded = &readings.decoded;
    let conflicts = applied.conflicts.iter();
    let conflicts = conflicts.filter_map(|at| decoded.position_of(*at));
    let mut faults = decoded.faults.clone();
    faults.extend(conflicts.map(|position| (position, Fault::Conflict)));
    let left_out = u32::try_from(faults.len()).unwrap_or(u32::MAX);
    let stored = readings.count.saturating_sub(left_out);
    if stored == 0 && readings.count > 0 {
        let reason = reason::UNMAPPABLE;
        return (Verdict::Quarantined { reason }, faults);
    }
    (Verdict::Accepted { stored }, faults)
}

/// Counts what a parcel brought; one that had been applied before brings nothing.
fn count(verdict: &Verdict, applied: &Applied, faults: &[(u32, Fault)]) {
    if applied.written == 0 {
        return;
    }
    if let Verdict::Accepted { stored } = verdict {
        metrics::counter!("medmesh_readings_stored_total").increment(u64::from(*stored));
    }
    for (_, fault) in faults {
        metrics::counter!("medmesh_readings_quarantined_total", "reason" => fault.as_str())
            .increment(1);
    }
}

/// What is noted of readings that were left out. The parcel is opened again, as this is rare.
fn left_out(parcel: &Intact, faults: &[(u32, Fault)]) -> Vec<LeftOut> {
    if faults.is_empty() {
        return Vec::new();
    }
    let Ok(batch) = batch_of(parcel) else {
        return Vec::new();
    };
    let note = |(position, fault): &(u32, Fault)| {
        let at = usize::try_from(*position).ok()?;
        let digest = envelope::digest(&batch.readings.get(at)?.encode_to_vec());
        Some(LeftOut {
            position: *position,
            reason: fault.as_str(),
            digest: digest.to_vec(),
        })
    };
    faults.iter().filter_map(note).collect()
}

/// The devices of a facility that speaks for itself, and the message with those that can be understood.
#[derive(Debug)]
struct Taken {
    devices: Vec<Device>,
    body: DeviceRecords,
    left_out: Vec<LeftOut>,
}

fn take(
    from: &Place,
    parcel: &Intact,
    models: &DeviceModels,
    now: Timestamp,
) -> Result<Taken, Verdict> {
    let mut body: DeviceRecords = opened(parcel)?;
    let home = (from.facility(), from.region(), from.jurisdiction());
    let (Some(facility), Some(region), Some(jurisdiction)) = home else {
        return Err(refused(reason::WRONG_SENDER));
    };
    let same = body.facility == facility.as_str()
        && body.region == region.as_str()
        && body.jurisdiction == jurisdiction.as_str();
    if !same {
        return Err(refused(reason::WRONG_SENDER));
    }
    let mut devices = Vec::with_capacity(body.devices.len());
    let (mut left_out, mut position) = (Vec::new(), 0);
    body.devices.retain_mut(|record| {
        let at = position;
        position += 1;
        let mut listed = record.clone();
        models.restrict(&mut listed.model, &mut listed.firmware);
        if let Some(device) = Device::read(facility, &listed, now) {
            *record = listed;
            devices.push(device);
            return true;
        }
        left_out.push(LeftOut {
            position: at,
            reason: reason::UNMAPPABLE,
            digest: envelope::digest(&record.encode_to_vec()).to_vec(),
        });
        cfg!(medmesh_unguarded)
    });
    if !left_out.is_empty() {
        let left_out = left_out.len();
        metrics::counter!("medmesh_device_records_left_out_total").increment(left_out as u64);
        tracing::error!(%facility, left_out, "device records that cannot be understood left out");
    }
    if devices.is_empty() && position > 0 && !cfg!(medmesh_unguarded) {
        return Err(Verdict::Quarantined {
            reason: reason::UNMAPPABLE,
        });
    }
    Ok(Taken {
        devices,
        body,
        left_out,
    })
}

const fn internal(op: &'static str) -> PortError {
    PortError::new(PortErrorKind::Internal, op)
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "intake_tests.rs"]
pub(crate) mod tests;

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "owner_tests.rs"]
mod owner_tests;
