//! Who lies in a bed is entered late, by the command, while a facility runs: its readings move to the right patient, and
//! the region has the old ones as entered in error. Meanwhile the facility imports a research table.
use anyhow::{Context, Result, ensure};
use medmesh_tests::{
    binary,
    https::{Https, split},
    mesh::{Mesh, facility_of},
    wait,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};
use types::Timestamp;

/// For a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);
const FACILITY: &str = "edge:us-f1";
/// Readings of the bed's patient before somebody enters that another one lay there.
const ENOUGH: usize = 40;

#[test]
fn an_entry_that_comes_late_reaches_the_region_as_readings_entered_in_error_and_anew() -> Result<()>
{
    tokio::runtime::Runtime::new()?.block_on(beds())
}

async fn beds() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let args = [
        "--regions",
        "us",
        "--facilities",
        "1",
        "--beds",
        "2",
        "--speed",
        "20x",
    ];
    let mesh = Mesh::up(dir.path(), &args).await?;
    let before = lies(&mesh, "b1")?;
    let at = wait::until("readings of the bed", PATIENCE, || async {
        let mut times: Vec<_> = readings(&mesh, &before)
            .ok()?
            .into_iter()
            .map(|r| r.1)
            .collect();
        times.sort_unstable();
        (times.len() >= ENOUGH).then(|| times[times.len() / 2])
    })
    .await?;
    let from = Timestamp(at).to_rfc3339();
    let said = enter(&mesh, &["assign", "--patient", "late-1", "--at", &from])?;
    ensure!(
        said["changed"] == true && said["corrects"] == true,
        "{said}"
    );
    crate::datasets::are_imported_whole_or_not_at_all(&mesh, FACILITY).await?;
    // A kill of either end takes nothing of it back.
    for node in [FACILITY, "regional:us"] {
        let before = mesh.pid(node)?;
        mesh.signal(node, "KILL")?;
        let back = || async { (mesh.pid(node).ok()? != before).then_some(()) };
        wait::until("the node is back", PATIENCE, back).await?;
    }
    let there = || async {
        let again = enter(&mesh, &["assign", "--patient", "late-1", "--at", &from]);
        again.ok()
    };
    let again = wait::until("the facility serves again", PATIENCE, there).await?;
    ensure!(again["changed"] == false, "{again}");
    wait::until("the readings move", PATIENCE, || async {
        let listing = listing(&mesh).ok()?;
        (listing["correcting"] == 0).then_some(())
    })
    .await?;
    let left = readings(&mesh, &before)?;
    ensure!(
        left.iter().all(|(_, time)| *time < at),
        "none is left behind"
    );
    the_region_follows(&mesh, &before).await?;
    the_facility_sees_itself(&mesh, at).await?;
    the_facility_answers_by_fhir(&mesh, &before).await?;
    who_opts_out_is_hidden_from_research(&mesh).await?;
    mesh.stop().await
}

/// The facility's own FHIR: its address, its token, and a client of the mesh.
fn own_fhir(mesh: &Mesh) -> Result<(String, String, Https)> {
    let json = mesh.json()?;
    let facility = facility_of(&json, "us-f1")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let token = std::fs::read_to_string(text(&facility["token"]))?;
    let https = Https::new(Path::new(&text(&json["ca"])))?;
    Ok((text(&facility["fhir"]), token, https))
}

