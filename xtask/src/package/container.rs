//! What is checked of the container file without an engine of containers: its user, paths, command and signal are those of
//! the package and its unit, and what the example configurations name lies in the folders that it has. (That
//! `check-config` accepts the examples is tested end to end, `it::infra`.)
use crate::place::Places;
use anyhow::{Context, Result, ensure};
use std::{collections::BTreeMap, fs};

const FILE: &str = "infra/packaging/Containerfile";
const UNIT: &str = "infra/systemd/medmesh@.service";
const EXAMPLES: [&str; 3] = [
    "infra/config/edge.toml",
    "infra/config/regional.toml",
    "infra/config/global.toml",
];
const GUIDE: &str = "docs/operations.md";
/// The image that it stands on: what the package is for.
const BASE: &str = "docker.io/library/debian:12-slim";
/// The tier that a container without arguments runs.
const TIER: &str = "regional";

/// Compares.
pub fn container(places: &Places) -> Result<()> {
    let read =
        |file: &str| fs::read_to_string(places.root.join(file)).with_context(|| file.to_owned());
    let mut examples = EXAMPLES.map(read).into_iter().collect::<Result<Vec<_>>>()?;
    examples.push(said(&read(GUIDE)?));
    agree(&read(FILE)?, &read(UNIT)?, &examples).context(FILE)
}

