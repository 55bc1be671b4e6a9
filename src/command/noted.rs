//! Who runs a command, and that they are about to be shown something of a facility.
use anyhow::{Context, Result};
use edge::{config::EdgeConfig, crosswalk::Read};
use node::clock::Clock;
use std::os::unix::fs::MetadataExt;

/// Nothing is shown before it is written down who sees it.
pub(super) fn note(config: &EdgeConfig, read: Read) -> Result<()> {
    edge::crosswalk::note_read(config, read, &who(), Clock::new(None).real())
        .context("the audit log does not take an entry, so nothing is shown")
}

/// Who runs the command, as the audit log has it.
pub(super) fn who() -> String {
    let uid = std::fs::metadata("/proc/self").map(|process| process.uid());
    uid.map_or("uid:unknown".to_owned(), |uid| format!("uid:{uid}"))
}
