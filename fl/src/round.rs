//! A round: who is asked what until when, and what comes next. It never waits for ever: by the end of its deadlines it
//! is done, or has failed and says why and because of whom.
//!
//! The state is stored after every change, and every change is a pure function of the state, what came in and the
//! time. A coordinator that was killed goes on from whatever was stored last: what it had asked is asked again, and
//! who had answered answers the same.
use crate::{secagg::Member, study::Deadlines};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What members are asked for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// To accept or refuse the plan.
    Invite,
    /// Keys for secure aggregation.
    Keys,
    /// Shares of their secrets.
    Shares,
    /// To train, and to send the update.
    Train,
    /// To open shares, so that the masks come off the sum.
    Open,
}

impl Step {
    /// What comes next; none after the last.
    #[must_use]
    pub const fn next(self, secure: bool) -> Option<Self> {
        match (self, secure) {
            (Self::Invite, true) => Some(Self::Keys),
            (Self::Keys, _) => Some(Self::Shares),
            (Self::Invite, false) | (Self::Shares, _) => Some(Self::Train),
            (Self::Train, true) => Some(Self::Open),
            (Self::Train, false) | (Self::Open, _) => None,
        }
    }

    /// How long it may take, in milliseconds.
    #[must_use]
    pub fn allowed_ms(self, deadlines: &Deadlines) -> i64 {
        let seconds = match self {
            Self::Invite => deadlines.accept_seconds,
            Self::Train => deadlines.train_seconds,
            Self::Keys | Self::Shares | Self::Open => deadlines.exchange_seconds,
        };
        i64::from(seconds) * 1_000
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Invite => "invite",
            Self::Keys => "keys",
            Self::Shares => "shares",
            Self::Train => "train",
            Self::Open => "open",
        })
    }
}

/// Why a member is no longer part of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// It refused, and said why.
    Declined(String),
    /// What it sent was refused: no number, a wrong shape, a corrupt share.
    Refused(String),
    /// It did not answer in time.
    Silent(Step),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Declined(why) => write!(f, "declined: {why}"),
            Self::Refused(why) => write!(f, "was refused: {why}"),
            Self::Silent(step) => write!(f, "did not answer in the step `{step}`"),
        }
    }
}

/// What a round has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on.
    Running,
    /// A quorum stayed to the end: there is a sum.
    Done,
    /// Too few are left.
    Failed,
}

/// What became of something that came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It counts.
    Now,
    /// It was there before; nothing has changed.
    Before,
    /// It came after its step, or of a member that is lost: it does not count.
    Late,
}

/// Somebody answered whom nobody asked, or something that nobody asks yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAsked {
    /// The member is not of this round.
    #[error("member {0} is not of this round")]
    Member(Member),
    /// The step has not begun.
    #[error("the step `{0}` has not begun")]
    Step(Step),
}

/// A round in progress, or over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    secure: bool,
    quorum: u16,
    deadlines: Deadlines,
    outcome: Outcome,
    step: Step,
    /// When the step ends, in milliseconds of the coordinator's clock.
    until_ms: i64,
    /// Who is asked in this step.
    asked: BTreeSet<Member>,
    /// Who of them has answered.
    answered: BTreeSet<Member>,
    lost: BTreeMap<Member, Lost>,
    /// Where one member trains at a time: whose turn it is, as a place among those who take part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    /// Who would train if the one whose turn it is were lost.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    reserve: BTreeSet<Member>,
    /// Why it was ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

impl Round {
    /// A round that begins at `now_ms` (ms since 1970, as everywhere here) by asking `members` to take part. One with fewer members than its quorum has
    /// failed at once.
    #[must_use]
    pub fn begin(
        members: impl IntoIterator<Item = Member>,
        quorum: u16,
        secure: bool,
        deadlines: Deadlines,
        now_ms: i64,
    ) -> Self {
        let mut round = Self {
            secure,
            quorum: quorum.max(1),
            deadlines,
            outcome: Outcome::Running,
            step: Step::Invite,
            until_ms: now_ms.saturating_add(Step::Invite.allowed_ms(&deadlines)),
            asked: members.into_iter().collect(),
            answered: BTreeSet::new(),
            lost: BTreeMap::new(),
            turn: None,
            reserve: BTreeSet::new(),
            ended: None,
        };
        round.settle(now_ms);
        round
    }

    /// The same where one member trains at a time: the one at place `turn` (modulo their number) among those who take
    /// part, and when it is lost the next one.
    #[must_use]
    pub const fn in_turn(mut self, turn: u32) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Whether a member takes part, and it is not its turn.
    #[must_use]
    pub fn is_in_reserve(&self, member: Member) -> bool {
        self.reserve.contains(&member)
    }

    /// What it has come to.
    #[must_use]
    pub const fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    /// The step that it is in, or ended in.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// When the step ends at the latest, in milliseconds of the coordinator's clock.
    #[must_use]
    pub const fn until_ms(&self) -> i64 {
        self.until_ms
    }

