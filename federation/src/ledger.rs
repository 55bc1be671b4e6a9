//! A node's side of the mesh in one SQLite file: the audit log, the ledger of what came in and was answered, and the
//! outbox of what is to go out. For nodes whose records live in another engine than this file; an edge keeps the same
//! tables in its encrypted store. One file means one audit log, and that a decision commits with what was decided.
//!
//! A parcel that comes in goes through three commits, each of which may be the last before a crash: [`Gate::admit`]
//! writes the decision; [`Apply::apply`] makes the records durable, idempotently; the answer is recorded, and only then
//! given. What goes out is one commit: [`Ledger::ship`].
use crate::{
    audit::{self, Decision, Entry, Signer, count, witness::Witness},
    blobs,
    db::{self, DbError, Shared},
    envelope::Intact,
    gap,
    identity::Identity,
    inbox::{self, Admitted, Check, Here},
    outbox::{self, Leases},
    policy::Rules,
    port::{Arrival, Gate, Inbox, PeerAudit, PortError, PortErrorKind, Verdict},
    tls::TimeSource,
    wire::{Hello, Welcome},
};
use async_trait::async_trait;
use messages::class_of;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::replica::Kept;
use tokio::sync::Notify;
use types::Place;

mod bulk;
mod checkpoint;
mod commit;
mod entries;
mod handlers;
mod lateness;
pub mod notes;
mod restore;
mod uplink;
mod waiting;
pub use checkpoint::{KeepsHeads, Telling, keep_heads};
pub use commit::Commit;
pub use entries::Leaves;
pub use handlers::{Engine, Handler, Handlers};
pub use lateness::{Lateness, OUT_OF_ORDER_LIMIT};
pub use restore::Marked;
use uplink::Added;
pub use uplink::{MAX_KNOWN, MAX_WAITING_BYTES, Shipped};
pub use waiting::Waiting;

/// Makes admitted parcels durable in an engine of the node's choice.
#[async_trait]
pub trait Apply: Send + Sync + 'static {
    /// Stores the records of these parcels, in this order, and says what became of each (same length, same order).
    /// The same parcel may come again after a crash: to no effect, with the same answer. What follows a deferred
    /// parcel of a priority is deferred too.
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError>;

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
    admitted: Mutex<Admitted>,
    order: Mutex<Lateness>,
    leases: Mutex<Leases>,
    added: Added,
    reship: Notify,
    lacking: Notify,
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
        Self::open_kept(path, here, rules, signer, now, None)
    }

    /// As [`Ledger::open`]; no step is done before `kept` has what it committed.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn open_kept(
        path: &Path,
        here: Place,
        rules: impl Into<Arc<Rules>>,
        signer: Signer,
        now: TimeSource,
        kept: Option<Kept>,
    ) -> Result<Self, DbError> {
        let connection = db::open(path)?;
        audit::schema(&connection)?;
        inbox::schema(&connection)?;
        outbox::schema(&connection)?;
        uplink::schema(&connection)?;
        notes::schema(&connection)?;
        gap::schema(&connection)?;
        blobs::schema(&connection)?;
        let witness = Witness::beside(path, &here, signer.verifying_key());
        Ok(Self {
            db: Shared::new(path, connection, kept)?,
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
                lacking: Notify::new(),
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
    fn receiver(&self) -> inbox::Receiver<'_> {
        inbox::Receiver {
            place: &self.here,
            rules: &self.rules,
            now: (self.now)(),
        }
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
                let (receiver, mut decisions) = (inner.receiver(), Vec::new());
                for arrival in &mut judged {
                    let was_admitted = inner.admitted.lock().has(&sender, &arrival.parcel);
                    let decision = inbox::judge(tx, &receiver, &sender, arrival, was_admitted)?;
                    decisions.push(decision);
                }
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
        self.inner.admitted.lock().remember(from, arrivals);
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
    async fn accept(&self, from: &Place, parcels: Vec<Intact>) -> Result<Vec<Verdict>, PortError> {
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
        let fresh: Vec<Intact> = parcels
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
        fresh: Vec<Intact>,
        verdicts: Vec<Verdict>,
    ) -> Result<Vec<Verdict>, PortError> {
        let from = from.clone();
        let mark = self.apply.mark().await?;
        self.ledger
            .step("record", move |inner, tx| {
                let (receiver, mut denied) = (inner.receiver(), false);
                for (parcel, verdict) in fresh.iter().zip(&verdicts) {
                    denied |= inbox::answered(tx, &receiver, &from, parcel, verdict)?;
                }
                if let Some(mark) = mark {
                    inbox::note_mark(tx, &from, mark)?;
                }
                if denied {
                    audit::sign_head(tx, &inner.signer)?;
                }
                let answered = fresh.iter().map(|it| &**it).zip(&verdicts);
                inner.admitted.lock().forget(&from, answered);
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
