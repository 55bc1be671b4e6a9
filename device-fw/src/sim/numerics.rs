//! Replay of a real bedside monitor's numerics (MIMIC-III Waveform Database): one row a minute of raw signed 16-bit
//! values as they stood in its registers, with gaps and zeros left as they are. An empty field is a signal that was not
//! measured in that minute: it is not part of the sample.
use super::{SimError, feed::MonitorSample};
use crate::{
    registers::Signal,
    window::{Reading, SIGNALS, Sample},
};
use std::{fs, path::Path, sync::Arc};
use types::Timestamp;

/// The raw value of no data.
const NONE: i16 = i16::MIN;

/// Column, signal and decimal exponent of the raw value.
const COLUMNS: [(&str, Signal, i8); 10] = [
    ("HR_raw", Signal::HeartRate, -1),
    ("PULSE_raw", Signal::Pulse, -1),
    ("RESP_raw", Signal::RespiratoryRate, -1),
    ("SpO2_raw", Signal::SpO2, -1),
    ("ABPSys_raw", Signal::Systolic, -1),
    ("ABPDias_raw", Signal::Diastolic, -1),
    ("ABPMean_raw", Signal::Mean, -1),
    ("NBPSys_raw", Signal::CuffSystolic, 0),
    ("NBPDias_raw", Signal::CuffDiastolic, 0),
    ("NBPMean_raw", Signal::CuffMean, 0),
];

/// Reads the file: one row of registers a minute.
pub(super) fn load(path: &Path) -> Result<Vec<[Reading; SIGNALS]>, SimError> {
    let text = fs::read_to_string(path).map_err(SimError::io(path.display().to_string()))?;
    parse(&text).map_err(|problem| SimError::Data {
        path: path.into(),
        problem,
    })
}

fn parse(text: &str) -> Result<Vec<[Reading; SIGNALS]>, String> {
    let mut lines = text.lines();
    let header: Vec<&str> = lines
        .next()
        .ok_or("the file is empty")?
        .split(',')
        .collect();
    let mut columns = Vec::new();
    for (name, signal, exponent) in COLUMNS {
        let at = header.iter().position(|column| *column == name);
        columns.push((
            at.ok_or_else(|| format!("column {name} is missing"))?,
            signal,
            exponent,
        ));
    }
    let row = |(number, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(',').collect();
        let mut sample = Sample::default();
        for (at, signal, exponent) in &columns {
            let reading = fields.get(*at).and_then(|text| reading(text, *exponent));
            let wrong = || format!("line {}: not a register value", number + 2);
            sample = sample.with(*signal, reading.ok_or_else(wrong)?);
        }
        Ok(sample.readings)
    };
    lines.enumerate().map(row).collect()
}

/// A field of the file; none when it holds no register value.
fn reading(field: &str, exponent: i8) -> Option<Reading> {
    if field.is_empty() {
        return Some(Reading::NotInSample);
    }
    Some(match field.parse().ok()? {
        NONE => Reading::NoData,
        raw => Reading::Value {
            mantissa: i32::from(raw),
            exponent,
        },
    })
}

/// The rows as samples, a minute apart.
pub(super) fn samples(
    rows: Arc<[[Reading; SIGNALS]]>,
    start: Timestamp,
    patient: Option<Arc<str>>,
) -> impl Iterator<Item = MonitorSample> + Send {
    (0..rows.len())
        .zip(0_i64..)
        .map(move |(row, minute)| MonitorSample {
            time: start.plus_ms(minute * 60_000),
            patient: patient.clone(),
            readings: rows[row],
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_no_data_and_zeros_stay_zeros() {
        let text = "minute,HR_raw,ABPSys_raw,ABPDias_raw,ABPMean_raw,PULSE_raw,RESP_raw,SpO2_raw,NBPSys_raw,NBPDias_raw,NBPMean_raw\n\
                    0,628,0,-5,0,0,230,975,-32768,,99\n";
        let rows = parse(text).unwrap();
        let value = |mantissa, exponent| Reading::Value { mantissa, exponent };
        for (signal, expected) in [
            (Signal::HeartRate, value(628, -1)),
            (Signal::Systolic, value(0, -1)),
            (Signal::Diastolic, value(-5, -1)),
            (Signal::CuffSystolic, Reading::NoData),
            (Signal::CuffMean, value(99, 0)),
            (Signal::CuffDiastolic, Reading::NotInSample),
            (Signal::Temperature, Reading::NotInSample),
        ] {
            assert_eq!(rows[0][signal as usize], expected);
        }
        assert!(parse("minute,HR_raw\n").is_err());
        assert!(parse(&text.replace("628", "x")).is_err());
        assert!(parse(&text.replace("628", "40000")).is_err());
    }
}
