//! What is learnt, of any kind: dense models, models over windows and Cox's, each with the gradient of a record by itself.
//!
//! A record is one row of numbers; of a model over windows it is the inputs of each window, one window after another.
//! Parameters are one flat vector, in an order that each kind states.
mod cox;
mod gru;
mod tcn;

pub use cox::Cox;
pub use gru::Gru;
pub use tcn::Tcn;

use crate::{
    dense::{self, Dense},
    logistic::{loss, sigmoid},
    privacy::clip::scaled_to,
    study::Model,
};
use rand::{Rng, RngCore};

/// A model of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Net {
    /// Logistic regression or a multilayer perceptron.
    Dense(Dense),
    /// A gated recurrent unit over windows.
    Gru(Gru),
    /// Causal convolutions over windows.
    Tcn(Tcn),
    /// A linear logarithm of the hazard.
    Cox(Cox),
}

/// What is kept between records so that it is not allocated anew.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    dense: dense::Scratch,
    whole: Vec<f64>,
}

impl Net {
    /// The model of a study whose records have `windows` windows of `inputs` inputs each.
    #[must_use]
    pub fn of(model: &Model, inputs: usize, windows: usize) -> Self {
        // A model over windows keeps their order; every other one takes them as one row.
        let row = inputs * windows.max(1);
        match model {
            Model::Gru { hidden } => Self::Gru(Gru::new(inputs, *hidden as usize, windows.max(1))),
            Model::Tcn { channels, kernel } => {
                let channels = channels.iter().map(|width| *width as usize);
                Self::Tcn(Tcn::new(inputs, channels, *kernel as usize, windows.max(1)))
            }
            Model::Cox {} => Self::Cox(Cox::new(row)),
            Model::Logistic {} => Self::Dense(Dense::of_widths(row, &[])),
            Model::Mlp { hidden } => Self::Dense(Dense::of_widths(row, hidden)),
        }
    }

    /// Numbers of a record.
    #[must_use]
    pub fn inputs(&self) -> usize {
        match self {
            Self::Dense(of) => of.inputs(),
            Self::Gru(of) => of.inputs(),
            Self::Tcn(of) => of.inputs(),
            Self::Cox(of) => of.inputs(),
        }
    }

    /// Numbers of the flat vector.
    #[must_use]
    pub fn parameters(&self) -> usize {
        match self {
            Self::Dense(of) => of.parameters(),
            Self::Gru(of) => of.parameters(),
            Self::Tcn(of) => of.parameters(),
            Self::Cox(of) => of.inputs(),
        }
    }

    /// A model to begin with; Cox's begins where nothing is at more risk than anything.
    #[must_use]
    pub fn initial(&self, random: &mut impl RngCore) -> Vec<f32> {
        match self {
            Self::Dense(of) => of.initial(random),
            Self::Gru(of) => of.initial(random),
            Self::Tcn(of) => of.initial(random),
            Self::Cox(of) => vec![0.0; of.inputs()],
        }
    }

    /// The logit (natural logarithm of the odds) of yes of a record, or the natural logarithm of its hazard ratio.
    /// `parameters` has [`Net::parameters`] numbers, `record` [`Net::inputs`].
    #[must_use]
    pub fn logit(&self, parameters: &[f32], record: &[f32]) -> f64 {
        match self {
            Self::Dense(of) => of.logit(parameters, record),
            Self::Gru(of) => of.logit(parameters, record),
            Self::Tcn(of) => of.logit(parameters, record),
            Self::Cox(of) => of.risk(parameters, record),
        }
    }

    /// The probability of yes of a record, 0 to 1. The slices are as for [`Net::logit`].
    #[must_use]
    pub fn probability(&self, parameters: &[f32], record: &[f32]) -> f64 {
        sigmoid(self.logit(parameters, record))
    }

    /// Adds a record's gradient of the binary cross-entropy to `sum`, scaled down to the norm `clip` where it is longer,
    /// and returns the loss. Dense layers are clipped without their whole gradient, the others exactly by it.
    pub(crate) fn add_gradient(
        &self,
        parameters: &[f32],
        record: (&[f32], bool),
        clip: Option<f64>,
        sum: &mut [f64],
        scratch: &mut Scratch,
    ) -> f64 {
        if let Self::Dense(dense) = self {
            return dense.add_gradient(parameters, record, clip, sum, &mut scratch.dense);
        }
        let whole = &mut scratch.whole;
        whole.clear();
        whole.resize(parameters.len(), 0.0);
        let (row, label) = record;
        let target = f64::from(u8::from(label));
        let by_logit = |logit: f64| sigmoid(logit) - target;
        let logit = match self {
            Self::Gru(of) => of.gradient(parameters, row, by_logit, whole),
            Self::Tcn(of) => of.gradient(parameters, row, by_logit, whole),
            Self::Cox(_) | Self::Dense(_) => 0.0,
        };
        let norm = whole.iter().map(|value| value * value).sum::<f64>().sqrt();
        if let Some(factor) = scaled_to(clip, norm) {
            sum.iter_mut()
                .zip(whole)
                .for_each(|(sum, value)| *sum += factor * *value);
        }
        loss(logit, target)
    }
}

/// So many numbers, uniform within ±1/√`from`, as PyTorch's layers begin.
fn uniform(count: usize, from: usize, random: &mut impl RngCore) -> Vec<f32> {
    let bound = 1.0 / (from.max(1) as f32).sqrt();
    (0..count)
        .map(|_| random.random_range(-bound..=bound))
        .collect()
}

/// Adds Σ row·input to each output, of a matrix of one row for each output.
fn multiply(matrix: &[f32], input: &[f64], outputs: &mut [f64]) {
    for (output, row) in outputs
        .iter_mut()
        .zip(matrix.chunks_exact(input.len().max(1)))
    {
        *output += row
            .iter()
            .zip(input)
            .map(|(weight, value)| f64::from(*weight) * value)
            .sum::<f64>();
    }
}

/// Adds Σ column·delta to each input, of the same matrix.
fn multiply_back(matrix: &[f32], delta: &[f64], inputs: &mut [f64]) {
    for (delta, row) in delta.iter().zip(matrix.chunks_exact(inputs.len().max(1))) {
        inputs
            .iter_mut()
            .zip(row)
            .for_each(|(input, weight)| *input += f64::from(*weight) * delta);
    }
}

/// Adds the outer product of delta and input to the gradient of the same matrix.
fn outer(gradient: &mut [f64], delta: &[f64], input: &[f64]) {
    for (delta, row) in delta
        .iter()
        .zip(gradient.chunks_exact_mut(input.len().max(1)))
    {
        row.iter_mut()
            .zip(input)
            .for_each(|(sum, value)| *sum += delta * value);
    }
}

fn add(sum: &mut [f64], values: &[f64]) {
    sum.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += value);
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
