//! Listening sockets that outlive the program that opened them.
//!
//! A node that is renewed ([`crate::renewal`]) goes on as another program in the same process. Its sockets stay open
//! meanwhile, so that a client that connects waits until the new program accepts it, and is not refused. Nothing is kept
//! in a process that never asked for it ([`keep`]): there, a listener ends with its server.
use parking_lot::Mutex;
use rustix::io::{FdFlags, fcntl_setfd};
use std::{
    env, io,
    net::{SocketAddr, TcpListener as Socket},
    os::fd::{AsFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::LazyLock,
};
use tokio::net::TcpListener;

/// Names the process and the descriptors that were left to it: `PID:17,23`. A child has another id, and takes none.
pub(crate) const VARIABLE: &str = "MEDMESH_LISTENERS";
/// Whether this program follows another in its process.
pub(crate) fn follows() -> bool {
    let text = env::var(VARIABLE).unwrap_or_default();
    text.split_once(':')
        .is_some_and(|(to, _)| to.parse() == Ok(std::process::id()))
}

/// Descriptors of standard streams are never listeners.
const FIRST: RawFd = 3;

/// What the program before this one left, until it is taken by address.
static LEFT: LazyLock<Mutex<Vec<Socket>>> = LazyLock::new(|| Mutex::new(left()));
/// Second descriptors of what this program listens on; none while nothing is to be kept.
static HELD: Mutex<Option<Vec<OwnedFd>>> = Mutex::new(None);

/// From now on listeners stay open until [`release`] or the end of the process.
pub fn keep() {
    HELD.lock().get_or_insert_default();
}

/// Listeners end with their servers: nobody will accept what comes.
pub fn release() {
    *HELD.lock() = None;
}

/// Listens on an address, with the socket that was left for it if there is one.
///
/// # Errors
/// The address is taken, or not this machine's.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = match take(address) {
        Some(socket) => {
            socket.set_nonblocking(true)?;
            TcpListener::from_std(socket)?
        }
        None => TcpListener::bind(address).await?,
    };
    if let Some(held) = HELD.lock().as_mut() {
        held.push(listener.as_fd().try_clone_to_owned()?);
    }
    Ok(listener)
}

/// Closes what was left and not taken: the configuration names these addresses no more.
pub fn close_untaken() {
    LEFT.lock().clear();
}

/// Leaves what is held to the program that follows in this process: the value of [`VARIABLE`].
pub(crate) fn leave(pid: u32) -> io::Result<String> {
    let held = HELD.lock().take().unwrap_or_default();
    let mut numbers = Vec::with_capacity(held.len());
    for listener in held {
        fcntl_setfd(&listener, FdFlags::empty())?;
        numbers.push(listener.into_raw_fd().to_string());
    }
    Ok(format!("{pid}:{}", numbers.join(",")))
}

fn take(address: SocketAddr) -> Option<Socket> {
    let mut left = LEFT.lock();
    let at = left
        .iter()
        .position(|socket| socket.local_addr().is_ok_and(|bound| bound == address))?;
    Some(left.swap_remove(at))
}

fn left() -> Vec<Socket> {
    let text = env::var(VARIABLE).unwrap_or_default();
    let numbers = numbers(&text, std::process::id());
    numbers.into_iter().filter_map(adopt).collect()
}

/// The descriptors of a value of [`VARIABLE`]; none when it is another process's, or is not understood.
fn numbers(text: &str, pid: u32) -> Vec<RawFd> {
    let Some((to, numbers)) = text.split_once(':') else {
        return Vec::new();
    };
    if to.parse() != Ok(pid) {
        return Vec::new();
    }
    let mut numbers: Vec<RawFd> = numbers
        .split(',')
        .filter_map(|number| number.parse().ok())
        .filter(|number| *number >= FIRST)
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[expect(unsafe_code, reason = "a descriptor comes from the program before")]
fn adopt(number: RawFd) -> Option<Socket> {
    // SAFETY: the variable names this process, which nobody knows before it runs: the program that was in it left this
    // descriptor open for this one alone. Each number is adopted once, before anything else could own it.
    let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(number) });
    fcntl_setfd(&socket, FdFlags::CLOEXEC).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_taken_by_the_process_that_they_were_left_to_alone() {
        assert_eq!(numbers("7:17,23", 7), [17, 23]);
        assert_eq!(numbers("7:23,17,23", 7), [17, 23]);
        for text in ["8:17,23", "", "17", ":17", "7:", "7:0,1,2,-1,x", "x:17"] {
            assert!(numbers(text, 7).is_empty(), "{text}");
        }
    }

    #[tokio::test]
    async fn a_listener_ends_with_its_server_where_nothing_is_to_be_kept() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(bind(address).await.is_ok());
    }
}
