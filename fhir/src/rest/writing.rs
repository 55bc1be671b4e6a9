//! Create, update and delete (FHIR R4 http.html#create): judged, written down, and then done.
use super::Reader;
use super::bundled::Names;
use super::routes::InBody;
use super::validating::resource_in;
use super::{
    FhirApi, InUrl, Interaction, access::Asker, access::Intent, bundled, check_format, http_date,
    json, negotiation, negotiation::Return, outcome, outcome::Failure, reading::instants,
    reading::instants_at, sight::Sight, vantage::Instants,
};
use crate::admit::{Holding, is_uuid};
use crate::bases::Bases;
use crate::json::Json;
use crate::store::{
    Change, Draft, Expect, FhirId, Guard, ResourceType, Stored, Transacted, Transaction, Unmet,
    Versions, Written,
};
use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use std::borrow::Cow;
use std::collections::HashMap;

/// What a write brings along.
pub struct Request<'a> {
    pub pairs: InUrl,
    pub headers: &'a HeaderMap,
    pub body: Option<InBody>,
}

impl Request<'_> {
    /// The text of the resource.
    pub fn read(self) -> Result<String, Failure> {
        self.check()?;
        match self.body {
            Some(body) => resource_in(self.headers, body),
            None => Ok(String::new()),
        }
    }

    /// The parameters of a write are those of its form alone.
    pub fn check(&self) -> Result<(), Failure> {
        let pairs = match &self.pairs {
            Ok(pairs) => &pairs.0,
            Err(_) => return Err(Failure::parameters()),
        };
        check_format(self.headers, pairs)?;
        let unknown: Vec<String> = pairs
            .iter()
            .map(|(name, _)| name.clone())
            .filter(|name| !matches!(name.as_str(), "_format" | "_pretty"))
            .collect();
        match unknown.is_empty() {
            true => Ok(()),
            false => Err(Failure::unknown_parameters(&unknown)),
        }
    }
}

/// A UUID of random bytes (RFC 9562 §5.4, version 4). What the mesh draws for facilities has no hyphens.
pub fn drawn(bytes: [u8; 16]) -> Option<FhirId> {
    let mut number = u128::from_be_bytes(bytes);
    number = number & !(0xf << 76) | 0x4 << 76;
    number = number & !(0x3 << 62) | 0x2 << 62;
    let text = format!("{number:032x}");
    let part = |from: usize, to: usize| text.get(from..to);
    let id = [
        part(0, 8)?,
        part(8, 12)?,
        part(12, 16)?,
        part(16, 20)?,
        part(20, 32)?,
    ]
    .join("-");
    id.parse().ok()
}

pub async fn create(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    request: Request<'_>,
) -> Result<Response, Failure> {
    let headers = request.headers;
    if headers.contains_key(super::conditional::IF_NONE_EXIST) {
        return super::conditional::create(api, kind, asker, request).await;
    }
    let intent = || {
        let id = drawn((api.draw)()).ok_or_else(Failure::undrawn)?;
        let draft = asker.draft(api, kind, id, &request.read()?)?.posted();
        Ok((intent_of(&draft), draft))
    };
    let (intent, reader) = (intent(), asker.reader.clone());
    let commit = |draft| put(api, reader, draft, Expect::Absent, headers);
    asker.write(api, intent, commit).await
}

pub async fn update(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    id: Result<&str, Failure>,
    request: Request<'_>,
) -> Result<Response, Failure> {
    let headers = request.headers;
    let intent = async {
        let id: FhirId = id?.parse().map_err(|_| Failure::no_id())?;
        let expect = expected(headers)?;
        let text = request.read()?;
        if id_in(&text).as_deref() != Some(id.as_str()) {
            return Err(Failure::another_id());
        }
        check_id(&asker.sight, api, kind, &id).await?;
        let expect = asker.check_current(api, kind, &id, expect).await?;
        let draft = asker.draft(api, kind, id, &text)?;
        Ok((intent_of(&draft), draft).with(expect))
    };
    let (intent, reader) = (intent.await, asker.reader.clone());
    let commit = |(draft, expect)| put(api, reader, draft, expect, headers);
    asker.write(api, intent, commit).await
}

