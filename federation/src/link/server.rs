//! The receiver's side of the link: TLS, who may deliver, what a parcel must be, and the signed answer.
use super::{
    HANDSHAKE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LinkError, MAX_MESSAGE_BYTES,
    MAX_PARCEL_BYTES, STREAM_WINDOW_BYTES,
    io::{Caller, Guarded, Tap},
    peer_place, route,
    told::Told,
};
use crate::{
    foyer::{Foyer, Seat},
    identity::{Identity, Peer},
    port::{Arrival, Gate, Inbox, PortErrorKind, Verdict},
    reason, receipt,
    tls::{self, Cut, ReloadingTls},
    wire::{
        Outcome, Parcel, Receipt,
        mesh_server::{Mesh, MeshServer},
    },
};
use ed25519_dalek::SigningKey;
use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use types::{Place, Priority};

/// Handshakes at once; a further connection takes the place of one that has waited longest ([`Foyer`]).
pub(super) const MAX_HANDSHAKES: usize = 256;
/// Connections at once: a region's facilities, each once, with room for those that reconnect.
const MAX_CONNECTIONS: usize = 4_096;
/// Finished handshakes that wait to be served.
const MAX_WAITING: usize = 16;
/// Calls at once on one connection: a sender needs one.
const MAX_STREAMS: u32 = 4;
/// Parcels that are judged and stored together: whichever bound is met first. Half of what a sender may have under way
/// of its backlog, so that both ends work at once.
const BATCH_PARCELS: usize = 64;
/// Bytes of bodies that are judged and stored together.
const BATCH_BYTES: usize = 4 << 20;
/// Receipts that wait for the sender to read them; then nothing more is taken from it.
const MAX_RECEIPTS: usize = 1_024;
/// After a failed accept (out of descriptors) the listener rests this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a stop waits for batches in hand before connections are cut.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What a receiver needs.
pub struct Door {
    /// Where this node stands.
    pub here: Place,
    /// With what it signs receipts: the key in its certificate.
    pub key: SigningKey,
    /// The residency rules, the audit log and the ledger.
    pub gate: Arc<dyn Gate>,
    /// Where parcels go.
    pub inbox: Arc<dyn Inbox>,
    /// Certificates.
    pub tls: Arc<ReloadingTls>,
    /// Writes the clear text out, in tests.
    pub tap: Option<Tap>,
}

/// Receives parcels until stopped. A peer never delays another: handshakes run beside each other and end in time.
///
/// # Errors
/// Before anything is served, when the certificate is not this node's or lacks its signing key; later never: what
/// fails is a connection.
pub async fn serve(
    listener: TcpListener,
    door: Door,
    stop: CancellationToken,
) -> Result<(), LinkError> {
    let me = door.tls.me();
    if me.identity != Identity::Node(door.here.clone()) {
        return Err(LinkError::NotThisNode {
            here: door.here.to_string(),
            named: me.identity.to_uri(),
        });
    }
    if me.key != Some(door.key.verifying_key()) {
        return Err(LinkError::NodeKey);
    }
    let acceptor = TlsAcceptor::from(door.tls.server_mtls()?);
    let door = Arc::new(door);
    let stop = stop.child_token();
    let tasks = TaskTracker::new();
    let hard_stop = CancellationToken::new();
    let (ready, incoming) = mpsc::channel(MAX_WAITING);
    let welcome = Welcome {
        acceptor,
        door: Arc::clone(&door),
        ready,
        connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        hard_stop: hard_stop.clone(),
    };
    let accepting = accept(listener, Arc::new(welcome), &stop);
    let service = MeshService {
        door: Arc::clone(&door),
        told: Told::default(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .add_service(MeshServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming),
            stop.clone().cancelled_owned(),
        );
    let ended = async {
        stop.cancelled().await;
        tasks.close();
        let _ = tokio::time::timeout(STOP_GRACE, tasks.wait()).await;
        hard_stop.cancel();
    };
    let serving = async {
        let served = serving.await;
        stop.cancel();
        served
    };
    let (served, (), ()) = tokio::join!(serving, accepting, ended);
    Ok(served?)
}

type Stream = Guarded<TlsStream<TcpStream>>;

/// What a handshake needs and leads to.
struct Welcome {
    acceptor: TlsAcceptor,
    door: Arc<Door>,
    ready: mpsc::Sender<io::Result<Stream>>,
    connections: Arc<Semaphore>,
    hard_stop: CancellationToken,
}

async fn accept(listener: TcpListener, welcome: Arc<Welcome>, stop: &CancellationToken) {
    let foyer = Foyer::new(MAX_HANDSHAKES);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            metrics::counter!("medmesh_link_accept_errors_total").increment(1);
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (welcome, seat) = (Arc::clone(&welcome), foyer.enter(peer.ip()));
        tokio::spawn(async move {
            let result = welcome.shake(stream, seat).await;
            metrics::counter!("medmesh_link_handshakes_total", "result" => result).increment(1);
        });
    }
}

