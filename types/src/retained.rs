//! The retained message of a topic (MQTT 5 §3.3.1.3): what the broker has kept, and the store keeps.
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::time::Duration;

/// The retained message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedMessage {
    /// The topic.
    pub topic: String,
    /// What was published.
    pub payload: Vec<u8>,
    /// The QoS of the publish, 0 to 2 (MQTT-3.3.1-5).
    pub qos: u8,
    /// The properties of MQTT 5 that subscribers get with it, encoded.
    pub properties: Vec<u8>,
    /// How long it is to be delivered from now on (MQTT 5 §3.3.2.3.3); none: until it is replaced.
    pub lapses_in: Option<Duration>,
}

impl RetainedMessage {
    /// A message at QoS 1 without properties that does not lapse.
    #[must_use]
    pub fn plain(topic: &str, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            topic: topic.to_owned(),
            payload: payload.into(),
            qos: 1,
            properties: Vec::new(),
            lapses_in: None,
        }
    }
}
