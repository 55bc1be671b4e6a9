//! What staff and devices ask at the door, what they are told, and when a code is used up.
use super::*;
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use ed25519_dalek::SigningKey;
use federation::{
    pki::{self, Ca},
    tls::{ReloadingTls, TlsPaths},
};
use node::guesses::PER_NETWORK;
use serde_json::Value;
use std::{
    future::{pending, ready},
    path::Path,
    sync::atomic::{AtomicI64, Ordering},
};
use store::{
    system_entropy,
    testbed::{hand, options},
};
use tempfile::TempDir;
use tower::ServiceExt as _;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// Over at once.
const NO_PATIENCE: Duration = Duration::ZERO;
/// Where no region is.
const NOWHERE: &str = "https://127.0.0.1:1";
const INVITE: &str = "/api/v1/devices/invite";
const HOUR_MS: i64 = 3_600_000;

/// A facility with one device, whose region does not answer.
struct Bed {
    _dirs: [TempDir; 2],
    at: Arc<AtomicI64>,
    door: Arc<Enrolment>,
}

/// The facility's certificate, as its region gave it.
fn region(dir: &Path, here: &Place, now: TimeSource) -> Renewing {
    let ca = Ca::init(&dir.join("pki"), NOW).unwrap();
    let (identity, signing) = (
        Identity::Node(here.clone()),
        SigningKey::from_bytes(&[9; 32]),
    );
    let new = pki::new_key_and_csr(&identity, Some(&signing)).unwrap();
    let day = Duration::from_secs(86_400);
    let code = ca.invite(&identity, &[], day, NOW, &mut rand::rng());
    let pem = ca.enrol(&code.unwrap(), &new.csr_pem, NOW, &mut rand::rng());
    let (cert, key) = (dir.join("node.pem"), dir.join("node.key"));
    pki::write_public(&cert, &pem.unwrap()).unwrap();
    pki::write_private(&key, &new.key_pem).unwrap();
    let paths = TlsPaths {
        ca: ca.ca_path(),
        cert: cert.clone(),
        key: key.clone(),
        crl: ca.crl_path(),
        received: None,
        issued: None,
    };
    Renewing {
        urls: vec![NOWHERE.to_owned()],
        there: "regional/us/us".parse().unwrap(),
        tls: ReloadingTls::open(paths, true, now).unwrap(),
        cert,
        key,
        signing,
        turn: Arc::default(),
    }
}

fn bed() -> Bed {
    let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let at = Arc::new(AtomicI64::new(NOW.0));
    let now: TimeSource = {
        let at = at.clone();
        Arc::new(move || Timestamp(at.load(Ordering::SeqCst)))
    };
    let here: Place = "edge/us/us/us-f1".parse().unwrap();
    let parts = Parts {
        region: region(dirs[0].path(), &here, now.clone()),
        here,
        store: Store::open(options(dirs[1].path(), hand())).unwrap(),
        ca: dirs[0].path().join("pki/ca.pem"),
        now,
        entropy: system_entropy,
    };
    Bed {
        _dirs: dirs,
        at,
        door: Enrolment::new(parts, ["lab-1".parse().unwrap()]),
    }
}

impl Bed {
    /// What is said to a body that somebody of a network sends.
    async fn ask(&self, path: &str, from: u8, body: String) -> (StatusCode, HeaderMap, Value) {
        let from = Network::of(IpAddr::V4(Ipv4Addr::new(192, 0, 2, from)));
        let request = Request::post(path)
            .header("content-type", "application/json")
            .extension(from)
            .body(Body::from(body))
            .unwrap();
        let routes = self.door.door().merge(self.door.inviting());
        let answer = routes.oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = to_bytes(body, 1 << 20).await.unwrap();
        let said = serde_json::from_slice(&bytes).unwrap_or_default();
        (parts.status, parts.headers, said)
    }

    async fn invited(&self) -> String {
        let (_, _, said) = self
            .ask(INVITE, 1, json!({"device": "lab-1"}).to_string())
            .await;
        said["code"].as_str().unwrap().to_owned()
    }
}

/// What a device sends.
fn body(code: &str, csr: &str) -> String {
    json!({"code": code, "csr": csr}).to_string()
}

