//! What a sender and its receiver say to each other before parcels flow, so that each sees whether one of them was put
//! back to an older state: a file copied back, a standby promoted with loss, an old machine started again.
//!
//! A **stream** is one run of an outbox's sequences: 16 random bytes. Within (sender, stream, priority) a sequence
//! stands for one parcel, for ever. A receiver knows one stream of each sender, and takes another only by this
//! exchange:
//!
//! 1. The sender says where it stands ([`Outbox::hello`](crate::port::Outbox::hello)): its stream, the lowest sequence
//!    without a final receipt and the last one given out, its signed audit head, and the receiver's that it holds.
//! 2. The receiver says what it has of that sender ([`Inbox::meet`](crate::port::Inbox::meet)), and whether its own log
//!    still holds the head that the sender holds of it.
//! 3. The sender compares ([`judge`], a pure function). Where both agree, parcels flow. Where they do not, it begins a
//!    new stream ([`Outbox::resync`](crate::port::Outbox::resync)), in one commit with what follows from it: it ships
//!    again what the receiver no longer has, and writes down what nobody has ([`crate::gap`]). Then it says hello
//!    again, with `begin`, and the receiver takes the new stream in place of the one that it named.
//!
//! What an older connection still has under way the receiver takes before step 2, or never: a sender that was put back
//! since then gives the same sequences to other parcels.
//!
//! A crash between any two steps leaves another stream at the sender than the receiver knows, and the next meeting
//! begins one more. Nothing is applied twice by it: a parcel that is sent again has its id, and what is shipped anew
//! has the same records, each with its own id, which the receiver's store knows.
//!
//! **Both put back to the same moment** agree, though both lost what came after it. A receiver that learns from anybody
//! that it was put back therefore doubts every other sender ([`crate::inbox::doubt`]): none of it is taken before they
//! have met again. A sender that knows of something that the receiver lacks ships it again; one that agrees begins anew
//! too, and both ends declare a gap of unknown extent ([`Cause::InDoubt`]).
//!
//! What no exchange can see: readings that an edge had acknowledged and never sent before its disk was put back.
//! Where the counters tell that something is missing, both ends say so; what is missing, nobody knows.
use crate::wire::{Hello, Welcome};
use types::Priority;

/// One above the largest sequence: 2^40, at a thousand a second 34 years. What an end says beyond it makes no sense.
pub const SEQUENCES: u64 = 1 << 40;

/// A number for each priority, by [`Priority::rank`].
pub type PerPriority = [u64; 3];

/// Which of the sender's streams the receiver knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// None: they never met.
    Never,
    /// The present one.
    Current,
    /// One before it. The next one began with these sequences.
    Earlier {
        /// The first sequence of the stream that came next.
        next: PerPriority,
    },
    /// One that the sender never heard of: the sender is older than that stream.
    Unheard,
}

/// Where the sender stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ours {
    /// Which stream the receiver knows.
    pub known: Known,
    /// The lowest sequence without a final receipt; one above `last` when nothing waits.
    pub first: PerPriority,
    /// The last sequence given out.
    pub last: PerPriority,
    /// At a place where the receiver has one parcel another one waits.
    pub forked: bool,
    /// The own audit log does not hold the head that the receiver holds of it.
    pub log_behind: bool,
}

/// Where the receiver stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// The last sequence up to which everything has a final answer, in the stream that it knows.
    pub last: PerPriority,
    /// Its own audit log does not hold the head that the sender holds of it.
    pub put_back: bool,
    /// It was put back, as somebody else showed it.
    pub in_doubt: bool,
}

/// Why a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// They meet for the first time.
    Introduced,
    /// The sender was put back: the receiver has what the sender does not know of.
    SenderRestored,
    /// The receiver was put back: it no longer has what it gave receipts for.
    ReceiverRestored,
    /// Both.
    BothRestored,
    /// The receiver was put back, as somebody else showed it, and the sender agrees with it all the same: nothing was sent
    /// meanwhile, or the sender was put back to the same moment.
    InDoubt,
    /// Neither: a stream was begun, and the receiver was never told.
    Resumed,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 6] = [
        Self::Introduced,
        Self::SenderRestored,
        Self::ReceiverRestored,
        Self::BothRestored,
        Self::InDoubt,
        Self::Resumed,
    ];

    /// The word on the wire, in the audit log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Introduced => "introduced",
            Self::SenderRestored => "sender-restored",
            Self::ReceiverRestored => "receiver-restored",
            Self::BothRestored => "both-restored",
            Self::InDoubt => "in-doubt",
            Self::Resumed => "resumed",
        }
    }

    /// The cause of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == word)
    }

    /// Whether the sender was put back.
    #[must_use]
    pub const fn is_of_sender(self) -> bool {
        matches!(self, Self::SenderRestored | Self::BothRestored)
    }

    /// Whether the receiver was put back.
    #[must_use]
    pub const fn is_of_receiver(self) -> bool {
        matches!(
            self,
            Self::ReceiverRestored | Self::BothRestored | Self::InDoubt
        )
    }

    /// Whether something may be missing of which neither end can tell.
    #[must_use]
    pub const fn leaves_doubt(self) -> bool {
        self.is_of_sender() || matches!(self, Self::InDoubt)
    }
}

