//! What regions released, checked and put together: what no region could have come to honestly is not taken, and the
//! region is named.
use super::{Concordance, Course, Evaluation, Personal};
use crate::{
    judge,
    order::Outcome,
    site,
    study::{Plan, PrivacyUnit, Strategy, Study},
    update::UpdateCodec,
};
use rand::{SeedableRng as _, rngs::StdRng};
use std::collections::BTreeMap;

impl Course {
    pub(super) fn codec(&self, study: &Study) -> Result<UpdateCodec, String> {
        let model = site::model(study).map_err(|error| error.to_string())?;
        // The clip as the order carried it.
        let clip = self.clip.or(study.privacy.clip);
        let clip = clip.filter(|_| study.privacy.adaptive.is_some());
        let clip = clip.map(|clip| f64::from(clip as f32));
        site::codec_at(study, &model, clip).map_err(|error| error.to_string())
    }

    /// Whether a region's sum can be of so many sites.
    pub(super) fn members_checked(&self, study: &Study, members: u16) -> Result<(), String> {
        let judges = self.round > study.training.rounds;
        let in_turn = matches!(study.training.strategy, Strategy::Cyclic {}) && !judges;
        let least = if in_turn {
            1
        } else {
            study.aggregation.quorum.max(1)
        };
        let most = if in_turn { 1 } else { study.sites };
        if (least..=most).contains(&members) {
            return Ok(());
        }
        Err(format!(
            "its sum is said to be of {members} sites, and it is of {least} to {most}"
        ))
    }

    /// What is wrong with what a region released: nothing that it could not have come to honestly is taken.
    fn checked(
        &self,
        study: &Study,
        plan: &Plan,
        numbers: &[i64],
        members: u16,
    ) -> Result<(), String> {
        self.members_checked(study, members)?;
        if self.round > study.training.rounds {
            return judge::counts(study, numbers).map(drop);
        }
        let codec = self.codec(study)?;
        if study.privacy.unit == PrivacyUnit::Facility {
            let largest = numbers.iter().map(|n| n.unsigned_abs()).max().unwrap_or(0);
            let most = plan.bits.map_or(u64::MAX, |bits| bits.largest);
            if largest > most {
                return Err(format!(
                    "a number of its sum is {largest}, and {most} with all noise at most"
                ));
            }
            return Ok(());
        }
        let bounded = codec.bounded(numbers, members.into());
        bounded.map_err(|error| error.to_string())
    }

    /// The sum of all regions, and of how many sites it is.
    pub(super) fn sum(&self, study: &Study, plan: &Plan) -> Result<(Vec<i64>, u32), String> {
        let mut sum: Vec<i64> = Vec::new();
        let mut members = 0;
        for (region, (release, numbers)) in &self.releases {
            let Outcome::Summed { members: of, .. } = release.outcome else {
                continue;
            };
            let whole: Vec<i64> = numbers
                .iter()
                .map(|number| i64::from(number.cast_signed()))
                .collect();
            self.checked(study, plan, &whole, of)
                .map_err(|why| format!("region {region}: {why}"))?;
            if sum.is_empty() {
                sum = vec![0; whole.len()];
            }
            for (sum, number) in sum.iter_mut().zip(whole) {
                *sum += number;
            }
            members += u32::from(of);
        }
        Ok((sum, members))
    }

    /// Figures of the sum of counts. Their intervals are drawn by the study's seed: every copy of it has the same.
    pub(super) fn judge(&mut self, study: &Study, sum: &[i64]) -> Result<(), String> {
        let mut random = StdRng::seed_from_u64(study.training.seed);
        let found = judge::pooled(study, sum, &mut random)?;
        let (mut sites, mut personal) = (BTreeMap::new(), BTreeMap::new());
        let (mut compared, mut sites_within) = (BTreeMap::new(), BTreeMap::new());
        for (release, _) in self.releases.values() {
            for (facility, site) in &release.sites {
                let told = &site.told;
                sites.extend(told.figures.map(|figures| (facility.clone(), figures)));
                personal.extend(told.personal.map(|figures| (facility.clone(), figures)));
                compared.extend(told.concordance.map(|c| (facility.clone(), c)));
                sites_within.extend(told.concordance_within.map(|of| (facility.clone(), of)));
            }
        }
        self.evaluation = Some(Evaluation {
            pooled: found.model,
            sites,
            curves: found.curves,
            personal: study.personalisation.map(|_| Personal {
                pooled: found.personal,
                sites: personal,
            }),
            concordance: study.model.is_survival().then_some(Concordance {
                pooled: found.concordance,
                sites: compared,
                within: found.concordance_within,
                sites_within,
                subjects: found.subjects,
            }),
        });
        Ok(())
    }
}
