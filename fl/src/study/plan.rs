//! What a study comes to, and what of its arithmetic does not work out: quorum, bits and budget.
use super::{AdaptiveClip, Model, PrivacyUnit, Problem, Study, Weights, options};
use crate::{
    privacy::{self, Delta, Event, InvalidEvent, clip::Clip, known_epsilon, known_noise},
    secagg::{InvalidTerms, Terms},
};
use ring::digest::{SHA256, digest};
use serde::Serialize;

/// What a study comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Inputs of the model: of a record, or of each window.
    pub inputs: usize,
    /// Parameters of the model.
    pub parameters: u64,
    /// SHA-256 of the model's shape with its inputs, in hexadecimal digits: what a facility may allow by name.
    pub model_sha256: String,
    /// Bytes of each site's update.
    pub update_bytes: u64,
    /// How many sites of each region may be lost in a round.
    pub dropouts: u16,
    /// Whether the numbers fit; none while their norm is not known.
    pub bits: Option<Bits>,
    /// What is spent; none without privacy.
    pub spend: Option<Spend>,
}

/// How much of the 32 bits of a summed number is used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bits {
    /// The largest number that the sum of all sites can reach, in units, noise included.
    pub largest: u64,
    /// Bits of that number with its sign.
    pub needed: u32,
    /// Bits that there are.
    pub available: u32,
    /// A unit, in the unit of the model's parameters.
    pub unit: f64,
}

impl Bits {
    /// Bits of a number of the ring of secure aggregation.
    pub const AVAILABLE: u32 = 32;
}

/// What a study spends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spend {
    /// Whose presence is hidden.
    pub unit: PrivacyUnit,
    /// ε at the end.
    pub epsilon: f64,
    /// δ.
    pub delta: f64,
    /// With which probability a unit takes part in a step; of records, at the smallest facility.
    pub sampling: f64,
    /// Standard deviation of the noise, in clips.
    pub noise_multiplier: f64,
    /// How many times noise is added.
    pub steps: u64,
}

impl Spend {
    /// What so many rounds of the study cost a facility's ledger, which counts what is told of its records: neighbours
    /// differ in one of them. None where no round is left.
    ///
    /// With the unit `record` that is the noise of the study itself. With the unit `facility` the noise is for an update
    /// that is there or not, as long as a clip at most. One record more may turn such an update into any other, which is
    /// up to two clips away: of that distance the noise is half as much, and every record is in every step.
    ///
    /// # Errors
    /// [`InvalidEvent`] when it cannot be accounted for: then nothing may be spent.
    pub fn event(&self, study: &Study, rounds: u32) -> Result<Option<Event>, InvalidEvent> {
        let all = u64::from(study.training.rounds.max(1));
        let steps = self.steps / all * u64::from(rounds).min(all);
        if steps == 0 {
            return Ok(None);
        }
        let noise = match self.unit {
            PrivacyUnit::Facility => self.noise_multiplier / 2.0,
            PrivacyUnit::Record | PrivacyUnit::None => self.noise_multiplier,
        };
        Event::new(self.sampling, noise, steps).map(Some)
    }
}

/// The most noise on the mean of a step, in clips. A step's signal is one clip at most: with ten times that, a hundred
/// steps that all agree are as far as their noise.
const MAX_NOISE_ON_MEAN: f64 = 10.0;
/// The probability with which the noise of one round may be beyond what bits are kept for: it would only make the
/// round's model useless, and tell nothing.
const LN_NOISE_BEYOND: f64 = -27.7; // 2^-40

