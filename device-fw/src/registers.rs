//! The register maps: the bedside monitor of the mesh and the cold-chain probe XY-MD02.
//!
//! Monitor, input registers (function code 4), big-endian words, the most significant register first:
//!
//! | address | registers | what |
//! |---|---|---|
//! | 0 | 1 | version of this map |
//! | 1 | 1 | health, see [`crate::health::Health`] |
//! | 2 | 4 | device time, ms since 1970 |
//! | 6 | 1 | heartbeat: counts while the device's main loop runs |
//! | 7 | 1 | samples dropped, modulo 65536 |
//! | 8 | 1 | guard begin |
//! | 9 | 2 | epoch of the shown sample |
//! | 11 | 4 | seq of the shown sample |
//! | 15 | 1 | samples that wait, the shown one too; 0: nothing is shown |
//! | 16 | 4 | source time, ms since 1970 |
//! | 20 | 12 × 3 | per [`crate::signal::Signal`]: mantissa (2, signed), decimal exponent (1, signed) or a marker |
//! | 56 | 1 | guard end: equal to guard begin unless the read was torn |
//!
//! Holding registers (function codes 3 and 16): 0 epoch (2), 2 seq (4) of the sample that the master acknowledges,
//! written in one request. Reading them gives the last acknowledged sample.
//!
//! Holding registers from 64 on are settings, one or several in a request, and read as they were written: 64 interval in
//! ms (2; 0: as delivered), 66 lower and 67 upper alarm limit of the heart rate, 68 lower limit of the oxygen saturation (0:
//! as delivered). A lower limit that would not be below the upper one is refused, with everything in its request, as a value that
//! is not allowed. Writing 1 to 69 identifies the device, to 70 restarts it; both read as 0 once that is done.
//!
//! The probe has the registers that its maker gave it (temperature and humidity, tenths, input registers 1 and 2;
//! settings in holding registers 0x0101 to 0x0104), no counter and no clock.
use crate::{
    frame::{Exception, Space, Words},
    health::Health,
    signal::{Reading, SIGNALS, Sample},
    slave::Registers,
    window::{Ack, Window},
};

/// The version of the monitor's map.
pub const MAP_VERSION: u16 = 1;
/// Number of the monitor's input registers.
pub const MONITOR_INPUTS: usize = GUARD_END + 1;
/// First register of the guarded sample window.
pub const GUARD_BEGIN: usize = 8;
/// First register of the signals.
pub const SIGNAL_BASE: usize = 20;
/// Last register of the guarded sample window.
pub const GUARD_END: usize = SIGNAL_BASE + 3 * SIGNALS;
/// Number of the monitor's holding registers.
pub const MONITOR_HOLDINGS: usize = 6;
/// First holding register of the monitor's settings.
pub const SETTINGS: u16 = 64;
/// Number of the monitor's settings.
pub const MONITOR_SETTINGS: usize = 7;
/// Of the settings: the lower and the upper alarm limit of the heart rate.
const HEART_RATE: [usize; 2] = [2, 3];
/// Of the settings: where 1 identifies the device, and where 1 restarts it.
pub const IDENTIFY: usize = 5;
/// See [`IDENTIFY`].
pub const RESTART: usize = 6;
/// Exponent register of a signal that is not part of the sample.
pub const NOT_IN_SAMPLE: u16 = 0x8000;
/// Exponent register of a signal that was measured without a result.
pub const NO_DATA: u16 = 0x7fff;

/// The bedside monitor: its sample window, its health and its clock, as registers.
#[derive(Clone, Debug)]
pub struct Monitor<S> {
    /// The samples that wait.
    pub window: Window<S>,
    /// The faults.
    pub health: Health,
    /// Device time, ms since 1970; set by the main loop.
    pub time_ms: u64,
    /// Counts while the main loop runs.
    pub heartbeat: u16,
    /// Holding registers from [`SETTINGS`] on.
    pub settings: [u16; MONITOR_SETTINGS],
    acked: (u32, u64),
}

impl<S: AsRef<[Sample]> + AsMut<[Sample]>> Monitor<S> {
    /// A monitor with an empty window.
    pub const fn new(slots: S, health: Health) -> Self {
        Self {
            window: Window::new(slots),
            health,
            time_ms: 0,
            heartbeat: 0,
            settings: [0; MONITOR_SETTINGS],
            acked: (0, 0),
        }
    }

    /// The main loop's turn: the clock moves and the heart beats.
    pub fn beat(&mut self, time_ms: u64) {
        self.time_ms = time_ms;
        self.heartbeat = self.heartbeat.wrapping_add(1);
    }

    /// The interval that was set, in ms; 0: as delivered.
    #[must_use]
    pub fn interval_ms(&self) -> u32 {
        u32::from(self.settings[0]) << 16 | u32::from(self.settings[1])
    }

    /// Adds a sample that cannot be held back; a lost one shows as a fault.
    pub fn measure(&mut self, sample: Sample) {
        if !self.window.push_or_drop(sample) {
            self.health = self.health.with(Health::OVERFLOW);
        }
    }

