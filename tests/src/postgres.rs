//! Copies of the PostgreSQL server that the run has asked for: backups of it that are started, and standbys that follow
//! it, lose it and are promoted. Each is a server of its own on a free port of 127.0.0.1, by the same binaries.
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::{
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The connection string of the server. It lets whoever reaches it make schemas and base backups.
const VARIABLE: &str = "MEDMESH_TEST_POSTGRES_URL";
/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Runs a server until the standard input ends, so that it does not outlive this process.
const WHILE_WE_LIVE: &str = r#""$@" & server=$!; read -r _; kill -INT $server; wait $server"#;

/// A server that is spoken to, by its connection string.
#[derive(Clone, Debug)]
pub struct Server(String);

impl Server {
    /// The one of this run.
    ///
    /// # Errors
    /// None was asked for.
    pub fn asked_for() -> Result<Self> {
        Ok(Self(std::env::var(VARIABLE).context(VARIABLE)?))
    }

    /// The one of a connection string.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self(url.trim().to_owned())
    }

    /// Its connection string.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0
    }

    /// A program of the server's own version.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn binary(&self, name: &str) -> Result<PathBuf> {
        Ok(self.binaries()?.join(name))
    }

    /// Runs statements, each in a transaction of its own, and gives what the last one selects.
    ///
    /// # Errors
    /// What the server says.
    pub fn run(&self, statements: &[&str]) -> Result<String> {
        let mut psql = Command::new("psql");
        psql.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", &self.0]);
        for statement in statements {
            psql.args(["-c", statement]);
        }
        let out = psql.output()?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "{statements:?}: {said}");
        Ok(String::from_utf8(out.stdout)?.trim().to_owned())
    }

    /// Waits until a statement selects true.
    ///
    /// # Errors
    /// It does not within the patience of this file.
    pub async fn until(&self, statement: &str) -> Result<()> {
        let look = || async { (self.run(&[statement]).ok()? == "t").then_some(()) };
        wait::until(statement, PATIENCE, look).await
    }

    /// The connection string for work in a schema.
    #[must_use]
    pub fn in_schema(&self, schema: &str) -> String {
        let url = &self.0;
        if !url.contains("://") {
            return format!("{url} options='-csearch_path={schema}'");
        }
        let mark = if url.contains('?') { '&' } else { '?' };
        format!("{url}{mark}options=-csearch_path%3D{schema}")
    }

    fn binaries(&self) -> Result<PathBuf> {
        let version: u32 = self.run(&["SHOW server_version_num"])?.parse()?;
        let bin = PathBuf::from(format!("/usr/lib/postgresql/{}/bin", version / 10_000));
        // Not of Debian: on the path.
        Ok(if bin.exists() { bin } else { PathBuf::new() })
    }

    /// A copy of everything at this moment, which is not started; one that will follow this server if it `follows`.
    ///
    /// # Errors
    /// The server gives none.
    pub fn copy(&self, dir: &Path, follows: bool) -> Result<Copy> {
        let user = unprivileged()?;
        std::fs::create_dir_all(dir)?;
        if let Some((uid, gid)) = user {
            chown(dir, Some(uid), Some(gid))?;
        }
        let data = dir.join("data");
        let mut backup = as_user(&self.binaries()?.join("pg_basebackup"), user, dir);
        backup.args(["--checkpoint=fast", "--wal-method=stream", "--no-sync"]);
        backup.arg("-d").arg(&self.0).arg("-D").arg(&data);
        if follows {
            backup.arg("--write-recovery-conf");
        }
        let out = backup.output().context("pg_basebackup")?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "pg_basebackup: {said}");
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let old = self.run(&["SHOW port"])?;
        let url = self.0.replacen(&old, &port.to_string(), 1);
        ensure!(url != self.0, "the connection string names no port");
        Ok(Copy {
            dir: dir.into(),
            program: self.binaries()?.join("postgres"),
            user,
            port,
            connections: self.run(&["SHOW max_connections"])?,
            server: Self(url),
        })
    }
}

/// A copy of a server's files.
pub struct Copy {
    dir: PathBuf,
    program: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    /// A standby must let in as many as the server that it follows.
    connections: String,
    server: Server,
}

impl Copy {
    /// Starts a server on it.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn start(self) -> Result<Running> {
        let mut shell = as_user(Path::new("sh"), self.user, &self.dir);
        shell.args(["-c", WHILE_WE_LIVE, "sh"]).arg(&self.program);
        shell.arg("-D").arg(self.dir.join("data"));
        shell.arg("-p").arg(self.port.to_string());
        shell.args(["-c", "listen_addresses=127.0.0.1", "-c"]);
        shell
            .arg(format!("max_connections={}", self.connections))
            .arg("-c");
        shell.arg(format!("unix_socket_directories={}", self.dir.display()));
        let log = std::fs::File::create(self.dir.join("log"))?;
        shell
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let running = Running {
            shell: shell.spawn()?,
            server: self.server,
        };
        running.server.until("SELECT true").await?;
        Ok(running)
    }
}

/// A server that runs until this is dropped.
pub struct Running {
    shell: Child,
    /// How it is spoken to.
    pub server: Server,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ended = self.shell.wait();
    }
}

fn as_user(program: &Path, user: Option<(u32, u32)>, dir: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(dir);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// PostgreSQL refuses to run as root: the packages bring a user for it.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}

fn id(args: &[&str]) -> Result<u32> {
    let out = Command::new("id").args(args).output()?;
    Ok(String::from_utf8(out.stdout)?.trim().parse()?)
}
