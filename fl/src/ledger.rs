//! What a facility has spent, across all studies.
//!
//! It counts what is told of records: two states of a facility are neighbours where one has a record more. A study that
//! hides facilities pays by that measure too ([`crate::study::Spend::event`]).
//!
//! A debit comes before the release that it pays for: the shell stores entry and release in one commit. Nothing is
//! ever taken back: a study that is deleted has still told what it told. Whoever holds the entries can compute ε
//! again with an accountant of their own, as they hold every sampling probability, noise multiplier and number of steps.
use crate::privacy::{Delta, Event, epsilon};
use serde::{Deserialize, Serialize};

/// What a facility is willing to spend on everything together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// ε.
    pub epsilon: f64,
    /// δ.
    pub delta: Delta,
}

/// One debit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it pays for: study and round, as their coordinator names them. Each is paid for once.
    pub release: String,
    /// The mechanism, and how often it is used.
    pub event: Event,
    /// ε of all entries up to this one, at the budget's δ.
    pub epsilon_after: f64,
}

/// The entries of a facility, in their order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    budget: Budget,
    entries: Vec<Entry>,
    /// Whether entries may be missing.
    #[serde(skip)]
    is_doubted: bool,
}

/// Why nothing is debited.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotDebited {
    /// It would be more than the facility is willing to spend.
    #[error(
        "`{release}` would bring epsilon from {spent:.4} to {after:.4} at delta {delta:e}, and the facility's budget is {budget}"
    )]
    Budget {
        /// What it would pay for.
        release: String,
        /// ε before.
        spent: f64,
        /// ε after.
        after: f64,
        /// The budget's ε.
        budget: f64,
        /// The budget's δ.
        delta: f64,
    },
    /// Entries may be missing.
    #[error(
        "the facility may have been put back to an older state, so that its ledger may lack what was spent since, and nobody there has acknowledged the gap yet"
    )]
    Doubted,
    /// The release was paid for with something else.
    #[error("`{0}` was paid for with another event")]
    Conflict(String),
    /// A budget that is none.
    #[error("a budget is an epsilon above 0, not {0}")]
    NoBudget(f64),
}

/// What became of a debit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Debited {
    /// It is the last entry now.
    Now,
    /// The same was debited before; nothing has changed.
    Before,
}

impl Ledger {
    /// An empty ledger.
    ///
    /// # Errors
    /// [`NotDebited::NoBudget`] when ε is no number above 0.
    pub fn new(budget: Budget) -> Result<Self, NotDebited> {
        if !(budget.epsilon > 0.0 && budget.epsilon.is_finite()) {
            return Err(NotDebited::NoBudget(budget.epsilon));
        }
        Ok(Self {
            budget,
            entries: Vec::new(),
            is_doubted: false,
        })
    }

    /// A ledger of stored entries. Where their ε is not at the budget's δ, it is worked out anew.
    ///
    /// # Errors
    /// As of [`Ledger::new`].
    pub fn restored(
        budget: Budget,
        entries: Vec<Entry>,
        same_delta: bool,
    ) -> Result<Self, NotDebited> {
        let mut ledger = Self::new(budget)?;
        ledger.entries = entries;
        let events: Vec<_> = ledger.entries.iter().map(|entry| entry.event).collect();
        if let Some(last) = ledger.entries.last_mut().filter(|_| !same_delta) {
            last.epsilon_after = epsilon(&events, budget.delta);
        }
        Ok(ledger)
    }

    /// The same, from which nothing is spent where entries may be missing: the facility was put back to an older state.
    #[must_use]
    pub fn doubted(self, is_doubted: bool) -> Self {
        Self { is_doubted, ..self }
    }

    /// Whether entries may be missing, so that nothing is spent.
    #[must_use]
    pub const fn is_doubted(&self) -> bool {
        self.is_doubted
    }

    /// What the facility is willing to spend.
    #[must_use]
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The entries, in their order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// ε (a pure number, ≥ 0) of everything that was debited, at the budget's δ; 0 of nothing.
    #[must_use]
    pub fn spent(&self) -> f64 {
        self.entries.last().map_or(0.0, |entry| entry.epsilon_after)
    }

