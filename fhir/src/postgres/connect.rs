//! How the engine is reached: what a connection string must say, TLS, and the settings without which an answer of the
//! engine would promise what it does not keep.
use super::{
    servers::{Reach, Servers},
    timeline::Newest,
};
use crate::store::{Kind, StoreError};
use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime, Timeouts,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::time::timeout;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

/// Connections at once, of whoever reads or delivers.
pub(super) const CONNECTIONS: usize = 8;
/// How long to wait for a connection, new or free.
const WAIT: Duration = Duration::from_secs(5);
/// Longest time without an answer of the server's machine before the connection is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// An idle connection is asked whether its peer is alive after this long.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// And again after so long, when one that says nothing has ended by [`SILENCE`]; Linux would wait 75 s for that.
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(5);
/// What the server ends by itself, so that a client that is gone holds no lock: a statement and the wait for a lock, each
/// below the 30 s after which a facility sends a parcel again; and an idle transaction ([`Idle`]).
const SERVER_LIMITS: &str = "-c statement_timeout=20s -c lock_timeout=10s";
/// A commit is answered once it is flushed to this server's disk, whatever the role, the database or the connection
/// string ask for; `remote_apply` waits for a standby besides.
const DURABLE: &str = "SELECT set_config('synchronous_commit', \
     CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
     current_setting('fsync')";
/// Whether it is so now.
const IS_DURABLE: &str = "SELECT current_setting('synchronous_commit') IN ('on', 'remote_apply')";

/// Why a connection string is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// It cannot be read.
    #[error("is not a connection string of PostgreSQL with a host")]
    Unreadable,
    /// Patients' data would cross a network in clear.
    #[error(
        "reaches another machine without TLS: write sslmode=verify-full, or use a socket or 127.0.0.1"
    )]
    PlainTcp,
    /// Nothing says whose certificate to believe.
    #[error("asks for TLS: name the authority of the server's certificate in store.ca")]
    NoAuthority,
    /// The authority's file holds no certificate.
    #[error("the authority's file does not hold PEM certificates")]
    Authority,
}

/// Reads a connection string. A server on another machine is reached by TLS alone, with a certificate for its name by a
/// known authority.
///
/// # Errors
/// [`UrlProblem`], which does not quote the string: it may hold a password.
pub fn check_url(url: &str, authority_pem: Option<&[u8]>) -> Result<(), UrlProblem> {
    parse(url, authority_pem).map(drop)
}

/// How many servers a connection string names; none where it cannot be read.
#[must_use]
pub fn count_servers(url: &str) -> usize {
    let config = known_mode(url).parse::<Config>();
    let count = |config: Config| config.get_hosts().len().max(config.get_hostaddrs().len());
    config.map_or(0, count)
}

/// As [`check_url`], and what it says.
pub(super) fn parse(
    url: &str,
    authority_pem: Option<&[u8]>,
) -> Result<(Config, Option<ClientConfig>), UrlProblem> {
    let config: Config = known_mode(url)
        .parse()
        .map_err(|_| UrlProblem::Unreadable)?;
    let (hosts, addresses) = (config.get_hosts().len(), config.get_hostaddrs().len());
    let (servers, ports) = (hosts.max(addresses), config.get_ports().len());
    let is_each = |count: usize| count == 0 || count == servers;
    if servers == 0 || !is_each(hosts) || !is_each(addresses) || !(ports == 1 || is_each(ports)) {
        return Err(UrlProblem::Unreadable);
    }
    let asks_for_tls = config.get_ssl_mode() == SslMode::Require;
    if !is_local(&config) && !asks_for_tls {
        return Err(UrlProblem::PlainTcp);
    }
    let tls = match (asks_for_tls, authority_pem) {
        (false, _) => None,
        (true, None) => return Err(UrlProblem::NoAuthority),
        (true, Some(pem)) => Some(client(pem)?),
    };
    Ok((config, tls))
}

/// With the word that the driver knows for `sslmode=verify-full`: whoever asks for TLS gets what libpq calls by that name,
/// a certificate by a known authority for the host's name. What asks for less, `verify-ca`, the driver does not know.
pub(super) fn known_mode(url: &str) -> String {
    url.trim().replace("sslmode=verify-full", "sslmode=require")
}

/// Whether every host is this machine. A host's address, where it is given, is what is dialled.
fn is_local(config: &Config) -> bool {
    let addresses = config.get_hostaddrs();
    let hosts = config.get_hosts().iter().enumerate();
    let named = hosts.filter(|(at, _)| addresses.get(*at).is_none());
    addresses.iter().all(IpAddr::is_loopback)
        && named.map(|(_, host)| host).all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                let address = name.parse::<IpAddr>();
                name == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
        })
}

fn client(authority_pem: &[u8]) -> Result<ClientConfig, UrlProblem> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority_pem) {
        let certificate = certificate.map_err(|_| UrlProblem::Authority)?;
        roots.add(certificate).map_err(|_| UrlProblem::Authority)?;
    }
    if roots.is_empty() {
        return Err(UrlProblem::Authority);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|_| UrlProblem::Authority)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// How long a transaction may wait for its client, which holds its locks meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// Of a server with one node: nobody waits for one that is paused.
    Alone,
    /// Of one of two nodes: what clients write at the other one waits no longer for a node that is paused.
    OneOfTwo,
}

impl Idle {
    const fn option(self) -> &'static str {
        match self {
            Self::Alone => "-c idle_in_transaction_session_timeout=5s",
            Self::OneOfTwo => "-c idle_in_transaction_session_timeout=500ms",
        }
    }
}

