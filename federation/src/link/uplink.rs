//! The sender's side of the link: dials the next tier, sends what the outbox holds, and settles what comes back.
use super::{
    HANDSHAKE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LinkError, MAX_MESSAGE_BYTES,
    STREAM_WINDOW_BYTES,
    backoff::Backoff,
    flight::{Flight, Landed, MAX_PARCELS},
    io::{Guarded, Tap},
    peer_place, route,
};
use crate::{
    identity::{Identity, Peer},
    pki::NODE_DNS,
    port::{Outbox, PeerAudit},
    reason,
    tls::{ReloadingTls, TimeSource, UnexpectedPeer},
    wire::{Outcome, Parcel, Receipt, mesh_client::MeshClient},
};
use ed25519_dalek::VerifyingKey;
use futures_util::FutureExt;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};
use types::{Place, Priority, Timestamp};

/// A connection that is not made by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// With parcels under way and no receipt for so long, the link is taken for broken.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bound of the first wait after a broken link.
const RECONNECT_BASE: Duration = Duration::from_millis(50);
/// Bound of every later wait: a region that is back is found within this time.
const RECONNECT_CAP: Duration = Duration::from_secs(5);
/// Bound of the first wait after a deferred parcel.
const DEFER_BASE: Duration = Duration::from_millis(50);
/// Bound of every later wait after a deferred parcel.
const DEFER_CAP: Duration = Duration::from_secs(5);
/// Receipts that are settled in one step of the outbox.
const SETTLE_RECEIPTS: usize = 256;

/// Whether the link carries parcels. Readings that are taken while it is up are live, others are backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It does.
    Up {
        /// Since when (real time).
        since: Timestamp,
    },
    /// It does not.
    Down {
        /// Since when (real time).
        since: Timestamp,
    },
}

/// What a sender needs.
pub struct UplinkParts {
    /// `https://host:port` of the next tier.
    pub url: String,
    /// Where this node stands.
    pub here: Place,
    /// Who must answer.
    pub there: Place,
    /// Where parcels come from.
    pub outbox: Arc<dyn Outbox>,
    /// Where it is written that another than `there` answered.
    pub audit: Arc<dyn PeerAudit>,
    /// Certificates.
    pub tls: Arc<ReloadingTls>,
    /// Real time.
    pub time: TimeSource,
    /// Draws waiting times.
    pub rng: StdRng,
    /// Writes the clear text out, in tests.
    pub tap: Option<Tap>,
}

/// The link to the next tier.
pub struct Uplink {
    parts: UplinkParts,
    host: String,
    port: u16,
    connector: TlsConnector,
    state: watch::Sender<LinkState>,
    /// The wrong peer that was written down last: once, however often it is dialled.
    told: Option<(Identity, &'static str)>,
}

impl Uplink {
    /// Prepares a link; nothing is dialled yet.
    ///
    /// # Errors
    /// When `here` never delivers to `there`, the certificate is not that of `here`, or the URL is not one.
    pub fn new(parts: UplinkParts) -> Result<Self, LinkError> {
        let (here, there) = (&parts.here, &parts.there);
        route(here, there).map_err(|reason| LinkError::NoRoute {
            from: here.to_string(),
            to: there.to_string(),
            reason,
        })?;
        let me = parts.tls.me().identity;
        if me.place() != Some(here) {
            return Err(LinkError::NotThisNode {
                here: here.to_string(),
                named: me.to_uri(),
            });
        }
        let (host, port) = host_and_port(&parts.url)?;
        let down = LinkState::Down {
            since: (parts.time)(),
        };
        Ok(Self {
            connector: TlsConnector::from(parts.tls.client_mtls(there)?),
            state: watch::Sender::new(down),
            host,
            port,
            parts,
            told: None,
        })
    }

