//! A facility's research tables, by the command, beside its running node.
use anyhow::{Result, ensure};
use medmesh_tests::{binary, mesh::Mesh};
use std::{path::Path, process::Command};

const SCHEMA: &str = r#"
key = "record"
missing = ["?"]
[[columns]]
name = "age"
unit = "a"
max = 120
[[columns]]
name = "chol"
unit = "mg/dL"
missing = true
"#;

/// A table with a fault is refused with its place and nothing of it is there; a good one is, until it is removed.
pub async fn are_imported_whole_or_not_at_all(mesh: &Mesh, facility: &str) -> Result<()> {
    let config = mesh.config(facility);
    let config = config.to_string_lossy();
    let (csv, schema) = (mesh.dir.join("heart.csv"), mesh.dir.join("heart.toml"));
    std::fs::write(&schema, SCHEMA)?;
    let (from, by) = (csv.to_string_lossy(), schema.to_string_lossy());
    let import = ["import", "heart", "--csv", &from, "--schema", &by];
    std::fs::write(&csv, "record,age,chol [mmol/L]\na,63,233\n")?;
    let said = refused(&import, &config)?;
    ensure!(
        said.contains("heart.csv:1: column \"chol\": is in mmol/L"),
        "{said}"
    );
    std::fs::write(&csv, "record,age,chol\na,63,233\nb,Jane,?\na,50,?\n")?;
    let said = refused(&import, &config)?;
    ensure!(
        said.contains("heart.csv:3: column \"age\": is not a number"),
        "{said}"
    );
    ensure!(said.contains("heart.csv:4: column \"record\""), "{said}");
    ensure!(!said.contains("Jane"), "{said}");
    let none = dataset(mesh, &["list"], &config)?;
    ensure!(none["datasets"] == serde_json::json!([]), "{none}");
    std::fs::write(&csv, "record,age,chol\na,63,233\nb,50,?\n")?;
    let imported = dataset(mesh, &import, &config)?;
    ensure!(imported["records"] == 2, "{imported}");
    ensure!(refused(&import, &config)?.contains("is there already"));
    let found = dataset(mesh, &["describe", "heart"], &config)?;
    ensure!(found["columns"][1]["missing"] == 1, "{found}");
    ensure!(found["columns"][0]["mean"] == 56.5, "{found}");
    dataset(mesh, &["remove", "heart"], &config)?;
    let gone = refused(&["describe", "heart"], &config)?;
    ensure!(gone.contains("there is no data set `heart`"), "{gone}");
    Ok(())
}

fn dataset(mesh: &Mesh, args: &[&str], config: &str) -> Result<serde_json::Value> {
    let common = ["--config", config, "--json"];
    mesh.medmesh(&[&["edge", "dataset"][..], args, &common].concat())
}

/// What is said of a command that fails.
fn refused(args: &[&str], config: &str) -> Result<String> {
    let medmesh: &Path = &binary::medmesh();
    let ended = Command::new(medmesh)
        .args(["edge", "dataset"])
        .args(args)
        .args(["--config", config])
        .output()?;
    ensure!(!ended.status.success(), "{args:?} is not refused");
    Ok(String::from_utf8_lossy(&ended.stderr).into_owned())
}
