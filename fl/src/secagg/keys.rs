//! What a member draws for a round, and the messages that carry it.
//!
//! Everything follows from one secret of 32 bytes and the round's name, so that a member that was killed makes the same
//! messages again. Keys are X25519 (RFC 7748), derived by HKDF-SHA-256 (RFC 5869), shares are sealed with AES-256-GCM.
use super::{Member, Refused, shamir::Share};
use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{Context, SHA256},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::Secret;

/// A public key, or 32 bytes of a digest.
pub type Bytes32 = [u8; 32];

/// The name of one round of one study: 32 bytes that the coordinator never uses twice, such as a digest of plan and
/// round number. Every key of the round depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoundId(pub Bytes32);

/// A member's secret for one round: 32 bytes of a cryptographic generator, stored before the first message is sent and
/// deleted when the round is over.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct RoundSecret(Secret<Bytes32>);

/// Into the facility's encrypted store, with the round that it is of.
impl Serialize for RoundSecret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.reveal().serialize(serializer)
    }
}

impl PartialEq for RoundSecret {
    /// Of two states of a round, by what follows from the secret.
    fn eq(&self, other: &Self) -> bool {
        let mark = |of: &Self| of.derive(&RoundId([0; 32]), &[b"equal"]);
        mark(self) == mark(other)
    }
}

impl Eq for RoundSecret {}

impl RoundSecret {
    /// A secret of uniform bytes.
    #[must_use]
    pub const fn new(bytes: Bytes32) -> Self {
        Self(Secret::new(bytes))
    }

    /// 32 bytes for a use: `info` names it.
    pub(super) fn derive(&self, round: &RoundId, info: &[&[u8]]) -> Bytes32 {
        derive(&round.0, self.0.reveal(), info)
    }
}

/// The public keys that a member advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// Whose keys.
    pub member: Member,
    /// X25519 key for which shares are sealed.
    pub sealing: Bytes32,
    /// X25519 key from which common masks follow.
    pub masking: Bytes32,
}

/// What a member shares: its masking key and its seed, for each member, and digests by which wrong ones are found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// Whose secrets.
    pub dealer: Member,
    /// Digest of the seed.
    pub seed: Bytes32,
    /// For each member: the digest of its share of the masking key, and of the seed.
    pub digests: BTreeMap<Member, (Bytes32, Bytes32)>,
    /// For each other member: both shares, sealed.
    pub sealed: BTreeMap<Member, Vec<u8>>,
}

/// What a member opens at the end: its shares of the seeds of those who sent, and of the masking keys of those who
/// did not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Who opens.
    pub holder: Member,
    /// By dealer, for those who sent.
    pub seeds: BTreeMap<Member, Share>,
    /// By dealer, for those who did not.
    pub maskings: BTreeMap<Member, Share>,
}

/// Which of the two secrets of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Masking,
    Seed,
}

impl Kind {
    pub const fn label(self) -> &'static [u8] {
        match self {
            Self::Masking => b"masking",
            Self::Seed => b"seed",
        }
    }
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        32
    }
}

/// 32 bytes by HKDF.
pub fn derive(salt: &Bytes32, secret: &[u8], info: &[&[u8]]) -> Bytes32 {
    let mut out = [0; 32];
    let filled = Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(info, Length)
        .and_then(|okm| okm.fill(&mut out));
    debug_assert!(filled.is_ok(), "32 bytes are one block of HKDF");
    out
}

/// SHA-256 of parts, each with its length.
pub fn digest(parts: &[&[u8]]) -> Bytes32 {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_le_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The digest by which a share is recognised. A share has 32 uniform bytes: its digest tells nothing of it.
pub fn share_digest(
    round: &RoundId,
    kind: Kind,
    dealer: Member,
    holder: Member,
    share: &Share,
) -> Bytes32 {
    let numbers = [dealer.0.to_le_bytes(), holder.0.to_le_bytes()].concat();
    digest(&[b"share", &round.0, kind.label(), &numbers, share])
}

/// The digest by which a seed is recognised.
pub fn seed_digest(round: &RoundId, dealer: Member, seed: &Share) -> Bytes32 {
    digest(&[b"seed", &round.0, &dealer.0.to_le_bytes(), seed])
}

/// The public key of a private one.
pub fn public(private: &Bytes32) -> Bytes32 {
    MontgomeryPoint::mul_base_clamped(*private).to_bytes()
}

/// What two members have in common (RFC 7748 §6.1).
///
/// # Errors
/// [`Refused::BadKey`] of `peer` when its key is of small order.
pub fn agree(private: &Bytes32, theirs: &Bytes32, peer: Member) -> Result<Bytes32, Refused> {
    let common = MontgomeryPoint(*theirs).mul_clamped(*private).to_bytes();
    if common == [0; 32] {
        return Err(Refused::BadKey(peer));
    }
    Ok(common)
}

/// A key of AES-256-GCM.
pub fn cipher(key: &Bytes32) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key)
        .ok()
        .map(LessSafeKey::new)
}

/// Both shares of a dealer for a holder, sealed. Every key seals one text only, so that the nonce may be 0.
pub fn seal(key: &Bytes32, masking: &Share, seed: &Share) -> Option<Vec<u8>> {
    let mut text = [*masking, *seed].concat();
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    cipher(key)?
        .seal_in_place_append_tag(nonce, Aad::empty(), &mut text)
        .ok()?;
    Some(text)
}

/// The shares of a sealed text: of the masking key, and of the seed.
pub fn open(key: &Bytes32, sealed: &[u8]) -> Option<(Share, Share)> {
    let mut text = sealed.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
    let cipher = cipher(key)?;
    let opened = cipher.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
    let (masking, seed) = opened.split_at_checked(32)?;
    Some((masking.try_into().ok()?, seed.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Bytes32 {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
    }

    #[test]
    fn agreement_is_that_of_rfc_7748() {
        // RFC 7748 §6.1.
        let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        let common = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(agree(&bob, &alice, Member(1)), Ok(common));
        let theirs = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(public(&bob), theirs);
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let one = std::array::from_fn(|at| u8::from(at == 0));
        for bad in [[0; 32], one] {
            assert_eq!(
                agree(&[7; 32], &bad, Member(3)),
                Err(Refused::BadKey(Member(3)))
            );
        }
    }

    #[test]
    fn shares_are_sealed_for_one_key() {
        let sealed = seal(&[1; 32], &[2; 32], &[3; 32]).unwrap();
        assert_eq!(open(&[1; 32], &sealed), Some(([2; 32], [3; 32])));
        assert_eq!(open(&[9; 32], &sealed), None);
        let mut changed = sealed.clone();
        changed[40] ^= 1;
        assert_eq!(open(&[1; 32], &changed), None);
        assert_eq!(
            format!("{:?}", RoundSecret::new([5; 32])),
            "RoundSecret(Secret(..))"
        );
    }
}
