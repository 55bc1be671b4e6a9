//! What the CapabilityStatement says of subscriptions (Subscriptions R5 Backport 1.1, "Topic Discovery" for R4).
use crate::subscription::{BACKPORT, TOPICS};
use serde_json::{Value, json};

/// Adds the topics and operations to what is said of the type.
pub fn announce(resource: &mut Value) {
    let url = format!("{BACKPORT}capabilitystatement-subscriptiontopic-canonical");
    let topics = TOPICS
        .iter()
        .map(|topic| json!({"url": url, "valueCanonical": topic.url}));
    resource["extension"] = topics.collect();
    let about = TOPICS
        .iter()
        .map(|topic| format!("- `{}`: {}", topic.url, topic.about));
    let about: Vec<String> = about.collect();
    resource["documentation"] = json!(format!("The topics are\n{}", about.join("\n")));
    let of = |name: &str, definition: &str| json!({"name": name, "definition": definition});
    let backport =
        "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription";
    if let Some(operations) = resource["operation"].as_array_mut() {
        operations.push(of("status", &format!("{backport}-status")));
        operations.push(of("events", &format!("{backport}-events")));
        operations.push(of("sse", "urn:medmesh:operation:subscription-sse"));
    }
}
