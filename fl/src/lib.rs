//! Federated learning without IO, clock or randomness of its own: what a study asks for, what it costs in privacy, how
//! updates are encoded, masked, summed and noised, and how a round goes on.
//!
//! Coordinators and workers are thin shells around this crate: they store what it decides, send what it encodes, and
//! hand it time and random numbers.
//!
//! - [`study`]: `study.toml`, everything that is wrong with one, and the plan that it comes to.
//! - [`privacy`]: accountant, clip and noise.
//! - [`update`]: updates as whole numbers; [`secagg`]: their sum without any of them.
//! - [`plain`]: updates that are seen one by one; [`code`]: which code trains.
//! - [`large`]: models and updates that fit no parcel.
//! - [`round`]: who is asked what until when.
//! - [`strategy`]: what becomes of the global model.
//! - [`net`], [`dense`] and [`train`]: models, and training at a facility, with or without privacy of records.
//! - [`table`]: a facility's own records; [`stays`]: records of the readings of stays; [`features`]: what a study takes
//!   of them.
//! - [`site`] and [`judge`]: what a site does in a round.
//! - [`order`]: what crosses between places in a round; [`region`] and [`member`]: both sides of it.
//! - [`wire`]: the same as messages.
//! - [`course`]: a study as it runs, from its first round to its evaluation.
//! - [`export`]: models as files that others read.
//! - [`consent`]: what a facility objects to; [`objection`]: how it says so.
//! - [`ledger`]: what a facility has spent.
//! - [`metrics`]: how good it is, pooled without any record.
//!
//! What comes from outside (studies, tables, updates, models, messages) is read without an index that could be beyond
//! its end. The kernels alone index: they count over matrices whose shape was checked at the door, and a place that was
//! beside them would be a fault of ours, which must not become a wrong number.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod code;
pub mod consent;
pub mod course;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod dense;
mod exact;
pub mod export;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod features;
pub mod judge;
pub mod large;
pub mod ledger;
mod logistic;
pub mod member;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod metrics;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod net;
pub mod objection;
pub mod order;
pub mod plain;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod privacy;
pub mod region;
pub mod round;
pub mod secagg;
pub mod site;
pub mod stays;
pub mod strategy;
pub mod study;
pub mod table;
#[allow(clippy::indexing_slicing, reason = "kernels, see above")]
pub mod train;
pub mod update;
pub mod wire;

#[cfg(test)]
mod attack_tests;
#[cfg(all(test, medmesh_data))]
mod heart_tests;
