//! What comes down to the facility: judged, taken in and answered in the store's own commits, so that what a parcel leads
//! to is durable with its answer, or neither is.
//!
//! Which kinds the facility takes in is one table of handlers ([`Handlers`]). A handler works within the commit
//! ([`Commit`]): its rows, the parcels that it ships upwards and the answer to the region are one.
use super::{
    Store, StoreError, StoreErrorKind,
    apply::Apply,
    commit::Commit,
    handlers::Handlers,
    job::{Job, Step},
    steps::Judged,
};
use async_trait::async_trait;
use federation::{
    audit,
    envelope::Intact,
    inbox::{self, Here},
    meet,
    port::{Arrival, Gate, Inbox, PortError, PortErrorKind, Verdict},
    reason,
    wire::{Hello, Welcome},
};
use ingest::Urgency;
use messages::class_of;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;
use types::{Place, Priority};

impl Apply<'_> {
    /// Judges what has come, and writes the decisions down.
    pub(super) fn admit(
        &mut self,
        from: &Place,
        arrivals: &[(Arrival, bool)],
    ) -> Result<Vec<Judged>, StoreError> {
        let mut judged = Vec::with_capacity(arrivals.len());
        for (arrival, was_admitted) in arrivals {
            let (mut arrival, receiver) = (arrival.clone(), self.parcels.receiver(&self.now));
            let decision = inbox::judge(self.tx, &receiver, from, &mut arrival, *was_admitted)?;
            self.parcels.has_audited(decision.is_some());
            judged.push((arrival.fault, decision));
        }
        Ok(judged)
    }

    /// Takes parcels in, in their order, with the answers that they get.
    pub(super) fn accept(
        &mut self,
        from: &Place,
        parcels: &[Intact],
        handlers: &Handlers,
    ) -> Result<Vec<Verdict>, StoreError> {
        let checks = inbox::check(self.tx, from, parcels)?;
        let mut held_up = [false; Priority::ALL.len()];
        let mut verdicts = Vec::with_capacity(parcels.len());
        for (parcel, check) in parcels.iter().zip(checks) {
            let known = check.verdict();
            let slot = usize::try_from(parcel.priority).unwrap_or(usize::MAX);
            let behind = held_up.get(slot).copied().unwrap_or(false);
            let verdict = match known {
                Some(known) => known,
                None if behind => Verdict::Deferred {
                    reason: reason::OUT_OF_ORDER,
                },
                None => self.take_in(from, parcel, handlers)?,
            };
            if let (Verdict::Deferred { .. }, Some(slot)) = (&verdict, held_up.get_mut(slot)) {
                *slot = true;
            }
            verdicts.push(verdict);
        }
        Ok(verdicts)
    }

    /// Takes one in that is next in its order, and records the answer.
    fn take_in(
        &mut self,
        from: &Place,
        parcel: &Intact,
        handlers: &Handlers,
    ) -> Result<Verdict, StoreError> {
        let urgency = match parcel.priority {
            rank if rank == u32::from(Priority::Alarm.rank()) => Urgency::Alarm,
            _ => Urgency::Routine,
        };
        if !self.bounds.admits(urgency, self.used) {
            return Ok(Verdict::Deferred {
                reason: reason::NO_SPACE,
            });
        }
        self.used += parcel.body.len() as u64;
        let verdict = match handlers.of(&parcel.kind) {
            None => Verdict::Refused {
                reason: reason::UNKNOWN_KIND,
            },
            Some(handler) => {
                let applied = self.alone(|commit| handler.apply(commit, from, parcel))?;
                self.touched.push(parcel.kind.clone());
                applied.unwrap_or_else(|error| {
                    tracing::error!(%error, kind = parcel.kind, "a parcel cannot be taken in");
                    Verdict::Quarantined {
                        reason: reason::UNMAPPABLE,
                    }
                })
            }
        };
        let receiver = self.parcels.receiver(&self.now);
        let audited = inbox::answered(self.tx, &receiver, from, parcel, &verdict)?;
        self.parcels.has_audited(audited);
        Ok(verdict)
    }

    /// Answers where this inbox stands with the region.
    pub(super) fn meet(&mut self, from: &Place, hello: &Hello) -> Result<Welcome, StoreError> {
        let sender = self.parcels.sender(&self.now);
        let here = Here {
            place: sender.place,
            signer: sender.signer,
            now: sender.now,
        };
        Ok(inbox::meet(self.tx, &here, from, hello)?)
    }
}

