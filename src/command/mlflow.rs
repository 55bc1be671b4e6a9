//! Tells an MLflow tracking server of a study (MLflow REST API 2.0): one run of the study's name, its parameters, its
//! metrics by round, and tags with the digest of its model. A study that is told again goes into the same run, which gets
//! the rounds that it lacks: it is told as each round ends.
use crate::https::Https;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use types::Secret;

/// The experiment of every study.
const EXPERIMENT: &str = "medmesh";
/// The tag that says whose run it is.
const STUDY: &str = "medmesh.study";
/// The tag that says how many rounds the run has.
const ROUNDS: &str = "medmesh.rounds";
/// The tag that says how the study stands.
const STATUS: &str = "medmesh.status";
/// Metrics of one request (MLflow REST API, "Log Batch": at most 1,000 together with parameters and tags).
const MOST_METRICS: usize = 800;
/// The longest value of a parameter, in characters (MLflow before 2.8).
const LONGEST: usize = 500;
/// MLflow's own names for what a server asks of its clients.
const TOKEN: &str = "MLFLOW_TRACKING_TOKEN";
const CA: &str = "MLFLOW_TRACKING_SERVER_CERT_PATH";

/// What a run has of its study.
struct Known {
    run: String,
    rounds: usize,
    /// Whether it has the figures of the model that the study came to.
    is_done: bool,
    /// What it was told last is that the study runs.
    is_running: bool,
}

/// A tracking server.
pub struct Tracking {
    https: Https,
    base: String,
    token: Option<Secret<String>>,
}

impl Tracking {
    /// The server at an address. A token and the authority of its certificate are taken from MLflow's own environment
    /// variables `MLFLOW_TRACKING_TOKEN` and `MLFLOW_TRACKING_SERVER_CERT_PATH`.
    ///
    /// # Errors
    /// The address is none.
    pub fn open(url: &str) -> Result<Self> {
        let is_address = ["http://", "https://"].iter().any(|scheme| {
            url.strip_prefix(scheme)
                .is_some_and(|rest| !rest.is_empty())
        });
        if !is_address {
            bail!("--mlflow: is an address such as http://127.0.0.1:5000, not `{url}`");
        }
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let https = Https::elsewhere(variable(CA).as_deref().map(std::path::Path::new))?;
        Ok(Self {
            https,
            base: format!("{}/api/2.0/mlflow", url.trim_end_matches('/')),
            token: variable(TOKEN).map(Secret::new),
        })
    }

    /// Tells the server all of a study so far.
    ///
    /// # Errors
    /// The server does not answer, or says no.
    pub async fn record(&self, study: &Value) -> Result<()> {
        let status = study["status"].as_str();
        if status == Some("running") && reports(study).is_empty() {
            // A run is given its beginning once, which is that of the first round.
            return Ok(());
        }
        let experiment = self.experiment().await?;
        let known = self.run(&experiment, study).await?;
        let (metrics, run) = (metrics(study, &known), &known.run);
        for some in metrics.chunks(MOST_METRICS) {
            self.post("runs/log-batch", json!({"run_id": run, "metrics": some}))
                .await?;
        }
        let batch = json!({"run_id": run, "params": params(study), "tags": tags(study)});
        self.post("runs/log-batch", batch).await?;
        let status = match status {
            // Whether the study was resumed, which had failed.
            Some("running") if known.is_running => return Ok(()),
            Some("running") => "RUNNING",
            Some("done") => "FINISHED",
            Some("cancelled") => "KILLED",
            _ => "FAILED",
        };
        let last = reports(study).last().filter(|_| status != "RUNNING");
        let end = last.map(|report| report["ended_ms"].clone());
        let update = json!({"run_id": run, "status": status, "end_time": end});
        self.post("runs/update", update).await?;
        Ok(())
    }

    async fn experiment(&self) -> Result<String> {
        let path = format!("experiments/get-by-name?experiment_name={EXPERIMENT}");
        let (status, answer) = self.ask("GET", &path, "").await?;
        let id = match status {
            200 => answer["experiment"]["experiment_id"].clone(),
            404 => {
                let made = self
                    .post("experiments/create", json!({"name": EXPERIMENT}))
                    .await?;
                made["experiment_id"].clone()
            }
            _ => return Err(refused(&path, status, &answer)),
        };
        id.as_str()
            .map(str::to_owned)
            .context("mlflow names no experiment")
    }

