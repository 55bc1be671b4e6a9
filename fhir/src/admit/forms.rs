//! Forms of texts that are taken at some elements, though nothing is taken of their data type.
use super::is_digits;
use crate::subscription::topic;

/// The codes of FHIR R4 DataAbsentReason.
const ABSENCES: [&str; 15] = [
    "unknown",
    "asked-unknown",
    "temp-unknown",
    "not-asked",
    "asked-declined",
    "masked",
    "not-applicable",
    "unsupported",
    "as-text",
    "error",
    "not-a-number",
    "negative-infinity",
    "positive-infinity",
    "not-performed",
    "not-permitted",
];

/// Why there is no value.
pub fn is_absence(text: &str) -> bool {
    ABSENCES.contains(&text)
}

/// A language of ISO 639, its script and its region, such as `pt-BR` (RFC 5646 §2.1): nothing that somebody made up, as
/// behind `x`.
pub fn is_language(text: &str) -> bool {
    let mut subtags = text.split('-');
    let first = subtags.next().unwrap_or_default();
    let is_of = |subtag: &str, lengths: &[usize], is: fn(&u8) -> bool| {
        lengths.contains(&subtag.len()) && subtag.bytes().all(|byte| is(&byte))
    };
    is_of(first, &[2, 3], u8::is_ascii_alphabetic)
        && subtags.all(|subtag| {
            is_of(subtag, &[2, 4], u8::is_ascii_alphabetic)
                || is_of(subtag, &[3, 4], u8::is_ascii_digit)
        })
}

/// What may be subscribed to.
pub fn is_topic(text: &str) -> bool {
    topic(text).is_some()
}

/// Items of a form: `1.2.3`, or the code of LOINC by which its panels name them.
pub fn is_link_id(text: &str) -> bool {
    let is_numbered = text.len() <= 24 && text.split('.').all(|part| is_digits(part, 3));
    is_numbered || is_loinc(text.strip_prefix('/').unwrap_or(text))
}

/// A code of LOINC: a number and its check digit, behind the letters of a part or an answer.
pub(super) fn is_loinc(code: &str) -> bool {
    let code = code
        .strip_prefix("LP")
        .or(code.strip_prefix("LA"))
        .unwrap_or(code);
    code.split_once('-')
        .is_some_and(|(number, check)| is_digits(number, 7) && is_digits(check, 1))
}

/// Numbers of a sampled signal (FHIR R4 SampledData.data).
pub fn is_samples(text: &str) -> bool {
    text.split(' ')
        .all(|one| matches!(one, "E" | "U" | "L") || one.parse::<f64>().is_ok_and(f64::is_finite))
}

/// What a flag says of a reading; no other note is taken.
pub fn is_note(text: &str) -> bool {
    crate::map::FLAGS.iter().any(|(.., note)| *note == text)
}
