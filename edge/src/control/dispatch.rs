//! Hands commands on: one of a device at a time, in the order of their numbers, until it has ended.
use super::{
    Control,
    report::{self, By},
    rows::{self, Row},
};
use bytes::Bytes;
use commands::{Command, Reason, State};
use modbus::{Shown, Told, What, Writes};
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
/// A command that was handed on so often without an answer holds those behind it up no longer; one of safety waits for one time.
/// What is of safety itself is passed by another one of safety alone.
const MAX_HANDED: u32 = 3;
/// A Modbus device that was not there when it was to be told is tried again after this time (real time).
const REST: Duration = Duration::from_secs(1);
/// Answers of Modbus devices that wait to be stored.
const MAX_TOLD: usize = 256;

/// Where MQTT devices are told.
pub(crate) trait Tell: Send + Sync + 'static {
    /// Whether a device is there, as far as is known: an MQTT device by its session, a Modbus device unless it is dead.
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
    Modbus(Row, What, Duration),
}

/// A command that was handed to its MQTT device: how often, and when last, which is nothing once the device has left.
struct Handed {
    device: DeviceId,
    at: Option<Instant>,
    times: u32,
}

impl Handed {
    /// Whether the device was handed it just now, and has not left since.
    fn is_lately(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < AGAIN_AFTER)
    }
}

/// What comes of a command in a look.
enum Turn {
    /// It has ended.
    Ended,
    /// It is held back, or waits for its device or for those before it.
    Waits,
    /// It waits for an answer, and those behind it do not wait for it.
    Passed,
    /// It is handed on.
    Now(Box<Next>),
}

