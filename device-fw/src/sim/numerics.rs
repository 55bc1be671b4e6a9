//! Replay of a real bedside monitor's numerics (MIMIC-III Waveform Database): one row a minute of raw signed 16-bit
//! values as they stood in its registers, with gaps and zeros left as they are. An empty field is a signal that was not
//! measured in that minute: it is not part of the sample. What cannot be read as such is refused with its line.
use super::{SimError, sample::MonitorSample, survey::Survey};
use crate::signal::{Reading, SIGNALS, Sample, Signal};
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

/// The column that says when: minutes since the first; without it the rows are a minute apart.
const MINUTE: &str = "minute";
/// The latest minute: a recording is shorter than ten years.
const MOST_MINUTES: i64 = 10 * 366 * 24 * 60;

/// Whether a column is one that this reader knows: the minute, the registers of a signal, or a signal in its own unit,
/// which is the register's value once more (`HR[bpm]` beside `HR_raw`).
fn is_known(column: &str) -> bool {
    let signal = |name: &str| {
        COLUMNS
            .iter()
            .any(|(raw, ..)| raw.strip_suffix("_raw") == Some(name))
    };
    let in_unit = column
        .strip_suffix(']')
        .and_then(|name| name.split_once('['));
    column == MINUTE
        || COLUMNS.iter().any(|(raw, ..)| *raw == column)
        || in_unit.is_some_and(|(name, _)| signal(name))
}

/// What a header may name.
fn known() -> String {
    format!("{MINUTE}, {}", COLUMNS.map(|(name, ..)| name).join(", "))
}

/// A row: minute and registers.
pub(super) type Row = (i64, [Reading; SIGNALS]);

/// Reads the file.
pub(super) fn load(path: &Path) -> Result<Vec<Row>, SimError> {
    let bytes = fs::read(path).map_err(SimError::io(path.display().to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let before = error.as_bytes().get(..good).unwrap_or_default();
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        format!("line {line}: not UTF-8")
    });
    text.and_then(|text| parse(&text))
        .map_err(|problem| SimError::Data {
            path: path.into(),
            problem,
        })
}

/// Where in a line the time and the signals are. A signal without a column is not measured by this monitor.
struct Columns {
    minute: Option<usize>,
    signals: Vec<(usize, &'static str, Signal, i8)>,
    all: usize,
}

impl Columns {
    fn of(header: &str) -> Result<Self, String> {
        // Spreadsheets begin their files with a byte order mark.
        let header = header.trim_start_matches('\u{feff}');
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
            let unknown = unknown.escape_default();
            return Err(format!(
                "line 1: column {unknown} is not known: {}",
                known()
            ));
        }
        let find = |name: &str| {
            let mut at = names.iter().enumerate().filter(|(_, one)| **one == name);
            let first = at.next().map(|(at, _)| at);
            match at.next() {
                Some(_) => Err(format!("line 1: column {name} is there twice")),
                None => Ok(first),
            }
        };
        let mut signals = Vec::new();
        for (name, signal, exponent) in COLUMNS {
            signals.extend(find(name)?.map(|at| (at, name, signal, exponent)));
        }
        if signals.is_empty() {
            return Err(format!(
                "line 1: no column of a signal is there: {}",
                known()
            ));
        }
        Ok(Self {
            minute: find(MINUTE)?,
            signals,
            all: names.len(),
        })
    }

    /// A line's row; `index` is its place among the rows.
    fn row(&self, index: i64, line: &str) -> Result<Row, String> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != self.all {
            return Err(format!(
                "{} fields, the header has {}",
                fields.len(),
                self.all
            ));
        }
        let field = |at: usize| fields.get(at).copied().unwrap_or_default();
        let minute = match self.minute {
            None => index,
            Some(at) => field(at)
                .parse()
                .ok()
                .filter(|minute| (0..=MOST_MINUTES).contains(minute))
                .ok_or("the minute is not a number of minutes")?,
        };
        let mut sample = Sample::default();
        for (at, name, signal, exponent) in &self.signals {
            let reading = reading(field(*at), *exponent)
                .ok_or_else(|| format!("{name} is not a register value (-32768 to 32767)"))?;
            sample = sample.with(*signal, reading);
        }
        Ok((minute, sample.readings))
    }
}

