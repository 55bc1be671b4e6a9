//! Rényi differential privacy of the Poisson-subsampled Gaussian (Mironov, Talwar, Zhang 2019, arXiv:1908.10530).
//!
//! With P the output when the unit is there and Q the output when it is not, the privacy loss is L = ln(P/Q). This file
//! computes K(θ) = ln E_P[e^{θL}], by which the Rényi divergence of order θ+1 is K(θ)/θ, by quadrature: for every real
//! order, in both directions.
use super::{
    event::{Delta, Event},
    normal::{density, nodes},
};

/// Which of two neighbours has the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// P is the mixture (1−q)·N(0, σ²) + q·N(1, σ²), Q is N(0, σ²).
    Remove,
    /// P is N(0, σ²), Q is the mixture.
    Add,
}

/// How far from a peak of the integrand, in standard deviations of the noise, nothing is left: φ(13)/φ(0) < 1e-36.
const REACH: f64 = 13.0;
/// Orders are searched up to this many standard deviations of a shift by the mechanism: the tail of δ ≥ 1e-15 lies
/// within 8, and a sample of a thousand millionth adds ln(1e9)·σ to it.
const MAX_SHIFT: f64 = 64.0;
/// And down to this many: the order for ε of a thousand million steps is above it.
const MIN_SHIFT: f64 = 1e-6;
/// Steps after which the order is found to a per cent: enough to fit a grid by.
pub const ROUGH_SEARCH: usize = 18;
/// Steps of the golden-section search that find the order to five digits, and ε to ten, as it lies in a minimum.
pub const FINE_SEARCH: usize = 40;

/// A Gaussian of standard deviation 1 whose sum a unit moves by `shift` = 1/σ, with probability `q`.
#[derive(Clone, Copy, Debug)]
pub struct Mechanism {
    pub q: f64,
    pub shift: f64,
    pub direction: Direction,
}

impl Mechanism {
    pub fn of(event: &Event, direction: Direction) -> Self {
        Self {
            q: event.sampling(),
            shift: 1.0 / event.noise_multiplier(),
            direction,
        }
    }

    /// ln of the likelihood ratio of mixture to Gaussian at `z`.
    pub fn log_ratio(&self, z: f64) -> f64 {
        let exponent = self.shift * z - 0.5 * self.shift * self.shift;
        // Of a full batch it is this for every exponent, also where e^exponent is nothing beside 1.
        if exponent > 700.0 || self.q >= 1.0 {
            return exponent + self.q.ln();
        }
        (self.q * exponent.exp_m1()).ln_1p()
    }

    /// What the integrand of K(θ) is made of at `z`.
    fn point(&self, theta: f64, (z, weight): (f64, f64)) -> Point {
        let log_ratio = self.log_ratio(z);
        let (mixture, loss) = match self.direction {
            Direction::Remove => (log_ratio, log_ratio),
            Direction::Add => (0.0, -log_ratio),
        };
        Point {
            z,
            weight,
            mixture,
            exponent: theta * loss,
        }
    }

    /// The ends of what the integrand of K(θ) can be seen on.
    fn range(&self, theta: f64) -> (f64, f64) {
        match self.direction {
            Direction::Remove => (-REACH, (theta + 1.0) * self.shift + REACH),
            Direction::Add => (-theta * self.shift - REACH, REACH),
        }
    }

    /// K(θ) for θ > 0.
    pub fn log_moment(&self, theta: f64) -> f64 {
        let (from, to) = self.range(theta);
        let mut largest = 0.0_f64;
        let mut points = Vec::new();
        nodes(from, to, |z, weight| {
            let point = self.point(theta, (z, weight));
            largest = largest.max(point.log_weight() + point.exponent);
            points.push(point);
        });
        if largest < 30.0 {
            // E[e^{θL}] − 1, which keeps the digits of a K that is nearly 0.
            let sum: f64 = points.iter().map(|of| of.weight * of.excess()).sum();
            return known(sum.ln_1p());
        }
        let term = |of: &Point| of.weight * (of.log_weight() + of.exponent - largest).exp();
        let sum: f64 = points.iter().map(term).sum();
        known(largest + (sum / (2.0 * std::f64::consts::PI).sqrt()).ln())
    }
}

/// A node of the quadrature of K(θ).
struct Point {
    z: f64,
    weight: f64,
    /// ln of P's density by the Gaussian's.
    mixture: f64,
    /// θL.
    exponent: f64,
}

impl Point {
    /// ln of P's density but for the constant of the Gaussian's.
    fn log_weight(&self) -> f64 {
        self.mixture - 0.5 * self.z * self.z
    }

