//! What the coordinator makes of a round's updates: a pure step from one global model to the next.
//!
//! Models and updates are flat vectors, in the model's own order of parameters. Sums are over members in their order,
//! in 64-bit numbers, so that a result does not depend on who arrived first.
use crate::study::{Strategy, Training};
use serde::{Deserialize, Serialize};

/// Why a step is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StepError {
    /// A number of the update is NaN or infinite. The model stays as it was.
    #[error("number {0} of the update is not finite")]
    NotFinite(usize),
    /// An update has another length than the model.
    #[error("an update has {found} numbers, the model {wanted}")]
    Shape {
        /// Numbers of the update.
        found: usize,
        /// Numbers of the model.
        wanted: usize,
    },
    /// There are no updates, or not as many as weights.
    #[error("{updates} updates with {weights} weights above 0 are none")]
    Nobody {
        /// How many updates.
        updates: usize,
        /// How many weights above 0.
        weights: usize,
    },
}

/// A coordinator's model and memory, stored between rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coordinator {
    /// The global model.
    #[serde(with = "crate::exact::single")]
    model: Vec<f32>,
    /// Mean of updates, for adaptive strategies.
    #[serde(with = "crate::exact::double")]
    first: Vec<f64>,
    /// Mean or sum of squared updates.
    #[serde(with = "crate::exact::double")]
    second: Vec<f64>,
    /// Steps that were taken.
    steps: u32,
}

