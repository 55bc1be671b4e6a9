//! Commands to Modbus devices: what is written, between two reads, and whether the device shows it afterwards.
use super::{
    plan::{Read, Space},
    settings::Shown,
    talk::Answer,
    wire::Ask,
};
use commands::{Entry, Reason, Value, Write};
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::sync::mpsc;
use types::{DeviceId, Id128};

/// Commands of a device that wait for its line: the facility hands over one at a time.
const MAX_WAITING: usize = 4;
/// What devices show of their settings and nobody has taken yet: one for each device of a large facility.
const MAX_SHOWN: usize = 1_024;

/// The exception of a value that the device does not allow (Modbus Application Protocol 1.1b3, §7).
const ILLEGAL_VALUE: u8 = 3;

/// What a device is to be told.
#[derive(Debug)]
pub struct Told {
    /// The command.
    pub id: Id128,
    /// What is written.
    pub what: What,
    /// When its time to live ends, by a clock that no step of the machine's moves: nothing of it is begun after that.
    pub until: Instant,
    /// Who wants to know what became of it: [`Reason::Unreached`] when nothing was sent, since the device was not there.
    pub answer: mpsc::Sender<(Id128, Result<(), Reason>)>,
}

/// What is written to a device.
#[derive(Debug)]
pub enum What {
    /// These, in this order.
    Writes(Vec<(Write, u64)>),
    /// What a command sets with these parameters, if they go with what the device shows when its turn comes: somebody may have
    /// set it at the bedside since it was read last.
    Beside(Box<Entry>, BTreeMap<String, Value>),
}

/// The ways to the devices' lines.
#[derive(Clone, Debug, Default)]
pub struct Writes {
    senders: Arc<BTreeMap<DeviceId, mpsc::Sender<Told>>>,
    receivers: Arc<Mutex<BTreeMap<DeviceId, mpsc::Receiver<Told>>>>,
    shows: Option<mpsc::Sender<Shown>>,
    shown: Arc<Mutex<Option<mpsc::Receiver<Shown>>>>,
}

impl Writes {
    /// Ways to these devices.
    #[must_use]
    pub fn to<'a>(devices: impl Iterator<Item = &'a DeviceId>) -> Self {
        let (mut senders, mut receivers) = (BTreeMap::new(), BTreeMap::new());
        for device in devices {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            senders.insert(device.clone(), sender);
            receivers.insert(device.clone(), receiver);
        }
        let (shows, shown) = mpsc::channel(MAX_SHOWN);
        Self {
            senders: Arc::new(senders),
            receivers: Arc::new(Mutex::new(receivers)),
            shows: Some(shows),
            shown: Arc::new(Mutex::new(Some(shown))),
        }
    }

    /// Tells a device. It must not wait.
    ///
    /// # Errors
    /// The device is none of these, or as many commands as it may have wait for it already.
    pub fn tell(&self, device: &DeviceId, told: Told) -> Result<(), Reason> {
        let sender = self.senders.get(device).ok_or(Reason::UnknownDevice)?;
        sender.try_send(told).map_err(|_| Reason::Unreached)
    }

    /// What the devices show of their settings, once.
    #[must_use]
    pub fn shown(&self) -> Option<mpsc::Receiver<Shown>> {
        self.shown.lock().take()
    }

    /// Hands on what a device shows; says whether there was room.
    pub(super) fn show(&self, shown: Shown) -> bool {
        let shows = self.shows.as_ref();
        shows.is_some_and(|shows| shows.try_send(shown).is_ok())
    }

    /// The device's end, once.
    pub(super) fn take(&self, device: &DeviceId) -> Option<mpsc::Receiver<Told>> {
        self.receivers.lock().remove(device)
    }
}

/// The next one; never when there is nobody to tell.
pub(super) async fn next(receiver: &mut Option<mpsc::Receiver<Told>>) -> Told {
    let told = match receiver {
        Some(receiver) => receiver.recv().await,
        None => None,
    };
    match told {
        Some(told) => told,
        None => std::future::pending().await,
    }
}

