//! How much disk the store takes, as a pure decision.
use ingest::Urgency;
use node::quantity::Size;

/// Sizes that the store keeps to.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Routine samples are refused above this size.
    pub max: Size,
    /// On top of it, for alarms alone.
    pub alarm_reserve: Size,
}

impl Bounds {
    /// Whether a sample may still be stored when so many bytes are in use.
    #[must_use]
    pub const fn admits(&self, urgency: Urgency, used: u64) -> bool {
        match urgency {
            Urgency::Routine => used < self.max.0,
            Urgency::Alarm => used < self.max.0.saturating_add(self.alarm_reserve.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_passes_until_the_reserve_is_used() {
        let bounds = Bounds {
            max: Size(100),
            alarm_reserve: Size(10),
        };
        for (urgency, used, admitted) in [
            (Urgency::Routine, 99, true),
            (Urgency::Routine, 100, false),
            (Urgency::Alarm, 100, true),
            (Urgency::Alarm, 109, true),
            (Urgency::Alarm, 110, false),
        ] {
            assert_eq!(bounds.admits(urgency, used), admitted, "{urgency:?} {used}");
        }
    }
}
