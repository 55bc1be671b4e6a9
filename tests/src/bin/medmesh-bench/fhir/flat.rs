//! Memory of the region while it exports more and more, and while a search is paged through to its end: what it has
//! resident beyond what it had before may not grow with what there is.
use super::{BUNDLE, Size, target::Target, transactions};
use crate::{
    Bed,
    fhir::target::Asked,
    node::resident_mib,
    report::{Aim, Figure, Report},
};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{mesh::Mesh, wait};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// What is exported: so many times the first.
const GROWTH: [usize; 3] = [1, 8, 64];
/// MiB that an export or a walk may take beyond what the node had: pages, lines of a turn and caches of the engines.
const ROOM_MIB: f64 = 64.0;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const NOTHING: &str = "memory alone is measured";

/// Measures it.
pub async fn run(
    bed: &Bed,
    size: &Size,
    ours: &mut Target,
    mesh: &Mesh,
    report: &mut Report,
) -> Result<()> {
    let pid = u32::try_from(mesh.pid(&format!("regional:{}", super::REGION))?)?;
    let (mut grown, mut note, mut there) = (Vec::new(), Vec::new(), 0);
    for times in GROWTH {
        let more = (size.first * times - there).div_ceil(BUNDLE);
        transactions(ours, more).await?;
        there += more * BUNDLE;
        let before = Peak::begin(pid)?;
        let bytes = export(ours).await?;
        let most = before.end().await?;
        grown.push(most);
        note.push(format!(
            "{most:.0} MiB at {:.0} MiB",
            bytes as f64 / 1_048_576.0
        ));
    }
    let largest = grown.last().copied().unwrap_or_default();
    let figure = Figure::new(
        "FHIR memory over an export, beyond before",
        "MiB",
        NOTHING,
        vec![largest],
    );
    report.add(
        figure
            .aim(Aim::AtMost(ROOM_MIB))
            .note(format!("exports that grow: {}", note.join(", "))),
    );
    let before = Peak::begin(pid)?;
    let entries = walk(ours, if bed.small { 2_000 } else { 100_000 }).await?;
    let most = before.end().await?;
    let figure = Figure::new(
        "FHIR memory over a page walk, beyond before",
        "MiB",
        NOTHING,
        vec![most],
    );
    report.add(
        figure
            .aim(Aim::AtMost(ROOM_MIB))
            .note(format!("{entries} entries in pages of 1,000")),
    );
    Ok(())
}

/// The most that a process has resident meanwhile.
struct Peak {
    before: f64,
    stop: watch::Sender<()>,
    most: tokio::task::JoinHandle<Result<f64>>,
}

impl Peak {
    fn begin(pid: u32) -> Result<Self> {
        let before = resident_mib(pid)?;
        let (stop, mut stopped) = watch::channel(());
        let most = tokio::spawn(async move {
            let mut most = 0_f64;
            loop {
                most = most.max(resident_mib(pid)?);
                tokio::select! {
                    _ = stopped.changed() => return Ok(most),
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            }
        });
        Ok(Self { before, stop, most })
    }

    /// MiB beyond what there was.
    async fn end(self) -> Result<f64> {
        drop(self.stop);
        Ok((self.most.await?? - self.before).max(0.0))
    }
}

/// Exports every Condition and fetches the files; their bytes.
async fn export(ours: &mut Target) -> Result<usize> {
    ours.renew().await?;
    let kickoff = Asked::get("/$export?_type=Condition").without_waiting();
    let told = ours.line().await?.ask(&kickoff).await?;
    ensure!(
        told.status == 202,
        "an export is answered {}: {}",
        told.status,
        told.text()
    );
    let job = below(ours, &told.location)?;
    let target = Arc::new(ours.way.clone());
    let done = || async {
        let way = Target::of_echo((*target).clone());
        let told = way
            .line()
            .await
            .ok()?
            .ask(&Asked::get(job.clone()))
            .await
            .ok()?;
        (told.status != 202).then_some(told)
    };
    let told = wait::until("an export is done", wait::PATIENCE, done).await?;
    ensure!(
        told.status == 200,
        "an export ends with {}: {}",
        told.status,
        told.text()
    );
    let manifest: Value = serde_json::from_slice(&told.body)?;
    let mut bytes = 0;
    for file in manifest["output"].as_array().into_iter().flatten() {
        ours.renew().await?;
        let path = below(ours, file["url"].as_str().context("a file without a URL")?)?;
        let told = ours.line().await?.ask(&Asked::get(path)).await?;
        ensure!(told.status == 200, "a file is answered {}", told.status);
        bytes += told.body.len();
    }
    Ok(bytes)
}

/// Pages through everything of a type, up to so many entries; how many there were.
async fn walk(ours: &mut Target, most: usize) -> Result<usize> {
    ours.renew().await?;
    let mut line = ours.line().await?;
    let (mut path, mut entries) = ("/Condition?_count=1000".to_owned(), 0);
    loop {
        let told = line.ask(&Asked::get(path)).await?;
        ensure!(
            told.status == 200,
            "a page is answered {}: {}",
            told.status,
            told.text()
        );
        let page: Value = serde_json::from_slice(&told.body)?;
        entries += page["entry"].as_array().map_or(0, Vec::len);
        let mut links = page["link"].as_array().into_iter().flatten();
        let next = links.find(|link| link["relation"] == "next");
        let next = next.and_then(|link| link["url"].as_str());
        match next {
            Some(next) if entries < most => path = below(ours, next)?,
            _ => return Ok(entries),
        }
    }
}

/// What follows the base in a URL of the server.
fn below(ours: &Target, url: &str) -> Result<String> {
    let rest = url
        .split_once(&ours.way.base)
        .map(|(_, rest)| rest.to_owned());
    rest.with_context(|| format!("{url} is none of the server's"))
}
