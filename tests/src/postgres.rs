//! PostgreSQL servers beside the one that the run has asked for: backups of it that are started, standbys that follow it, lose
//! it and are promoted, and a fresh one with a synchronous standby, which is killed. Each is a server of its own on a free
//! port of 127.0.0.1, by the same binaries.
use crate::wait;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
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

    /// A fresh server by the binaries of this one, with nothing in it, which is not started.
    ///
    /// # Errors
    /// `initdb` makes none.
    pub fn fresh(&self, dir: &Path) -> Result<Copy> {
        let user = owned(dir)?;
        let mut initdb = as_user(&self.binary("initdb")?, user, dir);
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        initdb.args(["--locale=C.UTF-8", "--no-sync", "-D"]);
        let out = initdb.arg(dir.join("data")).output().context("initdb")?;
        let said = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "initdb: {said}");
        let port = free_port()?;
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        Ok(Copy {
            dir: dir.into(),
            program: self.binary("postgres")?,
            user,
            port,
            connections: "200".into(),
            server: Self(url),
        })
    }

    /// Has commits wait for a standby, and waits until one is there.
    ///
    /// # Errors
    /// None follows in time.
    pub async fn wait_for_standby(&self) -> Result<()> {
        self.run(&[
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        ])?;
        let follows = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        self.until(follows).await
    }

    /// kill -9 of a process that works for a client, as a crash of the server; it recovers by itself.
    ///
    /// # Errors
    /// There is none.
    pub fn crash(&self) -> Result<()> {
        let of_a_client = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
             AND pid <> pg_backend_pid() LIMIT 1";
        signal("KILL", &self.run(&[of_a_client])?)
    }

    /// The connection string of a database of two servers, of which one is the primary.
    ///
    /// # Errors
    /// This one names no port.
    pub fn or(&self, standby: &Self) -> Result<Self> {
        let port = standby.run(&["SHOW port"])?;
        let (own, rest) = self.0.rsplit_once('/').context("no database")?;
        let mark = if rest.contains('?') { '&' } else { '?' };
        Ok(Self(format!(
            "{own},127.0.0.1:{port}/{rest}{mark}target_session_attrs=read-write"
        )))
    }

    /// The same database of another server.
    ///
    /// # Errors
    /// A connection string names no database.
    pub fn with_database_of(&self, other: &Self) -> Result<Self> {
        let (own, _) = self.0.rsplit_once('/').context("no database")?;
        let (_, database) = other.0.rsplit_once('/').context("no database")?;
        let database = database.split('?').next().unwrap_or_default();
        Ok(Self(format!("{own}/{database}")))
    }

    /// A copy of everything at this moment, which is not started; one that will follow this server if it `follows`.
    ///
    /// # Errors
    /// The server gives none.
    pub fn copy(&self, dir: &Path, follows: bool) -> Result<Copy> {
        let user = owned(dir)?;
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
        let port = free_port()?;
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

/// A server's files.
#[derive(Clone)]
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
    /// The same, to be reached where another one was.
    #[must_use]
    pub fn in_place_of(mut self, other: &Self) -> Self {
        self.port = other.port;
        self.server = other.server.clone();
        self
    }

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
        shell.args(["-c", "wal_retrieve_retry_interval=200ms"]);
        shell.args(["-c", "recovery_init_sync_method=syncfs"]);
        let log = fs::File::create(self.dir.join("log"))?;
        shell
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        let running = Running {
            shell: shell.spawn()?,
            server: self.server.clone(),
            files: self,
            is_paused: false,
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
    files: Copy,
    is_paused: bool,
}

impl Running {
    /// kill -9 of the whole server: its files, once no process of it is left.
    ///
    /// # Errors
    /// It does not run.
    pub async fn kill(mut self) -> Result<Copy> {
        let files = self.files.clone();
        let data = files.dir.join("data");
        ensure!(!processes_in(&data).is_empty(), "the server does not run");
        let look = || async {
            let left = processes_in(&data);
            for pid in &left {
                // It may be gone already.
                let _signalled = signal("KILL", pid);
            }
            left.is_empty().then_some(())
        };
        wait::until("the server is gone", PATIENCE, look).await?;
        self.is_paused = false;
        Ok(files)
    }

    /// Stops all processes of the server where they are; what is connected stays so.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<()> {
        self.is_paused = true;
        let all = processes_in(&self.files.dir.join("data"));
        ensure!(!all.is_empty(), "the server does not run");
        all.iter().try_for_each(|pid| signal("STOP", pid))
    }
}

/// The processes of a server, each of which has its data as its working directory.
fn processes_in(data: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let own =
        processes.filter(|it| fs::read_link(it.path().join("cwd")).is_ok_and(|at| at == data));
    let names = own.filter_map(|it| it.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

fn signal(name: &str, pid: &str) -> Result<()> {
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    ensure!(is_number, "no process: {pid:?}");
    let sent = Command::new("kill")
        .arg(format!("-{name}"))
        .arg(pid)
        .output()?;
    ensure!(sent.status.success(), "no process {pid}");
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Makes a folder for a server, and gives it to who the server runs as.
fn owned(dir: &Path) -> Result<Option<(u32, u32)>> {
    let user = unprivileged()?;
    fs::create_dir_all(dir)?;
    if let Some((uid, gid)) = user {
        chown(dir, Some(uid), Some(gid))?;
    }
    Ok(user)
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_paused {
            for pid in processes_in(&self.files.dir.join("data")) {
                let _sent = signal("KILL", &pid);
            }
        }
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
