//! The global node as a whole: the door for regional nodes, the catalog, the API, health and metrics.
use crate::{
    api,
    catalog::{Catalog, PlaceFilter, StoreError, sqlite::SqliteCatalog},
    config::{CatalogStore, GlobalConfig},
    deliveries::{self, Deliveries},
    intake::Intake,
    learning::{Studies, TakesReleases},
    page, witness,
};
use axum::Router;
use ed25519_dalek::SigningKey;
use federation::{
    audit::Signer,
    blobs::Blobs,
    db::DbError,
    ledger::{Handlers, Ledger},
    link::{self, Door, LinkError, Tap, authority::Authority},
    models::{DeviceModels, ModelsError},
    pki::{PkiError, load_signing_key},
    policy::{PolicyError, Rules},
    port::PortError,
    standing::Standing,
    tls::{ReloadingTls, TimeSource, TlsError, TlsPaths, paths},
    watch::{Finding, watch},
};
use messages::{DeliveryReports, StudyRelease};
use node::{
    clock::Clock,
    health::{Check, Health},
    https, listeners, problem, renewal, shutdown,
    task::{Kind, TaskError, Tasks},
    token::{ClientError, TokenServer, USED_ASSERTIONS},
    trace,
};
use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::Place;

/// How often the catalog is asked whether it answers, for `/ready`.
const HEALTH_TICK: Duration = Duration::from_secs(5);

