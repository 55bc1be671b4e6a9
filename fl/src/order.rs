//! What crosses between places in a round of a study: an order comes down, answers go up step by step, and a region
//! releases the sum.
//!
//! A facility believes nothing that it can compute: the order carries the study's own text, from which every place works
//! out the plan by itself, and the round's name for secure aggregation is a digest of all of it, so that members who were
//! told different things have masks that do not come off.
use crate::{
    large::Vector,
    metrics::{Interval, Metrics},
    objection::Objection,
    round::Step,
    secagg::{Advert, Member, Opened, RoundId, Shares},
    study::{Plan, Study},
};
use ring::{
    digest::{Context, SHA256},
    signature::{ED25519, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{FacilityId, Name, Place};

/// The longest text of a study, in bytes: five hundred features with their scales.
pub const MAX_STUDY_BYTES: usize = 64 << 10;

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aim {
    /// To train from the model: the sum is one of updates.
    Train,
    /// To judge the model on records that were kept from training: the sum is one of counts of scores.
    Judge,
}

/// Which round of which study.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundKey {
    /// The study, as the global node calls it: its name and some random digits.
    pub study: Name,
    /// The round, from 1 on; the one after the last judges.
    pub round: u32,
    /// How often it was begun: a round that failed may be tried again.
    pub attempt: u32,
}

/// A round, as it is ordered from above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoundOrder {
    /// Which round.
    pub key: RoundKey,
    /// `study.toml`, as it was submitted.
    pub text: String,
    /// What it is for.
    pub aim: Aim,
    /// The global model; behind it what else a round needs of it ([`crate::site::Carried`]).
    #[serde(with = "crate::exact::single")]
    pub model: Vec<f32>,
    /// The global model where it fits no parcel: `model` has only what is behind it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub large: Option<Vector>,
    /// The code of the node that ordered it ([`crate::code`]); none of one from before there was this word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The global node's Ed25519 signature of [`RoundOrder::signed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Vec<u8>>,
}

impl RoundOrder {
    /// The study and what it comes to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(&self) -> Result<(Study, Plan), String> {
        read(&self.text)
    }

    /// What the global node signs: everything of the order, under a name that no other signature has.
    #[must_use]
    pub fn signed(&self) -> Vec<u8> {
        let RoundId(id) = self.id(&Place::Global);
        let code = self.code.as_deref().unwrap_or_default();
        [&b"medmesh round of a study 1\n"[..], &id, code.as_bytes()].concat()
    }

    /// Whether it is signed by the holder of an Ed25519 key.
    #[must_use]
    pub fn is_signed_by(&self, key: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, key);
        let signature = self.signature.as_deref();
        signature.is_some_and(|signature| key.verify(&self.signed(), signature).is_ok())
    }

    /// The round's name for secure aggregation at `aggregator`.
    #[must_use]
    pub fn id(&self, aggregator: &Place) -> RoundId {
        let mut context = Context::new(&SHA256);
        let key = &self.key;
        let aim = [u8::from(self.aim == Aim::Judge)];
        let place = aggregator.to_string();
        let (round, attempt) = (key.round.to_le_bytes(), key.attempt.to_le_bytes());
        let parts: [&[u8]; 6] = [
            place.as_bytes(),
            key.study.as_str().as_bytes(),
            &round,
            &attempt,
            &aim,
            self.text.as_bytes(),
        ];
        for part in parts {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        for value in &self.model {
            context.update(&value.to_bits().to_le_bytes());
        }
        if let Some(large) = &self.large {
            context.update(b"large");
            context.update(&large.bytes.to_le_bytes());
            context.update(&large.sha256);
        }
        let mut id = [0; 32];
        id.copy_from_slice(context.finish().as_ref());
        RoundId(id)
    }
}

/// A study's text, understood and planned.
///
/// # Errors
/// Every problem, one a line.
pub fn read(text: &str) -> Result<(Study, Plan), String> {
    if text.len() > MAX_STUDY_BYTES {
        let bytes = text.len();
        return Err(format!(
            "a study has at most {MAX_STUDY_BYTES} bytes, not {bytes}"
        ));
    }
    let study = parse(text)?;
    let plan = study.plan().map_err(|problems| {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    Ok((study, plan))
}

/// A study's text, understood and not planned: that was done before.
///
/// # Errors
/// What is no study.
pub fn parse(text: &str) -> Result<Study, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
}

/// What a member is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ask {
    /// To take part.
    Invite,
    /// For its keys.
    Keys,
    /// For shares of its secrets, among these.
    Shares(BTreeMap<Member, Advert>),
    /// To train (or judge), and send what comes of it under a mask: these are the shares that the others have for it.
    Train(BTreeMap<Member, Shares>),
    /// To open shares: these have sent.
    Open(BTreeSet<Member>),
    /// Nothing more: the round is over, and its secrets can go.
    Over,
}

