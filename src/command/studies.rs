//! `medmesh fl submit|list|show|watch|cancel|resume|export`: studies of a running mesh, through its global node's API.
use super::token;
use crate::{
    cli::{
        TokenArgs,
        fl::{MeshArgs, StudyArgs},
    },
    failure::Failure,
    https::Https,
    out,
};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The client of `mesh.json` that studies are submitted by.
const CLIENT: &str = "data-scientist";
/// How often a study is looked at while somebody waits for it.
const LOOK: Duration = Duration::from_millis(500);
/// Files are their user's alone.
const FILE_MODE: u32 = 0o600;
/// A token is fetched anew before it can have ended.
const TOKEN_FOR: Duration = Duration::from_secs(60);

/// The studies of a mesh.
struct Mesh {
    dir: PathBuf,
    https: Https,
    base: String,
    token: Option<(String, Instant)>,
}

impl Mesh {
    fn open(args: &MeshArgs) -> Result<Self> {
        let path = args.dir.join("mesh.json");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
        let mesh: Value = serde_json::from_str(&text)?;
        let word = |value: &Value| value.as_str().map(str::to_owned);
        let api = word(&mesh["global"]["api"]).context("mesh.json names no global node")?;
        let ca = word(&mesh["ca"]).context("mesh.json names no authority")?;
        Ok(Self {
            dir: args.dir.clone(),
            https: Https::new(Path::new(&ca))?,
            base: format!("{api}/fl/studies"),
            token: None,
        })
    }

    async fn token(&mut self) -> Result<String> {
        match &self.token {
            Some((token, since)) if since.elapsed() < TOKEN_FOR => Ok(token.clone()),
            _ => {
                let token = token::token(&TokenArgs {
                    dir: self.dir.clone(),
                    client: CLIENT.into(),
                    region: "global".into(),
                })
                .await?;
                self.token = Some((token.clone(), Instant::now()));
                Ok(token)
            }
        }
    }

    async fn get(&mut self, path: &str) -> Result<Value> {
        let token = self.token().await?;
        let url = format!("{}{path}", self.base);
        let (status, body) = self.https.get_with(&url, &token).await?;
        json_of(status, &body)
    }

    async fn post(&mut self, path: &str, body: &str) -> Result<Value> {
        let token = self.token().await?;
        let url = format!("{}{path}", self.base);
        let (status, body) = self.https.post_json(&url, &token, body).await?;
        json_of(status, body.as_bytes())
    }

    /// Writes the files of a study into a folder: where they are.
    async fn fetch(&mut self, study: &Value, to: &Path) -> Result<Value> {
        let id = study["study"].as_str().context("a study without an id")?;
        fs::create_dir_all(to).with_context(|| to.display().to_string())?;
        let mut files = json!({ "sha256": study["model"]["sha256"] });
        for (key, name) in [("safetensors", "model.safetensors"), ("onnx", "model.onnx")] {
            let token = self.token().await?;
            let url = format!("{}/{id}/{name}", self.base);
            let (status, body) = self.https.get_with(&url, &token).await?;
            if status != 200 {
                json_of(status, &body)?;
            }
            let path = to.join(name);
            storage::file::replace(&path, &body, FILE_MODE)
                .with_context(|| path.display().to_string())?;
            files[key] = json!(path);
        }
        let card = serde_json::to_vec_pretty(study)?;
        storage::file::replace(&to.join("study.json"), &card, FILE_MODE)?;
        Ok(files)
    }

