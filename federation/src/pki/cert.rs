//! What the authority signs: its own certificate, those of nodes and devices, and revocation lists (RFC 5280).
use super::{
    BACKDATE_MS, CA_DAYS, CRL_DAYS, DEVICE_DAYS, Issued, NODE_DAYS, NODE_DNS, PkiError, Reason,
    request::{self, Request},
};
use crate::identity::{Identity, NODE_KEY_OID, Serial};
use rand::CryptoRng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use types::Timestamp;
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer, revocation_list::CertificateRevocationList,
    time::ASN1Time,
};

/// Bytes of a serial number: 126 random bits (RFC 5280 §4.1.2.2 allows 20 bytes).
const SERIAL_BYTES: usize = 16;

/// Bytes of the digest of its key by which an authority is named: no two of one mesh have the same.
const AUTHORITY_BYTES: usize = 8;

/// Draws a serial number. Its first bits are 01, so that it is positive and as long as any other.
pub(super) fn new_serial(rng: &mut impl CryptoRng) -> Serial {
    let mut bytes = [0; SERIAL_BYTES];
    rng.fill_bytes(&mut bytes);
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Serial::new(&bytes)
}

/// The authority's own certificate: it may sign holders and lists, and no further authority.
///
/// Its name is no other authority's: who trusts two of them finds the list of one by the name of whoever issued a
/// certificate (RFC 5280 §6.3.3 (b)), and would take the other one's for it.
pub(super) fn authority(pair: &KeyPair, now: Timestamp) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    let key = Sha256::digest(pair.public_key_raw());
    let name = hex::encode(key.get(..AUTHORITY_BYTES).unwrap_or(&key));
    params.distinguished_name = subject(&format!("MedMesh certificate authority {name}"));
    let (not_before, not_after) = validity(now, CA_DAYS);
    params.not_before = instant(not_before)?.to_datetime();
    params.not_after = instant(not_after)?.to_datetime();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params.self_signed(pair)?.pem())
}

/// Signs a verified request.
pub(super) fn issue(
    issuer: &Issuer<'_, KeyPair>,
    request: Request,
    serial: Serial,
    identity: Identity,
    names: Vec<String>,
    now: Timestamp,
) -> Result<Issued, PkiError> {
    let days = match identity {
        Identity::Node(_) => NODE_DAYS,
        Identity::Device { .. } => DEVICE_DAYS,
    };
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
    let (not_before, not_after) = validity(now, days);
    params.not_before = instant(not_before)?.to_datetime();
    params.not_after = instant(not_after)?.to_datetime();
    params.distinguished_name = subject(kind(&identity));
    params.subject_alt_names = alternative_names(&identity, &names)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity {
        Identity::Node(_) => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        Identity::Device { .. } => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    if let Some(key) = request.node_key {
        let content = [&[0x04, 32], &key.as_bytes()[..]].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&NODE_KEY_OID, content)];
    }
    Ok(Issued {
        pem: params.signed_by(&request.public_key, issuer)?.pem(),
        serial,
        identity,
        names,
        not_before,
        not_after,
        revoked: None,
    })
}

/// When a list must have been replaced; none when the text is no list that says so.
pub(super) fn list_end(pem: &str) -> Option<Timestamp> {
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, list) = CertificateRevocationList::from_der(&der).ok()?;
    let end = list.next_update()?.timestamp();
    Some(Timestamp(end.saturating_mul(1_000)))
}

/// The list of what is revoked. A certificate stays on it for one list's time after its own end (RFC 5280 §3.3).
pub(super) fn revocation_list(
    issuer: &Issuer<'_, KeyPair>,
    number: u64,
    certificates: &[Issued],
    now: Timestamp,
) -> Result<String, PkiError> {
    let (this_update, next_update) = validity(now, CRL_DAYS);
    let listed = certificates
        .iter()
        .filter(|issued| issued.not_after.plus_days(CRL_DAYS) >= now);
    let mut revoked_certs = Vec::new();
    for issued in listed {
        let Some(revoked) = &issued.revoked else {
            continue;
        };
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(issued.serial.as_bytes()),
            revocation_time: instant(revoked.at)?.to_datetime(),
            reason_code: reason_code(revoked.reason),
            invalidity_date: None,
        });
    }
    let list = CertificateRevocationListParams {
        this_update: instant(this_update)?.to_datetime(),
        next_update: instant(next_update)?.to_datetime(),
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(list.signed_by(issuer)?.pem()?)
}

/// Host names are DNS names or IP addresses.
pub(super) fn check_names(names: &[String]) -> Result<(), PkiError> {
    names.iter().try_for_each(|name| host(name).map(|_| ()))
}

/// Whether PEM text is the certificate of this key: what another one signs nobody takes.
pub(super) fn is_of(pem: &str, pair: &KeyPair) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
        return false;
    };
    X509Certificate::from_der(&der).is_ok_and(|(_, certificate)| {
        *certificate.public_key().subject_public_key.data == *pair.public_key_raw()
    })
}

/// Whether PEM text is this certificate.
pub(super) fn same(pem: &str, der: &CertificateDer<'_>) -> bool {
    CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|stored| stored == *der)
}

/// Whether the holder of a certificate signed the request for its successor.
pub(super) fn holder_signed(
    der: &CertificateDer<'_>,
    csr_pem: &str,
    proof: &[u8],
) -> Result<bool, PkiError> {
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| crate::identity::IdentityError::NotACertificate)?;
    request::proves_rotation(&certificate, csr_pem, proof)
}

fn alternative_names(identity: &Identity, names: &[String]) -> Result<Vec<SanType>, PkiError> {
    let mut all = vec![SanType::URI(identity.to_uri().try_into()?)];
    if matches!(identity, Identity::Node(_)) {
        all.push(host(NODE_DNS)?);
    }
    for name in names {
        all.push(host(name)?);
    }
    Ok(all)
}

fn host(name: &str) -> Result<SanType, PkiError> {
    let refused = || PkiError::HostName(name.to_owned());
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    rustls::pki_types::DnsName::try_from(name).map_err(|_| refused())?;
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}

/// What the holder is. Who it is stands in the URI alone, so that there is one place to look.
const fn kind(identity: &Identity) -> &'static str {
    match identity {
        Identity::Node(place) => place.tier().as_str(),
        Identity::Device { .. } => "device",
    }
}

fn subject(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "MedMesh");
    subject.push(DnType::CommonName, name);
    subject
}

/// Begin and end of a validity, in the whole seconds that a certificate can hold.
fn validity(now: Timestamp, days: i32) -> (Timestamp, Timestamp) {
    let second = Timestamp(now.0.div_euclid(1_000) * 1_000);
    (second.plus_ms(-BACKDATE_MS), second.plus_days(days))
}

fn instant(at: Timestamp) -> Result<ASN1Time, PkiError> {
    ASN1Time::from_timestamp(at.0.div_euclid(1_000)).map_err(|_| PkiError::Time(at))
}

fn reason_code(reason: Reason) -> Option<RevocationReason> {
    // RFC 5280 §5.3.1: "unspecified" is said by leaving the code out.
    match reason {
        Reason::Unspecified => None,
        Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
        Reason::Superseded => Some(RevocationReason::Superseded),
        Reason::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
    }
}
