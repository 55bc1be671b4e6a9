//! A facility joins a running mesh with one kit: its keys are its own, its first reading is served by the region, and the
//! kit is good for nobody else. Part of a test that has a mesh already.
use anyhow::{Context, Result, anyhow, ensure};
use federation::identity::Peer;
use medmesh_tests::{binary, mesh::Mesh, mqtt::Device, node::Node, steps, wait};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    net::TcpListener,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

const FACILITY: &str = "us-f9";
const PLACE: &str = "edge/us/us/us-f9";
/// What nothing else in the mesh measures.
const VALUE: f64 = 142.0625;

/// Joins, and shows it.
pub async fn a_facility_joins_with_one_kit(mesh: &Mesh) -> Result<()> {
    let began = Instant::now();
    let node = format!("edge:{FACILITY}");
    let (kit, dir) = (mesh.dir.join("us-f9.kit"), mesh.folder(&node));
    fs::write(&kit, made(mesh, PLACE, &[])?)?;
    let owner = of_another_user(&dir)?;
    let (https, mqtt) = (free()?, free()?);
    let listens = ["--https", &https, "--mqtt", &mqtt];
    let joined = enrol(&kit, &dir, &listens)?;
    ensure!(joined.status.success(), "{joined:?}");
    let said = String::from_utf8_lossy(&joined.stdout);
    ensure!(said.contains("takes the certificate"), "{said}");
    // The same code a second time, elsewhere.
    let other = mesh.dir.join("elsewhere");
    let again = enrol(&kit, &other, &listens)?;
    let why = String::from_utf8_lossy(&again.stderr);
    ensure!(
        again.status.code() == Some(1) && why.contains("used before"),
        "{again:?}"
    );
    ensure!(!other.exists(), "what was refused left something behind");
    let into = enrol(&kit, &dir, &listens)?;
    ensure!(
        String::from_utf8_lossy(&into.stderr).contains("is not empty"),
        "{into:?}"
    );
    configure(&dir)?;
    let running = Node::start(mesh, &node, &[])?;
    let device = its_device_joins_at_the_facility(mesh, &dir, &https).await?;
    let facility = json!({"id": FACILITY, "region": "us", "mqtt": mqtt});
    let mesh_json = mesh.json()?;
    let connected = || async { Device::connect(&mesh_json, &facility, &device).await.ok() };
    let mut connected = wait::until("the facility's broker", wait::PATIENCE, connected).await?;
    let reading = json!({"code": "2951-2", "value": VALUE, "unit": "mmol/L"});
    let message = json!({"epoch": 1, "seq": 1, "time": mesh.time()?, "readings": [reading]});
    connected.publish(&message).await?;
    let served = || async {
        let found = mesh
            .search("us", "Observation?code=2951-2&_count=100")
            .await
            .ok()?;
        let is_it = |it: &Value| it["valueQuantity"]["value"].as_f64() == Some(VALUE);
        found.iter().any(is_it).then_some(())
    };
    wait::until("its first reading is served", wait::PATIENCE, served).await?;
    let step = "a facility: from its kit to the first reading served";
    steps::took(step, began.elapsed());
    let rows = mesh.listed("regional:us", ["audit", "list"])?;
    let found: Vec<_> = rows
        .iter()
        .filter(|row| row["decision"] == "enrolled" || row["decision"] == "enrolment-refused")
        .map(|row| (&row["from"], &row["reason"]))
        .collect();
    let who = json!(format!("spiffe://medmesh/{PLACE}"));
    let enrolled = json!(format!(
        "spiffe://medmesh/device/us/us/{FACILITY}/external-1"
    ));
    let [none, used, of_device] = ["", "used", "device"].map(|text| json!(text));
    ensure!(
        found == [(&who, &none), (&none, &used), (&enrolled, &of_device)],
        "{found:?}"
    );
    it_gets_its_next_certificate(mesh, &dir, &mut connected).await?;
    everything_is_of(owner, &dir)?;
    what_is_revoked_is_cut_off(mesh, (&mut connected, &device)).await?;
    running.kill()
}

