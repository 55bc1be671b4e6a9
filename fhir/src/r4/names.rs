//! Tables by name: a hash that costs a few instructions.
//!
//! The names in a table are those of the definitions. What a client sends is only looked up, so that nothing it sends can
//! make names collide; what holds a client's own names needs a hash with a secret, as the standard library's is.
use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

/// Values by names of the definitions.
pub type ByName<K, V> = HashMap<K, V, BuildHasherDefault<Ends>>;
/// Names of the definitions.
pub type NameSet = HashSet<&'static str, BuildHasherDefault<Ends>>;

/// An odd number whose bits look random (2^64 over the golden ratio).
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes a name by its length and its ends, eight bytes at either: names that differ in their middle alone collide,
/// which costs a comparison.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends(u64);

impl Hasher for Ends {
    fn write(&mut self, name: &[u8]) {
        let (first, last) = match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => match (name.first_chunk(), name.last_chunk()) {
                (Some(first), Some(last)) => (
                    u64::from(u32::from_le_bytes(*first)),
                    u64::from(u32::from_le_bytes(*last)),
                ),
                _ => (
                    name.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
                    0,
                ),
            },
        };
        let length = u64::try_from(name.len()).unwrap_or_default();
        let mixed = (self.0 ^ first).wrapping_mul(ODD) ^ last.rotate_left(23) ^ length;
        self.0 = mixed.wrapping_mul(ODD);
    }

    /// What the standard library puts behind a text, to tell texts in a row apart: there is one alone.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::BuildHasher;

    fn hash(name: &str) -> u64 {
        BuildHasherDefault::<Ends>::default().hash_one(name)
    }

    #[test]
    fn names_of_every_length_are_told_apart_wherever_they_differ_within_their_ends() {
        let name = "abcdefghijklmnopqrstuvwxyz";
        for length in 0..name.len() {
            let one = &name[..length];
            let others = (0..length.min(8)).flat_map(|at| [at, length - 1 - at]);
            for at in others {
                let mut other = one.to_owned();
                other.replace_range(at..=at, "X");
                assert_ne!(hash(one), hash(&other), "{one} {other}");
            }
            assert_ne!(hash(one), hash(&name[..=length]));
            assert_eq!(hash(one), hash(one));
        }
    }

    #[test]
    fn a_table_finds_what_collides() {
        let (one, other) = ("12345678-a-12345678", "12345678-b-12345678");
        assert_eq!(hash(one), hash(other));
        let table: ByName<&str, u8> = [(one, 1), (other, 2)].into_iter().collect();
        assert_eq!((table[one], table[other], table.get("x")), (1, 2, None));
    }
}
