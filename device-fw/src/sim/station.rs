//! One simulated Modbus device: the firmware core, its clock and its fault. What a monitor is told to be like it keeps in a file,
//! as a real one in its non-volatile memory, before it confirms it.
use super::{
    SimError,
    clock::SimClock,
    fault::{Fault, Faults},
    kept,
    probe::Store,
};
use crate::{
    frame::{Exception, MAX_PDU, Space, Words},
    registers::{GUARD_END, IDENTIFY, MONITOR_SETTINGS, Monitor, RESTART, SETTINGS, SIGNAL_BASE},
    signal::Sample,
    slave::{self, Registers},
};
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use types::DeviceId;

/// How late a slow device answers, real time: well below the profile's time-out.
const SLOW: Duration = Duration::from_millis(150);

/// What the device is.
#[derive(Clone, Debug)]
pub(super) enum Machine {
    /// A bedside monitor.
    Monitor(Box<Monitor<Vec<Sample>>>),
    /// A cold-chain probe.
    Probe(Box<Store>),
}

impl Registers for Machine {
    fn read(&self, space: Space, address: u16, out: &mut [u16]) -> Result<(), Exception> {
        match self {
            Self::Monitor(monitor) => monitor.read(space, address, out),
            Self::Probe(store) => store.probe.read(space, address, out),
        }
    }

    fn write(&mut self, address: u16, values: Words<'_>) -> Result<(), Exception> {
        match self {
            Self::Monitor(monitor) => monitor.write(address, values),
            Self::Probe(store) => store.probe.write(address, values),
        }
    }
}

/// Registers of two instants in one answer.
struct Torn<'a>(&'a Machine);

impl Registers for Torn<'_> {
    fn read(&self, space: Space, address: u16, out: &mut [u16]) -> Result<(), Exception> {
        self.0.read(space, address, out)?;
        if matches!((self.0, space), (Machine::Monitor(_), Space::Input)) {
            for (register, at) in out.iter_mut().zip(usize::from(address)..) {
                // The low words of the mantissas are the older sample's, and so is the guard after them.
                if at == GUARD_END || (at >= SIGNAL_BASE && (at - SIGNAL_BASE) % 3 == 1) {
                    *register = register.wrapping_sub(1);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, _: u16, _: Words<'_>) -> Result<(), Exception> {
        Err(Exception::Busy)
    }
}

/// The settings that are kept: not what a monitor does once when it is told, which comes after them.
type Kept = [u16; IDENTIFY];

/// What a device does with a request.
pub(super) enum Reply {
    /// Nothing.
    Silence,
    /// It answers with the first bytes of the buffer after a while.
    After(Duration, usize),
}

#[derive(Debug)]
struct State {
    machine: Machine,
    frozen: Option<Machine>,
    torn: bool,
}

/// A simulated Modbus device.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) id: DeviceId,
    pub(super) unit: u8,
    /// Told when a sample was acknowledged.
    pub(super) acknowledged: Arc<Notify>,
    state: Mutex<State>,
    /// Where its settings are kept; in memory alone where there is none.
    kept: Option<PathBuf>,
    clock: SimClock,
    faults: Faults,
}

impl Station {
    pub(super) fn new(
        id: DeviceId,
        unit: u8,
        machine: Machine,
        clock: SimClock,
        faults: Faults,
    ) -> Self {
        Self {
            id,
            unit,
            acknowledged: Arc::default(),
            state: Mutex::new(State {
                machine,
                frozen: None,
                torn: false,
            }),
            kept: None,
            clock,
            faults,
        }
    }

    /// A monitor that goes on with the settings that it kept in this folder, and keeps them there from now on. A probe is set by
    /// nobody.
    pub(super) fn keeping_in(mut self, folder: &Path) -> Result<Self, SimError> {
        if let Machine::Monitor(monitor) = &mut self.state.get_mut().machine {
            let path = folder.join(format!("{}.registers.json", self.id));
            std::fs::create_dir_all(folder).map_err(SimError::io(folder.display().to_string()))?;
            let kept: Kept = kept::get(&path)?;
            for (setting, kept) in monitor.settings.iter_mut().zip(kept) {
                *setting = kept;
            }
            self.kept = Some(path);
        }
        Ok(self)
    }

    /// Adds a sample to a monitor's window; says whether there was room.
    pub(super) fn push(&self, sample: Sample) -> bool {
        match &mut self.state.lock().machine {
            Machine::Monitor(monitor) => monitor.window.push(sample).is_ok(),
            Machine::Probe(_) => false,
        }
    }

    /// How many samples a monitor's window holds, and whether it is full.
    pub(super) fn waiting(&self) -> (usize, bool) {
        match &self.state.lock().machine {
            Machine::Monitor(monitor) => (monitor.window.len(), monitor.window.is_full()),
            Machine::Probe(_) => (0, false),
        }
    }

    /// The interval that was set by a command, in ms of mesh time; 0: as delivered.
    pub(super) fn interval_ms(&self) -> i64 {
        match &self.state.lock().machine {
            Machine::Monitor(monitor) => i64::from(monitor.interval_ms()),
            Machine::Probe(_) => 0,
        }
    }

    /// The device's answer to a request PDU, written into `out`.
    pub(super) fn reply(&self, pdu: &[u8], out: &mut [u8; MAX_PDU]) -> Reply {
        let fault = self.faults.of(&self.id);
        let mut state = self.state.lock();
        let State {
            machine,
            frozen,
            torn,
        } = &mut *state;
        if fault != Fault::Frozen {
            *frozen = None;
            self.turn(machine);
        }
        match fault {
            Fault::Silent => return Reply::Silence,
            Fault::Exception => {
                return Reply::After(Duration::ZERO, slave::refuse(pdu, Exception::Failure, out));
            }
            Fault::Frozen => {
                // What is written to a stopped main loop is acknowledged by the line and never acted upon.
                let mut copy = frozen.get_or_insert_with(|| machine.clone()).clone();
                return Reply::After(Duration::ZERO, slave::answer(&mut copy, pdu, out));
            }
            Fault::Torn => {
                *torn = !*torn;
                if *torn && matches!(pdu.first(), Some(3 | 4)) {
                    return Reply::After(
                        Duration::ZERO,
                        slave::answer(&mut Torn(machine), pdu, out),
                    );
                }
            }
            Fault::None | Fault::Slow => {}
        }
        let before = (waiting(machine), settings(machine));
        let mut len = slave::answer(machine, pdu, out);
        if waiting(machine) < before.0 {
            self.acknowledged.notify_one();
        }
        if self.keep(machine, before.1) {
            self.obey(machine, pdu);
        } else {
            len = slave::refuse(pdu, Exception::Failure, out);
        }
        Reply::After(
            if fault == Fault::Slow {
                SLOW
            } else {
                Duration::ZERO
            },
            len,
        )
    }

    /// What was set is kept before it is confirmed; what cannot be kept is not set.
    fn keep(&self, machine: &mut Machine, before: [u16; MONITOR_SETTINGS]) -> bool {
        let (Machine::Monitor(monitor), Some(path)) = (machine, &self.kept) else {
            return true;
        };
        let [now, before_it] = [&monitor.settings, &before].map(|all| &all[..IDENTIFY]);
        if now == before_it {
            return true;
        }
        match kept::put(path, &now) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(device = %self.id, %error, "the device cannot keep its settings");
                monitor.settings = before;
                false
            }
        }
    }

    /// What was written to the settings is done, and said.
    fn obey(&self, machine: &mut Machine, pdu: &[u8]) {
        let Machine::Monitor(monitor) = machine else {
            return;
        };
        for (setting, said) in [(IDENTIFY, "identifies itself"), (RESTART, "restarts")] {
            if std::mem::take(&mut monitor.settings[setting]) != 0 {
                tracing::info!(device = %self.id, "the device {said}");
            }
        }
        if let [16, high, low, ..] = *pdu
            && u16::from_be_bytes([high, low]) == SETTINGS
        {
            let interval_ms = monitor.interval_ms();
            tracing::info!(device = %self.id, interval_ms, "the device has a new interval");
        }
    }

    /// The main loop's turn.
    fn turn(&self, machine: &mut Machine) {
        let now = self.clock.mesh();
        match machine {
            Machine::Monitor(monitor) => monitor.beat(u64::try_from(now.0).unwrap_or(0)),
            Machine::Probe(store) => store.measure(now),
        }
    }
}

