//! A receiver's door in one SQLite file: the gate that judges parcels, the audit log of its decisions and the ledger
//! of its answers. For nodes whose records live in another engine than this file.
//!
//! A parcel goes through three commits, each of which may be the last before a crash: [`Gate::admit`] writes the
//! decision; [`Apply::apply`] makes the records durable, idempotently; the answer is recorded, and only then given.
use crate::{
    audit::{self, Decision, Entry, Signer},
    db::DbError,
    identity::Identity,
    inbox::{self, Check},
    policy::Rules,
    port::{Arrival, Gate, Inbox, PeerAudit, PortError, PortErrorKind, Verdict},
    reason,
    tls::TimeSource,
    wire::{Parcel, class_of_kind},
};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::{collections::HashMap, path::Path, sync::Arc};
use types::{Place, Priority, Purpose};

/// Makes admitted parcels durable in an engine of the node's choice.
#[async_trait]
pub trait Apply: Send + Sync + 'static {
    /// Stores the records of these parcels, in this order, and says what became of each (same length, same order).
    /// The same parcel may come again after a crash: to no effect, with the same answer. What follows a deferred
    /// parcel of a priority is deferred too.
    async fn apply(&self, from: &Place, parcels: &[Parcel]) -> Result<Vec<Verdict>, PortError>;
}

/// The gate, the audit log and the answers of one node.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    connection: Mutex<Connection>,
    here: Place,
    rules: Rules,
    signer: Signer,
    now: TimeSource,
}

impl Ledger {
    /// Opens the file, and makes it when it is absent. `now` is real time.
    ///
    /// # Errors
    /// [`DbError`]; [`DbError::Newer`] when a newer program wrote it.
    pub fn open(
        path: &Path,
        here: Place,
        rules: Rules,
        signer: Signer,
        now: TimeSource,
    ) -> Result<Self, DbError> {
        let connection = crate::db::open(path)?;
        audit::schema(&connection)?;
        inbox::schema(&connection)?;
        Ok(Self {
            inner: Arc::new(Inner {
                connection: Mutex::new(connection),
                here,
                rules,
                signer,
                now,
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

    async fn step<T: Send + 'static>(
        &self,
        op: &'static str,
        step: impl FnOnce(&Inner, &Transaction<'_>) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, PortError> {
        let inner = self.inner.clone();
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = inner.connection.lock();
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = step(&inner, &transaction)?;
            transaction.commit()?;
            Ok(result)
        });
        match done.await {
            Ok(result) => result.map_err(|error: DbError| error.port(op)),
            Err(_) => Err(internal(op)),
        }
    }
}

impl Inner {
    /// The fault of an arrival that has none yet, or the one it had when it came before.
    fn judge(&self, tx: &Connection, from: &Place, arrival: &mut Arrival) -> Result<(), DbError> {
        let check = inbox::check(tx, from, &arrival.parcel, 0)?;
        if let Check::Seen(verdict) = check {
            if let Verdict::Refused { reason } = verdict {
                arrival.fault.get_or_insert(reason);
            }
            return Ok(());
        }
        if arrival.fault.is_none() {
            arrival.fault = self.fault(from, &arrival.parcel);
        }
        let decision = match arrival.fault {
            None => Decision::Admitted,
            Some(_) => Decision::Denied,
        };
        let reason = arrival.fault.unwrap_or_default();
        metrics::counter!("medmesh_residency_decisions_total", "decision" => decision.as_str(), "reason" => reason)
            .increment(1);
        let now = (self.now)();
        let entry = Entry::of_parcel(now, decision, reason, from, &self.here, &arrival.parcel);
        audit::append(tx, &entry)?;
        if let Some(reason) = arrival.fault {
            inbox::record(tx, from, &arrival.parcel, &Verdict::Refused { reason })?;
        }
        Ok(())
    }

    /// Why the rules keep a parcel out. The class is that of its message, never what it claims.
    fn fault(&self, from: &Place, parcel: &Parcel) -> Option<&'static str> {
        let Some(class) = class_of_kind(&parcel.kind) else {
            return Some(reason::UNKNOWN_KIND);
        };
        if parcel.data_class != class.as_str() {
            return Some(reason::WRONG_CLASS);
        }
        let Some(purpose) = Purpose::parse(&parcel.purpose) else {
            return Some(reason::UNKNOWN_PURPOSE);
        };
        if cfg!(medmesh_unguarded) {
            return None;
        }
        let decided = self.rules.decide(class, from, &self.here, purpose);
        decided.err().map(|refusal| refusal.reason())
    }
}

#[async_trait]
impl PeerAudit for Ledger {
    async fn turned_away(&self, peer: &Identity, reason: &'static str) -> Result<(), PortError> {
        let uri = peer.to_uri();
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
        let (from, mut judged) = (from.clone(), arrivals.to_vec());
        let judged = self
            .step("admit", move |inner, tx| {
                for arrival in &mut judged {
                    inner.judge(tx, &from, arrival)?;
                }
                audit::sign_head(tx, &inner.signer)?;
                Ok(judged)
            })
            .await?;
        for (arrival, judged) in arrivals.iter_mut().zip(judged) {
            arrival.fault = judged.fault;
        }
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
        let (parcels, known) = self
            .ledger
            .step(OP, move |_, tx| {
                let known = known(tx, &sender, &parcels)?;
                Ok((parcels, known))
            })
            .await?;
        let fresh: Vec<Parcel> = parcels
            .into_iter()
            .zip(&known)
            .filter_map(|(parcel, known)| known.is_none().then_some(parcel))
            .collect();
        let mut applied = Vec::new().into_iter();
        if !fresh.is_empty() {
            let verdicts = self.apply.apply(from, &fresh).await?;
            if verdicts.len() != fresh.len() {
                return Err(internal(OP));
            }
            applied = self.record(from, fresh, verdicts).await?.into_iter();
        }
        known
            .into_iter()
            .map(|known| known.or_else(|| applied.next()).ok_or_else(|| internal(OP)))
            .collect()
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
        self.ledger
            .step("record", move |_, tx| {
                for (parcel, verdict) in fresh.iter().zip(&verdicts) {
                    inbox::record(tx, &from, parcel, verdict)?;
                }
                Ok(verdicts)
            })
            .await
    }
}

/// The answer to each parcel that needs no apply; none for those that are next in the order, one after the other.
fn known(
    tx: &Connection,
    from: &Place,
    parcels: &[Parcel],
) -> Result<Vec<Option<Verdict>>, DbError> {
    let mut expected: HashMap<Priority, (u64, u64)> = HashMap::new();
    let mut answers = Vec::with_capacity(parcels.len());
    for parcel in parcels {
        let rank = u8::try_from(parcel.priority).ok();
        let Some(priority) = rank.and_then(Priority::from_rank) else {
            answers.push(inbox::check(tx, from, parcel, 0)?.verdict());
            continue;
        };
        let last = inbox::last(tx, from, priority)?;
        let (last, next) = *expected.entry(priority).or_insert((last, last + 1));
        let mut next = next;
        while next < parcel.seq && inbox::answered(tx, from, priority, next)? {
            next += 1;
        }
        let ahead = next - last - 1;
        let check = inbox::check(tx, from, parcel, ahead)?;
        if check == Check::Fresh && parcel.seq == next {
            next += 1;
        }
        expected.insert(priority, (last, next));
        answers.push(check.verdict());
    }
    Ok(answers)
}

const fn internal(op: &'static str) -> PortError {
    PortError {
        kind: PortErrorKind::Internal,
        op,
        source: None,
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
