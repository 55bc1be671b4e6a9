//! From an accepted socket to an admitted device: TLS handshake, identity, CONNECT, and the checks of it.
//!
//! All of it runs in the connection's own task under one deadline, so a peer that says nothing holds up nobody.
//! User name and password of a CONNECT mean nothing here: the certificate says who it is.
use super::{
    Context,
    acl::OwnTopics,
    decode::{self, Version},
    encode::{self, Reason},
    frame::{self, Frame, Kind},
    message::Message,
    meters,
};
use crate::ingest::Topic;
use bytes::{Bytes, BytesMut};
use federation::{
    identity::{Identity, Peer},
    tls,
};
use rumqttd::protocol::{self, ConnectProperties, LastWill, LastWillProperties};
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
    pub(super) peer: Peer,
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
    const PROTOCOL: Self = Self("protocol error", 3, Reason::PROTOCOL_ERROR);
    pub(super) const BUSY: Self = Self("busy", 3, Reason::QUOTA);
}

/// Lets a peer in, or answers why not; `None`: it is closed and counted.
pub(super) async fn admit(ctx: &Context, tcp: TcpStream) -> Option<Admitted> {
    let shaken = TlsAcceptor::from(ctx.server.clone()).accept(tcp).await;
    let shaken = shaken.inspect_err(|error| {
        tls::count_refused("mqtt", error);
        meters::refused("tls");
    });
    let mut stream = shaken.ok()?;
    let certificates = stream.get_ref().1.peer_certificates();
    let peer = certificates.and_then(|chain| Peer::from_cert(chain.first()?).ok());
    let mut input = BytesMut::new();
    let Some((version, frame)) = read_connect(ctx, &mut stream, &mut input).await else {
        meters::refused("malformed");
        return None;
    };
    let Ok(protocol::Packet::Connect(connect, properties, will, will_properties, _)) =
        decode::by_rumqttd(version, frame)
    else {
        meters::refused("malformed");
        return None;
    };
    let wish = Wish {
        version,
        connect,
        properties,
        will: will.map(|will| (will, will_properties)),
    };
    match check(ctx, peer, wish) {
        Ok(client) => Some(Admitted {
            stream,
            input,
            client,
        }),
        Err(refusal) => {
            refuse(&mut stream, version, refusal).await;
            None
        }
    }
}

/// Answers with a CONNACK that refuses, and closes.
pub(super) async fn refuse(stream: &mut TlsStream<TcpStream>, version: Version, refusal: Refusal) {
    meters::refused(refusal.0);
    let mut out = BytesMut::new();
    encode::refused(version, refusal.1, refusal.2, &mut out);
    // The peer may be gone; it is closed either way.
    let _ = stream.write_all(&out).await;
    let _ = stream.shutdown().await;
}

/// Reads the first packet. An unknown protocol level is answered as MQTT-3.1.2-2 asks.
async fn read_connect(
    ctx: &Context,
    stream: &mut TlsStream<TcpStream>,
    input: &mut BytesMut,
) -> Option<(Version, Frame)> {
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
    match connect_version(frame.body()) {
        Ok(version) => Some((version, frame)),
        Err(UnknownProtocol) => {
            let _ = stream.write_all(&[0x20, 2, 0, 1]).await;
            let _ = stream.shutdown().await;
            None
        }
    }
}

/// Neither MQTT 3.1.1 nor 5, or flags that neither allows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnknownProtocol;

/// Protocol name, level and the reserved flag (MQTT-3.1.2-3) of a CONNECT's body.
pub(super) fn connect_version(body: &[u8]) -> Result<Version, UnknownProtocol> {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, flags, ..] if flags & 1 == 0 => match level {
            4 => Ok(Version::V4),
            5 => Ok(Version::V5),
            _ => Err(UnknownProtocol),
        },
        _ => Err(UnknownProtocol),
    }
}

/// What a client asks for.
struct Wish {
    version: Version,
    connect: protocol::Connect,
    properties: Option<ConnectProperties>,
    will: Option<(LastWill, Option<LastWillProperties>)>,
}

fn check(ctx: &Context, peer: Option<Peer>, wish: Wish) -> Result<Client, Refusal> {
    let peer = peer.ok_or(Refusal::IDENTITY)?;
    let device = our_device(ctx, &peer.identity).ok_or(Refusal::IDENTITY)?;
    if wish.connect.client_id.is_empty() {
        return Err(Refusal::CLIENT_ID);
    }
    if wish.connect.client_id != device.as_str() {
        return Err(Refusal::NOT_THE_DEVICE);
    }
    let own = OwnTopics::of(&ctx.config.region, &ctx.config.facility, &device);
    let asked = wish.properties.as_ref();
    if asked.is_some_and(|asked| asked.authentication_method.is_some()) {
        return Err(Refusal::AUTHENTICATION);
    }
    // MQTT 5 §3.1.2.11.3 and .4: neither may be zero.
    let receive_maximum = asked.and_then(|asked| asked.receive_maximum);
    let packet_bytes = asked.and_then(|asked| asked.max_packet_size);
    if receive_maximum == Some(0) || packet_bytes == Some(0) {
        return Err(Refusal::PROTOCOL);
    }
    let limit = ctx.limits.session_expiry;
    let expiry = match wish.version {
        Version::V4 if wish.connect.clean_session => Duration::ZERO,
        // MQTT 3.1.1 sessions have no expiry of their own.
        Version::V4 => limit,
        Version::V5 => {
            let seconds = asked.and_then(|asked| asked.session_expiry_interval);
            Duration::from_secs(u64::from(seconds.unwrap_or(0)))
        }
    };
    let lowered = (expiry > limit).then(|| u32::try_from(limit.as_secs()).unwrap_or(u32::MAX));
    Ok(Client {
        will: wish.will.map(|will| our_will(&own, will)).transpose()?,
        peer,
        device,
        own,
        version: wish.version,
        clean: wish.connect.clean_session,
        expiry: expiry.min(limit),
        lowered,
        // MQTT-3.1.2-24: one and a half times the keep alive.
        silence: Duration::from_millis(1_500 * u64::from(wish.connect.keep_alive)),
        window: ctx
            .limits
            .outbound_inflight
            .min(receive_maximum.map_or(usize::MAX, usize::from)),
        packet_bytes: packet_bytes.map_or(usize::MAX, |bytes| bytes as usize),
    })
}

/// The device, if it is of this facility and known.
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
fn our_will(
    own: &OwnTopics,
    (will, properties): (LastWill, Option<LastWillProperties>),
) -> Result<Will, Refusal> {
    if own.publishable(&will.topic) != Some(Topic::Status) {
        return Err(Refusal::WILL);
    }
    let delay = properties.and_then(|properties| properties.delay_interval);
    Ok(Will {
        message: Message {
            topic: Bytes::copy_from_slice(&will.topic),
            payload: Bytes::copy_from_slice(&will.message),
            qos: will.qos,
            retain: will.retain,
            by_device: true,
        },
        delay: Duration::from_secs(u64::from(delay.unwrap_or(0))),
    })
}
