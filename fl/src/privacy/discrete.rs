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
//! with them say the same one, and the others are the value in it, the sign and the first bits of the coin. Whole vectors
//! are noised from numbers that are drawn many at a time, and long ones on every core.
use super::coin;
use rand::{CryptoRng, RngCore, SeedableRng as _, rngs::StdRng};
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// A discrete Gaussian on the whole numbers: P(x) ∝ exp(−x²/2σ²).
///
/// Only [`super::clip`] makes one, so that no noise is drawn that is not tied to a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct DiscreteGaussian {
    /// σ², a whole number of squared units.
    variance: u64,
    blocks: Arc<Blocks>,
}

/// Random numbers that are drawn at once.
const WORDS: usize = 256;
/// Numbers of a vector that are noised by one generator: what is drawn is the same on however many cores.
const PIECE: usize = 1 << 16;
/// Where the blocks reach: the probability of what lies beyond is below 2^-124.
const DEVIATIONS: u64 = 13;
/// Blocks of a σ are from 16 to 32.
const BLOCKS_OF_A_DEVIATION: u64 = 16;
/// Bits by which a block is looked up: with so many, some four numbers in a hundred have to be looked for any further.
const GUIDE_BITS: u32 = 12;
/// What the guide says, beside the first one, where the first bits are those of several blocks. There are fewer than 512.
const SEVERAL: u16 = 1 << 15;
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
        self.of_word(random.next_u64(), random)
    }

    /// Adds a draw to each number. Each piece of a long vector has a generator of its own, which is seeded from `random`,
    /// and all cores draw.
    pub fn add_to<R: CryptoRng>(&self, numbers: &mut [i64], random: &mut R) {
        if numbers.len() <= PIECE {
            return self.add_here(numbers, random);
        }
        let pieces: Vec<_> = numbers
            .chunks_mut(PIECE)
            .map(|piece| (piece, StdRng::from_rng(&mut *random)))
            .collect();
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get());
        let others = threads.min(pieces.len()) - 1;
        let pieces = Mutex::new(pieces);
        let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let work = || {
            while let Some((piece, mut random)) = next() {
                self.add_here(piece, &mut random);
            }
        };
        thread::scope(|scope| {
            for _ in 0..others {
                // Where there is no other thread, this one draws all.
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
    }

    fn add_here(&self, numbers: &mut [i64], random: &mut impl CryptoRng) {
        let mut bytes = [0; WORDS * 8];
        for numbers in numbers.chunks_mut(WORDS) {
            let (words, _) = bytes.as_chunks_mut::<8>();
            let words = &mut words[..numbers.len()];
            random.fill_bytes(words.as_flattened_mut());
            for (number, word) in numbers.iter_mut().zip(words) {
                *number += self.of_word(u64::from_le_bytes(*word), random);
            }
        }
    }

    /// The draw that a random number says, and others where it does not do.
    #[inline]
    fn of_word(&self, word: u64, random: &mut impl CryptoRng) -> i64 {
        if let Some(block) = self.blocks.named(word) {
            let proposed = self.propose(block, word);
            let surely =
                coin::surely_shows(proposed.coin, COIN_BITS, proposed.over, self.blocks.inverse);
            // Of zero the sign has to be looked at; of all others no branch is taken by it, which nobody could foresee.
            if surely && proposed.magnitude != 0 {
                return proposed.value();
            }
        }
        self.look(word, random)
    }

    /// The same, where the first bits do not tell.
    #[inline(never)]
    fn look(&self, mut word: u64, random: &mut impl CryptoRng) -> i64 {
        loop {
            let (block, fresh) = self.blocks.draw(word, random);
            let proposed = self.propose(block, fresh);
            let exponent = (proposed.over, 2 * self.variance);
            // Zero has no sign: it would be drawn twice as often.
            if coin::shows(proposed.coin, COIN_BITS, exponent, random)
                && (proposed.magnitude != 0 || proposed.sign == 0)
            {
                return proposed.value();
            }
            word = random.next_u64();
        }
    }

    #[inline]
    fn propose(&self, block: u64, fresh: u64) -> Proposed {
        let first = block << self.blocks.bits;
        let rest = fresh & ((1 << self.blocks.bits) - 1);
        Proposed {
            magnitude: (first | rest).cast_signed(),
            sign: -((fresh >> (VALUE_BITS + COIN_BITS)) & 1).cast_signed(),
            over: rest * (2 * first + rest),
            coin: (fresh >> VALUE_BITS) & ((1 << COIN_BITS) - 1),
        }
    }
}

/// A value that is drawn if its coin shows heads.
struct Proposed {
    magnitude: i64,
    /// −1 of a negative one, else 0.
    sign: i64,
    /// (first + rest)² − first²: the coin shows heads with probability exp(−over/2σ²).
    over: u64,
    coin: u64,
}

impl Proposed {
    const fn value(&self) -> i64 {
        (self.magnitude ^ self.sign) - self.sign
    }
}

/// The blocks of magnitudes, by their shares of 2^128.
#[derive(Debug, PartialEq)]
struct Blocks {
    /// A block has 2^bits values.
    bits: u32,
    /// 1/2σ².
    inverse: f64,
    /// Where the share of each block ends; it begins where that of the one before ends. The last one ends at 2^128 − 1, as if
    /// that were 2^128.
    ends: Vec<u128>,
    /// For the first bits of a number, the block that it falls into whatever its others are, or the first one that it can
    /// fall into, and [`SEVERAL`].
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
            inverse: 1.0 / (2 * variance) as f64,
            ends,
            guide: Vec::new(),
        };
        const REST: u32 = u128::BITS - GUIDE_BITS;
        let guide = (0..1_u128 << GUIDE_BITS).map(|bits| {
            let least = blocks.at(bits << REST);
            let most = blocks.at((bits << REST) | ((1 << REST) - 1));
            least as u16 | if least == most { 0 } else { SEVERAL }
        });
        blocks.guide = guide.collect();
        blocks
    }

    /// The block into which all numbers fall that begin with the first bits of a word, if it is one.
    #[inline]
    fn named(&self, word: u64) -> Option<u64> {
        let named = self.guide.get((word >> (u64::BITS - GUIDE_BITS)) as usize);
        named
            .filter(|of| **of & SEVERAL == 0)
            .map(|of| u64::from(*of))
    }

    /// The block of a random word, and a number whose last 64 − [`GUIDE_BITS`] bits are random beside it.
    fn draw(&self, word: u64, random: &mut impl RngCore) -> (u64, u64) {
        match self.named(word) {
            Some(block) => (block, word),
            None => (self.search(word, random) as u64, random.next_u64()),
        }
    }

    /// The block into whose share a number falls that begins with `high`.
    #[cold]
    fn search(&self, high: u64, random: &mut impl RngCore) -> usize {
        let named = self.guide.get((high >> (u64::BITS - GUIDE_BITS)) as usize);
        let first = named.map_or(0, |of| usize::from(of & !SEVERAL));
        let ends = self.ends.get(first..).unwrap_or_default();
        let at = |number: u128| {
            let at = ends.iter().position(|end| *end > number);
            first + at.unwrap_or(ends.len().saturating_sub(1))
        };
        let number = u128::from(high) << u64::BITS;
        let block = at(number);
        // Only where the end of the share has the same 64 bits does it need those behind them.
        match self.ends.get(block) {
            Some(end) if end >> u64::BITS == u128::from(high) => {
                at(number | u128::from(random.next_u64()))
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
        let mut drawn = vec![0; DRAWS as usize];
        // Half of them as those of a vector.
        let (vector, single) = drawn.split_at_mut(DRAWS as usize / 2);
        gaussian.add_to(vector, &mut random);
        single.fill_with(|| gaussian.draw(&mut random));
        for drawn in drawn {
            counts[(drawn.clamp(-reach, reach) + reach) as usize] += 1;
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
                let of_several = *named & SEVERAL != 0;
                several += i32::from(of_several);
                assert_eq!(of_several, inside, "{variance}: {bits}");
                assert_eq!(usize::from(*named & !SEVERAL), blocks.at(begin));
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
            .filter(|(_, of)| **of & SEVERAL == 0)
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

    #[test]
    fn a_search_from_the_guide_finds_the_block_of_every_number() {
        let blocks = Blocks::of(1_000_003);
        let mut random = StdRng::seed_from_u64(8);
        let ends = blocks.ends.iter().map(|end| (end >> 64) as u64);
        let near: Vec<u64> = ends
            .flat_map(|high| [high.wrapping_sub(1), high, high.wrapping_add(1)])
            .collect();
        for word in near.into_iter().take(900) {
            if blocks.named(word).is_none() {
                let low = random.clone().next_u64();
                let number = u128::from(word) << 64 | u128::from(low);
                assert_eq!(blocks.search(word, &mut random), blocks.at(number));
            }
        }
    }

    #[test]
    fn each_number_of_a_long_vector_is_noised_once_whatever_threads_there_are() {
        let gaussian = DiscreteGaussian::of_variance(1 << 20).unwrap();
        let before: Vec<i64> = (0..3 * PIECE as i64 + 5).collect();
        let mut found = before.clone();
        gaussian.add_to(&mut found, &mut StdRng::seed_from_u64(12));
        let mut wanted = before.clone();
        let mut random = StdRng::seed_from_u64(12);
        for piece in wanted.chunks_mut(PIECE) {
            gaussian.add_here(piece, &mut StdRng::from_rng(&mut random));
        }
        assert_eq!(found, wanted);
        let noise: Vec<_> = found.iter().zip(&before).map(|(a, b)| a - b).collect();
        assert_ne!(noise[..PIECE], noise[PIECE..2 * PIECE]);
        let square: f64 = noise.iter().map(|of| (*of as f64).powi(2)).sum();
        let ratio = square / noise.len() as f64 / f64::from(1 << 20);
        // The relative deviation of the estimate is √(2/196613) = 0.0032; five of them.
        assert!((ratio - 1.0).abs() < 0.016, "{ratio}");
    }
}
