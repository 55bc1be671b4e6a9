//! The region's link listener: parcels, each on a connection of its own, by a facility whose node is halted meanwhile.
use super::{ASKED, Figures, PAUSE, attack, end, resident, silent};
use anyhow::{Context, Result, anyhow};
use federation::wire::Parcel;
use medmesh_tests::{
    mesh::Mesh,
    rogue::{self, Rogue},
};
use std::{sync::Arc, time::Instant};

const NODE: &str = "regional:eu";
/// Whose place the honest client takes.
const FACILITY: &str = "edge:eu-f2";
/// A node with a good certificate and no business at a region's link.
const STRANGER: &str = "global";

pub(super) async fn run(mesh: &Mesh, figures: &mut Figures) -> Result<()> {
    let json = mesh.json()?;
    let grpc = json["regions"]["eu"]["grpc"].as_str().context("grpc")?;
    let to = rogue::address(grpc)?.to_owned();
    let (honest, stranger) = (holder(mesh, FACILITY)?, Arc::new(holder(mesh, STRANGER)?));
    mesh.signal(FACILITY, "STOP")?;
    let asked = ask_both(mesh, figures, (&honest, stranger), &to).await;
    mesh.signal(FACILITY, "CONT")?;
    asked
}

async fn ask_both(
    mesh: &Mesh,
    figures: &mut Figures,
    (honest, stranger): (&Rogue, Arc<Rogue>),
    to: &str,
) -> Result<()> {
    let quiet = ask(honest, to, 0).await?;
    let before = resident(mesh, NODE)?;
    let at = to.to_owned();
    let hostile = attack(move |n| hold(stranger.clone(), at.clone(), n % 3)).await;
    let attacked = ask(honest, to, 1).await?;
    figures.resident("link of the region", before, resident(mesh, NODE)?);
    end(hostile).await;
    figures.waited("link: a parcel on a fresh connection", &quiet, &attacked);
    Ok(())
}

/// What a node holds.
fn holder(mesh: &Mesh, node: &str) -> Result<Rogue> {
    let folder = mesh.folder(node);
    Rogue::new(&folder.join("node.pem"), &folder.join("node.key"))
}

/// Milliseconds until each parcel is answered, whatever the answer is.
async fn ask(honest: &Rogue, to: &str, series: u8) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    for number in 0..ASKED {
        tokio::time::sleep(PAUSE).await;
        let mut id = [series; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let parcel = Parcel {
            id: id.to_vec().into(),
            ..Parcel::default()
        };
        let began = Instant::now();
        let answer = honest.answer(to, parcel).await?;
        let receipt = answer.map_err(|status| anyhow!("the call ended with {status}"))?;
        receipt.context("the call ended without a receipt")?;
        took.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}

async fn hold(stranger: Arc<Rogue>, to: String, kind: usize) -> Result<()> {
    if kind == 0 {
        // A good certificate of the mesh, and not a byte.
        return Ok(stranger.hold(&to).await?);
    }
    silent(to, kind == 1).await
}
