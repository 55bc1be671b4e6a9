//! A line to devices: a TCP connection or a serial bus, with one request on it at a time. The shell around
//! [`super::talk`], which decides whose answer is whose.
//!
//! Requests of several units on one line take turns in the order in which they asked, so a dead unit costs the others
//! one time-out a turn and its own pauses keep those turns rare. A unit whose late answer is waited for leaves the line
//! to the others meanwhile.
use super::{
    address::{Address, Host, Parity},
    talk::{Answer, Do, Micros, Question, Talk},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    sync::{Mutex, Semaphore},
    time::{Instant, timeout, timeout_at},
};
use tokio_serial::{ClearBuffer, DataBits, SerialPort, SerialStream, StopBits};

/// The longest time that a unit in debt stays away from the line before it looks again for its late answer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// A connection may take this long at least: a first packet that is lost is sent again after a second (RFC 6298 §2).
const CONNECT: Duration = Duration::from_millis(2_500);
/// Names of hosts that are looked up at once, by threads that wait for the system's resolver.
const MAX_LOOKUPS: usize = 8;

/// Who may look a name up: kept until the resolver has answered, also when nobody waits for it any more.
static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// One line.
pub(super) struct Line {
    address: Address,
    origin: Instant,
    state: Mutex<State>,
}

struct State {
    port: Option<Box<dyn Port>>,
    talk: Talk,
}

/// What bytes go through.
trait Port: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Port for T {}

/// What came of a turn on the line.
enum Turn {
    Over(Answer),
    /// As [`Turn::Over`], and nothing of the request was sent.
    Unsent(Answer),
    /// The line is left to others until then.
    Leave(Micros),
}

impl Line {
    /// A line that is not open yet; `transaction` is its first transaction id.
    pub(super) fn new(address: Address, transaction: u16) -> Self {
        let talk = Talk::new(address.carrier(), transaction);
        Self {
            address,
            origin: Instant::now(),
            state: Mutex::new(State { port: None, talk }),
        }
    }

