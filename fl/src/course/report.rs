//! What is told of a study: what became of its rounds, and how good its model is.
use super::{Course, Standing};
use crate::{
    metrics::{Curves, Interval, Metrics, SMALLEST_CELL},
    order::{self, Site},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use types::{FacilityId, RegionId};

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
    /// On the records of all sites together; none of a Cox model.
    pub pooled: Option<Metrics>,
    /// At each site that says so.
    pub sites: BTreeMap<FacilityId, Metrics>,
    /// On the records of all sites together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
    /// The same of each site's own model, after fine-tuning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<Personal>,
    /// Harrell's c, of a Cox model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concordance: Option<Concordance>,
}

/// How good each site's own model is, after fine-tuning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Personal {
    /// On the records of all sites together, each judged by its site's own model.
    pub pooled: Option<Metrics>,
    /// At each site that says so.
    pub sites: BTreeMap<FacilityId, Metrics>,
}

/// Harrell's c of a Cox model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Concordance {
    /// Over all pairs of subjects of one site.
    #[serde(default, deserialize_with = "crate::exact::maybe")]
    pub pooled: Option<f64>,
    /// At each site that says so.
    #[serde(default, deserialize_with = "crate::exact::map")]
    pub sites: BTreeMap<FacilityId, f64>,
    /// Where the pooled one may lie: the middle of samples that each site drew of its own subjects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Interval>,
    /// Where that of each site may lie.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sites_within: BTreeMap<FacilityId, Interval>,
    /// How many subjects of all sites it is over.
    #[serde(default)]
    pub subjects: u64,
}

impl Evaluation {
    /// Why nothing is told of all sites together; none where something is.
    #[must_use]
    pub fn silence(&self) -> Option<String> {
        let few = |what: &str| {
            format!(
                "of fewer than {SMALLEST_CELL} {what} that were kept from training nothing is told"
            )
        };
        match &self.concordance {
            None => self.pooled.is_none().then(|| few("records")),
            Some(found) if found.pooled.is_some() => None,
            Some(found) if found.subjects < SMALLEST_CELL as u64 => Some(few("subjects")),
            Some(_) => {
                Some("of no two subjects of one site it is known who had the event first".into())
            }
        }
    }

    /// As it is told: the concordance of a Cox model stands where other models have their figures.
    #[must_use]
    pub fn shown(&self) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let (Some(members), Some(why)) = (value.as_object_mut(), self.silence()) {
            members.insert("why".to_owned(), why.into());
        }
        let Some(found) = &self.concordance else {
            return value;
        };
        let figure = |c: f64, within: Option<&Interval>| {
            let intervals = within.map(|within| json!({ "concordance": within }));
            let mut figure = Map::from_iter([("concordance".to_owned(), json!(c))]);
            figure.extend(intervals.map(|within| ("intervals".to_owned(), within)));
            figure
        };
        let of_site = |(site, c): (&FacilityId, &f64)| {
            let figure = figure(*c, found.sites_within.get(site));
            (site.to_string(), Value::Object(figure))
        };
        let sites: Map<String, Value> = found.sites.iter().map(of_site).collect();
        let pooled = found.pooled.map(|c| {
            let mut figure = figure(c, found.within.as_ref());
            figure.insert("records".to_owned(), json!(found.subjects));
            figure
        });
        if let Some(members) = value.as_object_mut() {
            members.insert("sites".to_owned(), sites.into());
            members.extend(pooled.map(|pooled| ("pooled".to_owned(), pooled.into())));
            members.remove("concordance");
        }
        value
    }
}

/// For whom the round waits that a study is in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Waiting {
    /// Which round.
    pub round: u32,
    /// How often it was begun.
    pub attempt: u32,
    /// Whether it judges the model: the one after the last round of training.
    pub judges: bool,
    /// When it was ordered, in ms since 1970.
    pub began_ms: i64,
    /// When it ends at the latest.
    pub until_ms: i64,
    /// The regions that have not released.
    pub regions: Vec<RegionId>,
    /// How their sites stand, where a region has said so: a round that is soon over says nothing.
    pub sites: BTreeMap<FacilityId, String>,
}

impl Course {
    /// For whom its round waits; none of a study that has ended.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        if self.standing != Standing::Running {
            return None;
        }
        let study = order::parse(&self.text).ok()?;
        let mut sites = BTreeMap::new();
        for (facility, site) in self.waiting.values().flatten() {
            let stands = site.missing.as_deref().unwrap_or("takes part");
            sites.insert(facility.clone(), stands.to_owned());
        }
        let asked = self.asked(&study).into_iter();
        let regions = asked.filter(|region| !self.releases.contains_key(region));
        Some(Waiting {
            round: self.round,
            attempt: self.attempt,
            judges: self.round > study.training.rounds,
            began_ms: self.began_ms,
            until_ms: self.until_ms,
            regions: regions.collect(),
            sites,
        })
    }
}
