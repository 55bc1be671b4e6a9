//! Observations by the parameters of R4, also by those that no column of readings answers.
//!
//! What columns find is read and judged one by one, by the rule that every engine keeps ([`crate::query::holds`]): so many
//! in one request, of which a long one counts as several, and then the page ends, with fewer resources than were asked for
//! and a link to the next one. What a
//! chain or `_has` leads to is looked up before: then it is a list of ids. What clients wrote is found by its rows, by
//! every condition at once.
use super::searching::{self, Found};
use super::vantage::Instants;
use super::{FhirApi, Interaction, Reader, finding, including, outcome::Failure};
use crate::json::Json;
use crate::query::{self, Filter, as_column, extract};
use crate::search::{self, Search};
use crate::store::{Find, MAX_PAGE, MAX_PAGE_BYTES, ResourceType, Sights, Stored, row_of_source};
use axum::http::HeaderMap;

/// Readings that are judged in one request.
const MAX_JUDGED: usize = 5_000;
/// Readings that are judged for one total; more is refused.
const MAX_COUNTED: usize = 50_000;
/// Readings of one look into the store.
const CHUNK: u16 = 500;

/// Who asks.
pub struct Asked<'a> {
    pub api: &'a FhirApi,
    pub headers: &'a HeaderMap,
    pub reader: &'a Reader,
}

/// Whether the columns answer a parameter.
pub fn has_column(name: &str) -> bool {
    search::is_known(ResourceType::Observation, name)
}

impl Asked<'_> {
    /// Conditions as what columns answer, added to the query, and what has to be judged; and all of them to those on what
    /// clients wrote.
    pub async fn split(
        &self,
        search: &mut Search,
        conditions: Vec<Filter>,
    ) -> Result<Option<Filter>, Failure> {
        let (mut rest, mut written) = (Vec::new(), Vec::new());
        written.extend(search.query.written.take());
        for condition in flat(conditions) {
            let condition = self.resolved(condition).await?;
            written.push(condition.clone());
            match condition {
                Filter::Param { param, matches } => match as_column(param.code, &matches) {
                    Some(column) => search.query.filters.push(column),
                    None => rest.push(Filter::Param { param, matches }),
                },
                Filter::Id(ids) => {
                    let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
                    search.query.filters.push(search::Filter::Id(ids));
                }
                other => rest.push(other),
            }
        }
        search.query.written = Some(Filter::All(written));
        Ok((!rest.is_empty()).then_some(Filter::All(rest)))
    }

    /// The condition without what leads to other resources. A condition of a request has none within another one.
    async fn resolved(&self, condition: Filter) -> Result<Filter, Failure> {
        match condition {
            Filter::Chain { param, targets } => {
                let mut matches = Vec::new();
                for (name, inner) in targets {
                    let mut pages = self.all_of(name, inner).await?;
                    while let Some(page) = pages.next(self.api).await? {
                        matches.extend(page.iter().map(including::leads_to));
                    }
                }
                Ok(Filter::Param { param, matches })
            }
            Filter::Has {
                source,
                reference,
                inner,
            } => self.referred_to(source, reference.code, *inner).await,
            Filter::List(ids) => self.referred_to("List", "item", Filter::Id(ids)).await,
            other => Ok(other),
        }
    }

    /// The Observations that resources of a type refer to by a parameter.
    async fn referred_to(
        &self,
        source: &str,
        code: &str,
        inner: Filter,
    ) -> Result<Filter, Failure> {
        let mut ids = Vec::new();
        let mut pages = self.all_of(source, inner).await?;
        while let Some(page) = pages.next(self.api).await? {
            for stored in &page {
                for (param, kind, id) in including::references(stored, &self.api.base) {
                    if param == code && kind == ResourceType::Observation {
                        ids.push(id);
                    }
                }
            }
        }
        Ok(Filter::Id(ids))
    }

    /// All of a type that a filter holds of, if the token lets its bearer search it.
    async fn all_of(&self, name: &str, mut filter: Filter) -> Result<Pages, Failure> {
        let kind = ResourceType::parse(name).ok_or_else(Failure::no_such_path)?;
        let (api, headers) = (self.api, self.headers);
        let mut sights = Sights::new();
        let asker = api.asker(headers, kind, Interaction::SearchType)?;
        asker.sight.add_to(&mut sights, kind)?;
        finding::may_look(api, headers, kind, &mut filter, &mut sights)?;
        api.caught_up_with(kind, &filter).await?;
        let instants = finding::instants(api, self.reader, &mut filter).await?;
        let find = Find {
            marks: finding::marks(&instants),
            sights,
            ..Find::of(kind, filter, MAX_PAGE)
        };
        Ok(Pages {
            find: Some(find),
            count: 0,
            weight: 0,
        })
    }
}

