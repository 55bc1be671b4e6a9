//! A search of Observations, readings and what clients wrote: read, asked of the store, and answered with the instants that
//! its reader is told.
use super::finding::{self, Links, Root};
use super::readings::{self, Asked};
use super::{
    FhirApi, Pairs, access, access::Asker, bundle, including, json, outcome::Failure, place,
    vantage::Instants, vantage::Reader,
};
use crate::axis::{self, Axis};
use crate::query::{self, Summary};
use crate::search::{
    self, CONTROLS, Context, Cursor, Filter, Position, Query, Search, Sort, SortKey,
};
use crate::store::{FhirId, Page, ResourceType, StoreError, Stored, full_at};
use axum::{http::HeaderMap, response::IntoResponse};

/// A page of matches and where the next one begins.
pub struct Found {
    pub resources: Vec<Stored>,
    pub next: Option<Cursor>,
}

/// A search of the type, or of it within a compartment.
pub async fn search_type(
    api: &FhirApi,
    (kind, root): (ResourceType, &Root),
    pairs: Pairs,
    headers: &HeaderMap,
    asker: &Asker,
) -> Result<access::Found, Failure> {
    let reader = &asker.reader;
    let (mut search, more) = read(api, (kind, root), pairs, headers)?;
    let asked = Asked {
        api,
        headers,
        reader,
    };
    let conditions = more.filters.iter().chain(asker.sight.filter());
    let rest = asked
        .split(&mut search, conditions.cloned().collect())
        .await?;
    // What its conditions lead to was waited for before it was looked up.
    let nothing = query::Filter::All(Vec::new());
    api.caught_up_for(headers, &more, &nothing).await?;
    let mut instants = place(api, &mut search, reader).await?;
    let alone = search.query.count == 0 || more.summary == Some(Summary::Count);
    search.total |= alone;
    let total = match &rest {
        Some(rest) if search.total => Some(readings::total(api, &search, &instants, rest).await?),
        Some(_) => None,
        None => total_of(api, &search).await?,
    };
    let found = match &rest {
        _ if alone => Found {
            resources: Vec::new(),
            next: None,
        },
        Some(rest) => readings::page(api, &search, &instants, rest).await?,
        None => find(api, &search, &instants).await?,
    };
    if let Instants::Logical(axis) = &mut instants
        && let Some(last) = found.resources.iter().map(|stored| stored.seq).max()
        && last > axis.last()
    {
        *axis = api.vantages.reach(reader, last).await?;
    }
    let including = including::Asked {
        api,
        headers,
        search: &more,
        marks: finding::marks(&instants),
    };
    let included = including.of(&found.resources).await?;
    let request = bundle::request(&search, search.cursor.as_ref(), &api.seal);
    finding::note(api, asker, &included, &request).await?;
    let links = Links {
        own: request.clone(),
        next: found
            .next
            .as_ref()
            .map(|next| bundle::request(&search, Some(next), &api.seal)),
    };
    let shown = (found.resources.as_slice(), &included);
    let body = finding::body(api, &more, &instants, shown, total, &links)?;
    let given = u32::try_from(found.resources.len()).unwrap_or(u32::MAX);
    let mut names: Vec<String> = search.used.iter().map(|(name, _)| name.clone()).collect();
    names.extend(search.cursor.is_some().then(|| "_cursor".to_owned()));
    let found = access::Found::new(json(body).into_response(), given, request);
    let is_alone = more.includes.is_empty() && more.revincludes.is_empty();
    let patient = the_patient(&search.query).filter(|_| is_alone).cloned();
    Ok(found.by(names).of(patient))
}

/// What is in a compartment alone, by the parameters that put an Observation there (FHIR R4 CompartmentDefinition.resource):
/// what clients wrote by all of them, and readings by their columns. The subject of a reading is its patient, or else the
/// device that measured, and nothing else leads from it.
fn in_compartment(search: &mut Search, of: ResourceType, id: &FhirId) {
    let query = &mut search.query;
    query.filters.push(match of {
        ResourceType::Patient => Filter::Patient(vec![id.clone()]),
        ResourceType::Device => Filter::Device(vec![id.clone()]),
        _ => Filter::Id(Vec::new()),
    });
    let within = query::compartment(of.as_str(), id.as_str(), query.kind.as_str());
    // Where an Observation is in no such compartment, none is found.
    let within = within.unwrap_or_else(|| query::Filter::Any(Vec::new()));
    let written = query.written.take();
    query.written = Some(query::Filter::All(
        written.into_iter().chain([within]).collect(),
    ));
    // What one patient performed may be of another one: the order of commits is nobody's to know.
    query.sort.ids_asked = true;
}

