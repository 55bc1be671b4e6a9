//! A region whose PostgreSQL is put back, by a standby that is promoted without the last commits and then by a backup,
//! while its ledger stays: the product's own stores, ledger and intake on a real server, with a simulated link.
use anyhow::{Result, ensure};
use fhir::postgres::PostgresStore;
use ingest::Urgency;
use medmesh_tests::{
    postgres::Server,
    sim::{
        clock,
        device::{Answer, Device},
        nodes::{DEVICES, Ground, Opening, Upper},
        wire::Wire,
    },
};
use std::{collections::BTreeSet, os::unix::fs::PermissionsExt, path::Path, sync::Arc};
use store::Store;
use types::Place;

const SCHEMA: &str = "medmesh_standby";
const VALUES: &str = "SELECT body::json->'valueQuantity'->>'value' FROM medmesh_standby.resource \
     WHERE type = 'Observation' ORDER BY seq";
/// Steps of the link after which everything has come to rest.
const ROUNDS: usize = 40;
/// Time between two of them, in ms.
const ROUND_MS: i64 = 60_000;

#[test]
#[cfg_attr(
    not(asked_for_postgres),
    ignore = "MEDMESH_TEST_POSTGRES_URL is not set: cargo xtask test sets it"
)]
fn a_region_gets_again_what_its_postgresql_lost_by_a_standby_promoted_with_loss_and_by_a_backup()
-> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(put_back())
}

async fn put_back() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // The servers run as another user.
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
    let primary = Server::asked_for()?;
    let drop_it = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
    primary.run(&[&drop_it, &format!("CREATE SCHEMA {SCHEMA}")])?;
    let mut mesh = Mesh::new(dir.path(), &primary).await?;
    mesh.measure(3, &primary).await?;
    let backup = primary.copy(&dir.path().join("backup"), false)?;
    let standby = primary
        .copy(&dir.path().join("standby"), true)?
        .start()
        .await?;
    mesh.measure(3, &primary).await?;
    let at = primary.run(&["SELECT pg_current_wal_flush_lsn()"])?;
    let has_it = format!("SELECT pg_last_wal_replay_lsn() >= '{at}'::pg_lsn");
    standby.server.until(&has_it).await?;
    standby.server.run(&[
        "ALTER SYSTEM SET primary_conninfo = ''",
        "SELECT pg_reload_conf()",
    ])?;
    let alone = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
    standby.server.until(alone).await?;
    mesh.measure(3, &primary).await?;
    standby.server.run(&["SELECT pg_promote()"])?;
    mesh.is_put_back_to(&standby.server, 6).await?;
    let backup = backup.start().await?;
    mesh.is_put_back_to(&backup.server, 3).await?;
    mesh.close().await;
    primary.run(&[&drop_it])?;
    Ok(())
}

/// A facility, its link and its region.
struct Mesh<'a> {
    dir: &'a Path,
    places: [Place; 2],
    store: Store,
    device: Device,
    wire: Wire,
    region: Upper,
    measured: usize,
}

impl<'a> Mesh<'a> {
    async fn new(dir: &'a Path, server: &Server) -> Result<Self> {
        let places = ["edge/eu/eu/eu-f1".parse()?, "regional/eu/eu".parse()?];
        let folder = dir.join("facility");
        std::fs::create_dir_all(&folder)?;
        let (store, _) = opening(&places[0], &folder)?.edge(&places[1]).await?;
        store.set_link(true);
        Ok(Self {
            region: region(dir, &places[1], server).await?,
            dir,
            places,
            store,
            device: Device::new(DEVICES[0])?,
            wire: Wire::default(),
            measured: 0,
        })
    }

    /// So many samples are measured, acknowledged and delivered; then the region has every one since the first, once.
    async fn measure(&mut self, count: usize, server: &Server) -> Result<()> {
        let (hand, _) = hand();
        for _ in 0..count {
            self.measured += 1;
            let value = format!("60.{:05}", self.measured);
            hand.forward(1_000);
            let now = hand.now();
            self.device
                .measure(self.measured, &value, Urgency::Routine, now)?;
        }
        let answers = self.device.offer(&self.store).await;
        let stored = answers.iter().all(|(_, answer)| *answer == Answer::Stored);
        ensure!(stored && answers.len() == count, "{answers:?}");
        self.settle().await;
        let there = values(server)?;
        let once: BTreeSet<_> = there.iter().collect();
        ensure!(
            once.len() == there.len() && once.len() == self.measured,
            "measured {}, there {there:?}",
            self.measured
        );
        Ok(())
    }

    /// Everything that may move does.
    async fn settle(&mut self) {
        let (hand, _) = hand();
        let (from, door) = (&self.places[0], &self.region.door);
        for _ in 0..ROUNDS {
            hand.forward(ROUND_MS);
            if self.store.has_unshipped() {
                let _later = self.store.ship_late().await;
            }
            self.wire.send(&self.store, from, door, hand.draws()).await;
            self.wire.deliver(from, door, 0).await;
            self.wire.answer(&self.store, door).await;
        }
    }

    /// The region starts again on another server, which has less; what it lacks comes again, and what is new comes.
    async fn is_put_back_to(&mut self, server: &Server, has: usize) -> Result<()> {
        let there = values(server)?.len();
        ensure!(there == has, "the copy has {there} readings, not {has}");
        self.wire.lose(&self.store).await;
        self.region = region(self.dir, &self.places[1], server).await?;
        self.measure(1, server).await?;
        ensure!(self.store.gaps().await?.is_empty(), "nothing was lost");
        Ok(())
    }

    async fn close(self) {
        self.store.close().await;
    }
}

/// Values in a server, in the order of their commits.
fn values(server: &Server) -> Result<Vec<String>> {
    Ok(server.run(&[VALUES])?.lines().map(str::to_owned).collect())
}

fn hand() -> (&'static clock::Hand, store::Entropy) {
    static BEGUN: std::sync::OnceLock<(&'static clock::Hand, store::Entropy)> =
        std::sync::OnceLock::new();
    *BEGUN.get_or_init(|| clock::begin(0))
}

fn opening<'a>(place: &'a Place, dir: &'a Path) -> Result<Opening<'a>> {
    let (hand, entropy) = hand();
    Ok(Opening {
        place,
        dir,
        rules: Ground::get()?.rules.clone(),
        hand,
        entropy,
    })
}

async fn region(dir: &Path, place: &Place, server: &Server) -> Result<Upper> {
    let folder = dir.join("region");
    std::fs::create_dir_all(&folder)?;
    let store = PostgresStore::open(&server.in_schema(SCHEMA), None).await?;
    opening(place, &folder)?
        .upper_on(Arc::default(), Some(Arc::new(store)))
        .await
}
