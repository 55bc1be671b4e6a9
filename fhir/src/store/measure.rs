//! Numbers of readings, without the readings: what statistics are made of.
use types::Timestamp;

/// What a reading says, or that it says no number.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// When it was measured.
    pub effective: Option<Timestamp>,
    /// The number.
    pub value: Option<f64>,
    /// The code of its unit.
    pub unit: Option<String>,
}
