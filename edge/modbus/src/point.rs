//! One value of a profile: which registers or bits it stands in, and how they are read as a number.
use super::plan::{Limits, Space, Span as Registers, plan};
use serde::{Deserialize, Deserializer, de};
use types::{Code, Decimal, Unit};

/// Values that mean no data, of one point at most.
const MAX_SENTINELS: usize = 16;

/// One value.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// What it measures.
    pub code: Code,
    /// In which unit.
    pub unit: Unit,
    /// Which registers.
    #[serde(default)]
    pub space: Space,
    /// The address of the first one, from 0 as in the frame.
    pub address: u16,
    /// How the registers are read.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Which register of several comes first.
    #[serde(default)]
    pub word_order: Order,
    /// Which byte of a register comes first. The protocol says the most significant; some devices do not.
    #[serde(default)]
    pub byte_order: Order,
    /// One raw unit in the point's unit: `"0.1"` makes 62.8 of 628.
    #[serde(default)]
    pub scale: Scale,
    /// Added to the scaled value: `"-40"` makes 22.8 of 628 with the scale 0.1.
    #[serde(default)]
    pub offset: Offset,
    /// What the registers show when there is no value: one or several numbers before scale and offset. An integer is
    /// meant as the device's manual writes it: 65535, 0xffff and -1 are the same register.
    #[serde(default, deserialize_with = "sentinels")]
    pub no_data: Vec<Sentinel>,
    /// The smallest and the largest plausible value. Others are passed on unchanged, with a flag.
    #[serde(default)]
    pub range: Option<[f64; 2]>,
}

/// How registers are read as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One register, unsigned.
    U16,
    /// One register, two's complement.
    I16,
    /// Two registers, unsigned.
    U32,
    /// Two registers, two's complement.
    I32,
    /// Four registers, unsigned.
    U64,
    /// Four registers, two's complement.
    I64,
    /// Two registers, IEEE 754 single precision.
    F32,
    /// Four registers, IEEE 754 double precision.
    F64,
    /// One coil or discrete input: 0 or 1.
    Bool,
    /// Three registers: mantissa (two's complement, two) and decimal exponent (one), with the markers of
    /// `device-fw/src/registers.rs`.
    Decimal,
}

impl Kind {
    /// How many registers, or coils.
    #[must_use]
    pub const fn registers(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::Bool => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::Decimal => 3,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
    }

    const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }

    /// Whether it is a plain number, with scale, offset and values that mean no data.
    const fn is_number(self) -> bool {
        !matches!(self, Self::Bool | Self::Decimal)
    }

    /// Bits of an integer.
    pub(super) const fn bits(self) -> u32 {
        16 * self.registers() as u32
    }
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// The most significant part.
    #[default]
    Big,
    /// The least significant part.
    Little,
}

/// A decimal factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Its digits, 1 to 9999.
    pub mantissa: i64,
    /// Its power of ten, -9 to 9.
    pub exponent: i8,
}

impl Default for Scale {
    fn default() -> Self {
        Self {
            mantissa: 1,
            exponent: 0,
        }
    }
}

impl<'de> Deserialize<'de> for Scale {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("write a scale as a decimal in quotes, such as \"0.1\"");
        let text = String::deserialize(deserializer)?;
        let decimal: Decimal = text.parse().map_err(|_| wrong())?;
        let (mantissa, exponent) = decimal.to_parts().ok_or_else(wrong)?;
        if !(1..=9_999).contains(&mantissa) || !(-9..=9).contains(&exponent) {
            return Err(wrong());
        }
        Ok(Self { mantissa, exponent })
    }
}

/// What is added to a scaled value, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Its digits, 12 at most.
    pub mantissa: i64,
    /// Its power of ten, -9 to 9.
    pub exponent: i8,
}

impl<'de> Deserialize<'de> for Offset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("write an offset as a decimal in quotes, such as \"-40\"");
        let text = String::deserialize(deserializer)?;
        let decimal: Decimal = text.parse().map_err(|_| wrong())?;
        let (mantissa, exponent) = decimal.to_parts().ok_or_else(wrong)?;
        if mantissa.unsigned_abs() >= 1_000_000_000_000 || !(-9..=9).contains(&exponent) {
            return Err(wrong());
        }
        Ok(Self { mantissa, exponent })
    }
}

/// A number in the registers that means that there is no value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sentinel {
    /// Of an integer: its bits, written with or without sign. Of a float: its value.
    Integer(i128),
    /// Of a float.
    Float(f64),
}

impl<'de> Deserialize<'de> for Sentinel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Integer(i64),
            Float(f64),
            /// TOML's integers end at 2^63 − 1, and those of registers at 2^64 − 1.
            Text(String),
        }
        let of_text = |text: &str| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        Ok(match Written::deserialize(deserializer)? {
            Written::Integer(value) => Self::Integer(value.into()),
            Written::Float(value) => Self::Float(value),
            Written::Text(text) => Self::Integer(of_text(&text).map_err(de::Error::custom)?.into()),
        })
    }
}

/// One sentinel, or a list of them.
fn sentinels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Sentinel>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Some {
        One(Sentinel),
        Many(Vec<Sentinel>),
    }
    let wrong = |_| de::Error::custom("write a number, or several as [-32768, 32767]");
    Ok(match Some::deserialize(deserializer).map_err(wrong)? {
        Some::One(one) => vec![one],
        Some::Many(many) => many,
    })
}

impl Sentinel {
    /// Whether registers of this kind can show it.
    fn fits(self, kind: Kind) -> bool {
        match self {
            Self::Integer(_) if kind.is_float() => true,
            Self::Integer(value) => {
                let bits = kind.bits();
                (-(1 << (bits - 1))..1 << bits).contains(&value)
            }
            Self::Float(value) => kind.is_float() && value.is_finite(),
        }
    }
}

impl Point {
    pub(super) const fn span(&self) -> Registers {
        Registers {
            space: self.space,
            address: self.address,
            count: self.kind.registers(),
        }
    }

    /// What is wrong with it: key and message. `windowed` says whether the profile has a sample window.
    pub(super) fn problems(
        &self,
        limits: Limits,
        windowed: bool,
    ) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if (self.kind == Kind::Bool) != self.space.is_bits() {
            found.push((
                "type",
                "is bool for a coil or discrete input, and for nothing else",
            ));
        }
        if self.kind == Kind::Decimal && !windowed {
            found.push(("type", "a decimal needs a window"));
        }
        if !self.kind.is_number() && self.scale != Scale::default() {
            found.push(("scale", "only integers and floats have a scale"));
        }
        if !self.kind.is_number() && self.offset != Offset::default() {
            found.push(("offset", "only integers and floats have an offset"));
        }
        if !self.no_data.is_empty() && !self.kind.is_number() {
            found.push((
                "no_data",
                "only integers and floats have a value that means no data",
            ));
        } else if !self.no_data.iter().all(|value| value.fits(self.kind)) {
            found.push(("no_data", "is not a number that these registers can show"));
        }
        if self.no_data.len() > MAX_SENTINELS {
            found.push(("no_data", "are at most 16"));
        }
        if self
            .range
            .is_some_and(|[low, high]| !(low.is_finite() && high.is_finite() && low <= high))
        {
            found.push(("range", "the smaller value comes first"));
        }
        if !self.code.is_measured_in(self.unit) {
            found.push(("unit", "is not the unit of this code"));
        }
        let alone = Limits {
            max_gap: 0,
            ..limits
        };
        if plan(&[self.span()], alone).is_err() {
            found.push(("address", "the registers do not fit into one request"));
        }
        found
    }
}
