//! Conditions of a search on a row of `resource`.
use super::{Bind, Dialect, REFERENCE, Sql, TOKEN, Table, table};
use crate::query::{
    CompositeMatch, DateMatch, Filter, Kind, Match, NumberMatch, Param, Prefix, QuantityMatch,
    ReferenceMatch, TextMatch, TokenMatch, UriMatch,
};

/// Conditions in a row, without parentheses between them.
const MOST_IN_A_ROW: usize = 100;

/// What a client may see of a type, for what a chain leads to and what refers back: all of it when there is none.
pub type Visible<'v> = &'v dyn Fn(&str) -> Option<Filter>;

/// Adds a condition on the row `alias` of `resource`, in parentheses. `types` are the types that the row may be of.
pub fn condition(
    sql: &mut Sql,
    alias: &str,
    types: &[&str],
    filter: &Filter,
    visible: Visible<'_>,
) {
    Compiler::new(sql, visible).filter(alias, types, filter);
}

pub(super) struct Compiler<'s, 'v> {
    pub(super) sql: &'s mut Sql,
    visible: Visible<'v>,
    /// The number of the next alias.
    next: usize,
}

impl<'s, 'v> Compiler<'s, 'v> {
    pub(super) fn new(sql: &'s mut Sql, visible: Visible<'v>) -> Self {
        let next = 0;
        Self { sql, visible, next }
    }
}

impl Compiler<'_, '_> {
    pub(super) fn alias(&mut self, letter: char) -> String {
        self.next += 1;
        format!("{letter}{}", self.next)
    }

    pub(super) fn push(&mut self, text: &str) {
        self.sql.push(text);
    }

    /// Conditions with a word between them, in parentheses; `empty` where there is none. What a chain leads to may be
    /// thousands: SQLite takes no expression that is deeper than 1,000, and a row goes deeper with each word.
    pub(super) fn each<T>(
        &mut self,
        all: &[T],
        word: &str,
        empty: &str,
        mut one: impl FnMut(&mut Self, &T),
    ) {
        let (open, close) = match all.len() > MOST_IN_A_ROW {
            true => ("(", ")"),
            false => ("", ""),
        };
        self.push("(");
        for (group, items) in all.chunks(MOST_IN_A_ROW).enumerate() {
            self.push(if group > 0 { word } else { "" });
            self.push(open);
            for (at, item) in items.iter().enumerate() {
                self.push(if at > 0 { word } else { "" });
                one(self, item);
            }
            self.push(close);
        }
        self.push(if all.is_empty() { empty } else { "" });
        self.push(")");
    }

    pub(super) fn filter(&mut self, alias: &str, types: &[&str], filter: &Filter) {
        match filter {
            Filter::Param { param, matches } => self.param(alias, types, param, matches),
            Filter::Missing { param, missing } => {
                let kind = param.parts.first().map_or(param.kind, |part| part.kind);
                self.push(if *missing { "(NOT " } else { "(" });
                self.rows(alias, types, param, kind, "x", |_, _| {});
                self.push(")");
            }
            Filter::Id(ids) => self.each(ids, " OR ", "1 = 0", |own, id| {
                own.push(&format!("{alias}.id = "));
                own.sql.bind_text(id);
            }),
            Filter::LastUpdated(spans) => {
                let column = format!("{alias}.updated");
                self.each(spans, " OR ", "1 = 0", |own, span| {
                    own.date(span, &column, &column)
                });
            }
            Filter::Commits(list) => self.each(list, " OR ", "1 = 0", |own, commits| {
                own.push(&format!("({alias}.seq > "));
                own.sql.bind(Bind::Integer(commits.after));
                if let Some(until) = commits.until {
                    own.push(&format!(" AND {alias}.seq <= "));
                    own.sql.bind(Bind::Integer(until));
                }
                own.push(")");
            }),
            Filter::List(ids) => {
                self.push(&format!("(({alias}.type, {alias}.id) IN (SELECT x.target_type, x.target_id FROM index_reference x WHERE x.type = 'List' AND x.param = 'item' AND "));
                self.each(ids, " OR ", "1 = 0", |own, id| {
                    own.push("x.id = ");
                    own.sql.bind_text(id);
                });
                if let Some(visible) = (self.visible)("List") {
                    let list = self.alias('l');
                    self.push(&format!(" AND x.id IN (SELECT {list}.id FROM resource {list} WHERE {list}.type = 'List' AND "));
                    self.filter(&list, &["List"], &visible);
                    self.push(")");
                }
                self.push("))");
            }
            Filter::Chain { param, targets } => self.chain(alias, types, param, targets),
            Filter::Has {
                source,
                reference,
                inner,
            } => self.has((alias, types), source, reference, inner),
            Filter::HasReading { reference, inner } => {
                self.has_reading(alias, types, reference, inner);
            }
            Filter::Column(column) => self.column(alias, column),
            // No client wrote it, and no facility delivers any.
            Filter::Own => self.push(&format!(
                "({alias}.type = 'AuditEvent' AND {alias}.author IS NULL)"
            )),
            Filter::Not(inner) => {
                self.push("(NOT ");
                self.filter(alias, types, inner);
                self.push(")");
            }
            Filter::Any(inner) => self.each(inner, " OR ", "1 = 0", |own, one| {
                own.filter(alias, types, one)
            }),
            Filter::All(inner) => self.each(inner, " AND ", "1 = 1", |own, one| {
                own.filter(alias, types, one)
            }),
        }
    }

