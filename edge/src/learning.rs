//! What the facility lets be learnt from its records: it takes asks of its region in, decides by itself, has a worker
//! train, debits its own ledger and answers.
//!
//! An ask is stored with the receipt that the region gets for it. What it leads to (the state of the round, a debit, the
//! answer on its way) is one commit, which also takes the ask away: killed at any moment, nothing is lost and nothing is
//! said or spent twice. Training itself changes nothing; one that was killed is begun again.
mod consent;
mod large;
mod records;
mod rows;
mod stays;
mod takes;
mod worker;

pub use consent::{Decided, Plans, Stands, Waiting};
pub use takes::TakesAsks;
pub use worker::{WORKER_COMMAND, work_here};

use crate::{
    config::{Approval, EdgeConfig, LearningConfig, public_key},
    context::Shared,
    error::EdgeError,
    facility::Facility,
};
use federation::{
    audit::{Decision, Entry},
    blobs::Blobs,
};
use fl::{
    code,
    consent::{Standpoint, objections_to},
    features::Prepared,
    ledger::{Debited, Ledger},
    member::MemberRound,
    objection::{self, Objection},
    order::{Answer, Ask, RoundOrder},
    site::Made,
    study::Study,
};
use large::Masked;
use parking_lot::Mutex;
use rows::Pending;
use std::{path::PathBuf, sync::Arc, time::Duration};
use store::clockguard::Time;
use store::{Commit, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::Place;

/// How often asks that wait for a person, or failed, are looked at again (real time).
const LOOK: Duration = Duration::from_secs(1);

/// What runs as a worker: the file of this process, also where it was replaced meanwhile.
const OWN_BINARY: &str = "/proc/self/exe";

/// What the task works with.
pub struct Learner {
    /// The node's configuration: what it allows, and where its data sets are.
    config: EdgeConfig,
    store: Store,
    blobs: Arc<Blobs<Store>>,
    time: Arc<dyn Time>,
    /// Woken when an ask has come.
    wake: Arc<Notify>,
    /// The facility's own readings.
    view: Facility,
    /// The binary that is started as a worker.
    worker: PathBuf,
    /// The records of the last study of stays: they are the same in every round of it.
    last: Mutex<Option<(String, Arc<Prepared>)>>,
}

/// What is sent of what a worker made.
enum Sent {
    /// Its numbers are in the answer.
    Here(Box<Made>),
    /// Its numbers are a blob.
    Apart(Box<Masked>),
}

/// Answers asks until stopped.
///
/// # Errors
/// None: what fails is tried again.
pub(crate) async fn run(learner: Learner, stop: CancellationToken) -> Result<(), EdgeError> {
    let mut arrivals = learner.blobs.arrivals();
    loop {
        match learner.step_when_met().await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "an ask of a study is not answered yet"),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = learner.wake.notified() => {}
            // The model of a round may be one.
            () = arrivals.next() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

impl Learner {
    /// Of a node.
    pub(crate) fn of(shared: &Shared) -> Self {
        let view = Facility {
            store: shared.store.clone(),
            monitor: shared.monitor.clone(),
            changes: shared.changes.clone(),
        };
        let (blobs, time) = (shared.blobs.clone(), shared.guard.clone());
        Self::new(shared.config.clone(), view, blobs, time, OWN_BINARY.into())
            .woken_by(shared.asked.clone())
    }

    /// Of a facility: with its configuration, its own readings and store, the blobs of that, and the binary that is a worker.
    #[must_use]
    pub fn new(
        config: EdgeConfig,
        view: Facility,
        blobs: Arc<Blobs<Store>>,
        time: Arc<dyn Time>,
        worker: PathBuf,
    ) -> Self {
        Self {
            config,
            store: view.store.clone(),
            blobs,
            time,
            wake: Arc::default(),
            view,
            worker,
            last: Mutex::default(),
        }
    }

    /// The same, which looks again as soon as it is woken.
    #[must_use]
    pub fn woken_by(self, wake: Arc<Notify>) -> Self {
        Self { wake, ..self }
    }

    /// Answers the first ask that can be answered; false when none can.
    ///
    /// # Errors
    /// As the store: nothing was answered then, and the ask is still there.
    pub async fn step(&self) -> Result<bool, StoreError> {
        let learning = self.config.learning.as_ref();
        let by_person = learning.is_some_and(|of| of.approval == Approval::Person);
        let mut after = 0;
        // However many wait for a person, those behind them are answered.
        loop {
            let some =
                move |commit: &mut Commit<'_, '_>| rows::pending(commit.tx(), after, by_person);
            let waiting = self.store.in_commit(some).await?;
            let Some(last) = waiting.last() else {
                return Ok(false);
            };
            after = last.n;
            for pending in waiting {
                let is_done = match (&pending.asked.ask, pending.asked.order.clone()) {
                    (Ask::Invite, Some(order)) => self.invited(&pending, order).await?,
                    (Ask::Train(_), _) => self.train(&pending).await?,
                    _ => self.answer(&pending, None).await?,
                };
                if is_done {
                    return Ok(true);
                }
            }
        }
    }

    /// The same, once the node has met its region: that it was put back to an older state, which lacks what it has answered
    /// and paid since, it learns then.
    async fn step_when_met(&self) -> Result<bool, StoreError> {
        match self.store.has_met() {
            true => self.step().await,
            false => Ok(false),
        }
    }

    fn aggregator(&self) -> Place {
        Place::Regional {
            jurisdiction: self.config.jurisdiction,
            region: self.config.region.clone(),
        }
    }

    /// Takes part or says why not; false while a person has to decide.
    async fn invited(&self, pending: &Pending, order: RoundOrder) -> Result<bool, StoreError> {
        if self.is_begun(pending, &order).await? {
            return Ok(true);
        }
        let found = match order.read() {
            Err(why) => Err(vec![Objection::Plan(why)]),
            Ok((study, _)) => {
                if !self.is_decided(&order, &study).await? {
                    return Ok(false);
                }
                self.objected(&order, &study).await?
            }
        };
        let mut secret = [0; 32];
        store::system_entropy(&mut secret);
        let begun = found.and_then(|()| {
            let member = pending.asked.member;
            let begun = MemberRound::begin(order, &self.aggregator(), member, secret);
            begun.map_err(|why| vec![Objection::Plan(why)])
        });
        let (n, key) = (pending.n, pending.asked.key.clone());
        let decide = move |commit: &mut Commit<'_, '_>| {
            if !rows::remove(commit.tx(), n)? {
                return Ok(());
            }
            let now = commit.now().real;
            let again = rows::is_answered(commit.tx(), &key)?;
            let (answer, decision) = match &begun {
                // It came meanwhile, or comes again: a second round under the same name would tell more than one.
                Ok(_) if again => (
                    Answer::Declined(vec![Objection::Answered]),
                    Decision::StudyDeclined,
                ),
                Ok(round) if large::want(commit, round.order())? => {
                    rows::put(commit.tx(), &key, Some(round), now)?;
                    (Answer::Accepted, Decision::StudyJoined)
                }
                Ok(_) => {
                    let why = "there is no room for its model here now";
                    let objections = vec![Objection::Plan(why.into())];
                    (Answer::Declined(objections), Decision::StudyDeclined)
                }
                Err(found) => (Answer::Declined(found.clone()), Decision::StudyDeclined),
            };
            let entry = Entry::of_study(now, decision, commit.place(), &named(&key));
            commit.note(&[entry])?;
            takes::answer(commit, &key, answer, None)
        };
        self.store.in_commit(decide).await?;
        self.blobs.stir();
        Ok(true)
    }

    /// Whether the round was begun already, from the same order: then the same is said again, and nothing begins anew.
    async fn is_begun(&self, pending: &Pending, order: &RoundOrder) -> Result<bool, StoreError> {
        let (n, order) = (pending.n, order.clone());
        let step = move |commit: &mut Commit<'_, '_>| {
            let begun = rows::find(commit.tx(), &order.key)?;
            let is_begun = begun.is_some_and(|round| round.order() == &order);
            if is_begun {
                takes::answer(commit, &order.key, Answer::Accepted, None)?;
                rows::remove(commit.tx(), n)?;
            }
            Ok(is_begun)
        };
        self.store.in_commit(step).await
    }

    /// Whether a person has decided, where one has to.
    async fn is_decided(&self, order: &RoundOrder, study: &Study) -> Result<bool, StoreError> {
        let Some(learning) = self.config.learning.clone() else {
            return Ok(true);
        };
        let (text, name) = (order.text.clone(), study.name.to_string());
        let id = order.key.study.to_string();
        let decided = move |commit: &mut Commit<'_, '_>| {
            let by_itself = learning.approval == Approval::Automatic;
            let now = commit.now().real;
            consent::decided(commit.tx(), (&id, &name, &text), by_itself, now)
        };
        let decided = self.store.in_commit(decided).await?;
        Ok(matches!(decided, Decided::Approved | Decided::Refused))
    }

    /// What the facility objects to; nothing when it takes part.
    async fn objected(
        &self,
        order: &RoundOrder,
        study: &Study,
    ) -> Result<Result<(), Vec<Objection>>, StoreError> {
        let Some(learning) = &self.config.learning else {
            let why = "nothing may be learnt here: the facility's configuration has no [learning]";
            return Ok(Err(vec![Objection::Plan(why.into())]));
        };
        let (text, key) = (order.text.clone(), order.key.clone());
        let known = move |commit: &mut Commit<'_, '_>| {
            let refused = consent::is_refused(commit.tx(), (key.study.as_str(), &text))?;
            Ok((refused, rows::is_answered(commit.tx(), &key)?))
        };
        let (refused, answered) = self.store.in_commit(known).await?;
        if refused {
            return Ok(Err(vec![Objection::Person]));
        }
        let trusted = match learning.coordinator.as_deref().map(public_key) {
            Some(None) => {
                let why = "the global node's public key cannot be read here";
                return Ok(Err(vec![Objection::Plan(why.into())]));
            }
            Some(Some(key)) => Some(key.to_bytes()),
            None => None,
        };
        let (aggregator, ledger) = (self.aggregator(), self.ledger(learning).await?);
        let code = code::digest();
        let mut here = Standpoint {
            aggregator: &aggregator,
            key: trusted.as_ref().map(<[u8; 32]>::as_slice),
            code: &code,
            allowance: &learning.allow,
            ledger: &ledger,
            records: None,
            answered,
        };
        // Nobody's records are opened for what is refused anyway.
        let found = objections_to(order, &here);
        if !found.is_empty() {
            return Ok(Err(found));
        }
        let records = match self.prepared(order, study).await? {
            Ok(of) => of.counted,
            Err(found) => return Ok(Err(found)),
        };
        here.records = Some(u32::try_from(records).unwrap_or(u32::MAX));
        let found = objections_to(order, &here);
        Ok(if found.is_empty() { Ok(()) } else { Err(found) })
    }

    async fn ledger(&self, learning: &LearningConfig) -> Result<Ledger, StoreError> {
        let budget = learning.budget;
        let read = move |commit: &mut Commit<'_, '_>| rows::ledger_to_spend(commit.tx(), budget);
        self.store.in_commit(read).await
    }

    /// Trains or judges, and sends what comes of it.
    async fn train(&self, pending: &Pending) -> Result<bool, StoreError> {
        let key = pending.asked.key.clone();
        let find = move |commit: &mut Commit<'_, '_>| rows::find(commit.tx(), &key);
        let Some(round) = self
            .store
            .in_commit(find)
            .await?
            .filter(|round| !round.has_sent())
        else {
            return self.answer(pending, None).await;
        };
        let Some(model) = self.model(round.order()).await? else {
            return Ok(false);
        };
        let made = match round.order().read() {
            Err(why) => Err(why),
            Ok((study, _)) => match self.prepared(round.order(), &study).await? {
                Err(found) => Err(objection::text_of(&found)),
                Ok(prepared) => {
                    let seed = round.seed(&study, &self.config.facility);
                    let key = pending.asked.key.clone();
                    let kept = move |commit: &mut Commit<'_, '_>| rows::memory(commit.tx(), &key);
                    let memory = self.store.in_commit(kept).await?;
                    let work = worker::work(
                        &self.worker,
                        round.order(),
                        &prepared,
                        (seed, memory),
                        model,
                    );
                    tokio::select! {
                        made = work => made,
                        () = self.over(pending.n) => return Ok(true),
                    }
                }
            },
        };
        if let Err(why) = &made {
            tracing::warn!(study = %pending.asked.key.study, why, "a worker made no update");
        }
        let (sent, put) = match made {
            Ok(made) => self.sent(&pending.asked.ask, round, made).await?,
            Err(why) => (Err(why), None),
        };
        let done = self.answer(pending, Some(sent)).await;
        drop(put);
        self.blobs.stir();
        done
    }

    /// Resolves when an ask waits no longer: its round is over, and whoever works on it stops.
    async fn over(&self, n: i64) {
        loop {
            let waits = move |db: &rusqlite::Connection| rows::waits(db, n);
            if matches!(self.store.read(waits).await, Ok(false)) {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Answers from the round's state, in one commit with the debit that it is. Where the round is over meanwhile, nothing
    /// is said or spent.
    async fn answer(
        &self,
        pending: &Pending,
        made: Option<Result<Sent, String>>,
    ) -> Result<bool, StoreError> {
        let debit = match (&made, &self.config.learning) {
            (Some(Ok(_)), Some(learning)) => self.debit(pending, learning).await?,
            (Some(Ok(_)), None) => Err("nothing may be learnt here any more".to_owned()),
            _ => Ok(None),
        };
        let pending = pending.clone();
        let step = move |commit: &mut Commit<'_, '_>| {
            if !rows::remove(commit.tx(), pending.n)? {
                return Ok(());
            }
            let key = &pending.asked.key;
            let Some(mut round) = rows::find(commit.tx(), key)? else {
                return Ok(());
            };
            let now = commit.now().real;
            if pending.asked.ask == Ask::Over {
                rows::done(commit.tx(), key, now)?;
                return rows::put(commit.tx(), key, None, now);
            }
            let answer = match (made, debit) {
                (Some(Err(why)), _) | (Some(Ok(_)), Err(why)) => Some(Answer::Unable(why)),
                (Some(Ok(sent)), Ok(debit)) => {
                    let (answer, memory) = match sent {
                        Sent::Here(made) => {
                            let update = (made.numbers, made.told);
                            (round.answer(&pending.asked.ask, Some(update)), made.memory)
                        }
                        Sent::Apart(masked) if masked.before == round => {
                            masked.offer(commit)?;
                            round = masked.after;
                            (Some(masked.answer), None)
                        }
                        Sent::Apart(_) => (None, None),
                    };
                    let is_made = matches!(answer, Some(Answer::Update { .. }));
                    if let Some(memory) = memory.filter(|_| is_made) {
                        rows::keep(commit.tx(), key, &memory, now)?;
                    }
                    if let Some(debit) = debit.filter(|_| is_made) {
                        rows::debit(commit.tx(), &debit, now)?;
                        let what = format!("{}/{}", named(key), key.attempt);
                        let entry =
                            Entry::of_study(now, Decision::StudyDebited, commit.place(), &what);
                        commit.note(&[entry])?;
                    }
                    answer
                }
                (None, _) => round.answer(&pending.asked.ask, None),
            };
            rows::put(commit.tx(), key, Some(&round), now)?;
            let width = round.width();
            answer.map_or(Ok(()), |answer| takes::answer(commit, key, answer, width))
        };
        self.store.in_commit(step).await?;
        Ok(true)
    }

    /// The entry that pays for the round, worked out before the commit that writes it; none where nothing is spent.
    async fn debit(
        &self,
        pending: &Pending,
        learning: &LearningConfig,
    ) -> Result<Result<Option<rows::Debit>, String>, StoreError> {
        let key = pending.asked.key.clone();
        let find = move |commit: &mut Commit<'_, '_>| rows::find(commit.tx(), &key);
        let Some(round) = self.store.in_commit(find).await? else {
            return Ok(Ok(None));
        };
        let (study, plan) = match round.order().read() {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        let (release, event) = match round.spends(&study, &plan) {
            Ok(Some(spent)) => spent,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut ledger = self.ledger(learning).await?;
        let before = ledger.entries().len();
        Ok(match ledger.debit(&release, event) {
            Err(refused) => Err(refused.to_string()),
            // It went out in the commit that paid for it: for the same money nothing goes out again.
            Ok(Debited::Before) => Err(Objection::Answered.to_string()),
            Ok(Debited::Now) => Ok(ledger.entries().last().map(|entry| rows::Debit {
                entry: entry.clone(),
                delta: learning.budget.delta.get(),
                before,
            })),
        })
    }
}

fn named(key: &fl::order::RoundKey) -> String {
    format!("{}/{}", key.study, key.round)
}

#[cfg(test)]
#[path = "learning_tests.rs"]
mod tests;
