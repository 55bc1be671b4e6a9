//! A region of two nodes on one PostgreSQL, as processes: the one that writes is killed, then the next one is paused. The
//! facility finds the other by itself, and everything that it acknowledged is in the region once. The PostgreSQL is a primary
//! and a synchronous standby: the primary is killed and the standby promoted, the old primary returns and is not written to,
//! it is made a standby, and takes over from a primary that is paused. The nodes are cut off from it, and from each other.
//! Clients of FHIR use both all the while: what they were told is stored is there once, and every read has its row in the one audit log. What the
//! node that waits cannot do it has done by the other one: links, exports, and what reads for research. Exports and blobs
//! that one node has taken are at the other too.
use anyhow::{Context, Result, ensure};
use clients::{Clients, Wrote};
use cut::{ToNode, Wires};
use measured::Measured;
use medmesh_tests::{
    https::{Answer, assertion},
    mesh::Mesh,
    mqtt::Device,
    node::Node,
    postgres::{Running, Server},
    wait,
};
use serde_json::json;
use servers::{Ground, Servers};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokens::Tokens;
use toml::{Table, Value as Toml};

mod clients;
mod cut;
mod measured;
mod servers;
mod tokens;
mod up;

/// Messages that a device publishes while each node writes.
const MESSAGES: usize = 8;
const FACILITY: &str = "us-f1";
const VALUES: &str =
    "SELECT body::json->'valueQuantity'->>'value' FROM resource WHERE type = 'Observation'";
const WRITTEN: &str =
    "SELECT body::json->'identifier'->0->>'value' FROM resource WHERE type = 'Basic'";
/// Resources that clients write while both nodes serve.
const AT_BOTH: u64 = 40;
/// Between two faults.
const FAULTS: Duration = Duration::from_secs(10);
/// Right answers of each client by which it is seen that what failed is behind it.
const AGAIN: u32 = 20;
/// Clients of the mesh.
const READER: &str = "fhir-reader";
const WRITER: &str = "fhir-writer";
const OPERATOR: &str = "operator";
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
    let (dir, ground) = (tempfile::tempdir()?, Ground::new()?);
    let primary = ground.begin().await?;
    let postgres = primary.server.url().to_owned();
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
    let servers = ground.follow(primary).await?;
    let region = Region::of(&mesh, &servers)?;
    let _global = Node::start(&mesh, "global", &[])?;
    let edge = format!("edge:{FACILITY}");
    // The node whose ledger there is puts it into PostgreSQL; one that has none does not begin another.
    let early = region.start("b")?;
    region.ended_saying(early, "start that node first").await?;
    let a = region.start("a")?;
    region.is("a", WRITES).await?;
    let b = region.start("b")?;
    region.is("b", WAITS).await?;
    let facility = Node::start(&mesh, &edge, &[])?;
    let mut sent = Sent::default();
    sent.publish(&region).await?;
    region.carries_links("b").await?;
    let tokens = region.serves_at_both("a", "b").await?;
    let export = region.exports("b", &tokens.of(WRITER)).await?;
    let clients = region.clients(&tokens).await?;
    let measured = region.measured(&tokens)?;
    region.go_on(&measured).await?;

    let nodes = region
        .fail(&mut sent, (a, b, facility), (&export, &tokens, &measured))
        .await?;
    let engines = (&ground, servers);
    let (a, facility, wrote, _primary) =
        go_on(&region, &mut sent, (nodes, engines), (clients, measured)).await?;
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

