//! The API of commands and twins over real files, as two clients see it; and what happens to commands of itself.
use super::*;
use crate::{
    intake::tests::{intake_under, records},
    registry::Device,
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use commands::State;
use federation::{audit::Log, envelope::Intact, ledger::Apply as _, policy::Rules, wire::Parcel};
use messages::{CommandReport, TwinProperty, TwinReport};
use node::{
    clock::Clock,
    token::{ASSERTION_TYPE, Claims, TokenServer, sign_assertion},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use types::Timestamp;

mod desired;
mod listing;
mod reported;
mod retired;
mod room;
mod second;
mod streams;
mod tables;
mod wishes;

const ORIGIN: &str = "https://region";
const DEVICE: &str = "01010101010101010101010101010101";
const EDGE: &str = "edge/eu/eu/eu-f1";

struct World {
    dir: TempDir,
    control: Control,
    registry: Registry,
    app: Router,
    operator: String,
    approver: String,
}

/// The answer to a request: status, headers as text, body.
type Answer = (StatusCode, String, Value);

impl World {
    async fn new() -> Self {
        Self::under(Rules::builtin().unwrap()).await
    }

    /// The same under other rules of residency.
    async fn under(rules: Rules) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake_under(&dir, rules);
        let mut records = records();
        for record in &mut records.devices {
            record.kind = "bedside-monitor".into();
        }
        let facility = "eu-f1".parse().unwrap();
        let devices = records.devices.iter();
        let devices = devices.map(|record| Device::read(&facility, record, Timestamp(10)).unwrap());
        assert!(intake.registry.put(devices.collect()).await.unwrap());
        intake.ledger.begin_log().await.unwrap();
        let scopes = [
            (
                "operator",
                "mesh/*.rs mesh/commands.c mesh/twins.u mesh/approvals.c",
            ),
            ("approver", "mesh/commands.rs mesh/approvals.c"),
        ];
        let mut clients = Vec::new();
        for (client, scope) in scopes {
            let key = federation::pki::new_client_key().unwrap();
            let at = |end: &str| dir.path().join(format!("{client}.{end}"));
            std::fs::write(at("pem"), key.public_pem).unwrap();
            std::fs::write(at("key"), key.private_pem.reveal()).unwrap();
            clients.push(ClientConfig {
                client_id: client.into(),
                kid: client.into(),
                public_key: at("pem"),
                scope: scope.into(),
            });
        }
        let ca = federation::pki::Ca::init(&dir.path().join("pki"), Clock::new(None).real());
        let parts = Parts {
            ledger: intake.ledger.clone(),
            registry: intake.registry.clone(),
            key: SigningKey::from_bytes(&[7; 32]),
            certificate: ca.unwrap().ca_path(),
            clients: &clients,
            draw: rand::random,
        };
        let control = Control::open(parts).await.unwrap();
        let used = dir.path().join("used");
        let tokens = TokenServer::new(ORIGIN, &clients, Clock::new(None), &used).unwrap();
        let app = devices_api(&tokens, &intake.registry, &control).merge(tokens.router());
        let (operator, approver) = (
            token(&app, &tokens, &dir, "operator").await,
            token(&app, &tokens, &dir, "approver").await,
        );
        Self {
            dir,
            control,
            registry: intake.registry,
            app,
            operator,
            approver,
        }
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let answer = self.app.clone().oneshot(request).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        (head.status, format!("{:?}", head.headers), json)
    }

    fn request(&self, token: &str, method: &str, path: &str) -> axum::http::request::Builder {
        let uri = format!("/api/v1/devices/{DEVICE}{path}");
        let builder = Request::builder().method(method).uri(uri);
        builder.header("authorization", format!("Bearer {token}"))
    }

    /// How many commands there are, after what is desired was looked at.
    async fn commands(&self) -> usize {
        self.control.look().await.unwrap();
        self.get("/commands").await["items"]
            .as_array()
            .unwrap()
            .len()
    }

    async fn ask(&self, key: &str, body: Value) -> Answer {
        let request = self.request(&self.operator, "POST", "/commands");
        let request = request
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    async fn patch(&self, seen: Option<&str>, body: Value) -> Answer {
        let request = self.request(&self.operator, "PATCH", "/twin");
        let request = request.header("content-type", "application/merge-patch+json");
        let request = match seen {
            Some(tag) => request.header("if-match", tag),
            None => request,
        };
        self.send(request.body(Body::from(body.to_string())).unwrap())
            .await
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.request(&self.operator, "GET", path);
        let (status, _, json) = self.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{json}");
        json
    }

    async fn approve(&self, token: &str, id: &str) -> StatusCode {
        let path = format!("/commands/{id}/approval");
        let request = self.request(token, "POST", &path);
        self.send(request.body(Body::empty()).unwrap()).await.0
    }

    /// A facility reports.
    async fn report<T: messages::Body>(&self, from: &str, body: &T) {
        let bytes = body.encode_to_vec();
        let parcel = Parcel {
            id: rand::random::<[u8; 16]>().to_vec().into(),
            kind: T::KIND.into(),
            count: body.count(),
            digest: federation::envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let parcels = Intact::all([parcel]).unwrap();
        let handlers = takes(Handlers::new(), &self.control, &self.registry);
        let verdicts = handlers.apply(&from.parse().unwrap(), &parcels).await;
        let stored = body.count();
        assert_eq!(
            verdicts.unwrap(),
            [federation::port::Verdict::Accepted { stored }]
        );
    }

    async fn step(&self, from: &str, id: &str, state: State, by: &str) {
        let id: types::Id128 = id.parse().unwrap();
        let report = CommandReport {
            command: id.as_bytes().to_vec().into(),
            device: vec![1; 16].into(),
            state: state.as_str().into(),
            reason: String::new(),
            time_ms: Clock::new(None).real().0,
            by: by.into(),
        };
        let body = CommandReports {
            reports: vec![report],
        };
        self.report(from, &body).await;
    }
}

async fn token(app: &Router, tokens: &TokenServer, dir: &TempDir, client: &str) -> String {
    let claims = Claims {
        iss: client.into(),
        sub: client.into(),
        aud: tokens.token_url().into(),
        exp: Clock::new(None).real().0 / 1_000 + 60,
        nbf: None,
        jti: client.into(),
    };
    let pem = std::fs::read(dir.path().join(format!("{client}.key"))).unwrap();
    let assertion = sign_assertion(&claims, client, &pem).unwrap();
    let form = format!(
        "grant_type=client_credentials&client_assertion_type={}&client_assertion={assertion}&scope=mesh/*.cruds",
        ASSERTION_TYPE.replace(':', "%3A")
    );
    let request =
        Request::post("/auth/token").header("content-type", "application/x-www-form-urlencoded");
    let answer = app
        .clone()
        .oneshot(request.body(Body::from(form)).unwrap())
        .await
        .unwrap();
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    let json: Value = serde_json::from_slice(&body).unwrap();
    json["access_token"].as_str().unwrap().to_owned()
}

fn set_interval() -> Value {
    json!({"name": "set-interval", "parameters": {"interval": "5s"}, "ttl": "60s"})
}

fn states(command: &Value) -> Vec<&str> {
    let history = command["history"].as_array().unwrap();
    history
        .iter()
        .map(|step| step["state"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_command_is_asked_for_once_and_goes_through_its_states() {
    let world = World::new().await;
    let (status, headers, command) = world.ask("k1", set_interval()).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{command}");
    let id = command["id"].as_str().unwrap().to_owned();
    assert!(headers.contains(&format!("/api/v1/devices/{DEVICE}/commands/{id}")));
    assert_eq!(states(&command), ["queued"]);
    assert_eq!(command["history"][0]["by"], "operator");
    let (status, _, again) = world.ask("k1", set_interval()).await;
    assert_eq!(
        (status, &again["id"]),
        (StatusCode::ACCEPTED, &command["id"])
    );
    let (status, _, other) = world.ask("k1", json!({"name": "identify"})).await;
    assert_eq!(
        (status, &other["field"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("Idempotency-Key"))
    );
    // Another facility says nothing of it.
    world
        .step("edge/eu/eu/eu-f2", &id, State::Acknowledged, "device")
        .await;
    world.step(EDGE, &id, State::Delivered, "edge").await;
    world.step(EDGE, &id, State::Acknowledged, "device").await;
    world.step(EDGE, &id, State::Delivered, "edge").await;
    let command = world.get(&format!("/commands/{id}")).await;
    assert_eq!(states(&command), ["queued", "delivered", "acknowledged"]);
    assert_eq!(command["history"][2]["by"], format!("device/{DEVICE}"));
}

#[tokio::test]
async fn what_the_table_does_not_allow_is_refused_with_the_field() {
    let world = World::new().await;
    for (body, status, field) in [
        (
            json!({"name": "set-interval", "parameters": {"interval": "9d"}}),
            422,
            "/parameters/interval",
        ),
        (
            json!({"name": "set-interval", "parameters": {"pace": "5s"}}),
            422,
            "/parameters/pace",
        ),
        (json!({"name": "explode"}), 422, "/name"),
        (json!({"parameters": {}}), 400, "/name"),
        (json!({"name": "identify", "ttl": "99d"}), 422, "/ttl"),
        (json!({"name": "identify", "when": "now"}), 400, "/when"),
    ] {
        let (given, headers, problem) = world.ask("k", body.clone()).await;
        assert_eq!(
            (given.as_u16(), &problem["field"]),
            (status, &json!(field)),
            "{body}"
        );
        assert!(headers.contains("application/problem+json"));
    }
    let request = world.request(&world.operator, "POST", "/commands");
    let request = request.header("content-type", "application/json");
    let (status, _, problem) = world.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(
        (status, &problem["field"]),
        (StatusCode::BAD_REQUEST, &json!("Idempotency-Key"))
    );
}

#[tokio::test]
async fn a_body_that_says_a_member_twice_is_refused() {
    let world = World::new().await;
    for (method, path, kind, body) in [
        (
            "POST",
            "/commands",
            "application/json",
            r#"{"name":"identify","name":"restart"}"#,
        ),
        (
            "POST",
            "/commands",
            "application/json",
            r#"{"name":"set-interval","parameters":{"interval":"5s","interval":"1h"}}"#,
        ),
        (
            "PATCH",
            "/twin",
            "application/merge-patch+json",
            r#"{"desired":{"interval":"5s"},"desired":{}}"#,
        ),
    ] {
        let request = world.request(&world.operator, method, path);
        let request = request.header("content-type", kind);
        let request = request.header("idempotency-key", "k");
        let (status, _, problem) = world.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {problem}");
    }
    assert_eq!(world.get("/commands").await["items"], json!([]));
}

#[tokio::test]
async fn if_match_lets_one_of_the_strong_tags_be_changed() {
    let world = World::new().await;
    let set = async |tags: &str, interval: &str| {
        let body = json!({"desired": {"interval": interval}});
        world.patch(Some(tags), body).await.0.as_u16()
    };
    assert_eq!(set(r#""9", "0""#, "5s").await, 200);
    assert_eq!(
        set(r#"W/"1""#, "6s").await,
        412,
        "a weak tag matches nothing"
    );
    assert_eq!(set(r#""0", "other""#, "6s").await, 412);
    assert_eq!(set("1", "6s").await, 400);
    assert_eq!(set(r#"*, "0""#, "6s").await, 400);
    assert_eq!(set("*", "6s").await, 200);
}

#[tokio::test]
async fn if_none_match_lets_the_versions_that_it_names_not_be_changed() {
    let world = World::new().await;
    let set = async |tags: &[(&str, &str)], interval: &str| {
        let mut request = world.request(&world.operator, "PATCH", "/twin");
        request = request.header("content-type", "application/merge-patch+json");
        for (name, tag) in tags {
            request = request.header(*name, *tag);
        }
        let body = json!({"desired": {"interval": interval}}).to_string();
        let (status, headers, answer) = world.send(request.body(Body::from(body)).unwrap()).await;
        assert!(status != 412 || headers.contains("etag"), "{headers}");
        (status.as_u16(), answer["field"].clone())
    };
    let refused = (412, json!("If-None-Match"));
    const NONE: &str = "if-none-match";
    assert_eq!(set(&[(NONE, "*")], "5s").await, refused);
    assert_eq!(set(&[(NONE, r#""0""#)], "5s").await, refused);
    assert_eq!(set(&[(NONE, r#""7", W/"0""#)], "5s").await, refused);
    assert_eq!(
        set(&[(NONE, r#""7""#), (NONE, r#""0""#)], "5s").await,
        refused
    );
    assert_eq!(
        set(&[(NONE, "0")], "5s").await,
        (400, json!("If-None-Match"))
    );
    assert_eq!(world.get("/twin").await["version"], 0, "nothing was set");
    assert_eq!(set(&[(NONE, r#""1", "a""#)], "5s").await.0, 200);
    let both = [("if-match", r#""0""#), (NONE, r#""1""#)];
    assert_eq!(
        set(&both, "6s").await,
        (412, json!("If-Match")),
        "it is looked at first"
    );
    let request = world.request(&world.operator, "GET", "/twin");
    let request = request.header(NONE, r#""1""#).body(Body::empty());
    let (status, headers, _) = world.send(request.unwrap()).await;
    assert_eq!(status, StatusCode::OK, "its reports are not of the tag");
    assert!(headers.contains("no-store"), "{headers}");
}

#[tokio::test]
async fn what_is_of_safety_waits_for_another_client() {
    let world = World::new().await;
    let body = json!({"name": "set-alarm-limits", "parameters": {"heart-rate-high": 130}});
    let (_, _, command) = world.ask("k1", body).await;
    assert_eq!(command["approval"]["needed"], true);
    assert_eq!(command["sequence"], Value::Null, "it is not signed yet");
    let id = command["id"].as_str().unwrap();
    assert_eq!(
        world.approve(&world.operator, id).await,
        StatusCode::FORBIDDEN
    );
    assert_eq!(world.approve(&world.approver, id).await, StatusCode::OK);
    assert_eq!(world.approve(&world.approver, id).await, StatusCode::OK);
    let command = world.get(&format!("/commands/{id}")).await;
    assert_eq!(command["approval"]["by"], "approver");
    assert!(command["sequence"].as_u64().is_some());
    let (_, _, plain) = world.ask("k2", set_interval()).await;
    let plain = plain["id"].as_str().unwrap();
    assert_eq!(
        world.approve(&world.approver, plain).await,
        StatusCode::CONFLICT
    );
}

#[tokio::test]
async fn numbers_of_a_device_only_grow_and_every_step_is_in_the_audit_log() {
    let world = World::new().await;
    let mut last = 0;
    for key in ["a", "b", "c"] {
        let (_, _, command) = world.ask(key, set_interval()).await;
        let sequence = command["sequence"].as_u64().unwrap();
        assert!(sequence > last);
        last = sequence;
    }
    world
        .patch(None, json!({"desired": {"interval": "7s"}}))
        .await;
    let log = Log::open(&world.dir.path().join("ledger.db")).unwrap();
    let entries = log.list(0, 1_000).unwrap();
    let count = |decision: federation::audit::Decision| {
        let rows = entries.iter();
        rows.filter(|(_, entry)| entry.decision() == decision)
            .count()
    };
    assert_eq!(count(federation::audit::Decision::CommandAsked), 3);
    assert_eq!(count(federation::audit::Decision::TwinChanged), 1);
}

/// What a device reports of its interval.
fn interval(version: u64, value: &str) -> TwinReports {
    let property = TwinProperty {
        name: "interval".into(),
        value: json!(value).to_string(),
    };
    let report = TwinReport {
        device: vec![1; 16].into(),
        version,
        properties: vec![property],
        connected: true,
        seen_ms: Clock::new(None).real().0,
        ..TwinReport::default()
    };
    TwinReports {
        twins: vec![report],
        ..TwinReports::default()
    }
}

impl World {
    /// The newest command of the device first: its states, and why it ended.
    async fn ends(&self) -> Vec<(String, Value)> {
        let commands = self.get("/commands").await;
        let items = commands["items"].as_array().unwrap().iter();
        let last = |command: &Value| {
            let history = command["history"].as_array().unwrap();
            history.last().unwrap()["reason"].clone()
        };
        items
            .map(|command| (states(command).join(" "), last(command)))
            .collect()
    }

    /// Something changes in the tables, as by the time that passes.
    async fn sql(&self, sql: &'static str) {
        let step = move |commit: &mut federation::ledger::Commit<'_>| {
            Ok(commit.tx().prepare_cached(sql)?.execute([])?)
        };
        self.control.ledger.commit("test", step).await.unwrap();
    }

    async fn set(&self, interval: Value) {
        let body = json!({"desired": {"interval": interval}});
        assert_eq!(self.patch(None, body).await.0, StatusCode::OK);
    }

    async fn newest(&self) -> String {
        let commands = self.get("/commands").await;
        commands["items"][0]["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_is_reported_changed_when_the_facility_says_and_not_when_the_device_was_seen() {
    let world = World::new().await;
    let now = Clock::new(None).real();
    let mut body = interval(now.0.unsigned_abs(), "5s");
    body.twins[0].seen_ms = now.0 - 20_000;
    world.report(EDGE, &body).await;
    let twin = world.get("/twin").await;
    assert_eq!(twin["reported_time"], now.to_rfc3339());
}
