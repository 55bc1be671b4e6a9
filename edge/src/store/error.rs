//! What goes wrong in the store, and what a caller can do about it.
use super::schema;
use federation::db::DbError;

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
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    pub(crate) const fn new(kind: StoreErrorKind, op: &'static str) -> Self {
        Self {
            kind,
            op,
            source: None,
        }
    }

    /// The same error without its cause, for another caller of the same commit.
    pub(crate) const fn without_source(&self) -> Self {
        Self::new(self.kind, self.op)
    }

    pub(crate) fn sqlite(op: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self {
            kind: schema::kind_of(&source),
            op,
            source: Some(Box::new(source)),
        }
    }

    pub(crate) fn io(op: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self {
            kind: match source.kind() {
                std::io::ErrorKind::StorageFull => StoreErrorKind::Full,
                _ => StoreErrorKind::Unavailable,
            },
            op,
            source: Some(Box::new(source)),
        }
    }
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

/// A step of a commit failed in the engine; the commit cannot stand.
impl From<rusqlite::Error> for StoreError {
    fn from(source: rusqlite::Error) -> Self {
        Self::sqlite("use the database")(source)
    }
}

/// A step on the tables of `federation` failed; the commit cannot stand.
impl From<DbError> for StoreError {
    fn from(source: DbError) -> Self {
        const OP: &str = "use the outbox and audit tables";
        match source {
            DbError::Sql(source) => Self::sqlite(OP)(source),
            other => Self {
                kind: match other {
                    DbError::Newer { .. } => StoreErrorKind::Refused,
                    DbError::Corrupt(_) => StoreErrorKind::Corrupt,
                    DbError::Full => StoreErrorKind::Full,
                    DbError::TooLarge { .. } | DbError::Sql(_) => StoreErrorKind::Internal,
                },
                op: OP,
                source: Some(Box::new(other)),
            },
        }
    }
}
