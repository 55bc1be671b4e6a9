//! The user that this process is.
use anyhow::{Context, Result};
use std::process::Command;

/// Whether this process may install packages and start a server as another user.
pub fn is_root() -> bool {
    number(&["-u"]).is_ok_and(|user| user == 0)
}

/// What `id` says of a user.
pub fn number(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id")
        .args(arguments)
        .output()
        .context("start id")?;
    String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .with_context(|| format!("id {}", arguments.join(" ")))
}
