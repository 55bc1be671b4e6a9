//! Whose turn it is: of the nodes of a region the one that holds the lease in its PostgreSQL works, and every commit of
//! its files is there before it counts. A node that waits keeps a copy of them current, and shows at its address that it
//! waits; facilities find its other one.
//!
//! A region of one node on PostgreSQL takes the lease too, so that a second one with its configuration is refused. On
//! SQLite there is nowhere that a lease could be: such a region is one node.
use crate::{
    config::{PairConfig, RegionalConfig},
    engine,
    error::RegionalError,
    pair::copied::Copied,
    server::{listen, open_tls},
};
use axum::Router;
use federation::audit::witness::HEADS_FILE;
use fhir::postgres::{LEASE, Pages, Pair};
use fhir::store::StoreError;
use node::{
    clock::Clock,
    health::{Check, Health},
    https,
    token::{Noted, SharedUse},
};
use rand::RngCore as _;
use std::{
    fs, io,
    net::SocketAddr,
    os::fd::AsFd as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use storage::{file, replica::Kept};
use tokio::{net::TcpListener, runtime::Handle};
use tokio_util::sync::CancellationToken;

mod copied;

/// How often a lease is renewed, and looked at by the node that waits for it.
const RENEWED: Duration = Duration::from_secs(1);
/// A node of two that cannot renew for so long ends, so that facilities and clients look for the other one.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// How often a node that is to be alone looks whether a lease has lapsed.
const LOOKED: Duration = Duration::from_millis(200);
/// Looks in which a lease lapses that nobody renews: 6 s.
const LOOKS: u128 = (LEASE.as_millis() + 1_000) / LOOKED.as_millis();
/// The file that tells this data directory from every other one.
const NODE_ID: &str = "node-id";
/// Where copies are until their node writes.
const STANDBY: &str = "standby";
/// The file that says that those beside it are copies of the region's.
const IS_COPY: &str = "of-pair";
/// What the ledger and the registry are called, here and in PostgreSQL.
pub(crate) const LEDGER: &str = "ledger.db";
pub(crate) const REGISTRY: &str = "region.db";

/// A lease by its number.
pub(crate) type Lease = (Arc<Pair>, i64);

/// A socket that is listened on, and its address.
pub(crate) type Bound = (TcpListener, SocketAddr);

/// The right to work, and what is needed to keep it.
#[derive(Default)]
pub(crate) struct Turn {
    held: Option<Held>,
    /// Listeners at which the node has waited.
    pub(crate) clients: Option<Bound>,
    pub(crate) metrics: Option<Bound>,
}

struct Held {
    pair: Arc<Pair>,
    number: i64,
    /// Of a region of two nodes: where its files are kept, and whether they are there already.
    kept: Option<(Arc<Pages>, [bool; 2])>,
}

impl Turn {
    /// Where the commits of a file are kept beside the disk, if they are.
    pub(crate) fn keeps(&self, data_dir: &Path, name: &str) -> Option<Kept> {
        let (pages, there) = self.held.as_ref()?.kept.as_ref()?;
        let path = data_dir.join(name);
        if name == LEDGER {
            let kept = Kept::new(pages.clone(), name, &path, there[0]);
            return Some(kept.with(data_dir.join(HEADS_FILE)));
        }
        Some(Kept::new(pages.clone(), name, &path, there[1]))
    }

    /// Assertions that were used at either node; none where there is one.
    pub(crate) fn assertions(&self) -> Option<Arc<dyn SharedUse>> {
        let held = self.held.as_ref()?;
        held.kept.as_ref()?;
        Some(Arc::new(Assertions {
            pair: held.pair.clone(),
            runtime: Handle::current(),
        }))
    }

    /// Renews the lease until the stop; ends with an error when another node has taken it.
    pub(crate) fn keep(
        &self,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), RegionalError>> + Send + use<> {
        let held = self.held.as_ref().map(|held| {
            let pages = held.kept.as_ref().map(|(pages, _)| pages.clone());
            (held.pair.clone(), held.number, pages)
        });
        async move {
            match held {
                Some((pair, number, pages)) => renew((&pair, number), pages, &stop).await,
                None => {
                    stop.cancelled().await;
                    Ok(())
                }
            }
        }
    }

    /// What is needed to give the lease back.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let held = self.held.as_ref()?;
        Some((held.pair.clone(), held.number))
    }
}

