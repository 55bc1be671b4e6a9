//! What tests of the store, and of what uses it, begin with: a facility with a device and a bed, a clock that is moved by
//! hand, samples, and receipts of the region.
use crate::{
    BY_CONFIGURATION, BedFact, Bounds, DeviceFacts, Handlers, Store, StoreOptions,
    clockguard::{Now, Time},
    deid::PatientRecord,
    system_entropy,
};
use federation::{
    envelope::{self, Intact},
    port::{LeaseLimits, Outbox},
    wire::{Outcome, Parcel, Receipt},
};
use ingest::{Sample, SampleReading, Urgency};
use messages::Body;
use node::quantity::{Size, Span};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};
use types::{AbsentReason, Flags, Phi, Place, Priority, Secret, Timestamp, Value};

/// What tests lease at once.
pub const LIMITS: LeaseLimits = LeaseLimits {
    parcels: 1_000,
    bytes: 64 << 20,
};

/// 2026-01-01T00:00:00Z, as good as any.
pub const START: i64 = 1_767_225_600_000;

/// A clock that moves when it is told to.
pub struct Hand(
    /// The instant, in ms since 1970.
    pub AtomicI64,
    /// Whether it is believed.
    pub AtomicBool,
);

impl Time for Hand {
    fn now(&self) -> Now {
        let now = Timestamp(self.0.load(Ordering::Relaxed));
        Now {
            real: now,
            mesh: now,
            trusted: self.1.load(Ordering::Relaxed),
        }
    }
}

impl Hand {
    /// Moves it on.
    pub fn forward(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

/// One that begins at [`START`].
#[must_use]
pub fn hand() -> Arc<Hand> {
    Arc::new(Hand(AtomicI64::new(START), AtomicBool::new(true)))
}

/// An entry of the bed, by the configuration.
///
/// # Panics
/// When `from` is no instant.
#[must_use]
pub fn bed(from: &str, patient: Option<&str>) -> BedFact {
    let phi = |text: String| Some(Phi::new(text));
    BedFact {
        bed: "bed-1".into(),
        from: from.parse().unwrap(),
        patient: patient.map(|id| PatientRecord {
            facility_id: phi(id.into()),
            name: phi(format!("Canary Name {id}")),
            mrn: phi(format!("CANARY-MRN-{id}")),
            birth_date: phi("1950-03-04".into()),
            gender: phi("female".into()),
            ..Default::default()
        }),
        by: BY_CONFIGURATION.into(),
    }
}

/// A facility with a device at a bed, in which a patient lies for a while.
///
/// # Panics
/// Never.
#[must_use]
pub fn options(dir: &Path, time: Arc<Hand>) -> StoreOptions {
    let place: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    StoreOptions {
        dir: dir.into(),
        facility_key: Secret::new([7; 32]),
        region: "regional/eu/eu".parse().unwrap(),
        bounds: Bounds {
            max: Size(1 << 30),
            alarm_reserve: Size(1 << 20),
        },
        retention: Span::ms(86_400_000),
        devices: vec![DeviceFacts {
            id: "m1".parse().unwrap(),
            kind: types::DeviceKind::BedsideMonitor,
            bed: Some("bed-1".into()),
            limits: DeviceFacts::DEFAULT_LIMITS,
            serial: Some(Phi::new("CANARY-SERIAL-1".into())),
        }],
        beds: vec![
            bed("2025-12-31T00:00:00Z", Some("p-1")),
            bed("2026-01-01T12:00:00Z", None),
        ],
        rules: Arc::new(federation::policy::Rules::builtin().unwrap()),
        profile: None,
        signer: federation::audit::Signer::new(
            &place,
            ed25519_dalek::SigningKey::from_bytes(&[9; 32]),
        ),
        place,
        time,
        entropy: system_entropy,
        handlers: Handlers::new(),
    }
}

/// A sample of two readings.
///
/// # Panics
/// When `device` is no name of one.
#[must_use]
pub fn sample(device: &str, seq: u64) -> Sample {
    let reading = |code: &str, unit: &str, value| SampleReading {
        code: code.parse().unwrap(),
        unit: unit.parse().unwrap(),
        value,
        flags: Flags::NONE,
    };
    Sample {
        device: device.parse().unwrap(),
        epoch: 1,
        seq,
        source_time: Timestamp(START),
        patient: None,
        urgency: Urgency::Routine,
        readings: vec![
            reading(
                "8867-4",
                "/min",
                Value::Quantity(types::Decimal::from_parts(seq.cast_signed(), -2)),
            ),
            reading("2708-6", "%", Value::Absent(AbsentReason::Unknown)),
        ],
    }
}

/// Every parcel of a priority that waits.
///
/// # Panics
/// When the store does not answer.
pub async fn parcels(store: &Store, priority: Priority) -> Vec<Parcel> {
    store.lease(store.region(), priority, LIMITS).await.unwrap()
}

/// What a parcel of this store says.
///
/// # Panics
/// When it is of another kind, or was altered.
#[must_use]
pub fn opened<T: Body>(parcel: &Parcel) -> T {
    envelope::open(&Intact::new(parcel.clone()).unwrap()).unwrap()
}

/// A receipt of the region.
#[must_use]
pub fn receipt(parcel: &Parcel, outcome: Outcome) -> Receipt {
    Receipt {
        id: parcel.id.clone(),
        priority: parcel.priority,
        seq: parcel.seq,
        digest: parcel.digest.clone(),
        outcome: outcome.into(),
        stored: match outcome {
            Outcome::Accepted => parcel.count,
            _ => 0,
        },
        ..Receipt::default()
    }
}

/// The receipt of a region that has taken all of a parcel.
#[must_use]
pub fn taken(parcel: &Parcel) -> Receipt {
    receipt(parcel, Outcome::Accepted)
}

/// Looks at every sample at least once: how many retention deleted.
///
/// # Panics
/// When the store does not answer.
pub async fn sweep(store: &Store) -> usize {
    let mut deleted = 0;
    for _ in 0..2 {
        loop {
            let swept = store.housekeep().await.unwrap();
            deleted += swept.deleted;
            if swept.done {
                break;
            }
        }
    }
    deleted
}
