//! Configuration: a TOML file with `MEDMESH_*` overrides, the parts that every node shares, and what is checked of them.
//!
//! Secrets are never in it: it names the files that hold them.
mod load;
mod urls;
mod validate;

pub use load::{ConfigError, EXIT_CODE, environment, load, parse};
pub use urls::{MAX_URLS, Urls};
pub use validate::{
    Problem, Validate, becomes_directory, different_ports, directory, file, mesh_clock, public_url,
    secret_file, url, within,
};

use serde::{Deserialize, Serialize};
use std::{net::SocketAddr, path::PathBuf};

/// Certificates of a node. The files are read again when they change (rotation, revocation).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// PEM of the mesh's certificate authority.
    pub ca: PathBuf,
    /// PEM chain of the node, the leaf first.
    pub cert: PathBuf,
    /// PKCS#8 PEM key of the node.
    pub key: PathBuf,
    /// PKCS#8 PEM of the Ed25519 key with which the node signs receipts and audit checkpoints.
    pub signing_key: PathBuf,
    /// PEM of the certificate revocation list.
    pub crl: PathBuf,
}

/// Where a node serves HTTPS.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// `https://host[:port]` by which clients reach the node: the audience of their assertions and the base of every
    /// link in an answer. The address that is listened on when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
}

impl HttpsConfig {
    /// Served at an address, and reached there.
    #[must_use]
    pub const fn at(listen: SocketAddr) -> Self {
        Self {
            listen,
            public_url: None,
        }
    }

    /// What every URL of the node begins with; `bound` is where it listens.
    #[must_use]
    pub fn origin(&self, bound: SocketAddr) -> String {
        match &self.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("https://{bound}"),
        }
    }
}

impl Validate for HttpsConfig {
    fn problems(&self) -> Vec<Problem> {
        let url = self.public_url.iter();
        url.filter_map(|url| public_url("public_url", url))
            .collect()
    }
}

/// Log output.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Filter, such as `info` or `info,medmesh_edge=debug`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            filter: "info".into(),
            json: false,
        }
    }
}

/// A client of a node's HTTPS interface, by SMART Backend Services.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// `client_id`: issuer and subject of its assertions.
    pub client_id: String,
    /// Key id.
    pub kid: String,
    /// PEM of its P-384 public key (SubjectPublicKeyInfo), or a JWK Set (RFC 7517) with the key of that id.
    pub public_key: PathBuf,
    /// Scopes it may be granted, separated by spaces, such as `system/*.rs`.
    pub scope: String,
}

impl Validate for TlsFiles {
    fn problems(&self) -> Vec<Problem> {
        [
            file("ca", &self.ca),
            file("cert", &self.cert),
            secret_file("key", &self.key),
            secret_file("signing_key", &self.signing_key),
            file("crl", &self.crl),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

impl Validate for LogConfig {
    fn problems(&self) -> Vec<Problem> {
        match tracing_subscriber::EnvFilter::try_new(&self.filter) {
            Ok(_) => Vec::new(),
            Err(_) => vec![Problem::new(
                "filter",
                "is not a log filter; write one like `info` or `info,medmesh_edge=debug`",
            )],
        }
    }
}

impl Validate for ClientConfig {
    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for (key, text) in [("client_id", &self.client_id), ("kid", &self.kid)] {
            if text.is_empty() {
                problems.push(Problem::new(key, "is empty"));
            }
        }
        let unread = file("public_key", &self.public_key);
        let unfit = || {
            Some(
                crate::token::read_key(&self.public_key, &self.kid)
                    .err()?
                    .to_string(),
            )
        };
        let unfit = || unfit().map(|says| Problem::new("public_key", says));
        problems.extend(unread.or_else(unfit));
        if self.scope.parse::<crate::token::Scopes>().is_err() {
            problems.push(Problem::new(
                "scope",
                "is not a list of scopes; write them like `system/*.rs system/Observation.r`",
            ));
        }
        problems
    }
}

/// What is wrong with the clients of a node: with each, and where two have one key id, by which assertions are told apart.
#[must_use]
pub fn client_problems(clients: &[ClientConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, client) in clients.iter().enumerate() {
        let key = format!("clients[{index}]");
        problems.extend(within(&key, client));
        if clients.iter().take(index).any(|it| it.kid == client.kid) {
            let says = "is that of a client above: each key has an id of its own";
            problems.push(Problem::new(format!("{key}.kid"), says));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    #[test]
    fn a_client_with_a_key_of_another_kind_and_two_of_one_key_id_are_named_by_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let [good, other] = [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P256_SHA256]
            .map(|kind| KeyPair::generate_for(kind).unwrap().public_key_pem());
        let client = |kid: &str, pem: Option<&str>| {
            let public_key = dir.path().join(format!("{kid}.pem"));
            if let Some(pem) = pem {
                std::fs::write(&public_key, pem).unwrap();
            }
            ClientConfig {
                client_id: "reader".to_owned(),
                kid: kid.to_owned(),
                public_key,
                scope: "system/*.rs".to_owned(),
            }
        };
        let named = |clients: &[ClientConfig]| -> Vec<String> {
            let problems = client_problems(clients).into_iter();
            problems.map(|problem| problem.path).collect()
        };
        let one = client("reader-1", Some(&good));
        let two = client("reader-2", Some(&good));
        assert!(named(&[one.clone(), two.clone()]).is_empty(), "two keys");
        assert_eq!(named(&[one.clone(), two, one]), ["clients[2].kid"]);
        let wrong = client("wrong", Some(&other));
        assert_eq!(named(&[wrong]), ["clients[0].public_key"]);
        let absent = client("absent", None);
        assert_eq!(named(&[absent]), ["clients[0].public_key"], "said once");
        let nameless = client("", Some(&good));
        assert_eq!(named(&[nameless]), ["clients[0].kid"]);
    }
}
