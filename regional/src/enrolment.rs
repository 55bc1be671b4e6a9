//! How a facility of this region joins: it sends the one-time code of its kit with a request that its keys signed, and gets
//! its certificate. The code is good once, for one place; keys are drawn at the facility and never seen here.
//!
//! Whoever asks is unknown, so that guesses are few: so many in a minute for everybody together, which with codes of 128
//! bits is out of reach for ever. An authority of the region's own lies beside it, where `[enrolment]` says.
use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use federation::{
    identity::Identity,
    pki::{Ca, MAX_REQUEST_BYTES, PkiError},
};
use node::{clock::Clock, problem::Problem};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{path::PathBuf, sync::Arc};
use types::{Place, Timestamp};

/// Where a facility asks.
pub const PATH: &str = "/api/v1/enrolment";
/// Requests of everybody together in a minute: a hospital group that joins all its houses at once, and no more.
const PER_MINUTE: usize = 30;
const MINUTE_MS: i64 = 60_000;
/// Digits of a code.
const CODE_DIGITS: usize = 32;

/// What is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// The one-time code of the kit.
    code: String,
    /// The request (PKCS#10, PEM).
    csr: String,
}

/// The door for those that are not known yet.
struct Enrolment {
    authority: PathBuf,
    here: Place,
    clock: Clock,
    /// When the last requests came.
    recent: Mutex<Vec<Timestamp>>,
}

/// The route; none where the region has no authority.
pub(crate) fn router(authority: Option<PathBuf>, here: Place, clock: Clock) -> Router {
    let Some(authority) = authority else {
        return Router::new();
    };
    let enrolment = Enrolment {
        authority,
        here,
        clock,
        recent: Mutex::default(),
    };
    Router::new()
        .route(PATH, post(enrol))
        .with_state(Arc::new(enrolment))
}

async fn enrol(
    State(door): State<Arc<Enrolment>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Response {
    if let Some(wait_s) = door.wait(door.clock.real()) {
        let says = "too many facilities ask at once: try again in a minute";
        let refused = problem(StatusCode::TOO_MANY_REQUESTS, "not now", says);
        return ([(RETRY_AFTER, wait_s.to_string())], refused).into_response();
    }
    let Ok(Json(asked)) = asked else {
        let says = "the body is JSON with code and csr, both texts";
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    };
    if let Err(says) = shape(&asked) {
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    }
    let signed = tokio::task::spawn_blocking(move || door.sign(&asked)).await;
    match signed {
        Ok(Ok(value)) => {
            metrics::counter!("medmesh_enrolments_total", "result" => "done").increment(1);
            Json(value).into_response()
        }
        Ok(Err(error)) => refused(&error),
        Err(_) => problem(
            StatusCode::INTERNAL_SERVER_ERROR,
            "failed",
            "the request was not finished",
        ),
    }
}

/// What cannot be a code or a request is told from what is a wrong one.
fn shape(asked: &Asked) -> Result<(), &'static str> {
    let is_code =
        asked.code.len() == CODE_DIGITS && asked.code.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_code {
        return Err("code: is 32 hexadecimal digits, as the kit has it");
    }
    if asked.csr.len() > MAX_REQUEST_BYTES {
        return Err("csr: is longer than any request");
    }
    Ok(())
}

impl Enrolment {
    /// Seconds until another request is taken; none when this one is.
    fn wait(&self, now: Timestamp) -> Option<i64> {
        let mut recent = self.recent.lock();
        recent.retain(|at| (0..MINUTE_MS).contains(&now.since(*at)));
        if let (true, Some(first)) = (recent.len() >= PER_MINUTE, recent.first()) {
            return Some((MINUTE_MS - now.since(*first)) / 1_000 + 1);
        }
        recent.push(now);
        None
    }

    fn sign(&self, asked: &Asked) -> Result<Value, PkiError> {
        let now = self.clock.real();
        let ca = Ca::open(&self.authority)?;
        let ours = |identity: &Identity| self.is_ours(identity);
        let cert = ca.enrol_if(&asked.code, &asked.csr, now, &mut rand::rng(), ours)?;
        tracing::info!(region = %self.here, "a facility has joined");
        let crl = ca.crl_pem(now)?;
        Ok(json!({"certificate": cert, "ca": ca.ca_pem(), "crl": crl}))
    }

    /// Only the nodes of this region's own facilities join here.
    fn is_ours(&self, identity: &Identity) -> bool {
        match (identity, &self.here) {
            (
                Identity::Node(Place::Edge {
                    jurisdiction,
                    region,
                    ..
                }),
                Place::Regional {
                    jurisdiction: own,
                    region: here,
                },
            ) => jurisdiction == own && region == here,
            _ => false,
        }
    }
}

fn problem(status: StatusCode, title: &'static str, detail: &str) -> Response {
    Problem::new(status, title, detail).into_response()
}

