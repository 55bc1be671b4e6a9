//! Heads of audit logs on their way up: what a region holds of its facilities goes to the global node, so that a region
//! and its facilities together cannot go back unseen.
use super::{Handler, Ledger, Shipped};
use crate::{
    audit::{self, heads},
    db::DbError,
    envelope::{self, Envelope},
    port::{PortError, Verdict},
    reason,
    wire::Parcel,
};
use async_trait::async_trait;
use messages::{AuditCheckpoint, Body};
use rusqlite::Connection;
use types::{EnvelopeId, Place, Priority, Purpose};

/// Heads in one parcel.
const MAX_HEADS: usize = 1_000;

/// Takes in heads of audit logs: [`Ledger::keeps_heads`].
pub struct KeepsHeads(Ledger);

#[async_trait]
impl Handler for KeepsHeads {
    async fn apply(&self, from: &Place, parcels: &[Parcel]) -> Result<Vec<Verdict>, PortError> {
        let (from, parcels) = (from.clone(), parcels.to_vec());
        let step = move |_: &_, tx: &Connection| {
            let verdicts = parcels.iter().map(|parcel| keep(tx, &from, parcel));
            verdicts.collect::<Result<Vec<_>, _>>()
        };
        self.0.step("keep heads", step).await
    }
}

/// Keeps heads of the sender and of places below it. Their signatures are their own nodes'; whoever holds those
/// certificates checks them (`medmesh audit verify --head`).
fn keep(tx: &Connection, from: &Place, parcel: &Parcel) -> Result<Verdict, DbError> {
    let Ok(body) = envelope::open::<AuditCheckpoint>(parcel) else {
        return Ok(Verdict::Quarantined {
            reason: reason::MALFORMED,
        });
    };
    for note in body.heads.iter().take(MAX_HEADS) {
        if origin_of(note).is_some_and(|place| is_at_or_below(&place, from)) {
            heads::keep(tx, note)?;
        }
    }
    Ok(Verdict::Accepted {
        stored: body.count(),
    })
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
    /// The handler of heads of audit logs, which are kept beside this node's own log.
    #[must_use]
    pub fn keeps_heads(&self) -> KeepsHeads {
        KeepsHeads(self.clone())
    }

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