/// Gives the lease back, so that the other node need not wait until it lapses.
pub(crate) async fn give_back(lease: Option<Lease>) {
    let Some((pair, number)) = lease else {
        return;
    };
    let given = tokio::time::timeout(RENEWED, pair.release(number)).await;
    if !matches!(given, Ok(Ok(()))) {
        tracing::warn!("the lease is not given back: it lapses");
    }
}

async fn renew(
    (pair, number): (&Pair, i64),
    pages: Option<Arc<Pages>>,
    stop: &CancellationToken,
) -> Result<(), RegionalError> {
    let (mut said, mut renewed) = (false, Instant::now());
    let mut fenced = pages.as_ref().map(|pages| pages.fenced());
    loop {
        let told = async {
            match fenced.as_mut() {
                Some(fenced) => drop(fenced.changed().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RENEWED) => {}
            () = told => {}
        }
        let asked = Instant::now();
        match pair.renew(number).await {
            Ok(true) => {
                (said, renewed) = (false, asked);
                if let Some(pages) = &pages {
                    pages.renewed(asked);
                }
            }
            Ok(false) => {
                let by = pair.holder().await.unwrap_or_default();
                return Err(RegionalError::NotItsTurn(format!(
                    "another node of this region ({by}) has taken its lease: this one may write nothing any more"
                )));
            }
            Err(_) if pages.as_ref().is_some_and(|pages| pages.is_busy()) => renewed = asked,
            Err(error) if pages.is_some() && renewed.elapsed() > GIVEN_UP => {
                return Err(RegionalError::NotItsTurn(format!(
                    "the lease of this region could not be renewed for {GIVEN_UP:?} ({error}): the other node may have it"
                )));
            }
            Err(error) if !said => {
                tracing::warn!(%error, "the lease cannot be renewed now");
                said = true;
            }
            Err(_) => {}
        }
    }
}

/// Waits until this node may work. None when it is stopped before.
///
/// # Errors
/// [`RegionalError`]: another node works that knows of no second one, or this one has files of its own.
pub(crate) async fn turn(
    config: &RegionalConfig,
    stop: &CancellationToken,
) -> Result<Option<Turn>, RegionalError> {
    let Some((url, authority)) = engine::connection(&config.store)? else {
        return Ok(Some(Turn::default()));
    };
    let pair = Arc::new(Pair::open(url.reveal(), authority.as_deref()).await?);
    let me = node_id(&config.data_dir).map_err(RegionalError::DataDir)?;
    match &config.pair {
        None => alone(pair, &me, stop).await,
        Some(own) => wait(config, own, (pair, &me), stop).await,
    }
}

/// Takes the lease of a region of one node.
async fn alone(
    pair: Arc<Pair>,
    me: &str,
    stop: &CancellationToken,
) -> Result<Option<Turn>, RegionalError> {
    for _ in 0..LOOKS {
        if let Some(number) = pair.take(me, "without [pair]").await? {
            if pair.founder().await?.is_some() {
                pair.release(number).await?;
                return Err(RegionalError::NotItsTurn(
                    "the region's files are kept in its PostgreSQL, for two nodes: write [pair]"
                        .into(),
                ));
            }
            let held = Held {
                pair,
                number,
                kept: None,
            };
            return Ok(Some(Turn {
                held: Some(held),
                ..Turn::default()
            }));
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOKED) => {}
        }
    }
    let other = pair.holder().await?;
    Err(RegionalError::NotItsTurn(format!(
        "another node of this region ({other}) runs on its PostgreSQL: stop it, or write [pair] for both"
    )))
}

