//! `$status` and `$events` of subscriptions (Subscriptions R5 Backport 1.1), by GET and POST; and the stream of one.
use super::asked::{number, only, own};
use super::notifying::{Rights, Telling, parameters, reason_in, tell};
use super::{Subscriptions, stream, subscription};
use crate::json::{Json, with};
use crate::rest::access::{Asker, Found};
use crate::rest::routes::{Posted, Segments, in_url};
use crate::rest::validating::resource_in;
use crate::rest::{
    Answer, Api, FhirApi, InUrl, Interaction, Pairs, check_format, json, outcome::Failure, reading,
};
use crate::store::FhirId;
use crate::subscription::{Content, SUBSCRIPTION, Spec, Standing, Status};
use axum::{
    extract::DefaultBodyLimit,
    http::HeaderMap,
    response::IntoResponse,
    routing::{MethodRouter, get},
};
use serde_json::json as value;
use std::sync::Arc;

/// Events in one answer of `$events`; whoever wants more asks again, from the number after the last one.
pub const MAX_EVENTS: u16 = 100;

/// The routes that no table of interactions has. What they are for is said in the CapabilityStatement.
pub fn routes() -> Vec<(String, MethodRouter<Arc<FhirApi>>)> {
    let limit = || DefaultBodyLimit::max(crate::rest::MAX_FORM_BYTES);
    let mut all = Vec::new();
    for mark in ["$", "%24"] {
        let statuses = get(of_type).post(of_type).layer(limit());
        all.push((format!("/{SUBSCRIPTION}/{mark}status"), statuses));
        for name in ["status", "events"] {
            let operation = get(of_one).post(of_one).layer(limit());
            all.push((format!("/{SUBSCRIPTION}/{{id}}/{mark}{name}"), operation));
        }
        let stream = get(of_one);
        all.push((format!("/{SUBSCRIPTION}/{{id}}/{mark}sse"), stream));
    }
    all
}

async fn of_type(api: Api, pairs: InUrl, headers: HeaderMap, body: Posted) -> Answer {
    let pairs = given(&headers, pairs, body);
    statuses(&api, &headers, pairs).await
}

async fn of_one(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: Posted,
) -> Answer {
    let pairs = given(&headers, pairs, body);
    one(&api, &headers, (path.at(1), path.at(2)?), pairs).await
}

/// The parameters of the URL, and those of Parameters in the body.
fn given(headers: &HeaderMap, pairs: InUrl, Posted(body): Posted) -> Result<Pairs, Failure> {
    let mut pairs = in_url(pairs)?;
    let Some(body) = body.filter(|body| !matches!(body, Ok(body) if body.is_empty())) else {
        return Ok(pairs);
    };
    let text = resource_in(headers, body)?;
    let tree = Json::parse(&text).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let object = tree.object();
    let object = object.filter(|object| object.text("resourceType") == Some("Parameters"));
    let object = object.ok_or_else(|| Failure::no_resource("Parameters are expected"))?;
    for one in object.each("parameter").filter_map(Json::object) {
        let name = one.text("name").ok_or_else(Failure::parameters)?;
        let values = ["valueString", "valueId", "valueCode", "valueInteger"];
        let value = values.iter().find_map(|value| one.get(value));
        let value = match value {
            Some(Json::Text(text)) => text.to_string(),
            Some(Json::Number(number)) => (*number).to_owned(),
            _ => return Err(Failure::parameters()),
        };
        pairs.push((name.to_owned(), value));
    }
    Ok(pairs)
}

/// How every subscription stands, or those with some ids or statuses.
pub async fn statuses(api: &FhirApi, headers: &HeaderMap, pairs: Result<Pairs, Failure>) -> Answer {
    let asker = api.asker(headers, subscription(), Interaction::SearchType)?;
    let found = async {
        stand_here(api)?;
        let pairs = pairs?;
        check_format(headers, &pairs)?;
        only(&pairs, &["id", "status"])?;
        let values = |name: &str| {
            let own = pairs.iter().filter(move |(of, _)| of == name);
            let each = own.flat_map(|(_, value)| value.split(','));
            each.map(str::to_owned).collect::<Vec<String>>()
        };
        let (ids, statuses) = (values("id"), values("status"));
        let mut entries = Vec::new();
        for standing in standings(api).await? {
            let Some(id) = &standing.id else { continue };
            let is_asked = (ids.is_empty() || ids.iter().any(|one| one == id.as_str()))
                && (statuses.is_empty()
                    || statuses.iter().any(|one| one == standing.status.as_str()));
            if is_asked && let Some(status) = shown(api, &asker, &standing).await? {
                entries.push(value!({"resource": status, "search": {"mode": "match"}}));
            }
        }
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let bundle = with(
            value!({"resourceType": "Bundle", "type": "searchset", "total": count}),
            [("entry", (!entries.is_empty()).then(|| entries.into()))],
        );
        let request = format!("{SUBSCRIPTION}/$status");
        Ok(Found::new(
            json(bundle.to_string()).into_response(),
            count,
            request,
        ))
    };
    let found = found.await;
    asker.answer(api, found).await
}

