//! SMART Backend Services (SMART App Launch 2.2, "Backend Services"): a client proves itself with a signed assertion
//! and gets a short-lived bearer token.
//!
//! Access tokens are opaque: 256 random bits, of which this process keeps the SHA-256 only. They survive a renewal of the
//! node ([`crate::renewal`]) and not a restart; a client whose token is refused (401) asks for a new one. Where several
//! nodes serve the same clients ([`Shared`]), a token is good at each of them.
mod assertion;
mod form;
mod jws;
mod keys;
mod left;
mod scope;
mod signed;
mod used;
mod verifier;

pub use assertion::{
    ASSERTION_TYPE, Claims, InvalidClientKey, MAX_LIFETIME_SECONDS, public_point, sign_assertion,
};
pub use jws::{Claimed, NumericDate, OneAudience, Unverified};
pub use keys::KeyError;
pub(crate) use keys::read as read_key;
pub use scope::{Interaction, InvalidScope, Scopes};
pub use used::{Noted, SharedUse};
pub use verifier::{TokenError, Verifier, bearer_token};

use crate::{admission::Known, clock::Clock, config::ClientConfig, listeners, shares::Shares};
use assertion::Registry;
use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use form::Asked;
use parking_lot::Mutex;
use rand::RngCore;
use serde_json::json;
use sha2::{Digest, Sha256};
use signed::Signing;
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};
use types::Timestamp;
use used::Used;

/// Life of an access token (SMART: at most 300 s is recommended).
pub const TOKEN_LIFE_MS: i64 = 300_000;
/// Tokens alive at once; each is some 300 bytes. One more costs the client that holds most its oldest ([`Shares`]).
const MAX_TOKENS: usize = 10_000;
/// Tokens of one client alive at once: a token for each of many workers, and each asked for anew some times in its life.
/// A further one takes the place of the client's oldest: a worker that never keeps its tokens then costs nobody but its
/// own client, whose others ask again (401), while refusing would shut that client out for five minutes.
const MAX_TOKENS_OF_A_CLIENT: usize = 1_000;
/// When the places are full, those of tokens that have expired are looked for this often, in milliseconds: it takes a
/// look at every token.
const PURGE_MS: i64 = 10_000;
/// Name of the file of used assertions within a node's data directory.
pub const USED_ASSERTIONS: &str = "used-assertions";
/// Path of the token endpoint.
pub const TOKEN_PATH: &str = "/auth/token";

/// Clients that cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The public key of a client cannot be had.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The scopes of a client cannot be read.
    #[error("client {client}: {source}")]
    Scope {
        /// The client.
        client: String,
        /// What is wrong.
        source: InvalidScope,
    },
    /// The file of used assertions cannot be read or written.
    #[error("used assertions, {}: {source}", path.display())]
    Used {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Two clients have one key id.
    #[error("the key id {0} is registered twice")]
    DuplicateKid(String),
}

/// Gives access tokens to registered clients.
#[derive(Clone, Debug)]
pub struct TokenServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    token_url: String,
    /// Those of the same clients' server at its other addresses: an assertion for one of them is good here too.
    other_urls: Vec<String>,
    registry: Registry,
    tokens: Mutex<Tokens>,
    clock: Clock,
    /// With what tokens are signed that are to be good at other nodes too.
    signing: Option<Signing>,
}

/// What the token servers of several nodes share.
pub struct Shared {
    used: Arc<dyn SharedUse>,
    signing: Signing,
    origins: Vec<String>,
}

impl Shared {
    /// The assertions that were used at any of them, and a secret that all of them have and nobody else.
    #[must_use]
    pub fn new(used: Arc<dyn SharedUse>, secret: &[u8]) -> Self {
        let signing = Signing::of_secret(secret);
        Self {
            used,
            signing,
            origins: Vec::new(),
        }
    }

    /// With the other addresses, such as `https://127.0.0.1:8443`, at which clients reach one of them.
    #[must_use]
    pub fn at(mut self, origins: &[String]) -> Self {
        self.origins = origins.to_vec();
        self
    }
}

