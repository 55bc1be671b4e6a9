//! Who may hold a connection: one rule for every listener (HTTPS, link, MQTT), so that nobody can shut others out.
//!
//! A connection passes through stages, and each stage has places of its own ([`Shares`]): the handshake; unknown, until
//! it has proved who it is; health, for a probe that is being answered; known. A newcomer always gets a place. It is
//! taken from the oldest that has proved nothing, from the same address when that holds its share, else from the
//! address that holds most. What is known is displaced by its own identity alone (newest wins), or, when every place
//! is taken, at the cost of the identity that holds most. A flood of one stage cannot reach the next: strangers that
//! only connect do not displace those that have shaken hands, and those never what is known.
//!
//! How long a stage may last, and what is read in it, is the listener's to say.
use crate::shares::{Shares, Why};
use parking_lot::Mutex;
use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// `EMFILE` and `ENFILE` (errno(3)): no file descriptor is left in the process, or in the system.
const NO_DESCRIPTORS: [i32; 2] = [24, 23];
/// An answer below this size (in bytes) waits in the kernel's buffers and is not counted against its identity.
const SMALL_BYTES: usize = 64 << 10;

/// How many connections a listener holds, by stage, at most three quarters of each from one address (IPv6: one network of
/// 64 bits). A connection costs a file descriptor and some 12 KiB, and once it has shaken hands some 50 KiB. So there is
/// room for many in the handshake: who is honest is displaced there only when as many come behind it as it takes to
/// shake hands on a machine that is busy.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Before the handshake is done.
    pub handshakes: usize,
    /// After it, without proof of who it is.
    pub unknown: usize,
    /// With a probe of the node's health in hand.
    pub health: usize,
    /// With proof of who it is.
    pub known: usize,
    /// Of one identity.
    pub per_identity: usize,
    /// Answers of one identity that wait to be read, in bytes.
    pub unread_bytes: usize,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Handshake,
    Unknown,
    Health,
    Known,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Handshake, Self::Unknown, Self::Health, Self::Known];

    const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Unknown => "unknown",
            Self::Health => "health",
            Self::Known => "known",
        }
    }

    /// The places of connections of this stage.
    const fn of(self, places: &Places) -> &Shares<Party, Occupant> {
        let [handshake, unknown, health, known] = places;
        match self {
            Self::Handshake => handshake,
            Self::Unknown => unknown,
            Self::Health => health,
            Self::Known => known,
        }
    }

    const fn of_mut(self, places: &mut Places) -> &mut Shares<Party, Occupant> {
        let [handshake, unknown, health, known] = places;
        match self {
            Self::Handshake => handshake,
            Self::Unknown => unknown,
            Self::Health => health,
            Self::Known => known,
        }
    }
}

/// To whom places are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Party {
    Address(IpAddr),
    Identity(Arc<str>),
}

#[derive(Clone, Debug)]
struct Occupant {
    displaced: CancellationToken,
    unread_bytes: usize,
}

type Places = [Shares<Party, Occupant>; 4];

/// The places of one listener. Clones share them.
#[derive(Clone, Debug)]
pub struct Admission {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    listener: &'static str,
    unread_bytes: usize,
    places: Mutex<Places>,
}

/// The place of one connection; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    inner: Arc<Inner>,
    network: Network,
    displaced: CancellationToken,
    at: Mutex<At>,
}

#[derive(Clone, Debug)]
struct At {
    stage: Stage,
    party: Party,
    number: u64,
}

/// To whom a stranger is counted: a host of IPv4, a network of 64 bits of IPv6, which is what one customer has at least
/// (RFC 6177 §2). Every request has it in its extensions, for a bound of one stranger that must not be everybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The network of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address @ IpAddr::V4(_) => address,
        })
    }

    const fn party(self) -> Party {
        Party::Address(self.0)
    }
}

/// A handler puts this into the extensions of a response whose request proved who its client is.
#[derive(Clone, Debug)]
pub struct Known(pub Arc<str>);

impl Admission {
    /// The places of a listener; its name is a label of metrics.
    #[must_use]
    pub fn new(listener: &'static str, limits: &Limits) -> Self {
        let places = Stage::ALL.map(|stage| match stage {
            Stage::Handshake => Shares::new(limits.handshakes, share(limits.handshakes)),
            Stage::Unknown => Shares::new(limits.unknown, share(limits.unknown)),
            Stage::Health => Shares::new(limits.health, limits.health),
            Stage::Known => Shares::new(limits.known, limits.per_identity),
        });
        Self {
            inner: Arc::new(Inner {
                listener,
                unread_bytes: limits.unread_bytes,
                places: Mutex::new(places),
            }),
        }
    }

    /// Takes a place for a connection that was accepted, another's if need be.
    #[must_use]
    pub fn enter(&self, from: IpAddr) -> Slot {
        let network = Network::of(from);
        let (stage, party) = (Stage::Handshake, network.party());
        let displaced = CancellationToken::new();
        let number = {
            let mut places = self.inner.places.lock();
            self.inner
                .take(&mut places, stage, party.clone(), &displaced)
        };
        let at = At {
            stage,
            party,
            number,
        };
        Slot {
            inner: Arc::clone(&self.inner),
            network,
            displaced,
            at: Mutex::new(at),
        }
    }

