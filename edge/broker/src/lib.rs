//! The facility's MQTT broker: MQTT 3.1.1 and 5 on one TLS 1.3 port, for devices with a certificate of this facility,
//! and for its own programs ([`viewers`]).
//!
//! A front end of our own over the router of `rumqttd`. The front end does TLS, identity, ACL, sessions, QoS, packet ids
//! and retained messages, and acknowledges a publish only after the journal's commit that holds it; then, never before,
//! the message goes to the router, which fans it out ([`hub`] says what of the router is used, and how its defects are
//! fenced off). rumqttd's own listeners are not used: they acknowledge what is only in memory.
//!
//! What a device may rely on:
//! * An acknowledged telemetry or alarm message, and an acknowledged retained status, survive the process. Acknowledgements
//!   come in the order of the publishes. A sample is stored once, at QoS 1 and 2 alike: what decides is its identity, never
//!   a packet id or a DUP flag. So a new sample under a packet id that was not released is stored before its PUBREC.
//! * A message on a topic that the device has subscribed to at QoS 1 reaches it at least once **while this process lives**:
//!   it waits in the session, also while the device is away (until the session's expiry), within one bound for all that
//!   waits ([`BrokerLimits::queue_bytes`]). When that, or the router's memory, is exceeded, the session ends, and the
//!   device sees session present 0. Nothing of the outbound side is on disk but retained messages; so a command that must
//!   survive a restart is retained.
//! * A retained message keeps its QoS and its MQTT 5 properties. One with a Message Expiry Interval is never delivered
//!   after it; nor is any other message, unless its delivery had begun (MQTT-4.4.0-1).
//! * The will is published by the broker, durably if retained, before the device's next connection is let in. It may be on
//!   the status topic only.
//! * The rest is as MQTT 3.1.1 and 5.0 say: a table of packets holds a case for each normative statement that concerns a
//!   server (`tests/conformance`).
//!
//! What is not given, as CONNACK announces it to a v5 client: shared subscriptions, subscription identifiers, topic
//! aliases. Refused: empty client ids (none is assigned), enhanced authentication, a maximum packet size of the client
//! that is below a CONNACK.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
mod acl;
mod admission;
mod commit;
mod connect;
mod connection;
mod decode;
mod encode;
mod end;
mod fault;
mod fields;
mod frame;
pub mod fuzzing;
mod hub;
mod message;
mod meters;
mod outbound;
mod patience;
mod port;
mod properties;
mod room;
mod seats;
mod serving;
mod subscribing;
#[cfg(test)]
mod tests;
mod viewers;

use bytes::Bytes;
use federation::tls::{ReloadingTls, TlsError};
use hub::Hub;
pub use hub::RouterGone;
use message::Message;
use meters::Meters;
use node::{
    admission::{Admission, Limits},
    listeners,
};
use parking_lot::Mutex;
pub use port::{Answers, Backend, Change, NoAnswer, Noted, Received, Rejected, Stored, Topic};
use room::Load;
use rumqttd::protocol::QoS;
use seats::Seats;
use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{DeviceId, DeviceKind, FacilityId, Jurisdiction, RegionId};
pub use viewers::{Viewers, show};

/// Connections with a certificate of another facility, or of a device that nobody knows, at once, some 50 KiB each. They
/// are told so when they ask, and go; those that ask nothing keep their place for a while, since one that is sent away
/// comes again, and a handshake costs more than a place.
const MAX_UNKNOWN: usize = 1_536;
/// Connections of one device that are not seated yet: one, and one more that is about to take over.
const MAX_OF_A_DEVICE: usize = 2;

/// Where the broker listens and for whom.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// The facility's jurisdiction, region and name: a certificate must name the same.
    pub jurisdiction: Jurisdiction,
    /// The region.
    pub region: RegionId,
    /// The facility.
    pub facility: FacilityId,
    /// The facility's programs that hear what is stored.
    pub viewers: Viewers,
    /// How much of everything.
    pub limits: BrokerLimits,
}

