//! What a bedside monitor measures: its signals, the value of one, and a sample of all of them at one instant.

/// The signals of a bedside monitor, in the order of the registers.
pub const SIGNALS: usize = 12;

/// A signal of the monitor, in the order of the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Signal {
    /// Heart rate.
    HeartRate,
    /// Heart rate by pulse oximetry.
    Pulse,
    /// Respiratory rate.
    RespiratoryRate,
    /// Oxygen saturation by pulse oximetry.
    SpO2,
    /// Arterial oxygen saturation.
    SaO2,
    /// Body temperature.
    Temperature,
    /// Invasive systolic pressure.
    Systolic,
    /// Invasive diastolic pressure.
    Diastolic,
    /// Invasive mean pressure.
    Mean,
    /// Non-invasive systolic pressure.
    CuffSystolic,
    /// Non-invasive diastolic pressure.
    CuffDiastolic,
    /// Non-invasive mean pressure.
    CuffMean,
}

impl Signal {
    /// Every signal, in the order of the registers.
    pub const ALL: [Self; SIGNALS] = [
        Self::HeartRate,
        Self::Pulse,
        Self::RespiratoryRate,
        Self::SpO2,
        Self::SaO2,
        Self::Temperature,
        Self::Systolic,
        Self::Diastolic,
        Self::Mean,
        Self::CuffSystolic,
        Self::CuffDiastolic,
        Self::CuffMean,
    ];

    /// Its LOINC code.
    #[must_use]
    pub const fn loinc(self) -> &'static str {
        match self {
            Self::HeartRate => "8867-4",
            Self::Pulse => "8889-8",
            Self::RespiratoryRate => "9279-1",
            Self::SpO2 => "59408-5",
            Self::SaO2 => "2708-6",
            Self::Temperature => "8310-5",
            Self::Systolic => "76215-3",
            Self::Diastolic => "76213-8",
            Self::Mean => "76214-6",
            Self::CuffSystolic => "76534-7",
            Self::CuffDiastolic => "76535-4",
            Self::CuffMean => "76536-2",
        }
    }
}

/// One value of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// The signal is not part of this sample.
    #[default]
    NotInSample,
    /// The signal was measured and there was nothing: a lead is off.
    NoData,
    /// `mantissa` × 10^`exponent`; (9233, -2) is 92.33.
    Value {
        /// All digits.
        mantissa: i32,
        /// The power of ten.
        exponent: i8,
    },
}

/// What was measured at one instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// The run of the sample counter; begins anew with each restart that lost the counter.
    pub epoch: u32,
    /// The sample within the epoch.
    pub seq: u64,
    /// When it was measured, ms since 1970 by the device's clock.
    pub time_ms: u64,
    /// The values, by [`Signal`].
    pub readings: [Reading; SIGNALS],
}

impl Sample {
    /// Puts a value into its place.
    #[must_use]
    #[expect(
        clippy::indexing_slicing,
        reason = "each signal has a place: there are `SIGNALS` of them"
    )]
    pub fn with(mut self, signal: Signal, reading: Reading) -> Self {
        self.readings[signal as usize] = reading;
        self
    }
}
