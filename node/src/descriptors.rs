//! File descriptors: each connection takes one, and so does each file of a store, so a node asks for all it may have.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than every listener and every store together can use.
const ENOUGH: u64 = 1 << 20;

/// Raises the process's soft limit of descriptors (getrlimit(2), `RLIMIT_NOFILE`) to its hard limit, and gives what it
/// is then. Many systems start a process with 1,024, of which strangers could leave none to the stores.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let now = limit.current.unwrap_or(ENOUGH);
    if now >= wanted {
        return now;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, limit = now, "the limit of file descriptors stays as it is");
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let now = raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(now), now);
        assert!(limit.maximum.is_none_or(|most| now >= most.min(ENOUGH)));
    }
}
