//! Changes of a resource that a client describes: JSON Patch (RFC 6902) and FHIRPath Patch (FHIR R4 fhirpatch.html).
//!
//! Both work on the text of a resource, so that the text of every number and the order of members stay. A patch is
//! applied whole or not at all: the caller gets the new text, or an error and nothing. `resourceType` and `id` stay what
//! they are. Whether what comes out is R4 is for [`crate::r4::validate`] to say.
mod fhirpath;
mod json_patch;
mod pointer;
mod write;

pub use write::write;

use crate::json::Json;

/// Operations of one patch.
pub const MAX_OPERATIONS: usize = 1_000;
/// Bytes of a patched resource.
pub const MAX_BYTES: usize = 16 << 20;

/// Why a patch is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// It cannot be read: 400.
    #[error("{place}: {problem}")]
    Malformed {
        /// Where in the patch, such as `operation 2`.
        place: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// It can be read and cannot be applied to this resource, or a `test` does not hold: 422.
    #[error("{place}: {problem}")]
    Unprocessable {
        /// Where in the patch.
        place: String,
        /// What does not fit.
        problem: String,
    },
}

impl PatchError {
    fn malformed(at: usize, problem: impl Into<String>) -> Self {
        Self::Malformed {
            place: format!("operation {}", at + 1),
            problem: problem.into(),
        }
    }

    fn unprocessable(at: usize, problem: impl Into<String>) -> Self {
        Self::Unprocessable {
            place: format!("operation {}", at + 1),
            problem: problem.into(),
        }
    }
}

/// Applies a JSON Patch, a list of operations, to the text of a resource: the new text.
///
/// # Errors
/// [`PatchError`] for the first operation that cannot be read or applied.
pub fn json_patch(resource: &str, patch: &str) -> Result<String, PatchError> {
    apply(resource, patch, json_patch::apply)
}

/// Applies a FHIRPath Patch, a Parameters resource, to the text of a resource: the new text.
///
/// # Errors
/// [`PatchError`] for the first operation that cannot be read or applied.
pub fn fhirpath_patch(resource: &str, patch: &str) -> Result<String, PatchError> {
    apply(resource, patch, fhirpath::apply)
}

/// Whether a JSON Patch asks what there is, or takes it elsewhere: by `test`, `copy` or `move`. One that cannot be read asks
/// nothing.
#[must_use]
pub fn json_patch_looks(patch: &str) -> bool {
    let Ok(Json::List(operations)) = Json::parse(patch) else {
        return false;
    };
    let mut names = operations.iter().filter_map(Json::object);
    names.any(|operation| matches!(operation.text("op"), Some("test" | "copy" | "move")))
}

/// Whether a FHIRPath Patch asks what there is: by a path that is more than names and positions. One that cannot be read
/// asks nothing.
#[must_use]
pub fn fhirpath_patch_looks(patch: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'[' | b']');
    let Ok(tree) = Json::parse(patch) else {
        return false;
    };
    let operations = tree
        .object()
        .into_iter()
        .flat_map(|all| all.each("parameter"));
    let parts = operations
        .filter_map(Json::object)
        .flat_map(|one| one.each("part"));
    let mut paths = parts
        .filter_map(Json::object)
        .filter(|part| part.text("name") == Some("path"));
    paths.any(|path| {
        let text = path.text("valueString").or_else(|| path.text("valueCode"));
        !text.unwrap_or_default().bytes().all(is_plain)
    })
}

type Apply = for<'a> fn(Json<'a>, &Json<'a>) -> Result<Json<'a>, PatchError>;

fn apply(resource: &str, patch: &str, with: Apply) -> Result<String, PatchError> {
    let read = |text, name: &str| {
        Json::parse(text).map_err(|error| PatchError::Malformed {
            place: name.to_owned(),
            problem: format!("not JSON: {error}"),
        })
    };
    let (before, patch) = (read(resource, "resource")?, read(patch, "patch")?);
    let after = with(before.clone(), &patch)?;
    for fixed in ["resourceType", "id"] {
        let of = |json: &Json<'_>| {
            json.object()
                .and_then(|object| object.get(fixed))
                .map(|value| format!("{value:?}"))
        };
        if of(&before) != of(&after) {
            return Err(PatchError::Unprocessable {
                place: fixed.to_owned(),
                problem: "it stays as it is".to_owned(),
            });
        }
    }
    let text = write(&after);
    match text.len() > MAX_BYTES {
        true => Err(PatchError::Unprocessable {
            place: "resource".to_owned(),
            problem: "it becomes larger than 16 MiB".to_owned(),
        }),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests;
