//! One simulated Modbus device: the firmware core, its clock and its fault.
use super::{
    clock::SimClock,
    fault::{Fault, Faults},
    probe::Store,
};
use crate::{
    frame::{Exception, MAX_PDU, Space, Words},
    registers::{GUARD_END, IDENTIFY, Monitor, RESTART, SETTINGS, SIGNAL_BASE},
    signal::Sample,
    slave::{self, Registers},
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
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
            clock,
            faults,
        }
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
        let before = waiting(machine);
        let len = slave::answer(machine, pdu, out);
        if waiting(machine) < before {
            self.acknowledged.notify_one();
        }
        self.obey(machine, pdu);
        Reply::After(
            if fault == Fault::Slow {
                SLOW
            } else {
                Duration::ZERO
            },
            len,
        )
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
