//! How a store is opened that two nodes serve.
use super::{PostgresStore, SCHEMA_VERSION, connect::Idle, failed, rules, timeline::Newest};
use crate::store::{Kind, StoreError};
use crate::subscription::MAX_PENDING_EVENTS;
use std::sync::Arc;

impl PostgresStore {
    /// What is there already, with nothing made or changed of its tables: for a node that reads and writes beside another
    /// one, which may be of another version.
    ///
    /// # Errors
    /// As [`PostgresStore::open`]; [`Kind::Refused`] when the tables are of another version.
    pub async fn open_beside(
        url: &str,
        authority_pem: Option<&[u8]>,
        newest: &Arc<Newest>,
    ) -> Result<Self, StoreError> {
        let way = (Idle::OneOfTwo, Arc::clone(newest));
        let store = Self::connect(url, authority_pem, MAX_PENDING_EVENTS, way)?;
        let mut client = store.client("open").await?;
        let engine = |error: tokio_postgres::Error| failed("open", &error);
        let there = client.query_one("SELECT to_regclass('head') IS NOT NULL", &[]);
        let version = match there.await.map_err(engine)?.get(0) {
            true => client.query_one("SELECT version FROM head", &[]).await,
            false => client.query_one("SELECT 0::bigint", &[]).await,
        };
        match version.map_err(engine)?.get(0) {
            SCHEMA_VERSION => {
                let new = rules::new(&mut client).await.map_err(engine)?;
                store.indexing.lacks(new);
                drop(client);
                Ok(store)
            }
            _ => Err(StoreError::new(
                Kind::Refused,
                "open: the tables are of another version",
            )),
        }
    }

    /// As [`PostgresStore::open`], for the one of two nodes that writes.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn open_as_one_of_two(
        url: &str,
        authority_pem: Option<&[u8]>,
        newest: &Arc<Newest>,
    ) -> Result<Self, StoreError> {
        let way = (Idle::OneOfTwo, Arc::clone(newest));
        Self::open_by(url, authority_pem, MAX_PENDING_EVENTS, way).await
    }
}
