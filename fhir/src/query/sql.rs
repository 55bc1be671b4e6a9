//! A search as SQL: the tables of an index, the values of its rows, and conditions with bound values alone.
//!
//! For SQLite and PostgreSQL, which differ in their marks for bound values and in one function. It finds what
//! [`super::matches`] finds, in a table `resource` with the columns `type`, `id`, `updated` (ms since 1970) and `author`, and
//! the tables of [`TABLES`]. Text of a request is a bound value, never part of a statement.
mod columns;
mod condition;
mod ids;
mod near;
mod referring;

use super::{IndexRow, Kind, Value};
pub use condition::{Visible, condition};
pub use ids::ids;

/// Which engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the engines")]
pub enum Dialect {
    Sqlite,
    Postgres,
}

/// A bound value.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are those of the types")]
pub enum Bind {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl From<i64> for Bind {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<&str> for Bind {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// A statement, or a part of one, with its bound values in the order of their marks.
#[derive(Clone, Debug, PartialEq)]
pub struct Sql {
    /// Which engine it is for.
    pub dialect: Dialect,
    /// Its text.
    pub text: String,
    /// Its values: the first has the mark `?1` or `$1`.
    pub binds: Vec<Bind>,
}

impl Sql {
    /// An empty one.
    #[must_use]
    pub const fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            text: String::new(),
            binds: Vec::new(),
        }
    }

    /// Adds text that comes from no request.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Binds a value and gives its mark.
    pub fn mark(&mut self, value: impl Into<Bind>) -> String {
        self.binds.push(value.into());
        let sign = match self.dialect {
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        };
        format!("{sign}{}", self.binds.len())
    }

    /// Binds a value, and adds its mark.
    pub fn bind(&mut self, value: Bind) {
        let mark = self.mark(value);
        self.push(&mark);
    }

    /// Binds a text.
    pub fn bind_text(&mut self, text: &str) {
        self.bind(Bind::Text(text.to_owned()));
    }
}

/// A table of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// Its columns behind `type`, `id`, `param`, `grp` and `part`, each with its type in SQLite and in PostgreSQL.
    pub columns: &'static [(&'static str, &'static str, &'static str)],
    /// The columns of its indexes, behind `type` and `param`. Where `id` follows what is equal, resources are found in the
    /// order of their ids, and a page looks at no more of them than it shows.
    pub indexes: &'static [&'static str],
}

const TEXT: (&str, &str) = ("TEXT", "TEXT COLLATE \"C\"");
/// Types and parameters: as `resource.type` is, so that the indexes of both sides are of use.
const NAME: (&str, &str) = ("TEXT", "TEXT");
const REAL: (&str, &str) = ("REAL", "DOUBLE PRECISION");
const WHOLE: (&str, &str) = ("INTEGER", "BIGINT");

const fn column(
    name: &'static str,
    of: (&'static str, &'static str),
) -> (&'static str, &'static str, &'static str) {
    (name, of.0, of.1)
}

/// Tokens, and identifiers by their types (with `value`).
pub const TOKEN: Table = Table {
    name: "index_token",
    columns: &[
        column("system", TEXT),
        column("code", TEXT),
        column("text", TEXT),
        column("value", TEXT),
    ],
    indexes: &["code, id, system", "system, id", "text, id"],
};
/// Spans of time.
pub const DATE: Table = Table {
    name: "index_date",
    columns: &[column("low", WHOLE), column("high", WHOLE)],
    indexes: &["low, high, id", "high, id"],
};
/// Numbers, quantities and places (as points on a ball: `low`, `high`, `base_low`).
pub const NUMBER: Table = Table {
    name: "index_number",
    columns: &[
        column("low", REAL),
        column("high", REAL),
        column("system", TEXT),
        column("code", TEXT),
        column("unit", TEXT),
        column("base_low", REAL),
        column("base_high", REAL),
        column("base_unit", TEXT),
    ],
    indexes: &["low, high, id", "base_unit, base_low, base_high, id"],
};
/// Texts.
pub const STRING: Table = Table {
    name: "index_text",
    columns: &[column("exact", TEXT), column("folded", TEXT)],
    indexes: &["folded, id", "exact, id"],
};
/// References.
pub const REFERENCE: Table = Table {
    name: "index_reference",
    columns: &[
        column("target_type", NAME),
        column("target_id", TEXT),
        column("version", TEXT),
        column("url", TEXT),
        column("of_system", TEXT),
        column("of_value", TEXT),
    ],
    indexes: &["target_id, target_type, id", "url, id", "of_value, id"],
};
/// URIs.
pub const URI: Table = Table {
    name: "index_uri",
    columns: &[column("uri", TEXT)],
    indexes: &["uri, id"],
};

