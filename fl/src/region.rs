//! A region's side of a round: whom it asks what, what it takes of the answers, and what it releases.
//!
//! Everything is a pure step of a state that its shell stores before anything of it is sent. What was asked may be asked
//! again after a crash: members answer the same. The sum is of whole numbers, so it does not depend on who came first.
use crate::{
    metrics::Histogram,
    order::{Aim, Answer, Ask, Outcome, Release, RoundKey, RoundOrder, Site, Told},
    round::{self, Lost, Round, Step},
    secagg::{Aggregator, Member, Phase, Refused, Shares, Terms},
    site,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{FacilityId, Place};

/// A round in a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegionRound {
    order: RoundOrder,
    members: BTreeMap<Member, FacilityId>,
    round: Round,
    sums: Aggregator,
    told: BTreeMap<Member, Told>,
    /// What each member was asked last: a step, or none for the end.
    asked: BTreeMap<Member, Option<Step>>,
    bytes: u64,
    released: bool,
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts, or says why its member is lost.
    Now,
    /// It changes nothing: it came again, late, or was of nobody who is asked.
    Not,
}

impl RegionRound {
    /// A round among the first of the facilities that the region knows, which the study says how many of.
    ///
    /// # Errors
    /// Why it cannot begin.
    pub fn begin(
        order: RoundOrder,
        here: &Place,
        known: &[FacilityId],
        now_ms: i64,
    ) -> Result<Self, String> {
        let (study, plan) = order.read()?;
        let sites = usize::from(study.sites);
        if known.len() < sites {
            let know = known.len();
            return Err(format!(
                "{sites} sites are asked for and {know} facilities are known here"
            ));
        }
        let terms = Terms::new(
            study.sites,
            study.aggregation.quorum,
            study.aggregation.colluders,
        )
        .map_err(|error| error.to_string())?;
        if order.model.len() as u64 != plan.parameters {
            return Err("the model has not the study's number of parameters".into());
        }
        let length = match order.aim {
            Aim::Judge => Histogram::NUMBERS,
            Aim::Train => {
                let model = site::model(&study).map_err(|error| error.to_string())?;
                let codec = site::codec(&study, &model).map_err(|error| error.to_string())?;
                codec.numbers()
            }
        };
        let numbered = (1..=study.sites).map(Member);
        let members: BTreeMap<_, _> = numbered.zip(known.iter().cloned()).collect();
        let quorum = study.aggregation.quorum;
        let asked = members.keys().copied();
        Ok(Self {
            round: Round::begin(asked, quorum, true, study.deadlines, now_ms),
            sums: Aggregator::new(order.id(here), terms, length),
            order,
            members,
            told: BTreeMap::new(),
            asked: BTreeMap::new(),
            bytes: 0,
            released: false,
        })
    }

    /// What was ordered.
    #[must_use]
    pub const fn order(&self) -> &RoundOrder {
        &self.order
    }

    /// Which round it is.
    #[must_use]
    pub const fn key(&self) -> &RoundKey {
        &self.order.key
    }

    /// Takes an answer of a facility, as its certificate says who it is.
    pub fn take(&mut self, from: &FacilityId, answer: Answer, now_ms: i64) -> Taken {
        self.tick(now_ms);
        let found = self.members.iter().find(|(_, facility)| *facility == from);
        let Some(member) = found.map(|(member, _)| *member) else {
            return Taken::Not;
        };
        if !self.is_running() || !self.round.missing().contains(&member) {
            return Taken::Not;
        }
        let step = match &answer {
            Answer::Accepted => Step::Invite,
            Answer::Keys(_) => Step::Keys,
            Answer::Shares(_) => Step::Shares,
            Answer::Update { .. } => Step::Train,
            Answer::Opened(_) => Step::Open,
            Answer::Declined(objections) => {
                let why: Vec<_> = objections.iter().map(ToString::to_string).collect();
                return self.lose(member, Lost::Declined(why.join("; ")), now_ms);
            }
            Answer::Unable(why) => {
                return self.lose(member, Lost::Declined(bounded(why)), now_ms);
            }
        };
        if step != self.round.step() {
            return Taken::Not;
        }
        if let Err(refused) = self.add(member, answer) {
            return self.lose(member, Lost::Refused(refused.to_string()), now_ms);
        }
        let taken = self.round.answer(member, step, now_ms);
        self.follow();
        match taken {
            Ok(round::Entered::Now) => Taken::Now,
            _ => Taken::Not,
        }
    }

    fn add(&mut self, member: Member, answer: Answer) -> Result<(), Refused> {
        match answer {
            Answer::Keys(advert) if advert.member == member => self.sums.advert(advert)?,
            Answer::Shares(shares) if shares.dealer == member => self.sums.shares(shares)?,
            Answer::Opened(opened) if opened.holder == member => self.sums.opened(opened)?,
            Answer::Update { numbers, told } => {
                let taken = self.sums.vector(member, &numbers)?;
                self.bytes += 4 * numbers.len() as u64;
                self.told.insert(member, told);
                taken
            }
            Answer::Accepted => return Ok(()),
            _ => return Err(Refused::Stranger(member)),
        };
        Ok(())
    }

