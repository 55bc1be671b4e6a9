//! Heads of audit logs on their way: what a region holds of its facilities goes up to the global node, so that a region and
//! its facilities together cannot go back unseen; and what a tier holds comes down to those below it, so that it and one of
//! them together cannot either.
//!
//! A place is told of its own log too, where the teller has it from above and not from that place itself: a region that was
//! put back has forgotten what its facility said since, and the global node has not. So a facility that was put back to
//! another moment than its region learns that it was.
use super::{Handler, Inner, Ledger, Shipped};
use crate::{
    audit::{self, Signer, heads},
    db::DbError,
    envelope::{self, Envelope, Intact},
    outbox::is_below,
    port::{PortError, Verdict},
    reason,
};
use async_trait::async_trait;
use messages::{AuditCheckpoint, Body};
use rusqlite::Connection;
use std::{collections::HashMap, time::Duration};
use tokio::time::Instant;
use types::{EnvelopeId, Place, Priority, Purpose};

/// Heads in one parcel.
const MAX_HEADS: usize = 1_000;
/// How often a place below gets the heads (real time).
const TELL_EVERY: Duration = Duration::from_secs(3_600);

/// Takes in heads of audit logs: [`Ledger::keeps_heads`].
pub struct KeepsHeads(Ledger);

#[async_trait]
impl Handler for KeepsHeads {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let (from, parcels) = (from.clone(), parcels.to_vec());
        let step = move |inner: &Inner, tx: &Connection| {
            let way = (&from, &inner.here);
            let kept =
                |parcel| keep_heads(tx, &inner.signer, way, parcel).map(|(verdict, _)| verdict);
            parcels.iter().map(kept).collect::<Result<Vec<_>, _>>()
        };
        self.0.step("keep heads", step).await
    }
}

/// Keeps the heads that a parcel tells, in the caller's transaction. Their signatures are their own nodes'; whoever holds
/// those certificates checks them (`medmesh audit verify --head`). Also whether they show that this node was put back,
/// which was not known: then it is to meet again whom it sends to.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn keep_heads(
    tx: &Connection,
    signer: &Signer,
    (from, here): (&Place, &Place),
    parcel: &Intact,
) -> Result<(Verdict, bool), DbError> {
    let Ok(body) = envelope::open::<AuditCheckpoint>(parcel) else {
        let reason = reason::MALFORMED;
        return Ok((Verdict::Quarantined { reason }, false));
    };
    let mut put_back = false;
    for note in body.heads.iter().take(MAX_HEADS) {
        let Some(place) = origin_of(note).filter(|place| is_at_or_below(place, from)) else {
            continue;
        };
        if place == *here {
            put_back |= heads::hear(tx, signer, note)?;
        } else if is_below(here, from) && is_at_or_below(&place, here) {
            heads::tell(tx, note)?;
        } else {
            heads::keep(tx, note)?;
        }
    }
    let stored = body.count();
    Ok((Verdict::Accepted { stored }, put_back))
}

fn origin_of(note: &str) -> Option<Place> {
    let origin = note.lines().next()?;
    origin.strip_prefix(audit::ORIGIN)?.parse().ok()
}

fn is_at_or_below(place: &Place, from: &Place) -> bool {
    let own_facility = matches!((place, from), (Place::Edge { .. }, Place::Regional { .. }))
        && place.jurisdiction() == from.jurisdiction()
        && place.region() == from.region();
    place == from || own_facility || *from == Place::Global
}

/// The heads that are told from a place to another: of what is at or below the teller, and not what that other one says
/// itself; its own where the teller has it from above.
fn to_tell(conn: &Connection, from: &Place, to: &Place) -> Result<Vec<String>, DbError> {
    let mut notes = heads::all(conn)?;
    let told = |place: Place| is_at_or_below(&place, from) && place != *to;
    notes.retain(|note| origin_of(note).is_some_and(told));
    let own = heads::told(conn, to)?;
    if !own.is_empty() {
        notes.insert(0, own);
    }
    notes.truncate(MAX_HEADS);
    Ok(notes)
}

/// Tells places below of heads of audit logs, each when it has come to be known, then once an hour, and at once when it is
/// to hear of its own.
#[derive(Debug, Default)]
pub struct Telling(HashMap<Place, (Instant, String)>);

impl Telling {
    /// One look: whoever is due is told. Call it every second or so.
    ///
    /// # Errors
    /// [`PortError`]: the rest is told at the next look.
    pub async fn look(&mut self, ledger: &Ledger) -> Result<(), PortError> {
        for place in ledger.below().await? {
            let (now, of) = (Instant::now(), place.clone());
            let own = ledger
                .db
                .step("told", move |tx| heads::told(tx, &of))
                .await?;
            let is_told = |(at, told): &(Instant, String)| now < *at + TELL_EVERY && *told == own;
            if self.0.get(&place).is_some_and(is_told) {
                continue;
            }
            let id = EnvelopeId::from_bytes(rand::random());
            // Before there is any, it is looked for again soon.
            if ledger.ship_heads(place.clone(), id).await? > 0 {
                self.0.insert(place, (now, own));
            }
        }
        Ok(())
    }
}

impl Ledger {
    /// The handler of heads of audit logs, which are kept beside this node's own log.
    #[must_use]
    pub fn keeps_heads(&self) -> KeepsHeads {
        KeepsHeads(self.clone())
    }

    /// Ships heads that are kept here to the next tier, or to a place below: how many. `id` is random.
    ///
    /// # Errors
    /// [`PortError`]: nothing was shipped.
    pub async fn ship_heads(&self, to: Place, id: EnvelopeId) -> Result<usize, PortError> {
        let (here, there) = (self.inner.here.clone(), to.clone());
        let heads = move |tx: &Connection| to_tell(tx, &here, &there);
        let heads = self.db.step("heads to tell", heads).await?;
        let count = heads.len();
        if count == 0 {
            return Ok(0);
        }
        let envelope = Envelope {
            from: self.inner.here.clone(),
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
