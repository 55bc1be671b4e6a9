//! Canary patients at every facility: nothing of them is found in any other node's files, logs, metrics, in what any
//! node tells a collector of traces, or in the clear text of any link between nodes; and with the guard taken out the
//! same scan finds them. What the collector got is one trace for a reading, from the device to the region's store.
use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use medmesh_tests::{
    binary,
    collector::{Collector, Span},
    mesh::{self, Mesh},
    mqtt::Device,
    wait,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
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
    let medmesh = binary::medmesh();
    let planted = plant_and_scan(&medmesh);
    let (found, spans) = tokio::runtime::Runtime::new()?.block_on(planted)?;
    ensure!(
        found.is_empty(),
        "canaries outside their facility: {found:#?}"
    );
    spans_say_words_of_closed_lists(&spans)?;
    readings_are_followed_to_their_region(&spans)
}

/// What a span may say, and for what is no number the words that it may say it with.
const WORDS: [(&str, &[&str]); 5] = [
    ("medmesh.priority", &["alarm", "live", "backlog"]),
    (
        "medmesh.outcome",
        &["accepted", "left-out", "quarantined", "refused", "deferred"],
    ),
    ("medmesh.task", &[]),
    ("http.request.method", &["GET", "POST"]),
    ("http.response.status_code", &[]),
];

fn spans_say_words_of_closed_lists(spans: &[Span]) -> Result<()> {
    for span in spans {
        for (key, value) in &span.says {
            let listed = WORDS.iter().find(|(listed, _)| listed == key);
            let (_, words) = listed.with_context(|| format!("{key} in {span:?}"))?;
            let free = match key.as_str() {
                // The names of tasks are constants of the program, and there are few.
                "medmesh.task" => value.len() < 32,
                "http.response.status_code" => value.parse::<u16>().is_ok(),
                _ => false,
            };
            ensure!(
                free || words.contains(&value.as_str()),
                "{value} in {span:?}"
            );
        }
    }
    let tasks = spans.iter().filter(|span| span.name == "task");
    let tasks: BTreeSet<_> = tasks.map(|span| &span.says["medmesh.task"]).collect();
    ensure!(tasks.contains(&"modbus".to_owned()), "{tasks:?}");
    ensure!(tasks.len() < 100, "{tasks:?}");
    Ok(())
}

/// The spans of a reading's trace, and below which each is.
const WAY: [(&str, &str); 7] = [
    ("store.commit", "modbus.read"),
    ("outbox", "store.commit"),
    ("link.send", "store.commit"),
    ("link.receive", "link.send"),
    ("gate", "link.receive"),
    ("fhir.map", "link.receive"),
    ("fhir.commit", "link.receive"),
];

/// In every jurisdiction a reading's trace goes from the registers of its device into the region's store.
fn readings_are_followed_to_their_region(spans: &[Span]) -> Result<()> {
    let mut traces: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(&span.trace).or_default().push(span);
    }
    for region in REGIONS {
        let edge = format!("edge/{region}/{region}/{region}-f1");
        let above = format!("regional/{region}/{region}");
        let whole = traces.values().any(|trace| is_whole(trace, &edge, &above));
        ensure!(
            whole,
            "of {} traces none is whole in {region}",
            traces.len()
        );
    }
    // None of them is seen in two jurisdictions.
    for trace in traces.values() {
        let of = |span: &&Span| span.place.split('/').nth(1).unwrap_or_default().to_owned();
        let places: BTreeSet<_> = trace.iter().map(of).collect();
        ensure!(places.len() == 1, "{trace:#?}");
    }
    Ok(())
}

fn is_whole(trace: &[&Span], edge: &str, region: &str) -> bool {
    let named = |name: &str| trace.iter().find(|span| span.name == name);
    let root = trace.iter().filter(|span| span.parent.is_empty());
    let below = WAY.iter().all(|(name, above)| {
        let (Some(span), Some(above)) = (named(name), named(above)) else {
            return false;
        };
        let at_region = ["link.receive", "gate", "fhir.map", "fhir.commit"].contains(name);
        let place = if at_region { region } else { edge };
        span.parent == above.id && span.place == place
    });
    below && root.count() == 1 && trace.len() == WAY.len() + 1
}

#[test]
#[cfg_attr(
    not(asked_for_unguarded),
    ignore = "MEDMESH_UNGUARDED_BIN is not set: cargo xtask test sets it"
)]
fn the_scan_finds_the_canaries_when_the_guard_is_taken_out() -> Result<()> {
    let unguarded = std::env::var("MEDMESH_UNGUARDED_BIN")?;
    let planted = plant_and_scan(Path::new(&unguarded));
    let (found, _) = tokio::runtime::Runtime::new()?.block_on(planted)?;
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

/// The share of samples that is traced: of the thousands of a fast mesh enough.
const TRACED: &str = "0.2";

/// Where canaries were found, and the spans that were told.
async fn plant_and_scan(bin: &Path) -> Result<(Vec<String>, Vec<Span>)> {
    let dir = tempfile::tempdir()?;
    let tap = dir.path().join(TAP);
    fs::create_dir_all(&tap)?;
    let tap = tap.to_string_lossy().into_owned();
    let env = [("MEDMESH_DANGEROUS_LINK_TAP", tap.as_str())];
    let collector = Collector::start().await?;
    let mesh = ["--facilities", "1", "--speed", "60x"];
    let traced = ["--otlp", &collector.url, "--trace-ratio", TRACED];
    let mesh = Mesh::up_with(bin, dir.path(), &[mesh, traced].concat(), &env).await?;
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
    fs::write(
        dir.path().join("told-to-the-collector.txt"),
        collector.bodies(),
    )?;
    let needles: Vec<_> = REGIONS
        .iter()
        .flat_map(|region| canaries(region))
        .flat_map(spellings)
        .collect();
    let mut hits = Vec::new();
    scan(dir.path(), &dir.path().join("edge"), &needles, &mut hits)?;
    Ok((hits, collector.spans()?))
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
