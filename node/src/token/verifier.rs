//! What checks access tokens: whose a request's is, and what its bearer may do.
use super::{Granted, Inner, Scopes, digest};
use crate::problem::Problem;
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::sync::Arc;

/// The token of a request: of its one `Authorization` header, whatever the case of `Bearer` (RFC 9110 §11.1).
#[must_use]
pub fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (first, more) = (values.next()?, values.next());
    let (scheme, token) = first.to_str().ok()?.split_once(' ')?;
    let is_one = more.is_none() && scheme.eq_ignore_ascii_case("bearer");
    is_one.then(|| token.trim())
}

/// Checks access tokens.
#[derive(Clone, Debug)]
pub struct Verifier {
    inner: Arc<Inner>,
}

impl Verifier {
    pub(super) const fn of(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// What the bearer of this request may do.
    ///
    /// # Errors
    /// [`TokenError`], which is also the response to give.
    pub fn check(&self, headers: &HeaderMap) -> Result<Scopes, TokenError> {
        self.granted(headers, |granted| granted.scopes.clone())
    }

    /// The client whose token this request carries; none when it carries no good one.
    pub fn client(&self, headers: &HeaderMap) -> Option<Arc<str>> {
        self.granted(headers, |granted| granted.client.clone()).ok()
    }

    /// Which client the bearer of this request is, by its `client_id`, and what it may do.
    ///
    /// # Errors
    /// As [`Verifier::check`].
    pub fn bearer(&self, headers: &HeaderMap) -> Result<(Arc<str>, Scopes), TokenError> {
        self.granted(headers, |granted| {
            (granted.client.clone(), granted.scopes.clone())
        })
    }

    /// What a client may be granted by its registration, whether it has a token or not; none when it is not registered.
    #[must_use]
    pub fn allowed(&self, client: &str) -> Option<Scopes> {
        let found = self.inner.registry.allowed(client);
        found.map(|(_, scopes)| scopes)
    }

    fn granted<T>(
        &self,
        headers: &HeaderMap,
        take: impl FnOnce(&Granted) -> T,
    ) -> Result<T, TokenError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(TokenError::Missing)?;
        let (scheme, token) = value
            .to_str()
            .ok()
            .and_then(|text| text.split_once(' '))
            .ok_or(TokenError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") || values.next().is_some() {
            return Err(TokenError::Malformed);
        }
        let (now, token) = (self.inner.clock.real(), token.trim());
        let digest = digest(token);
        {
            let tokens = self.inner.tokens.lock();
            if let Some(granted) = tokens.granted.get(&digest) {
                let is_good = granted.until > now;
                return is_good.then(|| take(granted)).ok_or(TokenError::Unknown);
            }
        }
        let granted = self.inner.given_elsewhere(token, now);
        let granted = granted.ok_or(TokenError::Unknown)?;
        let taken = take(&granted);
        self.inner.tokens.lock().add(digest, granted, now);
        Ok(taken)
    }
}

/// Why a request carries no right (RFC 6750 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No `Authorization` header.
    #[error("a bearer token is needed")]
    Missing,
    /// An `Authorization` header that is not one bearer token.
    #[error("the authorization header is not one bearer token")]
    Malformed,
    /// Not a token of this node, or one that has expired.
    #[error("the token is unknown or has expired; ask for a new one")]
    Unknown,
}

impl TokenError {
    /// The value of `WWW-Authenticate`.
    #[must_use]
    pub const fn challenge(self) -> &'static str {
        match self {
            Self::Missing => "Bearer",
            Self::Malformed => "Bearer error=\"invalid_request\"",
            Self::Unknown => "Bearer error=\"invalid_token\"",
        }
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let challenge = [(header::WWW_AUTHENTICATE, self.challenge())];
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "no token", self.to_string());
        (challenge, problem).into_response()
    }
}