/// Waits for the lease with a copy of the region's files, and puts them into place.
async fn wait(
    config: &RegionalConfig,
    own: &PairConfig,
    (pair, me): (Arc<Pair>, &str),
    stop: &CancellationToken,
) -> Result<Option<Turn>, RegionalError> {
    let health = Health::new();
    let check = health.check("writer");
    check.fail("standby");
    let clients = listen(config.https.listen).await?;
    let metrics = match &config.metrics {
        Some(own) => Some(listen(own.listen).await?),
        None => None,
    };
    let serving = shows(config, &clients, metrics.as_ref(), &health, stop)?;
    let taking = take_over(&config.data_dir, own, (&pair, me), &check, stop);
    let taken = tokio::select! {
        taken = taking => taken?,
        failed = serving => { failed?; None }
    };
    let Some(((number, asked), there)) = taken else {
        return Ok(None);
    };
    check.pass();
    tracing::info!(number, node = own.node, "this node writes for its region");
    let pages = Arc::new(Pages::new(pair.clone(), number, asked));
    Ok(Some(Turn {
        held: Some(Held {
            pair,
            number,
            kept: Some((pages, there)),
        }),
        clients: Some(clients),
        metrics,
    }))
}

/// Shows that the node waits, where it will serve. Ends with an error, or at the stop.
fn shows(
    config: &RegionalConfig,
    clients: &Bound,
    metrics: Option<&Bound>,
    health: &Health,
    stop: &CancellationToken,
) -> Result<impl Future<Output = Result<(), RegionalError>> + use<>, RegionalError> {
    let clock = Clock::new(config.clock);
    let tls = open_tls(config, Arc::new(move || clock.real()))?;
    let serve = |bound: &Bound, app: Router| -> Result<_, RegionalError> {
        let address = bound.1;
        let failed = move |source| RegionalError::Listen { address, source };
        let listener = again(&bound.0).map_err(failed)?;
        let serving = https::serve(listener, tls.server_https()?, app, None, stop.clone());
        Ok(async move { serving.await.map_err(failed) })
    };
    let probes = serve(clients, health.probes())?;
    let own = metrics.map(|bound| serve(bound, health.router()));
    let own = own.transpose()?;
    Ok(async move {
        match own {
            Some(own) => tokio::try_join!(probes, own).map(drop),
            None => probes.await,
        }
    })
}

/// The same socket, for another server.
fn again(listener: &TcpListener) -> io::Result<TcpListener> {
    let socket = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
    TcpListener::from_std(socket)
}