/// The servers of a connection string, with the settings of connections to them.
pub(super) fn servers(
    url: &str,
    authority_pem: Option<&[u8]>,
    (idle, newest): (Idle, Arc<Newest>),
) -> Result<Arc<Servers>, StoreError> {
    let (config, tls) = parse(url, authority_pem).map_err(|problem| StoreError {
        kind: Kind::Refused,
        op: "open: connection string",
        source: Some(Box::new(problem)),
    })?;
    // What the operator asks for comes last, so it holds; but for the durability of commits.
    let asked = config.get_options().unwrap_or("");
    let options = format!("{SERVER_LIMITS} {} {asked}", idle.option());
    let servers = Servers::of(&config, tls, newest, |config| {
        config
            .options(&options)
            .connect_timeout(WAIT)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE_AGAIN)
            .tcp_user_timeout(SILENCE);
    });
    servers.watch();
    Ok(servers)
}

/// A pool of so many connections, each of which was asked whether its commits are durable.
pub(super) fn pool(servers: &Arc<Servers>, connections: usize) -> Result<Pool, StoreError> {
    let how = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let reach = Reach(Arc::clone(servers));
    Pool::builder(Manager::from_connect(Config::new(), reach, how))
        .max_size(connections)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts {
            wait: Some(WAIT),
            create: Some(WAIT),
            recycle: None,
        })
        .post_create(Hook::async_fn(|client, _| {
            Box::pin(async move {
                let asked = timeout(WAIT, durable(client)).await;
                asked.unwrap_or(Err(HookError::message(NOT_ANSWERED)))
            })
        }))
        .build()
        .map_err(|_| StoreError::new(Kind::Internal, "open"))
}

/// Refuses a connection whose commits may be lost by a crash of the server or of its machine.
async fn durable(client: &deadpool_postgres::ClientWrapper) -> Result<(), HookError> {
    let settings = client
        .query_one(DURABLE, &[])
        .await
        .map_err(HookError::Backend)?;
    if settings.get::<_, &str>(1) != "on" {
        return Err(HookError::message(NOT_DURABLE));
    }
    let kept = client.query_one(IS_DURABLE, &[]).await;
    match kept.map_err(HookError::Backend)?.get(0) {
        true => Ok(()),
        false => Err(HookError::message(NOT_DURABLE)),
    }
}

/// What a connection is given up for whose server does not answer any more.
const NOT_ANSWERED: &str = "the server does not answer";
/// What a refused connection is refused for.
pub(super) const NOT_DURABLE: &str =
    "fsync is off, or synchronous_commit cannot be on: what is stored could be lost";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str) -> Result<(), UrlProblem> {
        check_url(url, None)
    }

    #[test]
    fn another_machine_is_reached_by_tls_alone_and_this_one_as_one_likes() {
        use UrlProblem::{NoAuthority, PlainTcp, Unreadable};
        for (url, expected) in [
            ("host=/run/postgresql dbname=medmesh user=medmesh", Ok(())),
            ("host=127.0.0.1 user=m", Ok(())),
            ("host=localhost user=m", Ok(())),
            ("postgres://m@[::1]:5432/medmesh", Ok(())),
            ("postgres://m@127.0.0.2/medmesh?sslmode=disable", Ok(())),
            ("postgres://m:secret@db.example/medmesh", Err(PlainTcp)),
            ("host=10.0.0.5 user=m", Err(PlainTcp)),
            ("host=db user=m sslmode=prefer", Err(PlainTcp)),
            ("host=db user=m sslmode=disable", Err(PlainTcp)),
            ("host=localhost,db user=m", Err(PlainTcp)),
            ("host=localhost,127.0.0.1 user=m", Ok(())),
            ("postgres://m@[::1]:1,localhost:2/x", Ok(())),
            ("host=localhost,[::1] port=1,2,3 user=m", Err(Unreadable)),
            ("host=a,b hostaddr=127.0.0.1 user=m", Err(Unreadable)),
            ("host=/run/postgresql,db user=m", Err(PlainTcp)),
            ("host=localhost hostaddr=10.0.0.5 user=m", Err(PlainTcp)),
            ("host=db hostaddr=127.0.0.1 user=m", Ok(())),
            ("hostaddr=10.0.0.5 user=m", Err(PlainTcp)),
            ("host=localhost.evil.example user=m", Err(PlainTcp)),
            ("host=db user=m sslmode=require", Err(NoAuthority)),
            ("host=db user=m sslmode=verify-full", Err(NoAuthority)),
            ("postgres://m@db/x?sslmode=verify-full", Err(NoAuthority)),
            ("host=db user=m sslmode=verify-ca", Err(Unreadable)),
            ("host=127.0.0.1 user=m sslmode=require", Err(NoAuthority)),
            ("user=m", Err(Unreadable)),
            ("host=db sslmode=maybe", Err(Unreadable)),
            ("not a string", Err(Unreadable)),
            ("", Err(Unreadable)),
        ] {
            assert_eq!(check(url), expected, "{url}");
        }
    }

    #[test]
    fn an_authority_that_is_none_is_refused_and_a_problem_never_quotes_the_string() {
        let url = "host=db user=m password=secret sslmode=require";
        for pem in [
            &b""[..],
            b"junk",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(check_url(url, Some(pem)), Err(UrlProblem::Authority));
        }
        assert_eq!((count_servers(url), count_servers("")), (1, 0));
        assert_eq!(count_servers("postgres://m@a,b:2/x"), 2);
        let said = check(url).unwrap_err().to_string();
        assert!(!said.contains("secret"), "{said}");
    }
}
