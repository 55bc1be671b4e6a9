//! Other programs: run to the end with their output shown, or kept running and ended whatever happens.
use crate::place::Places;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{Read, Write},
    ops::AddAssign,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

/// A suite that says nothing for so long, once it has begun, hangs. The longest that one is silent, on a slow machine, is
/// a third of it; what the other tests found is worth more than the wait.
const SILENCE: Duration = Duration::from_secs(15 * 60);

/// How many tests passed, failed and were ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Passed.
    pub passed: u64,
    /// Failed.
    pub failed: u64,
    /// Ignored: an engine that nobody asked for.
    pub ignored: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
    }
}

/// Whether cargo has set that variable for this program: build scripts that look at it would run again whenever cargo is
/// called by hand and by this program in turn, and with them most of the build.
fn is_of_this_program(variable: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"]
        .iter()
        .any(|prefix| variable.starts_with(prefix))
}

/// A command of cargo over this clone's build.
pub fn cargo(places: &Places, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(arguments)
        .current_dir(&places.root)
        .env("CARGO_TARGET_DIR", &places.target);
    for (variable, _) in std::env::vars_os() {
        if variable.to_str().is_some_and(is_of_this_program) {
            command.env_remove(variable);
        }
    }
    if let Some(data) = &places.data {
        command.env("MEDMESH_DATA", data);
    }
    command
}

/// Runs a command with its output shown; whether it ended well, and the tests that its output counted. One that has said
/// something, and then nothing for [`SILENCE`], is ended with all that it started, and has not ended well.
pub fn shown(command: &mut Command) -> Result<(bool, Counts)> {
    shown_to(&mut std::io::stdout(), command)
}

/// The same, with its output to somewhere else.
pub fn shown_to(screen: &mut impl Write, command: &mut Command) -> Result<(bool, Counts)> {
    shown_on(screen, command, SILENCE)
}

fn shown_on(
    screen: &mut impl Write,
    command: &mut Command,
    silence: Duration,
) -> Result<(bool, Counts)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", name(command)))?;
    let mut output = child.stdout.take().context("the output is piped")?;
    let (said, says) = mpsc::channel();
    let reading = thread::spawn(move || {
        let mut buffer = [0; 8 << 10];
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            if said.send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
    let (mut counts, mut line) = (Counts::default(), Vec::new());
    // While it builds, for as long as that takes, nothing comes.
    let mut patience = Duration::MAX;
    loop {
        let bytes = match says.recv_timeout(patience) {
            Ok(bytes) => bytes,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("\nnothing was said for {silence:?}: ended");
                end_all(child.id())?;
                break;
            }
        };
        patience = silence;
        screen.write_all(&bytes)?;
        screen.flush()?;
        line.extend(bytes);
        while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
            counts += counted(&String::from_utf8_lossy(&line[..end]));
            line.drain(..=end);
        }
    }
    let ended = child.wait()?;
    // What was started and outlived it may hold the output open: it is not waited for.
    drop((says, reading));
    Ok((ended.success(), counts))
}

/// Ends a process and all that it has started, parents first.
fn end_all(pid: u32) -> Result<()> {
    let mut all = vec![pid.to_string()];
    let mut next = 0;
    while let Some(parent) = all.get(next).cloned() {
        let output = Command::new("pgrep").args(["-P", &parent]).output()?;
        let children = String::from_utf8(output.stdout)?;
        all.extend(children.lines().map(str::to_owned));
        next += 1;
    }
    Command::new("kill").arg("-KILL").args(&all).status()?;
    Ok(())
}

/// Runs a command with its output shown on the error stream, and fails when it does.
pub fn step(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .with_context(|| format!("start {}", name(command)))?;
    ensure!(status.success(), "{} ended with {status}", name(command));
    Ok(())
}

