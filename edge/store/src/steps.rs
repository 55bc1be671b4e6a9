//! What the steps of a commit answer: one bounded step of each kind, and a message that is kept or judged.
use federation::audit::Decision;

/// What one step of retention did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Old samples that it looked at.
    pub looked: usize,
    /// Samples that it deleted.
    pub deleted: usize,
    /// Whether it came to the end of the samples: the next step begins anew.
    pub done: bool,
}

/// What one step of shipping late did ([`crate::Store::ship_late`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// Samples, withdrawals and patients that it shipped.
    pub shipped: usize,
    /// Whether profile and rules let readings leave now.
    pub allowed: bool,
    /// Whether anything is left that was never shipped.
    pub left: bool,
}

/// What one step of correcting did ([`crate::Store::correct`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corrected {
    /// Readings that it gave to another patient, or to nobody.
    pub moved: usize,
    /// Whether there is more to look at.
    pub left: bool,
    /// Whether it did nothing since nothing may leave now, or the disk is full: a correction has to reach the region.
    pub held: bool,
}

/// What became of a message that is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is kept.
    Durably,
    /// The disk bound is reached.
    Full,
    /// The facility has retained messages on as many topics as it may.
    TooManyTopics,
}

/// What became of an arrival: its fault, and the decision if it is a new one.
pub(super) type Judged = (Option<&'static str>, Option<Decision>);
