//! When a notification that was not taken is tried again. Pure.
use super::Progress;
use types::Timestamp;

/// Before the second attempt; twice as long before each further one.
const FIRST_WAIT_MS: i64 = 1_000;
/// The longest wait: an endpoint that is back is found within the hour.
const MAX_WAIT_MS: i64 = 3_600_000;
/// How long a notification is tried: a week with a holiday. Then the subscription is in error; its events are kept on.
pub const RETRIED_MS: i64 = 7 * Timestamp::DAY_MS;
/// How long a handshake is tried: an endpoint that was never there is not waited for.
pub const HANDSHAKE_MS: i64 = Timestamp::DAY_MS;
/// How long events are kept: twice [`RETRIED_MS`], so that whoever comes back within a week after the error misses nothing.
pub const KEPT_MS: i64 = 14 * Timestamp::DAY_MS;

impl Progress {
    /// As text, for the store.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of what [`Progress::to_text`] gave; nothing was tried otherwise.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }

    /// After something was taken.
    #[must_use]
    pub const fn taken(now: Timestamp) -> Self {
        Self {
            attempts: 0,
            due: now.0,
            failing_since: None,
            sent: now.0,
        }
    }

    /// After another attempt that was not taken.
    #[must_use]
    pub fn failed(&self, now: Timestamp) -> Self {
        let wait = FIRST_WAIT_MS
            .checked_shl(self.attempts.min(30))
            .unwrap_or(MAX_WAIT_MS);
        Self {
            attempts: self.attempts.saturating_add(1),
            due: now.0.saturating_add(wait.min(MAX_WAIT_MS)),
            failing_since: Some(self.failing_since.unwrap_or(now.0)),
            sent: self.sent,
        }
    }

    /// Whether every attempt failed for longer than that.
    #[must_use]
    pub fn is_given_up(&self, now: Timestamp, after_ms: i64) -> bool {
        self.failing_since
            .is_some_and(|since| now.0.saturating_sub(since) >= after_ms)
    }
}
