//! A process under measurement: started, watched through `/proc`, ended by its id.
use anyhow::{Context, Result, ensure};
use medmesh_tests::wait;
use std::{
    fs::{self, File},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::net::TcpStream;

/// Longest wait for a server to listen.
const START: Duration = Duration::from_secs(20);
/// Kernel ticks of one second (`USER_HZ`; 100 on every Linux architecture that we build for).
const TICKS: f64 = 100.0;

/// A running process. Dropping it kills it.
pub struct Node {
    child: Child,
}

impl Node {
    /// Starts a command with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// Waits until it accepts connections; fails with its log when it ends before.
    pub async fn listening(&mut self, at: SocketAddr, log: &Path) -> Result<()> {
        let up = wait::until("the server listens", START, || {
            let ended = self.child.try_wait().ok().flatten();
            async move {
                let up = TcpStream::connect(at).await.is_ok();
                (up || ended.is_some()).then_some(ended)
            }
        })
        .await;
        let said = || fs::read_to_string(log).unwrap_or_default();
        let ended = up.with_context(said)?;
        ensure!(ended.is_none(), "ended at once: {}", said());
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}

/// Processor seconds (user and system) that a process has used so far.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field, the name, may hold anything; it ends at the last parenthesis.
    let (_, fields) = stat.rsplit_once(") ").context("/proc/PID/stat")?;
    let ticks = |index: usize| -> Result<f64> {
        let field = fields.split(' ').nth(index).context("/proc/PID/stat")?;
        Ok(field.parse()?)
    };
    // utime and stime are fields 14 and 15, counted from 1 with the name as the second (proc(5)).
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Resident memory of a process, in MiB.
pub fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line
        .and_then(|line| line.split_whitespace().next())
        .context("VmRSS")?
        .parse()?;
    Ok(kib / 1_024.0)
}
