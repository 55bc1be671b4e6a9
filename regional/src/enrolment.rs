//! How a facility of this region joins: it sends the one-time code of its kit with a request that its keys signed, and gets
//! its certificate. The code is good once, for one place; keys are drawn at the facility and never seen here.
//!
//! Whoever asks is unknown. A code is looked up first, one request after the other: a good one is taken however many
//! others are guessed, and what is counted are codes that nobody was given, by who sends them ([`guesses`]). An authority
//! of the region's own lies beside it, where `[enrolment]` says.
mod guesses;

use axum::{
    Extension, Json, Router,
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
    routing::post,
};
use federation::{
    audit::Entry,
    identity::Identity,
    ledger::Ledger,
    pki::{self, Ca, Issued, MAX_REQUEST_BYTES, PkiError, code_hash},
    tls::TimeSource,
};
use guesses::Guesses;
use node::{admission::Network, problem::Problem};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::Arc,
};
use tokio::{runtime::Handle, sync::Semaphore};
use types::{Place, Timestamp};

/// Where a facility asks.
pub const PATH: &str = "/api/v1/enrolment";
/// Requests that look into the authority's state at once, in the order in which they came: a look costs less than a
/// millisecond, so that whoever comes last waits some seconds for as many strangers as the listener holds.
const AT_ONCE: usize = 1;
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
    now: TimeSource,
    /// Where it is written down who joined, before it has its certificate.
    ledger: Ledger,
    guesses: Mutex<Guesses>,
    turn: Arc<Semaphore>,
}

/// The work ended without an answer.
struct Unfinished;

/// Why nothing was signed.
enum Refused {
    /// It is the authority's word.
    Said(PkiError),
    /// Too many unknown codes: come again after so many seconds.
    Later(i64),
}

impl From<PkiError> for Refused {
    fn from(error: PkiError) -> Self {
        Self::Said(error)
    }
}

/// The route; none where the region has no authority. `now` is real time.
pub(crate) fn router(
    authority: Option<PathBuf>,
    here: Place,
    now: TimeSource,
    ledger: Ledger,
) -> Router {
    match authority {
        Some(authority) => route(Arc::new(Enrolment::new(authority, here, now, ledger))),
        None => Router::new(),
    }
}

fn route(door: Arc<Enrolment>) -> Router {
    Router::new().route(PATH, post(enrol)).with_state(door)
}

