//! PostgreSQL servers of this run: a fresh cluster in a temporary directory, with fsync on and TLS for who asks for it;
//! and one without either, which the product is to refuse.
use super::{
    Started, certificates, free_port,
    user::{is_root, number},
};
use crate::run::{Engine, on_path, silent, temp_dir};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    net::TcpStream,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Recovery of a fresh cluster takes a second; a busy machine is given time.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// The folder of `initdb` and `postgres`, which distributions keep off the path: the newest version's.
pub fn binaries() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists());
    let by_number = |bin: &PathBuf| {
        let version = bin.parent().and_then(Path::file_name);
        version.and_then(|name| name.to_str()?.parse::<u32>().ok())
    };
    versions
        .max_by_key(by_number)
        .or_else(|| on_path("initdb").and_then(|initdb| Some(initdb.parent()?.to_path_buf())))
        .context("initdb was not found")
}

/// Starts a server that trusts whoever reaches 127.0.0.1.
pub fn start() -> Result<Started> {
    start_in("postgres", serve)
}

/// Starts one that does not wait for its disk and speaks no TLS.
pub fn start_unsafe() -> Result<Started> {
    start_in("postgres-unsafe", serve_unsafe)
}

fn start_in(name: &str, serve: impl Fn(&Cluster) -> Result<Started>) -> Result<Started> {
    let binaries = binaries()?;
    let dir = temp_dir(name)?;
    let server = Cluster::make(binaries, &dir).and_then(|cluster| serve(&cluster));
    if server.is_err() {
        fs::remove_dir_all(&dir).ok();
    }
    server
}

fn serve(cluster: &Cluster) -> Result<Started> {
    let made = certificates::make(&cluster.dir, |program| cluster.run(program))?;
    let file = |name: &str, path: &Path| format!("{name}={}", path.display());
    let (cert, key) = (
        file("ssl_cert_file", &made.server),
        file("ssl_key_file", &made.key),
    );
    let (port, engine) = cluster.start(&["fsync=on", "ssl=on", &cert, &key])?;
    let authority = made.authority.to_string_lossy().into_owned();
    Ok(Started {
        variables: vec![
            ("MEDMESH_TEST_POSTGRES_URL", url(port)),
            ("MEDMESH_TEST_POSTGRES_CA", authority),
        ],
        engine: Some(engine),
    })
}

fn serve_unsafe(cluster: &Cluster) -> Result<Started> {
    let (port, engine) = cluster.start(&["fsync=off"])?;
    Ok(Started {
        variables: vec![("MEDMESH_TEST_POSTGRES_UNSAFE_URL", url(port))],
        engine: Some(engine),
    })
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres")
}

/// A fresh cluster, and who it belongs to.
struct Cluster {
    binaries: PathBuf,
    dir: PathBuf,
    user: Option<(u32, u32)>,
}

impl Cluster {
    fn make(binaries: PathBuf, dir: &Path) -> Result<Self> {
        let cluster = Self {
            user: unprivileged(dir)?,
            binaries,
            dir: dir.to_path_buf(),
        };
        silent(cluster.on_data("initdb").args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]))?;
        Ok(cluster)
    }

    /// A program as the user whose cluster it is.
    fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.dir);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A program of PostgreSQL on its data.
    fn on_data(&self, program: &str) -> Command {
        let mut command = self.run(&self.binaries.join(program));
        command.arg("-D").arg(self.dir.join("data"));
        command
    }

    /// The server with these settings besides, and its port.
    fn start(&self, settings: &[&str]) -> Result<(u16, Engine)> {
        let port = free_port()?;
        let socket = format!("unix_socket_directories={}", self.dir.display());
        let common = ["listen_addresses=127.0.0.1", "max_connections=200", &socket];
        let mut server = self.on_data("postgres");
        for setting in common.iter().chain(settings) {
            server.args(["-c", setting]);
        }
        server.arg("-p").arg(port.to_string());
        let mut engine = Engine::start(&mut server, "INT", self.dir.clone())?;
        let ready = self.binaries.join("pg_isready");
        engine.wait(READY_WITHIN, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok() && answers(&ready, port)
        })?;
        Ok((port, engine))
    }
}

fn answers(pg_isready: &Path, port: u16) -> bool {
    Command::new(pg_isready)
        .args(["--quiet", "--host=127.0.0.1", "--port"])
        .arg(port.to_string())
        .status()
        .is_ok_and(|status| status.success())
}

/// PostgreSQL refuses to run as root: the packages bring a user for it, who then owns the directory.
fn unprivileged(dir: &Path) -> Result<Option<(u32, u32)>> {
    if !is_root() {
        return Ok(None);
    }
    let (uid, gid) = (number(&["-u", "postgres"])?, number(&["-g", "postgres"])?);
    ensure!(uid != 0, "the user postgres is root");
    chown(dir, Some(uid), Some(gid)).context("give the directory to postgres")?;
    Ok(Some((uid, gid)))
}
