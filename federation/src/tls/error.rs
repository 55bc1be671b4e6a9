//! Why certificates, keys, authorities and lists are refused.
use crate::{identity::IdentityError, tpm::TpmError};
use std::path::PathBuf;

/// Why TLS files are refused. What was in use before stays in use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} does not hold {wanted}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The node's own certificate names nobody, or somebody else than before.
    #[error("{path}: {source}")]
    Identity {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// The node's certificate now names another holder.
    #[error("the new certificate names {found}, this node is {current}")]
    OtherHolder {
        /// URI of the node.
        current: String,
        /// URI in the new certificate.
        found: String,
    },
    /// A revocation list that no authority in the authority's file signed.
    #[error("the revocation list in {path} is not signed by the authority")]
    ListSignature {
        /// The list.
        path: PathBuf,
    },
    /// A revocation list that is older than the one in use.
    #[error("the revocation list has number {found}, number {current} is in use")]
    OlderList {
        /// Number in the file, in hexadecimal.
        found: String,
        /// Number in use, in hexadecimal.
        current: String,
    },
    /// The TPM does not make the node's key.
    #[error("the node's key: {0}")]
    Tpm(#[from] TpmError),
    /// Key and certificate do not fit, or TLS refused one of them.
    #[error("certificate and key: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authority or the revocation list cannot be used to check peers.
    #[error("authority and revocation list: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Session secrets may be written out only in a mesh on one machine.
    #[error(
        "SSLKEYLOGFILE is set and this is not a local mesh: unset it; session secrets are never written here"
    )]
    KeyLog,
}