/// An intent and what it is done with.
trait With<T>: Sized {
    /// Also with that.
    fn with<U>(self, more: U) -> (Intent, (T, U));
}

impl<T> With<T> for (Intent, T) {
    fn with<U>(self, more: U) -> (Intent, (T, U)) {
        (self.0, (self.1, more))
    }
}

pub async fn delete(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    id: Result<&str, Failure>,
    request: Request<'_>,
) -> Result<Response, Failure> {
    let headers = request.headers;
    let intent = async {
        request.check()?;
        let id: FhirId = id?.parse().map_err(|_| Failure::not_found())?;
        let expect = expected(headers)?;
        let expect = asker.check_current(api, kind, &id, expect).await?;
        let intent = Intent {
            request: format!("{kind}/{id}"),
            patient: None,
            resources: 1,
        };
        Ok((intent, Change::Delete { kind, id, expect }))
    };
    let (intent, reader) = (intent.await, asker.reader.clone());
    let commit = |change| remove(api, reader, change, headers);
    asker.write(api, intent, commit).await
}

/// Refuses an id that a client may not choose. What there is under such an id a facility delivered, unless a client stored
/// it when any UUID was taken; who does not see it is not told.
pub async fn check_id(
    sight: &Sight,
    api: &FhirApi,
    kind: ResourceType,
    id: &FhirId,
) -> Result<(), Failure> {
    let holding = (api.holding)();
    if holding.takes_id(kind, id.as_str()) {
        return Ok(());
    }
    let stored = api.store.read(kind, id).await?;
    let shown = stored.filter(|stored| sight.shows(stored));
    let is_clients = shown.as_ref().is_some_and(|one| one.source.is_none());
    // At a facility it may be the facility's own too, which the store refuses.
    let is_kept = holding == Holding::Identified || is_uuid(id.as_str());
    if is_clients && is_kept {
        return Ok(());
    }
    Err(match shown {
        Some(_) => Failure::unmet(Unmet::Delivered),
        None => Failure::id_not_taken(),
    })
}

