//! From a batch on the wire to resources that may be stored: the receiver's own check of every field. Pure.
//!
//! The sender checked all of it before; nothing here trusts that. A reading with a fault is left out, and what is
//! kept of it is its position, the fault and a digest: never the reading.
use fhir::map::{self, ClinicalDevice, ClinicalPatient, ClinicalReading, Gender};
use fhir::store::NewResource;
use messages::ReadingBatch;
use types::{
    AbsentReason, CareUnit, Code, DeviceKind, DevicePseudonym, Flags, PatientPseudonym, ReadingUid,
    Timestamp, Unit, Value,
};

/// Years of birth that can be told.
const BIRTH_YEARS: std::ops::RangeInclusive<u32> = 1_850..=2_199;

/// Why a reading was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The id is not 16 bytes.
    Uid,
    /// No such device in the batch, or one that cannot be understood.
    Device,
    /// No such patient in the batch, or one that cannot be understood.
    Patient,
    /// The code is not in the table.
    Code,
    /// The unit is not in the table.
    Unit,
    /// The value is no decimal, or the reason is not in the table.
    Value,
    /// Neither a value nor a reason.
    NoValue,
    /// Outside 1900 to 2199.
    Time,
    /// A flag that is not known.
    Flags,
    /// What the mapping made of it may not be stored.
    Unmappable,
    /// Its id is taken by a reading of another content.
    Conflict,
}

impl Fault {
    /// Every fault.
    #[cfg(test)]
    pub const ALL: [Self; 11] = [
        Self::Uid,
        Self::Device,
        Self::Patient,
        Self::Code,
        Self::Unit,
        Self::Value,
        Self::NoValue,
        Self::Time,
        Self::Flags,
        Self::Unmappable,
        Self::Conflict,
    ];

    /// The fault's name in metrics and in quarantine.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uid => "uid",
            Self::Device => "device",
            Self::Patient => "patient",
            Self::Code => "code",
            Self::Unit => "unit",
            Self::Value => "value",
            Self::NoValue => "no-value",
            Self::Time => "time",
            Self::Flags => "flags",
            Self::Unmappable => "unmappable",
            Self::Conflict => "conflict",
        }
    }
}

/// What a batch came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Devices and patients, then readings.
    pub resources: Vec<NewResource>,
    /// How many of `resources` are devices and patients.
    pub others: usize,
    /// The position in the batch of each reading in `resources`.
    pub positions: Vec<u32>,
    /// Readings that were left out, by position in the batch.
    pub faults: Vec<(u32, Fault)>,
}

impl Decoded {
    /// The position in the batch of a resource; none for devices and patients.
    pub fn position_of(&self, resource: u32) -> Option<u32> {
        let at = usize::try_from(resource).ok()?.checked_sub(self.others)?;
        self.positions.get(at).copied()
    }
}

/// Decodes, checks and maps a batch at an instant of mesh time, by which ages are told.
pub fn decode(batch: &ReadingBatch, now: Timestamp) -> Decoded {
    let devices: Vec<_> = batch.devices.iter().map(device).collect();
    let patients: Vec<_> = batch.patients.iter().map(|one| patient(one, now)).collect();
    let mut decoded = Decoded::default();
    let known = devices.iter().flatten().map(|known| &known.1);
    decoded.resources.extend(known.cloned());
    let known = patients.iter().flatten().map(|known| &known.1);
    decoded.resources.extend(known.cloned());
    decoded.others = decoded.resources.len();
    for (position, reading) in (0..).zip(&batch.readings) {
        let mapped = clinical(reading, &devices, &patients).and_then(|reading| {
            map::resource(&map::observation(&reading)).map_err(|_| Fault::Unmappable)
        });
        match mapped {
            Ok(resource) => {
                decoded.resources.push(resource);
                decoded.positions.push(position);
            }
            Err(fault) => decoded.faults.push((position, fault)),
        }
    }
    decoded
}

fn device(device: &messages::ClinicalDevice) -> Option<(DevicePseudonym, NewResource)> {
    let known = ClinicalDevice {
        pseudonym: device.pseudonym[..].try_into().ok()?,
        kind: DeviceKind::parse(&device.kind)?,
    };
    let resource = map::resource(&map::device(&known)).ok()?;
    Some((known.pseudonym, resource))
}

fn patient(
    patient: &messages::ClinicalPatient,
    now: Timestamp,
) -> Option<(PatientPseudonym, NewResource)> {
    let gender = match patient.gender.as_str() {
        "" => None,
        text => Some(Gender::parse(text)?),
    };
    let birth_year = match patient.birth_year {
        0 => None,
        // A year that may not be told is left out, whoever told it: the readings are good all the same.
        year if BIRTH_YEARS.contains(&year) => u16::try_from(year)
            .ok()
            .filter(|year| types::may_tell_birth_year((*year).into(), now)),
        _ => return None,
    };
    let known = ClinicalPatient {
        pseudonym: patient.pseudonym[..].try_into().ok()?,
        gender,
        birth_year,
        care_unit: match patient.care_unit.as_str() {
            "" => None,
            text => Some(CareUnit::parse(text)?),
        },
    };
    let resource = map::resource(&map::patient(&known)).ok()?;
    Some((known.pseudonym, resource))
}

/// Position `at` of a list whose broken entries are none.
fn entry<T: Copy>(list: &[Option<(T, NewResource)>], at: u32) -> Option<T> {
    let known = list.get(usize::try_from(at).ok()?)?.as_ref()?;
    Some(known.0)
}

fn clinical(
    reading: &messages::Reading,
    devices: &[Option<(DevicePseudonym, NewResource)>],
    patients: &[Option<(PatientPseudonym, NewResource)>],
) -> Result<ClinicalReading, Fault> {
    let patient = match reading.patient.checked_sub(1) {
        None => None,
        Some(at) => Some(entry(patients, at).ok_or(Fault::Patient)?),
    };
    let effective = Timestamp(reading.effective_ms);
    if !effective.is_storable() {
        return Err(Fault::Time);
    }
    let flags = u8::try_from(reading.flags).ok().and_then(Flags::from_bits);
    let (code, unit): (Code, Unit) = (
        reading.code.parse().map_err(|_| Fault::Code)?,
        reading.unit.parse().map_err(|_| Fault::Unit)?,
    );
    // No honest facility sends it.
    if code.info().of_facility_alone {
        return Err(Fault::Code);
    }
    if !code.is_measured_in(unit) {
        return Err(Fault::Unit);
    }
    // Marked and bounded again: not every sender need have done it.
    let value = value(reading.value.as_ref())?;
    let flags = flags.ok_or(Fault::Flags)?.with(code.flags_of(unit, &value));
    let value = code.leaving(unit, value);
    Ok(ClinicalReading {
        uid: ReadingUid::try_from(&reading.uid[..]).map_err(|_| Fault::Uid)?,
        patient,
        device: entry(devices, reading.device).ok_or(Fault::Device)?,
        code,
        unit,
        value,
        effective,
        flags,
        withdrawn: reading.withdrawn,
    })
}

fn value(value: Option<&messages::reading::Value>) -> Result<Value, Fault> {
    match value.ok_or(Fault::NoValue)? {
        messages::reading::Value::Quantity(text) => {
            text.parse().map(Value::Quantity).map_err(|_| Fault::Value)
        }
        messages::reading::Value::Absent(text) => AbsentReason::parse(text)
            .map(Value::Absent)
            .ok_or(Fault::Value),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
pub mod tests;
