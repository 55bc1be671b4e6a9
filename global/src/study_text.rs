//! A study's text as somebody writes it: understood and able to run, or everything that is wrong with it; and what a mesh lacks
//! of what it asks for. `medmesh fl check` and the API say the same of the same text.
use fl::{
    order,
    study::{Plan, Study},
};
use node::config::{self, Problem, Validate};
use serde::Deserialize;
use std::collections::BTreeMap;
use types::RegionId;

#[derive(Deserialize)]
#[serde(transparent)]
struct StudyFile(Study);

impl Validate for StudyFile {
    fn problems(&self) -> Vec<Problem> {
        let of = |problem: fl::study::Problem| Problem::new(problem.path, problem.message);
        self.0.problems().into_iter().map(of).collect()
    }

    fn stand_ins() -> Vec<toml::Value> {
        let of_kind = |kind: &str| {
            let kind = ("kind".to_owned(), toml::Value::String(kind.to_owned()));
            toml::Value::Table([kind].into_iter().collect())
        };
        ["logistic", "binary", "fed-avg"].map(of_kind).to_vec()
    }
}

/// A study and what it comes to. Takes a processor for some time where much is wrong.
///
/// # Errors
/// Every problem with its key, at least one.
pub fn read_study(text: &str) -> Result<(Study, Plan), Vec<Problem>> {
    match (understood(text), no_region(text)) {
        (Ok(read), None) => Ok(read),
        (Ok(_), Some(problem)) => Err(vec![problem]),
        (Err(mut problems), more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}

/// A list of regions with none in it, which a study that runs already may have: left out, it is every one.
fn no_region(text: &str) -> Option<Problem> {
    let is_short = text.len() <= order::MAX_STUDY_BYTES;
    let table: toml::Table = is_short.then(|| toml::from_str(text).ok()).flatten()?;
    let named = table.get("regions")?.as_array()?;
    let message = "names no region; left out, it is every one that the mesh has";
    named.is_empty().then(|| Problem::new("regions", message))
}

fn understood(text: &str) -> Result<(Study, Plan), Vec<Problem>> {
    let why = match order::read(text) {
        Ok(read) if read.0.senseless().is_empty() => return Ok(read),
        Ok(_) => String::new(),
        Err(why) => why,
    };
    if text.len() > order::MAX_STUDY_BYTES {
        return Err(vec![Problem::new("", why)]);
    }
    config::parse::<StudyFile>(text, [])?;
    // The same text is read by the same rules, so that this is not come to.
    Err(vec![Problem::new("", why)])
}

/// What a mesh lacks of what a study asks for: regions, and facilities of each. `known`: how many facilities each region has.
#[must_use]
pub fn lacking(study: &Study, known: &BTreeMap<RegionId, usize>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, region) in study.regions.iter().enumerate() {
        if !known.contains_key(region) {
            let have: Vec<_> = known.keys().map(RegionId::as_str).collect();
            let message = format!(
                "`{region}` is no region of the mesh, which has {}",
                have.join(", ")
            );
            problems.push(Problem::new(format!("regions[{at}]"), message));
        }
    }
    for (region, have) in known {
        let is_asked = study.regions.is_empty() || study.regions.contains(region);
        if is_asked && *have < usize::from(study.sites) {
            let asked = study.sites;
            let message =
                format!("{asked} facilities of each region are asked, and `{region}` has {have}");
            problems.push(Problem::new("sites", message));
        }
    }
    problems
}

#[cfg(test)]
#[path = "study_text_tests.rs"]
mod tests;