/// One more fault of each other kind, while the clients go on; then they end.
async fn go_on(
    region: &Region<'_>,
    sent: &mut Sent,
    ((a, facility), (ground, servers)): ((Node, Node), (&Ground, Servers)),
    (clients, measured): (Clients, Measured),
) -> Result<(Node, Node, Wrote, Running)> {
    let b = region.start("b")?;
    region.is("b", WAITS).await?;
    let b = region.outlives_other_faults(b, &measured).await?;
    let mut nodes = BTreeMap::from([("a", a), ("b", b)]);
    let primary = region
        .outlives_its_servers((&mut nodes, sent), (ground, servers), &measured)
        .await?;
    region.outlives_cuts(&mut nodes, &measured).await?;
    sent.publish(region).await?;
    measured.end().await?;
    region.one_waits(&mut nodes).await?;
    drop(nodes.remove("b"));
    // Whichever of them had the lease: now it is this one.
    let mut a = nodes.remove("a").context("a")?;
    let look = || {
        if let Ok(Some(_)) = a.ended()
            && let Ok(again) = region.start("a")
        {
            a = again;
        }
        region.is_now("a", WRITES.1)
    };
    wait::until("a writes", wait::PATIENCE, look).await?;
    let wrote = clients.end().await?;
    println!(
        "FHIR: {} resources, {} at a and {} at b; asked {} times in vain; at most {:?} between two of a client",
        wrote.stored.len(),
        wrote.at[0],
        wrote.at[1],
        wrote.in_vain,
        wrote.longest
    );
    Ok((a, facility, wrote, primary))
}

/// What the device has published and was told is stored.
#[derive(Default)]
struct Sent(usize);

impl Sent {
    /// Publishes some more, and waits until all is in the region.
    async fn publish(&mut self, region: &Region<'_>) -> Result<()> {
        let mesh = region.mesh;
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
    /// Where the test itself looks.
    server: RefCell<Server>,
    wires: Wires,
}

impl<'a> Region<'a> {
    /// Of the region of a mesh that does not run: `a` is the node that it has, `b` is a new one, `alone` is `b` without
    /// `[pair]`. The facility gets to know both.
    fn of(mesh: &'a Mesh, servers: &Servers) -> Result<Self> {
        let dir = mesh.folder("regional:us");
        let first = table(&mesh.config("regional:us"))?;
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
        let mut own = first.clone();
        let mut wires = Wires::to(ToNode::of(&own)?, ToNode::of(&other)?);
        named(&mut own, ["a", "b"], &wires)?;
        named(&mut other, ["b", "a"], &wires)?;
        let given = dir.join("postgres.url");
        let server = Server::at(&fs::read_to_string(&given)?);
        let both = server.or(&servers.standby.server)?;
        fs::write(&given, both.url())?;
        for (node, config) in [("a", &mut own), ("b", &mut other)] {
            wires.lead(
                (node, &mut *config),
                (dir.as_path(), given.as_path(), &both),
            )?;
            write(&dir.join(format!("{node}.toml")), config)?;
            let listens = config["https"]["listen"].as_str().context("listen")?;
            mesh.https.lead(&wires.to[node].authority(), listens);
        }
        let url = |config: &Table| Toml::from(links(config));
        let file = mesh.config(&format!("edge:{FACILITY}"));
        let mut edge = table(&file)?;
        let uplink = edge.get_mut("uplink").and_then(Toml::as_table_mut);
        // The one that waits at first is dialled first.
        let both = Toml::Array(vec![url(&other), url(&own)]);
        uplink.context("uplink")?.insert("url".into(), both);
        write(&file, &edge)?;
        Ok(Self {
            mesh,
            dir,
            server: RefCell::new(server),
            wires,
        })
    }

    fn config(&self, node: &str) -> PathBuf {
        self.dir.join(format!("{node}.toml"))
    }

    fn start(&self, node: &str) -> Result<Node> {
        Node::by("regional", &self.config(node))
    }

    /// Where a node answers clients, as both know it: clients are led there by no wire.
    fn authority(&self, node: &str) -> Result<String> {
        let to = self.wires.to.get(node).context("no node")?;
        Ok(to.authority())
    }

    /// Waits until a node is ready and its `/ready` says that it waits, or does not say so.
    async fn is(&self, node: &str, (what, waits): (&str, bool)) -> Result<()> {
        let look = || self.is_now(node, waits);
        wait::until(&format!("{node} {what}"), wait::PATIENCE, look).await
    }