fn refused(error: &PkiError) -> Response {
    let (status, result) = match error {
        PkiError::CodeUnknown => (StatusCode::FORBIDDEN, "unknown"),
        PkiError::CodeUsed => (StatusCode::CONFLICT, "used"),
        PkiError::CodeExpired { .. } => (StatusCode::GONE, "expired"),
        PkiError::NotHere => (StatusCode::FORBIDDEN, "elsewhere"),
        PkiError::Request(_) => (StatusCode::BAD_REQUEST, "request"),
        _ => {
            tracing::error!(%error, "the authority cannot sign");
            let says = "the region's authority cannot sign now: its operator must look";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "not now", says);
        }
    };
    metrics::counter!("medmesh_enrolments_total", "result" => result).increment(1);
    tracing::warn!(result, "an enrolment was refused");
    problem(status, "refused", &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        body::{Body, to_bytes},
        http::Request,
    };
    use federation::pki;
    use std::time::Duration;
    use tower::ServiceExt;

    const HERE: &str = "regional/us/us";
    const FACILITY: &str = "edge/us/us/us-f9";

    struct Bed {
        _dir: tempfile::TempDir,
        ca: Ca,
        router: Router,
    }

    fn bed() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki");
        let clock = Clock::new(None);
        let ca = Ca::init(&path, clock.real()).unwrap();
        let router = router(Some(path), HERE.parse().unwrap(), clock);
        Bed {
            _dir: dir,
            ca,
            router,
        }
    }

    impl Bed {
        fn code(&self, place: &str, ttl: Duration, ago_ms: i64) -> String {
            let identity = Identity::Node(place.parse().unwrap());
            let at = Clock::new(None).real().plus_ms(-ago_ms);
            let names = ["edge.example.org"];
            self.ca
                .invite(&identity, &names, ttl, at, &mut rand::rng())
                .unwrap()
        }

        async fn ask(&self, body: String) -> (StatusCode, Value) {
            let request = Request::post(PATH)
                .header("content-type", "application/json")
                .body(Body::from(body))
                .unwrap();
            let answer = self.router.clone().oneshot(request).await.unwrap();
            let status = answer.status();
            let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
            (status, serde_json::from_slice(&bytes).unwrap_or_default())
        }
    }

    fn csr(place: &str) -> String {
        let dir = tempfile::tempdir().unwrap();
        let key = pki::signing_key(&dir.path().join("key"), &mut rand::rng()).unwrap();
        let identity = Identity::Node(place.parse().unwrap());
        pki::new_key_and_csr(&identity, Some(&key)).unwrap().csr_pem
    }

    fn body(code: &str, csr: &str) -> String {
        json!({"code": code, "csr": csr}).to_string()
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn a_code_is_good_once_in_its_time_at_its_own_region_and_for_its_own_place() {
        let bed = bed();
        let code = bed.code(FACILITY, DAY, 0);
        for (code, csr, status) in [
            ("0".repeat(32), csr(FACILITY), StatusCode::FORBIDDEN),
            (
                code.clone(),
                csr("edge/us/us/us-f8"),
                StatusCode::BAD_REQUEST,
            ),
            (code.clone(), "no request".into(), StatusCode::BAD_REQUEST),
            ("short".into(), csr(FACILITY), StatusCode::BAD_REQUEST),
            (
                bed.code("edge/us/west/us-f9", DAY, 0),
                csr("edge/us/west/us-f9"),
                StatusCode::FORBIDDEN,
            ),
            (
                bed.code("global", DAY, 0),
                csr("global"),
                StatusCode::FORBIDDEN,
            ),
            (
                bed.code(FACILITY, Duration::from_secs(60), 61_000),
                csr(FACILITY),
                StatusCode::GONE,
            ),
            // Nothing that was refused has used the code up.
            (code.clone(), csr(FACILITY), StatusCode::OK),
            (code.clone(), csr(FACILITY), StatusCode::CONFLICT),
        ] {
            let (found, said) = bed.ask(body(&code, &csr)).await;
            assert_eq!(found, status, "{said}");
            if status == StatusCode::OK {
                assert!(
                    said["certificate"]
                        .as_str()
                        .unwrap()
                        .contains("BEGIN CERTIFICATE")
                );
                assert_eq!(said["ca"].as_str().unwrap(), bed.ca.ca_pem());
            }
        }
        for body in [
            "",
            "{}",
            r#"{"code": 7, "csr": ""}"#,
            r#"{"code":"","csr":"","more":1}"#,
        ] {
            assert_eq!(bed.ask(body.to_owned()).await.0, StatusCode::BAD_REQUEST);
        }
    }

    #[tokio::test]
    async fn guesses_are_few_in_a_minute_and_the_next_minute_is_another() {
        let bed = bed();
        for _ in 0..PER_MINUTE {
            assert_eq!(bed.ask(body("x", "")).await.0, StatusCode::BAD_REQUEST);
        }
        assert_eq!(
            bed.ask(body("x", "")).await.0,
            StatusCode::TOO_MANY_REQUESTS
        );
        let enrolment = Enrolment {
            authority: PathBuf::new(),
            here: HERE.parse().unwrap(),
            clock: Clock::new(None),
            recent: Mutex::new(vec![Timestamp(0); PER_MINUTE]),
        };
        assert_eq!(enrolment.wait(Timestamp(30_000)), Some(31));
        assert_eq!(enrolment.wait(Timestamp(MINUTE_MS)), None);
    }
}
