//! `POST [type]/$validate`: whether a text is R4 (FHIR R4 resource-operation-validate.html), of every resource type.
//!
//! Nothing is read from the store and nothing is kept, so that there is nothing to write down; a token is needed all
//! the same. It is judged by R4 alone: what a profile asks for, and whether this region may hold the resource, is
//! another question, and to ask it is refused rather than left unanswered.
use super::{Answer, Api, FhirApi, InUrl, check_format, in_url, json as respond, outcome::Failure};
use crate::json::{Json, Object};
use crate::r4::{self, Fault, Issue, R4};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::{MethodRouter, post},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Bytes of a resource that is looked at: what the node takes as a body.
pub const MAX_RESOURCE_BYTES: usize = 128 * 1024;
/// What an operation is called in a path, as it is and percent-encoded.
const NAMES: [&str; 2] = ["$validate", "%24validate"];

/// With the routes of the operation.
pub fn routes(mut router: Router<Arc<FhirApi>>) -> Router<Arc<FhirApi>> {
    for kind in R4.resources() {
        for name in NAMES {
            router = router.route(&format!("/fhir/{kind}/{name}"), of_type(kind));
        }
    }
    router
}

fn of_type(kind: &'static str) -> MethodRouter<Arc<FhirApi>> {
    let handler = async move |api: Api,
                              pairs: InUrl,
                              headers: HeaderMap,
                              body: Result<Bytes, BytesRejection>| {
        validate(&api, kind, pairs, &headers, body)
    };
    post(handler).layer(DefaultBodyLimit::max(MAX_RESOURCE_BYTES))
}

fn validate(
    api: &FhirApi,
    kind: &str,
    pairs: InUrl,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    if let Err(denied) = api.authorize.known(headers) {
        return Err(Failure::denied(&denied));
    }
    let pairs = in_url(pairs)?;
    check_format(headers, &pairs)?;
    let names = pairs.iter().map(|(name, _)| name);
    let unknown: Vec<String> = names.filter(|name| *name != "_format").cloned().collect();
    if !unknown.is_empty() {
        return Err(Failure::unknown_parameters(&unknown));
    }
    is_json(headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
        _ => Failure::no_resource("the body cannot be read"),
    })?;
    let text = std::str::from_utf8(&body);
    let text = text.map_err(|_| Failure::no_resource("the body is not UTF-8"))?;
    let tree = Json::parse(text).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let issues = judged(kind, &tree)?;
    Ok(respond(outcome(&issues).to_string()).into_response())
}

/// `Content-Type` of a resource (FHIR R4 http.html#mime-type).
fn is_json(headers: &HeaderMap) -> Result<(), Failure> {
    let kind = headers.get(header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let known = ["application/fhir+json", "application/json", "text/json"];
    match known.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        true => Ok(()),
        false => Err(Failure::not_a_resource()),
    }
}

/// What is wrong with the resource: the body itself, or the parameter `resource` of Parameters.
fn judged(kind: &str, tree: &Json<'_>) -> Result<Vec<Issue>, Failure> {
    let object = tree.object();
    let is_parameters = object.and_then(|object| object.text("resourceType")) == Some("Parameters");
    let resource = match object {
        Some(object) if is_parameters && kind != "Parameters" => in_parameters(object)?,
        _ => tree,
    };
    Ok(match r4::validate_tree(resource) {
        Ok(found) if found == kind => Vec::new(),
        Ok(found) => vec![Issue {
            fault: Fault::Structure,
            expression: found.to_owned(),
            problem: format!("the resource is no {kind}, which the path is for"),
        }],
        Err(issues) => issues,
    })
}

fn in_parameters<'a, 'b>(parameters: &'b Object<'a>) -> Result<&'b Json<'a>, Failure> {
    let mut resource = None;
    for parameter in parameters.each("parameter").filter_map(Json::object) {
        match parameter.text("name") {
            Some("resource") if resource.is_none() => resource = parameter.get("resource"),
            _ => {
                return Err(Failure::no_resource(
                    "one parameter is understood, resource: profiles and modes are not supported",
                ));
            }
        }
    }
    resource.ok_or_else(|| Failure::no_resource("the parameter resource is missing"))
}

fn outcome(issues: &[Issue]) -> Value {
    let told: Vec<Value> = issues
        .iter()
        .map(|issue| {
            json!({
                "severity": "error",
                "code": issue.fault.as_str(),
                "diagnostics": issue.problem,
                "expression": [issue.expression],
            })
        })
        .collect();
    match told.is_empty() {
        false => json!({"resourceType": "OperationOutcome", "issue": told}),
        true => super::outcome::outcome(
            "information",
            "informational",
            "the resource is R4; profiles and codes of value sets that are not required were not looked at",
        ),
    }
}
