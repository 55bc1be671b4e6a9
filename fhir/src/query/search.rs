//! A search that was understood. Total: there is nothing in it that an engine might not be able to answer.
use super::{Kind, Param, Problem};
use crate::{axis::Commits, search::Interval};

/// A search of one resource type, or of several.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// The resource types that are searched; never none. Several only where the system is searched with `_type`, and
    /// then every parameter is one of every resource.
    pub types: Vec<&'static str>,
    /// All of them hold.
    pub filters: Vec<Filter>,
    /// What is added that a resource of the page refers to.
    pub includes: Vec<Include>,
    /// What is added that refers to a resource of the page.
    pub revincludes: Vec<Include>,
    /// The order, the weightiest key first. An engine puts the id last, so that the order is total.
    pub sort: Vec<Sort>,
    /// Resources on a page; 0 asks for the total alone. None where the client names no number.
    pub count: Option<u32>,
    /// Whether the total is asked for.
    pub total: Total,
    /// Which part of each resource is asked for.
    pub summary: Option<Summary>,
    /// Elements that are asked for, at the top of a resource; all when there is none.
    pub elements: Vec<String>,
    /// The place to go on from, as the server's own link has it.
    pub cursor: Option<String>,
    /// Parameters that were dropped, where the client is lenient.
    pub dropped: Vec<Problem>,
    /// The pairs that were understood, as they came, without the cursor: for links.
    pub used: Vec<(String, String)>,
}

/// A condition on a resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// A row of the parameter matches one of the values. A resource without a row is not found.
    Param {
        /// The parameter.
        param: &'static Param,
        /// The values. None matches nothing.
        matches: Vec<Match>,
    },
    /// The parameter has no row (`:missing=true`), or has one (`false`).
    Missing {
        /// The parameter.
        param: &'static Param,
        /// Whether it has none.
        missing: bool,
    },
    /// The id of the resource is one of these.
    Id(Vec<String>),
    /// `meta.lastUpdated`, an instant of one millisecond, matches one of these.
    LastUpdated(Vec<DateMatch>),
    /// It was stored in one of these commits. No query asks for it: it is what `_lastUpdated` becomes where instants are
    /// logical ([`crate::axis`]), and only an engine knows commits.
    Commits(Vec<Commits>),
    /// An item of one of the Lists with these ids refers to the resource (`_list`).
    List(Vec<String>),
    /// What the reference leads to, of this server and of one of the types, is found by the filter of its type.
    Chain {
        /// The reference.
        param: &'static Param,
        /// The types that it may lead to, each with what has to hold of the resource there.
        targets: Vec<(&'static str, Filter)>,
    },
    /// A resource of another type refers to this one and is found by the filter (`_has`).
    Has {
        /// The type of the resource that refers.
        source: &'static str,
        /// The reference of that type.
        reference: &'static Param,
        /// What has to hold of the resource that refers.
        inner: Box<Filter>,
    },
    /// The same of a reading, which has columns instead of rows. No query asks for it: it is what [`Filter::Has`] becomes
    /// where readings are looked at.
    HasReading {
        /// `patient`, `device` or `subject`.
        reference: &'static Param,
        /// What has to hold of the reading.
        inner: Box<Filter>,
    },
    /// Of a reading that is looked at from another type: what a column answers. No query asks for it, as above.
    Column(crate::search::Filter),
    /// It is an AuditEvent of the server's own ([`crate::audit`]). No query asks for it.
    Own,
    /// The filter does not hold (`:not`); it holds of a resource without a row too.
    Not(Box<Filter>),
    /// One of them holds. None matches nothing.
    Any(Vec<Filter>),
    /// All of them hold. None matches everything.
    All(Vec<Filter>),
}

impl Filter {
    /// Whether it is what a condition on Observations becomes where readings are looked at: one on their columns, or on the
    /// rows of what clients wrote.
    #[must_use]
    pub fn is_by_columns(&self) -> bool {
        let Self::Any(any) = self else {
            return false;
        };
        matches!(any.first(), Some(Self::Column(_) | Self::HasReading { .. }))
    }
}

