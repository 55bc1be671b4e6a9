//! Coins that show heads with probability exp(−n/d), and the fixed-point numbers that decide them.
//!
//! A coin is a uniform number below the probability. Its first 64 bits nearly always tell, with a probability in floating
//! point and a margin that is wider than its error; where they do not, 64 bits more are drawn and compared with 128 bits
//! of the probability. So no rounding of floating point is ever seen in what is decided, and the same random numbers
//! decide alike on every machine.
use rand::RngCore;

/// How far the first 64 bits have to be from the probability, in 2^-64: 2^-48, where the probability in floating point has
/// an error below 2^-50 (three roundings of an exponent, which move exp(−x) by x·exp(−x) < 0.37 of it each, and one unit
/// in the last place of the exponential).
const MARGIN: u64 = 1 << 16;

/// 1/e, as 128 bits behind the point.
const ONE_OVER_E: u128 = 0x5e2d_58d8_b3bc_df1a_bade_c782_9054_f90d;

/// Terms of the series of exp(−f) for f < 1: the next one, 1/35!, is below 2^-132.
const TERMS: u128 = 34;

/// exp(−k) is nothing in 128 bits from here on.
const NOTHING: u128 = 89;

/// Heads with probability exp(−n/d), to within 2^-120, of a coin whose first `bits` bits, 48 at most, are `first`: others
/// are drawn where those do not tell. `n` and `d` are at most 2^53, so that they are exact in floating point; `d` is not 0.
#[inline]
pub fn shows(first: u64, bits: u32, (n, d): (u64, u64), random: &mut impl RngCore) -> bool {
    if surely_shows(first, bits, n, 1.0 / d as f64) {
        return true;
    }
    let drawn = first << (u64::BITS - bits) | random.next_u64() >> bits;
    is_below(drawn, (n, d), random)
}

/// Whether the first `bits` bits of such a coin alone tell that it shows heads. `inverse` is 1/d, to the nearest number.
///
/// The probability is not below 1 − n/d: where that tells already, no exponential is needed. What follows the first bits
/// adds less than one to them, and one more is far beyond what is rounded: of n/d, which is below 1 then, 2^-51.
#[inline]
pub fn surely_shows(first: u64, bits: u32, n: u64, inverse: f64) -> bool {
    // Of signed numbers: processors have an instruction for these.
    let float = |whole: u64| whole.cast_signed() as f64;
    float(first + 2) < (1.0 - float(n) * inverse) * float(1 << bits)
}

/// Whether a uniform number that begins with the 64 bits `drawn` is below exp(−n/d).
#[cold]
fn is_below(drawn: u64, (n, d): (u64, u64), random: &mut impl RngCore) -> bool {
    debug_assert!(n <= 1 << 53 && d <= 1 << 53 && d > 0, "{n}/{d}");
    if n == 0 {
        return true;
    }
    let about = ((-(n as f64 / d as f64)).exp() * TWO_TO_64) as u64;
    if drawn.abs_diff(about) > MARGIN {
        return drawn < about;
    }
    let whole = u128::from(drawn) << u64::BITS | u128::from(random.next_u64());
    whole < exp(n.into(), d.into())
}

const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// exp(−n/d) for 0 < n and 0 < d < 2^127, as 128 bits behind the point, at most 2^-120 off.
pub fn exp(n: u128, d: u128) -> u128 {
    let whole = n / d;
    if whole >= NOTHING {
        return 0;
    }
    let f = fraction(n % d, d);
    // 1 − f + f²/2! − f³/3! …, modulo 1: it is below 1 unless f is 0, and then 1 is taken to be 0.
    let (mut sum, mut term) = (0_u128, f);
    for k in 1..TERMS {
        sum = if k % 2 == 1 {
            sum.wrapping_sub(term)
        } else {
            sum.wrapping_add(term)
        };
        term = product(term, f) / (k + 1);
    }
    let (mut value, powers) = match (sum, whole) {
        (0, 0) => return u128::MAX,
        (0, _) => (ONE_OVER_E, whole - 1),
        _ => (sum, whole),
    };
    for _ in 0..powers {
        value = product(value, ONE_OVER_E);
    }
    value
}

/// n/d for n < d < 2^127, as 128 bits behind the point, rounded down.
pub fn fraction(n: u128, d: u128) -> u128 {
    let (mut rest, mut quotient) = (n, 0);
    for _ in 0..u128::BITS {
        rest <<= 1;
        quotient <<= 1;
        if rest >= d {
            rest -= d;
            quotient |= 1;
        }
    }
    quotient
}

