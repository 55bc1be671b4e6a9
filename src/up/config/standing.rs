//! What a configuration file of an earlier run says and the next one keeps: what people of the place decided there. The
//! rest, such as ports and clocks, is of the run.
use super::super::files;
use anyhow::{Context, Result};
use edge::config::BedAssignment;
use serde::Serialize;
use std::{fs, io, path::Path};
use toml::Table;
use types::Place;

/// What is a place's own to decide, by its tier.
const fn own(place: &Place) -> &'static [&'static str] {
    match place {
        Place::Edge { .. } => &[
            "learning",
            "view",
            "fhir",
            "deid_profile",
            "leases",
            "policies",
        ],
        Place::Regional { .. } => &[
            "deid_profile",
            "policies",
            "research_clients",
            "audit_events",
        ],
        Place::Global => &["policies"],
    }
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

/// Writes the configuration file of a node of a place, with what it says already of its own.
///
/// # Errors
/// It is there and cannot be read, or cannot be written.
pub fn write(file: &Path, place: &Place, config: &impl Serialize) -> Result<()> {
    let mut table = Table::try_from(config)?;
    keep(file, place, &mut table)?;
    files::replace_secret(file, toml::to_string(&table)?.as_bytes())
}

/// Puts what the file of a place says of its own into what is to be written there.
///
/// # Errors
/// It is there and cannot be read.
fn keep(file: &Path, place: &Place, new: &mut Table) -> Result<()> {
    let Some(mut old) = read(file)? else {
        return Ok(());
    };
    for name in own(place) {
        match old.remove(*name) {
            Some(said) => new.insert((*name).to_owned(), said),
            // What a facility no longer allows stays out. A region's readers for research stay in: a file that is older than
            // the word would show them who opted out.
            None if matches!(place, Place::Edge { .. }) => new.remove(*name),
            None => None,
        };
    }
    Ok(())
}

/// Who lies in the same bed as in an earlier run lies there since then: what staff entered meanwhile came later, and
/// holds.
///
/// # Errors
/// As [`write`].
pub fn since_before(file: &Path, beds: &mut [BedAssignment]) -> Result<()> {
    let old = read(file)?.unwrap_or_default();
    let old = old.get("beds").and_then(toml::Value::as_array);
    let text = |entry: &toml::Value, name: &str| entry.get(name)?.as_str().map(str::to_owned);
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
    use super::*;

    fn edge() -> Place {
        "edge/us/us/us-f1".parse().unwrap()
    }

    #[test]
    fn what_people_of_a_place_decided_is_kept_and_the_rest_is_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("edge.toml");
        let of_the_run = || -> Table {
            "port = 2\n[learning]\napproval = \"automatic\"\n[fhir]\nmax_size = 1\n"
                .parse()
                .unwrap()
        };
        let mut new = of_the_run();
        keep(&file, &edge(), &mut new).unwrap();
        assert_eq!(new, of_the_run(), "there was no earlier one");
        fs::write(
            &file,
            "port = 1\n[learning]\napproval = \"person\"\n[view]\nacl = \"a.toml\"\n",
        )
        .unwrap();
        keep(&file, &edge(), &mut new).unwrap();
        let expected = "port = 2\n[learning]\napproval = \"person\"\n[view]\nacl = \"a.toml\"\n";
        assert_eq!(new, expected.parse::<Table>().unwrap());
        let region = "regional/us/us".parse().unwrap();
        let mut new: Table = "research_clients = [\"r\"]\n".parse().unwrap();
        keep(&file, &region, &mut new).unwrap();
        assert!(new.contains_key("research_clients"), "the file is older");
        fs::write(&file, "[[").unwrap();
        keep(&file, &edge(), &mut new).unwrap_err();
    }

    #[test]
    fn both_nodes_of_a_region_keep_who_reads_for_research() {
        let dir = tempfile::tempdir().unwrap();
        let place = "regional/us/us".parse().unwrap();
        let new: Table = "port = 2\nresearch_clients = []\n".parse().unwrap();
        for name in ["regional.toml", "regional-b.toml"] {
            let file = dir.path().join(name);
            fs::write(&file, "port = 1\nresearch_clients = [\"r\"]\n").unwrap();
            write(&file, &place, &new).unwrap();
            let expected = "port = 2\nresearch_clients = [\"r\"]\n".parse::<Table>();
            assert_eq!(read(&file).unwrap(), Some(expected.unwrap()));
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
