//! Floating-point numbers stored by their bits: a state that is read again is the same to the last bit, whatever the
//! format makes of decimal digits.
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use serde_json::Number;
use std::collections::BTreeMap;

/// For `#[serde(with)]` on vectors of 32-bit numbers.
pub(crate) mod single {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f32], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| value.to_bits()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f32>, D::Error> {
        let bits = Vec::<u32>::deserialize(from)?;
        Ok(bits.into_iter().map(f32::from_bits).collect())
    }
}

/// For `#[serde(with)]` on vectors of 64-bit numbers; their bits as signed numbers, since TOML has no other.
pub(crate) mod double {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(values.iter().map(|value| value.to_bits().cast_signed()))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let bits = Vec::<i64>::deserialize(from)?;
        let value = |bits: i64| f64::from_bits(bits.cast_unsigned());
        Ok(bits.into_iter().map(value).collect())
    }
}

/// For `#[serde(deserialize_with)]`: a number of a JSON text that is read to its last digit.
pub(crate) fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let number = Number::deserialize(from)?.as_f64();
    number.ok_or_else(|| D::Error::custom("a number is needed"))
}

/// As [`number`], where there may be none.
pub(crate) fn maybe<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let number = Option::<Number>::deserialize(from)?;
    Ok(number.and_then(|number| number.as_f64()))
}

/// As [`number`], for the values of a map.
pub(crate) fn map<'de, K, D>(from: D) -> Result<BTreeMap<K, f64>, D::Error>
where
    K: Deserialize<'de> + Ord,
    D: Deserializer<'de>,
{
    let numbers = BTreeMap::<K, Number>::deserialize(from)?;
    let whole = |(key, number): (K, Number)| Some((key, number.as_f64()?));
    Ok(numbers.into_iter().filter_map(whole).collect())
}
