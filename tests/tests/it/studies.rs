//! Studies on a mesh of real processes: docs/federated-learning.md command by command. Four hospitals, each with its own
//! table, the region killed in the middle, the model and what was spent at the end, the same from Python, and a study of
//! what devices measured.
mod cancelled;
#[cfg(asked_for_python)]
mod client;
mod large;
mod page;
mod stays;

use anyhow::{Context, Result, ensure};
use medmesh_tests::{binary, mesh::Mesh, wait};
use page::{Follower, printed};
use serde_json::Value;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// FLamby's hospitals, in the order of the facilities.
const SITES: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];
/// How long a study may take on a slow machine.
const LONGEST: Duration = Duration::from_secs(600);
/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn example(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join("examples/studies/heart-disease").join(name)
}

fn facility(at: usize) -> String {
    format!("us-f{}", at + 1)
}

/// What the page says is in the folder: each hospital's own lines of the split, the schema and the studies.
fn lay_out(folder: &Path) -> Result<()> {
    let path = binary::data().join("fed-heart-disease/derived/flamby_features_split.csv");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (header, lines) = text.split_once('\n').context("a header")?;
    for (at, site) in SITES.iter().enumerate() {
        let own: Vec<_> = lines
            .lines()
            .filter(|line| line.starts_with(site))
            .collect();
        let csv = folder.join(format!("{}.csv", facility(at)));
        fs::write(&csv, format!("{header}\n{}\n", own.join("\n")))?;
    }
    for name in ["schema.toml", "study.toml", "private.toml"] {
        fs::copy(example(name), folder.join(name))?;
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
    lay_out(dir.path())?;
    stays::lay_out(dir.path())?;
    #[cfg(asked_for_python)]
    let client = client::Client::prepare(dir.path())?;
    let (mut page, up) = Follower::begin(dir.path())?;
    let archive = dir.path().join(stays::ARCHIVE);
    let archive = archive.to_string_lossy();
    let named = |word: &'_ String| match word.as_str() {
        stays::ARCHIVE => archive.to_string(),
        word => word.to_owned(),
    };
    let up: Vec<_> = up.iter().map(named).collect();
    let up: Vec<_> = up.iter().map(String::as_str).collect();
    let mesh = Mesh::up(&dir.path().join("mesh"), &up).await?;
    for _ in SITES {
        page.run("medmesh edge dataset import heart")?;
    }
    ensure!(page.run("medmesh fl check")?.contains("a good study"));
    let result = learnt(&mesh, &mut page).await?;
    let id = result["study"].as_str().context("an id")?.to_owned();
    page.stands_for.push(("ID", id.clone()));
    looked_at(&mesh, &mut page, &id).await?;
    stays::learnt(&mesh, &mut page).await?;
    let private = paid(&mut page)?;
    let declined = declined(&mesh).await?;
    large::learnt(&mesh).await?;
    cancelled::ends(&mesh).await?;
    page.end()?;
    explained(&mesh)?;
    unknown(&mesh)?;
    piped(&mesh)?;
    #[cfg(asked_for_python)]
    client.check(&mesh, [&id, &private, &declined])?;
    #[cfg(not(asked_for_python))]
    drop((private, declined));
    mesh.stop().await
}

/// The page's study, through a kill of its region.
async fn learnt(mesh: &Mesh, page: &mut Follower) -> Result<Value> {
    let mut submit = page.next("medmesh fl submit study.toml --wait --json")?;
    let submitted = submit
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let begun = || async {
        let studies = fl(mesh, &["list"]).ok()?;
        (studies["studies"][0]["rounds"].as_u64() >= Some(2)).then_some(())
    };
    wait::until("two rounds are over", LONGEST, begun).await?;
    mesh.signal("regional:us", "KILL")?;
    let waited = tokio::task::spawn_blocking(|| submitted.wait_with_output());
    let result: Value = serde_json::from_str(&printed(waited.await??)?)?;
    ensure!(
        result["status"] == "done" && result["rounds"] == 15,
        "{result}"
    );
    let evaluation = &result["evaluation"];
    let pooled = &evaluation["pooled"];
    ensure!(pooled["accuracy"].as_f64() > Some(0.76), "{result}");
    for figure in ["accuracy", "auroc", "auprc", "brier"] {
        let (value, within) = (pooled[figure].as_f64(), &pooled["intervals"][figure]);
        ensure!(
            within["low"].as_f64() < value && value < within["high"].as_f64(),
            "{figure}: {result}"
        );
    }
    let sites = evaluation["sites"].as_object().context("sites")?;
    ensure!(
        sites.len() == 4 && sites.values().all(|site| site["intervals"].is_object()),
        "{result}"
    );
    for (file, least) in [
        ("safetensors", 14 * 4),
        ("onnx", 14 * 4),
        ("card", 1_000),
        ("loss", 1_000),
        ("auroc", 1_000),
        ("roc", 1_000),
        ("calibration", 1_000),
    ] {
        let path = result["model"][file]
            .as_str()
            .with_context(|| file.to_owned())?;
        let bytes = fs::metadata(page.folder.join(path))?.len();
        ensure!(bytes > least, "{path}");
    }
    Ok(result)
}

