//! Keeps the copy of the store up: reads what has changed, a bounded page at a time, on connections of its own, and puts
//! it into the copy with the place up to which it was read, in one transaction. A kill leaves both or neither; what is
//! done twice changes nothing. Nothing that comes in waits for it: what is behind is behind, and a gauge says by how much.
use super::{consented::Consented, log::InLog, resources};
use crate::{config::DeviceConfig, context::Shared, error::EdgeError};
use fhir::{
    sqlite::{PLACE, Projection, SqliteStore, Step},
    store::ResourceStore as _,
};
use node::health::Check;
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};
use store::clockguard::Time;
use store::{Changed, LocalIds, Stays, Store, StoreError};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, Timestamp};

/// Pause between looks for something new (real time): how far the copy is behind a quiet store at most, about.
const IDLE: Duration = Duration::from_millis(100);
/// Pause between pages while there is more: what comes in has the machine in between.
const BETWEEN: Duration = Duration::from_millis(5);
/// Pause after a step that failed.
const HELD: Duration = Duration::from_secs(2);
/// Rows of the feed that are done before they are let go: each time costs the store a commit.
const LET_GO: i64 = 5_000;
/// And at least so often, if there are any.
const LET_GO_EVERY: Duration = Duration::from_secs(10);

/// Keeps the copy up.
pub(super) struct Projecting {
    store: Store,
    copy: Arc<SqliteStore>,
    consented: Arc<Consented>,
    log: Arc<InLog>,
    time: Arc<dyn Time>,
    ids: LocalIds,
    devices: BTreeMap<DeviceId, DeviceConfig>,
    max_bytes: u64,
    pub(super) check: Option<Check>,
    /// The last row of the feed that is done.
    done: i64,
    /// The last row that was let go, and when.
    let_go: (i64, std::time::Instant),
    /// A digest of the stays of each patient that are in the copy, by the patient's row.
    stays: BTreeMap<i64, u64>,
    /// When the next entry of a bed begins to hold; none: no entry does.
    next: Option<Timestamp>,
    /// Whether the beds are to be read, whatever was entered.
    begun: bool,
}

impl Projecting {
    /// Meets the store: what the copy lacks is fed anew. Nothing may come in before.
    pub(super) async fn new(
        shared: &Shared,
        copy: Arc<SqliteStore>,
        log: Arc<InLog>,
    ) -> Result<Self, EdgeError> {
        let devices = shared.config.devices.iter().cloned();
        let parts = Parts {
            store: shared.store.clone(),
            time: shared.guard.clone(),
            devices: devices.collect(),
            max_bytes: shared.config.fhir.max_size.0,
        };
        Self::of(parts, copy, log).await
    }

    pub(super) async fn of(
        parts: Parts,
        copy: Arc<SqliteStore>,
        log: Arc<InLog>,
    ) -> Result<Self, EdgeError> {
        let Parts {
            store,
            time,
            devices,
            max_bytes,
        } = parts;
        let place = copy.marks(PLACE).await.map_err(EdgeError::Fhir)?;
        let copied = place.and_then(|place| place.parse().ok()).unwrap_or(0);
        let done = store.meet_feed(copied).await?;
        let devices = devices
            .into_iter()
            .map(|device| (device.id.clone(), device));
        Ok(Self {
            ids: store.local_ids(),
            consented: Arc::new(Consented::new(copy.clone(), store.clone())),
            devices: devices.collect(),
            store,
            copy,
            log,
            time,
            max_bytes,
            check: None,
            done,
            let_go: (done, std::time::Instant::now()),
            stays: BTreeMap::new(),
            next: None,
            begun: false,
        })
    }

    /// The same with the choices of patients in force when one is written.
    pub(super) fn consented(&self) -> Arc<Consented> {
        Arc::clone(&self.consented)
    }

