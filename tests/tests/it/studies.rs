//! A study on a mesh of real processes, as docs/federated-learning.md has it: four hospitals, each with its own table, the
//! region killed in the middle, the model and what was spent at the end.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, wait};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// FLamby's hospitals, in the order of the facilities.
const SITES: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];
/// How long a study may take on a slow machine.
const LONGEST: Duration = Duration::from_secs(600);

fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("examples/studies/heart-disease").join(name)
}

fn facility(at: usize) -> String {
    format!("us-f{}", at + 1)
}

/// Each hospital imports its own lines of the split.
fn import(mesh: &Mesh) -> Result<()> {
    let path = binary::data().join("fed-heart-disease/derived/flamby_features_split.csv");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (header, lines) = text.split_once('\n').context("a header")?;
    let schema = example("schema.toml");
    for (at, site) in SITES.iter().enumerate() {
        let own: Vec<_> = lines
            .lines()
            .filter(|line| line.starts_with(site))
            .collect();
        let csv = mesh.dir.join(format!("{}.csv", facility(at)));
        fs::write(&csv, format!("{header}\n{}\n", own.join("\n")))?;
        let config = mesh.config(&format!("edge:{}", facility(at)));
        let [csv, schema, config] = [&csv, &schema, &config].map(|path| path.to_string_lossy());
        let found = mesh.medmesh(&[
            "edge", "dataset", "import", "heart", "--csv", &csv, "--schema", &schema, "--config",
            &config, "--json",
        ])?;
        ensure!(found["records"].as_u64() > Some(40), "{found}");
    }
    Ok(())
}

fn fl(mesh: &Mesh, args: &[&str]) -> Result<Value> {
    let dir = mesh.dir.to_string_lossy();
    mesh.medmesh(&[&["fl"][..], args, &["--dir", &dir, "--json"]].concat())
}

async fn ended(mesh: &Mesh, id: &str) -> Result<Value> {
    let status = || async {
        let study = fl(mesh, &["show", id]).ok()?;
        (study["status"] != "running").then_some(study)
    };
    wait::until("the study has ended", LONGEST, status).await
}

#[tokio::test]
async fn four_hospitals_learn_on_a_mesh_whose_region_is_killed_and_pay_for_it_from_their_ledgers()
-> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = ["--regions", "us", "--facilities", "4", "--beds", "1"];
    let mesh = Mesh::up(dir.path(), &args).await?;
    import(&mesh)?;
    let study = example("study.toml");
    let submitted = fl(&mesh, &["submit", &study.to_string_lossy()])?;
    let id = submitted["study"].as_str().context("an id")?.to_owned();
    let begun = || async {
        let study = fl(&mesh, &["show", &id]).ok()?;
        (study["rounds"].as_u64() >= Some(2)).then_some(())
    };
    wait::until("two rounds are over", LONGEST, begun).await?;
    mesh.signal("regional:us", "KILL")?;
    let study = ended(&mesh, &id).await?;
    ensure!(
        study["status"] == "done" && study["rounds"] == 15,
        "{study}"
    );
    ensure!(
        study["progress"].as_array().map(Vec::len) == Some(16),
        "{study}"
    );
    let pooled = study["evaluation"]["pooled"]["accuracy"].as_f64();
    ensure!(pooled > Some(0.76), "{study}");
    ensure!(
        study["evaluation"]["sites"]
            .as_object()
            .map(serde_json::Map::len)
            == Some(4),
        "{study}"
    );

    let private = example("private.toml");
    let result = fl(&mesh, &["submit", &private.to_string_lossy(), "--wait"])?;
    ensure!(
        result["status"] == "done" && result["unit"] == "record",
        "{result}"
    );
    let epsilon = result["epsilon"].as_f64().context("an epsilon")?;
    ensure!(
        epsilon > 0.9 && epsilon <= 1.0 && result["delta"] == 1e-4,
        "{result}"
    );
    for file in ["safetensors", "onnx"] {
        let path = result["model"][file].as_str().context("a file")?;
        ensure!(fs::metadata(path)?.len() > 14 * 4, "{path}");
    }
    let config = mesh.config("edge:us-f1");
    let ledger = mesh.medmesh(&[
        "fl",
        "ledger",
        "--json",
        "--config",
        &config.to_string_lossy(),
    ])?;
    ensure!(
        ledger["entries"].as_array().map(Vec::len) == Some(3),
        "{ledger}"
    );
    ensure!(
        ledger["spent"].as_f64() > Some(1.0),
        "at the facility's own delta: {ledger}"
    );
    declined(&mesh).await?;
    mesh.stop().await
}

/// A study that asks for what is not there ends with the reason of each facility.
async fn declined(mesh: &Mesh) -> Result<()> {
    let text = fs::read_to_string(example("private.toml"))?;
    let other = mesh.dir.join("other.toml");
    fs::write(
        &other,
        text.replace("table = \"heart\"", "table = \"lungs\""),
    )?;
    let submitted = fl(mesh, &["submit", &other.to_string_lossy()])?;
    let id = submitted["study"].as_str().context("an id")?.to_owned();
    let study = ended(mesh, &id).await?;
    ensure!(study["status"] == "failed", "{study}");
    let why = study["why"].as_str().unwrap_or_default();
    // The round is over as soon as a quorum cannot be had any more, whoever has answered by then.
    ensure!(
        why.contains("declined: plan: there is no data set `lungs` here"),
        "{why}"
    );
    Ok(())
}
