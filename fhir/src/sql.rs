//! SQL text with bound values, for both engines: whatever comes from a request is a value, never text.
//!
//! What differs between the engines is in [`Dialect`]; a statement that an engine needs for itself is written out there.
use crate::axis::Commits;
use crate::search::Interval;
use crate::store::{HistoryPlace, HistoryQuery, ResourceType, Scope};

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A statement that grows.
#[derive(Debug)]
pub(crate) struct Sql {
    pub dialect: Dialect,
    pub text: String,
    pub values: Vec<Value>,
}

impl Sql {
    pub const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            text: String::new(),
            values: Vec::new(),
        }
    }

    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Binds a value and gives its mark.
    pub fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        let sign = match self.dialect {
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        };
        format!("{sign}{}", self.values.len())
    }
}

/// Every version, once. What facilities deliver in one version has it in `resource` alone; of everything else every
/// version is in `history`.
pub(crate) fn history(dialect: Dialect, query: &HistoryQuery) -> Sql {
    const ROW: &str = "type, id, version, updated, body, source, seq";
    let order = match query.by_id {
        true => "type, id, version",
        false => "seq DESC, type, id, version",
    };
    let mut sql = Sql::new(dialect);
    // One more than asked for tells whether there is a next page.
    let limit = sql.bind(i64::from(query.count) + 1);
    sql.push(&format!(
        "SELECT {ROW} FROM (SELECT * FROM (SELECT {ROW} FROM resource \
         WHERE author IS NULL AND {} ",
        single_version(dialect, query)
    ));
    sql.versions(query);
    sql.push(&format!(
        " ORDER BY {order} LIMIT {limit}) AS one UNION ALL SELECT * FROM (SELECT type, id, version, updated, body, \
         (SELECT source FROM resource r WHERE r.type = h.type AND r.id = h.id) AS source, seq FROM history h WHERE 1 = 1 "
    ));
    sql.versions(query);
    sql.push(&format!(
        " ORDER BY {order} LIMIT {limit}) AS other) AS both_of ORDER BY {order} LIMIT {limit}"
    ));
    sql
}

/// The type that facilities deliver in one version. By commits the type selects most of the table, which SQLite's
/// planner does not know; the unary plus keeps it from the index on types.
fn single_version(dialect: Dialect, query: &HistoryQuery) -> &'static str {
    match (&query.scope, dialect) {
        (Scope::Type(kind) | Scope::Instance(kind, _), _) if *kind != ResourceType::Observation => {
            "1 = 0"
        }
        (Scope::Everything | Scope::Type(_), Dialect::Sqlite) if !query.by_id => {
            "+type = 'Observation'"
        }
        _ => "type = 'Observation'",
    }
}

impl Sql {
    fn versions(&mut self, query: &HistoryQuery) {
        match &query.scope {
            Scope::Everything => {}
            Scope::Type(kind) => {
                let kind = self.bind(kind.as_str());
                self.push(&format!(" AND type = {kind}"));
            }
            Scope::Instance(kind, id) => {
                let (kind, id) = (self.bind(kind.as_str()), self.bind(id.as_str()));
                self.push(&format!(" AND type = {kind} AND id = {id}"));
            }
        }
        if let Some(Commits { after, until }) = query.commits {
            let after = self.bind(after);
            self.push(&format!(" AND seq > {after}"));
            if let Some(until) = until {
                let until = self.bind(until);
                self.push(&format!(" AND seq <= {until}"));
            }
        }
        if let Some(Interval { from, until }) = query.updated {
            for (bound, than) in [(from, ">="), (until, "<")] {
                if let Some(bound) = bound {
                    let bound = self.bind(bound);
                    self.push(&format!(" AND updated {than} {bound}"));
                }
            }
        }
        if let Some(place) = &query.after {
            self.after(place, query.by_id);
        }
    }

    fn after(&mut self, place: &HistoryPlace, by_id: bool) {
        let behind = |sql: &mut Self| {
            let kind = sql.bind(place.kind.as_str());
            let id = sql.bind(place.id.as_str());
            let version = sql.bind(i64::from(place.version));
            format!("(type, id, version) > ({kind}, {id}, {version})")
        };
        let test = if by_id {
            behind(self)
        } else {
            let seq = self.bind(place.seq);
            let behind = behind(self);
            format!("seq <= {seq} AND (seq < {seq} OR {behind})")
        };
        self.push(&format!(" AND {test}"));
    }
}