    /// Asks a unit, once the line is free.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Answer {
        match self.turns(question, false).await {
            Ok(answer) | Err(answer) => answer,
        }
    }

    /// Asks a unit for what must not be done twice: it is sent once at most. None when nothing of it was sent.
    pub(super) async fn tell(&self, question: &Question<'_>) -> Option<Answer> {
        self.turns(question, true).await.ok()
    }

    /// Turns until there is an answer; the error is one to a request of which nothing was sent.
    async fn turns(&self, question: &Question<'_>, once: bool) -> Result<Answer, Answer> {
        loop {
            let mut state = self.state.lock().await;
            let turn = self.turn(&mut state, question, once).await;
            drop(state);
            match turn {
                Turn::Over(answer) => return Ok(answer),
                Turn::Unsent(answer) => return Err(answer),
                Turn::Leave(until) => {
                    let again = Instant::now() + LOOK_AGAIN;
                    tokio::time::sleep_until(self.instant(until).min(again)).await;
                }
            }
        }
    }

    /// One turn. A connection that was kept and turns out to be closed is made anew, once, unless the request is sent once
    /// at most and may have gone out.
    async fn turn(&self, state: &mut State, question: &Question<'_>, once: bool) -> Turn {
        let limit = Duration::from_micros(question.pace.timeout);
        loop {
            let kept = state.port.is_some();
            let mut port = match state.port.take() {
                Some(port) => port,
                None => match timeout(limit.max(CONNECT), self.connect()).await {
                    Ok(Ok(port)) => {
                        state.talk.opened(self.now());
                        port
                    }
                    Ok(Err(_)) => return Turn::Unsent(Answer::Broken),
                    Err(_) => return Turn::Unsent(Answer::TimedOut),
                },
            };
            match self.exchange(&mut port, &mut state.talk, question).await {
                Ok(turn) => {
                    if self.is_kept(&turn, &state.talk, question) {
                        state.port = Some(port);
                    }
                    return turn;
                }
                Err(_) => {
                    let was_sent = state.talk.is_asked();
                    let untouched = state.talk.broke(question);
                    if kept && untouched && !(once && was_sent) {
                        continue;
                    }
                    return if was_sent {
                        Turn::Over(Answer::Broken)
                    } else {
                        Turn::Unsent(Answer::Broken)
                    };
                }
            }
        }
    }

    /// Whether the connection is good for the next request: not after many time-outs, and not when a TCP stream has
    /// lost its framing. A serial port is always kept.
    fn is_kept(&self, turn: &Turn, talk: &Talk, question: &Question<'_>) -> bool {
        match (&self.address, turn) {
            (Address::Rtu { .. }, _) => true,
            (Address::Tcp(_), Turn::Over(Answer::Malformed)) => false,
            _ => !talk.is_stale(question.pace),
        }
    }

    async fn exchange(
        &self,
        port: &mut Box<dyn Port>,
        talk: &mut Talk,
        question: &Question<'_>,
    ) -> io::Result<Turn> {
        let mut buffer = [0; 512];
        let mut step = talk.begin(question, self.now());
        loop {
            step = match step {
                Do::Send(bytes) => {
                    let limit = Duration::from_micros(question.pace.timeout);
                    timeout(limit, port.write_all(&bytes)).await??;
                    talk.sent(question, self.now())
                }
                Do::Listen(until) => {
                    match timeout_at(self.instant(until), port.read(&mut buffer)).await {
                        Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                        Ok(Err(error)) => return Err(error),
                        Ok(Ok(count)) => {
                            let bytes = buffer.get(..count).unwrap_or_default();
                            talk.heard(question, bytes, self.now())
                        }
                        Err(_) => talk.passed(question, self.now()),
                    }
                }
                Do::Leave(until) => return Ok(Turn::Leave(until)),
                Do::Done(answer) => return Ok(Turn::Over(answer)),
            };
        }
    }

    fn now(&self) -> Micros {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn instant(&self, at: Micros) -> Instant {
        self.origin + Duration::from_micros(at)
    }

    async fn connect(&self) -> io::Result<Box<dyn Port>> {
        match &self.address {
            Address::Tcp(host) | Address::RtuOverTcp { host, .. } => dial(host).await,
            Address::Rtu {
                path,
                baud,
                parity,
                stop,
                ..
            } => {
                let settings = tokio_serial::new(path, *baud)
                    .data_bits(DataBits::Eight)
                    .parity(match parity {
                        Parity::None => tokio_serial::Parity::None,
                        Parity::Even => tokio_serial::Parity::Even,
                        Parity::Odd => tokio_serial::Parity::Odd,
                    })
                    .stop_bits(if *stop == 1 {
                        StopBits::One
                    } else {
                        StopBits::Two
                    });
                let port = SerialStream::open(&settings)?;
                // Whatever a unit sent before is nobody's answer.
                port.clear(ClearBuffer::All)?;
                Ok(Box::new(port))
            }
        }
    }
}

/// Connects to the first address that takes the connection. A name is looked up each time, as it may be of another
/// machine by now.
async fn dial(host: &Host) -> io::Result<Box<dyn Port>> {
    let addresses = match host.name.parse() {
        Ok(address) => vec![SocketAddr::new(address, host.port)],
        Err(_) => look_up(host.clone()).await?,
    };
    let stream = TcpStream::connect(addresses.as_slice()).await?;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

async fn look_up(host: Host) -> io::Result<Vec<SocketAddr>> {
    let permit = LOOKUPS.acquire().await.map_err(io::Error::other)?;
    let looked_up = tokio::spawn(async move {
        let found = lookup_host((host.name.as_str(), host.port)).await;
        drop(permit);
        found.map(Vec::from_iter)
    });
    looked_up.await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
