//! Errors of `/api/v1`, as problem documents (RFC 9457): what, where, what to do; never a stored value.
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

/// A problem document.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
    members: Vec<(&'static str, Value)>,
}

impl Problem {
    /// A problem; `title` is the same for all of its kind, `detail` is about this one.
    pub fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            title,
            detail: detail.into(),
            members: Vec::new(),
        }
    }

    /// With a member of its own (RFC 9457 §3.2).
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.members.push((name, value.into()));
        self
    }

    /// With the member of the request that it is about: a JSON pointer (RFC 6901), or the name of a header.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        self.with("field", field.into())
    }

    /// The token lacks a scope.
    #[must_use]
    pub fn forbidden(scope: &str) -> Self {
        let detail = format!("the token needs a scope such as {scope}");
        Self::new(StatusCode::FORBIDDEN, "scope missing", detail)
    }

    /// A parameter of the query is not what it has to be; no name where none of them can be read.
    #[must_use]
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "bad parameter", detail);
        match name {
            "" => problem,
            _ => problem.with("parameter", name),
        }
    }

    /// There is no such thing.
    #[must_use]
    pub fn missing(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found", detail)
    }

    /// Nothing was done: the node is busy or full, or what it needs does not answer.
    #[must_use]
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
    }

    /// A fault of ours.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "the node failed; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("title".into(), self.title.into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.into());
        let members = self.members.into_iter();
        body.extend(members.map(|(name, value)| (name.to_owned(), value)));
        let content = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, content, Value::Object(body).to_string()).into_response()
    }
}
