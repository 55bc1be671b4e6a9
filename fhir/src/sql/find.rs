//! Searches by any parameter of R4: a page, how many there are, and whether a guard is met.
use crate::axis::Commits;
use crate::query::sql::{Bind, Dialect, Sql, Visible, condition, ids};
use crate::query::{Filter, Kind, Match, Param, Sort, SortBy};
use crate::store::{Find, FindPlace, Guard};

/// Nothing is hidden within what a scope says: it looks at the resource alone.
const EVERYTHING: Visible<'static> = &|_| None;

/// One page: the columns type, id, version, updated, body, source, seq, and the value of each key.
pub(crate) fn page(dialect: Dialect, find: &Find) -> Sql {
    const ROW: [&str; 7] = ["type", "id", "version", "updated", "body", "source", "seq"];
    let columns = |alias: &str| ROW.map(|name| format!("{alias}.{name}")).join(", ");
    let mut sql = Sql::new(dialect);
    sql.push(&format!("SELECT {}", columns("o")));
    for (at, _) in find.keys().enumerate() {
        sql.push(&format!(", o.k{at}"));
    }
    let leads = leading(dialect, find);
    let inner = match &leads {
        // In the order in which they are found.
        Some(_) => columns("r").replace("r.id", "d.id"),
        None => columns("r"),
    };
    sql.push(&format!(" FROM (SELECT {inner}"));
    for (at, sort) in find.keys().enumerate() {
        sql.push(", ");
        key(&mut sql, sort, find.marks.as_deref());
        sql.push(&format!(" AS k{at}"));
    }
    from(&mut sql, find, leads);
    sql.push(") o");
    if let Some(place) = &find.after {
        sql.push(" WHERE ");
        behind(&mut sql, find, place);
    }
    sql.push(" ORDER BY ");
    for (at, sort) in find.keys().enumerate() {
        let way = if sort.descending { "DESC" } else { "ASC" };
        sql.push(&format!("o.k{at} IS NULL, o.k{at} {way}, "));
    }
    if find.types.len() > 1 {
        sql.push("o.type, ");
    }
    sql.push(if find.ids_descend() {
        "o.id DESC"
    } else {
        "o.id"
    });
    // One more than asked for tells whether there is a next page.
    let limit = sql.mark(i64::from(find.count) + 1);
    sql.push(&format!(" LIMIT {limit}"));
    if dialect == Dialect::Postgres {
        let keys = find.keys().enumerate();
        let keys: String = keys.map(|(at, _)| format!(", k{at}")).collect();
        sql.text = super::bounded(&sql.text, &keys, find.count);
    }
    sql
}

/// How many there are, all pages together.
pub(crate) fn count(dialect: Dialect, find: &Find) -> Sql {
    let mut sql = Sql::new(dialect);
    sql.push("SELECT count(*) FROM resource r WHERE ");
    root(&mut sql, find, &find.filter);
    sql
}

/// The ids that a guard finds: two of them when there are more.
pub(crate) fn few(dialect: Dialect, guard: &Guard) -> Sql {
    let mut sql = Sql::new(dialect);
    let find = Find {
        sights: guard.sights.clone(),
        ..Find::of(guard.kind, guard.filter.clone(), 2)
    };
    let leads = leading(dialect, &find);
    let id = if leads.is_some() { "d.id" } else { "r.id" };
    sql.push(&format!("SELECT {id}"));
    from(&mut sql, &find, leads);
    sql.push(&format!(" ORDER BY {id} LIMIT 2"));
    sql
}