/// What an adaptive strategy remembers of a part of the parameters: as bytes, both numbers of one after another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moments {
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Moments {
    /// Before the first step.
    pub(crate) fn none(parameters: usize) -> Self {
        let zeros = vec![0.0; parameters];
        Self {
            first: zeros.clone(),
            second: zeros,
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.first.len() * 16];
        let both = self.first.iter().zip(&self.second);
        for (to, (m, v)) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(both) {
            let (first, second) = to.split_at_mut(8);
            first.copy_from_slice(&m.to_le_bytes());
            second.copy_from_slice(&v.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let numbers = bytes.as_chunks::<8>().0.iter();
        let numbers: Vec<_> = numbers.map(|bytes| f64::from_le_bytes(*bytes)).collect();
        let both = numbers.as_chunks::<2>().0.iter();
        let (first, second) = both.map(|[m, v]| (*m, *v)).unzip();
        Self { first, second }
    }
}

impl Coordinator {
    /// A coordinator with a model to begin with.
    ///
    /// # Errors
    /// [`StepError::NotFinite`] when a parameter is none.
    pub fn new(model: Vec<f32>) -> Result<Self, StepError> {
        check(&model, model.len())?;
        let zeros = vec![0.0; model.len()];
        Ok(Self {
            first: zeros.clone(),
            second: zeros,
            steps: 0,
            model,
        })
    }

    /// A part of a coordinator that is kept elsewhere: what a step makes of each parameter follows from that one alone.
    pub(crate) fn part(model: Vec<f32>, moments: Moments, steps: u32) -> Self {
        let Moments { first, second } = moments;
        Self {
            model,
            first,
            second,
            steps,
        }
    }

    /// A step was taken of what is kept elsewhere.
    pub(crate) const fn stepped_elsewhere(&mut self) {
        self.steps += 1;
    }

    /// What an adaptive strategy remembers.
    pub(crate) fn moments(self) -> Moments {
        Moments {
            first: self.first,
            second: self.second,
        }
    }

    /// The global model.
    #[must_use]
    pub fn model(&self) -> &[f32] {
        &self.model
    }

    /// Steps that were taken.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// The global control of `scaffold`, as an order carries it.
    #[must_use]
    pub fn control(&self) -> Vec<f32> {
        self.first.iter().map(|value| *value as f32).collect()
    }

    /// Takes a step by the mean of the members' updates (their model less the global one), behind which `scaffold` has the
    /// mean change of their controls. `share`: how many of all sites are in that mean.
    ///
    /// # Errors
    /// [`StepError`]; nothing is changed.
    pub fn step_of(
        &mut self,
        strategy: &Strategy,
        mean: &[f32],
        share: f64,
    ) -> Result<(), StepError> {
        let Strategy::Scaffold { .. } = strategy else {
            return self.step(strategy, mean);
        };
        check(mean, 2 * self.model.len())?;
        let (update, change) = mean.split_at(self.model.len());
        self.step(strategy, update)?;
        for (control, change) in self.first.iter_mut().zip(change) {
            *control += share * f64::from(*change);
        }
        Ok(())
    }

    /// Takes a step by the mean of the members' updates (their model less the global one).
    ///
    /// # Errors
    /// [`StepError`]; the model stays as it was.
    pub fn step(&mut self, strategy: &Strategy, mean: &[f32]) -> Result<(), StepError> {
        check(mean, self.model.len())?;
        let next = match strategy {
            Strategy::FedAdam(of) => {
                self.remember(mean, of.beta_1, |v, square| {
                    of.beta_2 * v + (1.0 - of.beta_2) * square
                });
                // The correction of the first rounds is Flower's, whose first round counts as the second.
                let round = f64::from(self.steps) + 2.0;
                let corrected =
                    (1.0 - of.beta_2.powf(round)).sqrt() / (1.0 - of.beta_1.powf(round));
                self.adapted(of.server_learning_rate * corrected, of.tau)
            }
            Strategy::FedYogi(of) => {
                self.remember(mean, of.beta_1, |v, square| {
                    v - (1.0 - of.beta_2) * square * sign(v - square)
                });
                self.adapted(of.server_learning_rate, of.tau)
            }
            Strategy::FedAdagrad(of) => {
                self.remember(mean, 0.0, |v, square| v + square);
                self.adapted(of.server_learning_rate, of.tau)
            }
            Strategy::Scaffold {
                server_learning_rate,
            } => self.moved(mean, *server_learning_rate),
            Strategy::FedAvg {}
            | Strategy::FedProx { .. }
            | Strategy::Cyclic {}
            | Strategy::Median {}
            | Strategy::TrimmedMean { .. }
            | Strategy::NormBound { .. } => self.moved(mean, 1.0),
        };
        check(&next, next.len())?;
        self.model = next;
        self.steps += 1;
        Ok(())
    }

    fn remember(&mut self, mean: &[f32], decay: f64, second: impl Fn(f64, f64) -> f64) {
        for ((m, v), update) in self.first.iter_mut().zip(&mut self.second).zip(mean) {
            let update = f64::from(*update);
            *m = decay * *m + (1.0 - decay) * update;
            *v = second(*v, update * update);
        }
    }

    fn adapted(&self, rate: f64, tau: f64) -> Vec<f32> {
        let moments = self.first.iter().zip(&self.second);
        let next = |(x, (m, v)): (&f32, (&f64, &f64))| {
            (f64::from(*x) + rate * m / (v.sqrt() + tau)) as f32
        };
        self.model.iter().zip(moments).map(next).collect()
    }

    fn moved(&self, mean: &[f32], rate: f64) -> Vec<f32> {
        let next = |(x, update): (&f32, &f32)| (f64::from(*x) + rate * f64::from(*update)) as f32;
        self.model.iter().zip(mean).map(next).collect()
    }
}

/// −1, 0 or 1, as numpy has it.
fn sign(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x.signum() }
}

fn check(values: &[f32], wanted: usize) -> Result<(), StepError> {
    if values.len() != wanted {
        return Err(StepError::Shape {
            found: values.len(),
            wanted,
        });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(at) => Err(StepError::NotFinite(at)),
        None => Ok(()),
    }
}

/// The mean of single updates, by the strategy: weighted, or one that a few bad updates do not move far.
///
/// `updates`: of equal length, in the members' order, each with a weight. Median and trimmed mean do not weigh.
///
/// # Errors
/// [`StepError`] when there are none, or one is of another length or has what is no number.
pub fn combine(strategy: &Strategy, updates: &[(Vec<f32>, f64)]) -> Result<Vec<f32>, StepError> {
    let weights = updates.iter().filter(|(_, weight)| *weight > 0.0).count();
    let Some((first, _)) = updates.first().filter(|_| weights == updates.len()) else {
        return Err(StepError::Nobody {
            updates: updates.len(),
            weights,
        });
    };
    let length = first.len();
    for (update, _) in updates {
        check(update, length)?;
    }
    let trimmed = |share: f64| {
        let cut = ((updates.len() as f64 * share).floor() as usize).min((updates.len() - 1) / 2);
        (0..length).map(|at| middle(updates, at, cut)).collect()
    };
    Ok(match strategy {
        // Of an even number the two in the middle count.
        Strategy::Median {} => (0..length)
            .map(|at| middle(updates, at, (updates.len() - 1) / 2))
            .collect(),
        Strategy::TrimmedMean { share } => trimmed(*share),
        Strategy::NormBound { norm } => {
            let bounded: Vec<_> = updates
                .iter()
                .map(|(update, weight)| (within(update, *norm), *weight))
                .collect();
            mean(&bounded, length)
        }
        _ => mean(updates, length),
    })
}

fn mean(updates: &[(Vec<f32>, f64)], length: usize) -> Vec<f32> {
    let total: f64 = updates.iter().map(|(_, weight)| weight).sum();
    let mut sum = vec![0.0_f64; length];
    for (update, weight) in updates {
        for (sum, value) in sum.iter_mut().zip(update) {
            *sum += weight * f64::from(*value);
        }
    }
    sum.into_iter()
        .map(|value| (value / total) as f32)
        .collect()
}

/// The mean of a coordinate without the `cut` least and the `cut` largest.
fn middle(updates: &[(Vec<f32>, f64)], at: usize, cut: usize) -> f32 {
    let mut column: Vec<f32> = updates
        .iter()
        .filter_map(|(update, _)| update.get(at).copied())
        .collect();
    column.sort_by(f32::total_cmp);
    let kept = column.get(cut..column.len() - cut).unwrap_or(&column);
    let sum: f64 = kept.iter().map(|value| f64::from(*value)).sum();
    (sum / kept.len() as f64) as f32
}

fn within(update: &[f32], norm: f64) -> Vec<f32> {
    let length = update
        .iter()
        .map(|v| f64::from(*v).powi(2))
        .sum::<f64>()
        .sqrt();
    let factor = if length > norm { norm / length } else { 1.0 };
    update
        .iter()
        .map(|value| (f64::from(*value) * factor) as f32)
        .collect()
}

/// How many local steps a site of `records` takes in a round.
#[must_use]
pub fn local_steps(training: &Training, records: u32) -> u64 {
    match (training.steps, training.epochs) {
        (Some(steps), _) => steps.into(),
        (None, Some(epochs)) => {
            u64::from(epochs) * u64::from(records.div_ceil(training.batch.max(1)))
        }
        (None, None) => 0,
    }
}

#[cfg(test)]
#[path = "strategy_tests.rs"]
mod tests;
