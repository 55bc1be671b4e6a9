//! What an operator must know of a PostgreSQL before and while a region rests on it. Nothing is changed there.
use super::connect::parse;
use crate::store::{Kind, StoreError};
use std::time::Duration;
use tokio_postgres::NoTls;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A server that does not answer by then is not there.
const TIMEOUT: Duration = Duration::from_secs(5);
const ASK: &str = "SELECT current_setting('server_version'), current_setting('fsync'), \
     current_setting('synchronous_commit'), pg_is_in_recovery(), \
     coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)";

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
}

/// Asks a server how it is set.
///
/// # Errors
/// [`Kind::Refused`] for a connection string that may not be used, [`Kind::Unavailable`] when the server does not
/// answer or does not let this role in.
pub async fn examine(url: &str, authority_pem: Option<&[u8]>) -> Result<Report, StoreError> {
    let (mut config, tls) = parse(url, authority_pem).map_err(|problem| StoreError {
        kind: Kind::Refused,
        op: "connection string",
        source: Some(Box::new(problem)),
    })?;
    config.connect_timeout(TIMEOUT);
    let failed = |error: tokio_postgres::Error| StoreError {
        kind: Kind::Unavailable,
        op: "connect",
        source: Some(Box::new(error)),
    };
    let asked = async {
        // What drives a connection ends with its client, which ends with this call.
        let client = match tls {
            None => {
                let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
                tokio::spawn(connection);
                client
            }
            Some(tls) => {
                let tls = MakeRustlsConnect::new(tls);
                let (client, connection) = config.connect(tls).await.map_err(failed)?;
                tokio::spawn(connection);
                client
            }
        };
        let row = client.query_one(ASK, &[]).await.map_err(failed)?;
        Ok(Report {
            version: row.get(0),
            fsync: row.get(1),
            synchronous_commit: row.get(2),
            is_standby: row.get(3),
            is_tls: row.get(4),
        })
    };
    match tokio::time::timeout(2 * TIMEOUT, asked).await {
        Ok(report) => report,
        Err(_) => Err(StoreError::new(Kind::Unavailable, "connect")),
    }
}
