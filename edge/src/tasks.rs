//! The node's own tasks: each waits for the stop or a tick, takes a step of a pure core and does its effects.
mod catalog;
mod certificates;
mod commands;
mod presence;
mod staleness;
mod upkeep;
mod uplink;
mod watch;
pub(crate) use catalog::catalog;
pub(crate) use certificates::{certificates, region};
pub(crate) use commands::{commands, takes_commands};
pub(crate) use presence::presence;
pub(crate) use staleness::staleness;
pub(crate) use upkeep::upkeep;
pub(crate) use uplink::uplink;
pub(crate) use watch::watch;

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a floating-point number"
)]
fn set_gauge(name: &'static str, label: &'static str, value: &'static str, count: u64) {
    metrics::gauge!(name, label => value).set(count as f64);
}
