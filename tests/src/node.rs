//! One process of a mesh, started by itself: with another environment, or while everything else is down.
use crate::{binary, mesh::Mesh};
use anyhow::Result;
use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

/// A running process. Dropping it kills it.
pub struct Node {
    child: Child,
    log: PathBuf,
}

impl Node {
    /// Starts the node `edge:FACILITY`, `regional:REGION` or `global` of a mesh that is not running.
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(mesh: &Mesh, node: &str, env: &[(&str, &str)]) -> Result<Self> {
        let tier = node.split(':').next().unwrap_or(node);
        let config = mesh.config(node);
        let log = mesh.folder(node).join("alone.log");
        Self::spawn(&[tier], config, log, env)
    }

    /// Starts a node of a tier by a configuration of the test's own, which logs beside it.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn by(tier: &str, config: &Path) -> Result<Self> {
        let log = config.with_extension("log");
        Self::spawn(&[tier], config.to_owned(), log, &[])
    }

    /// Starts the simulated devices of a facility. Their clocks are their own.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub fn devices(mesh: &Mesh, facility: &str) -> Result<Self> {
        let folder = mesh.folder(&format!("edge:{facility}"));
        let log = folder.join("devices-alone.log");
        Self::spawn(
            &["device", "simulate"],
            folder.join("devices.toml"),
            log,
            &[],
        )
    }

    fn spawn(
        command: &[&str],
        config: PathBuf,
        log: PathBuf,
        env: &[(&str, &str)],
    ) -> Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(&log)?;
        let child = Command::new(binary::medmesh())
            .args(command)
            .arg("--config")
            .arg(config)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// Sends a signal, such as `STOP`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let mut kill = Command::new("kill");
        kill.arg(format!("-{signal}"))
            .arg(self.child.id().to_string());
        anyhow::ensure!(kill.status()?.success(), "{signal}: no process");
        Ok(())
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// What the system says.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// It was gone already.
    pub fn kill(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        anyhow::ensure!(
            ended.is_none(),
            "it ended by itself: {ended:?}\n{}",
            self.log()
        );
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
