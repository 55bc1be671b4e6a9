//! A search by the standard parameters of R4 (FHIR R4 search.html), of every type but that of readings: asked of the
//! store, and answered with the instants that its reader is told.
//!
//! Nothing is seen that the token does not cover: who looks through a chain, or back from what refers, needs to search
//! the types on the way; what is included is left out unless its type may be read, and has a row of its own in the log.
use super::including::{self, Included};
use super::vantage::Instants;
use super::{
    FhirApi, Interaction, Pairs, access, access::Access, access::Asker, access::Unwritten, bundle,
    json, negotiation, outcome::Failure, place,
};
use crate::audit;
use crate::axis::{self, Axis};
use crate::query::{
    self, DateMatch, Filter, Handling, Match, Problem, ReferenceMatch, Search, Summary, Total,
};
use crate::search::DEFAULT_PAGE;
use crate::shape::{self, View};
use crate::store::{
    FhirId, Find, FindPage, Kind, MAX_PAGE, ResourceType, Sights, StoreError, Stored,
};
use axum::{http::HeaderMap, response::IntoResponse};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeSet;

/// What is searched.
pub enum Root {
    /// A type.
    Type(ResourceType),
    /// A type, within the compartment of a resource.
    Compartment(ResourceType, (ResourceType, FhirId)),
    /// Every type, or those that `_type` names.
    System,
}

impl Root {
    /// What follows the base in a link, without the query.
    pub fn path(&self) -> String {
        match self {
            Self::Type(kind) => kind.to_string(),
            Self::Compartment(kind, (of, id)) => format!("{of}/{id}/{kind}"),
            Self::System => String::new(),
        }
    }

    const fn kind(&self) -> Option<ResourceType> {
        match self {
            Self::Type(kind) | Self::Compartment(kind, _) => Some(*kind),
            Self::System => None,
        }
    }
}

/// To ignore a filter shows what nobody asked for, other patients among them: only who asks for that is shown it.
pub fn handling(headers: &HeaderMap) -> Handling {
    let lenient = negotiation::prefers(headers, "lenient");
    match lenient && !negotiation::prefers(headers, "strict") {
        true => Handling::Lenient,
        false => Handling::Strict,
    }
}

pub async fn find(
    api: &FhirApi,
    root: &Root,
    pairs: Pairs,
    headers: &HeaderMap,
    asker: &Asker,
) -> Result<access::Found, Failure> {
    let mut search = read(api, root.kind(), &pairs, handling(headers))?;
    let mut filter = Filter::All(std::mem::take(&mut search.filters));
    let patient = the_patient(root, &search, &filter);
    if let Root::Compartment(kind, (of, id)) = root {
        let within = query::compartment(of.as_str(), id.as_str(), kind.as_str());
        filter = Filter::All(vec![within.ok_or_else(Failure::no_such_path)?, filter]);
    }
    let mut sights = Sights::new();
    match root.kind() {
        Some(kind) => asker.sight.clone().add_to(&mut sights, kind)?,
        None => {
            search.types = searched(api, headers, (&search, &pairs), (&mut filter, &mut sights))?
        }
    }
    for name in &search.types {
        let kind = ResourceType::parse(name).ok_or_else(Failure::no_such_path)?;
        may_look(api, headers, kind, &mut filter, &mut sights)?;
    }
    api.caught_up_for(headers, &search, &filter).await?;
    let instants = instants(api, &asker.reader, &mut filter).await?;
    let found = Find {
        types: search.types.clone(),
        filter,
        sort: search.sort.clone(),
        marks: marks(&instants),
        sights,
        after: None,
        count: count_of(&search),
    };
    let alone = search.count == Some(0) || search.summary == Some(Summary::Count);
    let is_everything = matches!(&found.filter, Filter::All(all) if all.is_empty());
    let is_all = |kind: &ResourceType| kind.is_delivered() && found.sights.is_empty();
    let delivered = root.kind().filter(is_all);
    let total = match alone || search.total != Total::None {
        _ if is_everything && delivered.is_some() => {
            let counts = api.store.counts().await?;
            delivered.map(|kind| counts.of(kind))
        }
        true => Some(api.store.count(&found).await?),
        false => None,
    };
    let own = bundle::with_query(&root.path(), search.used.iter());
    let (page, next) = match alone {
        true => (Vec::new(), None),
        false => page(api, found, &own, search.cursor.as_deref()).await?,
    };
    let including = including::Asked {
        api,
        headers,
        search: &search,
        marks: marks(&instants),
    };
    let included = including.of(&page).await?;
    let request = link(&root.path(), &search, search.cursor.as_deref());
    note(api, asker, &included, &request).await?;
    let links = Links {
        own: request.clone(),
        next: next.map(|next| link(&root.path(), &search, Some(&next))),
    };
    let body = body(api, &search, &instants, (&page, &included), total, &links)?;
    let given = u32::try_from(page.len()).unwrap_or(u32::MAX);
    let mut names: Vec<String> = search.used.iter().map(|(name, _)| name.clone()).collect();
    names.extend(search.cursor.is_some().then(|| "_cursor".to_owned()));
    let found = access::Found::new(json(body).into_response(), given, request);
    Ok(found.by(names).of(patient))
}