/// A value of a search, by the kind of the parameter.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants are the kinds of parameters")]
pub enum Match {
    Token(TokenMatch),
    Date(DateMatch),
    Number(NumberMatch),
    Quantity(QuantityMatch),
    Text(TextMatch),
    Reference(ReferenceMatch),
    Uri(UriMatch),
    Composite(CompositeMatch),
    /// Within so many metres of a place (Location `near`).
    Near {
        /// Degrees north.
        latitude: f64,
        /// Degrees east.
        longitude: f64,
        /// Greatest distance in metres.
        metres: f64,
    },
}

/// A token (FHIR R4 search.html#token).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenMatch {
    /// `code`: of any system, or of none.
    Code(String),
    /// `system|code`.
    Coded(String, String),
    /// `|code`: of no system.
    Bare(String),
    /// `system|`: any code of the system.
    System(String),
    /// `:text`: the text begins so, folded.
    Text(String),
    /// `:of-type`: the identifier's type and value.
    OfType {
        /// The system of the type.
        system: String,
        /// The code of the type.
        code: String,
        /// The value.
        value: String,
    },
}

/// How a value is compared (FHIR R4 search.html#prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Equal: the span that is searched for holds the whole span of the resource.
    Eq,
    /// Not equal.
    Ne,
    /// Greater: some of the resource's span is above.
    Gt,
    /// Less: some of the resource's span is below.
    Lt,
    /// Greater or equal.
    Ge,
    /// Less or equal.
    Le,
    /// Starts after: all of the resource's span is above.
    Sa,
    /// Ends before: all of the resource's span is below.
    Eb,
    /// About: the spans overlap, after what is searched for was widened.
    Ap,
}

/// A span of time. With a row's `low` and `high`: `Eq` is `low <= row.low && row.high <= high`, `Ne` its opposite, `Gt`
/// `row.high > high`, `Lt` `row.low < low`, `Ge` is `Gt` or `Eq`, `Le` is `Lt` or `Eq`, `Sa` `row.low > high`, `Eb`
/// `row.high < low`, `Ap` `row.low <= high && row.high >= low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateMatch {
    /// How it is compared.
    pub prefix: Prefix,
    /// The first millisecond since 1970, UTC; already widened for [`Prefix::Ap`].
    pub low: i64,
    /// The last millisecond; already widened for [`Prefix::Ap`].
    pub high: i64,
}

/// A number. `Eq` looks for `low <= row.low && row.high < high`, `Ne` for its opposite, `Ap` for
/// `row.low < high && row.high >= low`. Any other prefix compares with the exact value (FHIR R4 search.html#number):
/// `Gt` `row.high > value`, `Lt` `row.low < value`, `Ge` `row.high >= value`, `Le` `row.low <= value`, `Sa`
/// `row.low > value`, `Eb` `row.high < value`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NumberMatch {
    /// How it is compared.
    pub prefix: Prefix,
    /// As it was written.
    pub value: f64,
    /// The least that has the same significant digits; already widened for [`Prefix::Ap`].
    pub low: f64,
    /// The least above them: the span is half open.
    pub high: f64,
}

/// A quantity. With `canonical`, the canonical span of a row of the same canonical unit is compared with it, and nothing
/// else is looked at. Without it, the row's own span is compared, and the row's `system` and its `code` or `unit` are
/// those that are named.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantityMatch {
    /// The number in the unit that is named.
    pub number: NumberMatch,
    /// The system: any when there is none.
    pub system: Option<String>,
    /// The code or, without a system, the unit: any when there is none.
    pub code: Option<String>,
    /// The same in base units, and the unit, where the system is UCUM and the unit is known.
    pub canonical: Option<(NumberMatch, String)>,
}

