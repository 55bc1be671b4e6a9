//! Every error as a FHIR R4 OperationOutcome with its HTTP status.
mod of_bundles;
mod of_patches;

use super::{Denied, FHIR_JSON};
use crate::admit::Inadmissible;
use crate::query::{Problem, ProblemKind};
use crate::r4::Issue;
use crate::search::{FOLLOW, SearchError, invalid};
use crate::store::{Kind, StoreError, Unfit, Unindexed, Unmet};
use crate::subscription::Fault;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A request that is not served.
#[derive(Clone, Debug)]
pub struct Failure {
    status: StatusCode,
    /// FHIR R4 IssueType.
    code: &'static str,
    diagnostics: String,
    challenge: Option<&'static str>,
    /// The methods that are served there, of what says that another one is not; or the patches that are taken.
    pub(super) allow: Option<&'static str>,
    /// Each thing that is wrong, when there is more to say than the diagnostics; at its element.
    issues: Vec<Value>,
}

impl Failure {
    pub(super) fn new(
        status: StatusCode,
        code: &'static str,
        diagnostics: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            diagnostics: diagnostics.into(),
            challenge: None,
            allow: None,
            issues: Vec::new(),
        }
    }

    /// Whether it is about what is not known here, which a lenient client is spared.
    pub(super) fn says_unsupported(&self) -> bool {
        self.code == "not-supported"
    }

    /// What is wrong.
    pub(super) fn says(&self) -> &str {
        &self.diagnostics
    }

    /// What is done while the client does something else is asked for as such.
    pub(super) fn not_async() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "Prefer: respond-async is expected: this is done while the client does something else",
        )
    }

    /// Whether it is a fault of ours.
    pub(super) fn is_ours(&self) -> bool {
        self.status.is_server_error()
    }

    /// The outcome of a line of a file.
    pub(super) fn of_line(mut self, file: &str, number: u64) -> Value {
        self.diagnostics = format!("{file}, line {number}: {}", self.diagnostics);
        for issue in &mut self.issues {
            let why = issue["diagnostics"].as_str().unwrap_or_default();
            issue["diagnostics"] = format!("{file}, line {number}: {why}").into();
        }
        self.body()
    }

    /// The OperationOutcome.
    pub(super) fn body(&self) -> Value {
        match self.issues.is_empty() {
            true => outcome("error", self.code, &self.diagnostics),
            false => json!({"resourceType": "OperationOutcome", "issue": self.issues}),
        }
    }

    /// Whether it has that status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.status == status
    }

    /// The resource is not stored (FHIR R4 http.html#create: 400 what cannot be read, 422 what is against a rule).
    pub(super) fn unfit(unfit: &Unfit) -> Self {
        match unfit {
            Unfit::NotJson(why) => Self::no_resource(why),
            Unfit::NotR4(issues) => Self {
                issues: issues.iter().map(issue_of).collect(),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "invalid",
                    "the resource is not R4",
                )
            },
            Unfit::Inadmissible(elements) => Self {
                issues: elements.iter().map(refused).collect(),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "business-rule",
                    "the resource holds what may not be here",
                )
            },
        }
    }

    /// A Subscription asks for what is not served.
    pub(super) fn no_subscription(faults: &[Fault]) -> Self {
        let issue = |fault: &Fault| {
            json!({
                "severity": "error",
                "code": "not-supported",
                "diagnostics": fault.problem,
                "expression": [fault.expression],
            })
        };
        Self {
            issues: faults.iter().map(issue).collect(),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-supported",
                "the subscription asks for what is not served",
            )
        }
    }

    /// Why a change was not done.
    pub(super) fn unmet(why: Unmet) -> Self {
        match why {
            Unmet::Version => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "conflict",
                "If-Match names another version than the current one",
            ),
            Unmet::Exists => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "duplicate",
                "there is a resource already",
            ),
            Unmet::Delivered => Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "a facility delivered this resource, or this server made it; it alone changes it",
            ),
            Unmet::NoPatient => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "not-found",
                "the patient of an opt-out of research has to be known here",
            ),
            Unmet::Search => Self::contended(),
            Unmet::Full => Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "too-costly",
                "this server has as many subscriptions as it takes; delete some",
            ),
            Unmet::Twice => Self::new(
                StatusCode::BAD_REQUEST,
                "invariant",
                "two changes are of one resource",
            ),
        }
    }

    /// What an answer needs could not be made; a fault of ours.
    pub(super) fn undrawn() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "exception",
            "the server failed; the operator's log says why",
        )
    }

    /// A parameter of a search that is not taken.
    pub(super) fn problem(problem: &Problem) -> Self {
        let code = match problem.kind {
            ProblemKind::Unknown | ProblemKind::Unsupported => "not-supported",
            ProblemKind::Invalid => "value",
            ProblemKind::Limit => "too-costly",
        };
        Self::new(StatusCode::BAD_REQUEST, code, problem.to_string())
    }

    /// What is written is none of what the scopes' search parameters find.
    pub(super) fn beyond_scope() -> Self {
        Self {
            challenge: Some("Bearer error=\"insufficient_scope\""),
            ..Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the token's scopes cover other resources of the type alone",
            )
        }
    }

    /// The token lets its bearer search no type.
    pub(super) fn nothing_to_search() -> Self {
        Self {
            challenge: Some("Bearer error=\"insufficient_scope\""),
            ..Self::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "the token's scopes do not cover this",
            )
        }
    }

    pub(super) fn gone() -> Self {
        Self::new(StatusCode::GONE, "deleted", "the resource was deleted")
    }

    pub(super) fn id_not_taken() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "business-rule",
            "a client may choose a UUID as id, which says nothing; or create without an id",
        )
    }

    pub(super) fn another_id() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "invalid",
            "the id in the resource is not that of the path",
        )
    }

    pub(super) fn bad_tag() -> Self {
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "conflict",
            "If-Match names a version, as W/\"3\", a list of at most 16 of them, or * for any",
        )
    }

    pub(super) fn denied(denied: &Denied) -> Self {
        match denied {
            Denied::Unauthenticated(challenge) => Self {
                challenge: Some(*challenge),
                ..Self::new(
                    StatusCode::UNAUTHORIZED,
                    "login",
                    "a valid bearer token is needed",
                )
            },
            Denied::Forbidden(_) => Self {
                challenge: Some("Bearer error=\"insufficient_scope\""),
                ..Self::new(
                    StatusCode::FORBIDDEN,
                    "forbidden",
                    "the token's scopes do not cover this",
                )
            },
        }
    }

    pub(super) fn unaudited() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "transient",
            "the audit log cannot be written, and nothing is shown without it; try again later",
        )
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is no such resource or version",
        )
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-supported",
            "there is no such path or resource type; see /fhir/metadata",
        )
    }

    pub(super) fn method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "not-supported",
            "the method is not supported here; see /fhir/metadata",
        )
    }

    pub(super) fn format() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "not-supported",
            "the only format is application/fhir+json",
        )
    }

    pub(super) fn parameters() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "structure",
            "the parameters are not a short form of name=value pairs in UTF-8",
        )
    }

    pub(super) fn not_a_form() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            "the body of a search is application/x-www-form-urlencoded",
        )
    }

    pub(super) fn not_a_resource() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "not-supported",
            "a resource is application/fhir+json of R4, in UTF-8 and not packed",
        )
    }

    pub(super) fn no_resource(why: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", why)
    }

    pub(super) fn too_long() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-long",
            "the body is longer than anything that is served",
        )
    }

    pub(super) fn search(error: &SearchError) -> Self {
        let code = match error {
            SearchError::Invalid { .. } => "value",
            SearchError::Modifier(_) | SearchError::Sort(_) => "not-supported",
            SearchError::TooMany => "too-costly",
        };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }

    pub(super) fn value(param: &'static str, problem: &'static str) -> Self {
        Self::search(&invalid(param, problem))
    }

    pub(super) fn cursor() -> Self {
        Self::search(&invalid("_cursor", FOLLOW))
    }

    /// A client that goes on from an instant of a region which was put back to an older copy would miss what comes
    /// until the axis is there again.
    pub(super) fn ahead() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "value",
            "_lastUpdated: this server has not reached that instant; begin again without it",
        )
    }

    pub(super) fn unreadable_path() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "structure",
            "the path is not percent-encoded UTF-8",
        )
    }

    pub(super) fn unknown_parameters(names: &[String]) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "not-supported",
            format!("unknown search parameters: {}", names.join(", ")),
        )
    }
}

