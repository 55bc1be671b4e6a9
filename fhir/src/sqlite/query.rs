//! Search in SQLite: the query's filters as SQL with bound values, keyset paging. Observations are two selections, one of
//! readings by their columns and one of what clients wrote by the rows of its index, each in the order that is asked for.
use super::stored;
use crate::axis::Commits;
use crate::map::WITHDRAWN;
use crate::query::Filter as Condition;
use crate::query::sql::{Bind, Dialect, Sql as Conditions, condition};
use crate::search::{Filter, Interval, Position, Query, Sort, SortKey};
use crate::sql::order;
use crate::store::{Measure, Page, Stored, fill};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use types::Timestamp;

const COLUMNS: &str = "type, id, version, updated, body, source, seq, effective";
/// A number that is larger than a float holds is text to the engine's JSON; then it is none.
const MEASURES: &str = "effective, CAST(json_extract(body, '$.valueQuantity.value') AS REAL), \
     json_extract(body, '$.valueQuantity.code')";
const COUNT: &str = "count(*) AS number";

/// A resource, its place in the order of commits, and the time by which it is listed.
type Row = (Stored, i64, Option<i64>);

/// One page.
pub fn page(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let sql = Sql::of_page(query);
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.values), |row| {
        Ok((stored(row)?, row.get(6)?, row.get(7)?))
    })?;
    let (found, more) = fill(rows, query.count, |row: &Row| &row.0)?;
    let next = match found.last() {
        Some((last, seq, effective)) if more => Some(match query.sort.key {
            SortKey::Id => Position::Id(last.id.clone()),
            SortKey::LastUpdated => Position::LastUpdated(*seq),
            SortKey::Date => {
                Position::Date(Timestamp(effective.unwrap_or_default()), last.id.clone())
            }
        }),
        _ => None,
    };
    Ok(Page {
        resources: found.into_iter().map(|(stored, ..)| stored).collect(),
        next,
    })
}

/// The statement of a page, and its values.
#[cfg(feature = "contract")]
pub fn statement(query: &Query) -> (String, Vec<Value>) {
    let sql = Sql::of_page(query);
    (sql.text, sql.values)
}

/// What readings that match say.
pub fn measures(
    connection: &Connection,
    query: &Query,
    most: usize,
) -> rusqlite::Result<Vec<Measure>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut sql = Sql::default();
    sql.filtered(MEASURES, query);
    sql.text
        .push_str(" AND json_extract(body, '$.status') IS NOT ?");
    sql.values.push(Value::Text(WITHDRAWN.to_owned()));
    sql.limit(most);
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.values), |row| {
        Ok(Measure {
            effective: row.get::<_, Option<i64>>(0)?.map(Timestamp),
            value: row.get(1)?,
            unit: row.get(2)?,
        })
    })?;
    rows.collect()
}

/// How many match.
pub fn total(connection: &Connection, query: &Query) -> rusqlite::Result<u64> {
    let mut sql = Sql::default();
    sql.text.push_str("SELECT sum(number) FROM (");
    sql.select(COUNT, query, |_| {});
    sql.text.push(')');
    connection
        .prepare_cached(&sql.text)?
        .query_row(params_from_iter(sql.values), |row| {
            Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0))
        })
}

/// Whether a condition leads to ids by an index. Otherwise what clients wrote is walked in the order of its times.
fn leads(written: &Condition) -> bool {
    match written {
        Condition::Param { .. } | Condition::Id(_) => true,
        Condition::All(all) => all.iter().any(leads),
        _ => false,
    }
}

#[derive(Default)]
struct Sql {
    text: String,
    values: Vec<Value>,
    /// Whether what clients wrote is being selected, to which a condition leads: behind an id are all readings.
    is_written: bool,
}

impl Sql {
    /// One page, and one more than asked for: that tells whether there is a next page.
    fn of_page(query: &Query) -> Self {
        let most = i64::from(query.count) + 1;
        let mut sql = Self::default();
        sql.select(COLUMNS, query, |sql| {
            if let Some(position) = &query.after {
                sql.after(position, &query.sort);
            }
            sql.ordered(query);
            sql.limit(most);
        });
        if query.written.is_some() {
            sql.text.push_str(&order(&query.sort));
            sql.limit(most);
        }
        sql
    }

    /// What is found: of Observations one selection behind the other, each with what `rest` adds.
    fn select(&mut self, columns: &str, query: &Query, rest: impl Fn(&mut Self)) {
        let Some(written) = &query.written else {
            self.filtered(columns, query);
            return rest(self);
        };
        self.text.push_str("SELECT * FROM (");
        self.filtered(columns, query);
        rest(self);
        self.text.push_str(") UNION ALL SELECT * FROM (");
        // The planner has no statistics.
        let by = match leads(written) {
            true => "",
            false => " INDEXED BY resource_written",
        };
        self.text.push_str(&format!(
            "SELECT {columns} FROM resource r{by} WHERE r.type = 'Observation' AND r.author IS NOT NULL AND "
        ));
        self.condition(written);
        self.is_written = true;
        rest(self);
        self.is_written = false;
        self.text.push(')');
    }

    /// A condition on the row `r`, whose values follow those that there are.
    fn condition(&mut self, written: &Condition) {
        let mut sql = Conditions::new(Dialect::Sqlite);
        sql.binds = vec![Bind::Null; self.values.len()];
        condition(&mut sql, "r", &["Observation"], written, &|_| None);
        self.text.push_str(&sql.text);
        let values = sql.binds.into_iter().skip(self.values.len());
        let values: Vec<Value> = values
            .map(|bind| match bind {
                Bind::Null => Value::Null,
                Bind::Integer(number) => Value::Integer(number),
                Bind::Real(number) => Value::Real(number),
                Bind::Text(text) => Value::Text(text),
            })
            .collect();
        self.values.extend(values);
    }

