//! The value of a parameter: a number, a flag, or a text of a closed shape (a span or a word of a list).
//!
//! Each value has one text, which is what is signed: its JSON without white space.
use serde_json::Value as Json;
use std::fmt;
use types::Decimal;

/// The longest text, in bytes: spans and words of a table are shorter.
const MAX_TEXT: usize = 64;

/// A value that no parameter can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a parameter is a number, true or false, or a text of at most 64 letters, digits and . : / | _ -"
)]
pub struct InvalidValue;

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number with the digits that were given.
    Number(Decimal),
    /// Yes or no.
    Flag(bool),
    /// A span such as `5s`, or a word of a list.
    Text(String),
}

impl Value {
    /// Reads a JSON value.
    ///
    /// # Errors
    /// [`InvalidValue`] for what no parameter can be.
    pub fn from_json(json: &Json) -> Result<Self, InvalidValue> {
        match json {
            Json::Bool(flag) => Ok(Self::Flag(*flag)),
            Json::Number(number) => {
                let text = number.to_string();
                let number = text.parse().map_err(|_| InvalidValue)?;
                Ok(Self::Number(number))
            }
            Json::String(text) => Self::text(text),
            Json::Null | Json::Array(_) | Json::Object(_) => Err(InvalidValue),
        }
    }

    /// A text of the closed shape.
    ///
    /// # Errors
    /// [`InvalidValue`] when it is longer or has other characters.
    pub fn text(text: &str) -> Result<Self, InvalidValue> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:/|_-".contains(&byte);
        if text.is_empty() || text.len() > MAX_TEXT || !text.bytes().all(plain) {
            return Err(InvalidValue);
        }
        Ok(Self::Text(text.to_owned()))
    }

    /// Reads the text that is signed.
    ///
    /// # Errors
    /// [`InvalidValue`] for any text that [`ToString::to_string`] does not write.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let json: Json = serde_json::from_str(text).map_err(|_| InvalidValue)?;
        let value = Self::from_json(&json)?;
        if value.to_string() == text {
            Ok(value)
        } else {
            Err(InvalidValue)
        }
    }

    /// The JSON value.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Flag(flag) => Json::Bool(*flag),
            Self::Text(text) => Json::String(text.clone()),
            // The text of a decimal is a JSON number; were it none, it would go as a text.
            Self::Number(number) => serde_json::from_str(number.as_str())
                .unwrap_or_else(|_| Json::String(number.as_str().to_owned())),
        }
    }

    /// The milliseconds of a span; none for what is no span.
    #[must_use]
    pub fn span_ms(&self) -> Option<u64> {
        match self {
            Self::Text(text) => parse_span(text),
            Self::Number(_) | Self::Flag(_) => None,
        }
    }
}

/// The text that is signed.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => f.write_str(number.as_str()),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The milliseconds of a span written as a whole number and a unit: `250ms`, `5s`, `2m`, `1h`, `7d`.
#[must_use]
pub fn parse_span(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A span by the largest unit that divides it: the one text of it.
#[must_use]
pub fn span_text(ms: u64) -> String {
    let divides = |(_, factor): &&(&str, u64)| ms != 0 && ms.is_multiple_of(*factor);
    let (unit, factor) = UNITS.iter().find(divides).copied().unwrap_or(("ms", 1));
    format!("{}{unit}", ms / factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_round_trips_through_the_text_that_is_signed() {
        for json in [
            json!(5),
            json!("5s"),
            json!(true),
            json!("8867-4"),
            json!(-0.50),
        ] {
            let value = Value::from_json(&json).unwrap();
            assert_eq!(Value::parse(&value.to_string()), Ok(value.clone()));
            assert_eq!(value.to_json(), json);
        }
        for text in [
            "",
            "5 ",
            " 5",
            "null",
            "[]",
            "\"a b\"",
            "\"\\u0061\"",
            "+5",
            "05",
        ] {
            assert_eq!(Value::parse(text), Err(InvalidValue), "{text:?}");
        }
    }

    #[test]
    fn free_text_is_no_value() {
        for json in [
            json!("Jane Doe"),
            json!(""),
            json!(null),
            json!([1]),
            json!({"a": 1}),
            json!("x".repeat(65)),
        ] {
            assert_eq!(Value::from_json(&json), Err(InvalidValue), "{json}");
        }
    }

    #[test]
    fn a_span_has_one_text() {
        for (text, ms, one) in [
            ("5000ms", 5_000, "5s"),
            ("60s", 60_000, "1m"),
            ("0s", 0, "0ms"),
            ("1500ms", 1_500, "1500ms"),
            ("24h", 86_400_000, "1d"),
        ] {
            assert_eq!(parse_span(text), Some(ms));
            assert_eq!(span_text(ms), one);
        }
        for text in [
            "5",
            "s",
            "",
            "-5s",
            "5 s",
            "5.5s",
            "5w",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }
}
