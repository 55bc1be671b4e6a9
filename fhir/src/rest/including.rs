//! What is added to a page: what its resources refer to, and what refers to them (FHIR R4 search.html#include).
use super::{FhirApi, outcome::Failure, sight::Sight};
use crate::axis::Commits;
use crate::json::Json;
use crate::query::{
    Filter, Include, Kind, Match, Param, ReferenceMatch, Search, UriMatch, Value, extract, param,
};
use crate::r4::R4;
use crate::search::{self, Query};
use crate::store::{FhirId, Find, MAX_PAGE, ResourceType, Sights, Stored, bytes_of};
use axum::http::HeaderMap;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
/// A canonical URL, and the version that it names.
type Named = (String, Option<String>);

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
        let mut urls: BTreeMap<ResourceType, BTreeSet<Named>> = BTreeMap::new();
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
            for (code, url, version) in canonicals(stored, &of_type, &self.api.base) {
                for kind in with_url(&of_type, code) {
                    let known = urls.entry(kind).or_default();
                    known.insert((url.clone(), version.clone()));
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
        for (kind, urls) in urls {
            let urls: Vec<Named> = urls.into_iter().collect();
            found.extend(self.by_url(way, kind, &urls).await?);
        }
        Ok(found)
    }

    /// What canonical URLs lead to: whatever has one of them, and the version where it names one.
    async fn by_url(
        &self,
        way: &mut Way,
        kind: ResourceType,
        urls: &[Named],
    ) -> Result<Vec<Stored>, Failure> {
        let mut found = Vec::new();
        let (Some(sight), Some(param)) = (self.sight(way, kind), url_of(kind.as_str())) else {
            return Ok(found);
        };
        for chunk in urls.chunks(CHUNK) {
            let matches = chunk.iter();
            let matches = matches.map(|(url, _)| Match::Uri(UriMatch::Is(url.clone())));
            let filter = Filter::Param {
                param,
                matches: matches.collect(),
            };
            let mut more = self.all_of((kind, &sight), filter).await?;
            more.retain(|stored| {
                named(stored).is_some_and(|own| chunk.iter().any(|one| fits(&own, one)))
            });
            found.extend(way.unseen(more)?);
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
            let by_url = include.params.iter().any(|param| param.is_canonical());
            let urls = targets.iter().filter(|_| by_url);
            let urls: Vec<Named> = urls.filter_map(|one| named(one)).collect();
            let mut matches: Vec<Match> = targets.iter().map(|one| leads_to(one)).collect();
            matches.extend(urls.iter().map(by_any_version));
            for chunk in matches.chunks(CHUNK) {
                let any = include.params.iter().map(|param| Filter::Param {
                    param,
                    matches: chunk.to_vec(),
                });
                let filter = Filter::Any(any.collect());
                let mut more = self.all_of((source, &sight), filter).await?;
                more.retain(|stored| !by_url || self.leads_on(include, stored, (&targets, &urls)));
                found.extend(way.unseen(more)?);
            }
        }
        Ok(found)
    }

    /// Whether what refers to one of the resources by its URL names its version, or none.
    fn leads_on(
        &self,
        include: &Include,
        stored: &Stored,
        (targets, urls): (&[&Stored], &[Named]),
    ) -> bool {
        let by_id = references(stored, &self.api.base);
        let by_url = canonicals(stored, &[include], &self.api.base);
        let is_target = |kind: ResourceType, id: &str| {
            let mut targets = targets.iter();
            targets.any(|target| target.kind == kind && target.id.as_str() == id)
        };
        let is_asked = |code: &str| include.params.iter().any(|param| param.code == code);
        let by_id = by_id
            .iter()
            .any(|(code, kind, id)| is_asked(code) && is_target(*kind, id));
        by_id
            || by_url.into_iter().any(|(_, url, version)| {
                let one = (url, version);
                urls.iter().any(|own| fits(own, &one))
            })
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

/// The canonical URLs of a resource that includes are of, each with the parameter that finds it and the version that it names.
fn canonicals(
    stored: &Stored,
    includes: &[&Include],
    base: &str,
) -> Vec<(&'static str, String, Option<String>)> {
    let params = includes.iter().flat_map(|include| include.params.iter());
    let codes: HashSet<&str> = params
        .filter(|param| param.is_canonical())
        .map(|param| param.code)
        .collect();
    if codes.is_empty() {
        return Vec::new();
    }
    let Ok(tree) = Json::parse(&stored.json) else {
        return Vec::new();
    };
    let rows = extract(&tree, base).into_iter();
    let urls = rows.filter_map(|row| match row.value {
        Value::Reference {
            url: Some(url),
            version,
            ..
        } if codes.contains(row.param) => Some((row.param, url, version)),
        _ => None,
    });
    urls.collect()
}

/// The parameter that finds a type by its canonical URL, where it has one.
fn url_of(kind: &str) -> Option<&'static Param> {
    param(kind, "url").filter(|param| param.kind == Kind::Uri)
}

/// The types with a canonical URL that a parameter of the includes may lead to.
fn with_url(includes: &[&Include], code: &str) -> BTreeSet<ResourceType> {
    let mut kinds = BTreeSet::new();
    for include in includes {
        for param in include.params.iter().filter(|param| param.code == code) {
            let of_param = match param.targets.is_empty() {
                true => R4.resources(),
                false => param.targets.as_slice(),
            };
            let asked = of_param.iter().filter(|kind| {
                include.target.is_none_or(|target| target == **kind) && url_of(kind).is_some()
            });
            kinds.extend(asked.filter_map(|kind| ResourceType::parse(kind)));
        }
    }
    kinds
}

/// The canonical URL of a resource, and its version.
fn named(stored: &Stored) -> Option<Named> {
    let tree = Json::parse(&stored.json).ok()?;
    let object = tree.object()?;
    let version = object.text("version").map(str::to_owned);
    Some((object.text("url")?.to_owned(), version))
}

/// Whether a URL is a resource's own, and its version where it names one.
fn fits((own, own_version): &Named, (url, version): &Named) -> bool {
    own == url && (version.is_none() || version == own_version)
}

/// What refers to a URL, with whichever version.
fn by_any_version((url, _): &Named) -> Match {
    Match::Reference(ReferenceMatch::Url {
        url: url.clone(),
        version: None,
    })
}

/// Whether one of the includes is of a reference to a type.
fn is_asked(includes: &[&Include], code: &str, kind: ResourceType) -> bool {
    includes.iter().any(|include| {
        let by = include.params.iter().any(|param| param.code == code);
        by && include.target.is_none_or(|target| target == kind.as_str())
    })
}