#[tokio::test]
async fn a_code_is_drawn_for_a_device_of_the_configuration_and_an_error_names_the_device() {
    let bed = bed();
    let (status, _, said) = bed
        .ask(INVITE, 1, json!({"device": "lab-1"}).to_string())
        .await;
    assert_eq!(status, StatusCode::OK);
    let code = said["code"].as_str().unwrap();
    assert_eq!(hex::decode(code).unwrap().len(), CODE_BYTES);
    assert_eq!(said["expires"], NOW.plus_ms(HOUR_MS).to_rfc3339());
    for (body, expected) in [
        (r#"{"device": "lab-2"}"#, StatusCode::NOT_FOUND),
        (r#"{"device": "../lab-1"}"#, StatusCode::BAD_REQUEST),
        (r#"{"device": "lab-1", "more": 1}"#, StatusCode::BAD_REQUEST),
        ("{}", StatusCode::BAD_REQUEST),
        ("{", StatusCode::BAD_REQUEST),
    ] {
        let (status, _, said) = bed.ask(INVITE, 1, body.to_owned()).await;
        assert_eq!(status, expected, "{body}");
        let detail = said["detail"].as_str().unwrap();
        assert!(detail.starts_with("device: "), "{body}: {detail}");
    }
}

#[tokio::test]
async fn a_request_is_refused_by_what_is_wrong_with_it_and_its_code_stays_good_for_an_hour() {
    let bed = bed();
    let code = bed.invited().await;
    let long = "x".repeat(MAX_REQUEST_BYTES + 1);
    let more = json!({"code": code, "csr": "x", "more": 1}).to_string();
    let not_understood = "the body is JSON with code and csr, both texts";
    let (away, over) = (
        "the region signs nothing now; the code stays good",
        "the code was good for an hour; ask for another",
    );
    let used = "no device was invited with this code, or it was used before";
    for (after_ms, body, expected, detail) in [
        (0, "{".to_owned(), 400, not_understood),
        (
            0,
            r#"{"code": 5, "csr": "x"}"#.to_owned(),
            400,
            not_understood,
        ),
        (0, more, 400, not_understood),
        (0, "x".repeat(MAX_BODY + 1), 400, not_understood),
        (0, body(&"0".repeat(32), "x"), 403, used),
        (
            0,
            body(&code, &long),
            400,
            "csr: is longer than any request",
        ),
        (0, body(&code, "x"), 503, away),
        (HOUR_MS - 1, body(&code, "x"), 503, away),
        (HOUR_MS, body(&code, "x"), 410, over),
        (HOUR_MS, body(&code, "x"), 403, used),
    ] {
        bed.at.store(NOW.0 + after_ms, Ordering::SeqCst);
        let (status, _, said) = bed.ask(PATH, 1, body).await;
        assert_eq!(
            (status.as_u16(), &said["detail"]),
            (expected, &json!(detail))
        );
    }
}

#[tokio::test]
async fn a_network_that_guesses_is_told_to_wait_and_a_good_code_from_there_is_looked_at() {
    let bed = bed();
    let code = bed.invited().await;
    let guess = body(&"0".repeat(32), "x");
    for _ in 0..PER_NETWORK {
        assert_eq!(
            bed.ask(PATH, 1, guess.clone()).await.0,
            StatusCode::FORBIDDEN
        );
    }
    let (status, headers, _) = bed.ask(PATH, 1, guess.clone()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(headers[RETRY_AFTER], "60");
    assert_eq!(bed.ask(PATH, 2, guess).await.0, StatusCode::FORBIDDEN);
    let (status, _, _) = bed.ask(PATH, 1, body(&code, "x")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "it is no guess");
}

#[tokio::test]
async fn a_code_is_used_up_by_a_certificate_and_by_nothing_else() {
    let lab: DeviceId = "lab-1".parse().unwrap();
    let codes = Mutex::new(Codes::new([lab.clone()], NOW));
    let (code, _) = codes.lock().draw(&lab, [1; CODE_BYTES], NOW).unwrap();
    let from = Network::of(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let take = || codes.lock().take(&code, from, NOW);
    // Whoever asked goes away while the region is asked.
    let (device, invited) = take().unwrap();
    let waits = using(&codes, (&device, &invited), pending::<Result<(), _>>());
    assert!(timeout(NO_PATIENCE, waits).await.is_err());
    // The region does not answer.
    let (device, invited) = take().unwrap();
    let silent = said(&lab, pending(), NO_PATIENCE);
    let refused = using(&codes, (&device, &invited), silent).await;
    assert!(matches!(refused, Err(Refused::NotNow)));
    let (device, invited) = take().unwrap();
    let given = using(&codes, (&device, &invited), ready(Ok(()))).await;
    assert!(given.is_ok());
    assert_eq!(take(), Err(NoCode::Unknown));
}
