//! Whether a node lives, and whether it can do its work: `GET /live`, `/ready` and `/metrics`.
use crate::telemetry;
use axum::{Json, Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use parking_lot::RwLock;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// What a node must have before it is ready. Clones share their checks.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<RwLock<BTreeMap<&'static str, Option<&'static str>>>>,
}

/// One thing that a node must have; it fails until it is passed for the first time.
#[derive(Clone, Debug)]
pub struct Check {
    health: Health,
    name: &'static str,
}

/// A check that does not pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// The check.
    pub check: &'static str,
    /// Why, from a closed set.
    pub reason: &'static str,
}

impl Health {
    /// Without checks: ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; it fails with `starting` until it passes.
    #[must_use]
    pub fn check(&self, name: &'static str) -> Check {
        self.checks.write().insert(name, Some("starting"));
        Check {
            health: self.clone(),
            name,
        }
    }

    /// What does not pass now, by name.
    #[must_use]
    pub fn failing(&self) -> Vec<Failing> {
        let checks = self.checks.read();
        checks
            .iter()
            .filter_map(|(check, reason)| reason.map(|reason| Failing { check, reason }))
            .collect()
    }

    /// `GET /live`, `/ready` (503 and a list of what is missing, or 200) and `/metrics` (Prometheus text).
    pub fn router(&self) -> Router {
        let health = self.clone();
        Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(move || async move { health.answer() }))
            .route("/metrics", get(metrics))
    }

    fn answer(&self) -> (StatusCode, Json<Ready>) {
        let failing = self.failing();
        let ready = failing.is_empty();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, Json(Ready { ready, failing }))
    }
}

impl Check {
    /// The check passes from now on.
    pub fn pass(&self) {
        self.set(None);
    }

    /// The check fails from now on.
    pub fn fail(&self, reason: &'static str) {
        self.set(Some(reason));
    }

    fn set(&self, reason: Option<&'static str>) {
        self.health.checks.write().insert(self.name, reason);
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    failing: Vec<Failing>,
}

async fn metrics() -> ([(axum::http::HeaderName, &'static str); 1], String) {
    let text = telemetry::render_metrics();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{body::Body, body::to_bytes, http::Request};
    use tower::ServiceExt;

    async fn fetch(health: &Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = health.router().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_node_is_ready_once_every_check_has_passed() {
        let health = Health::new();
        let (store, link) = (health.check("store"), health.check("link"));
        store.pass();
        let (status, body) = fetch(&health, "/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            r#"{"ready":false,"failing":[{"check":"link","reason":"starting"}]}"#
        );
        link.pass();
        assert_eq!(fetch(&health, "/ready").await.0, StatusCode::OK);
        store.fail("disk full");
        assert_eq!(
            health.failing(),
            [Failing {
                check: "store",
                reason: "disk full"
            }]
        );
    }

    #[tokio::test]
    async fn a_node_that_is_not_ready_is_alive_and_has_metrics() {
        let health = Health::new();
        let _check = health.check("store");
        assert_eq!(fetch(&health, "/live").await.0, StatusCode::OK);
        let (status, body) = fetch(&health, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.contains("process_resident_memory_bytes"), "{body}");
    }
}
