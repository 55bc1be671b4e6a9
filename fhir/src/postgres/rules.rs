//! The rules that an index was made by, and the job that makes it anew, in PostgreSQL.
use super::{
    PostgresStore, failed,
    general::index,
    write::{LOCK, holds},
};
use crate::query::IndexRow;
use crate::store::rules::{
    BYTES, Chunk, Job, Kept, RESOURCES, RULES, Rules, TARGET, Unindexed, Used,
};
use crate::store::{Kind, StoreError, row_of_source};
use deadpool_postgres::{Object, Transaction};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Error;

/// Version 10.
pub const STEP: &str = "
-- what the rows of each parameter were made by, and how far the job is that makes all of them anew, if there is one
CREATE TABLE index_rule(type TEXT NOT NULL, param TEXT NOT NULL, rule TEXT NOT NULL, PRIMARY KEY (type, param));
CREATE TABLE index_job(one BOOLEAN PRIMARY KEY CHECK (one), seq BIGINT NOT NULL, until BIGINT NOT NULL,
  target TEXT NOT NULL);
UPDATE head SET version = 10;
";

const KEPT: &str = "SELECT type, param, rule FROM index_rule";
const JOB: &str = "SELECT seq, until, target FROM index_job";
const BEGIN: &str = "INSERT INTO index_job(one, seq, until, target) VALUES (TRUE, $1, $2, $3) \
     ON CONFLICT (one) DO UPDATE SET seq = excluded.seq, until = excluded.until, target = excluded.target";
const GO_ON: &str = "UPDATE index_job SET seq = $1";
const KEEP: &str = "INSERT INTO index_rule(type, param, rule) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::text[])";
const SOURCES: &str = "SELECT seq, source FROM resource WHERE seq = ANY($1)";
const STANDS: &str = "SELECT (SELECT count(*) FROM index_rule WHERE type = $1 AND param = $2), \
     coalesce((SELECT seq FROM index_job), 0), coalesce((SELECT until FROM index_job), 0)";

/// All that has rows: readings have none. Texts end where the chunk is full, since all of them would be sent.
fn next_rows() -> String {
    format!(
        "SELECT seq, type, id, CASE WHEN sum(octet_length(body)) OVER (ORDER BY seq) - octet_length(body) < {BYTES} \
         THEN body END, is_ours FROM (SELECT seq, type, id, body, author IS NULL AS is_ours FROM resource \
         WHERE seq > $1 AND seq <= $2 AND (author IS NOT NULL OR type <> 'Observation') ORDER BY seq LIMIT $3) AS page \
         ORDER BY seq"
    )
}

impl PostgresStore {
    /// Refuses what looks by a parameter whose rows are not all made yet.
    pub(super) async fn indexed(
        &self,
        used: impl FnOnce() -> BTreeSet<Used> + Send,
    ) -> Result<(), StoreError> {
        for one in self.indexing.lacking(used) {
            let stands = self.read("search", |client| async move { stands(&client, one).await });
            match stands.await? {
                (true, ..) => self.indexing.has(one),
                (false, at, until) => return Err(Unindexed::new(one, at, until).into()),
            }
        }
        Ok(())
    }

    /// See [`crate::store::ResourceStore::reindex`].
    pub(super) async fn make_next(&self, base: &str) -> Result<Option<u64>, StoreError> {
        let mut client = self.client("reindex").await?;
        let told = |error| failed("reindex", &error);
        let Some(chunk) = next(&mut client, base).await.map_err(told)? else {
            self.indexing.ended();
            return Ok(None);
        };
        // The store was put back to when there was a job.
        if !self.indexing.is_known() {
            let lacks = new(&mut client).await.map_err(told)?;
            self.indexing.lacks(lacks);
        }
        let made = go_on(&mut client, &chunk, self.lease).await;
        if !made.map_err(told)? {
            let op = "reindex: another node writes";
            return Err(StoreError::new(Kind::Unavailable, op));
        }
        self.statistics.written(chunk.resources.len());
        Ok(Some(chunk.left()))
    }
}

/// Keeps rules in place of those before.
pub async fn keep(transaction: &Transaction<'_>, rules: &Rules) -> Result<(), Error> {
    transaction.execute("DELETE FROM index_rule", &[]).await?;
    let types: Vec<&str> = rules.keys().map(|key| key.0).collect();
    let params: Vec<&str> = rules.keys().map(|key| key.1).collect();
    let texts: Vec<&str> = rules.values().map(String::as_str).collect();
    transaction
        .execute(KEEP, &[&types, &params, &texts])
        .await?;
    Ok(())
}

async fn kept(transaction: &Transaction<'_>) -> Result<Kept, Error> {
    let mut kept = Kept::default();
    for row in transaction.query(KEPT, &[]).await? {
        kept.add((row.get(0), row.get(1)), row.get(2));
    }
    Ok(kept)
}

async fn job(transaction: &Transaction<'_>) -> Result<Option<Job>, Error> {
    let row = transaction.query_opt(JOB, &[]).await?;
    Ok(row.map(|row| Job {
        at: row.get(0),
        until: row.get(1),
        target: row.get(2),
    }))
}

