//! What a site does in a round: trains from the global model on its own records, and writes the update as numbers that
//! may be masked and summed.
//!
//! Everything follows from the study and its plan. A site that would spend more than the plan says refuses.
use crate::{
    judge::{self, Judged},
    large, logistic,
    metrics::NoMetric,
    net::Net,
    order::{Aim, RoundOrder, Told},
    privacy::{
        clip::{Clip, ClipError},
        discrete::DiscreteGaussian,
    },
    strategy::local_steps,
    study::{AdaptiveClip, Plan, PrivacyUnit, Spend, Strategy, Study, Weights},
    train::{LocalPlan, PrivateStep, Records, TrainError, train, train_corrected, train_privately},
    update::{Memory, UpdateCodec, UpdateError},
};
use rand::CryptoRng;
use serde::{Deserialize, Serialize};

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
/// [`SiteError::Unable`] when a record would have more numbers than a worker is given.
pub fn model(study: &Study) -> Result<Net, SiteError> {
    let (inputs, windows) = (study.data.inputs(), study.data.windows());
    if inputs.saturating_mul(windows) > MAX_ROW {
        return Err(SiteError::Unable("a record has at most 100,000 numbers"));
    }
    Ok(Net::of(&study.model, inputs, windows))
}

/// The most numbers of a record, of all windows together.
pub(crate) const MAX_ROW: usize = 100_000;

/// How the updates of a study are written in its first round.
///
/// # Errors
/// [`SiteError::Unable`] when the study has no norm for them; [`SiteError::Clip`].
pub fn codec(study: &Study, model: &Net) -> Result<UpdateCodec, SiteError> {
    codec_at(study, model, None)
}

/// How the updates of a study are written in a round with this adaptive clip.
///
/// # Errors
/// As of [`codec`].
pub fn codec_at(study: &Study, model: &Net, clip: Option<f64>) -> Result<UpdateCodec, SiteError> {
    let norm = match study.privacy.unit {
        PrivacyUnit::Facility => clip.or(study.privacy.clip),
        PrivacyUnit::None | PrivacyUnit::Record => study.aggregation.bound,
    };
    let norm = norm.ok_or(SiteError::Unable("the study gives updates no norm"))?;
    let units = study.aggregation.units;
    let clip = Clip::new(norm, units, model.parameters())?;
    let control = match study.training.strategy {
        Strategy::Scaffold { .. } => {
            // A change of control is −c less the update by all its steps, each of them no longer than this.
            let norm = 2.0 * norm / reach(study)?;
            Some(Clip::new(norm, units, model.parameters())?)
        }
        _ => None,
    };
    let weighted = study.aggregation.weights == Weights::Records;
    Ok(UpdateCodec::new(clip, weighted)
        .with_control(control)
        .with_compression(study.aggregation.compression)
        .with_adaptive(study.privacy.adaptive.is_some()))
}

/// How far gradients of length 1 carry a model in a round of `scaffold`.
fn reach(study: &Study) -> Result<f64, SiteError> {
    let steps = study.training.steps;
    let steps = steps.ok_or(SiteError::Unable("`scaffold` needs a number of steps"))?;
    Ok(f64::from(steps) * study.training.learning_rate)
}

/// What an order carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Carried<'a> {
    /// The global model.
    pub model: &'a [f32],
    /// The global control of `scaffold`; nothing otherwise.
    pub control: &'a [f32],
    /// The adaptive clip of the round.
    pub clip: Option<f64>,
}

impl<'a> Carried<'a> {
    /// What the numbers of an order are.
    ///
    /// # Errors
    /// [`SiteError::Unable`] when they are not as many as the study says, or are none.
    pub fn of(study: &Study, parameters: usize, numbers: &'a [f32]) -> Result<Self, SiteError> {
        let finite = numbers.iter().all(|value| value.is_finite());
        if numbers.len() != study.carried(parameters) || !finite {
            return Err(SiteError::Unable(
                "the model has not the study's number of finite parameters",
            ));
        }
        let (model, rest) = numbers.split_at(parameters);
        let (control, clip) = rest.split_at((study.vectors() - 1) * parameters);
        let clip = clip.first().map(|clip| f64::from(*clip));
        if clip.is_some_and(|clip| clip <= 0.0) {
            return Err(SiteError::Unable("a clip is above 0"));
        }
        Ok(Self {
            model,
            control,
            clip,
        })
    }
}

