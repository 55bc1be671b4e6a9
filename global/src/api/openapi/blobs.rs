//! How the delivery of files is described.
use super::{reference, request, with};
use messages::delivery::CLASSES;
use serde_json::{Value, json};
use types::DataClass;

/// Deliveries: begun, and listed.
pub(super) fn all() -> Value {
    let begin = (
        "Begin to send a file down to regions and facilities",
        "mesh/blobs.c",
    );
    let begun = ("201", "It waits for its bytes", delivery());
    let refusals = ["400", "413", "415", "422", "429", "507"];
    let body = json!({"required": true, "content": {"application/json": {"schema": asked()}}});
    let begin = with(request(begin, &[], begun, &refusals), "requestBody", body);
    let list = json!({"application/json": {"schema": {
        "type": "object",
        "required": ["items"],
        "properties": {"items": {"type": "array", "items": reference("Delivery")}},
    }}});
    let listed = ("200", "The newest deliveries, each with its places", list);
    let list = request(("List deliveries", "mesh/blobs.s"), &[], listed, &["400"]);
    json!({"post": begin, "get": list})
}

/// One delivery.
pub(super) fn one() -> Value {
    let read = (
        "Where a file is: the state of each of its places",
        "mesh/blobs.r",
    );
    let withdraw = ("Take a file back everywhere", "mesh/blobs.d");
    let good = || ("200", "The delivery", delivery());
    json!({
        "get": request(read, &[id()], good(), &["404"]),
        "delete": request(withdraw, &[id()], good(), &["404"]),
    })
}

/// The bytes of a delivery, in turn.
pub(super) fn bytes() -> Value {
    let offset = json!({
        "name": "offset", "in": "query", "required": true,
        "schema": {"type": "integer", "minimum": 0, "description": "`held` of the answer before"},
    });
    let put = ("The next bytes of a file, at most 96 KiB", "mesh/blobs.c");
    let good = ("200", "`held` says where to go on", delivery());
    let put = request(put, &[id(), offset], good, &["400", "404", "413", "415"]);
    let body = json!({"required": true, "content": {"application/octet-stream": {}}});
    json!({ "put": with(put, "requestBody", body) })
}

/// What deliveries are answered as.
pub(super) fn schema() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    json!({
        "type": "object",
        "required": ["id", "name", "class", "purpose", "sha256", "size", "held", "by", "created", "state", "places"],
        "properties": {
            "id": text, "name": text, "class": text, "purpose": text, "sha256": text, "by": text, "state": text,
            "size": {"type": "integer", "description": "bytes"},
            "held": {"type": "integer", "description": "bytes that have come"},
            "created": time,
            "places": {"type": "array", "items": {
                "type": "object",
                "required": ["place", "state", "since"],
                "properties": {"place": text, "state": text, "since": time},
            }},
        },
    })
}

fn delivery() -> Value {
    json!({"application/json": {"schema": reference("Delivery")}})
}

fn asked() -> Value {
    let classes = CLASSES.map(DataClass::as_str);
    json!({
        "type": "object",
        "required": ["name", "sha256", "size", "class", "purpose", "to"],
        "properties": {
            "name": {"type": "string"},
            "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            "size": {"type": "integer", "minimum": 1, "description": "bytes"},
            "class": {"type": "string", "enum": classes},
            "purpose": {"type": "string"},
            "to": {"type": "array", "items": {"type": "string"}, "description": "regions, or facilities as us-f1 or us/us-f1"},
        },
    })
}

fn id() -> Value {
    json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}})
}
