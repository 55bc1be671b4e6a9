//! What is added to a page: what its resources refer to, and what refers to them (FHIR R4 search.html#include).
use super::{FhirApi, outcome::Failure, sight::Sight};
use crate::axis::Commits;
use crate::json::Json;
use crate::query::{Filter, Include, Match, ReferenceMatch, Search, Value, extract};
use crate::search::{self, Query};
use crate::store::{FhirId, Find, MAX_PAGE, ResourceType, Sights, Stored, bytes_of};
use axum::http::HeaderMap;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Resources that are added to one page. More are refused, since what is left out silently is missed.
pub const MAX_INCLUDED: usize = 1_000;
/// Bytes of their texts, in MiB. What is longer is refused, for the same reason.
pub const MAX_INCLUDED_MIB: usize = 8;
/// Readings that are looked at for them where the token does not show all.
const MAX_LOOKED_AT: usize = 5_000;
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
    sights: HashMap<&'static str, Option<Sight>>,
    added: Added,
}

/// How much was added.
#[derive(Clone, Copy, Default)]
pub struct Added {
    resources: usize,
    bytes: usize,
}

impl Added {
    /// Counts what is added, and refuses more than a page has room for.
    pub fn add(&mut self, more: &[Stored]) -> Result<(), Failure> {
        self.resources += more.len();
        self.bytes += bytes_of(more);
        match self.resources > MAX_INCLUDED || self.bytes > MAX_INCLUDED_MIB << 20 {
            true => Err(Failure::too_many_included()),
            false => Ok(()),
        }
    }
}

impl Way {
    /// Of what was found, what is not there yet: it is added.
    fn unseen(&mut self, mut found: Vec<Stored>) -> Result<Vec<Stored>, Failure> {
        found.retain(|one| self.seen.insert((one.kind, one.id.to_string())));
        self.added.add(&found)?;
        Ok(found)
    }
}

