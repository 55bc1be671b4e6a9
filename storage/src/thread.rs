//! The thread of a store: it is waited for at the end, and a test may end it.
use std::{io, thread};

/// Names a thread that is to end at once, so that a test of processes sees what becomes of its node.
const VARIABLE: &str = "MEDMESH_TEST_END_THREAD";

/// Whether a test wants the thread of this name to end. Never in a release build.
#[must_use]
pub fn is_to_end(name: &str) -> bool {
    cfg!(debug_assertions) && std::env::var_os(VARIABLE).is_some_and(|asked| asked == name)
}

/// A thread that whoever drops this waits for. A process that ends while one closes a SQLite file takes away from under it
/// what the libraries set up at their start.
///
/// Its queue is to end before: declare the sender before this.
#[derive(Debug)]
pub struct Joined(Option<thread::JoinHandle<()>>);

impl Joined {
    /// Starts a thread of this name.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // One that panicked has said so.
            let _ended = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    #[test]
    fn who_drops_a_thread_waits_until_it_has_ended() {
        let (jobs, queue) = mpsc::channel::<()>();
        let done = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&done);
        let thread = Joined::spawn("test", move || {
            while queue.recv().is_ok() {}
            thread::sleep(std::time::Duration::from_millis(50));
            seen.store(true, Ordering::SeqCst);
        });
        let store = (jobs, thread.unwrap());
        drop(store);
        assert!(done.load(Ordering::SeqCst));
    }
}
