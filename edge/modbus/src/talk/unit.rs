//! What a line knows of one unit: the requests that it has not answered, and the answers that it gave lately. Pure.
use super::{Barrier, Micros, Pace, Pending};
use crate::{
    plan::Read,
    wire::{Ask, Framing, Shape},
};
use std::ops::Range;

/// A unit that answers other requests and not this many barriers is asked no more of them.
const MAX_IN_VAIN: u8 = 3;
/// A unit that answers barriers is believed to have lost a request for good after this time, and one that has not
/// answered a barrier for so long to be another unit.
const FORGOTTEN: Micros = 60_000_000;
/// Answers that are remembered for comparison.
const MAX_HEARD: usize = 32;
/// Requests without an answer that are remembered.
const MAX_DEBTS: usize = 64;

/// A request without an answer.
#[derive(Clone, Debug)]
struct Debt {
    shape: Shape,
    /// Whether it is a barrier: a request that no other one looks like.
    barrier: bool,
    sent: Micros,
    /// When no answer is expected any more by the device's longest answer time, and no copy of it.
    over: Micros,
}

/// An answer that came.
#[derive(Clone, Debug)]
struct Heard {
    frame: Vec<u8>,
    /// The request to which it was the answer; none when it came too late.
    ask: Option<Ask>,
    at: Micros,
}

/// What is known of a unit on an RTU line.
#[derive(Clone, Debug, Default)]
pub(super) struct Unit {
    /// In the order in which they were sent.
    debts: Vec<Debt>,
    heard: Vec<Heard>,
    /// Whether it answers barriers.
    answers_barriers: bool,
    /// Since when it has not, if it did before.
    failed_since: Option<Micros>,
    /// Barriers without an answer while it answered everything else.
    in_vain: u8,
    /// Whether its last request was answered.
    answers: bool,
    /// Barriers that were asked: each one asks for another number of registers than the one before.
    asked: usize,
    /// Copies of answers that were not heard may come until then.
    copies: Micros,
    /// Copies of the last answer to a barrier may come until then.
    barrier_copies: Micros,
}

/// What has to be done before the unit is asked for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing: it owes nothing.
    Nothing,
    /// To ask this barrier.
    Barrier(Read),
    /// To wait until then.
    Wait(Micros),
}

impl Unit {
    /// What has to be done before a request.
    pub(super) fn before(&mut self, barrier: Option<&Barrier>, now: Micros) -> Before {
        let by_time = !self.answers_barriers;
        self.debts.retain(|debt| {
            let end = if by_time {
                debt.over
            } else {
                debt.sent + FORGOTTEN
            };
            now < end
        });
        let willing = barrier.filter(|_| self.in_vain < MAX_IN_VAIN);
        let ask = |barrier: &Barrier| Before::Barrier(barrier.read(self.asked));
        if self.owes() {
            let last = self.debts.iter().map(|debt| debt.over).max();
            let wait = Before::Wait(last.unwrap_or(now));
            return if willing.is_some() && now < self.barrier_copies {
                Before::Wait(self.barrier_copies)
            } else {
                willing.map_or(wait, ask)
            };
        }
        if now < self.copies {
            return Before::Wait(self.copies);
        }
        // Whether it answers barriers is found out while it owes nothing: later it can be too late.
        let unknown = self.answers && !self.answers_barriers;
        willing.filter(|_| unknown).map_or(Before::Nothing, ask)
    }

    /// Whether an answer to a request for values may still come.
    pub(super) fn owes(&self) -> bool {
        self.debts.iter().any(|debt| !debt.barrier)
    }

    /// Whether the barrier has done its work: no answer to a request for values may still come, and it was answered
    /// itself, so that the unit is free.
    pub(super) fn is_clear(&self, barrier: &Shape) -> bool {
        !self
            .debts
            .iter()
            .any(|debt| !debt.barrier || debt.shape == *barrier)
    }

    /// A request got no answer.
    pub(super) fn owe(&mut self, pending: &Pending, pace: &Pace) {
        self.answers = false;
        self.push(pending.shape.clone(), false, pending.sent, pace);
    }

