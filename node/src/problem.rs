//! Errors of `/api/v1`, as problem documents (RFC 9457): what, where, what to do; never a stored value.
use axum::{
    Router,
    http::{StatusCode, header},
    middleware,
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

/// Has every error of these routes be a problem document: those of requests that no handler sees too, whose method a path
/// does not have, whose path cannot be read, or whose body is too long.
pub fn worded(routes: Router) -> Router {
    routes.layer(middleware::map_response(word))
}

/// For what no route is.
pub async fn no_such_path() -> Problem {
    Problem::missing("there is no such path")
}

async fn word(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_bare = |kind: &axum::http::HeaderValue| kind.as_bytes().starts_with(b"text/plain");
    let has_words = kind.is_some_and(|kind| !is_bare(kind));
    if has_words || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let detail = match status {
        StatusCode::METHOD_NOT_ALLOWED => "the path does not have this method",
        StatusCode::PAYLOAD_TOO_LARGE => "the body is longer than any that is taken",
        StatusCode::BAD_REQUEST => "the request cannot be read",
        _ => "the request was not done",
    };
    let title = status.canonical_reason().unwrap_or("refused");
    let (told, body) = Problem::new(status, title, detail)
        .into_response()
        .into_parts();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(told.headers);
    Response::from_parts(parts, body)
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{
        body::{Body, Bytes, to_bytes},
        extract::DefaultBodyLimit,
        extract::Path,
        http::Request,
        routing::{get, post},
    };
    use serde_json::json;
    use tower::ServiceExt as _;

    async fn asked(method: &str, path: &str, body: &'static str) -> (StatusCode, String, Value) {
        let app = Router::new()
            .route("/a/{name}", get(async |name: Path<String>| name.0))
            .route("/b", post(async |_: Bytes| "taken"))
            .route("/c", get(async || Problem::forbidden("mesh/c.r")))
            .layer(DefaultBodyLimit::max(4));
        let app = worded(app).fallback(no_such_path);
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Body::from(body)).unwrap();
        let response = app.oneshot(request).await.unwrap();
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE);
        let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_owned());
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (
            status,
            kind,
            serde_json::from_slice(&body).unwrap_or_default(),
        )
    }

    #[tokio::test]
    async fn an_error_that_is_a_page_stays_one_and_a_bare_one_beside_it_does_not() {
        let page = async || (StatusCode::UNAUTHORIZED, axum::response::Html("come in"));
        let app = worded(Router::new().route("/page", get(page)));
        let ask = async |method: &str| {
            let request = Request::builder().method(method).uri("/page");
            let request = request.body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            let kind = response.headers()[header::CONTENT_TYPE].clone();
            (response.status().as_u16(), kind)
        };
        assert_eq!(
            ask("GET").await,
            (401, "text/html; charset=utf-8".parse().unwrap())
        );
        assert_eq!(
            ask("POST").await,
            (405, "application/problem+json".parse().unwrap())
        );
    }

    #[tokio::test]
    async fn every_error_is_a_problem_document_whoever_says_it() {
        for (method, path, body, status, detail) in [
            ("GET", "/nothing", "", 404, "there is no such path"),
            (
                "DELETE",
                "/a/x",
                "",
                405,
                "the path does not have this method",
            ),
            ("GET", "/a/%ff", "", 400, "the request cannot be read"),
            (
                "POST",
                "/b",
                "12345",
                413,
                "the body is longer than any that is taken",
            ),
            (
                "GET",
                "/c",
                "",
                403,
                "the token needs a scope such as mesh/c.r",
            ),
        ] {
            let (said, kind, told) = asked(method, path, body).await;
            assert_eq!(said, status, "{method} {path}");
            assert_eq!(kind, "application/problem+json", "{method} {path}");
            assert_eq!(told["status"], json!(status), "{method} {path}");
            assert_eq!(told["detail"], json!(detail), "{method} {path}");
        }
        assert_eq!(asked("GET", "/a/x", "").await.0, 200);
    }
}
