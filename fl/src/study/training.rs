//! How a model is learnt, what may be spent, how updates are summed, how long is waited and how it is judged.
use serde::{Deserialize, Serialize};

/// Training at the facilities and what the coordinator does with their updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// How many times updates are collected.
    pub rounds: u32,
    /// Local updates of each round. Either this or `epochs` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u32>,
    /// Passes over the facility's records in each round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u32>,
    /// Records of a local update; with differential privacy by record, their expected number.
    pub batch: u32,
    /// Step width of local gradient descent.
    pub learning_rate: f64,
    /// What the coordinator does.
    pub strategy: Strategy,
    /// From which everything that is drawn in training follows, but for noise and samples that protect.
    #[serde(default)]
    pub seed: u64,
}

/// What becomes of the updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Strategy {
    /// Their mean is added (McMahan et al. 2017).
    FedAvg {},
    /// The same, with a local penalty of `mu`/2 times the squared distance from the global model (Li et al. 2020).
    FedProx {
        /// Weight of the penalty.
        mu: f64,
    },
    /// Adam at the coordinator (Reddi et al. 2021, algorithm 2).
    FedAdam(Adaptive),
    /// Yogi at the coordinator.
    FedYogi(Adaptive),
    /// Adagrad at the coordinator.
    FedAdagrad(Adaptive),
    /// Control variates against the drift of sites (Karimireddy et al. 2020).
    Scaffold {
        /// Step width of the coordinator.
        server_learning_rate: f64,
    },
    /// One site after another trains the same model.
    Cyclic {},
    /// The median of each coordinate; sees single updates.
    Median {},
    /// The mean of each coordinate without the `share` of the least and of the largest; sees single updates.
    TrimmedMean {
        /// What is left out at either end, below a half.
        share: f64,
    },
    /// The mean of updates that were scaled down to a norm; sees single updates.
    NormBound {
        /// The largest norm.
        norm: f64,
    },
}

/// Parameters of an adaptive coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptive {
    /// Step width of the coordinator.
    pub server_learning_rate: f64,
    /// Decay of the mean of updates.
    #[serde(default = "Adaptive::beta_1")]
    pub beta_1: f64,
    /// Decay of the mean of squared updates.
    #[serde(default = "Adaptive::beta_2")]
    pub beta_2: f64,
    /// What is added to the root of squared updates.
    #[serde(default = "Adaptive::tau")]
    pub tau: f64,
}

impl Adaptive {
    const fn beta_1() -> f64 {
        0.9
    }

    const fn beta_2() -> f64 {
        0.99
    }

    const fn tau() -> f64 {
        1e-3
    }

    /// The decays where none are given.
    pub(super) const fn usual() -> (f64, f64) {
        (Self::beta_1(), Self::beta_2())
    }
}

impl Strategy {
    /// Its name in a study.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FedAvg {} => "fed-avg",
            Self::FedProx { .. } => "fed-prox",
            Self::FedAdam(_) => "fed-adam",
            Self::FedYogi(_) => "fed-yogi",
            Self::FedAdagrad(_) => "fed-adagrad",
            Self::Scaffold { .. } => "scaffold",
            Self::Cyclic {} => "cyclic",
            Self::Median {} => "median",
            Self::TrimmedMean { .. } => "trimmed-mean",
            Self::NormBound { .. } => "norm-bound",
        }
    }

    /// Whether the coordinator has to see the updates one by one.
    #[must_use]
    pub const fn sees_single_updates(&self) -> bool {
        matches!(
            self,
            Self::Cyclic {} | Self::Median {} | Self::TrimmedMean { .. } | Self::NormBound { .. }
        )
    }
}

/// Whose presence is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrivacyUnit {
    /// Nobody's: no noise is added.
    #[default]
    None,
    /// One record's, by noise in each local update (Abadi et al. 2016).
    Record,
    /// One facility's, by noise on the sum.
    Facility,
}

impl PrivacyUnit {
    /// Its name in a study.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Record => "record",
            Self::Facility => "facility",
        }
    }
}

/// What may be spent by the whole study. There is no key for a noise: it follows from these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Whose presence is hidden.
    pub unit: PrivacyUnit,
    /// ε.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// δ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// L2 norm to which each record's gradient (unit `record`) or each facility's update is clipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// How the clip follows the updates, with the unit `facility`; it stays as it is when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveClip>,
}