/// What leads from the index of codes that had their systems before their ids to that of [`TOKEN`].
pub const CODES_BY_ID: &str = "DROP INDEX index_token_0; \
     CREATE INDEX index_token_0 ON index_token(type, param, code, id, system);";

/// Every table.
pub const TABLES: [Table; 6] = [TOKEN, DATE, NUMBER, STRING, REFERENCE, URI];

/// The table of a kind of parameter; none of a composite, whose parts have theirs.
#[must_use]
pub const fn table(kind: Kind) -> Option<Table> {
    Some(match kind {
        Kind::Token => TOKEN,
        Kind::Date => DATE,
        Kind::Number | Kind::Quantity | Kind::Special => NUMBER,
        Kind::String => STRING,
        Kind::Reference => REFERENCE,
        Kind::Uri => URI,
        Kind::Composite => return None,
    })
}

impl Table {
    /// The statements that make the table and its indexes.
    #[must_use]
    pub fn create(&self, dialect: Dialect) -> String {
        let name = self.name;
        let own = |of: (&'static str, &'static str)| match dialect {
            Dialect::Sqlite => of.0,
            Dialect::Postgres => of.1,
        };
        let keys = [("type", NAME), ("id", TEXT), ("param", NAME)];
        let keys = keys.map(|(name, of)| format!("{name} {} NOT NULL", own(of)));
        let numbers = ["grp", "part"].map(|name| format!("{name} {} NOT NULL", own(WHOLE)));
        let others = self
            .columns
            .iter()
            .map(|(name, sqlite, postgres)| format!("{name} {}", own((sqlite, postgres))));
        let columns: Vec<String> = keys.into_iter().chain(numbers).chain(others).collect();
        let mut text = format!("CREATE TABLE {name}({});\n", columns.join(", "));
        text.push_str(&format!("CREATE INDEX {name}_of ON {name}(type, id);\n"));
        for (at, columns) in self.indexes.iter().enumerate() {
            text.push_str(&format!(
                "CREATE INDEX {name}_{at} ON {name}(type, param, {columns});\n"
            ));
        }
        text
    }

    /// The statement that adds one row: its values are those of [`row`].
    #[must_use]
    pub fn insert(&self, dialect: Dialect) -> String {
        let others = self.columns.iter().map(|(name, ..)| *name);
        let names: Vec<&str> = ["type", "id", "param", "grp", "part"]
            .into_iter()
            .chain(others)
            .collect();
        let sign = match dialect {
            Dialect::Sqlite => '?',
            Dialect::Postgres => '$',
        };
        let marks: Vec<String> = (1..=names.len()).map(|at| format!("{sign}{at}")).collect();
        format!(
            "INSERT INTO {}({}) VALUES ({})",
            self.name,
            names.join(", "),
            marks.join(", ")
        )
    }

    /// Its columns in PostgreSQL, in the order of [`Table::insert`], each with the type of an array of its values.
    pub fn arrays(&self) -> impl Iterator<Item = (&'static str, Array)> + use<> {
        let keys = [
            ("type", Array::Text),
            ("id", Array::Text),
            ("param", Array::Text),
            ("grp", Array::Whole),
            ("part", Array::Whole),
        ];
        let others = self.columns.iter().map(|(name, _, postgres)| {
            let of = match *postgres {
                "BIGINT" => Array::Whole,
                "DOUBLE PRECISION" => Array::Real,
                _ => Array::Text,
            };
            (*name, of)
        });
        keys.into_iter().chain(others)
    }

