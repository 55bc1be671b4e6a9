//! The discrete Gaussian, sampled exactly: in whole numbers only, without a floating-point number on the way (Canonne,
//! Kamath, Steinke 2020, arXiv:2004.00010).
//!
//! Noise of floating-point numbers gives data away by its last digits (Mironov 2012); this has none.
use rand::{CryptoRng, RngCore};

/// A discrete Gaussian on the whole numbers: P(x) ∝ exp(−x²/2σ²).
///
/// Only [`super::clip`] makes one, so that no noise is drawn that is not tied to a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscreteGaussian {
    /// σ², a whole number of squared units.
    variance: u64,
    /// ⌊σ⌋ + 1: the scale of the Laplace distribution from which candidates are drawn.
    scale: u64,
}

/// A draw beyond this many scales has a probability below e^-1000 and is drawn again: it keeps the arithmetic within
/// 128 bits.
const MAX_SCALES: u64 = 1024;

impl DiscreteGaussian {
    /// The largest σ², so that (|y|·t)² with |y| ≤ 1024·t stays below 2^127: σ ≤ 2^26.
    pub const MAX_VARIANCE: u64 = 1 << 52;

    /// The distribution of a variance from 1 to [`Self::MAX_VARIANCE`]; none for another.
    pub(super) fn of_variance(variance: u64) -> Option<Self> {
        (1..=Self::MAX_VARIANCE).contains(&variance).then(|| Self {
            variance,
            scale: variance.isqrt() + 1,
        })
    }

    /// σ², in squared units.
    #[must_use]
    pub const fn variance(&self) -> u64 {
        self.variance
    }

    /// A draw, in units, from a cryptographic generator: who can tell its numbers can take the noise off.
    pub fn draw(&self, random: &mut impl CryptoRng) -> i64 {
        loop {
            let candidate = laplace(self.scale, random);
            if self.accepts(candidate.unsigned_abs(), random) {
                return candidate;
            }
        }
    }

    /// True with probability exp(−(|y| − σ²/t)²/2σ²) (CKS20 algorithm 3).
    fn accepts(&self, magnitude: u64, random: &mut impl RngCore) -> bool {
        let (variance, scale) = (u128::from(self.variance), u128::from(self.scale));
        let difference = (u128::from(magnitude) * scale).abs_diff(variance);
        exp_minus(
            difference * difference,
            2 * variance * scale * scale,
            random,
        )
    }
}

/// A draw of the discrete Laplace distribution of a scale (CKS20 algorithm 2).
fn laplace(scale: u64, random: &mut impl RngCore) -> i64 {
    loop {
        let low = below(u128::from(scale), random);
        if !exp_minus(low, u128::from(scale), random) {
            continue;
        }
        let mut times = 0;
        while times < MAX_SCALES && exp_minus(1, 1, random) {
            times += 1;
        }
        let magnitude = u128::from(times) * u128::from(scale) + low;
        let negative = below(2, random) == 1;
        let fits = times < MAX_SCALES && !(negative && magnitude == 0);
        if let (true, Ok(magnitude)) = (fits, i64::try_from(magnitude)) {
            return if negative { -magnitude } else { magnitude };
        }
    }
}

/// True with probability exp(−n/d) (CKS20 algorithm 1).
fn exp_minus(mut n: u128, d: u128, random: &mut impl RngCore) -> bool {
    while n > d {
        if !exp_minus_at_most_one(1, 1, random) {
            return false;
        }
        n -= d;
    }
    exp_minus_at_most_one(n, d, random)
}

/// True with probability exp(−n/d) for n ≤ d: the first k at which a coin of n/(d·k) shows tails is odd.
fn exp_minus_at_most_one(n: u128, d: u128, random: &mut impl RngCore) -> bool {
    let mut k = 1;
    while below(d * k, random) < n {
        k += 1;
    }
    k % 2 == 1
}

/// A uniform number below `bound`, by rejection, without bias.
fn below(bound: u128, random: &mut impl RngCore) -> u128 {
    let bits = u128::BITS - (bound - 1).leading_zeros();
    if bits == 0 {
        return 0;
    }
    loop {
        let low = u128::from(random.next_u64());
        let high = if bits > u64::BITS {
            u128::from(random.next_u64()) << u64::BITS
        } else {
            0
        };
        let number = (low | high) & (u128::MAX >> (u128::BITS - bits));
        if number < bound {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// Draws of each test: a seed is fixed, so that a test passes always or never.
    const DRAWS: u32 = 60_000;

    /// Pearson's χ² of the draws against the probabilities of −reach..=reach, tails pooled with the ends.
    fn chi_squared(variance: u64, reach: i64) -> (f64, usize) {
        let gaussian = DiscreteGaussian::of_variance(variance).unwrap();
        let mut random = StdRng::seed_from_u64(variance);
        let width = 2 * reach as usize + 1;
        let mut counts = vec![0_u32; width];
        for _ in 0..DRAWS {
            let drawn = gaussian.draw(&mut random).clamp(-reach, reach);
            counts[(drawn + reach) as usize] += 1;
        }
        let weight = |x: i64| (-(x as f64).powi(2) / (2.0 * variance as f64)).exp();
        let mut expected = vec![0.0; width];
        let far = 12 * (variance as f64).sqrt().ceil() as i64 + reach;
        for x in -far..=far {
            expected[(x.clamp(-reach, reach) + reach) as usize] += weight(x);
        }
        let total: f64 = expected.iter().sum();
        let term = |(count, weight): (&u32, &f64)| {
            let mean = f64::from(DRAWS) * weight / total;
            (f64::from(*count) - mean).powi(2) / mean
        };
        (counts.iter().zip(&expected).map(term).sum(), width - 1)
    }

    #[test]
    fn draws_follow_the_discrete_gaussian() {
        // α = 1e-4 each; the bound is Wilson and Hilferty's approximation of the quantile (3.72 standard deviations).
        for (variance, reach) in [(1, 3), (2, 4), (9, 8), (100, 25)] {
            let (found, freedom) = chi_squared(variance, reach);
            let f = freedom as f64;
            let bound = f * (1.0 - 2.0 / (9.0 * f) + 3.72 * (2.0 / (9.0 * f)).sqrt()).powi(3);
            assert!(found < bound, "variance {variance}: {found} of {bound}");
        }
    }

    #[test]
    fn the_largest_variance_is_drawn_without_overflow_and_has_its_spread() {
        let gaussian = DiscreteGaussian::of_variance(DiscreteGaussian::MAX_VARIANCE).unwrap();
        let mut random = StdRng::seed_from_u64(7);
        let squares = (0..2_000).map(|_| (gaussian.draw(&mut random) as f64).powi(2));
        let ratio = squares.sum::<f64>() / 2_000.0 / gaussian.variance() as f64;
        // The relative deviation of the estimate is √(2/2000) = 0.032; five of them.
        assert!((ratio - 1.0).abs() < 0.16, "{ratio}");
        assert_eq!(DiscreteGaussian::of_variance(0), None);
        assert_eq!(DiscreteGaussian::of_variance(gaussian.variance() + 1), None);
    }

    #[test]
    fn a_number_below_a_bound_takes_every_value_equally_often() {
        let mut random = StdRng::seed_from_u64(3);
        let mut counts = [0_u32; 5];
        for _ in 0..50_000 {
            counts[below(5, &mut random) as usize] += 1;
        }
        // 10,000 each, standard deviation 89; five of them.
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 447),
            "{counts:?}"
        );
        let wide = 3 << 100;
        assert!((0..100).all(|_| below(wide, &mut random) < wide));
    }
}
