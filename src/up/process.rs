//! Child processes of this binary: started, restarted when they die, and stopped with their parent.
//!
//! A child's standard input is a pipe whose other end is here; closing it is a soft stop, and the end of this process
//! closes it too. Children have process groups of their own, so that Ctrl-C reaches them through here only.
use anyhow::{Context, Result};
use node::shutdown::{GRACE, PARENT_VARIABLE};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// A child that lived shorter than this is started again after a pause that doubles.
const SHORT_LIFE: Duration = Duration::from_secs(2);
/// The first pause.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The end of a log that is shown when a child cannot start, in bytes.
const SHOWN_LOG_BYTES: usize = 2_000;

/// A process of the mesh.
#[derive(Clone, Debug)]
pub struct Process {
    /// What people call it: `edge us-f1`.
    pub name: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its log: standard output and standard error.
    pub log: PathBuf,
}

/// What happened to a process.
#[derive(Debug)]
pub enum Event {
    /// It runs.
    Started {
        /// Which process.
        index: usize,
        /// Its id.
        pid: u32,
    },
    /// It ended although nobody asked it to; it is started again.
    Ended {
        /// Which process.
        index: usize,
        /// How.
        status: ExitStatus,
    },
    /// It cannot be started.
    Failed {
        /// Which process.
        index: usize,
        /// Why.
        error: anyhow::Error,
    },
}

/// Keeps a process running until `stop`, then stops it: softly, and after [`GRACE`] hard.
pub async fn keep(
    index: usize,
    process: Process,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let mut pause = Duration::ZERO;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let mut child = match process.start() {
            Ok(child) => child,
            Err(error) => {
                let _nobody_listens = events.send(Event::Failed { index, error }).await;
                return;
            }
        };
        // Waiting for a child closes its standard input, unless that is held elsewhere.
        let leash = child.stdin.take();
        let pid = child.id().unwrap_or_default();
        let _nobody_listens = events.send(Event::Started { index, pid }).await;
        let status = tokio::select! {
            status = child.wait() => status,
            () = stop.cancelled() => {
                drop(leash);
                return end(child).await;
            }
        };
        let Ok(status) = status else { return };
        let _nobody_listens = events.send(Event::Ended { index, status }).await;
        pause = next_pause(pause, started.elapsed());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// How long to wait before the next start.
fn next_pause(last: Duration, lived: Duration) -> Duration {
    if lived >= SHORT_LIFE {
        Duration::ZERO
    } else {
        (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
    }
}

async fn end(mut child: Child) {
    if timeout(GRACE, child.wait()).await.is_err() {
        let _gone_already = child.kill().await;
    }
}

impl Process {
    fn start(&self) -> Result<Child> {
        let log = self.open_log()?;
        let program = std::env::current_exe().context("this program's own path")?;
        Command::new(program)
            .args(&self.args)
            .env(PARENT_VARIABLE, "stdin")
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.name))
    }

    fn open_log(&self) -> Result<File> {
        let at = || self.log.display().to_string();
        if let Some(dir) = self.log.parent() {
            fs::create_dir_all(dir).with_context(at)?;
        }
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(at)
    }
}

/// The last lines of a log.
pub fn log_end(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(SHOWN_LOG_BYTES);
    let text = String::from_utf8_lossy(&text[from..]).into_owned();
    match text.split_once('\n') {
        Some((_, whole)) if from > 0 => whole.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lived_is_started_at_once_and_one_that_did_not_ever_later() {
        assert_eq!(next_pause(LONGEST_PAUSE, SHORT_LIFE), Duration::ZERO);
        let mut pause = Duration::ZERO;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pause = next_pause(pause, Duration::ZERO);
            pauses.push(pause.as_millis());
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
    }
}