    /// The same at this moment.
    async fn is_now(&self, node: &str, waits: bool) -> Option<()> {
        let url = format!("https://{}/ready", self.authority(node).ok()?);
        let answer = self.mesh.https.get(&url, None).await.ok()?;
        let standby = answer.body.windows(9).any(|part| part == b"\"standby\"");
        (answer.status == 200 && standby == waits).then_some(())
    }

    /// Whether the node that waits carries the facility's link.
    async fn carries_links(&self, waits: &str) -> Result<()> {
        let config = table(&self.config(waits))?;
        let at = config["metrics"]["listen"].as_str().context("metrics")?;
        let url = format!("https://{at}/metrics");
        let look = || async {
            let relay = ["listener=\"relay\""];
            let held = self.mesh.https.metric(&url, "medmesh_connections", &relay);
            (held.await.ok()? > 0.0).then_some(())
        };
        wait::until("a link is carried", wait::PATIENCE, look).await
    }

    /// What is the same at both nodes.
    async fn serves_at_both(&self, writes: &str, waits: &str) -> Result<Tokens> {
        let (json, https) = (self.mesh.json()?, &self.mesh.https);
        let [writes, waits] = [self.authority(writes)?, self.authority(waits)?];
        let get = async |at: &str, path: &str, token: &str| -> Result<Answer> {
            https.get(&format!("https://{at}{path}"), Some(token)).await
        };
        let token = async |client: &str| -> Result<String> {
            let client = &json["clients"][client];
            let at = |node: &str| format!("https://{node}/auth/token");
            // Who signs for one address is known at the other.
            let (first, then) = (
                assertion(client, &at(&writes))?,
                assertion(client, &at(&waits))?,
            );
            let given = https.ask_token(client, &at(&waits), &first).await?.json()?;
            https.ask_token(client, &at(&writes), &then).await?.json()?;
            // Each is good for one token, wherever it was used.
            for (node, used) in [(&writes, &first), (&waits, &then), (&waits, &first)] {
                let again = https.ask_token(client, &at(node), used).await?;
                ensure!(again.status == 401, "used again: {}", again.status);
            }
            Ok(given["access_token"].as_str().context("token")?.to_owned())
        };
        let (reader, operator) = (token(READER).await?, token(OPERATOR).await?);
        let given = [
            (READER, reader.clone()),
            (WRITER, token(WRITER).await?),
            (OPERATOR, operator.clone()),
        ];
        for _ in 0..READS {
            let found = get(&waits, "/fhir/Observation?_count=5", &reader).await?;
            let found = found.json()?;
            ensure!(found["entry"].as_array().is_some_and(|all| !all.is_empty()));
        }
        // What the node that writes does alone is the same at either, with links to where it was asked.
        let researcher = token("fhir-researcher").await?;
        for (path, token, status) in [
            ("/fhir/$export", &reader, 400),
            ("/api/v1/devices", &reader, 403),
            ("/api/v1/devices", &operator, 200),
            ("/api/v1/none", &operator, 404),
            ("/metrics", &operator, 200),
            ("/fhir/Observation?_count=1", &researcher, 200),
        ] {
            for at in [&writes, &waits] {
                let answer = get(at, path, token).await?;
                let says = String::from_utf8_lossy(&answer.body).into_owned();
                ensure!(answer.status == status, "{path}: {}: {says}", answer.status);
                if path.starts_with("/fhir/Observation") {
                    let own = format!("https://{at}/fhir/");
                    let links = answer.json()?["link"].to_string();
                    ensure!(links.contains(&own), "asked at {at}: {links}");
                }
            }
        }
        let (clients, nodes) = (json["clients"].clone(), [writes, waits]);
        Ok(Tokens::keep(https, clients, nodes, given.into()))
    }

    /// Clients that use both nodes from now on.
    async fn clients(&self, tokens: &Tokens) -> Result<Clients> {
        let nodes = [self.authority("a")?, self.authority("b")?];
        let clients = Clients::begin(&self.mesh.https, tokens, &nodes);
        let enough = || async { (clients.written() >= AT_BOTH).then_some(()) };
        wait::until("clients write at both", wait::PATIENCE, enough).await?;
        Ok(clients)
    }

