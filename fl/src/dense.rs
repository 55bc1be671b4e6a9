//! Dense models: logistic regression and multilayer perceptrons with a binary label, with the gradient of each record by
//! itself.
//!
//! A record's gradient of a dense layer is the outer product of its input and of the loss's derivative by its output,
//! so its norm follows from two short vectors (Goodfellow 2015, arXiv:1510.01799): clipping each record costs hardly
//! more than not clipping any.
//!
//! Parameters are one flat vector: of each layer its weights, row by row of its inputs, then its biases.
use crate::{
    logistic::{loss, sigmoid},
    privacy::clip::scaled_to,
};
use rand::{Rng, RngCore};

/// A stack of dense layers with rectifiers between them, that ends in the logit of yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dense {
    /// Inputs, then the units of each layer; the last is 1.
    widths: Vec<usize>,
}

/// A record's own values between the layers, kept to be used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Input of each layer.
    inputs: Vec<Vec<f64>>,
    /// Derivative of the loss by the output of each layer.
    deltas: Vec<Vec<f64>>,
}

impl Dense {
    /// A stack with so many inputs and hidden units.
    #[must_use]
    pub fn of_widths(inputs: usize, hidden: &[u32]) -> Self {
        let mut widths = vec![inputs];
        widths.extend(hidden.iter().map(|width| *width as usize));
        widths.push(1);
        Self { widths }
    }