/// How much of everything the broker takes.
#[derive(Clone, Debug)]
pub struct BrokerLimits {
    /// Connections without a TLS handshake, at once. A peer without a certificate can fill only these, and a further
    /// connection takes the place of one that has waited longest ([`Admission`]).
    pub handshakes: usize,
    /// Admitted connections, at once: one per device, and one more while it is taken over.
    pub connections: usize,
    /// TLS handshake and CONNECT must be done within this time.
    pub connect_timeout: Duration,
    /// How long a newcomer waits for the device's old connection to finish.
    pub takeover_timeout: Duration,
    /// How long a connection that ends may take to store what it received.
    pub drain_timeout: Duration,
    /// How long last words may take to be written.
    pub farewell_timeout: Duration,
    /// A connection whose peer takes fewer than [`write_bytes`](Self::write_bytes) in this time, while more wait, is
    /// closed.
    pub write_timeout: Duration,
    /// Bytes: with 1 KiB in 20 s a device on the slowest modem is kept, and one that takes a byte a second is not.
    pub write_bytes: usize,
    /// A packet that has begun must be whole within this time.
    pub packet_timeout: Duration,
    /// The longest packet, in bytes: three times what a sample of 256 readings takes.
    pub packet_bytes: usize,
    /// Publishes of one connection that are not answered yet; beyond it nothing more is read (back pressure).
    pub receive_maximum: u16,
    /// Filters of one session.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages in flight to one client.
    pub outbound_inflight: usize,
    /// The bytes of such publishes; beyond it nothing more is read either.
    pub unanswered_bytes: usize,
    /// Messages that wait for one session, whichever way they came: live, retained, a will, or while it was away. Where
    /// it is reached: QoS 0 is dropped, a SUBSCRIBE whose retained messages do not fit is refused (0x97, 3.1.1: 0x80), and
    /// the session that would miss any other message ends (DISCONNECT 0x97, session present 0).
    pub queue_messages: usize,
    /// Their topics, payloads and properties, and 256 bytes for each message, in bytes.
    pub queue_bytes: usize,
    /// The longest that a session outlives its connection.
    pub session_expiry: Duration,
}

impl BrokerLimits {
    /// Whom the listener holds.
    const fn admission(&self) -> Limits {
        Limits {
            handshakes: self.handshakes,
            unknown: MAX_UNKNOWN,
            health: 1,
            known: self.connections,
            per_identity: MAX_OF_A_DEVICE,
            unread_bytes: usize::MAX,
        }
    }
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self {
            handshakes: 4_096,
            connections: 1_024,
            connect_timeout: Duration::from_secs(30),
            takeover_timeout: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(5),
            farewell_timeout: Duration::from_secs(2),
            write_timeout: Duration::from_secs(20),
            write_bytes: 1 << 10,
            packet_timeout: Duration::from_secs(20),
            packet_bytes: 64 << 10,
            receive_maximum: 1_024,
            unanswered_bytes: 1 << 20,
            subscriptions: 16,
            outbound_inflight: 64,
            queue_messages: 1_000,
            queue_bytes: 1 << 20,
            session_expiry: Duration::from_secs(86_400),
        }
    }
}

