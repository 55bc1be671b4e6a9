//! What the facility's staff says to commands, over the real store.
use super::*;
use crate::{config::DeviceConfig, control::intake};
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use commands::{Command, Signed, Value};
use ed25519_dalek::SigningKey;
use federation::audit;
use ingest::Journal as _;
use modbus::Profiles;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use store::testbed::{hand, options, sample};
use tempfile::TempDir;
use tower::ServiceExt as _;
use types::DeviceKind;

const MONITOR: &str = "m1";

struct Facility {
    store: Store,
    app: Router,
    control: Arc<Control>,
    _dir: TempDir,
}

impl Facility {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Store::open(options(dir.path(), hand())).unwrap();
        // A device is known from its first sample on.
        store.append(sample(MONITOR, 1)).await.unwrap();
        let monitor = DeviceConfig {
            id: MONITOR.parse().unwrap(),
            kind: DeviceKind::BedsideMonitor,
            serial: None,
            model: None,
            firmware: None,
            bed: None,
            profile: None,
            address: None,
            unit_id: 1,
        };
        let control = Control::new(&[monitor], &Profiles::default());
        Self {
            app: router(store.clone(), control.clone()),
            store,
            control,
            _dir: dir,
        }
    }

    /// A command of the region comes down.
    async fn comes(&self, number: u8) -> Id128 {
        let interval = Value::Text("5s".into());
        let parameters = BTreeMap::from([("interval".to_owned(), interval)]);
        self.given(number, "set-interval", parameters).await
    }

    /// The same, of safety.
    async fn limits(&self, number: u8) -> Id128 {
        let high = Value::Number(types::Decimal::from_parts(120, 0));
        let parameters = BTreeMap::from([("heart-rate-high".to_owned(), high)]);
        self.given(number, "set-alarm-limits", parameters).await
    }

    async fn given(
        &self,
        number: u8,
        name: &'static str,
        parameters: BTreeMap<String, Value>,
    ) -> Id128 {
        let control = self.control.clone();
        let step = move |commit: &mut Commit<'_, '_>| {
            let key = SigningKey::from_bytes(&[3; 32]);
            let device = rows::catalog_of(commit.tx(), &MONITOR.parse().unwrap())?.unwrap();
            let now = commit.now().real;
            let command = Command {
                id: Id128::from_bytes([number; 16]),
                facility: commit.place().clone(),
                device,
                sequence: number.into(),
                name: name.parse().unwrap(),
                parameters,
                issued: now,
                expires: now.plus_ms(60_000),
                by: "operator".into(),
                approved_by: (name == "set-alarm-limits").then(|| "approver".into()),
            };
            let id = command.id;
            let signed: Signed = command.sign(&key);
            intake::take(&control, commit, &signed, Some(key.verifying_key()))?;
            Ok(id)
        };
        self.store.in_commit(step).await.unwrap()
    }

    /// The first command waits so many times more.
    async fn waits_also(&self, times: u32) {
        let step = move |commit: &mut Commit<'_, '_>| {
            let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
                 INSERT INTO command(id, device, sequence, signed, state, begun, ended) \
                 SELECT randomblob(16), device, 1000 + i, signed, state, begun, ended FROM command, n \
                 WHERE sequence = 1";
            commit.tx().execute(sql, [times])?;
            Ok(())
        };
        self.store.in_commit(step).await.unwrap();
    }

    async fn is_kept(&self, id: Id128) -> bool {
        let step =
            move |commit: &mut Commit<'_, '_>| Ok(rows::Row::find(commit.tx(), id)?.is_some());
        self.store.in_commit(step).await.unwrap()
    }

    async fn post(&self, path: &str, body: Json_) -> StatusCode {
        let request = Request::post(format!("/api/v1/commands/{path}"));
        let request = request.body(Body::from(body.to_string())).unwrap();
        self.app.clone().oneshot(request).await.unwrap().status()
    }

    async fn list(&self) -> Json_ {
        let request = Request::get("/api/v1/commands").body(Body::empty());
        let answer = self.app.clone().oneshot(request.unwrap()).await.unwrap();
        let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn a_hold_is_listed_whether_or_not_the_device_has_a_command() {
    let facility = Facility::new().await;
    assert_eq!(facility.list().await, json!({"items": [], "held": []}));
    let anna = json!({"device": MONITOR, "by": "anna"});
    assert_eq!(facility.post("hold", anna.clone()).await, StatusCode::OK);
    let held = json!([{"device": MONITOR, "by": "anna"}]);
    assert_eq!(facility.list().await["held"], held);
    facility.comes(5).await;
    let listed = facility.list().await;
    assert_eq!(
        (&listed["held"], &listed["items"][0]["held_by"]),
        (&held, &json!("anna"))
    );
    assert_eq!(facility.post("release", anna).await, StatusCode::OK);
    assert_eq!(facility.list().await["held"], json!([]));
}

#[tokio::test]
async fn what_waits_is_listed_however_many_commands_came_and_ended_since() {
    let facility = Facility::new().await;
    let waits = facility.comes(5).await;
    let others = |commit: &mut Commit<'_, '_>| {
        let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250) \
             INSERT INTO command(id, device, sequence, signed, state, begun, ended) \
             SELECT randomblob(16), device, 1000 + i, signed, 'acknowledged', 1, 1 FROM command, n";
        commit.tx().execute(sql, [])?;
        Ok(())
    };
    facility.store.in_commit(others).await.unwrap();
    let listed = facility.list().await;
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), usize::try_from(LISTED).unwrap() + 1);
    let last = items.last().unwrap();
    assert_eq!(
        (&last["id"], &last["state"]),
        (&json!(waits.to_string()), &json!("delivered"))
    );
}

