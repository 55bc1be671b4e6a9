//! A region of two nodes on one PostgreSQL, as processes: the one that writes is killed, then the next one is paused. The
//! facility finds the other by itself, and everything that it acknowledged is in the region once.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{engine, mesh::Mesh, mqtt::Device, node::Node, postgres::Server, wait};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};
use toml::{Table, Value as Toml};

/// Messages that a device publishes while each node writes.
const MESSAGES: usize = 8;
const FACILITY: &str = "us-f1";
const VALUES: &str =
    "SELECT body::json->'valueQuantity'->>'value' FROM resource WHERE type = 'Observation'";

#[test]
#[cfg_attr(
    not(asked_for_postgres),
    ignore = "MEDMESH_TEST_POSTGRES_URL is not set: cargo xtask test sets it"
)]
fn a_region_of_two_nodes_goes_on_when_the_one_that_writes_is_killed_or_paused() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(goes_on())
}

async fn goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let postgres = engine::postgres()?;
    let args = [
        "--facilities",
        "1",
        "--speed",
        "1x",
        "--regions",
        "us",
        "--postgres",
        &postgres,
    ];
    let mut mesh = Mesh::up(dir.path(), &args).await?;
    mesh.halt().await?;
    let region = Region::of(&mesh)?;
    let _global = Node::start(&mesh, "global", &[])?;
    let edge = format!("edge:{FACILITY}");
    let facility = Node::start(&mesh, &edge, &[])?;
    // The node whose ledger there is puts it into PostgreSQL; one that has none does not begin another.
    let early = region.start("b")?;
    region.ended_saying(early, "start that node first").await?;
    let a = region.start("a")?;
    region.is("a", "writes", 200).await?;
    let b = region.start("b")?;
    region.is("b", "waits", 503).await?;
    let mut sent = Sent::default();
    sent.publish(&mesh, &region).await?;

    a.kill()?;
    sent.publish(&mesh, &region).await?;
    region.is("b", "writes", 200).await?;
    let a = region.start("a")?;
    region.is("a", "waits", 503).await?;

    // The facility is started again, so that it need not find out first that nobody answers.
    b.signal("STOP")?;
    facility.kill()?;
    let facility = Node::start(&mesh, &edge, &[])?;
    sent.publish(&mesh, &region).await?;
    region.is("a", "writes", 200).await?;
    b.signal("CONT")?;
    region.ended_saying(b, "has taken its lease").await?;
    // And one that knows of no second node is not let in beside them.
    let alone = region.start("alone")?;
    region.ended_saying(alone, "write [pair]").await?;

    let there = region.values()?;
    let once: BTreeSet<_> = there.iter().collect();
    ensure!(once.len() == there.len(), "twice: {there:?}");
    for config in [region.config("a"), mesh.config(&edge)] {
        let config = config.to_string_lossy().into_owned();
        mesh.medmesh(&["audit", "verify", "--config", &config, "--json"])?;
    }
    drop((a, facility));
    Ok(())
}

/// What the device has published and was told is stored.
#[derive(Default)]
struct Sent(usize);

impl Sent {
    /// Publishes some more, and waits until all is in the region.
    async fn publish(&mut self, mesh: &Mesh, region: &Region<'_>) -> Result<()> {
        let connect = || async { Device::external(&mesh.json().ok()?, FACILITY).await.ok() };
        let mut device = wait::until("the broker answers", wait::PATIENCE, connect).await?;
        let time = mesh.time()?;
        for _ in 0..MESSAGES {
            let seq = self.0 + 1;
            let message = json!({
                "epoch": 1, "seq": seq, "time": time, "patient": "pair-patient",
                "readings": [{"code": "2951-2", "value": value(seq), "unit": "mmol/L"}],
            });
            device.publish(&message).await?;
            self.0 = seq;
        }
        let all = || async {
            let there: BTreeSet<_> = region.values().ok()?.into_iter().collect();
            (1..=self.0)
                .all(|seq| there.contains(&value(seq)))
                .then_some(())
        };
        wait::until("the region has everything", wait::PATIENCE, all).await
    }
}

