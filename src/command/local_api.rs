//! The local API of a facility's running node, asked by its own staff on its own machine.
use crate::https::Https;
use anyhow::{Context, Result, bail};
use edge::{beds::TOKEN_FILE, config::EdgeConfig};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use types::Secret;

/// A node that is asked.
pub struct LocalApi {
    address: SocketAddr,
    token: Secret<String>,
    https: Https,
}

impl LocalApi {
    /// The node of a configuration.
    pub fn of(config: &EdgeConfig) -> Result<Self> {
        let address = reachable(config.https.listen)?;
        let path = config.data_dir.join(TOKEN_FILE);
        let token = std::fs::read_to_string(&path).with_context(|| {
            format!("{}: has the node run, and may you read it?", path.display())
        })?;
        Ok(Self {
            address,
            token: Secret::new(token),
            https: Https::of_node(&config.tls.cert)?,
        })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/api/v1/{path}", self.address)
    }

    /// `POST` of JSON: the answer.
    pub async fn post(&self, path: &str, body: &str) -> Result<Value> {
        let url = self.url(path);
        let answer = self.https.post_json(&url, self.token.reveal(), body);
        taken(answer.await.context("is the node running?")?)
    }

    /// `GET` with these parameters: the answer.
    pub async fn get(&self, path: &str, asked: &[(&str, &str)]) -> Result<Value> {
        let url = self.url(path) + &query(asked);
        let answer = self.https.api("GET", &url, self.token.reveal(), "", &[]);
        taken(answer.await.context("is the node running?")?)
    }

    /// The server-sent events of a stream, each with its name and its data, until it ends.
    pub async fn follow(
        &self,
        path: &str,
        asked: &[(&str, &str)],
        mut each: impl FnMut(&str, &str) -> Result<()>,
    ) -> Result<()> {
        let url = self.url(path) + &query(asked);
        let (mut name, mut refused) = (String::new(), String::new());
        let status = self
            .https
            .lines(&url, self.token.reveal(), |status, line| {
                if status != 200 {
                    refused.push_str(line);
                } else if let Some(event) = line.strip_prefix("event: ") {
                    event.clone_into(&mut name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    each(&name, data)?;
                }
                Ok(())
            })
            .await
            .context("is the node running?")?;
        if status != 200 {
            taken((status, refused))?;
        }
        Ok(())
    }
}

/// Where a listener of this machine is reached from this machine.
pub fn reachable(mut address: SocketAddr) -> Result<SocketAddr> {
    if address.port() == 0 {
        bail!("https.listen: the node chose its port itself; name one in the configuration");
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address)
}

fn query(asked: &[(&str, &str)]) -> String {
    let pairs = asked.iter().enumerate().map(|(at, (name, value))| {
        let before = if at == 0 { '?' } else { '&' };
        format!("{before}{name}={}", crate::https::escape(value))
    });
    pairs.collect()
}

fn taken((status, answer): (u16, String)) -> Result<Value> {
    let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| json!({}));
    if status == 200 {
        return Ok(answer);
    }
    bail!(
        "{status}: {}",
        answer["detail"].as_str().unwrap_or("no reason given")
    )
}