/// The tokens that are alive, by digest, and how many are whose.
#[derive(Debug)]
struct Tokens {
    granted: HashMap<[u8; 32], Granted>,
    /// When those that had expired were last looked for.
    purged: Timestamp,
    shares: Shares<Arc<str>, ([u8; 32], Timestamp)>,
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            granted: HashMap::new(),
            purged: Timestamp(0),
            shares: Shares::new(MAX_TOKENS, MAX_TOKENS_OF_A_CLIENT),
        }
    }
}

#[derive(Debug)]
struct Granted {
    client: Arc<str>,
    scopes: Scopes,
    until: Timestamp,
}

impl Tokens {
    fn add(&mut self, digest: [u8; 32], granted: Granted, now: Timestamp) {
        if self.shares.is_full() && now.since(self.purged) >= PURGE_MS {
            self.purged = now;
            self.granted.retain(|_, granted| granted.until > now);
            self.shares.retain(|(_, until)| *until > now);
        }
        let place = (digest, granted.until);
        let (_, gone) = self.shares.take(granted.client.clone(), place);
        if let Some(((oldest, until), _)) = gone {
            self.granted.remove(&oldest);
            if until > now {
                metrics::counter!("medmesh_tokens_displaced_total").increment(1);
            }
        }
        self.granted.insert(digest, granted);
    }
}

impl TokenServer {
    /// A server for the clients of a node that answers at `origin`, such as `https://127.0.0.1:8443`. Time is real.
    /// `used` is the file of used assertions, [`USED_ASSERTIONS`] in the node's data directory.
    ///
    /// # Errors
    /// [`ClientError`] when a client cannot be registered.
    pub fn new(
        origin: &str,
        clients: &[ClientConfig],
        clock: Clock,
        used: &Path,
    ) -> Result<Self, ClientError> {
        Self::sharing(origin, clients, clock, used, None)
    }

