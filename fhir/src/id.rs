//! The `id` of a resource.
use std::{fmt, str::FromStr};

/// Text that is not a FHIR R4 `id`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to 64 characters of A-Z, a-z, 0-9, '-' and '.'")]
pub struct InvalidFhirId;

/// A FHIR R4 `id`: `[A-Za-z0-9\-\.]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FhirId(String);

impl FhirId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FhirId {
    type Err = InvalidFhirId;

    fn from_str(text: &str) -> Result<Self, InvalidFhirId> {
        let fits = (1..=64).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidFhirId)
        }
    }
}

impl fmt::Display for FhirId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
