//! Histories (FHIR R4 http.html#history): every version, the last one first.
//!
//! On a logical axis the order of commits of different resources is nobody's to know ([`crate::axis`]): there the
//! history of a type, and of everything, goes by the reader's marks, the last one first, and within a mark by type, id
//! and version.
mod told;

use super::routes::in_url;
use super::{
    FhirApi, InUrl, access::Asker, access::Found, check_format, json, outcome::Failure, place,
    reading::instants, sight::Sight, vantage::Instants,
};
use crate::axis::{self, Axis, Commits};
use crate::search::{self, DEFAULT_PAGE, Interval, Seal};
use crate::store::{
    Came, HistoryPage, HistoryPlace, HistoryQuery, MAX_PAGE, MAX_PAGE_BYTES, ResourceType, Scope,
    Stored, There, full_at,
};
use axum::{http::HeaderMap, response::IntoResponse};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use told::bundle;
use types::Timestamp;

/// Of an instant in the calendar, where instants are logical.
const NOT_REACHED: &str =
    "this server has not reached that instant; those of meta.lastUpdated are expected";

/// Versions that are looked at at once where a token does not show everything.
const CHUNK: u16 = 200;
/// Versions that are looked at for one page there: then it ends, perhaps with fewer than were asked for, and its link goes on.
const MAX_LOOKED_AT: usize = 5_000;

/// What was asked for.
struct Asked {
    since: Option<Timestamp>,
    /// Only what was there at some moment of it.
    at: Option<Interval>,
    count: u16,
    cursor: Option<String>,
    /// As they came, without the cursor: for links.
    used: Vec<(String, String)>,
}

/// Versions, how they came, and the cursor of the next page.
#[derive(Default)]
struct Versions {
    versions: Vec<Stored>,
    came: Came,
    next: Option<String>,
}

/// Versions as the store has them, each with the place behind it, how they came, and whether there are more.
#[derive(Default)]
struct Looked {
    versions: Vec<(Stored, Option<String>)>,
    came: Came,
    more: bool,
}