/// What a chain leads to, page by page: of those before none is held, which together may have 128 MiB.
struct Pages {
    /// The next one; none behind the last one.
    find: Option<Find>,
    /// Resources on those before.
    count: usize,
    /// As how many they count.
    weight: usize,
}

impl Pages {
    async fn next(&mut self, api: &FhirApi) -> Result<Option<Vec<Stored>>, Failure> {
        let Some(mut find) = self.find.take() else {
            return Ok(None);
        };
        let page = api.store.find(&find).await?;
        self.count += page.resources.len();
        self.weight += page.resources.iter().map(Stored::weight).sum::<usize>();
        match page.next {
            None if self.count <= usize::from(MAX_PAGE) => {}
            Some(next) if self.weight < usize::from(MAX_PAGE) => {
                find.after = Some(next);
                self.find = Some(find);
            }
            _ => return Err(Failure::leads_too_far()),
        }
        Ok(Some(page.resources))
    }
}

/// Conditions all of which hold, without those that are several.
fn flat(conditions: Vec<Filter>) -> Vec<Filter> {
    let each = conditions
        .into_iter()
        .flat_map(|condition| match condition {
            Filter::All(all) => flat(all),
            one => vec![one],
        });
    each.collect()
}

fn holds(api: &FhirApi, rest: &Filter, stored: &Stored) -> bool {
    let tree = Json::parse(&stored.json).ok();
    let mut rows = tree.map_or_else(Vec::new, |tree| extract(&tree, &api.base));
    rows.extend(
        stored
            .source
            .map(|source| row_of_source(&source.to_string())),
    );
    let found = query::Found {
        resource_type: stored.kind.as_str(),
        id: stored.id.as_str(),
        last_updated: stored.updated.0,
        rows: &rows,
    };
    query::holds(rest, &found, &[])
}

/// One page of those that the rest holds of.
pub async fn page(
    api: &FhirApi,
    search: &Search,
    instants: &Instants,
    rest: &Filter,
) -> Result<Found, Failure> {
    let wanted = usize::from(search.query.count);
    let mut asked = search.clone();
    asked.query.count = CHUNK;
    let (mut resources, mut judged, mut bytes) = (Vec::new(), 0, 0);
    loop {
        let found = searching::find(api, &asked, instants).await?;
        let is_last = found.next.is_none();
        let count = found.resources.len();
        for (at, stored) in found.resources.into_iter().enumerate() {
            judged += stored.weight();
            if !holds(api, rest, &stored) {
                continue;
            }
            bytes += stored.json.len();
            let is_full = resources.len() + 1 == wanted || bytes >= MAX_PAGE_BYTES;
            let next = is_full.then(|| searching::cursor_at(api, search, instants, &stored));
            resources.push(stored);
            if next.is_some() {
                let next = next.filter(|_| !is_last || at + 1 < count);
                return Ok(Found { resources, next });
            }
        }
        asked.cursor = found.next;
        if asked.cursor.is_none() || judged >= MAX_JUDGED {
            return Ok(Found {
                resources,
                next: asked.cursor,
            });
        }
    }
}

/// How many the rest holds of.
pub async fn total(
    api: &FhirApi,
    search: &Search,
    instants: &Instants,
    rest: &Filter,
) -> Result<u64, Failure> {
    let mut asked = search.clone();
    asked.query.count = CHUNK;
    asked.cursor = None;
    let (mut total, mut judged) = (0, 0);
    loop {
        let found = searching::find(api, &asked, instants).await?;
        judged += found.resources.iter().map(Stored::weight).sum::<usize>();
        let all = found.resources.iter();
        let held = all.filter(|stored| holds(api, rest, stored));
        total += u64::try_from(held.count()).unwrap_or(0);
        asked.cursor = found.next;
        if asked.cursor.is_none() {
            return Ok(total);
        }
        if judged >= MAX_COUNTED {
            return Err(Failure::too_many_to_count());
        }
    }
}