/// The Consent of docs/view.md has the region hide a patient from who reads for research, from no one else, and until it
/// is taken back.
async fn who_opts_out_is_hidden_from_research(mesh: &Mesh) -> Result<()> {
    let (fhir, token, https) = own_fhir(mesh)?;
    let found = https
        .get(
            &format!("{fhir}/Patient?identifier=urn:medmesh:local:patient%7Clate-1"),
            Some(&token),
        )
        .await?
        .json()?;
    let patient = found["entry"][0]["resource"]["id"].as_str();
    let patient = patient.context("the patient")?;
    let consent = consent_of(patient)?;
    let (authority, path) = split(&fhir)?;
    let mut session = https.session(authority).await?;
    let path = format!("{path}/Consent");
    let made = session
        .post_json(&path, &token, &[], consent.clone())
        .await?;
    ensure!(made.status == 201, "{consent}: {}", made.status);
    let reader = mesh.token("fhir-reader", "us").await?;
    let researcher = mesh.token("fhir-researcher", "us").await?;
    let pseudonym = pseudonym_of(mesh, "late-1")?;
    let region = mesh.json()?["regions"]["us"]["fhir"].clone();
    let url = format!(
        "{}/Observation?patient={}&_count=1",
        region.as_str().unwrap_or_default(),
        pseudonym
    );
    let sees = async |token: &str| -> Option<bool> {
        let bundle = https.get(&url, Some(token)).await.ok()?.json().ok()?;
        Some(
            bundle["entry"]
                .as_array()
                .is_some_and(|all| !all.is_empty()),
        )
    };
    wait::until("the region hides the patient", PATIENCE, || async {
        (!sees(&researcher).await?).then_some(())
    })
    .await?;
    ensure!(sees(&reader).await == Some(true), "care goes on");
    let inactive = consent.replace("\"active\"", "\"inactive\"");
    let id = made.json()?["id"].clone();
    let entry = serde_json::json!({"resourceType": "Bundle", "type": "transaction", "entry": [{
        "request": {"method": "PUT", "url": format!("Consent/{}", id.as_str().unwrap_or_default())},
        "resource": serde_json::from_str::<Value>(&inactive).map(|mut resource| {
            resource["id"] = id.clone();
            resource
        })?,
    }]});
    let root = path.trim_end_matches("/Consent");
    let changed = session
        .post_json(root, &token, &[], entry.to_string())
        .await?;
    ensure!(changed.status == 200, "{}", changed.status);
    wait::until("the region shows the patient again", PATIENCE, || async {
        sees(&researcher).await?.then_some(())
    })
    .await
}

/// The facility's own FHIR (docs/view.md) has every reading with whose it is, also what was withdrawn, through the kill.
async fn the_facility_answers_by_fhir(mesh: &Mesh, before: &str) -> Result<()> {
    let (fhir, token, https) = own_fhir(mesh)?;
    let total = async |patient: &str, status: &str| -> Result<Option<u64>> {
        let url = format!(
            "{fhir}/Observation?patient.identifier=urn:medmesh:local:patient%7C{patient}&status={status}&_summary=count"
        );
        let answer = https.get(&url, Some(&token)).await?;
        ensure!(answer.status == 200, "{url}: {}", answer.status);
        Ok(answer.json()?["total"].as_u64())
    };
    wait::until(
        "the facility's FHIR has what the facility has",
        PATIENCE,
        || async {
            let (left, late) = (readings(mesh, before).ok()?, readings(mesh, "late-1").ok()?);
            let has = total(before, "final,preliminary").await.ok()??;
            let moved = total("late-1", "final,preliminary").await.ok()??;
            let gone = total(before, "entered-in-error").await.ok()??;
            (has == left.len() as u64 && moved >= late.len() as u64 && gone >= ENOUGH as u64 / 2)
                .then_some(())
        },
    )
    .await?;
    let strange = https
        .get(&format!("{fhir}/Patient"), Some("strange"))
        .await?;
    ensure!(strange.status == 401, "{}", strange.status);
    Ok(())
}