/// What the columns answer, and the rest.
fn read(
    api: &FhirApi,
    (kind, root): (ResourceType, &Root),
    pairs: Pairs,
    headers: &HeaderMap,
) -> Result<(Search, query::Search), Failure> {
    let (own, others): (Pairs, Pairs) = pairs
        .into_iter()
        .partition(|(name, _)| readings::has_column(name));
    let context = Context {
        now: (api.now)(),
        base: api.bases(),
    };
    // A place is read last: it is good for this very search alone.
    let (given, own): (Pairs, Pairs) = own.into_iter().partition(|(name, _)| name == "_cursor");
    let mut search = search::parse(kind, &own, context).map_err(|error| Failure::search(&error))?;
    search.query.written = Some(written(api, &own)?);
    search.path = root.path();
    if let Root::Compartment(_, (of, id)) = root {
        in_compartment(&mut search, *of, id);
    }
    let more = finding::read(api, Some(kind), &others, finding::handling(headers))?;
    search.used.extend(more.used.iter().cloned());
    for (_, given) in given {
        let own = bundle::request(&search, None, &api.seal);
        let text = place::proved(&api.seal, &own, &given).ok_or_else(Failure::cursor)?;
        let cursor = Cursor::of_text(&text);
        let cursor = cursor.filter(|cursor| cursor.key() == search.query.sort.key);
        search.cursor = Some(cursor.ok_or_else(Failure::cursor)?);
    }
    Ok((search, more))
}

/// What conditions that columns answer say of what clients wrote.
pub fn written(api: &FhirApi, pairs: &[(String, String)]) -> Result<query::Filter, Failure> {
    let is_condition = |(name, _): &&(String, String)| !CONTROLS.contains(&name.as_str());
    let pairs: Pairs = pairs.iter().filter(is_condition).cloned().collect();
    let kind = Some(ResourceType::Observation);
    let search = finding::read(api, kind, &pairs, query::Handling::Strict)?;
    Ok(query::Filter::All(search.filters))
}

/// The one patient whose data alone may be in the answer.
fn the_patient(query: &Query) -> Option<&FhirId> {
    query.filters.iter().find_map(|filter| match filter {
        Filter::Patient(ids) => only(ids),
        Filter::Id(ids) if query.kind == ResourceType::Patient => only(ids),
        _ => None,
    })
}

fn only(ids: &[FhirId]) -> Option<&FhirId> {
    match ids {
        [id] => Some(id),
        _ => None,
    }
}

/// Where the reader stands. On a logical axis the filter `_lastUpdated` becomes one of commits.
async fn place(api: &FhirApi, search: &mut Search, reader: &Reader) -> Result<Instants, Failure> {
    if (api.true_times)() {
        return Ok(Instants::True);
    }
    let head = api.store.head().await?;
    let axis = api.vantages.reach(reader, head).await?;
    for filter in &mut search.query.filters {
        if let Filter::Updated(intervals) = filter {
            if intervals.iter().any(|one| axis::is_ahead(one, head)) {
                return Err(Failure::ahead());
            }
            let commits = intervals.iter().map(|one| axis.commits(one)).collect();
            *filter = Filter::Commits(commits);
        }
    }
    if let Some(written) = &mut search.query.written {
        finding::by_commits(written, &axis, head)?;
    }
    Ok(Instants::Logical(axis))
}

/// Whether the order is that of the reader's marks. Within one patient the order of commits tells nothing of a shift;
/// across patients it does.
fn goes_by_marks(query: &Query) -> bool {
    query.sort.key == SortKey::LastUpdated && (one_patient(query).is_none() || query.sort.ids_asked)
}

fn sealed_for(query: &Query) -> String {
    format!("{}?{}", query.kind, one_patient(query).unwrap_or_default())
}