impl Welcome {
    /// One handshake, ended in time, or sooner when others need the place.
    async fn shake(&self, stream: TcpStream, seat: Seat) -> &'static str {
        let shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            stream.set_nodelay(true)?;
            let shaken = self.acceptor.accept(stream).await;
            shaken.inspect_err(|error| {
                tls::count_refused("link", error);
            })
        });
        let guarded = tokio::select! {
            shaken = shaken => match shaken {
                Ok(shaken) => shaken.and_then(|stream| self.guard(stream)),
                Err(_) => return "timeout",
            },
            () = seat.displaced() => return "displaced",
        };
        drop(seat);
        match guarded {
            Ok(stream) => {
                // Serving may have ended meanwhile: then the connection is dropped, which is right.
                let _ = self.ready.send(Ok(stream)).await;
                "ok"
            }
            Err(error) => {
                tracing::debug!(%error, "handshake refused");
                "refused"
            }
        }
    }

    fn guard(&self, stream: TlsStream<TcpStream>) -> io::Result<Stream> {
        let peer = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .and_then(|cert| Peer::from_cert(cert).ok())
            .ok_or(io::ErrorKind::PermissionDenied)?;
        let permit = Arc::clone(&self.connections)
            .try_acquire_owned()
            .map_err(|_| io::ErrorKind::QuotaExceeded)?;
        let cut = self.door.tls.cut(&peer);
        let hard_stop = self.hard_stop.clone();
        let ended = async move {
            let _held_while_connected = permit;
            tokio::select! {
                cut = cut => cut,
                () = hard_stop.cancelled_owned() => Cut::Stopped,
            }
        };
        Guarded::new(stream, peer, ended, self.door.tap.as_ref())
    }
}

struct MeshService {
    door: Arc<Door>,
    told: Told,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Mesh for MeshService {
    type DeliverStream = ReceiverStream<Result<Receipt, Status>>;

    async fn deliver(
        &self,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let caller = request
            .extensions()
            .get::<Caller>()
            .ok_or_else(|| Status::unauthenticated("no client certificate"))?;
        let from = self
            .door
            .business_of(&caller.peer.identity, &self.told)
            .await?;
        let (answers, receipts) = mpsc::channel(MAX_RECEIPTS);
        let receiving = receive(
            Arc::clone(&self.door),
            from,
            request.into_inner(),
            answers,
            self.stop.clone(),
        );
        self.tasks.spawn(receiving);
        Ok(Response::new(ReceiverStream::new(receipts)))
    }
}

impl Door {
    /// The place of a peer that may deliver here; others are turned away, with a row in the audit log.
    async fn business_of(&self, peer: &Identity, told: &Told) -> Result<Place, Status> {
        let reason = match peer_place(peer).map(|from| (from, route(from, &self.here))) {
            Ok((from, Ok(()))) => return Ok(from.clone()),
            Ok((_, Err(reason))) | Err(reason) => reason,
        };
        match told.tell(self.gate.as_ref(), peer, reason).await {
            Ok(true) => tracing::warn!(%peer, reason, "peer turned away"),
            Ok(false) => {}
            Err(_) => return Err(Status::unavailable("audit log")),
        }
        Err(Status::permission_denied(reason))
    }

    /// What a parcel that is not what it claims is refused for.
    fn inspect(&self, from: &str, parcel: &Parcel, digest: &[u8; 32]) -> Option<&'static str> {
        let rank = u8::try_from(parcel.priority).ok();
        if parcel.body.len() > MAX_PARCEL_BYTES {
            Some(reason::TOO_LARGE)
        } else if parcel.id.len() != 16
            || parcel.digest.len() != 32
            || parcel.seq == 0
            || rank.and_then(Priority::from_rank).is_none()
        {
            Some(reason::MALFORMED)
        } else if parcel.from != from {
            Some(reason::WRONG_SENDER)
        } else if parcel.to != self.here.to_string() {
            Some(reason::WRONG_RECEIVER)
        } else if parcel.digest != digest[..] {
            Some(reason::DIGEST_MISMATCH)
        } else {
            None
        }
    }

