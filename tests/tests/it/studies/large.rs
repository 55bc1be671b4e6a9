//! A study whose model fits no parcel, on the mesh that is there: model, updates and sums travel as blobs, through kills of
//! the region and of a hospital, and nothing of them stays when it is over.
use super::{PATIENCE, ended, example, fl};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, wait};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// 13 inputs and two layers of 512: 1.08 MB, which is more than a parcel carries.
const PARAMETERS: u64 = 13 * 512 + 512 + 512 * 512 + 512 + 512 + 1;

fn blobs(mesh: &Mesh, node: &str) -> PathBuf {
    mesh.folder(node).join("data").join("blobs")
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| entries.flatten().count())
}

async fn killed(mesh: &Mesh, node: &str) -> Result<()> {
    let came = || async { (files(&blobs(mesh, node)) > 0).then_some(()) };
    wait::until("a blob of the study comes", PATIENCE, came).await?;
    let before = mesh.pid(node)?;
    mesh.signal(node, "KILL")?;
    let back = || async { (mesh.pid(node).ok()? != before).then_some(()) };
    wait::until("the node is back", PATIENCE, back).await
}

/// Two rounds of a large model come to their end whoever is killed.
pub async fn learnt(mesh: &Mesh) -> Result<()> {
    let text = fs::read_to_string(example("study.toml"))?;
    let text = text
        .replace("name = \"heart\"", "name = \"deep\"")
        .replace("kind = \"logistic\"", "kind = \"mlp\"\nhidden = [512, 512]")
        .replace("rounds = 15", "rounds = 2")
        .replace("steps = 100", "steps = 3");
    let path = mesh.dir.join("deep.toml");
    fs::write(&path, &text)?;
    let seen = mesh.dir.join("seen.toml");
    fs::write(&seen, text.replace("secure = true", "secure = false"))?;
    let refused = fl(mesh, &["submit", &seen.to_string_lossy()]);
    let error = refused.err().context("it is not masked")?.to_string();
    ensure!(
        error.contains("is not encrypted: it has to be masked"),
        "{error}"
    );
    let submitted = fl(mesh, &["submit", &path.to_string_lossy()])?;
    let id = submitted["study"].as_str().context("an id")?;
    for node in ["regional:us", "edge:us-f1", "regional:us", "global"] {
        killed(mesh, node).await?;
    }
    let study = ended(mesh, id).await?;
    ensure!(study["status"] == "done" && study["rounds"] == 2, "{study}");
    ensure!(study["model"]["parameters"] == PARAMETERS, "{study}");
    let report = &study["progress"][1];
    ensure!(report["members"].as_u64() >= Some(3), "{report}");
    ensure!(
        report["bytes"].as_u64() >= Some(3 * 4 * PARAMETERS),
        "{report}"
    );
    for node in ["edge:us-f1", "edge:us-f4"] {
        let gone = || async { (files(&blobs(mesh, node)) == 0).then_some(()) };
        wait::until("nothing of the study stays at a facility", PATIENCE, gone).await?;
    }
    // The model is read of its blob for whoever asks for it.
    let to = mesh.dir.join("deep");
    let (dir, folder) = (mesh.dir.to_string_lossy(), to.to_string_lossy());
    let mut export = std::process::Command::new(binary::medmesh());
    let ended = export.args(["fl", "export", id, "--to", &folder, "--dir", &dir]);
    ensure!(ended.output()?.status.success(), "the model is exported");
    let weights = fs::metadata(to.join("model.safetensors"))?.len();
    ensure!(weights > 4 * PARAMETERS, "{weights}");
    Ok(())
}
