//! Training of a model on a facility's own records: the same numbers for the same seed, on every machine.
//!
//! With the privacy unit `record` every step takes a true Poisson sample, clips each record's gradient, sums them in
//! whole numbers and adds discrete Gaussian noise ([`PrivateStep`]): the same clip gives the bound and the noise.
use crate::{
    net::{Net, Scratch},
    privacy::{
        clip::{Clip, ClipError},
        discrete::DiscreteGaussian,
    },
};
use rand::{CryptoRng, RngCore, seq::SliceRandom};
use std::cmp::Ordering;

/// Why records cannot be learnt from, or training went wrong.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Numbers and labels do not go together.
    #[error("{numbers} numbers and {labels} labels are no records of {inputs} inputs")]
    Shape {
        /// Numbers of all records.
        numbers: usize,
        /// Labels.
        labels: usize,
        /// Inputs of the model.
        inputs: usize,
    },
    /// A value of a record is NaN or infinite.
    #[error("input {input} of record {record} is not finite")]
    NotFinite {
        /// Which record, from 0.
        record: usize,
        /// Which input, from 0.
        input: usize,
    },
    /// A record has no time, or none that is a number.
    #[error("record {0} has no time")]
    Time(usize),
    /// The model is of another size, or has what is no number.
    #[error("the model has not {0} finite numbers")]
    Model(usize),
    /// A step led to what is no number: its width is too large for these records.
    #[error(
        "step {0} led to a model with numbers that are not finite: take a smaller learning rate"
    )]
    Diverged(u64),
    /// The clip cannot be used.
    #[error(transparent)]
    Clip(#[from] ClipError),
}

/// Records of a facility, as the model's inputs.
#[derive(Clone, PartialEq)]
pub struct Records {
    inputs: usize,
    values: Vec<f32>,
    labels: Vec<bool>,
    /// Of a survival study: when each had the event or was last seen, in days; none otherwise.
    times: Option<Vec<f64>>,
}

/// A step's width and what it is taken from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LocalPlan {
    /// How many steps.
    pub steps: u64,
    /// Records of a step; in private steps what their sum is divided by.
    pub batch: u32,
    /// Step width.
    pub learning_rate: f64,
    /// FedProx's weight of the distance from the global model; 0 for none.
    pub proximal: f64,
}

