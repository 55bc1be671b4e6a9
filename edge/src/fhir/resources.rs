//! What the facility knows, as resources: its patients as they are, its devices, beds as Locations, stays as Encounters.
//! Readings go through the one mapping of `fhir::map`. Pure: the same facts always make the same bytes.
use crate::config::DeviceConfig;
use fhir::{
    admit::Holding,
    json::with,
    map::{self, ClinicalReading, DEVICE_KIND_SYSTEM},
    store::{Draft, FhirId, NewResource, ResourceType},
};
use serde_json::{Value, json};
use store::{InBed, LocalId, LocalIds, Measured, PatientNow};
use types::{CareUnit, DeviceId, DeviceKind, DevicePseudonym, PatientPseudonym, Phi, Timestamp};

/// The system of a patient's own id in the facility.
pub(super) const PATIENT_SYSTEM: &str = "urn:medmesh:local:patient";
/// The system of a device's name in the facility.
pub(super) const DEVICE_SYSTEM: &str = "urn:medmesh:local:device";
/// The system of a bed's name in the facility.
pub(super) const BED_SYSTEM: &str = "urn:medmesh:local:bed";
/// FHIR R4 v2-0203: what kind of identifier it is.
const IDENTIFIER_TYPE: &str = "http://terminology.hl7.org/CodeSystem/v2-0203";
/// FHIR R4 v3-ActCode, of `Encounter.class`.
const ACT_CODE: &str = "http://terminology.hl7.org/CodeSystem/v3-ActCode";
/// FHIR R4 location-physical-type.
const PHYSICAL_TYPE: &str = "http://terminology.hl7.org/CodeSystem/location-physical-type";

/// A resource that is stored; none when it is no R4, which is a fault of ours, or of what was entered.
fn draft(kind: &str, id: &str, resource: &Value) -> Option<Draft> {
    let (kind, id) = (ResourceType::parse(kind)?, id.parse().ok()?);
    let drafted = Draft::parse(&Holding::Identified, kind, id, &resource.to_string(), "");
    drafted
        .inspect_err(|_| tracing::error!(%kind, "what the facility knows makes no resource"))
        .ok()
}

/// The Observation of a reading.
pub(super) fn reading(measured: Measured) -> Option<NewResource> {
    let patient = measured.patient.as_ref().map(|id| id.as_str().to_owned());
    let reading = ClinicalReading {
        uid: measured.uid,
        // Nothing of these is shown.
        patient: patient
            .as_ref()
            .map(|_| PatientPseudonym::from_bytes([0; 16])),
        device: DevicePseudonym::from_bytes([0; 16]),
        code: measured.reading.code,
        unit: measured.reading.unit,
        value: measured.reading.value,
        effective: measured.at,
        flags: measured.reading.flags,
        withdrawn: measured.withdrawn,
    };
    let observation = map::observation_of(&reading, (patient, measured.device.to_string()));
    map::resource(&observation)
        .inspect_err(|error| tracing::error!(%error, "a reading makes no Observation"))
        .ok()
}

/// The Patient: everything that the facility knows of them. A value that is not R4 (a birth date that somebody mistyped)
/// is left out rather than the patient.
#[expect(
    clippy::disallowed_methods,
    reason = "what the facility's own programs are shown, in its encrypted copy"
)]
pub(super) fn patient(patient: &PatientNow) -> Option<Draft> {
    let known = |phi: &Option<Phi<String>>| phi.as_ref().map(|phi| phi.expose().trim().to_owned());
    let record = &patient.record;
    let mut identifiers = Vec::new();
    if let Some(own) = known(&record.facility_id) {
        identifiers.push(json!({"system": PATIENT_SYSTEM, "value": own}));
    }
    if let Some(mrn) = known(&record.mrn).filter(|mrn| !mrn.is_empty()) {
        let kind = json!({"coding": [{"system": IDENTIFIER_TYPE, "code": "MR"}]});
        identifiers.push(json!({"type": kind, "value": mrn}));
    }
    let name = known(&record.name).filter(|name| !name.is_empty());
    let gender = known(&record.gender)
        .as_deref()
        .and_then(map::Gender::parse);
    let unit = known(&record.care_unit)
        .as_deref()
        .and_then(CareUnit::parse);
    let tag =
        |unit: CareUnit| json!({"tag": [{"system": CareUnit::SYSTEM, "code": unit.as_str()}]});
    let without = with(
        json!({"resourceType": "Patient"}),
        [
            (
                "identifier",
                (!identifiers.is_empty()).then(|| identifiers.into()),
            ),
            ("name", name.map(|name| json!([{"text": name}]))),
            ("gender", gender.map(|gender| gender.as_str().into())),
            ("meta", unit.map(tag)),
        ],
    );
    if let Some(born) = known(&record.birth_date) {
        let resource = with(without.clone(), [("birthDate", Some(born.into()))]);
        if let Some(draft) = draft("Patient", patient.id.as_str(), &resource) {
            return Some(draft);
        }
    }
    draft("Patient", patient.id.as_str(), &without)
}

