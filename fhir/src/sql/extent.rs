//! What was there of a type at a commit, in one statement, so that what changes meanwhile is on one page or the other: what
//! is in `resource` has not changed since, and the last version by then of everything else is in `history`.
//!
//! A page costs what it shows, and what has changed since that commit: of all that did not change `history` is not looked
//! at, or each page would look at all that is behind it.
use crate::query::sql::{Dialect, Sql};
use crate::store::{Extent, FhirId, Whose};

/// Up to so many commits after another one, it is cheaper to look at each of them than to walk a type by its ids. From the
/// first commit on it is not: a type has no more ids than there are commits, and the walk ends with the page.
const FEW_COMMITS: i64 = 20_000;
/// Up to so many patients, the index of their readings is read instead of all readings.
const FEW_PATIENTS: usize = 256;

const ROW: &str = "type, id, version, updated, body, source, seq";

/// One page: the columns of [`ROW`].
pub(crate) fn extent(dialect: Dialect, extent: &Extent) -> Sql {
    let mut sql = Sql::new(dialect);
    // One more than asked for tells whether there is a next page.
    let limit = sql.mark(i64::from(extent.count) + 1);
    sql.push(&format!("SELECT {ROW} FROM ("));
    if !extent.deleted {
        sql.push(&format!(
            "SELECT * FROM (SELECT {ROW} FROM resource r WHERE "
        ));
        current(&mut sql, extent, &limit);
        sql.push(&format!(" ORDER BY id LIMIT {limit}) AS one UNION ALL "));
        if let (Whose::Of(list), false) = (&extent.whose, extent.kind.is_indexed()) {
            performed(&mut sql, extent, list);
            sql.push(&format!(
                " ORDER BY id LIMIT {limit}) AS performed UNION ALL "
            ));
        }
    }
    sql.push(
        "SELECT * FROM (SELECT type, r.id, version, updated, body, (SELECT source FROM resource s \
         WHERE s.type = r.type AND s.id = r.id) AS source, seq FROM ",
    );
    match (extent.deleted, dialect) {
        (true, _) => {
            sql.push("history r WHERE ");
            bounds(&mut sql, extent);
            past(&mut sql, extent);
        }
        (false, Dialect::Sqlite) => {
            // The unary pluses leave its planner the key of each that was changed. By the range of ids, or by commits, it
            // would look at all that is behind the page.
            sql.push("history r WHERE ");
            within(&mut sql, extent, ("type", "+seq", "+id"));
            sql.push(" AND id IN (");
            changed(&mut sql, extent);
            sql.push(")");
            past(&mut sql, extent);
        }
        (false, Dialect::Postgres) => replaced(&mut sql, extent),
    }
    sql.push(&format!(
        " ORDER BY id LIMIT {limit}) AS other) AS both_of ORDER BY id LIMIT {limit}"
    ));
    if dialect == Dialect::Postgres {
        sql.text = super::bounded(&sql.text, "", extent.count);
    }
    sql
}

/// What has not changed since. SQLite's planner has no statistics: a unary plus keeps it from an index.
fn current(sql: &mut Sql, extent: &Extent, limit: &str) {
    match &extent.whose {
        _ if extent.kind.is_indexed() => bounds(sql, extent),
        Whose::Everybody => bounds(sql, extent),
        Whose::AnyPatient => {
            bounds(sql, extent);
            sql.push(" AND patient IS NOT NULL");
        }
        Whose::Of(list) => {
            let each = each(sql, list);
            if sql.dialect == Dialect::Sqlite && list.len() <= FEW_PATIENTS {
                // The index of a patient's readings has what is needed to find the page.
                let (from, until) = (sql.mark(extent.after_commit), sql.mark(extent.until));
                sql.push(&format!(
                    "seq IN (SELECT seq FROM resource WHERE patient IN ({each}) AND +seq > {from} AND +seq <= {until}"
                ));
                after(sql, extent, "id");
                since(sql, extent);
                sql.push(&format!(" ORDER BY id LIMIT {limit}) AND +type = "));
                sql.bind_text(extent.kind.as_str());
            } else {
                bounds(sql, extent);
                sql.push(&format!(" AND patient IN ({each})"));
            }
        }
    }
}

/// The ids of a list, as rows.
fn each(sql: &mut Sql, list: &[FhirId]) -> String {
    let ids: Vec<&str> = list.iter().map(|id| id.as_str()).collect();
    let ids = sql.mark(serde_json::Value::from(ids).to_string().as_str());
    match sql.dialect {
        Dialect::Sqlite => format!("SELECT value FROM json_each({ids})"),
        Dialect::Postgres => {
            format!("SELECT jsonb_array_elements_text(CAST(CAST({ids} AS TEXT) AS JSONB))")
        }
    }
}

