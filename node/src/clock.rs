//! The one place that reads the system clock. Everything else takes the time as an argument or asks a [`Clock`].
use std::time::{SystemTime, UNIX_EPOCH};
use types::{MeshClock, Timestamp};

/// Real and mesh time of this machine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    mesh: MeshClock,
}

impl Clock {
    /// A clock; without a mesh clock both times are the same.
    #[must_use]
    pub fn new(mesh: Option<MeshClock>) -> Self {
        Self {
            mesh: mesh.unwrap_or(MeshClock::REAL),
        }
    }

    /// Real time: TLS, tokens, logs, `meta.lastUpdated`.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the system clock"
    )]
    pub fn real(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(since.map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        }))
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
