//! Why a command did not do what was asked, and the exit code that says so.
use crate::out;
use node::config::{self, ConfigError};
use std::process::ExitCode;

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong; nothing was started.
    Config(ConfigError),
    /// What was found is said already; this is the exit code that says it too.
    Said(u8),
    /// Anything else.
    Failed(anyhow::Error),
}

impl Failure {
    /// Says it on standard error and gives the exit code.
    pub fn report(self) -> ExitCode {
        match self {
            Self::Config(error) => {
                eprintln!("medmesh: {}", out::printable(&error.to_string()));
                ExitCode::from(config::EXIT_CODE)
            }
            Self::Said(code) => ExitCode::from(code),
            Self::Failed(error) if out::is_closed_pipe(&error) => ExitCode::SUCCESS,
            Self::Failed(error) => {
                eprintln!("medmesh: {}", out::printable(&said(&error)));
                ExitCode::FAILURE
            }
        }
    }
}

/// An error and its causes, each once: many of ours end with what caused them.
fn said(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if said.is_empty() {
            said = cause;
        } else if !said.ends_with(&cause) {
            said = format!("{said}: {cause}");
        }
    }
    said
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::task::TaskError;
    use std::io;

    #[test]
    fn a_cause_is_said_once() {
        let lease = TaskError::Failed {
            name: "lease",
            source: io::Error::other("another node has taken it").into(),
        };
        let lease = anyhow::Error::new(lease);
        assert_eq!(said(&lease), "lease failed: another node has taken it");
        let read = anyhow::Error::new(io::Error::other("no such file")).context("read a.toml");
        assert_eq!(
            said(&read.context("start")),
            "start: read a.toml: no such file"
        );
    }
}
