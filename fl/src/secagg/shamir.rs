//! Shamir's secret sharing of 32 bytes, word by word over the field of 2^16 elements (Shamir 1979).
//!
//! Fewer shares than the threshold say nothing at all: for every secret there is exactly one set of coefficients that
//! gives them.
use super::Member;
use std::collections::BTreeMap;

/// Bytes of a secret and of a share.
pub const BYTES: usize = 32;
/// A share of a secret: the value of its sixteen polynomials at the holder's number.
pub type Share = [u8; BYTES];

/// x^16 + x^12 + x^3 + x + 1, a primitive polynomial; its leading term is left out.
const REDUCTION: u16 = 0b0001_0000_0000_1011;

/// The product of two elements, in the same steps whatever they are.
fn multiply(mut a: u16, mut b: u16) -> u16 {
    let mut product = 0;
    for _ in 0..u16::BITS {
        product ^= a & (b & 1).wrapping_neg();
        b >>= 1;
        let carry = (a >> 15).wrapping_neg();
        a = (a << 1) ^ (carry & REDUCTION);
    }
    product
}

/// The inverse of an element that is not 0: its power of 2^16 − 2.
fn invert(a: u16) -> u16 {
    let mut power = a;
    let mut product = 1;
    for _ in 1..u16::BITS {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

fn words(bytes: &Share) -> [u16; BYTES / 2] {
    let mut words = [0; BYTES / 2];
    for (word, pair) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u16::from_le_bytes(*pair);
    }
    words
}

fn bytes(words: &[u16; BYTES / 2]) -> Share {
    let mut bytes = [0; BYTES];
    for (pair, word) in bytes.chunks_exact_mut(2).zip(words) {
        pair.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

/// The share of a secret for a holder. `coefficients`: one uniform block of [`BYTES`] for each power from 1 up to the
/// threshold less one, the same for every holder.
pub fn share(secret: &Share, coefficients: &[Share], holder: Member) -> Share {
    let mut value = [0; BYTES / 2];
    for block in coefficients.iter().rev().chain([secret]) {
        for (word, coefficient) in value.iter_mut().zip(words(block)) {
            *word = multiply(*word, holder.0) ^ coefficient;
        }
    }
    bytes(&value)
}

/// The secret of exactly as many shares as the threshold, by Lagrange's formula at 0.
pub fn combine(shares: &BTreeMap<Member, Share>) -> Share {
    let mut secret = [0; BYTES / 2];
    for (holder, share) in shares {
        let mut above = 1;
        let mut below = 1;
        for other in shares.keys().filter(|other| *other != holder) {
            above = multiply(above, other.0);
            below = multiply(below, other.0 ^ holder.0);
        }
        let factor = multiply(above, invert(below));
        for (word, value) in secret.iter_mut().zip(words(share)) {
            *word ^= multiply(factor, value);
        }
    }
    bytes(&secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_element_but_zero_has_an_inverse_and_two_generates_the_field() {
        for a in (1..=u16::MAX).step_by(7) {
            assert_eq!(multiply(a, invert(a)), 1, "{a}");
        }
        let mut power = 2;
        let mut order = 1_u32;
        while power != 1 {
            power = multiply(power, 2);
            order += 1;
        }
        assert_eq!(order, 65_535);
    }

    fn block(seed: u8) -> Share {
        std::array::from_fn(|index| (index as u8).wrapping_mul(37).wrapping_add(seed))
    }

    #[test]
    fn any_threshold_of_shares_gives_the_secret_back() {
        let secret = block(9);
        let coefficients = [block(1), block(2)];
        let all: Vec<_> = [1, 2, 5, 700, 1024].map(Member).to_vec();
        let of = |holder: &Member| (*holder, share(&secret, &coefficients, *holder));
        for a in 0..all.len() {
            for b in 0..a {
                for c in 0..b {
                    let shares = [all[a], all[b], all[c]].iter().map(of).collect();
                    assert_eq!(combine(&shares), secret);
                }
            }
        }
        let two = all[..2].iter().map(of).collect();
        assert_ne!(combine(&two), secret);
    }

    #[test]
    fn one_share_less_than_the_threshold_fits_every_secret_equally_well() {
        // Threshold 2: over all coefficients a share takes every value exactly once, whatever the secret is.
        for secret in [0_u16, 1, 40_000] {
            let value = |coefficient: u16| multiply(coefficient, 3) ^ secret;
            let values: BTreeSet<u16> = (0..=u16::MAX).map(value).collect();
            assert_eq!(values.len(), 65_536);
        }
    }
}
