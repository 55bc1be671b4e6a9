//! A mesh of real processes, started by `medmesh up` in a folder of its own.
use crate::{binary, clock, https::Https, wait};
use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running mesh. Dropping it kills it.
pub struct Mesh {
    child: Child,
    /// The folder given as `--dir`.
    pub dir: PathBuf,
    /// A client that trusts the mesh.
    pub https: Https,
}

impl Mesh {
    /// Starts `medmesh up --dir DIR ARGS` and waits for `mesh.json`.
    ///
    /// # Errors
    /// The mesh ends, or is not ready in time; its output is in `DIR/up.log`.
    pub async fn up(dir: &Path, args: &[&str]) -> Result<Self> {
        Self::up_with(&binary::medmesh(), dir, args, &[]).await
    }

    /// As [`Mesh::up`] with another binary and more environment.
    ///
    /// # Errors
    /// As [`Mesh::up`].
    pub async fn up_with(
        bin: &Path,
        dir: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let file = dir.join("mesh.json");
        let _ = fs::remove_file(&file);
        let log = File::create(dir.join("up.log"))?;
        let mut child = Command::new(bin)
            .arg("up")
            .arg("--dir")
            .arg(dir)
            .args(args)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let ready = wait::until("the mesh is ready", wait::PATIENCE, || {
            let ended = child.try_wait().ok().flatten();
            let found = fs::read(&file)
                .ok()
                .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
            async move {
                ended
                    .map(|status| Err(anyhow!("up ended with {status}")))
                    .or(found.map(Ok))
            }
        })
        .await;
        let failed = |e: anyhow::Error| {
            e.context(fs::read_to_string(dir.join("up.log")).unwrap_or_default())
        };
        let json = ready.and_then(|found| found).map_err(failed)?;
        let ca = json["ca"].as_str().context("mesh.json names no ca")?;
        Ok(Self {
            child,
            dir: dir.to_owned(),
            https: Https::new(Path::new(ca))?,
        })
    }

