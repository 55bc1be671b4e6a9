//! Registers to readings. Pure and exact: a raw 628 with scale 0.1 is 62.8, a float is its shortest decimal, a mantissa
//! and exponent are themselves. A value outside the plausible range is passed on unchanged with a flag.
use super::{
    plan::{Place, Plan, PlanError},
    profile::{Kind, Order, Point, Profile},
};
use crate::ingest::SampleReading;
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

    /// The readings of the points, in their order. `answers` holds the registers of each read of the plan.
    pub(super) fn readings(&self, answers: &[Vec<u16>]) -> Vec<SampleReading> {
        let values = self.profile.points.iter().zip(&self.plan.places);
        values
            .filter_map(|(point, place)| reading(point, words(answers, *place)))
            .collect()
    }

    /// The sample window, unless the profile has none.
    pub(super) fn shown(&self, answers: &[Vec<u16>]) -> Option<Result<Shown, Torn>> {
        self.profile.window.as_ref()?;
        let places = self.plan.places.get(self.profile.points.len()..)?;
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
    if point.kind == Kind::Decimal {
        return decimal(number(&words[..2]), byte(words[2]));
    }
    let raw = number(words);
    Some(match integer(point.kind, raw) {
        Some(raw) if Some(raw) == point.no_data => Value::Absent(AbsentReason::Unknown),
        // At most 2^32 × 9999: it cannot overflow.
        Some(raw) => Value::Quantity(Decimal::from_parts(
            raw * point.scale.mantissa,
            point.scale.exponent,
        )),
        None => float(f32::from_bits((raw & 0xffff_ffff) as u32)),
    })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "each width is cut to itself"
)]
fn integer(kind: Kind, raw: u64) -> Option<i64> {
    match kind {
        Kind::U16 => Some(i64::from(raw as u16)),
        Kind::I16 => Some(i64::from((raw as u16).cast_signed())),
        Kind::U32 => Some(i64::from(raw as u32)),
        Kind::I32 => Some(i64::from((raw as u32).cast_signed())),
        Kind::F32 | Kind::Decimal => None,
    }
}

