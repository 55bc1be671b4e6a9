//! Heads of audit logs on their way up: what a region holds of its facilities goes to the global node, so that a region
//! and its facilities together cannot go back unseen.
use super::{Ledger, Shipped};
use crate::{
    audit::{self, heads},
    db::DbError,
    envelope::{self, Envelope},
    port::{PortError, Verdict},
    reason,
    wire::{AuditCheckpoint, Body, Parcel},
};
use rusqlite::Connection;
use types::{EnvelopeId, Place, Priority, Purpose};

/// Heads in one parcel.
const MAX_HEADS: usize = 1_000;

/// Whether a parcel carries heads.
pub(super) fn is_one(parcel: &Parcel) -> bool {
    parcel.kind == AuditCheckpoint::KIND
}

/// What becomes of a parcel of heads; none for any other.
pub(super) fn verdict(parcel: &Parcel) -> Option<Verdict> {
    is_one(parcel).then(|| match envelope::open::<AuditCheckpoint>(parcel) {
        Ok(body) => Verdict::Accepted {
            stored: body.count(),
        },
        Err(_) => Verdict::Quarantined {
            reason: reason::MALFORMED,
        },
    })
}

/// Keeps heads of the sender and of places below it. Their signatures are their own nodes'; whoever holds those
/// certificates checks them (`medmesh audit verify --head`).
pub(super) fn keep(tx: &Connection, from: &Place, parcel: &Parcel) -> Result<(), DbError> {
    if !is_one(parcel) {
        return Ok(());
    }
    let Ok(body) = envelope::open::<AuditCheckpoint>(parcel) else {
        return Ok(());
    };
    for note in body.heads.iter().take(MAX_HEADS) {
        if origin_of(note).is_some_and(|place| is_at_or_below(&place, from)) {
            heads::keep(tx, note)?;
        }
    }
    Ok(())
}

fn origin_of(note: &str) -> Option<Place> {
    let origin = note.lines().next()?;
    origin.strip_prefix(audit::ORIGIN)?.parse().ok()
}

fn is_at_or_below(place: &Place, from: &Place) -> bool {
    let own_facility = matches!((place, from), (Place::Edge { .. }, Place::Regional { .. }))
        && place.jurisdiction() == from.jurisdiction()
        && place.region() == from.region();
    place == from || own_facility
}

impl Ledger {
    /// Ships the heads that are kept here of places below to the next tier: how many. `id` is random.
    ///
    /// # Errors
    /// [`PortError`]: nothing was shipped.
    pub async fn ship_heads(&self, to: Place, id: EnvelopeId) -> Result<usize, PortError> {
        let here = self.inner.here.clone();
        let mut heads = self.heads().await?;
        heads.retain(|note| origin_of(note).is_some_and(|place| is_at_or_below(&place, &here)));
        heads.truncate(MAX_HEADS);
        let count = heads.len();
        if count == 0 {
            return Ok(0);
        }
        let envelope = Envelope {
            from: here,
            to,
            purpose: Purpose::Audit,
            body: AuditCheckpoint { heads },
        };
        match self.ship(envelope, Priority::Live, id).await? {
            Shipped::Queued(_) | Shipped::Known => Ok(count),
            Shipped::Refused(refusal) => {
                tracing::warn!(
                    reason = refusal.reason(),
                    "heads of audit logs not passed on"
                );
                Ok(0)
            }
        }
    }
}
