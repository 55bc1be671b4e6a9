//! Spans as OpenTelemetry's collectors take them: an `ExportTraceServiceRequest` in JSON (OTLP 1, "JSON Protobuf
//! Encoding": ids in hexadecimal, 64-bit numbers as text, enumerations as numbers). Pure.
use super::{Attribute, Name, Span};
use serde_json::{Value, json};
use types::Place;

/// `SpanKind` of OTLP.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const PRODUCER: u8 = 4;
const CONSUMER: u8 = 5;
/// `StatusCode` of OTLP.
const ERROR: u8 = 2;

const fn kind(name: Name) -> u8 {
    match name {
        Name::ModbusRead | Name::MqttPublish | Name::LinkReceive => CONSUMER,
        Name::LinkSend => PRODUCER,
        Name::Request => SERVER,
        Name::StoreCommit
        | Name::Outbox
        | Name::Gate
        | Name::FhirMap
        | Name::FhirCommit
        | Name::Task => INTERNAL,
    }
}

/// The body of a request, of one node.
#[must_use]
pub fn request(place: &Place, spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [
        text("service.namespace", "medmesh"),
        text("service.name", place.tier().as_str()),
        text("service.version", version),
        text("service.instance.id", &place.to_string()),
    ];
    let spans: Vec<_> = spans.iter().map(span).collect();
    let scope = json!({"name": "medmesh", "version": version});
    let all = json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]});
    all.to_string().into_bytes()
}

fn span(span: &Span) -> Value {
    let says: Vec<_> = span.says.iter().map(attribute).collect();
    let parent = span
        .parent
        .map(|id| ("parentSpanId", json!(id.to_string())));
    let status = span.failed.then(|| ("status", json!({"code": ERROR})));
    let said = [
        ("traceId", json!(span.context.trace.to_string())),
        ("spanId", json!(span.context.span.to_string())),
        ("name", json!(span.name.as_str())),
        ("kind", json!(kind(span.name))),
        ("startTimeUnixNano", json!(span.from_ns.to_string())),
        ("endTimeUnixNano", json!(span.until_ns.to_string())),
        ("attributes", json!(says)),
    ];
    said.into_iter()
        .chain(parent)
        .chain(status)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn attribute(attribute: &Attribute) -> Value {
    match attribute {
        Attribute::Priority(word) => text("medmesh.priority", word),
        Attribute::Outcome(word) => text("medmesh.outcome", word),
        Attribute::Task(word) => text("medmesh.task", word),
        Attribute::Method(word) => text("http.request.method", word),
        Attribute::Status(number) => json!({
            "key": "http.response.status_code",
            "value": {"intValue": number.to_string()},
        }),
    }
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}