/// The number of the lease once it is this node's, and which files are kept in PostgreSQL already.
async fn take_over(
    data_dir: &Path,
    own: &PairConfig,
    (pair, me): (&Arc<Pair>, &str),
    check: &Check,
    stop: &CancellationToken,
) -> Result<Option<((i64, Instant), [bool; 2])>, RegionalError> {
    check_own(data_dir, pair, me).await?;
    let standby = data_dir.join(STANDBY);
    let begin = |name| Copied::begin(&standby, name).map_err(RegionalError::Copy);
    let mut copies = [begin(LEDGER)?, begin(REGISTRY)?];
    let mut said = false;
    loop {
        match turned(&mut copies, own, (pair, me)).await {
            Ok(Some((number, asked))) => {
                let placed = place(data_dir, copies, (pair, me), number).await;
                if placed.is_err() {
                    give_back(Some((pair.clone(), number))).await;
                }
                return placed.map(|there| Some(((number, asked), there)));
            }
            Ok(None) => {
                check.fail("standby");
                said = false;
            }
            Err(error) => {
                check.fail("no copy");
                if !said {
                    tracing::warn!(%error, "the copy of the region's files is not current");
                    said = true;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(RENEWED) => {}
        }
    }
}

/// Brings the copies up to date, then asks for the lease.
async fn turned(
    copies: &mut [Copied],
    own: &PairConfig,
    (pair, me): (&Pair, &str),
) -> Result<Option<(i64, Instant)>, StoreError> {
    for copied in copies {
        copied.catch_up(pair).await?;
    }
    let asked = Instant::now();
    let taken = pair.take(me, &own.node).await?;
    Ok(taken.map(|number| (number, asked)))
}

/// A ledger of this node's own, which is no copy of the region's, is nothing to write over.
async fn check_own(data_dir: &Path, pair: &Pair, me: &str) -> Result<(), RegionalError> {
    let has_own = data_dir.join(LEDGER).exists() && !data_dir.join(IS_COPY).exists();
    match pair.founder().await? {
        Some(founder) if founder != me && has_own => Err(RegionalError::NotItsTurn(format!(
            "{} is a ledger that is not of this region's pair: look at it, and move it away",
            data_dir.join(LEDGER).display()
        ))),
        _ => Ok(()),
    }
}

/// Puts the copies into place; where there are none, this node's own files become the region's, if they are.
async fn place(
    data_dir: &Path,
    mut copies: [Copied; 2],
    (pair, me): (&Pair, &str),
    number: i64,
) -> Result<[bool; 2], RegionalError> {
    for copied in &mut copies {
        copied.catch_up(pair).await?;
    }
    let there = copies.each_ref().map(Copied::is_there);
    if there != [true, true] {
        may_found(data_dir, pair, me, number).await?;
        pair.found(number, me).await?;
    }
    let heads = pair.beside(LEDGER).await?;
    let done = || -> io::Result<()> {
        if there[0] {
            file::replace(&data_dir.join(IS_COPY), b"", file::PRIVATE)?;
            copied::heads(data_dir, &heads)?;
        }
        for copied in copies {
            copied.place(data_dir)?;
        }
        Ok(())
    };
    done().map_err(RegionalError::Copy)?;
    Ok(there)
}

/// A node whose files are to become the region's has them, or the region is new.
async fn may_found(
    data_dir: &Path,
    pair: &Pair,
    me: &str,
    number: i64,
) -> Result<(), RegionalError> {
    let refused = |why: &str| {
        let ledger = data_dir.join(LEDGER);
        let says = format!(
            "{why}, and {} is not there: start that node first",
            ledger.display()
        );
        Err(RegionalError::NotItsTurn(says))
    };
    match pair.founder().await? {
        Some(founder) if founder == me => Ok(()),
        Some(_) => Err(RegionalError::NotItsTurn(
            "the node of this pair that began it has not put its files into PostgreSQL: start that one first".into(),
        )),
        None if data_dir.join(LEDGER).exists() => Ok(()),
        None if number > 1 => refused("another node has run for this region"),
        None if !pair.is_empty().await? => refused("this region has stored resources"),
        None => Ok(()),
    }
}

/// What tells this data directory from every other one.
fn node_id(data_dir: &Path) -> io::Result<String> {
    let path = data_dir.join(NODE_ID);
    let mut fresh = [0; 16];
    rand::rng().fill_bytes(&mut fresh);
    let fresh: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
    file::create(&path, fresh.as_bytes(), file::PRIVATE)?;
    fs::read_to_string(path)
}

/// Assertions in the table of the region's PostgreSQL.
struct Assertions {
    pair: Arc<Pair>,
    runtime: Handle,
}

impl SharedUse for Assertions {
    fn note(
        &self,
        assertion: (&str, &str),
        times: (i64, i64),
        most: usize,
    ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let noted = self.pair.note_assertion(assertion, times, most);
        Ok(match self.runtime.block_on(noted)? {
            fhir::postgres::Noted::First => Noted::First,
            fhir::postgres::Noted::Again => Noted::Again,
            fhir::postgres::Noted::TooMany => Noted::TooMany,
        })
    }
}