/// Reads the parameters of a search, as they hold of the server's own AuditEvents too.
pub fn read(
    api: &FhirApi,
    kind: Option<ResourceType>,
    pairs: &[(String, String)],
    handling: Handling,
) -> Result<Search, Failure> {
    let context = query::Context {
        now: (api.now)().0,
        base: api.bases(),
        handling,
    };
    let search = query::parse(kind.map(ResourceType::as_str), pairs, context);
    let mut search = search.map_err(|problem| Failure::problem(&problem))?;
    let asked = (search.filters.as_mut_slice(), search.sort.as_mut_slice());
    audit::understand(asked, kind, !(api.true_times)());
    Ok(search)
}

/// The types that a search of the system is of: those that are named, each of which the token has to let its bearer
/// search; or else all that it does, without the server's own AuditEvents ([`audit::left_out`]).
fn searched(
    api: &FhirApi,
    headers: &HeaderMap,
    (search, pairs): (&Search, &[(String, String)]),
    (filter, sights): (&mut Filter, &mut Sights),
) -> Result<Vec<&'static str>, Failure> {
    let is_named = pairs.iter().any(|(name, _)| name == "_type");
    if let Filter::All(all) = filter {
        all.extend(audit::left_out(is_named));
    }
    let mut types = Vec::new();
    for name in &search.types {
        let kind = ResourceType::parse(name).ok_or_else(Failure::no_such_path)?;
        let sight = match is_named {
            true => Some(api.asker(headers, kind, Interaction::SearchType)?.sight),
            false => api.may_search(headers, kind),
        };
        let Some(sight) = sight else {
            continue;
        };
        match sight.add_to(sights, kind) {
            Ok(()) => types.push(*name),
            Err(refused) if is_named => return Err(refused),
            Err(_) => {}
        }
    }
    match types.is_empty() {
        true => Err(Failure::nothing_to_search()),
        false => Ok(types),
    }
}

/// Refuses a search that looks at types which the token does not let its bearer search, or at what has no index; and adds
/// what of them it covers. Conditions on Observations become those of the columns of readings and of the rows of the others.
pub fn may_look(
    api: &FhirApi,
    headers: &HeaderMap,
    kind: ResourceType,
    filter: &mut Filter,
    sights: &mut Sights,
) -> Result<(), Failure> {
    let mut types = BTreeSet::new();
    looks_at(filter, kind.as_str(), &mut types)?;
    for name in types {
        let kind = ResourceType::parse(name).ok_or_else(Failure::no_such_path)?;
        let asker = api.asker(headers, kind, Interaction::SearchType)?;
        asker.sight.add_to(sights, kind)?;
    }
    Ok(())
}

/// A filter of a type as the columns of readings answer it, where the type has such.
///
/// # Errors
/// As [`may_look`]; nothing of other types is looked at.
pub fn by_columns(kind: ResourceType, filter: &mut Filter) -> Result<(), Failure> {
    looks_at(filter, kind.as_str(), &mut BTreeSet::new())
}

