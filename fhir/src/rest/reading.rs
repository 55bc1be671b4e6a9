//! One version of one resource.
use super::routes::in_url;
use super::{
    FhirApi, InUrl, Pairs, Reader, access::Asker, access::Found, check_format, finding, http_date,
    json, negotiation, outcome::Failure, sight::Sight, vantage::Instants,
};
use crate::query::{Handling, Summary};
use crate::shape::View;
use crate::store::{FhirId, HistoryQuery, ResourceType, Scope, StoreError, Stored};
use axum::{
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};

pub async fn read(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    id: Result<&str, Failure>,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    let view = view(api, kind, &in_url(pairs)?, headers)?;
    let id: FhirId = id?.parse().map_err(|_| Failure::not_found())?;
    api.caught_up(kind, Some(&id)).await?;
    let (stored, head) = look(api, kind, &id, asker).await?;
    let (found, request) = ((Some(stored), Some(head)), format!("{kind}/{id}"));
    given(api, found, headers, asker, (request, &view)).await
}

/// The part that is asked for: `_summary` and `_elements` are for reads too (FHIR R4 http.html#parameters). What is unknown is
/// refused as it is everywhere.
fn view(
    api: &FhirApi,
    kind: ResourceType,
    pairs: &[(String, String)],
    headers: &HeaderMap,
) -> Result<View, Failure> {
    check_format(headers, pairs)?;
    let is_known = |name: &str| matches!(name, "_summary" | "_elements" | "_format" | "_pretty");
    let names = pairs.iter().map(|(name, _)| name);
    let unknown: Vec<String> = names.filter(|name| !is_known(name)).cloned().collect();
    if !unknown.is_empty() && finding::handling(headers) == Handling::Strict {
        return Err(Failure::unknown_parameters(&unknown));
    }
    let shaping = |(name, _): &&(String, String)| matches!(name.as_str(), "_summary" | "_elements");
    let shaping: Pairs = pairs.iter().filter(shaping).cloned().collect();
    let asked = finding::read(api, Some(kind), &shaping, Handling::Strict)?;
    match asked.summary {
        Some(Summary::Count) => Err(Failure::value("_summary", "a search alone is counted")),
        summary => Ok(View::of(summary, &asked.elements)),
    }
}

/// What is there, if it may be seen; what is hidden is not there, and never was.
pub async fn current(
    api: &FhirApi,
    kind: ResourceType,
    id: &FhirId,
    asker: &Asker,
) -> Result<Stored, Failure> {
    Ok(look(api, kind, id, asker).await?.0)
}

/// The same, and the last commit at that moment.
async fn look(
    api: &FhirApi,
    kind: ResourceType,
    id: &FhirId,
    asker: &Asker,
) -> Result<(Stored, i64), Failure> {
    let (found, head) = api.store.look(kind, id).await?;
    match found {
        Some(stored) if asker.sight.shows(&stored) => Ok((stored, head)),
        Some(_) => Err(Failure::not_found()),
        None if asker.sight == Sight::Everything && was_deleted(api, kind, id).await? => {
            Err(Failure::gone())
        }
        None => Err(Failure::not_found()),
    }
}

/// Whether the last version says that the resource was deleted.
async fn was_deleted(api: &FhirApi, kind: ResourceType, id: &FhirId) -> Result<bool, StoreError> {
    let last = HistoryQuery {
        scope: Scope::Instance(kind, id.clone()),
        commits: None,
        updated: None,
        there: None,
        by_id: false,
        after: None,
        count: 1,
    };
    let page = api.store.history(&last).await?;
    Ok(page.versions.first().is_some_and(Stored::is_deleted))
}

pub async fn vread(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    (id, version): (Result<&str, Failure>, Result<&str, Failure>),
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    let view = view(api, kind, &in_url(pairs)?, headers)?;
    let id: FhirId = id?.parse().map_err(|_| Failure::not_found())?;
    let version = version_of(version?).ok_or_else(Failure::not_found)?;
    api.caught_up(kind, Some(&id)).await?;
    let stored = api.store.vread(kind, &id, version).await?;
    let stored = stored.filter(|stored| asker.sight.shows(stored));
    if stored.as_ref().is_some_and(Stored::is_deleted) {
        return Err(Failure::gone());
    }
    let request = format!("{kind}/{id}/_history/{version}");
    given(api, (stored, None), headers, asker, (request, &view)).await
}

/// The version of that name: `01` and `+1` name none.
fn version_of(text: &str) -> Option<u32> {
    let version: u32 = text.parse().ok()?;
    (version.to_string() == text).then_some(version)
}

/// The answer with a version that was found, if one was; and the last commit at that moment, where that is known.
async fn given(
    api: &FhirApi,
    (stored, head): (Option<Stored>, Option<i64>),
    headers: &HeaderMap,
    asker: &Asker,
    (request, view): (String, &View),
) -> Result<Found, Failure> {
    let stored = stored.ok_or_else(Failure::not_found)?;
    let patient = (stored.kind == ResourceType::Patient).then(|| stored.id.clone());
    let tag = format!("W/\"{}\"", stored.version);
    // A logical instant is too coarse, in whole seconds, to say that nothing was changed.
    let unmodified = (api.true_times)() && negotiation::is_unmodified(headers, stored.updated);
    if unmodified || negotiation::has_already(headers, stored.version) {
        let response = (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
        return Ok(Found::new(response, 0, request).of(patient));
    }
    let instants = match head {
        Some(head) => instants_at(api, &asker.reader, head).await?,
        None => instants(api, &asker.reader, stored.seq).await?,
    };
    let validators = [
        (header::ETAG, tag),
        (header::LAST_MODIFIED, http_date(instants.time_of(&stored))),
    ];
    let body = match view {
        View::Whole => stored.stamped_text(&instants.of(&stored))?,
        part => finding::shown(&stored, &instants, part)?.get().to_owned(),
    };
    let response = (validators, json(body)).into_response();
    Ok(Found::new(response, 1, request).of(patient))
}

/// The instants of a reader who is shown everything up to a commit, or to the last one.
pub async fn instants(api: &FhirApi, reader: &Reader, seq: i64) -> Result<Instants, StoreError> {
    if (api.true_times)() {
        return Ok(Instants::True);
    }
    let head = api.store.head().await?.max(seq);
    instants_at(api, reader, head).await
}

/// The instants of a reader who is shown everything up to a commit that is, or just was, the last one. No other may be
/// given: a mark says nothing but when its reader asked.
pub async fn instants_at(
    api: &FhirApi,
    reader: &Reader,
    head: i64,
) -> Result<Instants, StoreError> {
    if (api.true_times)() {
        return Ok(Instants::True);
    }
    Ok(Instants::Logical(api.vantages.reach(reader, head).await?))
}
