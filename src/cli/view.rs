//! Arguments of what a facility's own side sees of it: `medmesh edge beds|series|alarms|watch`.
use clap::{ArgGroup, Args};
use std::path::PathBuf;

pub(super) const SERIES_EXAMPLES: &str = "\
Examples:
  medmesh edge series --config edge.toml --bed b1
  medmesh edge series --config edge.toml --patient p-17 --code 8867-4 --from 2031-05-06T07:00:00Z --json
  medmesh edge series --config edge.toml --device monitor-1 --until 2031-05-06T07:00:00Z

Without --from the last day is shown. Times are when it was measured, by the mesh clock.";

pub(super) const WATCH_EXAMPLES: &str = "\
Examples:
  medmesh edge watch --config edge.toml
  medmesh edge watch --config edge.toml --alarms
  medmesh edge watch --config edge.toml --device monitor-1 --json

Each sample is shown when it is stored. Who falls behind is told how many were missed; `medmesh edge series` has them.";

/// How to print, and of which node.
#[derive(Clone, Debug, Args)]
pub struct RunningArgs {
    /// Configuration of the node, which must be running.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `edge series`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true).args(["bed", "patient", "device"]))]
pub struct SeriesArgs {
    /// The node.
    #[command(flatten)]
    pub node: RunningArgs,
    /// What was measured at this bed.
    #[arg(long)]
    pub bed: Option<String>,
    /// What was measured of this patient; the facility's own id.
    #[arg(long)]
    pub patient: Option<String>,
    /// What this device measured.
    #[arg(long)]
    pub device: Option<String>,
    /// One signal alone, as its code (LOINC).
    #[arg(long)]
    pub code: Option<String>,
    /// When.
    #[command(flatten)]
    pub span: SpanArgs,
}

/// Arguments of `edge alarms`.
#[derive(Debug, Args)]
pub struct AlarmsArgs {
    /// The node.
    #[command(flatten)]
    pub node: RunningArgs,
    /// When.
    #[command(flatten)]
    pub span: SpanArgs,
}

/// A range of time.
#[derive(Debug, Args)]
pub struct SpanArgs {
    /// From when on (RFC 3339, mesh time); a day before the end when left out.
    #[arg(long)]
    pub from: Option<String>,
    /// Up to when, excluded; now when left out.
    #[arg(long)]
    pub until: Option<String>,
}

/// Arguments of `edge watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The node.
    #[command(flatten)]
    pub node: RunningArgs,
    /// One device alone.
    #[arg(long)]
    pub device: Option<String>,
    /// Alarms alone.
    #[arg(long)]
    pub alarms: bool,
}
