//! The description of the API for programs (OpenAPI 3.1), from the same limits as the code.
mod blobs;

use super::query::DEFAULT_LIMIT;
use crate::{catalog::MAX_PAGE, page};
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
            "title": "MedMesh global catalog",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Devices and facilities of the mesh. Nothing of a patient.",
        },
        "paths": {
            "/api/v1/blobs": blobs::all(),
            "/api/v1/blobs/{id}": blobs::one(),
            "/api/v1/blobs/{id}/bytes": blobs::bytes(),
            "/api/v1/devices": operation("List devices", "mesh/devices.s", &devices, page("Device")),
            "/api/v1/devices/{id}": operation("Read a device", "mesh/devices.r", &[id], reference("Device")),
            "/api/v1/facilities": operation("List facilities", "mesh/facilities.s", &facilities, page("Facility")),
            "/api/v1/fl/studies": studies(),
            "/api/v1/fl/studies/{id}": study("get", "Read a study: its rounds, what it spent, how good its model is", "mesh/studies.r"),
            "/api/v1/fl/studies/{id}/cancel": study("post", "End a study", "mesh/studies.u"),
            "/api/v1/fl/studies/{id}/resume": study("post", "Go on with a study that ended without a result", "mesh/studies.u"),
            "/api/v1/fl/studies/{id}/{file}": file(),
            "/api/v1/fl/link": link(),
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

/// Studies: submitted as TOML, and listed.
fn studies() -> Value {
    let described = |text: &str| json!({"description": text});
    json!({
        "post": {
            "summary": "Submit a study (TOML)",
            "security": [{"bearer": ["mesh/studies.c"]}],
            "requestBody": {"required": true, "content": {"application/toml": {"schema": {"type": "string"}}}},
            "responses": {"201": described("It runs"), "422": described("What is wrong with it, a line each")},
        },
        "get": {
            "summary": "List the newest studies",
            "security": [{"bearer": ["mesh/studies.s"]}],
            "responses": {"200": described("The studies")},
        },
    })
}

fn study(method: &str, summary: &str, scope: &str) -> Value {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}});
    let described = |text: &str| json!({"description": text});
    let absent = "No study has this id, or it has no model yet";
    let responses = match method {
        "post" => json!({
            "200": described("The answer"),
            "404": described(absent),
            "422": described("Why it cannot be, such as that the study has ended"),
        }),
        _ => json!({"200": described("The answer"), "404": described(absent)}),
    };
    json!({ method: {
        "summary": summary,
        "security": [{"bearer": [scope]}],
        "parameters": [id],
        "responses": responses,
    }})
}

/// The files of a study.
fn file() -> Value {
    let mut described = study(
        "get",
        "A file of a study: its model as safetensors or ONNX, its card, its curves as SVG",
        "mesh/studies.r",
    );
    let parameters = described.pointer_mut("/get/parameters");
    if let Some(parameters) = parameters.and_then(Value::as_array_mut) {
        parameters.push(
            json!({"name": "file", "in": "path", "required": true, "schema": names(&page::FILES)}),
        );
    }
    described
}

/// A link for a browser.
fn link() -> Value {
    json!({"post": {
        "summary": "A link that opens the pages of studies in a browser, good once and for a minute",
        "security": [{"bearer": ["mesh/studies.rs"]}],
        "responses": {
            "200": {"description": "The link", "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["link", "expires_in"],
                "properties": {
                    "link": {"type": "string", "description": "&study=ID behind it shows that study"},
                    "expires_in": {"type": "integer", "description": "seconds"},
                },
            }}}},
            "403": {"description": "The token lacks the scope"},
        },
    }})
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

fn operation(summary: &str, scope: &str, parameters: &[Value], answer: Value) -> Value {
    let problem = |description: &str| {
        json!({
            "description": description,
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        })
    };
    json!({"get": {
        "summary": summary,
        "description": format!("Needs scope {scope}."),
        "security": [{"bearer": []}],
        "parameters": parameters,
        "responses": {
            "200": {"description": "Found", "content": {"application/json": {"schema": answer}}},
            "400": problem("A parameter is wrong"),
            "401": {"description": "No bearer token, or one that has expired"},
            "403": problem("The token lacks the scope"),
            "404": problem("No such thing"),
            "503": problem("Try again later"),
        },
    }})
}

fn schemas() -> Value {
    let text = json!({"type": "string"});
    let day = json!({"type": "string", "format": "date"});
    let label = json!({"type": ["string", "null"]});
    json!({
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
            "properties": {"title": text, "status": {"type": "integer"}, "detail": text},
        },
    })
}
