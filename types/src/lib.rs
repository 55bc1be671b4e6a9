//! Ids, places, data classes, readings and time: the words every other crate speaks.
//!
//! `no_std` with `alloc`, no input or output, no clock and no randomness: time and random bytes are arguments.
//! GLOSSARY.md says what each word means; each is defined here once.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![no_std]

extern crate alloc;

mod age;
mod care_unit;
mod class;
mod code;
mod decimal;
mod freshness;
mod id;
mod label;
mod phi;
mod place;
mod plausible;
mod reading;
mod retained;
mod secret;
mod time;

pub use age::{POOLED_AGE_YEARS, may_tell_birth_year};
pub use care_unit::CareUnit;
pub use class::{DataClass, Purpose};
pub use code::{Category, Code, CodeInfo, Expected, Unit, UnknownCode, UnknownUnit};
pub use decimal::{Decimal, InvalidDecimal};
pub use freshness::{Freshness, FreshnessLimits};
pub use id::{
    CatalogId, DevicePseudonym, EnvelopeId, FacilityPseudonym, Id128, InvalidId, PatientPseudonym,
    ReadingUid,
};
pub use label::{InvalidLabel, Label};
pub use phi::Phi;
pub use place::{DeviceId, FacilityId, InvalidName, Jurisdiction, Name, Place, RegionId, Tier};
pub use plausible::Plausible;
pub use reading::{AbsentReason, DeviceKind, DeviceStatus, Flags, Priority, ReadingKey, Value};
pub use retained::RetainedMessage;
pub use secret::Secret;
pub use time::{InvalidTimestamp, MeshClock, Timestamp};