#[tokio::test]
async fn so_many_commands_of_a_device_are_open_at_most_and_more_where_the_next_is_of_safety() {
    use intake::{MAX_OPEN, SAFETY_OPEN};
    let facility = Facility::new().await;
    facility.comes(1).await;
    facility.waits_also(MAX_OPEN - 2).await;
    let last = facility.comes(2).await;
    let over = facility.comes(3).await;
    let safety = facility.limits(4).await;
    facility.waits_also(SAFETY_OPEN - 1).await;
    let safety_over = facility.limits(5).await;
    for (id, expected) in [
        (last, true),
        (over, false),
        (safety, true),
        (safety_over, false),
    ] {
        assert_eq!(facility.is_kept(id).await, expected, "{id}");
    }
    // There is room, and what was refused comes again.
    let ended = |commit: &mut Commit<'_, '_>| {
        let sql = "UPDATE command SET ended = 1, state = 'acknowledged' WHERE sequence > 1000";
        commit.tx().execute(sql, [])?;
        Ok(())
    };
    facility.store.in_commit(ended).await.unwrap();
    facility.limits(5).await;
    assert!(!facility.is_kept(safety_over).await);
    let next = facility.comes(6).await;
    assert!(facility.is_kept(next).await);
}

#[tokio::test]
async fn a_parameter_that_there_is_not_is_refused() {
    let facility = Facility::new().await;
    let request = Request::get("/api/v1/commands?held=anna").body(Body::empty());
    let answer = facility.app.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_refused_a_command_is_kept_and_is_in_the_audit_log_as_a_digest() {
    let facility = Facility::new().await;
    let (first, second) = (facility.comes(5).await, facility.comes(6).await);
    let body = json!({"command": first.to_string(), "by": "anna"});
    assert_eq!(facility.post("refuse", body.clone()).await, StatusCode::OK);
    assert_eq!(facility.post("refuse", body).await, StatusCode::CONFLICT);
    let listed = facility.list().await;
    let items = listed["items"].as_array().unwrap();
    let by = |id: Id128| {
        let found = items.iter().find(|item| item["id"] == id.to_string());
        let found = found.unwrap();
        (found["state"].clone(), found["refused_by"].clone())
    };
    assert_eq!(by(first), (json!("refused"), json!("anna")));
    assert_eq!(by(second), (json!("delivered"), Json_::Null));
    let entries = facility.store.read(|db| Ok(audit::list(db, 0, 1_000)?));
    let entries = entries.await.unwrap();
    let named = hex::encode(Sha256::digest(b"anna"));
    let refusals = entries.iter().map(|(_, entry)| entry);
    let refusals = refusals.filter(|entry| entry.decision() == Decision::CommandRefused);
    let refusals: Vec<_> = refusals
        .map(|entry| json!(entry)["digest"] == named)
        .collect();
    assert_eq!(
        refusals,
        [false, true],
        "the command's own, and who refused it"
    );
}
