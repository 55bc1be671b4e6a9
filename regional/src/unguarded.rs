//! Taking in whatever comes, unchecked: only to prove that a search for leaked identifiers finds them when nothing
//! keeps them out. This module does not exist in a normal build and does not compile in release.
use crate::decode::Decoded;
use fhir::store::{FhirId, Index, NewResource, ResourceType};
use messages::{ReadingBatch, reading::Value};
use serde_json::json;
use types::Timestamp;

/// Every field as it came, in resources that look like those of a guarded build where the fields are in order.
pub fn decode(batch: &ReadingBatch, now: Timestamp) -> Decoded {
    let guarded = crate::decode::decode(batch, now);
    if guarded.faults.is_empty() && guarded.others == batch.devices.len() + batch.patients.len() {
        return guarded;
    }
    let mut decoded = Decoded::default();
    for device in &batch.devices {
        let id = id(&device.pseudonym);
        let json = json!({"resourceType": "Device", "id": id.as_str(), "type": {"text": device.kind},
            "identifier": [{"value": text(&device.pseudonym)}]});
        decoded
            .resources
            .push(raw(ResourceType::Device, id, &json, Index::default()));
    }
    for patient in &batch.patients {
        let id = id(&patient.pseudonym);
        let json = json!({"resourceType": "Patient", "id": id.as_str(), "gender": patient.gender,
            "birthDate": patient.birth_year.to_string(), "identifier": [{"value": text(&patient.pseudonym)}]});
        decoded
            .resources
            .push(raw(ResourceType::Patient, id, &json, Index::default()));
    }
    decoded.others = decoded.resources.len();
    for (position, reading) in (0_u32..).zip(&batch.readings) {
        let patient = batch
            .patients
            .get((reading.patient as usize).wrapping_sub(1));
        let device = batch.devices.get(reading.device as usize);
        let index = Index {
            patient: patient.map(|patient| id(&patient.pseudonym)),
            device: device.map(|device| id(&device.pseudonym)),
            code: reading.code.parse().ok(),
            category: None,
            effective: Some(Timestamp(reading.effective_ms)),
        };
        let value = match &reading.value {
            Some(Value::Quantity(value) | Value::Absent(value)) => value.as_str(),
            None => "",
        };
        let id = id(&reading.uid);
        let json = json!({"resourceType": "Observation", "id": id.as_str(), "status": "final",
            "code": {"text": reading.code}, "valueString": value, "method": {"text": reading.unit},
            "identifier": [{"value": text(&reading.uid)}],
            "effectiveDateTime": Timestamp(reading.effective_ms).to_rfc3339()});
        decoded
            .resources
            .push(raw(ResourceType::Observation, id, &json, index));
        decoded.positions.push(position);
    }
    decoded
}

fn raw(kind: ResourceType, id: FhirId, json: &serde_json::Value, index: Index) -> NewResource {
    NewResource::unchecked(kind, id, json.to_string(), index)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Hexadecimal digits of 16 bytes as in a guarded build, otherwise what of the text an id can hold.
fn id(bytes: &[u8]) -> FhirId {
    let random = types::Id128::try_from(bytes).map(|id| id.to_string());
    let plain: String = text(bytes)
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(64)
        .collect();
    let fallback = || "none".parse::<FhirId>();
    random
        .unwrap_or(plain)
        .parse()
        .or_else(|_| fallback())
        .unwrap_or_else(|_| unreachable!("'none' is an id"))
}
