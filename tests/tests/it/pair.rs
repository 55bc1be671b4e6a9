//! A region of two nodes on one PostgreSQL, as processes: the one that writes is killed, then the next one is paused. The
//! facility finds the other by itself, and everything that it acknowledged is in the region once. Clients of FHIR use both
//! all the while: what they were told is stored is there once, and every read has its row in the one audit log.
use anyhow::{Context, Result, ensure};
use clients::Clients;
use medmesh_tests::{
    engine,
    https::{Answer, assertion},
    mesh::Mesh,
    mqtt::Device,
    node::Node,
    postgres::Server,
    wait,
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Instant,
};
use toml::{Table, Value as Toml};

mod clients;

/// Messages that a device publishes while each node writes.
const MESSAGES: usize = 8;
const FACILITY: &str = "us-f1";
const VALUES: &str =
    "SELECT body::json->'valueQuantity'->>'value' FROM resource WHERE type = 'Observation'";
const WRITTEN: &str =
    "SELECT body::json->'identifier'->0->>'value' FROM resource WHERE type = 'Basic'";
/// Resources that clients write while both nodes serve.
const AT_BOTH: u64 = 40;
/// Reads at the node that waits.
const READS: usize = 5;

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
    region.is("a", WRITES).await?;
    let b = region.start("b")?;
    region.is("b", WAITS).await?;
    let mut sent = Sent::default();
    sent.publish(&mesh, &region).await?;
    let clients = region.serves_at_both("a", "b").await?;

    let killed = Instant::now();
    a.kill()?;
    sent.publish(&mesh, &region).await?;
    println!(
        "kill -9: the facility's next readings are in after {:?}",
        killed.elapsed()
    );
    region.is("b", WRITES).await?;
    let a = region.start("a")?;
    region.is("a", WAITS).await?;

    // The facility is started again, so that it need not find out first that nobody answers.
    b.signal("STOP")?;
    facility.kill()?;
    let facility = Node::start(&mesh, &edge, &[])?;
    sent.publish(&mesh, &region).await?;
    region.is("a", WRITES).await?;
    b.signal("CONT")?;
    let said = region.ended_saying(b, "has taken its lease").await?;
    let once = said.matches("may write nothing any more").count();
    ensure!(once == 1, "{said}");
    let wrote = clients.end().await?;
    println!(
        "FHIR: {} resources, {} at a and {} at b; asked {} times in vain; at most {:?} between two of a client",
        wrote.stored.len(),
        wrote.at[0],
        wrote.at[1],
        wrote.in_vain,
        wrote.longest
    );
    clients::check(&wrote, &region.lines(WRITTEN)?)?;
    // And one that knows of no second node is not let in beside them.
    let alone = region.start("alone")?;
    region.ended_saying(alone, "write [pair]").await?;

    let there = region.values()?;
    let once: BTreeSet<_> = there.iter().collect();
    ensure!(once.len() == there.len(), "twice: {there:?}");
    region.has_rows(wrote.stored.len()).await?;
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
        let mut first = first.clone();
        // Both are reached by one name, so that what is signed for one is signed for the other.
        let https = first.get_mut("https").and_then(Toml::as_table_mut);
        let https = https.context("https")?;
        let listen = https["listen"].as_str().unwrap_or_default();
        let public = format!("https://{listen}");
        https.insert("public_url".into(), public.into());
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

    /// Where a node answers clients.
    fn authority(&self, node: &str) -> Result<String> {
        let config = table(&self.config(node))?;
        let at = config["https"]["listen"].as_str();
        Ok(at.context("https.listen")?.to_owned())
    }

    /// Waits until a node is ready and its `/ready` says that it waits, or does not say so.
    async fn is(&self, node: &str, (what, waits): (&str, bool)) -> Result<()> {
        let url = format!("https://{}/ready", self.authority(node)?);
        let look = || async {
            let answer = self.mesh.https.get(&url, None).await.ok()?;
            let standby = answer.body.windows(9).any(|part| part == b"\"standby\"");
            (answer.status == 200 && standby == waits).then_some(())
        };
        wait::until(&format!("{node} {what}"), wait::PATIENCE, look).await
    }

    /// What is the same at both nodes, and what is not; and clients that use both from now on.
    async fn serves_at_both(&self, writes: &str, waits: &str) -> Result<Clients> {
        let (json, https) = (self.mesh.json()?, &self.mesh.https);
        let [writes, waits] = [self.authority(writes)?, self.authority(waits)?];
        let get = async |at: &str, path: &str, token: &str| -> Result<Answer> {
            https.get(&format!("https://{at}{path}"), Some(token)).await
        };
        let token = async |client: &str| -> Result<String> {
            let client = &json["clients"][client];
            let audience = client["token_url"]["us"].as_str().context("token_url")?;
            let (first, then) = (assertion(client, audience)?, assertion(client, audience)?);
            let at = |node: &str| format!("https://{node}/auth/token");
            let given = https.ask_token(client, &at(&waits), &first).await?.json()?;
            https.ask_token(client, &at(&writes), &then).await?.json()?;
            // Each is good for one token, wherever it was used.
            for (node, used) in [(&writes, &first), (&waits, &then), (&waits, &first)] {
                let again = https.ask_token(client, &at(node), used).await?;
                ensure!(again.status == 401, "used again: {}", again.status);
            }
            Ok(given["access_token"].as_str().context("token")?.to_owned())
        };
        let (reader, writer) = (token("fhir-reader").await?, token("fhir-writer").await?);
        for _ in 0..READS {
            let found = get(&waits, "/fhir/Observation?_count=5", &reader).await?;
            let found = found.json()?;
            ensure!(found["entry"].as_array().is_some_and(|all| !all.is_empty()));
        }
        // What only the node that writes does, and whom only it may show anything.
        let researcher = token("fhir-researcher").await?;
        for (path, token, there) in [
            ("/fhir/$export", &reader, 400),
            ("/api/v1/devices", &reader, 403),
            ("/fhir/Observation?_count=1", &researcher, 200),
        ] {
            let refused = get(&waits, path, token).await?;
            let says = String::from_utf8_lossy(&refused.body).into_owned();
            let named = says.contains("now that is a:");
            ensure!(
                refused.status == 503 && named,
                "{path}: {}: {says}",
                refused.status
            );
            let done = get(&writes, path, token).await?;
            ensure!(done.status == there, "{path}: {}", done.status);
        }
        let clients = Clients::begin(https, &writer, &[writes, waits]);
        let enough = || async { (clients.written() >= AT_BOTH).then_some(()) };
        wait::until("clients write at both", wait::PATIENCE, enough).await?;
        Ok(clients)
    }

    /// Waits until the log has a row of every read at the node that waited, and of as many writes as were done at least.
    async fn has_rows(&self, writes: usize) -> Result<()> {
        let config = self.config("a").to_string_lossy().into_owned();
        let list = ["audit", "list", "--config", &config, "--json"];
        let look = || async {
            let rows = self.mesh.medmesh_lines(&list).ok()?;
            let of = |decision: &str, who: &str| {
                let is =
                    |row: &&serde_json::Value| row["decision"] == decision && row["from"] == who;
                rows.iter().filter(is).count()
            };
            let (read, wrote) = (
                of("data-read", "fhir-reader"),
                of("data-written", "fhir-writer"),
            );
            (read == READS && wrote >= writes).then_some(())
        };
        wait::until("every read and write has its row", wait::PATIENCE, look).await
    }

    /// Waits until a node has ended by itself with exit code 1, and said why: what it said.
    async fn ended_saying(&self, mut node: Node, why: &str) -> Result<String> {
        let mut ended = || {
            let ended = node.ended();
            async move { ended.transpose() }
        };
        let status = wait::until(why, wait::PATIENCE, &mut ended).await??;
        ensure!(status.code() == Some(1), "{status}");
        ensure!(node.log().contains(why), "{}", node.log());
        Ok(node.log())
    }

    /// What the device measured, as the region has it.
    fn values(&self) -> Result<Vec<String>> {
        let mut own = self.lines(VALUES)?;
        own.retain(|text| text.len() == value(0).len() && text.starts_with("90"));
        Ok(own)
    }

    fn lines(&self, select: &str) -> Result<Vec<String>> {
        let all = self.server.run(&[select])?;
        Ok(all.lines().map(str::to_owned).collect())
    }
}

const WRITES: (&str, bool) = ("writes", false);
const WAITS: (&str, bool) = ("waits", true);

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