/// What the engine said goes to the log; the client learns what it can do.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let source = error.source.as_ref();
        if let Some(unindexed) = source.and_then(|source| source.downcast_ref::<Unindexed>()) {
            let says = unindexed.to_string();
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "transient", says);
        }
        tracing::error!(op = error.op, kind = ?error.kind, source = ?error.source, "fhir store failed");
        match error.kind {
            Kind::Full | Kind::Unavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "transient",
                "the store does not answer now; try again later",
            ),
            Kind::Refused | Kind::Corrupt | Kind::Internal => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "exception",
                "the store failed; the operator's log says why",
            ),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = self.body().to_string();
        let mut response = (self.status, [(header::CONTENT_TYPE, FHIR_JSON)], body).into_response();
        let after = match self.status {
            StatusCode::SERVICE_UNAVAILABLE => Some("5"),
            StatusCode::TOO_MANY_REQUESTS => Some("60"),
            _ => None,
        };
        if let Some(after) = after {
            let value = header::HeaderValue::from_static(after);
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if let Some(challenge) = self.challenge {
            let value = header::HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, value);
        }
        if let Some(allow) = self.allow {
            let value = header::HeaderValue::from_static(allow);
            let name = match self.status {
                // RFC 5789 §2.2.
                StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                    header::HeaderName::from_static("accept-patch")
                }
                _ => header::ALLOW,
            };
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// What is not R4, as an issue at its element.
pub fn issue_of(issue: &Issue) -> Value {
    json!({
        "severity": "error",
        "code": issue.fault.as_str(),
        "diagnostics": issue.problem,
        "expression": [issue.expression],
    })
}

