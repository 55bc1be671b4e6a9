//! Whether a cluster is there, for an operator who asks.
use super::{CONNECT_TIMEOUT, Kind, SessionBuilder, StoreError, wrap};

/// Whether a cluster answers by its known nodes; nothing is changed there.
///
/// # Errors
/// [`Kind::Unavailable`] when no node answers.
pub async fn reach(nodes: &[String]) -> Result<(), StoreError> {
    let session = SessionBuilder::new()
        .known_nodes(nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .build()
        .await;
    session
        .map(drop)
        .map_err(|error| wrap("connect", Kind::Unavailable, error))
}
