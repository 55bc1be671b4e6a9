//! The jurisdiction's node: receives pseudonymous readings of its facilities and serves them as FHIR R4.
//!
//! It holds nothing that identifies a patient, has no key to a pseudonym, and passes on device metadata alone.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#[cfg(all(medmesh_unguarded, not(debug_assertions)))]
compile_error!("MEDMESH_UNGUARDED is for test builds: it takes in what is not checked");

mod again;
mod api;
#[cfg(all(test, not(medmesh_unguarded)))]
mod attacker_tests;
mod audited;
mod carried;
mod choices;
pub mod config;
mod control;
mod decode;
mod deliveries;
pub mod engine;
mod enrolment;
pub mod registry;
pub use enrolment::PATH as ENROLMENT_PATH;
mod error;
mod hooks;
mod hosts;
pub mod intake;
pub mod learning;
mod listening;
pub mod numbering;
mod openapi;
mod pair;
mod probing;
mod rates;
mod reads;
pub mod reship;
mod served;
mod server;
mod true_times;
#[cfg(medmesh_unguarded)]
mod unguarded;
mod witness;

pub use error::RegionalError;
pub use fhir::postgres::create_database;
pub use server::run;
