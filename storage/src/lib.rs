//! How data lasts on a disk: files that are replaced whole and durably ([`file`]), files that are nobody else's business
//! ([`private`]), and SQLite files that are opened again after an I/O error ([`sqlite`]).
pub mod copy;
pub mod disk;
#[cfg(feature = "fault")]
pub mod fault;
pub mod file;
pub mod private;
pub mod sqlite;
pub mod thread;
#[cfg(feature = "fault")]
mod vfs;
