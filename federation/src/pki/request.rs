//! What a node or device sends to be certified: a PKCS#10 request, and how the authority opens it.
//!
//! A request proves possession of every key that it brings: the TLS key signs the request, the node's Ed25519 key
//! signs the TLS key and the identity. Who the requester is, the request cannot decide; the invitation does.
use super::PkiError;
use crate::{
    identity::{Identity, NODE_KEY_OID, octets},
    tpm::TpmKey,
};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::CryptoRng;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use std::path::{Path, PathBuf};
use types::Secret;
use x509_parser::{
    asn1_rs::{BitString, Oid},
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    extensions::{GeneralName, ParsedExtension, X509Extension},
    prelude::FromDer,
    verify::verify_signature,
};

/// The longest request, in bytes of PEM: ours have about 1 KiB.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;

/// Separates the node key's signature here from every other thing that the key signs.
const NODE_KEY_DOMAIN: &[u8] = b"medmesh/pki/node-key/v1\0";
/// Separates the signature of a rotation from TLS handshakes with the same key.
const ROTATION_DOMAIN: &[u8] = b"medmesh/pki/rotation/v1\0";

/// Key and signature of the request's extension, in bytes.
const BOUND_KEY_BYTES: usize = 32 + 64;

/// A new TLS key and the request to certify it.
pub struct NewKey {
    /// PKCS#8 PEM of the private key (ECDSA P-256). Write it with mode 0600; it never leaves its machine.
    pub key_pem: Secret<String>,
    /// PEM of the request.
    pub csr_pem: String,
}

/// Draws a P-256 key (from the operating system's random source) and asks for a certificate for it.
///
/// Nodes bring the key with which they sign receipts; devices have none.
///
/// # Errors
/// When the random source fails.
pub fn new_key_and_csr(
    identity: &Identity,
    node_key: Option<&SigningKey>,
) -> Result<NewKey, PkiError> {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    Ok(NewKey {
        csr_pem: csr(identity, node_key, &pair)?,
        key_pem: Secret::new(pair.serialize_pem()),
    })
}

/// As [`new_key_and_csr`], where the TLS key is made in that TPM and stays there: what is to be written is how the TPM finds
/// it. With no TPM, the same.
///
/// # Errors
/// As [`new_key_and_csr`]; and what the TPM says.
pub fn new_key_in(
    tpm: Option<&Path>,
    identity: &Identity,
    node_key: Option<&SigningKey>,
    rng: &mut impl CryptoRng,
) -> Result<NewKey, PkiError> {
    let Some(tpm) = tpm else {
        return new_key_and_csr(identity, node_key);
    };
    let key = TpmKey::draw(tpm, rng)?;
    Ok(NewKey {
        csr_pem: csr(identity, node_key, &key)?,
        key_pem: Secret::new(key.text()),
    })
}

/// In which TPM the TLS key is of which this is the file; none where the file is the key.
#[must_use]
pub fn tpm_of(key_pem: &Secret<String>) -> Option<PathBuf> {
    TpmKey::place(key_pem.reveal())
}

fn csr(
    identity: &Identity,
    node_key: Option<&SigningKey>,
    pair: &impl rcgen::SigningKey,
) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_uri().try_into()?)];
    if let Some(key) = node_key {
        let message = node_key_message(identity, &pair.subject_public_key_info());
        let mut content = vec![0x04, BOUND_KEY_BYTES as u8];
        content.extend(key.verifying_key().as_bytes());
        content.extend(key.sign(&message).to_bytes());
        params.custom_extensions = vec![CustomExtension::from_oid_content(&NODE_KEY_OID, content)];
    }
    Ok(params.serialize_request(pair)?.pem()?)
}

/// Signs a request with the current TLS key: proof that the holder of the certificate asks for its successor.
///
/// # Errors
/// When the key is not the PKCS#8 PEM of an ECDSA P-256 key, or the request is not PEM.
pub fn rotation_proof(
    current_key_pem: &Secret<String>,
    csr_pem: &str,
) -> Result<Vec<u8>, PkiError> {
    let message = rotation_message(&der(csr_pem)?);
    if let Some(key) = TpmKey::read(current_key_pem.reveal()) {
        return Ok(key?.sign(&message)?);
    }
    let pair = KeyPair::from_pem(current_key_pem.reveal())?;
    Ok(rcgen::SigningKey::sign(&pair, &message)?)
}

