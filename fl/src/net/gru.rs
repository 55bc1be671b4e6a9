//! A gated recurrent unit over windows and a linear unit on its last state (Cho et al. 2014, arXiv:1406.1078, with the
//! reset gate behind the recurrent product, as PyTorch and cuDNN have it).
//!
//! z = σ(Wz·x + bz + Rz·h + cz), r = σ(Wr·x + br + Rr·h + cr), n = tanh(Wn·x + bn + r∘(Rn·h + cn)), h' = (1 − z)∘n + z∘h.
//!
//! Parameters are in the order of ONNX's operator `GRU`: W of z, r and n (units × inputs each), R of the same
//! (units × units each), b and then c of the same, then the weights of the linear unit and its bias.
use super::{add, multiply, multiply_back, outer, sigmoid, uniform};
use rand::RngCore;

/// A gated recurrent unit of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gru {
    inputs: usize,
    hidden: usize,
    windows: usize,
}

/// What a window leaves for the way back.
struct Window {
    input: Vec<f64>,
    before: Vec<f64>,
    z: Vec<f64>,
    r: Vec<f64>,
    n: Vec<f64>,
    /// Rn·h + cn.
    recurrent: Vec<f64>,
}

/// The parameters by what they are.
struct Parts<'a, T> {
    w: &'a [T],
    r: &'a [T],
    b: &'a [T],
    c: &'a [T],
    out: &'a [T],
}

impl Gru {
    pub(super) const fn new(inputs: usize, hidden: usize, windows: usize) -> Self {
        Self {
            inputs,
            hidden,
            windows,
        }
    }

    /// Inputs of a window.
    #[must_use]
    pub const fn width(&self) -> usize {
        self.inputs
    }

    /// Size of the state.
    #[must_use]
    pub const fn hidden(&self) -> usize {
        self.hidden
    }

    /// How many windows a record has.
    #[must_use]
    pub const fn windows(&self) -> usize {
        self.windows
    }

    pub(super) const fn inputs(&self) -> usize {
        self.inputs * self.windows
    }

    pub(super) const fn parameters(&self) -> usize {
        3 * self.hidden * (self.inputs + self.hidden + 2) + self.hidden + 1
    }

    pub(super) fn initial(&self, random: &mut impl RngCore) -> Vec<f32> {
        uniform(self.parameters(), self.hidden, random)
    }

    /// Lengths of W, R, b and c.
    const fn sizes(&self) -> [usize; 4] {
        let gates = 3 * self.hidden;
        [gates * self.inputs, gates * self.hidden, gates, gates]
    }

    fn parts<'a, T>(&self, all: &'a [T]) -> Parts<'a, T> {
        let [w, r, b, c] = self.sizes();
        let (w, rest) = all.split_at(w);
        let (r, rest) = rest.split_at(r);
        let (b, rest) = rest.split_at(b);
        let (c, out) = rest.split_at(c);
        Parts { w, r, b, c, out }
    }

    pub(super) fn logit(&self, parameters: &[f32], record: &[f32]) -> f64 {
        self.forward(parameters, record).1
    }

    fn forward(&self, parameters: &[f32], record: &[f32]) -> (Vec<Window>, f64, Vec<f64>) {
        let parts = self.parts(parameters);
        let size = self.hidden;
        let mut state = vec![0.0; size];
        let mut windows = Vec::with_capacity(self.windows);
        for row in record.chunks_exact(self.inputs.max(1)) {
            let input: Vec<f64> = row.iter().map(|value| f64::from(*value)).collect();
            let mut own: Vec<f64> = parts.b.iter().map(|bias| f64::from(*bias)).collect();
            let mut recurrent: Vec<f64> = parts.c.iter().map(|bias| f64::from(*bias)).collect();
            multiply(parts.w, &input, &mut own);
            multiply(parts.r, &state, &mut recurrent);
            let gate = |at: usize| sigmoid(own[at] + recurrent[at]);
            let z: Vec<_> = (0..size).map(gate).collect();
            let r: Vec<_> = (size..2 * size).map(gate).collect();
            let recurrent = recurrent.split_off(2 * size);
            let new = |at: usize| (own[2 * size + at] + r[at] * recurrent[at]).tanh();
            let n: Vec<_> = (0..size).map(new).collect();
            let next = |at: usize| (1.0 - z[at]) * n[at] + z[at] * state[at];
            let after = (0..size).map(next).collect();
            windows.push(Window {
                input,
                before: std::mem::replace(&mut state, after),
                z,
                r,
                n,
                recurrent,
            });
        }
        let (weights, bias) = parts.out.split_at(size);
        let mut logit = [f64::from(bias.first().copied().unwrap_or_default())];
        multiply(weights, &state, &mut logit);
        (windows, logit[0], state)
    }

    /// Writes the gradient of a loss with the derivative `by_logit` into `gradient`, which is 0 everywhere; returns the
    /// logit.
    pub(super) fn gradient(
        &self,
        parameters: &[f32],
        record: &[f32],
        by_logit: impl Fn(f64) -> f64,
        gradient: &mut [f64],
    ) -> f64 {
        let (windows, logit, last) = self.forward(parameters, record);
        let parts = self.parts(parameters);
        let [w, r, b, c] = self.sizes();
        let (to_w, rest) = gradient.split_at_mut(w);
        let (to_r, rest) = rest.split_at_mut(r);
        let (to_b, rest) = rest.split_at_mut(b);
        let (to_c, to_out) = rest.split_at_mut(c);
        let by_logit = by_logit(logit);
        let (to_weights, to_bias) = to_out.split_at_mut(self.hidden);
        outer(to_weights, &[by_logit], &last);
        add(to_bias, &[by_logit]);
        let mut delta = vec![0.0; self.hidden];
        multiply_back(&parts.out[..self.hidden], &[by_logit], &mut delta);
        for window in windows.iter().rev() {
            let (own, recurrent, mut before) = window.back(&delta);
            outer(to_w, &own, &window.input);
            outer(to_r, &recurrent, &window.before);
            add(to_b, &own);
            add(to_c, &recurrent);
            multiply_back(parts.r, &recurrent, &mut before);
            delta = before;
        }
        logit
    }
}

impl Window {
    /// From the derivative by the state after the window: those by Wx + b and by Rh + c of z, r and n, and what of that by
    /// the state before goes past all gates.
    fn back(&self, delta: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let size = delta.len();
        let (mut own, mut recurrent) = (vec![0.0; 3 * size], vec![0.0; 3 * size]);
        let mut before = vec![0.0; size];
        for (at, delta) in delta.iter().enumerate() {
            let (z, r, n) = (self.z[at], self.r[at], self.n[at]);
            let by_n = delta * (1.0 - z) * (1.0 - n * n);
            let by_z = delta * (self.before[at] - n) * z * (1.0 - z);
            let by_r = by_n * self.recurrent[at] * r * (1.0 - r);
            before[at] = delta * z;
            for (gate, (by_own, by_recurrent)) in [(by_z, by_z), (by_r, by_r), (by_n, by_n * r)]
                .into_iter()
                .enumerate()
            {
                own[gate * size + at] = by_own;
                recurrent[gate * size + at] = by_recurrent;
            }
        }
        (own, recurrent, before)
    }
}
