//! One parameter of a command: its type, its unit and its range, and what they let through.
use crate::{Reason, Value, parse_span, span_text};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::cmp::Ordering;
use types::{Decimal, Name, Unit};

/// Words of a list at most.
const MAX_WORDS: usize = 64;

/// A parameter of a command.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name.
    pub name: Name,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The UCUM unit of a number; a decimal has one.
    #[serde(default)]
    pub unit: Option<String>,
    /// The least and the greatest value that is allowed, both included.
    #[serde(default)]
    pub range: Option<(Bound, Bound)>,
    /// The words of a choice.
    #[serde(default)]
    pub values: Vec<String>,
    /// Whether it may be left out.
    #[serde(default)]
    pub optional: bool,
    /// Another parameter, which must be greater where both are given.
    #[serde(default)]
    pub below: Option<Name>,
}

/// What a parameter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A duration such as `5s`.
    Span,
    /// A number with a unit.
    Decimal,
    /// A whole number.
    Integer,
    /// A word of a list.
    Choice,
    /// Yes or no.
    Flag,
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Decimal => "decimal",
            Self::Integer => "integer",
            Self::Choice => "choice",
            Self::Flag => "flag",
        }
    }
}

/// A bound of a range: a number, or a span in its unit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// A whole number.
    Whole(i64),
    /// A number.
    Number(f64),
    /// A span.
    Span(String),
}

impl Eq for Bound {}

impl Bound {
    fn decimal(&self) -> Option<Decimal> {
        match self {
            Self::Whole(number) => Some(Decimal::from_parts(*number, 0)),
            Self::Number(number) => number.to_string().parse().ok(),
            Self::Span(text) => Some(Decimal::from_parts(parse_span(text)?.try_into().ok()?, 0)),
        }
    }

    /// As a whole number, without its fraction; of a span its milliseconds.
    fn whole(&self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(*number),
            Self::Number(number) => format!("{:.0}", number.trunc()).parse().ok(),
            Self::Span(text) => parse_span(text)?.try_into().ok(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Whole(number) => number.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Span(text) => text.clone(),
        }
    }
}

