//! The privacy loss distribution of a Poisson-subsampled Gaussian on a grid, such that the discrete pair dominates the
//! true one: the mass of each cell goes to the two ends of the cell so that the cell keeps its mass under P and under Q
//! ("connect the dots": Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv:2207.04380).
//!
//! Every hockey-stick divergence of the discrete pair is at least that of the true pair, and so is that of their
//! compositions.
use super::{
    event::Event,
    normal::{density, ln_cdf, ln_tail_bound, nodes},
    powers::{Powers, sums},
    rdp::{Direction, Mechanism},
};

/// Below this many standard deviations the mass under P is under 1e-23; it goes, rounded up, to the lowest point.
const LOW: f64 = 10.0;
/// The share of δ that the mass beyond the highest point may have; it counts as a loss without bound.
const LN_CUT: f64 = -20.7; // 1e-9
/// Losses beyond it are those of ratios that are, or come near, no numbers any more (e^709): of their logarithms alone.
const FAR: f64 = 500.0;
/// The most points of one mechanism: 16 MiB of probabilities.
pub const MAX_POINTS: f64 = (1 << 21) as f64;

/// Probabilities under P of the losses `first·h, (first+1)·h, …`.
#[derive(Debug)]
pub struct LossDistribution {
    pub first: i64,
    pub masses: Vec<f64>,
    /// Mass of the losses without bound.
    pub unbounded: f64,
    pub steps: f64,
}

impl LossDistribution {
    /// The distribution of one use of an event, on a grid of spacing `h` nats; none when the grid would be longer than
    /// [`MAX_POINTS`]. `ln_delta`: the natural logarithm of the δ that is asked for.
    pub fn of(event: &Event, direction: Direction, h: f64, ln_delta: f64) -> Option<Self> {
        let mechanism = Mechanism::of(event, direction);
        let steps = event.steps() as f64;
        let cut = (-2.0 * (ln_delta + LN_CUT - steps.ln())).sqrt();
        let grid = Grid::of(&mechanism, cut, h);
        if grid.points() > MAX_POINTS {
            return None;
        }
        Some(Self {
            first: grid.first,
            masses: grid.masses(&mechanism),
            unbounded: ln_tail_bound(cut).exp(),
            steps,
        })
    }

    /// ln E_P[e^{θL}] of the bounded losses, for one use.
    pub fn log_moment(&self, theta: f64, h: f64) -> f64 {
        let (low, high) = self.ends(h);
        // The largest exponent, whatever the sign of θ.
        let top = (theta * low).max(theta * high);
        let exponent = |index: i64| theta * (index as f64 * h);
        if top < 30.0 {
            // e^{a + b} − 1 is (e^a − 1) + e^a·(e^b − 1).
            let powers = Powers::of(theta * h, f64::exp_m1);
            let blocks = powers.blocks(self.first, &self.masses);
            let excess = blocks.map(|(index, masses, table)| {
                let (mass, moved) = sums(masses, table);
                let exponent = exponent(index);
                exponent.exp_m1() * mass + exponent.exp() * moved
            });
            let excess = excess.sum::<f64>() - self.unbounded;
            // Where hardly anything is left of 1, that has no digits.
            if excess > -0.5 {
                return excess.ln_1p();
            }
        }
        let powers = Powers::of(theta * h, f64::exp);
        let blocks = powers.blocks(self.first, &self.masses);
        let sum: f64 = blocks
            .map(|(index, masses, table)| (exponent(index) - top).exp() * sums(masses, table).1)
            .sum();
        top + sum.ln()
    }

    /// The least and the largest bounded loss, in nats, on a grid of spacing `h` nats.
    pub fn ends(&self, h: f64) -> (f64, f64) {
        let last = self.first + self.masses.len() as i64 - 1;
        (self.first as f64 * h, last as f64 * h)
    }

