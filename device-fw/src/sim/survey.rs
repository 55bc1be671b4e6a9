//! What is in the data of a replay: how much of it can be emitted, and what cannot and why. Nothing is left out in
//! silence.
use std::collections::BTreeMap;

/// Rows that are named; the others are counted by reason.
const NAMED: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Rows that were read, without headers.
    pub rows: u64,
    /// Readings among them that are emitted.
    pub readings: u64,
    /// Values that say who the patient is: they travel with the bed, and are not emitted.
    pub descriptors: u64,
    /// Values that the data says are unknown (-1), not emitted.
    pub unknown: u64,
    /// Empty fields: what was not measured.
    pub unmeasured: u64,
    /// Readings written another way than FHIR writes decimals, emitted in FHIR's way.
    pub normalised: u64,
    /// Rows that cannot be emitted, by reason.
    pub left_out: BTreeMap<&'static str, u64>,
    /// The first of them: record, line and reason.
    pub named: Vec<(u32, usize, &'static str)>,
}

impl Survey {
    pub(super) fn leave_out(&mut self, record: u32, line: usize, reason: &'static str) {
        *self.left_out.entry(reason).or_default() += 1;
        if self.named.len() < NAMED {
            self.named.push((record, line, reason));
        }
    }

    /// How many values were read: each is a reading, or one of those that are not emitted, with the reason why.
    #[must_use]
    pub fn values(&self) -> u64 {
        self.readings + self.descriptors + self.unknown + self.unmeasured + self.left_out_rows()
    }

    /// The same data read so often.
    #[must_use]
    pub(super) fn times(mut self, often: u64) -> Self {
        for count in [
            &mut self.rows,
            &mut self.readings,
            &mut self.descriptors,
            &mut self.unknown,
            &mut self.unmeasured,
            &mut self.normalised,
        ] {
            *count = count.saturating_mul(often);
        }
        for count in self.left_out.values_mut() {
            *count = count.saturating_mul(often);
        }
        self
    }

    /// How many rows are left out.
    #[must_use]
    pub fn left_out_rows(&self) -> u64 {
        self.left_out.values().sum()
    }

    /// Adds what was found in other data.
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.readings += other.readings;
        self.descriptors += other.descriptors;
        self.unknown += other.unknown;
        self.unmeasured += other.unmeasured;
        self.normalised += other.normalised;
        for (reason, count) in &other.left_out {
            *self.left_out.entry(reason).or_default() += count;
        }
        let room = NAMED.saturating_sub(self.named.len());
        self.named.extend(other.named.iter().take(room).copied());
    }
}