    /// As [`TokenServer::new`]; where `shared` is given, an assertion is good for one token at all nodes that share it, a
    /// token is good at all of them, and no file is kept.
    ///
    /// # Errors
    /// As [`TokenServer::new`].
    pub fn sharing(
        origin: &str,
        clients: &[ClientConfig],
        clock: Clock,
        used: &Path,
        shared: Option<Shared>,
    ) -> Result<Self, ClientError> {
        let token_url = url_at(origin);
        let now = clock.real().0.div_euclid(1_000);
        let path = used;
        let mut other_urls = Vec::new();
        let (used, signing) = match shared {
            Some(shared) => {
                other_urls.extend(shared.origins.iter().map(|origin| url_at(origin)));
                (Used::Shared(shared.used), Some(shared.signing))
            }
            None => {
                let failed = |source| ClientError::Used {
                    path: path.to_owned(),
                    source,
                };
                (Used::open(path, now).map_err(failed)?, None)
            }
        };
        let inner = Inner {
            registry: Registry::new(clients, used)?,
            token_url,
            other_urls,
            tokens: Mutex::default(),
            clock,
            signing,
        };
        let left = path.with_file_name(left::FILE);
        if listeners::follows() {
            inner.take_left(&left, clock.real());
        } else {
            // Of a renewal that came to no end. There is none, almost always.
            let _none = std::fs::remove_file(&left);
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// `POST /auth/token` and the SMART configuration, at the root and below `/fhir`.
    pub fn router(&self) -> Router {
        self.router_by(self.token_url().to_owned())
    }

    /// The same for clients that reach the node at another of its origins.
    pub fn router_at(&self, origin: &str) -> Router {
        self.router_by(url_at(origin))
    }

    fn router_by(&self, token_url: String) -> Router {
        let server = self.clone();
        let said = move || {
            let configuration = smart_configuration(&server, &token_url);
            async { Json(configuration) }
        };
        Router::new()
            .route(TOKEN_PATH, post(token))
            .route("/.well-known/smart-configuration", get(said.clone()))
            .route("/fhir/.well-known/smart-configuration", get(said))
            .with_state(self.clone())
    }

    /// What checks this server's tokens.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        Verifier::of(self.inner.clone())
    }

    /// Where tokens are asked for: the audience of every assertion.
    #[must_use]
    pub fn token_url(&self) -> &str {
        &self.inner.token_url
    }

    /// That, and where the same clients may ask too: an assertion for any of them is good here.
    pub fn token_urls(&self) -> impl Iterator<Item = &str> {
        let own = std::iter::once(&self.inner.token_url);
        own.chain(&self.inner.other_urls).map(String::as_str)
    }

    fn answer(&self, form: &[(String, String)]) -> Result<(Known, serde_json::Value), Refused> {
        let asked = Asked::of(form)?;
        let inner = &self.inner;
        let now = inner.clock.real();
        let is_own = |url: &str| self.token_urls().any(|own| own == url);
        let client = inner.registry.authenticate(asked.assertion, is_own, now)?;
        if asked.client_id.is_some_and(|id| *id != *client.client_id) {
            return Err(Refused::InvalidClient(
                "client_id is not that of the assertion (RFC 7521 section 4.2)",
            ));
        }
        let scopes = Scopes::lenient(asked.scope).within(&client.allowed);
        if scopes.is_empty() {
            return Err(Refused::InvalidScope);
        }
        let text = scopes.to_string();
        let token = inner.issue(&client.client_id, scopes, now);
        let body = json!({
            "access_token": token,
            "token_type": "bearer",
            "expires_in": TOKEN_LIFE_MS / 1_000,
            "scope": text,
        });
        Ok((Known(client.client_id.clone()), body))
    }
}

impl Inner {
    fn issue(&self, client: &Arc<str>, scopes: Scopes, now: Timestamp) -> String {
        let mut secret = [0_u8; 32];
        rand::rng().fill_bytes(&mut secret);
        let opaque = URL_SAFE_NO_PAD.encode(secret);
        let granted = Granted {
            client: client.clone(),
            scopes,
            until: now.plus_ms(TOKEN_LIFE_MS),
        };
        let signing = self.signing.as_ref();
        let signed = signing.and_then(|signing| signing.sign(&granted, &opaque));
        let token = signed.unwrap_or(opaque);
        self.tokens.lock().add(digest(&token), granted, now);
        token
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Why no token is given (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    InvalidRequest(&'static str),
    TooLong,
    UnsupportedGrantType,
    InvalidClient(&'static str),
    InvalidScope,
    Busy,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::InvalidRequest(why) => (StatusCode::BAD_REQUEST, "invalid_request", why),
            Self::TooLong => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "invalid_request",
                "the form is longer than anything that is served",
            ),
            Self::UnsupportedGrantType => (
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "the grant type is client_credentials",
            ),
            Self::InvalidClient(why) => (StatusCode::UNAUTHORIZED, "invalid_client", why),
            Self::InvalidScope => (
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "the client may be granted none of the scopes",
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "temporarily_unavailable",
                "too many assertions of the client are remembered, or its memory cannot be written; try again in a minute",
            ),
        };
        let body = Json(json!({"error": error, "error_description": description}));
        (status, not_stored(), body).into_response()
    }
}

async fn token(
    State(server): State<TokenServer>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    // On a thread that may block: a used assertion is on the disk before its token is given.
    let answer = tokio::task::spawn_blocking(move || {
        let form = form::read(&headers, body)?;
        server.answer(&form)
    });
    let answer = answer.await.unwrap_or(Err(Refused::Busy));
    let result = if answer.is_ok() { "granted" } else { "refused" };
    metrics::counter!("medmesh_tokens_total", "result" => result).increment(1);
    match answer {
        Ok((known, body)) => (not_stored(), Extension(known), Json(body)).into_response(),
        Err(refused) => {
            tracing::info!(?refused, "token refused");
            refused.into_response()
        }
    }
}

/// Headers of every answer of the token endpoint (RFC 6749 §5.1).
fn not_stored() -> [(header::HeaderName, &'static str); 2] {
    [
        (header::CACHE_CONTROL, "no-store"),
        (header::PRAGMA, "no-cache"),
    ]
}

/// The token endpoint of an origin.
fn url_at(origin: &str) -> String {
    format!("{}{TOKEN_PATH}", origin.trim_end_matches('/'))
}

fn smart_configuration(server: &TokenServer, token_url: &str) -> serde_json::Value {
    json!({
        "token_endpoint": token_url,
        "grant_types_supported": ["client_credentials"],
        // Required by SMART App Launch 2.2 of every server, also of one that has no authorization endpoint.
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES384"],
        "scopes_supported": server.inner.registry.scopes(),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    })
}

#[cfg(test)]
mod tests;
