//! `study.toml`: what a data scientist asks for.
//!
//! A [`Study`] is only text that was understood. [`Study::plan`] says everything that is wrong with it, each with its
//! key path, or what it comes to: parameters, steps, noise, quorum and bits. Nothing is started without a [`Plan`].

mod check;
mod data;
mod few;
mod model;
mod options;
mod plan;
mod sense;
mod training;

pub(crate) use check::{again, name_problem, needs_threshold, unit_problem};
pub use data::{Data, FACTS, Feature, Label, Missing, Scale, Stays, Summary};
pub(crate) use few::few;
pub use model::Model;
pub use plan::{Bits, Plan, Spend};
pub use training::{
    Adaptive, AdaptiveClip, Aggregation, Compression, Deadlines, Evaluation, Personalisation,
    Privacy, PrivacyUnit, Strategy, Training, Weights,
};

use serde::{Deserialize, Serialize};
use std::fmt;
use types::{Name, RegionId};

/// One thing wrong in a study.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The key, such as `privacy.epsilon` or `data.features[2].unit`.
    pub path: String,
    /// What is wrong, with the arithmetic, and what to write instead.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// A study as it is written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// What it is called.
    pub name: Name,
    /// The regions that take part; every region when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<RegionId>,
    /// How many facilities of each region are asked.
    pub sites: u16,
    /// What is learnt from.
    pub data: Data,
    /// What is learnt.
    pub model: Model,
    /// How.
    pub training: Training,
    /// What may be spent; nothing is promised when left out.
    #[serde(default)]
    pub privacy: Privacy,
    /// How updates are summed.
    pub aggregation: Aggregation,
    /// How long is waited.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// How the result is judged.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// Local fine-tuning of the result; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personalisation: Option<Personalisation>,
}

impl Study {
    /// How many vectors of the model's size an update has, and an order carries: `scaffold` has a control beside.
    #[must_use]
    pub const fn vectors(&self) -> usize {
        if matches!(self.training.strategy, Strategy::Scaffold { .. }) {
            2
        } else {
            1
        }
    }

    /// Inputs of the model: of each window for a model over windows, of all windows in a row for every other.
    #[must_use]
    pub fn inputs(&self) -> usize {
        let windows = if self.model.is_sequential() {
            1
        } else {
            self.data.windows()
        };
        self.data.inputs().saturating_mul(windows)
    }

    /// How many numbers an order carries of a model with so many parameters: the model, the control of `scaffold`, and the
    /// clip where it is adaptive.
    #[must_use]
    pub const fn carried(&self, parameters: usize) -> usize {
        parameters * self.vectors() + self.privacy.adaptive.is_some() as usize
    }

    /// How long a round may take in a region, in ms: each of its steps once, and of `cyclic` training once at each site, for
    /// whoever does not answer is waited for before the next one trains.
    #[must_use]
    pub fn round_ms(&self) -> i64 {
        let of = &self.deadlines;
        let turns = match self.training.strategy {
            Strategy::Cyclic {} => i64::from(self.sites),
            _ => 1,
        };
        let seconds = i64::from(of.accept_seconds)
            + i64::from(of.train_seconds) * turns
            + i64::from(of.exchange_seconds) * 3;
        seconds * 1_000
    }

    /// Whether the presence of single records is hidden.
    #[must_use]
    pub fn hides_records(&self) -> bool {
        self.privacy.unit == PrivacyUnit::Record
    }

    /// Everything that is wrong with a study that is handed in, not only the first thing: why it has no plan, and what of it
    /// makes no sense.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut found = self.plan().err().unwrap_or_default();
        found.extend(self.senseless());
        found
    }

    /// What of it makes no sense, though it can be run.
    #[must_use]
    pub fn senseless(&self) -> Vec<Problem> {
        sense::problems(self)
    }

    /// Whether so few records would be judged with that nothing may be told of them; a facility looks at that by itself.
    #[must_use]
    pub fn judges_too_few(&self) -> Option<Problem> {
        sense::judged_with(self)
    }

    /// What the study comes to.
    ///
    /// # Errors
    /// Every problem found, at least one, in the order of the file.
    pub fn plan(&self) -> Result<Plan, Vec<Problem>> {
        let mut problems = check::problems(self);
        let plan = plan::of(self, &mut problems);
        match plan {
            Some(plan) if problems.is_empty() => Ok(plan),
            _ => Err(problems),
        }
    }
}

#[cfg(test)]
mod tests;
