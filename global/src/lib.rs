//! The worldwide node: a catalog of devices and facilities without patient-level data.
pub mod catalog;
pub mod config;
