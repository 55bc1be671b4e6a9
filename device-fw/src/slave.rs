//! A device's answer to one request: registers and a request PDU in, a response PDU out. No wire, no time.
use crate::frame::{Exception, FrameError, MAX_PDU, MAX_READ, Request, Response, Space, Words};

/// What a device offers as registers.
pub trait Registers {
    /// Fills `out` with the registers from `address` on, all of one instant.
    ///
    /// # Errors
    /// [`Exception::Address`] when one of them is not there; `out` is then not used.
    fn read(&self, space: Space, address: u16, out: &mut [u16]) -> Result<(), Exception>;

    /// Writes holding registers from `address` on, all or none.
    ///
    /// # Errors
    /// [`Exception::Address`] or [`Exception::Value`]; nothing was written.
    fn write(&mut self, address: u16, values: Words<'_>) -> Result<(), Exception>;
}

/// Answers a request PDU: writes the response PDU into `out` and says its length.
pub fn answer(device: &mut impl Registers, pdu: &[u8], out: &mut [u8; MAX_PDU]) -> usize {
    let outcome = match Request::parse(pdu) {
        Err(FrameError::Function(_)) => Err(Exception::Function),
        Err(_) => Err(Exception::Value),
        Ok(request) => perform(device, request, out),
    };
    outcome.unwrap_or_else(|exception| refuse(pdu, exception, out))
}

/// Writes the exception response to a request.
pub fn refuse(pdu: &[u8], exception: Exception, out: &mut [u8; MAX_PDU]) -> usize {
    let function = pdu.first().copied().unwrap_or(0);
    let response = Response::Exception {
        function,
        code: exception.code(),
    };
    response.encode(out).unwrap_or(0)
}

fn perform(
    device: &mut impl Registers,
    request: Request<'_>,
    out: &mut [u8; MAX_PDU],
) -> Result<usize, Exception> {
    let response = match request {
        Request::Read {
            space,
            address,
            count,
        } => return read(device, space, address, count, out),
        Request::WriteOne { address, value } => {
            device.write(address, Words::new(&value.to_be_bytes()))?;
            Response::WroteOne { address, value }
        }
        Request::WriteMany { address, values } => {
            device.write(address, values)?;
            let count = u16::try_from(values.len()).map_err(|_| Exception::Value)?;
            Response::WroteMany { address, count }
        }
    };
    response.encode(out).ok_or(Exception::Failure)
}

fn read(
    device: &impl Registers,
    space: Space,
    address: u16,
    count: u16,
    out: &mut [u8; MAX_PDU],
) -> Result<usize, Exception> {
    let mut registers = [0; MAX_READ as usize];
    let registers = registers.get_mut(..usize::from(count));
    let registers = registers.ok_or(Exception::Value)?;
    device.read(space, address, registers)?;
    let mut bytes = [0; 2 * MAX_READ as usize];
    for (pair, register) in bytes.chunks_exact_mut(2).zip(registers.iter()) {
        pair.copy_from_slice(&register.to_be_bytes());
    }
    let bytes = bytes.get(..2 * usize::from(count));
    let values = Words::new(bytes.ok_or(Exception::Value)?);
    Response::Read { space, values }
        .encode(out)
        .ok_or(Exception::Failure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        health::Health,
        registers::{
            GUARD_BEGIN, GUARD_END, MONITOR_INPUTS, Monitor, NO_DATA, NOT_IN_SAMPLE, Probe,
            SIGNAL_BASE,
        },
        signal::{Reading, Sample, Signal},
    };
    use proptest::prelude::*;
    use std::vec::Vec;

    fn ask(device: &mut impl Registers, pdu: &[u8]) -> Vec<u8> {
        let mut out = [0; MAX_PDU];
        let len = answer(device, pdu, &mut out);
        out[..len].to_vec()
    }

    fn probe() -> Probe {
        Probe {
            temperature: 305,
            humidity: 546,
            settings: [1, 9600, 0, 0],
        }
    }

    fn acknowledge(epoch: u8, seq: u8) -> [u8; 18] {
        [16, 0, 0, 0, 6, 12, 0, 0, 0, epoch, 0, 0, 0, 0, 0, 0, 0, seq]
    }

    fn monitor() -> Monitor<[Sample; 4]> {
        let mut monitor = Monitor::new([Sample::default(); 4], Health::OK);
        for seq in 1..=2 {
            let sample = Sample {
                epoch: 3,
                seq,
                time_ms: 0x0102_0304_0506_0708,
                ..Sample::default()
            }
            .with(
                Signal::HeartRate,
                Reading::Value {
                    mantissa: -73,
                    exponent: -2,
                },
            )
            .with(Signal::Pulse, Reading::NoData);
            monitor.measure(sample);
        }
        monitor
    }

    #[test]
    fn the_probe_answers_as_the_real_one_does() {
        for (request, response) in [
            (&[4, 0, 1, 0, 1][..], &[4, 2, 0x01, 0x31][..]),
            (&[4, 0, 1, 0, 2], &[4, 4, 0x01, 0x31, 0x02, 0x22]),
            (&[3, 1, 1, 0, 1], &[3, 2, 0, 1]),
            (&[6, 1, 1, 0, 8], &[6, 1, 1, 0, 8]),
            (&[3, 1, 1, 0, 1], &[3, 2, 0, 8]),
            (&[16, 1, 1, 0, 2, 4, 0, 0x20, 0x25, 0x80], &[16, 1, 1, 0, 2]),
            (&[4, 0, 0, 0, 1], &[0x84, 2]),
            (&[4, 0, 2, 0, 2], &[0x84, 2]),
            (&[6, 0, 1, 0, 8], &[0x86, 2]),
            (&[4, 0, 1, 0, 0], &[0x84, 3]),
            (&[1, 0, 0, 0, 1], &[0x81, 1]),
        ]
        .into_iter()
        .scan(probe(), |probe, (request, response)| {
            Some((ask(probe, request), response))
        }) {
            assert_eq!(request, response);
        }
    }

    #[test]
    fn the_monitor_shows_the_oldest_sample_between_two_equal_guards() {
        let image = monitor().image();
        assert_eq!(image[GUARD_BEGIN], image[GUARD_END]);
        assert_eq!(image[9..16], [0, 3, 0, 0, 0, 1, 2]);
        assert_eq!(image[16..20], [0x0102, 0x0304, 0x0506, 0x0708]);
        assert_eq!(
            image[SIGNAL_BASE..SIGNAL_BASE + 3],
            [0xffff, 0xffb7, 0xfffe]
        );
        assert_eq!(image[SIGNAL_BASE + 5], NO_DATA);
        assert_eq!(image[SIGNAL_BASE + 8], NOT_IN_SAMPLE);
        assert_eq!(MONITOR_INPUTS, 57);
    }

    #[test]
    fn an_acknowledgement_shows_the_next_sample_and_a_foreign_one_is_refused() {
        let mut monitor = monitor();
        let guard = monitor.image()[GUARD_BEGIN];
        assert_eq!(ask(&mut monitor, &acknowledge(3, 2)), [0x90, 3]);
        assert_eq!(ask(&mut monitor, &acknowledge(4, 1)), [0x90, 3]);
        assert_eq!(monitor.image()[GUARD_BEGIN], guard);
        for _ in 0..2 {
            assert_eq!(ask(&mut monitor, &acknowledge(3, 1)), [16, 0, 0, 0, 6]);
            assert_eq!(monitor.image()[14], 2);
        }
        assert_ne!(monitor.image()[GUARD_BEGIN], guard);
        assert_eq!(
            ask(&mut monitor, &[3, 0, 0, 0, 6])[2..],
            [0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        assert_eq!(ask(&mut monitor, &[6, 0, 0, 0, 1]), [0x86, 2]);
    }

    #[test]
    fn a_limit_that_is_not_in_order_with_those_that_stand_is_refused_with_its_whole_request() {
        let mut monitor = monitor();
        let done = |address: u8, count: u8| std::vec![16, 0, address, 0, count];
        let over = [0x90, 3];
        // 66 is the lower limit of the heart rate, 67 the upper one, 68 that of the oxygen saturation.
        for (request, expected) in [
            (&[16, 0, 66, 0, 1, 2, 0, 150][..], done(66, 1)),
            (&[16, 0, 67, 0, 1, 2, 0, 150], over.into()),
            (&[16, 0, 67, 0, 1, 2, 0, 151], done(67, 1)),
            (&[16, 0, 66, 0, 1, 2, 0, 151], over.into()),
            (&[6, 0, 66, 0, 200], std::vec![0x86, 3]),
            (&[16, 0, 66, 0, 2, 4, 0, 180, 0, 200], done(66, 2)),
            (&[16, 0, 67, 0, 2, 4, 0, 180, 0, 95], over.into()),
            (&[16, 0, 68, 0, 1, 2, 0, 95], done(68, 1)),
            // As delivered: there is nothing to be in order with.
            (&[16, 0, 67, 0, 1, 2, 0, 0], done(67, 1)),
            (&[16, 0, 66, 0, 1, 2, 0, 250], done(66, 1)),
        ] {
            assert_eq!(ask(&mut monitor, request), expected, "{request:?}");
        }
        assert_eq!(monitor.settings[2..5], [250, 0, 95]);
    }

    #[test]
    fn an_overflow_shows_as_a_fault() {
        let mut monitor = monitor();
        (0..3).for_each(|_| monitor.measure(Sample::default()));
        assert!(monitor.health.contains(Health::OVERFLOW));
        assert_eq!(monitor.image()[7], 1);
    }

    proptest! {
        #[test]
        fn every_request_gets_an_answer_of_its_function_or_an_exception(pdu in prop::collection::vec(any::<u8>(), 1..=MAX_PDU)) {
            for reply in [ask(&mut monitor(), &pdu), ask(&mut probe(), &pdu)] {
                prop_assert_eq!(reply[0] & 0x7f, pdu[0] & 0x7f);
                prop_assert!(pdu[0] >= 0x80 || Response::parse(&reply).is_ok());
            }
        }
    }
}
