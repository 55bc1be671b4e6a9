//! Search in PostgreSQL: the query's filters as SQL with arrays as parameters, keyset paging. Observations are two
//! selections, one of readings by their columns and one of what clients wrote by the rows of its index, each in the order
//! that is asked for.
use super::{on_page, stored};
use crate::axis::Commits;
use crate::map::WITHDRAWN;
use crate::query::Filter as Condition;
use crate::query::sql::{Bind, Dialect, Sql as Conditions, condition};
use crate::search::{Filter, Interval, Position, Query, Sort, SortKey};
use crate::sql::{bounded, order};
use crate::store::{Measure, Page};
use deadpool_postgres::Object;
use tokio_postgres::{Error, Row, Statement, types::ToSql};
use types::Timestamp;

const COLUMNS: &str = "type, id, version, updated, body, source, seq, effective";
const MEASURES: &str = "effective, (body::jsonb #>> '{valueQuantity,value}')::float8, \
     body::jsonb #>> '{valueQuantity,code}'";
const COUNT: &str = "count(*) AS number";
/// Values of a condition on what clients wrote up to which its statement is kept prepared.
const COMMON_VALUES: usize = 9;

/// One page; none when a row cannot be read.
pub async fn page(client: &Object, query: &Query) -> Result<Option<Page>, Error> {
    let sql = Sql::of_page(query);
    let statement = sql.statement(client).await?;
    let rows = client.query(&statement, &sql.params()).await?;
    let (shown, more) = on_page(&rows, query.count);
    let next = match shown.last() {
        Some(last) if more => position(last, query.sort.key),
        _ => None,
    };
    let resources: Option<Vec<_>> = shown.iter().map(stored).collect();
    Ok(resources.map(|resources| Page { resources, next }))
}

/// What the engine tells of a page, where `explain` stands before its statement.
#[cfg(feature = "contract")]
pub async fn explained(client: &Object, query: &Query, explain: &str) -> Result<Row, Error> {
    let sql = Sql::of_page(query);
    let text = format!("{explain}{}", sql.text);
    let statement = client.prepare(&text).await?;
    client.query_one(&statement, &sql.params()).await
}

/// What readings that match say.
pub async fn measures(client: &Object, query: &Query, most: usize) -> Result<Vec<Measure>, Error> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut sql = Sql::default();
    sql.filtered(MEASURES, query);
    let withdrawn = sql.bind(WITHDRAWN);
    sql.text.push_str(&format!(
        " AND body::jsonb ->> 'status' IS DISTINCT FROM {withdrawn}"
    ));
    sql.limit(most);
    let statement = sql.statement(client).await?;
    let rows = client.query(&statement, &sql.params()).await?;
    let measure = |row: &Row| Measure {
        effective: row.get::<_, Option<i64>>(0).map(Timestamp),
        value: row.get(1),
        unit: row.get(2),
    };
    Ok(rows.iter().map(measure).collect())
}

