//! The rules that an index was made by, and the job that makes it anew, in SQLite.
use super::{SqliteStore, general, writer::Job as Asked};
use crate::store::rules::{
    Chunk, Indexing, Job, Kept, RESOURCES, RULES, Rules, TARGET, Unindexed, Used, first,
};
use crate::store::{StoreError, row_of_source};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::collections::BTreeSet;

/// Version 10.
pub const STEP: &str = "
-- what the rows of each parameter were made by, and how far the job is that makes all of them anew, if there is one
CREATE TABLE index_rule(type TEXT NOT NULL, param TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (type, param))
  STRICT, WITHOUT ROWID;
CREATE TABLE index_job(one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, until INTEGER NOT NULL,
  target TEXT NOT NULL) STRICT;
";

const KEPT: &str = "SELECT type, param, rule FROM index_rule";
const JOB: &str = "SELECT seq, until, target FROM index_job";
const BEGIN: &str = "INSERT INTO index_job(one, seq, until, target) VALUES (1, ?1, ?2, ?3) \
     ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, until = excluded.until, target = excluded.target";
const GO_ON: &str = "UPDATE index_job SET seq = ?1";
const KEEP: &str = "INSERT INTO index_rule(type, param, rule) VALUES (?1, ?2, ?3)";
/// All that has rows: readings have none.
const NEXT: &str = "SELECT seq, type, id, body, author IS NULL FROM resource WHERE seq > ?1 AND seq <= ?2 \
     AND (author IS NOT NULL OR type <> 'Observation') ORDER BY seq LIMIT ?3";
const SOURCE: &str = "SELECT source FROM resource WHERE seq = ?1";
const STANDS: &str = "SELECT (SELECT count(*) FROM index_rule WHERE type = ?1 AND param = ?2), \
     coalesce((SELECT seq FROM index_job), 0), coalesce((SELECT until FROM index_job), 0)";

impl SqliteStore {
    /// Refuses what looks by a parameter whose rows are not all made yet.
    pub(super) async fn indexed(
        &self,
        used: impl FnOnce() -> BTreeSet<Used>,
    ) -> Result<(), StoreError> {
        for one in self.indexing.lacking(used) {
            let stands = self.reading("search", move |reader| stands(reader, one));
            match stands.await? {
                (true, ..) => self.indexing.has(one),
                (false, at, until) => return Err(Unindexed::new(one, at, until).into()),
            }
        }
        Ok(())
    }

    /// See [`crate::store::ResourceStore::reindex`].
    pub(super) async fn make_next(&self, base: &str) -> Result<Option<u64>, StoreError> {
        let base = base.to_owned();
        let chunk = self.reading("reindex", move |reader| next(reader, &base));
        let Some(chunk) = chunk.await? else {
            return Ok(None);
        };
        let left = chunk.left();
        self.writing(|reply| Asked::Reindex { chunk, reply })
            .await?;
        Ok(Some(left))
    }
}

/// Keeps rules in place of those before.
fn keep(connection: &Connection, rules: &Rules) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM index_rule", [])?;
    let mut keep = connection.prepare(KEEP)?;
    for ((kind, param), rule) in rules {
        keep.execute([kind, param, rule.as_str()])?;
    }
    Ok(())
}

/// Begins the job that leads to this program's rules, if it needs one; the parameters that are new.
pub fn begin(connection: &mut Connection) -> rusqlite::Result<Indexing> {
    // Mostly there is none, and then nobody is waited for who writes.
    for behavior in [
        TransactionBehavior::Deferred,
        TransactionBehavior::Immediate,
    ] {
        let transaction = connection.transaction_with_behavior(behavior)?;
        let kept = kept(&transaction)?;
        let under_way = job(&transaction)?;
        let head = transaction.query_row("SELECT seq FROM head", [], |row| row.get(0))?;
        let next = kept.job(under_way.clone(), head);
        if next == under_way {
            return Ok(Indexing::of(kept.lacks()));
        }
        if let (Some(job), TransactionBehavior::Immediate) = (next, behavior) {
            transaction.execute(BEGIN, params![job.at, job.until, job.target])?;
            transaction.commit()?;
            return Ok(Indexing::of(kept.lacks()));
        }
    }
    Ok(Indexing::default())
}