    /// Waits until a study has ended, saying each round that does.
    async fn wait(&mut self, id: &str, says: bool) -> Result<Value> {
        let mut said = 0;
        let mut failures = 0;
        loop {
            match self.get(&format!("/{id}")).await {
                // A node that is started again is there again soon.
                Err(error) if failures > 120 => return Err(error),
                Err(_) => failures += 1,
                Ok(study) => {
                    failures = 0;
                    let rounds = study["progress"].as_array().cloned().unwrap_or_default();
                    for round in rounds.iter().skip(said).filter(|_| says) {
                        eprintln!("{}", out::printable(&round_text(round)));
                    }
                    said = rounds.len();
                    if study["status"] != "running" {
                        return Ok(study);
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn json_of(status: u16, body: &[u8]) -> Result<Value> {
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    if (200..300).contains(&status) {
        return Ok(value);
    }
    let detail = value["detail"]
        .as_str()
        .or(value["error_description"].as_str());
    bail!("{status}: {}", detail.unwrap_or("no reason was given"))
}

/// Submits a study, after it was checked here.
pub async fn submit(
    study: &Path,
    (wait, to): (bool, Option<&Path>),
    args: &MeshArgs,
) -> Result<(), Failure> {
    let text = fs::read_to_string(study).with_context(|| study.display().to_string())?;
    let mut mesh = Mesh::open(args)?;
    let begun = mesh.post("", &text).await?;
    let id = begun["study"].as_str().unwrap_or_default().to_owned();
    if !wait {
        let begun = if args.json {
            json!({ "study": id }).to_string()
        } else {
            id
        };
        return Ok(out::line(begun)?);
    }
    let study = mesh.wait(&id, !args.json).await?;
    let mut result = json!({
        "study": study["study"],
        "status": study["status"],
        "rounds": study["rounds"],
        "epsilon": study["epsilon"],
        "delta": study["delta"],
        "unit": study["unit"],
        "evaluation": study["evaluation"],
    });
    if study["status"] == "done" {
        let to = to.map_or_else(|| args.dir.join("studies").join(&id), Path::to_owned);
        result["model"] = mesh.fetch(&study, &to).await?;
    } else {
        result["why"] = study["why"].clone();
    }
    if args.json {
        out::line(&result)?;
    } else {
        out::text(&text_of(&study))?;
    }
    if study["status"] == "done" {
        return Ok(());
    }
    Err(anyhow!(
        "the study is {}",
        study["status"].as_str().unwrap_or_default()
    )
    .into())
}

/// Lists the newest studies.
pub async fn list(args: &MeshArgs) -> Result<(), Failure> {
    let found = Mesh::open(args)?.get("").await?;
    if args.json {
        return Ok(out::line(json!({ "studies": found["items"] }))?);
    }
    for study in found["items"].as_array().into_iter().flatten() {
        out::line(headline(study))?;
    }
    Ok(())
}

/// Shows a study.
pub async fn show(args: &StudyArgs) -> Result<(), Failure> {
    let study = Mesh::open(&args.mesh)?
        .get(&format!("/{}", args.id))
        .await?;
    said(&study, &args.mesh)
}

/// Shows a study's rounds as they end.
pub async fn watch(args: &StudyArgs) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh)?;
    let study = mesh.wait(args.id.as_str(), !args.mesh.json).await?;
    said(&study, &args.mesh)
}

/// `cancel` or `resume`.
pub async fn change(args: &StudyArgs, what: &str) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh)?;
    let study = mesh.post(&format!("/{}/{what}", args.id), "").await?;
    said(&study, &args.mesh)
}

/// Writes a study's files.
pub async fn export(args: &StudyArgs, to: &Path) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh)?;
    let study = mesh.get(&format!("/{}", args.id)).await?;
    let files = mesh.fetch(&study, to).await?;
    if args.mesh.json {
        return Ok(out::line(&files)?);
    }
    Ok(out::line(to.display().to_string())?)
}

fn said(study: &Value, args: &MeshArgs) -> Result<(), Failure> {
    if args.json {
        return Ok(out::line(study)?);
    }
    Ok(out::text(&text_of(study))?)
}

fn headline(study: &Value) -> String {
    let word = |key: &str| study[key].as_str().unwrap_or("-").to_owned();
    let spent = study["epsilon"]
        .as_f64()
        .map_or_else(String::new, |epsilon| {
            format!("  epsilon {epsilon:.3} of each {}", word("unit"))
        });
    format!(
        "{}  {}  {} of {} rounds{spent}",
        word("study"),
        word("status"),
        study["rounds"],
        study["rounds_planned"]
    )
}

fn text_of(study: &Value) -> String {
    let mut text = headline(study) + "\n";
    if let Some(why) = study["why"].as_str() {
        text += &format!("  {why}\n");
    }
    for round in study["progress"].as_array().into_iter().flatten() {
        text += &format!("  {}\n", round_text(round));
    }
    let pooled = &study["evaluation"]["pooled"];
    if pooled.is_object() {
        text += &format!("  pooled  {}\n", figures(pooled));
    }
    for (site, own) in study["evaluation"]["sites"]
        .as_object()
        .into_iter()
        .flatten()
    {
        text += &format!("  {site}  {}\n", figures(own));
    }
    text
}

fn figures(of: &Value) -> String {
    let figure = |key: &str| {
        of[key]
            .as_f64()
            .map_or("-".into(), |value| format!("{value:.4}"))
    };
    format!(
        "accuracy {}  auroc {}  auprc {}  brier {}  calibration {}",
        figure("accuracy"),
        figure("auroc"),
        figure("auprc"),
        figure("brier"),
        figure("calibration")
    )
}

fn round_text(round: &Value) -> String {
    let took = round["ended_ms"].as_i64().unwrap_or_default()
        - round["began_ms"].as_i64().unwrap_or_default();
    let mut text = format!(
        "round {}: {} sites, {took} ms, {} bytes",
        round["round"], round["members"], round["bytes"]
    );
    if let Some(epsilon) = round["epsilon"].as_f64() {
        text += &format!(", epsilon {epsilon:.3}");
    }
    for (site, own) in round["sites"].as_object().into_iter().flatten() {
        if let Some(why) = own["missing"].as_str() {
            text += &format!("; {site} {why}");
        } else if let Some(loss) = own["told"]["loss"].as_f64() {
            text += &format!("; {site} loss {loss:.4}");
        }
    }
    text
}