impl Dispatch {
    /// Hands on until stopped.
    ///
    /// # Errors
    /// None: what the store does not take is tried again.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let (told, mut answers) = mpsc::channel(MAX_TOLD);
        let mut sent: BTreeMap<Id128, Handed> = BTreeMap::new();
        let mut writing: BTreeSet<Id128> = BTreeSet::new();
        let mut waiting = true;
        // Modbus devices that were not there when they were to be told.
        let mut resting: BTreeMap<Id128, Instant> = BTreeMap::new();
        let mut shown = self.writes.shown();
        // What devices showed last, since the last command: it is not looked at again.
        let mut known: BTreeMap<DeviceId, Shown> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                // What a device showed before it was told something is older than its answer.
                Some(one) = next_shown(&mut shown) => {
                    if one.afresh || known.get(&one.device) != Some(&one) {
                        self.takes_shown(one, &mut known).await;
                    }
                    continue;
                }
                Some((id, outcome)) = answers.recv() => {
                    writing.remove(&id);
                    if outcome == Err(Reason::Unreached) {
                        resting.insert(id, Instant::now());
                    }
                    known.clear();
                    self.written(id, outcome).await;
                }
                () = self.control.woken.notified() => {}
                () = sleep(LOOK_EVERY), if waiting => {}
            }
            resting.retain(|_, since| since.elapsed() < REST);
            forget_times(&mut sent, self.tell.as_ref());
            let away: BTreeSet<Id128> = writing.iter().chain(resting.keys()).copied().collect();
            match self.look(&away, &unanswered(&sent)).await {
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

    /// A Modbus device shows what it has: that is what it reports.
    async fn takes_shown(&self, shown: Shown, known: &mut BTreeMap<DeviceId, Shown>) {
        let (control, own) = (Arc::clone(&self.control), shown.clone());
        let step = move |commit: &mut Commit<'_, '_>| report::shown(commit, &control, &own);
        match self.store.in_commit(step).await {
            Ok(()) => {
                let shown = Shown {
                    afresh: false,
                    ..shown
                };
                known.insert(shown.device.clone(), shown);
            }
            Err(error) => {
                tracing::warn!(%error, "what a device shows of its settings is not stored: it is looked at again");
            }
        }
    }

    /// Ends what is over, and says what is open and what is to be handed on; that it is begun is durable then. What is away is
    /// with its device, or has just not reached it; `unanswered` says how often an MQTT device was handed what.
    async fn look(
        &self,
        away: &BTreeSet<Id128>,
        unanswered: &BTreeMap<Id128, u32>,
    ) -> Result<(BTreeSet<Id128>, Vec<Next>), StoreError> {
        let (control, away) = (Arc::clone(&self.control), away.clone());
        let (tell, unanswered) = (Arc::clone(&self.tell), unanswered.clone());
        let step = move |commit: &mut Commit<'_, '_>| {
            let (mut open, mut next, mut busy) = (BTreeSet::new(), Vec::new(), BTreeSet::new());
            // Devices that left a command unanswered for another.
            let mut mute = BTreeSet::new();
            let rows = Row::open(commit.tx())?;
            for (at, row) in rows.iter().enumerate() {
                let (id, device) = (row.signed.command().id, &row.device);
                let is_mute = mute.contains(device);
                let passes = |handed: u32| {
                    let behind = rows.iter().skip(at + 1);
                    let behind = behind.take_while(|next| next.device == *device);
                    is_passed(&control, commit, (row, handed, is_mute), behind)
                };
                let is_passed = row.begun && passes(unanswered.get(&id).copied().unwrap_or(0))?;
                // What is of safety goes out with those that are handed on before it.
                let is_joined = is_mute && passes(0)?;
                let turn = if away.contains(&id) {
                    Turn::Waits
                } else {
                    let before = (busy.contains(device), is_passed);
                    turn(&control, tell.as_ref(), commit, row.clone(), before)?
                };
                match turn {
                    Turn::Ended => continue,
                    Turn::Waits => {
                        busy.insert(device.clone());
                    }
                    Turn::Passed => {
                        mute.insert(device.clone());
                    }
                    Turn::Now(one) => {
                        if !is_joined {
                            busy.insert(device.clone());
                        }
                        next.push(*one);
                    }
                }
                open.insert(id);
            }
            Ok((open, next))
        };
        self.store.in_commit(step).await
    }

    fn hand_on(
        &self,
        next: Next,
        sent: &mut BTreeMap<Id128, Handed>,
        writing: &mut BTreeSet<Id128>,
        told: &mpsc::Sender<(Id128, Result<(), Reason>)>,
    ) {
        match next {
            Next::Mqtt(row, left) => {
                let command = row.signed.command();
                let handed = sent.get(&command.id);
                if !handed.is_some_and(Handed::is_lately) {
                    let now = Handed {
                        device: row.device.clone(),
                        at: Some(Instant::now()),
                        times: handed.map_or(0, |it| it.times).saturating_add(1),
                    };
                    sent.insert(command.id, now);
                    let message = Bytes::from(row.signed.to_json().to_string());
                    self.tell.tell(&row.device, message, left);
                }
            }
            Next::Modbus(row, what, left) => {
                let id = row.signed.command().id;
                writing.insert(id);
                let job = Told {
                    id,
                    what,
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

    /// A Modbus device was told, or could not be.
    async fn written(&self, id: Id128, outcome: Result<(), Reason>) {
        let control = Arc::clone(&self.control);
        let step = move |commit: &mut Commit<'_, '_>| {
            let Some(mut row) = Row::find(commit.tx(), id)? else {
                return Ok(());
            };
            let (state, reason) = match outcome {
                Ok(()) => (State::Acknowledged, None),
                // Nothing was sent: it waits for the device, as long as its time lasts.
                Err(Reason::Unreached) => {
                    if !row.begun || row.state.is_end() {
                        return Ok(());
                    }
                    row.begun = false;
                    if row.reason == Some(Reason::Superseded) {
                        // It was taken back meanwhile.
                        return end(commit, row, (State::Refused, Reason::Superseded));
                    }
                    return row.put(commit.tx());
                }
                // Its turn on the line came too late, and nothing was written.
                Err(Reason::Stale) => (State::Expired, Some(Reason::Stale)),
                // It does not go with what the device has, or the device said so: nothing was written.
                Err(Reason::OverRange) => (State::Refused, Some(Reason::OverRange)),
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

/// A device that comes again is handed at once what it may have lost. How often it was handed it stays known: one that leaves
/// each time that it is handed a command does not answer either.
fn forget_times(sent: &mut BTreeMap<Id128, Handed>, tell: &dyn Tell) {
    for handed in sent.values_mut() {
        if !tell.is_connected(&handed.device) {
            handed.at = None;
        }
    }
}

/// How often each command was handed on in vain: its device has had the time to answer, or was handed it anew.
fn unanswered(sent: &BTreeMap<Id128, Handed>) -> BTreeMap<Id128, u32> {
    let in_vain = |it: &Handed| match it.at {
        Some(_) if !it.is_lately() => it.times,
        Some(_) | None => it.times.saturating_sub(1),
    };
    sent.iter().map(|(id, it)| (*id, in_vain(it))).collect()
}

/// Whether those behind a command that an MQTT device was handed do not wait for it: one of them was handed on since, or the
/// device has not answered for so long that they need not; what is of safety waits for the first of several alone. It is handed
/// on no more then, since the device has refused it once it has taken a greater number. One of safety is passed by another one
/// of safety alone, and by those that go out before that one: whoever gave what is behind it may count on it.
fn is_passed<'a>(
    control: &Control,
    commit: &Commit<'_, '_>,
    (row, handed, is_mute): (&Row, u32, bool),
    behind: impl Iterator<Item = &'a Row>,
) -> Result<bool, StoreError> {
    let (now, holds_plain) = (
        commit.now().real,
        control.is_of_safety(&row.device, row.signed.command()),
    );
    let mut is_plain_between = false;
    for next in behind {
        if next.begun {
            return Ok(true);
        }
        let command = next.signed.command();
        let is_of_safety = control.is_of_safety(&next.device, command);
        let enough = match (is_of_safety, is_mute) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) if holds_plain => {
                is_plain_between = true;
                continue;
            }
            (false, _) => MAX_HANDED,
        };
        if handed < enough || command.expires <= now {
            continue;
        }
        // What would be refused when its turn comes lets nothing out that waits for one of safety.
        if !is_plain_between || fits(control, commit, &next.device, command)?.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What an MQTT device was handed before one that has ended, and has not answered, has ended too: its number is too low now.
pub(super) fn end_passed(
    commit: &mut Commit<'_, '_>,
    device: &DeviceId,
    sequence: u64,
) -> Result<(), StoreError> {
    for row in Row::open_of(commit.tx(), device)? {
        if row.begun && row.signed.command().sequence < sequence {
            end(commit, row, (State::Expired, Reason::Unanswered))?;
        }
    }
    Ok(())
}

/// What comes of a command whose device is told nothing now, or others before it.
fn turn(
    control: &Control,
    tell: &dyn Tell,
    commit: &mut Commit<'_, '_>,
    mut row: Row,
    (is_busy, is_passed): (bool, bool),
) -> Result<Turn, StoreError> {
    let (now, command) = (commit.now().real, row.signed.command().clone());
    let is_modbus = control.is_modbus(&row.device);
    let ended = if is_modbus && row.begun {
        Some((State::Failed, Reason::Interrupted))
    } else if command.expires <= now && row.begun {
        Some((State::Expired, Reason::Unanswered))
    } else if command.expires <= now {
        Some((State::Expired, Reason::Unreached))
    } else {
        None
    };
    if let Some(ended) = ended {
        let (device, was_begun) = (row.device.clone(), row.begun);
        end(commit, row, ended)?;
        if was_begun && !is_modbus {
            end_passed(commit, &device, command.sequence)?;
        }
        return Ok(Turn::Ended);
    }
    if is_passed && !is_modbus {
        return Ok(Turn::Passed);
    }
    let is_held = rows::held(commit.tx(), &row.device)?.is_some();
    if is_busy || is_held || !tell.is_connected(&row.device) {
        return Ok(Turn::Waits);
    }
    let mut what = What::Writes(Vec::new());
    if !row.begun {
        match fits(control, commit, &row.device, &command)? {
            Ok(own) => what = own,
            Err(reason) => {
                end(commit, row, (State::Refused, reason))?;
                return Ok(Turn::Ended);
            }
        }
        row.begun = true;
        row.put(commit.tx())?;
    }
    let left = u64::try_from(command.expires.since(now)).unwrap_or(0);
    let left = Duration::from_millis(left);
    Ok(Turn::Now(Box::new(if is_modbus {
        Next::Modbus(row, what, left)
    } else {
        Next::Mqtt(row, left)
    })))
}

/// Whether a command goes with what the device reports, and what is written for it to a Modbus device. It is judged when its
/// turn comes: those before it may have set it, also one that the device has not answered. What registers show is judged on the
/// line, by what they show then.
fn fits(
    control: &Control,
    commit: &Commit<'_, '_>,
    device: &DeviceId,
    command: &Command,
) -> Result<Result<What, Reason>, StoreError> {
    let is_modbus = control.is_modbus(device);
    let table = control.table(device);
    let Some(entry) = table.and_then(|table| table.entry(command.name.as_str())) else {
        let nothing = if is_modbus {
            Err(Reason::UnknownCommand)
        } else {
            Ok(What::Writes(Vec::new()))
        };
        return Ok(nothing);
    };
    if is_modbus && entry.is_judged_by_registers() {
        let parameters = command.parameters.clone();
        return Ok(Ok(What::Beside(Box::new(entry.clone()), parameters)));
    }
    let (_, reported) = rows::reported(commit.tx(), device)?;
    let property = entry.property.as_ref();
    let stands = property.and_then(|property| reported.get(property.as_str()));
    if let Err(reason) = entry.goes_with(&command.parameters, stands) {
        return Ok(Err(reason));
    }
    if entry.parameters.iter().any(|one| one.below.is_some()) {
        for earlier in rows::perhaps_done(commit.tx(), device, &command.name)? {
            let set = entry.property_of(&earlier);
            let set = set.map(|(_, value)| value);
            if let Err(reason) = entry.goes_with(&command.parameters, set.as_ref()) {
                return Ok(Err(reason));
            }
        }
    }
    Ok(if is_modbus {
        entry.writes(&command.parameters, stands).map(What::Writes)
    } else {
        Ok(What::Writes(Vec::new()))
    })
}

/// What a device shows next; never anything when nobody shows.
async fn next_shown(shown: &mut Option<mpsc::Receiver<Shown>>) -> Option<Shown> {
    match shown {
        Some(shown) => shown.recv().await,
        None => std::future::pending().await,
    }
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
