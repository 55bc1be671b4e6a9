//! The regional node as a whole: the door for facilities, the FHIR API, the link to the global node, health, metrics.
pub(crate) use crate::{listening::listen, true_times::true_times};

use crate::{
    api::{self, Bearer},
    audited::{Kept, audited},
    carried,
    config::RegionalConfig,
    control::{self, Control},
    deliveries::Deliveries,
    engine, enrolment,
    error::RegionalError,
    hosts::by_host,
    intake::Intake,
    learning::{Learning, TakesAnswers, TakesEnds, TakesRounds},
    numbering::Numbering,
    pair::{self, Bound, LEDGER, Lease, REGISTRY, Turn},
    probing,
    registry::Registry,
    reship, served, witness,
};
use axum::Router;
use ed25519_dalek::SigningKey;
use federation::{
    audit::Signer,
    blobs::Blobs,
    ledger::{Handlers, Ledger},
    link::{self, Door, LinkError, LinkState, Tap, Uplink, UplinkParts},
    models::DeviceModels,
    pki::load_signing_key,
    policy::Rules,
    tls::{ReloadingTls, TimeSource, TlsError, paths},
    watch::{Finding, watch},
};
use fhir::{
    postgres::{Newest, PostgresStore},
    rest::FhirApi,
    sqlite::SqliteStore,
    store::ResourceStore,
};
use messages::{AuditCheckpoint, StudyAnswer, StudyEnd, StudyRound};
use node::{
    clock::Clock,
    health::Health,
    https, listeners, problem, renewal, shutdown,
    task::{Kind, Tasks},
    token::{ClientError, Shared, TokenServer, USED_ASSERTIONS},
    trace,
};
use rand::{SeedableRng, rngs::StdRng};
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::Place;

/// How often parcels that were not taken get their turn.
const AGAIN_TICK: Duration = Duration::from_secs(1);

/// Runs the node until `stop`.
///
/// # Errors
/// [`RegionalError`]; nothing is left half-done.
pub async fn run(config: RegionalConfig, stop: CancellationToken) -> Result<(), RegionalError> {
    let data_dir = config.data_dir.clone();
    let Some(node) = start(config, stop).await? else {
        return Ok(());
    };
    tracing::info!(https = %node.https, grpc = %node.grpc, "regional node serves");
    listeners::close_untaken();
    let ended = node.tasks.join(shutdown::GRACE).await;
    if renewal::is_asked() {
        node.tokens.leave(&data_dir);
    }
    pair::give_back(node.lease).await;
    Ok(ended?)
}

/// A node whose listeners are bound and whose tasks run.
struct Started {
    https: SocketAddr,
    grpc: SocketAddr,
    tokens: TokenServer,
    tasks: Tasks,
    lease: Option<Lease>,
}

/// Waits for this node's turn, and begins its work. None when it is stopped before.
async fn start(
    config: RegionalConfig,
    stop: CancellationToken,
) -> Result<Option<Started>, RegionalError> {
    storage::private::claim(&config.data_dir).map_err(RegionalError::DataDir)?;
    let Some(turn) = pair::turn(&config, &stop).await? else {
        return Ok(None);
    };
    let lease = turn.lease();
    let mut tasks = traced(&config, stop)?;
    tasks.spawn("lease", Kind::Critical, turn.keep(tasks.stop()));
    match work(config, turn, tasks).await {
        Ok(node) => Ok(Some(node)),
        Err(error) => {
            pair::give_back(lease).await;
            Err(error)
        }
    }
}

