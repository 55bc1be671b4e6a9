//! Values of FHIRPath's own types, and what an expression gives.
use super::{Decimal, Element, Moment, MomentKind};
use crate::ucum::Unit;
use std::borrow::Cow;

/// A value of one of the types of FHIRPath itself.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names are FHIRPath's")]
pub enum System<'a> {
    Bool(bool),
    Integer(i64),
    Decimal(Decimal),
    Text(Cow<'a, str>),
    Moment(Moment),
    Quantity(Quantity),
}

/// A number with a unit.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The number.
    pub value: Decimal,
    /// A code of UCUM, or a unit of the calendar such as `year`.
    pub unit: String,
}

/// One value that an expression gives.
#[derive(Clone, Debug)]
pub enum Item<'a> {
    /// A part of the resource.
    Element(Element<'a>),
    /// A value that was written or computed.
    System(System<'a>),
    /// What a reference leads to, of which nothing is known but its type.
    Elsewhere(&'static str),
}

impl System<'_> {
    /// The name of its type.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "Boolean",
            Self::Integer(_) => "Integer",
            Self::Decimal(_) => "Decimal",
            Self::Text(_) => "String",
            Self::Quantity(_) => "Quantity",
            Self::Moment(moment) => match moment.kind {
                MomentKind::Date => "Date",
                MomentKind::DateTime => "DateTime",
                MomentKind::Time => "Time",
            },
        }
    }

    /// As text, where it has one (`toString`).
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bool(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            Self::Text(text) => text.to_string(),
            Self::Moment(moment) => moment.to_string(),
            Self::Quantity(quantity) => match calendar_code(&quantity.unit) {
                Some(_) => format!("{} {}", quantity.value, quantity.unit),
                None => format!("{} '{}'", quantity.value, quantity.unit),
            },
        }
    }

    /// As a decimal, when it is a number.
    #[must_use]
    pub fn number(&self) -> Option<Decimal> {
        match self {
            Self::Integer(number) => Some(Decimal::from(*number)),
            Self::Decimal(number) => Some(*number),
            _ => None,
        }
    }
}

/// The units of the calendar, the longest first.
pub const CALENDAR: [&str; 8] = [
    "year",
    "month",
    "week",
    "day",
    "hour",
    "minute",
    "second",
    "millisecond",
];

/// The code of UCUM for a unit of the calendar.
pub fn calendar_code(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "year" => "a",
        "month" => "mo",
        "week" => "wk",
        "day" => "d",
        "hour" => "h",
        "minute" => "min",
        "second" => "s",
        "millisecond" => "ms",
        _ => return None,
    })
}

impl Quantity {
    /// Both numbers in one unit; none when the units measure different things.
    #[must_use]
    pub fn comparable(&self, other: &Self) -> Option<(f64, f64)> {
        let code = |unit: &str| calendar_code(unit).map_or_else(|| unit.to_owned(), str::to_owned);
        let (own, theirs) = (code(&self.unit), code(&other.unit));
        if own == theirs {
            return Some((self.value.to_f64(), other.value.to_f64()));
        }
        let (own, theirs) = (Unit::parse(&own)?, Unit::parse(&theirs)?);
        let same = own.dimension() == theirs.dimension();
        same.then(|| (own.base_value(self.value), theirs.base_value(other.value)))
    }
}

impl<'a> Item<'a> {
    /// As a value of FHIRPath's own types, when it is one or a primitive element with a value.
    #[must_use]
    pub fn system(&self) -> Option<System<'a>> {
        match self {
            Self::System(value) => Some(value.clone()),
            Self::Element(element) => element.system(),
            Self::Elsewhere(_) => None,
        }
    }

    /// As a quantity, when it is one: a number has the unit `1`.
    #[must_use]
    pub fn quantity(&self) -> Option<Quantity> {
        match self {
            Self::System(System::Quantity(quantity)) => Some(quantity.clone()),
            Self::System(value) => Some(Quantity {
                value: value.number()?,
                unit: "1".to_owned(),
            }),
            Self::Element(element) => element.quantity(),
            Self::Elsewhere(_) => None,
        }
    }

    /// As text, when it is a text or an element that holds one.
    #[must_use]
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self.system()? {
            System::Text(text) => Some(text),
            _ => None,
        }
    }
}