    /// The losses, with their mean (nats) and variance (nats²), when P is tilted by e^{θL}, on a grid of spacing `h` nats.
    pub fn tilted(&self, theta: f64, h: f64) -> Tilted {
        let moment = self.log_moment(theta, h);
        let mut masses = self.masses.clone();
        Powers::of(theta * h, f64::exp).scale(self.first, &mut masses, |index| {
            (theta * (index as f64 * h) - moment).exp()
        });
        let (mut mean, mut square) = (0.0, 0.0);
        for (index, mass) in (self.first..).zip(&masses) {
            let loss = index as f64 * h;
            mean += mass * loss;
            square += mass * loss * loss;
        }
        Tilted {
            masses,
            mean,
            variance: (square - mean * mean).max(0.0),
        }
    }
}

/// A distribution of losses that was tilted.
pub struct Tilted {
    pub masses: Vec<f64>,
    pub mean: f64,
    pub variance: f64,
}

/// The cells `first·h ≤ L ≤ last·h` of a mechanism, and what of the noise they cover.
struct Grid {
    first: i64,
    last: i64,
    h: f64,
    from: f64,
    to: f64,
}

impl Grid {
    /// `cut`: beyond it under P (in standard deviations) a loss counts as unbounded, or as none.
    fn of(mechanism: &Mechanism, cut: f64, h: f64) -> Self {
        // Under P the noise is around 0 or, with the unit, around `shift`.
        let (from, to) = match mechanism.direction {
            Direction::Remove => (-LOW, cut + mechanism.shift),
            Direction::Add => (-cut, LOW),
        };
        let ends = (mechanism.log_ratio(from), mechanism.log_ratio(to));
        let (low, high) = match mechanism.direction {
            Direction::Remove => ends,
            Direction::Add => (-ends.1, -ends.0),
        };
        Self {
            first: (low / h).floor() as i64,
            last: (high / h).ceil() as i64,
            h,
            from,
            to,
        }
    }

    fn points(&self) -> f64 {
        self.last as f64 - self.first as f64 + 1.0
    }

    fn masses(&self, mechanism: &Mechanism) -> Vec<f64> {
        let mut masses = vec![0.0; self.points() as usize];
        // What is below the lowest point counts as if it were there.
        masses[0] = ln_tail_bound(LOW).exp();
        let low = |cell: usize| (self.first + cell as i64) as f64 * self.h;
        let border = |cell: usize| match mechanism.direction {
            Direction::Remove => mechanism.noise_at(low(cell)),
            Direction::Add => mechanism.noise_at(-low(cell)),
        };
        let mut at_low = border(0);
        for cell in 0..masses.len() - 1 {
            let at_high = border(cell + 1);
            let (down, up) = self.split(mechanism, low(cell), (at_low, at_high));
            masses[cell] += down;
            masses[cell + 1] += up;
            at_low = at_high;
        }
        masses
    }

    /// What of the mass of the cell `low..low+h` goes to its lower and to its upper end, where the losses of these ends are
    /// at `ends` of the noise.
    fn split(&self, mechanism: &Mechanism, low: f64, ends: (f64, f64)) -> (f64, f64) {
        let high = low + self.h;
        let (from, to) = match mechanism.direction {
            Direction::Remove => ends,
            Direction::Add => (ends.1, ends.0),
        };
        let (at_high, width) = (high.exp(), self.h.exp_m1());
        let (mut down, mut up) = (0.0, 0.0);
        nodes(from.max(self.from), to.min(self.to), |z, weight| {
            let ratio = mechanism.ratio(z);
            // P's probability, and e^{high − loss}.
            let (mass, above) = match mechanism.direction {
                Direction::Remove if high > FAR => {
                    let below = high - mechanism.log_ratio(z);
                    (weight * mechanism.mixture(z), below.exp())
                }
                Direction::Remove => (weight * density(z) * ratio, at_high / ratio),
                Direction::Add if high > FAR => {
                    let below = high + mechanism.log_ratio(z);
                    (weight * density(z), below.exp())
                }
                Direction::Add => (weight * density(z), at_high * ratio),
            };
            let share = ((above - 1.0) / width).clamp(0.0, 1.0);
            down += mass * share;
            up += mass * (1.0 - share);
        });
        (down, up)
    }
}

