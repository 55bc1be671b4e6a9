//! The words of a reading (code, unit and value) in their one encoding: what is packed, and what digests and ids are made of.
use ingest::SampleReading;
use types::Value;

/// Marks a value that is absent; no decimal begins with it.
const ABSENT: u8 = b'?';

/// Adds the three texts of a reading.
pub(super) fn push_words(blob: &mut Vec<u8>, reading: &SampleReading) {
    let info = reading.code.info();
    let loinc = info.system == types::Code::LOINC;
    let system: &[&str] = if loinc { &[] } else { &[info.system, "|"] };
    push_text(blob, |blob| {
        for part in system {
            blob.extend_from_slice(part.as_bytes());
        }
        blob.extend_from_slice(info.code.as_bytes());
    });
    push_text(blob, |blob| {
        blob.extend_from_slice(reading.unit.as_str().as_bytes());
    });
    push_text(blob, |blob| match &reading.value {
        Value::Quantity(decimal) => blob.extend_from_slice(decimal.as_str().as_bytes()),
        Value::Absent(reason) => {
            blob.push(ABSENT);
            blob.extend_from_slice(reason.as_str().as_bytes());
        }
    });
}

/// A length byte and a text. Codes, units and decimals are all shorter than 128 bytes.
fn push_text(blob: &mut Vec<u8>, text: impl FnOnce(&mut Vec<u8>)) {
    let at = blob.len();
    blob.push(0);
    text(blob);
    let written = u8::try_from(blob.len() - at - 1).unwrap_or(u8::MAX);
    if let Some(length) = blob.get_mut(at) {
        *length = written;
    }
}
