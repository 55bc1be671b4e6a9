//! What may be subscribed to. The CapabilityStatement lists it (capabilitystatement-subscriptiontopic-canonical).
use super::What;

/// A topic: changes of which kind, of resources of which types.
#[derive(Debug)]
pub struct Topic {
    /// Its canonical URL: what `Subscription.criteria` is.
    pub url: &'static str,
    /// The types whose changes it is about; none: those that the subscription's filters name.
    pub types: &'static [&'static str],
    /// The changes.
    pub on: &'static [What],
    /// What it is for.
    pub about: &'static str,
}

const ALL: &[What] = &[What::Create, What::Update, What::Delete];

/// Every topic.
pub const TOPICS: [Topic; 5] = [
    Topic {
        url: "urn:medmesh:topic:observation-created",
        types: &["Observation"],
        on: &[What::Create],
        about: "A new Observation; an alarm is a filter such as Observation?code=8867-4&value-quantity=gt130",
    },
    Topic {
        url: "urn:medmesh:topic:observation-changed",
        types: &["Observation"],
        on: ALL,
        about: "A new Observation, or one that was withdrawn or changed",
    },
    Topic {
        url: "urn:medmesh:topic:encounter-changed",
        types: &["Encounter"],
        on: ALL,
        about: "An Encounter that is new, changed or deleted",
    },
    Topic {
        url: "urn:medmesh:topic:device-changed",
        types: &["Device", "DeviceMetric", "DeviceUseStatement"],
        on: ALL,
        about: "A Device, a DeviceMetric or a DeviceUseStatement that is new, changed or deleted",
    },
    Topic {
        url: "urn:medmesh:topic:resource-changed",
        types: &[],
        on: ALL,
        about: "Any resource of the types that the filters name that is new, changed or deleted",
    },
];

/// The topic of that URL.
#[must_use]
pub fn topic(url: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.url == url)
}
