//! A facility's side of a round: what it answers to each ask, from a state that its shell stores with the answer in one
//! commit. It answers each ask once: a second vector under the same masks would give both away.
use crate::{
    course::MAX_ATTEMPTS,
    order::{Aim, Answer, Ask, RoundOrder, Told},
    privacy::{Event, InvalidEvent},
    region,
    secagg::{Member, Participant, RoundSecret},
    study::{Plan, PrivacyUnit, Study},
};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use types::{FacilityId, Place};

/// A round at a facility. Holds secrets: it is stored encrypted and deleted when the round is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberRound {
    order: RoundOrder,
    participant: Participant,
    /// Whether the masked numbers are made.
    has_sent: bool,
    /// Whether nothing is masked.
    #[serde(default, skip_serializing_if = "is_not")]
    plain: bool,
    /// How many bits of each number are sent, where updates are compressed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
}

const fn is_not(of: &bool) -> bool {
    !*of
}

impl MemberRound {
    /// A round that is ordered from `aggregator`, as its certificate says where it stands. `secret` is fresh and random.
    ///
    /// # Errors
    /// What is wrong with the order.
    pub fn begin(
        order: RoundOrder,
        aggregator: &Place,
        member: Member,
        secret: [u8; 32],
    ) -> Result<Self, String> {
        let (study, plan) = order.read()?;
        let terms = region::terms(&study)?;
        let parameters = usize::try_from(plan.parameters).unwrap_or(usize::MAX);
        let carried = order.carried(&study, parameters);
        carried.map_err(|error| error.to_string())?;
        if !(1..=MAX_ATTEMPTS).contains(&order.key.attempt) {
            return Err(format!("a round is begun {MAX_ATTEMPTS} times at most"));
        }
        let last = study.training.rounds;
        let fits = match order.aim {
            Aim::Train => (1..=last).contains(&order.key.round),
            Aim::Judge => order.key.round == last.saturating_add(1),
        };
        if !fits || member.0 == 0 || member.0 > study.sites {
            return Err("the study has no such round or member".into());
        }
        let id = order.id(aggregator);
        let compressed = order.aim == Aim::Train && study.aggregation.compression.is_some();
        let bits = plan.bits.filter(|_| compressed);
        Ok(Self {
            plain: !study.aggregation.secure,
            width: bits.map(|bits| bits.needed),
            participant: Participant::new(id, terms, member, RoundSecret::new(secret)),
            order,
            has_sent: false,
        })
    }

    /// What was ordered.
    #[must_use]
    pub const fn order(&self) -> &RoundOrder {
        &self.order
    }

    /// Whether the masked numbers are made.
    #[must_use]
    pub const fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// How many bits of each number are sent, where updates are compressed.
    #[must_use]
    pub const fn width(&self) -> Option<u32> {
        self.width
    }

    /// The answer to an ask; none when there is nothing to say, or it was said. `made` is what came of training, for
    /// [`Ask::Train`] only.
    pub fn answer(&mut self, ask: &Ask, made: Option<(Vec<u32>, Told)>) -> Option<Answer> {
        let answered = match ask {
            Ask::Invite => Ok(Answer::Accepted),
            Ask::Keys => Ok(Answer::Keys(self.participant.advertise())),
            Ask::Shares(adverts) => self.participant.share(adverts).map(Answer::Shares),
            Ask::Train(_) if self.has_sent => return None,
            Ask::Train(_) if self.plain => {
                let (numbers, told) = made?;
                self.has_sent = true;
                Ok(update(numbers, told))
            }
            _ if self.plain && !matches!(ask, Ask::Invite | Ask::Over) => return None,
            Ask::Train(shares) => {
                let (mut numbers, told) = made?;
                self.participant.mask(shares, &mut numbers).map(|()| {
                    self.has_sent = true;
                    update(numbers, told)
                })
            }
            Ask::Open(senders) => self.participant.unmask(senders).map(Answer::Opened),
            Ask::Over => return None,
        };
        Some(answered.unwrap_or_else(|refused| Answer::Unable(refused.to_string())))
    }

    /// What the round spends of the facility's budget, and under which name; none where nothing is hidden.
    ///
    /// # Errors
    /// [`InvalidEvent`] when it cannot be accounted for: then nothing may be sent.
    pub fn spends(
        &self,
        study: &Study,
        plan: &Plan,
    ) -> Result<Option<(String, Event)>, InvalidEvent> {
        let Some(spend) = plan.spend.filter(|_| self.order.aim == Aim::Train) else {
            return Ok(None);
        };
        let key = &self.order.key;
        let name = format!("{}/{}/{}", key.study, key.round, key.attempt);
        Ok(spend.event(study, 1)?.map(|event| (name, event)))
    }

    /// From which training draws its order of records, so that one that was killed comes out the same; none where
    /// privacy is promised, which nobody's choice may decide.
    #[must_use]
    pub fn seed(&self, study: &Study, facility: &FacilityId) -> Option<[u8; 32]> {
        if study.privacy.unit != PrivacyUnit::None {
            return None;
        }
        let key = &self.order.key;
        let text = format!(
            "{}|{}|{facility}|{}",
            study.training.seed, study.name, key.round
        );
        let mut seed = [0; 32];
        seed.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Some(seed)
    }
}

const fn update(numbers: Vec<u32>, told: Told) -> Answer {
    let large = None;
    Answer::Update {
        numbers,
        large,
        told,
    }
}

#[cfg(test)]
#[path = "member_tests.rs"]
mod tests;
