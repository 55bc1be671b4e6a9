//! Why the authority refuses, and why a certificate is revoked.
use crate::{
    identity::{IdentityError, Serial},
    tpm::{
        TpmError,
        quote::{NotAttested, Pcrs},
    },
};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};
use types::Timestamp;

/// Why the authority did not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// There is an authority in the directory.
    #[error("{path} holds a certificate authority already")]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A private key's file can be read by others than its owner.
    #[error(
        "{path} has mode {mode:o}; a private key must be readable by its owner alone (chmod 600)"
    )]
    KeyExposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold a key of the expected kind.
    #[error("{path} does not hold a PKCS#8 PEM key of the expected kind")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The authority's key is not that of its certificate, or that is none.
    #[error(
        "{dir}: ca.key is not the key of ca.pem, or that is no certificate: put both back as they were"
    )]
    NotTogether {
        /// The authority's directory.
        dir: PathBuf,
    },
    /// The authority's database could not be used.
    #[error("the authority's state, ca.db, cannot be used: {0}")]
    State(#[from] rusqlite::Error),
    /// The authority's database was written by a newer version.
    #[error("the authority's state has version {found}, this program knows {known}")]
    NewerState {
        /// Version in the file.
        found: i64,
        /// Version of this program.
        known: i64,
    },
    /// No invitation has this code.
    #[error("no invitation has this code")]
    CodeUnknown,
    /// The code was used before.
    #[error("the invitation code was used before; ask for a new one")]
    CodeUsed,
    /// The invitation is over.
    #[error("the invitation expired at {at}; ask for a new one")]
    CodeExpired {
        /// When.
        at: Timestamp,
    },
    /// The invitation is of a holder that joins elsewhere.
    #[error("the invitation is for another region, or for no facility")]
    NotHere,
    /// The invitation is for a machine that was measured: it has to show that it has booted the same.
    #[error(
        "the kit is for a machine that was measured: a quote of its TPM is needed (registers {pcrs})"
    )]
    ToBeAttested {
        /// What the quote has to answer.
        challenge: String,
        /// The registers.
        pcrs: Pcrs,
    },
    /// A challenge that is not of this authority, not for this code, or of another time.
    #[error("the challenge was not given for this code within the last two minutes; begin again")]
    Challenge,
    /// The machine is not the one that was measured, or has booted something else.
    #[error("the quote of the TPM is refused: {0}")]
    NotAttested(NotAttested),
    /// It could not be written down that a certificate is issued.
    #[error("what is issued could not be written down; nothing was")]
    NotNoted,
    /// An invitation that is open for no time or for too long.
    #[error("an invitation is open for more than nothing and at most 30 days")]
    InvitationTime,
    /// A host name that a certificate cannot carry.
    #[error("'{0}' is neither a DNS name nor an IP address")]
    HostName(String),
    /// The certificate request is refused.
    #[error("the certificate request is refused: {0}")]
    Request(&'static str),
    /// A certificate that was to be rotated names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// This authority did not issue the certificate.
    #[error("this authority did not issue certificate {0}")]
    NotIssued(Serial),
    /// Nothing of a place is there to be revoked: its name may be written wrong.
    #[error("this authority has certified nothing of {0}, and no code waits for it")]
    NothingOf(String),
    /// The certificate is revoked.
    #[error("certificate {0} is revoked")]
    IsRevoked(Serial),
    /// The certificate is not valid now.
    #[error("certificate {0} is not valid at this time; enrol again with a new invitation")]
    NotValidNow(Serial),
    /// The holder of the current certificate did not sign the request for its successor.
    #[error("the request is not signed by the key of certificate {0}")]
    NotTheHolder(Serial),
    /// A time that a certificate cannot hold.
    #[error("{0} cannot be written in a certificate")]
    Time(Timestamp),
    /// The TPM did not do it.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The cryptographic library refused.
    #[error("certificate encoding: {0}")]
    Encoding(#[from] rcgen::Error),
}

impl PkiError {
    pub(super) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is said.
    Unspecified,
    /// Somebody else may have the private key.
    KeyCompromise,
    /// A newer certificate took its place.
    Superseded,
    /// The holder is out of service.
    CessationOfOperation,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 4] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::Superseded,
        Self::CessationOfOperation,
    ];

    /// The reason's name on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no reason for a revocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is unspecified, key-compromise, superseded or cessation-of-operation")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == text)
            .ok_or(UnknownReason)
    }
}
