//! Bad input from outside: a clear error that names what and where, and nothing else happens.
use anyhow::Result;
use medmesh_tests::{
    binary,
    mesh::{self, Mesh},
    mqtt::Device,
    wait,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// A list of nothing says so to a person, and is no line for a program.
#[test]
fn a_list_of_nothing_says_so_on_standard_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let pki = dir.path().join("pki");
    let run = |args: &[&str]| {
        let mut command = Command::new(binary::medmesh());
        command
            .arg("pki")
            .args(args)
            .arg("--dir")
            .arg(&pki)
            .output()
    };
    assert!(run(&["init"])?.status.success());
    for (args, says) in [
        (&["list"][..], "no certificate was issued\n"),
        (&["list", "--json"], ""),
    ] {
        let output = run(args)?;
        assert!(output.status.success() && output.stdout.is_empty());
        assert_eq!(String::from_utf8_lossy(&output.stderr), says, "{args:?}");
    }
    Ok(())
}

/// Every problem of a configuration is reported with its key path, before a socket is bound, with exit code 64.
#[test]
fn every_problem_of_a_configuration_is_reported_at_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("edge.toml");
    fs::write(
        &file,
        "jurisdiction = \"mars\"\nregion = \"US East\"\nfacility = \"us-f1\"\nsurprise = 1\n[mqtt]\nlisten = \"nowhere\"\n",
    )?;
    for args in [
        vec!["edge", "--config"],
        vec!["check-config", "--kind", "edge"],
    ] {
        let output = Command::new(binary::medmesh())
            .args(&args)
            .arg(&file)
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {text}");
        for key in ["jurisdiction", "region", "surprise", "mqtt.listen"] {
            assert!(
                text.contains(key),
                "{args:?}: {key} is not named in: {text}"
            );
        }
    }
    Ok(())
}

#[test]
fn an_unknown_option_is_a_usage_error() -> Result<()> {
    let status = Command::new(binary::medmesh())
        .args(["up", "--sped", "60x"])
        .output()?
        .status;
    assert_eq!(status.code(), Some(2));
    Ok(())
}

/// What the broker, the FHIR API and the token service say to what they must not take.
#[test]
fn bad_messages_queries_and_tokens_are_refused_and_leave_no_trace() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(refused())
}

async fn refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mesh = Mesh::up(dir.path(), &["--facilities", "1"]).await?;
    let json = mesh.json()?;
    let facility = mesh::facility_of(&json, "us-f1")?;
    let all = facility["devices"].as_array().cloned().unwrap_or_default();
    let external = all
        .into_iter()
        .find(|device| device["kind"] == "external")
        .unwrap_or_default();
    let mut device = Device::connect(&json, facility, &external).await?;
    let good = json!({"code": "2951-2", "value": "140.0", "unit": "mmol/L"});
    let time = mesh.time()?;
    let message = |seq: u32, reading: &Value| json!({"epoch": 1, "seq": seq, "time": time, "patient": "p", "readings": [reading]});
    device.publish(&message(1, &good)).await?;
    for (name, bad) in [
        (
            "unknown code",
            json!({"code": "Jane Doe", "value": 1, "unit": "mmol/L"}),
        ),
        (
            "unknown unit",
            json!({"code": "2951-2", "value": 1, "unit": "furlong"}),
        ),
        (
            "free text",
            json!({"code": "2951-2", "value": 1, "unit": "mmol/L", "note": "Jane Doe"}),
        ),
        (
            "not a decimal",
            json!({"code": "2951-2", "value": "1,5", "unit": "mmol/L"}),
        ),
    ] {
        assert!(
            device.publish(&message(2, &bad)).await.is_err(),
            "{name} was acknowledged"
        );
    }
    let other = json!({"code": "2951-2", "value": "141.0", "unit": "mmol/L"});
    assert!(
        device.publish(&message(1, &other)).await.is_err(),
        "the same identity with another payload"
    );
    device.publish(&message(2, &good)).await?;
    device.publish(&message(2, &good)).await?;
    fhir(&mesh, &json).await?;
    written_down(&mesh).await?;
    decided(&mesh)?;
    private(dir.path())?;
    mesh.stop().await
}

/// Who read, and what was refused: an operator sees it, and no value that was asked for.
async fn written_down(mesh: &Mesh) -> Result<()> {
    let node = "regional:us";
    let of = |rows: &[Value], decision: &str, from: &str| -> Vec<Value> {
        let is_it = |row: &&Value| row["decision"] == decision && row["from"] == from;
        rows.iter().filter(is_it).cloned().collect()
    };
    // What was given nothing is written down a moment later.
    let soon = || async {
        let rows = mesh.listed(node, ["audit", "list"]).ok()?;
        let strangers = of(&rows, "read-unauthenticated", "");
        let unanswered = of(&rows, "read-unanswered", "fhir-reader");
        (!strangers.is_empty() && !unanswered.is_empty()).then_some(rows)
    };
    let rows = wait::until("refused reads are in the log", wait::PATIENCE, soon).await?;
    let reads = of(&rows, "data-read", "fhir-reader");
    let said: Vec<_> = reads
        .iter()
        .map(|row| (&row["kind"], &row["count"]))
        .collect();
    assert_eq!(said, [(&json!("Observation?_count"), &json!(1))]);
    assert!(rows.iter().all(|row| !row.to_string().contains("minus")));
    let config = mesh.config(node);
    mesh.medmesh(&[
        "audit",
        "verify",
        "--json",
        "--config",
        &config.to_string_lossy(),
    ])?;
    Ok(())
}