/// Why the broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// The address cannot be listened on.
    #[error("mqtt: listening on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The TLS configuration cannot be made.
    #[error("mqtt: {0}")]
    Tls(#[from] TlsError),
    /// The router did not start.
    #[error("mqtt: {0}")]
    Router(#[from] RouterGone),
}

/// What all connections share.
struct Context {
    config: BrokerConfig,
    limits: BrokerLimits,
    tls: Arc<ReloadingTls>,
    server: Arc<rustls::ServerConfig>,
    backend: Arc<dyn Backend>,
    hub: Hub,
    seats: Seats,
    meters: Arc<Meters>,
    admission: Admission,
    connections: Arc<Semaphore>,
    /// Devices that are connected now.
    present: Mutex<BTreeSet<DeviceId>>,
    answers: OnceLock<Arc<dyn Answers>>,
    noted: OnceLock<Arc<dyn Noted>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A running broker. Clones are the same broker.
#[derive(Clone)]
pub struct Broker {
    ctx: Arc<Context>,
    local_addr: SocketAddr,
}

impl Broker {
    /// Starts listening. `stop` ends every connection: what was received is stored and answered, wills are published,
    /// v5 clients are told (0x8B); then [`Broker::stopped`] resolves.
    ///
    /// # Errors
    /// When the address cannot be listened on, or TLS or the router cannot be set up.
    pub async fn start(
        config: BrokerConfig,
        tls: Arc<ReloadingTls>,
        devices: Arc<HashMap<DeviceId, DeviceKind>>,
        backend: Arc<dyn Backend>,
        stop: CancellationToken,
    ) -> Result<Self, BrokerError> {
        let addr = config.listen;
        let listen = |source| BrokerError::Listen { addr, source };
        let listener = listeners::bind(addr).await.map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let limits = config.limits.clone();
        let meters = Arc::new(Meters::register());
        let tasks = TaskTracker::new();
        let queue = Load {
            messages: limits.queue_messages,
            bytes: limits.queue_bytes,
        };
        let sessions = devices.len() + config.viewers.len();
        let of_hub = (Arc::clone(&meters), tasks.clone());
        // It waits for the router's thread.
        let hub = tokio::task::spawn_blocking(move || Hub::start(sessions, of_hub.0, of_hub.1))
            .await
            .map_err(|_| RouterGone)??;
        let ctx = Arc::new(Context {
            server: tls.server_mqtt(config.viewers.have_tokens())?,
            tls,
            backend,
            hub,
            seats: Seats::new(devices.keys().chain(config.viewers.names()), queue),
            meters,
            admission: Admission::new("mqtt", &limits.admission()),
            connections: Arc::new(Semaphore::new(limits.connections)),
            present: Mutex::default(),
            answers: OnceLock::new(),
            noted: OnceLock::new(),
            stop,
            tasks: tasks.clone(),
            config,
            limits,
        });
        tasks.spawn(accept(Arc::clone(&ctx), listener));
        Ok(Self { ctx, local_addr })
    }

    /// Has what devices answer to commands taken in; until then they are to answer later.
    pub fn answered_by(&self, answers: Arc<dyn Answers>) {
        let _second = self.ctx.answers.set(answers);
    }

    /// Has it written down who begins to hear; until then no viewer does.
    pub fn noted_by(&self, noted: Arc<dyn Noted>) {
        let _second = self.ctx.noted.set(noted);
    }

    /// Whether there are programs that may hear what is stored.
    #[must_use]
    pub fn has_viewers(&self) -> bool {
        !self.ctx.config.viewers.is_empty()
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Resolves when the router's thread has ended by itself: the broker delivers nothing any more, and the node that uses
    /// it must end.
    pub async fn router_ended(&self) {
        self.ctx.hub.router_ended().await;
    }

    /// Resolves when, after the stop, every task has ended and every subscription is closed. The router's thread sleeps
    /// until the process ends: rumqttd has no way to end it.
    pub async fn stopped(&self) {
        self.ctx.tasks.wait().await;
    }
}

async fn accept(ctx: Arc<Context>, listener: TcpListener) {
    let accepting = ctx.admission.accept(&listener, &ctx.stop, |tcp, slot| {
        ctx.tasks.spawn(serving::serve(Arc::clone(&ctx), tcp, slot));
    });
    if let Err(error) = accepting.await {
        tracing::error!(%error, "the broker's listener is broken; the broker stops");
        ctx.stop.cancel();
    }
    ctx.tasks.close();
}

/// What the node says to its devices.
impl Broker {
    /// Publishes on a device's topic, at QoS 1 for who subscribes at QoS 1 or 2. What has no subscriber, or is not on a
    /// device's topic, goes nowhere.
    pub fn publish(&self, topic: &str, message: Bytes) {
        let config = &self.ctx.config;
        let device = topic
            .strip_prefix("devices/")
            .and_then(|rest| rest.strip_prefix(config.region.as_str())?.strip_prefix('/'))
            .and_then(|rest| {
                rest.strip_prefix(config.facility.as_str())?
                    .strip_prefix('/')
            })
            .and_then(|rest| rest.split_once('/')?.0.parse().ok());
        if let Some(device) = device {
            let message = Message {
                topic: Bytes::copy_from_slice(topic.as_bytes()),
                payload: message,
                qos: QoS::AtLeastOnce,
                retain: false,
                by_device: false,
                properties: Bytes::new(),
                lapses: None,
            };
            self.ctx.hub.publish(&device, &message);
        }
    }

    /// Whether anybody may hear what is published of a device now.
    #[must_use]
    pub fn is_heard(&self, device: &DeviceId) -> bool {
        self.ctx.hub.has_mailbox(device)
    }

    /// Whether a device is there.
    #[must_use]
    pub fn is_connected(&self, device: &DeviceId) -> bool {
        self.ctx.present.lock().contains(device)
    }

    /// Publishes a command on the device's topic at QoS 1; it lapses after `left`.
    pub fn tell(&self, device: &DeviceId, message: Bytes, left: Duration) {
        let (region, facility) = (&self.ctx.config.region, &self.ctx.config.facility);
        let topic = Topic::Command.as_str();
        let message = Message {
            topic: Bytes::from(format!("devices/{region}/{facility}/{device}/{topic}")),
            payload: message,
            qos: QoS::AtLeastOnce,
            retain: false,
            by_device: false,
            properties: Bytes::new(),
            lapses: Instant::now().checked_add(left),
        };
        self.ctx.hub.publish(device, &message);
    }
}