async fn work(
    config: RegionalConfig,
    mut turn: Turn,
    mut tasks: Tasks,
) -> Result<Started, RegionalError> {
    let (clock, here, health) = (Clock::new(config.clock), config.place(), Health::new());
    let true_times = true_times(&config, clock)?;
    let now: TimeSource = Arc::new(move || clock.real());
    let tls = open_tls(&config, now.clone())?;
    let key = load_signing_key(&config.tls.signing_key)?;
    let public = key.verifying_key();
    let ledger = open_ledger(&config, (&here, &key), now.clone(), &turn)?;
    let registry = open_registry(&config, &ledger, &turn).await?;
    let control = control::open(&config, &ledger, &registry, &key).await?;
    let (blobs, bulk) = carried::open_files(&config, &ledger, turn.chunks()).await?;
    let (deliveries, learning) = carried::open_carried(&ledger, &blobs).await?;
    let store = open(&config, turn.lease()).await?;
    let (links, grpc) = bound(turn.links.take(), config.grpc_listen).await?;
    let (clients, https) = bound(turn.clients.take(), config.https.listen).await?;
    let tokens = token_server(&config, https, clock, turn.shared(&key, &config, https))?;
    let of_log = (health.optional("reads"), &ledger, &store);
    let times = (now.clone(), &true_times);
    let (log, kept) = audited(of_log, times, rand::random, config.audit_events.keep_rows);
    let (bearer, choices) = Bearer::open(&config, &tokens, &ledger).await?;
    let numbering = Numbering::open(&config.data_dir).map_err(RegionalError::DataDir)?;
    let api = served::fhir_api(
        (&config, &tokens, bearer, Some(&numbering)),
        (&store, Some(bulk)),
        (log, &key.to_bytes()),
        (now.clone(), &true_times),
    )?;
    let beside = control::devices_api(&tokens, &registry, &control)
        .merge(enrolment::router(&config, &now, &ledger))
        .merge(health.probes());
    let app = routes((&config, https), (&api, &tokens), &beside);
    let intake = Intake {
        store: store.clone(),
        registry: registry.clone(),
        ledger: ledger.clone(),
        here: here.clone(),
        clock,
        draw: rand::random,
        models: DeviceModels::load(config.device_models.as_ref())?,
        true_times,
        numbering,
    };
    let (tap, intake) = (Tap::from_env(config.local_mesh)?, compared(intake).await);
    let handlers = control::takes(intake.handlers(), &control, &registry)
        .on::<StudyAnswer>(TakesAnswers(learning.clone()));
    let handlers = choices.takes(deliveries.takes_reports(handlers));
    let mut door = door(key, (&ledger, &blobs), handlers, (tls.clone(), tap));
    enrolment::keep_certificates(&config, (clock, &ledger), &mut door, &mut tasks);
    let uplink = uplink(&config, &door, (&ledger, &learning, &deliveries), now)?;
    let (until, known) = (tasks.stop(), Some(tokens.verifier().into()));
    serve_metrics(&config, (&tls, &health), &mut turn, &mut tasks).await?;
    let (app, links) = (api::worded(app), link::serve(links, door, until.clone()));
    let serving = https::serve(clients, tls.server_https()?, app, known, until);
    probing::keep(&mut tasks, &health, &ledger, store);
    keep_reads(&mut tasks, kept, (ledger.clone(), intake));
    let looked_after = (ledger.clone(), registry, blobs, control, deliveries);
    look_after(&mut tasks, looked_after, &uplink, &health);
    served::work(&mut tasks, api);
    tasks.spawn("https", Kind::Critical, serving);
    turn.follow((&ledger, public), &health, &mut tasks).await?;
    tasks.spawn("links", Kind::Critical, links);
    keep_up(&mut tasks, uplink, &ledger, learning);
    Ok(Started {
        https,
        grpc,
        tokens,
        tasks,
        lease: turn.lease(),
    })
}

/// Everything that clients are served, by the address at which they ask.
fn routes(
    (config, https): (&RegionalConfig, SocketAddr),
    (api, tokens): (&FhirApi, &TokenServer),
    beside: &Router,
) -> Router {
    by_host(config, https, |origin| {
        let own = served::router(api, origin).merge(tokens.router_at(origin));
        own.merge(beside.clone()).fallback(problem::no_such_path)
    })
}

/// No tasks yet, but what sends traces: each of the others is to have a span.
fn traced(config: &RegionalConfig, stop: CancellationToken) -> Result<Tasks, RegionalError> {
    let mut tasks = Tasks::new(stop);
    let here = config.place();
    let started = trace::export::start(config.telemetry.as_ref(), &here, &mut tasks);
    started.map_err(RegionalError::Telemetry)?;
    Ok(tasks)
}

/// The node's certificates; what the authority beside it revokes, and what peers have of that, counts too.
pub(crate) fn open_tls(
    config: &RegionalConfig,
    now: TimeSource,
) -> Result<Arc<ReloadingTls>, TlsError> {
    let paths = paths(&config.tls).keeping(&config.data_dir);
    let paths = paths.beside(config.authority().as_deref());
    ReloadingTls::open(paths, config.local_mesh, now)
}

