//! Arguments of `medmesh audit`.
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What to do with an audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Checks every entry against the signed head, and the log against every head of it that others hold; exit code 1
    /// when something was changed, cut or put back, or when there is no head.
    #[command(after_help = AUDIT_VERIFY_EXAMPLES)]
    Verify(AuditVerifyArgs),
    /// Prints the entries.
    #[command(after_help = AUDIT_LIST_EXAMPLES)]
    List(AuditListArgs),
    /// Writes the log as files of C2SP tlog-tiles, for a program of another maker to check.
    #[command(after_help = AUDIT_EXPORT_EXAMPLES)]
    Export(AuditExportArgs),
    /// Prints the signed head (a C2SP checkpoint).
    Checkpoint(AuditNodeArgs),
    /// Prints the signed heads of other nodes' logs that this node holds, for `audit verify --head` at those.
    Heads(AuditNodeArgs),
    /// Prints what is missing after a restore and nobody has acknowledged.
    Gaps(AuditNodeArgs),
    /// Says that a person has seen what is missing after a restore: an entry in the log; the node is no longer degraded
    /// by it. Heads that the log does not hold any more are set aside.
    Acknowledge(AuditNodeArgs),
}

const AUDIT_VERIFY_EXAMPLES: &str = "\
Examples:
  medmesh audit verify --config edge.toml
  medmesh audit heads --config regional.toml > heads.txt; medmesh audit verify --config edge.toml --head heads.txt
  medmesh audit verify --config edge.toml --config regional.toml --config global.toml   each against what the others hold";

const AUDIT_EXPORT_EXAMPLES: &str = "\
Example:
  medmesh audit export --config regional.toml --to log

The folder gets `checkpoint` (the signed head), `key` (a verifier key of c2sp.org/signed-note) and `tile/entries/…`.";

/// Arguments of `audit export`.
#[derive(Debug, Args)]
pub struct AuditExportArgs {
    /// Which node's log.
    #[command(flatten)]
    pub node: AuditNodeArgs,
    /// The folder, which must not be there yet.
    #[arg(long)]
    pub to: PathBuf,
}

const AUDIT_LIST_EXAMPLES: &str = "\
Examples:
  medmesh audit list --config regional.toml
  medmesh audit list --config regional.toml --about Patient/0b6f…   who read of this patient alone, by pseudonym

Whoever searches without naming a patient is given data of many: such reads are of no one alone.";

/// Arguments of `audit list`.
#[derive(Debug, Args)]
pub struct AuditListArgs {
    /// Which node's log.
    #[command(flatten)]
    pub node: AuditNodeArgs,
    /// Only reads of this one, as `Patient/ID`.
    #[arg(long, value_parser = reference)]
    pub about: Option<String>,
}

/// A resource as reads are noted of it. Of what is none nothing is noted, and a list of nothing would say that nobody read.
fn reference(text: &str) -> Result<String, String> {
    /// FHIR R4 `id`, in bytes.
    const MAX_ID: usize = 64;
    let is_type = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.bytes().all(|byte| byte.is_ascii_alphabetic())
    };
    let is_id = |id: &str| {
        let of_an_id = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        (1..=MAX_ID).contains(&id.len()) && id.bytes().all(of_an_id)
    };
    match text.split_once('/') {
        Some((name, id)) if is_type(name) && is_id(id) => Ok(text.to_owned()),
        _ => Err("written TYPE/ID, as a read names it: Patient/0b6f…".into()),
    }
}

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub struct AuditVerifyArgs {
    /// Configuration of the node; of several, each is also checked against the heads that the others hold of it.
    #[arg(long, required = true)]
    pub config: Vec<PathBuf>,
    /// A signed checkpoint from outside, or the output of `audit heads` of another node.
    #[arg(long)]
    pub head: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Which node's audit log.
#[derive(Debug, Args)]
pub struct AuditNodeArgs {
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_read_is_about_is_a_type_and_an_id() {
        for good in ["Patient/0b6f-1.A", "Observation/7"] {
            assert_eq!(reference(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "0b6f",
            "Patient",
            "Patient/",
            "patient/7",
            "Patient/7/_history/1",
            "Patient/ü",
        ] {
            assert!(reference(bad).is_err(), "{bad}");
        }
    }
}