    /// Accepts connections until stopped and gives each a place. Running out of file descriptors costs the oldest that
    /// has proved nothing its place, and is waited out.
    ///
    /// # Errors
    /// When the listener itself is broken.
    pub async fn accept(
        &self,
        listener: &TcpListener,
        stop: &CancellationToken,
        mut serve: impl FnMut(TcpStream, Slot),
    ) -> io::Result<()> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Small messages answer small messages: waiting for more to send would only delay them.
                    let _best_effort = stream.set_nodelay(true);
                    serve(stream, self.enter(peer.ip()));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
                Err(error) => {
                    let listener = self.inner.listener;
                    metrics::counter!("medmesh_accept_errors_total", "listener" => listener)
                        .increment(1);
                    tracing::warn!(%error, listener, "a connection could not be accepted");
                    if error
                        .raw_os_error()
                        .is_some_and(|code| NO_DESCRIPTORS.contains(&code))
                    {
                        self.make_room();
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// How many connections are held: in the handshake, unknown, with a probe in hand, known.
    #[must_use]
    pub fn held(&self) -> [usize; 4] {
        let places = self.inner.places.lock();
        Stage::ALL.map(|stage| stage.of(&places).len())
    }

    fn make_room(&self) {
        let mut places = self.inner.places.lock();
        for stage in [Stage::Unknown, Stage::Handshake] {
            if let Some(occupant) = stage.of_mut(&mut places).displace() {
                self.inner.displace(&occupant, stage, "descriptors");
                return;
            }
        }
    }
}

impl Inner {
    fn take(
        &self,
        places: &mut Places,
        stage: Stage,
        party: Party,
        displaced: &CancellationToken,
    ) -> u64 {
        let occupant = Occupant {
            displaced: displaced.clone(),
            unread_bytes: 0,
        };
        let (number, gone) = stage.of_mut(places).take(party, occupant);
        if let Some((occupant, why)) = gone {
            let reason = match (why, stage) {
                (Why::Full, _) => "full",
                (Why::Share, Stage::Known) => "identity",
                (Why::Share, _) => "address",
            };
            self.displace(&occupant, stage, reason);
        }
        self.gauge(places, stage);
        number
    }

    fn displace(&self, occupant: &Occupant, stage: Stage, reason: &'static str) {
        let (listener, stage) = (self.listener, stage.name());
        metrics::counter!("medmesh_connections_displaced_total",
            "listener" => listener, "stage" => stage, "reason" => reason)
        .increment(1);
        occupant.displaced.cancel();
    }

    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    fn gauge(&self, places: &Places, stage: Stage) {
        let held = stage.of(places).len() as f64;
        metrics::gauge!("medmesh_connections",
            "listener" => self.listener, "stage" => stage.name())
        .set(held);
    }
}

impl Slot {
    /// To whom the connection is counted while its peer is a stranger.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// The handshake is done; the peer has not proved who it is.
    pub fn shaken(&self) {
        self.move_to(Stage::Unknown, self.network.party());
    }

    /// A probe of the node's health is in hand.
    pub fn asks_health(&self) {
        self.move_to(Stage::Health, self.network.party());
    }

    /// The peer has proved who it is. Once more for the same identity makes it the newest of its own.
    pub fn known_as(&self, identity: &str) {
        self.move_to(Stage::Known, Party::Identity(identity.into()));
    }

    /// Whether the peer has proved who it is.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.at.lock().stage == Stage::Known
    }

    /// By what the peer has proved who it is.
    pub(crate) fn identity(&self) -> Option<Arc<str>> {
        let at = self.at.lock();
        match &at.party {
            Party::Identity(identity) => Some(Arc::clone(identity)),
            Party::Address(_) => None,
        }
    }

    /// So many bytes of an answer wait for the peer to read them. When those of its identity together are too many, the
    /// oldest others with such answers have to go.
    pub fn holds_unread(&self, bytes: usize) {
        let at = self.at.lock();
        if at.stage != Stage::Known {
            return;
        }
        let mut places = self.inner.places.lock();
        let known = Stage::Known.of_mut(&mut places);
        if let Some(occupant) = known.get_mut(at.number) {
            occupant.unread_bytes = if bytes < SMALL_BYTES { 0 } else { bytes };
        }
        if bytes < SMALL_BYTES {
            return;
        }
        let held: Vec<_> = known
            .of(&at.party)
            .map(|(n, o)| (n, o.unread_bytes))
            .collect();
        let mut sum: usize = held.iter().map(|(_, bytes)| bytes).sum();
        for (number, bytes) in held {
            if sum <= self.inner.unread_bytes {
                return;
            }
            if number == at.number || bytes == 0 {
                continue;
            }
            sum -= bytes;
            if let Some((_, occupant)) = known.leave(number) {
                self.inner.displace(&occupant, Stage::Known, "unread");
            }
        }
    }

    /// Resolves when the place was taken by another: the connection has to end.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// Whether the place was taken by another.
    #[must_use]
    pub fn is_displaced(&self) -> bool {
        self.displaced.is_cancelled()
    }

    fn move_to(&self, stage: Stage, party: Party) {
        let mut at = self.at.lock();
        let keeps = at.stage == stage && stage != Stage::Known;
        if keeps || (at.stage == Stage::Known && stage != Stage::Known) {
            return;
        }
        let mut places = self.inner.places.lock();
        if at.stage.of_mut(&mut places).leave(at.number).is_none() {
            return;
        }
        if at.stage != stage {
            self.inner.gauge(&places, at.stage);
        }
        at.number = self
            .inner
            .take(&mut places, stage, party.clone(), &self.displaced);
        (at.stage, at.party) = (stage, party);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let at = self.at.lock();
        let mut places = self.inner.places.lock();
        at.stage.of_mut(&mut places).leave(at.number);
        self.inner.gauge(&places, at.stage);
    }
}

/// Of so many places, those of one address: the rest is for others, while all of a site may come from one.
const fn share(places: usize) -> usize {
    places / 4 * 3
}

#[cfg(test)]
mod tests;
