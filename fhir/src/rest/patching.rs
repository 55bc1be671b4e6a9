//! `PATCH` (FHIR R4 http.html#patch): JSON Patch or FHIRPath Patch of the version that is there. What comes out is judged
//! as an update is, and written only if nobody wrote in between.
use super::access::Asker;
use super::conditional::{Condition, MAX_TRIES, Matching, note};
use super::routes::{InBody, MAX_RESOURCE_BYTES, in_url};
use super::validating::resource_in;
use super::writing::{self, Request, expected};
use super::{Answer, FHIR_JSON, FhirApi, Reader, check_format, outcome::Failure, reading};
use crate::json::Json;
use crate::patch::{fhirpath_patch, fhirpath_patch_looks, json_patch, json_patch_looks};
use crate::store::{Change, Expect, FhirId, Guard, ResourceType, Stored, Unmet};
use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, engine::general_purpose::STANDARD};

/// `Content-Type` of a JSON Patch (RFC 6902).
pub const JSON_PATCH: &str = "application/json-patch+json";

/// What is patched.
pub enum Target<'a> {
    /// The resource of that id.
    Id(Result<&'a str, Failure>),
    /// What the parameters of the request find.
    Found,
}

/// A patch as it came.
pub enum Patch {
    Json(String),
    Fhirpath(String),
}

impl Patch {
    /// Of an entry of a Bundle: Parameters, or a JSON Patch in a Binary (FHIR R4 http.html#patch).
    pub fn in_entry(resource: &str) -> Result<Self, Failure> {
        let tree = Json::parse(resource);
        let tree = tree.map_err(|error| Failure::no_resource(&error.to_string()))?;
        let object = tree.object().ok_or_else(Failure::not_a_patch)?;
        if object.text("resourceType") != Some("Binary") {
            return Ok(Self::Fhirpath(resource.to_owned()));
        }
        let is_patch = object
            .text("contentType")
            .is_some_and(|kind| kind.eq_ignore_ascii_case(JSON_PATCH));
        let data = object.text("data").filter(|_| is_patch);
        let data = data.ok_or_else(Failure::not_a_patch)?;
        let bytes = STANDARD.decode(data);
        let text = bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text =
            text.ok_or_else(|| Failure::no_resource("Binary.data is no base64 of a text"))?;
        Ok(Self::Json(text))
    }

    /// As the body of a request, and its `Content-Type`.
    pub fn into_body(self) -> (&'static str, String) {
        match self {
            Self::Json(text) => (JSON_PATCH, text),
            Self::Fhirpath(text) => (FHIR_JSON, text),
        }
    }

    fn read(headers: &HeaderMap, body: InBody) -> Result<Self, Failure> {
        let kind = headers.get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(JSON_PATCH) {
            let text = resource_in(headers, body);
            return match text {
                Ok(text) => Ok(Self::Fhirpath(text)),
                Err(failure) if failure.is(StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
                    Err(Failure::not_a_patch())
                }
                Err(failure) => Err(failure),
            };
        }
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
            _ => Failure::no_resource("the body cannot be read"),
        })?;
        let text = String::from_utf8(body.into());
        let text = text.map_err(|_| Failure::no_resource("the body is not UTF-8"))?;
        Ok(Self::Json(text))
    }

    /// What it makes of what is stored, as the client reads it: with its version and its time, so that a patch may test them
    /// and has a `meta` to add to (RFC 6902 §1: it is of the document that is there). Who may not read that (SMART App Launch
    /// 2.2, "Scopes": `u` is not `r`) asks nothing of it, and is not told why it does not fit: by either one could find out
    /// every value.
    pub async fn of_stored(
        &self,
        api: &FhirApi,
        (headers, reader): (&HeaderMap, &Reader),
        stored: &Stored,
    ) -> Result<String, Failure> {
        let instants = reading::instants(api, reader, stored.seq).await?;
        let text = stored.stamped_text(&instants.of(stored))?;
        if writing::may_read(api, headers, stored) {
            return self.of(&text);
        }
        let looks = match self {
            Self::Json(patch) => json_patch_looks(patch),
            Self::Fhirpath(patch) => fhirpath_patch_looks(patch),
        };
        if looks {
            return Err(Failure::patch_looks());
        }
        self.of(&text).map_err(|_| Failure::patch_unseen())
    }

    /// What it makes of a resource.
    fn of(&self, resource: &str) -> Result<String, Failure> {
        let patched = match self {
            Self::Json(patch) => json_patch(resource, patch),
            Self::Fhirpath(patch) => fhirpath_patch(resource, patch),
        };
        let text = patched.map_err(|error| Failure::patch(&error))?;
        match text.len() > MAX_RESOURCE_BYTES {
            true => Err(Failure::too_long()),
            false => Ok(text),
        }
    }
}

