//! Searches as SQL, on SQLite: they find what the rows alone say.
use super::*;
use crate::{
    bases::Bases,
    contract::searching::{BASE, CASES, NOW_MS, RESOURCES, STEP_MS},
    json::Json,
    query::{Context, Filter, Handling, extract, parse},
};
use rusqlite::{Connection, params_from_iter};

/// The resources of the contract, with their rows.
fn database() -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .execute_batch("CREATE TABLE resource(seq INTEGER, type TEXT, id TEXT, updated INTEGER)")
        .unwrap();
    for table in TABLES {
        connection
            .execute_batch(&table.create(Dialect::Sqlite))
            .unwrap();
    }
    for (at, text) in RESOURCES.iter().enumerate() {
        let json = Json::parse(text).unwrap();
        let of = |name| json.object().and_then(|object| object.text(name)).unwrap();
        let (kind, id) = (of("resourceType"), of("id"));
        let seq = i64::try_from(at).unwrap();
        let insert = "INSERT INTO resource VALUES (?1, ?2, ?3, ?4)";
        connection
            .execute(insert, rusqlite::params![seq, kind, id, seq * STEP_MS])
            .unwrap();
        for one in extract(&json, BASE) {
            let (table, values) = row(kind, id, &one);
            let mut statement = connection
                .prepare_cached(&table.insert(Dialect::Sqlite))
                .unwrap();
            statement.execute(params_from_iter(values)).unwrap();
        }
    }
    connection
}

fn compiled(dialect: Dialect, kind: &str, query: &str, visible: Visible<'_>) -> Sql {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let pairs: Vec<(String, String)> = pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let context = Context {
        now: NOW_MS,
        base: Bases::of(BASE),
        handling: Handling::Strict,
    };
    let search = parse(Some(kind).filter(|kind| !kind.is_empty()), &pairs, context).unwrap();
    let mut sql = Sql::new(dialect);
    sql.push("SELECT r.id FROM resource r WHERE (");
    for (at, kind) in search.types.iter().enumerate() {
        sql.push(if at > 0 { " OR r.type = " } else { "r.type = " });
        sql.bind_text(kind);
    }
    sql.push(") AND ");
    condition(
        &mut sql,
        "r",
        &search.types,
        &Filter::All(search.filters),
        visible,
    );
    sql.push(" ORDER BY r.seq");
    sql
}

fn found(connection: &Connection, sql: &Sql) -> Vec<String> {
    let mut statement = connection
        .prepare(&sql.text)
        .unwrap_or_else(|error| panic!("{}: {error}", sql.text));
    let rows = statement
        .query_map(params_from_iter(&sql.binds), |row| row.get(0))
        .unwrap();
    rows.collect::<rusqlite::Result<_>>().unwrap()
}

const ALL: Visible<'static> = &|_| None;

#[test]
fn sqlite_finds_what_was_found_by_hand() {
    let connection = database();
    for (kind, query, expected) in CASES.iter().copied().flatten() {
        let sql = compiled(Dialect::Sqlite, kind, query, ALL);
        assert_eq!(
            &found(&connection, &sql),
            expected,
            "{kind}?{query}: {}",
            sql.text
        );
    }
}

#[test]
fn text_of_a_query_is_a_bound_value_on_both_engines_and_never_part_of_a_statement() {
    const TELLING: &str = "Zz'--";
    for dialect in [Dialect::Sqlite, Dialect::Postgres] {
        for (kind, query) in [
            (
                "Patient",
                "name=Zz'--&name:exact=Zz'--&name:contains=Zz'--&gender=Zz'--&identifier=Zz'--|Zz'--",
            ),
            (
                "Patient",
                "identifier:of-type=Zz'--|Zz'--|Zz'--&general-practitioner=urn:Zz'--&_profile:below=Zz'--",
            ),
            (
                "Observation",
                "value-quantity=1|Zz'--|Zz'--&code-value-quantity=Zz'--$1&subject.name=Zz'--",
            ),
            (
                "Observation",
                "_has:List:item:code=Zz'--&code:text=Zz'--&subject:identifier=Zz'--",
            ),
        ] {
            let sql = compiled(dialect, kind, query, ALL);
            assert!(!sql.text.to_lowercase().contains("zz"), "{}", sql.text);
            let holds = |bind: &Bind| matches!(bind, Bind::Text(text) if text.to_lowercase().contains(&TELLING.to_lowercase()));
            assert!(sql.binds.iter().any(holds), "{:?}", sql.binds);
            let sign = if dialect == Dialect::Sqlite { '?' } else { '$' };
            assert_eq!(sql.text.matches(sign).count(), sql.binds.len());
        }
    }
}

#[test]
fn what_a_client_may_not_see_is_reached_by_no_chain_and_by_nothing_that_refers_back() {
    let connection = database();
    let hidden: Visible<'_> =
        &|kind| (kind == "Patient" || kind == "List").then(|| Filter::Any(Vec::new()));
    for (kind, query, is_found) in [
        ("Observation", "subject.name=adams", false),
        ("Observation", "_has:List:item:status=current", false),
        ("Patient", "_has:Observation:patient:code=hr", true),
        (
            "Patient",
            "_has:Observation:patient:_has:List:item:status=current",
            false,
        ),
    ] {
        let open = compiled(Dialect::Sqlite, kind, query, ALL);
        assert!(!found(&connection, &open).is_empty(), "{query}");
        let closed = compiled(Dialect::Sqlite, kind, query, hidden);
        assert_eq!(!found(&connection, &closed).is_empty(), is_found, "{query}");
    }
}

#[test]
fn an_index_leads_to_what_is_searched_for() {
    let connection = database();
    for (kind, query) in [
        ("Patient", "identifier=urn:mrn|123"),
        ("Patient", "name=muller"),
        ("Observation", "subject=Patient/p1"),
        ("Observation", "date=2015"),
    ] {
        let sql = compiled(Dialect::Sqlite, kind, query, ALL);
        let explain = format!("EXPLAIN QUERY PLAN {}", sql.text);
        let mut statement = connection.prepare(&explain).unwrap();
        let plan = statement
            .query_map(params_from_iter(&sql.binds), |row| row.get::<_, String>(3))
            .unwrap();
        let plan: Vec<String> = plan.collect::<rusqlite::Result<_>>().unwrap();
        assert!(
            plan.iter()
                .any(|step| step.contains("SEARCH x USING") && step.contains("INDEX index_")),
            "{plan:?}"
        );
    }
}
