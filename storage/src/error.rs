//! What goes wrong in a store, and what a caller can do about it.
use rusqlite::ErrorCode;

/// What went wrong in a store, in words that hold no payload.
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
    /// An error that no engine caused.
    #[must_use]
    pub const fn new(kind: StoreErrorKind, op: &'static str) -> Self {
        Self {
            kind,
            op,
            source: None,
        }
    }

    /// The same error without its cause, for another caller of the same commit.
    #[must_use]
    pub const fn without_source(&self) -> Self {
        Self::new(self.kind, self.op)
    }

    /// What SQLite said of a step.
    pub fn sqlite(op: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self {
            kind: StoreErrorKind::of(&source),
            op,
            source: Some(Box::new(source)),
        }
    }

    /// The same, where its words may quote what is stored: the code of the error alone is kept.
    #[must_use]
    pub fn coded(op: &'static str, error: &rusqlite::Error) -> Self {
        let code = error.sqlite_error().copied();
        Self {
            kind: StoreErrorKind::of(error),
            op,
            source: code.map(|code| Box::new(code) as _),
        }
    }

    /// What the system said of a step on a file.
    pub fn io(op: &'static str) -> impl FnOnce(std::io::Error) -> Self {
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
    /// Never to be asked again as it was: too much at once, a wrong key, a schema newer than this binary.
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

impl StoreErrorKind {
    /// Whether the same may be done later, without anybody's doing: full, busy or out of reach.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        match self {
            Self::Full | Self::Unavailable => true,
            Self::Corrupt | Self::Refused | Self::Internal => false,
        }
    }

    /// What an error of SQLite means to the caller.
    #[must_use]
    pub fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt,
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied,
            ) => Self::Unavailable,
            Some(_) => Self::Internal,
            // A column of another type than was written, text that is not UTF-8: what is stored does not make sense.
            None => Self::Corrupt,
        }
    }
}
