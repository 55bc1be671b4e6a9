//! A thread with a runtime of its own: nothing that a client breaks off ends what is done there for others.
use crate::store::{Kind, StoreError};
use std::io;

/// Starts a thread of this name, which works until what `work` makes is done. What `work` has taken is dropped with the
/// thread, also when that panics.
///
/// # Errors
/// [`Kind::Unavailable`]: the system gives no thread, or not what a runtime needs.
pub fn start<F: Future<Output = ()> + 'static>(
    name: &'static str,
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<(), StoreError> {
    let unstarted = |error: io::Error| StoreError {
        kind: Kind::Unavailable,
        op: "open",
        source: Some(Box::new(error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(unstarted)?;
    let run = move || {
        if !storage::thread::is_to_end(name) {
            runtime.block_on(work());
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(run).map_err(unstarted)?;
    Ok(())
}
