//! FHIR R4 search: from the parameters of a request to a typed [`Query`]. Pure; it knows no engine.
//!
//! What is understood is in [`params_of`] and [`CONTROLS`]; anything else is reported to the caller, who refuses it
//! unless the client prefers that it be ignored (FHIR R4 search.html#errors): a name that is misspelt is a filter too.
//! A value that is understood but wrong, and a modifier, are always refused: to ignore a filter would widen the answer.
mod cursor;
mod date;
mod references;
mod sort;

use crate::axis::Commits;
use crate::bases::Bases;
use crate::map::READING_SYSTEM;
use crate::query::Filter as Condition;
use crate::store::{FhirId, MAX_PAGE, ResourceType, SOURCE_PREFIX, category_of};
pub use cursor::{Cursor, Seal};
pub use date::Interval;
pub(crate) use date::period;
use references::{references, subjects};
pub use sort::{Sort, SortKey};
use types::{Category, Code, FacilityPseudonym, Timestamp};

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
const LAST_UPDATED: Param = param(
    "_lastUpdated",
    "date",
    "meta.lastUpdated, to the millisecond: a logical instant where dates are shifted, see the documentation",
);

const SOURCE: Param = param("_source", "uri", "Facility that it is from, as meta.source");

const OBSERVATION: &[Param] = &[
    ID,
    LAST_UPDATED,
    SOURCE,
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
    param(
        "subject",
        "reference",
        "Patient, or Device without a patient, that is the subject, as id or Type/id",
    ),
];

/// The search parameters of a resource type.
#[must_use]
pub fn params_of(kind: ResourceType) -> &'static [Param] {
    match kind {
        ResourceType::Observation => OBSERVATION,
        ResourceType::Patient | ResourceType::Device => &[ID, LAST_UPDATED, SOURCE],
        _ => &[ID, LAST_UPDATED],
    }
}

/// Parameters that shape the answer, of every type.
pub const CONTROLS: [&str; 6] = ["_count", "_sort", "_total", "_cursor", "_format", "_pretty"];

/// What to find, in which order, and which page of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The resource type.
    pub kind: ResourceType,
    /// All of them hold. Of Observations they are of those that facilities delivered.
    pub filters: Vec<Filter>,
    /// What holds of the Observations that clients wrote, which have the rows of an index; none of them is found where
    /// there is none.
    pub written: Option<Condition>,
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
            written: None,
            sort: Sort::by(SortKey::Id, false),
            count: DEFAULT_PAGE,
            after: None,
        }
    }

    /// The same of what clients wrote alone.
    #[must_use]
    pub fn of_clients(&self) -> Self {
        Self {
            filters: vec![Filter::Id(Vec::new())],
            ..self.clone()
        }
    }

    /// What was stored in one of these commits alone.
    pub fn within(&mut self, commits: Vec<Commits>) {
        let stored = Condition::Commits(commits.clone());
        let written = self.written.take();
        self.written = written.map(|written| Condition::All(vec![written, stored]));
        self.filters.push(Filter::Commits(commits));
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
    /// Who or what the subject is: a Patient, or the Device that measured where there is no patient.
    Subject {
        /// Ids of Patients.
        patients: Vec<FhirId>,
        /// Ids of Devices.
        devices: Vec<FhirId>,
    },
    /// What was measured.
    Code(Vec<Code>),
    /// Category.
    Category(Vec<Category>),
    /// Source time.
    Date(Vec<Interval>),
    /// When the region stored it.
    Updated(Vec<Interval>),
    /// In which commits the region stored it.
    Commits(Vec<Commits>),
    /// Which facility it is from.
    Source(Vec<FacilityPseudonym>),
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

/// A search that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// What to ask of the store, without the place to go on from. A count of 0 asks for the total alone.
    pub query: Query,
    /// The place to go on from.
    pub cursor: Option<Cursor>,
    /// Whether the client wants the total.
    pub total: bool,
    /// Names that were not understood, and ignored.
    pub ignored: Vec<String>,
    /// The parameters that were understood, as they came, without the cursor: for links.
    pub used: Vec<(String, String)>,
    /// What is before them in a link: the type, or where it is looked for it.
    pub path: String,
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
    /// A key of `_sort` that is not offered there.
    #[error(
        "_sort: {0:?} is not offered there; date, _id and _lastUpdated are, each with or without -, and _id behind either"
    )]
    Sort(String),
}

/// What the values of a search are read against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time that `ap` is measured from.
    pub now: Timestamp,
    /// The bases of the server, with which its own absolute references begin.
    pub base: Bases<'a>,
}

