//! Errors for clients, as problem documents (RFC 9457): what, where, what to do; never a stored value.
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A problem document.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    more: Option<Box<(&'static str, Value)>>,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            more: None,
        }
    }

    /// A parameter of the query is not what it has to be.
    pub fn parameter(name: &str, detail: &'static str) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "bad parameter", detail);
        problem.more = Some(Box::new(("parameter", json!(name))));
        problem
    }

    /// There is no such thing.
    pub fn missing(detail: &'static str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    /// A study cannot be, or be changed: each line says what is wrong.
    pub fn study(why: String) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "study refused", why)
    }

    /// What is wrong with a study, a line each, and each with its key.
    pub fn of_study(problems: &[node::config::Problem]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        let mut problem = Self::study(lines.join("\n"));
        let one =
            |found: &node::config::Problem| json!({"path": found.path, "message": found.message});
        let all: Vec<_> = problems.iter().map(one).collect();
        problem.more = Some(Box::new(("problems", json!(all))));
        problem
    }

    /// The token lacks a scope.
    pub fn forbidden(collection: &str) -> Self {
        let detail = format!("the token needs a scope such as mesh/{collection}.rs");
        Self::new(StatusCode::FORBIDDEN, "scope missing", detail)
    }

    /// The engine does not answer now.
    pub fn unavailable() -> Self {
        let detail = "the catalog does not answer; try again later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// A fault of ours.
    pub fn internal() -> Self {
        let detail = "the node failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(more) = self.more {
            let (name, value) = *more;
            body[name] = value;
        }
        let content = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, content, body.to_string()).into_response()
    }
}