/// What follows from a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Both agree: parcels flow.
    Flow,
    /// They never met: the receiver is to take the stream as it is.
    Introduce,
    /// A new stream begins.
    Begin(Begin),
}

/// A new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Why.
    pub cause: Cause,
    /// Of the sender's own sequences, those up to which the receiver has everything. What has a final receipt beyond
    /// is shipped again.
    pub has: PerPriority,
    /// Whether `has` is what the receiver has; otherwise it is a safe guess, and what is missing beyond it may be there.
    pub is_certain: bool,
    /// Parcels that the receiver has and the sender does not know of, by the counters.
    pub unknown_parcels: u64,
    /// Whether nothing but its log tells that the sender was put back: the receiver has no parcel that it does not know of.
    pub is_told_by_log_alone: bool,
}

/// Compares. Total: whatever the two say, parcels flow after at most one more exchange.
#[must_use]
pub fn judge(ours: &Ours, theirs: &Theirs) -> Next {
    let has = match ours.known {
        Known::Never | Known::Current => theirs.last,
        Known::Earlier { next } => zip(theirs.last, next, |last, next| {
            last.min(next.saturating_sub(1))
        }),
        Known::Unheard => [0; 3],
    };
    let is_certain = ours.known != Known::Unheard;
    let unknown = zip(theirs.last, ours.last, u64::saturating_sub);
    let unknown_parcels = match ours.known {
        Known::Earlier { .. } => 0,
        Known::Never | Known::Current | Known::Unheard => unknown
            .iter()
            .fold(0, |sum: u64, more| sum.saturating_add(*more)),
    };
    let by_parcels = ours.known == Known::Unheard || unknown_parcels > 0 || ours.forked;
    let sender = by_parcels || ours.log_behind;
    let lost = has
        .iter()
        .zip(ours.first)
        .any(|(has, first)| has.saturating_add(1) < first);
    let receiver = theirs.put_back || (is_certain && lost);
    let cause = match (sender, receiver, ours.known) {
        (false, false, _) if theirs.in_doubt => Cause::InDoubt,
        (false, false, Known::Current) => return Next::Flow,
        (false, false, Known::Never) => return Next::Introduce,
        (false, false, Known::Earlier { .. } | Known::Unheard) => Cause::Resumed,
        (true, false, _) => Cause::SenderRestored,
        (false, true, _) => Cause::ReceiverRestored,
        (true, true, _) => Cause::BothRestored,
    };
    Next::Begin(Begin {
        cause,
        has,
        is_certain,
        unknown_parcels,
        is_told_by_log_alone: cause == Cause::SenderRestored && !by_parcels,
    })
}

fn zip(one: PerPriority, other: PerPriority, with: impl Fn(u64, u64) -> u64) -> PerPriority {
    Priority::ALL.map(|priority| with(*priority.of(&one), *priority.of(&other)))
}

/// What a receiver says that it has, by priority; none when the message does not say it of each, or it cannot be.
#[must_use]
pub fn received(welcome: &Welcome) -> Option<PerPriority> {
    let [alarm, live, backlog] = &welcome.received[..] else {
        return None;
    };
    let last = [alarm.last, live.last, backlog.last];
    last.iter().all(|last| *last < SEQUENCES).then_some(last)
}

/// The sequences of a sender, by priority: first and last; none when the message does not say them of each, or they
/// cannot be.
#[must_use]
pub fn sent(hello: &Hello) -> Option<(PerPriority, PerPriority)> {
    let [alarm, live, backlog] = &hello.sent[..] else {
        return None;
    };
    let all = [alarm, live, backlog];
    let possible = all.iter().all(|sent| {
        (1..=sent.last.saturating_add(1)).contains(&sent.first) && sent.last < SEQUENCES
    });
    possible.then(|| (all.map(|sent| sent.first), all.map(|sent| sent.last)))
}