fn refused(element: &Inadmissible) -> Value {
    json!({
        "severity": "error",
        "code": "business-rule",
        "diagnostics": element.problem,
        "expression": [element.expression],
    })
}

/// The OperationOutcome of a request that was refused before any route saw it, by its status.
#[must_use]
pub fn unread(status: StatusCode) -> String {
    let (code, diagnostics) = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => (
            "too-long",
            "the line and header of the request are too long; send a long search by POST",
        ),
        StatusCode::REQUEST_TIMEOUT => (
            "timeout",
            "the request was not there, or not answered, in time",
        ),
        StatusCode::SERVICE_UNAVAILABLE => (
            "transient",
            "too many long requests are in hand; ask again later",
        ),
        _ => ("structure", "the request is not HTTP that can be read"),
    };
    outcome("error", code, diagnostics).to_string()
}

/// An OperationOutcome with one issue.
pub fn outcome(severity: &str, code: &str, diagnostics: &str) -> Value {
    json!({
        "resourceType": "OperationOutcome",
        "issue": [{"severity": severity, "code": code, "diagnostics": diagnostics}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_being_indexed_is_named_with_how_far_it_is() {
        let unindexed = Unindexed {
            kind: "Basic",
            param: "code",
            percent: 40,
        };
        let failure = Failure::from(StoreError::from(unindexed));
        let issue = failure.body()["issue"][0].clone();
        assert_eq!(issue["code"], "transient");
        let says = "code of Basic is being indexed: 40 % done; try again later";
        assert_eq!(issue["diagnostics"], says);
        let response = failure.into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(response.headers().contains_key(header::RETRY_AFTER));
    }
}