async fn enrol(
    State(door): State<Arc<Enrolment>>,
    from: Option<Extension<Network>>,
    asked: Result<Json<Asked>, JsonRejection>,
) -> Response {
    let Ok(Json(asked)) = asked else {
        let says = "the body is JSON with code and csr, both texts";
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    };
    if let Err(says) = shape(&asked) {
        return problem(StatusCode::BAD_REQUEST, "not understood", says);
    }
    // Who came another way than by the listener is counted as one.
    let nowhere = || Network::of(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let from = from.map_or_else(nowhere, |Extension(from)| from);
    match door.decide(asked, from).await {
        Ok(Ok(value)) => {
            metrics::counter!("medmesh_enrolments_total", "result" => "done").increment(1);
            Json(value).into_response()
        }
        Ok(Err(Refused::Said(error))) => refused(&error),
        Ok(Err(Refused::Later(wait_s))) => {
            metrics::counter!("medmesh_enrolments_total", "result" => "later").increment(1);
            let says = "too many unknown codes were sent: this one is unknown too, try another in a minute";
            let refused = problem(StatusCode::TOO_MANY_REQUESTS, "not now", says);
            ([(RETRY_AFTER, wait_s.to_string())], refused).into_response()
        }
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
    fn new(authority: PathBuf, here: Place, now: TimeSource, ledger: Ledger) -> Self {
        Self {
            authority,
            here,
            ledger,
            guesses: Mutex::new(Guesses::new(now())),
            turn: Arc::new(Semaphore::new(AT_ONCE)),
            now,
        }
    }

    /// Looks the code up, and signs if it is good, in the request's turn; the outer error: that was not finished.
    async fn decide(
        self: Arc<Self>,
        asked: Asked,
        from: Network,
    ) -> Result<Result<Value, Refused>, Unfinished> {
        let turn = self.turn.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Unfinished)?;
        let at = Handle::current();
        let work = move || {
            // Held to the end, also when whoever asked has gone.
            let _turn = turn;
            self.judge(&asked, from, &at)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Unfinished)
    }

    fn judge(&self, asked: &Asked, from: Network, at: &Handle) -> Result<Value, Refused> {
        if !pki::is_code(&self.authority, &asked.code)? {
            let later = self.guesses.lock().count(from, (self.now)());
            return Err(later.map_or(Refused::Said(PkiError::CodeUnknown), Refused::Later));
        }
        let kit = code_hash(&asked.code);
        let signed = self.sign(asked, &kit, at);
        if let Err(error) = &signed {
            at.block_on(self.note_refusal(&kit, error));
        }
        Ok(signed?)
    }

    fn sign(&self, asked: &Asked, kit: &[u8; 32], at: &Handle) -> Result<Value, PkiError> {
        let now = (self.now)();
        let ca = Ca::open(&self.authority)?;
        let ours = |identity: &Identity| self.is_ours(identity);
        let noted = |issued: &Issued| at.block_on(self.note(kit, issued, now));
        let may = (ours, noted);
        let cert = ca.enrol_if(&asked.code, &asked.csr, now, &mut rand::rng(), may)?;
        tracing::info!(region = %self.here, "a facility has joined");
        let crl = ca.crl_pem(now)?;
        Ok(json!({"certificate": cert, "ca": ca.ca_pem(), "crl": crl}))
    }

    /// Writes down who joined with which kit and what it was given; says whether that is durable.
    async fn note(&self, kit: &[u8; 32], issued: &Issued, now: Timestamp) -> bool {
        let entry = Entry::enrolled(now, &issued.identity, &self.here, kit, &issued.pem);
        let written = self.ledger.write_down(vec![entry]).await;
        if let Err(error) = &written {
            tracing::error!(%error, "an enrolment cannot be written down; no certificate is given");
        }
        written.is_ok()
    }

    /// Writes down that a kit of this mesh was refused. A code that nobody gave out is counted alone, so that who guesses
    /// fills no log.
    async fn note_refusal(&self, kit: &[u8; 32], error: &PkiError) {
        let why = match error {
            PkiError::CodeUsed => "used",
            PkiError::CodeExpired { .. } => "expired",
            PkiError::NotHere => "elsewhere",
            PkiError::Request(_) => "request",
            _ => return,
        };
        let entry = Entry::not_enrolled((self.now)(), why, &self.here, kit);
        if let Err(error) = self.ledger.write_down(vec![entry]).await {
            tracing::error!(%error, "a refused enrolment is not in the audit log");
        }
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
    use ed25519_dalek::SigningKey;
    use federation::{
        audit::{Decision, Log, Signer},
        policy::Rules,
    };
    use node::clock::Clock;
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    use sha2::{Digest, Sha256};
    use std::{collections::BTreeMap, time::Duration};
    use tower::ServiceExt;

    const HERE: &str = "regional/us/us";
    const FACILITY: &str = "edge/us/us/us-f9";

    struct Bed {
        dir: tempfile::TempDir,
        ca: Ca,
        door: Arc<Enrolment>,
    }

    /// A region whose clock stands still.
    fn bed() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki");
        let now = Clock::new(None).real();
        let ca = Ca::init(&path, now).unwrap();
        let here: Place = HERE.parse().unwrap();
        let signer = Signer::new(&here, SigningKey::from_bytes(&[7; 32]));
        let (rules, time) = (Rules::builtin().unwrap(), Arc::new(move || now));
        let file = dir.path().join("ledger.db");
        let ledger = Ledger::open(&file, here.clone(), rules, signer, time.clone()).unwrap();
        let door = Enrolment::new(path, here, time, ledger);
        Bed {
            dir,
            ca,
            door: Arc::new(door),
        }
    }

    impl Bed {
        fn code(&self, place: &str, ttl: Duration, ago_ms: i64) -> String {
            let identity = Identity::Node(place.parse().unwrap());
            let at = (self.door.now)().plus_ms(-ago_ms);
            let names = ["edge.example.org"];
            self.ca
                .invite(&identity, &names, ttl, at, &mut rand::rng())
                .unwrap()
        }

        fn rows(&self) -> Vec<Entry> {
            let log = Log::open(&self.dir.path().join("ledger.db")).unwrap();
            let rows = log.list(0, 100).unwrap();
            rows.into_iter().map(|(_, entry)| entry).collect()
        }

        async fn ask(&self, body: String) -> (StatusCode, Value) {
            self.ask_from(Network::of("127.0.0.1".parse().unwrap()), body)
                .await
        }

        async fn ask_from(&self, from: Network, body: String) -> (StatusCode, Value) {
            let request = Request::post(PATH)
                .header("content-type", "application/json")
                .extension(from)
                .body(Body::from(body))
                .unwrap();
            let answer = route(self.door.clone()).oneshot(request).await.unwrap();
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

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    const DAY: Duration = Duration::from_secs(86_400);

    #[tokio::test]
    async fn who_joined_is_in_the_audit_log_with_its_kit_and_certificate_and_a_guess_is_not() {
        let bed = bed();
        let code = bed.code(FACILITY, DAY, 0);
        let before = bed.rows().len();
        let (status, _) = bed.ask(body(&"0".repeat(32), &csr(FACILITY))).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(bed.rows().len(), before, "a guess fills no log");
        let (_, said) = bed.ask(body(&code, &csr(FACILITY))).await;
        bed.ask(body(&code, &csr(FACILITY))).await;
        let rows = bed.rows().split_off(before);
        let found: Vec<_> = rows
            .iter()
            .map(|row| (row.decision(), row.from(), row.to(), row.reason()))
            .collect();
        let who = format!("spiffe://medmesh/{FACILITY}");
        assert_eq!(
            found,
            [
                (Decision::Enrolled, who.as_str(), HERE, ""),
                (Decision::EnrolmentRefused, "", HERE, "used")
            ]
        );
        let pem = said["certificate"].as_str().unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(rows[0].digest(), hex(&Sha256::digest(&der)));
        let kit = hex(&code_hash(&code)[..16]);
        assert!(rows.iter().all(|row| row.id() == kit));
        assert!(!rows.iter().any(|row| format!("{row:?}").contains(&code)));
    }

    #[tokio::test]
    async fn what_the_log_does_not_take_is_not_issued_and_the_code_stays_good() {
        let bed = bed();
        let code = bed.code(FACILITY, DAY, 0);
        let issued = bed.ca.list().unwrap().len();
        let db = rusqlite::Connection::open(bed.dir.path().join("ledger.db")).unwrap();
        let block =
            "CREATE TRIGGER no BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'no'); END";
        db.execute_batch(block).unwrap();
        let (status, _) = bed.ask(body(&code, &csr(FACILITY))).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(bed.ca.list().unwrap().len(), issued);
        db.execute_batch("DROP TRIGGER no").unwrap();
        let (status, _) = bed.ask(body(&code, &csr(FACILITY))).await;
        assert_eq!(status, StatusCode::OK);
    }

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
    async fn a_stranger_with_a_thousand_wrong_codes_keeps_no_facility_out() {
        let bed = bed();
        let stranger = Network::of("192.0.2.1".parse().unwrap());
        let mut found = BTreeMap::new();
        let mut number = 0_u128;
        let mut wrong = || {
            number += 1;
            body(&format!("{number:032x}"), "no request")
        };
        for _ in 0..1_000 {
            let (status, _) = bed.ask_from(stranger, wrong()).await;
            *found.entry(status).or_insert(0) += 1;
        }
        assert_eq!(found[&StatusCode::FORBIDDEN], guesses::PER_NETWORK);
        assert_eq!(
            found[&StatusCode::TOO_MANY_REQUESTS],
            1_000 - guesses::PER_NETWORK
        );
        // Nor does it cost a person elsewhere the answer to a slip.
        let other = Network::of("192.0.2.2".parse().unwrap());
        assert_eq!(bed.ask_from(other, wrong()).await.0, StatusCode::FORBIDDEN);
        for (place, from) in [(FACILITY, other), ("edge/us/us/us-f8", stranger)] {
            let code = bed.code(place, DAY, 0);
            let (status, said) = bed.ask_from(from, body(&code, &csr(place))).await;
            assert_eq!(status, StatusCode::OK, "{said}");
        }
    }

    #[tokio::test]
    async fn when_everybody_guesses_a_good_code_is_still_taken() {
        let bed = bed();
        bed.door.guesses.lock().exhaust();
        let wrong = bed.ask(body(&"0".repeat(32), "no request")).await;
        assert_eq!(wrong.0, StatusCode::TOO_MANY_REQUESTS, "{}", wrong.1);
        let code = bed.code(FACILITY, DAY, 0);
        let (status, said) = bed.ask(body(&code, &csr(FACILITY))).await;
        assert_eq!(status, StatusCode::OK, "{said}");
    }
}
