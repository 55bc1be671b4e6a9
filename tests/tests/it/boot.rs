//! A facility boots with no network and with a clock that is years wrong, twice, and is killed in between; then the
//! network and the true clock come back.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    checker::{self, Crosswalk},
    mesh::{self, Mesh},
    mqtt::Device,
    node::Node,
    wait,
};
use serde_json::{Value, json};
use std::{fs::OpenOptions, io::Write};

/// Falsifies the clock of a node in a local mesh.
const CLOCK: &str = "MEDMESH_DANGEROUS_CLOCK_OFFSET";
/// Staleness is alarmed after two minutes of mesh time: six seconds at this speed.
const SPEED: &str = "20x";
/// Messages that the test's own device publishes in each boot.
const MESSAGES: u64 = 5;
/// Bit of a reading that was taken while the clock was not believed (`types::Flags`).
const UNTRUSTED: u64 = 2;

#[test]
fn a_facility_whose_clock_is_ten_years_slow_boots_without_a_network_and_loses_nothing() -> Result<()>
{
    tokio::runtime::Runtime::new()?.block_on(cold("us", "-3650d"))
}

#[test]
fn a_facility_whose_clock_is_ten_years_fast_boots_without_a_network_and_loses_nothing() -> Result<()>
{
    tokio::runtime::Runtime::new()?.block_on(cold("eu", "+3650d"))
}

/// A facility of a mesh of which nothing else runs.
struct Alone {
    mesh: Mesh,
    region: String,
    facility: String,
    json: Value,
    /// What was acknowledged while the clock was wrong.
    acknowledged: Vec<Value>,
}

async fn cold(region: &str, offset: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut mesh = Mesh::up(dir.path(), &["--facilities", "1", "--speed", SPEED]).await?;
    mesh.halt().await?;
    let mut alone = Alone {
        json: mesh.json()?,
        mesh,
        region: region.to_owned(),
        facility: format!("{region}-f1"),
        acknowledged: Vec::new(),
    };
    alone.configure_leases()?;
    alone.lease("1s")?;
    let wrong = [(CLOCK, offset)];
    for _ in 0..2 {
        let edge = alone.boot(&wrong).await?;
        let devices = Node::devices(&alone.mesh, &alone.facility)?;
        alone.works_alone(devices).await?;
        edge.kill()?;
    }
    alone.time_never_went_back()?;
    let edge = alone.boot(&wrong).await?;
    let devices = Node::devices(&alone.mesh, &alone.facility)?;
    let servers = alone.network().await?;
    alone.sends_nothing_without_a_lease().await?;
    alone.lease("30d")?;
    edge.kill()?;
    let edge = alone.boot(&[]).await?;
    alone.everything_arrives_once().await?;
    alone.time_never_went_back()?;
    drop((edge, devices, servers));
    Ok(())
}

impl Alone {
    fn node(&self) -> String {
        format!("edge:{}", self.facility)
    }

    fn place(&self) -> Result<&Value> {
        mesh::facility_of(&self.json, &self.facility)
    }

    /// The facility's configuration with leases, and with a region that is not there.
    fn configure_leases(&self) -> Result<()> {
        let folder = self.mesh.folder(&self.node());
        std::fs::create_dir_all(folder.join("leases"))?;
        let authority = self.mesh.dir.join("pki/lease.pem");
        let mut config = OpenOptions::new()
            .append(true)
            .open(self.mesh.config(&self.node()))?;
        let (leases, authority) = (folder.join("leases"), authority.display());
        writeln!(
            config,
            "\n[leases]\ndir = \"{}\"\nauthority = \"{authority}\"",
            leases.display()
        )?;
        Ok(())
    }

    /// `medmesh pki lease`.
    fn lease(&self, ttl: &str) -> Result<()> {
        let out = self.mesh.folder(&self.node()).join("leases");
        let place = format!("edge/{0}/{0}/{1}", self.region, self.facility);
        let pki = self.mesh.dir.join("pki");
        let [out, pki] = [&out, &pki].map(|path| path.to_string_lossy().into_owned());
        let args = [
            "pki", "lease", "--dir", &pki, "--node", &place, "--ttl", ttl, "--out", &out, "--json",
        ];
        let printed = self.mesh.medmesh(&args)?;
        ensure!(printed["place"] == place.as_str(), "{printed}");
        for subject in ["identity", "policy"] {
            let file = printed["leases"][subject].as_str().context("no file")?;
            ensure!(std::path::Path::new(file).is_file(), "{file}");
        }
        Ok(())
    }

