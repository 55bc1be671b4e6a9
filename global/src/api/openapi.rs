//! The description of the API for programs (OpenAPI 3.1), from the same limits as the code.
mod blobs;
mod studies;

use super::query::DEFAULT_LIMIT;
use crate::catalog::MAX_PAGE;
use serde_json::{Value, json};
use types::{DeviceKind, DeviceStatus, Jurisdiction};

/// The document.
pub fn document() -> Value {
    let place = [
        query(
            "jurisdiction",
            names(&Jurisdiction::ALL.map(Jurisdiction::as_str)),
        ),
        query("region", json!({"type": "string"})),
        query("facility", json!({"type": "string"})),
    ];
    let paging = [
        query(
            "after",
            json!({"type": "string", "description": "`next` of the page before"}),
        ),
        query(
            "limit",
            json!({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_LIMIT}),
        ),
    ];
    let device = [
        query("kind", names(&DeviceKind::ALL.map(DeviceKind::as_str))),
        query(
            "status",
            names(&DeviceStatus::ALL.map(DeviceStatus::as_str)),
        ),
    ];
    let devices = [&place[..], &device, &paging].concat();
    let facilities = [&place[..], &paging].concat();
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"}});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "MedMesh global node",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Devices and facilities of the mesh, studies, and files that are sent down. Nothing of a patient.",
        },
        "paths": {
            "/api/v1/blobs": blobs::all(),
            "/api/v1/blobs/{id}": blobs::one(),
            "/api/v1/blobs/{id}/bytes": blobs::bytes(),
            "/api/v1/devices": operation("List devices", "mesh/devices.s", &devices, page("Device")),
            "/api/v1/devices/{id}": operation("Read a device", "mesh/devices.r", &[id], reference("Device")),
            "/api/v1/facilities": operation("List facilities", "mesh/facilities.s", &facilities, page("Facility")),
            "/api/v1/fl/studies": studies::all(),
            "/api/v1/fl/studies/{id}": studies::one(),
            "/api/v1/fl/studies/{id}/cancel": studies::changed("End a study"),
            "/api/v1/fl/studies/{id}/resume": studies::changed("Go on with a study that ended without a result"),
            "/api/v1/fl/studies/{id}/{file}": studies::file(),
            "/api/v1/fl/link": studies::link(),
            "/api/v1/openapi.json": {"get": {
                "summary": "This description",
                "security": [],
                "responses": {"200": {"description": "The document"}},
            }},
        },
        "components": {"schemas": schemas(), "securitySchemes": {"bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "From /auth/token by SMART Backend Services",
        }}},
    })
}

/// A request that needs a scope: what it answers when it is done, and what when it is not. What every request may be
/// answered is among that.
fn request(
    (summary, scope): (&str, &str),
    parameters: &[Value],
    (status, description, content): (&str, &str, Value),
    refusals: &[&str],
) -> Value {
    let done = json!({ status: {"description": description, "content": content} });
    let every = ["403", "405", "500", "503"];
    let every = every.iter().chain(refusals).fold(done, |all, status| {
        let problem = json!({
            "description": refusal(status),
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        });
        with(all, status, problem)
    });
    // Tokens are answered by the rules of OAuth 2.0 (RFC 6750).
    let responses = with(every, "401", json!({"description": refusal("401")}));
    json!({
        "summary": summary,
        "description": format!("Needs scope {scope}."),
        "security": [{"bearer": [scope]}],
        "parameters": parameters,
        "responses": responses,
    })
}

/// An object with a member more.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    object
}

/// What a status says that is no good one.
fn refusal(status: &str) -> &'static str {
    match status {
        "400" => "A parameter, or the body, is not understood",
        "401" => "No bearer token, or one that has expired",
        "403" => "The token lacks the scope",
        "404" => "No such thing, or not yet",
        "405" => "The path does not have this method",
        "413" => "The body is longer than any that is taken",
        "415" => "The body is of a media type that is not taken",
        "422" => "It cannot be: `detail` says why",
        "429" => "As many are there, or known, as may be",
        "503" => "Try again later",
        "507" => "There is no room for it",
        _ => "The node failed; its log says why",
    }
}

fn names(values: &[&str]) -> Value {
    json!({"type": "string", "enum": values})
}

fn query(name: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "schema": schema})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn page(item: &str) -> Value {
    json!({
        "type": "object",
        "required": ["items", "next"],
        "properties": {
            "items": {"type": "array", "items": reference(item)},
            "next": {"type": ["string", "null"], "description": "where the next page begins; the listing is over without it"},
        },
    })
}

/// A read of the catalog: of one by its id, or a page of a listing.
fn operation(summary: &str, scope: &str, parameters: &[Value], answer: Value) -> Value {
    let is_of_one = parameters.iter().any(|it| it["in"] == "path");
    let refusal = if is_of_one { "404" } else { "400" };
    let content = json!({"application/json": {"schema": answer}});
    let found = ("200", "Found", content);
    json!({"get": request((summary, scope), parameters, found, &[refusal])})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let day = json!({"type": "string", "format": "date"});
    let label = json!({"type": ["string", "null"]});
    let own = json!({
        "Device": {
            "type": "object",
            "required": ["id", "jurisdiction", "region", "facility", "kind", "status", "updated"],
            "properties": {
                "id": text, "jurisdiction": text, "region": text, "facility": text, "kind": text, "status": text,
                "model": label, "firmware": label, "updated": day,
            },
        },
        "Facility": {
            "type": "object",
            "required": ["jurisdiction", "region", "facility", "updated"],
            "properties": {"jurisdiction": text, "region": text, "facility": text, "updated": day},
        },
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": text, "status": {"type": "integer"}, "detail": text,
                "field": {"type": "string", "description": "which member (RFC 6901) or header is wrong"},
                "parameter": {"type": "string", "description": "which parameter of the query is wrong"},
            },
        },
        "Delivery": blobs::schema(),
    });
    let of_studies = studies::schemas().into_iter();
    of_studies.fold(own, |all, (name, schema)| with(all, name, schema))
}
