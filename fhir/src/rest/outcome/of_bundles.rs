//! Why a Bundle, or an entry of it, is refused.
use super::Failure;
use crate::rest::{bundled::MAX_ENTRIES, routes::MAX_RESOURCE_BYTES};
use axum::http::StatusCode;
use serde_json::Value;

impl Failure {
    pub(in crate::rest) fn too_many_entries() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            format!("a Bundle has {MAX_ENTRIES} entries at most"),
        )
    }

    pub(in crate::rest) fn too_much_at_once() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            "the entries before this one read as much as one Bundle may; ask for it by itself",
        )
    }

    pub(in crate::rest) fn too_much_changed() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "too-costly",
            "what the entries up to this one change or find is longer than one transaction may have it; nothing was done",
        )
    }

    /// The same, of an entry of a Bundle.
    pub(in crate::rest) fn of_entry(mut self, at: usize) -> Self {
        self.diagnostics = format!("Bundle.entry[{at}]: {}", self.diagnostics);
        for issue in &mut self.issues {
            let first = issue.pointer_mut("/expression/0");
            if let Some(Value::String(place)) = first {
                let below = place.find('.').and_then(|dot| place.get(dot..));
                let below = below.unwrap_or_default();
                *place = format!("Bundle.entry[{at}].resource{below}");
            }
        }
        self
    }

    /// Of a resource in a Bundle, which may be longer itself.
    pub(in crate::rest) fn resource_too_long() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            format!("the resource is longer than {MAX_RESOURCE_BYTES} bytes"),
        )
    }
}
