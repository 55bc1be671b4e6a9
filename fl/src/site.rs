//! What a site does in a round: trains from the global model on its own records, and writes the update as numbers that
//! may be masked and summed.
//!
//! Everything follows from the study and its plan. A site that would spend more than the plan says refuses.
use crate::{
    dense::Dense,
    metrics::{Histogram, Metrics, NoMetric, Scored, metrics, metrics_within},
    order::{Aim, RoundOrder, Told},
    privacy::{
        clip::{Clip, ClipError},
        discrete::DiscreteGaussian,
    },
    strategy::local_steps,
    study::{Plan, PrivacyUnit, Spend, Strategy, Study, Weights},
    train::{LocalPlan, PrivateStep, Records, TrainError, train, train_privately},
    update::{UpdateCodec, UpdateError},
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

/// A site with fewer records to judge with does not tell its own figures: they would be nearly those of single patients.
pub const SMALLEST_CELL: usize = 11;

/// Units into which a clip of gradients is divided, where the noise leaves room for so many.
const GRADIENT_UNITS: u64 = 1 << 20;
/// The largest standard deviation of noise on gradients, in units: half of what can be drawn.
const LARGEST_NOISE: f64 = (1 << 25) as f64;

/// Why a site sends no update.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SiteError {
    /// The study.
    #[error("{0}")]
    Study(String),
    /// Scores are no probabilities.
    #[error(transparent)]
    Judge(#[from] NoMetric),
    /// The model or strategy cannot be trained by this build.
    #[error("{0}")]
    Unable(&'static str),
    /// Training.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Encoding.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The clip or its noise.
    #[error(transparent)]
    Clip(#[from] ClipError),
}

/// The model of a study.
///
/// # Errors
/// [`SiteError::Unable`] when it is not made of dense layers alone.
pub fn model(study: &Study) -> Result<Dense, SiteError> {
    Dense::of(&study.model, study.data.inputs()).ok_or(SiteError::Unable(
        "only models of kind `logistic` and `mlp` can be trained",
    ))
}

/// How the updates of a study are written.
///
/// # Errors
/// [`SiteError::Unable`] when the study has no norm for them; [`SiteError::Clip`].
pub fn codec(study: &Study, model: &Dense) -> Result<UpdateCodec, SiteError> {
    let norm = match study.privacy.unit {
        PrivacyUnit::Facility => study.privacy.clip,
        PrivacyUnit::None | PrivacyUnit::Record => study.aggregation.bound,
    };
    let norm = norm.ok_or(SiteError::Unable("the study gives updates no norm"))?;
    let clip = Clip::new(norm, study.aggregation.units, model.parameters())?;
    let weighted = study.aggregation.weights == Weights::Records;
    Ok(UpdateCodec::new(clip, weighted))
}

/// What a worker is given of a round, besides the records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// The round.
    pub order: RoundOrder,
    /// From which training draws; the system's generator where privacy is promised.
    pub seed: Option<[u8; 32]>,
    /// Inputs of a record.
    pub inputs: usize,
    /// Records to train with; those to judge with follow.
    pub train: usize,
    /// Records to judge with.
    pub test: usize,
}

/// What comes of a job: the numbers before they are masked, and what is said besides.
///
/// # Errors
/// [`SiteError`]; then nothing may be sent.
pub fn work<R: CryptoRng>(
    order: &RoundOrder,
    records: (&Records, &Records),
    random: &mut R,
) -> Result<(Vec<u32>, Told), SiteError> {
    let (study, plan) = order.read().map_err(SiteError::Study)?;
    let (train, test) = records;
    let model = model(&study)?;
    if order.model.len() != model.parameters() {
        return Err(SiteError::Unable(
            "the model has not the study's number of parameters",
        ));
    }
    if order.aim == Aim::Judge {
        let resamples = study.evaluation.resamples;
        return Ok(judged(&model, &order.model, test, (resamples, random))?);
    }
    // Loss and figures are of the records themselves: where anything is hidden they are not told.
    let told = match study.privacy.unit {
        PrivacyUnit::None => Told {
            loss: Some(loss(&model, &order.model, train)),
            auroc: own_figures(&scored(&model, &order.model, test), metrics)
                .map(|figures| figures.auroc),
            figures: None,
        },
        PrivacyUnit::Record | PrivacyUnit::Facility => Told::default(),
    };
    let numbers = update(&study, &plan, &order.model, train, random)?;
    Ok((numbers, told))
}

fn loss(model: &Dense, parameters: &[f32], records: &Records) -> f64 {
    let of = |(record, label): (&[f32], bool)| {
        let logit = model.logit(parameters, record);
        logit.max(0.0) + (-logit.abs()).exp().ln_1p() - if label { logit } else { 0.0 }
    };
    records.iter().map(of).sum::<f64>() / records.len().max(1) as f64
}

/// Counts of scores for the sum, and this site's own figures.
fn judged<R: CryptoRng>(
    model: &Dense,
    parameters: &[f32],
    test: &Records,
    (resamples, random): (u32, &mut R),
) -> Result<(Vec<u32>, Told), NoMetric> {
    let scored = scored(model, parameters, test);
    let counts = Histogram::of(&scored)?.counts().to_vec();
    let figures = own_figures(&scored, |scored| metrics_within(scored, resamples, random));
    let told = Told {
        figures,
        ..Told::default()
    };
    Ok((counts, told))
}

fn scored(model: &Dense, parameters: &[f32], records: &Records) -> Vec<Scored> {
    let of = |(record, label): (&[f32], bool)| Scored {
        score: model.probability(parameters, record),
        label,
    };
    records.iter().map(of).collect()
}

/// A site's own figures, where it has so many records that they tell of no one.
fn own_figures(
    scored: &[Scored],
    figures: impl FnOnce(&[Scored]) -> Result<Metrics, NoMetric>,
) -> Option<Metrics> {
    (scored.len() >= SMALLEST_CELL)
        .then(|| figures(scored).ok())
        .flatten()
}

/// Trains from `global` and returns the update, ready to be masked. `random` is seeded by nobody's choice where
/// privacy is promised: samples and noise are drawn from it.
///
/// # Errors
/// [`SiteError`]; then nothing may be sent.
pub fn update<R: CryptoRng>(
    study: &Study,
    plan: &Plan,
    global: &[f32],
    records: &Records,
    random: &mut R,
) -> Result<Vec<u32>, SiteError> {
    let model = model(study)?;
    let codec = codec(study, &model)?;
    let trained = trained(study, plan, &model, (global, records), random)?;
    let moved: Vec<f32> = trained
        .iter()
        .zip(global)
        .map(|(to, from)| to - from)
        .collect();
    let share = match plan.spend {
        Some(spend) if spend.unit == PrivacyUnit::Facility => {
            Some(noise_share(study, spend, &model)?)
        }
        _ => None,
    };
    let noise = share.as_ref().map(|share| (share, random));
    Ok(codec.encode(&moved, weight(study, records), noise)?)
}

fn noise_share(study: &Study, spend: Spend, model: &Dense) -> Result<DiscreteGaussian, SiteError> {
    let aggregation = &study.aggregation;
    let norm = study
        .privacy
        .clip
        .ok_or(SiteError::Unable("the study has no clip"))?;
    let clip = Clip::new(norm, aggregation.units, model.parameters())?;
    let honest = aggregation.quorum.saturating_sub(aggregation.colluders);
    Ok(clip.noise_share(spend.noise_multiplier, honest)?)
}

fn weight(study: &Study, records: &Records) -> f64 {
    match (study.aggregation.weights, study.data.maximum_records) {
        (Weights::Records, Some(most)) => (records.len() as f64 / f64::from(most.max(1))).min(1.0),
        _ => 1.0,
    }
}

fn trained<R: CryptoRng>(
    study: &Study,
    plan: &Plan,
    model: &Dense,
    (global, records): (&[f32], &Records),
    random: &mut R,
) -> Result<Vec<f32>, SiteError> {
    let proximal = match study.training.strategy {
        Strategy::FedProx { mu } => mu,
        Strategy::Scaffold { .. } => {
            return Err(SiteError::Unable("`scaffold` cannot be trained yet"));
        }
        _ => 0.0,
    };
    let spend = plan.spend.filter(|spend| spend.unit == PrivacyUnit::Record);
    let steps = match spend {
        Some(spend) => spend.steps / u64::from(study.training.rounds.max(1)),
        None => {
            let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
            local_steps(&study.training, count)
        }
    };
    let local = LocalPlan {
        steps,
        batch: study.training.batch,
        learning_rate: study.training.learning_rate,
        proximal,
    };
    let Some(spend) = spend else {
        return Ok(train(model, global, records, &local, random)?);
    };
    let norm = study
        .privacy
        .clip
        .ok_or(SiteError::Unable("the study has no clip"))?;
    let mut units = GRADIENT_UNITS;
    while units > 1 && units as f64 * spend.noise_multiplier > LARGEST_NOISE {
        units /= 2;
    }
    let clip = Clip::new(norm, units, model.parameters())?;
    let private = PrivateStep::new(clip, spend.noise_multiplier, spend.sampling)?;
    Ok(train_privately(
        model, global, records, &local, &private, random,
    )?)
}

#[cfg(test)]
#[path = "site_tests.rs"]
mod tests;
