//! A node that goes on as another version of its program: SIGUSR2 is a soft stop, after which the process becomes the
//! program that lies at the path by which it was started. Its id, its listening sockets ([`crate::listeners`]) and the
//! tokens that it gave stay; whoever connects meanwhile waits.
//!
//! What is not kept: connections (who keeps one is told with the next answer to make another), and requests that take
//! longer than a soft stop waits for them.
use crate::listeners;
use std::{
    env, io,
    os::unix::process::CommandExt,
    process::{self, Command},
    sync::atomic::{AtomicBool, Ordering},
};

/// How often this process was renewed; an observer sees by it, in `/proc/PID/environ`, that it was.
pub const COUNT_VARIABLE: &str = "MEDMESH_RENEWALS";

static ASKED: AtomicBool = AtomicBool::new(false);

/// The stop that follows is one after which the process goes on.
pub(crate) fn ask() {
    ASKED.store(true, Ordering::Release);
}

/// Whether the process is to go on after its stop.
#[must_use]
pub fn is_asked() -> bool {
    ASKED.load(Ordering::Acquire)
}

/// Becomes the program that lies where this one was started from, with the same arguments. Returns only when that
/// cannot be done.
#[must_use]
pub fn exec() -> io::Error {
    let mut arguments = env::args_os();
    let Some(program) = arguments.next() else {
        return io::Error::other("the path of this program is not known");
    };
    let left = match listeners::leave(process::id()) {
        Ok(left) => left,
        Err(error) => return error,
    };
    let count = env::var(COUNT_VARIABLE).ok();
    let count: u64 = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    Command::new(program)
        .args(arguments)
        .env(listeners::VARIABLE, left)
        .env(COUNT_VARIABLE, count.saturating_add(1).to_string())
        .exec()
}