    /// Follows whether the link is up.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Delivers until stopped, over as many connections as it takes.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::new(RECONNECT_BASE, RECONNECT_CAP);
        loop {
            let mut settled = 0;
            let ended = tokio::select! {
                () = stop.cancelled() => None,
                ended = self.deliver(&mut settled) => Some(ended),
            };
            self.go_down();
            if let Err(error) = self.parts.outbox.release().await {
                tracing::error!(%error, "leases not given back");
            }
            let Some(error) = ended else { return };
            if settled > 0 {
                backoff.reset();
            }
            self.tell(&error).await;
            let wait = backoff.next(&mut self.parts.rng);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One connection, from dial to break. `settled` counts the receipts that were settled.
    async fn deliver(&mut self, settled: &mut u64) -> LinkError {
        match self.open().await {
            Err(error) => error,
            Ok((session, receipts)) => {
                let now = (self.parts.time)();
                self.state.send_replace(LinkState::Up { since: now });
                metrics::gauge!("medmesh_link_up").set(1.0);
                self.told = None;
                tracing::info!(peer = %self.parts.there, "link up");
                session.run(receipts, &mut self.parts.rng, settled).await
            }
        }
    }

    async fn open(&self) -> Result<(Session, Streaming<Receipt>), LinkError> {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dial()).await;
        let (stream, key) = dialled.map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))??;
        let channel = channel(stream).await?;
        let mut client = MeshClient::new(channel)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (parcels, outgoing) = mpsc::channel(MAX_PARCELS);
        let call = client.deliver(ReceiverStream::new(outgoing));
        let answered = tokio::time::timeout(HANDSHAKE_TIMEOUT, call).await;
        let receipts = answered
            .map_err(|_| LinkError::Timeout(HANDSHAKE_TIMEOUT))?
            .map_err(ended)?
            .into_inner();
        let session = Session {
            outbox: Arc::clone(&self.parts.outbox),
            receiver: self.parts.there.to_string(),
            key,
            parcels,
            flight: Flight::default(),
            held: Default::default(),
            deadline: None,
        };
        Ok((session, receipts))
    }

    /// TCP, TLS, and the check that it is the expected peer.
    async fn dial(&self) -> Result<(Guarded<TlsStream<TcpStream>>, VerifyingKey), LinkError> {
        let address = (self.host.as_str(), self.port);
        let tcp = TcpStream::connect(address)
            .await
            .map_err(LinkError::Connect)?;
        tcp.set_nodelay(true).map_err(LinkError::Connect)?;
        let stream = self
            .connector
            .connect(ReloadingTls::server_name(), tcp)
            .await
            .map_err(|error| self.not_connected(error))?;
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|cert| Peer::from_cert(cert).ok())
            .ok_or_else(|| LinkError::Connect(io::ErrorKind::PermissionDenied.into()))?;
        let key = peer.key.ok_or(LinkError::NodeKey)?;
        let cut = self.parts.tls.cut(&peer);
        let guarded =
            Guarded::new(stream, peer, cut, self.parts.tap.as_ref()).map_err(LinkError::Connect)?;
        Ok((guarded, key))
    }

    /// A handshake that failed because another peer answered says so.
    fn not_connected(&self, error: io::Error) -> LinkError {
        let unexpected = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .and_then(UnexpectedPeer::from_tls);
        match unexpected {
            Some(UnexpectedPeer::Other { found, .. }) => {
                let reason = peer_place(found)
                    .and_then(|place| route(&self.parts.here, place))
                    .err()
                    .unwrap_or(reason::WRONG_PEER);
                LinkError::WrongPeer {
                    found: Box::new(found.clone()),
                    reason,
                }
            }
            Some(UnexpectedPeer::Nobody(_)) | None => LinkError::Connect(error),
        }
    }

    fn go_down(&self) {
        let now = (self.parts.time)();
        self.state.send_if_modified(|state| {
            let was_up = matches!(state, LinkState::Up { .. });
            if was_up {
                *state = LinkState::Down { since: now };
            }
            was_up
        });
        metrics::gauge!("medmesh_link_up").set(0.0);
    }

    /// Logs why there is no link; a wrong peer goes to the audit log, once.
    async fn tell(&mut self, error: &LinkError) {
        metrics::counter!("medmesh_link_breaks_total").increment(1);
        let LinkError::WrongPeer { found, reason } = error else {
            tracing::warn!(%error, "link down");
            return;
        };
        let this = (Identity::clone(found), *reason);
        if self.told.as_ref() == Some(&this) {
            return;
        }
        tracing::error!(%error, "link refused");
        match self.parts.audit.turned_away(found, reason).await {
            Ok(()) => self.told = Some(this),
            Err(error) => tracing::error!(%error, "refusal not in the audit log"),
        }
    }
}

/// What is held back of a priority whose parcel was deferred.
struct Held {
    until: Option<Instant>,
    backoff: Backoff,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            until: None,
            backoff: Backoff::new(DEFER_BASE, DEFER_CAP),
        }
    }
}

/// One open stream.
struct Session {
    outbox: Arc<dyn Outbox>,
    receiver: String,
    key: VerifyingKey,
    parcels: mpsc::Sender<Parcel>,
    flight: Flight,
    held: [Held; 3],
    /// When the next receipt must be here.
    deadline: Option<Instant>,
}

impl Session {
    async fn run(
        mut self,
        mut receipts: Streaming<Receipt>,
        rng: &mut StdRng,
        settled: &mut u64,
    ) -> LinkError {
        loop {
            if let Err(error) = self.send().await {
                return error;
            }
            let outbox = Arc::clone(&self.outbox);
            let wake = self.wake();
            let landed = tokio::select! {
                first = receipts.message() => match first {
                    Ok(Some(first)) => {
                        let batch = gather(first, &mut receipts);
                        self.settle(batch, rng, settled).await
                    }
                    Ok(None) => Err(LinkError::Ended { code: tonic::Code::Ok }),
                    Err(status) => Err(ended(status)),
                },
                () = outbox.added() => Ok(()),
                () = sleep_until(wake) => self.in_time(),
            };
            if let Err(error) = landed {
                return error;
            }
        }
    }

