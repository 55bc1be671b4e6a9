//! The region's side of a round: collects, step by step, and takes the masks off the sum.
//!
//! It keeps one vector, however many members send: memory does not grow with them. A step is closed by the caller, at
//! its deadline or when everybody has answered; a step that closes below the quorum ends the round and says who was
//! missing.
use super::{
    Refused,
    keys::{
        Advert, Bytes32, Kind, Opened, RoundId, Shares, agree, public, seed_digest, share_digest,
    },
    mask::{self, Mask},
    participant::{check_keys, pair_mask, self_mask},
    shamir::{self, Share},
    terms::{Member, Terms},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which step a round is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Members advertise keys.
    Advertising,
    /// Members share their secrets.
    Sharing,
    /// Members send masked vectors.
    Masking,
    /// Members open shares.
    Unmasking,
}

/// A round as the region sees it. It holds no secret of a member until masks come off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Aggregator {
    round: RoundId,
    terms: Terms,
    phase: Phase,
    adverts: BTreeMap<Member, Advert>,
    shares: BTreeMap<Member, Shares>,
    /// By what each vector that is in the sum is known again: the digest of one that is kept elsewhere, or a fingerprint.
    senders: BTreeMap<Member, Bytes32>,
    sum: Vec<u32>,
    opened: BTreeMap<Member, Opened>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts.
    Now,
    /// It was there before; nothing has changed.
    Before,
}

impl Aggregator {
    /// A round for vectors of `length` numbers.
    #[must_use]
    pub fn new(round: RoundId, terms: Terms, length: usize) -> Self {
        Self {
            round,
            terms,
            phase: Phase::Advertising,
            adverts: BTreeMap::new(),
            shares: BTreeMap::new(),
            senders: BTreeMap::new(),
            sum: vec![0; length],
            opened: BTreeMap::new(),
        }
    }

    /// The step that the round is in.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Who has answered in this step, and who is still missing.
    #[must_use]
    pub fn answers(&self) -> (BTreeSet<Member>, BTreeSet<Member>) {
        let (have, asked) = match self.phase {
            Phase::Advertising => {
                let asked = (1..=self.terms.members()).map(Member).collect();
                (keys_of(&self.adverts), asked)
            }
            Phase::Sharing => (keys_of(&self.shares), keys_of(&self.adverts)),
            Phase::Masking => (keys_of(&self.senders), keys_of(&self.shares)),
            Phase::Unmasking => (keys_of(&self.opened), keys_of(&self.senders)),
        };
        let missing = asked.difference(&have).copied().collect();
        (have, missing)
    }

    fn in_phase(&self, phase: Phase, what: &'static str) -> Result<(), Refused> {
        if self.phase == phase {
            Ok(())
        } else {
            Err(Refused::OutOfStep { what })
        }
    }

    fn quorum_of(&self, answers: (BTreeSet<Member>, BTreeSet<Member>)) -> Result<(), Refused> {
        let (have, missing) = answers;
        if have.len() < usize::from(self.terms.quorum()) {
            return Err(Refused::BelowQuorum {
                have: have.len(),
                quorum: self.terms.quorum(),
                missing,
            });
        }
        Ok(())
    }

    /// Takes a member's keys.
    ///
    /// # Errors
    /// [`Refused`] when the step is another, or the member or its keys are not what they have to be.
    pub fn advert(&mut self, advert: Advert) -> Result<Taken, Refused> {
        let member = advert.member;
        if let Some(before) = self.adverts.get(&member) {
            return same(before == &advert, member);
        }
        self.in_phase(Phase::Advertising, "keys")?;
        if member.0 == 0 || member.0 > self.terms.members() {
            return Err(Refused::Stranger(member));
        }
        let mut all = self.adverts.clone();
        all.insert(member, advert);
        check_keys(&all).map_err(|_| Refused::BadKey(member))?;
        self.adverts = all;
        Ok(Taken::Now)
    }

    /// Ends the first step. What it returns goes to everybody in it.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`] ends the round.
    pub fn close_adverts(&mut self) -> Result<&BTreeMap<Member, Advert>, Refused> {
        if self.phase == Phase::Advertising {
            self.quorum_of(self.answers())?;
            self.phase = Phase::Sharing;
        }
        Ok(&self.adverts)
    }

    /// Takes a member's shares.
    ///
    /// # Errors
    /// [`Refused`] when the step is another, or they are not for exactly those who advertised.
    pub fn shares(&mut self, shares: Shares) -> Result<Taken, Refused> {
        let dealer = shares.dealer;
        if let Some(before) = self.shares.get(&dealer) {
            return same(before == &shares, dealer);
        }
        self.in_phase(Phase::Sharing, "shares")?;
        if !self.adverts.contains_key(&dealer) {
            return Err(Refused::Stranger(dealer));
        }
        let sealed = shares
            .sealed
            .keys()
            .chain([&dealer])
            .collect::<BTreeSet<_>>();
        let complete = shares.digests.keys().eq(self.adverts.keys())
            && sealed.into_iter().eq(self.adverts.keys());
        if !complete {
            return Err(Refused::CorruptSecret(dealer));
        }
        self.shares.insert(dealer, shares);
        Ok(Taken::Now)
    }

