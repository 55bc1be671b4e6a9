//! FHIR R4 search: from the parameters of a request to a typed [`Query`]. Pure; it knows no engine.
//!
//! What is understood is in [`params_of`] and [`CONTROLS`]; anything else is reported to the caller, who refuses or
//! ignores it as the client prefers (FHIR R4 search.html#errors). A value that is understood but wrong, and a
//! modifier, are always refused: to ignore a filter would widen the answer.
mod date;

use crate::map::READING_SYSTEM;
use crate::store::{FhirId, MAX_PAGE, ResourceType, category_of};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
pub use date::Interval;
use types::{Category, Code, Timestamp};

/// Resources on a page when the client names no number.
pub const DEFAULT_PAGE: u16 = 100;
/// Parameters in one search.
pub const MAX_PARAMS: usize = 32;
/// Values in one parameter, separated by commas.
pub const MAX_VALUES: usize = 100;

/// A search parameter of a resource type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// FHIR R4 SearchParamType.
    pub kind: &'static str,
    /// What it finds.
    pub about: &'static str,
}

const fn param(name: &'static str, kind: &'static str, about: &'static str) -> Param {
    Param { name, kind, about }
}

const ID: Param = param("_id", "token", "Id of the resource");

const OBSERVATION: &[Param] = &[
    ID,
    param("category", "token", "Category, as code or system|code"),
    param("code", "token", "What was measured, as code or system|code"),
    param(
        "date",
        "date",
        "Source time, with eq, ne, gt, lt, ge, le, sa, eb or ap",
    ),
    param(
        "device",
        "reference",
        "Device that measured, as id or Device/id",
    ),
    param(
        "identifier",
        "token",
        "Id of the reading, as value or system|value",
    ),
    param("patient", "reference", "Patient, as id or Patient/id"),
];

/// The search parameters of a resource type.
#[must_use]
pub const fn params_of(kind: ResourceType) -> &'static [Param] {
    match kind {
        ResourceType::Observation => OBSERVATION,
        ResourceType::Patient | ResourceType::Device => &[ID],
    }
}

/// Parameters that shape the answer, of every type.
pub const CONTROLS: [&str; 5] = ["_count", "_sort", "_total", "_cursor", "_format"];

/// What to find, in which order, and which page of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The resource type.
    pub kind: ResourceType,
    /// All of them hold.
    pub filters: Vec<Filter>,
    /// The order.
    pub sort: Sort,
    /// Resources on the page, at most [`MAX_PAGE`].
    pub count: u16,
    /// The end of the page before.
    pub after: Option<Position>,
}

impl Query {
    /// The first page of everything of a type, by id.
    #[must_use]
    pub const fn all(kind: ResourceType) -> Self {
        Self {
            kind,
            filters: Vec::new(),
            sort: Sort {
                key: SortKey::Id,
                descending: false,
            },
            count: DEFAULT_PAGE,
            after: None,
        }
    }
}

/// One of the values holds. An empty list matches nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Id of the resource.
    Id(Vec<FhirId>),
    /// Id of the Patient.
    Patient(Vec<FhirId>),
    /// Id of the Device.
    Device(Vec<FhirId>),
    /// What was measured.
    Code(Vec<Code>),
    /// Category.
    Category(Vec<Category>),
    /// Source time.
    Date(Vec<Interval>),
}

/// The order of a search. Ties are broken by id, so that it is total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub key: SortKey,
    /// The largest first.
    pub descending: bool,
}

/// What a search is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// Source time; Observation only.
    Date,
    /// Id, by its bytes.
    Id,
    /// `meta.lastUpdated`, by the order of commits.
    LastUpdated,
}

/// A place in an order: the sort values of the last resource of a page (keyset paging).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// Of [`SortKey::Date`].
    Date(Timestamp, FhirId),
    /// Of [`SortKey::Id`].
    Id(FhirId),
    /// Of [`SortKey::LastUpdated`]: the commit's number.
    LastUpdated(i64),
}

impl Position {
    /// The key that it is a position of.
    #[must_use]
    pub const fn key(&self) -> SortKey {
        match self {
            Self::Date(..) => SortKey::Date,
            Self::Id(_) => SortKey::Id,
            Self::LastUpdated(_) => SortKey::LastUpdated,
        }
    }

