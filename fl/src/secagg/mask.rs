//! Masks: a vector of numbers modulo 2^32 that follows from a key.
//!
//! The key stream is AES-256 in counter mode, as AES-GCM makes it of zeros: the fastest that the machine has, at the
//! price of a tag that nobody looks at.
use super::keys::{Bytes32, cipher};
use ring::aead::{Aad, NONCE_LEN, Nonce};

/// Bytes that are made at a time: they stay in the processor's cache.
const CHUNK: usize = 1 << 15;
/// Numbers that are made at a time: a mask begins in the midst of a vector at a multiple of it.
pub const MASK_CHUNK: usize = CHUNK / 4;

/// A mask that is put on a vector or comes off it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    pub(super) key: Bytes32,
    pub(super) sign: Sign,
}

impl Mask {
    /// Puts the part of it on `values` that is for the numbers of a vector from `begin` on, a multiple of [`MASK_CHUNK`].
    pub fn put(&self, begin: u64, values: &mut [u32]) {
        debug_assert_eq!(begin % MASK_CHUNK as u64, 0, "a mask begins with a chunk");
        apply_from(begin / MASK_CHUNK as u64, &self.key, self.sign, values);
    }
}

/// Whether a mask is put on or taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    Plus,
    Minus,
}

impl Sign {
    /// The other one.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// Adds the mask of a key to `values`, or takes it off.
pub fn apply(key: &Bytes32, sign: Sign, values: &mut [u32]) {
    apply_from(0, key, sign, values);
}

fn apply_from(first: u64, key: &Bytes32, sign: Sign, values: &mut [u32]) {
    let Some(cipher) = cipher(key) else {
        debug_assert!(false, "32 bytes are a key of AES-256");
        return;
    };
    let mut stream = vec![0; CHUNK];
    for (number, chunk) in (first..).zip(values.chunks_mut(MASK_CHUNK)) {
        stream.fill(0);
        let mut nonce = [0; NONCE_LEN];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let made = cipher.seal_in_place_separate_tag(nonce, Aad::empty(), &mut stream);
        debug_assert!(made.is_ok(), "a chunk is far below the limit of AES-GCM");
        for (value, bytes) in chunk.iter_mut().zip(stream.as_chunks().0) {
            let mask = u32::from_le_bytes(*bytes);
            *value = match sign {
                Sign::Plus => value.wrapping_add(mask),
                Sign::Minus => value.wrapping_sub(mask),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_comes_off_and_is_another_for_each_key_and_place() {
        let plain: Vec<u32> = (0..20_000).collect();
        let mut masked = plain.clone();
        apply(&[1; 32], Sign::Plus, &mut masked);
        let unchanged = plain.iter().zip(&masked).filter(|(a, b)| a == b).count();
        assert!(unchanged < 3, "{unchanged}");
        let first: Vec<_> = masked
            .iter()
            .zip(&plain)
            .map(|(a, b)| a.wrapping_sub(*b))
            .collect();
        assert_ne!(first[..8_192], first[8_192..16_384]);
        apply(&[1; 32], Sign::Minus, &mut masked);
        assert_eq!(masked, plain);
    }

    #[test]
    fn the_key_stream_is_that_of_aes_in_counter_mode() {
        // AES-256-GCM of a zero key, a zero nonce and a block of zeros (McGrew and Viega 2005, test case 14).
        let mut values = [0_u32; 4];
        apply(&[0; 32], Sign::Plus, &mut values);
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let expected = 0xcea7_403d_4d60_6b6e_074e_c5d3_baf3_9d18_u128;
        assert_eq!(bytes, expected.to_be_bytes());
    }
}