/// Where resources `r` come from, and what they are to be: behind what leads each is looked up by itself, since PostgreSQL
/// reads all of a type where it has no statistics of its tables and is free to join them.
fn from(sql: &mut Sql, find: &Find, leads: Option<(Vec<Asked<'_>>, Filter)>) {
    let Some((leads, rest)) = leads else {
        sql.push(" FROM resource r WHERE ");
        return root(sql, find, &find.filter);
    };
    sql.push(" FROM (");
    let kind = find.types.first().copied().unwrap_or_default();
    let after = find.after.as_ref().map(|place| place.id.as_str());
    // Where nothing else is to hold, as many of each as the page shows are enough.
    let is_all = matches!(&rest, Filter::All(rest) if rest.is_empty());
    let is_all = is_all && find.marks.is_none() && !find.sights.contains_key(kind);
    let most = is_all.then(|| i64::from(find.count) + 1);
    ids(sql, kind, &leads, (after, find.ids_descend(), most));
    sql.push(") d CROSS JOIN LATERAL (SELECT * FROM resource WHERE type = ");
    sql.bind_text(kind);
    sql.push(" AND id = d.id LIMIT 1) r WHERE ");
    root(sql, find, &rest);
}

/// A parameter, and the values of which any is to be found.
type Asked<'a> = (&'a Param, &'a [Match]);

/// The parameter that finds a page, where it is in the order of ids: its rows are there in that order, so that PostgreSQL
/// reads as many as the page shows instead of all that there are, which it would sort. Or the parameters of a compartment,
/// of which any does. And what else is to hold.
fn leading(dialect: Dialect, find: &Find) -> Option<(Vec<Asked<'_>>, Filter)> {
    let is_by_id = find.types.len() == 1 && find.keys().next().is_none();
    if dialect == Dialect::Sqlite || !is_by_id {
        return None;
    }
    let all = parts(&find.filter);
    let is_one = |part: &&Filter| matches!(part, Filter::Param { .. }) && led_by(part).is_some();
    let leads = all.iter().position(is_one);
    let leads = leads.or_else(|| all.iter().position(|part| led_by(part).is_some()))?;
    let by = all.get(leads).copied().and_then(led_by)?;
    let rest = all.iter().enumerate().filter(|(at, _)| *at != leads);
    let rest = rest.map(|(_, part)| (*part).clone()).collect();
    Some((by, Filter::All(rest)))
}

/// What has to hold together, each by itself.
fn parts(filter: &Filter) -> Vec<&Filter> {
    match filter {
        Filter::All(all) => all.iter().flat_map(parts).collect(),
        one => vec![one],
    }
}

/// The parameters of which any leads to what a filter holds of.
fn led_by(filter: &Filter) -> Option<Vec<Asked<'_>>> {
    match filter {
        Filter::Param { param, matches } if param.kind != Kind::Composite => {
            Some(vec![(*param, matches.as_slice())])
        }
        Filter::Any(any) if !any.is_empty() => {
            let each: Option<Vec<Vec<Asked<'_>>>> = any.iter().map(led_by).collect();
            each.map(|each| each.concat())
        }
        _ => None,
    }
}

/// A page in the order in which things were stored begins with what bears one mark of the reader's, by id. Where that is
/// much of all that there is, PostgreSQL looks at no more of it than the page shows, as for a page by id alone, instead of
/// all that the search finds: that part of the page, and the mark. Others than PostgreSQL, and pages of which nothing leads
/// to the ids in their order, have none.
pub(crate) fn of_one_mark(find: &Find) -> Option<(Find, i64)> {
    /// What bears the mark is at least this part of all commits.
    const SHARE: i64 = 8;
    let (marks, mut keys) = (find.marks.as_deref()?, find.keys());
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return None;
    };
    if key.by != SortBy::LastUpdated {
        return None;
    }
    let mark = match (&find.after, key.descending) {
        (Some(place), _) => match place.keys.as_slice() {
            [Bind::Integer(mark)] => *mark,
            _ => return None,
        },
        (None, true) => *marks.last()?,
        (None, false) => *marks.first()?,
    };
    let at = marks.binary_search(&mark).ok()?;
    let before = at.checked_sub(1).and_then(|at| marks.get(at));
    let after = before.copied().unwrap_or(0);
    let Filter::All(all) = &find.filter else {
        return None;
    };
    let until = Some(mark);
    let of_mark = Filter::Commits(vec![Commits { after, until }]);
    let part = Find {
        filter: Filter::All(all.iter().cloned().chain([of_mark]).collect()),
        sort: find.sort.iter().skip(1).copied().collect(),
        marks: None,
        after: find.after.clone().map(|place| FindPlace {
            keys: Vec::new(),
            ..place
        }),
        ..find.clone()
    };
    let is_much = (mark - after).saturating_mul(SHARE) >= *marks.last()?;
    (is_much && leading(Dialect::Postgres, &part).is_some()).then_some((part, mark))
}

/// What holds of a row of `resource`.
fn root(sql: &mut Sql, find: &Find, filter: &Filter) {
    sql.push("(");
    for (at, kind) in find.types.iter().enumerate() {
        sql.push(if at > 0 { " OR r.type = " } else { "r.type = " });
        sql.bind_text(kind);
        if let Some(sight) = find.sights.get(kind) {
            sql.push(" AND ");
            condition(sql, "r", &[*kind], sight, EVERYTHING);
        }
    }
    sql.push(")");
    if let Some(marks) = &find.marks {
        let last = sql.mark(marks.last().copied().unwrap_or(0));
        sql.push(&format!(" AND r.seq <= {last}"));
    }
    match filter {
        Filter::All(all) if all.is_empty() => {}
        filter => {
            sql.push(" AND ");
            let visible = |kind: &str| find.sights.get(kind).cloned();
            condition(sql, "r", &find.types, filter, &visible);
        }
    }
}

