//! The description of the region's API for programs (OpenAPI 3.1), from the same limits as the code.
use crate::{control::MAX_PAGE as MOST_COMMANDS, registry::MAX_PAGE};
use node::query::DEFAULT_LIMIT;
use serde_json::{Value, json};
use types::{DeviceKind, DeviceStatus};

/// The document.
pub fn document() -> Value {
    let next = || json!({"type": "string", "description": "`next` of the page before"});
    let devices = [
        query("facility", text()),
        query("kind", one_of(&DeviceKind::ALL.map(DeviceKind::as_str))),
        query(
            "status",
            one_of(&DeviceStatus::ALL.map(DeviceStatus::as_str)),
        ),
        query("after", next()),
        query("limit", limit(MAX_PAGE)),
    ];
    let before = json!({"type": "integer", "description": "`next` of the page before"});
    let commands = [
        id(),
        query("before", before),
        query("limit", limit(MOST_COMMANDS)),
    ];
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "MedMesh region",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Devices of one region, their twins and commands. Readings are served below /fhir; see /fhir/metadata.",
        },
        "paths": {
            "/api/v1/devices": {
                "get": operation("List devices", "devices.s", &devices, ("200", "A page", page("Device")), &["400"]),
            },
            "/api/v1/devices/{id}": {
                "get": operation("Read a device, with the commands that it takes", "devices.r", &[id()], ("200", "The device", reference("Device")), &["404"]),
            },
            "/api/v1/devices/{id}/twin": {"get": twin(), "patch": patch_twin()},
            "/api/v1/devices/{id}/commands": {
                "get": operation("List the newest commands of a device", "commands.s", &commands, ("200", "A page", page("Command")), &["400", "404"]),
                "post": ask(),
            },
            "/api/v1/devices/{id}/commands/{command}": {"get": command()},
            "/api/v1/devices/{id}/commands/{command}/approval": {
                "post": operation("Approve a command as a second person", "approvals.c", &[id(), command_id()], ("200", "The command", reference("Command")), &["404", "409"]),
            },
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

fn twin() -> Value {
    let answer = (
        "200",
        "The twin; `ETag` is of what is desired, not of what is reported: no `If-None-Match` makes it 304",
        reference("Twin"),
    );
    operation("Read a twin", "twins.r", &[id()], answer, &["404"])
}

fn patch_twin() -> Value {
    let if_match = json!({
        "name": "If-Match", "in": "header", "schema": text(),
        "description": "ETags of what is desired, of which one has to be the present one",
    });
    let if_none_match = json!({
        "name": "If-None-Match", "in": "header", "schema": text(),
        "description": "ETags of what is desired, of which none may be the present one",
    });
    let answer = ("200", "The twin", reference("Twin"));
    let patch = operation(
        "Set what is desired of a device",
        "twins.u",
        &[id(), if_match, if_none_match],
        answer,
        &["400", "404", "409", "412", "413", "415", "422"],
    );
    let schema = json!({"type": "object", "properties": {"desired": {"type": ["object", "null"]}}});
    let body = json!({"required": true, "content": {
        "application/merge-patch+json": {"schema": schema},
        "application/json": {"schema": schema},
    }});
    with(patch, "requestBody", body)
}

fn ask() -> Value {
    let key = json!({
        "name": "Idempotency-Key", "in": "header", "required": true, "schema": text(),
        "description": "1 to 255 visible ASCII characters of the client's own, new for each command",
    });
    let answer = (
        "202",
        "The command; `Location` is where it is looked at",
        reference("Command"),
    );
    let ask = operation(
        "Give a device a command",
        "commands.c",
        &[id(), key],
        answer,
        &["400", "404", "409", "413", "415", "422", "429"],
    );
    let body = json!({"required": true, "content": {"application/json": {"schema": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": false,
        "properties": {
            "name": text(),
            "parameters": {"type": "object", "description": "as the device's `commands` say"},
            "ttl": {"type": "string", "default": "60s", "description": "a span such as `60s`, from 1s to 30d"},
        },
    }}}});
    with(ask, "requestBody", body)
}

