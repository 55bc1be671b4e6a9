//! What an error of the engine means to who asked, without its text, which may quote values.
use super::connect::NOT_DURABLE;
use crate::store::{Kind, StoreError};
use deadpool_postgres::{HookError, PoolError};
use tokio_postgres::{Error, error::SqlState};

/// Why a connection could not be had. The pool's error quotes the server; what matters is whether it may be used.
fn not_had(op: &'static str, error: &PoolError) -> StoreError {
    match error {
        PoolError::PostCreateHook(HookError::Message(why)) if why == NOT_DURABLE => {
            StoreError::new(Kind::Refused, NOT_DURABLE)
        }
        _ => StoreError::new(Kind::Unavailable, op),
    }
}

/// Whether the server ended a connection, or none was there any more (SQLSTATE class 57P: shut down, crashed).
fn broke(error: &Error) -> bool {
    match error.code() {
        None => true,
        Some(state) => state.code().starts_with("57P"),
    }
}

/// Why something is not done, or may not be.
pub(super) enum Trouble {
    /// There is no connection: nothing was begun.
    Connection(PoolError),
    /// What was asked for failed, before a commit of it was asked for.
    Engine(Error),
    /// The commit failed, or was not answered: then it may be there.
    Commit(Error),
    /// The store is older than it was, and nobody has looked since.
    PutBack,
}

impl Trouble {
    pub(super) fn told(&self, op: &'static str) -> StoreError {
        match self {
            Self::Connection(error) => not_had(op, error),
            Self::Engine(error) | Self::Commit(error) => failed(op, error),
            Self::PutBack => StoreError::new(Kind::Unavailable, "transact: the store was put back"),
        }
    }

    /// Whether the engine was not there, so that nothing of a transaction is.
    pub(super) fn is_away(&self) -> bool {
        match self {
            Self::Connection(error) => not_had("connect", error).kind == Kind::Unavailable,
            Self::Engine(error) => broke(error),
            Self::Commit(_) | Self::PutBack => false,
        }
    }

    /// Whether a connection is of no use any more.
    pub(super) fn has_broken(&self) -> bool {
        match self {
            Self::Engine(error) | Self::Commit(error) => broke(error),
            Self::Connection(_) | Self::PutBack => false,
        }
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The SQLSTATE of an error, without its text, which may quote values.
#[derive(Debug, thiserror::Error)]
#[error("SQLSTATE {0}")]
struct State(String);

/// What the caller can do about an error of the engine (SQLSTATE classes, PostgreSQL appendix A).
pub(super) fn failed(op: &'static str, error: &Error) -> StoreError {
    let Some(state) = error.code() else {
        // No answer of the server: the connection broke.
        return StoreError::new(Kind::Unavailable, op);
    };
    let kind = match state.code().get(..2) {
        Some("08" | "40" | "53" | "55" | "57" | "58" | "25") => Kind::Unavailable,
        Some("XX") if *state != SqlState::INTERNAL_ERROR => Kind::Corrupt,
        _ => Kind::Internal,
    };
    StoreError {
        kind,
        op,
        source: Some(Box::new(State(state.code().to_owned()))),
    }
}
