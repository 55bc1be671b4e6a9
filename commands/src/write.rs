//! What a command writes to a Modbus device: a holding register, several, or a coil.
use crate::{
    Reason, Value,
    parameter::{Kind, Parameter},
};
use serde::Deserialize;
use std::collections::BTreeMap;
use types::Name;

/// A write to a Modbus device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    /// The parameter whose value is written; nothing is written when it was left out.
    #[serde(default)]
    pub parameter: Option<Name>,
    /// A number that is written instead.
    #[serde(default)]
    pub constant: Option<u32>,
    /// Address of the (first) holding register, or of the coil.
    pub address: u16,
    /// Registers, the most significant first: 1, 2 or 4. 0 writes a coil.
    #[serde(default = "one")]
    pub words: u8,
    /// The written number is the value divided by this; spans are in milliseconds.
    #[serde(default = "one_u32")]
    pub per: u32,
    /// Whether the device shows afterwards what was written; then it is read back and must be the same.
    #[serde(default = "yes")]
    pub read_back: bool,
    /// Whether it goes in one request with the write before it, where that is done too: the device takes both or neither.
    #[serde(default)]
    pub joined: bool,
}

const fn one() -> u8 {
    1
}

const fn one_u32() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

impl Write {
    /// Whether the registers of another write begin where its own end, so that one request can carry both.
    #[must_use]
    pub fn meets(&self, next: &Self) -> bool {
        let end = u32::from(self.address) + u32::from(self.words);
        self.words > 0
            && next.words > 0
            && end == u32::from(next.address)
            && self.read_back == next.read_back
    }

    /// What is wrong with it in a command whose parameters have these kinds, with the key.
    pub(crate) fn problems(
        &self,
        kind_of: impl Fn(&str) -> Option<Kind>,
    ) -> Vec<(&'static str, &'static str)> {
        let mut found = Vec::new();
        if !matches!(self.words, 0 | 1 | 2 | 4) {
            found.push(("words", "are 1, 2 or 4 registers, or 0 for a coil"));
        }
        if u32::from(self.address) + u32::from(self.words.max(1)) > 1 << 16 {
            found.push(("address", "the registers end behind 65535"));
        }
        if self.per == 0 {
            found.push(("per", "is at least 1"));
        }
        match (&self.parameter, self.constant) {
            (Some(name), None) => match kind_of(name.as_str()) {
                None => found.push(("parameter", "the command has no such parameter")),
                Some(Kind::Choice | Kind::Decimal) => {
                    found.push(("parameter", "is a span, a whole number or a flag"));
                }
                Some(Kind::Span | Kind::Integer | Kind::Flag) => {}
            },
            (None, Some(_)) => {}
            _ => found.push(("parameter", "a write has a parameter or a constant")),
        }
        found
    }

    /// What the registers cannot hold of what its parameter, or its constant, may be, with the key.
    pub(crate) fn unheld(
        &self,
        parameter: Option<&Parameter>,
    ) -> Option<(&'static str, &'static str)> {
        if let Some(constant) = self.constant {
            let fits = self.words == 0 || u64::from(constant) <= self.greatest();
            return (!fits).then_some(("constant", "is more than its registers hold"));
        }
        let (low, high) = parameter?.whole_range()?;
        if low < 0 {
            return Some((
                "parameter",
                "its range begins below 0, and registers hold no such number",
            ));
        }
        let high = u64::try_from(high).unwrap_or(0) / u64::from(self.per.max(1));
        (high > self.greatest()).then_some((
            "words",
            "hold less than the greatest value of the parameter, divided by `per`",
        ))
    }

    /// The greatest number that its registers, or its coil, hold.
    fn greatest(&self) -> u64 {
        match self.words {
            0 => 1,
            words => u64::MAX >> (64 - 16 * u32::from(words.min(4))),
        }
    }

    /// The number to write; none when its parameter was left out.
    ///
    /// # Errors
    /// [`Reason::OverRange`] for a value that the registers cannot hold exactly: nothing of it is cut off.
    pub fn number(&self, parameters: &BTreeMap<String, Value>) -> Result<Option<u64>, Reason> {
        if let Some(number) = self.constant {
            return Ok(Some(u64::from(number)));
        }
        let name = self.parameter.as_ref();
        let Some(value) = name.and_then(|name| parameters.get(name.as_str())) else {
            return Ok(None);
        };
        let whole: Option<u64> = match value {
            Value::Flag(flag) => Some(u64::from(*flag)),
            Value::Text(_) => value.span_ms(),
            Value::Number(number) => number.as_str().parse().ok(),
        };
        let (whole, per) = (whole.ok_or(Reason::OverRange)?, u64::from(self.per.max(1)));
        if whole.is_multiple_of(per) && whole / per <= self.greatest() {
            Ok(Some(whole / per))
        } else {
            Err(Reason::OverRange)
        }
    }
}
