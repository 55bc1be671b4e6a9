//! A study that is told to a server which answers as MLflow 2 does, and keeps what it was told.
use super::*;
use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::any};

use std::sync::{Arc, Mutex};

/// What the server was told: runs by id with their tags, metrics and parameters.
#[derive(Default)]
struct Told {
    has_experiment: bool,
    runs: Vec<Value>,
    metrics: Vec<Value>,
    params: Vec<Value>,
}

type Server = Arc<Mutex<Told>>;

/// MLflow REST API 2.0, as far as the fields that it needs: one that is missing is answered by 400.
async fn answer(
    State(server): State<Server>,
    uri: axum::http::Uri,
    body: String,
) -> axum::response::Response {
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    let mut told = server.lock().unwrap();
    let no = |status: StatusCode, code: &str| {
        (status, Json(json!({"error_code": code, "message": code}))).into_response()
    };
    let path = uri
        .path()
        .strip_prefix("/api/2.0/mlflow/")
        .unwrap_or_default();
    match path {
        "experiments/get-by-name" if !told.has_experiment => {
            no(StatusCode::NOT_FOUND, "RESOURCE_DOES_NOT_EXIST")
        }
        "experiments/get-by-name" => {
            Json(json!({"experiment": {"experiment_id": "7", "name": "medmesh"}})).into_response()
        }
        "experiments/create" if body["name"] == "medmesh" => {
            told.has_experiment = true;
            Json(json!({"experiment_id": "7"})).into_response()
        }
        "runs/search" if body["experiment_ids"] == json!(["7"]) => {
            let filter = body["filter"].as_str().unwrap().to_owned();
            let is_it = |run: &&Value| {
                let id = run["info"]["run_name"].as_str().unwrap();
                filter == format!("tags.`medmesh.study` = '{id}'")
            };
            let found: Vec<_> = told.runs.iter().filter(is_it).cloned().collect();
            // MLflow leaves an empty list out.
            Json(if found.is_empty() {
                json!({})
            } else {
                json!({"runs": found})
            })
            .into_response()
        }
        "runs/create" if body["experiment_id"] == "7" && body["start_time"].is_i64() => {
            let run = json!({"info": {"run_id": "r1", "run_name": body["run_name"], "status": "RUNNING"}, "data": {"tags": body["tags"]}});
            told.runs.push(run.clone());
            Json(json!({"run": run})).into_response()
        }
        "runs/log-batch" if body["run_id"] == "r1" => {
            let list = |key: &str| body[key].as_array().cloned().unwrap_or_default();
            let whole = list("metrics").iter().all(|metric| {
                metric["value"].is_f64() && metric["timestamp"].is_i64() && metric["step"].is_i64()
            });
            if !whole || list("params").len() > 100 {
                return no(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE");
            }
            told.metrics.extend(list("metrics"));
            told.params = if list("params").is_empty() {
                told.params.clone()
            } else {
                list("params")
            };
            if let Some(tags) = told.runs[0]["data"]["tags"].as_array_mut() {
                // A tag has one value.
                tags.retain(|old| list("tags").iter().all(|new| new["key"] != old["key"]));
                tags.extend(list("tags"));
            }
            Json(json!({})).into_response()
        }
        "runs/update" if body["run_id"] == "r1" => {
            told.runs[0]["info"]["status"] = body["status"].clone();
            Json(json!({})).into_response()
        }
        _ => no(StatusCode::BAD_REQUEST, "INVALID_PARAMETER_VALUE"),
    }
}

fn study(rounds: i64) -> Value {
    let report = |round: i64| {
        json!({"round": round, "members": 2, "bytes": 100, "began_ms": 1_000 * round, "ended_ms": 1_000 * round + 500, "epsilon": 0.1,
            "sites": {"a": {"told": {"loss": 0.5}}, "b": {"told": {"loss": 0.7}}, "c": {"missing": "gone", "told": {}}}})
    };
    let progress: Vec<_> = (1..=rounds).map(report).collect();
    json!({
        "study": "heart-1", "status": "done", "unit": "record", "progress": progress,
        "evaluation": {"pooled": {"auroc": 0.8, "records": 60, "intervals": {}}},
        "model": {"sha256": "ab"},
        "text": "name = \"heart\"\n[training]\nrounds = 2\n[data]\nfeatures = [{ name = \"age\" }, { name = \"sex\" }]\n",
    })
}

#[tokio::test]
async fn a_study_is_one_run_with_its_parameters_and_each_round_once() {
    let server = Server::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(any(answer))
        .with_state(server.clone());
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let tracking = Tracking::open(&url).unwrap();
    // Before the first round there is no beginning to be told.
    let mut before = study(0);
    before["status"] = "running".into();
    tracking.record(&before).await.unwrap();
    assert!(server.lock().unwrap().runs.is_empty());
    // As the rounds end, twice after the same one, when it failed and goes on, and when it is over; then once more.
    for (rounds, status) in [
        (1, "running"),
        (1, "failed"),
        (1, "running"),
        (3, "running"),
        (3, "done"),
        (3, "done"),
    ] {
        let mut study = study(rounds);
        study["status"] = status.into();
        tracking.record(&study).await.unwrap();
        let now = server.lock().unwrap().runs[0]["info"]["status"].clone();
        let expected = match status {
            "done" => "FINISHED",
            "failed" => "FAILED",
            _ => "RUNNING",
        };
        assert_eq!(now, expected, "{rounds}");
    }
    serving.abort();
    let told = server.lock().unwrap();
    assert_eq!(told.runs.len(), 1);
    assert_eq!(told.runs[0]["info"]["status"], "FINISHED");
    let steps = |key: &str| -> Vec<(i64, f64)> {
        let of = told.metrics.iter().filter(|metric| metric["key"] == key);
        of.map(|metric| {
            (
                metric["step"].as_i64().unwrap(),
                metric["value"].as_f64().unwrap(),
            )
        })
        .collect()
    };
    assert_eq!(steps("loss"), [(1, 0.6), (2, 0.6), (3, 0.6)]);
    assert_eq!(steps("seconds").len(), 3);
    assert_eq!(
        steps("pooled_auroc"),
        [(3, 0.8)],
        "of the model that it came to, once"
    );
    for (key, value) in [
        ("training.rounds", "2"),
        ("data.features", "age, sex"),
        ("name", "heart"),
    ] {
        assert!(
            told.params.contains(&json!({"key": key, "value": value})),
            "{key}"
        );
    }
    let tags = told.runs[0]["data"]["tags"].as_array().unwrap();
    assert!(tags.contains(&json!({"key": "medmesh.model.sha256", "value": "ab"})));
}

#[tokio::test]
async fn what_is_no_server_or_says_no_is_an_error_that_names_it() {
    let error = |url: &str| Tracking::open(url).err().unwrap().to_string();
    assert!(error("ftp://x").starts_with("--mlflow: is an address such as"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new()
        .fallback(|| async { (StatusCode::FORBIDDEN, "{\"message\": \"no access\"}") });
    let serving = tokio::spawn(async move { axum::serve(listener, app).await });
    let said = Tracking::open(&url)
        .unwrap()
        .record(&study(1))
        .await
        .unwrap_err();
    serving.abort();
    assert!(said.to_string().contains("403: no access"), "{said}");
}
