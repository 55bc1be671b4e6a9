//! The facility's node, put together: it opens what it needs, starts its tasks and ends them in order.
//!
//! Nothing here needs a network: who the node is, which policy holds and what time it must at least be lie on its
//! disk. The link is one task among others, and its absence changes nothing but the priority of what is committed.
use crate::{
    beds,
    config::{BedAssignment, EdgeConfig},
    context::{Shared, real_time},
    control::Control,
    deliveries,
    error::EdgeError,
    facility::Changes,
    freshness::{self, Monitor},
    learning::{self, Learner, TakesAsks},
    lease::{Lease, Subject},
    mqtt::Behind,
    offset::clock_offset,
    pipeline::{Published, Topics, Watched, Witness},
    serving,
    standing::{Standing, Told},
    tasks,
};
use broker::{Broker, BrokerConfig, BrokerLimits};
use ed25519_dalek::VerifyingKey;
use federation::{
    audit::Signer,
    link::{Door, Tap, Uplink, UplinkParts},
    pki,
    policy::Rules,
    profile::SignedProfile,
    tls::{ReloadingTls, paths},
};
use ingest::Journal;
use messages::StudyAsk;
use node::{
    health::Health,
    listeners, shutdown,
    task::{Kind, Tasks},
    telemetry, trace,
};
use parking_lot::Mutex;
use rand::SeedableRng;
use std::{net::SocketAddr, path::Path, sync::Arc};
use store::clockguard::{ClockGuard, Time};
use store::{self, Bounds, DeviceFacts, Handlers, Store, StoreOptions};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{FreshnessLimits, Phi, Place, Timestamp};

/// When this was built, by the source's own account (edge/build.rs): it is later. Part of the clock's floor.
pub const BUILT: Timestamp = Timestamp(match i64::from_str_radix(env!("MEDMESH_BUILT_S"), 10) {
    Ok(seconds) => seconds * 1_000,
    Err(_) => 0,
});

/// A running edge node.
pub struct Node {
    /// Where the broker listens.
    pub mqtt: SocketAddr,
    /// Where health and metrics are served.
    pub https: SocketAddr,
    /// The store.
    pub store: Store,
    tasks: Tasks,
    broker: Broker,
}

/// Runs an edge node until `stop`.
///
/// # Errors
/// [`EdgeError`]: it did not start, or a task that it cannot do without ended.
pub async fn run(config: EdgeConfig, stop: CancellationToken) -> Result<(), EdgeError> {
    let node = start(config, stop).await?;
    listeners::close_untaken();
    node.join().await
}

impl Node {
    /// Waits for the stop, or for the end of a task that the node cannot do without; then ends everything, the store
    /// last.
    ///
    /// # Errors
    /// [`EdgeError::Task`].
    pub async fn join(self) -> Result<(), EdgeError> {
        let stop = self.tasks.stop();
        let ended = self.tasks.join(shutdown::GRACE).await;
        stop.cancel();
        self.broker.stopped().await;
        self.store.close().await;
        Ok(ended?)
    }
}

/// Starts an edge node: when it returns, its ports are bound and it takes readings in.
///
/// # Errors
/// [`EdgeError`].
pub async fn start(config: EdgeConfig, stop: CancellationToken) -> Result<Node, EdgeError> {
    telemetry::init_metrics();
    let here = config.place();
    let offset = clock_offset(&config)?;
    let guard = Arc::new(ClockGuard::new(config.clock, BUILT, offset));
    let leases = lease_files(&config)?;
    for lease in held(&leases, &here) {
        guard.raise(lease.issued);
    }
    let tls = open_tls(&config, &guard)?;
    guard.raise(tls.me().not_before);
    let profiles = modbus::Profiles::load(&config.profiles).map_err(EdgeError::Profiles)?;
    let devices = facts(&config, &profiles);
    let monitor = monitor(&config, &devices);
    claim(&config.data_dir)?;
    let asked = Arc::new(Notify::new());
    let control = Control::new(&config.devices, &profiles);
    let come = Arc::new(Notify::new());
    let takes = deliveries::handlers(tasks::takes_commands(&control, &tls), &come)
        .on::<StudyAsk>(Arc::new(TakesAsks::new(asked.clone())));
    let store = open_store(&config, &here, devices, (guard.clone(), takes))?;
    if let Some(kept) = store.kept_time().await? {
        guard.raise(kept);
    }
    store.begin_log().await?;
    let blobs = store.blobs(&config.data_dir).map_err(EdgeError::Blobs)?;
    recall(&store, &monitor).await?;
    if !guard.now().trusted {
        tracing::warn!(
            "the machine's clock is behind what is known to have passed; readings are flagged"
        );
    }
    let topics = Topics {
        region: config.region.clone(),
        facility: config.facility.clone(),
    };
    let health = Health::new();
    let shared = Arc::new(Shared {
        standing: Arc::new(Standing::new(&health)),
        conditions: Arc::new(modbus::Conditions::new(health.optional("devices"))),
        control,
        config,
        store,
        blobs,
        monitor,
        changes: Changes::default(),
        guard,
        topics,
        leases,
        here,
        health,
        asked,
        come,
        turn: Arc::default(),
    });
    spawn(shared, tls, profiles, stop).await
}

