//! Rounds in which nothing is learnt, of two facilities on a mesh of real processes, beside Flower's of two clients, and with
//! noise at each facility beside those without.
//!
//! A round of the mesh is five exchanges, each signed, audited and durable at both ends before it counts, over TLS, with the
//! update masked. Flower's is one exchange without TLS that lasts nowhere: as Flower is deployed, by a SuperLink that its
//! nodes ask for work every few seconds; and with its older server, which is deprecated, between memories by one stream.
use super::Peer;
use crate::{
    Bed,
    report::{Aim, Figure, Report, median},
};
use anyhow::{Context as _, Result, ensure};
use medmesh_tests::{mesh::Mesh, wait};
use serde_json::Value;
use std::{fs, time::Duration};

const DURABILITY: &str = "every step at every node before it counts; with Flower nothing";
const FACILITIES: [&str; 2] = ["us-f1", "us-f2"];
/// A study of rounds that take long on this machine is given up.
const LONGEST: Duration = Duration::from_secs(600);
/// What both ends learn: one input, and hidden units that come to so many parameters.
const MODELS: [(&str, &str, usize, u32); 2] = [
    ("1 k", "333", 1_000, 12),
    ("10 M", "3000, 3331", 10_005_663, 5),
];
/// Rounds of Flower's deployment: each takes seconds.
const DEPLOYED_ROUNDS: u32 = 4;
/// Nothing is hidden.
const PLAIN: &str = "aggregation = { secure = true, quorum = 2, bound = 8.0 }";
/// Who took part is hidden: each facility adds its share of the noise before it masks.
const NOISED: &str = "privacy = { unit = \"facility\", epsilon = 0.5, delta = 1e-5, clip = 1.0 }
aggregation = { secure = true, quorum = 2 }";

const SCHEMA: &str = "key = \"id\"
columns = [{ name = \"x\", unit = \"1\", min = 0, max = 1 }, { name = \"l\", unit = \"1\", categories = [0, 1] }]
";

fn study(hidden: &str, rounds: u32, how: &str) -> String {
    format!(
        r#"name = "noop"
regions = ["us"]
sites = 2
data = {{ table = "noop", minimum_records = 20, features = [{{ name = "x", unit = "1", missing = "zero", scale = {{ centre = 0, width = 1 }} }}], label = {{ kind = "binary", column = "l" }} }}
model = {{ kind = "mlp", hidden = [{hidden}] }}
training = {{ rounds = {rounds}, steps = 1, batch = 1, learning_rate = 1e-6, strategy = {{ kind = "fed-avg" }} }}
{how}
deadlines = {{ accept_seconds = 300, train_seconds = 300, exchange_seconds = 300 }}
"#
    )
}

/// Runs both.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let peer = Peer::find()?;
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    let args = ["--regions", "us", "--facilities", "2", "--beds", "1"];
    let mesh = Mesh::up(&at("mesh"), &args).await?;
    let lines: String = (0..40).map(|n| format!("{n},0.5,{}\n", n % 2)).collect();
    fs::write(at("noop.csv"), format!("id,x,l\n{lines}"))?;
    fs::write(at("schema.toml"), SCHEMA)?;
    let (csv, schema) = (at("noop.csv"), at("schema.toml"));
    for facility in FACILITIES {
        let config = mesh.config(&format!("edge:{facility}"));
        let [csv, schema, config] = [&csv, &schema, &config].map(|path| path.to_string_lossy());
        let import = [
            "edge", "dataset", "import", "noop", "--csv", &csv, "--schema", &schema,
        ];
        mesh.medmesh(&[&import[..], &["--config", &config, "--json"]].concat())?;
    }
    for (name, hidden, parameters, rounds) in MODELS {
        let (mut ours, mut deployed, mut older, mut noised) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..bed.runs {
            older.push(peer.noop(parameters, rounds)?);
            deployed.push(peer.deployed(parameters, DEPLOYED_ROUNDS)?);
            for (how, into) in [(PLAIN, &mut ours), (NOISED, &mut noised)] {
                fs::write(at("study.toml"), study(hidden, rounds, how))?;
                into.push(rounds_of(&mesh, &at("study.toml").to_string_lossy()).await?);
            }
        }
        let what = format!("round of 2 sites, {name} parameters");
        let figure = |what: &str, runs: &[f64]| Figure::new(what, "s", DURABILITY, runs.to_vec());
        report.add(
            figure(&what, &ours)
                .beside("Flower, SuperLink", &deployed)
                .aim(Aim::RatioAtMost(0.1))
                .bound("five exchanges, each with its commits at both ends, on the cores that both facilities share"),
        );
        report.add(
            figure(&what, &ours)
                .beside("Flower's older server", &older)
                .note("one exchange between memories, by a server that Flower deprecates"),
        );
        report.add(
            figure(&format!("{what}, noised"), &noised)
                .beside("without noise", &ours)
                .aim(Aim::RatioAtMost(1.15))
                .bound("both facilities draw a discrete Gaussian for every number on the cores that they share"),
        );
    }
    mesh.stop().await
}

/// Seconds from the beginning of a round to that of the next one, of a study.
async fn rounds_of(mesh: &Mesh, study: &str) -> Result<f64> {
    let dir = mesh.dir.to_string_lossy();
    let fl = |args: &[&str]| mesh.medmesh(&[&["fl"], args, &["--dir", &dir, "--json"]].concat());
    let submitted = fl(&["submit", study])?;
    let id = submitted["study"].as_str().context("an id")?;
    let status = || async {
        let study = fl(&["show", id]).ok()?;
        (study["status"] != "running").then_some(study)
    };
    let ended = wait::until("the study has ended", LONGEST, status).await?;
    ensure!(ended["status"] == "done", "{ended}");
    let progress = ended["progress"].as_array().context("rounds")?;
    let began = |round: &Value| round["began_ms"].as_f64();
    let began: Vec<f64> = progress.iter().filter_map(began).collect();
    let apart: Vec<f64> = began
        .windows(2)
        .map(|two| (two[1] - two[0]) / 1e3)
        .collect();
    ensure!(!apart.is_empty(), "{ended}");
    Ok(median(&apart))
}