    /// Starts the facility's node and waits until it is ready.
    async fn boot(&self, env: &[(&str, &str)]) -> Result<Node> {
        let edge = Node::start(&self.mesh, &self.node(), env)?;
        let live = || async { (self.get("/live").await?.0 == 200).then_some(()) };
        wait::until("the edge lives", wait::PATIENCE, live).await?;
        let ready = || async { (self.get("/ready").await?.0 == 200).then_some(()) };
        wait::until("the edge is ready", wait::PATIENCE, ready).await?;
        Ok(edge)
    }

    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let metrics = self.place().ok()?["metrics"].as_str()?.to_owned();
        let url = metrics.replace("/metrics", path);
        let answer = self.mesh.https.get(&url, None).await.ok()?;
        Some((
            answer.status,
            String::from_utf8_lossy(&answer.body).into_owned(),
        ))
    }

    async fn metric(&self, name: &str) -> Option<f64> {
        let url = self.place().ok()?["metrics"].as_str()?;
        self.mesh.metric(url, name).await.ok()
    }

    /// Why `/ready` says that the facility is degraded.
    async fn degraded(&self, check: &str) -> Option<String> {
        let ready: Value = serde_json::from_str(&self.get("/ready").await?.1).ok()?;
        let found = ready["degraded"]
            .as_array()?
            .iter()
            .find(|it| it["check"] == check)?;
        found["reason"].as_str().map(str::to_owned)
    }

    /// Says what it lacks, polls, acknowledges, and raises an alarm when its devices fall silent.
    async fn works_alone(&mut self, devices: Node) -> Result<()> {
        for (check, reason) in [
            ("clock", "untrusted"),
            ("lease", "lease-expired"),
            ("link", "down"),
        ] {
            let said = || async { (self.degraded(check).await? == reason).then_some(()) };
            wait::until(&format!("{check}: {reason}"), wait::PATIENCE, said).await?;
        }
        let polled =
            || async { (self.metric("medmesh_modbus_points_total").await? > 100.0).then_some(()) };
        wait::until("devices are polled", wait::PATIENCE, polled).await?;
        self.publish().await?;
        devices.kill()?;
        let alarmed =
            || async { (self.metric("medmesh_stale_alarms_total").await? > 0.0).then_some(()) };
        wait::until("silence is alarmed", wait::PATIENCE, alarmed).await
    }

    /// Publishes messages, each of which must be acknowledged.
    async fn publish(&mut self) -> Result<()> {
        let all = self.place()?["devices"].as_array().context("devices")?;
        let external = all
            .iter()
            .find(|it| it["kind"] == "external")
            .context("external")?;
        let mut device = Device::connect(&self.json, self.place()?, external).await?;
        for _ in 0..MESSAGES {
            let seq = self.acknowledged.len() as u64 + 1;
            let message = json!({
                "epoch": 1, "seq": seq, "time": self.mesh.time()?, "patient": "cold-boot",
                "readings": [{"code": "2951-2", "value": format!("{seq}.75"), "unit": "mmol/L"}],
            });
            device.publish(&message).await?;
            self.acknowledged.push(message);
        }
        Ok(())
    }

    /// The region and the global node run from now on.
    async fn network(&self) -> Result<[Node; 2]> {
        let region = format!("regional:{}", self.region);
        let nodes = [
            Node::start(&self.mesh, "global", &[])?,
            Node::start(&self.mesh, &region, &[])?,
        ];
        let there = || async { self.mesh.search(&self.region, "Device?_count=1").await.ok() };
        wait::until("the region answers", wait::PATIENCE, there).await?;
        Ok(nodes)
    }

    async fn sends_nothing_without_a_lease(&self) -> Result<()> {
        let before = self
            .metric("medmesh_samples_stored_total")
            .await
            .unwrap_or_default();
        let goes_on = || async {
            (self.metric("medmesh_samples_stored_total").await? > before + 50.0).then_some(())
        };
        wait::until("the facility goes on by itself", wait::PATIENCE, goes_on).await?;
        let allowed = self.metric("medmesh_uplink_allowed").await;
        ensure!(
            allowed == Some(0.0),
            "allowed to send with an expired lease: {allowed:?}"
        );
        let url = self.json["regions"][&self.region]["metrics"]
            .as_str()
            .context("metrics")?;
        let shaken = self
            .mesh
            .metric(url, "medmesh_link_handshakes_total")
            .await?;
        ensure!(shaken == 0.0, "the region was dialled {shaken} times");
        Ok(())
    }

    /// What devices emitted and what was acknowledged is in the region once, and says whether its time is believed.
    async fn everything_arrives_once(&mut self) -> Result<()> {
        let known = || async { self.degraded("clock").await.is_none().then_some(()) };
        wait::until("the clock is believed again", wait::PATIENCE, known).await?;
        let wrong = self.acknowledged.len();
        self.publish().await?;
        let lines = checker::emitted(&self.mesh, &self.facility)?;
        let there = || async {
            let crosswalk = Crosswalk::read(&self.mesh, &self.facility).ok()?;
            let want = checker::expected(&lines, &crosswalk).ok()?;
            let patients = crosswalk.pseudonyms();
            let have = checker::found(&self.mesh, &self.region, patients)
                .await
                .ok()?;
            let missing = checker::difference(&want, &have).0;
            missing.is_empty().then_some((crosswalk, have))
        };
        let (crosswalk, have) =
            wait::until("everything emitted is stored", wait::PATIENCE, there).await?;
        let twice = have.values().filter(|count| **count > 1).count();
        ensure!(twice == 0, "{twice} readings are stored twice");
        let patient = crosswalk.patient("cold-boot").context("no pseudonym")?;
        let query = format!("Observation?patient={patient}&_count=500");
        let all = || async {
            let mut found = self.mesh.search(&self.region, &query).await.ok()?;
            found.retain(|it| !checker::stored_row(patient, it).is_staleness());
            (found.len() >= self.acknowledged.len()).then_some(found)
        };
        let found = wait::until("everything acknowledged is stored", wait::PATIENCE, all).await?;
        ensure!(
            found.len() == self.acknowledged.len(),
            "stored {} times",
            found.len()
        );
        for (number, message) in self.acknowledged.iter().enumerate() {
            let value = message["readings"][0]["value"].as_str().unwrap_or_default();
            let same = |it: &&Value| decimal(&it["valueQuantity"]["value"]) == value;
            let observation = found
                .iter()
                .find(same)
                .with_context(|| format!("{value} is missing"))?;
            let flagged = is_flagged(observation);
            ensure!(flagged == (number < wrong), "{value}: {observation}");
        }
        self.flags_are_the_facilitys()?;
        println!(
            "{}: {} emitted, {} acknowledged, {wrong} of them on a wrong clock",
            self.facility,
            lines.len(),
            self.acknowledged.len()
        );
        Ok(())
    }

    /// The facility itself keeps the flag too, with what it polled.
    fn flags_are_the_facilitys(&self) -> Result<()> {
        let rows = self.mesh.listed(&self.node(), ["edge", "readings"])?;
        let flagged = |row: &&Value| row["flags"].as_u64().unwrap_or_default() & UNTRUSTED != 0;
        let polled = rows.iter().filter(|row| row["device"] == "monitor-b1");
        let (on, all) = (polled.clone().filter(flagged).count(), polled.count());
        ensure!(
            on > 0 && on < all,
            "{on} of {all} polled readings are flagged"
        );
        Ok(())
    }

    /// The audit log was written by every boot, and its times only rise.
    fn time_never_went_back(&self) -> Result<()> {
        let mut rows = self.mesh.listed(&self.node(), ["audit", "list"])?;
        // What a person reads is written by the machine's own clock.
        rows.retain(|row| row["decision"] != "crosswalk-read");
        let times: Vec<_> = rows.iter().filter_map(|row| row["time"].as_str()).collect();
        ensure!(times.len() > 10, "{} entries", times.len());
        let back = times.windows(2).find(|pair| pair[0] > pair[1]);
        ensure!(back.is_none(), "time went back: {back:?}");
        Ok(())
    }
}

/// A number as it is written.
fn decimal(value: &Value) -> String {
    value.to_string()
}

/// Whether a FHIR client sees that the time is not to be relied on: a tag, and a status that says unverified.
fn is_flagged(observation: &Value) -> bool {
    let tags = observation["meta"]["tag"].as_array().into_iter().flatten();
    let tagged = tags
        .into_iter()
        .any(|tag| tag["system"] == "urn:medmesh:flag" && tag["code"] == "clock-untrusted");
    tagged && observation["status"] == "preliminary"
}
