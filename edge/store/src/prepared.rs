//! A sample on its way into the store: checked, packed and hashed, with its number and whom it may belong to.
use super::{
    Entropy, pack,
    uids::{UidKey, Uids},
};
use ingest::{OUT_OF_RANGE, Rejected, Sample, SampleReading, Urgency, patient_id};
use node::trace::{Name, Open, of_source};
use std::time::Instant;
use types::{DeviceId, Phi, Timestamp};

/// The epoch of samples that the edge itself makes for a device, such as the alarm that its values went stale.
/// No device may use it.
pub const EDGE_EPOCH: u32 = u32::MAX;
/// A sample that the edge makes itself; the store gives it its sequence number in [`EDGE_EPOCH`].
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSample {
    /// The device that it is about.
    pub device: DeviceId,
    /// What it is about: the instant (mesh time).
    pub source_time: Timestamp,
    /// The patient whom the device named with the value that this is about. An alarm belongs to whom its value
    /// belonged to: of another patient, or of none, its time would be moved by another shift than the value's, and
    /// whoever has both would know the patient's.
    pub patient: Option<Phi<String>>,
    /// When that value was measured: where the device named nobody, it belongs to whoever lay in its bed then.
    pub owned_at: Timestamp,
    /// The readings.
    pub readings: Vec<SampleReading>,
}

/// Which numbers a sample has: its device's, or the next that the edge gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Device { epoch: u32, seq: i64 },
    Edge,
}

/// A sample as the writer takes it.
pub(super) struct Prepared {
    pub device: DeviceId,
    pub number: Number,
    pub source_time: Timestamp,
    pub patient: Option<Phi<String>>,
    /// When the bed is looked at for the patient, if the device named none.
    pub owned_at: Timestamp,
    pub urgency: Urgency,
    pub readings: Vec<SampleReading>,
    pub packed: Vec<u8>,
    pub digest: [u8; pack::DIGEST],
    /// When it came in.
    pub arrived: Instant,
    /// Its way into the store, where it is traced.
    pub trace: Option<Open>,
}

/// What can never be stored is refused before it costs anybody a place in the queue.
pub(super) fn prepare(mut sample: Sample, key: &UidKey) -> Result<Prepared, Rejected> {
    if sample.epoch == EDGE_EPOCH {
        return Err(Rejected::Invalid("the epoch is reserved for the edge"));
    }
    if sample.readings.is_empty() || sample.readings.len() > Sample::MAX_READINGS {
        return Err(Rejected::Invalid("a sample has 1 to 256 readings"));
    }
    if !sample.source_time.is_measurable() {
        return Err(Rejected::Invalid(OUT_OF_RANGE));
    }
    if !sample.patient.as_ref().is_none_or(patient_id_fits) {
        return Err(Rejected::Invalid(patient_id::PROBLEM));
    }
    let seq = i64::try_from(sample.seq)
        .map_err(|_| Rejected::Invalid("a sequence number is below 2^63"))?;
    let foreign = |reading: &SampleReading| !reading.code.is_measured_in(reading.unit);
    if sample.readings.iter().any(foreign) {
        return Err(Rejected::Invalid(
            "a unit in which the code is not measured",
        ));
    }
    // Of what the device said: a redelivery is the same sample, whatever is plausible by then.
    let (digest, uids) = (pack::digest(&sample), key.of_sample(&sample));
    for reading in &mut sample.readings {
        let flags = reading.code.flags_of(reading.unit, &reading.value);
        reading.flags = reading.flags.with(flags);
    }
    Ok(Prepared {
        number: Number::Device {
            epoch: sample.epoch,
            seq,
        },
        packed: pack::pack(&sample.readings, &uids),
        digest,
        device: sample.device,
        source_time: sample.source_time,
        patient: sample.patient,
        owned_at: sample.source_time,
        urgency: sample.urgency,
        readings: sample.readings,
        arrived: Instant::now(),
        trace: of_source(Name::StoreCommit),
    })
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a patient id can be one, nothing else"
)]
fn patient_id_fits(id: &Phi<String>) -> bool {
    patient_id::is_one(id.expose())
}

/// An alarm that the edge raises about a device.
pub(super) fn prepare_edge(sample: EdgeSample, entropy: Entropy) -> Prepared {
    let packed = pack::pack(&sample.readings, &Uids::Drawn(entropy));
    let named = sample.patient.is_some();
    Prepared {
        device: sample.device,
        number: Number::Edge,
        source_time: sample.source_time,
        patient: sample.patient,
        owned_at: sample.owned_at,
        urgency: Urgency::Alarm,
        digest: digest_of_edge(named, sample.owned_at),
        readings: sample.readings,
        packed,
        arrived: Instant::now(),
        trace: None,
    }
}

/// Marks a sample of the edge's own that belongs to whom the device named, or to whoever lay in its bed.
const NAMED: u8 = 2;
const BY_BED: u8 = 1;

/// What stands for a digest of a sample of the edge's own, whose number is new, so that it is compared with nothing: by
/// what it belongs to somebody, and since when.
fn digest_of_edge(named: bool, owned_at: Timestamp) -> [u8; pack::DIGEST] {
    let mut digest = [0; pack::DIGEST];
    digest[0] = if named { NAMED } else { BY_BED };
    digest[pack::DIGEST - 8..].copy_from_slice(&owned_at.0.to_le_bytes());
    digest
}

/// Of a sample of the edge's own: the instant at which its bed is looked at for the patient, ms since 1970; none when
/// the device named the patient, and for what an earlier version wrote.
pub(super) fn owned_at_of_edge(digest: &[u8; pack::DIGEST]) -> Option<i64> {
    let (_, time) = digest.split_last_chunk::<8>()?;
    (digest[0] == BY_BED).then_some(i64::from_le_bytes(*time))
}

/// Stands for the digest of a sample of the edge's own that was withdrawn and moves no more.
pub const WITHDRAWN_FOR_GOOD: [u8; pack::DIGEST] = [3; pack::DIGEST];