/// Where facilities deliver, and collect.
fn door(
    key: SigningKey,
    (ledger, blobs): (&Ledger, &Arc<Blobs<Ledger>>),
    handlers: Handlers,
    (tls, tap): (Arc<ReloadingTls>, Option<Tap>),
) -> Door {
    Door {
        here: ledger.place().clone(),
        key,
        gate: Arc::new(ledger.clone()),
        inbox: Arc::new(ledger.inbox(handlers)),
        tls,
        outbox: Some(Arc::new(ledger.clone())),
        bulk: Some(blobs.clone()),
        authority: None,
        tap,
    }
}

pub(crate) fn token_server(
    config: &RegionalConfig,
    bound: SocketAddr,
    clock: Clock,
    shared: Option<Shared>,
) -> Result<TokenServer, ClientError> {
    let used = config.data_dir.join(USED_ASSERTIONS);
    let origin = config.https.origin(bound);
    TokenServer::sharing(&origin, &config.clients, clock, &used, shared)
}

/// The link to the global node.
fn uplink(
    config: &RegionalConfig,
    door: &Door,
    (ledger, learning, deliveries): (&Ledger, &Learning, &Deliveries),
    time: TimeSource,
) -> Result<Uplink, LinkError> {
    let from_above = Handlers::new()
        .on::<AuditCheckpoint>(ledger.keeps_heads())
        .on::<StudyRound>(TakesRounds(learning.clone()))
        .on::<StudyEnd>(TakesEnds(learning.clone()));
    let from_above = deliveries.takes_descriptors(from_above);
    let collect = Door {
        here: door.here.clone(),
        key: door.key.clone(),
        gate: Arc::new(ledger.clone()),
        inbox: Arc::new(ledger.inbox(from_above)),
        tls: door.tls.clone(),
        outbox: None,
        bulk: None,
        authority: None,
        tap: None,
    };
    Uplink::new(UplinkParts {
        urls: vec![config.uplink_url.clone()],
        here: door.here.clone(),
        there: Place::Global,
        outbox: Arc::new(ledger.clone()),
        collect: Some(Arc::new(collect)),
        bulk: door.bulk.clone(),
        audit: Arc::new(ledger.clone()),
        tls: door.tls.clone(),
        time,
        rng: StdRng::from_os_rng(),
        tap: door.tap.clone(),
    })
}

/// Health and metrics at an address of their own, if there is one.
async fn serve_metrics(
    config: &RegionalConfig,
    (tls, health): (&ReloadingTls, &Health),
    turn: &mut Turn,
    tasks: &mut Tasks,
) -> Result<(), RegionalError> {
    if let Some(own) = &config.metrics {
        let (listener, _) = bound(turn.metrics.take(), own.listen).await?;
        let serving = https::serve(
            listener,
            tls.server_https()?,
            health.router(),
            None,
            tasks.stop(),
        );
        tasks.spawn("metrics", Kind::Critical, serving);
    }
    Ok(())
}

/// Rows of reads go to the one audit log of the node, and AuditEvents are made of them.
fn keep_reads(tasks: &mut Tasks, kept: Kept, (ledger, engine): (Ledger, Intake)) {
    let Kept { keeping, projector } = kept;
    let making = projector.run(Arc::new(engine), tasks.stop());
    tasks.spawn("audit events", Kind::Background, making);
    let write = move |rows| {
        let ledger = ledger.clone();
        async move { ledger.write_down(rows).await }
    };
    let keep = keeping.keep(write, tasks.stop());
    tasks.spawn("reads", Kind::Critical, keep);
}

/// A store that was put back while the ledger was not is found before anything is served.
async fn compared(intake: Intake) -> Intake {
    if let Err(error) = intake.compare_store().await {
        tracing::warn!(%error, "the store is behind the ledger, or does not answer");
    }
    intake
}

/// Keeps the link to the global node, ships again what it did not take, and looks at the deadlines of studies.
fn keep_up(tasks: &mut Tasks, uplink: Uplink, ledger: &Ledger, learning: Learning) {
    let again = ship_again(ledger.clone(), uplink.state(), tasks.stop());
    tasks.spawn("held parcels", Kind::Background, again);
    let timing = learning.keep_time(tasks.stop());
    tasks.spawn("learning", Kind::Background, timing);
    let running = uplink.run(tasks.stop());
    tasks.spawn("uplink", Kind::Background, ends(running));
}