    /// The statement of PostgreSQL that adds many rows: its values are the columns of [`Table::arrays`].
    #[must_use]
    pub fn insert_many(&self) -> String {
        let (mut names, mut arrays) = (Vec::new(), Vec::new());
        for (at, (name, of)) in (1..).zip(self.arrays()) {
            names.push(name);
            arrays.push(format!("${at}::{}[]", of.as_str()));
        }
        format!(
            "INSERT INTO {}({}) SELECT * FROM unnest({})",
            self.name,
            names.join(", "),
            arrays.join(", ")
        )
    }

    /// The statement of PostgreSQL that takes away the rows of many resources, by arrays of their types and ids.
    #[must_use]
    pub fn delete_many(&self) -> String {
        format!(
            "DELETE FROM {} x USING unnest($1::text[], $2::text[]) AS k(type, id) WHERE x.type = k.type AND x.id = k.id",
            self.name
        )
    }

    /// The statement that takes away the rows of a resource, by its type and its id.
    #[must_use]
    pub fn delete(&self, dialect: Dialect) -> String {
        let (kind, id) = match dialect {
            Dialect::Sqlite => ("?1", "?2"),
            Dialect::Postgres => ("$1", "$2"),
        };
        format!(
            "DELETE FROM {} WHERE type = {kind} AND id = {id}",
            self.name
        )
    }
}

/// Of what an array is, in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the names are those of the values that are bound"
)]
pub enum Array {
    Text,
    Whole,
    Real,
}

impl Array {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Whole => "bigint",
            Self::Real => "double precision",
        }
    }
}

/// The table of a row of a resource, and its values in the order of [`Table::insert`].
#[must_use]
pub fn row(resource_type: &str, id: &str, row: &IndexRow) -> (Table, Vec<Bind>) {
    let keys = [
        text(resource_type),
        text(id),
        text(row.param),
        Bind::Integer(i64::from(row.group)),
        Bind::Integer(i64::from(row.part)),
    ];
    let (table, values) = values(&row.value);
    (table, keys.into_iter().chain(values).collect())
}

fn text(text: &str) -> Bind {
    Bind::Text(text.to_owned())
}

fn some(text: &Option<String>) -> Bind {
    text.clone().map_or(Bind::Null, Bind::Text)
}

/// The table of a value, and its columns.
fn values(value: &Value) -> (Table, Vec<Bind>) {
    let columns = |table: Table, mut values: Vec<Bind>| {
        values.resize(table.columns.len(), Bind::Null);
        (table, values)
    };
    match value {
        Value::Token { system, code, text } => {
            columns(TOKEN, vec![some(system), some(code), some(text)])
        }
        Value::OfType {
            system,
            code,
            value,
        } => columns(
            TOKEN,
            vec![some(system), text(code), Bind::Null, text(value)],
        ),
        Value::Date { low, high } => columns(DATE, vec![Bind::Integer(*low), Bind::Integer(*high)]),
        Value::Number { low, high } => columns(NUMBER, vec![Bind::Real(*low), Bind::Real(*high)]),
        Value::Text { exact, folded } => columns(STRING, vec![text(exact), text(folded)]),
        Value::Uri(uri) => columns(URI, vec![text(uri)]),
        Value::Quantity {
            low,
            high,
            system,
            code,
            unit,
            canonical,
        } => {
            let mut values = vec![
                Bind::Real(*low),
                Bind::Real(*high),
                some(system),
                some(code),
                some(unit),
            ];
            if let Some(base) = canonical {
                values.extend([
                    Bind::Real(base.low),
                    Bind::Real(base.high),
                    text(&base.unit),
                ]);
            }
            columns(NUMBER, values)
        }
        Value::Reference {
            resource_type,
            id,
            version,
            url,
            identifier,
        } => {
            let mut values = vec![some(resource_type), some(id), some(version), some(url)];
            if let Some((system, value)) = identifier {
                values.extend([some(system), text(value)]);
            }
            columns(REFERENCE, values)
        }
        Value::Position {
            latitude,
            longitude,
        } => {
            let [x, y, z] = near::on_ball(*latitude, *longitude);
            let mut values = vec![Bind::Real(x), Bind::Real(y)];
            values.resize(5, Bind::Null);
            values.push(Bind::Real(z));
            columns(NUMBER, values)
        }
    }
}

#[cfg(test)]
#[path = "sql_tests.rs"]
mod tests;