    /// `mesh.json` as it is now.
    ///
    /// # Errors
    /// It is missing or not JSON.
    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(
            self.dir.join("mesh.json"),
        )?)?)
    }

    /// Mesh time now, as RFC 3339: what a device outside the mesh gives as the time of a live reading.
    ///
    /// # Errors
    /// The mesh's folder has no clock.
    pub fn time(&self) -> Result<String> {
        let clock: Value = serde_json::from_slice(&fs::read(self.dir.join("clock.json"))?)?;
        let clock: types::MeshClock = serde_json::from_value(clock["clock"].clone())?;
        Ok(clock.at(clock::real_now()).to_rfc3339())
    }

    /// Halts the simulated devices where they are, so that what waits can come to an end on a machine of any speed.
    ///
    /// # Errors
    /// There are none.
    pub fn silence(&self) -> Result<()> {
        let pids = simulators(self.child.id())?;
        anyhow::ensure!(!pids.is_empty(), "no simulated devices");
        let stopped = Command::new("kill").arg("-STOP").args(pids).status()?;
        anyhow::ensure!(stopped.success(), "the simulated devices do not stop");
        Ok(())
    }

    /// The process of `edge:FACILITY`, `regional:REGION` or `global`.
    ///
    /// # Errors
    /// `mesh.json` has no such node.
    pub fn pid(&self, node: &str) -> Result<u64> {
        let json = self.json()?;
        let pid = match node.split_once(':') {
            Some(("edge", facility)) => facility_of(&json, facility)?["pid"].as_u64(),
            Some(("regional", region)) => json["regions"][region]["pid"].as_u64(),
            _ => json["global"]["pid"].as_u64(),
        };
        pid.ok_or_else(|| anyhow!("mesh.json has no pid of {node}"))
    }

    /// Where `edge:FACILITY`, `regional:REGION` or `global` serves its metrics.
    ///
    /// # Errors
    /// `mesh.json` has no such node.
    pub fn metrics_url(&self, node: &str) -> Result<String> {
        let json = self.json()?;
        let url = match node.split_once(':') {
            Some(("edge", facility)) => &facility_of(&json, facility)?["metrics"],
            Some(("regional", region)) => &json["regions"][region]["metrics"],
            _ => &json["global"]["metrics"],
        };
        let url = url.as_str().map(str::to_owned);
        url.ok_or_else(|| anyhow!("mesh.json has no metrics of {node}"))
    }

    /// Sends a signal, such as `KILL`, to a node's process.
    ///
    /// # Errors
    /// There is no such node, or no such process: it is being restarted.
    pub fn signal(&self, node: &str, signal: &str) -> Result<()> {
        let pid = self.pid(node)?.to_string();
        let sent = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(pid)
            .stderr(Stdio::null())
            .status()?;
        anyhow::ensure!(sent.success(), "{node} has no process now");
        Ok(())
    }

    /// A client's access token for a region's FHIR API, or for `global`.
    ///
    /// # Errors
    /// The client is unknown, or the server refuses.
    pub async fn token(&self, client: &str, region: &str) -> Result<String> {
        self.https
            .token(&self.json()?["clients"][client], region)
            .await
    }

    /// Every resource of a search, over all its pages.
    ///
    /// # Errors
    /// The server refuses or breaks off.
    pub async fn search(&self, region: &str, query: &str) -> Result<Vec<Value>> {
        let token = self.token("fhir-reader", region).await?;
        let base = self.json()?["regions"][region]["fhir"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let mut next = Some(format!("{base}/{query}"));
        let mut found = Vec::new();
        while let Some(url) = next {
            let bundle = self.https.get(&url, Some(&token)).await?.json()?;
            for entry in bundle["entry"].as_array().into_iter().flatten() {
                if entry["search"]["mode"] != "outcome" {
                    found.push(entry["resource"].clone());
                }
            }
            next = link(&bundle, "next");
        }
        Ok(found)
    }

    /// Sum of a metric over its labels, as a node says it now; with `name{label="value"}` of that series alone.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn metric(&self, url: &str, name: &str) -> Result<f64> {
        self.metric_where(url, name, &[]).await
    }

    /// As [`Mesh::metric`], of the series that have all these labels, such as `reason="expired"`.
    ///
    /// # Errors
    /// As [`Mesh::metric`].
    pub async fn metric_where(&self, url: &str, name: &str, labels: &[&str]) -> Result<f64> {
        self.https.metric(url, name, labels).await
    }

    /// Runs `medmesh ARGS` and gives what it prints as JSON.
    ///
    /// # Errors
    /// It fails or prints something else.
    pub fn medmesh(&self, args: &[&str]) -> Result<Value> {
        Ok(serde_json::from_slice(&printed(args)?)?)
    }

    /// Runs `medmesh ARGS` and gives what it prints, one JSON value a line.
    ///
    /// # Errors
    /// It fails or prints something else.
    pub fn medmesh_lines(&self, args: &[&str]) -> Result<Vec<Value>> {
        let printed = printed(args)?;
        let lines = printed.split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| Ok(serde_json::from_slice(line)?))
            .collect()
    }

    /// The folder of `edge:FACILITY`, `regional:REGION` or `global`.
    #[must_use]
    pub fn folder(&self, node: &str) -> PathBuf {
        let (tier, name) = node.split_once(':').unwrap_or((node, ""));
        self.dir.join(tier).join(name)
    }

    /// The configuration of `edge:FACILITY`, `regional:REGION` or `global`.
    #[must_use]
    pub fn config(&self, node: &str) -> PathBuf {
        let tier = node.split(':').next().unwrap_or(node);
        self.folder(node).join(format!("{tier}.toml"))
    }

    /// What a command, such as `audit list`, prints of a node: one JSON object a line.
    ///
    /// # Errors
    /// As [`Mesh::medmesh`].
    pub fn listed(&self, node: &str, command: [&str; 2]) -> Result<Vec<Value>> {
        let config = self.config(node);
        let rest = ["--config", &config.to_string_lossy(), "--json"];
        self.medmesh_lines(&[&command[..], &rest].concat())
    }

    /// Ctrl-C, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time, or not with 0.
    pub async fn stop(mut self) -> Result<()> {
        self.halt().await
    }

    /// As [`Mesh::stop`], but what lies in its folder, and its clients, stay in use: nodes can be started by hand.
    ///
    /// # Errors
    /// As [`Mesh::stop`].
    pub async fn halt(&mut self) -> Result<()> {
        Command::new("kill")
            .arg("-INT")
            .arg(self.child.id().to_string())
            .status()?;
        let status = wait::until("the mesh stops", wait::PATIENCE, || {
            let ended = self.child.try_wait().ok().flatten();
            async move { ended }
        })
        .await?;
        anyhow::ensure!(status.success(), "up ended with {status}");
        Ok(())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of `up` that simulate devices.
fn simulators(up: u32) -> Result<Vec<String>> {
    let parent = format!("PPid:\t{up}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let folder = entry?.path();
        // What is no process, or has ended meanwhile, has no such files.
        let text = |file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let pid = folder.file_name().and_then(|name| name.to_str());
        if let Some(pid) = pid
            && text("status").lines().any(|line| line == parent)
            && text("cmdline").contains("\0simulate\0")
        {
            found.push(pid.to_owned());
        }
    }
    Ok(found)
}

fn printed(args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(binary::medmesh()).args(args).output()?;
    anyhow::ensure!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

/// A facility of `mesh.json`.
///
/// # Errors
/// There is no such facility.
pub fn facility_of<'a>(json: &'a Value, id: &str) -> Result<&'a Value> {
    let all = json["facilities"].as_array().into_iter().flatten();
    all.into_iter()
        .find(|facility| facility["id"] == id)
        .ok_or_else(|| anyhow!("mesh.json has no facility {id}"))
}

fn link(bundle: &Value, relation: &str) -> Option<String> {
    let links = bundle["link"].as_array()?;
    let found = links.iter().find(|link| link["relation"] == relation)?;
    found["url"].as_str().map(str::to_owned)
}