/// A clip that follows a quantile of the updates' norms (Andrew et al. 2021, arXiv:1905.03871, algorithm 1): each
/// facility says under noise whether its update was within the clip, and the clip grows or shrinks by that.
///
/// What is said is one coordinate more of the clipped vector, so that one noise covers both, and its cost is in the
/// noise multiplier ([`AdaptiveClip::clips`]).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveClip {
    /// The share of updates that is to be within the clip.
    pub quantile: f64,
    /// By how much the logarithm of the clip moves for a share that is off by 1.
    #[serde(default = "AdaptiveClip::rate")]
    pub rate: f64,
}

impl AdaptiveClip {
    /// Length of the word "within", in clips: a facility moves the sum by √(1 + 1/16) clips, and the share of those
    /// within is known to twice the noise multiplier, divided by the number of facilities.
    pub const SHARE: u64 = 4;

    const fn rate() -> f64 {
        0.2
    }

    /// By how many clips a facility moves the sum of updates and words: √(1 + 1/16).
    #[must_use]
    pub fn clips() -> f64 {
        let share = Self::SHARE as f64;
        (1.0 + 1.0 / (share * share)).sqrt()
    }

    /// The clip of the next round, where `within` of the updates (0 to 1, as far as the noise tells) were within `clip`.
    #[must_use]
    pub fn next(&self, clip: f64, within: f64) -> f64 {
        let off = within.clamp(0.0, 1.0) - self.quantile;
        let next = clip * (-self.rate * off).exp();
        // As an order carries it. What is no number, or none that can be a clip, changes nothing.
        let carried = f64::from(next as f32);
        if carried.is_normal() { carried } else { clip }
    }
}

/// How updates are weighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// All the same.
    #[default]
    Equal,
    /// By the number of training records, up to `data.maximum_records`.
    Records,
}

/// How updates are summed in a region.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aggregation {
    /// Whether the region sees the sum only.
    pub secure: bool,
    /// How many sites of each region have to stay to the end of a round. It cannot be lowered afterwards.
    pub quorum: u16,
    /// How many sites may work together with the region without learning anything of another.
    #[serde(default)]
    pub colluders: u16,
    /// Norm to which each site's update is bounded, so that its fixed-point numbers fit; with unit `facility` it is
    /// `privacy.clip`, and is left out here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Into how many units that norm is divided.
    #[serde(default = "Aggregation::units")]
    pub units: u64,
    /// How updates are weighted.
    #[serde(default)]
    pub weights: Weights,
    /// Numbers of fewer bits, where an update is sent over a slow link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
}

/// Quantization with error feedback (Seide et al. 2014; Karimireddy et al. 2019, arXiv:1901.09847): what rounding and
/// range take from an update, its facility keeps and adds to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// Bits of each number before it is summed: 8 or 4.
    pub bits: u32,
    /// The largest coordinate of an update, in the unit of the parameters; what is beyond is kept for the next round.
    pub range: f64,
}

impl Compression {
    /// The largest number: 127 of 8 bits, 7 of 4.
    #[must_use]
    pub const fn most(self) -> u64 {
        // Other widths are refused by the plan.
        (1_u64
            << (if self.bits > 16 {
                16
            } else if self.bits < 2 {
                2
            } else {
                self.bits
            } - 1))
            - 1
    }

    /// What a number of 1 is, in the unit of the parameters.
    #[must_use]
    pub fn step(self) -> f64 {
        self.range / self.most() as f64
    }
}

impl Aggregation {
    const fn units() -> u64 {
        1 << 18
    }
}

/// How long each step of a round may take. What has not come by then is missing: a round never waits for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// For sites to accept or refuse the plan.
    pub accept_seconds: u32,
    /// For local training.
    pub train_seconds: u32,
    /// For each exchange of secure aggregation.
    pub exchange_seconds: u32,
}

impl Deadlines {
    /// The longest: a site that was off for a week may come back and take part.
    pub const MAX_SECONDS: u32 = 14 * 86_400;
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            accept_seconds: 86_400,
            train_seconds: 3_600,
            exchange_seconds: 600,
        }
    }
}

/// Local fine-tuning of the model that the study ended with, at each site on its own records, before it is judged a second
/// time. The tuned model stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Personalisation {
    /// Local steps.
    pub steps: u32,
    /// Their width.
    pub learning_rate: f64,
}

/// How the result is judged, at each site and pooled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Evaluation {
    /// The share of each site's records that is kept from training: each by itself, with this probability.
    pub test_share: f64,
    /// A column of 0 and 1 that says which records these are, instead of a share.
    pub test_column: Option<String>,
    /// Samples of the bootstrap from which intervals are taken.
    pub resamples: u32,
}

impl Default for Evaluation {
    fn default() -> Self {
        Self {
            test_share: 0.3,
            test_column: None,
            resamples: 1_000,
        }
    }
}