/// What the configuration says of a device, or nothing of one that it does not name.
pub(super) fn device(
    id: &DeviceId,
    config: Option<&DeviceConfig>,
    ids: &LocalIds,
) -> Option<Draft> {
    let kind = config.map_or(DeviceKind::External, |config| config.kind);
    let facts = json!({
        "resourceType": "Device",
        "identifier": [{"system": DEVICE_SYSTEM, "value": id.as_str()}],
        "status": "active",
        "deviceName": [{"name": id.as_str(), "type": "user-friendly-name"}],
        "type": {"coding": [{"system": DEVICE_KIND_SYSTEM, "code": kind.as_str()}]},
    });
    let serial = config.and_then(|config| config.serial.as_ref());
    let model = config.and_then(|config| config.model.as_ref());
    let firmware = config.and_then(|config| config.firmware.as_ref());
    let bed = config.and_then(|config| config.bed.as_ref());
    let resource = with(
        facts,
        [
            ("serialNumber", serial.map(|serial| serial.as_str().into())),
            ("modelNumber", model.map(|model| model.as_str().into())),
            (
                "version",
                firmware.map(|firmware| json!([{"value": firmware.as_str()}])),
            ),
            ("location", bed.map(|bed| at_bed(ids, bed))),
        ],
    );
    draft("Device", id.as_str(), &resource)
}

fn at_bed(ids: &LocalIds, bed: &str) -> Value {
    json!({"reference": format!("Location/{}", ids.bed(bed).as_str()), "display": bed})
}

/// A bed.
pub(super) fn bed(name: &str, ids: &LocalIds) -> Option<Draft> {
    let resource = json!({
        "resourceType": "Location",
        "identifier": [{"system": BED_SYSTEM, "value": name}],
        "status": "active",
        "name": name,
        "mode": "instance",
        "physicalType": {"coding": [{"system": PHYSICAL_TYPE, "code": "bd"}]},
    });
    draft("Location", ids.bed(name).as_str(), &resource)
}

/// The stays of a patient, as the intervals in which they lay in beds tell them: those without a gap are one.
pub(super) fn stays(
    patient: &LocalId,
    in_beds: &[InBed],
    ids: &LocalIds,
    now: Timestamp,
) -> (Option<FhirId>, Vec<Draft>) {
    let mut joined: Vec<Vec<&InBed>> = Vec::new();
    for one in in_beds {
        let goes_on = joined.last().is_some_and(|stay| {
            let ends = stay.iter().map(|one| one.until.unwrap_or(END)).max();
            ends.is_some_and(|end| one.from <= end)
        });
        match joined.last_mut().filter(|_| goes_on) {
            Some(stay) => stay.push(one),
            None => joined.push(vec![one]),
        }
    }
    let drafts = joined
        .iter()
        .filter_map(|stay| encounter(patient, stay, ids, now));
    (patient.as_str().parse().ok(), drafts.collect())
}

/// After everything.
const END: Timestamp = Timestamp(i64::MAX);

fn encounter(patient: &LocalId, stay: &[&InBed], ids: &LocalIds, now: Timestamp) -> Option<Draft> {
    let from = stay.first()?.from;
    let until = stay.iter().map(|one| one.until.unwrap_or(END)).max()?;
    let period = |from: Timestamp, until: Timestamp| match until == END {
        true => json!({"start": from.to_rfc3339()}),
        false => json!({"start": from.to_rfc3339(), "end": until.to_rfc3339()}),
    };
    let status = match (from <= now, until <= now) {
        (false, _) => "planned",
        (true, false) => "in-progress",
        (true, true) => "finished",
    };
    let locations: Vec<Value> = stay
        .iter()
        .map(|one| {
            let period = period(one.from, one.until.unwrap_or(END));
            json!({"location": at_bed(ids, &one.bed), "period": period})
        })
        .collect();
    let resource = json!({
        "resourceType": "Encounter",
        "status": status,
        "class": {"system": ACT_CODE, "code": "IMP", "display": "inpatient encounter"},
        "subject": {"reference": format!("Patient/{}", patient.as_str())},
        "period": period(from, until),
        "location": locations,
    });
    draft("Encounter", ids.stay(patient, from).as_str(), &resource)
}
