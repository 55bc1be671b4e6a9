//! `cargo xtask sbom`: what the program is made of, as CycloneDX 1.5, from what cargo has resolved: every package that the
//! binary is linked with on this machine, with version, license, checksum of `Cargo.lock`, and what it depends on.
//! Nothing in it changes from run to run.
use crate::{place::Places, run::cargo};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The package whose binary is described.
const BINARY: &str = "medmesh";

/// Writes the bill to a file, or prints it.
pub fn write(to: Option<&Path>) -> Result<bool> {
    let places = Places::find()?;
    let host = host()?;
    let arguments = [
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &host,
    ];
    let said = cargo(&places, &arguments).output().context("start cargo")?;
    ensure!(
        said.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&said.stderr)
    );
    let metadata = serde_json::from_slice(&said.stdout)?;
    let lock = fs::read_to_string(places.root.join("Cargo.lock"))?;
    let bill = serde_json::to_string_pretty(&bill(&metadata, &checksums(&lock))?)?;
    match to {
        Some(path) => fs::write(path, bill + "\n").with_context(|| path.display().to_string())?,
        None => println!("{bill}"),
    }
    Ok(true)
}

fn host() -> Result<String> {
    let said = std::process::Command::new("rustc")
        .arg("-vV")
        .output()
        .context("start rustc")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("rustc does not say its host")
}

/// The SHA-256 of each package of a registry, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let mut found = BTreeMap::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let begin = format!("{key} = \"");
            let line = package.lines().find_map(|line| line.strip_prefix(&begin))?;
            Some(line.trim_end_matches('"').to_owned())
        };
        if let (Some(name), Some(version), Some(sum)) =
            (field("name"), field("version"), field("checksum"))
        {
            found.insert((name, version), sum);
        }
    }
    found
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn bill(metadata: &Value, sums: &BTreeMap<(String, String), String>) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> = list(&metadata["packages"])
        .map(|package| (text(package, "id"), package))
        .collect();
    let nodes: BTreeMap<&str, &Value> = list(&metadata["resolve"]["nodes"])
        .map(|node| (text(node, "id"), node))
        .collect();
    let root = packages
        .iter()
        .find(|(_, package)| text(package, "name") == BINARY)
        .map(|(id, _)| *id)
        .context("no package of that name")?;
    let mut seen = BTreeSet::from([root]);
    let mut left = vec![root];
    let mut edges = BTreeMap::new();
    while let Some(id) = left.pop() {
        let node = nodes
            .get(id)
            .with_context(|| format!("{id} is not resolved"))?;
        let linked = list(&node["deps"]).filter(|dep| is_linked(dep));
        let needs: BTreeSet<&str> = linked.map(|dep| text(dep, "pkg")).collect();
        left.extend(needs.iter().copied().filter(|needed| seen.insert(needed)));
        edges.insert(id, needs);
    }
    let name = |id: &str| {
        packages
            .get(id)
            .map_or_else(String::new, |package| purl(package))
    };
    let components = seen
        .iter()
        .filter(|id| **id != root)
        .filter_map(|id| packages.get(id));
    let mut components: Vec<Value> = components.map(|package| component(package, sums)).collect();
    components.sort_by_key(|it| text(it, "purl").to_owned());
    let mut dependencies: Vec<Value> = edges
        .iter()
        .map(|(id, needs)| {
            let needs: BTreeSet<_> = needs.iter().map(|id| name(id)).collect();
            json!({"ref": name(id), "dependsOn": needs})
        })
        .collect();
    dependencies.sort_by_key(|it| text(it, "ref").to_owned());
    let mut itself = component(packages[root], sums);
    itself["type"] = "application".into();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": itself},
        "components": components,
        "dependencies": dependencies,
    }))
}

/// Whether a dependency is of the program, and not of its tests or its build alone.
fn is_linked(dep: &Value) -> bool {
    list(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn purl(package: &Value) -> String {
    format!(
        "pkg:cargo/{}@{}",
        text(package, "name"),
        text(package, "version")
    )
}

fn component(package: &Value, sums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let mut component = json!({
        "type": "library", "bom-ref": purl(package), "name": name, "version": version, "purl": purl(package),
    });
    if let Some(license) = package["license"].as_str() {
        component["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    if let Some(sum) = sums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sum}]);
    }
    component
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_names_what_is_linked_with_license_and_sum_and_nothing_of_tests_or_builds() {
        let dep = |id: &str, kind: Value| json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let package = |id: &str, license: &str| json!({"id": id, "name": id, "version": "1.0.0", "license": license});
        let metadata = json!({
            "packages": [package("medmesh", "MIT"), package("a", "MIT/Apache-2.0"), package("b", "MIT"),
                package("t", "MIT"), package("c", "MIT")],
            "resolve": {"nodes": [
                {"id": "medmesh", "deps": [dep("a", Value::Null), dep("t", "dev".into()), dep("c", "build".into())]},
                {"id": "a", "deps": [dep("b", Value::Null)]},
                {"id": "b", "deps": []}, {"id": "t", "deps": []}, {"id": "c", "deps": []},
            ]},
        });
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nchecksum = \"00ff\"\n";
        let bill = bill(&metadata, &checksums(lock)).unwrap();
        let names: Vec<_> = list(&bill["components"])
            .map(|it| text(it, "name"))
            .collect();
        assert_eq!(names, ["a", "b"]);
        let a = &bill["components"][0];
        assert_eq!(a["hashes"][0]["content"], "00ff");
        assert_eq!(a["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(bill["metadata"]["component"]["type"], "application");
        let needs = list(&bill["dependencies"]).find(|it| it["ref"] == "pkg:cargo/medmesh@1.0.0");
        assert_eq!(needs.unwrap()["dependsOn"], json!(["pkg:cargo/a@1.0.0"]));
    }
}
