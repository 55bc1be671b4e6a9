//! Statements that both engines share, beside the conditions of a search ([`crate::query::sql`]): histories, and searches
//! by any parameter of R4. Whatever comes from a request is a bound value, never text.
mod extent;
mod find;

use crate::axis::Commits;
use crate::query::sql::{Dialect, Sql};
use crate::search::{Interval, Sort, SortKey};
use crate::store::{HistoryPlace, HistoryQuery, MAX_PAGE_BYTES, ResourceType, Scope, There};
pub(crate) use extent::extent;
pub(crate) use find::{count, few, of_one_mark, page};

/// A page of so many on which no bytes end: it is as it is asked for.
const SMALL_PAGE: u16 = 2;

/// A page, whose rows are those of `page`: the columns of every page and then `rest`. The texts end where it is full
/// ([`MAX_PAGE_BYTES`]), since PostgreSQL would send all of them, and this side hold them: of what is behind, the row comes
/// without its text. What is long lies beside its row, so that its length is known without it. A window without an order
/// takes rows as they come. Pages of SQLite are read row by row.
pub(crate) fn bounded(page: &str, rest: &str, count: u16) -> String {
    if count <= SMALL_PAGE {
        return page.to_owned();
    }
    format!(
        "SELECT type, id, version, updated, \
         CASE WHEN sum(octet_length(body)) OVER (ROWS UNBOUNDED PRECEDING) - octet_length(body) < {MAX_PAGE_BYTES} \
         THEN body END AS body, source, seq{rest} FROM ({page}) AS page"
    )
}

/// The order of a search of the columns `id`, `seq` and `effective`.
pub(crate) fn order(sort: &Sort) -> String {
    let way = |descending: bool| if descending { "DESC" } else { "ASC" };
    let (by, ids) = (way(sort.descending), way(sort.ids_descending));
    match sort.key {
        SortKey::Id => format!(" ORDER BY id {by}"),
        SortKey::LastUpdated => format!(" ORDER BY seq {by}"),
        SortKey::Date => format!(" ORDER BY effective {by}, id {ids}"),
    }
}

/// Every version, once. What facilities deliver in one version has it in `resource` alone; of everything else every
/// version is in `history`. Behind the columns of a version stands how it came ([`crate::store::Came`]).
pub(crate) fn history(dialect: Dialect, query: &HistoryQuery) -> Sql {
    const ROW: &str = "type, id, version, updated, body, source, seq";
    // Of what was stored before it was kept nobody knows.
    const CAME: &str = "CAST(CASE WHEN coalesce(h.posted, CASE WHEN h.version = 1 AND h.author IS NOT NULL THEN 1 ELSE 0 END) = 1 \
         THEN 1 WHEN h.version > 1 AND EXISTS (SELECT 1 FROM history p WHERE p.type = h.type AND p.id = h.id \
         AND p.version = h.version - 1 AND p.body = '') THEN 2 ELSE 0 END AS BIGINT)";
    let order = match query.by_id {
        true => "type, id, version",
        false => "seq DESC, type, id, version",
    };
    let mut sql = Sql::new(dialect);
    // One more than asked for tells whether there is a next page.
    let limit = sql.mark(i64::from(query.count) + 1);
    sql.push(&format!(
        "SELECT {ROW}, came FROM (SELECT * FROM (SELECT {ROW}, CAST(0 AS BIGINT) AS came FROM resource \
         WHERE author IS NULL AND {} ",
        single_version(dialect, query)
    ));
    sql.versions(query);
    sql.push(&format!(
        " ORDER BY {order} LIMIT {limit}) AS one UNION ALL SELECT * FROM (SELECT type, id, version, updated, body, \
         (SELECT source FROM resource r WHERE r.type = h.type AND r.id = h.id) AS source, seq, {CAME} AS came \
         FROM history h WHERE 1 = 1 "
    ));
    sql.versions(query);
    if query.scope == Scope::Everything {
        // No client wrote them, and no facility delivers any. An index has the others alone: it is of these very words.
        sql.push(" AND NOT (type = 'AuditEvent' AND author IS NULL)");
    }
    if let Some(there) = query.there {
        sql.there(there);
    }
    sql.push(&format!(
        " ORDER BY {order} LIMIT {limit}) AS other) AS both_of ORDER BY {order} LIMIT {limit}"
    ));
    if dialect == Dialect::Postgres {
        sql.text = bounded(&sql.text, ", came", query.count);
    }
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

/// The rows of one of the two tables.
trait Rows {
    fn versions(&mut self, query: &HistoryQuery);
    fn there(&mut self, there: There);
    fn after(&mut self, place: &HistoryPlace, by_id: bool);
}

impl Rows for Sql {
    fn versions(&mut self, query: &HistoryQuery) {
        match &query.scope {
            Scope::Everything => {}
            Scope::Type(kind) => {
                let kind = self.mark(kind.as_str());
                self.push(&format!(" AND type = {kind}"));
            }
            Scope::Instance(kind, id) => {
                let (kind, id) = (self.mark(kind.as_str()), self.mark(id.as_str()));
                self.push(&format!(" AND type = {kind} AND id = {id}"));
            }
        }
        if let Some(Commits { after, until }) = query.commits {
            let after = self.mark(after);
            self.push(&format!(" AND seq > {after}"));
            if let Some(until) = until {
                let until = self.mark(until);
                self.push(&format!(" AND seq <= {until}"));
            }
        }
        if let Some(Interval { from, until }) = query.updated {
            for (bound, than) in [(from, ">="), (until, "<")] {
                if let Some(bound) = bound {
                    let bound = self.mark(bound);
                    self.push(&format!(" AND updated {than} {bound}"));
                }
            }
        }
        if let Some(place) = &query.after {
            self.after(place, query.by_id);
        }
    }

    /// The version `h` came later than a moment, or was the last one by then and no deletion. What facilities deliver in
    /// one version has its last one in `resource` alone. The unary plus has versions looked up by their key.
    fn there(&mut self, there: There) {
        let (column, moment) = match there {
            There::Commit(seq) => ("seq", seq),
            There::Time(time) => ("updated", time),
        };
        let moment = self.mark(moment);
        let later = |table: &str| {
            format!(
                "NOT EXISTS (SELECT 1 FROM {table} n WHERE n.type = h.type AND n.id = h.id AND \
                 n.version > h.version AND +n.{column} <= {moment})"
            )
        };
        self.push(&format!(
            " AND (h.{column} > {moment} OR (h.body <> '' AND {} AND {}))",
            later("history"),
            later("resource")
        ));
    }

    fn after(&mut self, place: &HistoryPlace, by_id: bool) {
        let behind = |sql: &mut Sql| {
            let kind = sql.mark(place.kind.as_str());
            let id = sql.mark(place.id.as_str());
            let version = sql.mark(i64::from(place.version));
            format!("(type, id, version) > ({kind}, {id}, {version})")
        };
        let test = if by_id {
            behind(self)
        } else {
            let seq = self.mark(place.seq);
            let behind = behind(self);
            format!("seq <= {seq} AND (seq < {seq} OR {behind})")
        };
        self.push(&format!(" AND {test}"));
    }
}
