//! Backups of a node: what is in one, how it is taken beside the running node, and how it is put back.
//!
//! A backup is one file: an archive (`archive`) that is encrypted and authenticated from its first byte to its last
//! (`seal`). What it holds is said in its first entry (`manifest`), and paths in the configuration are changed where
//! it is put back elsewhere (`paths`). The order in which a node's files are taken keeps what the mesh promises: heads of
//! the audit log before the log, the ledger before the store beside it, blobs after what names them.
pub mod archive;
pub mod manifest;
pub mod paths;
pub mod postgres;
pub mod put;
pub mod seal;
pub mod take;