/// Binds the ports and starts the tasks.
async fn spawn(
    shared: Arc<Shared>,
    tls: Arc<ReloadingTls>,
    profiles: modbus::Profiles,
    stop: CancellationToken,
) -> Result<Node, EdgeError> {
    let parts = link_parts(&shared, &tls)?;
    // A link that can never be is a mistake of the configuration, and said before anything runs.
    drop(Uplink::new(parts())?);
    let journal: Arc<dyn Journal> = Arc::new(Watched {
        journal: Arc::new(shared.store.clone()),
        monitor: shared.monitor.clone(),
        changes: shared.changes.clone(),
    });
    let broker = start_broker(&shared, &tls, journal.clone(), stop.clone()).await?;
    let mut tasks = Tasks::new(stop.clone());
    trace::export::start(shared.config.telemetry.as_ref(), &shared.here, &mut tasks)
        .map_err(EdgeError::Telemetry)?;
    let writes = tasks::commands(&mut tasks, &shared, &broker);
    let https = serving::serve_https(&mut tasks, &shared, &tls, stop.clone()).await?;
    let bridge = bridge(&shared, &broker, journal, (profiles, writes));
    tasks.spawn("modbus", Kind::Critical, modbus::run(bridge, stop.clone()));
    let background = Kind::Background;
    let certificates = tasks::certificates(&shared, &tls, stop.clone())?;
    tasks.spawn("certificates", background, certificates);
    tasks.spawn(
        "uplink",
        background,
        tasks::uplink(shared.clone(), parts, stop.clone()),
    );
    tasks.spawn(
        "freshness",
        Kind::Critical,
        tasks::staleness(shared.clone(), Arc::new(broker.clone()), stop.clone()),
    );
    tasks.spawn(
        "catalog",
        background,
        tasks::catalog(shared.clone(), stop.clone()),
    );
    tasks.spawn(
        "watch",
        background,
        tasks::watch(shared.clone(), stop.clone()),
    );
    tasks.spawn(
        "corrections",
        background,
        beds::correct(shared.store.clone(), stop.clone()),
    );
    let answering = learning::run(Learner::of(&shared), stop.clone());
    tasks.spawn("learning", background, answering);
    let files = deliveries::keep(shared.clone(), stop.clone());
    tasks.spawn("deliveries", background, files);
    tasks.spawn(
        "upkeep",
        Kind::Critical,
        tasks::upkeep(shared.clone(), stop),
    );
    let (mqtt, store) = (broker.local_addr(), shared.store.clone());
    let (writer, router) = (store.clone(), broker.clone());
    tasks.watch("store writer", async move { writer.writer_ended().await });
    tasks.watch("mqtt router", async move { router.router_ended().await });
    tracing::info!(place = %shared.here, %mqtt, %https, "edge node runs");
    Ok(Node {
        mqtt,
        https,
        store,
        tasks,
        broker,
    })
}

async fn start_broker(
    shared: &Shared,
    tls: &Arc<ReloadingTls>,
    journal: Arc<dyn Journal>,
    stop: CancellationToken,
) -> Result<Broker, EdgeError> {
    let config = &shared.config;
    let devices = config.devices.iter();
    let devices = devices.map(|device| (device.id.clone(), device.kind));
    let broker = BrokerConfig {
        listen: config.mqtt.listen,
        jurisdiction: config.jurisdiction,
        region: config.region.clone(),
        facility: config.facility.clone(),
        viewers: config.viewers().unwrap_or_default(),
        limits: BrokerLimits::default(),
    };
    let devices = Arc::new(devices.collect());
    let backend = Arc::new(Behind(journal));
    Ok(Broker::start(broker, tls.clone(), devices, backend, stop).await?)
}

fn bridge(
    shared: &Shared,
    broker: &Broker,
    journal: Arc<dyn Journal>,
    (profiles, writes): (modbus::Profiles, modbus::Writes),
) -> modbus::Bridge {
    modbus::Bridge {
        devices: shared.config.devices.iter().map(Into::into).collect(),
        profiles,
        journal: Arc::new(Published {
            journal,
            publish: Arc::new(broker.clone()),
            topics: shared.topics.clone(),
        }),
        clock: shared.guard.clock(),
        boot: shared.store.boot(),
        observer: Arc::new(Witness {
            monitor: shared.monitor.clone(),
        }),
        conditions: shared.conditions.clone(),
        writes,
    }
}

/// What every connection to the region is made of.
fn link_parts(
    shared: &Arc<Shared>,
    tls: &Arc<ReloadingTls>,
) -> Result<impl Fn() -> UplinkParts + Send + Sync + use<>, EdgeError> {
    let tap = Tap::from_env(shared.config.local_mesh)?;
    let collect = Arc::new(Door {
        here: shared.here.clone(),
        key: pki::load_signing_key(&shared.config.tls.signing_key)?,
        gate: Arc::new(shared.store.clone()),
        inbox: Arc::new(shared.store.clone()),
        tls: tls.clone(),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    });
    let (shared, tls) = (shared.clone(), tls.clone());
    Ok(move || UplinkParts {
        urls: shared.config.uplink.url.all(),
        here: shared.here.clone(),
        there: shared.config.above(),
        collect: Some(collect.clone()),
        bulk: Some(shared.blobs.clone()),
        outbox: Arc::new(shared.store.clone()),
        audit: Arc::new(Told {
            audit: shared.store.clone(),
            standing: shared.standing.clone(),
        }),
        tls: tls.clone(),
        time: real_time(&shared.guard),
        rng: rand::rngs::StdRng::from_os_rng(),
        tap: tap.clone(),
    })
}

