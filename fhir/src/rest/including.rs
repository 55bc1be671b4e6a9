//! What is added to a page: what its resources refer to, and what refers to them (FHIR R4 search.html#include).
use super::{FhirApi, Interaction, outcome::Failure};
use crate::json::Json;
use crate::query::{Filter, Include, Match, Problem, ReferenceMatch, Search, Value, extract};
use crate::store::{Find, ResourceType, Stored};
use axum::http::HeaderMap;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Resources that are added to one page. More are refused, since what is left out silently is missed.
pub const MAX_INCLUDED: usize = 1_000;
/// Times that `:iterate` is applied.
const MAX_ROUNDS: usize = 8;
/// Ids in one query.
const CHUNK: usize = 200;

/// What was added.
pub struct Included(pub Vec<Stored>);

/// What is to be added.
pub struct Asked<'a> {
    pub api: &'a FhirApi,
    pub headers: &'a HeaderMap,
    pub search: &'a Search,
    /// Of the reader's axis, where instants are logical.
    pub marks: Option<Vec<i64>>,
}

type Keys = BTreeMap<ResourceType, Vec<String>>;

/// What is known on the way.
#[derive(Default)]
struct Way {
    seen: HashSet<(ResourceType, String)>,
    may_read: HashMap<&'static str, bool>,
}

impl Asked<'_> {
    pub async fn of(&self, page: &[Stored]) -> Result<Included, Failure> {
        let mut all = Vec::new();
        if self.search.includes.is_empty() && self.search.revincludes.is_empty() {
            return Ok(Included(all));
        }
        for include in &self.search.revincludes {
            if ResourceType::parse(include.source).is_some_and(|kind| !kind.is_indexed()) {
                return Err(Failure::problem(&Problem::unsupported(
                    "_revinclude",
                    "readings are not included by what they refer to; search them by patient",
                )));
            }
        }
        let mut way = Way::default();
        let keys = page.iter().map(|one| (one.kind, one.id.to_string()));
        way.seen.extend(keys);
        let mut edge: Vec<Stored> = page.to_vec();
        for round in 0..MAX_ROUNDS {
            let mut next = self.forward(&mut way, &edge, round == 0).await?;
            next.extend(self.back(&mut way, &edge, round == 0).await?);
            if next.is_empty() {
                break;
            }
            all.extend(next.iter().cloned());
            if all.len() > MAX_INCLUDED {
                return Err(Failure::too_many_included());
            }
            edge = next;
        }
        Ok(Included(all))
    }

    /// Whether what is of a type may be shown, without its id being known.
    fn may_read(&self, way: &mut Way, kind: ResourceType) -> bool {
        let authorize = &self.api.authorize;
        *way.may_read.entry(kind.as_str()).or_insert_with(|| {
            let may = authorize.authorize(self.headers, kind, Interaction::SearchType);
            may.is_ok()
        })
    }

    /// What the resources refer to.
    async fn forward(
        &self,
        way: &mut Way,
        edge: &[Stored],
        first: bool,
    ) -> Result<Vec<Stored>, Failure> {
        let includes = self.search.includes.iter();
        let applied: Vec<&Include> = includes.filter(|one| first || one.iterate).collect();
        let mut keys = Keys::new();
        for stored in edge {
            let of_type = applied
                .iter()
                .filter(|one| one.source == stored.kind.as_str());
            let of_type: Vec<&Include> = of_type.copied().collect();
            if of_type.is_empty() {
                continue;
            }
            for (kind, id) in references(stored, &self.api.base, &of_type) {
                if self.may_read(way, kind) && way.seen.insert((kind, id.clone())) {
                    keys.entry(kind).or_default().push(id);
                }
            }
        }
        let mut found = Vec::new();
        for (kind, ids) in keys {
            for chunk in ids.chunks(CHUNK) {
                let filter = Filter::Id(chunk.to_vec());
                found.extend(self.all_of(kind, filter).await?);
            }
        }
        Ok(found)
    }

    /// What refers to the resources.
    async fn back(
        &self,
        way: &mut Way,
        edge: &[Stored],
        first: bool,
    ) -> Result<Vec<Stored>, Failure> {
        let mut found = Vec::new();
        let includes = self.search.revincludes.iter();
        let applied: Vec<&Include> = includes.filter(|one| first || one.iterate).collect();
        for include in applied {
            let Some(source) = ResourceType::parse(include.source) else {
                continue;
            };
            if !self.may_read(way, source) {
                continue;
            }
            let targets = edge.iter().filter(|stored| {
                let kind = stored.kind.as_str();
                include.target.is_none_or(|target| target == kind)
            });
            let targets: Vec<Match> = targets.map(leads_to).collect();
            for chunk in targets.chunks(CHUNK) {
                let any = include.params.iter().map(|param| Filter::Param {
                    param,
                    matches: chunk.to_vec(),
                });
                let filter = Filter::Any(any.collect());
                for stored in self.all_of(source, filter).await? {
                    if way.seen.insert((stored.kind, stored.id.to_string())) {
                        found.push(stored);
                    }
                }
            }
        }
        Ok(found)
    }

    async fn all_of(&self, kind: ResourceType, filter: Filter) -> Result<Vec<Stored>, Failure> {
        let count = u16::try_from(MAX_INCLUDED).unwrap_or(u16::MAX);
        let find = Find {
            marks: self.marks.clone(),
            ..Find::of(kind, filter, count)
        };
        let page = self.api.store.find(&find).await?;
        match page.next {
            None => Ok(page.resources),
            Some(_) => Err(Failure::too_many_included()),
        }
    }
}

fn leads_to(stored: &Stored) -> Match {
    Match::Reference(ReferenceMatch::Local {
        resource_type: Some(stored.kind.to_string()),
        id: stored.id.to_string(),
        version: None,
    })
}

/// What a resource refers to by some of its parameters.
fn references(stored: &Stored, base: &str, includes: &[&Include]) -> Vec<(ResourceType, String)> {
    let Ok(tree) = Json::parse(&stored.json) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for row in extract(&tree, base) {
        let Value::Reference {
            resource_type: Some(kind),
            id: Some(id),
            ..
        } = row.value
        else {
            continue;
        };
        let is_asked = includes.iter().any(|include| {
            let by = include.params.iter().any(|param| param.code == row.param);
            by && include.target.is_none_or(|target| target == kind)
        });
        if let Some(kind) = ResourceType::parse(&kind).filter(|_| is_asked) {
            found.push((kind, id));
        }
    }
    found
}
