//! Durable QoS 1 ingest of the edge's broker beside brokers that keep everything in memory.
use crate::{
    Bed,
    facility::Facility,
    load::{self, Target},
    peers,
    report::{Aim, Figure, Report},
};
use anyhow::Result;
use std::net::SocketAddr;

/// Clients of each series.
const CLIENTS: [usize; 2] = [8, 32];
/// Messages of one client that wait for their acknowledgement.
const WINDOWS: [u64; 2] = [64, 512];
const BOUND: &str = "one writer thread puts every message into an encrypted tree, with what goes to the region and \
     the audit row of it; rumqttd appends it to a buffer in memory. See the rows of the store";
const DURABILITY: &str = "fsync (SQLCipher, WAL, FULL) before PUBACK; peers: memory";

/// Runs of one series, by broker.
#[derive(Default)]
struct Series {
    ours: Vec<f64>,
    mosquitto: Vec<f64>,
    rumqttd: Vec<f64>,
    per_commit: Vec<f64>,
}

/// Runs the benchmark.
pub async fn run(bed: &Bed, report: &mut Report) -> Result<()> {
    let most = CLIENTS.into_iter().max().unwrap_or(1);
    let facility = Facility::new(most)?;
    for clients in CLIENTS {
        for window in WINDOWS {
            let mut series = Series::default();
            for _ in 0..bed.runs {
                round(&facility, clients, window, &mut series).await?;
            }
            add(report, clients, window, series);
        }
    }
    Ok(())
}

async fn round(
    facility: &Facility,
    clients: usize,
    window: u64,
    series: &mut Series,
) -> Result<()> {
    let target = |at| target(facility, at, clients, window);
    let node = facility.start().await?;
    series
        .ours
        .push(load::acknowledged_per_second(&target(facility.mqtt)?).await?);
    let stored = node.metric("medmesh_samples_stored_total").await?;
    let commits = node.metric("medmesh_commit_seconds_count").await?;
    series.per_commit.push(stored / commits);
    drop(node);
    let peer = peers::mosquitto(facility).await?;
    let rate = load::acknowledged_per_second(&target(peer.at)?).await?;
    series.mosquitto.push(rate);
    drop(peer);
    let peer = peers::rumqttd(facility).await?;
    let rate = load::acknowledged_per_second(&target(peer.at)?).await?;
    series.rumqttd.push(rate);
    Ok(())
}

fn target(facility: &Facility, at: SocketAddr, clients: usize, window: u64) -> Result<Target> {
    let client = |number: usize| {
        let id = format!("d{number}");
        let (cert, key) = facility.pair(&id);
        Ok((id, load::tls(&facility.ca(), &cert, &key)?))
    };
    Ok(Target {
        at,
        clients: (1..=clients).map(client).collect::<Result<_>>()?,
        window,
    })
}

fn add(report: &mut Report, clients: usize, window: u64, series: Series) {
    let what = format!("QoS 1 ingest, {clients} clients x {window}");
    let ours = |peer: &str| {
        let what = format!("{what} ({peer})");
        Figure::new(what, "msg/s", DURABILITY, series.ours.clone())
    };
    report.add(
        ours("Mosquitto")
            .beside("Mosquitto", &series.mosquitto)
            .aim(Aim::RatioAtLeast(1.0)),
    );
    report.add(
        ours("rumqttd")
            .beside("rumqttd", &series.rumqttd)
            .aim(Aim::RatioAtLeast(1.0))
            .bound(BOUND),
    );
    let what = format!("records per fsync, {clients} clients x {window}");
    report.add(Figure::new(what, "records", DURABILITY, series.per_commit));
}
