//! Where a device is reached, as text in the configuration.
use super::talk::{Carrier, Micros};
use std::{fmt, str::FromStr};

/// Bits of a character on a serial line: start, eight of data, parity or a second stop bit, stop (Serial Line 1.02
/// §2.5.1).
const BITS: u64 = 11;
/// Above this rate the silence between frames is fixed (§2.5.1.1).
const FAST: u32 = 19_200;
/// The silence between frames above that rate.
const FAST_SILENCE: Micros = 1_750;
/// The serial line behind a device server, where its rate is not said.
const SERVED_BAUD: u32 = 9_600;
/// The longest name of a host (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// Where a device is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `tcp://plc-3.example.org:502`.
    Tcp(Host),
    /// `rtu+tcp://192.0.2.7:4001?baud=9600`: RTU frames through a device server.
    RtuOverTcp {
        /// The device server.
        host: Host,
        /// Bits a second on the serial line behind it: the silence between frames follows from it.
        baud: u32,
        /// Whether what is sent is heard too.
        echo: bool,
    },
    /// `rtu:///dev/ttyUSB0?baud=9600&parity=even&stop=1`; 19200 baud and even parity when left out (MODBUS over Serial
    /// Line 1.02 §3.2).
    Rtu {
        /// The serial port.
        path: String,
        /// Bits a second.
        baud: u32,
        /// The parity bit.
        parity: Parity,
        /// Stop bits, 1 or 2; 2 without parity and 1 with it when left out (§2.5.1).
        stop: u8,
        /// Whether the adapter hears what it sends.
        echo: bool,
    },
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// An address, or a name that is looked up at each connect.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// The parity bit of a serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parity {
    /// None.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// Text that is not the address of a device, and which part of it is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write an address like tcp://192.0.2.7:502, tcp://plc-3.example.org:502, rtu+tcp://192.0.2.7:4001?baud=9600 or \
     rtu:///dev/ttyUSB0?baud=9600&parity=none&stop=1&echo=true"
)]
pub struct InvalidAddress(&'static str);

impl Address {
    /// What names the line: devices with the same one share it.
    #[must_use]
    pub fn line(&self) -> String {
        match self {
            Self::Tcp(host) | Self::RtuOverTcp { host, .. } => host.to_string(),
            Self::Rtu { path, .. } => path.clone(),
        }
    }

    /// Whether frames are RTU's: units 1 to 247 then, and no transaction ids.
    #[must_use]
    pub const fn is_rtu(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// How the line carries frames.
    pub(super) fn carrier(&self) -> Carrier {
        let (baud, echo) = match self {
            Self::Tcp(_) => {
                return Carrier {
                    rtu: false,
                    character: 0,
                    silence: 0,
                    echo: false,
                };
            }
            Self::RtuOverTcp { baud, echo, .. } | Self::Rtu { baud, echo, .. } => (*baud, *echo),
        };
        let character = (BITS * 1_000_000).div_ceil(u64::from(baud));
        Carrier {
            rtu: true,
            character,
            silence: if baud > FAST {
                FAST_SILENCE
            } else {
                (7 * BITS * 1_000_000).div_ceil(2 * u64::from(baud))
            },
            echo,
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or(InvalidAddress("it has no scheme"))?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = Options::parse(options)?;
        let address = match scheme {
            "tcp" => Self::Tcp(place.parse()?),
            "rtu+tcp" => Self::RtuOverTcp {
                host: place.parse()?,
                baud: options.baud.take().unwrap_or(SERVED_BAUD),
                echo: options.echo.take().unwrap_or(false),
            },
            "rtu" if place.starts_with('/') => {
                let parity = options.parity.take().unwrap_or(Parity::Even);
                let usual = if parity == Parity::None { 2 } else { 1 };
                Self::Rtu {
                    path: place.to_owned(),
                    baud: options.baud.take().unwrap_or(FAST),
                    parity,
                    stop: options.stop.take().unwrap_or(usual),
                    echo: options.echo.take().unwrap_or(false),
                }
            }
            "rtu" => return Err(InvalidAddress("a serial port is an absolute path")),
            _ => return Err(InvalidAddress("the scheme is tcp, rtu or rtu+tcp")),
        };
        if options == Options::default() {
            Ok(address)
        } else {
            Err(InvalidAddress("an option is not one of this scheme"))
        }
    }
}

/// What stands behind the question mark.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    baud: Option<u32>,
    parity: Option<Parity>,
    stop: Option<u8>,
    echo: Option<bool>,
}

impl Options {
    fn parse(text: &str) -> Result<Self, InvalidAddress> {
        let mut found = Self::default();
        for option in text.split('&').filter(|option| !option.is_empty()) {
            let twice = match option.split_once('=') {
                Some(("baud", value)) => {
                    let baud = value.parse().ok();
                    let baud = baud.filter(|baud| (300..=4_000_000).contains(baud));
                    let baud = baud.ok_or(InvalidAddress("baud is 300 to 4000000"))?;
                    found.baud.replace(baud).is_some()
                }
                Some(("parity", value)) => {
                    let parity = match value {
                        "none" => Parity::None,
                        "even" => Parity::Even,
                        "odd" => Parity::Odd,
                        _ => return Err(InvalidAddress("parity is none, even or odd")),
                    };
                    found.parity.replace(parity).is_some()
                }
                Some(("stop", "1")) => found.stop.replace(1).is_some(),
                Some(("stop", "2")) => found.stop.replace(2).is_some(),
                Some(("stop", _)) => return Err(InvalidAddress("stop is 1 or 2")),
                Some(("echo", "true")) => found.echo.replace(true).is_some(),
                Some(("echo", "false")) => found.echo.replace(false).is_some(),
                Some(("echo", _)) => return Err(InvalidAddress("echo is true or false")),
                _ => return Err(InvalidAddress("an option is baud, parity, stop or echo")),
            };
            if twice {
                return Err(InvalidAddress("an option is given twice"));
            }
        }
        Ok(found)
    }
}

impl FromStr for Host {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (name, port) = text
            .rsplit_once(':')
            .ok_or(InvalidAddress("the port is missing"))?;
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or(InvalidAddress("the port is 1 to 65535"))?;
        let bare = name
            .strip_prefix('[')
            .and_then(|name| name.strip_suffix(']'));
        let right = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host_name(name),
        };
        right
            .then(|| Self {
                name: bare.unwrap_or(name).to_owned(),
                port,
            })
            .ok_or(InvalidAddress("the host is an address or a name"))
    }
}

