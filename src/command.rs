//! One file a command.
pub mod audit;
pub mod beds;
pub mod check_config;
pub mod dataset;
pub mod device;
pub mod edge;
pub mod fl;
pub mod global;
pub mod local_api;
pub mod node;
pub mod pki;
pub mod plans;
pub mod quarantine;
pub mod regional;
pub mod studies;
pub mod token;
pub mod view;
