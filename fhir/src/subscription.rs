//! Topic-based subscriptions of R5, as FHIR R4 has them (Subscriptions R5 Backport 1.1): who is told of which changes.
//!
//! [`topics`](TOPICS) are what may be subscribed to. [`Spec`] is what a Subscription asks for, read and judged once;
//! [`Watches`] finds by it the changes of a transaction ([`Noting`]), which writes an [`Event`] for each, so that a change
//! and its events are there together or not at all. [`EventStore`] is the port of what is kept of subscriptions, and
//! [`retry`] says when a notification that was not taken is tried again. Who sends is [`crate::rest`].
mod noting;
mod port;
pub mod retry;
mod spec;
mod topics;
mod watch;

pub use noting::{Noted, Noting};
pub use port::{Event, EventStore, Progress, Standing, Status, Watching, What};
pub use spec::{BACKPORT, Channel, Content, Fault, REASONS, Reason, Spec, is_reason};
pub use topics::{TOPICS, Topic, topic};
pub use watch::{Watch, Watches};

/// The type of what is subscribed by.
pub const SUBSCRIPTION: &str = "Subscription";
/// Subscriptions of one place, those that are off among them: bounds what a transaction has to look at.
pub const MAX_SUBSCRIPTIONS: usize = 1_000;
/// Events of a subscription that wait to be delivered: three days of one reading every quarter of a second, some
/// 100 bytes each. With more the subscription is in error and watches no longer.
pub const MAX_PENDING_EVENTS: u64 = 1_000_000;

#[cfg(test)]
#[path = "subscription/tests.rs"]
mod tests;
