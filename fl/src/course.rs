//! A study as it runs: which round it is in, what regions released, what became of the model.
//!
//! The global node stores it after every step, and every step is a function of it, what came in and the time. Regional
//! sums are added as whole numbers, so that three regions come to the same model as one.
mod blobs;
mod end;
mod report;
mod sum;

pub use report::{Concordance, Evaluation, Personal, Report, Waiting};

use crate::{
    large::{self, Vector},
    order::{self, Aim, Outcome, Release, RoundKey, RoundOrder},
    privacy::{Delta, Event, known_epsilon},
    site,
    strategy::Coordinator,
    study::{Plan, PrivacyUnit, Strategy, Study},
};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{FacilityId, Name, RegionId};

/// How long a region may take beyond the deadlines of its own round, in ms: parcels that wait for a link.
pub const REGION_GRACE_MS: i64 = 600_000;
/// How often a round may be begun.
pub const MAX_ATTEMPTS: u32 = 10;

/// How a study stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "status", content = "why")]
pub enum Standing {
    /// It goes on.
    Running,
    /// It has ended, and there is a model.
    Done,
    /// It has no result, and this is why. It can be resumed.
    Failed(String),
    /// Somebody ended it.
    Cancelled,
}

impl Standing {
    /// Its name.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A study as it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    id: Name,
    text: String,
    standing: Standing,
    regions: BTreeSet<RegionId>,
    coordinator: Coordinator,
    round: u32,
    attempt: u32,
    began_ms: i64,
    until_ms: i64,
    ordered: BTreeSet<RegionId>,
    releases: BTreeMap<RegionId, (Release, Vec<u32>)>,
    /// How the sites stand of regions that have said so, and not released yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    waiting: BTreeMap<RegionId, BTreeMap<FacilityId, order::Site>>,
    reports: Vec<Report>,
    evaluation: Option<Evaluation>,
    /// How often a round of training ended without a result after facilities may have paid for it.
    #[serde(default)]
    in_vain: u32,
    /// The model where it fits no parcel; the coordinator holds none then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    large: Option<Large>,
    /// The clip of the next round, where it is adaptive and has moved.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::exact::maybe"
    )]
    clip: Option<f64>,
}

/// What is kept of a model that fits no parcel.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Large {
    model: Vector,
    /// What an adaptive strategy remembers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moments: Option<Vector>,
}

impl Course {
    /// A study that begins at `now_ms` (ms since 1970), among the regions that are known or those of them that it names.
    ///
    /// # Errors
    /// What is wrong with it; also that its model fits no parcel ([`Course::begin_large`]).
    pub fn begin(
        id: Name,
        text: String,
        known: &BTreeSet<RegionId>,
        now_ms: i64,
    ) -> Result<Self, String> {
        Self::begin_large(id, text, known, None, now_ms)
    }

    /// The same, with the blob of the model that it begins with ([`Course::first_model`]) where it fits no parcel.
    ///
    /// # Errors
    /// As [`Course::begin`].
    pub fn begin_large(
        id: Name,
        text: String,
        known: &BTreeSet<RegionId>,
        first: Option<Vector>,
        now_ms: i64,
    ) -> Result<Self, String> {
        let (study, plan) = order::read(&text)?;
        let named: BTreeSet<_> = study.regions.iter().cloned().collect();
        let regions = if named.is_empty() {
            known.clone()
        } else {
            named
        };
        if let Some(missing) = regions.difference(known).next() {
            return Err(format!("regions: there is no region `{missing}` here"));
        }
        if regions.is_empty() {
            return Err("regions: no region is known here yet".into());
        }
        if large::is_large(&study, plan.parameters) != first.is_some() {
            return Err("model: what fits no parcel begins with a blob".into());
        }
        let model = match first {
            Some(_) => Vec::new(),
            None => initial(&study)?,
        };
        let coordinator = Coordinator::new(model);
        let mut course = Self {
            id,
            text,
            standing: Standing::Running,
            regions,
            coordinator: coordinator.map_err(|error| error.to_string())?,
            round: 1,
            attempt: 1,
            began_ms: now_ms,
            until_ms: now_ms,
            ordered: BTreeSet::new(),
            releases: BTreeMap::new(),
            waiting: BTreeMap::new(),
            reports: Vec::new(),
            evaluation: None,
            in_vain: 0,
            large: first.map(|model| Large {
                model,
                moments: None,
            }),
            clip: None,
        };
        course.enter(&study, 1, 1, now_ms);
        Ok(course)
    }

