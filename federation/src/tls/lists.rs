//! Revocation lists from several places: a node's own file, what its peers sent, what an authority beside it issued. Of
//! each authority the newest one counts, whichever way it came: who signed it is all that matters (RFC 5280 §5).
use crate::identity::Serial;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use x509_parser::{
    certificate::X509Certificate, num_bigint::BigUint, prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_COLUMNS: usize = 64;

/// Why something is not taken for a revocation list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is none.
    NotAList,
    /// None of the node's authorities signed it.
    NotSigned,
}

/// The newest list of each authority, and what they revoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    serials: HashSet<Serial>,
    /// By the SHA-256 of an authority's certificate: the number of its list, and the list.
    newest: BTreeMap<[u8; 32], (BigUint, CertificateRevocationListDer<'static>)>,
}

impl Revocations {
    /// Whether a certificate is revoked.
    #[must_use]
    pub fn contains(&self, serial: &Serial) -> bool {
        self.serials.contains(serial)
    }

    /// How many certificates are revoked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.serials.len()
    }

    /// Whether no certificate is revoked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty()
    }

    /// Takes a list that is newer than the one that is here of its authority; says whether it was.
    pub(super) fn add(
        &mut self,
        der: &CertificateRevocationListDer<'_>,
        authorities: &[CertificateDer<'_>],
    ) -> Result<bool, Unfit> {
        let (_, list) = CertificateRevocationList::from_der(der).map_err(|_| Unfit::NotAList)?;
        let signed = |authority: &&CertificateDer<'_>| {
            X509Certificate::from_der(authority)
                .is_ok_and(|(_, issuer)| list.verify_signature(issuer.public_key()).is_ok())
        };
        let authority = authorities.iter().find(signed).ok_or(Unfit::NotSigned)?;
        let number = list.crl_number().cloned().unwrap_or_default();
        let authority: [u8; 32] = Sha256::digest(authority).into();
        let known = self.newest.get(&authority);
        if known.is_some_and(|(known, _)| *known >= number) {
            return Ok(false);
        }
        let owned = CertificateRevocationListDer::from(der.to_vec());
        self.newest.insert(authority, (number, owned));
        self.serials = self.listed();
        Ok(true)
    }

    fn listed(&self) -> HashSet<Serial> {
        let mut serials = HashSet::new();
        for (_, der) in self.newest.values() {
            if let Ok((_, list)) = CertificateRevocationList::from_der(der) {
                let listed = list.iter_revoked_certificates();
                serials.extend(listed.map(|entry| Serial::new(entry.raw_serial())));
            }
        }
        serials
    }

    /// The lists, one of each authority.
    pub(crate) fn lists(&self) -> impl Iterator<Item = &CertificateRevocationListDer<'static>> {
        self.newest.values().map(|(_, der)| der)
    }

    /// Whether these are the lists of `other`.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let numbers = |it: &Self| -> Vec<_> {
            let all = it.newest.iter();
            all.map(|(authority, (number, _))| (*authority, number.clone()))
                .collect()
        };
        numbers(self) == numbers(other)
    }

    /// The numbers here and in `later`, of an authority that both know and whose list is older, or gone, there.
    pub(super) fn forgotten_by(
        &self,
        later: &Self,
        authorities: &[[u8; 32]],
    ) -> Option<(BigUint, BigUint)> {
        self.newest.iter().find_map(|(authority, (number, _))| {
            let is_known = authorities.contains(authority);
            let found = later.newest.get(authority).map(|(number, _)| number);
            let found = found.cloned().unwrap_or_default();
            (is_known && found < *number).then(|| (number.clone(), found))
        })
    }

    /// All of them as PEM.
    pub(super) fn pem(&self) -> String {
        let mut pem = String::new();
        for der in self.lists() {
            pem.push_str("-----BEGIN X509 CRL-----\n");
            let text = STANDARD.encode(der);
            let mut rest = text.as_str();
            while !rest.is_empty() {
                let (line, more) = rest.split_at(rest.len().min(PEM_COLUMNS));
                pem.push_str(line);
                pem.push('\n');
                rest = more;
            }
            pem.push_str("-----END X509 CRL-----\n");
        }
        pem
    }
}