/// The shortest decimal that is this float and no other; what is not a number is no value.
fn float(number: f32) -> Value {
    if !number.is_finite() {
        return Value::Absent(AbsentReason::Unknown);
    }
    let plain = number.to_string();
    let text = if plain.len() > Decimal::MAX_LEN {
        format!("{number:e}")
    } else {
        plain
    };
    text.parse()
        .map_or(Value::Absent(AbsentReason::Error), Value::Quantity)
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
mod tests {
    use super::*;
    use crate::modbus::profile::{BUILT_IN, Scale};
    use proptest::prelude::*;

    fn point(kind: Kind) -> Point {
        Point {
            code: "8867-4".parse().unwrap(),
            unit: "/min".parse().unwrap(),
            space: super::super::plan::Space::Input,
            address: 0,
            kind,
            word_order: Order::Big,
            byte_order: Order::Big,
            scale: Scale::default(),
            no_data: None,
            range: None,
        }
    }

    fn text(point: &Point, words: &[u16]) -> String {
        match reading(point, words).map(|reading| (reading.value, reading.flags)) {
            None => "none".into(),
            Some((Value::Absent(reason), _)) => reason.as_str().into(),
            Some((Value::Quantity(decimal), flags)) if flags == Flags::NONE => decimal.to_string(),
            Some((Value::Quantity(decimal), _)) => format!("{decimal}!"),
        }
    }

    #[test]
    fn registers_are_read_exactly() {
        for (kind, words, expected) in [
            (Kind::U16, &[0xffff][..], "65535"),
            (Kind::I16, &[0xffff], "-1"),
            (Kind::U32, &[0xffff, 0xfffe], "4294967294"),
            (Kind::I32, &[0xffff, 0xfffe], "-2"),
            (Kind::F32, &[0x4366, 0x3333], "230.2"),
            (Kind::F32, &[0x7fc0, 0], "unknown"),
            (Kind::F32, &[0x7f80, 0], "unknown"),
            (Kind::F32, &[0x7f7f, 0xffff], "3.4028235e38"),
            (Kind::F32, &[0, 1], "1e-45"),
            (Kind::F32, &[0x8000, 0], "-0"),
            (Kind::Decimal, &[0, 9_233, 0xfffe], "92.33"),
            (Kind::Decimal, &[0, 73, 0], "73"),
            (Kind::Decimal, &[0xffff, 0xff4e, 0xffff], "-17.8"),
            (Kind::Decimal, &[0, 11, 3], "11e3"),
            (Kind::Decimal, &[0, 0, NO_DATA], "unknown"),
            (Kind::Decimal, &[0, 0, NOT_IN_SAMPLE], "none"),
            (Kind::Decimal, &[0, 1, 19], "error"),
            (Kind::Decimal, &[0, 1, 0x0100], "error"),
            (Kind::Decimal, &[0, 1], "error"),
            (Kind::U16, &[], "error"),
        ] {
            assert_eq!(text(&point(kind), words), expected, "{kind:?} {words:x?}");
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn orders_scale_sentinel_and_range_are_as_the_profile_says() {
        let tenth = Scale {
            mantissa: 1,
            exponent: -1,
        };
        let half = Scale {
            mantissa: 5,
            exponent: -1,
        };
        let i16 = point(Kind::I16);
        for (point, words, expected) in [
            (
                Point {
                    scale: tenth,
                    ..i16.clone()
                },
                &[628][..],
                "62.8",
            ),
            (
                Point {
                    scale: tenth,
                    ..i16.clone()
                },
                &[630],
                "63.0",
            ),
            (
                Point {
                    scale: half,
                    ..i16.clone()
                },
                &[3],
                "1.5",
            ),
            (
                Point {
                    no_data: Some(-32_768),
                    ..i16.clone()
                },
                &[0x8000],
                "unknown",
            ),
            (
                Point {
                    byte_order: Order::Little,
                    ..i16.clone()
                },
                &[0x0100],
                "1",
            ),
            (
                Point {
                    word_order: Order::Little,
                    ..point(Kind::U32)
                },
                &[1, 0],
                "1",
            ),
            (
                Point {
                    range: Some([0.0, 100.0]),
                    ..i16.clone()
                },
                &[100],
                "100",
            ),
            (
                Point {
                    range: Some([0.0, 100.0]),
                    ..i16.clone()
                },
                &[101],
                "101!",
            ),
            (
                Point {
                    range: Some([0.0, 100.0]),
                    ..i16
                },
                &[0xffff],
                "-1!",
            ),
            (
                Point {
                    word_order: Order::Little,
                    byte_order: Order::Little,
                    ..point(Kind::F32)
                },
                &[0x3333, 0x6643],
                "230.2",
            ),
        ] {
            assert_eq!(text(&point, words), expected, "{words:x?}");
        }
    }

    #[test]
    fn the_real_probes_answers_are_its_temperatures() {
        for (profile, words, expected) in [
            (BUILT_IN[1].1, vec![0x0131, 0x0222], ["30.5", "54.6"]),
            (BUILT_IN[2].1, vec![0x0bea, 0x1554], ["30.50", "54.60"]),
        ] {
            let decoder =
                Decoder::new(std::sync::Arc::new(toml::from_str(profile).unwrap())).unwrap();
            let values: Vec<Value> = decoder
                .readings(&[words])
                .into_iter()
                .map(|reading| reading.value)
                .collect();
            assert_eq!(
                values,
                expected.map(|text| Value::Quantity(text.parse().unwrap()))
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_a_device_answers_becomes_readings_within_their_grammar(words in prop::collection::vec(any::<u16>(), 0..130)) {
            for (_, profile) in BUILT_IN {
                let decoder = Decoder::new(std::sync::Arc::new(toml::from_str(profile).unwrap())).unwrap();
                for reading in decoder.readings(std::slice::from_ref(&words)) {
                    if let Value::Quantity(decimal) = reading.value {
                        prop_assert_eq!(decimal.as_str().parse(), Ok(decimal.clone()));
                    }
                }
                let _ = decoder.shown(std::slice::from_ref(&words));
            }
        }
    }
}