    /// Until the stop.
    pub(super) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut pause = Duration::ZERO;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            self.log.tell().await;
            if let Err(error) = self.consented.settle_again().await {
                tracing::warn!(%error, "a choice about research is not kept yet");
            }
            pause = match self.step().await {
                Ok(more) => {
                    self.check.iter().for_each(Check::pass);
                    if more { BETWEEN } else { IDLE }
                }
                Err(error) => {
                    tracing::warn!(%error, "the facility's own FHIR is behind");
                    self.check.iter().for_each(|check| check.fail("behind"));
                    HELD
                }
            };
        }
    }

    /// One bounded step: whether there is more.
    pub(super) async fn step(&mut self) -> Result<bool, StoreError> {
        let feed = self.store.feed(self.done).await?;
        let now = self.time.now();
        let mut steps = Vec::new();
        let (mut entered, mut beds) = (!self.begun, BTreeSet::new());
        if !self.begun {
            steps.extend(self.configured());
        }
        for changed in feed.changed {
            match changed {
                Changed::Device(id) => steps.extend(self.device(&id)),
                Changed::Patient(patient) => {
                    steps.extend(resources::patient(&patient).map(Step::Known));
                }
                Changed::Bed(bed, patients) => {
                    entered = true;
                    steps.extend(resources::bed(&bed, &self.ids).map(Step::Known));
                    beds.extend(patients);
                }
                Changed::Sample(readings) => {
                    let readings = readings.into_iter().filter_map(resources::reading);
                    steps.extend(readings.map(Step::Reading));
                }
                Changed::Gone(uids) => {
                    let ids = uids.iter().filter_map(|uid| uid.to_string().parse().ok());
                    steps.extend(ids.map(Step::Gone));
                }
            }
        }
        let is_due = self.next.is_some_and(|next| next <= now.mesh);
        let mut found = None;
        if entered || is_due {
            let stays = self.store.stays_in_beds(now.mesh).await?;
            found = Some(self.stays(&stays, &beds, now.mesh, &mut steps));
        }
        if feed.last.is_some() || !steps.is_empty() {
            let done = feed.last.unwrap_or(self.done);
            let projection = Projection {
                steps,
                place: done.to_string(),
                max_bytes: self.max_bytes,
                now: now.real,
            };
            self.copy.project(projection).await?;
            self.done = done;
        }
        self.begun = true;
        if let Some((stays, next)) = found {
            self.stays.extend(stays);
            self.next = next;
        }
        metrics::gauge!("medmesh_fhir_behind_changes").set(gauge(feed.newest - self.done));
        self.let_go().await?;
        Ok(feed.more)
    }

    /// What the configuration names, of which the store may know nothing yet.
    fn configured(&self) -> Vec<Step> {
        let devices = self.devices.values();
        let beds: BTreeSet<&str> = devices.filter_map(|device| device.bed.as_deref()).collect();
        let beds = beds
            .into_iter()
            .filter_map(|bed| resources::bed(bed, &self.ids));
        let devices = self.devices.keys().filter_map(|id| self.device(id));
        beds.map(Step::Known).chain(devices).collect()
    }

    fn device(&self, id: &DeviceId) -> Option<Step> {
        resources::device(id, self.devices.get(id), &self.ids).map(Step::Known)
    }

    /// Adds the stays of every patient whose are others than those in the copy; and when the next entry will hold.
    fn stays(
        &self,
        now: &Stays,
        more: &BTreeSet<i64>,
        at: Timestamp,
        steps: &mut Vec<Step>,
    ) -> (Vec<(i64, u64)>, Option<Timestamp>) {
        if !self.begun {
            let beds = now
                .beds
                .iter()
                .filter_map(|bed| resources::bed(bed, &self.ids));
            steps.extend(beds.map(Step::Known));
        }
        let mut changed = Vec::new();
        let known: BTreeSet<i64> = self.stays.keys().copied().collect();
        for row in now
            .of
            .keys()
            .chain(more)
            .chain(&known)
            .collect::<BTreeSet<_>>()
        {
            let (patient, drafts) = match now.of.get(row) {
                Some((patient, in_beds)) => {
                    let (id, drafts) = resources::stays(patient, in_beds, &self.ids, at);
                    (id, drafts)
                }
                None => (
                    now.named.get(row).and_then(|id| id.as_str().parse().ok()),
                    Vec::new(),
                ),
            };
            let mut hasher = DefaultHasher::new();
            drafts
                .iter()
                .for_each(|draft| draft.json().hash(&mut hasher));
            let digest = hasher.finish();
            if self.stays.get(row) == Some(&digest) {
                continue;
            }
            if let Some(patient) = patient {
                steps.push(Step::Stays {
                    patient,
                    stays: drafts,
                });
                changed.push((*row, digest));
            }
        }
        (changed, now.next)
    }

    /// Lets go of what is done, now and then.
    async fn let_go(&mut self) -> Result<(), StoreError> {
        let (last, when) = self.let_go;
        let is_due = self.done - last >= LET_GO || when.elapsed() >= LET_GO_EVERY;
        if self.done > last && is_due {
            self.store.fed(self.done).await?;
            self.let_go = (self.done, std::time::Instant::now());
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53")]
const fn gauge(count: i64) -> f64 {
    count as f64
}

/// What the copy is made of.
pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) time: Arc<dyn Time>,
    pub(super) devices: Vec<DeviceConfig>,
    pub(super) max_bytes: u64,
}
