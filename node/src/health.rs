//! Whether a node lives, and whether it can do its work: `GET /live`, `/ready` and `/metrics`.
use crate::telemetry;
use axum::{Json, Router, http::StatusCode, http::header::CONTENT_TYPE, routing::get};
use parking_lot::RwLock;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc};

/// The paths of [`Health::router`]: what asks for them has places of its own on the listener.
pub const PATHS: [&str; 3] = ["/live", "/ready", "/metrics"];

/// What a node must have before it is ready, and what it can do without for a while. Clones share their checks.
#[derive(Clone, Debug, Default)]
pub struct Health {
    checks: Arc<RwLock<BTreeMap<&'static str, State>>>,
}

#[derive(Clone, Debug)]
struct State {
    /// Whether the node is not ready without it.
    needed: bool,
    /// Why it does not pass.
    reason: Option<&'static str>,
    /// Of whom.
    names: Vec<String>,
}

impl State {
    /// The same for whoever watches metrics alone.
    fn tell(&self, name: &'static str) {
        let needed = if self.needed { "true" } else { "false" };
        let failing = f64::from(u8::from(self.reason.is_some()));
        metrics::gauge!("medmesh_check_failing", "check" => name, "needed" => needed).set(failing);
    }
}

/// One thing that a node should have; it fails until it is passed for the first time.
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
    /// Of whom, where it is of some and not of others: devices of the facility, never patients.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
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
        self.add(name, true)
    }

    /// Adds a check without which the node is ready all the same, but degraded: `/ready` says so. It fails with
    /// `starting` until it passes.
    #[must_use]
    pub fn optional(&self, name: &'static str) -> Check {
        self.add(name, false)
    }

    fn add(&self, name: &'static str, needed: bool) -> Check {
        let reason = Some("starting");
        let names = Vec::new();
        let state = State {
            needed,
            reason,
            names,
        };
        state.tell(name);
        self.checks.write().insert(name, state);
        Check {
            health: self.clone(),
            name,
        }
    }

    /// What the node must have and does not pass now, by name.
    #[must_use]
    pub fn failing(&self) -> Vec<Failing> {
        self.not_passing(true)
    }

    /// What does not pass now and the node does without, by name.
    #[must_use]
    pub fn degraded(&self) -> Vec<Failing> {
        self.not_passing(false)
    }

    fn not_passing(&self, needed: bool) -> Vec<Failing> {
        let checks = self.checks.read();
        let asked = checks.iter().filter(|(_, state)| state.needed == needed);
        let failing = |(check, state): (&&'static str, &State)| {
            let names = state.names.clone();
            let reason = state.reason?;
            Some(Failing {
                check,
                reason,
                names,
            })
        };
        asked.filter_map(failing).collect()
    }

    /// `GET /live`, `/ready` (503 or 200, with lists of what is missing and of what the node does without) and
    /// `/metrics` (Prometheus text).
    pub fn router(&self) -> Router {
        self.probes().route("/metrics", get(metrics))
    }

    /// `GET /live` and `/ready` alone, for a listener at which not everybody may read metrics.
    pub fn probes(&self) -> Router {
        let health = self.clone();
        Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(move || async move { health.answer() }))
    }

    fn answer(&self) -> (StatusCode, Json<Ready>) {
        let (failing, degraded) = (self.failing(), self.degraded());
        let ready = failing.is_empty();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let answer = Ready {
            ready,
            failing,
            degraded,
        };
        (status, Json(answer))
    }
}

impl Check {
    /// The check passes from now on.
    pub fn pass(&self) {
        self.set(None, Vec::new());
    }

    /// The check fails from now on.
    pub fn fail(&self, reason: &'static str) {
        self.set(Some(reason), Vec::new());
    }

    /// The check fails from now on, and of whom.
    pub fn fail_for(&self, reason: &'static str, names: Vec<String>) {
        self.set(Some(reason), names);
    }

    fn set(&self, reason: Option<&'static str>, names: Vec<String>) {
        if let Some(state) = self.health.checks.write().get_mut(self.name) {
            state.reason = reason;
            state.names = names;
            state.tell(self.name);
        }
    }
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    failing: Vec<Failing>,
    degraded: Vec<Failing>,
}

/// Every metric, in Prometheus' text format.
pub async fn metrics() -> ([(axum::http::HeaderName, &'static str); 1], String) {
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
            r#"{"ready":false,"failing":[{"check":"link","reason":"starting"}],"degraded":[]}"#
        );
        link.pass();
        assert_eq!(fetch(&health, "/ready").await.0, StatusCode::OK);
        store.fail("disk full");
        assert_eq!(
            health.failing(),
            [Failing {
                check: "store",
                reason: "disk full",
                names: Vec::new(),
            }]
        );
    }

    #[tokio::test]
    async fn a_node_without_what_it_can_do_without_is_ready_and_says_what_is_degraded() {
        let health = Health::new();
        let (link, clock) = (health.optional("link"), health.optional("clock"));
        clock.pass();
        link.fail("down");
        let (status, body) = fetch(&health, "/ready").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            body,
            r#"{"ready":true,"failing":[],"degraded":[{"check":"link","reason":"down"}]}"#
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