    fn enter(&mut self, study: &Study, round: u32, attempt: u32, now_ms: i64) {
        let allowed = study.round_ms();
        (self.round, self.attempt, self.began_ms) = (round, attempt, now_ms);
        self.until_ms = now_ms
            .saturating_add(allowed)
            .saturating_add(REGION_GRACE_MS);
        self.ordered.clear();
        self.releases.clear();
        self.waiting.clear();
    }

    /// What it is called.
    #[must_use]
    pub const fn id(&self) -> &Name {
        &self.id
    }

    /// `study.toml`.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How it stands.
    #[must_use]
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The global model; none of one that fits no parcel until it was read ([`Course::put_model`]).
    #[must_use]
    pub fn model(&self) -> &[f32] {
        self.coordinator.model()
    }

    /// The round that it is in; the one after the last judges.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
    }

    /// How often that round was begun.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What became of its rounds.
    #[must_use]
    pub fn reports(&self) -> &[Report] {
        &self.reports
    }

    /// How good the model is, at the end.
    #[must_use]
    pub const fn evaluation(&self) -> Option<&Evaluation> {
        self.evaluation.as_ref()
    }

    /// The round that it is in, or ended in.
    #[must_use]
    pub fn key(&self) -> RoundKey {
        RoundKey {
            study: self.id.clone(),
            round: self.round,
            attempt: self.attempt,
        }
    }

    /// What is to be ordered of which region, and was not yet.
    #[must_use]
    pub fn orders(&self) -> Vec<(RegionId, RoundOrder)> {
        if self.standing != Standing::Running {
            return Vec::new();
        }
        let Ok(study) = order::parse(&self.text) else {
            return Vec::new();
        };
        let judges = self.round > study.training.rounds;
        let order = RoundOrder {
            key: self.key(),
            text: self.text.clone(),
            aim: if judges { Aim::Judge } else { Aim::Train },
            model: self.carried(&study),
            large: self.large.map(|large| large.model),
            code: Some(crate::code::digest()),
            signature: None,
        };
        let asked = self.asked(&study);
        let left = asked.difference(&self.ordered);
        left.map(|region| (region.clone(), order.clone())).collect()
    }

    /// The model, and behind it what else a round needs.
    fn carried(&self, study: &Study) -> Vec<f32> {
        let mut numbers = self.model().to_vec();
        if study.vectors() > 1 {
            numbers.extend(self.coordinator.control());
        }
        let clip = self.clip.or(study.privacy.clip);
        let clip = clip.filter(|_| study.privacy.adaptive.is_some());
        numbers.extend(clip.map(|clip| clip as f32));
        numbers
    }

    /// The regions of the round: all, or the one whose sites train one after another.
    fn asked(&self, study: &Study) -> BTreeSet<RegionId> {
        let in_turn = matches!(study.training.strategy, Strategy::Cyclic {});
        if !in_turn || self.round > study.training.rounds {
            return self.regions.clone();
        }
        let turn = self.round.saturating_sub(1) / u32::from(study.sites.max(1));
        let at = turn as usize % self.regions.len().max(1);
        self.regions.iter().nth(at).into_iter().cloned().collect()
    }

    /// A region was ordered; the shell has stored the parcel.
    pub fn was_ordered(&mut self, region: &RegionId) {
        self.ordered.insert(region.clone());
    }

    /// Takes what a region released, at `now_ms` (ms since 1970). Whether anything changed.
    pub fn take(&mut self, from: &RegionId, mut release: Release, now_ms: i64) -> bool {
        let Ok(study) = order::parse(&self.text) else {
            return false;
        };
        let asked = self.asked(&study);
        let wanted = self.standing == Standing::Running
            && release.key == self.key()
            && asked.contains(from)
            && !self.releases.contains_key(from);
        if !wanted {
            return false;
        }
        if release.outcome == Outcome::Waiting {
            self.waiting.insert(from.clone(), release.sites);
            return true;
        }
        let numbers = release.take_numbers();
        let has_failed = matches!(release.outcome, Outcome::Failed(_));
        self.waiting.remove(from);
        self.releases.insert(from.clone(), (release, numbers));
        // What one region lacks no other makes up for: they are told, and nothing more is trained or paid for.
        if has_failed || self.releases.len() == asked.len() {
            self.close(now_ms);
        }
        true
    }

    /// Time has passed, until `now_ms` (ms since 1970). Whether anything changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        if self.standing != Standing::Running || now_ms < self.until_ms || self.is_stepping() {
            return false;
        }
        let asked = match order::parse(&self.text) {
            Ok(study) => self.asked(&study),
            Err(_) => self.regions.clone(),
        };
        let missing = asked
            .iter()
            .filter(|region| !self.releases.contains_key(region));
        let names: Vec<_> = missing.map(ToString::to_string).collect();
        let why = format!("round {}: no answer of {}", self.round, names.join(", "));
        self.fail(why, now_ms);
        true
    }

    fn report(&mut self, members: u32, failure: Option<String>, now_ms: i64) {
        let mut sites = BTreeMap::new();
        let mut bytes = 0_u64;
        for (release, _) in self.releases.values() {
            sites.extend(release.sites.clone());
            bytes = bytes.saturating_add(release.bytes);
        }
        let trained = if failure.is_none() {
            self.round
        } else {
            self.round - 1
        };
        self.reports.push(Report {
            round: self.round,
            attempt: self.attempt,
            began_ms: self.began_ms,
            ended_ms: now_ms,
            members,
            bytes,
            epsilon: self.spent(trained),
            sites,
            failure,
        });
    }

    fn fail(&mut self, why: String, now_ms: i64) {
        self.ends_in_vain();
        self.report(0, Some(why.clone()), now_ms);
        self.standing = Standing::Failed(why);
    }

    /// Every region has released, or one that it has no sum.
    fn close(&mut self, now_ms: i64) {
        let failures =
            self.releases
                .iter()
                .filter_map(|(region, (release, _))| match &release.outcome {
                    Outcome::Failed(why) => Some(format!("region {region}: {why}")),
                    Outcome::Summed { .. } | Outcome::Waiting => None,
                });
        let failures: Vec<_> = failures.collect();
        if !failures.is_empty() {
            let why = format!("round {}: {}", self.round, failures.join("; "));
            return self.fail(why, now_ms);
        }
        if self.is_stepping() {
            // The shell reads the sums, and says what came of it.
            return;
        }
        if let Err(why) = self.step(now_ms) {
            self.fail(format!("round {}: {why}", self.round), now_ms);
        }
    }

    fn step(&mut self, now_ms: i64) -> Result<(), String> {
        let (study, plan) = order::read(&self.text)?;
        let (sum, members) = self.sum(&study, &plan)?;
        if self.round > study.training.rounds {
            self.judge(&study, &sum)?;
            self.report(members, None, now_ms);
            self.standing = Standing::Done;
            return Ok(());
        }
        let codec = self.codec(&study)?;
        let mean = codec.read(&sum, members);
        let mean = mean.map_err(|error| error.to_string())?;
        let all = f64::from(study.sites) * self.regions.len() as f64;
        let share = f64::from(members) / all.max(1.0);
        let strategy = &study.training.strategy;
        let stepped = self.coordinator.step_of(strategy, &mean.update, share);
        stepped.map_err(|error| error.to_string())?;
        self.next_round(&study, mean.within, members, now_ms)
    }

    /// The model is the next one: what follows of it.
    fn next_round(
        &mut self,
        study: &Study,
        within: Option<f64>,
        members: u32,
        now_ms: i64,
    ) -> Result<(), String> {
        if let (Some(adaptive), Some(within)) = (study.privacy.adaptive, within) {
            let norm = self.codec(study)?.clip().norm();
            self.clip = Some(adaptive.next(norm, within));
        }
        self.report(members, None, now_ms);
        self.enter(study, self.round + 1, 1, now_ms);
        Ok(())
    }

    /// ε after so many rounds of training with a result, and of those without one for which facilities may have paid;
    /// none without privacy.
    #[must_use]
    pub fn spent(&self, rounds: u32) -> Option<f64> {
        let (study, plan) = order::read(&self.text).ok()?;
        let spend = plan.spend?;
        let all = study.training.rounds.max(1);
        let times = u64::from(rounds.min(all)) + u64::from(self.in_vain);
        let steps = spend.steps / u64::from(all) * times;
        if steps == 0 {
            return Some(0.0);
        }
        let event = Event::new(spend.sampling, spend.noise_multiplier, steps).ok()?;
        Some(known_epsilon(event, Delta::new(spend.delta).ok()?))
    }

    /// Rounds of training that are done.
    #[must_use]
    pub fn trained(&self) -> u32 {
        self.coordinator.steps()
    }

    /// The study, its plan, and whose presence it hides.
    ///
    /// # Errors
    /// What is wrong with its text, which nothing was when it began.
    pub fn plan(&self) -> Result<(Study, Plan, PrivacyUnit), String> {
        let (study, plan) = order::read(&self.text)?;
        let unit = study.privacy.unit;
        Ok((study, plan, unit))
    }
}

/// The model that a study begins with.
fn initial(study: &Study) -> Result<Vec<f32>, String> {
    let model = site::model(study).map_err(|error| error.to_string())?;
    let mut random = StdRng::seed_from_u64(study.training.seed);
    Ok(model.initial(&mut random))
}

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