impl Ask {
    /// The step; none for the end.
    #[must_use]
    pub const fn step(&self) -> Option<Step> {
        match self {
            Self::Invite => Some(Step::Invite),
            Self::Keys => Some(Step::Keys),
            Self::Shares(_) => Some(Step::Shares),
            Self::Train(_) => Some(Step::Train),
            Self::Open(_) => Some(Step::Open),
            Self::Over => None,
        }
    }
}

/// What a member says of its own training or of the model on its own records, where the study hides nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Mean loss on its training records, before it trained.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    pub loss: Option<f64>,
    /// Area under the receiver operating characteristic on the records that it kept from training, before it trained.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    pub auroc: Option<f64>,
    /// How good the model is on the records that it kept from training, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Metrics>,
    /// How good its own model is on them, after fine-tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Metrics>,
    /// Harrell's c of a Cox model on them.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    pub concordance: Option<f64>,
    /// Where it may lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concordance_within: Option<Interval>,
}

/// What a member answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(
    clippy::large_enum_variant,
    reason = "an update is what most of them are for"
)]
pub enum Answer {
    /// It takes part.
    Accepted,
    /// It does not, for these reasons.
    Declined(Vec<Objection>),
    /// Its keys.
    Keys(Advert),
    /// Shares of its secrets.
    Shares(Shares),
    /// What it adds to the sum, under its mask. The numbers travel beside ([`Answer::take_numbers`]).
    Update {
        /// The masked numbers.
        #[serde(skip)]
        numbers: Vec<u32>,
        /// The masked numbers where they fit no parcel: there are none in `numbers` then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        large: Option<Vector>,
        /// What it says besides.
        told: Told,
    },
    /// Shares of others that it opens.
    Opened(Opened),
    /// It cannot go on, and why.
    Unable(String),
}

impl Answer {
    /// The blob with its numbers, where there is one.
    #[must_use]
    pub const fn large(&self) -> Option<Vector> {
        match self {
            Self::Update { large, .. } => *large,
            _ => None,
        }
    }

    /// Takes the numbers out, which travel four bytes each.
    pub fn take_numbers(&mut self) -> Vec<u32> {
        match self {
            Self::Update { numbers, .. } => std::mem::take(numbers),
            _ => Vec::new(),
        }
    }

    /// The same answer with its numbers in a blob.
    #[must_use]
    pub fn with_large(mut self, vector: Vector) -> Self {
        if let Self::Update { numbers, large, .. } = &mut self {
            numbers.clear();
            *large = Some(vector);
        }
        self
    }

    /// Puts the numbers back that travelled beside.
    #[must_use]
    pub fn with_numbers(mut self, given: Vec<u32>) -> Self {
        if let Self::Update { numbers, .. } = &mut self {
            *numbers = given;
        }
        self
    }
}

/// What became of one site in a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// Why it is not in the sum; none when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// What was done to what it sent, or what of it was refused beside what counts; none in a good round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What it said.
    pub told: Told,
}

/// What a region's round has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// A quorum stayed to the end. The numbers of the sum travel beside.
    Summed {
        /// The sum, modulo 2^32.
        #[serde(skip)]
        numbers: Vec<u32>,
        /// The sum where it fits no parcel: there is none in `numbers` then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        large: Option<Vector>,
        /// How many are in it.
        members: u16,
    },
    /// It has no result.
    Failed(String),
    /// It goes on: nothing is released yet, and this only says how its sites stand.
    Waiting,
}

/// What leaves a region: the sum, and who is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Which round.
    pub key: RoundKey,
    /// What it came to.
    pub outcome: Outcome,
    /// Each site that was asked.
    pub sites: BTreeMap<FacilityId, Site>,
    /// Bytes of masked numbers that came in.
    pub bytes: u64,
    /// Whether sites were asked for their updates: then they may have paid for them, also where there is no sum.
    #[serde(default = "was_asked")]
    pub asked: bool,
}

/// Whoever does not say so may have asked.
const fn was_asked() -> bool {
    true
}

impl Release {
    /// The blob with the sum, where there is one.
    #[must_use]
    pub const fn large(&self) -> Option<Vector> {
        match &self.outcome {
            Outcome::Summed { large, .. } => *large,
            Outcome::Failed(_) | Outcome::Waiting => None,
        }
    }

    /// Takes the numbers out, which travel four bytes each.
    pub fn take_numbers(&mut self) -> Vec<u32> {
        match &mut self.outcome {
            Outcome::Summed { numbers, .. } => std::mem::take(numbers),
            Outcome::Failed(_) | Outcome::Waiting => Vec::new(),
        }
    }

    /// Puts the numbers back that travelled beside.
    #[must_use]
    pub fn with_numbers(mut self, given: Vec<u32>) -> Self {
        if let Outcome::Summed { numbers, .. } = &mut self.outcome {
            *numbers = given;
        }
        self
    }
}
