//! Hands commands on: one of a device at a time, in the order of their numbers, until it has ended.
use super::{
    Control,
    report::{self, By},
    rows::{self, Row},
};
use bytes::Bytes;
use commands::{Command, Reason, State};
use modbus::{Told, Writes};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};
use store::{Commit, Store, StoreError};
use tokio::{sync::mpsc, time::sleep};
use tokio_util::sync::CancellationToken;
use types::{DeviceId, Id128};

/// How often commands that wait are looked at (real time): their time may end, or their device may have come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// An MQTT device that has not answered is handed the command again after this time (real time).
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Answers of Modbus devices that wait to be stored.
const MAX_TOLD: usize = 256;

/// Where MQTT devices are told.
pub(crate) trait Tell: Send + Sync + 'static {
    /// Whether a device is there.
    fn is_connected(&self, device: &DeviceId) -> bool;
    /// Publishes a command on the device's topic at QoS 1; it lapses after `left`.
    fn tell(&self, device: &DeviceId, message: Bytes, left: Duration);
}

/// What the dispatch works with.
pub(crate) struct Dispatch {
    pub(crate) store: Store,
    pub(crate) control: Arc<Control>,
    pub(crate) tell: Arc<dyn Tell>,
    pub(crate) writes: Writes,
}

/// What is to be handed on now, with what is left of its time (real time).
enum Next {
    Mqtt(Row, Duration),
    Modbus(Row, Duration),
}