/// Beds, series and changes, as the facility's own staff sees them, and each look is written down.
async fn the_facility_sees_itself(mesh: &Mesh, from: i64) -> Result<()> {
    let config = mesh.config(FACILITY);
    let common = ["--config", &config.to_string_lossy(), "--json"];
    let of_bed = |beds: &Value| {
        let beds = beds["beds"].as_array()?.clone();
        beds.into_iter().find(|bed| bed["bed"] == "b1")
    };
    wait::until(
        "the bed has live values of its patient",
        PATIENCE,
        || async {
            let beds = mesh
                .medmesh(&[&["edge", "beds"][..], &common].concat())
                .ok()?;
            let bed = of_bed(&beds)?;
            let values = bed["devices"].as_array()?.iter();
            let mut values = values
                .filter_map(|device| device["values"].as_array())
                .flatten();
            (bed["patient"] == "late-1" && values.any(|value| value["freshness"] == "live"))
                .then_some(())
        },
    )
    .await?;
    // Of a time that is long past, so that both are asked for the same.
    let until = from + 60_000;
    wait::until("that time is past", PATIENCE, || async {
        let newest = readings(mesh, "late-1")
            .ok()?
            .into_iter()
            .map(|row| row.1)
            .max();
        (newest? > until + 120_000).then_some(())
    })
    .await?;
    let (from, end) = (Timestamp(from).to_rfc3339(), Timestamp(until).to_rfc3339());
    let span = ["--patient", "late-1", "--from", &from, "--until", &end];
    let series = mesh.medmesh_lines(&[&["edge", "series"][..], &span, &common].concat())?;
    let stored = readings(mesh, "late-1")?;
    let stored = stored.iter().filter(|(_, time)| *time < until).count();
    ensure!(
        stored > 0 && series.len() == stored,
        "{stored}, {}",
        series.len()
    );
    what_there_is_not_is_refused(mesh, &common)?;
    let mut watch = Command::new(binary::medmesh())
        .args([&["edge", "watch"][..], &common].concat())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let out = watch.stdout.take().context("its output")?;
    BufReader::new(out).read_line(&mut line)?;
    watch.kill()?;
    watch.wait()?;
    let change: Value = serde_json::from_str(&line)?;
    ensure!(change["readings"][0]["code"].is_string(), "{change}");
    let rows = mesh.listed(FACILITY, ["audit", "list"])?;
    for kind in ["beds", "series", "changes"] {
        ensure!(
            rows.iter().any(|row| row["kind"] == kind),
            "{kind} is audited"
        );
    }
    Ok(())
}

/// Who asks for what the facility has not is told so, with what it has, and does not wait for it.
fn what_there_is_not_is_refused(mesh: &Mesh, common: &[&str]) -> Result<()> {
    let assign = ["beds", "assign", "--bed", "b99", "--patient", "p-99"];
    let discharge = ["beds", "discharge", "--bed", "b99"];
    let (beds, devices) = (
        "bed: the facility has none of this name; it has b1, b2",
        "device: the facility has none of this name; it has ",
    );
    for (asked, says) in [
        (&["series", "--bed", "b99"][..], beds),
        (&["series", "--device", "nope"], devices),
        (
            &["series", "--patient", "nobody"],
            "patient: nothing was ever entered",
        ),
        (&["watch", "--device", "nope"], devices),
        (&assign, beds),
        (&discharge, beds),
    ] {
        let refused = mesh.medmesh_lines(&[&["edge"], asked, common].concat());
        let refused = refused.err().map(|error| error.to_string());
        ensure!(
            refused.as_ref().is_some_and(|it| it.contains(says)),
            "{asked:?}: {refused:?}"
        );
    }
    let dir = mesh.dir.to_string_lossy();
    let twin = ["twin", "watch", "--region", "us", "--dir", &dir, "nope"];
    let refused = mesh
        .medmesh_lines(&twin)
        .err()
        .map(|error| error.to_string());
    ensure!(
        refused
            .as_ref()
            .is_some_and(|it| it.contains("no device of this region")),
        "{refused:?}"
    );
    let new = [&["edge"][..], &assign, &["--new"], common].concat();
    let entered = mesh.medmesh(&new)?;
    ensure!(entered["changed"] == true, "{entered}");
    mesh.medmesh(&[&["edge"][..], &discharge, common].concat())?;
    Ok(())
}