/// The types that a filter of a type looks at beside it. Of an Observation it holds by the columns of a reading, or by the
/// rows of what a client wrote: no reading has rows.
fn looks_at(
    filter: &mut Filter,
    kind: &str,
    types: &mut BTreeSet<&'static str>,
) -> Result<(), Failure> {
    // What is asked of several types is looked at for each of them.
    if filter.is_by_columns() {
        return Ok(());
    }
    match filter {
        Filter::Param { param, matches } if has_columns(kind) => {
            let column = query::as_column(param.code, matches);
            let column = column.ok_or_else(|| no_index(kind, param.code))?;
            if !query::finds_nothing(&column) {
                *filter = Filter::Any(vec![Filter::Column(column), filter.clone()]);
            }
            Ok(())
        }
        Filter::Param { .. } => Ok(()),
        Filter::Missing { param, .. } => is_indexed(kind, param.code),
        Filter::Chain { param, targets } => {
            is_indexed(kind, param.code)?;
            for (target, condition) in targets {
                types.insert(*target);
                looks_at(condition, target, types)?;
            }
            Ok(())
        }
        Filter::Has {
            source,
            reference,
            inner: condition,
        } => {
            types.insert(*source);
            looks_at(condition, source, types)?;
            let of_readings = matches!(reference.code, "patient" | "subject" | "device");
            if has_columns(source) && of_readings {
                let reading = Filter::HasReading {
                    reference,
                    inner: condition.clone(),
                };
                *filter = Filter::Any(vec![reading, filter.clone()]);
            }
            Ok(())
        }
        Filter::HasReading { .. } => {
            types.insert(ResourceType::Observation.as_str());
            Ok(())
        }
        Filter::List(_) => {
            types.insert("List");
            Ok(())
        }
        Filter::Not(condition) => looks_at(condition, kind, types),
        Filter::Any(all) | Filter::All(all) => all
            .iter_mut()
            .try_for_each(|one| looks_at(one, kind, types)),
        Filter::Id(_)
        | Filter::LastUpdated(_)
        | Filter::Commits(_)
        | Filter::Column(_)
        | Filter::Own => Ok(()),
    }
}

/// Readings have columns instead of rows of an index.
fn has_columns(kind: &str) -> bool {
    ResourceType::parse(kind).is_some_and(|kind| !kind.is_indexed())
}

/// A condition that no index and no column answers would find nothing, which is no answer.
fn is_indexed(kind: &str, code: &str) -> Result<(), Failure> {
    match has_columns(kind) && !query::is_of_clients(code) {
        false => Ok(()),
        true => Err(no_index(kind, code)),
    }
}

fn no_index(kind: &str, code: &str) -> Failure {
    Failure::problem(&Problem::unsupported(
        code,
        format!(
            "{kind} is searched by this at {kind} alone: from elsewhere, among other types and by conditions of writes it is \
             looked at by _id, _lastUpdated, code, category, date, device, identifier, patient, subject, and by what no \
             reading has, such as encounter, performer and component-code"
        ),
    ))
}

/// Where the reader stands. On a logical axis `_lastUpdated` becomes a filter of commits, wherever it stands.
pub async fn instants(
    api: &FhirApi,
    reader: &super::Reader,
    filter: &mut Filter,
) -> Result<Instants, Failure> {
    if (api.true_times)() {
        return Ok(Instants::True);
    }
    let head = api.store.head().await?;
    let axis = api.vantages.reach(reader, head).await?;
    by_commits(filter, &axis, head)?;
    Ok(Instants::Logical(axis))
}

pub fn by_commits(filter: &mut Filter, axis: &Axis, head: i64) -> Result<(), Failure> {
    match filter {
        Filter::LastUpdated(spans) => {
            let intervals: Vec<_> = spans.iter().flat_map(DateMatch::intervals).collect();
            if intervals.iter().any(|one| axis::is_ahead(one, head)) {
                return Err(Failure::ahead());
            }
            *filter = Filter::Commits(intervals.iter().map(|one| axis.commits(one)).collect());
            Ok(())
        }
        Filter::Chain { targets, .. } => targets
            .iter_mut()
            .try_for_each(|(_, inner)| by_commits(inner, axis, head)),
        Filter::Has { inner, .. } | Filter::HasReading { inner, .. } | Filter::Not(inner) => {
            by_commits(inner, axis, head)
        }
        Filter::Any(all) | Filter::All(all) => all
            .iter_mut()
            .try_for_each(|one| by_commits(one, axis, head)),
        Filter::Param { .. }
        | Filter::Missing { .. }
        | Filter::Id(_)
        | Filter::List(_)
        | Filter::Commits(_)
        | Filter::Column(_)
        | Filter::Own => Ok(()),
    }
}

pub fn marks(instants: &Instants) -> Option<Vec<i64>> {
    match instants {
        Instants::True => None,
        Instants::Logical(axis) => Some(axis.marks().to_vec()),
    }
}

fn count_of(search: &Search) -> u16 {
    let asked = search.count.unwrap_or(u32::from(DEFAULT_PAGE));
    u16::try_from(asked).unwrap_or(MAX_PAGE).min(MAX_PAGE)
}