    /// Ends the second step. What it returns goes to everybody in it.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`] ends the round.
    pub fn close_shares(&mut self) -> Result<&BTreeMap<Member, Shares>, Refused> {
        if self.phase == Phase::Sharing {
            self.quorum_of(self.answers())?;
            self.phase = Phase::Masking;
        }
        Ok(&self.shares)
    }

    /// Adds a member's masked vector to the sum.
    ///
    /// # Errors
    /// [`Refused`] when the step is another, the member did not share, or the vector has another length.
    pub fn vector(&mut self, member: Member, vector: &[u32]) -> Result<Taken, Refused> {
        if let Some(before) = self.senders.get(&member) {
            return same(before == &Fingerprint::of(vector), member);
        }
        self.may_send(member)?;
        if vector.len() != self.sum.len() {
            return Err(Refused::Shape {
                member,
                found: vector.len(),
                wanted: self.sum.len(),
            });
        }
        let mut fingerprint = Fingerprint::default();
        let sums = self.sum.chunks_mut(Fingerprint::AT_A_TIME);
        for (sums, values) in sums.zip(vector.chunks(Fingerprint::AT_A_TIME)) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_add(*value);
            }
            fingerprint.add(values);
        }
        self.senders.insert(member, fingerprint.bytes());
        Ok(Taken::Now)
    }

    /// A member's masked vector is kept elsewhere, by its digest (SHA-256 of its numbers, each four bytes from the lowest
    /// on), and summed there ([`Aggregator::masks`]). That it has the right length is the caller's to check.
    ///
    /// # Errors
    /// As [`Aggregator::vector`].
    pub fn sent(&mut self, member: Member, digest: &Bytes32) -> Result<Taken, Refused> {
        if let Some(before) = self.senders.get(&member) {
            return same(before == digest, member);
        }
        self.may_send(member)?;
        self.senders.insert(member, *digest);
        Ok(Taken::Now)
    }

    /// Whether a member that has sent no vector may send one.
    fn may_send(&self, member: Member) -> Result<(), Refused> {
        self.in_phase(Phase::Masking, "masked vectors")?;
        if self.shares.contains_key(&member) {
            Ok(())
        } else {
            Err(Refused::Stranger(member))
        }
    }

    /// Ends the third step. What it returns goes to everybody in it: who sent.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`] ends the round.
    pub fn close_vectors(&mut self) -> Result<BTreeSet<Member>, Refused> {
        if self.phase == Phase::Masking {
            self.quorum_of(self.answers())?;
            self.phase = Phase::Unmasking;
        }
        Ok(keys_of(&self.senders))
    }

    /// Takes what a member opens, if every share is what its dealer published.
    ///
    /// # Errors
    /// [`Refused::CorruptShare`] names the member and whose share is wrong; the others' answers may still suffice.
    pub fn opened(&mut self, opened: Opened) -> Result<Taken, Refused> {
        let holder = opened.holder;
        if let Some(before) = self.opened.get(&holder) {
            return same(before == &opened, holder);
        }
        self.in_phase(Phase::Unmasking, "opened shares")?;
        if !self.senders.contains_key(&holder) {
            return Err(Refused::Stranger(holder));
        }
        for (dealer, shares) in &self.shares {
            let sent = self.senders.contains_key(dealer);
            let (kind, found) = if sent {
                (Kind::Seed, opened.seeds.get(dealer))
            } else {
                (Kind::Masking, opened.maskings.get(dealer))
            };
            let published = shares.digests.get(&holder).map(|digests| match kind {
                Kind::Masking => digests.0,
                Kind::Seed => digests.1,
            });
            let found = found.map(|share| share_digest(&self.round, kind, *dealer, holder, share));
            if found.is_none() || found != published {
                return Err(Refused::CorruptShare {
                    dealer: *dealer,
                    holder,
                });
            }
        }
        self.opened.insert(holder, opened);
        Ok(Taken::Now)
    }

    /// The sum of the vectors of everybody who sent, once a quorum has opened its shares. Asked again it is the same.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`]; [`Refused::CorruptSecret`] names a member whose shares are not of what it published:
    /// the round has no result then.
    pub fn sum(&self) -> Result<Vec<u32>, Refused> {
        let mut sum = self.sum.clone();
        for mask in self.masks()? {
            mask.put(0, &mut sum);
        }
        Ok(sum)
    }

    /// What comes off the sum of the vectors of everybody who sent, once a quorum has opened its shares.
    ///
    /// # Errors
    /// As [`Aggregator::sum`].
    pub fn masks(&self) -> Result<Vec<Mask>, Refused> {
        self.in_phase(Phase::Unmasking, "sums")?;
        self.quorum_of(self.answers())?;
        let mut masks = Vec::new();
        for (dealer, shares) in &self.shares {
            if self.senders.contains_key(dealer) {
                let seed = self.recovered(*dealer, |opened| &opened.seeds);
                if seed_digest(&self.round, *dealer, &seed) != shares.seed {
                    return Err(Refused::CorruptSecret(*dealer));
                }
                let key = self_mask(&self.round, &seed);
                let sign = mask::Sign::Minus;
                masks.push(Mask { key, sign });
            } else {
                self.common_masks(*dealer, &mut masks)?;
            }
        }
        Ok(masks)
    }

    /// The masks that the senders have in common with a member that did not send.
    fn common_masks(&self, lost: Member, masks: &mut Vec<Mask>) -> Result<(), Refused> {
        let private = self.recovered(lost, |opened| &opened.maskings);
        let advertised = self.adverts.get(&lost).ok_or(Refused::Stranger(lost))?;
        if public(&private) != advertised.masking {
            return Err(Refused::CorruptSecret(lost));
        }
        for sender in self.senders.keys() {
            let advert = self.adverts.get(sender).ok_or(Refused::Stranger(*sender))?;
            let common = agree(&private, &advert.masking, *sender)?;
            let (key, sign) = pair_mask(&self.round, *sender, lost, &common);
            let sign = sign.opposite();
            masks.push(Mask { key, sign });
        }
        Ok(())
    }

    /// A secret of a dealer, from the shares of the first quorum of those who opened.
    fn recovered(&self, dealer: Member, of: impl Fn(&Opened) -> &BTreeMap<Member, Share>) -> Share {
        let shares = self
            .opened
            .values()
            .filter_map(|opened| Some((opened.holder, *of(opened).get(&dealer)?)))
            .take(usize::from(self.terms.quorum()))
            .collect();
        shamir::combine(&shares)
    }
}

