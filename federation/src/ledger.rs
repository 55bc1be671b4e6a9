//! A node's side of the mesh in one SQLite file: the audit log, the ledger of what came in and was answered, and the
//! outbox of what is to go out. For nodes whose records live in another engine than this file; an edge keeps the same
//! tables in its encrypted store. One file means one audit log, and that a decision commits with what was decided.
//!
//! A parcel that comes in goes through three commits, each of which may be the last before a crash: [`Gate::admit`]
//! writes the decision; [`Apply::apply`] makes the records durable, idempotently; the answer is recorded, and only then
//! given. What goes out is one commit: [`Ledger::ship`].
use crate::{
    audit::{self, Decision, Entry, Signer, count, heads, witness::Witness},
    db::{self, DbError, Shared},
    gap, gate,
    identity::Identity,
    inbox::{self, Check, Here},
    outbox::{self, Leases},
    policy::Rules,
    port::{Arrival, Gate, Inbox, PeerAudit, PortError, PortErrorKind, Verdict},
    tls::TimeSource,
    wire::{Hello, Parcel, Welcome},
};
use async_trait::async_trait;
use messages::class_of;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::Notify;
use types::Place;

mod checkpoint;
mod handlers;
mod lateness;
pub mod notes;
mod restore;
mod uplink;
pub use checkpoint::KeepsHeads;
pub use handlers::{Engine, Handler, Handlers};
use lateness::Lateness;
pub use lateness::OUT_OF_ORDER_LIMIT;
pub use restore::Marked;
use uplink::Added;
pub use uplink::{MAX_KNOWN, MAX_WAITING_BYTES, Shipped};

/// Admitted parcels remembered until they are answered, so that a retry does not write another audit row.
const MAX_ADMITTED: usize = 65_536;

/// Makes admitted parcels durable in an engine of the node's choice.
#[async_trait]
pub trait Apply: Send + Sync + 'static {
    /// Stores the records of these parcels, in this order, and says what became of each (same length, same order).
    /// The same parcel may come again after a crash: to no effect, with the same answer. What follows a deferred
    /// parcel of a priority is deferred too.
    async fn apply(&self, from: &Place, parcels: &[Parcel]) -> Result<Vec<Verdict>, PortError>;

    /// Where the engine's own order of commits stands, if it has one that is kept apart from the ledger: a number that
    /// grows with what is applied. A smaller one than was seen before says that the engine was put back
    /// ([`Ledger::compare_mark`]).
    async fn mark(&self) -> Result<Option<u64>, PortError> {
        Ok(None)
    }
}

/// The gate, the audit log, the answers and the outbox of one node.
#[derive(Clone)]
pub struct Ledger {
    db: Shared,
    inner: Arc<Inner>,
}

struct Inner {
    here: Place,
    rules: Arc<Rules>,
    signer: Signer,
    now: TimeSource,
    witness: Witness,
    path: PathBuf,
    admitted: Mutex<HashSet<Admitted>>,
    order: Mutex<Lateness>,
    leases: Mutex<Leases>,
    added: Added,
    reship: Notify,
}

/// Sender, id and digest of a parcel.
type Admitted = (Place, Vec<u8>, Vec<u8>);

fn admitted(from: &Place, parcel: &Parcel) -> Admitted {
    (from.clone(), parcel.id.to_vec(), parcel.digest.to_vec())
}

impl Ledger {
    /// Opens the file, and makes it when it is absent. `now` is real time.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Newer`] when a newer program wrote it.
    pub fn open(
        path: &Path,
        here: Place,
        rules: impl Into<Arc<Rules>>,
        signer: Signer,
        now: TimeSource,
    ) -> Result<Self, DbError> {
        let connection = db::open(path)?;
        audit::schema(&connection)?;
        inbox::schema(&connection)?;
        outbox::schema(&connection)?;
        uplink::schema(&connection)?;
        notes::schema(&connection)?;
        gap::schema(&connection)?;
        let witness = Witness::beside(path, &here, signer.verifying_key());
        Ok(Self {
            db: Shared::new(path, connection),
            inner: Arc::new(Inner {
                witness,
                path: path.to_owned(),
                order: Mutex::default(),
                here,
                rules: rules.into(),
                signer,
                now,
                admitted: Mutex::default(),
                leases: Mutex::default(),
                added: Added::default(),
                reship: Notify::new(),
            }),
        })
    }

