//! FHIR R4 (4.0.1): mapping of readings, validation, search, and REST over a storage port.
//!
//! [`map`] makes resources of readings, [`validate`] decides what may be stored, [`store`] is the port and
//! [`sqlite`] and [`postgres`] its engines, [`search`] reads queries, [`rest`] serves them. [`r4`] has the
//! definitions of R4 as tables, and says of the text of any resource whether it is R4; [`admit`] says whether a place may
//! hold it, and [`consent`] whom a Consent opts out of research.
//!
//! [`subscription`] says who is told of which changes, and [`audit`] makes AuditEvents of rows of an audit log.
//!
//! Pure and over every resource type of R4: [`fhirpath`] evaluates expressions, [`query`] makes the rows of an index of a
//! resource and reads searches, [`patch`] changes a resource, [`shape`] shows a part of one, [`ucum`] knows units.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

#[cfg(all(medmesh_unguarded, not(debug_assertions)))]
compile_error!("MEDMESH_UNGUARDED is for test builds: it lets unchecked text into resources");

pub mod admit;
pub mod audit;
pub mod axis;
pub mod bases;
mod conflicts;
pub mod consent;
#[cfg(feature = "contract")]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod contract;
pub mod fhirpath;
mod id;
pub mod json;
mod kind;
pub mod map;
pub mod model;
pub mod patch;
pub mod postgres;
pub mod query;
pub mod r4;
pub mod reindex;
pub mod rest;
pub mod search;
pub mod shape;
mod sql;
pub mod sqlite;
pub mod store;
pub mod subscription;
pub mod ucum;
pub mod validate;
