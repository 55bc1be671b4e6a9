//! When a process stops: a signal, or the end of the parent that it belongs to.
//!
//! The first signal is a soft stop: the step in hand is finished. A second one, or the end of the grace period, is a
//! hard stop, which is safe at any instant: what was acknowledged is durable.
use std::{io, os::unix::process::parent_id, time::Duration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a soft stop may take.
pub const GRACE: Duration = Duration::from_secs(5);
/// Exit code of a hard stop.
pub const EXIT_HARD: i32 = 1;

/// Names the process that this one belongs to; it stops when that one is gone.
pub const PARENT_VARIABLE: &str = "MEDMESH_PARENT";
/// How soon a child notices that its parent is gone.
const PARENT_POLL: Duration = Duration::from_millis(500);

/// A token that is cancelled by SIGTERM, SIGINT or the end of the parent (see [`PARENT_VARIABLE`]).
/// After that a second signal, or [`GRACE`] and two seconds, ends the process at once.
///
/// # Errors
/// When signal handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = any(&mut signals) => tracing::info!("stopping on a signal"),
            () = parent_gone() => tracing::info!("stopping: the parent process is gone"),
        }
        cancel.cancel();
        tokio::select! {
            () = any(&mut signals) => tracing::warn!("stopping hard on a second signal"),
            () = tokio::time::sleep(GRACE + Duration::from_secs(2)) => {
                tracing::warn!("stopping hard: the grace period is over");
            }
        }
        std::process::exit(EXIT_HARD);
    });
    Ok(stop)
}

async fn any(signals: &mut [Signal; 2]) {
    let [terminate, interrupt] = signals;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Resolves when the process named by the environment is no longer the parent of this one; never without a name.
async fn parent_gone() {
    let parent = std::env::var(PARENT_VARIABLE)
        .ok()
        .and_then(|pid| pid.parse::<u32>().ok());
    let Some(parent) = parent else {
        return std::future::pending().await;
    };
    while parent_id() == parent {
        tokio::time::sleep(PARENT_POLL).await;
    }
}
