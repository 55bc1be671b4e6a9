//! `$everything` of a patient or an encounter (FHIR R4 patient-operation-everything.html), all types of a compartment
//! (`[type]/[id]/*`, FHIR R4 http.html#vsearch).
//!
//! Everything of a compartment goes by resource type and, within each, by id: an order that tells nothing of when what
//! was stored. Types that the token does not let its bearer read are left out.
mod dates;
mod referred;

use super::routes::in_url;
use super::vantage::Instants;
use super::{
    FhirApi, InUrl, Interaction, Pairs, access, access::Access, access::Asker, access::Unwritten,
    bundle, check_format, conditional, finding, json, outcome::Failure, place, reading,
    sight::Sight,
};
use crate::audit;
use crate::query::{self, DateMatch, Filter, Prefix};
use crate::search::{self, DEFAULT_PAGE, Position, Query};
use crate::shape::View;
use crate::store::{
    FhirId, Find, FindPlace, MAX_PAGE, MAX_PAGE_BYTES, ResourceType, Sights, Stored, full_at,
};
use axum::{http::HeaderMap, response::IntoResponse};
use dates::Span;
use referred::Seen;
use std::collections::BTreeMap;
use types::Timestamp;

/// Whose compartment has `$everything`.
pub const TYPES: [&str; 2] = ["Encounter", "Patient"];
/// What stands for all types below a resource that has a compartment.
pub const ALL: &str = "*";

/// Readings that are looked at at once where the token does not show all of them.
const CHUNK: u16 = 200;
/// Readings that are looked at for one page there: then it ends, perhaps with fewer than were asked for, and its link goes on.
const MAX_LOOKED_AT: usize = 5_000;

/// What was asked for.
struct Asked {
    /// The types; where none is named, all of them, without the server's own AuditEvents.
    types: Option<Vec<ResourceType>>,
    /// What was stored since then; everything when there is none.
    since: Filter,
    /// When the care was.
    care: Span,
    count: u16,
    cursor: Option<String>,
    /// As they came, without the cursor: for links.
    used: Pairs,
}

impl Asked {
    /// Of the parameters of what stands below a resource: `$everything`, or [`ALL`].
    fn of(api: &FhirApi, inner: &str, pairs: Pairs) -> Result<Self, Failure> {
        let mut asked = Self {
            types: None,
            since: Filter::All(Vec::new()),
            care: Span::default(),
            count: DEFAULT_PAGE,
            cursor: None,
            used: Vec::new(),
        };
        for (name, value) in pairs {
            match (name.as_str(), inner == ALL) {
                ("_count", _) => {
                    let count: u64 = value
                        .parse()
                        .map_err(|_| Failure::value("_count", "a whole number is expected"))?;
                    let count = u16::try_from(count).unwrap_or(MAX_PAGE);
                    asked.count = count.clamp(1, MAX_PAGE);
                }
                ("_type", _) => {
                    let types = value.split(',').map(ResourceType::parse);
                    let types: Option<Vec<_>> = types.collect();
                    let types = types.ok_or_else(|| {
                        Failure::value("_type", "resource types of R4 are expected")
                    })?;
                    // It may come several times: any of them.
                    asked.types.get_or_insert_default().extend(types);
                }
                ("_lastUpdated", true) => asked.updated(api, &value)?,
                ("_since", false) => asked.since = since(&value)?,
                ("start", false) => asked.care.set("start", value.replace(' ', "+"))?,
                ("end", false) => asked.care.set("end", value.replace(' ', "+"))?,
                ("_cursor", _) => {
                    asked.cursor = Some(value);
                    continue;
                }
                ("_format" | "_pretty", _) => {}
                _ => {
                    let name: String = name.chars().take(64).collect();
                    return Err(Failure::unknown_parameters(&[name]));
                }
            }
            asked.used.push((name, value));
        }
        Ok(asked)
    }

    /// Takes the one `_lastUpdated` that there may be.
    fn updated(&mut self, api: &FhirApi, value: &str) -> Result<(), Failure> {
        const NAME: &str = "_lastUpdated";
        let pair = [(NAME.to_owned(), value.to_owned())];
        let filter = conditional::conditions(api, ResourceType::Patient, &pair)?;
        let one = match filter {
            Filter::All(mut all) if all.len() == 1 => all.pop(),
            one => Some(one),
        };
        let is_first = matches!(self.since, Filter::All(_));
        let one = one.filter(|_| is_first);
        self.since = one.ok_or_else(|| Failure::value(NAME, "it stands once here"))?;
        Ok(())
    }
}

/// What was stored since an instant.
fn since(value: &str) -> Result<Filter, Failure> {
    let since = value.replace(' ', "+").parse::<Timestamp>();
    let since =
        since.map_err(|_| Failure::value("_since", "an instant with a zone is expected"))?;
    Ok(Filter::LastUpdated(vec![DateMatch {
        prefix: Prefix::Ge,
        low: since.0,
        high: since.0,
    }]))
}