    /// Sends what there is room for, the most urgent first.
    async fn send(&mut self) -> Result<(), LinkError> {
        let now = Instant::now();
        for priority in Priority::ALL {
            let held = &mut self.held[usize::from(priority.rank())];
            if held.until.is_some_and(|until| now < until) {
                continue;
            }
            held.until = None;
            let Some(room) = self.flight.room(priority) else {
                continue;
            };
            for parcel in self.outbox.lease(priority, room).await? {
                if self.flight.is_empty() {
                    self.deadline = Some(Instant::now() + RECEIPT_TIMEOUT);
                }
                self.flight.depart(priority, &parcel);
                metrics::counter!("medmesh_link_sent_total", "priority" => priority.as_str())
                    .increment(1);
                self.parcels
                    .send(parcel)
                    .await
                    .map_err(|_| LinkError::Ended {
                        code: tonic::Code::Unavailable,
                    })?;
            }
        }
        Ok(())
    }

    /// Checks receipts and settles them in one step. A bad one ends the link, after the good ones before it.
    async fn settle(
        &mut self,
        batch: Vec<Receipt>,
        rng: &mut StdRng,
        settled: &mut u64,
    ) -> Result<(), LinkError> {
        let mut good = Vec::with_capacity(batch.len());
        let mut bad = None;
        for receipt in batch {
            match self.flight.land(&receipt, &self.receiver, &self.key) {
                Ok(Landed::Known) => refused("known"),
                Ok(Landed::Final(priority)) => {
                    if receipt.outcome() == Outcome::Refused {
                        tracing::error!(
                            reason = reason::known(&receipt.reason),
                            seq = receipt.seq,
                            "parcel refused"
                        );
                    }
                    self.held[usize::from(priority.rank())].backoff.reset();
                    good.push(receipt);
                }
                Ok(Landed::Deferred(priority)) => {
                    let held = &mut self.held[usize::from(priority.rank())];
                    if held.until.is_none() {
                        held.until = Some(Instant::now() + held.backoff.next(rng));
                    }
                    good.push(receipt);
                }
                Err(error) => {
                    refused("forged");
                    tracing::error!(%error, "receipt refused");
                    bad = Some(error);
                    break;
                }
            }
        }
        self.deadline = (!self.flight.is_empty()).then(|| Instant::now() + RECEIPT_TIMEOUT);
        if !good.is_empty() {
            *settled += good.len() as u64;
            self.outbox.settle(good).await?;
        }
        bad.map_or(Ok(()), Err)
    }

    /// When to look again though nothing happened.
    fn wake(&self) -> Option<Instant> {
        let held = self.held.iter().filter_map(|held| held.until);
        held.chain(self.deadline).min()
    }

    fn in_time(&self) -> Result<(), LinkError> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => {
                Err(LinkError::Timeout(RECEIPT_TIMEOUT))
            }
            _ => Ok(()),
        }
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("medmesh_link_receipts_ignored_total", "reason" => reason).increment(1);
}

/// The receipts that are there behind the first.
fn gather(first: Receipt, receipts: &mut Streaming<Receipt>) -> Vec<Receipt> {
    let mut batch = vec![first];
    while batch.len() < SETTLE_RECEIPTS {
        match receipts.next().now_or_never() {
            Some(Some(Ok(receipt))) => batch.push(receipt),
            // An end or error that shows itself here shows itself again at the next call.
            _ => break,
        }
    }
    batch
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// HTTP/2 over a stream that is connected already; it is not connected again.
async fn channel(stream: Guarded<TlsStream<TcpStream>>) -> Result<Channel, LinkError> {
    let once = Arc::new(Mutex::new(Some(stream)));
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once.lock().take();
        async move {
            stream
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
        }
    });
    let channel = Endpoint::from_shared(format!("http://{NODE_DNS}"))?
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .connect_with_connector(connector)
        .await?;
    Ok(channel)
}

/// The peer's text is not kept: it is theirs.
fn ended(status: Status) -> LinkError {
    LinkError::Ended {
        code: status.code(),
    }
}

fn host_and_port(url: &str) -> Result<(String, u16), LinkError> {
    let wrong = || LinkError::Url(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match (uri.scheme_str(), uri.host(), uri.port_u16()) {
        (Some("https"), Some(host), Some(port)) if plain => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            Ok((host.to_owned(), port))
        }
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_https_address_with_a_port_is_dialled() {
        for (url, expected) in [
            ("https://localhost:7000", Some(("localhost", 7000))),
            ("https://127.0.0.1:1/", Some(("127.0.0.1", 1))),
            ("https://[::1]:7000", Some(("::1", 7000))),
            ("http://localhost:7000", None),
            ("https://localhost", None),
            ("https://localhost:7000/x", None),
            ("https://localhost:99999", None),
            ("localhost:7000", None),
            ("", None),
        ] {
            let found = host_and_port(url).ok();
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(found, expected, "{url}");
        }
    }
}
