//! Why a packet of a client is not taken.

/// Why a packet is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be read as MQTT (MQTT 5 §1.2, "Malformed Packet").
    Malformed,
    /// It can be read, and says what MQTT forbids ("Protocol Error").
    Protocol,
    /// It uses a topic alias, which was not offered.
    TopicAlias,
    /// It names a subscription identifier, which was not offered.
    SubscriptionId,
}