/// A string (FHIR R4 search.html#string).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// The folded text begins with this folded text.
    Starts(String),
    /// `:contains`: the folded text holds this folded text.
    Contains(String),
    /// `:exact`: the text is this one.
    Exact(String),
}

/// A reference (FHIR R4 search.html#reference). What is none is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceMatch {
    /// A resource of this server.
    Local {
        /// Its type: any when there is none.
        resource_type: Option<String>,
        /// Its id.
        id: String,
        /// Its version: any, and no version, when there is none.
        version: Option<String>,
    },
    /// A resource elsewhere or a canonical URL: the row's `url` is this one.
    Url {
        /// The URL.
        url: String,
        /// The version behind the bar: any when there is none.
        version: Option<String>,
    },
    /// `:identifier`: the row's identifier matches; never [`TokenMatch::Text`] or [`TokenMatch::OfType`].
    Identifier(TokenMatch),
}

/// A URI (FHIR R4 search.html#uri).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UriMatch {
    /// The row's URI is this one.
    Is(String),
    /// `:below`: the row's URI is this one or begins with it and a slash.
    Below(String),
    /// `:above`: the row's URI is one of these, the URI that is searched for and those it stands below.
    Above(Vec<String>),
}

/// The parts of one value of a composite, in their order: each matches a row of its part, all of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct CompositeMatch(pub Vec<Match>);

/// What is added to a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    /// The type of the resource that refers.
    pub source: &'static str,
    /// Its references: all of the type where the client says `*`.
    pub params: Vec<&'static Param>,
    /// The type that is led to: any when there is none.
    pub target: Option<&'static str>,
    /// Whether it is applied again to what was added.
    pub iterate: bool,
}

/// A key of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// What is ordered by.
    pub by: SortBy,
    /// Whether the greatest comes first.
    pub descending: bool,
}

/// What an order is by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The id.
    Id,
    /// When the resource was stored.
    LastUpdated,
    /// The rows of a parameter, which is no composite and not special: the least of them ascending, the greatest
    /// descending. Resources without a row come last.
    Param(&'static Param),
}

/// `_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Total {
    /// Not asked for.
    #[default]
    None,
    /// An estimate will do.
    Estimate,
    /// The exact number.
    Accurate,
}

/// `_summary`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Summary {
    /// The elements that R4 marks as summary.
    True,
    /// Narrative, id, meta and what is mandatory.
    Text,
    /// All but the narrative.
    Data,
    /// The number of resources alone.
    Count,
    /// Everything.
    False,
}

impl Search {
    /// Every resource of a type, or of several.
    #[must_use]
    pub const fn all(types: Vec<&'static str>) -> Self {
        Self {
            types,
            filters: Vec::new(),
            includes: Vec::new(),
            revincludes: Vec::new(),
            sort: Vec::new(),
            count: None,
            total: Total::None,
            summary: None,
            elements: Vec::new(),
            cursor: None,
            dropped: Vec::new(),
            used: Vec::new(),
        }
    }
}

impl DateMatch {
    /// The spans, half open, of the instants that match it.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let of = |from: Option<i64>, until: Option<i64>| Interval { from, until };
        let behind = self.high.saturating_add(1);
        match self.prefix {
            Prefix::Eq | Prefix::Ap => vec![of(Some(self.low), Some(behind))],
            Prefix::Ne => vec![of(None, Some(self.low)), of(Some(behind), None)],
            Prefix::Gt | Prefix::Sa => vec![of(Some(behind), None)],
            Prefix::Lt | Prefix::Eb => vec![of(None, Some(self.low))],
            Prefix::Ge => vec![of(Some(self.low), None)],
            Prefix::Le => vec![of(None, Some(behind))],
        }
    }
}

impl Kind {
    /// Whether a search may be ordered by parameters of the kind.
    #[must_use]
    pub const fn sorts(self) -> bool {
        !matches!(self, Self::Composite | Self::Special)
    }
}
