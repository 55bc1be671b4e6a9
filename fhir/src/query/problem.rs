//! What is wrong with a search, and where.

/// Characters of a name or value that a problem repeats.
const MAX_REPEATED: usize = 64;

/// Why a parameter of a search is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{param}: {text}")]
pub struct Problem {
    /// The parameter as it stands in the query, cut to 64 characters.
    pub param: String,
    /// Which kind of problem.
    pub kind: ProblemKind,
    /// What is wrong, and what is expected.
    pub text: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// A parameter that the type does not have: dropped where the client is lenient.
    Unknown,
    /// A parameter, modifier or prefix that R4 has and this server does not: dropped where the client is lenient.
    Unsupported,
    /// A value that cannot be read: refused even where the client is lenient, for to ignore it would widen the answer.
    Invalid,
    /// More than a limit: refused.
    Limit,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, param: &str, text: impl Into<String>) -> Self {
        Self {
            param: param.chars().take(MAX_REPEATED).collect(),
            kind,
            text: text.into(),
        }
    }

    pub(crate) fn invalid(param: &str, text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Invalid, param, text)
    }

    pub(crate) fn unsupported(param: &str, text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Unsupported, param, text)
    }

    pub(crate) fn limit(param: &str, text: impl Into<String>) -> Self {
        Self::new(ProblemKind::Limit, param, text)
    }
}
