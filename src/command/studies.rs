//! `medmesh fl submit|list|show|watch|cancel|resume|export|open`: studies of a running mesh, through its global node's API.
use super::{
    mlflow::Tracking,
    study_api::{Mesh, of_study},
    study_text::{headline, round, waiting, whole, why},
};
use crate::{
    cli::fl::{MeshArgs, StudyArgs, SubmitArgs, WatchArgs},
    failure::Failure,
    out,
};
use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};
use tokio::time::timeout;

const TOML: &str = "application/toml";
/// How long a tracking server may take to be told of a round; what it was not told comes with the next one.
const TRACKED_WITHIN: Duration = Duration::from_secs(10);

/// Submits a study, whose text was checked here.
pub async fn submit(args: &SubmitArgs, text: &str) -> Result<(), Failure> {
    let tracking = args.mlflow.as_deref().map(Tracking::open).transpose()?;
    if let Some(to) = args.to.as_deref().filter(|to| to.exists() && !to.is_dir()) {
        return Err(anyhow!("--to: {} is no folder", to.display()).into());
    }
    let mut mesh = Mesh::open(&args.mesh).await?;
    let begun = mesh.post("/studies", TOML, text).await?;
    let id = begun["study"].as_str().context("the node names no study")?;
    if !args.wait {
        let begun = if args.mesh.json {
            json!({ "study": id }).to_string()
        } else {
            id.to_owned()
        };
        return Ok(out::line(begun)?);
    }
    let says = !args.mesh.json;
    let (study, tracked) = followed(&mut mesh, id, tracking, |_, line| {
        if says {
            eprintln!("{}", out::printable(&line));
        }
        Ok(())
    })
    .await
    .with_context(|| format!("the study goes on, see `medmesh fl watch {id}`"))?;
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
        let to = args.to.clone().unwrap_or_else(|| mesh.folder.join(id));
        let fetched = mesh.fetch(&study, &to).await;
        let later = || format!("the study is done, see `medmesh fl export {id}`");
        result["model"] = fetched.with_context(later)?;
    } else {
        result["model"] = Value::Null;
        result["why"] = study["why"].clone();
    }
    if args.mesh.json {
        out::line(&result)?;
    } else {
        out::text(&out::printable(&whole(&study)))?;
    }
    ended(&study)?;
    Ok(tracked?)
}

fn ended(study: &Value) -> Result<(), Failure> {
    if study["status"] == "done" {
        return Ok(());
    }
    let word = study["status"].as_str().unwrap_or_default();
    Err(anyhow!("the study is {word}").into())
}

/// Waits for a study, saying each round that has ended, as JSON and as a line, and how a round stands that lasts, as a line
/// alone; and telling MLflow of it; whether MLflow has all of it at the end,
/// for what it was not told of a round it is told with the next one.
async fn followed(
    mesh: &mut Mesh,
    id: &str,
    mlflow: Option<Tracking>,
    mut says: impl FnMut(Option<&Value>, String) -> Result<()>,
) -> Result<(Value, Result<()>)> {
    let (mut said, mut tracked) = (0, Ok(()));
    let mut stood = None;
    let study = mesh.wait(id, async |study| {
        let rounds = study["progress"].as_array().map_or(&[][..], Vec::as_slice);
        for report in rounds.iter().skip(said) {
            says(Some(report), round(report, study))?;
        }
        said = rounds.len();
        let stands = waiting(study);
        if let Some(line) = stands.clone().filter(|_| stands != stood) {
            says(None, line)?;
        }
        stood = stands;
        if let Some(mlflow) = &mlflow {
            let told = timeout(TRACKED_WITHIN, mlflow.record(study)).await;
            let told = told.unwrap_or_else(|_| Err(anyhow!("no answer within {TRACKED_WITHIN:?}")));
            tracked = told.context("mlflow: the study itself goes its way");
        }
        Ok(())
    });
    let study = study.await?;
    Ok((study, tracked))
}

/// Lists the studies, the newest first.
pub async fn list(args: &MeshArgs) -> Result<(), Failure> {
    let mut mesh = Mesh::open(args).await?;
    let mut all = Vec::new();
    let mut path = "/studies".to_owned();
    loop {
        let mut page = mesh.get(&path).await?;
        if let Value::Array(items) = page["items"].take() {
            if !args.json {
                for study in &items {
                    out::line(out::printable(&headline(study)))?;
                }
            }
            all.extend(items);
        }
        match page["next"].as_str() {
            Some(next) => path = format!("/studies?after={next}"),
            None => break,
        }
    }
    out::none(all.is_empty() && !args.json, "no study was submitted");
    if args.json {
        out::line(json!({ "studies": all }))?;
    }
    Ok(())
}

/// Shows a study.
pub async fn show(args: &StudyArgs) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh).await?;
    let study = mesh.study(args.id.as_str()).await?;
    said(&study, &args.mesh)
}

/// Shows a study's rounds as they end: as JSON one object a line, and the study as the last.
pub async fn watch(args: &WatchArgs) -> Result<(), Failure> {
    let of = &args.study;
    let tracking = args.mlflow.as_deref().map(Tracking::open).transpose()?;
    let mut mesh = Mesh::open(&of.mesh).await?;
    let as_json = of.mesh.json;
    let followed = followed(&mut mesh, of.id.as_str(), tracking, |report, line| {
        match report {
            Some(report) if as_json => out::line(report)?,
            None if as_json => {}
            _ => out::line(out::printable(&line))?,
        }
        Ok(())
    });
    let (study, tracked) = followed.await?;
    if as_json {
        out::line(&study)?;
    } else {
        out::line(headline(&study))?;
        for line in why(&study).lines() {
            out::line(format!("  {}", out::printable(line)))?;
        }
    }
    Ok(tracked?)
}

/// `cancel` or `resume`.
pub async fn change(args: &StudyArgs, what: &str) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh).await?;
    let path = format!("/studies/{}/{what}", args.id);
    let changed = mesh.post(&path, TOML, "").await;
    let study = changed.with_context(|| of_study(args.id.as_str()))?;
    said(&study, &args.mesh)
}

/// Writes a study's files.
pub async fn export(args: &StudyArgs, to: &Path) -> Result<(), Failure> {
    let mut mesh = Mesh::open(&args.mesh).await?;
    let study = mesh.study(args.id.as_str()).await?;
    if study["model"].is_null() {
        let status = study["status"].as_str().unwrap_or_default();
        return Err(anyhow!("{}: has no model: it is {status}", args.id).into());
    }
    let files = mesh.fetch(&study, to).await?;
    if args.mesh.json {
        return Ok(out::line(&files)?);
    }
    Ok(out::line(to.display().to_string())?)
}

/// Prints a link that opens the pages of studies in a browser, once; none to a study that there is not.
pub async fn open(args: &MeshArgs, study: Option<&types::Name>) -> Result<(), Failure> {
    let mut mesh = Mesh::open(args).await?;
    if let Some(study) = study {
        mesh.study(study.as_str()).await?;
    }
    let mut given = mesh.post("/link", TOML, "").await?;
    let mut link = given["link"]
        .as_str()
        .context("the node gives no link")?
        .to_owned();
    if let Some(study) = study {
        link += &format!("&study={study}");
    }
    if args.json {
        given["link"] = json!(link);
        return Ok(out::line(&given)?);
    }
    out::line(link)?;
    eprintln!("good once, for {} seconds", given["expires_in"]);
    Ok(())
}

fn said(study: &Value, args: &MeshArgs) -> Result<(), Failure> {
    if args.json {
        return Ok(out::line(study)?);
    }
    Ok(out::text(&out::printable(&whole(study)))?)
}
