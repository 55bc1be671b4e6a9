//! Whose turn it is: of the nodes of a region the one that holds the lease in its PostgreSQL works, and every commit of
//! its files is there before it counts. A node that waits keeps a copy of them current, and serves everything meanwhile:
//! FHIR and tokens by itself ([`standby`]), and the rest by the other one, to which it hands requests on ([`handing`]) and
//! carries links ([`relay`]).
//!
//! A region of one node on PostgreSQL takes the lease too, so that a second one with its configuration is refused. On
//! SQLite there is nowhere that a lease could be: such a region is one node.
use crate::{
    config::{PairConfig, RegionalConfig},
    engine,
    error::RegionalError,
    hosts,
    pair::{
        copied::Copied,
        rows::Takes,
        standby::{Sockets, Standby, Writer, check_name},
    },
    server::listen,
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use federation::{audit::witness::HEADS_FILE, ledger::Ledger};
use fhir::postgres::{KeptChunks, LEASE, Newest, Pages, Pair};
use fhir::store::StoreError;
use node::{
    health::{Check, Health},
    task::{Kind, Tasks},
    token::Shared,
};
use rand::RngCore as _;
use std::{
    fs, io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use storage::{chunks::Chunks, file, replica::Kept};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

mod assertions;
mod copied;
mod handing;
mod lease;
mod relay;
mod rows;
mod standby;

use assertions::shared;
use lease::{LOOKED, Looks, look, renew, renewing};
pub(crate) use lease::{Lease, give_back};

/// Looks in which a lease lapses that nobody renews: 3 s.
const LOOKS: u128 = (LEASE.as_millis() + 1_000) / LOOKED.as_millis();
/// How often a node that waits brings its copies up to date.
const FOLLOWED: Duration = Duration::from_secs(1);
/// The file that tells this data directory from every other one.
const NODE_ID: &str = "node-id";
/// Where copies are until their node writes.
const STANDBY: &str = "standby";
/// The file that says that those beside it are copies of the region's.
const IS_COPY: &str = "of-pair";
/// What the ledger and the registry are called, here and in PostgreSQL.
pub(crate) const LEDGER: &str = "ledger.db";
pub(crate) const REGISTRY: &str = "region.db";

/// A socket that is listened on, and its address.
pub(crate) type Bound = (TcpListener, SocketAddr);

/// The right to work, and what is needed to keep it.
#[derive(Default)]
pub(crate) struct Turn {
    held: Option<Held>,
    /// Listeners at which the node has waited.
    pub(crate) clients: Option<Bound>,
    pub(crate) metrics: Option<Bound>,
    pub(crate) links: Option<Bound>,
    /// What is served there until this node works.
    standby: Option<Standby>,
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

    /// Where the bytes of files that are no tables are kept beside the disk, if they are.
    pub(crate) fn chunks(&self) -> Option<Arc<dyn Chunks>> {
        let held = self.held.as_ref()?;
        held.kept.as_ref()?;
        Some(Arc::new(KeptChunks::new(held.pair.clone(), held.number)))
    }

    /// What the token servers of both nodes share, with the other origins of either; none where there is one node.
    pub(crate) fn shared(
        &self,
        key: &SigningKey,
        config: &RegionalConfig,
        bound: SocketAddr,
    ) -> Option<Shared> {
        let held = self.held.as_ref()?;
        held.kept.as_ref()?;
        Some(shared(&held.pair, key).at(&hosts::others(config, bound)))
    }

    /// Takes what the other node has written down into the audit log from now on, and ends what was served while this one
    /// waited: it serves by itself.
    ///
    /// # Errors
    /// [`RegionalError`].
    pub(crate) async fn follow(
        &mut self,
        (ledger, key): (&Ledger, VerifyingKey),
        health: &Health,
        tasks: &mut Tasks,
    ) -> Result<(), RegionalError> {
        if let Some(held) = self.held.as_ref().filter(|held| held.kept.is_some()) {
            let (pair, check) = (held.pair.clone(), health.optional("rows"));
            let takes = Takes::open(pair, ledger.clone(), key, check).await?;
            tasks.spawn("rows", Kind::Background, takes.run(tasks.stop()));
        }
        if let Some(standby) = self.standby.take() {
            tasks.spawn("standby", Kind::Background, standby.leave());
        }
        Ok(())
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
    let newest = Newest::of(&config.data_dir).map_err(why)?;
    let pair = Pair::open_remembering(url.reveal(), authority.as_deref(), &newest);
    let pair = Arc::new(pair.await.map_err(why)?);
    let me = node_id(&config.data_dir).map_err(RegionalError::DataDir)?;
    match &config.pair {
        None => alone(pair, &me, stop).await,
        Some(own) => wait(config, own, (pair, &me), stop).await,
    }
}

/// What a person has to do is in what caused it.
fn why(error: StoreError) -> RegionalError {
    match &error.source {
        Some(source) if error.kind == fhir::store::Kind::Refused => {
            RegionalError::NotItsTurn(format!("{error}: {source}"))
        }
        _ => error.into(),
    }
}

/// Takes the lease of a region of one node.
async fn alone(
    pair: Arc<Pair>,
    me: &str,
    stop: &CancellationToken,
) -> Result<Option<Turn>, RegionalError> {
    let mut looks = Looks::default();
    for _ in 0..LOOKS {
        if let Some((number, _)) = look(&pair, (me, "without [pair]"), &mut looks).await? {
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
    let shown = Shown::new(&health);
    let clients = listen(config.https.listen).await?;
    let metrics = match &config.metrics {
        Some(own) => Some(listen(own.listen).await?),
        None => None,
    };
    let links = match &own.other {
        Some(_) => Some(listen(config.grpc_listen).await?),
        None => None,
    };
    let sockets = Sockets {
        clients: &clients,
        metrics: metrics.as_ref(),
        links: links.as_ref(),
    };
    let standby = Standby::begin(config, (&pair, &shown.writer), sockets, &health, stop)?;
    let until = standby.stop();
    let taken = take_over(&config.data_dir, own, (&pair, me), &shown, &until).await;
    let Ok(Some(((number, asked), there))) = taken else {
        // Why it ended by itself says more than that it was stopped.
        let left = standby.leave().await;
        return taken.and(left).map(|()| None);
    };
    shown.role.pass();
    standby.carries_no_more();
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
        links,
        standby: Some(standby),
    }))
}

/// What a node that waits shows of itself and of the other one.
struct Shown {
    /// That it is not the one that writes.
    role: Check,
    /// Whether its copy is current, without which it is not ready.
    copy: Check,
    writer: Writer,
}

impl Shown {
    fn new(health: &Health) -> Self {
        let role = health.optional("writer");
        role.fail("standby");
        Self {
            role,
            copy: health.check("copy"),
            writer: Writer::default(),
        }
    }
}

/// The number of the lease once it is this node's, and which files are kept in PostgreSQL already.
async fn take_over(
    data_dir: &Path,
    own: &PairConfig,
    (pair, me): (&Arc<Pair>, &str),
    shown: &Shown,
    stop: &CancellationToken,
) -> Result<Option<((i64, Instant), [bool; 2])>, RegionalError> {
    check_own(data_dir, pair, me).await?;
    let standby = data_dir.join(STANDBY);
    let begin = |name| Copied::begin(&standby, name).map_err(RegionalError::Copy);
    let mut copies = [begin(LEDGER)?, begin(REGISTRY)?];
    let (mut looks, mut said, mut due) = (Looks::default(), false, Instant::now());
    loop {
        let is_due = Instant::now() >= due;
        let looked = match is_due {
            true => current(&mut copies, pair).await,
            false => Ok(()),
        };
        if looked.is_ok() && is_due {
            check_name(own, pair, me).await?;
            shown.copy.pass();
            (said, due) = (false, Instant::now() + FOLLOWED);
            if let Ok(name) = pair.holder().await {
                shown.writer.is(name);
            }
        }
        let taken = match looked {
            Ok(()) => look(pair, (me, &own.node), &mut looks).await,
            Err(error) => Err(error),
        };
        match taken {
            Ok(Some((number, asked))) => {
                let placed = place(data_dir, copies, (pair, me), number).await;
                if placed.is_err() {
                    give_back(Some((pair.clone(), number))).await;
                }
                return placed.map(|there| Some(((number, asked), there)));
            }
            Ok(None) => {}
            Err(error) => {
                // Nothing is taken before the copies are current again.
                due = Instant::now();
                shown.copy.fail("not-current");
                if !said {
                    tracing::warn!(%error, "the copy of the region's files is not current");
                    said = true;
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOKED) => {}
        }
    }
}

/// Brings the copies up to date.
async fn current(copies: &mut [Copied], pair: &Pair) -> Result<(), StoreError> {
    for copied in copies {
        copied.catch_up(pair).await?;
    }
    Ok(())
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
    current(&mut copies, pair).await?;
    let there = copies.each_ref().map(Copied::is_there);
    if there != [true, true] {
        may_found(data_dir, pair, me, number).await?;
        pair.found(number, me).await?;
    }
    let heads = pair.beside(LEDGER).await?;
    let own = data_dir.to_owned();
    let done = move || -> io::Result<()> {
        if there[0] {
            file::replace(&own.join(IS_COPY), b"", file::PRIVATE)?;
            copied::heads(&own, &heads)?;
        }
        for copied in copies {
            copied.place(&own)?;
        }
        Ok(())
    };
    let done = renewing((pair, number), done).await;
    done.map_err(RegionalError::Copy)?;
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
