//! Emission: when mesh time reaches a sample's time it is logged, then given to the device, which shows it until it is
//! acknowledged.
use super::{
    RING, SimError,
    clock::SimClock,
    convert::{code, value},
    sample::{Feed, MonitorSample},
    sent::{Emitted, Line, SentLog},
    station::Station,
};
use crate::signal::{Reading, Sample, Signal};
use std::sync::Arc;
use types::{AbsentReason, Code, Decimal, DeviceKind, Timestamp, Value};

/// Emits a monitor's samples; ends when the last one has been acknowledged.
pub(super) async fn monitor(
    station: Arc<Station>,
    feed: Feed<MonitorSample>,
    sent: Arc<SentLog>,
    clock: SimClock,
) -> Result<(), SimError> {
    let mut earlier = sent.earlier(&station.id);
    for lines in earlier.last(RING) {
        station.push(shown(&lines)?);
    }
    let skip = if feed.replay { earlier.samples } else { 0 };
    let mut seq = 0;
    let mut last: Option<Timestamp> = None;
    let (replay, feed_samples) = (feed.replay, feed.samples);
    let samples = feed_samples.skip(usize::try_from(skip).unwrap_or(usize::MAX));
    for sample in samples {
        let readings = logged(&sample.readings)?;
        if readings.is_empty() {
            continue;
        }
        clock.reached(sample.time).await;
        // A replay is of what was measured once; a simulated patient is measured as often as the monitor is told.
        let interval = station.interval_ms();
        if !replay && last.is_some_and(|last| sample.time.since(last) < interval) {
            continue;
        }
        last = Some(sample.time);
        room(&station).await;
        seq += 1;
        sent.append(&Emitted {
            device: &station.id,
            kind: DeviceKind::BedsideMonitor,
            seq,
            time: sample.time,
            patient: sample.patient.as_deref(),
            readings: &readings,
        })?;
        station.push(Sample {
            epoch: sent.epoch(),
            seq,
            time_ms: u64::try_from(sample.time.0).unwrap_or(0),
            readings: sample.readings,
        });
    }
    while station.waiting().0 > 0 {
        station.acknowledged.notified().await;
    }
    Ok(())
}

/// Waits for room: the simulator holds back what a real device would have to drop.
async fn room(station: &Station) {
    while station.waiting().1 {
        station.acknowledged.notified().await;
    }
}

/// The readings of a sample as codes and values, in the order of the registers.
fn logged(readings: &[Reading]) -> Result<Vec<(Code, Value)>, SimError> {
    let present = Signal::ALL
        .iter()
        .zip(readings)
        .filter_map(|(signal, reading)| match reading {
            Reading::NotInSample => None,
            Reading::NoData => Some((signal, Value::Absent(AbsentReason::Unknown))),
            Reading::Value { mantissa, exponent } => {
                let decimal = Decimal::from_parts(i64::from(*mantissa), *exponent);
                Some((signal, Value::Quantity(decimal)))
            }
        });
    present
        .map(|(signal, value)| Ok((code(*signal)?, value)))
        .collect()
}

/// A sample as it was shown in an earlier run, from its lines.
fn shown(lines: &[Line]) -> Result<Sample, SimError> {
    let bad =
        || SimError::Config("sent.ndjson holds a line of a monitor that no monitor emits".into());
    let first = lines.first().ok_or_else(bad)?;
    let time: Timestamp = first.time.parse().map_err(|_| bad())?;
    let mut sample = Sample {
        epoch: first.epoch,
        seq: first.seq,
        time_ms: u64::try_from(time.0).unwrap_or(0),
        ..Sample::default()
    };
    for line in lines {
        let info = line.code.info();
        let signal = Signal::ALL
            .into_iter()
            .find(|signal| signal.loinc() == info.code)
            .ok_or_else(bad)?;
        let reading = match &line.value {
            None => Reading::NoData,
            Some(text) => value(&text.parse().map_err(|_| bad())?).ok_or_else(bad)?,
        };
        sample = sample.with(signal, reading);
    }
    Ok(sample)
}
