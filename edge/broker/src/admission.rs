//! From an accepted socket to an admitted device: TLS handshake, identity, CONNECT, and the checks of it.
//!
//! All of it runs in the connection's own task under one deadline, so a peer that says nothing holds up nobody.
//! The certificate says who it is. Who has none may be a viewer whose token the facility's file of rights knows, which is the
//! CONNECT's password; of a device, and of anybody with a certificate, user name and password mean nothing.
use super::{
    Context, Topic,
    acl::OwnTopics,
    connect::{self, Connect, LastWill, Unfit},
    decode::Version,
    encode::{self, Reason},
    fault::Fault,
    frame::{self, Kind},
    message::Message,
    meters, properties,
};
use bytes::{Bytes, BytesMut};
use federation::{
    identity::{Identity, Peer},
    tls,
};
use node::admission::Slot;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use types::DeviceId;

/// Bytes read at once before the device is known.
const CONNECT_CHUNK: usize = 4 << 10;

/// The message that the broker publishes when the connection ends without a DISCONNECT.
#[derive(Clone, Debug)]
pub(super) struct Will {
    pub(super) message: Message,
    /// v5 Will Delay Interval.
    pub(super) delay: Duration,
    /// v5 Message Expiry Interval, from its publication on.
    pub(super) expiry: Option<Duration>,
}

/// A device that may be let in.
pub(super) struct Admitted {
    pub(super) stream: TlsStream<TcpStream>,
    /// What was read behind the CONNECT.
    pub(super) input: BytesMut,
    pub(super) client: Client,
}

/// Who a connection speaks for, and on which terms.
pub(super) struct Client {
    /// Who its certificate says that it is; none of a viewer that showed a token.
    pub(super) peer: Option<Peer>,
    /// Its certificate (DER).
    pub(super) certificate: Bytes,
    pub(super) device: DeviceId,
    pub(super) own: OwnTopics,
    pub(super) version: Version,
    /// Begins a new session.
    pub(super) clean: bool,
    /// How long the session outlives the connection.
    pub(super) expiry: Duration,
    /// What CONNACK has to say of `expiry` when it is less than the client asked for, in seconds.
    pub(super) lowered: Option<u32>,
    /// After this long without a packet the connection is closed; zero: never.
    pub(super) silence: Duration,
    /// Messages in flight to the client at most.
    pub(super) window: usize,
    /// The longest packet that the client takes, in bytes.
    pub(super) packet_bytes: usize,
    pub(super) will: Option<Will>,
}

/// Why a device is not let in: the name in metrics, the v3.1.1 return code, the v5 reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) &'static str, u8, Reason);

impl Refusal {
    const CLIENT_ID: Self = Self("client id", 2, Reason::BAD_CLIENT_ID);
    const NOT_THE_DEVICE: Self = Self("client id of another", 5, Reason::NOT_AUTHORIZED);
    const IDENTITY: Self = Self("identity", 5, Reason::NOT_AUTHORIZED);
    const WILL: Self = Self("will topic", 5, Reason::NOT_AUTHORIZED);
    const AUTHENTICATION: Self = Self("authentication method", 5, Reason::BAD_AUTHENTICATION);
    /// The client takes only packets that are shorter than the CONNACK which would let it in.
    const PACKET_SIZE: Self = Self("packet size", 3, Reason::TOO_LARGE);
    pub(super) const BUSY: Self = Self("busy", 3, Reason::QUOTA);
}

/// Lets a peer in, or answers why not; `None`: it is closed and counted. Its place is that of its device once its
/// certificate is seen; one that has no business here stays among the unknown.
pub(super) async fn admit(ctx: &Context, tcp: TcpStream, slot: &Slot) -> Option<Admitted> {
    let shaken = TlsAcceptor::from(ctx.server.clone()).accept(tcp).await;
    let shaken = shaken.inspect_err(|error| {
        tls::count_refused("mqtt", error);
        meters::refused("tls");
    });
    let mut stream = shaken.ok()?;
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first());
    let peer = certificate.and_then(|certificate| Peer::from_cert(certificate).ok());
    let certificate = certificate.map_or_else(Bytes::new, |own| Bytes::copy_from_slice(own));
    match peer
        .as_ref()
        .and_then(|peer| our_device(ctx, &peer.identity))
    {
        Some(device) => slot.known_as(device.as_str()),
        None => slot.shaken(),
    }
    let mut input = BytesMut::new();
    let Some(connect) = read_connect(ctx, &mut stream, &mut input).await else {
        meters::refused("malformed");
        return None;
    };
    let (version, longest) = (connect.version, longest(&connect));
    match check(ctx, (peer, certificate), connect) {
        Ok(client) => Some(Admitted {
            stream,
            input,
            client,
        }),
        Err(refusal) => {
            refuse(&mut stream, version, longest, refusal).await;
            None
        }
    }
}

/// The longest packet that a client takes, in bytes.
fn longest(connect: &Connect) -> usize {
    let asked = connect.properties.number(properties::MAXIMUM_PACKET_SIZE);
    asked.map_or(usize::MAX, |bytes| bytes as usize)
}

