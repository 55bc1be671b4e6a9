//! The ways to a search: of a type, of the system, and within a compartment, each by GET and by POST.
use super::super::access::{Asker, Found};
use super::super::{
    Answer, Api, FhirApi, InUrl, Interaction, Pairs, check_format, everything, finding,
    finding::Root, meta, outcome::Failure, searching::search_type, subscribing,
};
use super::{InBody, Posted, Segments, id_of, in_url, is_readable, kind_of};
use crate::query::is_compartment;
use crate::store::{FhirId, ResourceType};
use crate::subscription::SUBSCRIPTION;
use axum::{
    body::Body,
    extract::{Form, FromRequest},
    http::{HeaderMap, Request, StatusCode, header},
};

pub async fn search(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    Posted(body): Posted,
) -> Answer {
    let kind = kind_of(path.at(0)?, Interaction::SearchType)?;
    let asker = api.asker(&headers, kind, Interaction::SearchType)?;
    let found = async {
        let pairs = asked(&headers, pairs, body).await?;
        check_format(&headers, &pairs)?;
        let root = Root::Type(kind);
        match kind.is_indexed() {
            true => finding::find(&api, &root, pairs, &headers, &asker).await,
            false => search_type(&api, (kind, &root), pairs, &headers, &asker).await,
        }
    };
    let found = found.await;
    asker.answer(&api, found).await
}

/// A search of several types, or of all.
pub async fn search_system(
    api: Api,
    pairs: InUrl,
    headers: HeaderMap,
    Posted(body): Posted,
) -> Answer {
    let asker = api.anybody(&headers, ResourceType::ANY, Interaction::SearchSystem)?;
    let found = async {
        let pairs = asked(&headers, pairs, body).await?;
        check_format(&headers, &pairs)?;
        finding::find(&api, &Root::System, pairs, &headers, &asker).await
    };
    let found = found.await;
    asker.answer(&api, found).await
}

/// A search within a compartment, with parameters in a form (FHIR R4 search.html#Compartment).
pub async fn below_by_post(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: InBody,
) -> Answer {
    let of = kind_of(path.at(0)?, Interaction::Read)?;
    if !is_compartment(of.as_str()) {
        return Err(Failure::no_such_path());
    }
    let kind = kind_of(path.at(2)?, Interaction::SearchType)?;
    let asker = api.asker(&headers, kind, Interaction::SearchType)?;
    let found = async {
        let id = id_of(path.at(1)?)?;
        let all = asked(&headers, pairs, Some(body)).await?;
        within(&api, (of, id), kind, &asker, all, &headers).await
    };
    let found = found.await;
    asker.answer(&api, found).await
}

/// What stands below a resource: an operation, or a type within its compartment (FHIR R4 search.html#Compartment).
pub async fn below(api: Api, path: Segments, pairs: InUrl, headers: HeaderMap) -> Answer {
    let (of, inner) = (kind_of(path.at(0)?, Interaction::Read)?, path.at(2)?);
    match inner {
        "$everything" | everything::ALL if has_all(of, inner) => {
            let asker = api.asker(&headers, of, Interaction::SearchType)?;
            let found = async {
                let id = id_of(path.at(1)?)?;
                everything::everything(&api, (of, inner), id, &asker, pairs, &headers).await
            };
            let found = found.await;
            asker.answer(&api, found).await
        }
        "$meta" => {
            let asker = api.asker(&headers, of, Interaction::Read)?;
            let found = async {
                let id = id_of(path.at(1)?)?;
                meta::meta(&api, of, id, &asker, pairs, &headers).await
            };
            let found = found.await;
            asker.answer(&api, found).await
        }
        "$meta-add" | "$meta-delete" => Err(Failure::method().allowing("POST")),
        "$status" | "$events" if of.as_str() == SUBSCRIPTION => {
            subscribing::one(&api, &headers, (path.at(1), inner), in_url(pairs)).await
        }
        _ if !is_compartment(of.as_str()) => Err(Failure::no_such_path()),
        inner => {
            let kind = kind_of(inner, Interaction::SearchType)?;
            let asker = api.asker(&headers, kind, Interaction::SearchType)?;
            let found = async {
                let id = id_of(path.at(1)?)?;
                within(&api, (of, id), kind, &asker, in_url(pairs)?, &headers).await
            };
            let found = found.await;
            asker.answer(&api, found).await
        }
    }
}

/// Whether a type has `$everything`, or a compartment whose types are searched all at once.
fn has_all(of: ResourceType, inner: &str) -> bool {
    match inner == everything::ALL {
        true => is_compartment(of.as_str()),
        false => everything::TYPES.contains(&of.as_str()),
    }
}

/// A search within a compartment.
async fn within(
    api: &FhirApi,
    of: (ResourceType, FhirId),
    kind: ResourceType,
    asker: &Asker,
    pairs: Pairs,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    check_format(headers, &pairs)?;
    let root = Root::Compartment(kind, of);
    match kind.is_indexed() {
        true => finding::find(api, &root, pairs, headers, asker).await,
        false => search_type(api, (kind, &root), pairs, headers, asker).await,
    }
}

/// The parameters of the URL and of the form, if there is one: they count together (FHIR R4 search.html#post).
async fn asked(headers: &HeaderMap, pairs: InUrl, body: Option<InBody>) -> Result<Pairs, Failure> {
    let mut pairs = in_url(pairs)?;
    if let Some(body) = body {
        pairs.extend(in_form(headers, body).await?);
    }
    Ok(pairs)
}

/// The parameters of a form; none of an empty body, whatever it is called (FHIR R4 search.html#post).
async fn in_form(headers: &HeaderMap, body: InBody) -> Result<Pairs, Failure> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
        _ => Failure::parameters(),
    })?;
    if body.is_empty() {
        return Ok(Pairs::new());
    }
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err(Failure::not_a_form());
    }
    if !std::str::from_utf8(&body).is_ok_and(is_readable) {
        return Err(Failure::parameters());
    }
    let form = Request::post("/")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(body))
        .map_err(|_| Failure::parameters())?;
    let form = Form::<Pairs>::from_request(form, &()).await;
    Ok(form.map_err(|_| Failure::parameters())?.0)
}