/// The folder is there and of another user, as the package makes it, where this one is the superuser; else it is this one's.
fn of_another_user(dir: &Path) -> Result<u32> {
    const NODE: u32 = 64_999;
    fs::create_dir_all(dir)?;
    let _the_superuser_alone_can = chown(dir, Some(NODE), Some(NODE));
    Ok(fs::metadata(dir)?.uid())
}

/// A node that runs as that user finds, reads and replaces whatever this one's commands made for it. What the node makes
/// itself is in its data directory, and here this user's, as whom it runs.
fn everything_is_of(owner: u32, dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if path.ends_with("data") {
            continue;
        }
        let about = match entry.metadata() {
            // What the running node made and removed again.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            about => about?,
        };
        // The log is what this test writes the node's output to.
        let is_log = path.extension().is_some_and(|end| end == "log");
        ensure!(
            is_log || about.uid() == owner,
            "{} is of {}, not of the node's user",
            path.display(),
            about.uid()
        );
        if about.is_dir() {
            everything_is_of(owner, &path)?;
        }
    }
    Ok(())
}

/// Under load by its device, whose session and link stay open; the new pair is what the node shows from then on.
async fn it_gets_its_next_certificate(
    mesh: &Mesh,
    dir: &Path,
    connected: &mut Device,
) -> Result<()> {
    let shown = || -> Result<Peer> {
        let der = CertificateDer::from_pem_file(dir.join("node.pem"));
        Ok(Peer::from_cert(
            &der.map_err(|_| anyhow!("no certificate"))?,
        )?)
    };
    let (before, begun) = (shown()?.serial, Instant::now());
    let renewed = Command::new(binary::medmesh())
        .args(["edge", "renew", "--config"])
        .arg(dir.join("edge.toml"))
        .output()?;
    ensure!(renewed.status.success(), "{renewed:?}");
    steps::took("a facility: a new key and its certificate", begun.elapsed());
    ensure!(
        shown()?.serial != before,
        "the certificate is the former one"
    );
    let reading = json!({"code": "2951-2", "value": VALUE + 1.0, "unit": "mmol/L"});
    let message = json!({"epoch": 1, "seq": 2, "time": mesh.time()?, "readings": [reading]});
    connected.publish(&message).await?;
    let again = Command::new(binary::medmesh())
        .args(["edge", "renew", "--config"])
        .arg(dir.join("edge.toml"))
        .output()?;
    let why = String::from_utf8_lossy(&again.stderr);
    ensure!(
        !again.status.success() && why.contains("a moment ago"),
        "{again:?}"
    );
    let rows = mesh.listed("regional:us", ["audit", "list"])?;
    let noted = rows
        .iter()
        .filter(|row| row["decision"] == "enrolled" && row["reason"] == "renewed");
    ensure!(noted.count() == 1, "the audit log has no row of it");
    Ok(())
}

/// The facility has a list of its own, which nobody renews: what the authority revokes comes to it by its link alone.
async fn what_is_revoked_is_cut_off(
    mesh: &Mesh,
    (connected, device): (&mut Device, &Value),
) -> Result<()> {
    let pki = mesh.dir.join("pki");
    let revoke = |what: &[&str]| -> Result<Instant> {
        let mut command = Command::new(binary::medmesh());
        command.args(["pki", "revoke", "--dir"]).arg(&pki);
        let done = command.args(what).output()?;
        ensure!(done.status.success(), "{done:?}");
        Ok(Instant::now())
    };
    let cert = device["cert"].as_str().context("cert")?;
    let der = CertificateDer::from_pem_file(cert).map_err(|_| anyhow!("no certificate"))?;
    let begun = revoke(&[&Peer::from_cert(&der)?.serial.to_string()])?;
    let ended = connected.hear().await.err();
    let ended = ended.context("a revoked device is sent something")?;
    ensure!(
        !ended.is::<tokio::time::error::Elapsed>(),
        "the session of a revoked device stays open"
    );
    let step = "a device: from its revocation to the end of its session";
    steps::took(step, begun.elapsed());
    let metrics = mesh.metrics_url("regional:us")?;
    let begun = revoke(&["--node", PLACE])?;
    for (metric, label) in [
        ("medmesh_link_cuts_total", "reason=\"revoked\""),
        ("medmesh_tls_refused_total", "reason=\"revoked\""),
    ] {
        let counted = || async {
            let found = mesh.metric_where(&metrics, metric, &[label]).await.ok()?;
            (found >= 1.0).then_some(())
        };
        wait::until(metric, wait::PATIENCE, counted).await?;
    }
    let step = "a facility: from its revocation to its link cut and refused";
    steps::took(step, begun.elapsed());
    Ok(())
}

