//! What of a type a token covers, where its scopes have search parameters (SMART App Launch 2.2, "Scopes"):
//! `system/Observation.rs?category=vital-signs` is over vital signs alone.
//!
//! A search compiles it into its conditions, of the type that is searched and of every type that chains pass through, so
//! that no count, order or chain tells of what is hidden; whatever is read by its id is judged by the same rule. What is
//! hidden answers as what does not exist. What a scope says has to be seen in the resource itself: one with a chain,
//! `_has`, `_list` or `_lastUpdated`, or one that cannot be read, covers nothing.
use super::access::Asker;
use super::{FhirApi, Interaction, Pairs, WITHOUT, conditional, finding, outcome::Failure};
use crate::bases::Bases;
use crate::query::{self, Filter, Found, Handling, IndexRow};
use crate::store::{Draft, Expect, FhirId, ResourceType, Sights, Stored, rows_of};
use axum::http::HeaderMap;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// All of the type.
    Everything,
    /// What it holds of.
    Only(Filter),
}

impl Sight {
    /// Of the queries of scopes, any of which has to find the resource; none when one of them says what none may.
    pub fn of(api: &FhirApi, kind: ResourceType, queries: &[String]) -> Option<Self> {
        if queries.is_empty() {
            return Some(Self::Everything);
        }
        let mut any = Vec::new();
        for text in queries {
            let pairs = conditional::pairs_of(text)
                .ok()
                .filter(|pairs| !pairs.is_empty())?;
            let (without, pairs): (Pairs, Pairs) =
                pairs.into_iter().partition(|(name, _)| name == WITHOUT);
            let mut all = hidden(kind, &without)?;
            if !pairs.is_empty() {
                let filter = conditional::conditions(api, kind, &pairs).ok()?;
                if !is_plain(&filter) {
                    return None;
                }
                all.push(filter);
            }
            match all.pop() {
                // Nothing of this type is anybody's.
                None => return Some(Self::Everything),
                Some(one) if all.is_empty() => any.push(one),
                last => {
                    all.extend(last);
                    any.push(Filter::All(all));
                }
            }
        }
        Some(Self::Only(match any.pop() {
            Some(one) if any.is_empty() => one,
            last => {
                any.extend(last);
                Filter::Any(any)
            }
        }))
    }

    /// Whether it shows a resource with these rows.
    pub fn holds(&self, kind: ResourceType, id: &FhirId, rows: &[IndexRow]) -> bool {
        let Self::Only(filter) = self else {
            return true;
        };
        let found = Found {
            resource_type: kind.as_str(),
            id: id.as_str(),
            last_updated: 0,
            rows,
        };
        query::holds(filter, &found, &[])
    }

    /// Whether it shows a version. What says that a resource was deleted is shown to whoever sees everything.
    pub fn shows(&self, stored: &Stored) -> bool {
        if *self == Self::Everything {
            return true;
        }
        let source = stored.source.map(|source| source.to_string());
        let rows = rows_of(&stored.json, source.as_deref());
        !stored.is_deleted() && self.holds(stored.kind, &stored.id, &rows)
    }

    /// What holds of what it shows, if that is not everything.
    pub const fn filter(&self) -> Option<&Filter> {
        match self {
            Self::Everything => None,
            Self::Only(filter) => Some(filter),
        }
    }

    /// Adds it to those of a search.
    ///
    /// # Errors
    /// Where it says what no column of readings answers: those are judged one by one, at their own path.
    pub fn add_to(self, sights: &mut Sights, kind: ResourceType) -> Result<(), Failure> {
        if let Self::Only(mut filter) = self {
            if !kind.is_indexed() {
                let by_columns = finding::by_columns(kind, &mut filter);
                by_columns.map_err(|_| Failure::nothing_to_search())?;
            }
            sights.insert(kind.as_str(), filter);
        }
        Ok(())
    }
}

/// What hides all that is of some patients, or names one of them; none where it cannot be told whose something is.
fn hidden(kind: ResourceType, without: &[(String, String)]) -> Option<Vec<Filter>> {
    if kind == ResourceType::ANY && !without.is_empty() {
        return None;
    }
    let of = |(_, id): &(String, String)| query::naming("Patient", id, kind.as_str());
    let hidden = without.iter().filter_map(of);
    Some(hidden.map(|of| Filter::Not(Box::new(of))).collect())
}

/// Whether a resource alone tells whether a filter holds of it.
pub fn is_plain(filter: &Filter) -> bool {
    match filter {
        Filter::Param { .. } | Filter::Missing { .. } | Filter::Id(_) | Filter::Own => true,
        Filter::Not(inner) => is_plain(inner),
        Filter::Any(all) | Filter::All(all) => all.iter().all(is_plain),
        Filter::LastUpdated(_)
        | Filter::Commits(_)
        | Filter::List(_)
        | Filter::Chain { .. }
        | Filter::Has { .. }
        | Filter::HasReading { .. }
        | Filter::Column(_) => false,
    }
}

/// Of the queries of several scopes over a type, any of which will do, those that a scope may have; all of them where there is
/// none such: then they cover nothing.
#[must_use]
pub fn understood(kind: ResourceType, queries: Vec<&str>) -> Vec<&str> {
    if queries.len() < 2 {
        return queries;
    }
    let context = query::Context {
        now: 0,
        base: Bases::of(""),
        handling: Handling::Strict,
    };
    let may_be_had = |text: &&str| {
        let pairs = conditional::pairs_of(text).ok();
        let pairs = pairs.filter(|pairs| !pairs.is_empty());
        let filter =
            pairs.and_then(|pairs| query::parse_conditions(kind.as_str(), &pairs, context).ok());
        filter.is_some_and(|filter| is_plain(&filter))
    };
    let good: Vec<&str> = queries.iter().copied().filter(may_be_had).collect();
    if good.is_empty() { queries } else { good }
}

impl FhirApi {
    /// What of a type a search of a request's token may show beside what it asks for; none when nothing.
    pub(super) fn may_search(&self, headers: &HeaderMap, kind: ResourceType) -> Option<Sight> {
        let granted = self
            .authorize
            .authorize(headers, kind, Interaction::SearchType);
        Sight::of(self, kind, &granted.ok()?.only)
    }
}

impl Asker {
    /// Refuses to write what the token does not cover.
    pub(super) fn check(&self, draft: &Draft) -> Result<(), Failure> {
        match self.sight.holds(draft.kind(), draft.id(), draft.rows()) {
            true => Ok(()),
            false => Err(Failure::beyond_scope()),
        }
    }

    /// Refuses to change what the token does not cover. What was looked at is then what is expected. Who does not see
    /// everything of the type is told the same where something is hidden and where nothing is: it does not create under an
    /// id of its choice, since an answer to that would tell which ids are taken.
    pub(super) async fn check_current(
        &self,
        api: &FhirApi,
        kind: ResourceType,
        id: &FhirId,
        expect: Expect,
    ) -> Result<Expect, Failure> {
        if self.sight == Sight::Everything {
            return Ok(expect);
        }
        let stored = api.store.read(kind, id).await?;
        let shown = stored.filter(|stored| self.sight.shows(stored));
        let current = Expect::Version(shown.ok_or_else(Failure::not_found)?.version);
        Ok(match expect {
            Expect::Anything | Expect::Present => current,
            asked => asked,
        })
    }
}
