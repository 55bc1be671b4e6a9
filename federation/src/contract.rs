//! What every adapter of the ports between places must do: `Outbox`, `Inbox`, `Gate` and `Bulk`, over real files.
//!
//! A [`Side`] is one end of a link: a node's own adapters over its own store. The suite puts a ledger at the other end and
//! lets an adversary stand between the two ([`wire::Line`]): it redelivers, reorders, hides answers and halves batches.
//! A case is a private function: one left out of [`CASES`] is dead code, and dead code fails the build.
pub mod machine;
mod promises;
mod wire;

use crate::{
    blobs::{Bulk, Descriptor},
    port::{Gate, Inbox, Outbox},
};
use async_trait::async_trait;
use std::{future::Future, pin::Pin, sync::Arc};
use types::{Place, Priority};

/// The ports of a node, over one opening of its files.
#[derive(Clone)]
pub struct Ports {
    /// What goes to the peer.
    pub outbox: Arc<dyn Outbox>,
    /// What comes from the peer.
    pub inbox: Arc<dyn Inbox>,
    /// What judges it.
    pub gate: Arc<dyn Gate>,
    /// Blobs, both ways.
    pub bulk: Arc<dyn Bulk>,
}

/// One end of a link, over files of its own that are empty at first.
#[async_trait]
pub trait Side: Send + Sync {
    /// Where the node stands.
    fn here(&self) -> Place;

    /// The node that it has a link with.
    fn peer(&self) -> Place;

    /// Opens the files; what was opened before is killed.
    async fn open(&self) -> Ports;

    /// Ships a message to the peer that says `number`, of a kind that the suite's peer takes in
    /// ([`messages::DeviceRecords`] with the number as the model of one device).
    async fn ship(&self, priority: Priority, number: u32);

    /// The numbers of such messages that were taken in from the peer, in their order.
    async fn taken(&self) -> Vec<u32>;

    /// Puts a blob in, and grants it to the peer.
    async fn grants(&self, bytes: &[u8]) -> Descriptor;

    /// Wants a blob of the peer.
    async fn wants(&self, descriptor: Descriptor);
}

/// One promise.
pub struct Case {
    /// The promise, as a sentence in snake case.
    pub name: &'static str,
    /// Checks it on empty files; panics when it is broken.
    pub run: for<'a> fn(&'a dyn Side) -> Check<'a>,
}

/// A case under way.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($case:ident),* $(,)?) => {
        &[$(Case { name: stringify!($case), run: |side| Box::pin(promises::$case(side)) }),*]
    };
}

/// The promises.
pub const CASES: &[Case] = cases![
    what_is_shipped_arrives_once_and_in_order_whatever_the_line_does,
    what_comes_is_taken_in_once_and_in_order_whatever_the_line_does,
    a_lease_ends_with_its_process_or_its_link_and_nothing_is_lost,
    a_lease_takes_no_more_than_was_asked_for,
    the_same_receipt_twice_is_one_step_and_one_of_nothing_changes_nothing,
    what_is_not_what_it_claims_is_refused_stays_so_and_holds_up_nobody,
    what_comes_before_its_turn_is_deferred_and_taken_in_its_turn,
    who_was_granted_a_blob_gets_it_and_nobody_else,
    a_blob_is_taken_from_whom_it_is_wanted_where_it_stopped_and_seen_once_it_is_whole,
];

/// The model of the one device of a message with this number.
#[must_use]
pub fn model(number: u32) -> String {
    format!("m{number}")
}

/// The number of such a model.
#[must_use]
pub fn number(model: &str) -> Option<u32> {
    model.strip_prefix('m')?.parse().ok()
}
