//! The readings of one sample as one blob, and the digest that tells a duplicate from a conflict.
//!
//! Version 1: `1`, number of readings n (u16 LE), n × 16 bytes of [`ReadingUid`], then per reading: flags (u8) and
//! three texts of one length byte each: code, unit, value. A value that is absent begins with `?`, then its reason.
use super::{
    uids::{UID, Uids},
    words::push_words,
};
use ingest::{Sample, SampleReading, Urgency};
use sha2::{Digest, Sha256};
use types::{PatientPseudonym, Phi, ReadingUid, Timestamp};

const VERSION: u8 = 1;
const HEAD: usize = 3;
/// Bytes of a digest: SHA-256 cut to 128 bits, enough against chance and against a device of the facility itself.
pub(super) const DIGEST: usize = 16;

/// A reading as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedReading<'a> {
    /// Its id outside the facility.
    pub uid: ReadingUid,
    /// What its source said of it, as bits.
    pub flags: u8,
    /// Code text.
    pub code: &'a str,
    /// UCUM unit.
    pub unit: &'a str,
    /// The decimal's text, or the reason why there is none.
    pub value: Result<&'a str, &'a str>,
}

/// Packs the readings of a sample with their uids.
pub(super) fn pack(readings: &[SampleReading], uids: &Uids<'_>) -> Vec<u8> {
    const USUAL: usize = 24;
    let count = u16::try_from(readings.len()).unwrap_or(u16::MAX);
    let mut blob = Vec::with_capacity(HEAD + readings.len() * (UID + USUAL));
    blob.push(VERSION);
    blob.extend_from_slice(&count.to_le_bytes());
    blob.resize(HEAD + readings.len() * UID, 0);
    if let Some(ids) = blob.get_mut(HEAD..) {
        uids.fill(ids);
    }
    for reading in readings {
        blob.push(reading.flags.bits());
        push_words(&mut blob, reading);
    }
    blob
}

/// The readings of a blob under other ids, for whom they are given to; none when it makes no sense. Drawn from the old ids
/// with a secret of the facility: a store that was put back to an older copy, and corrects the same once more, gives the
/// same ids, which the region knows.
pub(super) fn moved(blob: &[u8], secret: &[u8], to: Option<PatientPseudonym>) -> Option<Vec<u8>> {
    let count = usize::from(u16::from_le_bytes(blob.get(1..HEAD)?.try_into().ok()?));
    let mut moved = blob.to_vec();
    let uids = moved.get_mut(HEAD..HEAD + count * UID)?;
    for uid in uids.chunks_exact_mut(UID) {
        let mut hash = Sha256::new_with_prefix(secret);
        hash.update(&*uid);
        hash.update(to.map_or([0; UID], |pseudonym| *pseudonym.as_bytes()));
        uid.copy_from_slice(hash.finalize().get(..UID)?);
    }
    Some(moved)
}

/// How many readings a blob holds.
pub(super) fn count(blob: &[u8]) -> u64 {
    blob.get(1..HEAD)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, |bytes| u64::from(u16::from_le_bytes(bytes)))
}

/// The uid of a packed reading.
pub(super) fn uid(blob: &[u8], index: usize) -> Option<ReadingUid> {
    let start = HEAD + index * UID;
    ReadingUid::try_from(blob.get(start..start + UID)?).ok()
}

impl<'a> PackedReading<'a> {
    /// The readings of a blob; `None` when it does not make sense.
    #[must_use]
    pub fn unpack(blob: &'a [u8]) -> Option<Vec<Self>> {
        unpack(blob)
    }
}

fn unpack(blob: &[u8]) -> Option<Vec<PackedReading<'_>>> {
    if *blob.first()? != VERSION {
        return None;
    }
    let count = usize::from(u16::from_le_bytes(blob.get(1..HEAD)?.try_into().ok()?));
    let mut rest = blob.get(HEAD + count * UID..)?;
    let mut readings = Vec::with_capacity(count);
    for index in 0..count {
        let (flags, after) = rest.split_first()?;
        rest = after;
        let (code, unit, value) = (text(&mut rest)?, text(&mut rest)?, text(&mut rest)?);
        readings.push(PackedReading {
            uid: uid(blob, index)?,
            flags: *flags,
            code,
            unit,
            value: value.strip_prefix('?').map_or(Ok(value), Err),
        });
    }
    rest.is_empty().then_some(readings)
}

/// Takes a length byte and its text off the front.
fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let (length, after) = rest.split_first()?;
    let (text, after) = after.split_at_checked(usize::from(*length))?;
    *rest = after;
    std::str::from_utf8(text).ok()
}

/// What makes two samples of one identity the same: everything that the device said. What the edge adds (flags, the
/// patient of the bed, time of arrival) is left out: it may differ when the same sample comes again.
pub(super) fn digest(sample: &Sample) -> [u8; DIGEST] {
    digest_of(
        sample.source_time,
        sample.urgency,
        sample.patient.as_ref(),
        &sample.readings,
    )
}

