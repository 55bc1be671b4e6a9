//! An independent reader of what the mesh emits: fhir-sdk's R4B model.
//!
//! Its generated types contain one another, so each use of one compiles all of them, for minutes. They are used
//! here and nowhere else, so that this happens once and not with every change of a test. For the resources that
//! are emitted (Observation, Patient, Device) R4B's JSON is that of R4.
use fhir_sdk::r4b::resources::{Device, Observation, Patient};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Error, Value};

/// Reads a resource by its `resourceType` and writes it again. What the reader does not understand is gone.
///
/// # Errors
/// It is no Observation, Patient or Device, or the reader refuses it.
pub fn reread(resource: Value) -> Result<Value, Error> {
    match resource["resourceType"].as_str() {
        Some("Observation") => again::<Observation>(resource),
        Some("Patient") => again::<Patient>(resource),
        Some("Device") => again::<Device>(resource),
        _ => Err(serde::de::Error::custom(
            "no Observation, Patient or Device",
        )),
    }
}

fn again<T: DeserializeOwned + Serialize>(resource: Value) -> Result<Value, Error> {
    serde_json::to_value(serde_json::from_value::<T>(resource)?)
}