    /// Rows of the parameter in the table of a kind, of this resource, that hold a condition.
    fn rows(
        &mut self,
        alias: &str,
        types: &[&str],
        param: &Param,
        kind: Kind,
        row: &str,
        condition: impl FnOnce(&mut Self, &str),
    ) {
        let Some(Table { name, .. }) = table(kind) else {
            self.push("(1 = 0)");
            return;
        };
        let key = key(alias, types);
        self.push(&format!(
            "({} IN (SELECT {} FROM {name} {row} WHERE ",
            key.0,
            key.1.replace('@', row)
        ));
        self.of(row, types, param);
        condition(self, row);
        self.push("))");
    }

    /// The rows of a parameter of the types.
    pub(super) fn of(&mut self, row: &str, types: &[&str], param: &Param) {
        self.each(types, " OR ", "1 = 1", |own, kind| {
            own.push(&format!("{row}.type = "));
            own.sql.bind_text(kind);
        });
        self.push(&format!(" AND {row}.param = "));
        self.sql.bind_text(param.code);
    }

    fn param(&mut self, alias: &str, types: &[&str], param: &Param, matches: &[Match]) {
        if param.kind == Kind::Composite {
            self.each(matches, " OR ", "1 = 0", |own, one| match one {
                Match::Composite(parts) => own.composite(alias, types, param, parts),
                _ => own.push("1 = 0"),
            });
            return;
        }
        self.rows(alias, types, param, param.kind, "x", |own, row| {
            own.push(" AND ");
            own.each(matches, " OR ", "1 = 0", |own, one| own.value(row, one));
        });
    }

    /// A row of each part, all of one group.
    fn composite(&mut self, alias: &str, types: &[&str], param: &Param, parts: &CompositeMatch) {
        let key = key(alias, types);
        self.push(&format!(
            "({} IN (SELECT {} FROM ",
            key.0,
            key.1.replace('@', "x0")
        ));
        for (at, part) in param.parts.iter().enumerate() {
            let name = table(part.kind).map_or(TOKEN.name, |table| table.name);
            match at {
                0 => self.push(&format!("{name} x0")),
                at => self.push(&format!(" JOIN {name} x{at} ON x{at}.type = x0.type AND x{at}.id = x0.id AND x{at}.param = x0.param AND x{at}.grp = x0.grp AND x{at}.part = {at}")),
            }
        }
        self.push(" WHERE x0.part = 0 AND ");
        self.of("x0", types, param);
        for (at, one) in parts.0.iter().enumerate() {
            self.push(" AND ");
            self.value(&format!("x{at}"), one);
        }
        self.push("))");
    }

