//! Registers to readings. Pure and exact: a raw 628 with scale 0.1 is 62.8, a float is its shortest decimal, a mantissa
//! and exponent are themselves. A value outside the plausible range is passed on unchanged with a flag; one whose
//! registers the device refuses is absent.
use super::{
    plan::{Place, Plan, PlanError},
    point::{Kind, Offset, Order, Point, Scale, Sentinel},
    profile::Profile,
};
use ingest::SampleReading;
use std::fmt::{Display, LowerExp};
use types::{AbsentReason, Decimal, Flags, Timestamp, Value};

/// Exponent register of a signal that is not part of the sample (device-fw/src/registers.rs).
const NOT_IN_SAMPLE: u16 = 0x8000;
/// Exponent register of a signal that was measured without a result.
const NO_DATA: u16 = 0x7fff;
/// Powers of ten that a decimal may have: with ten digits it stays within [`Decimal::MAX_LEN`].
const EXPONENTS: std::ops::RangeInclusive<i16> = -18..=18;

/// A profile with its plan.
#[derive(Debug)]
pub(super) struct Decoder {
    pub(super) profile: std::sync::Arc<Profile>,
    pub(super) plan: Plan,
}

/// What a device with a sample window shows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) health: u16,
    pub(super) device_time: u64,
    pub(super) heartbeat: u16,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    pub(super) pending: u16,
    pub(super) time: Timestamp,
}

/// The guards differ: the registers are of two instants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Torn;

impl Decoder {
    pub(super) fn new(profile: std::sync::Arc<Profile>) -> Result<Self, PlanError> {
        let plan = profile.plan()?;
        Ok(Self { profile, plan })
    }

    /// The readings of the points, in their order. `answers` holds the registers of each read of a plan, the profile's
    /// own or one that leaves out what the device refuses.
    pub(super) fn readings(&self, plan: &Plan, answers: &[Vec<u16>]) -> Vec<SampleReading> {
        let values = self.profile.points.iter().zip(&plan.places);
        values
            .filter_map(|(point, place)| reading(point, words(answers, *place)))
            .collect()
    }

    /// The sample window, unless the profile has none.
    pub(super) fn shown(&self, plan: &Plan, answers: &[Vec<u16>]) -> Option<Result<Shown, Torn>> {
        self.profile.window.as_ref()?;
        let places = plan.places.get(self.profile.points.len()..)?;
        let number = |at: usize| {
            places
                .get(at)
                .map_or(0, |place| unsigned(words(answers, *place).iter().copied()))
        };
        let low = |at: usize| (number(at) & 0xffff) as u16;
        if low(3) != low(8) {
            return Some(Err(Torn));
        }
        Some(Ok(Shown {
            health: low(0),
            device_time: number(1),
            heartbeat: low(2),
            epoch: u32::try_from(number(4)).unwrap_or(u32::MAX),
            seq: number(5),
            pending: low(6),
            time: Timestamp(i64::try_from(number(7)).unwrap_or(i64::MAX)),
        }))
    }
}

fn words(answers: &[Vec<u16>], place: Place) -> &[u16] {
    let answer = answers.get(place.read).map_or(&[][..], Vec::as_slice);
    answer
        .get(place.offset..place.offset + place.count)
        .unwrap_or(&[])
}

/// Words, the most significant first, as a number.
fn unsigned(words: impl Iterator<Item = u16>) -> u64 {
    words.fold(0, |sum, word| sum << 16 | u64::from(word))
}

fn reading(point: &Point, words: &[u16]) -> Option<SampleReading> {
    let value = value(point, words)?;
    let plausible = match (&value, point.range) {
        (Value::Quantity(decimal), Some([low, high])) => {
            (low..=high).contains(&decimal.approximate())
        }
        (Value::Quantity(_) | Value::Absent(_), _) => true,
    };
    let flags = if plausible {
        Flags::NONE
    } else {
        Flags::IMPLAUSIBLE
    };
    Some(SampleReading {
        code: point.code,
        unit: point.unit,
        value,
        flags,
    })
}

/// The value of a point; none when the device says that it is not part of this sample.
fn value(point: &Point, words: &[u16]) -> Option<Value> {
    let byte = |word: u16| {
        if point.byte_order == Order::Little {
            word.swap_bytes()
        } else {
            word
        }
    };
    let number = |words: &[u16]| {
        if point.word_order == Order::Little {
            unsigned(words.iter().rev().copied().map(byte))
        } else {
            unsigned(words.iter().copied().map(byte))
        }
    };
    if words.len() != usize::from(point.kind.registers()) {
        return Some(Value::Absent(AbsentReason::Error));
    }
    if let (Kind::Decimal, [mantissa @ .., exponent]) = (point.kind, words) {
        return decimal(number(mantissa), byte(*exponent));
    }
    let raw = number(words);
    let means_no_data =
        |shown: &dyn Fn(Sentinel) -> bool| point.no_data.iter().any(|it| shown(*it));
    let absent = Value::Absent(AbsentReason::Unknown);
    Some(match point.kind {
        Kind::Bool => Value::Quantity(Decimal::from_parts(i64::from(raw != 0), 0)),
        Kind::F32 => {
            let number = f32::from_bits((raw & 0xffff_ffff) as u32);
            if !number.is_finite() || means_no_data(&|it| it.number() as f32 == number) {
                return Some(absent);
            }
            float(point, &number)
        }
        Kind::F64 => {
            let number = f64::from_bits(raw);
            if !number.is_finite() || means_no_data(&|it| it.number() == number) {
                return Some(absent);
            }
            float(point, &number)
        }
        _ if means_no_data(&|it| it.is_bits(point.kind, raw)) => absent,
        _ => exact(linear(
            integer(point.kind, raw),
            0,
            point.scale,
            point.offset,
        )),
    })
}

