//! Arguments of `medmesh edge beds`.
use super::{PrintArgs, view::RunningArgs};
use clap::{Args, Subcommand};
use std::path::PathBuf;

pub(super) const BEDS_EXAMPLES: &str = "\
Examples:
  medmesh edge beds --config edge.toml        who lies where now, with the last values
  medmesh edge beds assign --config edge.toml --bed b1 --patient p-17
  echo '{\"name\": \"Jane Doe\", \"mrn\": \"1234\", \"birth_date\": \"1950-03-04\", \"gender\": \"female\", \"height_cm\": 168.5, \"weight_kg\": 61, \"care_unit\": \"MICU\"}' |
    medmesh edge beds assign --config edge.toml --bed b1 --patient p-17 --details -
  medmesh edge beds assign --config edge.toml --bed recovery-3 --new --patient p-19      no device stands there
  medmesh edge beds discharge --config edge.toml --bed b1 --at 2031-05-06T07:08:09Z
  medmesh edge beds list --config edge.toml --json

An entry that comes late corrects what was attributed meanwhile: the readings move to the right patient, here and in the
region, where those of the wrong one become `entered-in-error`. Readings that retention has deleted here stay as they are.";

/// Arguments of `edge beds`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BedsArgs {
    /// Who lies where now: what is shown when nothing is said.
    #[command(flatten)]
    pub now: Option<RunningArgs>,
    /// What to say, or what was said.
    #[command(subcommand)]
    pub command: Option<BedsCommand>,
}

/// Who lies in which bed.
#[derive(Debug, Subcommand)]
pub enum BedsCommand {
    /// A patient lies in a bed from an instant on, until the bed's next entry.
    Assign(AssignArgs),
    /// Nobody lies in a bed from an instant on.
    Discharge(DischargeArgs),
    /// Prints every entry, and whether readings are still being corrected.
    List(PrintArgs),
}

/// Arguments of an entry.
#[derive(Debug, Args)]
pub struct BedArgs {
    /// Configuration of the node, which must be running.
    #[arg(long)]
    pub config: PathBuf,
    /// The bed: one of which anything was entered, or at which a device stands or stood.
    #[arg(long)]
    pub bed: String,
    /// From when on (RFC 3339, mesh time); now when left out.
    #[arg(long)]
    pub at: Option<String>,
    /// Who says so; kept with the entry.
    #[arg(long, env = "USER", default_value = "operator")]
    pub by: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `edge beds assign`.
#[derive(Debug, Args)]
pub struct AssignArgs {
    /// The entry.
    #[command(flatten)]
    pub bed: BedArgs,
    /// The facility's own id of the patient.
    #[arg(long)]
    pub patient: String,
    /// The facility may not have the bed yet: no device has to stand where a patient lies.
    #[arg(long)]
    pub new: bool,
    /// JSON with what else the facility knows of the patient (name, mrn, birth_date, gender, height_cm, weight_kg, care_unit); `-` reads standard input.
    #[arg(long)]
    pub details: Option<PathBuf>,
}

/// Arguments of `edge beds discharge`.
#[derive(Debug, Args)]
pub struct DischargeArgs {
    /// The entry.
    #[command(flatten)]
    pub bed: BedArgs,
}