    fn lose(&mut self, member: Member, why: Lost, now_ms: i64) -> Taken {
        let lost = self.round.lose(member, why, now_ms);
        self.follow();
        match lost {
            Ok(round::Entered::Now) => Taken::Now,
            _ => Taken::Not,
        }
    }

    /// Time has passed. Whether anything changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let before = (self.round.step(), self.is_running());
        self.round.tick(now_ms);
        self.follow();
        before != (self.round.step(), self.is_running())
    }

    /// When the step ends at the latest.
    #[must_use]
    pub const fn until_ms(&self) -> i64 {
        self.round.until_ms()
    }

    /// Whether it goes on.
    #[must_use]
    pub fn is_running(&self) -> bool {
        *self.round.outcome() == round::Outcome::Running
    }

    /// Closes the steps of the sum that the round has left behind.
    fn follow(&mut self) {
        let step = self.round.step();
        let closed = |sums: &mut Aggregator| match sums.phase() {
            Phase::Advertising if step > Step::Keys => sums.close_adverts().map(drop).is_ok(),
            Phase::Sharing if step > Step::Shares => sums.close_shares().map(drop).is_ok(),
            Phase::Masking if step > Step::Train => sums.close_vectors().map(drop).is_ok(),
            _ => false,
        };
        while closed(&mut self.sums) {}
    }

    /// What is to be asked of whom, and was not yet.
    #[must_use]
    pub fn asks(&self) -> Vec<(Member, FacilityId, Ask)> {
        let mut asks = Vec::new();
        for (member, facility) in &self.members {
            let wanted = self.wanted(*member);
            if self.asked.get(member) == Some(&wanted) {
                continue;
            }
            if wanted.is_none() && !self.asked.contains_key(member) {
                continue;
            }
            if let Some(ask) = self.ask(*member, wanted) {
                asks.push((*member, facility.clone(), ask));
            }
        }
        asks
    }

    /// The step that a member is in; none when the round is over for it.
    fn wanted(&self, member: Member) -> Option<Step> {
        let takes_part = self.is_running() && self.round.members().contains(&member);
        takes_part.then(|| self.round.step())
    }

    fn ask(&self, member: Member, step: Option<Step>) -> Option<Ask> {
        // Closed already, so that these only read.
        let mut sums = self.sums.clone();
        Some(match step {
            None => Ask::Over,
            Some(Step::Invite) => Ask::Invite,
            Some(Step::Keys) => Ask::Keys,
            Some(Step::Shares) => Ask::Shares(sums.close_adverts().ok()?.clone()),
            Some(Step::Train) => {
                let shares = sums.close_shares().ok()?.values();
                Ask::Train(
                    shares
                        .map(|shares| (shares.dealer, only(shares, member)))
                        .collect(),
                )
            }
            Some(Step::Open) => Ask::Open(sums.close_vectors().ok()?),
        })
    }

    /// A member was asked; its shell has stored the parcel.
    pub fn was_asked(&mut self, member: Member, ask: &Ask) {
        self.asked.insert(member, ask.step());
    }

    /// What is released, once the round is over.
    #[must_use]
    pub fn release(&self) -> Option<Release> {
        let outcome = match self.round.outcome() {
            round::Outcome::Running => return None,
            round::Outcome::Failed => {
                let names = self.named(&self.round.failure().unwrap_or_default());
                Outcome::Failed(names)
            }
            round::Outcome::Done => match self.sums.sum() {
                Ok(numbers) => Outcome::Summed {
                    numbers,
                    members: u16::try_from(self.told.len()).unwrap_or(u16::MAX),
                },
                Err(refused) => Outcome::Failed(refused.to_string()),
            },
        };
        let site = |(member, facility): (&Member, &FacilityId)| {
            let told = self.told.get(member).copied();
            let lost = self.round.lost().get(member);
            let missing = match told {
                Some(_) => None,
                None => Some(lost.map_or_else(|| "did not send".into(), ToString::to_string)),
            };
            let told = told.unwrap_or_default();
            (facility.clone(), Site { missing, told })
        };
        Some(Release {
            key: self.order.key.clone(),
            outcome,
            sites: self.members.iter().map(site).collect(),
            bytes: self.bytes,
        })
    }

    /// The release is on its way.
    pub const fn was_released(&mut self) {
        self.released = true;
    }

    /// Whether the release is on its way.
    #[must_use]
    pub const fn is_released(&self) -> bool {
        self.released
    }

    /// Members by their facilities' names.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (member, facility) in self.members.iter().rev() {
            text = text.replace(&format!("member {member} "), &format!("{facility} "));
        }
        text
    }
}

/// What of a dealer's shares concerns one holder.
fn only(shares: &Shares, holder: Member) -> Shares {
    let own = |of: &Member| *of == holder;
    Shares {
        dealer: shares.dealer,
        seed: shares.seed,
        digests: shares
            .digests
            .iter()
            .filter(|(of, _)| own(of))
            .map(|(of, d)| (*of, *d))
            .collect(),
        sealed: shares
            .sealed
            .iter()
            .filter(|(of, _)| own(of))
            .map(|(of, s)| (*of, s.clone()))
            .collect(),
    }
}

/// What a member says in its own words, no longer than a line.
fn bounded(text: &str) -> String {
    text.chars()
        .filter(|of| !of.is_control())
        .take(300)
        .collect()
}
