//! The steps of a receiver on the tables of its inbox, in the caller's transaction: what the rules let in, and the answer
//! that was given. Whoever has these tables takes parcels in by them: a node's ledger ([`crate::ledger`]), and a
//! facility's store in its own commits.
use super::{Check, lookup, record};
use crate::{
    audit::{self, Decision, Entry, count, heads},
    db::DbError,
    gate,
    ledger::notes,
    policy::Rules,
    port::{Arrival, Verdict},
    wire::Parcel,
};
use messages::class_of;
use rusqlite::Connection;
use std::collections::HashSet;
use types::{Place, Timestamp};

/// Admitted parcels remembered until they are answered, so that a retry does not write another audit row.
const MAX_ADMITTED: usize = 65_536;

/// Who receives.
pub struct Receiver<'a> {
    /// The receiver.
    pub place: &'a Place,
    /// What may be received.
    pub rules: &'a Rules,
    /// Real time.
    pub now: Timestamp,
}

/// Parcels that were let in and not answered since, by sender, id and digest. In memory: after a start a retry is a new
/// decision.
#[derive(Debug, Default)]
pub struct Admitted(HashSet<(Place, Vec<u8>, Vec<u8>)>);

impl Admitted {
    /// Whether a parcel was let in.
    #[must_use]
    pub fn has(&self, from: &Place, parcel: &Parcel) -> bool {
        self.0.contains(&key(from, parcel))
    }

    /// What was let in is let in, until it is answered. Call it once the decisions are durable.
    pub fn remember(&mut self, from: &Place, arrivals: &[Arrival]) {
        if self.0.len() + arrivals.len() > MAX_ADMITTED {
            self.0.clear();
        }
        let let_in = arrivals.iter().filter(|arrival| arrival.fault.is_none());
        self.0
            .extend(let_in.map(|arrival| key(from, &arrival.parcel)));
    }

    /// Parcels were answered; one that was deferred comes again.
    pub fn forget<'a>(
        &mut self,
        from: &Place,
        answered: impl IntoIterator<Item = (&'a Parcel, &'a Verdict)>,
    ) {
        for (parcel, verdict) in answered {
            if !matches!(verdict, Verdict::Deferred { .. }) {
                self.0.remove(&key(from, parcel));
            }
        }
    }
}

fn key(from: &Place, parcel: &Parcel) -> (Place, Vec<u8>, Vec<u8>) {
    (from.clone(), parcel.id.to_vec(), parcel.digest.to_vec())
}

/// The fault of an arrival that has none yet, or the one it had when it came before. A new decision is written to the
/// audit log and returned: sign the head after it, and [`count`] it once the commit stands. `was_admitted` says that it
/// was let in before and not answered since: then a retry is no new decision.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn judge(
    tx: &Connection,
    receiver: &Receiver<'_>,
    from: &Place,
    arrival: &mut Arrival,
    was_admitted: bool,
) -> Result<Option<Decision>, DbError> {
    let parcel = &arrival.parcel;
    let known = lookup(tx, from, parcel)?;
    if known == Some(Check::OtherStream) {
        // Deferred by the inbox: nothing is decided before they have met.
        return Ok(None);
    }
    if let Some(Check::Seen(verdict)) = known {
        if let Verdict::Refused { reason } = verdict {
            arrival.fault.get_or_insert(reason);
        }
        return Ok(None);
    }
    let fault = arrival
        .fault
        .or_else(|| known.and_then(Check::fault))
        .or_else(|| gate::judge(receiver.rules, from, receiver.place, parcel).err());
    let decision = match fault {
        None if was_admitted => return Ok(None),
        None => Decision::Admitted,
        Some(_) => Decision::Denied,
    };
    let reason = fault.unwrap_or_default();
    let entry = Entry::of_parcel(receiver.now, decision, reason, from, receiver.place, parcel);
    audit::append(tx, &entry)?;
    if let Some(reason) = fault {
        let verdict = Verdict::Refused { reason };
        record(tx, from, parcel, &verdict)?;
        notes::answered(tx, from, parcel, &verdict, receiver.now)?;
    }
    arrival.fault = fault;
    Ok(Some(decision))
}

/// Records the answer to a parcel that the rules let in, with what follows from it: the note on what was not taken, the
/// row in the audit log that says so, and the head of the sender's log. Whether the audit log grew: sign its head then.
///
/// # Errors
/// [`DbError`]: roll back, and give no receipt.
pub fn answered(
    tx: &Connection,
    receiver: &Receiver<'_>,
    from: &Place,
    parcel: &Parcel,
    verdict: &Verdict,
) -> Result<bool, DbError> {
    record(tx, from, parcel, verdict)?;
    notes::answered(tx, from, parcel, verdict, receiver.now)?;
    heads::keep(tx, &parcel.head)?;
    let Verdict::Refused { reason } = verdict else {
        return Ok(false);
    };
    let denied = Decision::Denied;
    let entry = Entry::of_parcel(receiver.now, denied, reason, from, receiver.place, parcel);
    audit::append(tx, &entry)?;
    count(denied, class_of(&parcel.kind));
    Ok(true)
}
