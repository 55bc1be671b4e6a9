//! The discrete Gaussian: whole numbers drawn with exactly their probabilities (Canonne, Kamath, Steinke 2020,
//! arXiv:2004.00010, has what it is worth).
//!
//! Noise of floating-point numbers gives data away by its last digits (Mironov 2012); what is drawn here is decided by
//! whole numbers of 128 bits. A draw is less than 2^-100 away from the distribution, in total variation: all draws of a
//! study of a million million numbers add less than 2^-60 to its δ.
//!
//! Magnitudes are cut into blocks of one width, a power of two that is at least a 32nd and at most a 16th of σ (or 1). A
//! block is proposed with the weight of its first value; of the values in it one is taken, uniformly, and kept with what
//! its own weight is of that (rejection sampling). Some 3 in 100 are drawn again.
//!
//! One random number of 64 bits nearly always does for a draw: its first bits say the block, where all numbers that begin
//! with them say the same one, and the others are the value in it, the sign and the first bits of the coin.
use super::coin;
use rand::{CryptoRng, RngCore};
use std::sync::Arc;

/// A discrete Gaussian on the whole numbers: P(x) ∝ exp(−x²/2σ²).
///
/// Only [`super::clip`] makes one, so that no noise is drawn that is not tied to a clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscreteGaussian {
    /// σ², a whole number of squared units.
    variance: u64,
    blocks: Arc<Blocks>,
}

/// Where the blocks reach: the probability of what lies beyond is below 2^-124.
const DEVIATIONS: u64 = 13;
/// Blocks of a σ are from 16 to 32.
const BLOCKS_OF_A_DEVIATION: u64 = 16;
/// Bits by which a block is looked up: with so many, some four numbers in a hundred have to be looked for any further.
const GUIDE_BITS: u32 = 12;
/// What the guide says where the first bits are those of several blocks.
const SEVERAL: u16 = u16::MAX;
/// Behind the bits of the guide are one for the sign, those of the coin, and those of the value in its block, of which the
/// largest variance needs so many.
const VALUE_BITS: u32 = 22;
const COIN_BITS: u32 = u64::BITS - GUIDE_BITS - 1 - VALUE_BITS;

impl DiscreteGaussian {
    /// The largest σ², so that numerators and denominators of exponents are at most 2^53: σ ≤ 2^26.
    pub const MAX_VARIANCE: u64 = 1 << 52;

    /// The distribution of a variance from 1 to [`Self::MAX_VARIANCE`]; none for another.
    pub(super) fn of_variance(variance: u64) -> Option<Self> {
        (1..=Self::MAX_VARIANCE).contains(&variance).then(|| Self {
            variance,
            blocks: Arc::new(Blocks::of(variance)),
        })
    }

    /// σ², in squared units.
    #[must_use]
    pub const fn variance(&self) -> u64 {
        self.variance
    }

    /// A draw, in units, from a cryptographic generator: who can tell its numbers can take the noise off.
    pub fn draw(&self, random: &mut impl CryptoRng) -> i64 {
        let width = 1_u64 << self.blocks.bits;
        loop {
            let (block, fresh) = self.blocks.draw(random);
            let first = block << self.blocks.bits;
            let rest = fresh & (width - 1);
            let negative = (fresh >> (VALUE_BITS + COIN_BITS)) & 1 == 1;
            let coin = (fresh >> VALUE_BITS) & ((1 << COIN_BITS) - 1);
            // (first + rest)² − first²
            let (over, under) = (rest * (2 * first + rest), 2 * self.variance);
            let magnitude = (first | rest).cast_signed();
            // Zero has no sign: it would be drawn twice as often.
            if coin::shows(coin, COIN_BITS, (over, under), random) && !(negative && magnitude == 0)
            {
                return if negative { -magnitude } else { magnitude };
            }
        }
    }
}

/// The blocks of magnitudes, by their shares of 2^128.
#[derive(Debug, PartialEq, Eq)]
struct Blocks {
    /// A block has 2^bits values.
    bits: u32,
    /// Where the share of each block ends; it begins where that of the one before ends. The last one ends at 2^128 − 1, as if
    /// that were 2^128.
    ends: Vec<u128>,
    /// For the first bits of a number, the block that it falls into whatever its others are, or [`SEVERAL`].
    guide: Vec<u16>,
}

impl Blocks {
    fn of(variance: u64) -> Self {
        let deviation = variance.isqrt() + 1;
        let bits = (variance.isqrt() / BLOCKS_OF_A_DEVIATION).max(1).ilog2();
        let count = (DEVIATIONS * deviation).div_ceil(1 << bits) + 1;
        // Divided by 2^10, so that the sum of all, fewer than 512, is below 2^127.
        let weight = |block: u64| match u128::from(block << bits) {
            0 => u128::MAX >> 10,
            first => coin::exp(first * first, u128::from(variance) * 2) >> 10,
        };
        let weights: Vec<u128> = (0..count).map(weight).collect();
        let total: u128 = weights.iter().sum();
        let mut sum = 0;
        let mut ends: Vec<u128> = weights
            .iter()
            .map(|weight| {
                sum += weight;
                if sum == total {
                    u128::MAX
                } else {
                    coin::fraction(sum, total)
                }
            })
            .collect();
        if let Some(last) = ends.last_mut() {
            *last = u128::MAX;
        }
        let mut blocks = Self {
            bits,
            ends,
            guide: Vec::new(),
        };
        const REST: u32 = u128::BITS - GUIDE_BITS;
        let guide = (0..1_u128 << GUIDE_BITS).map(|bits| {
            let least = blocks.at(bits << REST);
            let most = blocks.at((bits << REST) | ((1 << REST) - 1));
            // There are fewer than 512.
            let one = u16::try_from(least).ok().filter(|_| least == most);
            one.unwrap_or(SEVERAL)
        });
        blocks.guide = guide.collect();
        blocks
    }