/// The priority of a rank in an array by priority.
#[must_use]
pub fn ranked(values: PerPriority) -> [(Priority, u64); 3] {
    Priority::ALL.map(|priority| (priority, *priority.of(&values)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OURS: Ours = Ours {
        known: Known::Current,
        first: [5, 8, 1],
        last: [6, 9, 0],
        forked: false,
        log_behind: false,
    };
    const THEIRS: Theirs = Theirs {
        last: [5, 7, 0],
        put_back: false,
        in_doubt: false,
    };

    fn cause(ours: Ours, theirs: Theirs) -> Option<Cause> {
        match judge(&ours, &theirs) {
            Next::Begin(begin) => Some(begin.cause),
            Next::Flow | Next::Introduce => None,
        }
    }

    #[test]
    fn two_that_agree_go_on_and_two_that_never_met_are_introduced() {
        assert_eq!(judge(&OURS, &THEIRS), Next::Flow);
        let never = Ours {
            known: Known::Never,
            ..OURS
        };
        assert_eq!(judge(&never, &THEIRS), Next::Introduce);
    }

    #[test]
    fn each_way_of_being_put_back_has_its_cause() {
        let theirs = |last| Theirs { last, ..THEIRS };
        let back = Theirs {
            put_back: true,
            ..THEIRS
        };
        let doubted = Theirs {
            in_doubt: true,
            ..THEIRS
        };
        let lacking = Theirs {
            last: [3, 7, 0],
            ..doubted
        };
        let forked = Ours {
            forked: true,
            ..OURS
        };
        let cut = Ours {
            log_behind: true,
            ..OURS
        };
        let unheard = Ours {
            known: Known::Unheard,
            ..OURS
        };
        for (ours, theirs, expected) in [
            (OURS, theirs([3, 7, 0]), Cause::ReceiverRestored),
            (OURS, back, Cause::ReceiverRestored),
            (OURS, theirs([7, 7, 0]), Cause::SenderRestored),
            (OURS, theirs([5, 7, 1]), Cause::SenderRestored),
            (forked, THEIRS, Cause::SenderRestored),
            (cut, THEIRS, Cause::SenderRestored),
            (unheard, THEIRS, Cause::SenderRestored),
            (OURS, theirs([7, 3, 0]), Cause::BothRestored),
            (cut, back, Cause::BothRestored),
            (OURS, doubted, Cause::InDoubt),
            (OURS, lacking, Cause::ReceiverRestored),
            (cut, doubted, Cause::SenderRestored),
        ] {
            assert_eq!(cause(ours, theirs), Some(expected), "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn what_the_receiver_has_of_an_earlier_stream_ends_where_the_next_began() {
        let ours = Ours {
            known: Known::Earlier { next: [4, 8, 1] },
            ..OURS
        };
        let Next::Begin(begin) = judge(
            &ours,
            &Theirs {
                last: [9, 2, 9],
                ..THEIRS
            },
        ) else {
            panic!("a new stream begins");
        };
        assert_eq!(begin.has, [3, 2, 0]);
        assert_eq!(begin.cause, Cause::ReceiverRestored);
        let told = Ours {
            first: [4, 8, 1],
            ..ours
        };
        assert_eq!(
            cause(
                told,
                Theirs {
                    last: [3, 7, 0],
                    ..THEIRS
                }
            ),
            Some(Cause::Resumed)
        );
    }

    proptest! {
        #[test]
        fn nothing_that_the_receiver_lacks_is_taken_for_delivered(
            first in prop::array::uniform3(1u64..9), more in prop::array::uniform3(0u64..4),
            last in prop::array::uniform3(0u64..12), flags in 0u8..16, known in 0usize..4,
        ) {
            let ours = Ours {
                known: [Known::Never, Known::Current, Known::Earlier { next: first }, Known::Unheard][known],
                first,
                last: zip(first, more, |first, more| first + more - 1),
                forked: flags & 1 != 0,
                log_behind: flags & 2 != 0,
            };
            let theirs = Theirs { last, put_back: flags & 4 != 0, in_doubt: flags & 8 != 0 };
            match judge(&ours, &theirs) {
                // All that has a final receipt is there, and the next one is the one that comes next.
                Next::Flow | Next::Introduce => {
                    let places = ours.first.iter().zip(ours.last).zip(last);
                    for ((first, given), last) in places {
                        prop_assert!(first - 1 <= last && last <= given);
                    }
                },
                Next::Begin(begin) => for (has, last) in begin.has.iter().zip(last) {
                    prop_assert!(*has <= last);
                },
            }
        }
    }
}