/// Reads its text.
pub(super) fn parse(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = (1..).zip(text.lines());
    let (_, header) = lines.next().ok_or("the file is empty")?;
    let columns = Columns::of(header)?;
    let mut rows: Vec<Row> = Vec::new();
    for (index, (number, line)) in (0..).zip(lines) {
        let at = |problem| format!("line {number}: {problem}");
        let row = columns.row(index, line).map_err(at)?;
        if rows.last().is_some_and(|before| before.0 >= row.0) {
            return Err(at("the minute is not after that of the line before".into()));
        }
        rows.push(row);
    }
    if rows.is_empty() {
        return Err("no row after the header".into());
    }
    Ok(rows)
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

/// What is in the rows: a value for each signal that has a field in any of them.
pub(super) fn survey(rows: &[Row]) -> Survey {
    let is_measured = |(_, readings): &&Row, signal: usize| {
        readings
            .get(signal)
            .is_some_and(|reading| *reading != Reading::NotInSample)
    };
    let measured = |signal| rows.iter().filter(|row| is_measured(row, signal)).count() as u64;
    let by_signal = (0..SIGNALS).map(measured).filter(|count| *count > 0);
    let all = rows.len() as u64;
    let (readings, unmeasured) = by_signal.fold((0, 0), |(readings, unmeasured), count| {
        (readings + count, unmeasured + all - count)
    });
    Survey {
        rows: all,
        readings,
        unmeasured,
        ..Survey::default()
    }
}

/// The rows as samples at their minutes.
pub(super) fn samples(
    rows: Arc<[Row]>,
    start: Timestamp,
    patient: Option<Arc<str>>,
) -> impl Iterator<Item = MonitorSample> + Send {
    (0..rows.len()).filter_map(move |row| {
        let (minute, readings) = rows.get(row)?;
        Some(MonitorSample {
            time: start.plus_ms(minute * 60_000),
            patient: patient.clone(),
            readings: *readings,
        })
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
            assert_eq!(rows[0].1[signal as usize], expected);
        }
    }

    #[test]
    fn a_monitor_without_an_arterial_line_replays_at_the_minutes_of_its_rows() {
        let rows = parse("minute,HR_raw,SpO2_raw\n0,628,975\n5,630,\n").unwrap();
        let samples: Vec<_> = samples(rows.into(), Timestamp(0), None).collect();
        let times: Vec<i64> = samples.iter().map(|sample| sample.time.0).collect();
        assert_eq!(times, [0, 300_000]);
        assert_eq!(
            samples[0].readings[Signal::Systolic as usize],
            Reading::NotInSample
        );
    }

    #[test]
    fn the_columns_of_the_data_set_are_known_and_a_byte_order_mark_hides_none() {
        let rows = parse("\u{feff}minute,HR_raw,HR[bpm]\r\n7,628,62.8\r\n").unwrap();
        assert_eq!(rows[0].0, 7);
        assert_ne!(rows[0].1[Signal::HeartRate as usize], Reading::NotInSample);
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_line() {
        for (text, problem) in [
            ("", "the file is empty"),
            ("minute,HR_raw\n", "no row after the header"),
            ("a,b\n1,2\n", "line 1: column a is not known"),
            ("minute\n1\n", "line 1: no column of a signal"),
            ("Minute,HR_raw\n0,1\n", "line 1: column Minute is not known"),
            (
                "HR_raw,SPO2_raw\n1,2\n",
                "line 1: column SPO2_raw is not known",
            ),
            (
                "HR_raw,XX[bpm]\n1,2\n",
                "line 1: column XX[bpm] is not known",
            ),
            (
                "HR_raw,HR_raw\n1,2\n",
                "line 1: column HR_raw is there twice",
            ),
            ("HR_raw\n628\nx\n", "line 3: HR_raw is not a register value"),
            ("HR_raw\n40000\n", "line 2: HR_raw is not a register value"),
            (
                "HR_raw,SpO2_raw\n628\n",
                "line 2: 1 fields, the header has 2",
            ),
            ("HR_raw\n628,5\n", "line 2: 2 fields, the header has 1"),
            (
                "minute,HR_raw\n0,1\n5,2\n3,3\n",
                "line 4: the minute is not after",
            ),
            (
                "minute,HR_raw\n-1,1\n",
                "line 2: the minute is not a number",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(problem), "{text:?}: {error}");
        }
    }
}