    /// A block, with the probability of its share, and a number whose last 64 − [`GUIDE_BITS`] bits are random beside it.
    fn draw(&self, random: &mut impl RngCore) -> (u64, u64) {
        let word = random.next_u64();
        match self.guide.get((word >> (u64::BITS - GUIDE_BITS)) as usize) {
            Some(block) if *block != SEVERAL => (u64::from(*block), word),
            _ => (self.search(word, random) as u64, random.next_u64()),
        }
    }

    /// The block into whose share a number falls that begins with `high`.
    #[cold]
    fn search(&self, high: u64, random: &mut impl RngCore) -> usize {
        let number = u128::from(high) << u64::BITS;
        let block = self.at(number);
        // Only where the end of the share has the same 64 bits does it need those behind them.
        match self.ends.get(block) {
            Some(end) if end >> u64::BITS == u128::from(high) => {
                self.at(number | u128::from(random.next_u64()))
            }
            _ => block,
        }
    }

    /// The block into whose share a number falls.
    fn at(&self, number: u128) -> usize {
        let block = self.ends.partition_point(|end| *end <= number);
        block.min(self.ends.len().saturating_sub(1))
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
    fn every_block_is_drawn_as_often_as_the_values_in_it_and_no_value_is_left_out() {
        // σ = 37: blocks of two values, of which the second one is taken less often than it is proposed.
        let variance = 37 * 37;
        let gaussian = DiscreteGaussian::of_variance(variance).unwrap();
        assert_eq!(gaussian.blocks.bits, 1);
        let (found, freedom) = chi_squared(variance, 100);
        let f = freedom as f64;
        let bound = f * (1.0 - 2.0 / (9.0 * f) + 3.72 * (2.0 / (9.0 * f)).sqrt()).powi(3);
        assert!(found < bound, "{found} of {bound}");
    }

    #[test]
    fn blocks_reach_thirteen_deviations_and_their_shares_are_those_of_their_weights() {
        for variance in [1, 255, 256, 1_000_003, DiscreteGaussian::MAX_VARIANCE] {
            let blocks = Blocks::of(variance);
            let width = 1_u64 << blocks.bits;
            let deviation = (variance as f64).sqrt();
            assert!(blocks.ends.len() as f64 * width as f64 > 13.0 * deviation);
            assert!(blocks.ends.len() < 512, "{}", blocks.ends.len());
            let weight =
                |at: usize| (-((at as u64 * width) as f64 / deviation).powi(2) / 2.0).exp();
            let total: f64 = (0..blocks.ends.len()).map(weight).sum();
            let mut before = 0_u128;
            for (at, end) in blocks.ends.iter().enumerate() {
                let share = (end - before) as f64 / 2_f64.powi(128);
                assert!(
                    (share - weight(at) / total).abs() < 1e-12,
                    "{variance}: {at}"
                );
                before = *end;
            }
            assert_eq!(before, u128::MAX);
        }
    }

    #[test]
    fn the_guide_names_a_block_only_where_every_number_falls_into_it() {
        for variance in [1, 256, 1_000_003, DiscreteGaussian::MAX_VARIANCE] {
            let blocks = Blocks::of(variance);
            assert!(blocks.bits <= VALUE_BITS);
            let (mut begin, mut several) = (0_u128, 0);
            for (bits, named) in (0_u128..).zip(&blocks.guide) {
                let end = (bits + 1).checked_shl(u128::BITS - GUIDE_BITS).unwrap_or(0);
                let last = end.wrapping_sub(1);
                let inside = blocks.ends.iter().any(|of| (begin..last).contains(of));
                if *named == SEVERAL {
                    several += 1;
                    assert!(inside, "{variance}: {bits}");
                } else {
                    assert!(!inside, "{variance}: {bits}");
                    assert_eq!(usize::from(*named), blocks.at(begin));
                }
                begin = end;
            }
            assert!(several < 300, "{variance}: {several} of 4096");
        }
    }

    #[test]
    fn a_number_of_64_bits_is_a_draw_and_its_bits_say_which() {
        /// Gives a word, then ones.
        struct Word(Option<u64>);
        impl RngCore for Word {
            fn next_u32(&mut self) -> u32 {
                unreachable!("whole words are drawn")
            }
            fn next_u64(&mut self) -> u64 {
                self.0.take().expect("one word is enough")
            }
            fn fill_bytes(&mut self, _: &mut [u8]) {}
        }
        impl CryptoRng for Word {}
        let gaussian = DiscreteGaussian::of_variance(1 << 44).unwrap();
        let blocks = &gaussian.blocks;
        for (bits, named) in (0_u64..)
            .zip(&blocks.guide)
            .filter(|(_, of)| **of != SEVERAL)
        {
            let first = i64::from(*named) << blocks.bits;
            for (sign, factor) in [(0, 1), (1, -1)] {
                let rest = 12_345;
                let word = bits << 52 | sign << 51 | rest;
                let drawn = gaussian.draw(&mut Word(Some(word)));
                assert_eq!(drawn, factor * (first + 12_345));
            }
        }
    }

    #[test]
    fn a_block_is_found_wherever_a_number_falls() {
        let blocks = Blocks::of(1 << 20);
        let mut begin = 0_u128;
        for (at, end) in blocks.ends.iter().enumerate() {
            if *end > begin {
                for number in [begin, begin + (end - begin) / 2, end - 1] {
                    assert_eq!(blocks.at(number), at);
                }
            }
            begin = *end;
        }
        assert_eq!(blocks.at(u128::MAX), blocks.ends.len() - 1);
    }
}