fn kept(connection: &Connection) -> rusqlite::Result<Kept> {
    let mut kept = Kept::default();
    let mut select = connection.prepare(KEPT)?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, param): (String, String) = (row.get(0)?, row.get(1)?);
        kept.add((&kind, &param), row.get(2)?);
    }
    Ok(kept)
}

fn job(connection: &Connection) -> rusqlite::Result<Option<Job>> {
    let mut job = connection.prepare_cached(JOB)?;
    job.query_row([], |row| {
        Ok(Job {
            at: row.get(0)?,
            until: row.get(1)?,
            target: row.get(2)?,
        })
    })
    .optional()
}

/// Whether a parameter has its rows; where the job stands, and where it ends.
pub fn stands(connection: &Connection, (kind, param): Used) -> rusqlite::Result<(bool, i64, i64)> {
    connection
        .prepare_cached(STANDS)?
        .query_row([kind, param], |row| {
            Ok((row.get::<_, i64>(0)? > 0, row.get(1)?, row.get(2)?))
        })
}

/// The next chunk of the job that goes by this program's rules, if there is one.
pub fn next(connection: &Connection, base: &str) -> rusqlite::Result<Option<Chunk>> {
    let job = job(connection)?.filter(|job| job.target == *TARGET);
    job.map(|job| chunk(connection, &job, base)).transpose()
}

fn chunk(connection: &Connection, job: &Job, base: &str) -> rusqlite::Result<Chunk> {
    let mut chunk = Chunk::of(job);
    let mut select = connection.prepare_cached(NEXT)?;
    let mut rows = select.query([chunk.from, chunk.at, RESOURCES])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(3)?;
        let base = if row.get(4)? { "" } else { base };
        if chunk.add(row.get(0)?, (row.get(1)?, row.get(2)?), (&text, base)) {
            break;
        }
    }
    Ok(chunk)
}

/// Makes the rows of a chunk anew, and keeps where the job stands then, or the rules when it has ended; nothing of it where
/// the job does not stand where the chunk begins.
pub fn go_on(connection: &Connection, chunk: &Chunk) -> rusqlite::Result<()> {
    let job = job(connection)?.filter(|job| job.target == *TARGET);
    if job.is_none_or(|job| job.at != chunk.from) {
        return Ok(());
    }
    make(connection, chunk)?;
    if !chunk.is_last() {
        connection.prepare_cached(GO_ON)?.execute([chunk.at])?;
        return Ok(());
    }
    keep(connection, &RULES)?;
    connection.execute("DELETE FROM index_job", [])?;
    Ok(())
}

fn make(connection: &Connection, chunk: &Chunk) -> rusqlite::Result<()> {
    for one in &chunk.resources {
        let mut source = connection.prepare_cached(SOURCE)?;
        let source: Option<Option<String>> =
            source.query_row([one.seq], |row| row.get(0)).optional()?;
        // It was written meanwhile, or is no more.
        let Some(source) = source else {
            continue;
        };
        general::forget(connection, &one.kind, &one.id)?;
        general::index(connection, &one.kind, &one.id, &one.rows)?;
        if let Some(source) = source {
            general::index(connection, &one.kind, &one.id, &[row_of_source(&source)])?;
        }
    }
    Ok(())
}

/// Keeps the rules of a store that kept none, of that version. Before version 5 it had no index.
pub fn known(connection: &Connection, version: i64) -> rusqlite::Result<()> {
    match version < 5 {
        true => make_all(connection),
        false => keep(connection, &first()),
    }
}

/// Makes the rows of what was stored before there was an index.
fn make_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut job = Job {
        at: 0,
        until: connection.query_row("SELECT seq FROM head", [], |row| row.get(0))?,
        target: String::new(),
    };
    while job.at < job.until {
        let chunk = chunk(connection, &job, "")?;
        make(connection, &chunk)?;
        job.at = chunk.at;
    }
    keep(connection, &RULES)
}
