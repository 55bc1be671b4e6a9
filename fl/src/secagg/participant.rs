//! A member's side of a round: a state that is stored after every step, before what the step made is sent.
//!
//! It answers for one list of members, one list of senders and one vector only. Asked the same again it says the same;
//! asked for something else it refuses.
use super::{
    Refused,
    keys::{
        self, Advert, Bytes32, Kind, Opened, RoundId, RoundSecret, Shares, agree, public,
        seed_digest, share_digest,
    },
    mask::{self, Sign},
    shamir::{self, Share},
    terms::{Member, Terms},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A member in a round. Holds secrets: it is stored encrypted and deleted when the round is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    round: RoundId,
    terms: Terms,
    member: Member,
    secret: RoundSecret,
    /// Everybody who advertised keys, once the coordinator has said so.
    adverts: Option<BTreeMap<Member, Advert>>,
    /// Shares of everybody whose mask is in the vector, once the vector is masked: of masking key and seed.
    held: Option<BTreeMap<Member, (Share, Share)>>,
    /// Who sent, once shares were opened for them.
    senders: Option<BTreeSet<Member>>,
}

impl Participant {
    /// A member at the beginning of a round. `secret` is fresh and never used for another round or member.
    #[must_use]
    pub const fn new(round: RoundId, terms: Terms, member: Member, secret: RoundSecret) -> Self {
        Self {
            round,
            terms,
            member,
            secret,
            adverts: None,
            held: None,
            senders: None,
        }
    }

    fn sealing_key(&self) -> Bytes32 {
        self.secret.derive(&self.round, &[b"sealing key"])
    }

    fn masking_key(&self) -> Bytes32 {
        self.secret.derive(&self.round, &[b"masking key"])
    }

    fn seed(&self) -> Share {
        self.secret.derive(&self.round, &[b"seed"])
    }

    /// Step 1: the member's public keys.
    #[must_use]
    pub fn advertise(&self) -> Advert {
        Advert {
            member: self.member,
            sealing: public(&self.sealing_key()),
            masking: public(&self.masking_key()),
        }
    }

    /// Step 2: shares of both secrets for everybody in `adverts`, which includes the member itself.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`]; [`Refused::BadKey`] of a member whose key is another's or none;
    /// [`Refused::BadList`] when the list lacks or changes the member's own keys, or is another than the one before.
    pub fn share(&mut self, adverts: &BTreeMap<Member, Advert>) -> Result<Shares, Refused> {
        self.check_adverts(adverts)?;
        self.adverts = Some(adverts.clone());
        let list = self.list_digest(adverts);
        let mut shares = Shares {
            dealer: self.member,
            seed: seed_digest(&self.round, self.member, &self.seed()),
            digests: BTreeMap::new(),
            sealed: BTreeMap::new(),
        };
        for (holder, advert) in adverts {
            let masking = self.own_share(Kind::Masking, &list, *holder);
            let seed = self.own_share(Kind::Seed, &list, *holder);
            let of = |kind, share| share_digest(&self.round, kind, self.member, *holder, share);
            let digests = (of(Kind::Masking, &masking), of(Kind::Seed, &seed));
            shares.digests.insert(*holder, digests);
            if *holder != self.member {
                let key = self.sealing(&list, self.member, *holder, advert)?;
                let sealed = keys::seal(&key, &masking, &seed).ok_or(Refused::BadKey(*holder))?;
                shares.sealed.insert(*holder, sealed);
            }
        }
        Ok(shares)
    }

    fn check_adverts(&self, adverts: &BTreeMap<Member, Advert>) -> Result<(), Refused> {
        self.check_quorum(adverts.len())?;
        if adverts.len() > usize::from(self.terms.members()) {
            return Err(Refused::BadList("has more members than the plan"));
        }
        if adverts.get(&self.member) != Some(&self.advertise()) {
            return Err(Refused::BadList(
                "has not the keys that this member advertised",
            ));
        }
        if self
            .adverts
            .as_ref()
            .is_some_and(|before| before != adverts)
        {
            return Err(Refused::BadList("is another one than before"));
        }
        check_keys(adverts)
    }

    fn check_quorum(&self, have: usize) -> Result<(), Refused> {
        if have < usize::from(self.terms.quorum()) {
            return Err(Refused::BelowQuorum {
                have,
                quorum: self.terms.quorum(),
                missing: BTreeSet::new(),
            });
        }
        Ok(())
    }

    /// What the coefficients and the sealing keys depend on, so that another list would have others.
    fn list_digest(&self, adverts: &BTreeMap<Member, Advert>) -> Bytes32 {
        let mut parts: Vec<&[u8]> = vec![b"list", &self.round.0];
        let numbers: Vec<_> = adverts
            .keys()
            .map(|member| member.0.to_le_bytes())
            .collect();
        for (number, advert) in numbers.iter().zip(adverts.values()) {
            parts.extend([&number[..], &advert.sealing, &advert.masking]);
        }
        keys::digest(&parts)
    }

    /// The share of one of the member's own secrets.
    fn own_share(&self, kind: Kind, list: &Bytes32, holder: Member) -> Share {
        let secret = match kind {
            Kind::Masking => self.masking_key(),
            Kind::Seed => self.seed(),
        };
        let coefficient = |power: u16| {
            let info: [&[u8]; 4] = [b"coefficient", kind.label(), list, &power.to_le_bytes()];
            self.secret.derive(&self.round, &info)
        };
        let coefficients: Vec<_> = (1..self.terms.quorum()).map(coefficient).collect();
        shamir::share(&secret, &coefficients, holder)
    }

