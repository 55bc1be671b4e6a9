//! What an error of the engine means to who asked, without its text, which may quote values.
use super::connect::NOT_DURABLE;
use crate::store::{Kind, StoreError};
use deadpool_postgres::{HookError, PoolError};
use std::time::Duration;
use tokio_postgres::{Error, error::SqlState};

/// Why a connection could not be had. The pool's error quotes the server; what matters is whether it may be used.
pub(super) fn not_had(op: &'static str, error: &PoolError) -> StoreError {
    match error {
        PoolError::PostCreateHook(HookError::Message(_)) => {
            StoreError::new(Kind::Refused, NOT_DURABLE)
        }
        _ => StoreError::new(Kind::Unavailable, op),
    }
}

/// Whether the server ended a connection, or none was there any more (SQLSTATE class 57P: shut down, crashed).
pub(super) fn broke(error: &Error) -> bool {
    match error.code() {
        None => true,
        Some(state) => state.code().starts_with("57P"),
    }
}

/// A connection that the server ended is known as such to the pool within this, so that it is not handed out again.
const SETTLED: Duration = Duration::from_millis(50);

/// Waits until a connection that [`broke`] is out of the pool.
pub(super) async fn settled() {
    tokio::time::sleep(SETTLED).await;
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
