//! The jurisdiction's node: receives pseudonymous readings and serves them as FHIR R4.
pub mod config;
