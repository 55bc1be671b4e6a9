//! The facility's store: SQLCipher, one writer, group commit.

/// What went wrong in the store, in words that hold no payload.
#[derive(Debug, thiserror::Error)]
#[error("{op}: {kind:?}")]
pub struct StoreError {
    /// What the caller can do about it.
    pub kind: StoreErrorKind,
    /// The step.
    pub op: &'static str,
    /// What the engine said.
    #[source]
    pub source: Option<rusqlite::Error>,
}

/// What the caller can do about a [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreErrorKind {
    /// The disk or its bound is full: free space, or wait for the uplink.
    Full,
    /// The disk refuses writes or an fsync failed: try again later.
    Unavailable,
    /// What is stored does not make sense: a person must look.
    Corrupt,
    /// Wrong key, or a schema newer than this binary.
    Refused,
    /// A fault of ours.
    Internal,
}
