//! What a facility objects to in a study.
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that a facility does not allow. It names nothing of a patient, and is told to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objection {
    /// The study is not a good one, or not what it is said to come to.
    Plan(String),
    /// It asks for data that are not allowed.
    Data(String),
    /// Its aggregator stands under another law.
    Jurisdiction(String),
    /// The facility has too few records.
    Records(String),
    /// Too few facilities are summed.
    Participants(String),
    /// Updates could be seen one by one.
    SingleUpdates,
    /// No privacy is promised.
    NoPrivacy,
    /// Nobody may be told how good a model is here.
    Judging,
    /// A person at the facility refused the study.
    Person,
    /// It would spend more than is left.
    Budget(String),
    /// The order is not signed by the global node, or something of it was changed.
    Signature,
    /// Other code is asked for than trains here, or the facility allows.
    Code(String),
    /// The model may not be learnt.
    Model(String),
    /// The round was answered before: a second answer would tell more than one.
    Answered,
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plan(what) => write!(f, "plan: {what}"),
            Self::Data(what) => write!(f, "data: `{what}` may not be learnt from"),
            Self::Jurisdiction(what) => write!(
                f,
                "jurisdiction: an aggregator under `{what}` is not allowed"
            ),
            Self::Records(what) => write!(f, "records: {what}"),
            Self::Participants(what) => write!(f, "participants: {what}"),
            Self::SingleUpdates => f.write_str("updates could be seen one by one"),
            Self::NoPrivacy => f.write_str("the study promises no privacy"),
            Self::Budget(what) => write!(f, "budget: {what}"),
            Self::Judging => f.write_str("nobody may be told how good a model is here"),
            Self::Signature => {
                f.write_str("signature: the order is not the global node's, or was changed")
            }
            Self::Code(what) => write!(f, "code: {what}"),
            Self::Model(what) => write!(f, "model: `{what}` may not be learnt here"),
            Self::Answered => f.write_str("the round was answered before"),
            Self::Person => f.write_str("a person at the facility refused the study"),
        }
    }
}

/// Several of them in one line.
#[must_use]
pub fn text_of(found: &[Objection]) -> String {
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    lines.join("; ")
}
