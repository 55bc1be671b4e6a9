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
                eprintln!("medmesh: {}", out::printable(&format!("{error:#}")));
                ExitCode::FAILURE
            }
        }
    }
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