    fn chain(
        &mut self,
        alias: &str,
        types: &[&str],
        param: &Param,
        targets: &[(&'static str, Filter)],
    ) {
        let by_url = param.is_canonical();
        self.push(if by_url { "(" } else { "" });
        let other = self.alias('t');
        let join = format!(
            " JOIN resource {other} ON {other}.type = x.target_type AND {other}.id = x.target_id"
        );
        let key = key(alias, types);
        let Table { name, .. } = REFERENCE;
        self.push(&format!(
            "({} IN (SELECT {} FROM {name} x{join} WHERE ",
            key.0,
            key.1.replace('@', "x")
        ));
        self.of("x", types, param);
        self.push(" AND ");
        self.each(targets, " OR ", "1 = 0", |own, (kind, inner)| {
            own.seen(&other, kind, inner)
        });
        self.push("))");
        if by_url {
            self.push(" OR ");
            self.chain_by_url((alias, types), param, targets);
            self.push(")");
        }
    }

    /// A resource of a type, of which a client may see it, that a filter holds of.
    pub(super) fn seen(&mut self, alias: &str, kind: &'static str, inner: &Filter) {
        self.push(&format!("({alias}.type = "));
        self.sql.bind_text(kind);
        if let Some(visible) = (self.visible)(kind) {
            self.push(" AND ");
            self.filter(alias, &[kind], &visible);
        }
        self.push(" AND ");
        self.filter(alias, &[kind], inner);
        self.push(")");
    }

    pub(super) fn value(&mut self, row: &str, one: &Match) {
        self.push("(");
        match one {
            Match::Token(one) => self.token(row, one),
            Match::Date(one) => self.date(one, &format!("{row}.low"), &format!("{row}.high")),
            Match::Number(one) => self.number(one, &format!("{row}.low"), &format!("{row}.high")),
            Match::Quantity(one) => self.quantity(row, one),
            Match::Text(one) => self.text(row, one),
            Match::Reference(one) => self.reference(row, one),
            Match::Uri(one) => self.uri(row, one),
            Match::Near {
                latitude,
                longitude,
                metres,
            } => self.near(row, (*latitude, *longitude), *metres),
            Match::Composite(_) => self.push("1 = 0"),
        }
        self.push(")");
    }

    fn token(&mut self, row: &str, one: &TokenMatch) {
        if let TokenMatch::OfType {
            system,
            code,
            value,
        } = one
        {
            self.is(row, "code", code);
            self.push(" AND ");
            self.beside(row, "system", system);
            self.push(" AND ");
            self.is(row, "value", value);
            return;
        }
        self.push(&format!("{row}.value IS NULL AND "));
        match one {
            TokenMatch::Text(text) => self.starts(row, "text", text),
            one => self.coded(row, ("system", "code"), one),
        }
    }

    fn coded(&mut self, row: &str, (system, code): (&str, &str), one: &TokenMatch) {
        match one {
            TokenMatch::Code(wanted) => self.is(row, code, wanted),
            TokenMatch::Coded(of, wanted) => {
                self.is(row, code, wanted);
                self.push(" AND ");
                self.beside(row, system, of);
            }
            TokenMatch::Bare(wanted) => {
                self.is(row, code, wanted);
                self.push(&format!(" AND {row}.{system} IS NULL"));
            }
            TokenMatch::System(of) => self.is(row, system, of),
            TokenMatch::Text(_) | TokenMatch::OfType { .. } => self.push("1 = 0"),
        }
    }

    /// A comparison of columns with bound values: each `?` of the text stands for the next value.
    pub(super) fn compare(&mut self, text: &str, values: &[Bind]) {
        let mut values = values.iter();
        for (at, part) in text.split('?').enumerate() {
            if at > 0 {
                self.sql.bind(values.next().cloned().unwrap_or(Bind::Null));
            }
            self.push(part);
        }
    }

    fn date(&mut self, one: &DateMatch, l: &str, h: &str) {
        let (low, high) = (Bind::Integer(one.low), Bind::Integer(one.high));
        let (text, values) = match one.prefix {
            Prefix::Eq => (format!("({l} >= ? AND {h} <= ?)"), vec![low, high]),
            Prefix::Ne => (format!("({l} < ? OR {h} > ?)"), vec![low, high]),
            Prefix::Gt => (format!("{h} > ?"), vec![high]),
            Prefix::Lt => (format!("{l} < ?"), vec![low]),
            Prefix::Ge => (
                format!("({h} > ? OR ({l} >= ? AND {h} <= ?))"),
                vec![high.clone(), low, high],
            ),
            Prefix::Le => (
                format!("({l} < ? OR ({l} >= ? AND {h} <= ?))"),
                vec![low.clone(), low, high],
            ),
            Prefix::Sa => (format!("{l} > ?"), vec![high]),
            Prefix::Eb => (format!("{h} < ?"), vec![low]),
            Prefix::Ap => (format!("({l} <= ? AND {h} >= ?)"), vec![high, low]),
        };
        self.compare(&text, &values);
    }

    fn number(&mut self, one: &NumberMatch, l: &str, h: &str) {
        let (low, high, value) = (
            Bind::Real(one.low),
            Bind::Real(one.high),
            Bind::Real(one.value),
        );
        let (text, values) = match one.prefix {
            Prefix::Eq => (format!("({l} >= ? AND {h} < ?)"), vec![low, high]),
            Prefix::Ne => (format!("({l} < ? OR {h} >= ?)"), vec![low, high]),
            Prefix::Gt => (format!("{h} > ?"), vec![value]),
            Prefix::Lt => (format!("{l} < ?"), vec![value]),
            Prefix::Ge => (format!("{h} >= ?"), vec![value]),
            Prefix::Le => (format!("{l} <= ?"), vec![value]),
            Prefix::Sa => (format!("{l} > ?"), vec![value]),
            Prefix::Eb => (format!("{h} < ?"), vec![value]),
            Prefix::Ap => (format!("({l} < ? AND {h} >= ?)"), vec![high, low]),
        };
        self.compare(&text, &values);
    }

    fn quantity(&mut self, row: &str, one: &QuantityMatch) {
        if let Some((number, unit)) = &one.canonical {
            self.is(row, "base_unit", unit);
            self.push(" AND ");
            return self.number(
                number,
                &format!("{row}.base_low"),
                &format!("{row}.base_high"),
            );
        }
        self.number(&one.number, &format!("{row}.low"), &format!("{row}.high"));
        if let Some(system) = &one.system {
            self.push(" AND ");
            self.is(row, "system", system);
        }
        if let Some(code) = &one.code {
            self.push(" AND (");
            self.is(row, "code", code);
            if one.system.is_none() {
                self.push(" OR ");
                self.is(row, "unit", code);
            }
            self.push(")");
        }
    }

    fn text(&mut self, row: &str, one: &TextMatch) {
        match one {
            TextMatch::Starts(text) => self.starts(row, "folded", text),
            TextMatch::Exact(text) => self.is(row, "exact", text),
            TextMatch::Contains(text) => {
                let function = match self.sql.dialect {
                    Dialect::Sqlite => "instr",
                    Dialect::Postgres => "strpos",
                };
                self.push(&format!("{function}({row}.folded, "));
                self.sql.bind_text(text);
                self.push(") > 0");
            }
        }
    }

    fn reference(&mut self, row: &str, one: &ReferenceMatch) {
        let version = match one {
            ReferenceMatch::Local {
                resource_type,
                id,
                version,
            } => {
                self.is(row, "target_id", id);
                if let Some(kind) = resource_type {
                    self.push(" AND ");
                    self.is(row, "target_type", kind);
                }
                version
            }
            ReferenceMatch::Url { url, version } => {
                self.is(row, "url", url);
                version
            }
            ReferenceMatch::Identifier(one) => {
                self.push(&format!("{row}.of_value IS NOT NULL AND "));
                return self.coded(row, ("of_system", "of_value"), one);
            }
        };
        if let Some(version) = version {
            self.push(" AND ");
            self.is(row, "version", version);
        }
    }

    fn uri(&mut self, row: &str, one: &UriMatch) {
        match one {
            UriMatch::Is(uri) => self.is(row, "uri", uri),
            UriMatch::Above(uris) => {
                self.each(uris, " OR ", "1 = 0", |own, uri| own.is(row, "uri", uri))
            }
            UriMatch::Below(uri) => {
                self.is(row, "uri", uri);
                self.push(" OR (");
                let folder = format!("{}/", uri.strip_suffix('/').unwrap_or(uri));
                self.starts(row, "uri", &folder);
                self.push(")");
            }
        }
    }
}

/// What identifies a row of `resource`, and the same of a row of an index that is called `@`.
pub(super) fn key(alias: &str, types: &[&str]) -> (String, &'static str) {
    match types {
        [_] => (format!("{alias}.id"), "@.id"),
        _ => (format!("({alias}.type, {alias}.id)"), "@.type, @.id"),
    }
}