/// Why the global node did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum GlobalError {
    /// The data directory cannot be made, or made this user's alone.
    #[error("the data directory: {0}")]
    DataDir(#[source] std::io::Error),
    /// An address cannot be listened on: it is taken, or not this machine's.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The signing key cannot be used.
    #[error(transparent)]
    Key(#[from] PkiError),
    /// The policies cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The ledger's file cannot be used.
    #[error("the ledger: {0}")]
    Ledger(#[from] DbError),
    /// The audit log cannot begin.
    #[error("the audit log: {0}")]
    Audit(#[from] PortError),
    /// The catalog cannot be opened.
    #[error("the catalog: {0}")]
    Catalog(#[from] StoreError),
    /// The table of models cannot be used.
    #[error(transparent)]
    Models(#[from] ModelsError),
    /// A client cannot be registered.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Traces cannot be sent.
    #[error("{0}")]
    Telemetry(String),
    /// The links cannot be tapped.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A task ended.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// Runs the node until `stop`.
///
/// # Errors
/// [`GlobalError`]; nothing is left half-done.
pub async fn run(config: GlobalConfig, stop: CancellationToken) -> Result<(), GlobalError> {
    storage::private::claim(&config.data_dir).map_err(GlobalError::DataDir)?;
    let clock = Clock::new(config.clock);
    let now: TimeSource = Arc::new(move || clock.real());
    let tls = ReloadingTls::open(files(&config), config.local_mesh, now.clone())?;
    let key = load_signing_key(&config.tls.signing_key)?;
    let ledger = Ledger::open(
        &config.data_dir.join("ledger.db"),
        Place::Global,
        Rules::load(config.policies.as_deref())?,
        Signer::new(&Place::Global, key.clone()),
        now.clone(),
    )?;
    let models = DeviceModels::load(config.device_models.as_ref())?;
    ledger.begin_log().await?;
    let catalog = open(&config.store, &config.data_dir).await?;
    let links = listen(config.grpc_listen).await?;
    let clients = listen(config.https.listen).await?;
    let bound = clients.local_addr().unwrap_or(config.https.listen);
    let origin = config.https.origin(bound);
    let used = config.data_dir.join(USED_ASSERTIONS);
    let tokens = TokenServer::new(&origin, &config.clients, clock, &used)?;
    let health = Health::new();
    let blobs = ledger
        .blobs(&config.data_dir)
        .map_err(GlobalError::DataDir)?;
    let studies = Studies::open(ledger.clone(), blobs.clone(), key.clone()).await?;
    let deliveries = Deliveries::open(ledger.clone(), blobs.clone(), rand::random).await?;
    let files = api::blobs::router(deliveries.clone(), catalog.clone(), tokens.verifier());
    let app = app(&catalog, &studies, (&tokens, &health), (clock, &origin)).merge(files);
    let intake = Intake::new(catalog.clone(), models, clock);
    let releases = TakesReleases(studies.clone());
    let handlers = intake.handlers(&ledger).on::<StudyRelease>(releases);
    let handlers = handlers.on::<DeliveryReports>(deliveries::TakesReports(deliveries.clone()));
    let tap = Tap::from_env(config.local_mesh)?;
    let mut door = door(key, (&ledger, &blobs), handlers, (tls.clone(), tap));
    let mut tasks = Tasks::new(stop);
    // Each of the others is to have a span.
    let traced = trace::export::start(config.telemetry.as_ref(), &Place::Global, &mut tasks);
    traced.map_err(GlobalError::Telemetry)?;
    keep_certificates(&config, (now, &ledger), &mut door, &mut tasks);
    let until = || tasks.stop();
    let known = Some(tokens.verifier().into());
    let https = https::serve(clients, tls.server_https()?, app, known, until());
    let links = link::serve(links, door, until());
    let below = ledger.clone();
    let stuck = move || !below.stuck().is_empty();
    let looking = watch(ledger.clone(), stuck, says(&health), until());
    let telling = witness::tell(ledger.clone(), blobs, until());
    let sending = deliveries.keep(until());
    let standing = Standing::new(&health, ledger);
    let probing = probe(catalog, standing, health.check("catalog"), until());
    let timing = studies.keep_time(until());
    tasks.spawn("https", Kind::Critical, https);
    tasks.spawn("links", Kind::Critical, links);
    tasks.spawn("watch", Kind::Background, ends(looking));
    tasks.spawn("witness", Kind::Background, ends(telling));
    tasks.spawn("studies", Kind::Background, timing);
    tasks.spawn("deliveries", Kind::Background, ends(sending));
    tasks.spawn("catalog probe", Kind::Background, probing);
    tracing::info!(%origin, "global node serves");
    listeners::close_untaken();
    let ended = tasks.join(shutdown::GRACE).await;
    if renewal::is_asked() {
        tokens.leave(&config.data_dir);
    }
    Ok(ended?)
}

/// The node's certificates; what the authority beside it revokes, and what peers have of that, counts too.
fn files(config: &GlobalConfig) -> TlsPaths {
    let paths = paths(&config.tls).keeping(&config.data_dir);
    paths.beside(config.authority.as_deref())
}

/// Reads the certificates' files again when they change, and has this node's own, those of its regions and the revocation
/// list renewed in time where an authority is beside it. `now` is real time.
fn keep_certificates(
    config: &GlobalConfig,
    (now, ledger): (TimeSource, &Ledger),
    door: &mut Door,
    tasks: &mut Tasks,
) {
    let watching = door.tls.clone().watch(tasks.stop());
    tasks.spawn("certificates", Kind::Background, ends(watching));
    let Some(dir) = config.authority.clone() else {
        return;
    };
    let authority = Authority::new(dir, Place::Global, now, ledger.clone());
    authority.serve(&config.tls, door, tasks);
}

/// Everything that is served over HTTPS.
fn app(
    catalog: &Arc<dyn Catalog>,
    studies: &Studies,
    (tokens, health): (&TokenServer, &Health),
    (clock, origin): (Clock, &str),
) -> Router {
    let verifier = || tokens.verifier();
    let api = api::router(catalog.clone(), verifier());
    let of_studies = api::studies::router(studies.clone(), verifier());
    let api = api.merge(of_studies);
    let pages = page::router(studies.clone(), verifier(), clock, origin);
    problem::worded(api.merge(pages))
        .merge(tokens.router())
        .merge(health.router())
        .fallback(problem::no_such_path)
}

/// Where regions deliver, and collect.
fn door(
    key: SigningKey,
    (ledger, blobs): (&Ledger, &Arc<Blobs<Ledger>>),
    handlers: Handlers,
    (tls, tap): (Arc<ReloadingTls>, Option<Tap>),
) -> Door {
    Door {
        here: Place::Global,
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

async fn ends(task: impl Future<Output = ()>) -> Result<(), Infallible> {
    task.await;
    Ok(())
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

async fn listen(address: SocketAddr) -> Result<TcpListener, GlobalError> {
    let listener = listeners::bind(address).await;
    listener.map_err(|source| GlobalError::Listen { address, source })
}

async fn open(store: &CatalogStore, dir: &Path) -> Result<Arc<dyn Catalog>, StoreError> {
    match store {
        CatalogStore::Sqlite => Ok(Arc::new(SqliteCatalog::open(&dir.join("catalog.db"))?)),
        #[cfg(feature = "scylla")]
        CatalogStore::Scylla {
            nodes,
            keyspace,
            replication,
        } => {
            use crate::catalog::scylla::ScyllaCatalog;
            let catalog = ScyllaCatalog::open(nodes, keyspace, *replication).await?;
            Ok(Arc::new(catalog))
        }
        #[cfg(not(feature = "scylla"))]
        CatalogStore::Scylla { .. } => Err(StoreError::new(crate::catalog::Kind::Refused, "open")),
    }
}

/// Asks the catalog now and then whether it answers, and the ledger what was not taken.
async fn probe(
    catalog: Arc<dyn Catalog>,
    standing: Standing,
    check: Check,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    loop {
        match catalog.facilities(&PlaceFilter::default(), None, 1).await {
            Ok(_) => check.pass(),
            Err(error) if error.kind.may_pass() => check.fail("unavailable"),
            Err(_) => check.fail("failed"),
        }
        standing.look().await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(HEALTH_TICK) => {}
        }
    }
}
