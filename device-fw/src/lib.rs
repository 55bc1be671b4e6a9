//! Device firmware core (no_std) and, with the feature `sim`, the simulated devices.
#![cfg_attr(not(feature = "sim"), no_std)]

#[cfg(feature = "sim")]
pub mod sim;