/// The region has what the facility has, of both patients, and the rest as entered in error.
async fn the_region_follows(mesh: &Mesh, before: &str) -> Result<()> {
    let there = || async {
        // The facility first: it goes on measuring, and the region may have more by the time that it is asked.
        let uids = |rows: Vec<(String, i64)>| rows.into_iter().map(|row| row.0).collect();
        let left: BTreeSet<String> = uids(readings(mesh, before).ok()?);
        let moved: BTreeSet<String> = uids(readings(mesh, "late-1").ok()?);
        let (old, gone) = at_region(mesh, before).await.ok()?;
        let (new, none) = at_region(mesh, "late-1").await.ok()?;
        let good = old == left && new.is_superset(&moved) && none.is_empty();
        (good && gone.len() >= ENOUGH / 2).then_some(())
    };
    wait::until(
        "the region has every reading under its patient",
        PATIENCE,
        there,
    )
    .await?;
    let audited = |node: &str| -> Result<usize> {
        let rows = mesh.listed(node, ["audit", "list"])?;
        Ok(rows
            .iter()
            .filter(|row| row["kind"] == "Correction")
            .count())
    };
    let (sent, taken) = (audited(FACILITY)?, audited("regional:us")?);
    ensure!(
        sent > 0 && taken > 0,
        "audited at both ends: {sent}, {taken}"
    );
    Ok(())
}

/// The Observations of a patient at the region: those that stand, and those that are entered in error.
async fn at_region(mesh: &Mesh, patient: &str) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let pseudonym = pseudonym_of(mesh, patient)?;
    let query = format!("Observation?patient={pseudonym}&_count=1000");
    let (mut standing, mut gone) = (BTreeSet::new(), BTreeSet::new());
    for one in mesh.search("us", &query).await? {
        let id = one["id"].as_str().context("id")?.to_owned();
        if one["status"] == "entered-in-error" {
            gone.insert(id);
        } else {
            standing.insert(id);
        }
    }
    Ok((standing, gone))
}

/// What the region calls a patient.
fn pseudonym_of(mesh: &Mesh, patient: &str) -> Result<String> {
    let config = mesh.config(FACILITY);
    let crosswalk = mesh.medmesh(&[
        "edge",
        "crosswalk",
        "--config",
        &config.to_string_lossy(),
        "--json",
    ])?;
    let patients = crosswalk["patients"].as_array().context("patients")?;
    let row = patients.iter().find(|row| row["patient"] == patient);
    let pseudonym = row.context("a patient")?["pseudonym"].as_str();
    Ok(pseudonym.context("pseudonym")?.to_owned())
}

/// The Consent of docs/view.md, of a patient.
fn consent_of(patient: &str) -> Result<String> {
    let page = include_str!("../../../docs/view.md");
    let example = page.split_once("-d '{\"resourceType\": \"Consent\"");
    let (example, _) = example
        .and_then(|(_, rest)| rest.split_once("}'\n```"))
        .context("the example of a Consent")?;
    let consent = format!("{{\"resourceType\": \"Consent\"{example}}}");
    Ok(consent.replace("'$PATIENT'", patient))
}

/// Uid and source time of each reading that the facility has of a patient.
fn readings(mesh: &Mesh, patient: &str) -> Result<Vec<(String, i64)>> {
    let rows = mesh.listed(FACILITY, ["edge", "readings"])?;
    let own = rows.iter().filter(|row| row["patient"] == patient);
    own.map(|row| {
        let uid = row["uid"].as_str().context("uid")?;
        Ok((uid.to_owned(), row["source_ms"].as_i64().context("time")?))
    })
    .collect()
}

fn listing(mesh: &Mesh) -> Result<Value> {
    let config = mesh.config(FACILITY);
    mesh.medmesh(&[
        "edge",
        "beds",
        "list",
        "--config",
        &config.to_string_lossy(),
        "--json",
    ])
}

/// Who lies in a bed by its last entry.
fn lies(mesh: &Mesh, bed: &str) -> Result<String> {
    let listing = listing(mesh)?;
    let rows = listing["beds"].as_array().context("beds")?;
    let row = rows
        .iter()
        .rfind(|row| row["bed"] == bed && row["holds"] == true);
    let patient = row.context("an entry")?["patient"].as_str();
    Ok(patient.context("a patient")?.to_owned())
}

fn enter(mesh: &Mesh, args: &[&str]) -> Result<Value> {
    let config = mesh.config(FACILITY);
    let config = config.to_string_lossy();
    let common = [
        "--config", &config, "--bed", "b1", "--by", "tester", "--json",
    ];
    mesh.medmesh(&[&["edge", "beds"][..], args, &common].concat())
}
