//! The facility's node: Modbus to MQTT, durable ingest, freshness, de-identification, uplink.
pub mod config;
pub mod ingest;
pub mod store;
