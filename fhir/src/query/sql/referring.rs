//! Conditions on what refers to a resource (`_has`), and on readings, which a chain leads to or which refer to it. Readings
//! have columns of `resource` instead of rows of an index.
use super::condition::{Compiler, key};
use super::{Bind, Dialect};
use crate::query::{Filter, Param};
use crate::search::{Filter as Column, Interval};

/// What a reading may refer to: the type, the column, and what makes it the subject.
const REFERENCES: [(&str, &str, &str); 2] = [
    ("Patient", "patient", ""),
    ("Device", "device", " AND @.patient IS NULL"),
];

/// What a canonical URL of the row `x` leads to is the row `u`: what has that `url`, and the version where it names one.
const BY_URL: &str = " AND u.param = 'url' AND (x.version IS NULL OR EXISTS (SELECT 1 FROM index_token v \
     WHERE v.type = u.type AND v.id = u.id AND v.param = 'version' AND v.code = x.version))";

impl Compiler<'_, '_> {
    /// What a chain leads to by canonical URLs.
    pub(super) fn chain_by_url(
        &mut self,
        (alias, types): (&str, &[&str]),
        param: &Param,
        targets: &[(&'static str, Filter)],
    ) {
        let other = self.alias('t');
        let key = key(alias, types);
        self.push(&format!(
            "({} IN (SELECT {} FROM index_reference x JOIN index_uri u ON u.uri = x.url JOIN resource {other} ON {other}.type = u.type AND {other}.id = u.id WHERE ",
            key.0,
            key.1.replace('@', "x")
        ));
        self.of("x", types, param);
        self.push(BY_URL);
        self.push(" AND ");
        self.each(targets, " OR ", "1 = 0", |own, (kind, inner)| {
            own.push("(u.type = ");
            own.sql.bind_text(kind);
            own.push(" AND ");
            own.seen(&other, kind, inner);
            own.push(")");
        });
        self.push("))");
    }

    /// What refers to a resource by its canonical URL.
    fn has_by_url(
        &mut self,
        (alias, types): (&str, &[&str]),
        source: &'static str,
        reference: &Param,
        inner: &Filter,
    ) {
        let other = self.alias('s');
        self.push(&format!(
            "(({alias}.type, {alias}.id) IN (SELECT u.type, u.id FROM index_reference x JOIN index_uri u ON u.uri = x.url JOIN resource {other} ON {other}.type = x.type AND {other}.id = x.id WHERE "
        ));
        self.each(types, " OR ", "1 = 1", |own, kind| {
            own.push("u.type = ");
            own.sql.bind_text(kind);
        });
        self.push(" AND ");
        self.of("x", &[source], reference);
        self.push(BY_URL);
        self.push(" AND ");
        self.seen(&other, source, inner);
        self.push("))");
    }

    pub(super) fn has(
        &mut self,
        (alias, types): (&str, &[&str]),
        source: &'static str,
        reference: &Param,
        inner: &Filter,
    ) {
        let by_url = reference.is_canonical();
        self.push(if by_url { "(" } else { "" });
        let other = self.alias('s');
        self.push(&format!(
            "(({alias}.type, {alias}.id) IN (SELECT x.target_type, x.target_id FROM index_reference x JOIN resource {other} ON {other}.type = x.type AND {other}.id = x.id WHERE "
        ));
        self.of("x", &[source], reference);
        self.push(" AND ");
        self.seen(&other, source, inner);
        self.push("))");
        if by_url {
            self.push(" OR ");
            self.has_by_url((alias, types), source, reference, inner);
            self.push(")");
        }
    }

    /// A reading that refers to the row `alias` of `resource`, and that a filter holds of. Each row that may be found is
    /// asked for its readings, by the index of what these refer to.
    pub(super) fn has_reading(
        &mut self,
        alias: &str,
        types: &[&str],
        reference: &Param,
        inner: &Filter,
    ) {
        let other = self.alias('s');
        // An id and a column that refers to one have different collations there; both compare byte for byte.
        let as_column = match self.sql.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " COLLATE \"default\"",
        };
        let is_way = |(kind, column, _): &&(&str, &str, &str)| {
            types.contains(kind) && (reference.code == "subject" || reference.code == *column)
        };
        let ways: Vec<_> = REFERENCES.iter().filter(is_way).collect();
        self.each(&ways, " OR ", "1 = 0", |own, (kind, column, of_subject)| {
            own.push(&format!("({alias}.type = "));
            own.sql.bind_text(kind);
            own.push(&format!(
                " AND EXISTS (SELECT 1 FROM resource {other} WHERE {other}.{column} = {alias}.id{as_column} AND {}{other}.type = ",
                own.unindexed()
            ));
            own.sql.bind_text("Observation");
            if reference.code == "subject" {
                own.push(&of_subject.replace('@', &other));
            }
            own.push(&format!(" AND {other}.author IS NULL AND "));
            own.seen(&other, "Observation", inner);
            own.push("))");
        });
    }

    /// Before a column whose index SQLite, which has no statistics, shall not choose: how a reading is reached, the
    /// statement says.
    const fn unindexed(&self) -> &'static str {
        match self.sql.dialect {
            Dialect::Sqlite => "+",
            Dialect::Postgres => "",
        }
    }

    /// A condition on a reading. It holds or does not: what has no such column has none, and what clients wrote is no
    /// reading, nor is what facilities deliver of other types.
    pub(super) fn column(&mut self, alias: &str, column: &Column) {
        self.push(&format!(
            "({alias}.author IS NULL AND {}{alias}.type = 'Observation' AND ",
            self.unindexed()
        ));
        self.of_column(alias, column);
        self.push(" IS TRUE)");
    }

    fn of_column(&mut self, alias: &str, column: &Column) {
        match column {
            Column::Id(ids) => self.one_of(alias, "id", ids),
            Column::Patient(ids) => self.one_of(alias, "patient", ids),
            Column::Device(ids) => self.one_of(alias, "device", ids),
            Column::Subject { patients, devices } => {
                self.push("(");
                self.one_of(alias, "patient", patients);
                self.push(&format!(" OR ({alias}.patient IS NULL AND "));
                self.one_of(alias, "device", devices);
                self.push("))");
            }
            Column::Code(codes) => self.one_of(alias, "code", codes),
            Column::Category(list) => {
                let codes: Vec<&str> = list.iter().map(|one| one.as_str()).collect();
                self.one_of(alias, "category", &codes);
            }
            Column::Source(list) => self.one_of(alias, "source", list),
            Column::Date(intervals) => self.spans(alias, "effective", intervals),
            Column::Updated(intervals) => self.spans(alias, "updated", intervals),
            Column::Commits(list) => self.filter(alias, &[], &Filter::Commits(list.clone())),
        }
    }

    fn one_of(&mut self, alias: &str, column: &str, all: &[impl ToString]) {
        let plain = self.unindexed();
        self.each(all, " OR ", "1 = 0", |own, one| {
            own.push(&format!("{plain}{alias}.{column} = "));
            own.sql.bind_text(&one.to_string());
        });
    }

    fn spans(&mut self, alias: &str, column: &str, intervals: &[Interval]) {
        let plain = self.unindexed();
        self.each(intervals, " OR ", "1 = 0", |own, interval| {
            own.push(&format!("({plain}{alias}.{column} IS NOT NULL"));
            for (bound, than) in [(interval.from, ">="), (interval.until, "<")] {
                if let Some(bound) = bound {
                    own.push(&format!(" AND {plain}{alias}.{column} {than} "));
                    own.sql.bind(Bind::Integer(bound));
                }
            }
            own.push(")");
        });
    }
}
