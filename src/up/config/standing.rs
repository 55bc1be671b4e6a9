//! What a configuration file of an earlier run says and the next one keeps: what people of the place decided there. The
//! rest, such as ports and clocks, is of the run.
use super::super::files;
use anyhow::{Context, Result};
use edge::config::{BedAssignment, EdgeConfig};
use global::config::GlobalConfig;
use regional::config::RegionalConfig;
use serde::{Serialize, de::DeserializeOwned};
use std::{fs, io, path::Path};
use toml::{Table, Value};

/// The configuration of a node, of which some is its place's own to decide.
pub trait Standing: Serialize {
    /// Takes over what the file of an earlier run says of that. What a facility no longer allows stays out.
    ///
    /// # Errors
    /// Which key is none of this program's.
    fn take(&mut self, old: Table) -> Result<()>;
}

impl Standing for EdgeConfig {
    fn take(&mut self, mut old: Table) -> Result<()> {
        self.learning = said(&mut old, "learning")?;
        self.view = said(&mut old, "view")?;
        self.fhir = said(&mut old, "fhir")?.unwrap_or_default();
        self.deid_profile = said(&mut old, "deid_profile")?;
        self.leases = said(&mut old, "leases")?;
        self.policies = said(&mut old, "policies")?;
        Ok(())
    }
}

impl Standing for RegionalConfig {
    fn take(&mut self, mut old: Table) -> Result<()> {
        self.deid_profile = said(&mut old, "deid_profile")?;
        self.policies = said(&mut old, "policies")?;
        // Its readers for research stay in: a file that is older than the word would show them who opted out.
        if let Some(clients) = said(&mut old, "research_clients")? {
            self.research_clients = clients;
        }
        if let Some(events) = said(&mut old, "audit_events")? {
            self.audit_events = events;
        }
        Ok(())
    }
}

impl Standing for GlobalConfig {
    fn take(&mut self, mut old: Table) -> Result<()> {
        self.policies = said(&mut old, "policies")?;
        Ok(())
    }
}

/// What a file says of a key.
fn said<T: DeserializeOwned>(old: &mut Table, key: &'static str) -> Result<Option<T>> {
    let value = old.remove(key).map(|value| value.try_into());
    value.transpose().context(key)
}

/// The file of an earlier run; none when there was none.
fn read(file: &Path) -> Result<Option<Table>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    let table = text.parse::<Table>();
    let table = table.with_context(|| format!("{}: is not TOML any longer", file.display()))?;
    Ok(Some(table))
}

/// Writes the configuration file of a node, with what it says already of its place's own, in the order in which the documents
/// name its keys.
///
/// # Errors
/// It is there and cannot be read, or cannot be written.
pub fn write(file: &Path, mut config: impl Standing) -> Result<()> {
    if let Some(old) = read(file)? {
        let taken = config.take(old);
        taken.with_context(|| file.display().to_string())?;
    }
    files::replace_secret(file, toml::to_string(&config)?.as_bytes())
}