/// Looks at the audit log, at gaps and at the order of parcels, up and down; sends the global node again what it may
/// lack, and the facilities heads of audit logs.
fn look_after(
    tasks: &mut Tasks,
    (ledger, registry, blobs, control, deliveries): (
        Ledger,
        Registry,
        Arc<Blobs<Ledger>>,
        Control,
        Deliveries,
    ),
    uplink: &Uplink,
    health: &Health,
) {
    let (up, say) = (uplink.stuck(), says(health));
    let commands = control::keep(control, tasks.stop());
    tasks.spawn("commands", Kind::Background, ends(commands));
    let files = deliveries.keep(tasks.stop());
    tasks.spawn("deliveries", Kind::Background, ends(files));
    let below = ledger.clone();
    let stuck = move || *up.borrow() || !below.stuck().is_empty();
    let anew = reship::again(ledger.clone(), registry, tasks.stop());
    tasks.spawn("sent again", Kind::Background, ends(anew));
    let telling = witness::tell(ledger.clone(), blobs, tasks.stop());
    tasks.spawn("witness", Kind::Background, ends(telling));
    let looking = watch(ledger, stuck, say, tasks.stop());
    tasks.spawn("watch", Kind::Background, ends(looking));
}

fn open_ledger(
    config: &RegionalConfig,
    (here, key): (&Place, &SigningKey),
    now: TimeSource,
    turn: &Turn,
) -> Result<Ledger, RegionalError> {
    let rules = Rules::load(config.policies.as_deref())?;
    let path = config.data_dir.join(LEDGER);
    let signer = Signer::new(here, key.clone());
    let kept = turn.keeps(&config.data_dir, LEDGER);
    let ledger = Ledger::open_kept(&path, here.clone(), rules, signer, now, kept);
    Ok(ledger?)
}

/// The audit log begins, if it is new. Then the registry; notes that an earlier version kept there move to the ledger.
async fn open_registry(
    config: &RegionalConfig,
    ledger: &Ledger,
    turn: &Turn,
) -> Result<Registry, RegionalError> {
    ledger.begin_log().await?;
    let kept = turn.keeps(&config.data_dir, REGISTRY);
    let registry = Registry::open_kept(&config.data_dir.join(REGISTRY), kept)?;
    ledger.take_over_notes(registry.old_notes().await?).await?;
    registry.forget_old_notes().await?;
    Ok(registry)
}

/// Shows what is found wrong in `/ready`.
fn says(health: &Health) -> impl Fn(Finding, bool) + Send + use<> {
    let checks = Finding::ALL.map(|finding| (finding, health.optional(finding.as_str())));
    move |finding, is_wrong| {
        for (_, check) in checks.iter().filter(|(known, _)| *known == finding) {
            if is_wrong {
                check.fail(finding.reason());
            } else {
                check.pass();
            }
        }
    }
}

async fn ends(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
}

/// What is listened on already, or a new listener.
async fn bound(had: Option<Bound>, address: SocketAddr) -> Result<Bound, RegionalError> {
    match had {
        Some(bound) => Ok(bound),
        None => listen(address).await,
    }
}

/// The store; on PostgreSQL it takes what facilities deliver as long as the node's lease holds.
async fn open(
    config: &RegionalConfig,
    lease: Option<Lease>,
) -> Result<Arc<dyn ResourceStore>, RegionalError> {
    let Some((url, authority)) = engine::connection(&config.store)? else {
        let store = SqliteStore::open(&config.data_dir.join("fhir.db"))?;
        return Ok(Arc::new(store));
    };
    let (url, authority) = (url.reveal(), authority.as_deref());
    let (newest, number) = match lease {
        Some((pair, number)) => (pair.newest().clone(), Some(number)),
        None => (Newest::of(&config.data_dir)?, None),
    };
    let store = match config.pair {
        Some(_) => PostgresStore::open_as_one_of_two(url, authority, &newest).await?,
        None => PostgresStore::open_remembering(url, authority, &newest).await?,
    };
    Ok(match number {
        Some(number) => Arc::new(store.by_lease(number)),
        None => Arc::new(store),
    })
}

/// Ships again, a little every second, what the global node did not take and may take now; all of it is tried soon when
/// the link comes up.
async fn ship_again(
    ledger: Ledger,
    mut link: watch::Receiver<LinkState>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(AGAIN_TICK) => {}
        }
        let changed = link.has_changed().unwrap_or(false);
        if changed && matches!(*link.borrow_and_update(), LinkState::Up { .. }) {
            // What fails shows in the store's own steps; the next turn tries again.
            let _later = ledger.due_soon().await;
        }
        let _later = ledger.ship_again().await;
    }
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "server_tests.rs"]
pub(crate) mod tests;