/// The one patient whose data alone may be in the answer.
fn the_patient(root: &Root, search: &Search, filter: &Filter) -> Option<FhirId> {
    if !search.includes.is_empty() || !search.revincludes.is_empty() {
        return None;
    }
    if let Root::Compartment(_, (ResourceType::Patient, id)) = root {
        return Some(id.clone());
    }
    let Filter::All(all) = filter else {
        return None;
    };
    let is_patient = root.kind() == Some(ResourceType::Patient);
    all.iter().find_map(|one| match one {
        Filter::Id(ids) if is_patient => match ids.as_slice() {
            [id] => id.parse().ok(),
            _ => None,
        },
        Filter::Param { param, matches } if matches!(param.code, "patient" | "subject") => {
            match matches.as_slice() {
                [
                    Match::Reference(ReferenceMatch::Local {
                        resource_type: Some(kind),
                        id,
                        ..
                    }),
                ] if kind == "Patient" => id.parse().ok(),
                _ => None,
            }
        }
        _ => None,
    })
}

/// The page that begins at a cursor, and the cursor of the next one.
async fn page(
    api: &FhirApi,
    mut find: Find,
    own: &str,
    cursor: Option<&str>,
) -> Result<(Vec<Stored>, Option<String>), Failure> {
    if let Some(cursor) = cursor {
        let after = place::open(&api.seal, own, cursor);
        let after = after.filter(|place| place.keys.len() == find.keys().count());
        find.after = Some(after.ok_or_else(Failure::cursor)?);
    }
    let FindPage { resources, next } = api.store.find(&find).await?;
    let next = next.map(|next| place::seal(&api.seal, own, &next));
    Ok((resources, next))
}

fn link(path: &str, search: &Search, cursor: Option<&str>) -> String {
    let cursor = cursor.map(|cursor| ("_cursor".to_owned(), cursor.to_owned()));
    bundle::with_query(path, search.used.iter().chain(cursor.iter()))
}

/// What was included has a row for each type, before it is given.
pub async fn note(
    api: &FhirApi,
    asker: &Asker,
    included: &Included,
    request: &str,
) -> Result<(), Failure> {
    let kinds: BTreeSet<ResourceType> = included.0.iter().map(|stored| stored.kind).collect();
    for kind in kinds {
        let of_kind = included.0.iter().filter(|stored| stored.kind == kind);
        let row = Access {
            reader: asker.reader.clone(),
            kind,
            interaction: Interaction::SearchType,
            parameters: vec!["_include".to_owned()],
            request: request.to_owned(),
            patient: None,
            resources: u32::try_from(of_kind.count()).unwrap_or(u32::MAX),
        };
        let written = api.access.given(row).await;
        written.map_err(|Unwritten| Failure::unaudited())?;
    }
    Ok(())
}

/// What follows the base in the links of a page.
pub struct Links {
    pub own: String,
    pub next: Option<String>,
}

pub fn body(
    api: &FhirApi,
    search: &Search,
    instants: &Instants,
    (page, included): (&[Stored], &Included),
    total: Option<u64>,
    links: &Links,
) -> Result<String, StoreError> {
    let view = View::of(search.summary, &search.elements);
    let mut answer = bundle::Page::new(instants.last(), total);
    // A search of the system has no path of its own.
    let of_base = |rest: &str| match rest.is_empty() || rest.starts_with('?') {
        true => format!("{}{rest}", api.base),
        false => format!("{}/{rest}", api.base),
    };
    answer.link("self", of_base(&links.own));
    if let Some(next) = &links.next {
        answer.link("next", of_base(next));
    }
    let all = page.iter().map(|stored| (stored, "match"));
    let all = all.chain(included.0.iter().map(|stored| (stored, "include")));
    for (stored, mode) in all {
        let url = format!("{}/{}/{}", api.base, stored.kind, stored.id);
        answer.entry(Some(url), shown(stored, instants, &view)?, mode);
    }
    if !search.dropped.is_empty() {
        let dropped = search.dropped.iter().map(|one| one.param.as_str());
        let list: Vec<&str> = dropped.collect();
        let text = format!("ignored search parameters: {}", list.join(", "));
        let told = super::outcome::outcome("warning", "not-supported", &text);
        let told = to_raw_value(&told).map_err(|_| StoreError::new(Kind::Internal, "bundle"))?;
        answer.entry(None, told, "outcome");
    }
    answer.text()
}

/// The part of a resource that is asked for.
pub fn shown(
    stored: &Stored,
    instants: &Instants,
    view: &View,
) -> Result<Box<RawValue>, StoreError> {
    let whole = stored.stamped(&instants.of(stored))?;
    if *view == View::Whole {
        return Ok(whole);
    }
    let part = shape::show(whole.get(), view).into_owned();
    RawValue::from_string(part).map_err(|_| StoreError::new(Kind::Corrupt, "shape"))
}
