//! The one place that reads the system clock. Everything else takes the time as an argument or asks a [`Clock`].
use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};
use types::{MeshClock, Timestamp};

/// Time of the system's clock, ns since 1970: for spans of traces, which compare with those of other machines.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the system clock"
)]
pub fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    })
}

/// Real and mesh time of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    mesh: MeshClock,
    correction: Option<&'static AtomicI64>,
}

impl Clock {
    /// A clock; without a mesh clock both times are the same.
    #[must_use]
    pub fn new(mesh: Option<MeshClock>) -> Self {
        Self {
            mesh: mesh.unwrap_or(MeshClock::REAL),
            correction: None,
        }
    }

    /// This clock with milliseconds added to real time, as they are at each reading: for a node that knows its
    /// machine's clock to be wrong.
    #[must_use]
    pub const fn corrected_by(mut self, correction: &'static AtomicI64) -> Self {
        self.correction = Some(correction);
        self
    }

    /// Real time: TLS, tokens, logs, `meta.lastUpdated`.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    pub fn real(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let system = Timestamp(since.map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        }));
        let correction = self.correction.map_or(0, |ms| ms.load(Ordering::Relaxed));
        system.plus_ms(correction)
    }

    /// Mesh time: device times, freshness, retention.
    #[must_use]
    pub fn mesh(&self) -> Timestamp {
        self.mesh.at(self.real())
    }

    /// Real milliseconds that `mesh_ms` mesh milliseconds last.
    #[must_use]
    pub fn real_ms(&self, mesh_ms: i64) -> i64 {
        self.mesh.real_ms(mesh_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corrected_clock_follows_its_correction() {
        static CORRECTION: AtomicI64 = AtomicI64::new(0);
        const DAY: i64 = Timestamp::DAY_MS;
        let clock = Clock::new(None).corrected_by(&CORRECTION);
        let before = clock.real();
        CORRECTION.store(DAY, Ordering::Relaxed);
        assert!((DAY..DAY + 60_000).contains(&clock.real().since(before)));
    }
}
