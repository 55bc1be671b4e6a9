//! One commit of a ledger's file: what a node keeps of its own in it, the parcels that follow from that, and their audit
//! rows, all of it or nothing.
use super::{
    Inner, Ledger, Shipped,
    uplink::{self, Outgoing},
};
use crate::{
    audit::{self, Entry},
    db::{DbError, migrate},
    envelope::Envelope,
    port::PortError,
};
use messages::Body;
use rusqlite::Connection;
use std::collections::BTreeSet;
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

/// What may be done within one commit: see [`Ledger::commit`].
pub struct Commit<'a> {
    inner: &'a Inner,
    tx: &'a Connection,
    /// For whom something was shipped.
    to: BTreeSet<Place>,
    audited: bool,
}

impl<'a> Commit<'a> {
    /// The tables of the file: the node's own are among them ([`Ledger::tables`]).
    #[must_use]
    pub const fn tx(&self) -> &'a Connection {
        self.tx
    }

    /// This node.
    #[must_use]
    pub const fn place(&self) -> &'a Place {
        &self.inner.here
    }

    /// Real time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.inner.now)()
    }

    /// Clears a message for a place, audits the decision and stores the sealed parcel. The same id twice is one step. A
    /// refusal is no error: the commit stands, with its audit row.
    ///
    /// # Errors
    /// [`DbError`]: return it, so that nothing of the commit stands. [`DbError::Full`] when as much waits for that place
    /// as may.
    pub fn ship<T: Body>(
        &mut self,
        to: &Place,
        (purpose, priority): (Purpose, Priority),
        id: EnvelopeId,
        body: T,
    ) -> Result<Shipped, DbError> {
        let envelope = Envelope {
            from: self.inner.here.clone(),
            to: to.clone(),
            purpose,
            body,
        };
        let outgoing = Outgoing {
            envelope,
            priority,
            id,
        };
        let shipped = uplink::ship(self.tx, self.inner, outgoing)?;
        match &shipped {
            Shipped::Known => {}
            Shipped::Refused(_) => self.audited = true,
            Shipped::Queued(_) => {
                self.audited = true;
                self.to.insert(to.clone());
            }
        }
        Ok(shipped)
    }

    /// Whether a message may still be shipped to a place: whoever ships to several in one commit leaves out those of which as
    /// much waits as may, rather than doing nothing for all of them.
    ///
    /// # Errors
    /// [`DbError`]: return it.
    pub fn has_room(&self, to: &Place) -> Result<bool, DbError> {
        uplink::has_room(self.tx, self.inner, to)
    }

    /// Writes a row to the audit log that is of no parcel.
    ///
    /// # Errors
    /// [`DbError`]: return it.
    pub fn note(&mut self, entry: &Entry) -> Result<(), DbError> {
        self.audited = true;
        audit::append(self.tx, entry)?;
        Ok(())
    }
}

impl Ledger {
    /// Makes the tables of a part of the node in the ledger's file, or brings them up to date: `steps[n]` leads from
    /// version n to n + 1.
    ///
    /// # Errors
    /// [`PortError`]; corrupt when a newer program wrote them.
    pub async fn tables(
        &self,
        part: &'static str,
        steps: &'static [&'static str],
    ) -> Result<(), PortError> {
        let make = move |tx: &Connection| migrate(tx, part, steps);
        self.db.step("tables", make).await
    }

    /// Everything in `step` is one commit, or nothing of it is. The links to those for whom something was shipped are
    /// woken once it stands.
    ///
    /// # Errors
    /// [`PortError`]: nothing was done.
    pub async fn commit<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&mut Commit<'_>) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, PortError> {
        let (done, to) = self
            .step(op, move |inner, tx| {
                let mut commit = Commit {
                    inner,
                    tx,
                    to: BTreeSet::new(),
                    audited: false,
                };
                let done = step(&mut commit)?;
                let Commit { to, audited, .. } = commit;
                if audited {
                    audit::sign_head(tx, &inner.signer)?;
                }
                Ok((done, to))
            })
            .await?;
        self.inner.added.notify(&to);
        Ok(done)
    }
}