    fn measured(&self, tokens: &Tokens) -> Result<Measured> {
        let nodes = [self.authority("a")?, self.authority("b")?];
        Ok(Measured::begin(&self.mesh.https, tokens, &nodes))
    }

    /// Waits until each client that is measured was answered right again.
    async fn go_on(&self, measured: &Measured) -> Result<()> {
        let before = measured.right();
        let look = || async {
            let now = measured.right();
            let grown = |(now, before): (&u32, &u32)| *now >= *before + AGAIN;
            now.iter().zip(&before).all(grown).then_some(())
        };
        wait::until("each client is answered again", wait::PATIENCE, look).await
    }

    /// Asks a node for an export: the path of the job.
    async fn exports(&self, node: &str, token: &str) -> Result<String> {
        let origin = format!("https://{}", self.authority(node)?);
        let url = format!("{origin}/fhir/$export?_type=Device");
        let extra = [("prefer", "respond-async")];
        let answer = self.mesh.https.get_with(&url, Some(token), &extra).await?;
        let place = answer.headers.get("content-location");
        let place = place
            .and_then(|place| place.to_str().ok())
            .context("place")?;
        let path = place.strip_prefix(&origin);
        Ok(path.with_context(|| place.to_owned())?.to_owned())
    }

    /// Waits for the end of an export at a node, which has not forgotten it: how many lines its files have there.
    async fn exported(&self, node: &str, path: &str, token: &str) -> Result<usize> {
        let https = &self.mesh.https;
        let origin = format!("https://{}", self.authority(node)?);
        let url = format!("{origin}{path}");
        let look = || async {
            let answer = https.get(&url, Some(token)).await.ok()?;
            matches!(answer.status, 200 | 404).then_some(answer)
        };
        let manifest = wait::until("the export ends", wait::PATIENCE, look).await?;
        let manifest = manifest.json()?;
        let mut lines = 0;
        for file in manifest["output"].as_array().context("output")? {
            let url = file["url"].as_str().context("url")?;
            ensure!(url.starts_with(&origin), "{url}");
            let file = https.get(url, Some(token)).await?;
            ensure!(file.status == 200, "{url}: {}", file.status);
            lines += file.body.iter().filter(|byte| **byte == b'\n').count();
        }
        ensure!(lines > 0, "{manifest}");
        Ok(lines)
    }

    /// Sends a file to the facility, which is away: it is at a node of the region, whole, when this returns.
    async fn takes_a_blob(&self, node: &str) -> Result<Vec<u8>> {
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = self.dir.join("sent.bin");
        fs::write(&file, &bytes)?;
        let (file, dir) = (file.to_string_lossy(), self.mesh.dir.to_string_lossy());
        let send = [
            "blob", "send", &file, "--class", "firmware", "--to", FACILITY,
        ];
        self.mesh
            .medmesh_lines(&[&send[..], &["--json", "--dir", &dir]].concat())?;
        let data = table(&self.config(node))?;
        let data = PathBuf::from(data["data_dir"].as_str().context("data_dir")?);
        let look = || async { has(&data, &bytes).then_some(()) };
        wait::until("the region has the file", wait::PATIENCE, look).await?;
        Ok(bytes)
    }

    /// Waits until the facility has a file.
    async fn has_got(&self, bytes: &[u8]) -> Result<()> {
        let data = self.mesh.folder(&format!("edge:{FACILITY}")).join("data");
        let look = || async { has(&data, bytes).then_some(()) };
        wait::until("the facility has the file", wait::PATIENCE, look).await
    }