/// The product of two numbers below 1, at most 3·2^-128 too small.
const fn product(a: u128, b: u128) -> u128 {
    const LOW: u128 = u64::MAX as u128;
    let (a1, a0) = (a >> 64, a & LOW);
    let (b1, b0) = (b >> 64, b & LOW);
    let (left, right) = (a1 * b0, a0 * b1);
    let carry = (left & LOW) + (right & LOW) + ((a0 * b0) >> 64);
    a1 * b1 + (left >> 64) + (right >> 64) + (carry >> 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn the_exponential_has_the_bits_of_known_values() {
        // From a hundred digits of 1/e, e^-1/2, e^-10 and e^-50.
        let known = [
            (1, 1, ONE_OVER_E),
            (1, 2, 0x9b45_97e3_7cb0_4ff3_d675_a355_30cd_d767),
            (10, 1, 0x0002_f9af_36ac_8f93_538b_648e_aa13_10e5),
            (50, 1, 0x00e9_2bea_a3f0_41f6),
        ];
        for (n, d, wanted) in known {
            let found = exp(n, d);
            assert!(found.abs_diff(wanted) < 1 << 8, "{n}/{d}: {found:x}");
        }
        assert_eq!(exp(NOTHING, 1), 0);
        assert!(exp(1, (1 << 127) - 1) >= u128::MAX - 4);
    }

    #[test]
    fn floating_point_is_far_within_the_margin_everywhere() {
        let mut random = StdRng::seed_from_u64(5);
        for _ in 0..20_000 {
            let bits = random.random_range(1..=53);
            let d = random.random_range(1..1_u64 << bits);
            let n = random.random_range(1..=d.saturating_mul(4).min((1 << 53) - 1));
            let about = ((-(n as f64) / d as f64).exp() * TWO_TO_64) as u64;
            let exact = (exp(n.into(), d.into()) >> 64) as u64;
            assert!(about.abs_diff(exact) < MARGIN / 4, "{n}/{d}");
        }
    }

    /// Gives the words it was made of.
    struct Words(Vec<u64>);

    impl RngCore for Words {
        fn next_u32(&mut self) -> u32 {
            self.next_u64() as u32
        }
        fn next_u64(&mut self) -> u64 {
            self.0.remove(0)
        }
        fn fill_bytes(&mut self, _: &mut [u8]) {}
    }

    #[test]
    fn near_the_probability_the_bits_behind_decide() {
        let exact = exp(1, 3);
        let (high, low) = ((exact >> 64) as u64, exact as u64);
        for (high, low, heads) in [
            (high, low - 1, true),
            (high, low, false),
            (high - 1, u64::MAX, true),
            (high + 1, 0, false),
        ] {
            let mut words = Words(vec![high, low]);
            assert_eq!(is_below(words.0.remove(0), (1, 3), &mut words), heads);
            assert!(words.0.is_empty(), "both were looked at");
        }
        let mut none = Words(Vec::new());
        assert!(is_below(high - 2 * MARGIN, (1, 3), &mut none));
    }

    #[test]
    fn first_bits_that_do_not_tell_are_followed_by_others() {
        const BITS: u32 = 29;
        let (n, d) = (1, 3);
        let exact = (exp(n.into(), d.into()) >> 64) as u64;
        let first = exact >> (u64::BITS - BITS);
        let others = exact << BITS;
        for (others, heads) in [
            (others - (MARGIN << 32), true),
            (others + (MARGIN << 32), false),
        ] {
            let mut words = Words(vec![others]);
            assert_eq!(shows(first, BITS, (n, d), &mut words), heads);
            assert!(words.0.is_empty());
        }
        // Below 1 − n/d the first bits tell, up to the last ones that do.
        let least = (2_u64 << BITS) / 3;
        assert!(shows(least - 3, BITS, (n, d), &mut Words(Vec::new())));
        let mut words = Words(vec![0]);
        assert!(shows(least, BITS, (n, d), &mut words) && words.0.is_empty());
    }

    #[test]
    fn a_coin_shows_heads_as_often_as_it_should() {
        let mut random = StdRng::seed_from_u64(9);
        for (n, d) in [(1, 1), (1, 10), (3, 1), (7, 13)] {
            let mut toss = || {
                let first = random.next_u64() >> 35;
                shows(first, 29, (n, d), &mut random)
            };
            let heads = (0..40_000).filter(|_| toss()).count() as f64;
            let p = (-(n as f64) / d as f64).exp();
            let deviation = (40_000.0 * p * (1.0 - p)).sqrt();
            assert!((heads - 40_000.0 * p).abs() < 5.0 * deviation, "{n}/{d}");
        }
    }
}