/// Answers with a CONNACK that refuses, unless it is longer than the client takes (MQTT-3.1.2-24), and closes.
pub(super) async fn refuse(
    stream: &mut TlsStream<TcpStream>,
    version: Version,
    longest: usize,
    refusal: Refusal,
) {
    meters::refused(refusal.0);
    let mut out = BytesMut::new();
    encode::refused(version, refusal.1, refusal.2, &mut out);
    if out.len() <= longest {
        // The peer may be gone; it is closed either way.
        let _ = stream.write_all(&out).await;
    }
    let _ = stream.shutdown().await;
}

/// Reads the first packet. An unknown protocol level is answered as MQTT-3.1.2-2 of 3.1.1 asks, a broken CONNECT of
/// MQTT 5 by its reason (MQTT 5 §3.1.4); one of 3.1.1 has no return code for it.
async fn read_connect(
    ctx: &Context,
    stream: &mut TlsStream<TcpStream>,
    input: &mut BytesMut,
) -> Option<Connect> {
    let frame = loop {
        if let Some(frame) = frame::next(input, ctx.limits.packet_bytes).ok()? {
            break frame;
        }
        input.reserve(CONNECT_CHUNK);
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    };
    if frame.kind != Kind::Connect {
        return None;
    }
    let unfit = match connect::connect(frame) {
        Ok(connect) => return Some(connect),
        Err(unfit) => unfit,
    };
    let mut out = BytesMut::new();
    match unfit {
        Unfit::UnknownProtocol => out.extend_from_slice(&[0x20, 2, 0, 1]),
        Unfit::Broken(Version::V5, fault) => {
            let reason = match fault {
                Fault::Malformed => Reason::MALFORMED,
                _ => Reason::PROTOCOL_ERROR,
            };
            encode::refused(Version::V5, 0, reason, &mut out);
        }
        Unfit::Broken(Version::V4, _) | Unfit::Malformed => {}
    }
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
    None
}

fn check(
    ctx: &Context,
    (peer, certificate): (Option<Peer>, Bytes),
    connect: Connect,
) -> Result<Client, Refusal> {
    let device = match &peer {
        Some(peer) => our_device(ctx, &peer.identity),
        // A certificate that says nothing is no reason to look at a token.
        None if certificate.is_empty() => {
            let viewers = &ctx.config.viewers;
            viewers.shown(&connect.client_id, connect.password.as_ref())
        }
        None => None,
    };
    let device = device.ok_or(Refusal::IDENTITY)?;
    if connect.client_id.is_empty() {
        return Err(Refusal::CLIENT_ID);
    }
    if connect.client_id != device.as_str() {
        return Err(Refusal::NOT_THE_DEVICE);
    }
    let own = match ctx.config.viewers.granted(&device) {
        Some(granted) => OwnTopics::of_viewer(&ctx.config.facility, granted),
        None => OwnTopics::of(&ctx.config.region, &ctx.config.facility, &device),
    };
    let asked = &connect.properties;
    if asked.has(properties::AUTHENTICATION_METHOD) {
        return Err(Refusal::AUTHENTICATION);
    }
    let receive_maximum = asked.number(properties::RECEIVE_MAXIMUM);
    let packet_bytes = longest(&connect);
    // MQTT-3.1.2-24.
    if packet_bytes < encode::LONGEST_CONNACK {
        return Err(Refusal::PACKET_SIZE);
    }
    let limit = ctx.limits.session_expiry;
    let expiry = match connect.version {
        Version::V4 if connect.clean => Duration::ZERO,
        // MQTT 3.1.1 sessions have no expiry of their own.
        Version::V4 => limit,
        Version::V5 => {
            let seconds = asked.number(properties::SESSION_EXPIRY);
            Duration::from_secs(u64::from(seconds.unwrap_or(0)))
        }
    };
    let lowered = (expiry > limit).then(|| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX));
    Ok(Client {
        will: connect.will.map(|will| our_will(&own, will)).transpose()?,
        peer,
        certificate,
        device,
        own,
        version: connect.version,
        clean: connect.clean,
        expiry: expiry.min(limit),
        lowered,
        // MQTT-3.1.2-24: one and a half times the keep alive.
        silence: Duration::from_millis(1_500 * u64::from(connect.keep_alive)),
        window: ctx
            .limits
            .outbound_inflight
            .min(receive_maximum.map_or(usize::MAX, |messages| messages as usize)),
        packet_bytes,
    })
}

/// The device or the viewer, if it is of this facility and known.
fn our_device(ctx: &Context, identity: &Identity) -> Option<DeviceId> {
    match identity {
        Identity::Device {
            jurisdiction,
            region,
            facility,
            device,
        } if *jurisdiction == ctx.config.jurisdiction
            && *region == ctx.config.region
            && *facility == ctx.config.facility
            && ctx.seats.known(device) =>
        {
            Some(device.clone())
        }
        Identity::Device { .. } | Identity::Node(_) => None,
    }
}

/// A will may only be the device's status: a sample has an identity that a CONNECT cannot give it in advance.
fn our_will(own: &OwnTopics, will: LastWill) -> Result<Will, Refusal> {
    if own.publishable(&will.topic) != Some(Topic::Status) {
        return Err(Refusal::WILL);
    }
    let seconds = |id| {
        let seconds = will.properties.number(id);
        seconds.map(|seconds| Duration::from_secs(seconds.into()))
    };
    Ok(Will {
        delay: seconds(properties::WILL_DELAY).unwrap_or_default(),
        expiry: seconds(properties::EXPIRY),
        message: Message {
            topic: will.topic,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            by_device: true,
            properties: will.properties.forwarded,
            lapses: None,
        },
    })
}