/// Its nodes' configurations, and its PostgreSQL.
struct Region<'a> {
    mesh: &'a Mesh,
    dir: PathBuf,
    server: Server,
}

impl<'a> Region<'a> {
    /// Of the region of a mesh that does not run: `a` is the node that it has, `b` is a new one, `alone` is `b` without
    /// `[pair]`. The facility gets to know both.
    fn of(mesh: &'a Mesh) -> Result<Self> {
        let dir = mesh.folder("regional:us");
        let first = table(&mesh.config("regional:us"))?;
        let mut own = first.clone();
        named(&mut own, "a");
        write(&dir.join("a.toml"), &own)?;
        let mut other = first.clone();
        for [part, key] in [
            ["https", "listen"],
            ["metrics", "listen"],
            ["", "grpc_listen"],
        ] {
            let at = match part {
                "" => Some(&mut other),
                part => other.get_mut(part).and_then(Toml::as_table_mut),
            };
            at.context(part)?.insert(key.into(), free()?.into());
        }
        let data = dir.join("data-b").to_string_lossy().into_owned();
        other.insert("data_dir".into(), data.into());
        write(&dir.join("alone.toml"), &other)?;
        named(&mut other, "b");
        write(&dir.join("b.toml"), &other)?;
        let url = |config: &Table| {
            let at = config["grpc_listen"].as_str().unwrap_or_default();
            Toml::from(format!("https://{at}"))
        };
        let file = mesh.config(&format!("edge:{FACILITY}"));
        let mut edge = table(&file)?;
        let uplink = edge.get_mut("uplink").and_then(Toml::as_table_mut);
        let both = Toml::Array(vec![url(&own), url(&other)]);
        uplink.context("uplink")?.insert("url".into(), both);
        write(&file, &edge)?;
        let server = Server::at(&fs::read_to_string(dir.join("postgres.url"))?);
        Ok(Self { mesh, dir, server })
    }

    fn config(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.toml"))
    }

    fn start(&self, node: &str) -> Result<Node> {
        Node::by("regional", &self.config(node))
    }

    /// Waits until a node's `/ready` answers so.
    async fn is(&self, node: &str, what: &str, status: u16) -> Result<()> {
        let config = table(&self.config(node))?;
        let at = config["https"]["listen"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let url = format!("https://{at}/ready");
        let look = || async {
            let answer = self.mesh.https.get(&url, None).await.ok()?;
            let standby = answer.body.windows(9).any(|part| part == b"\"standby\"");
            (answer.status == status && standby == (status == 503)).then_some(())
        };
        wait::until(&format!("{node} {what}"), wait::PATIENCE, look).await
    }

    /// Waits until a node has ended by itself with exit code 1, and said why.
    async fn ended_saying(&self, mut node: Node, why: &str) -> Result<()> {
        let mut ended = || {
            let ended = node.ended();
            async move { ended.transpose() }
        };
        let status = wait::until(why, wait::PATIENCE, &mut ended).await??;
        ensure!(status.code() == Some(1), "{status}");
        ensure!(node.log().contains(why), "{}", node.log());
        Ok(())
    }

    /// What the device measured, as the region has it.
    fn values(&self) -> Result<Vec<String>> {
        let all = self.server.run(&[VALUES])?;
        let own = all
            .lines()
            .filter(|text| text.len() == value(0).len() && text.starts_with("90"));
        Ok(own.map(str::to_owned).collect())
    }
}

/// What no simulated device measures, of each message another.
fn value(seq: usize) -> String {
    format!("90{seq:02}.50")
}

fn table(file: &Path) -> Result<Table> {
    Ok(fs::read_to_string(file)?.parse()?)
}

fn write(file: &Path, table: &Table) -> Result<()> {
    Ok(fs::write(file, toml::to_string(table)?)?)
}

fn named(config: &mut Table, node: &str) {
    let pair = Table::from_iter([("node".to_owned(), Toml::from(node))]);
    config.insert("pair".into(), pair.into());
}

fn free() -> Result<String> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .to_string())
}
