//! The page's study of stays: what devices replayed is learnt from, is what the files say, and what became of a stay is
//! nowhere but at its facility.
use super::{Follower, SITES, facility};
use anyhow::{Context, Result, ensure};
use device_fw::sim::recorded;
use fl::{
    stays::Measured,
    study::{Study, Summary},
};
use medmesh_tests::{binary, mesh::Mesh, studies, wait};
use serde_json::Value;
use std::{fs, path::Path};
use types::{Code, Timestamp};

const OUTCOME: &str = "urn:medmesh:code|in-hospital-death";
/// The name of the archive in the folder.
pub const ARCHIVE: &str = "set-a.tar.gz";

/// The example with so many rounds, and half of the stays kept from training: of the page's few stays a fifth would be less
/// than the smallest cell at each facility, and nothing would be said of how good the model is there.
fn short(name: &str, rounds: u32) -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("examples/studies/icu-mortality").join(name))?;
    for expected in ["rounds = 60", "test_share = 0.2"] {
        ensure!(text.contains(expected), "{name} has no {expected}");
    }
    let text = text.replace("rounds = 60", &format!("rounds = {rounds}"));
    Ok(text.replace("test_share = 0.2", "test_share = 0.5"))
}

/// What the page says is in the folder: the archive, and a study of fewer rounds.
pub fn lay_out(folder: &Path) -> Result<()> {
    let data = binary::data().join("physionet2012");
    for name in [ARCHIVE, "Outcomes-a.txt"] {
        std::os::unix::fs::symlink(data.join(name), folder.join(name))?;
    }
    Ok(fs::write(folder.join("icu.toml"), short("study.toml", 3)?)?)
}

/// The page's study.
pub async fn learnt(mesh: &Mesh, page: &mut Follower) -> Result<()> {
    let over = || {
        let mut folders = (0..SITES.len()).map(|at| mesh.dir.join("edge").join(facility(at)));
        let done = folders.all(|folder| folder.join("replay.done").exists());
        async move { done.then_some(()) }
    };
    wait::until("the replay is over", wait::PATIENCE, over).await?;
    ensure!(
        page.run("medmesh fl check icu.toml")?
            .contains("a good study")
    );
    let printed = page.run("medmesh fl submit icu.toml --wait --json")?;
    let result: Value = serde_json::from_str(&printed)?;
    ensure!(
        result["status"] == "done" && result["rounds"] == 3,
        "{result}"
    );
    let evaluation = &result["evaluation"];
    let pooled = &evaluation["pooled"];
    // Four deaths among 48 stays.
    ensure!(
        pooled["records"] == 48
            && pooled["accuracy"].as_f64() > Some(0.8)
            && pooled["auroc"].as_f64() > Some(0.3)
            && pooled["intervals"]["auroc"].is_object(),
        "{result}"
    );
    let sites = evaluation["sites"].as_object().context("sites")?;
    ensure!(
        sites.len() == 4 && sites.values().all(|site| site["records"] == 12),
        "{result}"
    );
    // Nobody of those who were kept from training at the third facility has died.
    let third = &sites["us-f3"];
    ensure!(
        third["auroc"].is_null() && third["accuracy"].is_f64() && third["why"].is_string(),
        "{result}"
    );
    let card = result["model"]["card"].as_str().context("a card")?;
    let card = fs::read_to_string(page.folder.join(card))?;
    ensure!(
        card.contains("| us-f4 | 3 |") && card.contains("From: readings of stays"),
        "{card}"
    );
    as_recorded(mesh, page)?;
    windows(mesh, page)?;
    let found = mesh
        .search("us", &format!("Observation?code={OUTCOME}"))
        .await?;
    ensure!(found.is_empty(), "an outcome left its facility: {found:?}");
    Ok(())
}

