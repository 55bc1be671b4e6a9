//! What readers were shown, in PostgreSQL: one axis of each, whichever server they ask.
use crate::axis::Axis;
use deadpool_postgres::Object;
use tokio_postgres::Error;

const READ: &str = "SELECT marks FROM reader WHERE name = $1";
const KEEP: &str = "INSERT INTO reader(name, marks) VALUES ($1, $2) \
     ON CONFLICT (name) DO UPDATE SET marks = excluded.marks";
const BEGIN: &str = "INSERT INTO reader(name, marks) VALUES ($1, '') ON CONFLICT (name) DO NOTHING";
const LOCK: &str = "SELECT marks FROM reader WHERE name = $1 FOR UPDATE";

/// See [`crate::store::ResourceStore::marks`].
pub async fn read(client: &Object, reader: &str) -> Result<Option<String>, Error> {
    let statement = client.prepare_cached(READ).await?;
    let row = client.query_opt(&statement, &[&reader]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// See [`crate::store::ResourceStore::keep_marks`].
pub async fn keep(client: &Object, reader: &str, marks: &str) -> Result<(), Error> {
    let statement = client.prepare_cached(KEEP).await?;
    client.execute(&statement, &[&reader, &marks]).await?;
    Ok(())
}

/// See [`crate::store::ResourceStore::reach`]: whoever adds a mark holds the lock on the reader's row.
pub async fn reach(client: &mut Object, reader: &str, commit: i64) -> Result<Axis, Error> {
    let known = read(client, reader).await?;
    if let Some(axis) = known.as_deref().and_then(Axis::of_text)
        && axis.last() >= commit
    {
        return Ok(axis);
    }
    let transaction = client.transaction().await?;
    if known.is_none() {
        transaction.execute(BEGIN, &[&reader]).await?;
    }
    let statement = transaction.prepare_cached(LOCK).await?;
    let row = transaction.query_one(&statement, &[&reader]).await?;
    let mut axis = Axis::of_text(row.get(0)).unwrap_or_else(|| {
        tracing::error!("the marks of a reader cannot be read; it is shown everything again");
        Axis::default()
    });
    if axis.reach(commit) {
        let statement = transaction.prepare_cached(KEEP).await?;
        let marks = axis.to_text();
        transaction.execute(&statement, &[&reader, &marks]).await?;
    }
    transaction.commit().await?;
    Ok(axis)
}