fn command() -> Value {
    let last = json!({
        "name": "Last-Event-ID", "in": "header", "schema": {"type": "integer", "minimum": 0},
        "description": "the last event that was heard: the stream goes on after it",
    });
    let answer = ("200", "The command", reference("Command"));
    let mut read = operation(
        "Read a command, or hear each of its steps",
        "commands.r",
        &[id(), command_id(), last],
        answer,
        &["404"],
    );
    let stream = json!({"schema": {
        "type": "string",
        "description": "an event for each step of its history; goes on with `Last-Event-ID`",
    }});
    if let Some(content) = read.pointer_mut("/responses/200/content") {
        *content = with(content.take(), "text/event-stream", stream);
    }
    if let Some(answers) = read.pointer_mut("/responses") {
        let heard =
            json!({"description": "All of its events were heard: an EventSource asks no more"});
        *answers = with(answers.take(), "204", heard);
    }
    read
}

fn operation(
    summary: &str,
    scope: &str,
    parameters: &[Value],
    (status, description, schema): (&str, &str, Value),
    refusals: &[&str],
) -> Value {
    let good = json!({
        "description": description,
        "content": {"application/json": {"schema": schema}},
    });
    let mut responses = json!({ status: good });
    for status in refusals.iter().chain(&["401", "403", "405", "500", "503"]) {
        let refused = json!({
            "description": refusal(status),
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        });
        responses = with(responses, status, refused);
    }
    json!({
        "summary": summary,
        "security": [{"bearer": [format!("mesh/{scope}")]}],
        "parameters": parameters,
        "responses": responses,
    })
}

/// An object with one more member.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    object
}

fn refusal(status: &str) -> &'static str {
    match status {
        "400" => "A parameter, a header or the body is not understood",
        "401" => "No valid token",
        "403" => "The token lacks the scope, or it takes a second person",
        "404" => "No such thing",
        "405" => "The path does not have this method",
        "409" => "It is too late, or not needed, or the device is retired",
        "412" => "The twin has another version than `If-Match` says, or one of `If-None-Match`",
        "413" => "The body is too long",
        "415" => "The body is of another media type",
        "422" => "`field` is not possible for this device, or the key was used for another request",
        "429" => {
            "Too many commands of the device have not ended, or the region keeps as many as it may"
        }
        "500" => "The node failed; its log says why",
        _ => "Try again later",
    }
}

fn text() -> Value {
    json!({"type": "string"})
}

fn query(name: &str, schema: Value) -> Value {
    json!({"name": name, "in": "query", "schema": schema})
}

fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

fn limit(most: u16) -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": most, "default": DEFAULT_LIMIT})
}

fn path(name: &str) -> Value {
    let schema = json!({"type": "string", "pattern": "^[0-9a-f]{32}$"});
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn id() -> Value {
    path("id")
}

fn command_id() -> Value {
    path("command")
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
            "next": {"type": ["string", "integer", "null"], "description": "where the next page begins; the listing is over without it"},
        },
    })
}