/// Whether the device named no patient with a stored sample: its digest is the one without.
pub(super) fn is_of_nobody(
    digest: &[u8; DIGEST],
    source_time: Timestamp,
    urgency: Urgency,
    readings: &[SampleReading],
) -> bool {
    digest_of(source_time, urgency, None, readings) == *digest
}

fn digest_of(
    source_time: Timestamp,
    urgency: Urgency,
    patient: Option<&Phi<String>>,
    readings: &[SampleReading],
) -> [u8; DIGEST] {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&source_time.0.to_le_bytes());
    bytes.push(urgency as u8);
    push_patient(&mut bytes, patient);
    for reading in readings {
        push_words(&mut bytes, reading);
    }
    let hash: [u8; 32] = Sha256::digest(&bytes).into();
    let mut short = [0; DIGEST];
    short.copy_from_slice(&hash[..DIGEST]);
    short
}

#[expect(
    clippy::disallowed_methods,
    reason = "the patient id enters a digest that never leaves the encrypted store"
)]
fn push_patient(bytes: &mut Vec<u8>, patient: Option<&Phi<String>>) {
    let id = patient.map(|id| id.expose().as_bytes());
    bytes.extend_from_slice(&id.map_or(u64::MAX, |id| id.len() as u64).to_le_bytes());
    bytes.extend_from_slice(id.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{AbsentReason, Flags, Value};

    fn readings() -> Vec<SampleReading> {
        let decimal = |text: &str| Value::Quantity(text.parse().unwrap());
        [
            ("8867-4", "/min", decimal("72.50")),
            ("2708-6", "%", Value::Absent(AbsentReason::Stale)),
            ("urn:medmesh:code|relative-humidity", "%", decimal("-1e-3")),
        ]
        .map(|(code, unit, value)| SampleReading {
            code: code.parse().unwrap(),
            unit: unit.parse().unwrap(),
            value,
            flags: Flags::IMPLAUSIBLE,
        })
        .into()
    }

    fn sample() -> Sample {
        Sample {
            device: "m1".parse().unwrap(),
            epoch: 1,
            seq: 2,
            source_time: Timestamp(3),
            patient: Some(Phi::new("p1".into())),
            urgency: Urgency::Routine,
            readings: readings(),
        }
    }

    #[test]
    fn packed_readings_come_out_as_they_went_in() {
        let blob = pack(&readings(), &Uids::Drawn(super::super::system_entropy));
        let out = unpack(&blob).unwrap();
        let seen: Vec<_> = out.iter().map(|r| (r.code, r.unit, r.value)).collect();
        assert_eq!(
            seen,
            [
                ("8867-4", "/min", Ok("72.50")),
                ("2708-6", "%", Err("temp-unknown")),
                ("urn:medmesh:code|relative-humidity", "%", Ok("-1e-3")),
            ]
        );
        assert!(out[0].uid != out[1].uid && out[1].uid != out[2].uid);
        assert!(out.iter().all(|r| r.flags == Flags::IMPLAUSIBLE.bits()));
    }

    #[test]
    fn readings_that_move_have_other_ids_which_are_the_same_when_they_move_again() {
        let blob = pack(&readings(), &Uids::Drawn(super::super::system_entropy));
        let patient = |byte| Some(PatientPseudonym::from_bytes([byte; 16]));
        let once = moved(&blob, b"secret", patient(1)).unwrap();
        assert_eq!(moved(&blob, b"secret", patient(1)).unwrap(), once);
        let others = [
            moved(&blob, b"secret", patient(2)),
            moved(&blob, b"secret", None),
            moved(&blob, b"other", patient(1)),
            moved(&once, b"secret", patient(1)),
            Some(blob.clone()),
        ];
        let ids = |blob: &[u8]| {
            unpack(blob)
                .unwrap()
                .iter()
                .map(|r| r.uid)
                .collect::<Vec<_>>()
        };
        for other in others {
            let other = other.unwrap();
            assert!(ids(&other).iter().all(|id| !ids(&once).contains(id)));
            assert_eq!(other[HEAD + 3 * UID..], blob[HEAD + 3 * UID..]);
        }
        for cut in 0..HEAD + 3 * UID {
            assert_eq!(moved(&blob[..cut], b"secret", None), None, "{cut}");
        }
    }

    #[test]
    fn a_blob_cut_anywhere_is_refused() {
        let blob = pack(&readings(), &Uids::Drawn(super::super::system_entropy));
        for cut in 0..blob.len() {
            assert_eq!(unpack(&blob[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn the_digest_tells_every_field_the_device_said_and_nothing_the_edge_adds() {
        let base = digest(&sample());
        let mut flagged = sample();
        flagged.readings[0].flags = Flags::NONE;
        assert_eq!(digest(&flagged), base);
        let changes: [fn(&mut Sample); 6] = [
            |s| s.source_time = Timestamp(4),
            |s| s.patient = None,
            |s| s.patient = Some(Phi::new("p2".into())),
            |s| s.urgency = Urgency::Alarm,
            |s| s.readings.swap(0, 1),
            |s| s.readings[0].value = Value::Quantity("72.5".parse().unwrap()),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = sample();
            change(&mut other);
            assert_ne!(digest(&other), base, "{index}");
        }
    }
}