    /// Who still has to answer in this step.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<Member> {
        self.asked.difference(&self.answered).copied().collect()
    }

    /// Who takes part in this step; at the end, who is in the sum.
    #[must_use]
    pub const fn members(&self) -> &BTreeSet<Member> {
        &self.asked
    }

    /// Who is lost, and why.
    #[must_use]
    pub const fn lost(&self) -> &BTreeMap<Member, Lost> {
        &self.lost
    }

    /// A member has answered a step, with what was checked and stored already.
    ///
    /// # Errors
    /// [`NotAsked`] when the member is not of this round, or the step has not begun.
    pub fn answer(&mut self, member: Member, step: Step, now_ms: i64) -> Result<Entered, NotAsked> {
        self.tick(now_ms);
        if self.lost.contains_key(&member) {
            return Ok(Entered::Late);
        }
        if !self.asked.contains(&member) {
            return Err(NotAsked::Member(member));
        }
        if step < self.step || self.outcome != Outcome::Running {
            // It answered when the step was open, or it would be lost.
            return Ok(Entered::Before);
        }
        if step > self.step {
            return Err(NotAsked::Step(step));
        }
        if !self.answered.insert(member) {
            return Ok(Entered::Before);
        }
        self.settle(now_ms);
        Ok(Entered::Now)
    }

    /// A member is lost: it declines, or what it sent was refused.
    ///
    /// A member whose update is in the sum already stays in it; it can only fail to open shares.
    ///
    /// # Errors
    /// [`NotAsked::Member`] when it is not of this round.
    pub fn lose(&mut self, member: Member, why: Lost, now_ms: i64) -> Result<Entered, NotAsked> {
        self.tick(now_ms);
        if self.lost.contains_key(&member) {
            return Ok(Entered::Before);
        }
        if !self.asked.contains(&member) {
            return Err(NotAsked::Member(member));
        }
        if self.outcome != Outcome::Running || self.answered.contains(&member) {
            return Ok(Entered::Late);
        }
        self.lost.insert(member, why);
        self.asked.remove(&member);
        self.settle(now_ms);
        Ok(Entered::Now)
    }

    /// It ends now, whoever would still answer. One that is over stays what it came to.
    pub fn end(&mut self, why: String) {
        if self.outcome == Outcome::Running {
            self.outcome = Outcome::Failed;
            self.ended = Some(why);
        }
    }

    /// Time has passed. Whoever has not answered by the end of a step is lost.
    pub fn tick(&mut self, now_ms: i64) {
        if self.outcome != Outcome::Running || now_ms < self.until_ms {
            return;
        }
        for member in self.missing() {
            self.lost.insert(member, Lost::Silent(self.step));
            self.asked.remove(&member);
        }
        self.settle(now_ms);
    }

    /// Fails when a quorum cannot be had any more, and goes to the next step when everybody has answered.
    fn settle(&mut self, now_ms: i64) {
        let in_turn = self.turn.is_some() && self.step == Step::Train;
        if in_turn && self.asked.is_empty() {
            self.next_in_turn(now_ms);
            return;
        }
        if !in_turn && self.asked.len() < usize::from(self.quorum) {
            self.outcome = Outcome::Failed;
            return;
        }
        if self.answered.len() < self.asked.len() {
            return;
        }
        match self.step.next(self.secure) {
            None => self.outcome = Outcome::Done,
            Some(next) => {
                self.step = next;
                self.answered.clear();
                self.until_ms = now_ms.saturating_add(next.allowed_ms(&self.deadlines));
                if let Some(turn) = self.turn.filter(|_| next == Step::Train) {
                    // Those before the turn come after those behind it.
                    self.reserve = std::mem::take(&mut self.asked);
                    let first = turn as usize % self.reserve.len().max(1);
                    let member = self.reserve.iter().nth(first).copied();
                    self.asked.extend(member);
                    self.reserve.retain(|other| Some(*other) != member);
                }
            }
        }
    }

    /// The one whose turn it was is lost: the next one trains, or nobody is left.
    fn next_in_turn(&mut self, now_ms: i64) {
        let Some(next) = self.reserve.first().copied() else {
            self.outcome = Outcome::Failed;
            return;
        };
        self.reserve.remove(&next);
        self.asked.insert(next);
        self.until_ms = now_ms.saturating_add(Step::Train.allowed_ms(&self.deadlines));
    }

    /// Why the round failed, in a sentence that names everybody who is missing; none unless it has.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        if self.outcome != Outcome::Failed {
            return None;
        }
        if self.ended.is_some() {
            return self.ended.clone();
        }
        let mut text = format!(
            "{} of {} members that are needed are left in the step `{}`",
            self.asked.len(),
            self.quorum,
            self.step
        );
        for (member, why) in &self.lost {
            text += &format!("; member {member} {why}");
        }
        Some(text)
    }
}

#[cfg(test)]
#[path = "round_tests.rs"]
mod tests;
