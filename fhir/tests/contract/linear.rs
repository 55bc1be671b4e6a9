//! Conditional creates are linearizable (FHIR R4 http.html#ccreate): of clients that send the same condition at once, by
//! `If-None-Exist` or as an entry of a transaction, through two servers over one database, one is answered 201 and all
//! others are given what it created. Checked over the recorded history of each round.
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use libtest_mimic::Failed;
use medmesh_fhir::admit::Holding;
use medmesh_fhir::contract::Engine;
use medmesh_fhir::rest::{
    Access, AccessLog, Authorize, Denied, FHIR_JSON, FhirApi, Granted, Interaction, Reader,
    Refused, Unwritten, Vantages,
};
use medmesh_fhir::search::Seal;
use medmesh_fhir::store::{ResourceStore, ResourceType};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tower::ServiceExt;
use types::Timestamp;

/// Clients that create by one condition at once.
const CLIENTS: u64 = 64;
/// Rounds, unless [`ASKED`] says how many.
const ROUNDS: u64 = 6;
/// The variable that asks for another number of rounds.
const ASKED: &str = "MEDMESH_TEST_ROUNDS";

/// Everybody may do everything.
struct Everybody;

impl Authorize for Everybody {
    fn authorize(
        &self,
        headers: &HeaderMap,
        _: ResourceType,
        _: Interaction,
    ) -> Result<Granted, Denied> {
        self.known(headers).map(Granted::everything)
    }

    fn known(&self, _: &HeaderMap) -> Result<Reader, Denied> {
        Ok(Reader("writer".into()))
    }
}

/// Nothing is kept.
struct NoLog;

#[async_trait::async_trait]
impl AccessLog for NoLog {
    async fn given(&self, _: Access) -> Result<(), Unwritten> {
        Ok(())
    }

    fn refused(&self, _: Refused) {}
}

fn server(store: Arc<dyn ResourceStore>) -> Router {
    let api = FhirApi {
        vantages: Vantages::new(Arc::clone(&store)),
        store,
        authorize: Arc::new(Everybody),
        access: Arc::new(NoLog),
        base: "https://region.example/fhir".into(),
        other_bases: Arc::default(),
        token_url: None,
        now: Arc::new(|| Timestamp(1_800_000_000_000)),
        true_times: Arc::new(|| false),
        seal: Seal::of_secret(b"secret"),
        holding: Arc::new(|| Holding::Pseudonymous { year: 2027 }),
        draw: Arc::new(drawn),
        bulk: None,
        subscriptions: None,
    };
    api.router()
}

/// Each time other bytes.
fn drawn() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}

/// One call of one client, by the clock of the round.
struct Call {
    begun: u64,
    ended: u64,
    status: u16,
    id: String,
}

fn condition(round: u64) -> String {
    format!("identifier=urn:ietf:rfc:3986%7Curn:uuid:00000000-0000-4000-8000-{round:012}")
}

/// The request of a client: every other one sends a transaction.
fn request(round: u64, client: u64) -> Request<Body> {
    let resource = json!({
        "resourceType": "Basic",
        "code": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/basic-resource-type", "code": "study"}]},
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": format!("urn:uuid:00000000-0000-4000-8000-{round:012}")}],
    });
    let post = |path: &str| Request::post(path).header("content-type", FHIR_JSON);
    let (request, body) = match client % 2 {
        0 => (
            post("/fhir/Basic").header("if-none-exist", condition(round)),
            resource,
        ),
        _ => (
            post("/fhir"),
            json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
                "resource": resource,
                "request": {"method": "POST", "url": "Basic", "ifNoneExist": condition(round)},
            }]}),
        ),
    };
    request
        .body(Body::from(body.to_string()))
        .expect("a request")
}

async fn send(server: &Router, request: Request<Body>) -> Result<(StatusCode, Bytes), Failed> {
    let response = server.clone().oneshot(request).await?;
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await?;
    Ok((status, body))
}

async fn call(
    server: Router,
    clock: Arc<AtomicU64>,
    (round, client): (u64, u64),
) -> Result<Call, Failed> {
    let begun = clock.fetch_add(1, Ordering::SeqCst);
    let (status, body) = send(&server, request(round, client)).await?;
    let ended = clock.fetch_add(1, Ordering::SeqCst);
    let answer: Value = serde_json::from_slice(&body)?;
    let failed = || Failed::from(format!("{status}: {answer}"));
    let (status, id) = match answer["resourceType"].as_str() {
        Some("Basic") => (status.as_u16(), answer["id"].as_str().map(str::to_owned)),
        Some("Bundle") => {
            let told = &answer["entry"][0]["response"];
            let status = told["status"].as_str().and_then(|text| text.get(..3));
            let place = told["location"].as_str().unwrap_or_default();
            (
                status
                    .and_then(|code| code.parse().ok())
                    .ok_or_else(failed)?,
                place.split('/').nth(1).map(str::to_owned),
            )
        }
        _ => return Err(failed()),
    };
    Ok(Call {
        begun,
        ended,
        status,
        id: id.ok_or_else(failed)?,
    })
}

/// One created, the others were given that, and none before the call of the one that created it had begun.
fn check(round: u64, calls: &[Call]) -> Result<(), Failed> {
    let created: Vec<&Call> = calls.iter().filter(|call| call.status == 201).collect();
    let [one] = created.as_slice() else {
        return Err(format!("round {round}: {} times 201", created.len()).into());
    };
    let ids: BTreeSet<&str> = calls.iter().map(|call| call.id.as_str()).collect();
    if ids.len() != 1 {
        return Err(format!("round {round}: {ids:?}").into());
    }
    for call in calls {
        if !matches!(call.status, 200 | 201) || call.ended < one.begun {
            let (begun, ended) = (call.begun, call.ended);
            return Err(format!("round {round}: {} at {begun} to {ended}", call.status).into());
        }
    }
    Ok(())
}

/// The promise, on an engine.
///
/// # Errors
/// It is broken.
pub async fn of_clients_that_create_by_one_condition_one_is_answered_201(
    engine: &dyn Engine,
) -> Result<(), Failed> {
    let rounds = std::env::var(ASKED).map_or(Ok(ROUNDS), |asked| asked.parse())?;
    let servers = [server(engine.open().await), server(engine.open().await)];
    let clock = Arc::new(AtomicU64::new(0));
    for round in 0..rounds {
        let mut calls = Vec::new();
        for client in 0..CLIENTS {
            let server = servers[usize::from(client / 2 % 2 == 1)].clone();
            let call = call(server, Arc::clone(&clock), (round, client));
            calls.push(tokio::spawn(call));
        }
        let mut ended = Vec::new();
        for call in calls {
            ended.push(call.await??);
        }
        check(round, &ended)?;
    }
    let all = Request::get("/fhir/Basic?_count=0").body(Body::empty())?;
    let (_, body) = send(&servers[0], all).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    match answer["total"].as_u64() == Some(rounds) {
        true => Ok(()),
        false => Err(format!("{rounds} rounds: {answer}").into()),
    }
}
