//! From a resource to the rows of its index.
use super::IndexRow;
use crate::json::Json;

/// The rows of a resource: the values of every parameter of its type. `base` is the URL of this server, with which its
/// own absolute references begin.
#[must_use]
pub fn extract(_resource: &Json<'_>, _base: &str) -> Vec<IndexRow> {
    Vec::new()
}
