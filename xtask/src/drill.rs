//! `cargo xtask drill`: a disaster, and the way back, on meshes of this machine: a region and a facility are lost and put back
//! to backups, a region without one is filled again by its facility, a facility joins, is given its next certificate and is
//! revoked, a region in Terraform's mesh is killed and grows back. They are end-to-end tests, over the debug build; what they
//! say of times stands in one table at the end, as docs/operations.md has it.
use crate::{
    place::Places,
    run::{cargo, on_path, shown_to, step},
};
use anyhow::{Result, ensure};
use std::{
    io::{self, Write},
    thread,
};

/// What is carried out, by a part of the tests' names.
const DRILLS: [&str; 3] = [
    "restored::a_region_and_a_facility_put_back_to_a_copy",
    "restored::a_region_that_lost_every_file_but_its_key",
    "rollout::a_mesh_by_terraform_grows_heals",
];
/// How a row of the table begins (`medmesh_tests::steps`).
const ROW: &str = "| ";

/// Carries every drill out, one after the other.
pub fn drill() -> Result<bool> {
    ensure!(
        on_path("terraform").is_some(),
        "a part of the drill is a mesh by Terraform: install version 1.11 or newer (https://developer.hashicorp.com/terraform/install)"
    );
    let places = Places::find()?;
    // Everything, as the suite builds it: the tests start programs of other packages than their own.
    step(&mut cargo(
        &places,
        &["build", "--workspace", "--all-targets"],
    ))?;
    let mut arguments = vec!["test", "--workspace", "--test", "it", "--"];
    arguments.extend(DRILLS);
    arguments.extend(["--nocapture", "--test-threads=1"]);
    let mut command = cargo(&places, &arguments);
    command.env("MEDMESH_BIN", places.target.join("debug/medmesh"));
    let mut rows = Rows::over(io::stdout());
    let (passed, counts) = shown_to(&mut rows, &mut command)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!("\n| step (debug build, {cores} cores) | time |\n|---|---|");
    for row in &rows.found {
        println!("{row}");
    }
    // A drill of which nothing ran has shown nothing.
    Ok(passed && counts.passed == DRILLS.len() as u64 && !rows.found.is_empty())
}

/// A screen that keeps the rows of the table that come to it.
struct Rows<W> {
    screen: W,
    line: Vec<u8>,
    found: Vec<String>,
}

impl<W> Rows<W> {
    fn over(screen: W) -> Self {
        Self {
            screen,
            line: Vec::new(),
            found: Vec::new(),
        }
    }
}

impl<W: Write> Write for Rows<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.screen.write(bytes)?;
        for byte in bytes.iter().take(written) {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = String::from_utf8_lossy(&self.line).into_owned();
            if line.starts_with(ROW) {
                self.found.push(line);
            }
            self.line.clear();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::fs;

    #[test]
    fn the_rows_of_a_table_are_kept_and_everything_is_shown() -> Result<()> {
        let said = "test a ... \n| a region: a backup | 1.20s |\nok\n  | none |\n| b | 2";
        let mut rows = Rows::over(Vec::new());
        for part in said.as_bytes().chunks(7) {
            rows.write_all(part)?;
        }
        assert_eq!(rows.found, ["| a region: a backup | 1.20s |"]);
        assert_eq!(rows.screen, said.as_bytes());
        Ok(())
    }

    #[test]
    fn every_drill_is_a_test() -> Result<()> {
        let root = Places::find()?.root;
        for drill in DRILLS {
            let (file, name) = drill.split_once("::").context("a module")?;
            let file = root.join(format!("tests/tests/it/{file}.rs"));
            let text = fs::read_to_string(file)?;
            assert!(text.contains(&format!("fn {name}")), "{drill}");
        }
        Ok(())
    }
}
