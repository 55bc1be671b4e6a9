//! A study as it runs: which round it is in, what regions released, what became of the model.
//!
//! The global node stores it after every step, and every step is a function of it, what came in and the time. Regional
//! sums are added as whole numbers, so that three regions come to the same model as one.
use crate::{
    metrics::{Curves, Histogram, Metrics},
    order::{self, Aim, Outcome, Release, RoundKey, RoundOrder, Site},
    privacy::{Delta, Event, epsilon},
    site,
    strategy::Coordinator,
    study::{Plan, PrivacyUnit, Study},
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

/// What became of a round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which round.
    pub round: u32,
    /// How often it was begun.
    pub attempt: u32,
    /// When it was ordered, in ms since 1970.
    pub began_ms: i64,
    /// When its last release came.
    pub ended_ms: i64,
    /// How many sites are in the sum; 0 when there is none.
    pub members: u32,
    /// Bytes of masked numbers that came in.
    pub bytes: u64,
    /// ε of all rounds so far; none without privacy.
    #[serde(default, deserialize_with = "crate::exact::maybe")]
    pub epsilon: Option<f64>,
    /// Each site that was asked.
    pub sites: BTreeMap<FacilityId, Site>,
    /// Why it has no result, if so.
    pub failure: Option<String>,
}

/// How good the model is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// On the records of all sites together; none when all have the same label.
    pub pooled: Option<Metrics>,
    /// At each site that says so.
    pub sites: BTreeMap<FacilityId, Metrics>,
    /// On the records of all sites together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
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
    reports: Vec<Report>,
    evaluation: Option<Evaluation>,
}

