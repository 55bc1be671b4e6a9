//! The region's HTTPS listener: searches on a kept connection and fresh probes of health.
use super::{ASKED, Figures, PAUSE, attack, end, resident, silent};
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    https::{self, Https},
    mesh::Mesh,
};
use std::time::Instant;

const NODE: &str = "regional:eu";

pub(super) async fn run(mesh: &Mesh, figures: &mut Figures) -> Result<()> {
    let json = mesh.json()?;
    let fhir = json["regions"]["eu"]["fhir"].as_str().context("fhir")?;
    let token = mesh.token("fhir-reader", "eu").await?;
    let quiet = ask(&mesh.https, fhir, &token).await?;
    let before = resident(mesh, NODE)?;
    let (client, authority) = (mesh.https.clone(), https::split(fhir)?.0.to_owned());
    let hostile = attack(move |n| hold(client.clone(), authority.clone(), n % 3)).await;
    let attacked = ask(&mesh.https, fhir, &token).await?;
    figures.resident("HTTPS of the region", before, resident(mesh, NODE)?);
    end(hostile).await;
    let names = [
        "HTTPS: search on a kept connection",
        "HTTPS: fresh connection and /ready",
    ];
    for ((what, quiet), attacked) in names.into_iter().zip(&quiet).zip(&attacked) {
        figures.waited(what, quiet, attacked);
    }
    Ok(())
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

async fn hold(https: Https, authority: String, kind: usize) -> Result<()> {
    if kind == 0 {
        // Shakes hands and asks for nothing.
        let _held = https.session(&authority).await?;
        return std::future::pending().await;
    }
    silent(authority, kind == 1).await
}