/// How many match.
pub async fn total(client: &Object, query: &Query) -> Result<u64, Error> {
    let mut sql = Sql::default();
    sql.text.push_str("SELECT sum(number)::bigint FROM (");
    sql.select(COUNT, query, |_| {});
    sql.text.push_str(") AS counted");
    let statement = sql.statement(client).await?;
    let row = client.query_one(&statement, &sql.params()).await?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

fn position(row: &Row, key: SortKey) -> Option<Position> {
    let id = || row.get::<_, &str>(1).parse().ok();
    Some(match key {
        SortKey::Id => Position::Id(id()?),
        SortKey::LastUpdated => Position::LastUpdated(row.get(6)),
        SortKey::Date => Position::Date(Timestamp(row.get::<_, Option<i64>>(7)?), id()?),
    })
}

struct Sql {
    text: String,
    /// Whether there are few texts like it: a connection keeps what it has prepared for as long as it lives.
    common: bool,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
}

impl Default for Sql {
    fn default() -> Self {
        Self {
            text: String::new(),
            common: true,
            values: Vec::new(),
        }
    }
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
        sql.text = bounded(&sql.text, ", effective", query.count);
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
        self.text.push_str(&format!(
            ") AS delivered UNION ALL SELECT * FROM (SELECT {columns} FROM resource r \
             WHERE r.type = 'Observation' AND r.author IS NOT NULL AND "
        ));
        self.condition(written);
        rest(self);
        self.text.push_str(") AS written");
    }

    /// A condition on the row `r`, whose values follow those that there are.
    fn condition(&mut self, written: &Condition) {
        let mut sql = Conditions::new(Dialect::Postgres);
        sql.binds = vec![Bind::Null; self.values.len()];
        condition(&mut sql, "r", &["Observation"], written, &|_| None);
        self.text.push_str(&sql.text);
        let values: Vec<Bind> = sql.binds.into_iter().skip(self.values.len()).collect();
        self.common &= values.len() <= COMMON_VALUES;
        for value in values {
            self.values.push(Box::new(value));
        }
    }

    fn limit(&mut self, most: i64) {
        let limit = self.bind(most);
        self.text.push_str(&format!(" LIMIT {limit}"));
    }

    fn filtered(&mut self, columns: &str, query: &Query) {
        let kind = self.bind(query.kind.as_str());
        self.text.push_str(&format!(
            "SELECT {columns} FROM resource WHERE type = {kind}"
        ));
        if !query.kind.is_indexed() {
            self.text.push_str(" AND author IS NULL");
        }
        for filter in &query.filters {
            self.text.push_str(" AND ");
            self.filter(filter);
        }
    }

    /// Binds a value and gives its mark.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }

    async fn statement(&self, client: &Object) -> Result<Statement, Error> {
        if self.common {
            client.prepare_cached(&self.text).await
        } else {
            client.prepare(&self.text).await
        }
    }

    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values
            .iter()
            .map(|value| value.as_ref() as &(dyn ToSql + Sync))
            .collect()
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
        self.common &= list.len() <= 1;
        let mut any = Vec::new();
        for commits in list {
            let after = self.bind(commits.after);
            any.push(match commits.until {
                None => format!("seq > {after}"),
                Some(until) => format!("seq > {after} AND seq <= {}", self.bind(until)),
            });
        }
        let any = if any.is_empty() {
            "FALSE".to_owned()
        } else {
            any.join(" OR ")
        };
        self.text.push_str(&format!("({any})"));
    }

    /// `column = $n` for one value, so that its index also gives the order.
    fn one_of(&mut self, column: &str, values: impl Iterator<Item = String>) {
        let mut values: Vec<String> = values.collect();
        let test = match (values.len(), values.pop()) {
            (1, Some(only)) => format!("{column} = {}", self.bind(only)),
            (_, last) => {
                values.extend(last);
                format!("{column} = ANY({})", self.bind(values))
            }
        };
        self.text.push_str(&test);
    }

    fn dates(&mut self, column: &str, intervals: &[Interval]) {
        self.common &= intervals.len() <= 1;
        let mut any = Vec::new();
        for interval in intervals {
            let from = interval
                .from
                .map(|from| format!("{column} >= {}", self.bind(from)));
            let until = interval
                .until
                .map(|until| format!("{column} < {}", self.bind(until)));
            let all: Vec<String> = from.into_iter().chain(until).collect();
            any.push(match all.is_empty() {
                true => format!("{column} IS NOT NULL"),
                false => all.join(" AND "),
            });
        }
        self.text.push_str(&format!("({})", any.join(" OR ")));
    }

    fn after(&mut self, position: &Position, sort: &Sort) {
        let than = if sort.descending { "<" } else { ">" };
        let test = match position {
            Position::Id(id) => format!(" AND id {than} {}", self.bind(id.to_string())),
            Position::LastUpdated(seq) => format!(" AND seq {than} {}", self.bind(*seq)),
            Position::Date(time, id) => {
                let (time, id) = (self.bind(time.0), self.bind(id.to_string()));
                if sort.ids_descending == sort.descending {
                    format!(" AND (effective, id) {than} ({time}, {id})")
                } else {
                    let ids = if sort.ids_descending { "<" } else { ">" };
                    // The first is where the index begins: of two of which either may hold none is, and each page would
                    // pass over all before it.
                    format!(
                        " AND effective {than}= {time} \
                         AND (effective {than} {time} OR (effective = {time} AND id {ids} {id}))"
                    )
                }
            }
        };
        self.text.push_str(&test);
    }

    fn ordered(&mut self, query: &Query) {
        // No time sorts as no time: the index leaves such rows out, and only types without times have them.
        if query.sort.key == SortKey::Date {
            self.text.push_str(" AND effective IS NOT NULL");
        }
        self.text.push_str(&order(&query.sort));
    }
}