/// What the page shows of a study that has ended.
async fn looked_at(mesh: &Mesh, page: &mut Follower, id: &str) -> Result<()> {
    ensure!(page.run("medmesh fl list --dir")?.starts_with(id));
    let watched = page.run("medmesh fl watch")?;
    let rounds = watched.lines().filter(|line| line.starts_with("round "));
    ensure!(rounds.count() == 16, "{watched}");
    ensure!(
        watched.contains("round 1: 4 of 4 sites, loss ") && watched.contains("us-f4 loss"),
        "{watched}"
    );
    page.run("medmesh fl export")?;
    let card = fs::read_to_string(page.folder.join("model/card.md"))?;
    ensure!(card.contains("| us-f3 | 15 |"), "{card}");
    let told = mesh.json()?;
    let api = told["global"]["api"].as_str().context("an address")?;
    let origin = api.trim_end_matches("/api/v1").to_owned();
    let key = told["clients"]["data-scientist"]["key"]
        .as_str()
        .context("a key")?;
    page.stands_for.push(("https://HOST:PORT", origin));
    page.stands_for.push(("me.key", key.to_owned()));
    ensure!(page.run("medmesh fl list --server")?.starts_with(id));
    page.run("medmesh token")?;
    let link = page.run("medmesh fl open")?;
    let answer = mesh.https.get(link.trim(), None).await?;
    ensure!(answer.status == 303, "{}", answer.status);
    ensure!(mesh.https.get(link.trim(), None).await?.status == 403);
    Ok(())
}

/// The page's study that hides records, and the ledger of a facility that paid for it.
fn paid(page: &mut Follower) -> Result<String> {
    let printed = page.run("medmesh fl submit private.toml --wait --json")?;
    let result: Value = serde_json::from_str(&printed)?;
    ensure!(
        result["status"] == "done" && result["unit"] == "record",
        "{result}"
    );
    let epsilon = result["epsilon"].as_f64().context("an epsilon")?;
    ensure!(
        epsilon > 0.9 && epsilon <= 1.0 && result["delta"] == 1e-4,
        "{result}"
    );
    ensure!(result["model"]["loss"].is_null(), "{result}");
    let ledger: Value = serde_json::from_str(&page.run("medmesh fl ledger --json")?)?;
    ensure!(
        ledger["entries"].as_array().map(Vec::len) == Some(3),
        "{ledger}"
    );
    ensure!(
        ledger["spent"].as_f64() > Some(1.0),
        "at the facility's own delta: {ledger}"
    );
    let path = page.folder.join("ledger.note");
    page.run("medmesh fl ledger --signed")?;
    let note = fs::read_to_string(path)?;
    ensure!(
        note.starts_with("medmesh/edge/us/us/us-f1/ledger\n"),
        "{note}"
    );
    page.run("medmesh fl epsilon")?;
    let id = result["study"].as_str().context("an id")?;
    Ok(id.to_owned())
}

/// A study that asks for what is not there ends with the reason of each facility.
async fn declined(mesh: &Mesh) -> Result<String> {
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
    let (to, dir) = (mesh.dir.join("lungs"), mesh.dir.to_string_lossy());
    let folder = to.to_string_lossy();
    let mut export = std::process::Command::new(binary::medmesh());
    let ended = export.args(["fl", "export", &id, "--to", &folder, "--dir", &dir]);
    ensure!(
        !ended.output()?.status.success() && !to.exists(),
        "nothing is exported"
    );
    Ok(id)
}

