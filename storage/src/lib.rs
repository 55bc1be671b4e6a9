//! How data lasts on a disk: files that are replaced whole and durably ([`mod@file`]), files that are nobody else's business
//! ([`private`]), SQLite files that are opened again after an I/O error ([`sqlite`]) and may be kept elsewhere too
//! ([`replica`]), other files whose bytes are ([`chunks`]), and what goes wrong in a store ([`StoreError`]).
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
pub mod chunks;
pub mod copy;
pub mod disk;
mod error;
#[cfg(feature = "fault")]
pub mod fault;
pub mod file;
pub mod migrate;
pub mod open;
pub mod private;
pub mod replica;
pub mod sqlite;
pub mod thread;
#[cfg(feature = "fault")]
mod vfs;

pub use error::{StoreError, StoreErrorKind};
