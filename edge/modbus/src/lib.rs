//! The Modbus side of the facility: profiles say what the registers of a device mean, the planner merges reads, a state
//! machine per device decides what to do next, and a thin shell does it over TCP or RTU.
//!
//! What makes it safe: a sample is acknowledged to its device only after the journal's fsync; a value that was torn,
//! cut off, not understood or perhaps the answer to another question is never a reading; a device that is dead, frozen
//! or refuses is said to be so, and never delays another one. It does not
//! decide what is fresh ([`Observer`] is told) and does not publish (the journal does).
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
mod address;
mod bus;
mod condition;
mod decode;
mod device;
mod line;
mod notice;
mod plan;
mod point;
mod poll;
mod profile;
mod settings;
mod talk;
mod wire;
mod writes;

pub use address::{Address, Host, InvalidAddress, Parity};
pub use bus::{Bridge, run};
pub use condition::Conditions;
pub use device::Device;
pub use notice::Notice;
pub use plan::{Limits, Place, Plan, PlanError, Read, Space, Span as RegisterSpan, plan};
pub use point::{Kind, Offset, Order, Point, Scale, Sentinel};
pub use profile::{BUILT_IN, Profile, Profiles, Timing, WindowMap, problems};
pub use settings::Shown;
pub use wire::probe;
pub use writes::{Told, What, Writes};

use types::{DeviceId, Timestamp};

/// Is told what the poller sees of a device, so that freshness and alarms can follow. Must not block: it is called
/// from the polling task, `Seen` with every good read.
pub trait Observer: Send + Sync + 'static {
    /// Something was seen at a mesh instant.
    fn notice(&self, device: &DeviceId, at: Timestamp, notice: Notice);
}

/// Nobody looks.
impl Observer for () {
    fn notice(&self, _: &DeviceId, _: Timestamp, _: Notice) {}
}

#[cfg(test)]
mod tests;
