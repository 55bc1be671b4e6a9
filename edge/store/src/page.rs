//! What readers of the facility's own side ask of the store, a page at a time, and what they get. Everything in it is PHI
//! and stays in the facility.
use serde::{Serialize, Serializer};
use types::{Code, DeviceId, Flags, Phi, Timestamp, Unit, Value};

/// Samples that are looked at for one page of a series or of alarms: an hour of one device at one sample a second.
pub const MAX_PAGE: usize = 3_600;

/// Whose values are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// What a device measured, of whomever.
    Device(DeviceId),
    /// What was measured at a bed, of whomever.
    Bed(String),
    /// What was measured of a patient, wherever; the facility's own id.
    Patient(Phi<String>),
}

/// A series that is asked for.
#[derive(Clone, Debug)]
pub struct SeriesAsked {
    /// Whose.
    pub whose: Whose,
    /// Of one signal; none: of all.
    pub code: Option<Code>,
    /// Source times from here (mesh time), included.
    pub from: Timestamp,
    /// Source times up to here, excluded.
    pub until: Timestamp,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Samples that are looked at, up to [`MAX_PAGE`].
    pub limit: usize,
}

/// Alarms that are asked for.
#[derive(Clone, Copy, Debug)]
pub struct AlarmsAsked {
    /// Source times from here (mesh time), included.
    pub from: Timestamp,
    /// Source times up to here, excluded.
    pub until: Timestamp,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Samples that are looked at, up to [`MAX_PAGE`].
    pub limit: usize,
}

/// Where a page ended: source time in ms, and the device, epoch and number of the last sample, as the store counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor(pub [i64; 4]);

/// A page, and where the next one begins; none when this is the last.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Page {
    /// Readings.
    pub points: Vec<Point>,
    /// The next page's [`SeriesAsked::after`].
    pub next: Option<Cursor>,
}

/// One reading as it was stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The device.
    pub device: DeviceId,
    /// The facility's id of the patient; none: nobody's.
    #[serde(serialize_with = "shown")]
    pub patient: Option<Phi<String>>,
    /// When it was measured, by the device.
    pub at: Timestamp,
    /// When it came in (mesh time).
    pub arrived: Timestamp,
    /// The reading.
    #[serde(flatten)]
    pub reading: Reading,
    /// Whether it is an alarm.
    pub alarm: bool,
}

/// A value of a signal.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What is measured.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// The value, or why there is none.
    pub value: Value,
    /// What a reader must know of it.
    pub flags: Flags,
}

/// A stay of a patient. What is in it is PHI and is not printed.
#[derive(Clone, PartialEq)]
pub struct PatientStay {
    /// The facility's id of the patient.
    pub patient: Phi<String>,
    /// A number of the patient, of the store's own.
    pub number: u64,
    /// When it began.
    pub from: Timestamp,
    /// When it ended; none: it has not.
    pub until: Option<Timestamp>,
    /// What is known of the patient without readings.
    pub facts: fl::stays::Facts,
    /// Whether the patient has opted out of research.
    pub opted_out: bool,
}

impl serde::Serialize for Reading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let info = self.code.info();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", &self.code.to_string())?;
        map.serialize_entry("display", info.display)?;
        match &self.value {
            // The text of a decimal is a JSON number, and it is kept as text.
            Value::Quantity(decimal) => {
                let number: Option<serde_json::Number> = decimal.as_str().parse().ok();
                map.serialize_entry("value", &number)?;
            }
            Value::Absent(reason) => map.serialize_entry("absent", reason.as_str())?,
        }
        map.serialize_entry("unit", self.unit.as_str())?;
        let implausible = self.flags.contains(Flags::IMPLAUSIBLE)
            || self.flags.contains(Flags::IMPLAUSIBLE_FOR_CODE);
        if implausible {
            map.serialize_entry("implausible", &true)?;
        }
        map.end()
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [at, device, epoch, seq] = self.0;
        write!(f, "{at}.{device}.{epoch}.{seq}")
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REASON: &str = "not the end of a page as this node wrote it";
        let parts = text.split('.').map(|part| part.parse().map_err(|_| REASON));
        let parts: Vec<i64> = parts.collect::<Result<_, _>>()?;
        Ok(Self(parts.try_into().map_err(|_| REASON)?))
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The one border at which a patient's id becomes text: the facility's own API.
///
/// # Errors
/// The serializer's.
#[expect(
    clippy::disallowed_methods,
    reason = "what the facility's own staff is shown over its own API"
)]
pub fn shown<S: Serializer>(
    patient: &Option<Phi<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    patient.as_ref().map(|id| id.expose()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_page_is_read_back_and_nothing_else_is() {
        let cursor = Cursor([-5, 2, i64::MAX, 0]);
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in [
            "",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.x",
            "1.2.3.99999999999999999999",
        ] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_reading_is_shown_as_it_was_measured() {
        let reading = |value, flags| Reading {
            code: "8867-4".parse().unwrap(),
            unit: "/min".parse().unwrap(),
            value,
            flags,
        };
        let shown = |reading: Reading| serde_json::to_string(&reading).unwrap();
        assert_eq!(
            shown(reading(
                Value::Quantity("72.50".parse().unwrap()),
                Flags::NONE
            )),
            r#"{"code":"8867-4","display":"Heart rate","value":72.50,"unit":"/min"}"#
        );
        let absent = Value::Absent(types::AbsentReason::Stale);
        assert!(shown(reading(absent, Flags::NONE)).contains(r#""absent":""#));
        let value = Value::Quantity("999".parse().unwrap());
        assert!(shown(reading(value, Flags::IMPLAUSIBLE)).ends_with(r#""implausible":true}"#));
    }
}