    fn limit(&mut self, most: i64) {
        self.text.push_str(" LIMIT ?");
        self.values.push(Value::Integer(most));
    }

    fn filtered(&mut self, columns: &str, query: &Query) {
        let sql = self;
        sql.text
            .push_str(&format!("SELECT {columns} FROM resource WHERE "));
        sql.values.push(Value::Text(query.kind.as_str().to_owned()));
        let by_id = |filter: &Filter| matches!(filter, Filter::Id(_));
        let uses_id = query.sort.key == SortKey::Id || query.filters.iter().any(by_id);
        // The unary plus keeps the planner, which has no statistics, from choosing the index on (type, id) where
        // the type alone would select most of the table.
        sql.text
            .push_str(if uses_id { "type = ?" } else { "+type = ?" });
        if !query.kind.is_indexed() {
            sql.text.push_str(" AND author IS NULL");
        }
        for filter in &query.filters {
            sql.text.push_str(" AND ");
            sql.filter(filter);
        }
    }

    fn filter(&mut self, filter: &Filter) {
        match filter {
            Filter::Id(ids) => self.one_of("id", ids.iter().map(ToString::to_string)),
            Filter::Patient(ids) => self.one_of("patient", ids.iter().map(ToString::to_string)),
            Filter::Device(ids) => self.one_of("device", ids.iter().map(ToString::to_string)),
            Filter::Subject { patients, devices } => {
                self.text.push('(');
                self.one_of("patient", patients.iter().map(ToString::to_string));
                self.text.push_str(" OR (patient IS NULL AND ");
                self.one_of("device", devices.iter().map(ToString::to_string));
                self.text.push_str("))");
            }
            Filter::Code(codes) => self.one_of("code", codes.iter().map(ToString::to_string)),
            Filter::Category(list) => {
                self.one_of("category", list.iter().map(|one| one.as_str().to_owned()));
            }
            Filter::Date(intervals) => self.dates("effective", intervals),
            Filter::Updated(intervals) => self.dates("updated", intervals),
            Filter::Commits(list) => self.commits(list),
            Filter::Source(list) => self.one_of("source", list.iter().map(ToString::to_string)),
        }
    }

    fn commits(&mut self, list: &[Commits]) {
        let mut any = Vec::new();
        for commits in list {
            self.values.push(Value::Integer(commits.after));
            any.push(match commits.until {
                None => "seq > ?",
                Some(until) => {
                    self.values.push(Value::Integer(until));
                    "seq > ? AND seq <= ?"
                }
            });
        }
        let any = if any.is_empty() {
            "0".to_owned()
        } else {
            any.join(" OR ")
        };
        self.text.push_str(&format!("({any})"));
    }

    /// `column = ?` for one value, so that its index also gives the order.
    fn one_of(&mut self, column: &str, values: impl Iterator<Item = String>) {
        let before = self.values.len();
        self.values.extend(values.map(Value::Text));
        match self.values.len() - before {
            1 => self.text.push_str(&format!("{column} = ?")),
            count => {
                let marks = vec!["?"; count].join(",");
                self.text.push_str(&format!("{column} IN ({marks})"));
            }
        }
    }

    fn dates(&mut self, column: &str, intervals: &[Interval]) {
        let mut any = Vec::new();
        for interval in intervals {
            let mut all = Vec::new();
            for (bound, than) in [(interval.from, ">="), (interval.until, "<")] {
                if let Some(bound) = bound {
                    all.push(format!("{column} {than} ?"));
                    self.values.push(Value::Integer(bound));
                }
            }
            any.push(match all.is_empty() {
                true => format!("{column} IS NOT NULL"),
                false => all.join(" AND "),
            });
        }
        self.text.push_str(&format!("({})", any.join(" OR ")));
    }

    fn after(&mut self, position: &Position, sort: &Sort) {
        let than = if sort.descending { "<" } else { ">" };
        match position {
            Position::Id(id) => {
                // The unary plus keeps the planner from the index on (type, id), as above.
                let plain = if self.is_written { "+" } else { "" };
                self.text.push_str(&format!(" AND {plain}id {than} ?"));
                self.values.push(Value::Text(id.to_string()));
            }
            Position::LastUpdated(seq) => {
                self.text.push_str(&format!(" AND seq {than} ?"));
                self.values.push(Value::Integer(*seq));
            }
            Position::Date(time, id) => {
                let test = if sort.ids_descending == sort.descending {
                    format!(" AND (effective, id) {than} (?, ?)")
                } else {
                    let ids = if sort.ids_descending { "<" } else { ">" };
                    let time = Value::Integer(time.0);
                    self.values.extend([time.clone(), time]);
                    // The first is where the index begins: of two of which either may hold none is, and each page would
                    // pass over all before it.
                    format!(
                        " AND effective {than}= ? \
                         AND (effective {than} ? OR (effective = ? AND id {ids} ?))"
                    )
                };
                self.text.push_str(&test);
                self.values.push(Value::Integer(time.0));
                self.values.push(Value::Text(id.to_string()));
            }
        }
    }

    fn ordered(&mut self, query: &Query) {
        // The partial index on times serves only where no time is ruled out; every Observation has one.
        if query.sort.key == SortKey::Date {
            self.text.push_str(" AND effective IS NOT NULL");
        }
        self.text.push_str(&order(&query.sort));
    }
}