    /// P's density times e^{θL} − 1. Far out one of the factors is beyond every number and the other below, so their
    /// exponents are added first.
    fn excess(&self) -> f64 {
        if self.exponent < 1.0 {
            return density(self.z) * self.mixture.exp() * self.exponent.exp_m1();
        }
        let weight = self.log_weight();
        ((weight + self.exponent).exp() - weight.exp()) / (2.0 * std::f64::consts::PI).sqrt()
    }
}

/// A moment is never below 0; one that is no number bounds nothing.
fn known(moment: f64) -> f64 {
    if moment.is_nan() {
        return f64::INFINITY;
    }
    moment.max(0.0)
}

/// K(θ) of all events together, in one direction.
pub fn log_moment(events: &[Event], direction: Direction, theta: f64) -> f64 {
    let one =
        |event: &Event| event.steps() as f64 * Mechanism::of(event, direction).log_moment(theta);
    events.iter().map(one).sum()
}

/// The least bound of ε over all orders, and the θ = α − 1 at which it is.
///
/// ε ≤ K(θ)/θ + ln(θ/(θ+1)) − (ln δ + ln(θ+1))/θ (Balle, Barthe, Gaboardi, Hsu, Sato 2020, arXiv:1905.09982,
/// theorem 21).
pub fn least(events: &[Event], direction: Direction, delta: Delta, search: usize) -> (f64, f64) {
    let shift = events
        .iter()
        .map(|event| 1.0 / event.noise_multiplier())
        .fold(0.0, f64::max);
    let bound = |theta: f64| {
        let converted = (theta / (theta + 1.0)).ln() - (delta.get().ln() + theta.ln_1p()) / theta;
        log_moment(events, direction, theta) / theta + converted
    };
    let at = |log: f64| bound(log.exp());
    let golden = 0.5 * (5.0_f64.sqrt() - 1.0);
    let (mut low, mut high) = ((MIN_SHIFT / shift).ln(), (MAX_SHIFT / shift).ln());
    let (mut a, mut b) = (high - golden * (high - low), low + golden * (high - low));
    let (mut at_a, mut at_b) = (at(a), at(b));
    for _ in 0..search {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - golden * (high - low);
            at_a = at(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + golden * (high - low);
            at_b = at(b);
        }
    }
    let (log, found) = if at_a < at_b { (a, at_a) } else { (b, at_b) };
    (found.max(0.0), log.exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E[e^{θL}] of the mixture for a whole order α = θ+1, by the binomial theorem (MTZ19 §3.3).
    fn binomial(q: f64, sigma: f64, alpha: u32) -> f64 {
        let mut choose = 1.0;
        let mut sum = 0.0;
        for k in 0..=alpha {
            let (k, n) = (f64::from(k), f64::from(alpha));
            let power = (n - k) * (-q).ln_1p() + k * q.ln() + (k * k - k) / (2.0 * sigma * sigma);
            sum += choose * power.exp();
            choose *= (n - k) / (k + 1.0);
        }
        sum.ln()
    }

    #[test]
    fn a_moment_of_whole_order_is_the_binomial_sum() {
        // The last ones are small moments of high orders, which large losses would make infinite times nothing.
        for (q, sigma, alphas) in [
            (0.01, 1.0, [2, 3, 8, 20]),
            (0.3, 2.0, [2, 3, 8, 20]),
            (0.001, 0.6, [2, 3, 8, 20]),
            (0.9, 5.0, [2, 3, 8, 20]),
            (0.01, 5.0, [100, 200, 237, 300]),
            (0.001, 2.0, [40, 50, 60, 80]),
        ] {
            for alpha in alphas {
                let event = Event::new(q, sigma, 1).unwrap();
                let found = log_moment(&[event], Direction::Remove, f64::from(alpha - 1));
                let expected = binomial(q, sigma, alpha);
                assert!(
                    (found / expected - 1.0).abs() < 1e-8,
                    "q {q} sigma {sigma} alpha {alpha}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn to_remove_a_unit_costs_no_less_than_to_add_it() {
        // MTZ19 theorem 5.
        for (q, sigma) in [(0.01, 1.0), (0.3, 2.0), (0.5, 0.7)] {
            let event = Event::new(q, sigma, 1).unwrap();
            for theta in [0.5, 2.0, 10.0] {
                let of = |direction| log_moment(&[event], direction, theta);
                assert!(of(Direction::Remove) >= of(Direction::Add) - 1e-12);
            }
        }
    }
}