fn waiting(machine: &Machine) -> usize {
    match machine {
        Machine::Monitor(monitor) => monitor.window.len(),
        Machine::Probe(_) => 0,
    }
}

/// What a monitor is set to.
fn settings(machine: &Machine) -> [u16; MONITOR_SETTINGS] {
    match machine {
        Machine::Monitor(monitor) => monitor.settings,
        Machine::Probe(_) => [0; MONITOR_SETTINGS],
    }
}

#[cfg(test)]
mod tests {
    use super::super::fault;
    use super::*;
    use crate::health::Health;
    use tokio_util::sync::CancellationToken;
    use types::MeshClock;

    /// The monitor after a start.
    fn monitor(folder: &Path) -> Station {
        let monitor = Monitor::new(vec![Sample::default(); 4], Health::OK);
        let machine = Machine::Monitor(Box::new(monitor));
        let (faults, _) = fault::watch(None, CancellationToken::new());
        let clock = SimClock::new(MeshClock::REAL);
        let station = Station::new("m1".parse().unwrap(), 1, machine, clock, faults);
        station.keeping_in(folder).unwrap()
    }

    /// Whether the monitor confirms that a setting was written.
    fn set(station: &Station, register: u8, value: u16) -> bool {
        let [high, low] = value.to_be_bytes();
        let mut out = [0; MAX_PDU];
        let pdu = [16, 0, register, 0, 1, 2, high, low];
        assert!(matches!(station.reply(&pdu, &mut out), Reply::After(..)));
        out[0] == 16
    }

    fn shown(station: &Station) -> [u16; MONITOR_SETTINGS] {
        settings(&station.state.lock().machine)
    }

    #[test]
    fn a_monitor_that_is_switched_off_keeps_what_it_confirmed_and_confirms_nothing_that_it_cannot_keep()
     {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("devices");
        let first = monitor(&folder);
        assert!(set(&first, 65, 7_000) && set(&first, 66, 50) && set(&first, 67, 150));
        assert!(!set(&first, 66, 150), "it is not below the other");
        assert!(set(&first, 69, 1), "it identifies itself, once");
        let again = monitor(&folder);
        assert_eq!(shown(&again), [0, 7_000, 50, 150, 0, 0, 0]);
        assert_eq!(again.interval_ms(), 7_000);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(!set(&again, 67, 120), "it cannot be kept");
        assert_eq!(shown(&again)[3], 150);
    }
}
