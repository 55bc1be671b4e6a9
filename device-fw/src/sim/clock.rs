//! The simulated devices' clock: mesh time, set from the system's.
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use types::{MeshClock, Timestamp};

/// Mesh time of the devices.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimClock(MeshClock);

impl SimClock {
    /// The longest sleep: the clock is looked at again after it, so that a changed system clock is noticed.
    const MAX_SLEEP_MS: i64 = 1_000;

    pub(super) const fn new(mesh: MeshClock) -> Self {
        Self(mesh)
    }

    pub(super) fn mesh(self) -> Timestamp {
        self.0.at(Self::real())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a device has its own clock; the node's is not its to use"
    )]
    pub(super) fn real() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(since.map_or(0, |elapsed| {
            i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
        }))
    }

    /// Waits until mesh time has reached an instant.
    pub(super) async fn reached(self, instant: Timestamp) {
        loop {
            let left = instant.since(self.mesh());
            if left <= 0 {
                return;
            }
            let ms = self.0.real_ms(left).clamp(1, Self::MAX_SLEEP_MS);
            tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await;
        }
    }
}
