//! Signals and decimals as codes and registers.
use super::SimError;
use crate::signal::{Reading, Signal};
use types::{Code, Decimal};

/// The code of a signal.
pub(super) fn code(signal: Signal) -> Result<Code, SimError> {
    Code::of(Code::LOINC, signal.loinc()).map_err(|error| SimError::Config(error.to_string()))
}

/// A decimal as registers; `None` when it does not fit.
pub(super) fn value(decimal: &Decimal) -> Option<Reading> {
    let (mantissa, exponent) = decimal.to_parts()?;
    Some(Reading::Value {
        mantissa: i32::try_from(mantissa).ok()?,
        exponent,
    })
}