    /// An opaque text. It holds nothing that the page did not show.
    #[must_use]
    pub fn to_cursor(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Date(time, id) => format!("d:{}:{id}", time.0),
            Self::Id(id) => format!("i:{id}"),
            Self::LastUpdated(seq) => format!("u:{seq}"),
        })
    }

    /// The inverse of [`Position::to_cursor`].
    #[must_use]
    pub fn from_cursor(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        match text.split_once(':')? {
            ("d", rest) => {
                let (time, id) = rest.split_once(':')?;
                Some(Self::Date(Timestamp(time.parse().ok()?), id.parse().ok()?))
            }
            ("i", id) => Some(Self::Id(id.parse().ok()?)),
            ("u", seq) => Some(Self::LastUpdated(seq.parse().ok()?)),
            _ => None,
        }
    }
}

/// A search that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What to ask of the store. A count of 0 asks for the total alone.
    pub query: Query,
    /// Whether the client wants the total.
    pub total: bool,
    /// Names that were not understood, and ignored.
    pub ignored: Vec<String>,
    /// The parameters that were understood, as they came, without the cursor: for links.
    pub used: Vec<(String, String)>,
}

/// Why a search is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// A value that cannot be read.
    #[error("{param}: {problem}")]
    Invalid {
        /// The parameter.
        param: &'static str,
        /// What is wrong, and what is expected.
        problem: &'static str,
    },
    /// A modifier, such as `code:text`.
    #[error("{0}: no modifier is supported")]
    Modifier(&'static str),
    /// More than [`MAX_PARAMS`] parameters.
    #[error("more than {MAX_PARAMS} parameters")]
    TooMany,
}

/// Reads decoded `name=value` pairs. `now` is the time that `ap` is measured from.
///
/// # Errors
/// [`SearchError`] for the first parameter that is understood and wrong.
pub fn parse(
    kind: ResourceType,
    pairs: &[(String, String)],
    now: Timestamp,
) -> Result<Search, SearchError> {
    if pairs.len() > MAX_PARAMS {
        return Err(SearchError::TooMany);
    }
    let mut search = Search {
        query: Query {
            sort: default_sort(kind),
            ..Query::all(kind)
        },
        total: false,
        ignored: Vec::new(),
        used: Vec::new(),
    };
    for (name, value) in pairs {
        let (base, modifier) = name.split_once(':').unwrap_or((name, ""));
        let Some(known) = known_name(kind, base) else {
            search.ignored.push(name.chars().take(64).collect());
            continue;
        };
        if base.len() != name.len() || !modifier.is_empty() {
            return Err(SearchError::Modifier(known));
        }
        if value.is_empty() {
            return Err(invalid(known, "the value is empty"));
        }
        apply(&mut search, known, value, now)?;
        if known != "_cursor" {
            search.used.push((name.clone(), value.clone()));
        }
    }
    match &search.query.after {
        Some(position) if position.key() != search.query.sort.key => {
            Err(invalid("_cursor", "it belongs to another _sort"))
        }
        _ => Ok(search),
    }
}

/// Observations newest first, as clinicians read them; the others, which have no time, by id.
const fn default_sort(kind: ResourceType) -> Sort {
    match kind {
        ResourceType::Observation => Sort {
            key: SortKey::Date,
            descending: true,
        },
        ResourceType::Patient | ResourceType::Device => Sort {
            key: SortKey::Id,
            descending: false,
        },
    }
}

fn known_name(kind: ResourceType, name: &str) -> Option<&'static str> {
    let params = params_of(kind).iter().map(|param| param.name);
    params.chain(CONTROLS).find(|known| *known == name)
}

const fn invalid(param: &'static str, problem: &'static str) -> SearchError {
    SearchError::Invalid { param, problem }
}

fn apply(
    search: &mut Search,
    name: &'static str,
    value: &str,
    now: Timestamp,
) -> Result<(), SearchError> {
    let query = &mut search.query;
    let filter = match name {
        "_count" => {
            let count: u64 = value
                .parse()
                .map_err(|_| invalid(name, "a whole number is expected"))?;
            query.count = u16::try_from(count).unwrap_or(MAX_PAGE).min(MAX_PAGE);
            search.total |= query.count == 0;
            return Ok(());
        }
        "_sort" => {
            query.sort = sort_of(query.kind, value)
                .ok_or_else(|| invalid(name, "one of date, _id or _lastUpdated, or -date…"))?;
            return Ok(());
        }
        "_total" => {
            search.total = match value {
                "none" => false,
                "accurate" | "estimate" => true,
                _ => return Err(invalid(name, "one of none, estimate or accurate")),
            };
            return Ok(());
        }
        "_cursor" => {
            query.after = Some(
                Position::from_cursor(value)
                    .ok_or_else(|| invalid(name, "follow the link of a page"))?,
            );
            return Ok(());
        }
        "_format" => return Ok(()),
        "_id" => Filter::Id(each(name, value, |part| {
            plain(name, part)?
                .parse()
                .map_err(|_| invalid(name, "an id is expected"))
        })?),
        "patient" => Filter::Patient(references(name, value, ResourceType::Patient)?),
        "device" => Filter::Device(references(name, value, ResourceType::Device)?),
        "code" => Filter::Code(tokens(name, value, |token| token.codes())?),
        "category" => Filter::Category(tokens(name, value, |token| token.categories())?),
        "identifier" => Filter::Id(tokens(name, value, |token| token.readings())?),
        "date" => {
            let lists = each(name, value, |part| {
                date::intervals(&plain(name, part)?, now)
                    .ok_or_else(|| invalid(name, "a FHIR date with an optional prefix is expected"))
            })?;
            Filter::Date(lists.into_iter().flatten().collect())
        }
        _ => return Err(invalid(name, "not supported")),
    };
    query.filters.push(filter);
    Ok(())
}

