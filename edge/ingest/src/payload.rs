//! The JSON of a telemetry or alarm message: parsed strictly into a [`Sample`], and many of them on their way into the
//! journal; and written of one.
//!
//! Whatever is not expected is refused: an unknown or repeated field, an unknown code or unit, a value that is not a
//! decimal. The text of a number is kept as the device wrote it. A reason is one of a closed set and quotes nothing.
use crate::{Journal, Rejected, Sample, SampleReading, Stored, Urgency, patient_id};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Number, Value as Json, json, value::RawValue};
use std::borrow::Cow;
use types::{AbsentReason, Decimal, DeviceId, Flags, Phi, Timestamp, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    epoch: u32,
    seq: u64,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    patient: Option<String>,
    #[serde(borrow)]
    readings: Vec<Reading<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reading<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    unit: Cow<'a, str>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    absent: Option<String>,
}

/// Stores the samples that messages hold, each of a device and as urgent as its topic says, in this order and in one call.
/// Says what became of each (same length, same order); what is no sample is [`Rejected::Invalid`].
pub async fn append<'a>(
    journal: &dyn Journal,
    messages: impl Iterator<Item = (&'a DeviceId, Urgency, &'a [u8])> + Send,
) -> Vec<Result<Stored, Rejected>> {
    let mut samples = Vec::new();
    let mut invalid = Vec::new();
    for (device, urgency, message) in messages {
        match parse(device, urgency, message) {
            Ok(sample) => {
                samples.push(sample);
                invalid.push(None);
            }
            Err(reason) => invalid.push(Some(reason)),
        }
    }
    let stored = match samples.is_empty() {
        true => Vec::new(),
        false => journal.append_batch(samples).await,
    };
    let mut stored = stored.into_iter();
    let said = |invalid| match invalid {
        Some(reason) => Err(Rejected::Invalid(reason)),
        // A journal says as much as it was asked: what it does not speak of is not stored.
        None => stored.next().unwrap_or(Err(Rejected::Full)),
    };
    invalid.into_iter().map(said).collect()
}

/// The sample that a message of `device` holds.
///
/// # Errors
/// Why the message can never be stored, from a closed set.
pub fn parse(device: &DeviceId, urgency: Urgency, message: &[u8]) -> Result<Sample, &'static str> {
    let text = std::str::from_utf8(message).map_err(|_| "not UTF-8")?;
    let message: Message<'_> =
        serde_json::from_str(text).map_err(|_| "not the JSON of a sample")?;
    if message.readings.is_empty() {
        return Err("no readings");
    }
    if message.readings.len() > Sample::MAX_READINGS {
        return Err("too many readings");
    }
    if message
        .patient
        .as_ref()
        .is_some_and(|id| !patient_id::is_one(id))
    {
        return Err(patient_id::PROBLEM);
    }
    let source_time: Timestamp = message.time.parse().map_err(|_| "time not RFC 3339")?;
    if !source_time.is_measurable() {
        return Err(crate::OUT_OF_RANGE);
    }
    Ok(Sample {
        device: device.clone(),
        epoch: message.epoch,
        seq: message.seq,
        source_time,
        patient: message.patient.map(Phi::new),
        urgency,
        readings: message
            .readings
            .iter()
            .map(reading)
            .collect::<Result<_, _>>()?,
    })
}

fn reading(reading: &Reading<'_>) -> Result<SampleReading, &'static str> {
    Ok(SampleReading {
        code: reading.code.parse().map_err(|_| "unknown code")?,
        unit: reading.unit.parse().map_err(|_| "unknown unit")?,
        value: match (reading.value, reading.absent.as_deref()) {
            (Some(value), None) => Value::Quantity(decimal(value.get())?),
            (None, Some(absent)) => {
                Value::Absent(AbsentReason::parse(absent).ok_or("unknown reason of absence")?)
            }
            (Some(_), Some(_)) | (None, None) => return Err("neither or both of value and absent"),
        },
        flags: Flags::NONE,
    })
}

/// A JSON number, or a JSON string that holds one.
fn decimal(raw: &str) -> Result<Decimal, &'static str> {
    let text: Cow<'_, str> = if raw.starts_with('"') {
        serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(""), Cow::Owned)
    } else {
        Cow::Borrowed(raw)
    };
    text.parse().map_err(|_| "value not a decimal")
}

