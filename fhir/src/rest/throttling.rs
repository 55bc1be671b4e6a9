//! Who asks too often waits (RFC 6585 §4). How often that is, is the caller's to say ([`super::Authorize::spend`]).
use super::{FhirApi, outcome::Failure};
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};

/// A client has asked too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// Requests a second that it may go on with.
    pub per_second: u32,
    /// After how long it may ask again.
    pub wait: Duration,
}

impl TooOften {
    /// 429, with the whole seconds after which to ask again.
    pub(super) fn answer(self) -> Response {
        let seconds = self.wait.as_secs().saturating_add(1);
        let says = format!(
            "a client may send {} requests a second here, each entry of a Bundle being one; ask again in {seconds} s",
            self.per_second
        );
        let failure = Failure::new(StatusCode::TOO_MANY_REQUESTS, "throttled", says);
        let mut response = failure.into_response();
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

/// Serves a request of who has not asked too often.
pub async fn throttle(State(api): State<Arc<FhirApi>>, request: Request, next: Next) -> Response {
    match api.authorize.spend(request.headers(), 1, false) {
        Ok(()) => next.run(request).await,
        Err(too_often) => too_often.answer(),
    }
}
