//! `medmesh check-config FILE`: everything that is wrong with a configuration, without starting anything.
use super::{device::SimFile, node::read};
use crate::{
    cli::{CheckArgs, ConfigKind},
    failure::Failure,
    out,
};
use edge::config::EdgeConfig;
use global::config::GlobalConfig;
use regional::config::RegionalConfig;
use std::path::Path;
use toml::Table;

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let kind = args.kind.unwrap_or_else(|| detect(&args.file));
    match kind {
        ConfigKind::Edge => drop(read::<EdgeConfig>(&args.file)?),
        ConfigKind::Regional => drop(read::<RegionalConfig>(&args.file)?),
        ConfigKind::Global => drop(read::<GlobalConfig>(&args.file)?),
        ConfigKind::Device => drop(read::<SimFile>(&args.file)?),
    }
    let what = match kind {
        ConfigKind::Edge => "an edge node",
        ConfigKind::Regional => "a regional node",
        ConfigKind::Global => "the global node",
        ConfigKind::Device => "simulated devices",
    };
    let file = args.file.display();
    Ok(out::line(format!(
        "{file}: a good configuration of {what}"
    ))?)
}

/// What the keys of a file say it is. A file that cannot be read is of any kind: reading it again says why.
pub fn detect(path: &Path) -> ConfigKind {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let table: Table = text.parse().unwrap_or_default();
    let has = |key| table.contains_key(key);
    if has("sent") || has("source") {
        ConfigKind::Device
    } else if has("facility") || has("mqtt") || has("uplink") {
        ConfigKind::Edge
    } else if has("region") || has("jurisdiction") || has("uplink_url") {
        ConfigKind::Regional
    } else {
        ConfigKind::Global
    }
}
