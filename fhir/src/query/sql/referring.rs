//! Conditions on what refers to a resource (`_has`), and on readings, which a chain leads to or which refer to it. Readings
//! have columns of `resource` instead of rows of an index.
use super::condition::Compiler;
use super::{Bind, Dialect};
use crate::query::{Filter, Param};
use crate::search::{Filter as Column, Interval};

/// What a reading may refer to: the type, the column, and what makes it the subject.
const REFERENCES: [(&str, &str, &str); 2] = [
    ("Patient", "patient", ""),
    ("Device", "device", " AND @.patient IS NULL"),
];

impl Compiler<'_, '_> {
    pub(super) fn has(
        &mut self,
        alias: &str,
        source: &'static str,
        reference: &Param,
        inner: &Filter,
    ) {
        let other = self.alias('s');
        self.push(&format!(
            "(({alias}.type, {alias}.id) IN (SELECT x.target_type, x.target_id FROM index_reference x JOIN resource {other} ON {other}.type = x.type AND {other}.id = x.id WHERE "
        ));
        self.of("x", &[source], reference);
        self.push(" AND ");
        self.seen(&other, source, inner);
        self.push("))");
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
