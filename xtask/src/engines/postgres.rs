//! A PostgreSQL server of this run: a fresh cluster in a temporary directory, with fsync on.
use super::{
    Started, free_port,
    packages::{is_root, number},
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
    let binaries = binaries()?;
    let dir = temp_dir("postgres")?;
    let server = serve(&binaries, &dir);
    if server.is_err() {
        fs::remove_dir_all(&dir).ok();
    }
    server
}

fn serve(binaries: &Path, dir: &Path) -> Result<Started> {
    let user = unprivileged(dir)?;
    let data = dir.join("data");
    let run = |program: &str| {
        let mut command = Command::new(binaries.join(program));
        command.current_dir(dir).arg("-D").arg(&data);
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        command
    };
    silent(run("initdb").args([
        "--username=postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]))?;
    let port = free_port()?;
    let mut server = run("postgres");
    server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=on"]);
    server.args(["-c", "max_connections=200", "-c"]);
    server.arg(format!("unix_socket_directories={}", dir.display()));
    server.arg("-p").arg(port.to_string());
    let mut engine = Engine::start(&mut server, "INT", dir.to_path_buf())?;
    let ready = binaries.join("pg_isready");
    engine.wait(READY_WITHIN, || {
        TcpStream::connect(("127.0.0.1", port)).is_ok() && answers(&ready, port)
    })?;
    Ok(Started {
        name: "MEDMESH_TEST_POSTGRES_URL",
        value: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
        engine: Some(engine),
    })
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
