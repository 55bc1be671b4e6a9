//! Client assertions: who a client is, proven by a signature with its registered key, usable once.
//!
//! SMART App Launch 2.2, "Client Authentication: Asymmetric", with ES384 and keys registered in the configuration;
//! a `jku` header is ignored, so that no client can name its own keys.
use super::{ClientError, Refused, Scopes, used::Used};
use crate::config::ClientConfig;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use types::Timestamp;

/// The only `client_assertion_type`.
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How far ahead `exp` may lie (SMART: no more than five minutes).
pub const MAX_LIFETIME_SECONDS: i64 = 300;
/// How far the clocks of client and server may be apart.
const SKEW_SECONDS: i64 = 10;
/// Characters of an assertion; a real one has some 500.
const MAX_ASSERTION: usize = 4_096;
/// Characters of a `jti`.
const MAX_JTI: usize = 256;
/// An uncompressed point of P-384 (SEC 1 §2.3.3): 0x04 and two coordinates of 48 bytes.
const P384_POINT_BYTES: usize = 97;

/// What an assertion claims (RFC 7523 §3).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer: the client id.
    pub iss: String,
    /// Subject: the client id.
    pub sub: String,
    /// Audience: the token URL.
    pub aud: Audience,
    /// End of validity, in seconds since 1970.
    pub exp: i64,
    /// Begin of validity, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// Unique id of the assertion.
    pub jti: String,
}

/// One audience or several (RFC 7519 §4.1.3).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, url: &str) -> bool {
        match self {
            Self::One(own) => own == url,
            Self::Many(own) => own.iter().any(|own| own == url),
        }
    }
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

#[derive(Debug)]
struct Client {
    client_id: String,
    key: DecodingKey,
    allowed: Scopes,
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
                client_id: config.client_id.clone(),
                key: read_key(config)?,
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

    /// What the client that made this assertion may be granted. Blocks for an fsync.
    pub(super) fn authenticate(
        &self,
        assertion: &str,
        token_url: &str,
        now: Timestamp,
    ) -> Result<&Scopes, Refused> {
        let (kid, client, claims) = self.verify(assertion)?;
        let now = now.0.div_euclid(1_000);
        check(&claims, &client.client_id, token_url, now)?;
        let end = claims.exp.saturating_add(SKEW_SECONDS);
        self.used.note(&kid, &claims.jti, end, now)?;
        Ok(&client.allowed)
    }

    fn verify(&self, assertion: &str) -> Result<(String, &Client, Claims), Refused> {
        const UNREADABLE: Refused = Refused::InvalidClient("the assertion is not a signed JWT");
        if assertion.len() > MAX_ASSERTION {
            return Err(UNREADABLE);
        }
        let header = jsonwebtoken::decode_header(assertion).map_err(|_| UNREADABLE)?;
        if header.alg != Algorithm::ES384 {
            return Err(Refused::InvalidClient(
                "the assertion is not signed with ES384",
            ));
        }
        let kid = header
            .kid
            .ok_or(Refused::InvalidClient("the assertion has no kid"))?;
        let client = self
            .clients
            .get(&kid)
            .ok_or(Refused::InvalidClient("the kid is not registered"))?;
        // The signature alone: the claims are checked below, against a clock that is an argument.
        let mut rules = Validation::new(Algorithm::ES384);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let token = jsonwebtoken::decode::<Claims>(assertion, &client.key, &rules)
            .map_err(|_| Refused::InvalidClient("the signature or a claim is wrong"))?;
        Ok((kid, client, token.claims))
    }
}

fn check(claims: &Claims, client_id: &str, token_url: &str, now: i64) -> Result<(), Refused> {
    let fail = |why| Err(Refused::InvalidClient(why));
    if claims.iss != client_id || claims.sub != client_id {
        return fail("iss and sub are not the client id of the key");
    }
    if !claims.aud.names(token_url) {
        return fail("aud is not the token URL");
    }
    if claims.exp.saturating_add(SKEW_SECONDS) <= now {
        return fail("the assertion has expired");
    }
    if claims.exp.saturating_sub(now) > MAX_LIFETIME_SECONDS + SKEW_SECONDS {
        return fail("exp is more than five minutes ahead");
    }
    if claims.nbf.is_some_and(|nbf| nbf > now + SKEW_SECONDS) {
        return fail("the assertion is not valid yet");
    }
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI {
        return fail("jti is empty or too long");
    }
    Ok(())
}

fn read_key(config: &ClientConfig) -> Result<DecodingKey, ClientError> {
    let path = &config.public_key;
    let pem = std::fs::read(path).map_err(|source| ClientError::Unreadable {
        path: path.clone(),
        source,
    })?;
    DecodingKey::from_ec_pem(&pem)
        .ok()
        .filter(|key| {
            key.try_get_as_bytes()
                .is_ok_and(|point| point.len() == P384_POINT_BYTES)
        })
        .ok_or_else(|| ClientError::NotP384(path.clone()))
}