async fn standings(api: &FhirApi) -> Result<Vec<Standing>, Failure> {
    if api.subscriptions.is_none() {
        return Err(Failure::no_such_path());
    }
    Ok(api.store.event_store().subscriptions().await?)
}

/// How a subscription stands, if the token covers it.
async fn shown(
    api: &FhirApi,
    asker: &Asker,
    standing: &Standing,
) -> Result<Option<serde_json::Value>, Failure> {
    let Some(id) = &standing.id else {
        return Ok(None);
    };
    let stored = api.store.read(subscription(), id).await?;
    let stored = stored.filter(|stored| asker.sight.shows(stored));
    let read = stored.zip(Spec::of_text(&standing.spec));
    Ok(read.map(|(stored, spec)| {
        let reason = reason_in(&stored).filter(|_| standing.status == Status::Error);
        let of = (standing.status, "query-status");
        parameters(api, standing, &spec, of, reason)
    }))
}

/// An operation of one subscription.
pub async fn one(
    api: &Api,
    headers: &HeaderMap,
    (id, name): (Result<&str, Failure>, &str),
    pairs: Result<Pairs, Failure>,
) -> Answer {
    let asker = api.asker(headers, subscription(), Interaction::Read)?;
    let found = async {
        stand_here(api)?;
        let pairs = pairs?;
        check_format_of(name, headers, &pairs)?;
        let id: FhirId = id?.parse().map_err(|_| Failure::not_found())?;
        let _there = reading::current(api, subscription(), &id, &asker).await?;
        let mut all = standings(api).await?.into_iter();
        let standing = all.find(|one| one.id.as_ref() == Some(&id));
        let standing = standing.ok_or_else(Failure::not_found)?;
        match name {
            "$status" => {
                only(&pairs, &[])?;
                let status = shown(api, &asker, &standing).await?;
                let status = status.ok_or_else(Failure::not_found)?;
                let bundle = value!({
                    "resourceType": "Bundle", "type": "searchset", "total": 1,
                    "entry": [{"resource": status, "search": {"mode": "match"}}],
                });
                let request = format!("{SUBSCRIPTION}/{id}/$status");
                Ok(Found::new(
                    json(bundle.to_string()).into_response(),
                    1,
                    request,
                ))
            }
            "$events" => events(api, headers, &asker, &standing, &pairs).await,
            "$sse" => stream::stream(api, headers, &asker, standing, &pairs),
            _ => Err(Failure::no_such_path()),
        }
    };
    let found = found.await;
    asker.answer(api, found).await
}

/// Refuses where another node has the numbers of events.
fn stand_here(api: &FhirApi) -> Result<(), Failure> {
    match &api.subscriptions {
        Some(Subscriptions {
            numbering: None, ..
        }) => Err(Failure::elsewhere()),
        _ => Ok(()),
    }
}

/// A stream is no JSON.
fn check_format_of(
    name: &str,
    headers: &HeaderMap,
    pairs: &[(String, String)],
) -> Result<(), Failure> {
    match name {
        "$sse" => Ok(()),
        _ => check_format(headers, pairs),
    }
}

/// Events that were, in their order.
async fn events(
    api: &FhirApi,
    headers: &HeaderMap,
    asker: &Asker,
    standing: &Standing,
    pairs: &[(String, String)],
) -> Result<Found, Failure> {
    only(
        pairs,
        &["eventsSinceNumber", "eventsUntilNumber", "content"],
    )?;
    let spec = own(asker, standing)?;
    let from = number(pairs, "eventsSinceNumber")?.unwrap_or(1).max(1);
    let until = number(pairs, "eventsUntilNumber")?.unwrap_or(u64::MAX);
    let content = pairs.iter().find(|(name, _)| name == "content");
    let content = match content {
        None => spec.content,
        Some((_, code)) => Content::parse(code).ok_or_else(|| {
            Failure::value("content", "empty, id-only or full-resource is expected")
        })?,
    };
    let store = api.store.event_store();
    let found = store.events(standing.key, from, until, MAX_EVENTS).await?;
    let first = found.first().map(|event| event.number);
    let is_gone = match first {
        Some(first) => first > from && number(pairs, "eventsSinceNumber")?.is_some(),
        None => from <= standing.number.min(until),
    };
    if is_gone {
        return Err(Failure::events_gone());
    }
    let rights = |kind| api.may_search(headers, kind);
    let rights: &Rights<'_> = &rights;
    let telling = Telling {
        standing,
        spec: &spec,
        status: standing.status,
        sort: "query-event",
        events: &found,
        content,
    };
    let told = tell(api, &telling, rights).await?;
    for row in told.rows {
        let written = api.access.given(row).await;
        written.map_err(|_| Failure::unaudited())?;
    }
    let id = standing.id.as_ref().map_or("", |id| id.as_str());
    let request = format!("{SUBSCRIPTION}/{id}/$events?eventsSinceNumber={from}");
    let count = u32::try_from(told.events).unwrap_or(u32::MAX);
    Ok(Found::new(json(told.text).into_response(), count, request))
}
