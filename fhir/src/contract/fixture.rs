//! Readings, patients and devices for tests: deterministic, each unlike the other.
use crate::map::{self, ClinicalDevice, ClinicalPatient, ClinicalReading, Gender};
use crate::search::Query;
use crate::store::{Delivery, NewResource, ResourceStore, Source, Stored};
use types::{
    AbsentReason, CareUnit, Code, DeviceKind, DevicePseudonym, EnvelopeId, FacilityPseudonym,
    Flags, PatientPseudonym, ReadingUid, Timestamp, Unit, Value,
};

/// The first fixture time.
pub const START: Timestamp = Timestamp(1_700_000_000_123);

/// 16 bytes that differ by kind and number, in no order of the numbers.
#[must_use]
pub fn bytes(kind: u8, number: u32) -> [u8; 16] {
    let mixed = u64::from(number)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = [kind; 16];
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Parcel number `number`.
#[must_use]
pub fn parcel(number: u32) -> EnvelopeId {
    EnvelopeId::from_bytes(bytes(b'E', number))
}

/// Facility number `number`, with the pseudonym that it is offered first.
#[must_use]
pub fn source(number: u32) -> Source {
    Source {
        place: format!("edge/eu/eu/eu-f{number}"),
        fresh: FacilityPseudonym::from_bytes(bytes(b'F', number)),
    }
}

/// Patient number `number`.
#[must_use]
pub fn patient_id(number: u32) -> PatientPseudonym {
    PatientPseudonym::from_bytes(bytes(b'P', number))
}

/// Device number `number`.
#[must_use]
pub fn device_id(number: u32) -> DevicePseudonym {
    DevicePseudonym::from_bytes(bytes(b'D', number))
}

/// Reading number `number`: of one of five patients or of none, one of four devices, with values of every shape.
///
/// # Panics
/// Never: the texts are decimals.
#[must_use]
pub fn reading(number: u32) -> ClinicalReading {
    const TEXTS: [&str; 8] = [
        "72.50",
        "73",
        "-17.8",
        "0.05",
        "1E5",
        "1e-3",
        "0.0",
        "123456789012345678.10",
    ];
    let at = |len: usize| usize::try_from(number).unwrap_or(0) % len;
    let codes: Vec<Code> = Code::all().collect();
    let code = codes[at(codes.len())];
    let value = match number % 11 {
        10 => Value::Absent(AbsentReason::ALL[at(AbsentReason::ALL.len())]),
        _ => Value::Quantity(TEXTS[at(TEXTS.len())].parse().expect("a decimal")),
    };
    ClinicalReading {
        uid: ReadingUid::from_bytes(bytes(b'R', number)),
        patient: (number % 6 != 5).then(|| patient_id(number % 6)),
        device: device_id(number % 4),
        code,
        unit: code.info().unit.parse::<Unit>().expect("a unit"),
        value,
        // Many share a time, so that ties are broken.
        effective: START.plus_ms(i64::from(number / 3) * 1_001),
        flags: Flags::from_bits(u8::try_from(number / 8 % 8).unwrap_or(0)).unwrap_or_default(),
        withdrawn: false,
    }
}

/// Reading `number`, withdrawn.
///
/// # Panics
/// When the mapping makes something that validation refuses.
#[must_use]
pub fn withdrawn(number: u32) -> NewResource {
    let reading = ClinicalReading {
        withdrawn: true,
        ..reading(number)
    };
    map::resource(&map::observation(&reading)).expect("the mapping emits what is stored")
}

/// The Observation of reading `number`.
///
/// # Panics
/// When the mapping makes something that validation refuses.
#[must_use]
pub fn observation(number: u32) -> NewResource {
    map::resource(&map::observation(&reading(number))).expect("the mapping emits what is stored")
}

/// Patient `number`, born in a year.
///
/// # Panics
/// When the mapping makes something that validation refuses.
#[must_use]
pub fn patient(number: u32, birth_year: u16) -> NewResource {
    let patient = ClinicalPatient {
        pseudonym: patient_id(number),
        gender: Some(Gender::ALL[usize::from(birth_year) % 4]),
        birth_year: Some(birth_year),
        care_unit: CareUnit::ALL.get(usize::from(birth_year) % 5).copied(),
    };
    map::resource(&map::patient(&patient)).expect("the mapping emits what is stored")
}

/// Device `number`.
///
/// # Panics
/// When the mapping makes something that validation refuses.
#[must_use]
pub fn device(number: u32) -> NewResource {
    let device = ClinicalDevice {
        pseudonym: device_id(number),
        kind: DeviceKind::BedsideMonitor,
    };
    map::resource(&map::device(&device)).expect("the mapping emits what is stored")
}

/// A delivery of readings.
#[must_use]
pub fn delivery(number: u32, readings: std::ops::Range<u32>) -> Delivery {
    Delivery {
        parcel: parcel(number),
        source: source(1),
        resources: readings.map(observation).collect(),
    }
}

/// Every page of a query, one after the other.
///
/// # Panics
/// When the store fails or pages do not end.
pub async fn all_pages(store: &dyn ResourceStore, mut query: Query) -> Vec<Stored> {
    let mut found = Vec::new();
    for _ in 0..10_000 {
        let page = store.search(&query).await.expect("a page");
        assert!(page.resources.len() <= usize::from(query.count));
        found.extend(page.resources);
        query.after = page.next;
        if query.after.is_none() {
            return found;
        }
    }
    panic!("pages do not end");
}
