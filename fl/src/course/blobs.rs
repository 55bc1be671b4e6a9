//! What a study does whose model fits no parcel: its model and the sums of its regions are blobs, and its shell has the next
//! model made of their files.
use super::{Course, Large, Standing, initial};
use crate::{
    large::{self, Stepping, Vector},
    order::{self, Outcome, Release},
    study::PrivacyUnit,
};
use std::io::{self, Read};
use types::RegionId;

impl Course {
    /// The model that a study begins with, where it fits no parcel: it is to be put in as a blob.
    ///
    /// # Errors
    /// What is wrong with the study.
    pub fn first_model(text: &str) -> Result<Option<Vec<f32>>, String> {
        let (study, plan) = order::read(text)?;
        let is_large = large::is_large(&study, plan.parameters);
        is_large.then(|| initial(&study)).transpose()
    }

    /// The blobs that it needs: its model, what its strategy remembers, and the sums that came; none where all fits parcels.
    #[must_use]
    pub fn holds(&self) -> Vec<Vector> {
        let Some(Large { model, moments }) = self.large else {
            return Vec::new();
        };
        let sums = self.releases.values();
        let sums = sums.filter_map(|(release, _)| release.large());
        [Some(model), moments]
            .into_iter()
            .flatten()
            .chain(sums)
            .collect()
    }

    /// The model where it is a blob.
    #[must_use]
    pub fn large_model(&self) -> Option<Vector> {
        self.large.map(|large| large.model)
    }

    /// The model as it was read of its blob, for whoever asks for it. It is not to be stored.
    ///
    /// # Errors
    /// It is none.
    pub fn put_model(&mut self, from: impl Read) -> io::Result<()> {
        let bytes = self.large.map_or(0, |large| large.model.bytes);
        let model = large::read_model(from, bytes)?;
        let steps = self.coordinator.steps();
        let moments = crate::strategy::Moments::none(0);
        self.coordinator = crate::strategy::Coordinator::part(model, moments, steps);
        Ok(())
    }

    /// The blob that a region's release announces, if it is one that the round waits for: the release counts once all of it
    /// is here ([`Course::take`]). Any other is taken at once.
    #[must_use]
    pub fn awaits(&self, from: &RegionId, release: &Release) -> Option<Vector> {
        let vector = release.large()?;
        let study = order::parse(&self.text).ok()?;
        let waits = self.standing == Standing::Running
            && self.large.is_some()
            && self.round <= study.training.rounds
            && release.key == self.key()
            && self.asked(&study).contains(from)
            && !self.releases.contains_key(from)
            && vector.has(self.codec(&study).ok()?.numbers());
        waits.then_some(vector)
    }

    /// Whether every region has released, and the next model is to be made of blobs.
    #[must_use]
    pub fn is_stepping(&self) -> bool {
        if self.large.is_none() || self.standing != Standing::Running {
            return false;
        }
        let Ok(study) = order::parse(&self.text) else {
            return false;
        };
        self.round <= study.training.rounds && self.releases.len() == self.asked(&study).len()
    }

    /// What the next model is made of, once every region has released; nothing where it is not made of blobs.
    #[must_use]
    pub fn stepping(&self) -> Option<Result<Stepping, String>> {
        self.is_stepping().then(|| self.stepping_of())
    }

    fn stepping_of(&self) -> Result<Stepping, String> {
        let (study, plan) = order::read(&self.text)?;
        let Large { model, moments } = self.large.ok_or("the model is no blob")?;
        let codec = self.codec(&study)?;
        let mut sums = Vec::new();
        for (region, (release, _)) in &self.releases {
            let refused = |why: String| format!("region {region}: {why}");
            let Outcome::Summed { large, members, .. } = &release.outcome else {
                continue;
            };
            self.members_checked(&study, *members).map_err(refused)?;
            let vector = large.filter(|vector| vector.has(codec.numbers()));
            let vector =
                vector.ok_or_else(|| refused("its sum is no blob of the right length".into()))?;
            sums.push((region.clone(), vector, *members));
        }
        let noised = study.privacy.unit == PrivacyUnit::Facility;
        let most = plan.bits.map_or(u64::MAX, |bits| bits.largest);
        Ok(Stepping {
            model,
            moments,
            sums,
            codec,
            strategy: study.training.strategy,
            steps: self.coordinator.steps(),
            largest: noised.then_some(most),
        })
    }

    /// The next model is made and put in, with what the strategy remembers beside it, or cannot be made. `members`: of how
    /// many sites the sums are; `within`: which share of them was within an adaptive clip. Whether anything changed.
    pub fn stepped(
        &mut self,
        made: Result<(Vector, Option<Vector>, Option<f64>), String>,
        members: u32,
        now_ms: i64,
    ) -> bool {
        if !self.is_stepping() {
            return false;
        }
        let done = made.and_then(|(model, moments, within)| {
            let study = order::parse(&self.text)?;
            self.large = Some(Large { model, moments });
            self.coordinator.stepped_elsewhere();
            self.next_round(&study, within, members, now_ms)
        });
        if let Err(why) = done {
            self.fail(format!("round {}: {why}", self.round), now_ms);
        }
        true
    }
}
