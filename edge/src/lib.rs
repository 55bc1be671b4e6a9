//! The facility's node: Modbus to MQTT, durable ingest, freshness, de-identification, uplink.
#[cfg(all(medmesh_unguarded, not(debug_assertions)))]
compile_error!(
    "MEDMESH_UNGUARDED takes de-identification out: it is for one test, never for a release"
);

mod alarms;
pub mod backup;
pub mod beds;
pub mod clockguard;
pub mod config;
pub mod control;
pub mod crosswalk;
pub mod dataset;
pub mod deid;
mod deliveries;
mod error;
pub mod facility;
pub mod fhir;
pub mod freshness;
pub mod learning;
pub mod lease;
mod mqtt;
mod offset;
pub mod pipeline;
pub mod quarantine;
mod run;
mod serving;
mod standing;
pub mod store;
mod tasks;
pub mod view;
mod view_api;

pub use error::EdgeError;
pub use offset::CLOCK_OFFSET;
pub use run::{BUILT, Node, run, start};