impl Records {
    /// Records of `inputs` values each, one after another, and their labels. There may be none.
    ///
    /// # Errors
    /// [`TrainError::Shape`]; [`TrainError::NotFinite`] names record and input.
    pub fn new(inputs: usize, values: Vec<f32>, labels: Vec<bool>) -> Result<Self, TrainError> {
        let whole = inputs.checked_mul(labels.len()) == Some(values.len());
        if inputs == 0 || !whole {
            return Err(TrainError::Shape {
                numbers: values.len(),
                labels: labels.len(),
                inputs,
            });
        }
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(TrainError::NotFinite {
                record: at / inputs,
                input: at % inputs,
            });
        }
        Ok(Self {
            inputs,
            values,
            labels,
            times: None,
        })
    }

    /// Records of a survival study: `events` says who had the event, `times` when, or when they were last seen, in days.
    ///
    /// # Errors
    /// As of [`Records::new`]; [`TrainError::Time`].
    pub fn survival(
        inputs: usize,
        values: Vec<f32>,
        events: Vec<bool>,
        times: Vec<f64>,
    ) -> Result<Self, TrainError> {
        let mut records = Self::new(inputs, values, events)?;
        let wrong = times.iter().position(|time| !time.is_finite());
        let wrong = wrong.or((times.len() != records.len()).then_some(times.len()));
        match wrong {
            Some(record) => Err(TrainError::Time(record)),
            None => {
                records.times = Some(times);
                Ok(records)
            }
        }
    }

    /// Bytes of a record as [`Records::to_bytes`] writes it.
    #[must_use]
    pub const fn width(inputs: usize, survival: bool) -> usize {
        let time = if survival { 8 } else { 0 };
        inputs.saturating_mul(4).saturating_add(1 + time)
    }

    /// Whether they have times.
    #[must_use]
    pub const fn has_times(&self) -> bool {
        self.times.is_some()
    }

    /// When a record had the event or was last seen; 0 in a study that is none of survival.
    pub(crate) fn time(&self, index: usize) -> f64 {
        let times = self.times.as_deref().unwrap_or_default();
        times.get(index).copied().unwrap_or_default()
    }

    /// Inputs of a record.
    #[must_use]
    pub const fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The records as bytes, for a process of their own facility: of each its inputs as 32-bit little-endian numbers,
    /// then its label, then its time where there are times.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let width = Self::width(self.inputs, self.has_times());
        let mut bytes = Vec::with_capacity(self.labels.len() * width);
        let times = self.times.as_deref().unwrap_or_default();
        for (at, (record, label)) in self.iter().enumerate() {
            record
                .iter()
                .for_each(|value| bytes.extend(value.to_le_bytes()));
            bytes.push(u8::from(label));
            if let Some(time) = times.get(at) {
                bytes.extend(time.to_le_bytes());
            }
        }
        bytes
    }

    /// The records that [`Records::to_bytes`] wrote.
    ///
    /// # Errors
    /// As of [`Records::new`] and [`Records::survival`].
    pub fn of_bytes(inputs: usize, survival: bool, bytes: &[u8]) -> Result<Self, TrainError> {
        let width = Self::width(inputs, survival);
        if !bytes.len().is_multiple_of(width) {
            return Self::new(inputs, Vec::new(), vec![false]);
        }
        let (mut values, mut labels, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for record in bytes.chunks_exact(width) {
            let (numbers, behind) = record.split_at(inputs * 4);
            let (numbers, _) = numbers.as_chunks::<4>();
            values.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
            let (label, time) = behind.split_at(1);
            labels.push(label == [1]);
            let (time, _) = time.as_chunks::<8>();
            times.extend(time.iter().map(|time| f64::from_le_bytes(*time)));
        }
        if survival {
            Self::survival(inputs, values, labels, times)
        } else {
            Self::new(inputs, values, labels)
        }
    }

    /// Each record's inputs and label.
    pub fn iter(&self) -> impl Iterator<Item = (&[f32], bool)> {
        let rows = self.values.chunks_exact(self.inputs);
        rows.zip(self.labels.iter().copied())
    }

    fn get(&self, index: usize) -> Option<(&[f32], bool)> {
        let row = self
            .values
            .get(index * self.inputs..(index + 1) * self.inputs)?;
        Some((row, *self.labels.get(index)?))
    }

    fn fits(&self, model: &Net, parameters: &[f32]) -> Result<(), TrainError> {
        if model.inputs() != self.inputs {
            return Err(TrainError::Shape {
                numbers: self.values.len(),
                labels: self.labels.len(),
                inputs: model.inputs(),
            });
        }
        if matches!(model, Net::Cox(_)) != self.has_times() {
            return Err(TrainError::Time(0));
        }
        let finite = parameters.iter().all(|value| value.is_finite());
        if parameters.len() != model.parameters() || !finite {
            return Err(TrainError::Model(model.parameters()));
        }
        Ok(())
    }
}

/// Stochastic gradient descent from `global`: passes over the records in an order that `random` decides, `batch` at a
/// time. Returns the trained parameters.
///
/// # Errors
/// [`TrainError`] when model and records do not go together, or a step led to what is no number.
pub fn train(
    model: &Net,
    global: &[f32],
    records: &Records,
    plan: &LocalPlan,
    random: &mut impl RngCore,
) -> Result<Vec<f32>, TrainError> {
    train_corrected(model, global, records, plan, &[], random)
}

/// The same, with `correction` added to the gradient of every step: SCAFFOLD's c − cᵢ (Karimireddy et al. 2020,
/// algorithm 1). Nothing is added where it is empty.
///
/// # Errors
/// As of [`train`].
pub fn train_corrected(
    model: &Net,
    global: &[f32],
    records: &Records,
    plan: &LocalPlan,
    correction: &[f64],
    random: &mut impl RngCore,
) -> Result<Vec<f32>, TrainError> {
    records.fits(model, global)?;
    let mut parameters = global.to_vec();
    let mut order: Vec<usize> = (0..records.len()).collect();
    let mut at = order.len();
    let mut sum = vec![0.0; parameters.len()];
    let mut scratch = Scratch::default();
    for step in 0..plan.steps {
        if at == order.len() {
            order.shuffle(random);
            at = 0;
        }
        let end = (at + plan.batch.max(1) as usize).min(order.len());
        let batch = order.get(at..end).unwrap_or_default();
        sum.fill(0.0);
        let share = 1.0 / add_batch(model, &parameters, records, batch, &mut sum, &mut scratch);
        descend(&mut parameters, global, plan, |index| {
            sum[index] * share + correction.get(index).copied().unwrap_or_default()
        });
        finite(&parameters, step)?;
        at = end;
    }
    Ok(parameters)
}