    /// Inputs of a record.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.widths.first().copied().unwrap_or_default()
    }

    /// Numbers of the flat vector.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.layers().map(|(from, to)| (from + 1) * to).sum()
    }

    pub(crate) fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> + '_ {
        self.widths.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// A model to begin with: each number uniform within ±1/√inputs of its layer, as PyTorch's `Linear` has it.
    #[must_use]
    pub fn initial(&self, random: &mut impl RngCore) -> Vec<f32> {
        let mut parameters = Vec::with_capacity(self.parameters());
        for (from, to) in self.layers() {
            let bound = 1.0 / (from.max(1) as f32).sqrt();
            parameters.extend((0..(from + 1) * to).map(|_| random.random_range(-bound..=bound)));
        }
        parameters
    }

    /// The logit (natural logarithm of the odds) of yes of a record. `parameters` has [`Dense::parameters`] numbers,
    /// `record` [`Dense::inputs`].
    #[must_use]
    pub fn logit(&self, parameters: &[f32], record: &[f32]) -> f64 {
        self.forward(parameters, record, &mut Scratch::default())
    }

    /// The probability of yes of a record, 0 to 1. The slices are as for [`Dense::logit`].
    #[must_use]
    pub fn probability(&self, parameters: &[f32], record: &[f32]) -> f64 {
        sigmoid(self.logit(parameters, record))
    }

    fn forward(&self, parameters: &[f32], record: &[f32], scratch: &mut Scratch) -> f64 {
        scratch.inputs.resize(self.widths.len(), Vec::new());
        scratch.deltas.resize(self.widths.len(), Vec::new());
        let mut values: Vec<f64> = record.iter().map(|value| f64::from(*value)).collect();
        let mut rest = parameters;
        let last = self.widths.len() - 2;
        for (layer, (from, to)) in self.layers().enumerate() {
            let (weights, after) = rest.split_at(from * to);
            let (biases, after) = after.split_at(to);
            rest = after;
            let mut outputs: Vec<f64> = biases.iter().map(|bias| f64::from(*bias)).collect();
            for (value, row) in values.iter().zip(weights.chunks_exact(to)) {
                for (output, weight) in outputs.iter_mut().zip(row) {
                    *output += value * f64::from(*weight);
                }
            }
            if layer < last {
                outputs
                    .iter_mut()
                    .for_each(|output| *output = output.max(0.0));
            }
            scratch.inputs[layer] = std::mem::replace(&mut values, outputs);
        }
        values.first().copied().unwrap_or_default()
    }

    /// Adds a record's gradient of the loss (binary cross-entropy of the logit) to `sum`, scaled down to the norm
    /// `clip` where it is longer, and returns the loss.
    pub(crate) fn add_gradient(
        &self,
        parameters: &[f32],
        (record, label): (&[f32], bool),
        clip: Option<f64>,
        sum: &mut [f64],
        scratch: &mut Scratch,
    ) -> f64 {
        let logit = self.forward(parameters, record, scratch);
        let target = if label { 1.0 } else { 0.0 };
        let norm = self.backward(parameters, sigmoid(logit) - target, scratch);
        let Some(factor) = scaled_to(clip, norm) else {
            return loss(logit, target);
        };
        let mut rest = sum;
        for (layer, (from, to)) in self.layers().enumerate() {
            let (weights, after) = rest.split_at_mut(from * to);
            let (biases, after) = after.split_at_mut(to);
            rest = after;
            let delta = &scratch.deltas[layer];
            for (value, row) in scratch.inputs[layer]
                .iter()
                .zip(weights.chunks_exact_mut(to))
            {
                let value = value * factor;
                row.iter_mut()
                    .zip(delta)
                    .for_each(|(sum, delta)| *sum += value * delta);
            }
            biases
                .iter_mut()
                .zip(delta)
                .for_each(|(sum, delta)| *sum += factor * delta);
        }
        loss(logit, target)
    }

    /// The derivative of the loss by the output of each layer, from that by the logit; returns the gradient's L2 norm.
    fn backward(&self, parameters: &[f32], by_logit: f64, scratch: &mut Scratch) -> f64 {
        let mut delta = vec![by_logit];
        let mut end = parameters.len();
        let mut square = 0.0;
        let layers: Vec<_> = self.layers().collect();
        for (layer, (from, to)) in layers.into_iter().enumerate().rev() {
            let weights = &parameters[end - (from + 1) * to..end - to];
            end -= (from + 1) * to;
            let input = &scratch.inputs[layer];
            let length = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>();
            square += (length(input) + 1.0) * length(&delta);
            let before = input
                .iter()
                .zip(weights.chunks_exact(to))
                .map(|(value, row)| {
                    // The rectifier lets through where its output, this layer's input, is above 0.
                    let open = layer == 0 || *value > 0.0;
                    let sum = row
                        .iter()
                        .zip(&delta)
                        .map(|(w, d)| f64::from(*w) * d)
                        .sum::<f64>();
                    if open { sum } else { 0.0 }
                });
            let before = before.collect();
            scratch.deltas[layer] = std::mem::replace(&mut delta, before);
        }
        square.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Model;
    use rand::{SeedableRng, rngs::StdRng};

    fn mlp() -> (Dense, Vec<f32>, Vec<f32>) {
        let model = Dense::of_widths(3, &[5, 4]);
        let parameters = model.initial(&mut StdRng::seed_from_u64(4));
        (model, parameters, vec![0.7, -1.2, 0.4])
    }

    fn gradient(
        model: &Dense,
        parameters: &[f32],
        record: &[f32],
        clip: Option<f64>,
    ) -> (f64, Vec<f64>) {
        let mut sum = vec![0.0; model.parameters()];
        let record = (record, true);
        let loss = model.add_gradient(parameters, record, clip, &mut sum, &mut Scratch::default());
        (loss, sum)
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (model, parameters, record) = mlp();
        assert_eq!(model.parameters(), parameters.len());
        assert_eq!(
            parameters.len() as u64,
            Model::Mlp { hidden: vec![5, 4] }.parameters(3)
        );
        let (_, gradient_of) = gradient(&model, &parameters, &record, None);
        for at in 0..parameters.len() {
            let step = 1e-2;
            let at_step = |sign: f32| {
                let mut moved = parameters.clone();
                moved[at] += sign * step;
                gradient(&model, &moved, &record, None).0
            };
            let slope = (at_step(1.0) - at_step(-1.0)) / (2.0 * f64::from(step));
            assert!(
                (slope - gradient_of[at]).abs() < 1e-4,
                "{at}: {slope} {}",
                gradient_of[at]
            );
        }
    }

    #[test]
    fn a_clipped_gradient_is_the_whole_one_scaled_to_the_clip() {
        let (model, parameters, record) = mlp();
        let (_, whole) = gradient(&model, &parameters, &record, None);
        let norm = whole.iter().map(|v| v * v).sum::<f64>().sqrt();
        for clip in [norm / 3.0, norm * 2.0] {
            let (_, clipped) = gradient(&model, &parameters, &record, Some(clip));
            let expected = (clip / norm).min(1.0);
            for (whole, clipped) in whole.iter().zip(&clipped) {
                assert!((whole * expected - clipped).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn a_gradient_whose_norm_is_no_number_adds_nothing() {
        // Five layers grow beyond what has a square, five more shrink again to a million, and nothing comes back through
        // the last one: the squares of the sixth are infinite, its derivatives 0, and their product is no number.
        let model = Dense::of_widths(1, &[1; 10]);
        let grow = [1e37; 5].into_iter().chain([1e-37; 4]).chain([1e-31, 0.0]);
        let parameters: Vec<f32> = grow.flat_map(|weight| [weight, 0.0]).collect();
        let (_, whole) = gradient(&model, &parameters, &[1.0], None);
        assert!(whole.iter().any(|value| value.abs() > 1e5), "{whole:?}");
        let (_, clipped) = gradient(&model, &parameters, &[1.0], Some(1.0));
        assert_eq!(clipped, vec![0.0; parameters.len()]);
    }

    #[test]
    fn a_model_of_nothing_is_undecided() {
        let logistic = Dense::of_widths(13, &[]);
        assert_eq!((logistic.inputs(), logistic.parameters()), (13, 14));
        assert!((logistic.probability(&[0.0; 14], &[1.0; 13]) - 0.5).abs() < 1e-15);
    }
}
