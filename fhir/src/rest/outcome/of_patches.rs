//! Why a patch of what a client may not read is refused.
use super::Failure;
use axum::http::StatusCode;

impl Failure {
    pub(in crate::rest) fn patch_looks() -> Self {
        Self {
            challenge: Some("Bearer error=\"insufficient_scope\""),
            ..Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the token does not let its bearer read this: its patch has no test, copy or move, and paths of names and \
                 positions alone",
            )
        }
    }

    pub(in crate::rest) fn patch_unseen() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "processing",
            "the patch cannot be read or does not fit; who may read the resource is told why",
        )
    }
}
