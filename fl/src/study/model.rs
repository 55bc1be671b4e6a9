//! What is learnt: the shape of a model, and how many parameters it has.
use serde::{Deserialize, Serialize};

/// A model. Each ends in one number: the logit of yes, or the logarithm of the hazard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", tag = "kind")]
pub enum Model {
    /// One linear unit with a bias.
    Logistic {},
    /// Dense layers with rectifiers between them.
    Mlp {
        /// Units of each hidden layer.
        hidden: Vec<u32>,
    },
    /// A gated recurrent unit over windows, and a linear unit on its last state (Cho et al. 2014).
    Gru {
        /// Size of the state.
        hidden: u32,
    },
    /// Causal convolutions over windows, each dilated twice as far as the one before (Bai, Kolter, Koltun 2018), and a
    /// linear unit on the last window.
    Tcn {
        /// Channels of each layer.
        channels: Vec<u32>,
        /// Windows that a convolution sees.
        kernel: u32,
    },
    /// A linear unit without a bias: the logarithm of the hazard ratio (Cox 1972).
    Cox {},
}

impl Model {
    /// The most layers.
    pub const MAX_LAYERS: usize = 16;
    /// The widest layer.
    pub const MAX_WIDTH: u32 = 4096;
    /// The longest kernel, in windows.
    pub const MAX_KERNEL: u32 = 16;
    /// The largest model: 100 MB of 32-bit numbers, which a slow link carries in an hour and a half at 150 kbit/s.
    pub const MAX_PARAMETERS: u64 = 25_000_000;

    /// How many parameters it has with `inputs` inputs (of a record, or of each window). Never overflows: widths are
    /// 32-bit, sums saturate.
    #[must_use]
    pub fn parameters(&self, inputs: usize) -> u64 {
        let inputs = inputs as u64;
        let chain = |widths: &[u32], layer: &dyn Fn(u64, u64) -> u64| {
            let mut before = inputs;
            let mut sum = 0_u64;
            for width in widths {
                sum = sum.saturating_add(layer(before, u64::from(*width)));
                before = u64::from(*width);
            }
            sum.saturating_add(dense(before, 1))
        };
        match self {
            Self::Logistic {} => dense(inputs, 1),
            Self::Cox {} => inputs,
            Self::Mlp { hidden } => chain(hidden, &dense),
            // Three gates, each with a linear unit on the input and one on the state, both with a bias.
            Self::Gru { hidden } => chain(&[*hidden], &|from, to| {
                3_u64.saturating_mul(dense(from, to).saturating_add(dense(to, to)))
            }),
            Self::Tcn { channels, kernel } => {
                let kernel = u64::from(*kernel);
                chain(channels, &|from, to| dense(from.saturating_mul(kernel), to))
            }
        }
    }

    /// Whether it looks at windows in their order.
    #[must_use]
    pub const fn is_sequential(&self) -> bool {
        matches!(self, Self::Gru { .. } | Self::Tcn { .. })
    }

    /// Whether it predicts times.
    #[must_use]
    pub const fn is_survival(&self) -> bool {
        matches!(self, Self::Cox {})
    }
}

/// Parameters of a dense layer with biases.
const fn dense(from: u64, to: u64) -> u64 {
    from.saturating_add(1).saturating_mul(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_layer_by_layer() {
        assert_eq!(Model::Logistic {}.parameters(13), 14);
        assert_eq!(Model::Cox {}.parameters(39), 39);
        let mlp = Model::Mlp {
            hidden: vec![64, 64],
        };
        // Counted by burn: 16-64-64-1.
        assert_eq!(mlp.parameters(16), 5_313);
        let gru = Model::Gru { hidden: 32 };
        assert_eq!(gru.parameters(8), 3 * (9 * 32 + 33 * 32) + 33);
        let tcn = Model::Tcn {
            channels: vec![4, 8],
            kernel: 3,
        };
        assert_eq!(tcn.parameters(5), (16 * 4) + (13 * 8) + 9);
        let huge = Model::Mlp {
            hidden: vec![u32::MAX; 9],
        };
        assert_eq!(huge.parameters(usize::MAX), u64::MAX);
    }
}