/// Adds the gradient of a batch, and returns by how much it is to be divided.
fn add_batch(
    model: &Net,
    parameters: &[f32],
    records: &Records,
    batch: &[usize],
    sum: &mut [f64],
    scratch: &mut Scratch,
) -> f64 {
    let known = batch.iter().filter_map(|index| records.get(*index));
    if let Net::Cox(cox) = model {
        let subject = |(index, (row, event)): (&usize, (_, _))| (row, records.time(*index), event);
        let subjects: Vec<_> = batch.iter().zip(known).map(subject).collect();
        let (_, events) = cox.add_gradient(parameters, &subjects, sum);
        return f64::from(events.max(1));
    }
    for record in known {
        model.add_gradient(parameters, record, None, sum, scratch);
    }
    batch.len().max(1) as f64
}

/// One step against the gradient, and FedProx's pull towards the global model.
fn descend(
    parameters: &mut [f32],
    global: &[f32],
    plan: &LocalPlan,
    gradient: impl Fn(usize) -> f64,
) {
    for (index, (value, start)) in parameters.iter_mut().zip(global).enumerate() {
        let pull = plan.proximal * (f64::from(*value) - f64::from(*start));
        *value = (f64::from(*value) - plan.learning_rate * (gradient(index) + pull)) as f32;
    }
}

fn finite(parameters: &[f32], step: u64) -> Result<(), TrainError> {
    if parameters.iter().all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err(TrainError::Diverged(step))
    }
}

/// A clip of records' gradients with the noise that belongs to it.
#[derive(Clone, Debug)]
pub struct PrivateStep {
    clip: Clip,
    noise: DiscreteGaussian,
    sampling: f64,
}

impl PrivateStep {
    /// Gradients clipped by `clip`, noised by `noise_multiplier` clips, of records that are each taken with the
    /// probability `sampling`. These are the figures of the plan, the same at every site: were the probability made of
    /// a site's own number of records, it would depend on whether a record is there.
    ///
    /// # Errors
    /// [`ClipError::Noise`] when that noise cannot be drawn.
    pub fn new(clip: Clip, noise_multiplier: f64, sampling: f64) -> Result<Self, ClipError> {
        Ok(Self {
            noise: clip.noise(noise_multiplier)?,
            clip,
            // What is no probability takes nobody.
            sampling: if sampling > 0.0 {
                sampling.min(1.0)
            } else {
                0.0
            },
        })
    }
}

/// Takes each of many by itself with one probability, to within 2^-64: where a uniform number of 64 bits is below it. Its
/// first byte nearly always tells, so that a random word does for eight.
struct Sample {
    /// The probability, of 2^64.
    limit: u128,
    word: u64,
    bytes: u32,
}

impl Sample {
    const fn of(probability: f64) -> Self {
        Self {
            // Exact: a floating-point number is scaled by a power of two.
            limit: (probability * 18_446_744_073_709_551_616.0) as u128,
            word: 0,
            bytes: 0,
        }
    }

    fn takes(&mut self, random: &mut impl RngCore) -> bool {
        if self.bytes == 0 {
            (self.word, self.bytes) = (random.next_u64(), 8);
        }
        let first = u128::from(self.word & 0xff);
        self.word >>= 8;
        self.bytes -= 1;
        match first.cmp(&(self.limit >> 56)) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal => first << 56 | u128::from(random.next_u64() >> 8) < self.limit,
        }
    }
}

/// DP-SGD (Abadi et al. 2016, arXiv:1607.00133): in each step every record is taken with the plan's probability, by
/// itself. What a step spends is that of [`crate::privacy::Event`] with that sampling and the noise multiplier.
///
/// The sum is divided by `batch` at every site, so that one with more records moves farther: the mean of all sites is
/// then weighted by records, and nobody is told how many there are.
///
/// `random` is a cryptographic generator that is seeded by nobody's choice: whoever knows samples and noise can take
/// them off.
///
/// # Errors
/// As of [`train`]; [`TrainError::Clip`] when the clip is not for this model.
pub fn train_privately<R: CryptoRng>(
    model: &Net,
    global: &[f32],
    records: &Records,
    plan: &LocalPlan,
    private: &PrivateStep,
    random: &mut R,
) -> Result<Vec<f32>, TrainError> {
    records.fits(model, global)?;
    let mut parameters = global.to_vec();
    let mut scratch = Scratch::default();
    let mut sum = vec![0.0; parameters.len()];
    let mut sample = Sample::of(private.sampling);
    for step in 0..plan.steps {
        sum.fill(0.0);
        for record in records.iter() {
            if sample.takes(random) {
                let clip = Some(private.clip.norm_of_addends());
                model.add_gradient(&parameters, record, clip, &mut sum, &mut scratch);
            }
        }
        let mut units = private.clip.sum_in_units(&sum)?;
        private.noise.add_to(&mut units, random);
        let share = 1.0 / f64::from(plan.batch.max(1));
        descend(&mut parameters, global, plan, |index| {
            private.clip.value(units[index]) * share
        });
        finite(&parameters, step)?;
    }
    Ok(parameters)
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