pub async fn history(
    api: &FhirApi,
    scope: Scope,
    asker: &Asker,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<Found, Failure> {
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    match &scope {
        Scope::Everything => {}
        Scope::Type(kind) => api.caught_up(*kind, None).await?,
        Scope::Instance(kind, id) => api.caught_up(*kind, Some(id)).await?,
    }
    let path = path_of(&scope);
    let mut asked = Asked::of(pairs)?;
    if let Some(cursor) = &asked.cursor {
        let own = request(&path, &asked, None, &api.seal);
        let place = place::proved(&api.seal, &own, cursor);
        asked.cursor = Some(place.ok_or_else(Failure::cursor)?);
    }
    let mut instants = instants(api, &asker.reader, 0).await?;
    let mut query = query(&scope, &asked, &instants)?;
    // Whether there is such a resource is told also where no version is asked for.
    let is_of_one = matches!(scope, Scope::Instance(..));
    if is_of_one {
        query.count = query.count.max(1);
    }
    let axis = match (&instants, &scope) {
        (Instants::Logical(axis), Scope::Everything | Scope::Type(_)) => Some(axis),
        _ => None,
    };
    let from = (asked.cursor.as_deref(), axis);
    let mut found = page(api, query, from, &asker.sight).await?;
    if is_of_one
        && asked.cursor.is_none()
        && asked.since.is_none()
        && asked.at.is_none()
        && found.versions.is_empty()
    {
        return Err(Failure::not_found());
    }
    if asked.count == 0 {
        found = Versions::default();
    }
    let last = found.versions.iter().map(|stored| stored.seq).max();
    if let (Instants::Logical(axis), Some(last)) = (&mut instants, last)
        && last > axis.last()
    {
        *axis = api.vantages.reach(&asker.reader, last).await?;
    }
    let request = request(&path, &asked, asked.cursor.as_deref(), &api.seal);
    let body = bundle(api, &path, &asked, &found, &instants)?;
    let given = u32::try_from(found.versions.len()).unwrap_or(u32::MAX);
    let mut names: Vec<String> = asked.used.iter().map(|(name, _)| name.clone()).collect();
    names.extend(asked.cursor.is_some().then(|| "_cursor".to_owned()));
    let patient = match scope {
        Scope::Instance(ResourceType::Patient, id) => Some(id),
        _ => None,
    };
    let response = json(body).into_response();
    Ok(Found::new(response, given, request).by(names).of(patient))
}

impl Asked {
    fn of(pairs: Vec<(String, String)>) -> Result<Self, Failure> {
        let mut asked = Self {
            since: None,
            at: None,
            count: DEFAULT_PAGE,
            cursor: None,
            used: Vec::new(),
        };
        for (name, value) in pairs {
            match name.as_str() {
                "_count" => {
                    let count: u64 = value
                        .parse()
                        .map_err(|_| Failure::value("_count", "a whole number is expected"))?;
                    asked.count = u16::try_from(count).unwrap_or(MAX_PAGE).min(MAX_PAGE);
                }
                "_since" => {
                    let value = value.replace(' ', "+");
                    let since = value.parse().map_err(|_| {
                        Failure::value("_since", "an instant with a zone is expected")
                    })?;
                    asked.since = Some(since);
                }
                "_at" => {
                    let span = search::period(&value);
                    let (from, until) = span
                        .ok_or_else(|| Failure::value("_at", "a date or an instant is expected"))?;
                    asked.at = Some(Interval {
                        from: Some(from),
                        until: Some(until),
                    });
                }
                "_cursor" => {
                    asked.cursor = Some(value);
                    continue;
                }
                "_format" | "_pretty" => {}
                _ => {
                    return Err(Failure::unknown_parameters(&[name
                        .chars()
                        .take(64)
                        .collect()]));
                }
            }
            asked.used.push((name, value));
        }
        Ok(asked)
    }
}

/// What is asked of the store. A version was there from its own instant on, up to that of the next one.
fn query(scope: &Scope, asked: &Asked, instants: &Instants) -> Result<HistoryQuery, Failure> {
    let begin = asked.at.and_then(|at| at.from);
    let span = Interval {
        from: asked.since.map(|since| since.0),
        until: asked.at.and_then(|at| at.until),
    };
    let is_bounded = span.from.is_some() || span.until.is_some();
    let (updated, commits, there) = match instants {
        Instants::True => {
            let updated = is_bounded.then_some(span);
            (updated, None, begin.map(There::Time))
        }
        Instants::Logical(axis) => {
            let since = Interval {
                until: None,
                ..span
            };
            if axis::is_ahead(&since, axis.last()) {
                return Err(Failure::ahead());
            }
            if begin.is_some_and(|begin| begin > axis.last()) {
                return Err(Failure::value("_at", NOT_REACHED));
            }
            let commits = is_bounded.then(|| axis.commits(&span));
            let there = begin.map(|begin| There::Commit(axis.by(begin)));
            (None, commits, there)
        }
    };
    Ok(HistoryQuery {
        scope: scope.clone(),
        commits,
        updated,
        there,
        by_id: false,
        after: None,
        count: asked.count,
    })
}

/// A page of what a token shows. Where that is not everything, what is hidden leaves neither a gap on a page nor a page of its
/// own, unless more than [`MAX_LOOKED_AT`] versions are hidden in a row.
async fn page(
    api: &FhirApi,
    mut query: HistoryQuery,
    (cursor, axis): (Option<&str>, Option<&Axis>),
    sight: &Sight,
) -> Result<Versions, Failure> {
    let wanted = usize::from(query.count);
    if *sight == Sight::Everything || wanted == 0 {
        let looked = look(api, query, cursor, axis).await?;
        let last = looked.versions.last();
        let last = last.and_then(|(_, place)| place.clone());
        return Ok(Versions {
            versions: looked
                .versions
                .into_iter()
                .map(|(stored, _)| stored)
                .collect(),
            came: looked.came,
            next: last.filter(|_| looked.more),
        });
    }
    query.count = CHUNK;
    let (mut shown, mut came) = (Vec::new(), Came::default());
    let (mut next, mut looked_at, mut bytes) = (None, 0, 0);
    let mut cursor = cursor.map(str::to_owned);
    loop {
        let looked = look(api, query.clone(), cursor.as_deref(), axis).await?;
        let versions = looked.versions.iter();
        looked_at += versions.map(|(one, _)| one.weight()).sum::<usize>();
        let last = looked.versions.last().and_then(|(_, place)| place.clone());
        // Who does not see everything is not shown that something was deleted, nor that it came again.
        came.posted.extend(looked.came.posted);
        for (stored, place) in looked.versions {
            if !sight.shows(&stored) {
                continue;
            }
            if shown.len() == wanted || bytes >= MAX_PAGE_BYTES {
                return Ok(Versions {
                    versions: shown,
                    came,
                    next,
                });
            }
            bytes += stored.json.len();
            shown.push(stored);
            next = place;
        }
        cursor = last.filter(|_| looked.more);
        if cursor.is_none() || looked_at >= MAX_LOOKED_AT {
            return Ok(Versions {
                versions: shown,
                came,
                next: cursor,
            });
        }
    }
}

/// Versions in the order of the page, behind a place.
async fn look(
    api: &FhirApi,
    query: HistoryQuery,
    cursor: Option<&str>,
    axis: Option<&Axis>,
) -> Result<Looked, Failure> {
    match axis {
        _ if query.count == 0 => Ok(Looked::default()),
        Some(axis) => by_marks(api, query, cursor, axis).await,
        None => by_commits(api, query, cursor).await,
    }
}

async fn by_commits(
    api: &FhirApi,
    mut query: HistoryQuery,
    cursor: Option<&str>,
) -> Result<Looked, Failure> {
    let what = format!("_history/{}", path_of(&query.scope));
    if let Some(cursor) = cursor {
        let place = place_of(cursor, &api.seal, &what).ok_or_else(Failure::cursor)?;
        query.after = Some(place);
    }
    let page = api.store.history(&query).await?;
    let HistoryPage {
        versions,
        came,
        next,
    } = page;
    let versions = versions.into_iter().map(|stored| {
        let sealed = URL_SAFE_NO_PAD.encode(api.seal.seal(&what, stored.seq));
        let (kind, id, version) = (stored.kind, &stored.id, stored.version);
        let place = format!("{sealed}:{kind}:{id}:{version}");
        (stored, Some(place))
    });
    Ok(Looked {
        versions: versions.collect(),
        came,
        more: next.is_some(),
    })
}

/// The inverse of a cursor of [`by_commits`].
fn place_of(cursor: &str, seal: &Seal, what: &str) -> Option<HistoryPlace> {
    let (sealed, rest) = cursor.split_once(':')?;
    let seq = seal.open(what, &URL_SAFE_NO_PAD.decode(sealed).ok()?)?;
    let mut place = row(rest)?;
    place.seq = seq;
    Some(place)
}

fn row(text: &str) -> Option<HistoryPlace> {
    let mut parts = text.split(':');
    let place = HistoryPlace {
        seq: 0,
        kind: ResourceType::parse(parts.next()?)?,
        id: parts.next()?.parse().ok()?,
        version: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(place)
}

async fn by_marks(
    api: &FhirApi,
    query: HistoryQuery,
    cursor: Option<&str>,
    axis: &Axis,
) -> Result<Looked, Failure> {
    let (from, mut after) = match cursor {
        None => (None, None),
        Some(cursor) => {
            let read = || -> Option<(i64, HistoryPlace)> {
                let (mark, rest) = cursor.strip_prefix("m:")?.split_once(':')?;
                Some((mark.parse().ok()?, row(rest)?))
            };
            let (mark, place) = read().ok_or_else(Failure::cursor)?;
            (Some(mark), Some(place))
        }
    };
    let steps = axis.steps(from, true).ok_or_else(Failure::cursor)?;
    let since = query.commits.map_or(0, |commits| commits.after);
    let until = query.commits.and_then(|commits| commits.until);
    let mut versions: Vec<(Stored, Option<String>)> = Vec::new();
    let mut came = Came::default();
    for step in steps {
        let is_asked_for = step.until.is_none_or(|until| since < until);
        if !is_asked_for {
            break;
        }
        // The end of what is asked for is a mark.
        if until.is_some_and(|until| until <= step.after) {
            continue;
        }
        let left = query.count - u16::try_from(versions.len()).unwrap_or(u16::MAX);
        let page = api
            .store
            .history(&HistoryQuery {
                commits: Some(Commits {
                    after: step.after.max(since),
                    ..step
                }),
                by_id: true,
                after: after.take(),
                count: left,
                ..query.clone()
            })
            .await?;
        came.extend(page.came);
        versions.extend(page.versions.into_iter().map(|stored| {
            let (kind, id, version) = (stored.kind, &stored.id, stored.version);
            let place = step
                .until
                .map(|mark| format!("m:{mark}:{kind}:{id}:{version}"));
            (stored, place)
        }));
        let end = full_at(versions.iter().map(|(stored, _)| stored));
        versions.truncate(end.unwrap_or(usize::MAX));
        let is_full = end.is_some() || versions.len() >= usize::from(query.count);
        if is_full || page.next.is_some() {
            return Ok(Looked {
                versions,
                came,
                more: true,
            });
        }
    }
    Ok(Looked {
        versions,
        came,
        more: false,
    })
}

fn path_of(scope: &Scope) -> String {
    match scope {
        Scope::Everything => "_history".to_owned(),
        Scope::Type(kind) => format!("{kind}/_history"),
        Scope::Instance(kind, id) => format!("{kind}/{id}/_history"),
    }
}

/// What follows the base in a link.
fn request(path: &str, asked: &Asked, cursor: Option<&str>, seal: &Seal) -> String {
    let prove = |cursor: &str| {
        let own = super::bundle::with_query(path, asked.used.iter());
        place::prove(seal, &own, cursor)
    };
    let cursor = cursor.map(|cursor| ("_cursor".to_owned(), prove(cursor)));
    super::bundle::with_query(path, asked.used.iter().chain(cursor.iter()))
}