impl RoundOrder {
    /// What the order carries of a model of `parameters` numbers; of one that fits no parcel nothing until its blob was
    /// read.
    ///
    /// # Errors
    /// As [`Carried::of`]; also when the blob is not as large as the study's model.
    pub fn carried(&self, study: &Study, parameters: usize) -> Result<Carried<'_>, SiteError> {
        if large::is_large(study, parameters as u64) != self.large.is_some() {
            return Err(SiteError::Unable(
                "a model that fits a parcel is in the order, and any other a blob",
            ));
        }
        let Some(large) = &self.large else {
            return Carried::of(study, parameters, &self.model);
        };
        let clips = study.carried(parameters) - parameters;
        let clip = self.model.first().map(|clip| f64::from(*clip));
        let good = clip.is_none_or(|clip| clip > 0.0 && clip.is_finite());
        if !large.has(parameters) || self.model.len() != clips || !good {
            return Err(SiteError::Unable(
                "the model has not the study's number of parameters",
            ));
        }
        Ok(Carried {
            model: &[],
            control: &[],
            clip,
        })
    }

    /// The same order with the model that was read of its blob.
    ///
    /// # Errors
    /// [`SiteError::Unable`] when one of its numbers is none.
    pub fn with_model(&self, bytes: &[u8]) -> Result<Self, SiteError> {
        let model = large::model_of(bytes);
        let mut model = model.ok_or(SiteError::Unable("a parameter of the model is not finite"))?;
        model.extend(&self.model);
        Ok(Self {
            model,
            large: None,
            ..self.clone()
        })
    }
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
    /// Whether records have times.
    #[serde(default)]
    pub survival: bool,
    /// What the site kept of its update before this one.
    #[serde(default)]
    pub memory: Option<Memory>,
    /// Bytes of a model that fits no parcel: they are before the records.
    #[serde(default)]
    pub model_bytes: usize,
}

/// What comes of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The numbers before they are masked.
    pub numbers: Vec<u32>,
    /// What is said besides.
    pub told: Told,
    /// What the site keeps for its next update.
    #[serde(default)]
    pub memory: Option<Memory>,
}

/// Does a job.
///
/// # Errors
/// [`SiteError`]; then nothing may be sent.
pub fn work<R: CryptoRng>(
    order: &RoundOrder,
    (train, test): (&Records, &Records),
    memory: Option<&Memory>,
    random: &mut R,
) -> Result<Made, SiteError> {
    let (study, plan) = order.read().map_err(SiteError::Study)?;
    let model = model(&study)?;
    let carried = Carried::of(&study, model.parameters(), &order.model)?;
    if order.aim == Aim::Judge {
        let tuned = match study.personalisation {
            Some(_) => Some(tuned(&study, &model, (carried.model, train), random)?),
            None => None,
        };
        let drawn = (study.evaluation.resamples, random);
        let judged = judge::of(&model, carried.model, tuned.as_deref(), test, drawn)?;
        let Judged { numbers, told } = judged;
        return Ok(Made {
            numbers,
            told,
            memory: None,
        });
    }
    // Loss and figures are of the records themselves: where anything is hidden they are not told.
    let told = match study.privacy.unit {
        PrivacyUnit::None => Told {
            loss: (!study.model.is_survival()).then(|| loss(&model, carried.model, train)),
            auroc: judge::auroc(&model, carried.model, test),
            ..Told::default()
        },
        PrivacyUnit::Record | PrivacyUnit::Facility => Told::default(),
    };
    let (numbers, memory) = made(&study, &plan, &model, (carried, train), memory, random)?;
    Ok(Made {
        numbers,
        told,
        memory,
    })
}

fn loss(model: &Net, parameters: &[f32], records: &Records) -> f64 {
    let of = |(record, label): (&[f32], bool)| {
        logistic::loss(model.logit(parameters, record), f64::from(u8::from(label)))
    };
    records.iter().map(of).sum::<f64>() / records.len().max(1) as f64
}

/// The model after a site's own fine-tuning.
fn tuned<R: CryptoRng>(
    study: &Study,
    model: &Net,
    (global, records): (&[f32], &Records),
    random: &mut R,
) -> Result<Vec<f32>, SiteError> {
    let own = study
        .personalisation
        .ok_or(SiteError::Unable("nothing is tuned"))?;
    let local = LocalPlan {
        steps: own.steps.into(),
        batch: study.training.batch,
        learning_rate: own.learning_rate,
        proximal: 0.0,
    };
    Ok(train(model, global, records, &local, random)?)
}

/// Trains from `global` (as many numbers as the study's model has) and returns the update of a first round, modulo 2^32 and
/// in units of the study's clip, ready to be masked. `random` is seeded by nobody's choice where privacy is promised:
/// samples and noise are drawn from it.
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
    let carried = Carried {
        model: global,
        control: &[],
        clip: None,
    };
    Ok(made(study, plan, &model, (carried, records), None, random)?.0)
}

