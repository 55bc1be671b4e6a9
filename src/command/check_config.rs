//! `medmesh check-config FILE`: everything that is wrong with a configuration, without starting anything. What has ended
//! is said here alone: a node starts with it, since a facility must work with a wrong clock.
use super::{device::SimFile, node::read};
use crate::{
    cli::{CheckArgs, ConfigKind},
    failure::Failure,
    out,
};
use edge::config::EdgeConfig;
use federation::tls::lapsed;
use global::config::GlobalConfig;
use node::{clock::Clock, config::ConfigError};
use regional::config::RegionalConfig;
use std::path::Path;
use toml::Table;

/// Runs the command.
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let file = &args.file;
    let kind = args.kind.unwrap_or_else(|| detect(file));
    let (what, tls) = match kind {
        ConfigKind::Edge => ("an edge node", Some(read::<EdgeConfig>(file)?.tls)),
        ConfigKind::Regional => ("a regional node", Some(read::<RegionalConfig>(file)?.tls)),
        ConfigKind::Global => ("the global node", Some(read::<GlobalConfig>(file)?.tls)),
        ConfigKind::Device => {
            read::<SimFile>(file)?;
            ("simulated devices", None)
        }
    };
    let now = Clock::new(None).real();
    let problems = tls.map(|tls| lapsed(&tls, now)).unwrap_or_default();
    if !problems.is_empty() {
        let path = file.clone();
        return Err(ConfigError { path, problems }.into());
    }
    let file = file.display();
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