fn keys_of<T>(map: &BTreeMap<Member, T>) -> BTreeSet<Member> {
    map.keys().copied().collect()
}

fn same(same: bool, member: Member) -> Result<Taken, Refused> {
    if same {
        Ok(Taken::Before)
    } else {
        Err(Refused::Conflict(member))
    }
}

/// By what a vector is known again that its member sends twice. It is made while the vector is added, as fast as memory gives
/// it. A member that made two vectors of the same fingerprint would win nothing: the first one counts, whatever comes later.
#[derive(Default)]
struct Fingerprint {
    lanes: [u64; Self::LANES],
}

impl Fingerprint {
    const LANES: usize = 4;
    /// Numbers that are added at a time: they stay in the processor's cache. A whole number of lanes.
    const AT_A_TIME: usize = 2048;
    /// 2^64 divided by the golden ratio: odd, so that no step forgets anything.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn of(vector: &[u32]) -> Bytes32 {
        let mut fingerprint = Self::default();
        let chunks = vector.chunks(Self::AT_A_TIME);
        chunks.for_each(|chunk| fingerprint.add(chunk));
        fingerprint.bytes()
    }

    /// Adds the next numbers: [`Self::AT_A_TIME`] of them, but at the end.
    fn add(&mut self, numbers: &[u32]) {
        let (pairs, last) = numbers.as_chunks::<2>();
        let (blocks, rest) = pairs.as_chunks::<{ Self::LANES }>();
        let step = |lane: &mut u64, word: u64| {
            *lane = (*lane ^ word).wrapping_mul(Self::FACTOR).rotate_left(29);
        };
        let word = |pair: &[u32; 2]| u64::from(pair[0]) | u64::from(pair[1]) << u32::BITS;
        for block in blocks {
            let lanes = self.lanes.iter_mut().zip(block);
            lanes.for_each(|(lane, pair)| step(lane, word(pair)));
        }
        let lanes = self.lanes.iter_mut().zip(rest);
        lanes.for_each(|(lane, pair)| step(lane, word(pair)));
        if let ([number], [.., lane]) = (last, &mut self.lanes) {
            step(lane, (*number).into());
        }
    }

    fn bytes(&self) -> Bytes32 {
        let mut bytes = [0; 32];
        for (to, lane) in bytes.as_chunks_mut().0.iter_mut().zip(self.lanes) {
            *to = lane.to_le_bytes();
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_known_again_and_no_other_one_is_taken_for_it() {
        for length in [1, 2, 7, 8, 9, 2_047, 2_048, 2_049, 5_000] {
            let vector: Vec<u32> = (0..length)
                .map(|at: u32| at.wrapping_mul(0x9e37_79b9))
                .collect();
            let found = Fingerprint::of(&vector);
            assert_eq!(Fingerprint::of(&vector.clone()), found);
            // Any one number is another one, any bit of it, or two have changed places.
            let step = (vector.len() / 97).max(1);
            for at in (0..vector.len()).step_by(step) {
                let mut other = vector.clone();
                other[at] ^= 1 << (at % 32);
                assert_ne!(Fingerprint::of(&other), found, "{length}: {at}");
                let mut other = vector.clone();
                other.swap(at, vector.len() - 1 - at);
                assert!(
                    other == vector || Fingerprint::of(&other) != found,
                    "{length}: {at}"
                );
            }
        }
    }
}
