//! Causal convolutions over windows, each dilated twice as far as the one before, with rectifiers, and a linear unit on the
//! last window (Bai, Kolter, Koltun 2018, arXiv:1803.01271, without normalisation, dropout and residuals).
//!
//! Parameters are in the order of ONNX's operator `Conv`: of each layer its weights (channels × inputs × kernel, the
//! oldest window first), then its biases; then the weights of the linear unit and its bias.
use super::{add, outer, uniform};
use rand::RngCore;

/// Convolutions over windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcn {
    /// Inputs of a window, then the channels of each layer.
    widths: Vec<usize>,
    kernel: usize,
    windows: usize,
}

impl Tcn {
    pub(super) fn new(
        inputs: usize,
        channels: impl Iterator<Item = usize>,
        kernel: usize,
        windows: usize,
    ) -> Self {
        Self {
            widths: std::iter::once(inputs).chain(channels).collect(),
            kernel: kernel.max(1),
            windows,
        }
    }

    /// Inputs of a window.
    #[must_use]
    pub fn width(&self) -> usize {
        self.widths.first().copied().unwrap_or_default()
    }

    /// Windows that a convolution sees.
    #[must_use]
    pub const fn kernel(&self) -> usize {
        self.kernel
    }

    /// How many windows a record has.
    #[must_use]
    pub const fn windows(&self) -> usize {
        self.windows
    }

    /// Inputs and channels of each layer, and how far apart the windows are that it sees.
    pub(crate) fn layers(&self) -> impl DoubleEndedIterator<Item = (usize, usize, usize)> + '_ {
        let pairs = self.widths.windows(2).enumerate();
        let layers: Vec<_> = pairs
            .map(|(at, pair)| (pair[0], pair[1], 1 << at))
            .collect();
        layers.into_iter()
    }

    /// Channels of the last layer.
    pub(crate) fn last(&self) -> usize {
        self.widths.last().copied().unwrap_or_default()
    }

    pub(super) fn inputs(&self) -> usize {
        self.width() * self.windows
    }

    pub(super) fn parameters(&self) -> usize {
        let layers = self.layers();
        let layers = layers.map(|(from, to, _)| (from * self.kernel + 1) * to);
        layers.sum::<usize>() + self.last() + 1
    }

    pub(super) fn initial(&self, random: &mut impl RngCore) -> Vec<f32> {
        let mut parameters = Vec::with_capacity(self.parameters());
        for (from, to, _) in self.layers() {
            let seen = from * self.kernel;
            parameters.extend(uniform((seen + 1) * to, seen, random));
        }
        parameters.extend(uniform(self.last() + 1, self.last(), random));
        parameters
    }

    pub(super) fn logit(&self, parameters: &[f32], record: &[f32]) -> f64 {
        self.forward(parameters, record).1
    }

    /// The windows before each layer and behind the last one, window by window; and the logit.
    fn forward(&self, parameters: &[f32], record: &[f32]) -> (Vec<Vec<f64>>, f64) {
        let mut seen = vec![record.iter().map(|v| f64::from(*v)).collect::<Vec<_>>()];
        let mut rest = parameters;
        for (from, to, apart) in self.layers() {
            let (weights, after) = rest.split_at(from * self.kernel * to);
            let (biases, after) = after.split_at(to);
            rest = after;
            let before = seen.last().map(Vec::as_slice).unwrap_or_default();
            let mut values = Vec::with_capacity(to * self.windows);
            for window in 0..self.windows {
                let rows = weights.chunks_exact(from * self.kernel);
                for (row, bias) in rows.zip(biases) {
                    let mut value = f64::from(*bias);
                    for (tap, at) in self.taps(window, apart) {
                        let input = &before[at * from..(at + 1) * from];
                        let weights = row.chunks_exact(self.kernel);
                        for (weights, input) in weights.zip(input) {
                            value += f64::from(weights[tap]) * input;
                        }
                    }
                    values.push(value.max(0.0));
                }
            }
            seen.push(values);
        }
        let (weights, bias) = rest.split_at(self.last());
        let mut logit = f64::from(bias.first().copied().unwrap_or_default());
        for (weight, value) in weights.iter().zip(self.at_end(&seen)) {
            logit += f64::from(*weight) * value;
        }
        (seen, logit)
    }

    /// The last window behind the last layer.
    fn at_end<'a>(&self, seen: &'a [Vec<f64>]) -> &'a [f64] {
        let last = seen.last().map(Vec::as_slice).unwrap_or_default();
        &last[last.len() - self.last()..]
    }

    /// Which windows a convolution at `window` sees, each with its place in the kernel; what is before the first is 0.
    fn taps(&self, window: usize, apart: usize) -> impl Iterator<Item = (usize, usize)> {
        let last = self.kernel - 1;
        (0..self.kernel).filter_map(move |tap| {
            let back = (last - tap) * apart;
            Some((tap, window.checked_sub(back)?))
        })
    }

    /// As of the other model over windows.
    pub(super) fn gradient(
        &self,
        parameters: &[f32],
        record: &[f32],
        by_logit: impl Fn(f64) -> f64,
        gradient: &mut [f64],
    ) -> f64 {
        let (seen, logit) = self.forward(parameters, record);
        let by_logit = by_logit(logit);
        let end = parameters.len() - self.last() - 1;
        let (to_layers, to_out) = gradient.split_at_mut(end);
        let (to_weights, to_bias) = to_out.split_at_mut(self.last());
        outer(to_weights, &[by_logit], self.at_end(&seen));
        add(to_bias, &[by_logit]);
        let mut delta = vec![0.0; self.last() * self.windows];
        let from = delta.len() - self.last();
        for (delta, weight) in delta[from..].iter_mut().zip(&parameters[end..]) {
            *delta = f64::from(*weight) * by_logit;
        }
        let layers: Vec<_> = self.layers().collect();
        let mut end = end;
        for (at, (from, to, apart)) in layers.into_iter().enumerate().rev() {
            let count = (from * self.kernel + 1) * to;
            let weights = &parameters[end - count..end - to];
            let (to_weights, to_biases) = to_layers[end - count..end].split_at_mut(count - to);
            end -= count;
            // The rectifier lets through where its output is above 0.
            for (delta, value) in delta.iter_mut().zip(&seen[at + 1]) {
                if *value <= 0.0 {
                    *delta = 0.0;
                }
            }
            let mut before = vec![0.0; from * self.windows];
            for (window, delta) in delta.chunks_exact(to).enumerate() {
                add(to_biases, delta);
                for (tap, place) in self.taps(window, apart) {
                    let place = place * from..(place + 1) * from;
                    let input = &seen[at][place.clone()];
                    let back = &mut before[place];
                    for (unit, delta) in delta.iter().enumerate() {
                        let row = (unit * from * self.kernel) + tap;
                        for (channel, (input, back)) in input.iter().zip(&mut *back).enumerate() {
                            let weight = row + channel * self.kernel;
                            to_weights[weight] += delta * input;
                            *back += delta * f64::from(weights[weight]);
                        }
                    }
                }
            }
            delta = before;
        }
        logit
    }
}
