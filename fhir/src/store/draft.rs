//! A resource that a client would have stored: it is R4, the place may hold it, and what the server says of it
//! (`id`, `meta.versionId`, `meta.lastUpdated`) is the server's.
use super::{FhirId, ResourceType, SOURCE_PREFIX};
use crate::admit::{Holding, Inadmissible};
use crate::audit::{is_own, without_untold};
use crate::json::Json;
use crate::query::{IndexRow, Value, extract};
use crate::r4::{self, Issue};
use crate::search::period;
use crate::subscription::Watching;
use crate::validate::Members;
use serde_json::value::RawValue;
use types::Timestamp;

/// See the head of this file: only [`Draft::parse`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    kind: ResourceType,
    id: FhirId,
    json: String,
    patient: Option<FhirId>,
    time: Option<Timestamp>,
    rows: Vec<IndexRow>,
    watching: Option<Box<Watching>>,
    posted: bool,
}

/// Why a text is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not JSON; where and why.
    NotJson(String),
    /// It is not R4.
    NotR4(Vec<Issue>),
    /// It is R4, and holds what may not be here.
    Inadmissible(Vec<Inadmissible>),
}

impl Draft {
    /// Judges the text of a resource of a type, which will have that id. `base` is the URL of this server, with which its
    /// own absolute references begin.
    ///
    /// # Errors
    /// [`Unfit`], with every element that is at fault.
    pub fn parse(
        holding: &Holding,
        kind: ResourceType,
        id: FhirId,
        text: &str,
        base: &str,
    ) -> Result<Self, Unfit> {
        let tree = Json::parse(text).map_err(|error| Unfit::NotJson(error.to_string()))?;
        let found = r4::validate_tree(&tree).map_err(Unfit::NotR4)?;
        if found != kind.as_str() {
            return Err(Unfit::NotR4(vec![Issue {
                fault: r4::Fault::Structure,
                expression: found.to_owned(),
                problem: format!("the resource is no {kind}, which the path is for"),
            }]));
        }
        let refused = holding.judge(&tree);
        if !refused.is_empty() {
            return Err(Unfit::Inadmissible(refused));
        }
        Self::of(kind, id, (text, &tree), base)
    }