impl Parameter {
    pub(crate) fn problems(&self) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        let ranged = matches!(self.kind, Kind::Span | Kind::Decimal | Kind::Integer);
        match (&self.range, ranged) {
            (None, true) => found.push(("range", "is missing: a number has a range")),
            (Some(_), false) => found.push(("range", "belongs to numbers and spans")),
            (Some((low, high)), true) => {
                let spans = matches!((low, high), (Bound::Span(_), Bound::Span(_)));
                let numbers = !matches!(low, Bound::Span(_)) && !matches!(high, Bound::Span(_));
                let right = if self.kind == Kind::Span {
                    spans
                } else {
                    numbers
                };
                let ordered = low.decimal().zip(high.decimal());
                let ordered = ordered.and_then(|(low, high)| compare(&low, &high));
                if !right || !matches!(ordered, Some(Ordering::Less | Ordering::Equal)) {
                    found.push((
                        "range",
                        "is the least and the greatest value: numbers, or spans such as \"5s\"",
                    ));
                }
            }
            (None, false) => {}
        }
        match (&self.unit, self.kind) {
            (None, Kind::Decimal) => found.push(("unit", "is missing: a decimal has a UCUM unit")),
            (Some(unit), Kind::Decimal | Kind::Integer) if unit.parse::<Unit>().is_err() => {
                found.push(("unit", "is not a UCUM unit of the table of units"));
            }
            (Some(_), Kind::Span | Kind::Choice | Kind::Flag) => {
                found.push(("unit", "belongs to numbers"));
            }
            _ => {}
        }
        let words = self.values.len();
        let plain = self.values.iter().all(|word| Value::text(word).is_ok());
        match self.kind {
            Kind::Choice if !(1..=MAX_WORDS).contains(&words) || !plain => {
                found.push((
                    "values",
                    "are 1 to 64 words of at most 64 letters and digits",
                ));
            }
            Kind::Choice => {}
            _ if words > 0 => found.push(("values", "belong to choices")),
            _ => {}
        }
        found
    }

    /// Reads the value that a client gives, into its one text.
    pub(crate) fn read(&self, json: &Json) -> Result<Value, Reason> {
        let value = match (self.kind, json) {
            (Kind::Decimal | Kind::Integer, Json::Object(quantity)) => {
                let unit = quantity.get("unit").and_then(Json::as_str);
                let number = quantity.get("value").filter(|value| value.is_number());
                match (number, unit) {
                    (Some(number), Some(unit))
                        if quantity.len() == 2 && Some(unit) == self.unit.as_deref() =>
                    {
                        Value::from_json(number)
                    }
                    _ => return Err(Reason::WrongType),
                }
            }
            _ => Value::from_json(json),
        };
        let value = value.map_err(|_| Reason::WrongType)?;
        match (self.kind, &value) {
            (Kind::Flag, Value::Flag(_)) => Ok(value),
            (Kind::Choice, Value::Text(word)) if self.values.contains(word) => Ok(value),
            (Kind::Choice, Value::Text(_)) => Err(Reason::OverRange),
            (Kind::Span, Value::Text(_)) => {
                let ms = value.span_ms().ok_or(Reason::WrongType)?;
                self.within(&Value::Text(span_text(ms)))
            }
            (Kind::Integer, Value::Number(decimal)) => match decimal.as_str().parse::<i64>() {
                Ok(_) => self.within(&value),
                Err(_) => Err(Reason::WrongType),
            },
            (Kind::Decimal, Value::Number(_)) => self.within(&value),
            _ => Err(Reason::WrongType),
        }
    }

    fn within(&self, value: &Value) -> Result<Value, Reason> {
        let (Some((low, high)), Some(own)) = (&self.range, number(value)) else {
            return Err(Reason::WrongType);
        };
        let not_below = low.decimal().and_then(|low| compare(&own, &low));
        let not_above = high.decimal().and_then(|high| compare(&own, &high));
        match (not_below, not_above) {
            (Some(Ordering::Less), _) | (_, Some(Ordering::Greater)) | (None, _) | (_, None) => {
                Err(Reason::OverRange)
            }
            _ => Ok(value.clone()),
        }
    }

    /// The ends of its range as whole numbers, of spans in milliseconds; none where it has no range.
    pub(crate) fn whole_range(&self) -> Option<(i64, i64)> {
        let (low, high) = self.range.as_ref()?;
        Some((low.whole()?, high.whole()?))
    }

    /// What is allowed, for people.
    pub(crate) fn expectation(&self) -> String {
        let range = self.range.as_ref();
        let range = range.map(|(low, high)| format!("{} to {}", low.text(), high.text()));
        let range = range.unwrap_or_default();
        match self.kind {
            Kind::Span => format!("a span such as \"5s\", {range}"),
            Kind::Decimal => format!(
                "a number in {}, {range}",
                self.unit.as_deref().unwrap_or("1")
            ),
            Kind::Integer => {
                let unit = self.unit.as_ref().map(|unit| format!(" in {unit}"));
                format!("a whole number{}, {range}", unit.unwrap_or_default())
            }
            Kind::Choice => format!("one of: {}", self.values.join(", ")),
            Kind::Flag => "true or false".into(),
        }
    }

    pub(crate) fn describe(&self) -> Json {
        let mut described = Map::new();
        described.insert("name".into(), self.name.as_str().into());
        described.insert("type".into(), self.kind.as_str().into());
        if let Some(unit) = &self.unit {
            described.insert("unit".into(), unit.as_str().into());
        }
        if let Some((low, high)) = &self.range {
            let bound = |bound: &Bound| match bound {
                Bound::Whole(number) => json!(number),
                Bound::Number(number) => json!(number),
                Bound::Span(text) => json!(text),
            };
            described.insert("range".into(), json!([bound(low), bound(high)]));
        }
        if !self.values.is_empty() {
            described.insert("values".into(), json!(self.values));
        }
        described.insert("optional".into(), self.optional.into());
        Json::Object(described)
    }
}

/// The number of a value: a span's milliseconds.
pub(crate) fn number(value: &Value) -> Option<Decimal> {
    match value {
        Value::Number(number) => Some(number.clone()),
        Value::Text(_) => Some(Decimal::from_parts(value.span_ms()?.try_into().ok()?, 0)),
        Value::Flag(_) => None,
    }
}

/// The order of two decimals, exactly; none for numbers beyond 18 digits, which no range has.
pub(crate) fn compare(one: &Decimal, other: &Decimal) -> Option<Ordering> {
    let ((a, e), (b, f)) = (one.to_parts()?, other.to_parts()?);
    let least = e.min(f);
    let scaled = |mantissa: i64, exponent: i8| {
        let power = u32::try_from(i32::from(exponent) - i32::from(least)).ok()?;
        i128::from(mantissa).checked_mul(10_i128.checked_pow(power)?)
    };
    Some(scaled(a, e)?.cmp(&scaled(b, f)?))
}