    /// An inbox that answers from this ledger what it has answered before, and applies the rest.
    pub fn inbox<A: Apply>(&self, apply: A) -> LedgerInbox<A> {
        LedgerInbox {
            ledger: self.clone(),
            apply,
        }
    }

    /// The last signed head of the audit log, in the format of C2SP tlog-checkpoint; none before the first entry.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn checkpoint(&self) -> Result<Option<String>, PortError> {
        self.db.step("checkpoint", audit::checkpoint).await
    }

    async fn step<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&Inner, &Connection) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, PortError> {
        let inner = self.inner.clone();
        self.db.step(op, move |tx| step(&inner, tx)).await
    }
}

impl Inner {
    /// The fault of an arrival that has none yet, or the one it had when it came before. A new decision is written to
    /// the audit log and returned.
    fn judge(
        &self,
        tx: &Connection,
        from: &Place,
        arrival: &mut Arrival,
    ) -> Result<Option<Decision>, DbError> {
        let parcel = &arrival.parcel;
        let known = inbox::lookup(tx, from, parcel)?;
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
            .or_else(|| gate::judge(&self.rules, from, &self.here, parcel).err());
        let decision = match fault {
            // It was let in before and not answered since: a retry is no new decision.
            None if self.admitted.lock().contains(&admitted(from, parcel)) => return Ok(None),
            None => Decision::Admitted,
            Some(_) => Decision::Denied,
        };
        let reason = fault.unwrap_or_default();
        let entry = Entry::of_parcel((self.now)(), decision, reason, from, &self.here, parcel);
        audit::append(tx, &entry)?;
        if let Some(reason) = fault {
            let verdict = Verdict::Refused { reason };
            inbox::record(tx, from, parcel, &verdict)?;
            self.note_answer(tx, from, parcel, &verdict)?;
        }
        arrival.fault = fault;
        Ok(Some(decision))
    }

    /// Writes down that a parcel which the rules let in was refused for what it holds: whether it was.
    fn audit_refusal(
        &self,
        tx: &Connection,
        from: &Place,
        parcel: &Parcel,
        verdict: &Verdict,
    ) -> Result<bool, DbError> {
        let Verdict::Refused { reason } = verdict else {
            return Ok(false);
        };
        let now = (self.now)();
        let entry = Entry::of_parcel(now, Decision::Denied, reason, from, &self.here, parcel);
        audit::append(tx, &entry)?;
        count(Decision::Denied, class_of(&parcel.kind));
        Ok(true)
    }

    /// What was let in is let in, until it is answered.
    fn remember(&self, from: &Place, arrivals: &[Arrival]) {
        let mut set = self.admitted.lock();
        if set.len() + arrivals.len() > MAX_ADMITTED {
            set.clear();
        }
        let let_in = arrivals.iter().filter(|arrival| arrival.fault.is_none());
        set.extend(let_in.map(|arrival| admitted(from, &arrival.parcel)));
    }
}

#[async_trait]
impl PeerAudit for Ledger {
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError> {
        let uri = peer.to_uri();
        count(Decision::PeerDenied, None);
        self.step("turned_away", move |inner, tx| {
            let entry = Entry::peer_denied((inner.now)(), &uri, &inner.here, reason);
            audit::append(tx, &entry)?;
            audit::sign_head(tx, &inner.signer)
        })
        .await
    }
}

#[async_trait]
impl Gate for Ledger {
    async fn admit(&self, from: &Place, arrivals: &mut [Arrival]) -> Result<(), PortError> {
        let (sender, mut judged) = (from.clone(), arrivals.to_vec());
        let (judged, decisions) = self
            .step("admit", move |inner, tx| {
                let decisions = judged
                    .iter_mut()
                    .map(|arrival| inner.judge(tx, &sender, arrival))
                    .collect::<Result<Vec<_>, _>>()?;
                if decisions.iter().any(Option::is_some) {
                    audit::sign_head(tx, &inner.signer)?;
                }
                Ok((judged, decisions))
            })
            .await?;
        for ((arrival, judged), decision) in arrivals.iter_mut().zip(judged).zip(decisions) {
            arrival.fault = judged.fault;
            if let Some(decision) = decision {
                count(decision, class_of(&arrival.parcel.kind));
            }
        }
        self.inner.remember(from, arrivals);
        Ok(())
    }
}

