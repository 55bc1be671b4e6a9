//! Canary patients at every facility: nothing of them is found in any other node's files, logs, metrics, or in the
//! clear text of any link between nodes; and with the guard taken out the same scan finds them.
use anyhow::{Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use medmesh_tests::{
    binary,
    mesh::{self, Mesh},
    mqtt::Device,
    wait,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where every node appends the clear text of its links, below the mesh's folder; outside `edge/` on purpose.
const TAP: &str = "tap";
const REGIONS: [&str; 3] = ["us", "eu", "apac"];

/// What is planted at a facility: texts that occur nowhere else.
fn canaries(region: &str) -> Vec<String> {
    vec![
        format!("Canaryname-{region}-Quetzalcoatl"),
        format!("MRN-CANARY-{region}-77310942"),
        format!("canary-patient-{region}-5518"),
        "1931-07-29".to_owned(),
        format!("CANARY-SERIAL-{region}-0047"),
    ]
}

#[test]
fn nothing_of_a_patient_leaves_the_facility() -> Result<()> {
    let found = tokio::runtime::Runtime::new()?.block_on(plant_and_scan(&binary::medmesh()))?;
    ensure!(
        found.is_empty(),
        "canaries outside their facility: {found:#?}"
    );
    Ok(())
}

#[test]
#[cfg_attr(
    not(asked_for_unguarded),
    ignore = "MEDMESH_UNGUARDED_BIN is not set: cargo xtask test sets it"
)]
fn the_scan_finds_the_canaries_when_the_guard_is_taken_out() -> Result<()> {
    let unguarded = std::env::var("MEDMESH_UNGUARDED_BIN")?;
    let found = tokio::runtime::Runtime::new()?.block_on(plant_and_scan(Path::new(&unguarded)))?;
    for region in REGIONS {
        let hits = found
            .iter()
            .filter(|hit| hit.contains(&format!("-{region}-")))
            .count();
        ensure!(
            hits > 0,
            "the scan does not see canaries of {region}: it proves nothing"
        );
    }
    Ok(())
}

async fn plant_and_scan(bin: &Path) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let tap = dir.path().join(TAP);
    fs::create_dir_all(&tap)?;
    let tap = tap.to_string_lossy().into_owned();
    let env = [("MEDMESH_DANGEROUS_LINK_TAP", tap.as_str())];
    let mesh = Mesh::up_with(
        bin,
        dir.path(),
        &["--facilities", "1", "--speed", "60x"],
        &env,
    )
    .await?;
    for region in REGIONS {
        plant(&mesh, region).await?;
    }
    // What is there is enough to look through; no machine has to keep up with simulators.
    mesh.silence()?;
    crate::drained(&mesh).await?;
    let metrics = metrics(&mesh).await?;
    fs::write(dir.path().join("metrics-of-all-nodes.txt"), metrics)?;
    ensure!(
        fs::read_dir(&tap)?.count() > 0,
        "no link was tapped, so nothing was tested"
    );
    mesh.stop().await?;
    let needles: Vec<_> = REGIONS
        .iter()
        .flat_map(|region| canaries(region))
        .flat_map(spellings)
        .collect();
    let mut hits = Vec::new();
    scan(dir.path(), &dir.path().join("edge"), &needles, &mut hits)?;
    Ok(hits)
}

/// Puts canaries where text can go: the bed's patient, the device's serial number, the message's patient, a status
/// message, and messages that must be refused.
async fn plant(mesh: &Mesh, region: &str) -> Result<()> {
    let [name, mrn, patient, birth, serial] = canaries(region).try_into().unwrap_or_default();
    let facility = format!("{region}-f1");
    let config = mesh.dir.join("edge").join(&facility).join("edge.toml");
    let now = fs::read_to_string(&config)?;
    let marker = "serial = \"";
    let at = now.find(marker).map_or(0, |at| at + marker.len());
    let end = now[at..].find('"').map_or(at, |end| at + end);
    let beds = format!(
        "\n[[beds]]\nbed = \"b9\"\nfrom = \"2000-01-01T00:00:00Z\"\npatient = \"{patient}\"\nname = \"{name}\"\nmrn = \"{mrn}\"\nbirth_date = \"{birth}\"\n"
    );
    fs::write(
        &config,
        format!("{}{serial}{}{beds}", &now[..at], &now[end..]),
    )?;
    let before = mesh.pid(&format!("edge:{facility}"))?;
    mesh.signal(&format!("edge:{facility}"), "KILL")?;
    let back = || async { (mesh.pid(&format!("edge:{facility}")).ok()? != before).then_some(()) };
    wait::until("the edge is back", wait::PATIENCE, back).await?;
    let json = mesh.json()?;
    let place = mesh::facility_of(&json, &facility)?;
    let all = place["devices"].as_array().cloned().unwrap_or_default();
    let external = all
        .into_iter()
        .find(|device| device["kind"] == "external")
        .unwrap_or_default();
    let connected = || async { Device::connect(&json, place, &external).await.ok() };
    let mut device = wait::until("the broker is back", wait::PATIENCE, connected).await?;
    let time = mesh.time()?;
    for (seq, id) in [&patient, &name, &mrn].into_iter().enumerate() {
        let reading = json!({"code": "2951-2", "value": "140.0", "unit": "mmol/L"});
        let message =
            json!({"epoch": 9, "seq": seq + 1, "time": time, "patient": id, "readings": [reading]});
        device.publish(&message).await?;
        let mut text: Value = message.clone();
        text["seq"] = json!(100 + seq);
        text["readings"][0]["note"] = json!(format!("{name} {mrn} {serial}"));
        let _ = device.publish(&text).await;
    }
    Ok(())
}

/// A text as it is, in base64 at each of its three alignments, and in hexadecimal.
fn spellings(text: String) -> Vec<Vec<u8>> {
    let mut all = vec![
        text.clone().into_bytes(),
        hex::encode(&text).into_bytes(),
        hex::encode_upper(&text).into_bytes(),
    ];
    for skip in 0..3 {
        let padded = [vec![b' '; skip], text.clone().into_bytes()].concat();
        let encoded = STANDARD.encode(padded);
        // The first and last groups also hold bits of what stands around the text.
        let inner = encoded.trim_end_matches('=');
        all.push(inner.as_bytes()[4..inner.len() - 4].to_vec());
    }
    all
}

/// Metrics of the nodes that must not know a patient.
async fn metrics(mesh: &Mesh) -> Result<Vec<u8>> {
    let json = mesh.json()?;
    let mut all = Vec::new();
    let regions = REGIONS
        .iter()
        .map(|region| &json["regions"][region]["metrics"]);
    for url in regions.chain([&json["global"]["metrics"]]) {
        all.extend_from_slice(
            &mesh
                .https
                .get(url.as_str().unwrap_or_default(), None)
                .await?
                .body,
        );
    }
    Ok(all)
}

fn scan(folder: &Path, but: &PathBuf, needles: &[Vec<u8>], hits: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path == *but || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            scan(&path, but, needles, hits)?;
        } else if path.is_file() {
            let bytes = fs::read(&path)?;
            for needle in needles {
                if bytes.windows(needle.len()).any(|window| window == needle) {
                    hits.push(format!(
                        "{} in {}",
                        String::from_utf8_lossy(needle),
                        path.display()
                    ));
                }
            }
        }
    }
    Ok(())
}