    /// A barrier is asked.
    pub(super) fn owe_barrier(&mut self, shape: Shape, pace: &Pace, now: Micros) {
        self.asked = self.asked.wrapping_add(1);
        self.push(shape, true, now, pace);
    }

    fn push(&mut self, shape: Shape, barrier: bool, sent: Micros, pace: &Pace) {
        if self.debts.len() >= MAX_DEBTS {
            self.debts.remove(0);
        }
        self.debts.push(Debt {
            shape,
            barrier,
            sent,
            over: sent + pace.longest_answer + pace.copies_within,
        });
    }

    /// A barrier got no answer in time. Says whether nothing is owed all the same.
    pub(super) fn barrier_failed(&mut self, now: Micros) -> bool {
        let since = *self.failed_since.get_or_insert(now);
        if self.answers_barriers && now >= since + FORGOTTEN {
            self.answers_barriers = false;
        }
        let free = !self.owes();
        if free && !self.answers_barriers {
            self.in_vain = self.in_vain.saturating_add(1);
            self.answers = false;
        }
        free
    }

    /// A request was answered by this frame.
    pub(super) fn answered(&mut self, frame: Vec<u8>, ask: &Ask, now: Micros) {
        self.answers = true;
        self.remember(frame, Some(ask.clone()), now);
    }

    /// The first frame in these bytes that the unit owes.
    pub(super) fn first_late(&self, bytes: &[u8]) -> Option<Range<usize>> {
        let found = self.debts.iter();
        found
            .filter_map(|debt| debt.shape.find(bytes, Framing::Rtu))
            .min_by_key(|range| range.start)
    }

    /// A late answer, which came at `came` at the earliest, pays the oldest debt that it fits. The answer to a barrier pays what is older, too: the unit
    /// answers in order, so that has come, or never comes.
    pub(super) fn pay(&mut self, frame: Vec<u8>, pace: &Pace, came: Micros, now: Micros) {
        let fits = |debt: &Debt| debt.shape.find(&frame, Framing::Rtu).is_some();
        let Some(at) = self.debts.iter().position(fits) else {
            return;
        };
        let barrier = self.debts.get(at).is_some_and(|debt| debt.barrier);
        let copy = |heard: &Heard| heard.frame == frame && came < heard.at + pace.copies_within;
        if self.heard.iter().any(copy) {
            // It may be a copy of what has paid before.
        } else if barrier {
            let older: Vec<Debt> = self.debts.drain(..=at).collect();
            if older.iter().any(|debt| !debt.barrier) {
                self.copies = now + pace.copies_within;
            }
            self.barrier_copies = now + pace.copies_within;
            (self.answers_barriers, self.failed_since, self.in_vain) = (true, None, 0);
        } else if !self.is_of_a_barrier(&frame) {
            self.debts.remove(at);
        }
        self.remember(frame, None, now);
    }

    /// Whether this is an exception that may be the answer to a barrier of the same function.
    fn is_of_a_barrier(&self, frame: &[u8]) -> bool {
        let mut barriers = self.debts.iter().filter(|debt| debt.barrier);
        barriers.any(|debt| debt.shape.is_refused_by(frame))
    }

    /// Until when the frame can be a copy of an answer to another request, or of one that came late.
    pub(super) fn copied(
        &self,
        frame: &[u8],
        ask: &Ask,
        pace: &Pace,
        now: Micros,
    ) -> Option<Micros> {
        let same = |heard: &&Heard| heard.frame == frame && heard.ask.as_ref() != Some(ask);
        let ends = self
            .heard
            .iter()
            .filter(same)
            .map(|it| it.at + pace.copies_within);
        ends.filter(|end| *end > now).max()
    }

    fn remember(&mut self, frame: Vec<u8>, ask: Option<Ask>, at: Micros) {
        if self.heard.len() >= MAX_HEARD {
            self.heard.remove(0);
        }
        self.heard.push(Heard { frame, ask, at });
    }
}