/// Runs a command without its output, which only its failure shows.
pub fn silent(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", name(command)))?;
    ensure!(
        output.status.success(),
        "{} ended with {}: {}",
        name(command),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The counts of a `test result:` line; all zero for any other line.
fn counted(line: &str) -> Counts {
    let Some((_, result)) = line.split_once("test result: ") else {
        return Counts::default();
    };
    let of = |word: &str| {
        result
            .split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
            .unwrap_or(0)
    };
    Counts {
        passed: of("passed"),
        failed: of("failed"),
        ignored: of("ignored"),
    }
}

/// An engine that runs until this value is dropped or this process is gone, even by SIGKILL: a watchdog, held by a
/// pipe, then ends it by its process id and removes its directory.
pub struct Engine {
    child: Child,
    watchdog: Child,
    dir: PathBuf,
}

/// Ends process $1 with signal $2, it and its group by force after 20 s, and removes directory $3, as soon as its input ends.
const WATCHDOG: &str = r#"
cat >/dev/null
kill -s "$2" "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 200 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -s KILL -- "-$1" 2>/dev/null
rm -rf "$3"
"#;

impl Engine {
    /// Starts an engine in a process group of its own, so that Ctrl-C reaches it through the watchdog alone.
    /// Its output goes to `dir/log`; `signal` is what it takes for an orderly end.
    pub fn start(command: &mut Command, signal: &str, dir: PathBuf) -> Result<Self> {
        let log = fs::File::create(dir.join("log"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", name(command)))?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &child.id().to_string(), signal])
            .arg(&dir)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self {
                child,
                watchdog,
                dir,
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error).context("start sh")
            }
        }
    }

    /// Waits until `ready` holds; fails when the engine ends before, or takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !ready() {
            self.runs()?;
            if Instant::now() > deadline {
                bail!("not ready after {limit:?}; it said:\n{}", self.last_words());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Fails when the engine has ended.
    pub fn runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("ended with {status}; it said:\n{}", self.last_words()),
            None => Ok(()),
        }
    }

    fn last_words(&self) -> String {
        const LINES: usize = 30;
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            // It ended by itself, so its process id may be another's by now: the watchdog must not act on it.
            self.watchdog.kill().ok();
            fs::remove_dir_all(&self.dir).ok();
        }
        drop(self.watchdog.stdin.take());
        self.child.wait().ok();
        self.watchdog.wait().ok();
    }
}

/// A new directory in the system's folder for temporary files.
pub fn temp_dir(purpose: &str) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("medmesh-{purpose}-{}", std::process::id()));
    fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

/// Whether a program of that name can be started.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| is_file(file))
}

/// The triple of this machine, as cargo names it.
pub fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output()?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(300);

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_started_and_what_it_said_counts() {
        let said = "echo 'test result: FAILED. 2 passed; 1 failed; 0 ignored'; printf 'test it_hangs ... '";
        let script = format!("{said}; sleep 1000 & wait");
        let mut command = Command::new("sh");
        let (ok, counts) = shown_on(&mut Vec::new(), command.args(["-c", &script]), LOOK).unwrap();
        assert!(!ok);
        assert_eq!((counts.passed, counts.failed), (2, 1));
    }

    #[test]
    fn the_counts_of_a_result_line_are_read_and_of_no_other() {
        let counts = |passed, failed, ignored| Counts {
            passed,
            failed,
            ignored,
        };
        for (line, expected) in [
            (
                "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.01s",
                counts(12, 0, 3),
            ),
            (
                "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
                counts(1, 2, 0),
            ),
            ("running 12 tests", counts(0, 0, 0)),
            ("test a_result ... ok", counts(0, 0, 0)),
        ] {
            assert_eq!(counted(line), expected, "{line}");
        }
    }

    #[test]
    fn an_engine_ends_and_its_directory_goes_when_it_is_dropped() {
        let dir = temp_dir("run-test").unwrap();
        let engine = Engine::start(Command::new("sleep").arg("600"), "TERM", dir.clone()).unwrap();
        let pid = engine.child.id();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(engine);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!dir.exists());
    }
}