    /// Of a text that was judged.
    fn of(
        kind: ResourceType,
        id: FhirId,
        (text, tree): (&str, &Json<'_>),
        base: &str,
    ) -> Result<Self, Unfit> {
        let json = own(text, &id).ok_or_else(|| Unfit::NotJson("no JSON object".to_owned()))?;
        let rows = match is_own(kind.as_str(), id.as_str()) {
            true => indexed(tree, base),
            false => extract(tree, base),
        };
        Ok(Self {
            kind,
            patient: patient_of(kind, &id, tree),
            time: time_of(tree, &rows),
            id,
            json,
            rows,
            watching: None,
            posted: false,
        })
    }

    /// Of a text that nobody judged: for the promises of engines, whose resources hold what a search needs and no more.
    #[cfg(feature = "contract")]
    pub(crate) fn unjudged(kind: ResourceType, id: FhirId, text: &str, base: &str) -> Option<Self> {
        let tree = Json::parse(text).ok()?;
        Self::of(kind, id, (text, &tree), base).ok()
    }

    /// With what the store watches by it: of a Subscription.
    #[must_use]
    pub fn with_watching(self, watching: Watching) -> Self {
        Self {
            watching: Some(Box::new(watching)),
            ..self
        }
    }

    /// As it came by a POST of its type: the server drew its id.
    #[must_use]
    pub const fn posted(mut self) -> Self {
        self.posted = true;
        self
    }

    /// Whether it came by a POST of its type.
    pub(crate) const fn is_posted(&self) -> bool {
        self.posted
    }

    /// What the store watches by it.
    #[must_use]
    pub fn watching(&self) -> Option<&Watching> {
        self.watching.as_deref()
    }

    /// The Patient that it is of, or is.
    #[must_use]
    pub const fn patient(&self) -> Option<&FhirId> {
        self.patient.as_ref()
    }

    /// What it is found by.
    #[must_use]
    pub fn rows(&self) -> &[IndexRow] {
        &self.rows
    }

    /// What an Observation is listed by beside readings: the Patient who is its subject, or else its performer, in whose
    /// compartment it is, and its time (ms since 1970; that of the commit where it says none). What is of another type has
    /// neither.
    pub(crate) fn columns(&self, commit: i64) -> (Option<&str>, Option<i64>) {
        if self.kind != ResourceType::Observation {
            return (None, None);
        }
        let patient = ["subject", "performer"].into_iter().find_map(|param| {
            self.rows.iter().find_map(|row| match &row.value {
                Value::Reference {
                    resource_type: Some(kind),
                    id: Some(id),
                    ..
                } if row.param == param && kind == "Patient" => Some(id.as_str()),
                _ => None,
            })
        });
        (patient, Some(self.time.map_or(commit, |time| time.0)))
    }

    /// The resource type.
    #[must_use]
    pub const fn kind(&self) -> ResourceType {
        self.kind
    }

    /// The id.
    #[must_use]
    pub const fn id(&self) -> &FhirId {
        &self.id
    }

    /// The text, without `meta.versionId` and `meta.lastUpdated`.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

/// What a resource is found by that a facility delivered, or that was stored before there was an index: by its text and
/// by the facility, which the text does not name. None of it refers by an absolute URL: a region takes relative references
/// alone ([`crate::admit`]).
pub(crate) fn rows_of(text: &str, source: Option<&str>) -> Vec<IndexRow> {
    let mut rows = rows_anew(text, "");
    rows.extend(source.map(row_of_source));
    rows
}

/// What a stored resource is found by, but for its facility. `base` is the URL of this server, as in [`Draft::parse`].
pub(super) fn rows_anew(text: &str, base: &str) -> Vec<IndexRow> {
    Json::parse(text).map_or_else(|_| Vec::new(), |tree| indexed(&tree, base))
}

/// What a stored resource is found by, but for an instant that stands for none.
fn indexed(tree: &Json<'_>, base: &str) -> Vec<IndexRow> {
    let mut rows = extract(tree, base);
    without_untold(tree, &mut rows);
    rows
}

/// That a facility delivered it: `_source`.
pub(crate) fn row_of_source(source: &str) -> IndexRow {
    IndexRow {
        param: "_source",
        group: 0,
        part: 0,
        value: Value::Uri(format!("{SOURCE_PREFIX}{source}")),
    }
}

/// The time of an Observation: the beginning of when what it says was so, else when it was issued.
pub(crate) fn time_of(resource: &Json<'_>, rows: &[IndexRow]) -> Option<Timestamp> {
    let bounds = rows.iter().filter_map(|row| match row.value {
        Value::Date { low, high } if row.param == "date" => {
            let known = |time: &i64| !matches!(*time, i64::MIN | i64::MAX);
            [low, high].into_iter().find(known)
        }
        _ => None,
    });
    let issued = || {
        let text = resource.object()?.text("issued")?;
        period(text).map(|(from, _)| from)
    };
    bounds.min().or_else(issued).map(Timestamp)
}

pub(crate) fn patient_of(kind: ResourceType, id: &FhirId, resource: &Json<'_>) -> Option<FhirId> {
    if kind == ResourceType::Patient {
        return Some(id.clone());
    }
    let object = resource.object()?;
    let names = ["subject", "patient", "beneficiary", "individual"];
    names.iter().find_map(|name| {
        let reference = object.get(name)?.object()?.text("reference")?;
        reference.strip_prefix("Patient/")?.parse().ok()
    })
}

/// The text with that id and without what the server says; every other value as it came.
fn own(text: &str, id: &FhirId) -> Option<String> {
    let members: Members<'_> = serde_json::from_str(text).ok()?;
    let has_id = members.0.iter().any(|(name, _)| name == "id");
    let mut out = String::with_capacity(text.len() + 64);
    let mut put = |name: &str, value: &str| -> Option<()> {
        out.push(if out.is_empty() { '{' } else { ',' });
        out.push_str(&serde_json::to_string(name).ok()?);
        out.push(':');
        out.push_str(value);
        Some(())
    };
    let quoted = format!("\"{id}\"");
    for (name, value) in &members.0 {
        match name.as_str() {
            "id" => put(name, &quoted)?,
            "meta" => {
                if let Some(meta) = own_meta(value)? {
                    put(name, &meta)?;
                }
            }
            _ => put(name, value.get())?,
        }
        if name == "resourceType" && !has_id {
            put("id", &quoted)?;
        }
    }
    out.push('}');
    Some(out)
}

/// `meta` without what the server says; none when nothing is left.
#[expect(clippy::option_option, reason = "an error, nothing left, or a text")]
fn own_meta(meta: &RawValue) -> Option<Option<String>> {
    let members = Members::of(meta)?;
    let kept = members.0.iter().filter(|(name, _)| {
        !matches!(
            name.as_str(),
            "versionId" | "_versionId" | "lastUpdated" | "_lastUpdated"
        )
    });
    let mut list = Vec::new();
    for (name, value) in kept {
        list.push(format!(
            "{}:{}",
            serde_json::to_string(name).ok()?,
            value.get()
        ));
    }
    Some((!list.is_empty()).then(|| format!("{{{}}}", list.join(","))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_and_what_the_server_says_are_the_servers_and_every_other_value_stays_as_it_came() {
        let id: FhirId = "b".parse().unwrap();
        for (text, expected) in [
            (
                r#"{"resourceType":"Basic","id":"a","code":{"text":"x"}}"#,
                r#"{"resourceType":"Basic","id":"b","code":{"text":"x"}}"#,
            ),
            (
                r#"{ "resourceType": "Basic", "meta": {"versionId": "7", "lastUpdated": "2020-01-01T00:00:00Z"},
                "extension": [{"url": "http://x", "valueDecimal": 1.50e-3}] }"#,
                r#"{"resourceType":"Basic","id":"b","extension":[{"url": "http://x", "valueDecimal": 1.50e-3}]}"#,
            ),
            (
                r#"{"resourceType":"Basic","meta":{"versionId":"7","tag":[ {"code":"t"} ]}}"#,
                r#"{"resourceType":"Basic","id":"b","meta":{"tag":[ {"code":"t"} ]}}"#,
            ),
        ] {
            assert_eq!(own(text, &id).as_deref(), Some(expected));
        }
    }
}

#[cfg(test)]
#[path = "examples_tests.rs"]
mod examples_tests;
