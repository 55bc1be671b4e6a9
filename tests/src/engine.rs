//! The engines that `cargo xtask test` started for this run, and how they are killed.
//!
//! A server process of PostgreSQL that dies makes its postmaster end all others and recover from the log, as after a
//! crash of the machine but for the disk's cache. Cassandra is one process, which `cargo xtask test` starts again.
use crate::mesh::Mesh;
use anyhow::{Context, Result};
use std::{env, fs, process::Command};

const POSTGRES: &str = "MEDMESH_TEST_POSTGRES_URL";
const CASSANDRA: &str = "MEDMESH_TEST_CASSANDRA";

/// The connection string of the PostgreSQL of this run.
///
/// # Errors
/// There is none.
pub fn postgres() -> Result<String> {
    env::var(POSTGRES).context(POSTGRES)
}

/// `host:port` of the Apache Cassandra of this run.
///
/// # Errors
/// There is none.
pub fn cassandra() -> Result<String> {
    env::var(CASSANDRA).context(CASSANDRA)
}

/// kill -9 of a server process that works for the region `us` of a mesh; whether there was one.
#[must_use]
pub fn kill_postgres(mesh: &Mesh) -> bool {
    let url = fs::read_to_string(mesh.dir.join("regional/us/postgres.url"));
    let url = url.unwrap_or_default();
    let Some((_, database)) = url.trim().rsplit_once('/') else {
        return false;
    };
    // Its title is `postgres: ROLE DATABASE ADDRESS STATE`.
    kill(|command| command.starts_with("postgres: ") && command.contains(database))
}

/// kill -9 of the Apache Cassandra of this run; whether it ran.
#[must_use]
pub fn kill_cassandra(_mesh: &Mesh) -> bool {
    let node = cassandra().unwrap_or_default();
    let Some((_, port)) = node.rsplit_once(':') else {
        return false;
    };
    let own = format!("native_transport_port: {port}\n");
    kill(|command| {
        let config = command.split_once("-Dcassandra.config=file://");
        let config = config.and_then(|(_, rest)| rest.split_whitespace().next());
        let is_java = command
            .split_whitespace()
            .next()
            .is_some_and(|it| it.ends_with("java"));
        is_java
            && config
                .is_some_and(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&own)))
    })
}

/// Kills the first process whose command line is as wanted.
fn kill(wanted: impl Fn(&str) -> bool) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.map(|entry| entry.path()).find(|path| {
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        wanted(&command)
    });
    let pid = found.as_deref().and_then(|path| path.file_name()?.to_str());
    let Some(pid) = pid.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())) else {
        return false;
    };
    let killed = Command::new("kill").args(["-KILL", pid]).status();
    killed.is_ok_and(|status| status.success())
}