/// The example of a recurrent network over the windows of each stay, for a round: a model in ONNX comes of it.
fn windows(mesh: &Mesh, page: &Follower) -> Result<()> {
    let path = page.folder.join("gru.toml");
    fs::write(&path, short("gru.toml", 1)?)?;
    let (dir, path) = (mesh.dir.to_string_lossy(), path.to_string_lossy());
    let submit = ["fl", "submit", &path, "--wait", "--json", "--dir", &dir];
    let result = mesh.medmesh(&submit)?;
    let pooled = &result["evaluation"]["pooled"];
    ensure!(
        result["status"] == "done"
            && result["rounds"] == 1
            && pooled["records"] == 48
            && pooled["auroc"].is_f64(),
        "{result}"
    );
    let onnx = fs::read(result["model"]["onnx"].as_str().context("a model")?)?;
    let has_gates = onnx.windows(3).any(|word| word == b"GRU");
    ensure!(has_gates, "the model is no recurrent network");
    Ok(())
}

/// Of a stay at each facility: what devices gave is what the files say, and so is every feature of the study.
fn as_recorded(mesh: &Mesh, page: &Follower) -> Result<()> {
    let study: Study = toml::from_str(&fs::read_to_string(page.folder.join("icu.toml"))?)?;
    let archive = page.folder.join(ARCHIVE);
    let all = recorded(&archive, Some(&page.folder.join("Outcomes-a.txt")))?;
    for (at, record) in all.iter().take(SITES.len()).enumerate() {
        let (patient, node) = (format!("p-{}", record.record), facility(at));
        let direct = studies::stay(record);
        let end_ms = direct.readings.last().context("readings")?.at_ms;
        let through = came_through(mesh, &node, &patient, end_ms)?;
        ensure!(through.len() == direct.readings.len(), "{patient}");
        for feature in &study.data.features {
            let Some(code) = feature.code else {
                continue;
            };
            for summary in &feature.summaries {
                let taken = [&through, &direct.readings].map(|of| taken(of, code, *summary));
                ensure!(
                    taken[0] == taken[1],
                    "{patient} {code} {summary:?}: {taken:?}"
                );
            }
        }
        let died = |readings: &[Measured]| taken(readings, OUTCOME.parse().ok()?, Summary::Last);
        ensure!(
            died(&through).is_some() && died(&through) == died(&direct.readings),
            "{patient}"
        );
    }
    Ok(())
}

fn taken(readings: &[Measured], code: Code, summary: Summary) -> Option<f64> {
    let own = readings.iter().filter(|of| of.code == code);
    let own: Vec<_> = own.map(|of| (of.at_ms, of.value)).collect();
    summary.of(&own)
}

/// What the facility shows of a patient, but for what is implausible. The outcome came `end_ms` after the stay began.
fn came_through(mesh: &Mesh, node: &str, patient: &str, end_ms: i64) -> Result<Vec<Measured>> {
    let config = mesh.config(&format!("edge:{node}"));
    let config = config.to_string_lossy();
    let asked = [
        "edge",
        "series",
        "--config",
        &config,
        "--json",
        "--patient",
        patient,
    ];
    let points = mesh.medmesh_lines(&[&asked[..], &["--from", "2000-01-01T00:00:00Z"]].concat())?;
    let end = points.iter().find(|point| point["code"] == OUTCOME);
    let end = end.and_then(|point| point["at"].as_i64());
    let begun = Timestamp(end.context("no outcome is there")?).plus_ms(-end_ms);
    let good = points.iter().filter(|point| point["implausible"].is_null());
    let measured = |point: &Value| -> Result<Option<Measured>> {
        let Some(value) = point["value"].as_f64() else {
            return Ok(None);
        };
        let text = |key: &str| point[key].as_str().context("a text");
        let at = Timestamp(point["at"].as_i64().context("a time")?);
        Ok(Some(Measured {
            code: text("code")?.parse()?,
            unit: text("unit")?.parse()?,
            at_ms: at.since(begun),
            value,
        }))
    };
    let all: Vec<_> = good.map(measured).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}