impl Dispatch {
    /// Hands on until stopped.
    ///
    /// # Errors
    /// None: what the store does not take is tried again.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let (told, mut answers) = mpsc::channel(MAX_TOLD);
        let mut sent: BTreeMap<Id128, Instant> = BTreeMap::new();
        let mut writing: BTreeSet<Id128> = BTreeSet::new();
        let mut waiting = true;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some((id, outcome)) = answers.recv() => {
                    writing.remove(&id);
                    self.written(id, outcome).await;
                }
                () = self.control.woken.notified() => {}
                () = sleep(LOOK_EVERY), if waiting => {}
            }
            match self.look(&writing).await {
                Ok((open, next)) => {
                    sent.retain(|id, _| open.contains(id));
                    waiting = !open.is_empty();
                    metrics::gauge!("medmesh_commands_open")
                        .set(f64::from(u32::try_from(open.len()).unwrap_or(u32::MAX)));
                    for next in next {
                        self.hand_on(next, &mut sent, &mut writing, &told);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "commands wait: the store does not take them");
                    waiting = true;
                }
            }
        }
    }

    /// Ends what is over, and says what is open and what is to be handed on; that it is begun is durable then.
    async fn look(
        &self,
        writing: &BTreeSet<Id128>,
    ) -> Result<(BTreeSet<Id128>, Vec<Next>), StoreError> {
        let (control, writing) = (Arc::clone(&self.control), writing.clone());
        let connected = Arc::clone(&self.tell);
        let step = move |commit: &mut Commit<'_, '_>| {
            let now = commit.now().real;
            let (mut open, mut next, mut busy) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
            for mut row in Row::open(commit.tx())? {
                let command = row.signed.command().clone();
                if writing.contains(&command.id) {
                    open.insert(command.id);
                    busy.insert(row.device);
                    continue;
                }
                let is_modbus = control.is_modbus(&row.device);
                let ended = if is_modbus && row.begun {
                    Some((State::Failed, Reason::Interrupted))
                } else if command.expires <= now {
                    Some((State::Expired, Reason::Unreached))
                } else {
                    None
                };
                if let Some(ended) = ended {
                    end(commit, row, ended)?;
                    continue;
                }
                open.insert(command.id);
                let is_held = rows::held(commit.tx(), &row.device)?.is_some();
                let is_there = is_modbus || connected.is_connected(&row.device);
                if busy.contains(&row.device) || is_held || !is_there {
                    busy.insert(row.device);
                    continue;
                }
                if !row.begun
                    && let Err(reason) = fits(&control, commit, &row.device, &command)?
                {
                    open.remove(&command.id);
                    end(commit, row, (State::Refused, reason))?;
                    continue;
                }
                busy.insert(row.device.clone());
                if !row.begun {
                    row.begun = true;
                    row.put(commit.tx())?;
                }
                let left = u64::try_from(command.expires.since(now)).unwrap_or(0);
                let left = Duration::from_millis(left);
                next.push(if is_modbus {
                    Next::Modbus(row, left)
                } else {
                    Next::Mqtt(row, left)
                });
            }
            Ok((open, next))
        };
        self.store.in_commit(step).await
    }

    fn hand_on(
        &self,
        next: Next,
        sent: &mut BTreeMap<Id128, Instant>,
        writing: &mut BTreeSet<Id128>,
        told: &mpsc::Sender<(Id128, Result<(), Reason>)>,
    ) {
        match next {
            Next::Mqtt(row, left) => {
                let command = row.signed.command();
                let lately = sent
                    .get(&command.id)
                    .is_some_and(|at| at.elapsed() < AGAIN_AFTER);
                if !lately {
                    sent.insert(command.id, Instant::now());
                    let message = Bytes::from(row.signed.to_json().to_string());
                    self.tell.tell(&row.device, message, left);
                }
            }
            Next::Modbus(row, left) => {
                let command = row.signed.command();
                let (id, writes) = (command.id, self.writes_of(&row.device, command));
                writing.insert(id);
                let job = Told {
                    id,
                    writes,
                    until: Instant::now() + left,
                    answer: told.clone(),
                };
                if let Err(reason) = self.writes.tell(&row.device, job) {
                    // There is room: at most one answer of a device waits.
                    let _full = told.try_send((id, Err(reason)));
                }
            }
        }
    }

    fn writes_of(&self, device: &DeviceId, command: &Command) -> Vec<(commands::Write, u64)> {
        let table = self.control.table(device);
        let entry = table.and_then(|table| table.entry(command.name.as_str()));
        let writes = entry.iter().flat_map(|entry| &entry.write);
        let number =
            |write: &commands::Write| Some((write.clone(), write.number(&command.parameters)?));
        writes.filter_map(number).collect()
    }

    /// A Modbus device was told, or could not be.
    async fn written(&self, id: Id128, outcome: Result<(), Reason>) {
        let control = Arc::clone(&self.control);
        let step = move |commit: &mut Commit<'_, '_>| {
            let Some(mut row) = Row::find(commit.tx(), id)? else {
                return Ok(());
            };
            let (state, reason) = match outcome {
                Ok(()) => (State::Acknowledged, None),
                // Its turn on the line came too late, and nothing was written.
                Err(Reason::Stale) => (State::Expired, Some(Reason::Stale)),
                Err(reason) => (State::Failed, Some(reason)),
            };
            if !row.state.may_become(state) {
                return Ok(());
            }
            (row.state, row.reason) = (state, reason);
            row.put(commit.tx())?;
            report::step(commit, &row.signed, (state, reason), By::Edge)?;
            if state == State::Acknowledged {
                let command = row.signed.command().clone();
                report::property(commit, &control, &row.device, &command)?;
            }
            Ok(())
        };
        if let Err(error) = self.store.in_commit(step).await {
            tracing::error!(%error, "what became of a command is not stored: it will be said to be interrupted");
        }
    }
}

/// Whether a command goes with what the device reports. It is judged when its turn comes: those before it may have set it.
fn fits(
    control: &Control,
    commit: &Commit<'_, '_>,
    device: &DeviceId,
    command: &Command,
) -> Result<Result<(), Reason>, StoreError> {
    let table = control.table(device);
    let Some(entry) = table.and_then(|table| table.entry(command.name.as_str())) else {
        return Ok(Ok(()));
    };
    let (_, reported) = rows::reported(commit.tx(), device)?;
    let property = entry.property.as_ref();
    let stands = property.and_then(|property| reported.get(property.as_str()));
    Ok(entry.goes_with(&command.parameters, stands))
}

/// The facility ends a command.
fn end(
    commit: &mut Commit<'_, '_>,
    mut row: Row,
    (state, reason): (State, Reason),
) -> Result<(), StoreError> {
    (row.state, row.reason) = (state, Some(reason));
    row.put(commit.tx())?;
    report::step(commit, &row.signed, (state, Some(reason)), By::Edge)
}

#[cfg(test)]
#[path = "dispatch_tests.rs"]
mod tests;
