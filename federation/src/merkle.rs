//! Merkle trees as RFC 6962 §2.1 defines them and C2SP tlog-tiles uses them: hashes, roots and proofs.
//!
//! Pure functions over leaf hashes; what a leaf means is [`crate::audit`]'s business.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf: SHA-256(0x00 ‖ entry) (RFC 6962 §2.1).
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// The hash of a node: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// The root of the tree of no leaf: SHA-256 of nothing (RFC 6962 §2.1).
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// What must be kept of a tree to append to it: the roots of its perfect subtrees, the largest first, one for each
/// bit of its size. Appending costs O(log size) hashes at most and O(1) on average.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// A frontier of `size` leaves; none when the number of roots does not fit the size.
    #[must_use]
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Option<Self> {
        (roots.len() == size.count_ones() as usize).then_some(Self { size, roots })
    }

    /// Leaves in the tree.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, the largest first.
    #[must_use]
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        let mut carry = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                carry = node_hash(&left, &carry);
            }
        }
        self.roots.push(carry);
        self.size += 1;
    }

    /// The root of the whole tree.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev().copied();
        let last = roots.next().unwrap_or_else(empty_root);
        roots.fold(last, |right, left| node_hash(&left, &right))
    }
}

/// The root over leaf hashes.
#[must_use]
pub fn root(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier.root()
}

/// The largest power of two smaller than `n`, for n ≥ 2 (RFC 6962 §2.1).
const fn split(n: usize) -> usize {
    1 << (usize::BITS - 1 - (n - 1).leading_zeros())
}

/// PATH(index, leaves) of RFC 6962 §2.1.1: the hashes that lead from a leaf to the root, the lowest first.
/// Empty when there is no such leaf.
#[must_use]
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Vec<Hash> {
    if leaves.len() < 2 || index >= leaves.len() {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, other) = if index < left.len() {
        (inclusion_proof(left, index), right)
    } else {
        (inclusion_proof(right, index - left.len()), left)
    };
    path.push(root(other));
    path
}

/// PROOF(old, leaves) of RFC 6962 §2.1.2: the hashes that show the tree of the first `old` leaves within the tree of
/// all. Empty for an old size of 0 or of all leaves.
#[must_use]
pub fn consistency_proof(leaves: &[Hash], old: usize) -> Vec<Hash> {
    if old == 0 || old >= leaves.len() {
        return Vec::new();
    }
    subproof(leaves, old, true)
}

fn subproof(leaves: &[Hash], old: usize, complete: bool) -> Vec<Hash> {
    if old == leaves.len() {
        return if complete {
            Vec::new()
        } else {
            vec![root(leaves)]
        };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut path, other) = if old <= left.len() {
        (subproof(left, old, complete), right)
    } else {
        (subproof(right, old - left.len(), false), left)
    };
    path.push(root(other));
    path
}

/// Whether a path leads from a leaf at `index` to the root of a tree of `size` leaves (RFC 9162 §2.1.3.2).
#[must_use]
pub fn verify_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(step, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether the tree of `size` leaves begins with the tree of `old` leaves (RFC 9162 §2.1.4.2).
#[must_use]
pub fn verify_consistency(
    old: u64,
    size: u64,
    path: &[Hash],
    old_root: &Hash,
    root: &Hash,
) -> bool {
    if old == 0 || old >= size {
        let same = old == size && old_root == root;
        return path.is_empty() && (same || (old == 0 && *old_root == empty_root()));
    }
    let shift = if old.is_power_of_two() { 0 } else { 1 };
    let (first, rest) = if shift == 0 {
        (*old_root, path)
    } else {
        match path.split_first() {
            Some((first, rest)) => (*first, rest),
            None => return false,
        }
    };
    let (mut node, mut last) = (old - 1, size - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut before, mut after) = (first, first);
    for step in rest {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            before = node_hash(step, &before);
            after = node_hash(step, &after);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            after = node_hash(&after, step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && before == *old_root && after == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The eight leaves and roots of the test vectors of Certificate Transparency (RFC 6962's reference code).
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn vector() -> Vec<Hash> {
        LEAVES
            .iter()
            .map(|leaf| leaf_hash(&hex::decode(leaf).unwrap()))
            .collect()
    }

    /// MTH of RFC 6962 §2.1, word for word.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&naive(&leaves[..k]), &naive(&leaves[k..]))
            }
        }
    }

    fn numbered(n: u32) -> Vec<Hash> {
        (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_the_certificate_transparency_vectors() {
        assert_eq!(
            hex::encode(empty_root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (n, expected) in (1..).zip(ROOTS) {
            assert_eq!(hex::encode(root(&vector()[..n])), expected, "{n} leaves");
        }
    }

    #[test]
    fn the_frontier_gives_the_root_of_the_definition_at_every_size() {
        let leaves = numbered(130);
        let mut frontier = Frontier::default();
        for n in 0..leaves.len() {
            assert_eq!(frontier.root(), naive(&leaves[..n]), "{n}");
            let stored = Frontier::from_parts(frontier.size(), frontier.roots().to_vec());
            assert_eq!(stored.as_ref(), Some(&frontier));
            frontier.push(leaves[n]);
        }
    }

    #[test]
    fn inclusion_is_proved_for_every_leaf_and_for_no_other_place() {
        for n in 1..=33u32 {
            let leaves = numbered(n);
            let whole = naive(&leaves);
            for i in 0..n {
                let path = inclusion_proof(&leaves, i as usize);
                let holds = |leaf, at: u32, size: u32, path: &[Hash]| {
                    verify_inclusion(leaf, at.into(), size.into(), path, &whole)
                };
                let leaf = leaves[i as usize];
                assert!(holds(leaf, i, n, &path), "{i} of {n}");
                assert!(!holds(leaf_hash(b"other"), i, n, &path));
                assert!(!holds(leaf, n, n, &path));
                assert!((0..n).all(|j| j == i || !holds(leaf, j, n, &path)));
                assert!(path.is_empty() || !holds(leaf, i, n, &path[1..]));
            }
        }
    }

    #[test]
    fn consistency_is_proved_for_every_prefix_and_for_no_fork() {
        for n in 1..=33u32 {
            let leaves = numbered(n);
            let whole = naive(&leaves);
            for old in 0..=n {
                let path = consistency_proof(&leaves, old as usize);
                let before = naive(&leaves[..old as usize]);
                let holds = |before: &Hash, whole: &Hash, path: &[Hash]| {
                    verify_consistency(old.into(), n.into(), path, before, whole)
                };
                assert!(holds(&before, &whole, &path), "{old} of {n}");
                let fork = leaf_hash(b"fork");
                assert!(!holds(&fork, &whole, &path));
                assert!(old == 0 || !holds(&before, &fork, &path));
                assert!(path.is_empty() || !holds(&before, &whole, &path[1..]));
            }
        }
    }
}