/// A name of letters, digits, hyphens and underscores between dots, or an IPv4 address.
fn is_host_name(name: &str) -> bool {
    let part = |part: &str| {
        (1..=63).contains(&part.len())
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    // What has only digits at its end is an IPv4 address, or a mistake in one (RFC 3986 §3.2.2, WHATWG URL §3.5).
    let digits = |last: &str| last.bytes().all(|byte| byte.is_ascii_digit());
    let bare = name.strip_suffix('.').unwrap_or(name);
    if bare.rsplit('.').next().is_some_and(digits) {
        return name.parse::<std::net::Ipv4Addr>().is_ok();
    }
    bare.len() <= MAX_NAME && bare.split('.').all(part)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::RtuOverTcp { host, baud, echo } => {
                write!(f, "rtu+tcp://{host}?baud={baud}&echo={echo}")
            }
            Self::Rtu {
                path,
                baud,
                parity,
                stop,
                echo,
            } => {
                let parity = match parity {
                    Parity::None => "none",
                    Parity::Even => "even",
                    Parity::Odd => "odd",
                };
                write!(
                    f,
                    "rtu://{path}?baud={baud}&parity={parity}&stop={stop}&echo={echo}"
                )
            }
        }
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
            ("tcp://plc-3.example.org:502", "tcp://plc-3.example.org:502"),
            ("tcp://localhost:1502", "tcp://localhost:1502"),
            (
                "rtu+tcp://moxa_1:4001",
                "rtu+tcp://moxa_1:4001?baud=9600&echo=false",
            ),
            (
                "rtu+tcp://192.0.2.7:4001?baud=19200&echo=true",
                "rtu+tcp://192.0.2.7:4001?baud=19200&echo=true",
            ),
            (
                "rtu:///dev/ttyUSB0",
                "rtu:///dev/ttyUSB0?baud=19200&parity=even&stop=1&echo=false",
            ),
            (
                "rtu:///dev/ttyUSB0?baud=9600&parity=none",
                "rtu:///dev/ttyUSB0?baud=9600&parity=none&stop=2&echo=false",
            ),
            (
                "rtu:///dev/ttyUSB0?parity=none&stop=1&echo=true",
                "rtu:///dev/ttyUSB0?baud=19200&parity=none&stop=1&echo=true",
            ),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), full);
            assert_eq!(full.parse(), Ok(address));
        }
    }

    #[test]
    fn text_that_is_no_address_is_refused_with_what_is_wrong_in_it() {
        for (text, wrong) in [
            ("", "scheme"),
            ("monitor:502", "scheme"),
            ("udp://127.0.0.1:502", "scheme"),
            ("tcp://127.0.0.1", "port"),
            ("tcp://127.0.0.1:0", "port"),
            ("tcp://127.0.0.1:65536", "port"),
            ("tcp://127.0.0.256:502", "host"),
            ("tcp://:502", "host"),
            ("tcp://-a:502", "host"),
            ("tcp://a b:502", "host"),
            ("tcp://::1:502", "host"),
            ("tcp://[::g]:502", "host"),
            ("tcp://a..b:502", "host"),
            ("tcp://127.0.0.1:502?baud=9600", "option"),
            ("rtu+tcp://127.0.0.1:502?parity=even", "option"),
            ("rtu://ttyUSB0", "path"),
            ("rtu:///dev/tty?baud=0", "baud"),
            ("rtu:///dev/tty?baud=x", "baud"),
            ("rtu:///dev/tty?speed=9600", "option"),
            ("rtu:///dev/tty?parity=mark", "parity"),
            ("rtu:///dev/tty?stop=3", "stop"),
            ("rtu:///dev/tty?echo=maybe", "echo"),
            ("rtu:///dev/tty?stop=1&stop=2", "twice"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.0.contains(wrong), "{text}: {}", error.0);
        }
    }

    #[test]
    fn the_silence_between_frames_is_3_5_characters_and_1_75_ms_above_19200_baud() {
        for (address, silence) in [
            ("rtu:///dev/tty?baud=9600", 4_011),
            ("rtu:///dev/tty?baud=19200", 2_006),
            ("rtu:///dev/tty?baud=115200", 1_750),
            ("rtu+tcp://a:1?baud=1200", 32_084),
            ("tcp://a:1", 0),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(address.carrier().silence, silence);
        }
    }
}