/// What a device was told is not held: a person finds nothing, beside the running nodes, and is told so.
fn decided(mesh: &Mesh) -> Result<()> {
    for (tier, node) in [
        ("edge", "edge:us-f1"),
        ("regional", "regional:us"),
        ("global", "global"),
    ] {
        let config = mesh.config(node);
        let config = config.to_string_lossy();
        let words = [tier, "quarantine", "list", "--json", "--config", &config];
        let held = mesh.medmesh_lines(&words)?;
        assert!(held.is_empty(), "{held:?}");
        let output = Command::new(binary::medmesh())
            .args([tier, "quarantine", "discard", "p1", "--config", &config])
            .output()?;
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("p1 is not in quarantine"), "{said}");
    }
    decided_for_the_mesh(mesh)
}

/// What nodes hold is found by one command for all of them, and decided with a row in the log of the node that it is of.
fn decided_for_the_mesh(mesh: &Mesh) -> Result<()> {
    const NOTE: &str = "INSERT INTO inbox_note (n, sender, body, position, parcel, reason, digest, time)
        VALUES (7, 'edge/us/us/us-f1', zeroblob(32), 3, zeroblob(16), 'unmappable', x'0102', '2000-01-01T00:00:00.000Z')";
    for node in ["regional:us", "global"] {
        let file = mesh.folder(node).join("data").join("ledger.db");
        let db = rusqlite::Connection::open(file)?;
        db.busy_timeout(wait::PATIENCE)?;
        db.execute_batch(NOTE)?;
    }
    let ask = |words: &[&str]| -> Result<(Option<i32>, String)> {
        let mut command = Command::new(binary::medmesh());
        command.arg("quarantine").args(words).arg("--dir");
        let output = command.arg(&mesh.dir).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((
            output.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    };
    let (code, said) = ask(&["list", "--json"])?;
    let held: Vec<Value> = said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let held: Vec<_> = held.iter().map(|it| (&it["place"], &it["id"])).collect();
    let of = |place: &str| (json!(place), json!("n7"));
    let both = [of("global"), of("regional/us/us")];
    assert_eq!(code, Some(0));
    assert_eq!(held, [(&both[0].0, &both[0].1), (&both[1].0, &both[1].1)]);
    let (_, said) = ask(&["list"])?;
    assert!(
        said.contains("global\nid") && said.contains("\n\nregional/us/us\nid"),
        "{said}"
    );
    for (words, code, says) in [
        (["show", "us/n7"], 0, "record"),
        (["show", "us/n8"], 1, "n8 is not in quarantine"),
        (["show", "n7"], 1, "say which as NODE/ENTRY"),
        (["show", "mars/n7"], 1, "no node has this name"),
        (["release", "regional/us/us/n7"], 1, "release it there"),
        (["discard", "us-f1/p1"], 1, "p1 is not in quarantine"),
        (["discard", "us/n7"], 0, "discarded"),
        (["discard", "us/n7"], 1, "n7 is not in quarantine"),
        (["discard", "global/n7"], 0, "discarded"),
    ] {
        let (found, said) = ask(&words)?;
        assert!(
            found == Some(code) && said.contains(says),
            "{words:?}: {said}"
        );
    }
    for node in ["regional:us", "global"] {
        let rows = mesh.listed(node, ["audit", "list"])?;
        let discarded = rows.iter().filter(|row| row["decision"] == "discarded");
        assert_eq!(discarded.count(), 1, "{node}");
    }
    Ok(())
}

/// Nobody else on the machine can read anything of a mesh, but the authority's certificate and its list of what is
/// revoked, once they are let in: both are public.
fn private(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_symlink() {
            continue;
        }
        let mode = entry.metadata()?.permissions().mode() & 0o777;
        let allowed = if kind.is_dir() { 0o700 } else { 0o600 };
        let certificate = path.ends_with("pki/ca.pem") || path.ends_with("pki/crl.pem");
        assert!(
            mode & !allowed == 0 || certificate,
            "{}: {mode:o}",
            path.display()
        );
        if kind.is_dir() {
            private(&path)?;
        }
    }
    Ok(())
}

async fn fhir(mesh: &Mesh, json: &Value) -> Result<()> {
    let base = json["regions"]["us"]["fhir"].as_str().unwrap_or_default();
    let token = mesh.token("fhir-reader", "us").await?;
    for (path, token, status) in [
        ("Observation", None, 401),
        ("Observation", Some("not.a.token"), 401),
        ("Observation?date=2026-13-45", Some(token.as_str()), 400),
        ("Observation?_count=minus", Some(token.as_str()), 400),
        ("Observation/..%2f..%2fetc", Some(token.as_str()), 404),
        ("Nonsense", Some(token.as_str()), 404),
        ("Observation?_count=1", Some(token.as_str()), 200),
    ] {
        let answer = mesh.https.get(&format!("{base}/{path}"), token).await?;
        assert_eq!(answer.status, status, "{path}");
        if status != 200 {
            let outcome: Value = serde_json::from_slice(&answer.body)?;
            assert_eq!(outcome["resourceType"], "OperationOutcome", "{path}");
        }
    }
    let us_token = mesh.token("fhir-reader", "us").await?;
    let eu = json["regions"]["eu"]["fhir"].as_str().unwrap_or_default();
    let elsewhere = mesh
        .https
        .get(&format!("{eu}/Observation"), Some(&us_token))
        .await?;
    assert_eq!(elsewhere.status, 401, "a token of one region in another");
    Ok(())
}