fn schemas() -> Value {
    let may_lack = || json!({"type": ["string", "null"]});
    let time = || json!({"type": ["string", "null"], "format": "date-time"});
    let kinds = DeviceKind::ALL.map(DeviceKind::as_str);
    let states = [
        "queued",
        "delivered",
        "acknowledged",
        "refused",
        "expired",
        "failed",
    ];
    let step = json!({"type": "object", "required": ["state", "time", "by"], "properties": {
        "state": {"type": "string", "enum": states}, "time": time(), "by": text(), "reason": text(),
    }});
    json!({
        "Device": {
            "type": "object",
            "required": ["id", "facility", "kind", "status", "updated"],
            "properties": {
                "id": text(), "facility": text(), "kind": {"type": "string", "enum": kinds}, "status": text(),
                "model": may_lack(), "firmware": may_lack(), "updated": {"type": "string", "format": "date"},
                "commands": {"type": "array", "items": {"type": "object"}},
            },
        },
        "Twin": {
            "type": "object",
            "required": ["id", "version", "desired", "reported", "pending", "connection"],
            "properties": {
                "id": text(), "kind": text(), "facility": text(), "version": {"type": "integer"},
                "desired": {"type": "object"}, "desired_time": time(), "desired_by": may_lack(),
                "reported": {"type": "object"}, "reported_version": {"type": "integer"}, "reported_time": time(),
                "pending": {"type": "array", "items": text()},
                "connection": {"type": "string", "enum": ["connected", "disconnected", "unknown"]},
                "seen": time(), "seen_seconds_ago": {"type": ["integer", "null"]},
            },
        },
        "Command": {
            "type": "object",
            "required": ["id", "device", "name", "parameters", "state", "history", "expires", "approval"],
            "properties": {
                "id": text(), "device": text(), "name": text(), "parameters": {"type": "object"},
                "state": {"type": "string", "enum": states},
                "history": {"type": "array", "items": step},
                "expires": time(), "sequence": {"type": ["integer", "null"]}, "property": may_lack(),
                "approval": {"type": "object", "properties": {
                    "needed": {"type": "boolean"}, "by": may_lack(), "time": time(),
                }},
            },
        },
        "Problem": {
            "type": "object",
            "required": ["title", "status", "detail"],
            "properties": {
                "title": text(), "status": {"type": "integer"}, "detail": text(),
                "field": {"type": "string", "description": "which member (RFC 6901) or header is wrong"},
                "parameter": {"type": "string", "description": "which parameter of the query is wrong"},
                "reason": {"type": "string", "description": "why the device would not take the command: a word of a closed list"},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_method_is_described_and_nothing_else() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let sources = [include_str!("api.rs"), include_str!("control/api.rs")].concat();
        let mut routed = 0;
        for route in sources.split(".route(").skip(1) {
            let Some((path, rest)) = route
                .trim_start()
                .strip_prefix('"')
                .and_then(|route| route.split_once('"'))
            else {
                continue;
            };
            if !path.starts_with("/api/v1/") {
                continue;
            }
            routed += 1;
            let methods = rest.split_once('\n').map_or(rest, |(line, _)| line);
            let methods = if methods.trim() == "," {
                rest.lines().nth(1).unwrap_or_default()
            } else {
                methods
            };
            for method in ["get", "post", "put", "patch", "delete"] {
                let is_routed = methods.contains(&format!("{method}("));
                let is_described = paths[path].get(method).is_some();
                assert_eq!(is_routed, is_described, "{method} {path}");
            }
        }
        assert_eq!(routed, paths.len());
    }

    #[test]
    fn every_operation_that_needs_a_token_says_what_any_may_be_answered() {
        let document = document();
        let mut secured = 0;
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if operation["security"] == json!([]) {
                    continue;
                }
                secured += 1;
                for status in ["401", "403", "405", "500", "503"] {
                    let answer = &operation["responses"][status];
                    assert!(answer.is_object(), "{method} {path} {status}");
                }
            }
        }
        assert!(secured >= 8, "{secured}");
        let command = &document["paths"]["/api/v1/devices/{id}/commands/{command}"]["get"];
        let headers = command["parameters"].as_array().unwrap().iter();
        let mut names = headers.filter(|it| it["in"] == "header");
        assert_eq!(names.next().unwrap()["name"], "Last-Event-ID");
    }

    #[test]
    fn every_reference_of_the_description_is_in_it() {
        let document = document();
        let text = document.to_string();
        let all = text.split("#/components/schemas/").skip(1);
        for name in all.map(|rest| rest.split('"').next().unwrap()) {
            assert!(
                document["components"]["schemas"].get(name).is_some(),
                "{name}"
            );
        }
    }
}
