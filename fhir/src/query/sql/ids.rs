//! The ids that parameters find, in their order.
use super::condition::{Compiler, Visible};
use super::{Bind, Sql, TOKEN, table};
use crate::query::{Match, Param};

/// Nothing is hidden: no parameter looks at another resource.
const EVERYTHING: Visible<'static> = &|_| None;

/// Adds a selection of the ids of the resources of a type that any of some parameters, none of them a composite, finds:
/// each once. In their order, from the largest one where they `descend`, they are those behind an id, and so many of each
/// parameter at the most, where there are such.
pub fn ids(
    sql: &mut Sql,
    kind: &str,
    by: &[(&Param, &[Match])],
    (after, descend, most): (Option<&str>, bool, Option<i64>),
) {
    let (than, way) = if descend { ("<", "DESC") } else { (">", "ASC") };
    let (all, each, end) = match (by.len(), most) {
        (0 | 1, _) => ("", "(SELECT DISTINCT", ""),
        (_, None) => ("SELECT DISTINCT u.id FROM (", "(SELECT", ") u"),
        (_, Some(_)) => ("SELECT DISTINCT u.id FROM (", "(SELECT DISTINCT", ") u"),
    };
    let mut compiler = Compiler::new(sql, EVERYTHING);
    compiler.push(all);
    for (at, &(param, matches)) in by.iter().enumerate() {
        let name = table(param.kind).map_or(TOKEN.name, |table| table.name);
        compiler.push(if at > 0 { " UNION ALL " } else { "" });
        compiler.push(&format!("{each} x.id FROM {name} x WHERE "));
        compiler.of("x", &[kind], param);
        compiler.push(" AND ");
        compiler.each(matches, " OR ", "1 = 0", |own, one| own.value("x", one));
        if let Some(id) = after {
            compiler.push(&format!(" AND x.id {than} "));
            compiler.sql.bind_text(id);
        }
        if let Some(most) = most {
            compiler.push(&format!(" ORDER BY x.id {way} LIMIT "));
            compiler.sql.bind(Bind::Integer(most));
        }
        compiler.push(")");
    }
    compiler.push(end);
}
