//! When a process that was started or renewed does its work: a node says so, devices listen.
use super::process::{self, Process};
use crate::{https::Https, up::process::log_end};
use anyhow::{Result, bail};
use std::{
    net::SocketAddr,
    path::Path,
    process::Child,
    slice,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What is waited for.
pub enum Started {
    /// It was started now.
    New(Child),
    /// It ran already, and goes on as another program.
    Renewed(Process),
}

impl Started {
    /// Its process id.
    pub fn id(&self) -> u32 {
        match self {
            Self::New(child) => child.id(),
            Self::Renewed(process) => process.pid,
        }
    }

    fn ended(&mut self) -> Result<Option<String>> {
        Ok(match self {
            Self::New(child) => child.try_wait()?.map(|status| status.to_string()),
            Self::Renewed(process) => (!process.lives()).then(|| "as another program".to_owned()),
        })
    }

    /// Ends it.
    pub fn end(&mut self) {
        match self {
            Self::New(child) => {
                let _ended_already = child.kill();
                let _status = child.wait();
            }
            Self::Renewed(process) => process::stop(slice::from_ref(process)),
        }
    }
}

/// What is asked.
pub enum Probe {
    /// `GET /ready` of a node.
    Node(SocketAddr),
    /// Listeners of devices, every one of them.
    Devices(Vec<SocketAddr>),
}

impl Probe {
    async fn answers(&self, https: &Https) -> bool {
        match self {
            Self::Node(address) => {
                let answer = https.get(&format!("https://{address}/ready")).await;
                matches!(answer, Ok((200, _)))
            }
            Self::Devices(listeners) => {
                for listener in listeners {
                    if TcpStream::connect(listener).await.is_err() {
                        return false;
                    }
                }
                true
            }
        }
    }
}

/// Waits until a process answers.
///
/// # Errors
/// When it ends before, or takes longer than `limit`: the end of its log.
pub async fn wait(
    started: &mut Started,
    probe: &Probe,
    https: &Https,
    limit: Duration,
    log: &Path,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = started.ended()? {
            bail!("ended: {status}\n{}", log_end(log));
        }
        if probe.answers(https).await {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("not ready after {} s\n{}", limit.as_secs(), log_end(log));
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}