    /// While the other node writes: this one is paused for a while, then killed. The next fault comes 10 s after the one
    /// before at the earliest, when that one is behind.
    async fn outlives_other_faults(&self, waits: Node, measured: &Measured) -> Result<Node> {
        let begun = tokio::time::Instant::now();
        measured.during("the node that waits is paused");
        waits.signal("STOP")?;
        tokio::time::sleep_until(begun + FAULTS / 2).await;
        waits.signal("CONT")?;
        self.is("b", WAITS).await?;
        self.go_on(measured).await?;
        tokio::time::sleep_until(begun + FAULTS).await;
        measured.during("the node that waits is killed");
        waits.kill()?;
        let waits = self.start("b")?;
        self.is("b", WAITS).await?;
        self.go_on(measured).await?;
        tokio::time::sleep_until(begun + FAULTS * 2).await;
        Ok(waits)
    }

    /// A process of the primary is killed, then the primary, and the standby is promoted; the old primary returns; it is made
    /// a standby and takes over from the other one, which is paused.
    async fn outlives_its_servers(
        &self,
        (nodes, sent): (&mut BTreeMap<&'static str, Node>, &mut Sent),
        (ground, servers): (&Ground, Servers),
        measured: &Measured,
    ) -> Result<Running> {
        let begun = tokio::time::Instant::now();
        measured.during("a process of the primary is killed");
        servers.primary.server.crash()?;
        self.go_on(measured).await?;
        tokio::time::sleep_until(begun + FAULTS).await;

        measured.during("the primary is killed");
        let killed = Instant::now();
        let (old, promoted, took) = servers.kill_primary().await?;
        self.looks_at(&promoted)?;
        self.answered_since(measured, (killed, took)).await?;
        sent.publish(self).await?;
        tokio::time::sleep_until(begun + FAULTS * 2).await;

        measured.during("the old primary is back");
        let old = old.start().await?;
        self.is_not_written_to(&old, nodes, sent).await?;
        self.go_on(measured).await?;
        let old = old.kill().await?;

        measured.during("a standby is made");
        let servers = ground.rebuild(promoted, &old).await?;
        self.go_on(measured).await?;
        measured.during("the primary is paused");
        let paused = Instant::now();
        let (old, promoted, took) = servers.pause_primary()?;
        self.looks_at(&promoted)?;
        self.answered_since(measured, (paused, took)).await?;
        old.kill().await?;
        measured.during("nothing");
        Ok(promoted)
    }

    /// An old primary takes writes, and is given none: by who has seen the new one, and by a node that begins now.
    async fn is_not_written_to(
        &self,
        old: &Running,
        nodes: &mut BTreeMap<&'static str, Node>,
        sent: &mut Sent,
    ) -> Result<()> {
        let own = old.server.with_database_of(&self.server.borrow())?;
        let all = "SELECT count(*) FROM resource";
        let before = own.run(&[all])?;
        ensure!(own.run(&["SELECT pg_is_in_recovery()"])? == "f");
        let waits = self.one_waits(nodes).await?;
        nodes.remove(waits).context("no node")?.kill()?;
        nodes.insert(waits, self.start(waits)?);
        self.one_waits(nodes).await?;
        sent.publish(self).await?;
        ensure!(own.run(&[all])? == before, "written to the old one");
        ensure!(self.lines(all)? != [before], "not written at all");
        Ok(())
    }

    /// Waits until one node writes and the other one waits: which one that is. One that has lost its turn, and so has ended, is
    /// started again.
    async fn one_waits(&self, nodes: &mut BTreeMap<&'static str, Node>) -> Result<&'static str> {
        let look = || {
            for (name, node) in nodes.iter_mut() {
                if let Ok(Some(_)) = node.ended()
                    && let Ok(again) = self.start(name)
                {
                    *node = again;
                }
            }
            async {
                for (waits, writes) in [("b", "a"), ("a", "b")] {
                    if self.is_now(waits, true).await.is_some() {
                        return self.is_now(writes, false).await.map(|()| waits);
                    }
                }
                None
            }
        };
        wait::until("one of two nodes waits", wait::PATIENCE, look).await
    }

    /// Looks at another server from now on.
    fn looks_at(&self, server: &Running) -> Result<()> {
        let own = server.server.with_database_of(&self.server.borrow())?;
        self.server.replace(own);
        Ok(())
    }

    /// Waits until each client is answered right again after the standby was promoted, and prints when that was.
    async fn answered_since(
        &self,
        measured: &Measured,
        (failed, promoted): (Instant, Duration),
    ) -> Result<()> {
        let before = measured.right();
        for (client, before) in before.into_iter().enumerate() {
            let look = || async { (measured.right()[client] > before).then_some(()) };
            wait::until("an answer", wait::PATIENCE, look).await?;
        }
        println!(
            "{}: the standby is promoted after {promoted:?}, each client is answered right after {:?} at the latest",
            measured.fault(),
            failed.elapsed()
        );
        self.go_on(measured).await
    }

    /// The one that writes is killed, and then the one that took over is paused until it has ended: the one that writes then,
    /// and the facility.
    async fn fail(
        &self,
        sent: &mut Sent,
        (a, b, facility): (Node, Node, Node),
        (export, tokens, measured): (&str, &Tokens, &Measured),
    ) -> Result<(Node, Node)> {
        let edge = format!("edge:{FACILITY}");
        measured.during("the node that writes is killed");
        let killed = Instant::now();
        a.kill()?;
        sent.publish(self).await?;
        println!(
            "kill -9: the facility's next readings are in after {:?}",
            killed.elapsed()
        );
        self.is("b", WRITES).await?;
        let exported = self.exported("b", export, &tokens.of(WRITER)).await?;
        let a = self.start("a")?;
        self.is("a", WAITS).await?;

        // What is on its way to a facility is at the region alone.
        facility.kill()?;
        let blob = self.takes_a_blob("b").await?;
        // The facility is started again, so that it need not find out first that nobody answers.
        measured.during("the node that writes is paused");
        let paused = Instant::now();
        b.signal("STOP")?;
        let facility = Node::start(self.mesh, &edge, &[])?;
        sent.publish(self).await?;
        println!(
            "a pause: the facility's next readings are in after {:?}",
            paused.elapsed()
        );
        self.is("a", WRITES).await?;
        let again = self.exported("a", export, &tokens.of(WRITER)).await?;
        ensure!(again == exported, "{again} lines, and {exported} before");
        self.has_got(&blob).await?;
        b.signal("CONT")?;
        let said = self.ended_saying(b, "has taken its lease").await?;
        let once = said.matches("may write nothing any more").count();
        ensure!(once == 1, "{said}");
        Ok((a, facility))
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
        let all = self.server.borrow().run(&[select])?;
        Ok(all.lines().map(str::to_owned).collect())
    }
}

/// Whether a data directory has a whole blob of these bytes.
fn has(data: &Path, bytes: &[u8]) -> bool {
    let Ok(blobs) = fs::read_dir(data.join("blobs")) else {
        return false;
    };
    let mut whole = blobs.flatten().map(|entry| entry.path());
    whole.any(|path| path.extension().is_none() && fs::read(path).is_ok_and(|own| own == bytes))
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

/// Makes a configuration that of a node of a pair, which knows what both are called.
fn named(config: &mut Table, [node, other]: [&str; 2], wires: &Wires) -> Result<()> {
    let to = |node: &str| wires.to.get(node).context("no node");
    let called = |to: &ToNode| Toml::from(format!("https://{}", to.authority()));
    let to_other = to(other)?;
    let other = Table::from_iter([
        ("https".to_owned(), called(to_other)),
        ("links".to_owned(), to_other.links().into()),
    ]);
    let pair = Table::from_iter([
        ("node".to_owned(), Toml::from(node)),
        ("https".to_owned(), called(to(node)?)),
        ("other".to_owned(), other.into()),
    ]);
    config.insert("pair".into(), pair.into());
    Ok(())
}

/// Where a node takes links.
fn links(config: &Table) -> String {
    let at = config["grpc_listen"].as_str().unwrap_or_default();
    format!("https://{at}")
}

fn free() -> Result<String> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .to_string())
}
