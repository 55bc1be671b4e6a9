//! How long a sender's parcels have been waiting for one before them that does not come.
//!
//! A parcel out of order is deferred, and the one before it comes within moments. When it does not, something is wrong
//! that nobody would see otherwise: the sender keeps its parcels and tries again for ever.
use crate::{port::Verdict, reason};
use std::{collections::HashMap, time::Duration};
use types::{Place, Timestamp};

/// A parcel that is deferred as out of order for longer than this shows in `/ready`, at both ends: a sender tries again
/// every 5 s at the latest.
pub const OUT_OF_ORDER_LIMIT: Duration = Duration::from_secs(60);
/// Senders and priorities that are followed.
const MAX_FOLLOWED: usize = 16_384;

/// Since when parcels of a sender and priority are deferred as out of order.
#[derive(Debug, Default)]
pub struct Lateness(HashMap<(Place, u32), Timestamp>);

impl Lateness {
    /// A parcel of a priority was answered.
    pub fn answered(&mut self, from: &Place, rank: u32, verdict: &Verdict, now: Timestamp) {
        let place = (from.clone(), rank);
        match verdict {
            Verdict::Deferred {
                reason: reason::OUT_OF_ORDER,
            } if self.0.len() < MAX_FOLLOWED => {
                self.0.entry(place).or_insert(now);
            }
            Verdict::Accepted { .. } | Verdict::Quarantined { .. } => {
                self.0.remove(&place);
            }
            Verdict::Deferred { .. } | Verdict::Refused { .. } => {}
        }
    }

    /// Those that wait for longer than [`OUT_OF_ORDER_LIMIT`].
    #[must_use]
    pub fn stuck(&self, now: Timestamp) -> Vec<Place> {
        let limit = i64::try_from(OUT_OF_ORDER_LIMIT.as_millis()).unwrap_or(i64::MAX);
        let late = self.0.iter().filter(|(_, since)| now.0 - since.0 > limit);
        late.map(|((place, _), _)| place.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parcel_that_waits_too_long_for_one_before_it_is_known_until_one_is_taken() {
        let (mut late, place) = (Lateness::default(), Place::Global);
        let deferred = Verdict::Deferred {
            reason: reason::OUT_OF_ORDER,
        };
        let busy = Verdict::Deferred {
            reason: reason::NO_SPACE,
        };
        late.answered(&place, 1, &deferred, Timestamp(1_000));
        late.answered(&place, 1, &deferred, Timestamp(50_000));
        late.answered(&place, 2, &busy, Timestamp(1_000));
        assert!(late.stuck(Timestamp(61_000)).is_empty());
        assert_eq!(late.stuck(Timestamp(61_001)), std::slice::from_ref(&place));
        late.answered(
            &place,
            1,
            &Verdict::Accepted { stored: 1 },
            Timestamp(61_002),
        );
        assert!(late.stuck(Timestamp(900_000)).is_empty());
    }
}