#[async_trait]
impl Gate for Store {
    async fn admit(&self, from: &Place, arrivals: &mut [Arrival]) -> Result<(), PortError> {
        const OP: &str = "admit";
        let known = |parcel| self.0.admitted.lock().has(from, parcel);
        let asked = arrivals
            .iter()
            .map(|arrival| (arrival.clone(), known(&arrival.parcel)))
            .collect();
        let (reply, answer) = oneshot::channel();
        let job = Job::Admit {
            from: from.clone(),
            arrivals: asked,
            reply,
        };
        let judged = self.answered(job, answer, OP).await?;
        for (arrival, (fault, decision)) in arrivals.iter_mut().zip(judged) {
            arrival.fault = fault;
            if let Some(decision) = decision {
                audit::count(decision, class_of(&arrival.parcel.kind));
            }
        }
        self.0.admitted.lock().remember(from, arrivals);
        Ok(())
    }
}

#[async_trait]
impl Inbox for Store {
    async fn accept(&self, from: &Place, parcels: Vec<Intact>) -> Result<Vec<Verdict>, PortError> {
        let parcels = Arc::new(parcels);
        let (reply, answer) = oneshot::channel();
        let job = Job::Accept {
            from: from.clone(),
            parcels: Arc::clone(&parcels),
            reply,
        };
        let verdicts = self.answered(job, answer, "accept").await?;
        let answered = parcels.iter().map(|it| &**it).zip(&verdicts);
        self.0.admitted.lock().forget(from, answered.clone());
        let (now, mut order) = (self.0.time.now().real, self.0.order.lock());
        for (parcel, verdict) in answered {
            order.answered(from, parcel.priority, verdict, now);
        }
        Ok(verdicts)
    }

    async fn meet(&self, from: &Place, hello: &Hello) -> Result<Welcome, PortError> {
        const OP: &str = "meet";
        // What makes no sense is the region's fault, and must not be taken for one of the store.
        if meet::sent(hello).is_none() || hello.stream.len() != inbox::STREAM_BYTES {
            return Err(senseless(OP));
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::Meet {
            from: from.clone(),
            hello: Box::new(hello.clone()),
            reply,
        };
        let welcome = self.answered(job, answer, OP).await?;
        let kept = self.keep_witness(hello.held.clone()).await;
        kept.map_err(PortError::of(OP))?;
        Ok(welcome)
    }

    async fn head(&self) -> Result<String, PortError> {
        let head = self.read(|db| Ok(audit::checkpoint(db)?)).await;
        let head = head.map_err(PortError::of("head"))?;
        Ok(head.unwrap_or_default())
    }
}

/// What the region said makes no sense.
pub(super) const fn senseless(op: &'static str) -> PortError {
    PortError {
        kind: PortErrorKind::Internal,
        op,
        source: None,
    }
}

impl Store {
    /// Asks the writer for something with an answer of its own.
    async fn answered<T>(
        &self,
        job: Job,
        answer: oneshot::Receiver<Result<T, StoreError>>,
        op: &'static str,
    ) -> Result<T, PortError> {
        let answered = self.ask(job, answer).await.and_then(|answered| answered);
        answered.map_err(PortError::of(op))
    }

    /// One step of a part of the node in the store's commit: when this returns, it is durable. A fault of the step's own
    /// (kind `Internal` or `Refused`) undoes it alone.
    ///
    /// # Errors
    /// As any write, and what the step says.
    pub async fn in_commit<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Commit<'_, '_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = Arc::new(Mutex::new(None));
        let kept = Arc::clone(&result);
        let once: Step = Box::new(move |commit: &mut Commit<'_, '_>| {
            *kept.lock() = Some(step(commit)?);
            Ok(())
        });
        let step = Mutex::new(Some(once));
        self.ask_step(|reply| Job::Step { step, reply }).await?;
        let taken = result.lock().take();
        taken.ok_or_else(|| StoreError::new(StoreErrorKind::Internal, "a step without a result"))
    }

    /// Resolves when the store is to meet the region again, since the last call.
    pub async fn meets_again(&self) {
        self.0.status.meet_again.notified().await;
    }

    /// Whether parcels from the region have been waiting too long for one before them.
    #[must_use]
    pub fn is_waiting_in_order(&self) -> bool {
        let now = self.0.time.now().real;
        !self.0.order.lock().stuck(now).is_empty()
    }
}