impl Course {
    /// A study that begins, among the regions that are known or those of them that it names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn begin(
        id: Name,
        text: String,
        known: &BTreeSet<RegionId>,
        now_ms: i64,
    ) -> Result<Self, String> {
        let (study, _) = order::read(&text)?;
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
        let model = site::model(&study).map_err(|error| error.to_string())?;
        let mut random = StdRng::seed_from_u64(study.training.seed);
        let coordinator = Coordinator::new(model.initial(&mut random));
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
            reports: Vec::new(),
            evaluation: None,
        };
        course.enter(&study, 1, 1, now_ms);
        Ok(course)
    }

    fn enter(&mut self, study: &Study, round: u32, attempt: u32, now_ms: i64) {
        let deadlines = &study.deadlines;
        let steps = [deadlines.accept_seconds, deadlines.train_seconds]
            .into_iter()
            .chain([deadlines.exchange_seconds; 3]);
        let allowed: i64 = steps.map(|seconds| i64::from(seconds) * 1_000).sum();
        (self.round, self.attempt, self.began_ms) = (round, attempt, now_ms);
        self.until_ms = now_ms
            .saturating_add(allowed)
            .saturating_add(REGION_GRACE_MS);
        self.ordered.clear();
        self.releases.clear();
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

    /// The global model.
    #[must_use]
    pub fn model(&self) -> &[f32] {
        self.coordinator.model()
    }

    /// The round that it is in; the one after the last judges.
    #[must_use]
    pub const fn round(&self) -> u32 {
        self.round
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

    fn key(&self) -> RoundKey {
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
        let Ok((study, _)) = order::read(&self.text) else {
            return Vec::new();
        };
        let judges = self.round > study.training.rounds;
        let order = RoundOrder {
            key: self.key(),
            text: self.text.clone(),
            aim: if judges { Aim::Judge } else { Aim::Train },
            model: self.model().to_vec(),
        };
        let left = self.regions.difference(&self.ordered);
        left.map(|region| (region.clone(), order.clone())).collect()
    }

    /// A region was ordered; the shell has stored the parcel.
    pub fn was_ordered(&mut self, region: &RegionId) {
        self.ordered.insert(region.clone());
    }

    /// Takes what a region released. Whether anything changed.
    pub fn take(&mut self, from: &RegionId, mut release: Release, now_ms: i64) -> bool {
        let wanted = self.standing == Standing::Running
            && release.key == self.key()
            && self.regions.contains(from)
            && !self.releases.contains_key(from);
        if !wanted {
            return false;
        }
        let numbers = release.take_numbers();
        self.releases.insert(from.clone(), (release, numbers));
        if self.releases.len() == self.regions.len() {
            self.close(now_ms);
        }
        true
    }

    /// Time has passed. Whether anything changed.
    pub fn tick(&mut self, now_ms: i64) -> bool {
        if self.standing != Standing::Running || now_ms < self.until_ms {
            return false;
        }
        let missing = self
            .regions
            .iter()
            .filter(|region| !self.releases.contains_key(region));
        let names: Vec<_> = missing.map(ToString::to_string).collect();
        let why = format!("round {}: no answer of {}", self.round, names.join(", "));
        self.fail(why, now_ms);
        true
    }

    /// Somebody ends it. Whether anything changed.
    pub fn cancel(&mut self) -> bool {
        let is_running = self.standing == Standing::Running;
        if is_running {
            self.standing = Standing::Cancelled;
        }
        is_running
    }

    /// Goes on with the round in which it ended without a result.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn resume(&mut self, now_ms: i64) -> Result<(), String> {
        match &self.standing {
            Standing::Failed(_) | Standing::Cancelled => {}
            standing => return Err(format!("it is {}", standing.as_str())),
        }
        if self.attempt >= MAX_ATTEMPTS {
            return Err(format!("its round was begun {MAX_ATTEMPTS} times"));
        }
        let (study, _) = order::read(&self.text)?;
        self.standing = Standing::Running;
        self.enter(&study, self.round, self.attempt + 1, now_ms);
        Ok(())
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
        self.report(0, Some(why.clone()), now_ms);
        self.standing = Standing::Failed(why);
    }

    /// Every region has released.
    fn close(&mut self, now_ms: i64) {
        let failures =
            self.releases
                .iter()
                .filter_map(|(region, (release, _))| match &release.outcome {
                    Outcome::Failed(why) => Some(format!("region {region}: {why}")),
                    Outcome::Summed { .. } => None,
                });
        let failures: Vec<_> = failures.collect();
        if !failures.is_empty() {
            let why = format!("round {}: {}", self.round, failures.join("; "));
            return self.fail(why, now_ms);
        }
        if let Err(why) = self.step(now_ms) {
            self.fail(format!("round {}: {why}", self.round), now_ms);
        }
    }

    fn step(&mut self, now_ms: i64) -> Result<(), String> {
        let (study, _) = order::read(&self.text)?;
        let (sum, members) = self.sum()?;
        if self.round > study.training.rounds {
            self.judge(&study, sum)?;
            self.report(members, None, now_ms);
            self.standing = Standing::Done;
            return Ok(());
        }
        let model = site::model(&study).map_err(|error| error.to_string())?;
        let codec = site::codec(&study, &model).map_err(|error| error.to_string())?;
        let mean = codec
            .mean_of(&sum, members)
            .map_err(|error| error.to_string())?;
        let stepped = self.coordinator.step(&study.training.strategy, &mean);
        stepped.map_err(|error| error.to_string())?;
        self.report(members, None, now_ms);
        self.enter(&study, self.round + 1, 1, now_ms);
        Ok(())
    }

    /// The sum of all regions, and of how many sites it is.
    fn sum(&self) -> Result<(Vec<i64>, u32), String> {
        let mut sum: Vec<i64> = Vec::new();
        let mut members = 0;
        for (region, (release, numbers)) in &self.releases {
            if sum.is_empty() {
                sum = vec![0; numbers.len()];
            }
            if numbers.len() != sum.len() {
                return Err(format!(
                    "region {region} released another number of numbers"
                ));
            }
            for (sum, number) in sum.iter_mut().zip(numbers) {
                *sum += i64::from(number.cast_signed());
            }
            if let Outcome::Summed { members: of, .. } = release.outcome {
                members += u32::from(of);
            }
        }
        Ok((sum, members))
    }

    /// Figures of the sum of counts. Their intervals are drawn by the study's seed: every copy of it has the same.
    fn judge(&mut self, study: &Study, sum: Vec<i64>) -> Result<(), String> {
        let counts = sum
            .into_iter()
            .map(u32::try_from)
            .collect::<Result<Vec<_>, _>>();
        let counts = counts.map_err(|_| "a sum of counts is below 0".to_owned())?;
        let pooled = Histogram::of_counts(counts).ok_or("a sum of counts has another length")?;
        let mut sites = BTreeMap::new();
        for (release, _) in self.releases.values() {
            for (facility, site) in &release.sites {
                sites.extend(site.told.figures.map(|figures| (facility.clone(), figures)));
            }
        }
        let mut random = StdRng::seed_from_u64(study.training.seed);
        let resamples = study.evaluation.resamples;
        self.evaluation = Some(Evaluation {
            pooled: pooled.metrics_within(resamples, &mut random).ok(),
            curves: pooled.curves(),
            sites,
        });
        Ok(())
    }

    /// ε after so many rounds of training, and δ; none without privacy.
    #[must_use]
    pub fn spent(&self, rounds: u32) -> Option<f64> {
        let (study, plan) = order::read(&self.text).ok()?;
        let spend = plan.spend?;
        let all = study.training.rounds.max(1);
        let steps = spend.steps / u64::from(all) * u64::from(rounds.min(all));
        if steps == 0 {
            return Some(0.0);
        }
        let event = Event::new(spend.sampling, spend.noise_multiplier, steps).ok()?;
        Some(epsilon(&[event], Delta::new(spend.delta).ok()?))
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

#[cfg(test)]
#[path = "course_tests.rs"]
mod tests;
