//! How the delivery of files is described.
use messages::delivery::CLASSES;
use serde_json::{Value, json};
use types::DataClass;

/// Deliveries: begun, and listed.
pub(super) fn all() -> Value {
    json!({
        "post": {
            "summary": "Begin to send a file down to regions and facilities",
            "security": [{"bearer": ["mesh/blobs.c"]}],
            "requestBody": {"required": true, "content": {"application/json": {"schema": asked()}}},
            "responses": {
                "201": described("It waits for its bytes"),
                "400": described("The member that is not understood"),
                "403": described("The token lacks the scope"),
                "422": described("Which member is wrong, and why"),
                "429": described("As many files are put up, or known, as may be"),
                "507": described("There is no room for it among the files of the node"),
            },
        },
        "get": {
            "summary": "List deliveries",
            "security": [{"bearer": ["mesh/blobs.s"]}],
            "responses": {"200": described("The newest deliveries, each with its places")},
        },
    })
}

/// One delivery.
pub(super) fn one() -> Value {
    json!({
        "get": {
            "summary": "Where a file is: the state of each of its places",
            "security": [{"bearer": ["mesh/blobs.r"]}],
            "parameters": [id()],
            "responses": {"200": described("The delivery"), "404": described("No delivery has this id")},
        },
        "delete": {
            "summary": "Take a file back everywhere",
            "security": [{"bearer": ["mesh/blobs.d"]}],
            "parameters": [id()],
            "responses": {"200": described("The delivery"), "404": described("No delivery has this id")},
        },
    })
}

/// The bytes of a delivery, in turn.
pub(super) fn bytes() -> Value {
    let offset = json!({
        "name": "offset", "in": "query", "required": true,
        "schema": {"type": "integer", "minimum": 0, "description": "`held` of the answer before"},
    });
    json!({"put": {
        "summary": "The next bytes of a file, at most 96 KiB",
        "security": [{"bearer": ["mesh/blobs.c"]}],
        "parameters": [id(), offset],
        "requestBody": {"required": true, "content": {"application/octet-stream": {}}},
        "responses": {
            "200": described("`held` says where to go on"),
            "400": described("`offset` is not understood"),
            "413": described("The bytes are too many for one request"),
            "404": described("No delivery has this id"),
        },
    }})
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

fn described(text: &str) -> Value {
    json!({"description": text})
}
