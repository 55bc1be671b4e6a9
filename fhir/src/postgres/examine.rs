//! What an operator must know of a PostgreSQL before and while a region rests on it. Nothing is changed there.
use super::{
    connect::{self, Idle},
    timeline::Newest,
};
use crate::store::{Kind, StoreError};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Client, Error};

/// A server that does not answer by then is not there.
const TIMEOUT: Duration = Duration::from_secs(10);
const ASK: &str = "SELECT current_setting('server_version'), current_setting('fsync'), \
     current_setting('synchronous_commit'), pg_is_in_recovery(), \
     coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";
/// What only somebody who may read all statistics sees of a standby is null to others.
const REPLICATION: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 0 \
     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END, \
     (SELECT system_identifier FROM pg_control_system()), current_setting('synchronous_standby_names') <> '', \
     (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL OR sync_state IN ('sync', 'quorum'))";

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its version.
    pub version: String,
    /// `fsync`: without it a crash of its machine loses what was answered.
    pub fsync: String,
    /// `synchronous_commit` of this role and database; the store asks for `on` all the same.
    pub synchronous_commit: String,
    /// Whether it is a standby, which takes no writes.
    pub is_standby: bool,
    /// Whether this connection was encrypted.
    pub is_tls: bool,
    /// How it is copied; asked of one of several servers alone, since some services do not say it.
    pub replication: Option<Replication>,
}

/// How a server is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replication {
    /// Begins with 1, and anew with each promotion; 0 of a standby.
    pub timeline: i32,
    /// The same for a server and its copies.
    pub system: i64,
    /// Whether a commit is answered only once a standby has it (`synchronous_standby_names`).
    pub is_synchronous: bool,
    /// Standbys that a commit may wait for and that follow now.
    pub standbys: i64,
}

/// One of the servers that a connection string names.
#[derive(Debug)]
pub struct Examined {
    /// Host and port.
    pub server: String,
    /// What it says; [`Kind::Unavailable`] when it does not answer or does not let this role in.
    pub answer: Result<Report, StoreError>,
}

/// Asks each server how it is set.
///
/// # Errors
/// [`Kind::Refused`] for a connection string that may not be used.
pub async fn examine(url: &str, authority_pem: Option<&[u8]>) -> Result<Vec<Examined>, StoreError> {
    let servers = connect::servers(url, authority_pem, (Idle::Alone, Newest::nowhere()))?;
    let names: Vec<_> = servers.names().map(str::to_owned).collect();
    let is_one = names.len() == 1;
    let servers = &servers;
    let all = names
        .into_iter()
        .enumerate()
        .map(|(at, server)| async move {
            let asked = async {
                let (client, _) = servers.dial(at).await?;
                report(&client, is_one).await
            };
            let answer = match timeout(TIMEOUT, asked).await {
                Ok(report) => report.map_err(failed),
                Err(_) => Err(StoreError::new(Kind::Unavailable, "connect")),
            };
            Examined { server, answer }
        });
    Ok(join_all(all).await)
}

async fn report(client: &Client, is_one: bool) -> Result<Report, Error> {
    let row = client.query_one(ASK, &[]).await?;
    let replication = match is_one {
        true => None,
        false => {
            let row = client.query_one(REPLICATION, &[]).await?;
            Some(Replication {
                timeline: row.get(0),
                system: row.get(1),
                is_synchronous: row.get(2),
                standbys: row.get(3),
            })
        }
    };
    Ok(Report {
        version: row.get(0),
        fsync: row.get(1),
        synchronous_commit: row.get(2),
        is_standby: row.get(3),
        is_tls: row.get(4),
        replication,
    })
}

fn failed(error: Error) -> StoreError {
    StoreError {
        kind: Kind::Unavailable,
        op: "connect",
        source: Some(Box::new(error)),
    }
}
