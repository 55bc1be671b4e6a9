//! Client assertions: who a client is, proven by a signature with its registered key, usable once.
//!
//! SMART App Launch 2.2, "Client Authentication: Asymmetric", with ES384 and keys registered in the configuration ([`keys`]).
//! [`jws`](super::jws) reads it, this file says whether it is believed.
use super::{
    ClientError, Refused, Scopes,
    jws::{Claimed, Unverified},
    keys,
    used::Used,
};
use crate::config::ClientConfig;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Serialize, de::IgnoredAny};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use types::Timestamp;

/// The only `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead `exp` may lie (SMART: no more than five minutes).
pub const MAX_LIFETIME_SECONDS: i64 = 300;
/// How far the clocks of client and server may be apart, in milliseconds.
const SKEW_MS: i64 = 10_000;
/// Characters of a `jti`.
const MAX_JTI: usize = 256;

/// What an assertion claims (RFC 7523 §3), for the client that makes it.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// Issuer: the client id.
    pub iss: String,
    /// Subject: the client id.
    pub sub: String,
    /// Audience: the token URL, alone.
    pub aud: String,
    /// End of validity, in seconds since 1970.
    pub exp: i64,
    /// Begin of validity, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Unique id of the assertion.
    pub jti: String,
}

/// An assertion that cannot be made: the key is not the PKCS#8 PEM of a P-384 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client's key is not the PKCS#8 PEM of a P-384 key")]
pub struct InvalidClientKey;

/// Signs an assertion with a client's key: what a client sends to the token URL.
///
/// # Errors
/// [`InvalidClientKey`] when `key_pem` cannot sign with ES384.
pub fn sign_assertion(
    claims: &Claims,
    kid: &str,
    key_pem: &[u8],
) -> Result<String, InvalidClientKey> {
    let mut header = Header::new(Algorithm::ES384);
    header.kid = Some(kid.to_owned());
    let key = EncodingKey::from_ec_pem(key_pem).map_err(|_| InvalidClientKey)?;
    jsonwebtoken::encode(&header, claims, &key).map_err(|_| InvalidClientKey)
}

/// A registered client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) client_id: Arc<str>,
    key: DecodingKey,
    /// What it may be granted.
    pub(super) allowed: Scopes,
}

/// The registered clients by key id, and the assertions that were used.
#[derive(Debug)]
pub(super) struct Registry {
    clients: HashMap<String, Client>,
    used: Used,
}

impl Registry {
    pub(super) fn new(configs: &[ClientConfig], used: Used) -> Result<Self, ClientError> {
        let mut clients = HashMap::new();
        for config in configs {
            let client = Client {
                client_id: config.client_id.as_str().into(),
                key: keys::read(&config.public_key, &config.kid)?,
                allowed: config.scope.parse().map_err(|source| ClientError::Scope {
                    client: config.client_id.clone(),
                    source,
                })?,
            };
            if clients.insert(config.kid.clone(), client).is_some() {
                return Err(ClientError::DuplicateKid(config.kid.clone()));
            }
        }
        Ok(Self { clients, used })
    }

    /// Every scope that some client may be granted.
    pub(super) fn scopes(&self) -> BTreeSet<String> {
        let allowed = self.clients.values().map(|client| &client.allowed);
        allowed.flat_map(Scopes::names).collect()
    }

    /// A client by its id, and what every key of it may be granted.
    pub(super) fn allowed(&self, client_id: &str) -> Option<(Arc<str>, Scopes)> {
        let mut own = self
            .clients
            .values()
            .filter(|client| *client.client_id == *client_id);
        let first = own.next()?;
        let allowed = own.fold(first.allowed.clone(), |all, client| {
            all.within(&client.allowed)
        });
        Some((first.client_id.clone(), allowed))
    }

    /// The client that made this assertion. Blocks for an fsync.
    pub(super) fn authenticate(
        &self,
        assertion: &str,
        is_audience: impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Result<&Client, Refused> {
        let Unverified { kid, claims } =
            Unverified::read(assertion).map_err(Refused::InvalidClient)?;
        let client = self
            .clients
            .get(&kid)
            .ok_or(Refused::InvalidClient("the kid is not registered"))?;
        is_signed(assertion, &client.key)?;
        if !is_audience(claims.aud.as_str()) {
            return Err(Refused::InvalidClient("aud is not the token URL"));
        }
        check(&claims, &client.client_id, now)?;
        let seconds = |ms: i64| ms.div_euclid(1_000);
        let end = seconds(claims.exp.0.saturating_add(SKEW_MS)) + 1;
        self.used.note(&kid, &claims.jti, end, seconds(now.0))?;
        Ok(client)
    }
}

/// The signature alone: the claims are checked apart, against a clock that is an argument.
fn is_signed(assertion: &str, key: &DecodingKey) -> Result<(), Refused> {
    let mut rules = Validation::new(Algorithm::ES384);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    jsonwebtoken::decode::<IgnoredAny>(assertion, key, &rules)
        .map(drop)
        .map_err(|_| Refused::InvalidClient("the signature is wrong"))
}

/// The point of a client's public key (SEC 1 §2.3.3, uncompressed): it is the same however the file is written.
///
/// # Errors
/// [`ClientError`] for a file that holds no such key.
pub fn public_point(config: &ClientConfig) -> Result<Vec<u8>, ClientError> {
    let key = keys::read(&config.public_key, &config.kid)?;
    let point = key.try_get_as_bytes().map(<[u8]>::to_vec);
    point.map_err(|_| keys::KeyError::NotP384(config.public_key.clone()).into())
}

fn check(claims: &Claimed, client_id: &str, now: Timestamp) -> Result<(), Refused> {
    let fail = |why| Err(Refused::InvalidClient(why));
    if claims.iss != client_id || claims.sub != client_id {
        return fail("iss and sub are not the client id of the key");
    }
    // Both lie within some 31,000 years of 1970: no sum is out of range.
    let ahead_ms = claims.exp.0 - now.0;
    if ahead_ms + SKEW_MS <= 0 {
        return fail("the assertion has expired");
    }
    if ahead_ms > MAX_LIFETIME_SECONDS * 1_000 + SKEW_MS {
        return fail("exp is more than five minutes ahead");
    }
    let begins = claims.nbf.max(claims.iat);
    if begins.is_some_and(|begins| begins.0 > now.0 + SKEW_MS) {
        return fail("the assertion is not valid yet");
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI {
        return fail("jti is empty or too long");
    }
    Ok(())
}
