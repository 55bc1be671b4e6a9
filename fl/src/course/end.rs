//! How a study ends before its last round, who is told, and how it goes on again.
use super::{Course, MAX_ATTEMPTS, Standing};
use crate::order;
use types::RegionId;

impl Course {
    /// Somebody ends it. Whether anything changed.
    pub fn cancel(&mut self) -> bool {
        let is_running = self.standing == Standing::Running;
        if is_running {
            self.ends_in_vain();
            self.standing = Standing::Cancelled;
        }
        is_running
    }

    /// The round ends without a result. Unless no region has come so far as to ask for an update, facilities may have paid
    /// for it and told what it tells: it counts as a release.
    pub(super) fn ends_in_vain(&mut self) {
        let Ok(study) = order::parse(&self.text) else {
            return;
        };
        let asks = |region: &RegionId| match self.releases.get(region) {
            Some((release, _)) => release.asked,
            None => self.ordered.contains(region),
        };
        if self.round <= study.training.rounds && self.asked(&study).iter().any(asks) {
            self.in_vain = self.in_vain.saturating_add(1);
        }
    }

    /// Goes on with the round in which it ended without a result, from `now_ms` (ms since 1970) on.
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

    /// The regions whose round ends before its time, and that were not told so yet: the study runs no longer, and they
    /// have released nothing.
    #[must_use]
    pub fn ends(&self) -> Vec<RegionId> {
        if self.standing == Standing::Running {
            return Vec::new();
        }
        let ordered = self.ordered.iter();
        ordered
            .filter(|region| !self.releases.contains_key(*region))
            .cloned()
            .collect()
    }

    /// A region was told that its round ends; the shell has stored the parcel.
    pub fn was_ended(&mut self, region: &RegionId) {
        self.ordered.remove(region);
    }
}