fn public_key(path: &Path) -> Result<VerifyingKey, EdgeError> {
    crate::config::public_key(path).ok_or_else(|| EdgeError::PublicKey(path.into()))
}

fn lease_files(
    config: &EdgeConfig,
) -> Result<Option<(std::path::PathBuf, VerifyingKey)>, EdgeError> {
    let files = config.leases.as_ref();
    files
        .map(|files| Ok((files.dir.clone(), public_key(&files.authority)?)))
        .transpose()
}

/// The leases that are signed for this node, whether or not they still hold.
fn held(
    leases: &Option<(std::path::PathBuf, VerifyingKey)>,
    here: &Place,
) -> impl Iterator<Item = Lease> {
    let subjects = leases.iter().flat_map(|files| {
        Subject::ALL
            .into_iter()
            .map(move |subject| (files, subject))
    });
    subjects.filter_map(|((dir, key), subject)| Lease::read(dir, key, subject, here).ok())
}

fn open_tls(config: &EdgeConfig, guard: &Arc<ClockGuard>) -> Result<Arc<ReloadingTls>, EdgeError> {
    Ok(ReloadingTls::open(
        paths(&config.tls).keeping(&config.data_dir),
        config.local_mesh,
        real_time(guard),
    )?)
}

/// The data directory is this user's alone, whatever an earlier version made of it.
fn claim(dir: &Path) -> Result<(), EdgeError> {
    storage::private::claim(dir).map_err(|source| EdgeError::File {
        path: dir.into(),
        source,
    })
}

fn open_store(
    config: &EdgeConfig,
    here: &Place,
    devices: Vec<DeviceFacts>,
    (time, handlers): (Arc<dyn Time>, Handlers),
) -> Result<Store, EdgeError> {
    let signing_key = pki::load_signing_key(&config.tls.signing_key)?;
    Ok(Store::open(StoreOptions {
        dir: config.data_dir.clone(),
        facility_key: store::read_facility_key(&config.key_file)?,
        place: here.clone(),
        region: config.above(),
        bounds: Bounds {
            max: config.store.max_size,
            alarm_reserve: config.store.alarm_reserve,
        },
        retention: config.store.retention,
        devices,
        beds: config.beds.iter().filter_map(BedAssignment::fact).collect(),
        rules: Arc::new(Rules::load(config.policies.as_deref())?),
        profile: signed_profile(config, here)?,
        signer: Signer::new(here, signing_key),
        time,
        entropy: store::system_entropy,
        handlers,
    })?)
}

fn signed_profile(config: &EdgeConfig, here: &Place) -> Result<Option<SignedProfile>, EdgeError> {
    let Some(files) = &config.deid_profile else {
        return Ok(None);
    };
    let note = std::fs::read_to_string(&files.note).map_err(|source| EdgeError::File {
        path: files.note.clone(),
        source,
    })?;
    let key = public_key(&files.authority)?;
    Ok(Some(SignedProfile::open(&note, &key, here)?))
}

fn facts(config: &EdgeConfig, profiles: &modbus::Profiles) -> Vec<DeviceFacts> {
    let limits = |name: &Option<String>| {
        let profile = name.as_ref().and_then(|name| profiles.get(name));
        profile.map_or(DeviceFacts::DEFAULT_LIMITS, |profile| FreshnessLimits {
            late_after_ms: profile.late_after.as_ms(),
            stale_after_ms: profile.stale_after.as_ms(),
        })
    };
    let facts = config.devices.iter().map(|device| DeviceFacts {
        id: device.id.clone(),
        kind: device.kind,
        bed: device.bed.clone(),
        limits: limits(&device.profile),
        serial: device.serial.clone().map(Phi::new),
    });
    facts.collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a few seconds, scaled"
)]
fn monitor(config: &EdgeConfig, devices: &[DeviceFacts]) -> Arc<Mutex<Monitor>> {
    let speed = config.clock.map_or(1.0, |clock| clock.speed);
    let slack_ms = (freshness::TRANSPORT_MS as f64 * speed) as i64;
    let watched = devices
        .iter()
        .map(|facts| (facts.id.clone(), facts.limits, facts.bed.clone()));
    Arc::new(Mutex::new(Monitor::new(watched, slack_ms)))
}

async fn recall(store: &Store, monitor: &Mutex<Monitor>) -> Result<(), EdgeError> {
    let beds = store.beds().await?;
    monitor.lock().set_beds(beds);
    for last in store.last_values().await? {
        monitor.lock().recall(last);
    }
    Ok(())
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
