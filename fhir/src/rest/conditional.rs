//! Writes of whatever a search finds (FHIR R4 http.html#ccreate, #cond-update, #cdelete): what is found is looked up,
//! and the write is done only if the store, within the transaction, finds the same. So of many clients that send the same
//! condition at once one creates, and the others find what it created.
use super::access::{Asker, Intent};
use super::finding;
use super::routes::{in_url, is_readable};
use super::sight::{Sight, is_plain};
use super::validating::resource_in;
use super::writing::{self, Request, drawn, expected, id_in, new_id};
use super::{Answer, FhirApi, Interaction, Pairs, Reader, check_format, outcome::Failure};
use crate::audit;
use crate::query::{self, Filter, Found, Handling, IndexRow};
use crate::store::{
    Change, Draft, Expect, FhirId, Find, Guard, ResourceType, Sights, Stored, Unmet,
};
use axum::{
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};

/// The header of a conditional create.
pub const IF_NONE_EXIST: &str = "if-none-exist";
/// Times that a condition is looked up again since the store found another than was looked up before.
pub const MAX_TRIES: usize = 32;

/// A condition on the resources of a type.
pub struct Condition {
    kind: ResourceType,
    filter: Filter,
    sights: Sights,
    /// The condition as it was asked, where a resource alone tells whether it holds of it.
    plain: Option<Filter>,
    /// What of the type may be found.
    sight: Sight,
}

/// What a condition finds.
pub enum Matching {
    None,
    One(Box<Stored>),
    Several,
}

impl Condition {
    /// Reads a condition. Who writes by it learns whether something matches, and so needs to search the type.
    pub async fn read(
        api: &FhirApi,
        headers: &HeaderMap,
        kind: ResourceType,
        pairs: &[(String, String)],
        reader: &Reader,
    ) -> Result<Self, Failure> {
        let is_condition = |(name, _): &&(String, String)| !is_format(name);
        let pairs: Pairs = pairs.iter().filter(is_condition).cloned().collect();
        if pairs.is_empty() {
            return Err(Failure::no_condition());
        }
        let mut sights = Sights::new();
        let asker = api.asker(headers, kind, Interaction::SearchType)?;
        let sight = asker.sight.clone();
        asker.sight.add_to(&mut sights, kind)?;
        let mut filter = conditions(api, kind, &pairs)?;
        let plain = is_plain(&filter).then(|| filter.clone());
        finding::may_look(api, headers, kind, &mut filter, &mut sights)?;
        finding::instants(api, reader, &mut filter).await?;
        Ok(Self {
            kind,
            filter,
            sights,
            plain,
            sight,
        })
    }

    /// Whether a resource alone tells whether it holds of it.
    pub const fn is_plain(&self) -> bool {
        self.plain.is_some()
    }

    /// Whether it will find a resource of its type that is about to be written and is found by these rows; not where others
    /// have to be looked at.
    pub fn will_find(&self, id: &FhirId, rows: &[IndexRow]) -> bool {
        let found = Found {
            resource_type: self.kind.as_str(),
            id: id.as_str(),
            last_updated: 0,
            rows,
        };
        let holds = |filter| query::holds(filter, &found, &[]);
        self.plain.as_ref().is_some_and(holds) && self.sight.holds(self.kind, id, rows)
    }

    /// What it finds now.
    pub async fn look(&self, api: &FhirApi) -> Result<Matching, Failure> {
        let find = Find {
            sights: self.sights.clone(),
            ..Find::of(self.kind, self.filter.clone(), 2)
        };
        let mut found = api.store.find(&find).await?.resources;
        Ok(match (found.pop(), found.is_empty()) {
            (None, _) => Matching::None,
            (Some(one), true) => Matching::One(Box::new(one)),
            (Some(_), false) => Matching::Several,
        })
    }

    /// That it finds this one, or none, when the change at a position is done.
    pub fn guard(&self, of: usize, found: Option<FhirId>) -> Guard {
        Guard {
            of,
            kind: self.kind,
            filter: self.filter.clone(),
            sights: self.sights.clone(),
            found,
        }
    }
}