    /// The run of a study.
    async fn run(&self, experiment: &str, study: &Value) -> Result<Known> {
        let id = study["study"].as_str().context("a study without an id")?;
        let search = json!({
            "experiment_ids": [experiment],
            "filter": format!("tags.`{STUDY}` = '{id}'"),
            "max_results": 1,
        });
        let found = self.post("runs/search", search).await?;
        let of = |run: &Value| run["info"]["run_id"].as_str().map(str::to_owned);
        if let Some(run) = found["runs"].get(0) {
            let tags = || run["data"]["tags"].as_array().into_iter().flatten();
            let tag = |key: &str| tags().find(|tag| tag["key"] == key)?["value"].as_str();
            return Ok(Known {
                run: of(run).context("mlflow names no run")?,
                rounds: tag(ROUNDS)
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0),
                is_done: tag(STATUS) == Some("done"),
                is_running: tag(STATUS) == Some("running"),
            });
        }
        let begin = reports(study)
            .first()
            .map(|report| report["began_ms"].clone());
        let create = json!({
            "experiment_id": experiment,
            "run_name": id,
            "start_time": begin,
            "tags": [{"key": STUDY, "value": id}, {"key": "mlflow.runName", "value": id}],
        });
        let made = self.post("runs/create", create).await?;
        Ok(Known {
            run: of(&made["run"]).context("mlflow names no run")?,
            rounds: 0,
            is_done: false,
            is_running: true,
        })
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value> {
        let (status, answer) = self.ask("POST", path, &body.to_string()).await?;
        if status == 200 {
            return Ok(answer);
        }
        Err(refused(path, status, &answer))
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let url = format!("{}/{path}", self.base);
        let bearer = self.token.as_ref();
        let bearer = bearer.map(|token| format!("Bearer {}", token.reveal()));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let (status, text) = self.https.any(method, &url, body, &headers).await?;
        Ok((status, serde_json::from_str(&text).unwrap_or_default()))
    }
}

fn refused(path: &str, status: u16, answer: &Value) -> anyhow::Error {
    let why = answer["message"].as_str().unwrap_or("no reason was given");
    anyhow::anyhow!("{path}: {status}: {why}")
}

fn reports(study: &Value) -> &[Value] {
    study["progress"].as_array().map_or(&[], Vec::as_slice)
}

/// What each round that a run lacks came to, and the figures of the model.
fn metrics(study: &Value, known: &Known) -> Vec<Value> {
    let mut found = Vec::new();
    let mut add = |key: &str, value: Option<f64>, report: &Value| {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            found.push(json!({
                "key": key, "value": value, "timestamp": report["ended_ms"], "step": report["round"],
            }));
        }
    };
    for report in reports(study).iter().skip(known.rounds) {
        let of = |path: fn(&Value) -> Option<f64>| {
            let sites = report["sites"].as_object().into_iter().flatten();
            let values: Vec<_> = sites.filter_map(|(_, own)| path(&own["told"])).collect();
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        let time = |key: &str| report[key].as_f64();
        let took = time("ended_ms").zip(time("began_ms"));
        add("loss", of(|told| told["loss"].as_f64()), report);
        add("auroc", of(|told| told["auroc"].as_f64()), report);
        add("sites", report["members"].as_f64(), report);
        add("bytes", report["bytes"].as_f64(), report);
        add("epsilon", report["epsilon"].as_f64(), report);
        add(
            "seconds",
            took.map(|(end, begin)| (end - begin) / 1e3),
            report,
        );
    }
    if let Some(last) = reports(study)
        .last()
        .filter(|_| study["status"] == "done" && !known.is_done)
    {
        let pooled = study["evaluation"]["pooled"].as_object();
        for (figure, value) in pooled.into_iter().flatten() {
            add(&format!("pooled_{figure}"), value.as_f64(), last);
        }
    }
    found
}

/// What the study asked for, a parameter for each key of its text.
fn params(study: &Value) -> Vec<Value> {
    let text = study["text"].as_str().unwrap_or_default();
    let Ok(toml) = text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    flat(&mut found, String::new(), &toml::Value::Table(toml));
    // MLflow takes 100 parameters at a time.
    found.truncate(100);
    found
}

fn flat(found: &mut Vec<Value>, path: String, value: &toml::Value) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                flat(found, path, value);
            }
        }
        value => {
            let text = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Array(all) if all.iter().all(toml::Value::is_table) => {
                    let names = all.iter().filter_map(|one| one.get("name")?.as_str());
                    names.collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            let text: String = text.chars().take(LONGEST).collect();
            found.push(json!({"key": path, "value": text}));
        }
    }
}

fn tags(study: &Value) -> Vec<Value> {
    let mut found = vec![
        (ROUNDS, json!(reports(study).len().to_string())),
        (STATUS, study["status"].clone()),
        ("medmesh.unit", study["unit"].clone()),
        ("medmesh.why", study["why"].clone()),
        ("medmesh.model.sha256", study["model"]["sha256"].clone()),
    ];
    found.retain(|(_, value)| value.is_string());
    let tag = |(key, value)| json!({"key": key, "value": value});
    found.into_iter().map(tag).collect()
}

#[cfg(test)]
mod tests;
