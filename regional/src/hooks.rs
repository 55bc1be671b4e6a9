//! Where notifications of subscriptions go: to what the region's configuration names, and to nothing else, so that no
//! subscriber can make this node send requests into a network of the hospital, or to itself.
//!
//! An endpoint is judged when a Subscription is written and again whenever something is sent. Then its name is resolved
//! once: each of its addresses has to be one that the configuration names, or a public one where it names none, and the
//! connection goes to one of those, so that a name cannot lead elsewhere afterwards. Redirections are not followed, and
//! of an answer only the status is read.
mod network;

use async_trait::async_trait;
use axum::http::header;
use fhir::rest::{FHIR_JSON, Hook, Notification, Untaken};
pub use network::{Network, is_public};
use node::config::{Problem, file};
use node::outbound::{self, Endpoint, connector};
use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

/// Where notifications may go.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionsConfig {
    /// Each of these, and nothing else. None: events can be fetched alone.
    #[serde(default)]
    pub targets: Vec<TargetConfig>,
}

/// Somewhere that notifications may go to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TargetConfig {
    /// What endpoints begin with, such as `https://ehr.example/notify/`. One that is written with `http` is reached
    /// without TLS.
    pub url: String,
    /// PEM of the authorities that its certificate may be by; needed for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The networks that its addresses are of, such as `10.20.0.0/16`; public addresses alone when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
}

impl SubscriptionsConfig {
    /// Everything that is wrong with it, with key paths.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (at, target) in self.targets.iter().enumerate() {
            let key = |name: &str| format!("subscriptions.targets[{at}].{name}");
            let endpoint = Endpoint::parse(&target.url);
            let is_tls = endpoint.as_ref().is_ok_and(|endpoint| endpoint.is_tls);
            problems.extend(endpoint.err().map(|why| Problem::new(key("url"), why)));
            for network in &target.networks {
                if Network::parse(network).is_none() {
                    let why = format!("{network} is no network such as 10.20.0.0/16");
                    problems.push(Problem::new(key("networks"), why));
                }
            }
            match &target.ca {
                Some(ca) => problems.extend(file(&key("ca"), ca)),
                None if is_tls => {
                    problems.push(Problem::new(key("ca"), "https needs an authority"));
                }
                None => {}
            }
        }
        problems
    }
}

/// A target, ready to be reached.
struct Target {
    url: Endpoint,
    networks: Vec<Network>,
    tls: Option<TlsConnector>,
}

/// See the head of this file.
pub struct Hooks(Vec<Target>);

impl Hooks {
    /// Of the configuration.
    ///
    /// # Errors
    /// What of it cannot be used.
    pub fn open(config: &SubscriptionsConfig) -> Result<Self, String> {
        let targets = config.targets.iter().map(|target| {
            let url = Endpoint::parse(&target.url)?;
            let networks = target.networks.iter().map(|text| Network::parse(text));
            let networks: Option<Vec<Network>> = networks.collect();
            let tls = match &target.ca {
                Some(ca) if url.is_tls => Some(connector(ca)?),
                _ if url.is_tls => return Err(format!("{}: https needs an authority", target.url)),
                _ => None,
            };
            Ok(Target {
                url,
                networks: networks.ok_or_else(|| format!("{}: a network", target.url))?,
                tls,
            })
        });
        Ok(Self(targets.collect::<Result<_, String>>()?))
    }

    /// The target that an endpoint is of.
    fn target(&self, endpoint: &Endpoint) -> Option<&Target> {
        self.0.iter().find(|target| target.url.covers(endpoint))
    }
}

impl Target {
    /// The addresses of the endpoint. All that its name has must be of the networks: one that leads elsewhere too is not
    /// trusted.
    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Untaken> {
        let found = lookup_host((endpoint.host_to_resolve(), endpoint.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|_| Untaken::Unreachable)?.collect();
        let is_allowed = |address: &SocketAddr| match self.networks.is_empty() {
            true => is_public(address.ip()),
            false => self.networks.iter().any(|one| one.holds(address.ip())),
        };
        match found.iter().all(is_allowed) {
            true => Ok(found),
            false => Err(Untaken::NotAllowed),
        }
    }
}

#[async_trait]
impl Hook for Hooks {
    fn allows(&self, endpoint: &str) -> Result<(), &'static str> {
        let parsed = Endpoint::parse(endpoint)?;
        match self.target(&parsed) {
            Some(_) => Ok(()),
            None => Err("the operator of this server has not allowed notifications to go there"),
        }
    }

    async fn post(&self, notification: Notification<'_>) -> Result<(), Untaken> {
        let endpoint = Endpoint::parse(notification.endpoint).map_err(|_| Untaken::NotAllowed)?;
        let target = self.target(&endpoint).ok_or(Untaken::NotAllowed)?;
        let sending = async {
            let addresses = target.addresses(&endpoint).await?;
            let stream = TcpStream::connect(addresses.as_slice()).await;
            let stream = stream.map_err(|_| Untaken::Unreachable)?;
            match &target.tls {
                None => send(stream, &endpoint, &notification).await,
                Some(tls) => {
                    let name = endpoint.server_name().ok_or(Untaken::NotAllowed)?;
                    let stream = tls.connect(name, stream).await;
                    let stream = stream.map_err(|_| Untaken::Unreachable)?;
                    send(stream, &endpoint, &notification).await
                }
            }
        };
        match tokio::time::timeout(notification.timeout, sending).await {
            Ok(sent) => sent,
            Err(_) => Err(Untaken::Late),
        }
    }
}

/// Sends a notification, and reads the status of the answer.
async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    endpoint: &Endpoint,
    notification: &Notification<'_>,
) -> Result<(), Untaken> {
    let told = notification.headers.iter();
    let told = told.map(|(name, value)| (name.as_str(), value.as_str()));
    let headers: Vec<_> = std::iter::once((header::CONTENT_TYPE.as_str(), FHIR_JSON))
        .chain(told)
        .collect();
    let post = (endpoint, &headers[..], notification.body.clone().into());
    let answer = outbound::post(stream, post, 0).await;
    let (status, _) = answer.ok_or(Untaken::Unreachable)?;
    match status.is_success() {
        true => Ok(()),
        false => Err(Untaken::Answered(status.as_u16())),
    }
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "hooks/tests.rs"]
mod tests;