fn is_format(name: &str) -> bool {
    matches!(name, "_format" | "_pretty")
}

/// The pairs of a condition that stands in a header or an entry.
pub fn pairs_of(text: &str) -> Result<Pairs, Failure> {
    let query = text.strip_prefix('?').unwrap_or(text);
    if !is_readable(query) {
        return Err(Failure::parameters());
    }
    let uri: Uri = format!("http://local/?{query}")
        .parse()
        .map_err(|_| Failure::parameters())?;
    let pairs = axum::extract::Query::<Pairs>::try_from_uri(&uri);
    Ok(pairs.map_err(|_| Failure::parameters())?.0)
}

/// Reads conditions on a type, of which none is ignored, as they hold of the server's own AuditEvents too.
pub fn conditions(
    api: &FhirApi,
    kind: ResourceType,
    pairs: &[(String, String)],
) -> Result<Filter, Failure> {
    let context = query::Context {
        now: (api.now)().0,
        base: api.bases(),
        handling: Handling::Strict,
    };
    let filter = query::parse_conditions(kind.as_str(), pairs, context);
    let mut filter = filter.map_err(|problem| Failure::problem(&problem))?;
    let own = std::slice::from_mut(&mut filter);
    audit::understand((own, &mut []), Some(kind), !(api.true_times)());
    Ok(filter)
}

/// The condition of a header.
fn header_of(headers: &HeaderMap) -> Result<Pairs, Failure> {
    let mut values = headers.get_all(IF_NONE_EXIST).iter();
    let (first, more) = (values.next(), values.next());
    let text = first.filter(|_| more.is_none());
    let text = text.and_then(|value| value.to_str().ok());
    pairs_of(text.ok_or_else(Failure::parameters)?)
}

pub async fn create(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    request: Request<'_>,
) -> Answer {
    let done = create_if_none(api, kind, &asker, request).await;
    ended(api, asker, done)
}

/// A write that was not done is counted.
fn ended(api: &FhirApi, asker: Asker, done: Answer) -> Answer {
    if done.is_err() {
        asker.failed(api);
    }
    done
}

async fn create_if_none(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    request: Request<'_>,
) -> Answer {
    let (headers, reader) = (request.headers, &asker.reader);
    let pairs = header_of(headers)?;
    let text = request.read()?;
    let condition = Condition::read(api, headers, kind, &pairs, reader).await?;
    let id = drawn((api.draw)()).ok_or_else(Failure::undrawn)?;
    let draft = asker.draft(api, kind, id, &text)?.posted();
    for _ in 0..MAX_TRIES {
        match condition.look(api).await? {
            Matching::Several => return Err(Failure::several()),
            Matching::One(stored) => {
                note(api, asker, &stored.kind, &stored.id, None).await?;
                return writing::answer_of_existing(api, reader, &stored, headers).await;
            }
            Matching::None => {}
        }
        let (wanted, guard) = ((&draft, Expect::Absent), condition.guard(0, None));
        if let Some(answer) = put(api, asker, wanted, guard, headers).await? {
            return Ok(answer);
        }
    }
    Err(Failure::contended())
}

/// Puts a draft where the condition finds, as it is stored, what was found before. None where it does not, and is to be
/// looked up again.
async fn put(
    api: &FhirApi,
    asker: &Asker,
    (draft, expect): (&Draft, Expect),
    guard: Guard,
    headers: &HeaderMap,
) -> Result<Option<Response>, Failure> {
    note(api, asker, &draft.kind(), draft.id(), Some(draft)).await?;
    let put = Change::Put {
        draft: draft.clone(),
        expect,
    };
    let reader = &asker.reader;
    match writing::try_change(api, reader, put, vec![guard]).await? {
        Ok(written) => {
            let answer = writing::answer_of_write(api, reader, (draft, written), headers);
            answer.await.map(Some)
        }
        Err(Unmet::Search) => Ok(None),
        Err(why) => Err(Failure::unmet(why)),
    }
}