/// `$everything` of a resource, or [`ALL`] that is in its compartment: `inner` says which.
pub async fn everything(
    api: &FhirApi,
    (kind, inner): (ResourceType, &str),
    id: FhirId,
    asker: &Asker,
    pairs: InUrl,
    headers: &HeaderMap,
) -> Result<access::Found, Failure> {
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    let mut asked = Asked::of(api, inner, pairs)?;
    drop(reading::current(api, kind, &id, asker).await?);
    api.caught_up_among(headers, asked.types.as_deref()).await?;
    let instants = finding::instants(api, &asker.reader, &mut asked.since).await?;
    let path = format!("{kind}/{id}/{inner}");
    let own = bundle::with_query(&path, asked.used.iter());
    let from = match &asked.cursor {
        None => None,
        Some(cursor) => {
            let from = place::open(&api.seal, &own, cursor);
            Some(from.ok_or_else(Failure::cursor)?)
        }
    };
    let compartment = Compartment {
        api,
        headers,
        kind,
        id: &id,
    };
    let mut seen = Seen::of(from.as_ref());
    let (mut page, next) = compartment.page(&asked, from).await?;
    let own_count = page.len();
    if kind == ResourceType::Patient && inner != ALL {
        let referred = compartment.referred(&asked, &page, &mut seen).await?;
        page.extend(referred);
    }
    let instants = up_to(api, asker, instants, &page).await?;
    let request = with_cursor(&path, &asked.used, asked.cursor.as_deref());
    let mut answer = bundle::Page::new(instants.last(), None);
    answer.link("self", format!("{}/{request}", api.base));
    if let Some(next) = next {
        let keys = seen.keys();
        let next = place::seal(&api.seal, &own, &FindPlace { keys, ..next });
        let next = with_cursor(&path, &asked.used, Some(&next));
        answer.link("next", format!("{}/{next}", api.base));
    }
    for (at, stored) in page.iter().enumerate() {
        let url = format!("{}/{}/{}", api.base, stored.kind, stored.id);
        let whole = finding::shown(stored, &instants, &View::Whole)?;
        let mode = if at < own_count { "match" } else { "include" };
        answer.entry(Some(url), whole, mode);
    }
    note(api, asker, (kind, &id, inner), &page, &request).await?;
    let given = page.iter().filter(|stored| stored.kind == kind).count();
    let given = u32::try_from(given).unwrap_or(u32::MAX);
    let found = access::Found::new(json(answer.text()?).into_response(), given, request);
    Ok(found.of((kind == ResourceType::Patient).then_some(id)))
}

fn with_cursor(path: &str, used: &Pairs, cursor: Option<&str>) -> String {
    let cursor = cursor.map(|cursor| ("_cursor".to_owned(), cursor.to_owned()));
    bundle::with_query(path, used.iter().chain(cursor.iter()))
}

/// The reader is shown the last of these commits.
async fn up_to(
    api: &FhirApi,
    asker: &Asker,
    instants: Instants,
    page: &[Stored],
) -> Result<Instants, Failure> {
    let last = page.iter().map(|stored| stored.seq).max().unwrap_or(0);
    match instants {
        Instants::Logical(axis) if last > axis.last() => {
            let axis = api.vantages.reach(&asker.reader, last).await?;
            Ok(Instants::Logical(axis))
        }
        same => Ok(same),
    }
}

/// Each type but the one that was asked for has a row of its own.
async fn note(
    api: &FhirApi,
    asker: &Asker,
    (kind, id, inner): (ResourceType, &FhirId, &str),
    page: &[Stored],
    request: &str,
) -> Result<(), Failure> {
    let mut counts: BTreeMap<ResourceType, u32> = BTreeMap::new();
    for stored in page.iter().filter(|stored| stored.kind != kind) {
        *counts.entry(stored.kind).or_default() += 1;
    }
    for (of, resources) in counts {
        let row = Access {
            reader: asker.reader.clone(),
            kind: of,
            interaction: Interaction::SearchType,
            parameters: vec![inner.to_owned()],
            request: request.to_owned(),
            patient: (kind == ResourceType::Patient).then(|| id.clone()),
            resources,
        };
        let written = api.access.given(row).await;
        written.map_err(|Unwritten| Failure::unaudited())?;
    }
    Ok(())
}

/// Where a resource is in that order.
fn place_of(stored: &Stored) -> FindPlace {
    FindPlace {
        keys: Vec::new(),
        kind: stored.kind,
        id: stored.id.clone(),
    }
}

struct Compartment<'a> {
    api: &'a FhirApi,
    headers: &'a HeaderMap,
    kind: ResourceType,
    id: &'a FhirId,
}

