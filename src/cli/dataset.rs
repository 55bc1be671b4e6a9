//! Arguments of `medmesh edge dataset`.
use super::PrintArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use types::Name;

pub(super) const DATASET_EXAMPLES: &str = "\
Examples:
  medmesh edge dataset import heart --csv heart.csv --schema heart.toml --config edge.toml
  medmesh edge dataset list --config edge.toml
  medmesh edge dataset describe heart --config edge.toml --json
  medmesh edge dataset remove heart --config edge.toml

A schema (TOML) says what the columns of the file are; nothing is guessed:

  key = \"record\"                  # identifies a record: compared, never stored; may be left out
  missing = [\"\", \"?\"]             # how a missing value is written
  ignore = [\"slope\", \"ca\"]        # columns of the file that are not taken over
  [[columns]]
  name = \"age\"
  unit = \"a\"                      # UCUM; \"1\" for what has none; a header may say it too: age [a]
  min = 0
  max = 120
  [[columns]]
  name = \"chol\"
  unit = \"mg/dL\"
  missing = true                  # records may lack it
  [[columns]]
  name = \"cp\"
  unit = \"1\"
  categories = [1, 2, 3, 4]       # no other values
  [[columns]]
  name = \"split\"
  unit = \"1\"
  codes = { train = 0, test = 1 } # words that stand for numbers

A file without a header line: names = [\"age\", \"sex\"] gives its columns in order. Records with the same values and no
key: equal_records = true. Everything that is wrong is said with file, line and column, and then nothing is imported.
Works beside the running node; each import, description and removal is in its audit log.";

/// Research tables of a facility.
#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Imports a table from a CSV file: all of it or nothing.
    Import(ImportArgs),
    /// Prints every table with its records and columns.
    List(PrintArgs),
    /// Prints what each column of a table holds.
    Describe(DatasetArgs),
    /// Removes a table for good.
    Remove(DatasetArgs),
}

/// Arguments of `edge dataset import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The table.
    #[command(flatten)]
    pub dataset: DatasetArgs,
    /// The file: UTF-8, cells separated by commas (RFC 4180).
    #[arg(long, value_name = "FILE")]
    pub csv: PathBuf,
    /// What its columns are (TOML).
    #[arg(long, value_name = "FILE")]
    pub schema: PathBuf,
}

/// Arguments of what is about one table.
#[derive(Debug, Args)]
pub struct DatasetArgs {
    /// The table's name.
    pub name: Name,
    /// Configuration of the node.
    #[arg(long)]
    pub config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