/// The row of what is about to be written, or given.
pub async fn note(
    api: &FhirApi,
    asker: &Asker,
    kind: &ResourceType,
    id: &FhirId,
    draft: Option<&Draft>,
) -> Result<(), Failure> {
    let intent = Intent {
        request: format!("{kind}/{id}"),
        patient: draft.and_then(|draft| draft.patient().cloned()),
        resources: 1,
    };
    asker.note(api, intent).await
}

pub async fn update(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    request: Request<'_>,
) -> Answer {
    let done = update_what_is_found(api, kind, &asker, request).await;
    ended(api, asker, done)
}

async fn update_what_is_found(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    request: Request<'_>,
) -> Answer {
    let (headers, reader) = (request.headers, &asker.reader);
    let pairs = in_url(request.pairs)?;
    check_format(headers, &pairs)?;
    let body = request
        .body
        .ok_or_else(|| Failure::no_resource("the resource is missing"))?;
    let text = resource_in(headers, body)?;
    let condition = Condition::read(api, headers, kind, &pairs, reader).await?;
    let asked = expected(headers)?;
    for _ in 0..MAX_TRIES {
        let (id, found) = match condition.look(api).await? {
            Matching::Several => return Err(Failure::several()),
            Matching::One(stored) => match id_in(&text) {
                Some(own) if own != stored.id.as_str() => return Err(Failure::another_id()),
                _ => (stored.id.clone(), Some(stored.id)),
            },
            Matching::None => (new_id(&asker.sight, api, kind, &text).await?, None),
        };
        let expect = match (&found, asked) {
            (None, Expect::Anything) => Expect::Absent,
            (None, asked) => asked,
            (Some(_), asked) => asker.check_current(api, kind, &id, asked).await?,
        };
        let draft = asker.draft(api, kind, id, &text)?;
        let (wanted, guard) = ((&draft, expect), condition.guard(0, found));
        if let Some(answer) = put(api, asker, wanted, guard, headers).await? {
            return Ok(answer);
        }
    }
    Err(Failure::contended())
}

pub async fn delete(
    api: &FhirApi,
    kind: ResourceType,
    asker: Asker,
    request: Request<'_>,
) -> Answer {
    let done = delete_what_is_found(api, kind, &asker, request).await;
    ended(api, asker, done)
}

/// Refuses to delete a certain version where there is nothing to delete.
pub fn nothing(asked: Expect) -> Result<(), Failure> {
    match asked {
        Expect::Version(_) | Expect::Among(_) | Expect::Present => {
            Err(Failure::unmet(Unmet::Version))
        }
        Expect::Anything | Expect::Absent => Ok(()),
    }
}

async fn delete_what_is_found(
    api: &FhirApi,
    kind: ResourceType,
    asker: &Asker,
    request: Request<'_>,
) -> Answer {
    let (headers, reader) = (request.headers, &asker.reader);
    let pairs = in_url(request.pairs)?;
    check_format(headers, &pairs)?;
    let condition = Condition::read(api, headers, kind, &pairs, reader).await?;
    let asked = expected(headers)?;
    for _ in 0..MAX_TRIES {
        let stored = match condition.look(api).await? {
            Matching::Several => return Err(Failure::several()),
            // As of a resource that is not there (FHIR R4 http.html#cdelete: no matches or one match).
            Matching::None => {
                nothing(asked)?;
                let intent = Intent {
                    request: kind.to_string(),
                    patient: None,
                    resources: 0,
                };
                asker.note(api, intent).await?;
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            Matching::One(stored) => stored,
        };
        let expect = asker.check_current(api, kind, &stored.id, asked).await?;
        note(api, asker, &kind, &stored.id, None).await?;
        let delete = Change::Delete {
            kind,
            id: stored.id.clone(),
            expect,
        };
        let guards = vec![condition.guard(0, Some(stored.id))];
        match writing::try_change(api, reader, delete, guards).await? {
            Ok(written) => return Ok(writing::answer_of_delete(written, headers)),
            Err(Unmet::Search) => {}
            Err(why) => return Err(Failure::unmet(why)),
        }
    }
    Err(Failure::contended())
}