    /// The input registers, all of one instant.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the dropped counter is shown modulo 65536"
    )]
    pub fn image(&self) -> [u16; MONITOR_INPUTS] {
        let mut image = [0; MONITOR_INPUTS];
        image[0] = MAP_VERSION;
        image[1] = self.health.bits();
        put_u64(&mut image[2..6], self.time_ms);
        image[6] = self.heartbeat;
        image[7] = self.window.dropped() as u16;
        image[GUARD_BEGIN] = self.window.version();
        image[15] = u16::try_from(self.window.len()).unwrap_or(u16::MAX);
        let none = Sample::default();
        let shown = self.window.front().unwrap_or(&none);
        put_u32(&mut image[9..11], shown.epoch);
        put_u64(&mut image[11..15], shown.seq);
        put_u64(&mut image[16..20], shown.time_ms);
        let (of_signals, _rest) = image[SIGNAL_BASE..].as_chunks_mut();
        for (reading, registers) in shown.readings.iter().zip(of_signals) {
            put_reading(registers, *reading);
        }
        image[GUARD_END] = self.window.version();
        image
    }
}

fn put_u32(registers: &mut [u16], value: u32) {
    put(registers, &value.to_be_bytes());
}

fn put_u64(registers: &mut [u16], value: u64) {
    put(registers, &value.to_be_bytes());
}

/// The words of a number, the most significant first.
fn put(registers: &mut [u16], bytes: &[u8]) {
    let (words, _none) = bytes.as_chunks();
    for (register, word) in registers.iter_mut().zip(words) {
        *register = u16::from_be_bytes(*word);
    }
}

fn put_reading(registers: &mut [u16; 3], reading: Reading) {
    let [value @ .., what] = registers;
    match reading {
        Reading::NotInSample => *what = NOT_IN_SAMPLE,
        Reading::NoData => *what = NO_DATA,
        Reading::Value { mantissa, exponent } => {
            put_u32(value, mantissa.cast_unsigned());
            *what = i16::from(exponent).cast_unsigned();
        }
    }
}

impl<S: AsRef<[Sample]> + AsMut<[Sample]>> Registers for Monitor<S> {
    fn read(&self, space: Space, address: u16, out: &mut [u16]) -> Result<(), Exception> {
        match space {
            Space::Input => copy(&self.image(), address, out),
            Space::Holding if address >= SETTINGS => copy(&self.settings, address - SETTINGS, out),
            Space::Holding => {
                let mut holdings = [0; MONITOR_HOLDINGS];
                put_u32(&mut holdings[..2], self.acked.0);
                put_u64(&mut holdings[2..], self.acked.1);
                copy(&holdings, address, out)
            }
        }
    }

    fn write(&mut self, address: u16, values: Words<'_>) -> Result<(), Exception> {
        if let Some(at) = address.checked_sub(SETTINGS) {
            let (at, mut settings) = (usize::from(at), self.settings);
            let written = settings.get_mut(at..at + values.len());
            let written = written.ok_or(Exception::Address)?;
            written
                .iter_mut()
                .zip(values.iter())
                .for_each(|(setting, value)| *setting = value);
            let [low, high] = HEART_RATE.map(|at| settings.get(at).copied().unwrap_or(0));
            if low != 0 && high != 0 && low >= high {
                return Err(Exception::Value);
            }
            self.settings = settings;
            return Ok(());
        }
        if address != 0 || values.len() != MONITOR_HOLDINGS {
            return Err(Exception::Address);
        }
        let mut words = values.iter();
        let mut take = |count| {
            words
                .by_ref()
                .take(count)
                .fold(0, |sum, word| sum << 16 | u64::from(word))
        };
        let epoch = u32::try_from(take(2)).map_err(|_| Exception::Value)?;
        let seq = take(4);
        match self.window.acknowledge(epoch, seq) {
            Ack::Removed => self.acked = (epoch, seq),
            Ack::Again => {}
            Ack::Unknown => return Err(Exception::Value),
        }
        Ok(())
    }
}

/// The cold-chain probe XY-MD02 (also sold as SHT20 and XY-MD01).
#[derive(Clone, Debug)]
pub struct Probe {
    /// Tenths of a degree Celsius.
    pub temperature: i16,
    /// Tenths of a per cent relative humidity.
    pub humidity: u16,
    /// Holding registers 0x0101 to 0x0104: address, baud rate, temperature and humidity offsets (tenths).
    pub settings: [u16; 4],
}

impl Probe {
    /// Address of the temperature.
    pub const TEMPERATURE: u16 = 1;
    /// Address of the settings.
    pub const SETTINGS: u16 = 0x0101;
}

impl Registers for Probe {
    fn read(&self, space: Space, address: u16, out: &mut [u16]) -> Result<(), Exception> {
        let (base, registers) = match space {
            Space::Input => (
                Self::TEMPERATURE,
                &[self.temperature.cast_unsigned(), self.humidity][..],
            ),
            Space::Holding => (Self::SETTINGS, &self.settings[..]),
        };
        copy(
            registers,
            address.checked_sub(base).ok_or(Exception::Address)?,
            out,
        )
    }

    fn write(&mut self, address: u16, values: Words<'_>) -> Result<(), Exception> {
        let at = usize::from(
            address
                .checked_sub(Self::SETTINGS)
                .ok_or(Exception::Address)?,
        );
        let settings = self
            .settings
            .get_mut(at..at + values.len())
            .ok_or(Exception::Address)?;
        settings
            .iter_mut()
            .zip(values.iter())
            .for_each(|(setting, value)| *setting = value);
        Ok(())
    }
}

fn copy(registers: &[u16], address: u16, out: &mut [u16]) -> Result<(), Exception> {
    let from = usize::from(address);
    let registers = registers
        .get(from..from + out.len())
        .ok_or(Exception::Address)?;
    out.copy_from_slice(registers);
    Ok(())
}
