//! A holder that must show what its machine has booted: the challenge that it is given, and what its quote is of.
//!
//! A challenge is kept nowhere: it says when it was given and for which code, under a tag that the authority's key alone
//! makes, so that the two nodes of a region take each other's, and nobody fills a table. The quote's nonce is the digest of
//! the challenge and of the request: a quote is of that code, of these minutes, and of that key.
use super::{PkiError, request};
use crate::tpm::quote::{MAX_PART_BYTES, Measured, NotAttested, Quote};
use ring::hmac::{self, HMAC_SHA256, Key};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::Timestamp;

/// For how long a challenge may be answered, in ms: a TPM takes seconds at most.
const CHALLENGE_MS: i64 = 2 * 60_000;
/// How far in the future a challenge may have been given, in ms: one node of a region gives it and the other is answered, and
/// each has a clock.
const CLOCKS_MS: i64 = 5_000;
/// The time of a challenge, in bytes.
const TIME_BYTES: usize = 8;
/// A challenge whole: its time, and the tag.
const CHALLENGE_BYTES: usize = TIME_BYTES + 32;

/// Separates the key of challenges from every other use of the authority's.
const KEY_DOMAIN: &[u8] = b"medmesh/pki/challenge-key/v1\0";
/// Separates the nonce of a quote from every other digest.
const NONCE_DOMAIN: &[u8] = b"medmesh/pki/attestation/v1\0";

/// What a holder shows of its machine, each part in hexadecimal.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// The challenge that it answers.
    pub challenge: String,
    /// [`Quote::key`].
    pub key: String,
    /// [`Quote::quoted`].
    pub quoted: String,
    /// [`Quote::signature`].
    pub signature: String,
}

impl Attestation {
    /// What a TPM has quoted for a challenge.
    #[must_use]
    pub fn new(challenge: String, quote: &Quote) -> Self {
        Self {
            challenge,
            key: hex::encode(&quote.key),
            quoted: hex::encode(&quote.quoted),
            signature: hex::encode(&quote.signature),
        }
    }

    /// What cannot be a quote is told from what is a wrong one.
    ///
    /// # Errors
    /// Which part is none, and what it is.
    pub fn shape(&self) -> Result<(), &'static str> {
        if bytes(&self.challenge).is_none() {
            return Err("attestation.challenge: is 80 hexadecimal digits, as the region gave them");
        }
        let is_part = |text: &str| {
            let is_of_bytes = text.len().is_multiple_of(2) && text.len() <= 2 * MAX_PART_BYTES;
            !text.is_empty() && is_of_bytes && text.bytes().all(|it| it.is_ascii_hexdigit())
        };
        for (text, says) in [
            (
                &self.key,
                "attestation.key: is up to 1024 bytes in hexadecimal",
            ),
            (
                &self.quoted,
                "attestation.quoted: is up to 1024 bytes in hexadecimal",
            ),
            (
                &self.signature,
                "attestation.signature: is up to 1024 bytes in hexadecimal",
            ),
        ] {
            if !is_part(text) {
                return Err(says);
            }
        }
        Ok(())
    }

    fn quote(&self) -> Option<Quote> {
        Some(Quote {
            key: hex::decode(&self.key).ok()?,
            quoted: hex::decode(&self.quoted).ok()?,
            signature: hex::decode(&self.signature).ok()?,
        })
    }
}

/// The nonce of the quote that answers a challenge with a request.
///
/// # Errors
/// When one of them is none.
pub fn nonce(challenge: &str, csr_pem: &str) -> Result<[u8; 32], PkiError> {
    let challenge = bytes(challenge).ok_or(PkiError::Challenge)?;
    let digest = Sha256::new()
        .chain_update(NONCE_DOMAIN)
        .chain_update(challenge)
        .chain_update(request::der(csr_pem)?);
    Ok(digest.finalize().into())
}

fn bytes(challenge: &str) -> Option<[u8; CHALLENGE_BYTES]> {
    let mut bytes = [0; CHALLENGE_BYTES];
    hex::decode_to_slice(challenge, &mut bytes).ok()?;
    Some(bytes)
}

/// Who gives challenges and knows them again.
pub(super) struct Challenger(Key);

impl Challenger {
    /// By the authority's private key (PKCS#8).
    pub(super) fn new(authority: &[u8]) -> Self {
        let digest = Sha256::new()
            .chain_update(KEY_DOMAIN)
            .chain_update(authority);
        Self(Key::new(HMAC_SHA256, &digest.finalize()))
    }

    /// A challenge for whoever has the code.
    pub(super) fn give(&self, code_hash: &[u8; 32], now: Timestamp) -> String {
        let time = now.0.to_be_bytes();
        let tag = hmac::sign(&self.0, &[&time[..], code_hash].concat());
        hex::encode([&time[..], tag.as_ref()].concat())
    }

    /// Whether a machine that was measured is shown, by a quote for a challenge of this authority and this request.
    pub(super) fn check(
        &self,
        measured: &Measured,
        shown: &Attestation,
        (code_hash, csr_pem): (&[u8; 32], &str),
        now: Timestamp,
    ) -> Result<(), PkiError> {
        let challenge = bytes(&shown.challenge).ok_or(PkiError::Challenge)?;
        let (time, tag) = challenge.split_at(TIME_BYTES);
        let signed = [time, code_hash].concat();
        hmac::verify(&self.0, &signed, tag).map_err(|_| PkiError::Challenge)?;
        let given = time.try_into().map_or(i64::MIN, i64::from_be_bytes);
        if !(-CLOCKS_MS..CHALLENGE_MS).contains(&now.since(Timestamp(given))) {
            return Err(PkiError::Challenge);
        }
        let quote = shown.quote();
        let quote = quote.ok_or(PkiError::NotAttested(NotAttested::NoQuote))?;
        let nonce = nonce(&shown.challenge, csr_pem)?;
        measured
            .is_shown_by(&quote, &nonce)
            .map_err(PkiError::NotAttested)
    }
}

#[cfg(test)]
mod tests;