/// Reads decoded `name=value` pairs.
///
/// # Errors
/// [`SearchError`] for the first parameter that is understood and wrong.
pub fn parse(
    kind: ResourceType,
    pairs: &[(String, String)],
    context: Context<'_>,
) -> Result<Search, SearchError> {
    if pairs.len() > MAX_PARAMS {
        return Err(SearchError::TooMany);
    }
    let mut search = Search {
        query: Query {
            sort: Sort::default_of(kind),
            ..Query::all(kind)
        },
        cursor: None,
        total: false,
        ignored: Vec::new(),
        used: Vec::new(),
        path: kind.to_string(),
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
        apply(&mut search, known, value, context)?;
        if known != "_cursor" {
            search.used.push((name.clone(), value.clone()));
        }
    }
    match &search.cursor {
        Some(cursor) if cursor.key() != search.query.sort.key => {
            Err(invalid("_cursor", "it belongs to another _sort"))
        }
        _ => Ok(search),
    }
}

/// Whether a parameter of that very name, without a modifier, is understood here.
pub(crate) fn is_known(kind: ResourceType, name: &str) -> bool {
    known_name(kind, name).is_some()
}

fn known_name(kind: ResourceType, name: &str) -> Option<&'static str> {
    let params = params_of(kind).iter().map(|param| param.name);
    params.chain(CONTROLS).find(|known| *known == name)
}

pub(crate) const fn invalid(param: &'static str, problem: &'static str) -> SearchError {
    SearchError::Invalid { param, problem }
}

fn apply(
    search: &mut Search,
    name: &'static str,
    value: &str,
    context: Context<'_>,
) -> Result<(), SearchError> {
    let query = &mut search.query;
    let filter = match name {
        "_count" => {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let count = digits.then(|| value.parse::<u64>().unwrap_or(u64::MAX));
            let count = count.ok_or_else(|| invalid(name, "a whole number is expected"))?;
            query.count = u16::try_from(count).unwrap_or(MAX_PAGE).min(MAX_PAGE);
            search.total |= query.count == 0;
            return Ok(());
        }
        "_sort" => {
            query.sort = Sort::parse(query.kind, value).map_err(SearchError::Sort)?;
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
            let cursor = Cursor::of_text(value);
            search.cursor = Some(cursor.ok_or_else(|| invalid(name, FOLLOW))?);
            return Ok(());
        }
        // A format is negotiated elsewhere, and how JSON is set out is left to the server (FHIR R4 http.html#parameters).
        "_format" | "_pretty" => return Ok(()),
        "_id" => Filter::Id(each(name, value, |part| {
            plain(name, part)?
                .parse()
                .map_err(|_| invalid(name, "an id is expected"))
        })?),
        "patient" => Filter::Patient(references(name, value, ResourceType::Patient, context)?),
        "subject" => subjects(name, value, context)?,
        "device" => Filter::Device(references(name, value, ResourceType::Device, context)?),
        "code" => Filter::Code(tokens(name, value, |token| token.codes())?),
        "category" => Filter::Category(tokens(name, value, |token| token.categories())?),
        "identifier" => Filter::Id(tokens(name, value, |token| token.readings())?),
        "date" => Filter::Date(dates(name, value, context.now)?),
        "_source" => Filter::Source(sources(name, value)?),
        "_lastUpdated" => Filter::Updated(dates(name, value, context.now)?),
        _ => return Err(invalid(name, "not supported")),
    };
    query.filters.push(filter);
    Ok(())
}

/// What is wrong with a cursor that is not one of a page's links.
pub(crate) const FOLLOW: &str = "follow the link of a page";

fn dates(name: &'static str, value: &str, now: Timestamp) -> Result<Vec<Interval>, SearchError> {
    let lists = each(name, value, |part| {
        date::intervals(&plain(name, part)?, now)
            .ok_or_else(|| invalid(name, "a FHIR date with an optional prefix is expected"))
    })?;
    Ok(lists.into_iter().flatten().collect())
}

/// The facilities of these URIs; one that is no facility's is of nothing.
fn sources(name: &'static str, value: &str) -> Result<Vec<FacilityPseudonym>, SearchError> {
    let uris = each(name, value, |part| plain(name, part))?;
    let of = |uri: &String| uri.strip_prefix(SOURCE_PREFIX)?.parse().ok();
    Ok(uris.iter().filter_map(of).collect())
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
        crate::map::CATEGORIES
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
