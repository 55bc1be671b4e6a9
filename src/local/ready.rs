//! When a process that was started does its work: a node says so, devices listen.
use crate::{https::Https, up::process::log_end};
use anyhow::{Result, bail};
use std::{
    net::SocketAddr,
    path::Path,
    process::Child,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

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
    child: &mut Child,
    probe: &Probe,
    https: &Https,
    limit: Duration,
    log: &Path,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
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
