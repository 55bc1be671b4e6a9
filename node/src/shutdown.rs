//! When a process stops: a signal, or the end of the parent that it belongs to. SIGUSR2 is a soft stop after which it
//! goes on as another program ([`crate::renewal`]).
//!
//! The first signal is a soft stop: the step in hand is finished. A second one, or the end of the grace period, is a
//! hard stop, which is safe at any instant: what was acknowledged is durable.
use crate::{listeners, renewal};
use std::{
    io::{self, Read},
    time::Duration,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long a soft stop may take.
pub const GRACE: Duration = Duration::from_secs(5);
/// Exit code of a hard stop.
pub const EXIT_HARD: i32 = 1;

/// When it is set, a parent process holds the other end of this one's standard input; the end of the parent, or its
/// closing of that pipe, is a soft stop.
pub const PARENT_VARIABLE: &str = "MEDMESH_PARENT";
/// From the soft to the hard stop: tasks are dropped after [`GRACE`], files are closed in the rest.
const HARD_AFTER: Duration = GRACE.saturating_add(Duration::from_secs(2));

/// A token that is cancelled by SIGTERM, SIGINT, SIGUSR2 or the end of the parent (see [`PARENT_VARIABLE`]).
/// After that a second signal, or [`GRACE`] and two seconds, ends the process at once.
///
/// # Errors
/// When signal handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut signals = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    ];
    let mut renew = signal(SignalKind::user_defined2())?;
    listeners::keep();
    let stop = CancellationToken::new();
    if std::env::var_os(PARENT_VARIABLE).is_some() {
        with_parent(stop.clone())?;
    }
    let cancel = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = any(&mut signals) => tracing::info!("stopping on a signal"),
            _ = renew.recv() => {
                renewal::ask();
                tracing::info!("stopping, to go on as the program that lies in this one's place");
            }
            () = cancel.cancelled() => {}
        }
        if !renewal::is_asked() {
            listeners::release();
        }
        cancel.cancel();
        tokio::select! {
            () = any(&mut signals) => tracing::warn!("stopping hard on a second signal"),
            () = tokio::time::sleep(HARD_AFTER) => {
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

/// Cancels `stop` at the end of standard input. A thread of its own: a task that reads it would hold up the runtime.
fn with_parent(stop: CancellationToken) -> io::Result<()> {
    let watch = move || {
        let mut sink = [0; 64];
        while matches!(io::stdin().read(&mut sink), Ok(read) if read > 0) {}
        tracing::info!("stopping: the parent process wants it or is gone");
        stop.cancel();
    };
    std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(watch)
        .map(drop)
}
