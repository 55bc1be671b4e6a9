//! The clock of a client outside the mesh: its own, which is the machine's, or the one that the run was given.
use std::time::{SystemTime, UNIX_EPOCH};
use types::Timestamp;

/// Real time, ms since 1970.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "a client outside the mesh has its own clock"
)]
pub fn real_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let ms = since.map_or(0, |since| since.as_millis());
    Timestamp(i64::try_from(ms).unwrap_or(i64::MAX))
}