/// The JSON of a sample, as a device on MQTT would have sent it, and whether a reading is implausible. Without the
/// patient: whoever may hear a device's topic knows the device, not more.
#[must_use]
pub fn write(sample: &Sample) -> Bytes {
    let json = json!({
        "epoch": sample.epoch,
        "seq": sample.seq,
        "time": sample.source_time.to_rfc3339(),
        "readings": sample.readings.iter().map(written).collect::<Vec<_>>(),
    });
    json.to_string().into()
}

fn written(reading: &SampleReading) -> Json {
    let mut json = Map::new();
    json.insert("code".into(), reading.code.to_string().into());
    match &reading.value {
        // The text of a decimal is a JSON number, and it is kept as text.
        Value::Quantity(decimal) => {
            let number: Option<Number> = decimal.as_str().parse().ok();
            json.insert("value".into(), number.map_or(Json::Null, Json::Number));
        }
        Value::Absent(reason) => {
            json.insert("absent".into(), reason.as_str().into());
        }
    }
    json.insert("unit".into(), reading.unit.as_str().into());
    if reading.flags.contains(Flags::IMPLAUSIBLE)
        || reading.flags.contains(Flags::IMPLAUSIBLE_FOR_CODE)
    {
        json.insert("implausible".into(), true.into());
    }
    Json::Object(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(message: &str) -> Result<Sample, &'static str> {
        parse(
            &"lab-1".parse().unwrap(),
            Urgency::Routine,
            message.as_bytes(),
        )
    }

    fn with_reading(reading: &str) -> String {
        format!(r#"{{"epoch":1,"seq":17,"time":"2026-11-22T10:00:00Z","readings":[{reading}]}}"#)
    }

    fn with_value(value: &str) -> String {
        with_reading(&format!(
            r#"{{"code":"2951-2","value":{value},"unit":"mmol/L"}}"#
        ))
    }

    #[test]
    fn a_sample_keeps_its_identity_time_patient_and_order_of_readings() {
        let sample = parsed(
            r#"{"epoch":4294967295,"seq":18446744073709551615,"time":"2026-11-22T12:00:00.007+02:00","patient":"p-1",
                "readings":[{"code":"2951-2","value":140.0,"unit":"mmol/L"},
                            {"absent":"unknown","unit":"1","code":"urn:medmesh:code|mechanical-ventilation"}]}"#,
        )
        .unwrap();
        assert_eq!((sample.epoch, sample.seq), (u32::MAX, u64::MAX));
        assert_eq!(sample.source_time.to_string(), "2026-11-22T10:00:00.007Z");
        assert_eq!(sample.patient, Some(Phi::new("p-1".into())));
        assert_eq!(sample.readings[0].code.to_string(), "2951-2");
        assert_eq!(
            sample.readings[1].value,
            Value::Absent(AbsentReason::Unknown)
        );
    }

    #[test]
    fn what_is_written_of_a_sample_is_read_as_the_same_without_its_patient() {
        let mut sample = parsed(
            r#"{"epoch":7,"seq":18446744073709551615,"time":"2026-11-22T10:00:00.007Z","patient":"p-1",
                "readings":[{"code":"2951-2","value":140.00,"unit":"mmol/L"},
                            {"code":"2951-2","value":-1.5e-7,"unit":"mmol/L"},
                            {"absent":"unknown","unit":"1","code":"urn:medmesh:code|mechanical-ventilation"}]}"#,
        )
        .unwrap();
        let written = String::from_utf8(write(&sample).to_vec()).unwrap();
        sample.patient = None;
        assert_eq!(parsed(&written).unwrap(), sample);
    }

    #[test]
    fn the_text_of_a_value_is_kept_whether_it_is_a_number_or_a_string() {
        for (value, kept) in [
            ("140", "140"),
            ("140.0", "140.0"),
            ("72.50", "72.50"),
            ("-0.0", "-0.0"),
            ("1e3", "1e3"),
            ("1.00000000000000000001", "1.00000000000000000001"),
            (r#""72.50""#, "72.50"),
            (r#""7\u00320""#, "720"),
        ] {
            let sample = parsed(&with_value(value)).unwrap();
            assert_eq!(
                sample.readings[0].value,
                Value::Quantity(kept.parse().unwrap()),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_not_a_decimal_is_refused() {
        for value in [
            "true",
            "[1]",
            "{}",
            r#""""#,
            r#""NaN""#,
            r#"" 1""#,
            r#""1,5""#,
            r#""0x10""#,
            "123456789012345678901234567890123",
        ] {
            assert_eq!(
                parsed(&with_value(value)),
                Err("value not a decimal"),
                "{value}"
            );
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn unknown_repeated_missing_and_contradictory_fields_are_refused() {
        let ok = r#"{"code":"2951-2","value":1,"unit":"mmol/L"}"#;
        for (message, reason) in [
            (String::new(), "not the JSON of a sample"),
            ("null".into(), "not the JSON of a sample"),
            (with_reading(ok) + "x", "not the JSON of a sample"),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":-1"),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":1.0"),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":4294967296"),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":1,\"epoch\":1"),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("\"epoch\":1,", ""),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":1,\"name\":\"Jane Doe\""),
                "not the JSON of a sample",
            ),
            (
                with_reading(ok).replace("10:00:00Z", "10:00:00"),
                "time not RFC 3339",
            ),
            (
                with_reading(ok).replace("2026-11-22", "0001-01-01"),
                crate::OUT_OF_RANGE,
            ),
            (
                with_reading(ok).replace("2026-11-22", "2199-06-01"),
                crate::OUT_OF_RANGE,
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":1,\"patient\":\"\""),
                crate::patient_id::PROBLEM,
            ),
            (
                with_reading(ok).replace("\"epoch\":1", "\"epoch\":1,\"patient\":\"a\\u001b[2Jx\""),
                crate::patient_id::PROBLEM,
            ),
            (with_reading(""), "no readings"),
            (
                with_reading(&vec![ok; Sample::MAX_READINGS + 1].join(",")),
                "too many readings",
            ),
            (
                with_reading(&ok.replace("2951-2", "Jane Doe")),
                "unknown code",
            ),
            (
                with_reading(&ok.replace("mmol/L", "Jane Doe")),
                "unknown unit",
            ),
            (
                with_reading(&ok.replace("\"value\":1", "\"value\":1,\"value\":1")),
                "not the JSON of a sample",
            ),
            (
                with_reading(&ok.replace("\"value\":1", "\"value\":1,\"note\":\"x\"")),
                "not the JSON of a sample",
            ),
            (
                with_reading(&ok.replace("\"value\":1,", "")),
                "neither or both of value and absent",
            ),
            (
                with_reading(&ok.replace("\"value\":1", "\"value\":1,\"absent\":\"unknown\"")),
                "neither or both of value and absent",
            ),
            (
                with_reading(&ok.replace("\"value\":1", "\"absent\":\"because\"")),
                "unknown reason of absence",
            ),
        ] {
            assert_eq!(parsed(&message), Err(reason), "{message:.120}");
        }
        assert!(parsed(&with_reading(&[ok; Sample::MAX_READINGS].join(","))).is_ok());
    }

    #[test]
    fn deep_nesting_ends_in_a_refusal_not_in_a_full_stack() {
        for open in ["[", "{\"a\":"] {
            assert!(parsed(&with_value(&open.repeat(30_000))).is_err());
            assert!(parsed(&open.repeat(30_000)).is_err());
        }
        let closed = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(parsed(&with_value(&closed)), Err("value not a decimal"));
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_a_sample_or_a_reason(message in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&"lab-1".parse().unwrap(), Urgency::Alarm, &message);
        }
    }
}
