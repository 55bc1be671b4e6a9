//! Search in SQLite: the query's filters as SQL with bound values, keyset paging.
use super::stored;
use crate::axis::Commits;
use crate::map::WITHDRAWN;
use crate::search::{Filter, Interval, Position, Query, Sort, SortKey};
use crate::store::{Measure, Page, Stored};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use types::Timestamp;

const COLUMNS: &str =
    "SELECT type, id, version, updated, body, source, seq, effective FROM resource WHERE ";
/// A number that is larger than a float holds is text to the engine's JSON; then it is none.
const MEASURES: &str = "SELECT effective, CAST(json_extract(body, '$.valueQuantity.value') AS REAL), \
     json_extract(body, '$.valueQuantity.code') FROM resource WHERE ";
const COUNT: &str = "SELECT count(*) FROM resource WHERE ";

/// One page.
pub fn page(connection: &Connection, query: &Query) -> rusqlite::Result<Page> {
    let mut sql = Sql::filtered(COLUMNS, query);
    if let Some(position) = &query.after {
        sql.after(position, &query.sort);
    }
    sql.ordered(query);
    let limit = usize::from(query.count);
    // One more than asked for tells whether there is a next page.
    sql.text.push_str(" LIMIT ?");
    sql.values.push(Value::Integer(i64::from(query.count) + 1));
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(sql.values), |row| {
        Ok((stored(row)?, row.get(6)?, row.get(7)?))
    })?;
    let mut found: Vec<(Stored, i64, Option<i64>)> = rows.collect::<rusqlite::Result<_>>()?;
    let more = found.len() > limit;
    found.truncate(limit);
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

/// What readings that match say.
pub fn measures(
    connection: &Connection,
    query: &Query,
    most: usize,
) -> rusqlite::Result<Vec<Measure>> {
    let mut sql = Sql::filtered(MEASURES, query);
    sql.text
        .push_str(" AND json_extract(body, '$.status') IS NOT ? LIMIT ?");
    sql.values.push(Value::Text(WITHDRAWN.to_owned()));
    sql.values
        .push(Value::Integer(i64::try_from(most).unwrap_or(i64::MAX)));
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
    let sql = Sql::filtered(COUNT, query);
    connection
        .prepare_cached(&sql.text)?
        .query_row(params_from_iter(sql.values), |row| {
            Ok(u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0))
        })
}

struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn filtered(head: &str, query: &Query) -> Self {
        let mut sql = Self {
            text: head.to_owned(),
            values: vec![Value::Text(query.kind.as_str().to_owned())],
        };
        let by_id = |filter: &Filter| matches!(filter, Filter::Id(_));
        let uses_id = query.sort.key == SortKey::Id || query.filters.iter().any(by_id);
        // The unary plus keeps the planner, which has no statistics, from choosing the index on (type, id) where
        // the type alone would select most of the table.
        sql.text
            .push_str(if uses_id { "type = ?" } else { "+type = ?" });
        for filter in &query.filters {
            sql.text.push_str(" AND ");
            sql.filter(filter);
        }
        sql
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
                self.text.push_str(&format!(" AND id {than} ?"));
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
                    self.values.push(Value::Integer(time.0));
                    format!(" AND (effective {than} ? OR (effective = ? AND id {ids} ?))")
                };
                self.text.push_str(&test);
                self.values.push(Value::Integer(time.0));
                self.values.push(Value::Text(id.to_string()));
            }
        }
    }

    fn ordered(&mut self, query: &Query) {
        let way = if query.sort.descending { "DESC" } else { "ASC" };
        let ids = if query.sort.ids_descending {
            "DESC"
        } else {
            "ASC"
        };
        self.text.push_str(&match query.sort.key {
            SortKey::Id => format!(" ORDER BY id {way}"),
            SortKey::LastUpdated => format!(" ORDER BY seq {way}"),
            // The partial index on times serves only where no time is ruled out; every Observation has one.
            SortKey::Date => {
                format!(" AND effective IS NOT NULL ORDER BY effective {way}, id {ids}")
            }
        });
    }
}