/// `medmesh pki kit` at the authority's side.
pub fn made(mesh: &Mesh, place: &str, more: &[&str]) -> Result<Vec<u8>> {
    let json = mesh.json()?;
    let region = &json["regions"]["us"];
    let fhir = region["fhir"].as_str().context("fhir")?;
    let enrol = fhir.trim_end_matches("/fhir");
    let made = Command::new(binary::medmesh())
        .args(["pki", "kit", "--node", place, "--name", "localhost"])
        .args(more)
        .args([
            "--enrol",
            enrol,
            "--uplink",
            region["grpc"].as_str().context("grpc")?,
        ])
        .arg("--dir")
        .arg(mesh.dir.join("pki"))
        .output()?;
    ensure!(made.status.success(), "{made:?}");
    Ok(made.stdout)
}

/// `medmesh edge enrol` at the facility's.
pub fn enrol(kit: &Path, dir: &Path, more: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary::medmesh());
    command
        .args(["edge", "enrol"])
        .arg(kit)
        .arg("--dir")
        .arg(dir);
    Ok(command.args(more).output()?)
}

pub fn free() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// A device of the facility, in its configuration.
fn configure(dir: &Path) -> Result<()> {
    let mut config = OpenOptions::new()
        .append(true)
        .open(dir.join("edge.toml"))?;
    let device = "\n[[devices]]\nid = \"external-1\"\nkind = \"external\"";
    Ok(writeln!(config, "{device}")?)
}

/// With a code of the running facility, which is good for that device alone, and once.
async fn its_device_joins_at_the_facility(mesh: &Mesh, dir: &Path, https: &str) -> Result<Value> {
    let config = dir.join("edge.toml");
    let invite = |device: &str| -> Result<Output> {
        let mut command = Command::new(binary::medmesh());
        command.args(["edge", "invite", device, "--json", "--config"]);
        Ok(command.arg(&config).output()?)
    };
    let invited = || async {
        let invited = invite("external-1").ok()?;
        serde_json::from_slice::<Value>(&invited.stdout).ok()
    };
    let invited = wait::until("the facility invites its device", wait::PATIENCE, invited).await?;
    let unknown = invite("lab-7")?;
    let why = String::from_utf8_lossy(&unknown.stderr);
    ensure!(why.contains("no device of that id"), "{unknown:?}");
    let code = invited["code"].as_str().context("code")?;
    let url = format!(
        "https://localhost:{}",
        https.rsplit(':').next().unwrap_or_default()
    );
    let enrol = |device: &str, out: &Path| -> Result<Output> {
        let mut command = Command::new(binary::medmesh());
        command.args(["device", "enrol", "--url", &url, "--node", PLACE]);
        command.args(["--device", device, "--code", code, "--ca"]);
        let command = command.arg(mesh.dir.join("pki/ca.pem"));
        Ok(command.arg("--out").arg(out).output()?)
    };
    let other = enrol("lab-7", &dir.join("lab-7"))?;
    let why = String::from_utf8_lossy(&other.stderr);
    ensure!(why.contains("names another"), "{other:?}");
    let begun = Instant::now();
    let out = dir.join("external-1");
    let joined = enrol("external-1", &out)?;
    ensure!(joined.status.success(), "{joined:?}");
    steps::took("a device: a key and its certificate", begun.elapsed());
    let again = enrol("external-1", &dir.join("again"))?;
    let why = String::from_utf8_lossy(&again.stderr);
    ensure!(why.contains("used before"), "{again:?}");
    for name in ["lab-7.key", "again.key"] {
        ensure!(!dir.join(name).exists(), "what was refused left a key");
    }
    let [cert, key]: [PathBuf; 2] = ["pem", "key"].map(|end| out.with_extension(end));
    Ok(json!({"id": "external-1", "kind": "external", "cert": cert, "key": key}))
}