/// The inbox of a node: see [`Ledger::inbox`].
pub struct LedgerInbox<A> {
    ledger: Ledger,
    apply: A,
}

#[async_trait]
impl<A: Apply> Inbox for LedgerInbox<A> {
    async fn accept(&self, from: &Place, parcels: Vec<Parcel>) -> Result<Vec<Verdict>, PortError> {
        const OP: &str = "accept";
        let sender = from.clone();
        let (parcels, checks) = self
            .ledger
            .step(OP, move |_, tx| {
                let checks = inbox::check(tx, &sender, &parcels)?;
                Ok((parcels, checks))
            })
            .await?;
        let places: Vec<_> = parcels.iter().map(|parcel| parcel.priority).collect();
        let known: Vec<Option<Verdict>> = checks.into_iter().map(Check::verdict).collect();
        let fresh: Vec<Parcel> = parcels
            .into_iter()
            .zip(&known)
            .filter_map(|(parcel, known)| known.is_none().then_some(parcel))
            .collect();
        let mut applied = Vec::new().into_iter();
        if !fresh.is_empty() {
            let verdicts = self.apply.apply(from, &fresh).await?;
            if verdicts.len() != fresh.len() {
                return Err(internal("apply"));
            }
            applied = self.record(from, fresh, verdicts).await?.into_iter();
        }
        let verdicts = known
            .into_iter()
            .map(|known| known.or_else(|| applied.next()).ok_or_else(|| internal(OP)))
            .collect::<Result<Vec<_>, _>>()?;
        let now = (self.ledger.inner.now)();
        let mut order = self.ledger.inner.order.lock();
        for (rank, verdict) in places.into_iter().zip(&verdicts) {
            order.answered(from, rank, verdict, now);
        }
        drop(order);
        Ok(verdicts)
    }

    async fn meet(&self, from: &Place, hello: &Hello) -> Result<Welcome, PortError> {
        let (ledger, from, hello) = (&self.ledger, from.clone(), hello.clone());
        let held = hello.held.clone();
        let met = ledger.step("meet", move |inner, tx| {
            let here = Here {
                place: &inner.here,
                signer: &inner.signer,
                now: (inner.now)(),
            };
            inbox::meet(tx, &here, &from, &hello)
        });
        let welcome = met.await?;
        ledger.keep_witness(held).await?;
        Ok(welcome)
    }

    async fn head(&self) -> Result<String, PortError> {
        Ok(self.ledger.checkpoint().await?.unwrap_or_default())
    }
}

impl<A: Apply> LedgerInbox<A> {
    async fn record(
        &self,
        from: &Place,
        fresh: Vec<Parcel>,
        verdicts: Vec<Verdict>,
    ) -> Result<Vec<Verdict>, PortError> {
        let from = from.clone();
        let mark = self.apply.mark().await?;
        self.ledger
            .step("record", move |inner, tx| {
                let mut denied = false;
                for (parcel, verdict) in fresh.iter().zip(&verdicts) {
                    inbox::record(tx, &from, parcel, verdict)?;
                    inner.note_answer(tx, &from, parcel, verdict)?;
                    denied |= inner.audit_refusal(tx, &from, parcel, verdict)?;
                    heads::keep(tx, &parcel.head)?;
                }
                if let Some(mark) = mark {
                    inbox::note_mark(tx, &from, mark)?;
                }
                if denied {
                    audit::sign_head(tx, &inner.signer)?;
                }
                let mut set = inner.admitted.lock();
                for (parcel, verdict) in fresh.iter().zip(&verdicts) {
                    if !matches!(verdict, Verdict::Deferred { .. }) {
                        set.remove(&admitted(&from, parcel));
                    }
                }
                drop(set);
                Ok(verdicts)
            })
            .await
    }
}

const fn internal(op: &'static str) -> PortError {
    PortError {
        kind: PortErrorKind::Internal,
        op,
        source: None,
    }
}

#[cfg(test)]
#[cfg(not(medmesh_unguarded))]
#[path = "ledger_tests.rs"]
mod tests;