impl Asked<'_> {
    pub async fn of(&self, page: &[Stored]) -> Result<Included, Failure> {
        let mut all = Vec::new();
        if self.search.includes.is_empty() && self.search.revincludes.is_empty() {
            return Ok(Included(all));
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
            edge = next;
        }
        Ok(Included(all))
    }

    /// What of a type may be shown.
    fn sight(&self, way: &mut Way, kind: ResourceType) -> Option<Sight> {
        let sight = way.sights.entry(kind.as_str());
        sight
            .or_insert_with(|| self.api.may_search(self.headers, kind))
            .clone()
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
            for (code, kind, id) in references(stored, &self.api.base) {
                let is_asked = is_asked(&of_type, code, kind);
                if is_asked
                    && self.sight(way, kind).is_some()
                    && way.seen.insert((kind, id.clone()))
                {
                    keys.entry(kind).or_default().push(id);
                }
            }
        }
        let mut found = Vec::new();
        for (kind, ids) in keys {
            let Some(sight) = self.sight(way, kind) else {
                continue;
            };
            for chunk in ids.chunks(CHUNK) {
                let filter = Filter::Id(chunk.to_vec());
                let more = self.all_of((kind, &sight), filter).await?;
                way.added.add(&more)?;
                found.extend(more);
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
            let Some(sight) = self.sight(way, source) else {
                continue;
            };
            let targets = edge.iter().filter(|stored| {
                let kind = stored.kind.as_str();
                include.target.is_none_or(|target| target == kind)
            });
            let targets: Vec<&Stored> = targets.collect();
            if !source.is_indexed() {
                let more = self.readings(include, &targets, &sight).await?;
                found.extend(way.unseen(more)?);
                continue;
            }
            let targets: Vec<Match> = targets.into_iter().map(leads_to).collect();
            for chunk in targets.chunks(CHUNK) {
                let any = include.params.iter().map(|param| Filter::Param {
                    param,
                    matches: chunk.to_vec(),
                });
                let filter = Filter::Any(any.collect());
                let more = self.all_of((source, &sight), filter).await?;
                found.extend(way.unseen(more)?);
            }
        }
        Ok(found)
    }

    /// Observations that are shown, by what they refer to: readings by the references that they have, and what clients wrote by
    /// any.
    async fn readings(
        &self,
        include: &Include,
        targets: &[&Stored],
        sight: &Sight,
    ) -> Result<Vec<Stored>, Failure> {
        let ids = |kind: ResourceType| -> Vec<FhirId> {
            let of_kind = targets.iter().filter(|stored| stored.kind == kind);
            of_kind.map(|stored| stored.id.clone()).collect()
        };
        let (patients, devices) = (ids(ResourceType::Patient), ids(ResourceType::Device));
        let (mut found, mut added) = (Vec::new(), Added::default());
        let mut known = HashSet::new();
        if targets.is_empty() {
            return Ok(found);
        }
        for param in &include.params {
            let filter = match param.code {
                "patient" => search::Filter::Patient(patients.clone()),
                "device" => search::Filter::Device(devices.clone()),
                "subject" => search::Filter::Subject {
                    patients: patients.clone(),
                    devices: devices.clone(),
                },
                _ => search::Filter::Id(Vec::new()),
            };
            let mut query = Query {
                filters: vec![filter],
                written: Some(Filter::Param {
                    param,
                    matches: targets.iter().map(|one| leads_to(one)).collect(),
                }),
                count: MAX_PAGE,
                ..Query::all(ResourceType::Observation)
            };
            if let Some(marks) = &self.marks {
                query.within(vec![Commits {
                    after: 0,
                    until: Some(marks.last().copied().unwrap_or(0)),
                }]);
            }
            let mut more = self.shown(query, sight).await?;
            more.retain(|one| known.insert(one.id.to_string()));
            added.add(&more)?;
            found.extend(more);
        }
        Ok(found)
    }

    /// Readings that are shown. What is hidden does not count, unless more than [`MAX_LOOKED_AT`] are looked at.
    async fn shown(&self, mut query: Query, sight: &Sight) -> Result<Vec<Stored>, Failure> {
        let (mut shown, mut looked_at, mut added) = (Vec::new(), 0, Added::default());
        loop {
            let mut page = self.api.store.search(&query).await?;
            looked_at += page.resources.iter().map(Stored::weight).sum::<usize>();
            page.resources.retain(|stored| sight.shows(stored));
            added.add(&page.resources)?;
            shown.extend(page.resources);
            query.after = page.next;
            if query.after.is_none() {
                return Ok(shown);
            }
            if shown.len() >= MAX_INCLUDED || looked_at >= MAX_LOOKED_AT {
                return Err(Failure::too_many_included());
            }
        }
    }

    async fn all_of(
        &self,
        (kind, sight): (ResourceType, &Sight),
        filter: Filter,
    ) -> Result<Vec<Stored>, Failure> {
        let count = u16::try_from(MAX_INCLUDED).unwrap_or(u16::MAX);
        let mut sights = Sights::new();
        if kind.is_indexed() {
            sight.clone().add_to(&mut sights, kind)?;
        }
        let mut find = Find {
            marks: self.marks.clone(),
            sights,
            ..Find::of(kind, filter, count)
        };
        let (mut all, mut looked_at, mut added) = (Vec::new(), 0, Added::default());
        loop {
            let mut page = self.api.store.find(&find).await?;
            looked_at += page.resources.len();
            page.resources.retain(|stored| sight.shows(stored));
            added.add(&page.resources)?;
            all.extend(page.resources);
            find.after = page.next;
            if find.after.is_none() {
                return Ok(all);
            }
            if looked_at >= MAX_INCLUDED {
                return Err(Failure::too_many_included());
            }
        }
    }
}

/// A reference to a resource.
pub fn leads_to(stored: &Stored) -> Match {
    Match::Reference(ReferenceMatch::Local {
        resource_type: Some(stored.kind.to_string()),
        id: stored.id.to_string(),
        version: None,
    })
}

/// What a resource refers to, each with the parameter that finds it.
pub fn references(stored: &Stored, base: &str) -> Vec<(&'static str, ResourceType, String)> {
    let Ok(tree) = Json::parse(&stored.json) else {
        return Vec::new();
    };
    let rows = extract(&tree, base).into_iter();
    let references = rows.filter_map(|row| match row.value {
        Value::Reference {
            resource_type: Some(kind),
            id: Some(id),
            ..
        } => Some((row.param, ResourceType::parse(&kind)?, id)),
        _ => None,
    });
    references.collect()
}

/// Whether one of the includes is of a reference to a type.
fn is_asked(includes: &[&Include], code: &str, kind: ResourceType) -> bool {
    includes.iter().any(|include| {
        let by = include.params.iter().any(|param| param.code == code);
        by && include.target.is_none_or(|target| target == kind.as_str())
    })
}
