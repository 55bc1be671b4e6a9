//! A region's side of a round: whom it asks what, what it takes of the answers, and what it releases.
//!
//! Everything is a pure step of a state that its shell stores before anything of it is sent. What was asked may be asked
//! again after a crash: members answer the same. The sum is of whole numbers, so it does not depend on who came first.
mod blobs;
mod waiting;

use crate::{
    judge,
    large::Vector,
    order::{self, Aim, Answer, Ask, Outcome, Release, RoundKey, RoundOrder, Site, Told},
    plain::Plain,
    round::{self, Lost, Round, Step},
    secagg::{Aggregator, Member, Phase, Refused, Shares, Terms},
    site,
    study::{Strategy, Study},
    update::UpdateCodec,
    wire,
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
    /// The updates where they are seen one by one: then nothing is masked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plain: Option<Plain>,
    /// How many bits of each number come in, where updates are compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    /// What was done to what members sent, or refused of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<Member, String>,
    told: BTreeMap<Member, Told>,
    /// How many numbers an update has, where updates are blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    large: Option<usize>,
    /// The blobs of those who are in the sum.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vectors: BTreeMap<Member, Vector>,
    /// The sum of blobs, once it is made, or why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summed: Option<Result<Vector, String>>,
    /// What each member was asked last: a step, or none for the end.
    asked: BTreeMap<Member, Option<Step>>,
    bytes: u64,
    released: bool,
    #[serde(default)]
    waiting: waiting::Waiting,
}

