//! The assertions that were used, at whichever node of a region.
use super::{Pair, again, failed};
use crate::store::StoreError;
use tokio_postgres::types::ToSql;

const USE: &str = "WITH gone AS (DELETE FROM used_assertion WHERE ends < $4::bigint AND (kid, jti) <> ($1::text, $2::text)) \
     INSERT INTO used_assertion(kid, jti, ends) SELECT $1::text, $2::text, $3::bigint \
     ON CONFLICT (kid, jti) DO UPDATE SET ends = excluded.ends WHERE used_assertion.ends < $4::bigint";

/// What became of a used assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is used now.
    First,
    /// It was used before.
    Again,
    /// Its client uses too many.
    TooMany,
}

impl Pair {
    /// Notes that an assertion was used, for all nodes of the region. It is remembered until `ends`; times in seconds
    /// since 1970. A client has at most `most` of them at once.
    ///
    /// # Errors
    /// By what the engine says: it may have been noted.
    pub async fn note_assertion(
        &self,
        (kid, jti): (&str, &str),
        (ends, now): (i64, i64),
        most: i64,
    ) -> Result<Noted, StoreError> {
        let op = "note an assertion";
        let many = "SELECT count(*) >= $3 FROM used_assertion WHERE kid = $1 AND ends >= $2";
        let row = again(&self.pool, op, |client| async move {
            let row = client.query_one(many, &[&kid, &now, &most]).await;
            (Some(client), row)
        });
        if row.await?.get(0) {
            return Ok(Noted::TooMany);
        }
        // Once: whether it was noted is not known where this is not answered, and another one may have used it since.
        let client = self.client(op).await?;
        let params: [&(dyn ToSql + Sync); 4] = [&kid, &jti, &ends, &now];
        let noted = client.execute(USE, &params).await;
        Ok(match noted.map_err(|error| failed(op, &error))? {
            0 => Noted::Again,
            _ => Noted::First,
        })
    }
}
