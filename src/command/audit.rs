//! `medmesh audit`: stub
use crate::{cli::AuditArgs, failure::Failure};

/// Runs the command.
pub fn run(_args: &AuditArgs) -> Result<(), Failure> {
    todo!()
}