/// What a guide says within a line of a configuration, a line each.
fn said(guide: &str) -> String {
    let quoted = guide.split('`').skip(1).step_by(2);
    let keys = quoted.filter_map(|text| text.split("] ").last()?.split_once(" = "));
    let lines = keys.map(|(key, value)| format!("{key} = {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn agree(file: &str, unit: &str, examples: &[String]) -> Result<()> {
    let told = instructions(file)?;
    let tell = |name: &str| told.get(name).with_context(|| format!("no {name}"));
    let setting = |name: &str| {
        let line = unit
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.with_context(|| format!("the unit has no {name}"))
    };
    ensure!(tell("FROM")? == BASE, "FROM is not {BASE}");
    let user = format!("{}:{}", setting("User")?, setting("Group")?);
    ensure!(*tell("USER")? == user, "USER is not {user}, as of the unit");
    let data = format!("/var/lib/{}", setting("StateDirectory")?);
    ensure!(
        *tell("VOLUME")? == data,
        "VOLUME is not {data}, as of the unit"
    );
    let signal = setting("KillSignal")?;
    ensure!(
        tell("STOPSIGNAL")? == signal,
        "STOPSIGNAL is not {signal}, as of the unit"
    );
    let words = |name: &str| -> Result<Vec<String>> {
        serde_json::from_str(tell(name)?).with_context(|| format!("{name} is no list of words"))
    };
    let command = [words("ENTRYPOINT")?, words("CMD")?].concat().join(" ");
    let starts = setting("ExecStart")?.replace("%i", TIER);
    let starts = starts.replace("/usr/local/bin/", "/usr/bin/");
    ensure!(
        command == starts,
        "it runs `{command}`, the unit `{starts}`"
    );
    let copied = "--chmod=0755 medmesh /usr/bin/medmesh";
    ensure!(tell("COPY")? == copied, "COPY is not {copied}");
    let configuration = format!("/etc/{}", setting("ConfigurationDirectory")?);
    let made = tell("RUN")?;
    for folder in [&data, &configuration] {
        ensure!(
            made.contains(&format!(" {folder}")),
            "nothing makes {folder}"
        );
    }
    ensure!(
        file.contains("podman run --read-only --cap-drop all"),
        "it is not said to run read-only"
    );
    for (key, path) in examples.iter().flat_map(|example| written(example)) {
        ensure!(
            path.starts_with(&format!("{data}/")),
            "an example has {key} at {path}, where its unit lets no node write: not below {data}"
        );
    }
    for path in examples.iter().flat_map(|example| paths(example)) {
        let there = [&data, &configuration]
            .iter()
            .any(|folder| path == folder.as_str() || path.starts_with(&format!("{folder}/")));
        ensure!(
            there,
            "an example names {path}, which no folder of the container is"
        );
    }
    Ok(())
}

/// Each instruction, once, with its arguments in one line.
fn instructions(file: &str) -> Result<BTreeMap<String, String>> {
    let lines = file.lines().filter(|line| !line.starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let mut told = BTreeMap::new();
    for line in joined.lines().filter(|line| !line.trim().is_empty()) {
        let (name, rest) = line.split_once(' ').with_context(|| format!("`{line}`"))?;
        let rest = rest.split_whitespace().collect::<Vec<_>>().join(" ");
        let before = told.insert(name.to_owned(), rest);
        ensure!(
            before.is_none(),
            "{name} is there twice: what is built is not built here"
        );
    }
    Ok(told)
}

/// The absolute paths that a configuration names.
fn paths(example: &str) -> impl Iterator<Item = &str> {
    let lines = example.lines().filter(|line| !line.starts_with('#'));
    let quoted = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    quoted.filter(|text| text.starts_with('/'))
}

/// The paths of a configuration that the node writes itself, with their keys: its data, and the next certificate and key,
/// which it lays down beside those in use. `authority` is an authority that signs where it is a folder.
fn written(example: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = example.lines().filter_map(|line| line.split_once(" = "));
    let quoted = lines.filter_map(|(key, value)| Some((key, value.split('"').nth(1)?)));
    quoted.filter(|(key, path)| match *key {
        "data_dir" | "cert" | "key" | "signing_key" | "key_file" => true,
        "authority" => !path.ends_with(".pem"),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_the_unit_is_named_and_what_is_there_agrees() -> Result<()> {
        let places = Places::find()?;
        container(&places)?;
        let read = |file: &str| fs::read_to_string(places.root.join(file));
        let (file, unit) = (read(FILE)?, read(UNIT)?);
        let examples = vec![read(EXAMPLES[1])?];
        for (from, to, says) in [
            ("USER medmesh:medmesh", "USER root", "USER"),
            ("debian:12-slim", "debian:latest", "FROM"),
            ("VOLUME /var/lib/medmesh", "VOLUME /data", "VOLUME"),
            ("SIGTERM", "SIGKILL", "STOPSIGNAL"),
            ("regional.toml", "region.toml", "it runs"),
            ("[\"/usr/bin/medmesh\"]", "[\"/bin/medmesh\"]", "it runs"),
            ("--chmod=0755", "--chmod=0777", "COPY"),
            (
                "root -g medmesh /etc/medmesh",
                "root -g medmesh /etc",
                "/etc/medmesh",
            ),
            ("--read-only ", "", "read-only"),
            ("STOPSIGNAL", "RUN true\nSTOPSIGNAL", "RUN"),
        ] {
            assert!(file.contains(from), "{from}");
            let other = agree(&file.replace(from, to), &unit, &examples);
            let said = format!("{:#}", other.unwrap_err());
            assert!(said.contains(says), "{from}: {said}");
        }
        let elsewhere = vec![examples[0].replace("/etc/medmesh/ca.pem", "/srv/ca.pem")];
        let said = format!("{:#}", agree(&file, &unit, &elsewhere).unwrap_err());
        assert!(said.contains("/srv/ca.pem"), "{said}");
        for (from, to) in [
            ("cert = \"/var/lib/", "cert = \"/etc/"),
            ("\nkey = \"/var/lib/", "\nkey = \"/etc/"),
            ("data_dir = \"/var/lib/", "data_dir = \"/etc/"),
            (
                "[store]",
                "[enrolment]\nauthority = \"/etc/medmesh/pki\"\n[store]",
            ),
        ] {
            assert!(examples[0].contains(from), "{from}");
            let read_only = vec![examples[0].replace(from, to)];
            let said = format!("{:#}", agree(&file, &unit, &read_only).unwrap_err());
            assert!(said.contains("lets no node write"), "{from}: {said}");
        }
        Ok(())
    }
}
