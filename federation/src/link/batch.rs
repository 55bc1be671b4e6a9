//! Parcels of one stream, a batch at a time, and what becomes of a stream that breaks.
use super::MAX_MESSAGE_BYTES;
use crate::{
    port::Verdict,
    wire::{Outcome, Parcel, Receipt},
};
use futures_util::FutureExt;
use tokio_stream::StreamExt;
use tonic::{Status, Streaming};

/// Parcels that are judged and stored together: whichever bound is met first. Half of what a sender may have under way
/// of its backlog, so that both ends work at once.
const BATCH_PARCELS: usize = 64;
/// Bytes of bodies that are judged and stored together.
const BATCH_BYTES: usize = 4 << 20;

/// What the older stream of a sender is told.
pub(super) const NEWER: &str = "a newer stream of this sender";

/// Parcels that were there, and whether and how the stream ended behind them.
pub(super) struct Taken {
    pub(super) parcels: Vec<Parcel>,
    pub(super) end: Option<Result<(), Status>>,
}

impl Taken {
    pub(super) const fn broken(status: Status) -> Self {
        Self {
            parcels: Vec::new(),
            end: Some(Err(status)),
        }
    }
}

/// What a sender is told of a stream that broke, in words of our own.
pub(super) fn broken(status: &Status) -> Status {
    use tonic::Code;
    let (reason, told) = match status.code() {
        // tonic says OUT_OF_RANGE of a message above its limit, gRPC RESOURCE_EXHAUSTED.
        Code::OutOfRange | Code::ResourceExhausted => (
            "too-large",
            Status::resource_exhausted(format!(
                "a message is longer than {MAX_MESSAGE_BYTES} bytes"
            )),
        ),
        Code::DeadlineExceeded => (
            "late",
            Status::deadline_exceeded("a message was not whole in time"),
        ),
        Code::Aborted => ("newer", Status::aborted(NEWER)),
        Code::Internal | Code::InvalidArgument | Code::Unimplemented => (
            "malformed",
            Status::invalid_argument("a message is not a parcel"),
        ),
        _ => ("closed", Status::cancelled("the stream broke")),
    };
    metrics::counter!("medmesh_link_broken_streams_total", "reason" => reason).increment(1);
    told
}

/// Waits for a parcel and takes what is there behind it. What a broken stream brought whole is answered; the rest its
/// sender sends again.
pub(super) async fn next_batch(parcels: &mut Streaming<Parcel>) -> Taken {
    let first = match parcels.next().await {
        Some(Ok(first)) => first,
        Some(Err(status)) => return Taken::broken(status),
        None => {
            return Taken {
                parcels: Vec::new(),
                end: Some(Ok(())),
            };
        }
    };
    let mut bytes = first.body.len();
    let mut batch = vec![first];
    // An error shows itself once: the next call would say that the stream ended.
    let mut end = None;
    while end.is_none() && batch.len() < BATCH_PARCELS && bytes < BATCH_BYTES {
        match parcels.next().now_or_never() {
            Some(Some(Ok(parcel))) => {
                bytes += parcel.body.len();
                batch.push(parcel);
            }
            Some(Some(Err(status))) => end = Some(Err(status)),
            Some(None) => end = Some(Ok(())),
            None => break,
        }
    }
    Taken {
        parcels: batch,
        end,
    }
}

/// A receipt with what became of its parcel.
pub(super) fn fill(mut receipt: Receipt, verdict: &Verdict) -> Receipt {
    let (outcome, word, reason, stored) = match verdict {
        Verdict::Accepted { stored } => (Outcome::Accepted, "accepted", "", *stored),
        Verdict::Quarantined { reason } => (Outcome::Quarantined, "quarantined", *reason, 0),
        Verdict::Refused { reason } => (Outcome::Refused, "refused", *reason, 0),
        Verdict::Deferred { reason } => (Outcome::Deferred, "deferred", *reason, 0),
    };
    metrics::counter!("medmesh_link_received_total", "outcome" => word).increment(1);
    receipt.outcome = outcome.into();
    receipt.reason = reason.to_owned();
    receipt.stored = stored;
    receipt
}
