//! One connection, whichever end dialled: parcels are sent by priority as far as their windows are open, receipts are settled as they come.
//!
//! Less urgent parcels are sent only when nothing more urgent waits that could be sent: while a priority's window is
//! full, what is below it waits too. So after an outage every alarm is under way before the first parcel of the
//! backlog, and a live parcel waits for no more of the backlog than its window holds.
use super::{
    super::{
        LinkError,
        backoff::Backoff,
        believe, ended,
        flight::{Flight, Landed},
    },
    opened::Opened,
};
use crate::{
    ledger::OUT_OF_ORDER_LIMIT,
    port::Outbox,
    reason,
    wire::{Outcome, Parcel, Receipt},
};
use ed25519_dalek::VerifyingKey;
use futures_util::FutureExt;
use node::clock::Clock;
use rand::rngs::StdRng;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::StreamExt;
use tonic::Streaming;
use types::{Place, Priority};

/// With parcels under way and no receipt for so long, the link is taken for broken.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound of the first wait after a deferred parcel.
const DEFER_BASE: Duration = Duration::from_millis(50);
/// Bound of every later wait after a deferred parcel.
const DEFER_CAP: Duration = Duration::from_secs(5);
/// Receipts that are settled in one step of the outbox.
const SETTLE_RECEIPTS: usize = 256;

/// What is held back of a priority whose parcel was deferred.
struct Held {
    until: Option<Instant>,
    backoff: Backoff,
    /// Since when its parcels are deferred as out of order.
    out_of_order: Option<Instant>,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            until: None,
            out_of_order: None,
            backoff: Backoff::new(DEFER_BASE, DEFER_CAP),
        }
    }
}

/// One open stream.
pub(in crate::link) struct Session {
    outbox: Arc<dyn Outbox>,
    there: Place,
    receiver: String,
    key: VerifyingKey,
    parcels: mpsc::Sender<Parcel>,
    flight: Flight,
    held: [Held; 3],
    /// When the next receipt must be here.
    deadline: Option<Instant>,
}

impl Session {
    /// A session over an open call to `there`; what comes back is read from the stream beside it.
    pub(in crate::link) fn new(
        outbox: Arc<dyn Outbox>,
        there: Place,
        opened: Opened,
    ) -> (Self, Streaming<Receipt>) {
        let session = Self {
            outbox,
            receiver: there.to_string(),
            there,
            key: opened.key,
            parcels: opened.parcels,
            flight: Flight::default(),
            held: Default::default(),
            deadline: None,
        };
        (session, opened.receipts)
    }

    /// Sends and settles until the link breaks. `settled` counts the receipts that were settled.
    pub(in crate::link) async fn run(
        mut self,
        mut receipts: Streaming<Receipt>,
        rng: &mut StdRng,
        settled: &mut u64,
        stuck: &watch::Sender<bool>,
    ) -> LinkError {
        loop {
            if let Err(error) = self.send().await {
                return error;
            }
            let (outbox, there) = (Arc::clone(&self.outbox), self.there.clone());
            let wake = self.wake();
            let landed = tokio::select! {
                first = receipts.message() => match first {
                    Ok(Some(first)) => {
                        let batch = gather(first, &mut receipts);
                        self.settle(batch, rng, settled).await
                    }
                    Ok(None) => Err(LinkError::Ended { code: tonic::Code::Ok }),
                    Err(status) => Err(ended(status)),
                },
                () = outbox.added(&there) => Ok(()),
                () = sleep_until(wake) => self.in_time(),
            };
            if let Err(error) = landed {
                return error;
            }
            stuck.send_if_modified(|stuck| {
                let now = self.is_stuck();
                let changed = *stuck != now;
                *stuck = now;
                if changed && now {
                    tracing::error!(
                        receiver = self.receiver,
                        "parcels are deferred as out of order for longer than {OUT_OF_ORDER_LIMIT:?}"
                    );
                }
                changed
            });
        }
    }

