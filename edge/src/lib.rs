//! The facility's node: Modbus to MQTT, durable ingest, freshness, de-identification, uplink.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
mod alarms;
pub mod backup;
pub mod beds;
pub mod config;
mod context;
pub mod control;
pub mod crosswalk;
pub mod dataset;
mod deliveries;
mod enrolment;
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
mod tasks;
pub mod view;
mod view_api;

pub use error::EdgeError;
pub use offset::CLOCK_OFFSET;
pub use run::{BUILT, Node, run, start};