/// Whether `proof` was made by the key of `certificate` over this request.
pub(super) fn proves_rotation(
    certificate: &x509_parser::certificate::X509Certificate<'_>,
    csr_pem: &str,
    proof: &[u8],
) -> Result<bool, PkiError> {
    let message = rotation_message(&der(csr_pem)?);
    // The authority signs only P-256 keys with ECDSA and SHA-256, and only such keys: the algorithm of its own
    // signature on the certificate is the holder's too.
    let signature = BitString::new(0, proof);
    Ok(verify_signature(
        certificate.public_key(),
        &certificate.signature_algorithm,
        &signature,
        &message,
    )
    .is_ok())
}

/// What a verified request asks for.
pub(super) struct Request {
    pub(super) public_key: SubjectPublicKeyInfo,
    pub(super) node_key: Option<VerifyingKey>,
}

/// Verifies a request of `identity`: its signature, its kind of key, its names and its node key.
pub(super) fn open(csr_pem: &str, identity: &Identity) -> Result<Request, PkiError> {
    let der = der(csr_pem)?;
    let (rest, csr) = X509CertificationRequest::from_der(&der)
        .map_err(|_| PkiError::Request("it is not a PKCS#10 request"))?;
    if !rest.is_empty() {
        return Err(PkiError::Request("bytes follow the request"));
    }
    csr.verify_signature()
        .map_err(|_| PkiError::Request("its signature does not prove possession of its key"))?;
    let spki = csr.certification_request_info.subject_pki.raw;
    let public_key = SubjectPublicKeyInfo::from_der(spki)
        .ok()
        .filter(|key| key.algorithm() == &PKCS_ECDSA_P256_SHA256)
        .ok_or(PkiError::Request("its key is not ECDSA P-256"))?;
    let extensions = extensions(&csr);
    check_names(&extensions, identity)?;
    Ok(Request {
        node_key: node_key(&extensions, identity, spki)?,
        public_key,
    })
}

pub(super) fn der(csr_pem: &str) -> Result<Vec<u8>, PkiError> {
    if csr_pem.len() > MAX_REQUEST_BYTES {
        return Err(PkiError::Request("it is longer than 16 KiB"));
    }
    CertificateSigningRequestDer::from_pem_slice(csr_pem.as_bytes())
        .map(|der| der.to_vec())
        .map_err(|_| PkiError::Request("it is not a PEM CERTIFICATE REQUEST"))
}

fn extensions<'a>(csr: &'a X509CertificationRequest<'_>) -> Vec<&'a X509Extension<'a>> {
    csr.certification_request_info
        .iter_attributes()
        .filter_map(|attribute| match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => Some(&request.extensions),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A request may repeat the identity that it was invited as, and no other name.
fn check_names(extensions: &[&X509Extension<'_>], identity: &Identity) -> Result<(), PkiError> {
    let uri = identity.to_uri();
    let same = extensions
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        })
        .flatten()
        .all(|name| matches!(name, GeneralName::URI(found) if *found == uri));
    if same {
        Ok(())
    } else {
        Err(PkiError::Request("it names another than the one invited"))
    }
}

fn node_key(
    extensions: &[&X509Extension<'_>],
    identity: &Identity,
    spki: &[u8],
) -> Result<Option<VerifyingKey>, PkiError> {
    let bad = || PkiError::Request("its node key is not one Ed25519 key that signed this request");
    let oid = Oid::from(&NODE_KEY_OID).map_err(|_| bad())?;
    let found: Vec<_> = extensions.iter().filter(|e| e.oid == oid).collect();
    let bound = match (&found[..], identity) {
        ([], Identity::Device { .. }) => return Ok(None),
        ([one], Identity::Node(_)) => octets::<BOUND_KEY_BYTES>(one.value).ok_or_else(bad)?,
        _ => return Err(bad()),
    };
    let (key, signature) = bound.split_at(32);
    let key = <&[u8; 32]>::try_from(key)
        .ok()
        .and_then(|key| VerifyingKey::from_bytes(key).ok())
        .ok_or_else(bad)?;
    let signature = Signature::from_slice(signature).map_err(|_| bad())?;
    key.verify_strict(&node_key_message(identity, spki), &signature)
        .map_err(|_| bad())?;
    Ok(Some(key))
}

fn node_key_message(identity: &Identity, spki: &[u8]) -> Vec<u8> {
    let uri = identity.to_uri();
    [NODE_KEY_DOMAIN, uri.as_bytes(), b"\0", spki].concat()
}

fn rotation_message(csr_der: &[u8]) -> Vec<u8> {
    [ROTATION_DOMAIN, csr_der].concat()
}
