//! Why a handshake failed, as a word from a closed set, so that it can be counted.
use super::UnexpectedPeer;
use rustls::{CertificateError, Error};
use std::io;

/// Counts a handshake that a listener (`link`, `mqtt`) refused, and gives the reason.
pub fn count_refused(listener: &'static str, error: &io::Error) -> &'static str {
    let reason = reason(error);
    metrics::counter!("medmesh_tls_refused_total", "listener" => listener, "reason" => reason)
        .increment(1);
    reason
}

fn reason(error: &io::Error) -> &'static str {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(error) if UnexpectedPeer::from_tls(error).is_some() => "identity",
        Some(Error::InvalidCertificate(error)) => of_certificate(error),
        Some(Error::NoCertificatesPresented) => "no-certificate",
        Some(Error::AlertReceived(_)) => "by-peer",
        Some(Error::InvalidMessage(_)) => "not-tls",
        Some(Error::PeerIncompatible(_)) => "version",
        Some(_) => "other",
        None => "closed",
    }
}

fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "not-yet-valid"
        }
        CertificateError::Revoked => "revoked",
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "unknown-authority",
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "revocation-list",
        _ => "certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityError;

    #[test]
    fn a_refused_handshake_has_a_word_for_its_reason() {
        let certificate = |error| io::Error::other(Error::InvalidCertificate(error));
        let nobody = UnexpectedPeer::Nobody(IdentityError::NotACertificate);
        for (error, expected) in [
            (certificate(CertificateError::Expired), "expired"),
            (certificate(CertificateError::Revoked), "revoked"),
            (
                certificate(CertificateError::BadSignature),
                "unknown-authority",
            ),
            (io::Error::other(Error::from(nobody)), "identity"),
            (
                io::Error::other(Error::NoCertificatesPresented),
                "no-certificate",
            ),
            (io::ErrorKind::UnexpectedEof.into(), "closed"),
        ] {
            assert_eq!(reason(&error), expected, "{error}");
        }
    }
}