/// What a key is of a row of `resource`.
fn key(sql: &mut Sql, sort: &Sort, marks: Option<&[i64]>) {
    let (param, column) = match sort.by {
        SortBy::Id => return sql.push("r.id"),
        SortBy::LastUpdated => return updated(sql, marks),
        SortBy::Param(param) => match param.kind {
            Kind::Date => (param, "x.low"),
            Kind::Number => (param, "x.low"),
            Kind::Quantity => (param, "coalesce(x.base_low, x.low)"),
            Kind::String => (param, "x.folded"),
            Kind::Reference => (param, "coalesce(x.target_id, x.url, x.of_value)"),
            Kind::Uri => (param, "x.uri"),
            Kind::Token | Kind::Composite | Kind::Special => (param, "coalesce(x.code, x.text)"),
        },
    };
    let table = crate::query::sql::table(param.kind).map_or("index_token", |table| table.name);
    let best = if sort.descending { "max" } else { "min" };
    sql.push(&format!(
        "(SELECT {best}({column}) FROM {table} x WHERE x.type = r.type AND x.id = r.id AND x.param = "
    ));
    sql.bind_text(param.code);
    // An identifier by its type has a row of its own.
    sql.push(match param.kind {
        Kind::Token => " AND x.value IS NULL)",
        _ => ")",
    });
}

/// When it was stored: the time, or the mark that the reader is told.
fn updated(sql: &mut Sql, marks: Option<&[i64]>) {
    match marks {
        None => sql.push("r.updated"),
        Some([]) => sql.push("CAST(0 AS BIGINT)"),
        Some(marks) => match sql.dialect {
            Dialect::Sqlite => first_from(sql, marks),
            Dialect::Postgres => {
                let all: Vec<String> = marks.iter().map(i64::to_string).collect();
                let all = format!("CAST(ARRAY[{}] AS BIGINT[])", all.join(","));
                // The marks that are below it come first, and are so many.
                sql.push(&format!("({all})[width_bucket(r.seq - 1, {all}) + 1]"));
            }
        },
    }
}

/// The first of some marks that is not below `r.seq`, of which there is one: by halves, since there may be hundreds.
fn first_from(sql: &mut Sql, marks: &[i64]) {
    match marks {
        [] => sql.push("NULL"),
        [mark] => sql.push(&mark.to_string()),
        marks => {
            let (low, high) = marks.split_at(marks.len() / 2);
            let last = low.last().copied().unwrap_or_default();
            sql.push(&format!("CASE WHEN r.seq <= {last} THEN "));
            first_from(sql, low);
            sql.push(" ELSE ");
            first_from(sql, high);
            sql.push(" END");
        }
    }
}

/// A column of the order.
struct Column<'a> {
    name: String,
    descending: bool,
    may_be_null: bool,
    value: &'a Bind,
}

/// What is behind a place.
fn behind(sql: &mut Sql, find: &Find, place: &FindPlace) {
    let of_kind = Bind::from(place.kind.as_str());
    let of_id = Bind::from(place.id.as_str());
    let mut columns: Vec<Column<'_>> = Vec::new();
    for (at, (sort, value)) in find.keys().zip(&place.keys).enumerate() {
        columns.push(Column {
            name: format!("o.k{at}"),
            descending: sort.descending,
            may_be_null: true,
            value,
        });
    }
    if find.types.len() > 1 {
        columns.push(Column {
            name: "o.type".to_owned(),
            descending: false,
            may_be_null: false,
            value: &of_kind,
        });
    }
    columns.push(Column {
        name: "o.id".to_owned(),
        descending: find.ids_descend(),
        may_be_null: false,
        value: &of_id,
    });
    sql.push("(");
    for (at, column) in columns.iter().enumerate() {
        sql.push(if at > 0 { " OR (" } else { "(" });
        for before in columns.iter().take(at) {
            equal(sql, before);
            sql.push(" AND ");
        }
        beyond(sql, column);
        sql.push(")");
    }
    sql.push(")");
}

fn equal(sql: &mut Sql, column: &Column<'_>) {
    sql.push(&column.name);
    match column.value {
        Bind::Null => sql.push(" IS NULL"),
        value => {
            sql.push(" = ");
            sql.bind(value.clone());
        }
    }
}

/// Resources without a value come last, in either direction.
fn beyond(sql: &mut Sql, column: &Column<'_>) {
    let Column {
        name, descending, ..
    } = column;
    if *column.value == Bind::Null {
        return sql.push("1 = 0");
    }
    let than = if *descending { "<" } else { ">" };
    let mark = sql.mark(column.value.clone());
    match column.may_be_null {
        true => sql.push(&format!("({name} {than} {mark} OR {name} IS NULL)")),
        false => sql.push(&format!("{name} {than} {mark}")),
    }
}
