//! What an honest client notices of an attack: searches on a kept connection and fresh probes of health, while 2,000
//! hostile connections hold the region's HTTPS listener as well as they can, beside the same without them.
use crate::{
    Bed,
    report::{Aim, Figure, Report, quantile},
};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    https::{self, Https},
    mesh::Mesh,
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Hostile connections; each that is cut off comes again.
const HOSTILE: usize = 2_000;
/// From being cut off to coming again.
const AGAIN: Duration = Duration::from_secs(1);
/// Until the attack stands.
const SETTLE: Duration = Duration::from_secs(5);
/// Searches, and probes, of one run.
const ASKED: usize = 500;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(5);
const NOTHING: &str = "nothing is acknowledged";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    ::node::descriptors::raise();
    let (mut quiet, mut attacked) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..bed.runs {
        let dir = tempfile::tempdir()?;
        let mesh = Mesh::up(dir.path(), &["--facilities", "1", "--regions", "eu"]).await?;
        let json = mesh.json()?;
        let fhir = json["regions"]["eu"]["fhir"].as_str().context("fhir")?;
        let token = mesh.token("fhir-reader", "eu").await?;
        add(&mut quiet, ask(&mesh.https, fhir, &token).await?);
        let hostile = attack(&mesh.https, https::split(fhir)?.0);
        tokio::time::sleep(SETTLE).await;
        add(&mut attacked, ask(&mesh.https, fhir, &token).await?);
        drop(hostile);
        mesh.stop().await?;
    }
    let names = ["search on a kept connection", "fresh connection and /ready"];
    for ((name, attacked), quiet) in names.iter().zip(attacked).zip(&quiet) {
        let what = format!("{name}, {HOSTILE} hostile connections, p99");
        report.add(
            Figure::new(what, "ms", NOTHING, attacked)
                .beside("the same without them", quiet)
                .aim(Aim::RatioAtMost(2.0))
                .bound("the attackers run on the same cores as the node"),
        );
    }
    Ok(())
}

fn add(runs: &mut [Vec<f64>; 2], took: [Vec<f64>; 2]) {
    for (runs, took) in runs.iter_mut().zip(took) {
        runs.push(quantile(&took, 0.99));
    }
}

/// Milliseconds of each search and of each probe.
async fn ask(https: &Https, fhir: &str, token: &str) -> Result<[Vec<f64>; 2]> {
    let (authority, base) = https::split(fhir)?;
    let path = format!("{base}/Observation?_count=1");
    let ready = format!("https://{authority}/ready");
    let mut session = https.session(authority).await?;
    let (mut searches, mut probes) = (Vec::new(), Vec::new());
    for _ in 0..ASKED {
        tokio::time::sleep(PAUSE).await;
        let began = Instant::now();
        let answer = session.get(&path, Some(token)).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        searches.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        let answer = https.get(&ready, None).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        probes.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok([searches, probes])
}

/// Holds connections until it is dropped.
fn attack(https: &Https, authority: &str) -> JoinSet<()> {
    let mut hostile = JoinSet::new();
    for n in 0..HOSTILE {
        let (https, authority) = (https.clone(), authority.to_owned());
        hostile.spawn(async move {
            loop {
                let _cut = hold(&https, &authority, n % 3).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    hostile
}

async fn hold(https: &Https, authority: &str, kind: usize) -> Result<()> {
    if kind == 0 {
        // Shakes hands and asks for nothing.
        let _held = https.session(authority).await?;
        return std::future::pending().await;
    }
    let mut stream = TcpStream::connect(authority).await?;
    if kind == 1 {
        // A record that promises a ClientHello of 512 bytes.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await?;
    }
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
