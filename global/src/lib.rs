//! The worldwide node: a catalog of devices and facilities without patient-level data.
//!
//! It takes in device records from regional nodes and shows them to operators. It holds no reading, no patient and no
//! pseudonym of either: it has no type for them.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
mod api;
pub mod catalog;
pub mod config;
mod deliveries;
pub mod intake;
pub mod learning;
mod page;
mod server;
mod study_answers;
mod study_text;
mod witness;

pub use page::{PATH as STUDIES_PATH, chart};
pub use server::{GlobalError, run};
pub use study_text::{lacking, read_study};