    /// Judges and stores a batch of an authenticated peer; a signed receipt for each parcel, in order.
    pub async fn answer(&self, from: &Place, parcels: Vec<Parcel>) -> Vec<Receipt> {
        let sender = from.to_string();
        let mut blanks = Vec::with_capacity(parcels.len());
        let mut arrivals = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let digest = Sha256::digest(&parcel.body).into();
            let fault = self.inspect(&sender, &parcel, &digest);
            blanks.push(self.blank(&parcel, &digest));
            arrivals.push(Arrival { parcel, fault });
        }
        let verdicts = self.judge(from, arrivals).await;
        blanks
            .into_iter()
            .zip(verdicts)
            .map(|(blank, verdict)| receipt::sign(fill(blank, &verdict), &self.key))
            .collect()
    }

    async fn judge(&self, from: &Place, mut arrivals: Vec<Arrival>) -> Vec<Verdict> {
        let count = arrivals.len();
        if let Err(error) = self.gate.admit(from, &mut arrivals).await {
            return vec![later(&error); count];
        }
        let faults: Vec<_> = arrivals.iter().map(|arrival| arrival.fault).collect();
        let good: Vec<_> = arrivals
            .into_iter()
            .filter(|arrival| arrival.fault.is_none())
            .map(|arrival| arrival.parcel)
            .collect();
        let asked = good.len();
        let stored = match good.is_empty() {
            true => Ok(Vec::new()),
            false => self.inbox.accept(from, good).await,
        };
        let stored = match stored {
            Ok(verdicts) if verdicts.len() == asked => verdicts,
            Ok(_) => {
                tracing::error!("inbox answered for another number of parcels");
                vec![LATER; asked]
            }
            Err(error) => vec![later(&error); asked],
        };
        let mut stored = stored.into_iter();
        faults
            .into_iter()
            .map(|fault| match fault {
                Some(reason) => Verdict::Refused { reason },
                None => stored.next().unwrap_or(LATER),
            })
            .collect()
    }

    fn blank(&self, parcel: &Parcel, digest: &[u8; 32]) -> Receipt {
        let id = match parcel.id.len() {
            16 => parcel.id.clone(),
            _ => bytes::Bytes::new(),
        };
        Receipt {
            id,
            priority: parcel.priority,
            seq: parcel.seq,
            digest: digest.to_vec().into(),
            receiver: self.here.to_string(),
            ..Receipt::default()
        }
    }
}

const LATER: Verdict = Verdict::Deferred {
    reason: reason::UNAVAILABLE,
};

/// A step of ours that failed is no fault of the parcel: its sender keeps it and tries again.
fn later(error: &crate::port::PortError) -> Verdict {
    match error.kind {
        PortErrorKind::Unavailable => tracing::warn!(%error, "parcels deferred"),
        PortErrorKind::Corrupt | PortErrorKind::Internal => {
            tracing::error!(%error, "parcels deferred");
        }
    }
    LATER
}

fn fill(mut receipt: Receipt, verdict: &Verdict) -> Receipt {
    let (outcome, word, reason, stored) = match verdict {
        Verdict::Accepted { stored } => (Outcome::Accepted, "accepted", "", *stored),
        Verdict::Quarantined { reason } => (Outcome::Quarantined, "quarantined", *reason, 0),
        Verdict::Refused { reason } => (Outcome::Refused, "refused", *reason, 0),
        Verdict::Deferred { reason } => (Outcome::Deferred, "deferred", *reason, 0),
    };
    metrics::counter!("medmesh_link_received_total", "outcome" => word).increment(1);
    receipt.outcome = outcome.into();
    receipt.reason = reason.to_owned();
    receipt.stored = stored;
    receipt
}

/// Takes parcels of one stream, a batch at a time, until the sender ends it or the node stops.
async fn receive(
    door: Arc<Door>,
    from: Place,
    mut parcels: Streaming<Parcel>,
    answers: mpsc::Sender<Result<Receipt, Status>>,
    stop: CancellationToken,
) {
    loop {
        let batch = tokio::select! {
            () = stop.cancelled() => return,
            batch = next_batch(&mut parcels) => batch,
        };
        if batch.is_empty() {
            return;
        }
        for receipt in door.answer(&from, batch).await {
            if answers.send(Ok(receipt)).await.is_err() {
                return;
            }
        }
    }
}

/// Waits for a parcel and takes what is there behind it. Empty when the stream ended, well or not: what a broken
/// stream brought is not answered, so its sender sends it again.
async fn next_batch(parcels: &mut Streaming<Parcel>) -> Vec<Parcel> {
    let Some(Ok(first)) = parcels.next().await else {
        return Vec::new();
    };
    let mut bytes = first.body.len();
    let mut batch = vec![first];
    while batch.len() < BATCH_PARCELS && bytes < BATCH_BYTES {
        match parcels.next().now_or_never() {
            Some(Some(Ok(parcel))) => {
                bytes += parcel.body.len();
                batch.push(parcel);
            }
            // An end or error that shows itself here shows itself again at the next call.
            _ => break,
        }
    }
    batch
}
