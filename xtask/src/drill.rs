//! `cargo xtask drill`: a disaster, and the way back, on meshes of this machine: a region and a facility are lost and put back
//! to backups, a region without one is filled again by its facility, a facility joins, is given its next certificate and is revoked, a region in Terraform's mesh is killed and
//! grows back. They are end-to-end tests, whose times are shown.
use crate::{
    place::Places,
    run::{cargo, shown},
};
use anyhow::Result;

/// What is carried out, by a part of the tests' names.
const DRILLS: [&str; 3] = [
    "restored::a_region_and_a_facility_put_back_to_a_copy",
    "restored::a_region_that_lost_every_file_but_its_key",
    "rollout::a_mesh_by_terraform_grows_heals",
];

/// Carries every drill out, one after the other.
pub fn drill() -> Result<bool> {
    let places = Places::find()?;
    let mut arguments = vec!["test", "--workspace", "--test", "it", "--"];
    arguments.extend(DRILLS);
    arguments.extend(["--nocapture", "--test-threads=1"]);
    let mut command = cargo(&places, &arguments);
    let (passed, counts) = shown(&mut command)?;
    // A drill of which nothing ran has shown nothing.
    Ok(passed && counts.passed == DRILLS.len() as u64)
}