fn sort_of(kind: ResourceType, text: &str) -> Option<Sort> {
    let (descending, key) = match text.strip_prefix('-') {
        Some(key) => (true, key),
        None => (false, text),
    };
    let key = match key {
        "date" if kind == ResourceType::Observation => SortKey::Date,
        "_id" => SortKey::Id,
        "_lastUpdated" => SortKey::LastUpdated,
        _ => return None,
    };
    Some(Sort { key, descending })
}

fn each<T>(
    name: &'static str,
    value: &str,
    read: impl Fn(&str) -> Result<T, SearchError>,
) -> Result<Vec<T>, SearchError> {
    let parts = split(value, ',');
    if parts.len() > MAX_VALUES {
        return Err(invalid(name, "too many values"));
    }
    parts.into_iter().map(read).collect()
}

fn references(
    name: &'static str,
    value: &str,
    kind: ResourceType,
) -> Result<Vec<FhirId>, SearchError> {
    each(name, value, |part| {
        let text = plain(name, part)?;
        let id = match text.split_once('/') {
            Some((found, id)) if found == kind.as_str() => id,
            Some(_) => return Err(invalid(name, "a reference to another type")),
            None => &text,
        };
        id.parse()
            .map_err(|_| invalid(name, "an id or Type/id is expected"))
    })
}

fn tokens<T>(
    name: &'static str,
    value: &str,
    matches: impl Fn(&Token) -> Vec<T>,
) -> Result<Vec<T>, SearchError> {
    let lists = each(name, value, |part| {
        let sides = split(part, '|');
        let token = match sides.as_slice() {
            [code] => Token {
                system: None,
                code: plain(name, code)?,
            },
            [system, code] => Token {
                system: Some(plain(name, system)?),
                code: plain(name, code)?,
            },
            _ => return Err(invalid(name, "code or system|code is expected")),
        };
        Ok(matches(&token))
    })?;
    Ok(lists.into_iter().flatten().collect())
}

/// FHIR R4 token: `code` of any system, `system|code`, `|code` of no system, `system|` of any code.
struct Token {
    system: Option<String>,
    code: String,
}

impl Token {
    fn matches(&self, system: &str, code: &str) -> bool {
        self.system.as_deref().is_none_or(|own| own == system)
            && (self.code == code || (self.code.is_empty() && self.system.is_some()))
    }

    /// The tables are closed, so a token resolves to their rows; one that is in no table matches nothing.
    fn codes(&self) -> Vec<Code> {
        Code::all()
            .filter(|code| self.matches(code.info().system, code.info().code))
            .collect()
    }

    fn categories(&self) -> Vec<Category> {
        crate::validate::CATEGORIES
            .into_iter()
            .filter(|known| {
                self.matches(known.system(), known.as_str())
                    && category_of(known.system(), known.as_str()).is_some()
            })
            .collect()
    }

    /// The one identifier of an Observation is its id (`map`), so no index of its own is needed.
    fn readings(&self) -> Vec<FhirId> {
        match self.code.parse() {
            Ok(id) if self.matches(READING_SYSTEM, &self.code) => vec![id],
            _ => Vec::new(),
        }
    }
}

/// Splits at a separator that no backslash precedes; escapes stay for the next level
/// (FHIR R4 search.html#escaping).
fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[start..]);
    parts
}

/// The text without its escapes: `\,` `\|` `\$` `\\`.
fn plain(name: &'static str, text: &str) -> Result<String, SearchError> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(escaped @ (',' | '|' | '$' | '\\')) => out.push(escaped),
                _ => return Err(invalid(name, "a backslash escapes only , | $ and itself")),
            },
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
