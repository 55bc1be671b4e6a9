//! Who may publish and subscribe where: a device has its own topics and nothing else, a viewer hears what it is granted.
//!
//! The rule is literal: a topic is one of a few texts, a filter begins with the device's own prefix. A wildcard can
//! therefore stand only below the prefix, and neither a filter nor a retained message reaches another device.
use super::{Topic, viewers};
use std::sync::Arc;
use types::{DeviceId, FacilityId, RegionId};

/// The place of one device, or of one viewer, in the topic tree.
#[derive(Clone, Debug)]
pub(super) struct OwnTopics {
    prefix: String,
    /// What a viewer may hear; none for a device.
    granted: Option<Arc<[String]>>,
}

/// Why a filter is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// A shared subscription (`$share/…`): not offered.
    Shared,
    /// It reaches beyond the device's own topics.
    Foreign,
    /// Not a topic filter (MQTT 5 §4.7.1).
    Malformed,
}

impl OwnTopics {
    pub(super) fn of(region: &RegionId, facility: &FacilityId, device: &DeviceId) -> Self {
        Self {
            prefix: format!("devices/{region}/{facility}/{device}/"),
            granted: None,
        }
    }

    /// Those of a viewer, who may hear what is granted and publish nothing.
    pub(super) fn of_viewer(facility: &FacilityId, granted: Arc<[String]>) -> Self {
        Self {
            prefix: viewers::prefix(facility),
            granted: Some(granted),
        }
    }

    /// Whether they are a viewer's.
    pub(super) const fn is_of_viewer(&self) -> bool {
        self.granted.is_some()
    }

    /// `devices/{region}/{facility}/{device}/`, or `local/{facility}/`.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Which of the device's own topics this is.
    pub(super) fn own(&self, topic: &[u8]) -> Option<Topic> {
        if self.is_of_viewer() {
            return None;
        }
        let name = topic.strip_prefix(self.prefix.as_bytes())?;
        [
            Topic::Telemetry,
            Topic::Alarm,
            Topic::Status,
            Topic::Command,
            Topic::Answer,
        ]
        .into_iter()
        .find(|own| own.as_str().as_bytes() == name)
    }

    /// The topic, if the device may publish on it. Commands are for the device, not from it.
    pub(super) fn publishable(&self, topic: &[u8]) -> Option<Topic> {
        self.own(topic).filter(|own| *own != Topic::Command)
    }

    /// Whether the device may subscribe to `filter`.
    pub(super) fn check_filter(&self, filter: &str) -> Result<(), Denied> {
        if filter.starts_with("$share/") {
            return Err(Denied::Shared);
        }
        if filter.contains('\0') || !rumqttd::protocol::valid_filter(filter) {
            return Err(Denied::Malformed);
        }
        let is_own = filter
            .strip_prefix(&self.prefix)
            .is_some_and(|rest| !rest.is_empty());
        let is_granted = |granted: &Arc<[String]>| {
            let mut granted = granted.iter();
            granted.any(|granted| viewers::covers(granted, filter))
        };
        match is_own && self.granted.as_ref().is_none_or(is_granted) {
            true => Ok(()),
            false => Err(Denied::Foreign),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> OwnTopics {
        OwnTopics::of(
            &"us".parse().unwrap(),
            &"us-f1".parse().unwrap(),
            &"lab-1".parse().unwrap(),
        )
    }

    #[test]
    fn a_device_publishes_on_its_own_telemetry_alarm_status_and_answers_alone() {
        for (topic, expected) in [
            ("devices/us/us-f1/lab-1/telemetry", Some(Topic::Telemetry)),
            ("devices/us/us-f1/lab-1/alarm", Some(Topic::Alarm)),
            ("devices/us/us-f1/lab-1/status", Some(Topic::Status)),
            ("devices/us/us-f1/lab-1/command", None),
            ("devices/us/us-f1/lab-1/command/result", Some(Topic::Answer)),
            ("devices/us/us-f1/lab-1", None),
            ("devices/us/us-f1/lab-1/", None),
            ("devices/us/us-f1/lab-1/telemetry/x", None),
            ("devices/us/us-f1/lab-1/+", None),
            ("devices/us/us-f1/lab-10/telemetry", None),
            ("devices/us/us-f1/lab-2/telemetry", None),
            ("devices/us/us-f2/lab-1/telemetry", None),
            ("devices/eu/us-f1/lab-1/telemetry", None),
            ("/devices/us/us-f1/lab-1/telemetry", None),
            ("$SYS/broker", None),
            ("", None),
        ] {
            assert_eq!(own().publishable(topic.as_bytes()), expected, "{topic}");
        }
    }

    #[test]
    fn a_viewer_publishes_nowhere_and_hears_what_it_is_granted_alone() {
        let granted = ["local/us-f1/+/alarm".to_owned()].into();
        let own = OwnTopics::of_viewer(&"us-f1".parse().unwrap(), granted);
        for topic in [
            "local/us-f1/lab-1/alarm",
            "local/us-f1/telemetry",
            "devices/us/us-f1/viewer/telemetry",
        ] {
            assert_eq!(own.publishable(topic.as_bytes()), None, "{topic}");
        }
        for (filter, expected) in [
            ("local/us-f1/lab-1/alarm", Ok(())),
            ("local/us-f1/+/alarm", Ok(())),
            ("local/us-f1/#", Err(Denied::Foreign)),
            ("local/us-f1/lab-1/telemetry", Err(Denied::Foreign)),
            ("local/us-f2/lab-1/alarm", Err(Denied::Foreign)),
            ("devices/us/us-f1/viewer/command", Err(Denied::Foreign)),
            ("#", Err(Denied::Foreign)),
            ("$share/g/local/us-f1/+/alarm", Err(Denied::Shared)),
        ] {
            assert_eq!(own.check_filter(filter), expected, "{filter}");
        }
    }

    #[test]
    fn a_filter_is_granted_only_below_the_devices_own_prefix() {
        for (filter, expected) in [
            ("devices/us/us-f1/lab-1/command", Ok(())),
            ("devices/us/us-f1/lab-1/#", Ok(())),
            ("devices/us/us-f1/lab-1/+", Ok(())),
            ("devices/us/us-f1/lab-1/config/+/value", Ok(())),
            ("devices/us/us-f1/lab-1", Err(Denied::Foreign)),
            ("devices/us/us-f1/lab-1/", Err(Denied::Foreign)),
            ("devices/us/us-f1/lab-10/#", Err(Denied::Foreign)),
            ("devices/us/us-f1/+/command", Err(Denied::Foreign)),
            ("devices/+/us-f1/lab-1/command", Err(Denied::Foreign)),
            ("+/us/us-f1/lab-1/command", Err(Denied::Foreign)),
            ("devices/us/us-f1/#", Err(Denied::Foreign)),
            ("devices/#", Err(Denied::Foreign)),
            ("#", Err(Denied::Foreign)),
            ("+/+/+/+/+", Err(Denied::Foreign)),
            ("$SYS/#", Err(Denied::Foreign)),
            (
                "$share/g/devices/us/us-f1/lab-1/command",
                Err(Denied::Shared),
            ),
            ("devices/us/us-f1/lab-1/a#", Err(Denied::Malformed)),
            ("devices/us/us-f1/lab-1/#/x", Err(Denied::Malformed)),
            ("devices/us/us-f1/lab-1/x+", Err(Denied::Malformed)),
            ("devices/us/us-f1/lab-1/\0", Err(Denied::Malformed)),
            ("", Err(Denied::Malformed)),
        ] {
            assert_eq!(own().check_filter(filter), expected, "{filter:?}");
        }
    }
}