/// Begins the job that leads to this program's rules, if it needs one; the parameters that are new.
pub async fn begin(transaction: &Transaction<'_>) -> Result<BTreeSet<Used>, Error> {
    let kept = kept(transaction).await?;
    let under_way = job(transaction).await?;
    let head = transaction.query_one("SELECT seq FROM head", &[]).await?;
    let next = kept.job(under_way.clone(), head.get(0));
    if next != under_way
        && let Some(Job { at, until, target }) = next
    {
        transaction.execute(BEGIN, &[&at, &until, &target]).await?;
    }
    Ok(kept.lacks())
}

/// The parameters that are new, for a node that changes nothing.
pub async fn new(client: &mut Object) -> Result<BTreeSet<Used>, Error> {
    let transaction = client.transaction().await?;
    Ok(kept(&transaction).await?.lacks())
}

/// Whether a parameter has its rows; where the job stands, and where it ends.
pub async fn stands(client: &Object, (kind, param): Used) -> Result<(bool, i64, i64), Error> {
    let statement = client.prepare_cached(STANDS).await?;
    let row = client.query_one(&statement, &[&kind, &param]).await?;
    Ok((row.get::<_, i64>(0) > 0, row.get(1), row.get(2)))
}

/// The next chunk of the job that goes by this program's rules, if there is one.
pub async fn next(client: &mut Object, base: &str) -> Result<Option<Chunk>, Error> {
    let transaction = client.transaction().await?;
    match job(&transaction).await?.filter(|job| job.target == *TARGET) {
        Some(job) => Ok(Some(chunk(&transaction, &job, base).await?)),
        None => Ok(None),
    }
}

async fn chunk(transaction: &Transaction<'_>, job: &Job, base: &str) -> Result<Chunk, Error> {
    let mut chunk = Chunk::of(job);
    let select = transaction.prepare_cached(&next_rows()).await?;
    let rows = transaction
        .query(&select, &[&chunk.from, &chunk.at, &RESOURCES])
        .await?;
    for row in rows {
        let base = if row.get(4) { "" } else { base };
        let text: Option<&str> = row.get(3);
        // The one before has filled it.
        let Some(text) = text else {
            break;
        };
        if chunk.add(row.get(0), (row.get(1), row.get(2)), (text, base)) {
            break;
        }
    }
    Ok(chunk)
}

/// Makes the rows of a chunk anew, and keeps where the job stands then, or the rules when it has ended; nothing of it where
/// the job does not stand where the chunk begins. False, and nothing was done, where another node has the lease now.
pub async fn go_on(client: &mut Object, chunk: &Chunk, lease: Option<i64>) -> Result<bool, Error> {
    let transaction = client.transaction().await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    transaction.query_one(&lock, &[&0_i64]).await?;
    let job = job(&transaction).await?.filter(|job| job.target == *TARGET);
    if job.is_none_or(|job| job.at != chunk.from) {
        return Ok(true);
    }
    make(&transaction, chunk).await?;
    if chunk.is_last() {
        keep(&transaction, &RULES).await?;
        transaction.execute("DELETE FROM index_job", &[]).await?;
    } else {
        transaction.execute(GO_ON, &[&chunk.at]).await?;
    }
    // Looked at last, since the lease cannot be renewed meanwhile; its row is held until the commit.
    if !holds(&transaction, lease).await? {
        return Ok(false);
    }
    transaction.commit().await?;
    Ok(true)
}

async fn make(transaction: &Transaction<'_>, chunk: &Chunk) -> Result<(), Error> {
    let seqs: Vec<i64> = chunk.resources.iter().map(|one| one.seq).collect();
    if seqs.is_empty() {
        return Ok(());
    }
    let select = transaction.prepare_cached(SOURCES).await?;
    let there = transaction.query(&select, &[&seqs]).await?;
    let there = there.iter().map(|row| (row.get(0), row.get(1)));
    let there: HashMap<i64, Option<String>> = there.collect();
    let mut made: Vec<(&str, &str, Vec<IndexRow>)> = Vec::with_capacity(there.len());
    for one in &chunk.resources {
        // What is not there was written meanwhile, or is no more.
        if let Some(source) = there.get(&one.seq) {
            let mut rows = one.rows.clone();
            rows.extend(source.as_deref().map(row_of_source));
            made.push((&one.kind, &one.id, rows));
        }
    }
    let types: Vec<&str> = made.iter().map(|one| one.0).collect();
    let ids: Vec<&str> = made.iter().map(|one| one.1).collect();
    index::forget(transaction, &types, &ids).await?;
    let found = made.iter();
    let found = found.map(|(kind, id, rows)| (*kind, *id, rows.as_slice()));
    let found: Vec<index::Found<'_>> = found.collect();
    index::add(transaction, &found).await
}

/// Makes the rows of what was stored before there was an index.
pub async fn make_all(transaction: &Transaction<'_>) -> Result<(), Error> {
    let head = transaction.query_one("SELECT seq FROM head", &[]).await?;
    let mut job = Job {
        at: 0,
        until: head.get(0),
        target: String::new(),
    };
    while job.at < job.until {
        let chunk = chunk(transaction, &job, "").await?;
        make(transaction, &chunk).await?;
        job.at = chunk.at;
    }
    keep(transaction, &RULES).await
}
