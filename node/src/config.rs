//! The parts of configuration that every node shares.
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
    /// PEM of the certificate revocation list.
    pub crl: PathBuf,
}

/// Where a node serves HTTPS.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpsConfig {
    /// Address and port.
    pub listen: SocketAddr,
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
    /// PEM of its P-384 public key (SubjectPublicKeyInfo).
    pub public_key: PathBuf,
    /// Scopes it may be granted, separated by spaces, such as `system/*.rs`.
    pub scope: String,
}
