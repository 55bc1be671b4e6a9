//! `POST [type]/$validate`: whether a text is R4 (FHIR R4 resource-operation-validate.html), of every resource type.
//!
//! Nothing is read from the store and nothing is kept, so that there is nothing to write down; a token is needed all
//! the same. It is judged by R4 alone: what a profile asks for, and whether this region may hold the resource, is
//! another question, and to ask it is refused rather than left unanswered.
use super::routes::{Segments, in_url};
use super::{Answer, Api, FhirApi, InUrl, check_format, json as respond, outcome::Failure};
use crate::json::{Json, Object};
use crate::r4::{self, Fault, Issue};
use crate::store::ResourceType;
use axum::{
    body::Bytes,
    extract::rejection::BytesRejection,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
};
use serde_json::{Value, json};

/// `POST [type]/$validate`.
pub async fn validate_type(
    api: Api,
    path: Segments,
    pairs: InUrl,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Answer {
    let kind = ResourceType::parse(path.at(0)?).ok_or_else(Failure::no_such_path)?;
    validate(&api, kind.as_str(), pairs, &headers, body)
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
    let body = resource_in(headers, body)?;
    let text = body.as_str();
    let tree = Json::parse(text).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let issues = judged(kind, &tree)?;
    Ok(respond(outcome(&issues).to_string()).into_response())
}

/// The text of a resource in a body.
pub fn resource_in(
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<String, Failure> {
    is_json(headers)?;
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failure::too_long(),
        _ => Failure::no_resource("the body cannot be read"),
    })?;
    let text = String::from_utf8(body.into());
    text.map_err(|_| Failure::no_resource("the body is not UTF-8"))
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
    let told: Vec<Value> = issues.iter().map(super::outcome::issue_of).collect();
    match told.is_empty() {
        false => json!({"resourceType": "OperationOutcome", "issue": told}),
        true => super::outcome::outcome(
            "information",
            "informational",
            "the resource is R4; profiles and codes of value sets that are not required were not looked at",
        ),
    }
}
