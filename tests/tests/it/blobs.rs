//! A file goes down as a blob, on a mesh of real processes: to a region once, to a facility once, through kills of both,
//! whole, written down at every hop, and gone everywhere when it is taken back.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{mesh::Mesh, wait};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// How large the file is, in MiB: as device software is at most.
const MIB: u64 = 200;
/// Says another size; the benches and long runs ask for more.
const SIZE: &str = "MEDMESH_TEST_BLOB_MIB";
/// A node's memory may grow by this while files of gigabytes pass through it.
const MAX_GROWTH_KIB: u64 = 100 << 10;

/// Sends a file to a facility; region and facility are killed while it comes.
pub async fn a_file_comes_whole_and_goes(
    mesh: &Mesh,
    (facility, region): (&str, &str),
) -> Result<()> {
    let mib = std::env::var(SIZE).ok().and_then(|size| size.parse().ok());
    let mib = mib.unwrap_or(MIB);
    let file = mesh.dir.join("image-2.bin");
    write(&file, mib)?;
    let name = facility.trim_start_matches("edge:");
    let refused = blob(
        mesh,
        &[
            "send",
            &file.to_string_lossy(),
            "--class",
            "policy",
            "--to",
            "nowhere",
        ],
    );
    let error = refused.err().context("it goes nowhere")?.to_string();
    ensure!(error.contains("nowhere"), "{error}");
    mesh.signal(facility, "STOP")?;
    let args = [
        "send",
        &file.to_string_lossy(),
        "--class",
        "firmware",
        "--to",
        name,
    ];
    let sent = blob(mesh, &args)?.pop().context("a delivery")?;
    let id = sent["id"].as_str().context("an id")?;
    let digest = sent["sha256"].as_str().context("a digest")?;
    arrives_through_kills(mesh, (facility, region), (id, digest)).await?;
    let config = mesh.config(facility);
    let listed = [
        "edge",
        "blobs",
        "--json",
        "--config",
        &config.to_string_lossy(),
    ];
    let files = mesh.medmesh_lines(&listed)?;
    let path = files.iter().find(|file| file["id"] == id);
    let path = path.and_then(|file| file["path"].as_str());
    ensure!(
        same(&file, Path::new(path.context("a path")?))?,
        "byte for byte"
    );
    let let_go = || async { (!stored(mesh, region).join(digest).exists()).then_some(()) };
    wait::until(
        "the region keeps nothing that nobody waits for",
        PATIENCE,
        let_go,
    )
    .await?;
    audited_and_gone(mesh, (facility, region), (id, digest), mib).await
}

/// Kills each node as soon as something of the file has come there, and waits until all of it is at every place.
async fn arrives_through_kills(
    mesh: &Mesh,
    (facility, region): (&str, &str),
    (id, digest): (&str, &str),
) -> Result<()> {
    for node in [region, facility] {
        let part = stored(mesh, node).join(format!("{digest}.part"));
        let whole = stored(mesh, node).join(digest);
        if node == facility {
            mesh.signal(facility, "CONT")?;
        }
        let comes = || async { (part.exists() || whole.exists()).then_some(()) };
        wait::until("the file begins to come", PATIENCE, comes).await?;
        killed(mesh, node).await?;
    }
    killed(mesh, region).await?;
    let arrived = || async {
        let delivery = blob(mesh, &["show", id]).ok()?.pop()?;
        let places = delivery["places"].as_array()?;
        places
            .iter()
            .all(|at| at["state"] == "arrived")
            .then_some(())
    };
    wait::until("the file has arrived", PATIENCE, arrived).await?;
    Ok(())
}

/// Memory stayed flat, every hop is in an audit log, and what is taken back is gone.
async fn audited_and_gone(
    mesh: &Mesh,
    (facility, region): (&str, &str),
    (id, digest): (&str, &str),
    mib: u64,
) -> Result<()> {
    if mib >= 200 {
        for node in [region, facility] {
            let grown = grown_kib(mesh.pid(node)?)?;
            ensure!(grown < MAX_GROWTH_KIB, "{node} grew by {grown} KiB");
        }
    }
    audited(
        mesh,
        &[
            ("global", "blob-sent"),
            (region, "blob-whole"),
            (facility, "blob-whole"),
        ],
    )?;
    blob(mesh, &["withdraw", id])?;
    let gone = || async { (!stored(mesh, facility).join(digest).exists()).then_some(()) };
    wait::until("what is taken back is gone", PATIENCE, gone).await?;
    audited(
        mesh,
        &[("global", "blob-withdrawn"), (facility, "blob-withdrawn")],
    )
}

fn blob(mesh: &Mesh, args: &[&str]) -> Result<Vec<Value>> {
    let dir = mesh.dir.to_string_lossy();
    let all = [&["blob"], args, &["--json", "--dir", &dir]].concat();
    mesh.medmesh_lines(&all)
}

/// Where a node keeps the bytes of blobs.
fn stored(mesh: &Mesh, node: &str) -> PathBuf {
    mesh.folder(node).join("data").join("blobs")
}

/// A file of which no chunk is like another.
fn write(path: &Path, mib: u64) -> Result<()> {
    let mut file = fs::File::create(path)?;
    for number in 0..mib {
        let of = |at: u64| (number << 17 | at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let piece: Vec<u8> = (0..1 << 17).flat_map(|at| of(at).to_le_bytes()).collect();
        file.write_all(&piece)?;
    }
    Ok(())
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let (mut one, mut other) = (fs::File::open(one)?, fs::File::open(other)?);
    loop {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        (&mut one).take(1 << 20).read_to_end(&mut a)?;
        (&mut other).take(1 << 20).read_to_end(&mut b)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}

/// By how much the memory of a process was larger at its worst than it is now.
fn grown_kib(pid: u64) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let peak = of("VmHWM:").context("VmHWM")?;
    Ok(peak.saturating_sub(of("VmRSS:").context("VmRSS")?))
}

fn audited(mesh: &Mesh, what: &[(&str, &str)]) -> Result<()> {
    for (node, decision) in what {
        let rows = mesh.listed(node, ["audit", "list"])?;
        let row = rows.iter().find(|row| row["decision"] == *decision);
        let row = row.with_context(|| format!("{decision} in the audit log of {node}"))?;
        ensure!(
            row["class"] == "firmware" && row["kind"] == "FirmwareDelivery",
            "{row}"
        );
    }
    Ok(())
}

async fn killed(mesh: &Mesh, node: &str) -> Result<()> {
    let before = mesh.pid(node)?;
    mesh.signal(node, "KILL")?;
    let back = || async { (mesh.pid(node).ok()? != before).then_some(()) };
    wait::until("the node is back", PATIENCE, back).await
}
