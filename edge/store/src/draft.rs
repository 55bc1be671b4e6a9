//! The readings of one commit and one priority on their way into a parcel for the region.
use super::{
    Entropy,
    directory::{DeviceEntry, PatientEntry},
    pack,
    prepared::Prepared,
};
use crate::deid;
use federation::profile::Profile;
use ingest::SampleReading;
use messages::{Reading, ReadingBatch, reading};
use node::trace::{Context, Open};
use std::{collections::HashMap, time::Instant};
use types::{DevicePseudonym, Flags, Timestamp, Value};

/// Readings in one parcel: a region writes them in one transaction of its own, which must stay short.
pub(super) const MAX_READINGS: usize = 4_096;
/// Bytes of a parcel's body, about: half of what a parcel may hold, since this is an estimate.
pub(super) const MAX_BYTES: usize = federation::envelope::MAX_BODY_BYTES / 2;
/// Bytes that a reading takes on the wire beside its texts.
const READING_BYTES: usize = 48;

/// Whether a reading stands, or is taken back as of the wrong patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    Withdrawn,
}

/// The device with what it is called for this stay, and the patient.
pub(super) type Whose<'a> = ((&'a DeviceEntry, DevicePseudonym), Option<&'a PatientEntry>);

/// Whether a reading may ever leave its facility.
fn may_leave(reading: &SampleReading) -> bool {
    !reading.code.info().of_facility_alone
}

/// Whether anything of a sample may: of one that holds nothing else not even the time and the patient are told.
pub(super) fn leaves(sample: &Prepared) -> bool {
    sample.readings.iter().any(may_leave)
}

/// A batch that grows. What enters it has left its PHI behind.
#[derive(Default)]
pub(super) struct Draft {
    batch: ReadingBatch,
    devices: HashMap<DevicePseudonym, u32>,
    patients: HashMap<i64, u32>,
    bytes: usize,
    /// When its first sample arrived.
    first: Option<Instant>,
    /// The trace of the first traced sample in it: that which goes on with the parcel.
    trace: Option<Context>,
}

impl Draft {
    /// Whether another sample of that many readings would exceed the bounds of a parcel.
    pub(super) fn is_full_for(&self, readings: usize) -> bool {
        !self.batch.readings.is_empty()
            && (self.batch.readings.len() + readings > MAX_READINGS || self.bytes > MAX_BYTES)
    }

    /// Adds a sample's readings.
    pub(super) fn push(
        &mut self,
        (device, pseudonym): (&DeviceEntry, DevicePseudonym),
        patient: Option<&PatientEntry>,
        sample: &Prepared,
        arrival: Flags,
        when: (Profile, Timestamp),
    ) {
        let whose = ((device, pseudonym), patient);
        let packing = (sample, &sample.packed[..]);
        self.push_as(Standing::Good, whose, packing, arrival, when);
    }

    /// Adds a sample's readings, under the ids of a packing of them.
    pub(super) fn push_as(
        &mut self,
        standing: Standing,
        ((device, pseudonym), patient): Whose<'_>,
        (sample, packed): (&Prepared, &[u8]),
        arrival: Flags,
        (profile, now): (Profile, Timestamp),
    ) {
        if !leaves(sample) {
            return;
        }
        self.first.get_or_insert(sample.arrived);
        self.trace = self.trace.or(sample.trace.as_ref().map(Open::context));
        let effective = moved(sample.source_time, device, patient, profile);
        let device = self.device(device, pseudonym);
        let patient = patient.map_or(0, |patient| self.patient(patient, now));
        for (index, reading) in sample.readings.iter().enumerate() {
            let uid = pack::uid(packed, index).filter(|_| may_leave(reading));
            let Some(uid) = uid else {
                continue;
            };
            let value = match reading.code.leaving(reading.unit, reading.value.clone()) {
                Value::Quantity(decimal) => reading::Value::Quantity(decimal.as_str().into()),
                Value::Absent(reason) => reading::Value::Absent(reason.as_str().into()),
            };
            let code = reading.code.to_string();
            self.bytes += READING_BYTES + code.len() + reading.unit.as_str().len();
            self.batch.readings.push(Reading {
                uid: uid.as_bytes().to_vec().into(),
                device,
                patient,
                code,
                unit: reading.unit.as_str().into(),
                value: Some(value),
                effective_ms: effective.0,
                flags: u32::from(reading.flags.with(arrival).bits()),
                withdrawn: standing == Standing::Withdrawn,
            });
        }
    }

    /// The trace that goes on with it.
    pub(super) const fn trace(&self) -> Option<Context> {
        self.trace
    }

    /// Adds a patient without readings.
    pub(super) fn tell(&mut self, patient: &PatientEntry, now: Timestamp) {
        self.patient(patient, now);
    }

    /// The message, and when its first sample arrived. With the salt nobody who knows its readings can find their
    /// parcel by the digest that audit logs hold, with a true time beside it.
    pub(super) fn finish(mut self, entropy: Entropy) -> (ReadingBatch, Option<Instant>) {
        let mut salt = [0; 16];
        entropy(&mut salt);
        self.batch.salt = salt.to_vec().into();
        (self.batch, self.first)
    }

    fn device(&mut self, device: &DeviceEntry, pseudonym: DevicePseudonym) -> u32 {
        let devices = &mut self.batch.devices;
        *self.devices.entry(pseudonym).or_insert_with(|| {
            devices.push(deid::clinical_device(
                pseudonym,
                device.facts.kind,
                device.facts.serial.as_ref(),
            ));
            position(devices.len() - 1)
        })
    }

    fn patient(&mut self, patient: &PatientEntry, now: Timestamp) -> u32 {
        let patients = &mut self.batch.patients;
        *self.patients.entry(patient.row).or_insert_with(|| {
            patients.push(deid::clinical_patient(
                patient.pseudonym,
                &patient.record,
                now,
            ));
            position(patients.len())
        })
    }
}

/// The time as it leaves: moved by the patient's constant, or by the device's where it is of no patient. Were it true,
/// the times before and after a stay would tell when it began and ended; and a gap that every device of a facility has
/// alike, when its node was down, would tell each patient's shift beside the true times of a cold chain.
fn moved(
    time: Timestamp,
    device: &DeviceEntry,
    patient: Option<&PatientEntry>,
    profile: Profile,
) -> Timestamp {
    match patient {
        Some(patient) => deid::shift(time, profile, patient.shift),
        None => deid::shift(time, profile, device.shift),
    }
}

fn position(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