impl Mechanism {
    /// ln δ(ε) of one use: P and Q of the losses above ε are tails of Gaussians.
    pub fn ln_delta(&self, epsilon: f64) -> f64 {
        // With z where the loss is ε, P(L > ε) − e^ε·Q(L > ε).
        let (ln_p, ln_q) = match self.direction {
            Direction::Remove => {
                let z = self.noise_at(epsilon);
                let (with, without) = (ln_cdf(self.shift - z), ln_cdf(-z));
                let with = with + self.q.ln();
                // Without the unit's sample P is Q: ln((1−q)·Q + q·…).
                let rest = without + (-self.q).ln_1p();
                let top = with.max(rest);
                (
                    top + ((with - top).exp() + (rest - top).exp()).ln(),
                    without,
                )
            }
            Direction::Add => {
                let z = self.noise_at(-epsilon);
                let (with, without) = (ln_cdf(z - self.shift), ln_cdf(z));
                let with = with + self.q.ln();
                let rest = without + (-self.q).ln_1p();
                let top = with.max(rest);
                (
                    without,
                    top + ((with - top).exp() + (rest - top).exp()).ln(),
                )
            }
        };
        let share = epsilon + ln_q - ln_p;
        if share >= 0.0 || !ln_p.is_finite() {
            return f64::NEG_INFINITY;
        }
        ln_p + (-share.exp()).ln_1p()
    }

    /// Likelihood ratio of mixture to Gaussian at `z`.
    fn ratio(&self, z: f64) -> f64 {
        let exponent = self.shift * z - 0.5 * self.shift * self.shift;
        if self.q >= 1.0 {
            return exponent.exp();
        }
        1.0 + self.q * exponent.exp_m1()
    }

    /// Density of the mixture at `z`.
    fn mixture(&self, z: f64) -> f64 {
        (1.0 - self.q) * density(z) + self.q * density(z - self.shift)
    }

    /// The `z` at which the logarithm of that ratio is `log`; −∞ where it never is so small.
    fn noise_at(&self, log: f64) -> f64 {
        // e^log − 1 + q = q·e^{shift·z − shift²/2}
        let rest = if self.q >= 1.0 {
            log
        } else if log > 1.0 {
            log + ((1.0 - (1.0 - self.q) * (-log).exp()) / self.q).ln()
        } else {
            ((log.exp_m1() + self.q) / self.q).max(0.0).ln()
        };
        (rest + 0.5 * self.shift * self.shift) / self.shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pair_keeps_its_mass_and_dominates_the_true_one() {
        for (q, sigma) in [(0.01, 1.0), (0.3, 0.5), (0.5, 4.0)] {
            for direction in [Direction::Remove, Direction::Add] {
                let event = Event::new(q, sigma, 1).unwrap();
                let h = 0.01;
                let loss = LossDistribution::of(&event, direction, h, -150.0).unwrap();
                let total: f64 = loss.masses.iter().sum();
                assert!((total - 1.0).abs() < 1e-9, "{total}");
                // Mass under Q: Σ P·e^{−L} = 1 as far as P reaches.
                let losses = (loss.first..).map(|index| index as f64 * h);
                let other: f64 = loss
                    .masses
                    .iter()
                    .zip(losses)
                    .map(|(p, l)| p * (-l).exp())
                    .sum();
                assert!(other < 1.0 + 1e-9, "{other}");
                for theta in [0.5, 3.0] {
                    let truth = Mechanism::of(&event, direction).log_moment(theta);
                    let found = loss.log_moment(theta, h);
                    assert!(
                        found >= truth - 1e-7,
                        "{q} {sigma} {theta}: {found} {truth}"
                    );
                    assert!(found <= truth + 0.01 * theta, "{found} {truth}");
                }
            }
        }
    }

    #[test]
    fn a_moment_of_which_hardly_anything_is_left_keeps_its_digits() {
        // All losses of a full batch of little noise are above 0: of N(s²/2, s²), K(θ) = θ(θ + 1)s²/2.
        let event = Event::new(1.0, 0.042, 1).unwrap();
        let loss = LossDistribution::of(&event, Direction::Add, 0.1, -9.0).unwrap();
        for theta in [-0.1_f64, -0.2, -0.3] {
            let truth = theta * (theta + 1.0) * 0.5 / 0.042_f64.powi(2);
            let found = loss.log_moment(theta, 0.1);
            assert!((found / truth - 1.0).abs() < 1e-3, "{found} {truth}");
        }
    }
}