/// What is read back, and what it must show.
pub(super) type Back = (Ask, Vec<u16>);

/// A request, and what is read back after it.
pub(super) type Request = (Ask, Vec<Back>);

/// What writes ask of the device, one request after the other: those that are joined are one, which the device takes whole
/// or not at all. Each is read back by itself: a device may let fewer registers be read at once than be written.
pub(super) fn requests(writes: &[(Write, u64)]) -> Result<Vec<Request>, Reason> {
    let mut requests: Vec<Request> = Vec::with_capacity(writes.len());
    let mut before: Option<&Write> = None;
    for (write, number) in writes {
        let (ask, back) = asks(write, *number)?;
        let joined = write.joined && before.is_some_and(|before| before.meets(write));
        match requests.last_mut().filter(|_| joined) {
            Some(last) => join(last, ask, back),
            None => requests.push((ask, back.into_iter().collect())),
        }
        before = Some(write);
    }
    Ok(requests)
}

/// Puts a request for the registers behind those of another into it.
fn join(request: &mut Request, next: Ask, back: Option<Back>) {
    if let (Ask::Write { words, .. }, Ask::Write { words: more, .. }) = (&mut request.0, next) {
        words.extend(more);
    }
    request.1.extend(back);
}

/// What a write asks of the device, and what it reads back afterwards, with what that must show.
fn asks(write: &Write, number: u64) -> Result<(Ask, Option<Back>), Reason> {
    let bits = 16 * u32::from(write.words);
    if write.words > 0 && number.checked_shr(bits).unwrap_or(0) != 0 {
        return Err(Reason::OverRange);
    }
    let word = |place: u8| ((number >> (16 * u32::from(place))) & 0xffff) as u16;
    let words: Vec<u16> = (0..write.words).rev().map(word).collect();
    let address = write.address;
    let read = |space, count| {
        Ask::Read(Read {
            space,
            address,
            count,
        })
    };
    let (ask, back, shown) = if words.is_empty() {
        let on = number != 0;
        (
            Ask::Coil { address, on },
            read(Space::Coil, 1),
            vec![u16::from(on)],
        )
    } else {
        let back = read(Space::Holding, u16::from(write.words));
        (
            Ask::Write {
                address,
                words: words.clone(),
            },
            back,
            words,
        )
    };
    Ok((ask, write.read_back.then_some((back, shown))))
}

/// What the answer to a write says. Without one nobody can tell whether it was done.
pub(super) fn written(answer: &Answer) -> Result<(), Reason> {
    match answer {
        Answer::Written => Ok(()),
        Answer::Refused(ILLEGAL_VALUE) => Err(Reason::OverRange),
        Answer::Refused(_) => Err(Reason::DeviceFailed),
        Answer::Registers(_) | Answer::TimedOut | Answer::Broken | Answer::Malformed => {
            Err(Reason::Interrupted)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_joined_is_one_request_and_each_write_is_read_back_by_itself() {
        let write = |text: &str| -> Write { toml::from_str(text).unwrap() };
        let writes = [
            (write("constant = 0\naddress = 66"), 50),
            (write("constant = 0\naddress = 67\njoined = true"), 120),
            (write("constant = 0\naddress = 68\nwords = 2"), 70_000),
        ];
        let read = |address, count| {
            Ask::Read(Read {
                space: Space::Holding,
                address,
                count,
            })
        };
        let write = |address, words| Ask::Write { address, words };
        let expected = [
            (
                write(66, vec![50, 120]),
                vec![(read(66, 1), vec![50]), (read(67, 1), vec![120])],
            ),
            (
                write(68, vec![1, 4_464]),
                vec![(read(68, 2), vec![1, 4_464])],
            ),
        ];
        assert_eq!(requests(&writes).unwrap(), expected);
    }
}
