//! What a region says of a round that lasts: who takes part so far, who does not and why, and for whom it waits. It tells
//! nothing that the release at the end of the round does not tell.
use super::RegionRound;
use crate::{
    order::{Outcome, Release, Site, Told},
    round::Step,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::FacilityId;

/// How long a round lasts before anything is said of it, in ms: most are over by then.
pub const SAYS_AFTER_MS: i64 = 5_000;
/// How often something is said of a round at most.
const MOST_SAID: u32 = 1_000;

/// What was said of a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// When the round began, in ms of the region's clock.
    began_ms: i64,
    /// What was said last.
    said: BTreeMap<FacilityId, Site>,
    /// How often something was said.
    times: u32,
}

impl Waiting {
    pub(super) fn since(began_ms: i64) -> Self {
        Self {
            began_ms,
            ..Self::default()
        }
    }
}

impl RegionRound {
    /// How the sites stand at `now_ms` (ms since 1970), in a round that has lasted for `SAYS_AFTER_MS` and goes on; none
    /// when nothing has changed since it was said last.
    #[must_use]
    pub fn waiting(&self, now_ms: i64) -> Option<Release> {
        let begins = self.waiting.began_ms.saturating_add(SAYS_AFTER_MS);
        if !self.is_running() || now_ms < begins || self.waiting.times >= MOST_SAID {
            return None;
        }
        // A global node of another version may not know the word, and would keep each in quarantine.
        if self.order.code.as_deref() != Some(crate::code::digest().as_str()) {
            return None;
        }
        let sites = self.so_far();
        (sites != self.waiting.said).then(|| Release {
            key: self.key().clone(),
            outcome: Outcome::Waiting,
            sites,
            bytes: self.bytes,
            asked: self.round.step() >= Step::Train,
        })
    }

    /// What [`RegionRound::waiting`] gave is on its way.
    pub fn was_said(&mut self, release: &Release) {
        self.waiting.said = release.sites.clone();
        self.waiting.times += 1;
    }

    /// How often something was said of it.
    #[must_use]
    pub const fn times_said(&self) -> u32 {
        self.waiting.times
    }

    fn so_far(&self) -> BTreeMap<FacilityId, Site> {
        let (waits, step) = (self.round.missing(), self.round.step());
        let mut sites = BTreeMap::new();
        for (member, facility) in &self.members {
            let missing = match self.round.lost().get(member) {
                Some(lost) => Some(lost.to_string()),
                None if self.round.is_in_reserve(*member) => Some("waits for its turn".into()),
                None if !waits.contains(member) => None,
                None if step == Step::Invite => Some("has not answered".into()),
                None => Some(format!(
                    "takes part, and is waited for in the step `{step}`"
                )),
            };
            let site = Site {
                missing,
                note: None,
                told: Told::default(),
            };
            sites.insert(facility.clone(), site);
        }
        sites
    }
}