pub async fn patch(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    target: Target<'_>,
    request: Request<'_>,
) -> Answer {
    let done = patched(api, kind, &asker, target, request).await;
    if done.is_err() {
        asker.failed(api);
    }
    done
}

/// How the resource is found.
enum Way {
    Id(FhirId),
    Condition(Condition),
}

impl Way {
    /// What is there now, if it may be seen, and what is expected of a search.
    async fn look(
        &self,
        api: &FhirApi,
        kind: ResourceType,
        asker: &Asker,
    ) -> Result<(Stored, Option<Guard>), Failure> {
        match self {
            Self::Id(id) => Ok((reading::current(api, kind, id, asker).await?, None)),
            Self::Condition(condition) => match condition.look(api).await? {
                Matching::None => Err(Failure::not_found()),
                Matching::Several => Err(Failure::several()),
                Matching::One(stored) => {
                    let guard = condition.guard(0, Some(stored.id.clone()));
                    Ok((*stored, Some(guard)))
                }
            },
        }
    }
}

async fn patched(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    target: Target<'_>,
    request: Request<'_>,
) -> Answer {
    let (headers, reader) = (request.headers, &asker.reader);
    let way = match target {
        Target::Id(id) => {
            request.check()?;
            Way::Id(id?.parse().map_err(|_| Failure::not_found())?)
        }
        Target::Found => {
            let pairs = in_url(request.pairs)?;
            check_format(headers, &pairs)?;
            Way::Condition(Condition::read(api, headers, kind, &pairs, reader).await?)
        }
    };
    let body = request.body.ok_or_else(Failure::not_a_patch)?;
    let patch = Patch::read(headers, body)?;
    let asked = expected(headers)?;
    for _ in 0..MAX_TRIES {
        let (stored, guard) = way.look(api, kind, asker).await?;
        if !asker.sight.shows(&stored) {
            return Err(Failure::not_found());
        }
        writing::check_id(&asker.sight, api, kind, &stored.id).await?;
        if asked == Expect::Absent {
            return Err(Failure::unmet(Unmet::Exists));
        }
        if asked.excludes(stored.version) {
            return Err(Failure::unmet(Unmet::Version));
        }
        let text = patch.of_stored(api, (headers, reader), &stored).await?;
        let draft = asker.draft(api, kind, stored.id, &text)?;
        note(api, asker, &kind, draft.id(), Some(&draft)).await?;
        let put = Change::Put {
            draft: draft.clone(),
            expect: Expect::Version(stored.version),
        };
        let guards = guard.into_iter().collect();
        match writing::try_change(api, reader, put, guards).await? {
            Ok(written) => {
                let shown = writing::unless_unreadable(api, headers, &draft);
                let done = (&draft, written);
                return writing::answer_of_write(api, reader, done, &shown).await;
            }
            // Somebody wrote in between: the patch is applied to that.
            Err(Unmet::Search | Unmet::Version) => {}
            Err(why) => return Err(Failure::unmet(why)),
        }
    }
    Err(Failure::contended())
}