/// The place behind a resource of a search.
pub fn cursor_at(api: &FhirApi, search: &Search, instants: &Instants, stored: &Stored) -> Cursor {
    let (query, id) = (&search.query, stored.id.clone());
    let position = match (query.sort.key, instants) {
        (SortKey::LastUpdated, Instants::Logical(axis)) if goes_by_marks(query) => {
            return Cursor::Mark(axis.mark_of(stored.seq), id);
        }
        (SortKey::LastUpdated, _) => Position::LastUpdated(stored.seq),
        (SortKey::Id, _) => Position::Id(id),
        (SortKey::Date, _) => Position::Date(stored.listed_at(), id),
    };
    Cursor::of(position, &api.seal, &sealed_for(query))
}

pub async fn find(api: &FhirApi, search: &Search, instants: &Instants) -> Result<Found, Failure> {
    match instants {
        Instants::Logical(axis) if goes_by_marks(&search.query) => {
            by_marks(api, search, axis).await
        }
        Instants::Logical(_) | Instants::True => {
            let sealed_for = sealed_for(&search.query);
            let after = match &search.cursor {
                None => None,
                Some(cursor) => {
                    let position = cursor.position(&api.seal, &sealed_for);
                    Some(position.ok_or_else(Failure::cursor)?)
                }
            };
            let query = Query {
                after,
                ..search.query.clone()
            };
            let Page { resources, next } = api.store.search(&query).await?;
            let next = next.map(|next| Cursor::of(next, &api.seal, &sealed_for));
            Ok(Found { resources, next })
        }
    }
}

/// The one patient whose resources alone are asked for.
fn one_patient(query: &Query) -> Option<&str> {
    query.filters.iter().find_map(|filter| match filter {
        Filter::Patient(ids) if ids.len() == 1 => ids.first().map(|id| id.as_str()),
        _ => None,
    })
}

/// By mark, and within a mark by id: an order that says nothing but what the instants say.
async fn by_marks(api: &FhirApi, search: &Search, axis: &Axis) -> Result<Found, Failure> {
    let (from, mut after) = match &search.cursor {
        None => (None, None),
        Some(Cursor::Mark(mark, id)) => (Some(*mark), Some(Position::Id(id.clone()))),
        Some(_) => return Err(Failure::cursor()),
    };
    let sort = search.query.sort;
    let steps = axis
        .steps(from, sort.descending)
        .ok_or_else(Failure::cursor)?;
    let mut resources: Vec<Stored> = Vec::new();
    for step in steps
        .iter()
        .filter(|step| is_asked_for(&search.query, step))
    {
        let mut query = Query {
            sort: Sort::by(SortKey::Id, sort.ids_descending),
            after: after.take(),
            count: search.query.count - u16::try_from(resources.len()).unwrap_or(u16::MAX),
            ..search.query.clone()
        };
        query.within(vec![*step]);
        let page = api.store.search(&query).await?;
        resources.extend(page.resources);
        let end = full_at(&resources);
        resources.truncate(end.unwrap_or(usize::MAX));
        let full = end.is_some() || resources.len() >= usize::from(search.query.count);
        if full || page.next.is_some() {
            let last = resources.last().map(|stored| stored.id.clone());
            let at = (step.until).zip(last);
            let next = at.map(|(mark, id)| Cursor::Mark(mark, id));
            return Ok(Found { resources, next });
        }
    }
    Ok(Found {
        resources,
        next: None,
    })
}

/// Whether commits of a step may match, so that marks which the client has done with cost no query.
fn is_asked_for(query: &Query, step: &axis::Commits) -> bool {
    query.filters.iter().all(|filter| match filter {
        Filter::Commits(asked) => asked.iter().any(|asked| {
            let begins = asked.until.is_none_or(|until| step.after < until);
            begins && step.until.is_none_or(|until| asked.after < until)
        }),
        _ => true,
    })
}

/// The total where it is asked for or costs nothing.
async fn total_of(api: &FhirApi, search: &Search) -> Result<Option<u64>, StoreError> {
    let query = &search.query;
    if query.filters.is_empty() && query.kind.is_delivered() {
        return Ok(Some(api.store.counts().await?.of(query.kind)));
    }
    if search.total {
        return Ok(Some(api.store.total(query).await?));
    }
    Ok(None)
}