/// The plan, and in `problems` what does not work out.
pub fn of(study: &Study, problems: &mut Vec<Problem>) -> Option<Plan> {
    let inputs = study.inputs();
    let parameters = study.model.parameters(inputs);
    quorum(study, problems);
    combinations(study, problems);
    let spend = spend(study, problems);
    if parameters > Model::MAX_PARAMETERS || parameters == 0 {
        return None;
    }
    let bits = bits(study, parameters, spend, problems);
    // The weight of an update, and whether it was within an adaptive clip, are one number more each.
    let numbers = parameters * study.vectors() as u64
        + u64::from(study.aggregation.weights == Weights::Records)
        + u64::from(study.privacy.adaptive.is_some());
    let width = match (study.aggregation.compression, bits) {
        (Some(_), Some(bits)) => u64::from(bits.needed),
        _ => u64::from(Bits::AVAILABLE),
    };
    Some(Plan {
        inputs,
        parameters,
        model_sha256: shape(&study.model, inputs),
        update_bytes: (numbers * width).div_ceil(8),
        dropouts: study.sites.saturating_sub(study.aggregation.quorum),
        bits,
        spend,
    })
}

/// SHA-256 of a model's shape.
fn shape(model: &Model, inputs: usize) -> String {
    let text = serde_json::to_string(&(model, inputs)).unwrap_or_default();
    let digest = digest(&SHA256, text.as_bytes());
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn quorum(study: &Study, problems: &mut Vec<Problem>) {
    let aggregation = &study.aggregation;
    let mut say = |key: &str, message: String| {
        problems.push(Problem::new(format!("aggregation.{key}"), message));
    };
    if !aggregation.secure {
        if aggregation.quorum == 0 || aggregation.quorum > study.sites {
            let sites = study.sites;
            say(
                "quorum",
                format!("is from 1 to the {sites} sites that are asked"),
            );
        }
        if aggregation.colluders > 0 {
            say(
                "colluders",
                "learn every update where aggregation is not secure".into(),
            );
        }
        return;
    }
    match Terms::new(study.sites, aggregation.quorum, aggregation.colluders) {
        // `sites` was said to be wrong already.
        Ok(_) | Err(InvalidTerms::Members(_)) => {}
        Err(error) => say("quorum", error.to_string()),
    }
}

/// What excludes each other.
fn combinations(study: &Study, problems: &mut Vec<Problem>) {
    let mut say = |path: &str, message: &str| problems.push(Problem::new(path, message));
    let (aggregation, privacy) = (&study.aggregation, &study.privacy);
    if aggregation.secure && study.training.strategy.sees_single_updates() {
        let name = study.training.strategy.name();
        say(
            "training.strategy.kind",
            &format!("`{name}` has to see single updates, which `aggregation.secure` hides"),
        );
    }
    options::combinations(study, &mut say);
    let facility = privacy.unit == PrivacyUnit::Facility;
    if facility && !aggregation.secure {
        say(
            "aggregation.secure",
            "is true where facilities are hidden: the region would see their updates",
        );
    }
    if facility && study.vectors() > 1 {
        say(
            "training.strategy.kind",
            "`scaffold` sends two vectors, and only one is clipped and noised",
        );
    }
    if facility && aggregation.weights == Weights::Records {
        say(
            "aggregation.weights",
            "is `equal` where facilities are hidden: the number of records would tell",
        );
    }
    if privacy.unit == PrivacyUnit::Record && aggregation.weights == Weights::Records {
        say(
            "aggregation.weights",
            "is `equal` where records are hidden: their number would tell, and larger sites move farther anyway",
        );
    }
    if facility && aggregation.bound.is_some() {
        say(
            "aggregation.bound",
            "is `privacy.clip` where facilities are hidden; leave it out",
        );
    }
    if aggregation.weights == Weights::Records && study.data.maximum_records.is_none() {
        say(
            "data.maximum_records",
            "is needed where updates are weighted by records: it bounds the largest weight",
        );
    }
    if privacy.unit == PrivacyUnit::Record && study.model.is_survival() {
        say(
            "privacy.unit",
            "cannot be `record` for `cox`: its loss is not a sum over records",
        );
    }
}

/// The norm of an update that the fixed-point numbers are made for.
fn bound(study: &Study) -> Option<f64> {
    if study.privacy.unit == PrivacyUnit::Facility {
        study.privacy.clip
    } else {
        study.aggregation.bound
    }
}

fn bits(
    study: &Study,
    parameters: u64,
    spend: Option<Spend>,
    problems: &mut Vec<Problem>,
) -> Option<Bits> {
    let Some(norm) = bound(study) else {
        if study.privacy.unit != PrivacyUnit::Facility {
            let message = "is the norm of an update that numbers have to hold; give it";
            problems.push(Problem::new("aggregation.bound", message));
        }
        return None;
    };
    let units = study.aggregation.units;
    let clip = match Clip::new(norm, units, usize::try_from(parameters).ok()?) {
        Ok(clip) => clip,
        Err(error) => {
            let key = match error {
                privacy::clip::ClipError::Norm(_)
                    if study.privacy.unit != PrivacyUnit::Facility =>
                {
                    "aggregation.bound"
                }
                privacy::clip::ClipError::Norm(_) => return None,
                _ => "aggregation.units",
            };
            problems.push(Problem::new(key, error.to_string()));
            return None;
        }
    };
    let noise = match spend {
        Some(spend) if spend.unit == PrivacyUnit::Facility => {
            let multiplier = spend.noise_multiplier * clips(study);
            noise_reach(study, &clip, multiplier, parameters, problems)?
        }
        _ => 0.0,
    };
    if let Some(compression) = study.aggregation.compression {
        let largest = u64::from(study.sites) * compression.most();
        return Some(Bits {
            largest,
            needed: largest.max(1).ilog2() + 2,
            available: Bits::AVAILABLE,
            unit: compression.step(),
        });
    }
    let largest = f64::from(study.sites) * units as f64 + noise;
    let needed = largest.log2().floor() as u32 + 2;
    if needed > Bits::AVAILABLE {
        let most = (f64::from(i32::MAX) - noise) / f64::from(study.sites);
        let sites = study.sites;
        problems.push(Problem::new(
            "aggregation.units",
            format!(
                "{sites} sites x {units} units + {noise:.0} of noise = {largest:.0} need {needed} bits with the sign, and there are {}: at most {:.0} units",
                Bits::AVAILABLE,
                most.max(0.0)
            ),
        ));
        return None;
    }
    Some(Bits {
        largest: largest.ceil() as u64,
        needed,
        available: Bits::AVAILABLE,
        unit: clip.value(1),
    })
}

/// By how many clips a facility moves a sum.
fn clips(study: &Study) -> f64 {
    match study.privacy.adaptive {
        Some(_) => AdaptiveClip::clips(),
        None => 1.0,
    }
}

/// How far the noise of all coordinates reaches in one round, but with probability 2^-40, in units.
///
/// Each site adds a share of it, so that the honest ones of any quorum have all of it; when more arrive there is more.
fn noise_reach(
    study: &Study,
    clip: &Clip,
    multiplier: f64,
    parameters: u64,
    problems: &mut Vec<Problem>,
) -> Option<f64> {
    let aggregation = &study.aggregation;
    let honest = aggregation
        .quorum
        .saturating_sub(aggregation.colluders)
        .max(1);
    let share = match clip.noise_share(multiplier, honest) {
        Ok(share) => share,
        Err(error) => {
            problems.push(Problem::new("aggregation.units", error.to_string()));
            return None;
        }
    };
    let deviation = (share.variance() as f64 * f64::from(study.sites)).sqrt();
    // P(|X| > t) ≤ 2·exp(−t²/2σ²) holds for the discrete Gaussian (CKS20 proposition 25), for each coordinate.
    let tail = (2.0 * ((2.0 * parameters as f64).ln() - LN_NOISE_BEYOND)).sqrt();
    Some(deviation * tail)
}

fn spend(study: &Study, problems: &mut Vec<Problem>) -> Option<Spend> {
    let privacy = &study.privacy;
    let mut say = |key: &str, message: String| {
        problems.push(Problem::new(format!("privacy.{key}"), message));
    };
    if privacy.unit == PrivacyUnit::None {
        for (key, given) in [
            ("epsilon", privacy.epsilon),
            ("delta", privacy.delta),
            ("clip", privacy.clip),
            ("adaptive", privacy.adaptive.map(|of| of.quantile)),
        ] {
            if given.is_some() {
                say(key, "promises nothing with the unit `none`; write `record` or `facility`, or leave it out".into());
            }
        }
        return None;
    }
    let unit = privacy.unit.as_str();
    for (key, value) in [
        ("epsilon", privacy.epsilon),
        ("delta", privacy.delta),
        ("clip", privacy.clip),
    ] {
        match value {
            None => say(key, format!("is needed for the unit `{unit}`")),
            Some(value) if !(value > 0.0 && value.is_finite()) => {
                say(key, format!("is a number above 0, not {value}"));
            }
            Some(_) => {}
        }
    }
    let (epsilon, delta) = (privacy.epsilon?, privacy.delta?);
    if !(epsilon > 0.0 && epsilon.is_finite() && delta > 0.0 && delta.is_finite()) {
        return None;
    }
    let delta = match Delta::new(delta) {
        Ok(delta) => delta,
        Err(error) => {
            say("delta", error.to_string());
            return None;
        }
    };
    let (sampling, steps) = use_of_noise(study, problems)?;
    calibrate(study, sampling, steps, epsilon, delta, problems)
}

/// With which probability a unit is in a step, and how many steps there are.
fn use_of_noise(study: &Study, problems: &mut Vec<Problem>) -> Option<(f64, u64)> {
    let training = &study.training;
    if study.privacy.unit == PrivacyUnit::Facility {
        return Some((1.0, training.rounds.max(1).into()));
    }
    let smallest = f64::from(study.data.minimum_records) * (1.0 - study.evaluation.test_share);
    let sampling = f64::from(training.batch) / smallest.floor().max(1.0);
    if sampling > 1.0 {
        let records = study.data.minimum_records;
        problems.push(Problem::new(
            "training.batch",
            format!(
                "{} records are expected in a sample, and a facility of {records} has {:.0} to train with",
                training.batch,
                smallest.floor()
            ),
        ));
        return None;
    }
    let local = match (training.steps, training.epochs) {
        (Some(steps), None) => u64::from(steps),
        (None, Some(epochs)) => (f64::from(epochs) / sampling).ceil() as u64,
        _ => return None,
    };
    Some((sampling, local * u64::from(training.rounds)))
}

fn calibrate(
    study: &Study,
    sampling: f64,
    steps: u64,
    epsilon: f64,
    delta: Delta,
    problems: &mut Vec<Problem>,
) -> Option<Spend> {
    let privacy = &study.privacy;
    let records = f64::from(study.data.minimum_records);
    if privacy.unit == PrivacyUnit::Record && delta.get() >= 1.0 / records {
        problems.push(Problem::new(
            "privacy.delta",
            format!(
                "is below 1/{records} = {:.2e}: at that, publishing a record at random would do",
                1.0 / records
            ),
        ));
    }
    match known_noise(sampling, steps, epsilon, delta) {
        Ok(noise_multiplier) => {
            let mean_of = match privacy.unit {
                PrivacyUnit::Facility => f64::from(study.aggregation.quorum.max(1)),
                PrivacyUnit::Record | PrivacyUnit::None => f64::from(study.training.batch.max(1)),
            };
            let on_mean = noise_multiplier / mean_of;
            if on_mean > MAX_NOISE_ON_MEAN {
                problems.push(Problem::new(
                    "privacy.epsilon",
                    format!(
                        "{epsilon} for {steps} steps at a sampling probability of {sampling:.6} needs a noise of {noise_multiplier:.1} clips, {on_mean:.1} on a mean of {mean_of}; beyond {MAX_NOISE_ON_MEAN} nothing is learnt: take fewer rounds or steps, or more in a mean"
                    ),
                ));
                return None;
            }
            let event = Event::new(sampling, noise_multiplier, steps).ok()?;
            Some(Spend {
                unit: privacy.unit,
                epsilon: known_epsilon(event, delta),
                delta: delta.get(),
                sampling,
                noise_multiplier,
                steps,
            })
        }
        Err(error) => {
            let steps = format!("{steps} steps at a sampling probability of {sampling:.6}");
            problems.push(Problem::new("privacy.epsilon", format!("{steps}: {error}")));
            None
        }
    }
}