/// Who lies in the same bed as in an earlier run lies there since then: what staff entered meanwhile came later, and
/// holds.
///
/// # Errors
/// As [`write`].
pub fn since_before(file: &Path, beds: &mut [BedAssignment]) -> Result<()> {
    let old = read(file)?.unwrap_or_default();
    let old = old.get("beds").and_then(Value::as_array);
    let text = |entry: &Value, name: &str| entry.get(name)?.as_str().map(str::to_owned);
    for bed in beds {
        let stood = old.into_iter().flatten().find(|entry| {
            text(entry, "bed").as_deref() == Some(&bed.bed) && text(entry, "patient") == bed.patient
        });
        if let Some(from) = stood.and_then(|entry| text(entry, "from")) {
            bed.from = from;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::learning;
    use super::*;
    use edge::config::Approval;

    /// What a run would write for a facility that lets programs learn by themselves.
    fn of_the_run() -> EdgeConfig {
        let example = include_str!("../../../infra/config/edge.toml");
        let mut config: EdgeConfig = toml::from_str(example).unwrap();
        config.learning = Some(learning("study.pem".into()).unwrap());
        config
    }

    fn written(file: &Path) -> EdgeConfig {
        toml::from_str(&fs::read_to_string(file).unwrap()).unwrap()
    }

    #[test]
    fn what_people_of_a_place_decided_is_kept_and_the_rest_is_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        write(&file, of_the_run()).unwrap();
        let approval = |config: EdgeConfig| config.learning.map(|learning| learning.approval);
        assert_eq!(approval(written(&file)), Some(Approval::Automatic));
        let edited = fs::read_to_string(&file)
            .unwrap()
            .replace("approval = \"automatic\"", "approval = \"person\"")
            .replace("0.0.0.0:8883", "0.0.0.0:1");
        fs::write(&file, edited + "\n[view]\nacl = \"a.toml\"\n").unwrap();
        write(&file, of_the_run()).unwrap();
        let again = written(&file);
        assert_eq!(again.mqtt.listen, of_the_run().mqtt.listen);
        let acl = again.view.as_ref().map(|view| view.acl.as_path());
        assert_eq!(acl, Some(Path::new("a.toml")));
        assert_eq!(approval(again), Some(Approval::Person));
        fs::write(&file, "port = 1\n").unwrap();
        write(&file, of_the_run()).unwrap();
        assert_eq!(approval(written(&file)), None, "it is allowed no longer");
        for wrong in ["[[", "[learning]\napproval = \"nobody\"\n"] {
            fs::write(&file, wrong).unwrap();
            let error = write(&file, of_the_run()).unwrap_err();
            assert!(format!("{error:#}").contains("edge.toml: "), "{error:#}");
        }
    }

    #[test]
    fn a_file_has_its_keys_in_the_order_of_the_documents() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        write(&file, of_the_run()).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let keys = text.lines().map(|line| line.split(" = ").next());
        let first: Vec<_> = keys.flatten().take(3).collect();
        assert_eq!(first, ["jurisdiction", "region", "facility"]);
        let device = text.split("[[devices]]\n").nth(1).unwrap();
        assert!(device.starts_with("id = \"monitor-b1\"\nkind"), "{device}");
    }

    #[test]
    fn both_nodes_of_a_region_keep_who_reads_for_research() {
        let dir = tempfile::tempdir().unwrap();
        let example = include_str!("../../../infra/config/regional.toml");
        let mut config: RegionalConfig = toml::from_str(example).unwrap();
        config.research_clients = vec!["of-the-run".into()];
        for name in ["regional.toml", "regional-b.toml"] {
            let file = dir.path().join(name);
            for (old, expected) in [
                ("research_clients = [\"r\"]\n", "r"),
                // The file is older than the word.
                ("port = 1\n", "of-the-run"),
            ] {
                fs::write(&file, old).unwrap();
                write(&file, config.clone()).unwrap();
                let text = fs::read_to_string(&file).unwrap();
                let written: RegionalConfig = toml::from_str(&text).unwrap();
                assert_eq!(written.research_clients, [expected]);
            }
        }
    }

    #[test]
    fn who_lies_where_they_lay_lies_there_since_then() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        let of = |bed: &str, patient: &str, from: &str| BedAssignment {
            bed: bed.into(),
            patient: Some(patient.into()),
            from: from.into(),
            ..BedAssignment::default()
        };
        let (then, now) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        let old = format!(
            "[[beds]]\nbed = \"b1\"\npatient = \"p1\"\nfrom = \"{then}\"\n\
             [[beds]]\nbed = \"b2\"\npatient = \"p2\"\nfrom = \"{then}\"\n"
        );
        fs::write(&file, old).unwrap();
        let mut beds = [
            of("b1", "p1", now),
            of("b2", "p3", now),
            of("b3", "p1", now),
        ];
        since_before(&file, &mut beds).unwrap();
        let from: Vec<_> = beds.iter().map(|bed| bed.from.as_str()).collect();
        assert_eq!(from, [then, now, now]);
    }
}
