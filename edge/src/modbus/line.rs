//! A line to devices: a TCP connection or a serial bus, with one request on it at a time.
//!
//! Every call has a time-out. After a time-out or a broken answer the connection is given up, as a late answer could be
//! taken for the answer to a later question. Requests of several units on one line take turns in the order in which
//! they asked, so a dead unit costs the others one time-out a turn and its own pauses keep those turns rare.
use std::{fmt, io::ErrorKind, net::SocketAddr, str::FromStr, time::Duration};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_modbus::{
    Request, Response, Slave,
    client::{Client, Context, rtu, tcp},
    slave::SlaveContext,
};
use tokio_serial::{ClearBuffer, DataBits, SerialPort, SerialStream, StopBits};

use super::plan::{Read, Space};

/// Where a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `tcp://127.0.0.1:502`.
    Tcp(SocketAddr),
    /// `rtu:///dev/ttyUSB0?baud=9600&parity=even`; 19200 baud and even parity when left out (MODBUS over Serial
    /// Line 1.02 §3.2).
    Rtu {
        /// The serial port.
        path: String,
        /// Bits a second.
        baud: u32,
        /// The parity bit.
        parity: Parity,
    },
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parity {
    /// None; two stop bits then (§2.5.1).
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Text that is not the address of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write an address like tcp://127.0.0.1:502 or rtu:///dev/ttyUSB0?baud=9600&parity=none")]
pub struct InvalidAddress;

impl Address {
    /// What names the line: devices with the same one share it.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Rtu { path, .. } => path.clone(),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        if let Some(address) = text.strip_prefix("tcp://") {
            return address.parse().map(Self::Tcp).map_err(|_| InvalidAddress);
        }
        let rest = text.strip_prefix("rtu://").ok_or(InvalidAddress)?;
        let (path, options) = rest.split_once('?').unwrap_or((rest, ""));
        if !path.starts_with('/') {
            return Err(InvalidAddress);
        }
        let (mut baud, mut parity) = (19_200, Parity::Even);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("baud", value)) => baud = value.parse().map_err(|_| InvalidAddress)?,
                Some(("parity", "none")) => parity = Parity::None,
                Some(("parity", "even")) => parity = Parity::Even,
                Some(("parity", "odd")) => parity = Parity::Odd,
                _ => return Err(InvalidAddress),
            }
        }
        if !(300..=4_000_000).contains(&baud) {
            return Err(InvalidAddress);
        }
        Ok(Self::Rtu {
            path: path.to_owned(),
            baud,
            parity,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Rtu { path, baud, parity } => {
                let parity = match parity {
                    Parity::None => "none",
                    Parity::Even => "even",
                    Parity::Odd => "odd",
                };
                write!(f, "rtu://{path}?baud={baud}&parity={parity}")
            }
        }
    }
}

/// What to ask a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Registers.
    Read(Read),
    /// To write holding registers.
    Write { address: u16, words: Vec<u16> },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// As many registers as were asked for.
    Registers(Vec<u16>),
    /// The registers were written.
    Written,
    /// An exception response with this code.
    Refused(u8),
    /// No answer in time.
    TimedOut,
    /// No connection, or a connection that broke.
    Broken,
    /// An answer that is not one: malformed, of another unit or function, or of another length.
    Malformed,
}

/// One line.
pub(super) struct Line {
    address: Address,
    connection: Mutex<Option<Context>>,
}

impl Line {
    pub(super) const fn new(address: Address) -> Self {
        Self {
            address,
            connection: Mutex::const_new(None),
        }
    }

    /// Asks a unit, once the line is free.
    pub(super) async fn ask(&self, unit: u8, ask: &Ask, limit: Duration) -> Answer {
        let mut slot = self.connection.lock().await;
        let mut context = match slot.take() {
            Some(context) => context,
            None => match timeout(limit, self.connect()).await {
                Ok(Ok(context)) => context,
                Ok(Err(_)) => return Answer::Broken,
                Err(_) => return Answer::TimedOut,
            },
        };
        context.set_slave(Slave(unit));
        // The connection goes back only after a whole, fitting answer.
        let answer = timeout(limit, call(&mut context, ask))
            .await
            .unwrap_or(Answer::TimedOut);
        if matches!(
            answer,
            Answer::Registers(_) | Answer::Written | Answer::Refused(_)
        ) {
            *slot = Some(context);
        }
        answer
    }

    async fn connect(&self) -> std::io::Result<Context> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(tcp::attach(stream))
            }
            Address::Rtu { path, baud, parity } => {
                let (parity, stop) = match parity {
                    Parity::None => (tokio_serial::Parity::None, StopBits::Two),
                    Parity::Even => (tokio_serial::Parity::Even, StopBits::One),
                    Parity::Odd => (tokio_serial::Parity::Odd, StopBits::One),
                };
                let settings = tokio_serial::new(path, *baud)
                    .data_bits(DataBits::Eight)
                    .parity(parity)
                    .stop_bits(stop);
                let port = SerialStream::open(&settings)?;
                // Whatever a unit sent after its time-out is nobody's answer.
                port.clear(ClearBuffer::All)?;
                Ok(rtu::attach(port))
            }
        }
    }
}

/// Asks without the crate's typed calls: those assert that the answer fits the question, and a device may answer
/// anything.
async fn call(context: &mut Context, ask: &Ask) -> Answer {
    let request = match ask {
        Ask::Read(read) => match read.space {
            Space::Input => Request::ReadInputRegisters(read.address, read.count),
            Space::Holding => Request::ReadHoldingRegisters(read.address, read.count),
        },
        Ask::Write { address, words } => Request::WriteMultipleRegisters(*address, words.into()),
    };
    match context.call(request).await {
        Ok(Ok(response)) => fitting(ask, response),
        Ok(Err(exception)) => Answer::Refused(exception.into()),
        Err(tokio_modbus::Error::Protocol(_)) => Answer::Malformed,
        Err(tokio_modbus::Error::Transport(error)) => match error.kind() {
            ErrorKind::InvalidData | ErrorKind::InvalidInput => Answer::Malformed,
            _ => Answer::Broken,
        },
    }
}

/// The response, if it is one to this question.
fn fitting(ask: &Ask, response: Response) -> Answer {
    match (ask, response) {
        (
            Ask::Read(read),
            Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words),
        ) if words.len() == usize::from(read.count) => Answer::Registers(words),
        (Ask::Write { address, words }, Response::WriteMultipleRegisters(at, count))
            if at == *address && usize::from(count) == words.len() =>
        {
            Answer::Written
        }
        _ => Answer::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_round_trips_through_its_text() {
        for (text, full) in [
            ("tcp://127.0.0.1:502", "tcp://127.0.0.1:502"),
            ("tcp://[::1]:502", "tcp://[::1]:502"),
            (
                "rtu:///dev/ttyUSB0",
                "rtu:///dev/ttyUSB0?baud=19200&parity=even",
            ),
            (
                "rtu:///dev/ttyUSB0?baud=9600&parity=none",
                "rtu:///dev/ttyUSB0?baud=9600&parity=none",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), full);
            assert_eq!(full.parse(), Ok(address));
        }
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        for text in [
            "",
            "tcp://monitor:502",
            "tcp://127.0.0.1",
            "udp://127.0.0.1:502",
            "rtu://ttyUSB0",
            "rtu:///dev/tty?baud=0",
            "rtu:///dev/tty?baud=x",
            "rtu:///dev/tty?speed=9600",
            "rtu:///dev/tty?parity=mark",
        ] {
            assert_eq!(text.parse::<Address>(), Err(InvalidAddress), "{text}");
        }
    }
}