    /// The key with which shares of `dealer` are sealed for `holder`; `peer` is the one that is not this member.
    fn sealing(
        &self,
        list: &Bytes32,
        dealer: Member,
        holder: Member,
        peer: &Advert,
    ) -> Result<Bytes32, Refused> {
        let common = agree(&self.sealing_key(), &peer.sealing, peer.member)?;
        let direction = [dealer.0.to_le_bytes(), holder.0.to_le_bytes()].concat();
        Ok(keys::derive(
            &self.round.0,
            &common,
            &[b"seal", list, &direction],
        ))
    }

    /// Step 3: masks `vector`, in place, for everybody in `shared`: what the members sent in step 2, this member's own
    /// message included. The masked vector is stored before it is sent; it cannot be made a second time.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`]; [`Refused::MaskedBefore`]; [`Refused::CorruptShare`] names the dealer of a share that
    /// does not open or is not what its digest says; [`Refused::OutOfStep`] before step 2; [`Refused::Stranger`];
    /// [`Refused::BadList`] when the member's own shares are not in it. The vector is unchanged then.
    pub fn mask(
        &mut self,
        shared: &BTreeMap<Member, Shares>,
        vector: &mut [u32],
    ) -> Result<(), Refused> {
        let what = "masked vectors";
        let adverts = self.adverts.clone().ok_or(Refused::OutOfStep { what })?;
        if self.held.is_some() {
            return Err(Refused::MaskedBefore);
        }
        self.check_quorum(shared.len())?;
        if !shared.contains_key(&self.member) {
            return Err(Refused::BadList("lacks this member"));
        }
        let list = self.list_digest(&adverts);
        let mut held = BTreeMap::new();
        let mut masks = vec![(self_mask(&self.round, &self.seed()), Sign::Plus)];
        for (dealer, shares) in shared {
            let advert = adverts.get(dealer).ok_or(Refused::Stranger(*dealer))?;
            held.insert(*dealer, self.received(&list, advert, shares)?);
            if *dealer != self.member {
                let common = agree(&self.masking_key(), &advert.masking, *dealer)?;
                masks.push(pair_mask(&self.round, self.member, *dealer, &common));
            }
        }
        for (key, sign) in masks {
            mask::apply(&key, sign, vector);
        }
        self.held = Some(held);
        Ok(())
    }

    /// The shares that a dealer has for this member, if they are what it published.
    fn received(
        &self,
        list: &Bytes32,
        advert: &Advert,
        shares: &Shares,
    ) -> Result<(Share, Share), Refused> {
        let dealer = advert.member;
        let corrupt = Refused::CorruptShare {
            dealer,
            holder: self.member,
        };
        let (masking, seed) = if dealer == self.member {
            let own = |kind| self.own_share(kind, list, self.member);
            (own(Kind::Masking), own(Kind::Seed))
        } else {
            let key = self.sealing(list, dealer, self.member, advert)?;
            let sealed = shares.sealed.get(&self.member).ok_or(corrupt.clone())?;
            keys::open(&key, sealed).ok_or(corrupt.clone())?
        };
        let of = |kind, share| share_digest(&self.round, kind, dealer, self.member, share);
        let found = (of(Kind::Masking, &masking), of(Kind::Seed, &seed));
        let good = shares.dealer == dealer && shares.digests.get(&self.member) == Some(&found);
        good.then_some((masking, seed)).ok_or(corrupt)
    }

    /// Step 4: opens shares of the seeds of `senders`, and of the masking keys of all others whose masks are in the
    /// vector. It does so for one list only.
    ///
    /// # Errors
    /// [`Refused::BelowQuorum`]; [`Refused::OutOfStep`] before step 3; [`Refused::BadList`] when the list is another
    /// one than before, or has members without masks.
    pub fn unmask(&mut self, senders: &BTreeSet<Member>) -> Result<Opened, Refused> {
        let what = "opened shares";
        let held = self.held.as_ref().ok_or(Refused::OutOfStep { what })?;
        self.check_quorum(senders.len())?;
        if self
            .senders
            .as_ref()
            .is_some_and(|before| before != senders)
        {
            return Err(Refused::BadList("is another one than before"));
        }
        if !senders.iter().all(|sender| held.contains_key(sender)) {
            return Err(Refused::BadList("has senders whose shares nobody has"));
        }
        let mut opened = Opened {
            holder: self.member,
            seeds: BTreeMap::new(),
            maskings: BTreeMap::new(),
        };
        for (dealer, (masking, seed)) in held {
            if senders.contains(dealer) {
                opened.seeds.insert(*dealer, *seed);
            } else {
                opened.maskings.insert(*dealer, *masking);
            }
        }
        self.senders = Some(senders.clone());
        Ok(opened)
    }
}

/// Refuses keys of small order, and keys that two members have.
pub(super) fn check_keys(adverts: &BTreeMap<Member, Advert>) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for (member, advert) in adverts {
        let fresh = seen.insert(advert.sealing) && seen.insert(advert.masking);
        if !fresh || advert.member != *member || member.0 == 0 {
            return Err(Refused::BadKey(*member));
        }
    }
    Ok(())
}

/// The key of the mask that a seed gives.
pub(super) fn self_mask(round: &RoundId, seed: &Share) -> Bytes32 {
    keys::derive(&round.0, seed, &[b"own mask"])
}

/// The key of the mask that two members have in common, and how the first puts it on: the lower number adds.
pub(super) fn pair_mask(
    round: &RoundId,
    member: Member,
    peer: Member,
    common: &Bytes32,
) -> (Bytes32, Sign) {
    let (low, high) = (member.min(peer), member.max(peer));
    let pair = [low.0.to_le_bytes(), high.0.to_le_bytes()].concat();
    let key = keys::derive(&round.0, common, &[b"pair mask", &pair]);
    let sign = if member == low {
        Sign::Plus
    } else {
        Sign::Minus
    };
    (key, sign)
}