/// Refuses what a facility delivered, as a write of it would be.
pub async fn check_owner(
    api: &FhirApi,
    reader: &Reader,
    kind: ResourceType,
    id: &FhirId,
) -> Result<(), Failure> {
    // No version has that number, so that nothing is done.
    let never = Change::Delete {
        kind,
        id: id.clone(),
        expect: Expect::Version(0),
    };
    match try_change(api, reader, never, Vec::new()).await? {
        Err(Unmet::Delivered) => Err(Failure::unmet(Unmet::Delivered)),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The id of a resource that is new: its own, where this client may choose it ([`Asker::check_current`] says why some
/// may not), or one that is drawn.
pub async fn new_id(
    sight: &Sight,
    api: &FhirApi,
    kind: ResourceType,
    text: &str,
) -> Result<FhirId, Failure> {
    match id_in(text) {
        None => drawn((api.draw)()).ok_or_else(Failure::undrawn),
        Some(own) => {
            let id: FhirId = own.parse().map_err(|_| Failure::no_id())?;
            check_id(sight, api, kind, &id).await?;
            match sight {
                Sight::Everything => Ok(id),
                Sight::Only(_) => Err(Failure::not_found()),
            }
        }
    }
}

pub fn draft(api: &FhirApi, kind: ResourceType, id: FhirId, text: &str) -> Result<Draft, Failure> {
    let conditions = bundled::conditional_references(text);
    let of_a_type = |reference: &String| {
        let kind = reference.split('?').next().unwrap_or_default();
        ResourceType::parse(kind).is_some()
    };
    if conditions.iter().any(of_a_type) {
        return Err(Failure::condition_outside());
    }
    let holding = (api.holding)();
    let text = with_patient_here(kind, text, api.bases());
    Draft::parse(&holding, kind, id, &text, &api.base).map_err(|unfit| Failure::unfit(&unfit))
}

/// The text of a Consent whose patient it names by a URL of this server, by which clients reach it today: as Patient/id, by
/// which a choice about research is kept wherever it is read ([`crate::consent`]).
fn with_patient_here<'t>(kind: ResourceType, text: &'t str, bases: Bases<'_>) -> Cow<'t, str> {
    let relative = || -> Option<(String, String)> {
        let tree = Json::parse(text).ok()?;
        let patient = tree.object()?.get("patient")?.object()?;
        let absolute = patient.text("reference")?;
        let id: FhirId = bases
            .below(absolute)?
            .strip_prefix("Patient/")?
            .parse()
            .ok()?;
        Some((absolute.to_owned(), format!("Patient/{id}")))
    };
    if kind.as_str() != "Consent" {
        return Cow::Borrowed(text);
    }
    match relative() {
        Some(name) => {
            let all = HashMap::from([name]);
            let names = Names {
                all: &all,
                base: "",
            };
            Cow::Owned(bundled::resolved(text, &names))
        }
        None => Cow::Borrowed(text),
    }
}

pub fn intent_of(draft: &Draft) -> Intent {
    Intent {
        request: format!("{}/{}", draft.kind(), draft.id()),
        patient: draft.patient().cloned(),
        resources: 1,
    }
}

/// The id that a resource says it has.
pub fn id_in(text: &str) -> Option<String> {
    let tree = Json::parse(text).ok()?;
    Some(tree.object()?.text("id")?.to_owned())
}

pub fn expected(headers: &HeaderMap) -> Result<Expect, Failure> {
    if negotiation::wants_some(headers) {
        return Ok(Expect::Present);
    }
    let versions = negotiation::if_match(headers).map_err(|()| Failure::bad_tag())?;
    Ok(match versions.as_slice() {
        [version] => Expect::Version(*version),
        [] if negotiation::wants_none(headers) => Expect::Absent,
        // Of a write, tags there say which version not to replace, which nobody is asked to keep to; and a time in whole
        // seconds tells no versions apart (RFC 9110 §13.1.4: what is not kept to is not done).
        [] if headers.contains_key(header::IF_NONE_MATCH)
            || headers.contains_key(header::IF_UNMODIFIED_SINCE) =>
        {
            return Err(Failure::not_a_write_condition());
        }
        [] => Expect::Anything,
        several => Expect::Among(Versions::of(several).ok_or_else(Failure::bad_tag)?),
    })
}

/// Does one change, if what is expected of searches holds; otherwise why not.
pub async fn try_change(
    api: &FhirApi,
    reader: &Reader,
    change: Change,
    guards: Vec<Guard>,
) -> Result<Result<Written, Unmet>, Failure> {
    let transaction = Transaction {
        author: reader.0.clone(),
        now: (api.now)(),
        changes: vec![change],
        guards,
    };
    match api.store.transact(transaction).await? {
        Transacted::Done(written) => {
            let written = written.first().copied();
            Ok(Ok(written.ok_or_else(Failure::undrawn)?))
        }
        Transacted::Unmet { why, .. } => Ok(Err(why)),
    }
}

async fn change(api: &FhirApi, reader: &Reader, change: Change) -> Result<Written, Failure> {
    let done = try_change(api, reader, change, Vec::new()).await?;
    done.map_err(Failure::unmet)
}

async fn put(
    api: &FhirApi,
    reader: Reader,
    draft: Draft,
    expect: Expect,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let put = Change::Put {
        draft: draft.clone(),
        expect,
    };
    let written = change(api, &reader, put).await?;
    answer_of_write(api, &reader, (&draft, written), headers).await
}

/// What of a type a client may read by its id, if anything.
fn readable(api: &FhirApi, headers: &HeaderMap, kind: ResourceType) -> Option<Sight> {
    let granted = api.authorize.authorize(headers, kind, Interaction::Read);
    let granted = granted.ok()?;
    Sight::of(api, kind, &granted.only)
}

/// Whether a client may read what is stored.
pub fn may_read(api: &FhirApi, headers: &HeaderMap, stored: &Stored) -> bool {
    readable(api, headers, stored.kind).is_some_and(|sight| sight.shows(stored))
}

/// The headers of a patch, as if they asked for nothing in return where the client may not read it.
pub fn unless_unreadable<'a>(
    api: &FhirApi,
    headers: &'a HeaderMap,
    draft: &Draft,
) -> Cow<'a, HeaderMap> {
    let kind = draft.kind();
    let sight = readable(api, headers, kind);
    // It holds what the client did not write.
    if sight.is_some_and(|sight| sight.holds(kind, draft.id(), draft.rows())) {
        return Cow::Borrowed(headers);
    }
    let mut own = headers.clone();
    own.insert("prefer", HeaderValue::from_static("return=minimal"));
    Cow::Owned(own)
}

/// What is stored after a write.
pub fn stored_of(draft: &Draft, written: Written) -> Stored {
    Stored {
        kind: draft.kind(),
        id: draft.id().clone(),
        version: written.version,
        seq: written.seq,
        updated: written.updated,
        source: None,
        json: draft.json().to_owned(),
    }
}

/// The answer to a write.
pub async fn answer_of_write(
    api: &FhirApi,
    reader: &Reader,
    (draft, written): (&Draft, Written),
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let instants = instants_at(api, reader, written.head).await?;
    let stored = stored_of(draft, written);
    answer(api, &instants, &stored, written.existed, headers)
}

/// The answer to a write that was not needed: what it would have made was there.
pub async fn answer_of_existing(
    api: &FhirApi,
    reader: &Reader,
    stored: &Stored,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let instants = instants(api, reader, stored.seq).await?;
    answer(api, &instants, stored, true, headers)
}

fn answer(
    api: &FhirApi,
    instants: &Instants,
    stored: &Stored,
    existed: bool,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let (kind, id, version) = (stored.kind, &stored.id, stored.version);
    let location = format!("{}/{kind}/{id}/_history/{version}", api.base);
    let validators = [
        (header::ETAG, format!("W/\"{version}\"")),
        (header::LAST_MODIFIED, http_date(instants.time_of(stored))),
        (header::LOCATION, location),
    ];
    let status = match existed {
        true => StatusCode::OK,
        false => StatusCode::CREATED,
    };
    Ok(match negotiation::returns(headers) {
        Return::Minimal => (status, validators).into_response(),
        Return::Outcome => (status, validators, json(done("stored"))).into_response(),
        Return::Representation => {
            let body = stored.stamped_text(&instants.of(stored))?;
            (status, validators, json(body)).into_response()
        }
    })
}

/// The answer to a delete. What never was has no version.
pub fn answer_of_delete(written: Written, headers: &HeaderMap) -> Response {
    let tag = [(header::ETAG, format!("W/\"{}\"", written.version))];
    let tag = (written.version > 0).then_some(tag);
    match negotiation::returns(headers) {
        Return::Outcome => (StatusCode::OK, tag, json(done("deleted"))).into_response(),
        Return::Minimal | Return::Representation => {
            (StatusCode::NO_CONTENT, tag, ()).into_response()
        }
    }
}

/// The same whether there was a resource or not (FHIR R4 http.html#delete).
async fn remove(
    api: &FhirApi,
    reader: Reader,
    delete: Change,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let written = change(api, &reader, delete).await?;
    Ok(answer_of_delete(written, headers))
}

fn done(what: &str) -> String {
    outcome::outcome("information", "informational", what).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patient_of_a_consent_is_named_relatively_where_a_url_of_this_server_names_one() {
        let consent = |reference: &str| {
            format!(
                r#"{{"resourceType":"Consent","patient":{{"reference":"{reference}"}},"text":{{"div":"x"}}}}"#
            )
        };
        let kind = ResourceType::parse("Consent").unwrap();
        let here = Bases::of("https://a/fhir");
        for (reference, expected) in [
            ("https://a/fhir/Patient/p-1", "Patient/p-1"),
            ("Patient/p-1", "Patient/p-1"),
            ("https://b/fhir/Patient/p-1", "https://b/fhir/Patient/p-1"),
            // A condition, which nobody looks up here, and a version.
            (
                "https://a/fhir/Patient?identifier=x",
                "https://a/fhir/Patient?identifier=x",
            ),
            (
                "https://a/fhir/Patient/p-1/_history/2",
                "https://a/fhir/Patient/p-1/_history/2",
            ),
        ] {
            let text = consent(reference);
            assert_eq!(with_patient_here(kind, &text, here), consent(expected));
        }
        let text = consent("https://a/fhir/Patient/p-1").replace("Consent", "Flag");
        let flag = ResourceType::parse("Flag").unwrap();
        assert_eq!(with_patient_here(flag, &text, here), text);
    }
}