/// Trains, and writes the update with what is kept for the next one.
fn made<R: CryptoRng>(
    study: &Study,
    plan: &Plan,
    model: &Net,
    (carried, records): (Carried<'_>, &Records),
    memory: Option<&Memory>,
    random: &mut R,
) -> Result<(Vec<u32>, Option<Memory>), SiteError> {
    let codec = codec_at(study, model, carried.clip)?;
    let global = carried.model;
    if let Strategy::Scaffold { .. } = study.training.strategy {
        let own = memory.map(|of| of.control.as_slice());
        let (update, control) = controlled(study, model, (carried, own, records), random)?;
        let both = [update, control.change].concat();
        let numbers = codec.encode(&both, weight(study, records), no_noise::<R>())?;
        let memory = Memory {
            control: control.own,
            residual: Vec::new(),
        };
        return Ok((numbers, Some(memory)));
    }
    let trained = match trained(study, plan, model, (global, records), random) {
        // That it led nowhere would tell of records, and no noise covers what is declined, nor is it paid for: what is sent is
        // that the model has not moved.
        Err(SiteError::Train(TrainError::Diverged(_)))
            if study.privacy.unit != PrivacyUnit::None =>
        {
            global.to_vec()
        }
        trained => trained?,
    };
    let moved = moved(study.privacy.unit, &trained, global);
    if let Some(compression) = study.aggregation.compression {
        let left = memory.map_or(&[][..], |of| &of.residual);
        let (numbers, residual) = codec.compress(compression, &moved, left)?;
        let memory = Memory {
            control: Vec::new(),
            residual,
        };
        return Ok((numbers, Some(memory)));
    }
    let share = match plan.spend {
        Some(spend) if spend.unit == PrivacyUnit::Facility => {
            Some(noise_share(study, spend, codec.clip())?)
        }
        _ => None,
    };
    let noise = share.as_ref().map(|share| (share, random));
    Ok((codec.encode(&moved, weight(study, records), noise)?, None))
}

/// By how much a model has moved; where something is hidden, none that has moved beyond all numbers.
fn moved(unit: PrivacyUnit, trained: &[f32], global: &[f32]) -> Vec<f32> {
    let both = trained.iter().zip(global);
    let moved: Vec<f32> = both.map(|(to, from)| to - from).collect();
    match unit == PrivacyUnit::None || moved.iter().all(|value| value.is_finite()) {
        true => moved,
        false => vec![0.0; moved.len()],
    }
}

const fn no_noise<'a, R>() -> Option<(&'a DiscreteGaussian, &'a mut R)> {
    None
}

/// What a round of `scaffold` makes of a site's control.
struct Control {
    /// The control that it has now.
    own: Vec<f32>,
    /// What it sends: by how much that is another one than before.
    change: Vec<f32>,
}

/// A round of SCAFFOLD at a site (Karimireddy et al. 2020, algorithm 1, option II).
fn controlled<R: CryptoRng>(
    study: &Study,
    model: &Net,
    (carried, own, records): (Carried<'_>, Option<&[f32]>, &Records),
    random: &mut R,
) -> Result<(Vec<f32>, Control), SiteError> {
    let zeros = vec![0.0; model.parameters()];
    let own = own.filter(|own| own.len() == zeros.len()).unwrap_or(&zeros);
    let between = |(all, own): (&f32, &f32)| f64::from(*all) - f64::from(*own);
    let correction: Vec<f64> = carried.control.iter().zip(own).map(between).collect();
    let local = LocalPlan {
        steps: local_steps(&study.training, 0),
        batch: study.training.batch,
        learning_rate: study.training.learning_rate,
        proximal: 0.0,
    };
    let end = train_corrected(model, carried.model, records, &local, &correction, random)?;
    let reach = reach(study)?;
    let update: Vec<f32> = end.iter().zip(carried.model).map(|(y, x)| y - x).collect();
    let moved = update.iter().zip(carried.control);
    let change: Vec<f32> = moved
        .map(|(update, control)| (-f64::from(*update) / reach - f64::from(*control)) as f32)
        .collect();
    // What is sent is clipped, and the site goes on from what it sent: the mean of all controls stays the global one.
    let norm = 2.0 * study.aggregation.bound.unwrap_or_default() / reach;
    let long = change
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    let factor = if long > norm { norm / long } else { 1.0 };
    let next = |(own, change): (&f32, &f32)| (f64::from(*own) + factor * f64::from(*change)) as f32;
    let own = own.iter().zip(&change).map(next).collect();
    Ok((update, Control { own, change }))
}

fn noise_share(study: &Study, spend: Spend, clip: &Clip) -> Result<DiscreteGaussian, SiteError> {
    let aggregation = &study.aggregation;
    let honest = aggregation.quorum.saturating_sub(aggregation.colluders);
    let clips = match study.privacy.adaptive {
        Some(_) => AdaptiveClip::clips(),
        None => 1.0,
    };
    Ok(clip.noise_share(spend.noise_multiplier * clips, honest)?)
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
    model: &Net,
    (global, records): (&[f32], &Records),
    random: &mut R,
) -> Result<Vec<f32>, SiteError> {
    let proximal = match study.training.strategy {
        Strategy::FedProx { mu } => mu,
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
