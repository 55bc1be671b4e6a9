//! Operations by POST, with Parameters (FHIR R4 operations.html#executing): as by GET, with what stands in the body too.
use super::super::bulk::in_parameters;
use super::super::{
    Answer, Api, InUrl, Interaction, meta, meta::Way, outcome::Failure, validating,
    validating::resource_in,
};
use super::{InBody, Segments, below, in_url, kind_of, offered, read};
use crate::store::ResourceType;
use axum::{extract::Query, http::HeaderMap};

/// `POST [type]/$lastn`.
pub async fn of_type(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::SearchType)?;
    match path.at(1)? {
        "$lastn" if kind == ResourceType::Observation => {
            let pairs = asked(&api, &headers, pairs, body)?;
            read(api, path, pairs, headers).await
        }
        _ => Err(Failure::method().allowing(of_a_resource(kind))),
    }
}

/// What may be done at `[type]/[id]`, where a POST may not.
fn of_a_resource(kind: ResourceType) -> &'static str {
    match offered(kind).contains(&Interaction::Update) {
        true => "GET, HEAD, PUT, PATCH, DELETE",
        false => "GET, HEAD",
    }
}

/// `POST [type]/[id]/$everything`, `$meta`, `$meta-add`, `$meta-delete` and `$validate`.
pub async fn of_one(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    match path.at(2)? {
        "$everything" | "$meta" => {
            let pairs = asked(&api, &headers, pairs, body)?;
            below(api, path, pairs, headers).await
        }
        "$meta-add" => changed(&api, Way::Add, path, pairs, &headers, body).await,
        "$meta-delete" => changed(&api, Way::Delete, path, pairs, &headers, body).await,
        "$validate" => validating::validate_one(api, path, pairs, headers, body).await,
        _ => Err(Failure::method().allowing("GET, HEAD")),
    }
}

/// `meta` of a resource is changed, which is an update of it.
async fn changed(
    api: &Api,
    way: Way,
    path: Segments,
    pairs: InUrl,
    headers: &HeaderMap,
    body: InBody,
) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::Update)?;
    let asker = api.asker(headers, kind, Interaction::Update)?;
    meta::change(api, asker, (kind, path.at(1), way), pairs, headers, body).await
}

/// The parameters of the URL, and those of the body. Who has no token is told so first.
fn asked(api: &Api, headers: &HeaderMap, pairs: InUrl, body: InBody) -> Result<InUrl, Failure> {
    let known = api.authorize.known(headers);
    known.map_err(|denied| Failure::denied(&denied))?;
    let mut pairs = in_url(pairs)?;
    if !matches!(&body, Ok(body) if body.is_empty()) {
        pairs.extend(in_parameters(&resource_in(headers, body)?)?);
    }
    Ok(Ok(Query(pairs)))
}