impl Compartment<'_> {
    /// Resources behind a place, and the place of the last of them where there are more.
    async fn page(
        &self,
        asked: &Asked,
        from: Option<FindPlace>,
    ) -> Result<(Vec<Stored>, Option<FindPlace>), Failure> {
        let mut page: Vec<Stored> = Vec::new();
        for kind in ResourceType::every() {
            let is_asked = asked.types.as_ref().is_none_or(|all| all.contains(&kind));
            let is_before = from.as_ref().is_some_and(|place| kind < place.kind);
            if !is_asked || is_before {
                continue;
            }
            let Some(sight) = self.api.may_search(self.headers, kind) else {
                continue;
            };
            let left = asked.count - u16::try_from(page.len()).unwrap_or(asked.count);
            let after = from.clone().filter(|place| place.kind == kind);
            let (found, more, last) = self.shown((kind, sight), asked, after, left).await?;
            page.extend(found);
            // Behind what ends by its bytes nothing is asked for.
            if let Some(end) = full_at(&page) {
                page.truncate(end);
                let last = page.last().map(place_of);
                return Ok((page, last));
            }
            if more {
                let last = last.or_else(|| page.last().map(place_of));
                return Ok((page, last));
            }
        }
        Ok((page, None))
    }

    /// What the token shows of one type, at most so many resources, whether there are more, and where to go on. Of readings what
    /// is hidden leaves neither a gap on a page nor a page of its own, unless more than [`MAX_LOOKED_AT`] are in a row.
    async fn shown(
        &self,
        (kind, sight): (ResourceType, Sight),
        asked: &Asked,
        mut after: Option<FindPlace>,
        left: u16,
    ) -> Result<(Vec<Stored>, bool, Option<FindPlace>), Failure> {
        if sight == Sight::Everything || kind.is_indexed() {
            let of = (kind, sight.clone());
            let (mut found, more) = self.of_type(of, asked, after.as_ref(), left).await?;
            let last = found.last().map(place_of);
            found.retain(|stored| sight.shows(stored));
            return Ok((found, more, last));
        }
        let (mut shown, mut looked_at, mut bytes) = (Vec::new(), 0, 0);
        loop {
            let of = (kind, sight.clone());
            let (found, more) = self.of_type(of, asked, after.as_ref(), CHUNK).await?;
            looked_at += found.iter().map(Stored::weight).sum::<usize>();
            let last = found.last().map(place_of);
            for stored in found.into_iter().filter(|stored| sight.shows(stored)) {
                if shown.len() == usize::from(left) || bytes >= MAX_PAGE_BYTES {
                    let last = shown.last().map(place_of);
                    return Ok((shown, true, last));
                }
                bytes += stored.json.len();
                shown.push(stored);
            }
            if !more || looked_at >= MAX_LOOKED_AT {
                return Ok((shown, more, last));
            }
            after = last;
        }
    }

    /// Resources of one type, at most so many, and whether there are more.
    async fn of_type(
        &self,
        (kind, sight): (ResourceType, Sight),
        asked: &Asked,
        after: Option<&FindPlace>,
        left: u16,
    ) -> Result<(Vec<Stored>, bool), Failure> {
        // Of a full page it is only asked whether there are more.
        let count = left.max(1);
        let compartment = query::compartment(self.kind.as_str(), self.id.as_str(), kind.as_str());
        let Some(filter) = compartment else {
            return Ok((Vec::new(), false));
        };
        // It is of itself, whenever it was.
        let care = match kind == self.kind {
            true => Filter::All(Vec::new()),
            false => asked.care.of(self.api, kind)?,
        };
        let all = Filter::All(vec![filter, asked.since.clone(), care]);
        let (mut found, more) = if !kind.is_indexed() {
            // A reading is of no Encounter and by nobody.
            let mut filters = vec![match self.kind {
                ResourceType::Patient => search::Filter::Patient(vec![self.id.clone()]),
                ResourceType::Device => search::Filter::Device(vec![self.id.clone()]),
                _ => search::Filter::Id(Vec::new()),
            }];
            filters.extend(asked.care.of_readings(self.api)?);
            match &asked.since {
                Filter::Commits(commits) => {
                    filters.push(search::Filter::Commits(commits.clone()));
                }
                Filter::LastUpdated(spans) => {
                    let intervals = spans.iter().flat_map(DateMatch::intervals).collect();
                    filters.push(search::Filter::Updated(intervals));
                }
                _ => {}
            }
            let query = Query {
                filters,
                written: Some(all),
                after: after.map(|place| Position::Id(place.id.clone())),
                count,
                ..Query::all(kind)
            };
            let page = self.api.store.search(&query).await?;
            (page.resources, page.next.is_some())
        } else {
            let mut sights = Sights::new();
            sight.add_to(&mut sights, kind)?;
            let mut all = vec![all];
            all.extend(audit::left_out(asked.types.is_some()));
            let find = Find {
                sights,
                after: after.cloned(),
                ..Find::of(kind, Filter::All(all), count)
            };
            let page = self.api.store.find(&find).await?;
            (page.resources, page.next.is_some())
        };
        if left == 0 {
            return Ok((Vec::new(), !found.is_empty()));
        }
        found.truncate(usize::from(left));
        Ok((found, more))
    }
}
