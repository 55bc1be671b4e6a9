//! What is told of a study: what became of its rounds, and how good its model is.
use crate::{
    metrics::{Curves, Metrics},
    order::Site,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::FacilityId;

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
}
