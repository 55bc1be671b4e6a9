//! Databases of one server: each region has its own, so that several can share the server of a developer's machine.
use super::{
    connect::{self, Idle},
    connected, failed,
    timeline::Newest,
};
use crate::store::{Kind, StoreError};
use tokio_postgres::{Config, error::SqlState};

/// Makes a database unless it is there, and gives the connection string by which it is reached: the one that is given,
/// which names any database of the server in which its role may create others, with this name.
///
/// # Errors
/// [`Kind::Refused`] for a connection string that is refused ([`super::UrlProblem`]) or a name that is not made of small
/// letters, digits and `_`; otherwise by what the engine says.
pub async fn create_database(
    url: &str,
    authority_pem: Option<&[u8]>,
    name: &str,
) -> Result<String, StoreError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let refused = || StoreError::new(Kind::Refused, "create database");
    if name.is_empty() || !name.bytes().all(plain) {
        return Err(refused());
    }
    let own = with_database(url, name).ok_or_else(refused)?;
    let servers = connect::servers(url, authority_pem, (Idle::Alone, Newest::nowhere()))?;
    let pool = connect::pool(&servers, 1)?;
    let client = connected(&pool, "create database").await?;
    let exists = "SELECT 1 FROM pg_database WHERE datname = $1";
    let found = client.query_opt(exists, &[&name]).await;
    let found = found.map_err(|error| failed("create database", &error))?;
    if found.is_none() {
        let created = client
            .batch_execute(&format!("CREATE DATABASE \"{name}\""))
            .await;
        match created {
            // Another process was faster.
            Err(error) if error.code() == Some(&SqlState::DUPLICATE_DATABASE) => {}
            Err(error) => return Err(failed("create database", &error)),
            Ok(()) => {}
        }
    }
    Ok(own)
}

/// The connection string with another database: as a URL or as keys and values.
fn with_database(url: &str, name: &str) -> Option<String> {
    let url = url.trim();
    let own = match url.split_once("://") {
        None => format!("{url} dbname={name}"),
        Some((scheme, rest)) => {
            let (server, query) = match rest.split_once('?') {
                Some((server, query)) => (server, format!("?{query}")),
                None => (rest, String::new()),
            };
            let authority = server.split_once('/').map_or(server, |(first, _)| first);
            format!("{scheme}://{authority}/{name}{query}")
        }
    };
    let config: Config = connect::known_mode(&own).parse().ok()?;
    (config.get_dbname() == Some(name)).then_some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_is_led_to_another_database() {
        for (url, own) in [
            (
                "postgres://m@h:5/postgres",
                Some("postgres://m@h:5/mesh_us"),
            ),
            ("postgres://m:p@h", Some("postgres://m:p@h/mesh_us")),
            (
                "postgresql://m@h/x?sslmode=verify-full",
                Some("postgresql://m@h/mesh_us?sslmode=verify-full"),
            ),
            (
                "postgres://m@h:5,i:6/x?target_session_attrs=read-write",
                Some("postgres://m@h:5,i:6/mesh_us?target_session_attrs=read-write"),
            ),
            (" host=h user=m\n", Some("host=h user=m dbname=mesh_us")),
            ("host=h dbname=x", Some("host=h dbname=x dbname=mesh_us")),
            ("postgres://m@h/x?dbname=y", None),
            ("no string", None),
        ] {
            assert_eq!(with_database(url, "mesh_us").as_deref(), own, "{url}");
        }
    }
}