    /// Sends what there is room for, the most urgent first.
    async fn send(&mut self) -> Result<(), LinkError> {
        let now = Instant::now();
        for priority in Priority::ALL {
            let held = priority.of_mut(&mut self.held);
            if held.until.is_some_and(|until| now < until) {
                continue;
            }
            held.until = None;
            if !self.send_all(priority).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends what waits in a priority; says whether that was all of it.
    async fn send_all(&mut self, priority: Priority) -> Result<bool, LinkError> {
        while let Some(room) = self.flight.room(priority) {
            let leased = self.outbox.lease(&self.there, priority, room).await?;
            if leased.is_empty() {
                return Ok(true);
            }
            for mut parcel in leased {
                if self.flight.is_empty() {
                    self.deadline = Some(Instant::now() + RECEIPT_TIMEOUT);
                }
                self.flight.depart_cut(priority, &mut parcel);
                metrics::counter!("medmesh_link_sent_total", "priority" => priority.as_str())
                    .increment(1);
                let gone = |_| LinkError::Ended {
                    code: tonic::Code::Unavailable,
                };
                self.parcels.send(parcel).await.map_err(gone)?;
            }
        }
        Ok(false)
    }

    /// Checks receipts and settles them in one step. A bad one ends the link, after the good ones before it.
    async fn settle(
        &mut self,
        batch: Vec<Receipt>,
        rng: &mut StdRng,
        settled: &mut u64,
    ) -> Result<(), LinkError> {
        let mut good = Vec::with_capacity(batch.len());
        let mut bad = None;
        for mut receipt in batch {
            let sealed = self.flight.sealed(&receipt);
            match self.flight.land(&receipt, &self.receiver, &self.key) {
                Ok(Landed::Known) => refused("known"),
                Ok(Landed::Final(priority)) => {
                    if receipt.outcome() == Outcome::Refused {
                        tracing::error!(
                            reason = reason::known(&receipt.reason),
                            seq = receipt.seq,
                            "parcel refused"
                        );
                    }
                    let held = priority.of_mut(&mut self.held);
                    held.backoff.reset();
                    held.out_of_order = None;
                    believe(&mut receipt.head, &self.there, &self.key);
                    if let Some(sealed) = sealed {
                        receipt.digest = sealed;
                    }
                    good.push(receipt);
                }
                Ok(Landed::Deferred(priority)) => {
                    let held = priority.of_mut(&mut self.held);
                    if held.until.is_none() {
                        held.until = Some(Instant::now() + held.backoff.next(rng));
                    }
                    match receipt.reason.as_str() {
                        reason::OTHER_STREAM => bad = Some(LinkError::OtherStream),
                        reason::OUT_OF_ORDER => {
                            held.out_of_order.get_or_insert_with(Instant::now);
                        }
                        _ => {}
                    }
                    believe(&mut receipt.head, &self.there, &self.key);
                    good.push(receipt);
                }
                Err(error) => {
                    refused("forged");
                    tracing::error!(%error, "receipt refused");
                    bad = Some(error);
                    break;
                }
            }
        }
        self.deadline = (!self.flight.is_empty()).then(|| Instant::now() + RECEIPT_TIMEOUT);
        if !good.is_empty() {
            heard(&self.there);
            *settled += good.len() as u64;
            self.outbox.settle(&self.there, good).await?;
        }
        bad.map_or(Ok(()), Err)
    }

    /// Whether parcels wait for longer than they may for one before them that does not come.
    fn is_stuck(&self) -> bool {
        let since = self.held.iter().filter_map(|held| held.out_of_order);
        since
            .min()
            .is_some_and(|since| since.elapsed() > OUT_OF_ORDER_LIMIT)
    }

    /// When to look again though nothing happened.
    fn wake(&self) -> Option<Instant> {
        let held = self.held.iter().filter_map(|held| held.until);
        held.chain(self.deadline).min()
    }

    fn in_time(&self) -> Result<(), LinkError> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => {
                Err(LinkError::Timeout(RECEIPT_TIMEOUT))
            }
            _ => Ok(()),
        }
    }
}

/// A place of that tier has answered now.
pub(in crate::link) fn heard(there: &Place) {
    let now = Clock::new(None).real().0 / 1_000;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are exact")]
    metrics::gauge!("medmesh_link_heard_timestamp_seconds", "peer" => there.tier().as_str())
        .set(now as f64);
}

fn refused(reason: &'static str) {
    metrics::counter!("medmesh_link_receipts_ignored_total", "reason" => reason).increment(1);
}

/// The receipts that are there behind the first.
fn gather(first: Receipt, receipts: &mut Streaming<Receipt>) -> Vec<Receipt> {
    let mut batch = vec![first];
    while batch.len() < SETTLE_RECEIPTS {
        match receipts.next().now_or_never() {
            Some(Some(Ok(receipt))) => batch.push(receipt),
            // An end or error that shows itself here shows itself again at the next call.
            _ => break,
        }
    }
    batch
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}