/// Characters of what a member says of itself.
const LONGEST_WORDS: usize = 1_000;

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
        let terms = terms(&study)?;
        let codec = codec(&study, &order)?;
        let length = match order.aim {
            Aim::Judge => judge::numbers(&study),
            Aim::Train => codec.numbers(),
        };
        let secure = study.aggregation.secure;
        let plain = (!secure).then(|| Plain::new(&study, order.aim, &codec));
        let large = (order.aim == Aim::Train && order.large.is_some()).then_some(length);
        let kept_here = if secure && large.is_none() { length } else { 0 };
        let numbered = (1..=study.sites).map(Member);
        let members: BTreeMap<_, _> = numbered.zip(known.iter().cloned()).collect();
        let quorum = study.aggregation.quorum;
        let asked = members.keys().copied();
        let mut round = Round::begin(asked, quorum, secure, study.deadlines, now_ms);
        if order.aim == Aim::Train && matches!(study.training.strategy, Strategy::Cyclic {}) {
            round = round.in_turn(order.key.round.saturating_sub(1));
        }
        let compressed = order.aim == Aim::Train && study.aggregation.compression.is_some();
        let bits = plan.bits.filter(|_| compressed);
        Ok(Self {
            round,
            sums: Aggregator::new(order.id(here), terms, kept_here),
            plain,
            width: bits.map(|bits| bits.needed),
            notes: BTreeMap::new(),
            order,
            members,
            told: BTreeMap::new(),
            large,
            vectors: BTreeMap::new(),
            summed: None,
            asked: BTreeMap::new(),
            bytes: 0,
            released: false,
            waiting: waiting::Waiting::since(now_ms),
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

    /// Takes an answer of a facility, as its certificate says who it is, at `now_ms` (ms since 1970).
    pub fn take(&mut self, from: &FacilityId, answer: Answer, now_ms: i64) -> Taken {
        self.tick(now_ms);
        let found = self.members.iter().find(|(_, facility)| *facility == from);
        let Some(member) = found.map(|(member, _)| *member) else {
            return Taken::Not;
        };
        if !self.is_running() || !self.round.missing().contains(&member) {
            return self.again(member, &answer);
        }
        let step = match &answer {
            Answer::Accepted => Step::Invite,
            Answer::Keys(_) => Step::Keys,
            Answer::Shares(_) => Step::Shares,
            Answer::Update { .. } => Step::Train,
            Answer::Opened(_) => Step::Open,
            Answer::Declined(objections) => {
                let why: Vec<_> = objections.iter().map(ToString::to_string).collect();
                return self.lose(member, Lost::Declined(bounded(&why.join("; "))), now_ms);
            }
            Answer::Unable(why) => {
                return self.lose(member, Lost::Declined(bounded(why)), now_ms);
            }
        };
        if step != self.round.step() {
            return Taken::Not;
        }
        let added = match answer {
            Answer::Update { large, .. } if large.is_some() != self.large.is_some() => {
                Err("its update is a blob where it fits a parcel, or none where it does not".into())
            }
            Answer::Update { numbers, told, .. } if self.plain.is_some() => {
                let added = self.add_plain(member, &numbers);
                if added.is_ok() {
                    self.told.insert(member, told);
                }
                added
            }
            answer => self.add(member, answer).map_err(|why| why.to_string()),
        };
        if let Err(why) = added {
            return self.lose(member, Lost::Refused(bounded(&why)), now_ms);
        }
        let taken = self.round.answer(member, step, now_ms);
        self.follow();
        match taken {
            Ok(round::Entered::Now) => Taken::Now,
            _ => Taken::Not,
        }
    }

    /// What came of a member that is asked nothing now. A second update that is another one is named.
    fn again(&mut self, member: Member, answer: &Answer) -> Taken {
        // Of whoever is lost nothing is looked at: only what is in the sum already is compared.
        let Answer::Update { numbers, large, .. } = answer else {
            return Taken::Not;
        };
        if !self.told.contains_key(&member) {
            return Taken::Not;
        }
        let again = match large {
            Some(vector) => self.sums.sent(member, &vector.sha256),
            None => self.sums.vector(member, numbers),
        };
        let is_another = matches!(again, Err(Refused::Conflict(_)));
        if !is_another || self.notes.contains_key(&member) {
            return Taken::Not;
        }
        let note = "sent a second update that is another one: it was refused";
        self.notes.insert(member, note.into());
        Taken::Now
    }

    /// Takes an update that is seen by itself.
    fn add_plain(&mut self, member: Member, numbers: &[u32]) -> Result<(), String> {
        let Some(plain) = &mut self.plain else {
            return Ok(());
        };
        let study = order::parse(&self.order.text)?;
        let codec = codec(&study, &self.order)?;
        let numbers: Vec<u32> = numbers
            .iter()
            .map(|number| wire::with_sign(*number, self.width.unwrap_or_default()))
            .collect();
        let scaled = plain.take(member, &numbers, &codec);
        if scaled.map_err(|refused| refused.to_string())? {
            let note = "its update was longer than the study's norm, and was scaled down to it";
            self.notes.insert(member, note.into());
        }
        let bits = numbers.len() as u64 * u64::from(self.width.unwrap_or(32));
        self.bytes += bits.div_ceil(8);
        Ok(())
    }

    fn add(&mut self, member: Member, answer: Answer) -> Result<(), Refused> {
        match answer {
            Answer::Keys(advert) if advert.member == member => self.sums.advert(advert)?,
            Answer::Shares(shares) if shares.dealer == member => self.sums.shares(shares)?,
            Answer::Opened(opened) if opened.holder == member => self.sums.opened(opened)?,
            Answer::Update {
                large: Some(vector),
                told,
                ..
            } => {
                let wanted = self.large.unwrap_or_default();
                if !vector.has(wanted) {
                    let found = usize::try_from(vector.bytes / 4).unwrap_or(usize::MAX);
                    return Err(Refused::Shape {
                        member,
                        found,
                        wanted,
                    });
                }
                let taken = self.sums.sent(member, &vector.sha256)?;
                self.vectors.insert(member, vector);
                self.bytes += vector.bytes;
                self.told.insert(member, told);
                taken
            }
            Answer::Update { numbers, told, .. } => {
                let taken = self.sums.vector(member, &numbers)?;
                let bits = numbers.len() as u64 * u64::from(self.width.unwrap_or(32));
                self.bytes += bits.div_ceil(8);
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

    /// Time has passed, until `now_ms` (ms since 1970). Whether anything changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        let before = (self.round.step(), self.is_running());
        self.round.tick(now_ms);
        self.follow();
        before != (self.round.step(), self.is_running())
    }

    /// The global node ends it before its time. Whether anything changed.
    pub fn end(&mut self) -> bool {
        let was_running = self.is_running();
        let why = "its study goes on no longer: it was cancelled, or has failed elsewhere";
        self.round.end(why.into());
        was_running
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
        if self.plain.is_some() {
            return;
        }
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
        let (mut asks, mut sums) = (Vec::new(), None);
        for (member, facility) in &self.members {
            if self.is_running() && self.round.is_in_reserve(*member) {
                continue;
            }
            let wanted = self.wanted(*member);
            if self.asked.get(member) == Some(&wanted) {
                continue;
            }
            if wanted.is_none() && !self.asked.contains_key(member) {
                continue;
            }
            if let Some(ask) = self.ask(*member, wanted, &mut sums) {
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

    /// `sums`: a copy of those of the round, made once for all whom it is needed for.
    fn ask(
        &self,
        member: Member,
        step: Option<Step>,
        sums: &mut Option<Aggregator>,
    ) -> Option<Ask> {
        // Closed already, so that these only read.
        let sums = sums.get_or_insert_with(|| self.sums.clone());
        Some(match step {
            None => Ask::Over,
            Some(Step::Invite) => Ask::Invite,
            Some(Step::Keys) => Ask::Keys,
            Some(Step::Shares) => Ask::Shares(sums.close_adverts().ok()?.clone()),
            Some(Step::Train) if self.plain.is_some() => Ask::Train(BTreeMap::new()),
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
            round::Outcome::Done => match self.sum()? {
                Ok((numbers, large)) => Outcome::Summed {
                    numbers,
                    large,
                    members: u16::try_from(self.told.len()).unwrap_or(u16::MAX),
                },
                Err(why) => Outcome::Failed(why),
            },
        };
        let site = |(member, facility): (&Member, &FacilityId)| {
            let told = self.told.get(member).copied();
            let lost = self.round.lost().get(member);
            let missing = match told {
                Some(_) => None,
                None if self.round.is_in_reserve(*member) => Some("was not its turn".into()),
                None => Some(lost.map_or_else(|| "did not send".into(), ToString::to_string)),
            };
            let site = Site {
                missing,
                note: self.notes.get(member).cloned(),
                told: told.unwrap_or_default(),
            };
            (facility.clone(), site)
        };
        Some(Release {
            key: self.order.key.clone(),
            outcome,
            sites: self.members.iter().map(site).collect(),
            bytes: self.bytes,
            asked: self.round.step() >= Step::Train,
        })
    }

    /// A member sent what is no answer to anything: it is lost at `now_ms` (ms since 1970), and named.
    pub fn refuse(&mut self, from: &FacilityId, now_ms: i64) -> Taken {
        let found = self.members.iter().find(|(_, facility)| *facility == from);
        let Some(member) = found.map(|(member, _)| *member) else {
            return Taken::Not;
        };
        self.lose(member, Lost::Refused("it is no answer".into()), now_ms)
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

/// The terms of secure aggregation; without it members have none, and these fit any number.
pub(crate) fn terms(study: &Study) -> Result<Terms, String> {
    let aggregation = &study.aggregation;
    let (quorum, colluders) = if aggregation.secure {
        (aggregation.quorum, aggregation.colluders)
    } else {
        (study.sites, 0)
    };
    Terms::new(study.sites, quorum, colluders).map_err(|error| error.to_string())
}

/// How the updates of an order are written.
fn codec(study: &Study, order: &RoundOrder) -> Result<UpdateCodec, String> {
    let model = site::model(study).map_err(|error| error.to_string())?;
    let carried = order.carried(study, model.parameters());
    let carried = carried.map_err(|error| error.to_string())?;
    site::codec_at(study, &model, carried.clip).map_err(|error| error.to_string())
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

/// What a member says in its own words, no longer than some lines: all of it goes into the release, which is a parcel.
fn bounded(text: &str) -> String {
    let words = text.chars().filter(|of| !of.is_control());
    words.take(LONGEST_WORDS).collect()
}
