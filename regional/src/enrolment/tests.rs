//! Who joins, who does not, and what is written down of it.
use super::*;
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use ed25519_dalek::SigningKey;
use federation::{
    audit::{Decision, Log, Signer},
    contract::machine::{Machine, Parts},
    policy::Rules,
};
use node::{clock::Clock, guesses};
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
    fn code(&self, place: &str, ttl: Duration, ago_ms: i64) -> Secret<String> {
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

fn body(code: &Secret<String>, csr: &str) -> String {
    json!({"code": code.reveal(), "csr": csr}).to_string()
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
    let (status, _) = bed
        .ask(body(&Secret::new("0".repeat(32)), &csr(FACILITY)))
        .await;
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
    assert!(
        !rows
            .iter()
            .any(|row| format!("{row:?}").contains(code.reveal()))
    );
}

#[tokio::test]
async fn the_machine_of_a_measured_kit_is_challenged_and_joins_with_its_quote_alone() {
    let bed = bed();
    let (machine, pcrs) = (Machine::booted("our image"), "0,7".parse().unwrap());
    let identity = Identity::Node(FACILITY.parse().unwrap());
    let (now, measured) = ((bed.door.now)(), Some(machine.measured(pcrs)));
    let code = bed
        .ca
        .invite_measured(&identity, &[], DAY, measured, now, &mut rand::rng())
        .unwrap();
    let (csr, before) = (csr(FACILITY), bed.rows().len());
    let (status, said) = bed.ask(body(&code, &csr)).await;
    assert_eq!(status, StatusCode::PRECONDITION_REQUIRED, "{said}");
    assert_eq!(said["pcrs"], "0,7");
    let challenge = said["challenge"].as_str().unwrap();
    let shown = |machine: &Machine| {
        let parts = Parts::of(pcrs, &pki::nonce(challenge, &csr).unwrap());
        let attestation = Attestation::new(challenge.to_owned(), &machine.quote(&parts));
        json!({"code": code.reveal(), "csr": csr, "attestation": attestation}).to_string()
    };
    let (status, said) = bed.ask(shown(&Machine::booted("our image"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{said}");
    let mut none: Value = serde_json::from_str(&shown(&machine)).unwrap();
    none["attestation"]["quoted"] = json!("no quote");
    let (status, said) = bed.ask(none.to_string()).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{said}");
    let says = said["detail"].as_str().unwrap();
    assert!(says.starts_with("attestation.quoted: "), "{says}");
    let (status, said) = bed.ask(shown(&machine)).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    // Whoever was only challenged is not in the log: it has used nothing up.
    let rows = bed.rows().split_off(before);
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row.decision(), row.reason()))
        .collect();
    assert_eq!(
        found,
        [
            (Decision::EnrolmentRefused, "attestation"),
            (Decision::Enrolled, "")
        ]
    );
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
        (
            Secret::new("0".repeat(32)),
            csr(FACILITY),
            StatusCode::FORBIDDEN,
        ),
        (
            code.clone(),
            csr("edge/us/us/us-f8"),
            StatusCode::BAD_REQUEST,
        ),
        (code.clone(), "no request".into(), StatusCode::BAD_REQUEST),
        (
            Secret::new("short".into()),
            csr(FACILITY),
            StatusCode::BAD_REQUEST,
        ),
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
        body(&Secret::new(format!("{number:032x}")), "no request")
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
    let wrong = bed
        .ask(body(&Secret::new("0".repeat(32)), "no request"))
        .await;
    assert_eq!(wrong.0, StatusCode::TOO_MANY_REQUESTS, "{}", wrong.1);
    let code = bed.code(FACILITY, DAY, 0);
    let (status, said) = bed.ask(body(&code, &csr(FACILITY))).await;
    assert_eq!(status, StatusCode::OK, "{said}");
}

#[tokio::test]
async fn quotes_that_show_nothing_are_few_in_a_minute_and_fill_no_log_and_the_right_one_is_taken() {
    let bed = bed();
    let (machine, pcrs) = (Machine::booted("our image"), "0,7".parse().unwrap());
    let identity = Identity::Node(FACILITY.parse().unwrap());
    let (now, measured) = ((bed.door.now)(), Some(machine.measured(pcrs)));
    let code = bed
        .ca
        .invite_measured(&identity, &[], DAY, measured, now, &mut rand::rng())
        .unwrap();
    let csr = csr(FACILITY);
    let (_, said) = bed.ask(body(&code, &csr)).await;
    let challenge = said["challenge"].as_str().unwrap();
    let shown = |machine: &Machine| {
        let parts = Parts::of(pcrs, &pki::nonce(challenge, &csr).unwrap());
        let attestation = Attestation::new(challenge.to_owned(), &machine.quote(&parts));
        json!({"code": code.reveal(), "csr": csr, "attestation": attestation}).to_string()
    };
    let (other, before) = (shown(&Machine::booted("another image")), bed.rows().len());
    let mut found = BTreeMap::new();
    for _ in 0..guesses::PER_NETWORK + 10 {
        let (status, _) = bed.ask(other.clone()).await;
        *found.entry(status).or_insert(0) += 1;
    }
    assert_eq!(found[&StatusCode::FORBIDDEN], guesses::PER_NETWORK);
    assert_eq!(found[&StatusCode::TOO_MANY_REQUESTS], 10);
    let rows = bed.rows().len() - before;
    assert_eq!(rows, guesses::PER_NETWORK as usize);
    let (status, said) = bed.ask(shown(&machine)).await;
    assert_eq!(status, StatusCode::OK, "{said}");
}
