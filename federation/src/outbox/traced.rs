//! Parcels that belong to a trace: what is told of their wait in the outbox, once the commit stands that ends it.
use super::held::Fate;
use crate::wire::Parcel;
use node::trace::{Attribute, Context, Name, span_between};
use types::Timestamp;

/// A parcel that was settled and is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    parent: Context,
    waited: (Timestamp, Timestamp),
    fate: &'static str,
}

impl Traced {
    /// Of a parcel that waited from and until these instants (real time); none when it is not traced.
    pub(super) fn of(
        parcel: &Parcel,
        (made, settled): (Timestamp, Timestamp),
        fate: Fate,
    ) -> Option<Self> {
        let parent = Context::parse(&parcel.traceparent)?;
        // Of what an earlier version sealed nobody knows when.
        let made = if made.0 == 0 { settled } else { made };
        let fate = match fate {
            Fate::Taken => "accepted",
            Fate::Partial => "left-out",
            Fate::Quarantined => "quarantined",
            Fate::Refused => "refused",
            Fate::Deferred => "deferred",
        };
        Some(Self {
            parent,
            waited: (made, settled),
            fate,
        })
    }

    /// Ends the span.
    pub(super) fn tell(&self) {
        let says = [Attribute::Outcome(self.fate)];
        span_between(self.parent, Name::Outbox, self.waited, &says);
    }
}
