//! What an honest client notices of an attack, and what it costs the node: at each listener (HTTPS, link, MQTT) an honest
//! client asks while 2,000 hostile connections hold it as well as they can, beside the same without them.
mod https;
mod link;
mod mqtt;

use crate::{
    Bed,
    node::resident_mib,
    report::{Aim, Figure, Report, quantile},
};
use anyhow::Result;
use medmesh_tests::mesh::Mesh;
use std::{future::Future, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// Hostile connections; each that is cut off comes again.
const HOSTILE: usize = 2_000;
/// From being cut off to coming again.
const AGAIN: Duration = Duration::from_secs(1);
/// Until the attack stands, and until nothing is left of one before the next.
const SETTLE: Duration = Duration::from_secs(5);
/// What an honest client asks in one run.
const ASKED: usize = 500;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(5);
const NOTHING: &str = "nothing is acknowledged";
/// Attackers and node share the machine.
const BOUND: &str = "the attackers run on the same cores as the node";

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    ::node::descriptors::raise();
    let mut figures = Figures::default();
    for _ in 0..bed.runs {
        let dir = tempfile::tempdir()?;
        let mesh = Mesh::up(dir.path(), &["--facilities", "2", "--regions", "eu"]).await?;
        https::run(&mesh, &mut figures).await?;
        link::run(&mesh, &mut figures).await?;
        mqtt::run(&mesh, &mut figures).await?;
        mesh.stop().await?;
    }
    figures.report(report);
    Ok(())
}

/// What one attack did, of each run: without it and with it.
#[derive(Default)]
struct Compared {
    quiet: Vec<f64>,
    attacked: Vec<f64>,
}

/// The figures of every listener, in the order in which they came first.
#[derive(Default)]
struct Figures {
    /// Milliseconds, the 99th percentile of a run.
    times: Vec<(&'static str, Compared)>,
    /// MiB resident.
    memory: Vec<(&'static str, Compared)>,
}

impl Figures {
    /// What an honest client waited, in milliseconds.
    fn waited(&mut self, what: &'static str, quiet: &[f64], attacked: &[f64]) {
        let (quiet, attacked) = (quantile(quiet, 0.99), quantile(attacked, 0.99));
        add(&mut self.times, what, quiet, attacked);
    }

    /// What the node had resident before an attack and at its end, in MiB.
    fn resident(&mut self, what: &'static str, quiet: f64, attacked: f64) {
        add(&mut self.memory, what, quiet, attacked);
    }

    fn report(self, report: &mut Report) {
        for (what, runs) in self.times {
            let what = format!("{what}, {HOSTILE} hostile connections, p99");
            report.add(
                Figure::new(what, "ms", NOTHING, runs.attacked)
                    .beside("the same without them", &runs.quiet)
                    .aim(Aim::RatioAtMost(2.0))
                    .bound(BOUND),
            );
        }
        for (what, runs) in self.memory {
            let what = format!("resident memory, {what}");
            report.add(
                Figure::new(what, "MiB", NOTHING, runs.attacked)
                    .beside("before the attack", &runs.quiet),
            );
        }
    }
}

fn add(all: &mut Vec<(&'static str, Compared)>, what: &'static str, quiet: f64, attacked: f64) {
    if !all.iter().any(|(known, _)| *known == what) {
        all.push((what, Compared::default()));
    }
    for (_, runs) in all.iter_mut().filter(|(known, _)| *known == what) {
        runs.quiet.push(quiet);
        runs.attacked.push(attacked);
    }
}

/// MiB that a node of the mesh has resident.
fn resident(mesh: &Mesh, node: &str) -> Result<f64> {
    resident_mib(u32::try_from(mesh.pid(node)?)?)
}

/// Begins an attack and waits until it stands. It goes on until it is dropped; `hold` is carried out for each number, and
/// again when it is cut off.
async fn attack<F>(hold: impl Fn(usize) -> F + Clone + Send + Sync + 'static) -> JoinSet<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut hostile = JoinSet::new();
    for n in 0..HOSTILE {
        let hold = hold.clone();
        hostile.spawn(async move {
            loop {
                let _cut = hold(n).await;
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    tokio::time::sleep(SETTLE).await;
    hostile
}

/// Ends an attack, and waits until nothing is left of it.
async fn end(hostile: JoinSet<()>) {
    drop(hostile);
    tokio::time::sleep(SETTLE).await;
}

/// A connection that says nothing, or promises a ClientHello and does not go on.
async fn silent(authority: String, promises: bool) -> Result<()> {
    let mut stream = TcpStream::connect(authority).await?;
    if promises {
        // A record that promises a ClientHello of 512 bytes.
        stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await?;
    }
    while stream.read(&mut [0; 64]).await? > 0 {}
    Ok(())
}