    /// ε after an event more, at the budget's δ: never less than [`Ledger::spent`].
    #[must_use]
    pub fn after(&self, event: Event) -> f64 {
        let events: Vec<_> = self
            .entries
            .iter()
            .map(|entry| entry.event)
            .chain([event])
            .collect();
        // A sum of rounded-up figures never falls.
        epsilon(&events, self.budget.delta).max(self.spent())
    }

    /// Debits an event for a release, once.
    ///
    /// # Errors
    /// [`NotDebited`]; the ledger is unchanged.
    pub fn debit(&mut self, release: &str, event: Event) -> Result<Debited, NotDebited> {
        if let Some(before) = self.entries.iter().find(|entry| entry.release == release) {
            return if before.event == event {
                Ok(Debited::Before)
            } else {
                Err(NotDebited::Conflict(release.to_owned()))
            };
        }
        if self.is_doubted {
            return Err(NotDebited::Doubted);
        }
        let after = self.after(event);
        if after > self.budget.epsilon {
            return Err(NotDebited::Budget {
                release: release.to_owned(),
                spent: self.spent(),
                after,
                budget: self.budget.epsilon,
                delta: self.budget.delta.get(),
            });
        }
        self.entries.push(Entry {
            release: release.to_owned(),
            event,
            epsilon_after: after,
        });
        Ok(Debited::Now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(epsilon: f64) -> Ledger {
        let delta = Delta::new(1e-5).unwrap();
        Ledger::new(Budget { epsilon, delta }).unwrap()
    }

    #[test]
    fn debits_add_up_across_studies_until_the_budget_is_spent() {
        let mut ledger = ledger(1.0);
        let event = Event::new(0.02, 4.0, 200).unwrap();
        let mut debits = 0;
        let refused = loop {
            match ledger.debit(&format!("study-{debits}/1"), event) {
                Ok(_) => debits += 1,
                Err(refused) => break refused,
            }
        };
        let all = Event::new(0.02, 4.0, 200 * debits).unwrap();
        let spent = epsilon(&[all], Delta::new(1e-5).unwrap());
        assert!(debits > 2 && ledger.spent() <= 1.0);
        assert!((ledger.spent() / spent - 1.0).abs() < 1e-9);
        assert!(
            refused.to_string().contains("the facility's budget is 1"),
            "{refused}"
        );
        assert_eq!(ledger.entries().len() as u64, debits);
    }

    #[test]
    fn a_release_is_paid_for_once_and_with_one_event() {
        let mut ledger = ledger(10.0);
        let event = Event::new(0.1, 2.0, 10).unwrap();
        assert_eq!(ledger.debit("heart/1", event), Ok(Debited::Now));
        let before = ledger.clone();
        assert_eq!(ledger.debit("heart/1", event), Ok(Debited::Before));
        let other = Event::new(0.1, 2.0, 11).unwrap();
        let conflict = ledger.debit("heart/1", other);
        assert_eq!(conflict, Err(NotDebited::Conflict("heart/1".into())));
        assert_eq!(ledger, before);
    }

    #[test]
    fn nothing_is_debited_while_entries_may_be_missing() {
        let event = Event::new(0.1, 2.0, 10).unwrap();
        let mut ledger = ledger(10.0);
        ledger.debit("heart/1", event).unwrap();
        let mut doubted = ledger.clone().doubted(true);
        assert_eq!(doubted.debit("heart/2", event), Err(NotDebited::Doubted));
        assert_eq!(doubted.entries(), ledger.entries());
        let mut known = doubted.doubted(false);
        assert_eq!(known.debit("heart/2", event), Ok(Debited::Now));
    }

    #[test]
    fn a_stored_ledger_is_the_same_and_a_budget_of_nothing_is_none() {
        let mut ledger = ledger(3.0);
        ledger
            .debit("a/1", Event::new(1.0, 5.0, 2).unwrap())
            .unwrap();
        let text = toml::to_string(&ledger).unwrap();
        assert_eq!(toml::from_str::<Ledger>(&text).unwrap(), ledger);
        let forged = text.replace("noise_multiplier = 5.0", "noise_multiplier = -5.0");
        assert!(toml::from_str::<Ledger>(&forged).is_err());
        let delta = Delta::new(1e-5).unwrap();
        for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Ledger::new(Budget { epsilon, delta }).is_err());
        }
    }
}
