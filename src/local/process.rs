//! Processes that are not this one's children: found by id and configuration, and stopped together.
use anyhow::{Context, Result};
use node::{renewal::COUNT_VARIABLE, shutdown::GRACE};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// From the soft stop to the hard one: a process ends itself before.
const HARD_AFTER: Duration = GRACE.saturating_add(Duration::from_secs(4));
/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// A process that was killed is gone within this time, unless the disk holds it.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// What a process is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The configuration that its command line names.
    pub config: PathBuf,
}

impl Process {
    /// Whether it lives. One that has ended and was not waited for has no command line any more.
    pub fn lives(&self) -> bool {
        command_line(self.pid).is_some_and(|line| configured(&line) == Some(&self.config))
    }

    /// The program by which it was started, as its command line names it.
    pub fn program(&self) -> Option<PathBuf> {
        command_line(self.pid)?.into_iter().next()
    }

    /// How often it went on as another program (see [`node::renewal`]).
    pub fn renewals(&self) -> u64 {
        let environment = fs::read(format!("/proc/{}/environ", self.pid)).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok()?.split_once('='))
            .find(|(name, _)| *name == COUNT_VARIABLE)
            .and_then(|(_, count)| count.parse().ok())
            .unwrap_or(0)
    }

    /// Lets it go on as the program that lies where it was started from now. Whether it did: what takes longer than
    /// [`HARD_AFTER`], or ends instead, did not.
    pub fn renew(&self) -> bool {
        let before = self.renewals();
        let deadline = Instant::now() + HARD_AFTER;
        self.send(Signal::USR2);
        while !is_gone(self.pid) && Instant::now() < deadline {
            if self.lives() && self.renewals() != before {
                return true;
            }
            thread::sleep(LOOK_EVERY);
        }
        false
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid.filter(|_| self.lives()) {
            let _gone_already = kill_process(pid, signal);
        }
    }
}

/// Stops processes: softly, and those that are still there after [`HARD_AFTER`] hard.
pub fn stop(processes: &[Process]) {
    let all = |signal| processes.iter().for_each(|process| process.send(signal));
    all(Signal::TERM);
    if !ended(processes, HARD_AFTER) {
        all(Signal::KILL);
        ended(processes, GONE_AFTER);
    }
}

fn ended(processes: &[Process], limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while processes.iter().any(Process::lives) {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK_EVERY);
    }
    true
}

/// Every process whose configuration lies below a folder.
pub fn below(dir: &Path) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let pid = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some((pid, line)) = pid.and_then(|pid| Some((pid, command_line(pid)?))) else {
            continue;
        };
        if let Some(config) = configured(&line).filter(|config| config.starts_with(dir)) {
            let config = config.to_path_buf();
            found.push(Process { pid, config });
        }
    }
    Ok(found)
}

/// Whether no program runs in a process any more. While it becomes another one it has no command line, and is there.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): the state follows the name, which is in parentheses and may hold any character.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_none_or(|state| matches!(state, 'Z' | 'X'))
}

fn command_line(pid: u32) -> Option<Vec<PathBuf>> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let word = |word: &[u8]| PathBuf::from(OsStr::from_bytes(word));
    Some(line.split(|byte| *byte == 0).map(word).collect())
}

fn configured(line: &[PathBuf]) -> Option<&PathBuf> {
    let at = line.iter().position(|word| word == Path::new("--config"))?;
    line.get(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// Waits for a line that never comes. It starts nothing: a child of its own would bear its command line for a moment.
    fn child(config: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "read line", "sh", "--config"]);
        command.arg(config).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_is_found_by_its_configuration_and_not_by_its_id_alone() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edge.toml");
        let mut child = child(&config);
        let process = |config: PathBuf| Process {
            pid: child.id(),
            config,
        };
        let own = process(config);
        // Until it has become `sh` it is still a copy of this process.
        while !own.lives() {
            thread::sleep(LOOK_EVERY);
        }
        assert!(!process(dir.path().join("another.toml")).lives());
        assert_eq!(below(dir.path()).unwrap(), std::slice::from_ref(&own));
        own.send(Signal::KILL);
        // It is not waited for yet: an ended process keeps its id until then.
        assert!(ended(std::slice::from_ref(&own), GONE_AFTER));
        assert!(below(dir.path()).unwrap().is_empty());
        assert!(is_gone(child.id()) && !is_gone(std::process::id()));
        child.wait().unwrap();
        assert!(is_gone(child.id()));
    }
}
