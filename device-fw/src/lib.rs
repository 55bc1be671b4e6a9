//! Device firmware core and, with the feature `sim`, the simulated devices.
//!
//! The core (`frame`, `slave`, `registers`, `signal`, `window`, `health`) is `no_std` without `alloc`: it runs on a
//! microcontroller, owns no memory but what the caller gives it, and never touches a wire, a clock or a random source.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#![cfg_attr(not(any(test, feature = "sim")), no_std)]

pub mod frame;
pub mod health;
pub mod registers;
pub mod signal;
pub mod slave;
pub mod window;

#[cfg(feature = "sim")]
#[allow(clippy::indexing_slicing, reason = "simulators, on a machine of ours")]
pub mod sim;
