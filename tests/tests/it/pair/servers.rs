//! The PostgreSQL of a region of two nodes: a primary and a synchronous standby of it. The test does what an operator's tool
//! does: it stops the primary that fails, promotes the standby, and makes the old primary one.
use anyhow::Result;
use medmesh_tests::postgres::{Copy, Running, Server};
use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Where servers are.
pub struct Ground(TempDir);

impl Ground {
    /// A folder that the servers' own user can reach.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        Ok(Self(dir))
    }

    /// A server with nothing in it.
    pub async fn begin(&self) -> Result<Running> {
        let files = Server::asked_for()?.fresh(&self.0.path().join("a"))?;
        files.start().await
    }

    /// Makes a synchronous standby of it.
    pub async fn follow(&self, primary: Running) -> Result<Servers> {
        let files = primary.server.copy(&self.0.path().join("b"), true)?;
        Servers::with(primary, files).await
    }

    /// Makes a synchronous standby of a server that was promoted, where the old primary was.
    pub async fn rebuild(&self, promoted: Running, old: &Copy) -> Result<Servers> {
        let files = promoted.server.copy(&self.0.path().join("c"), true)?;
        Servers::with(promoted, files.in_place_of(old)).await
    }
}

/// A primary and the standby that follows it.
pub struct Servers {
    pub primary: Running,
    pub standby: Running,
}

impl Servers {
    async fn with(primary: Running, standby: Copy) -> Result<Self> {
        let standby = standby.start().await?;
        primary.server.wait_for_standby().await?;
        Ok(Self { primary, standby })
    }

    /// Kills the primary, and promotes the standby: the old one's files, the new one, and how long that took.
    pub async fn kill_primary(self) -> Result<(Copy, Running, Duration)> {
        let begun = Instant::now();
        let old = self.primary.kill().await?;
        self.standby.server.run(&["SELECT pg_promote()"])?;
        Ok((old, self.standby, begun.elapsed()))
    }

    /// Pauses the primary, whose connections stay open, and promotes the standby: both, and how long that took.
    pub fn pause_primary(mut self) -> Result<(Running, Running, Duration)> {
        let begun = Instant::now();
        self.primary.pause()?;
        self.standby.server.run(&["SELECT pg_promote()"])?;
        Ok((self.primary, self.standby, begun.elapsed()))
    }
}