/// An integer of its kind's width, with its sign.
fn integer(kind: Kind, raw: u64) -> i128 {
    let signed = matches!(kind, Kind::I16 | Kind::I32 | Kind::I64);
    let bits = kind.bits();
    let negative = signed && raw >> (bits - 1) & 1 == 1;
    i128::from(raw) - if negative { 1 << bits } else { 0 }
}

impl Sentinel {
    /// As a number.
    fn number(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Whether an integer of that kind has these bits.
    fn is_bits(self, kind: Kind, raw: u64) -> bool {
        let mask = u64::MAX >> (64 - kind.bits());
        matches!(self, Self::Integer(value) if value & i128::from(mask) == i128::from(raw))
    }
}

/// The mantissa and power of ten of `mantissa` × 10^`exponent`, scaled and moved; none when it has too many digits.
fn linear(mantissa: i128, exponent: i8, scale: Scale, offset: Offset) -> Option<(i128, i8)> {
    let scaled = mantissa.checked_mul(i128::from(scale.mantissa))?;
    let power = exponent.checked_add(scale.exponent)?;
    if offset.mantissa == 0 {
        return Some((scaled, power));
    }
    let common = power.min(offset.exponent);
    let raised = |mantissa: i128, power: i8| {
        let by = 10_i128.checked_pow(u32::try_from(power.checked_sub(common)?).ok()?)?;
        mantissa.checked_mul(by)
    };
    let moved = raised(i128::from(offset.mantissa), offset.exponent)?;
    Some((raised(scaled, power)?.checked_add(moved)?, common))
}

/// A mantissa and a power of ten, with the digits that the power implies; what has too many is an error.
fn exact(parts: Option<(i128, i8)>) -> Value {
    let text = |(mantissa, exponent): (i128, i8)| {
        if let Ok(small) = i64::try_from(mantissa) {
            return Some(Decimal::from_parts(small, exponent));
        }
        let digits = mantissa.unsigned_abs().to_string();
        let sign = if mantissa < 0 { "-" } else { "" };
        let text = if exponent < 0 {
            // Longer than 19 digits, and so longer than the places behind the point.
            let (whole, fraction) = digits
                .split_at_checked(digits.len().checked_sub(exponent.unsigned_abs().into())?)?;
            format!("{sign}{whole}.{fraction}")
        } else if exponent == 0 {
            format!("{sign}{digits}")
        } else {
            format!("{sign}{digits}e{exponent}")
        };
        text.parse().ok()
    };
    parts
        .and_then(text)
        .map_or(Value::Absent(AbsentReason::Error), Value::Quantity)
}

/// The shortest decimal that is this float and no other, scaled and moved.
fn float(point: &Point, number: &(impl Display + LowerExp)) -> Value {
    let plain = number.to_string();
    let text = if plain.len() > Decimal::MAX_LEN {
        format!("{number:e}")
    } else {
        plain
    };
    let Ok(decimal) = text.parse::<Decimal>() else {
        return Value::Absent(AbsentReason::Error);
    };
    if point.scale == Scale::default() && point.offset == Offset::default() {
        return Value::Quantity(decimal);
    }
    let parts = decimal.to_parts();
    exact(parts.and_then(|(mantissa, exponent)| {
        linear(i128::from(mantissa), exponent, point.scale, point.offset)
    }))
}

#[expect(clippy::cast_possible_truncation, reason = "two words are 32 bits")]
fn decimal(mantissa: u64, exponent: u16) -> Option<Value> {
    match exponent {
        NOT_IN_SAMPLE => return None,
        NO_DATA => return Some(Value::Absent(AbsentReason::Unknown)),
        _ => {}
    }
    let mantissa = i64::from((mantissa as u32).cast_signed());
    let exponent = exponent.cast_signed();
    Some(match i8::try_from(exponent) {
        Ok(small) if EXPONENTS.contains(&exponent) => {
            Value::Quantity(Decimal::from_parts(mantissa, small))
        }
        _ => Value::Absent(AbsentReason::Error),
    })
}

#[cfg(test)]
mod tests;