/// A study comes by a pipe, which is read once; what is wrong with it is JSON where that is asked for, and it is sent nowhere.
fn piped(mesh: &Mesh) -> Result<()> {
    let dir = mesh.dir.to_string_lossy();
    let mut submit = std::process::Command::new(binary::medmesh());
    let submit = submit.args(["fl", "submit", "/dev/stdin", "--json", "--dir", &dir]);
    let mut submitted = submit
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut input = submitted.stdin.take().context("standard input")?;
    let text = fs::read_to_string(example("study.toml"))?.replace("quorum = 3", "quorum = 9");
    input.write_all(text.as_bytes())?;
    drop(input);
    let ended = submitted.wait_with_output()?;
    let told: Value = serde_json::from_slice(&ended.stdout)?;
    let problems = told["problems"].as_array().context("problems")?;
    ensure!(
        ended.status.code() == Some(64) && told["ok"] == false,
        "{told}"
    );
    let is_quorum = |problem: &Value| problem["path"] == "aggregation.quorum";
    ensure!(problems.iter().any(is_quorum), "{told}");
    Ok(())
}

/// What cannot be is refused with its reason, and an answer of the node is given in its own words.
fn explained(mesh: &Mesh) -> Result<()> {
    let dir = mesh.dir.to_string_lossy();
    let (told, ca) = (mesh.json()?, mesh.dir.join("pki/ca.pem"));
    let api = told["global"]["api"].as_str().unwrap_or_default();
    let (ca, wrong) = (ca.to_string_lossy(), mesh.dir.join("schema.toml"));
    let key = wrong.to_string_lossy();
    fs::write(&wrong, "no key")?;
    let own = told["clients"]["data-scientist"]["key"].as_str();
    let own = own.context("a key")?;
    let text = fs::read_to_string(example("study.toml"))?;
    let large = mesh.dir.join("large.toml");
    let more = text
        .replace("sites = 4", "sites = 9")
        .replace("quorum = 3", "quorum = 6");
    fs::write(&large, more.replace("\"us\"", "\"us\", \"mars\""))?;
    let (large, good) = (large.to_string_lossy(), example("study.toml"));
    let good = good.to_string_lossy();
    let submit: [&str; 8] = ["submit", &large, "--server", api, "--key", own, "--ca", &ca];
    for (args, expected) in [
        (
            &["list", "--dir", "/nowhere"][..],
            "/nowhere/mesh.json: is `medmesh up` running?",
        ),
        (
            &["list", "--dir", &dir, "--client-id", "nobody"],
            "names no client `nobody`",
        ),
        (
            &["list", "--server", "http://x", "--key", &key, "--ca", &ca],
            "--server: is an address such as https://",
        ),
        (
            &["list", "--server", api, "--key", &key, "--ca", &ca],
            "is not the PKCS#8 PEM of a P-384 key",
        ),
        (&["list", "--server", api], "--key <KEY>"),
        (
            &["submit", &good, "--wait", "--to", &key, "--dir", &dir],
            "is no folder",
        ),
        (
            &["submit", &large, "--dir", &dir],
            "sites: 9 facilities of each region are asked, and `us` has 4",
        ),
        (
            &submit,
            "regions[1]: `mars` is no region of the mesh, which has us",
        ),
        (
            &["watch", "nowhere-00000000", "--dir", &dir, "--mlflow", "x"],
            "--mlflow: is an address such as",
        ),
    ] {
        let mut command = std::process::Command::new(binary::medmesh());
        let ended = command.arg("fl").args(args).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            !ended.status.success() && said.contains(expected),
            "{args:?}: {said}"
        );
    }
    Ok(())
}

/// A study that there is not is named, whatever is asked of it: nobody is given a link to a page that is not there.
fn unknown(mesh: &Mesh) -> Result<()> {
    let dir = mesh.dir.to_string_lossy();
    for asked in [
        &["show"][..],
        &["open"],
        &["watch"],
        &["cancel"],
        &["resume"],
        &["export", "--to", "/nowhere"],
    ] {
        let mut command = std::process::Command::new(binary::medmesh());
        let command = command.arg("fl").args(asked);
        let ended = command.args(["nowhere-00000000", "--dir", &dir]).output()?;
        let said = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.code() == Some(1)
                && ended.stdout.is_empty()
                && said.contains("study `nowhere-00000000`: 404: no study has this id"),
            "{asked:?}: {said}"
        );
    }
    Ok(())
}