/// What patients performed is in their compartments too (FHIR R4 compartmentdefinition-patient.html). What clients observed
/// has one of them in its column, its subject first: here is what has it beside another one.
fn performed(sql: &mut Sql, extent: &Extent, list: &[FhirId]) {
    let each = each(sql, list);
    sql.push(&format!(
        "SELECT * FROM (SELECT {ROW} FROM resource r WHERE "
    ));
    bounds(sql, extent);
    sql.push(&format!(
        " AND author IS NOT NULL AND (patient IS NULL OR patient NOT IN ({each})) AND id IN (SELECT x.id \
         FROM index_reference x WHERE x.type = 'Observation' AND x.param = 'performer' \
         AND x.target_type = 'Patient' AND x.target_id IN ({each}))"
    ));
}

/// The type, the commits and the place.
fn bounds(sql: &mut Sql, extent: &Extent) {
    let is_few =
        extent.after_commit > 0 && extent.until.saturating_sub(extent.after_commit) <= FEW_COMMITS;
    let (of_kind, seq) = match (sql.dialect, is_few) {
        (Dialect::Postgres, _) => ("type", "seq"),
        (Dialect::Sqlite, true) => ("+type", "seq"),
        (Dialect::Sqlite, false) => ("type", "+seq"),
    };
    within(sql, extent, (of_kind, seq, "id"));
}

/// The same, with the columns of the type, the commit and the id as they are to be written.
fn within(sql: &mut Sql, extent: &Extent, (of_kind, seq, id): (&str, &str, &str)) {
    let kind = sql.mark(extent.kind.as_str());
    let (from, until) = (sql.mark(extent.after_commit), sql.mark(extent.until));
    sql.push(&format!(
        "{of_kind} = {kind} AND {seq} > {from} AND {seq} <= {until}"
    ));
    after(sql, extent, id);
    since(sql, extent);
}

fn after(sql: &mut Sql, extent: &Extent, column: &str) {
    if let Some(id) = &extent.after {
        let id = sql.mark(id.as_str());
        sql.push(&format!(" AND {column} > {id}"));
    }
}

fn since(sql: &mut Sql, extent: &Extent) {
    if let Some(since) = extent.since {
        let since = sql.mark(since.0);
        sql.push(&format!(" AND updated >= {since}"));
    }
}

/// The ids of what was changed or deleted since and may have been there before. Whatever has a second version has it in
/// `history`, but for readings of facilities: that one is withdrawn stands in `resource` alone.
fn changed(sql: &mut Sql, extent: &Extent) {
    // SQLite's planner has no statistics.
    let (by_commit, by_change) = match sql.dialect {
        Dialect::Sqlite => (" INDEXED BY history_type", " INDEXED BY resource_withdrawn"),
        Dialect::Postgres => ("", ""),
    };
    let (kind, until) = (sql.mark(extent.kind.as_str()), sql.mark(extent.until));
    sql.push(&format!(
        "SELECT DISTINCT n.id FROM history n{by_commit} WHERE n.type = {kind} AND n.seq > {until} AND n.version > 1"
    ));
    if !extent.kind.is_versioned() {
        sql.push(&format!(
            " UNION SELECT c.id FROM resource c{by_change} WHERE c.type = 'Observation' AND c.version > 1 AND c.seq > {until}"
        ));
    }
}

/// The last version by then of each that was changed since. The inner limit keeps PostgreSQL, whatever it knows of the
/// tables, from beginning with all that there ever was.
fn replaced(sql: &mut Sql, extent: &Extent) {
    sql.push("(");
    changed(sql, extent);
    let (kind, until) = (sql.mark(extent.kind.as_str()), sql.mark(extent.until));
    sql.push(&format!(
        ") d CROSS JOIN LATERAL (SELECT * FROM history h WHERE h.type = {kind} AND h.id = d.id AND h.seq <= {until} \
         ORDER BY h.version DESC LIMIT 1) r WHERE body <> '' AND "
    ));
    let from = sql.mark(extent.after_commit);
    sql.push(&format!("seq > {from}"));
    if let Some(id) = &extent.after {
        let id = sql.mark(id.as_str());
        sql.push(&format!(" AND r.id > {id}"));
    }
    since(sql, extent);
}

/// The last version by then, of what was changed or deleted since; or of what was deleted by then. The unary plus has
/// versions looked up by their key: the index on commits would be walked for each.
fn past(sql: &mut Sql, extent: &Extent) {
    let than = if extent.deleted { "=" } else { "<>" };
    let until = sql.mark(extent.until);
    sql.push(&format!(
        " AND body {than} '' AND NOT EXISTS (SELECT 1 FROM history n WHERE n.type = r.type AND n.id = r.id \
         AND n.version > r.version AND +n.seq <= {until}) AND NOT EXISTS (SELECT 1 FROM resource c \
         WHERE c.type = r.type AND c.id = r.id AND c.seq <= {until})"
    ));
}
