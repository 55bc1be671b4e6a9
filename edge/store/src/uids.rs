//! The ids of readings outside the facility: not drawn but derived, so that a sample which its device sends again to a
//! store that was put back to an older copy, and does not know it any more, gets the ids that it had, and is in the
//! region once.
//!
//! An id is HMAC-SHA-256 (RFC 2104, FIPS 180-4), cut to 128 bits, of everything that makes the sample this one: the
//! device, its epoch and sequence number, when it measured (a counter that restarts says numbers again, at another
//! time), and what it measured; and the reading's place in it. Who the patient is, and what the edge adds, are no part
//! of it. Without the key it cannot be told from random bits: it says nothing of order, time or device, and nobody can
//! try what it may have been made of. The key is derived from the store's data key, which lies beside the database and
//! in its backups, never leaves the facility, and stays when the facility's key is changed.
//!
//! What the edge itself measures (an alarm that values went stale) has numbers that are given anew after a restore, so
//! its ids are drawn.
use super::{Entropy, words::push_words};
use ingest::Sample;
use ring::hmac::{self, HMAC_SHA256, Key, Tag};

/// What the key of ids is derived with, so that it is no other key that is made of the data key.
const PURPOSE: &[u8] = b"medmesh reading uid, version 1";

/// Bytes of a uid.
pub(super) const UID: usize = 16;

/// The key of a facility's reading ids.
#[derive(Clone)]
pub(super) struct UidKey(Key);

impl UidKey {
    /// The one that belongs to a data key.
    pub(super) fn of(data_key: &[u8; 32]) -> Self {
        let root = Key::new(HMAC_SHA256, data_key);
        let derived = hmac::sign(&root, PURPOSE);
        Self(Key::new(HMAC_SHA256, derived.as_ref()))
    }

    /// The ids of a sample's readings.
    pub(super) fn of_sample(&self, sample: &Sample) -> Uids<'_> {
        let device = sample.device.as_str().as_bytes();
        let mut said = Vec::with_capacity(256);
        said.extend_from_slice(&(device.len() as u64).to_le_bytes());
        said.extend_from_slice(device);
        said.extend_from_slice(&sample.epoch.to_le_bytes());
        said.extend_from_slice(&sample.seq.to_le_bytes());
        said.extend_from_slice(&sample.source_time.0.to_le_bytes());
        for reading in &sample.readings {
            push_words(&mut said, reading);
        }
        Uids::Derived(&self.0, hmac::sign(&self.0, &said))
    }
}

/// Where the ids of a sample's readings come from.
pub(super) enum Uids<'k> {
    /// Each from the sample and the reading's place in it.
    Derived(&'k Key, Tag),
    /// Random bytes.
    Drawn(Entropy),
}

impl Uids<'_> {
    /// Fills a buffer with the ids, one behind the other.
    pub(super) fn fill(&self, bytes: &mut [u8]) {
        match self {
            Self::Drawn(entropy) => entropy(bytes),
            Self::Derived(key, sample) => {
                for (uid, place) in bytes.chunks_mut(UID).zip(0_u32..) {
                    let mut context = hmac::Context::with_key(key);
                    context.update(sample.as_ref());
                    context.update(&place.to_le_bytes());
                    let tag = context.sign();
                    for (byte, drawn) in uid.iter_mut().zip(tag.as_ref()) {
                        *byte = *drawn;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::{SampleReading, Urgency};
    use std::collections::BTreeSet;
    use types::{Flags, Phi, Timestamp, Value};

    fn sample() -> Sample {
        let reading = |text: &str| SampleReading {
            code: "8867-4".parse().unwrap(),
            unit: "/min".parse().unwrap(),
            value: Value::Quantity(text.parse().unwrap()),
            flags: Flags::NONE,
        };
        Sample {
            device: "m1".parse().unwrap(),
            epoch: 1,
            seq: 2,
            source_time: Timestamp(3),
            patient: Some(Phi::new("p1".into())),
            urgency: Urgency::Routine,
            readings: vec![reading("60"), reading("60")],
        }
    }

    fn uids(key: &[u8; 32], sample: &Sample) -> Vec<[u8; UID]> {
        let mut bytes = vec![0; UID * sample.readings.len()];
        UidKey::of(key).of_sample(sample).fill(&mut bytes);
        bytes.as_chunks().0.to_vec()
    }

    #[test]
    fn a_sample_that_comes_again_has_the_ids_that_it_had() {
        let first = uids(&[7; 32], &sample());
        let mut again = sample();
        again.readings[0].flags = Flags::IMPLAUSIBLE;
        again.urgency = Urgency::Alarm;
        again.patient = None;
        assert_eq!(uids(&[7; 32], &again), first);
        assert_ne!(first[0], first[1], "two readings of one sample are two");
    }

    #[test]
    fn no_two_samples_share_an_id_and_without_the_key_nobody_can_make_one() {
        let changes: [fn(&mut Sample); 7] = [
            |_| {},
            |s| s.device = "m2".parse().unwrap(),
            |s| s.epoch = 2,
            |s| s.seq = 3,
            // A counter that restarted in its epoch.
            |s| s.source_time = Timestamp(4),
            |s| s.readings[0].value = Value::Quantity("61".parse().unwrap()),
            |s| s.readings.truncate(1),
        ];
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for key in [[7; 32], [8; 32]] {
            for change in changes {
                let mut other = sample();
                change(&mut other);
                count += other.readings.len();
                seen.extend(uids(&key, &other));
            }
        }
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn ids_do_not_tell_the_order_in_which_they_were_given() {
        const COUNT: u32 = 2_000;
        let nth = |n: u64| {
            let mut one = sample();
            one.seq = n;
            one.source_time = Timestamp(1_000 * n.cast_signed());
            uids(&[7; 32], &one)[0]
        };
        let ids: Vec<_> = (0..=u64::from(COUNT)).map(nth).collect();
        let rising = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
        // Half of them, within six standard deviations (sqrt(n / 12) for runs up of random bits).
        let half = f64::from(COUNT) / 2.0;
        let six = 6.0 * (f64::from(COUNT) / 12.0).sqrt();
        let rising = f64::from(u32::try_from(rising).unwrap());
        assert!((rising - half).abs() < six, "{rising} of {COUNT} rise");
        let ones: u32 = ids.iter().flatten().map(|byte| byte.count_ones()).sum();
        let bits = f64::from(COUNT + 1) * 128.0;
        let six = 6.0 * (bits / 4.0).sqrt();
        assert!(
            (f64::from(ones) - bits / 2.0).abs() < six,
            "{ones} ones of {bits}"
        );
    }
}
