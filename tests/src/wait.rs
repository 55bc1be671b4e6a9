//! Waiting for a condition with a deadline: never a fixed sleep.
use std::{
    future::Future,
    time::{Duration, Instant},
};

/// The longest wait for anything: far beyond what a slow and loaded machine needs, so that only what never happens
/// runs into it. No test needs a speed.
pub const PATIENCE: Duration = Duration::from_secs(900);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits until `look` gives a value.
///
/// # Errors
/// Says `what` did not happen within `limit`.
pub async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            anyhow::bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
