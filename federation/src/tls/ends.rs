//! What TLS files say of themselves to a person: until when they hold, and under which names a node is reached.
use super::{TlsError, TlsPaths, examine::paths, material::Files};
use node::config::TlsFiles;
use std::{net::IpAddr, path::PathBuf};
use types::Timestamp;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    revocation_list::CertificateRevocationList, time::ASN1Time,
};

/// Until when a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its key in the configuration.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The first end of what is in it.
    pub until: Timestamp,
}

/// Until when authority, certificate and revocation list hold, as far as they can be read.
///
/// # Errors
/// [`TlsError`] when one of the files cannot be read.
pub fn ends(paths: &TlsPaths) -> Result<Vec<End>, TlsError> {
    let read = Files::read(paths)?;
    let mut ends = Vec::new();
    let authorities = read.authorities(paths)?;
    let revoked = read.revocations(paths, &authorities)?;
    for (key, path, certificates) in [
        ("tls.ca", &paths.ca, authorities),
        ("tls.cert", &paths.cert, read.chain(paths)?),
    ] {
        let until = certificates.iter().filter_map(|der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            Some(instant(certificate.validity().not_after))
        });
        ends.extend(until.min().map(|until| End {
            key,
            path: path.clone(),
            until,
        }));
    }
    let until = revoked.lists().filter_map(|der| {
        let (_, list) = CertificateRevocationList::from_der(der).ok()?;
        list.next_update().map(instant)
    });
    ends.extend(until.min().map(|until| End {
        key: "tls.crl",
        path: paths.crl.clone(),
        until,
    }));
    Ok(ends)
}

/// The DNS names and addresses in a node's certificate.
///
/// # Errors
/// [`TlsError`] when a file cannot be read, or holds no certificate.
pub fn names(files: &TlsFiles) -> Result<Vec<String>, TlsError> {
    let paths = paths(files);
    let chain = Files::read(&paths)?.chain(&paths)?;
    let mut names = Vec::new();
    let Some((_, leaf)) = chain
        .first()
        .and_then(|der| X509Certificate::from_der(der).ok())
    else {
        return Ok(names);
    };
    if let Ok(Some(alternative)) = leaf.subject_alternative_name() {
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => names.extend(address(bytes)),
                _ => {}
            }
        }
    }
    Ok(names)
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let address = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    address.ok().map(|address| address.to_string())
}

fn instant(at: ASN1Time) -> Timestamp {
    Timestamp(at.timestamp().saturating_mul(1_000))
}
