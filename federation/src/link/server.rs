//! The receiver's side of the link: TLS, who may deliver, what a parcel must be, and the signed answer.
use super::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LinkError, MAX_MESSAGE_BYTES, MAX_PARCEL_BYTES,
    MAX_RECEIPTS, RECEIPT_TIMEOUT, STREAM_WINDOW_BYTES,
    batch::{NEWER, Taken, broken, fill, next_batch},
    believe, bulk, collect,
    door::Door,
    io::Caller,
    lists,
    newest::{Newest, Reading},
    pace::{MESSAGE_TIMEOUT, PacedService},
    peer_place, renew, route,
    told::Told,
    uplink::Opened,
    welcome::{LIMITS, Welcome},
};
use crate::{
    blobs::Bulk,
    envelope::{self, Intact},
    identity::Identity,
    port::{Arrival, Outbox, PortErrorKind, Verdict},
    reason, receipt,
    wire::{
        self, Chunk, DeviceRequest, Heard, Hello, Lists, Parcel, Receipt, Renewal, Renewed, Said,
        Wanted,
        mesh_server::{Mesh, MeshServer},
    },
};
use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use node::{
    admission::Admission,
    trace::{self, Name},
};
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming, transport::Server};
use types::{Place, Priority};

/// Finished handshakes that wait to be served.
const MAX_WAITING: usize = 16;
/// Calls at once on one connection: a place needs seven, to deliver, to collect, three for blobs, for revocation lists and for its
/// next certificate. What a peer sends on all of them before it is read is bounded by the connection's window.
const MAX_STREAMS: u32 = 8;
/// Header of a call, in bytes.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// How long a stop waits for batches in hand before connections are cut.
const STOP_GRACE: Duration = Duration::from_secs(2);

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
        hard_stop: hard_stop.clone(),
    };
    let admission = Admission::new("link", &LIMITS);
    let accepting = Arc::new(welcome).accept(&admission, listener, &stop);
    let service = MeshService {
        door: Arc::clone(&door),
        told: Told::default(),
        newest: Newest::default(),
        collecting: Newest::default(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(STREAM_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .add_service(PacedService::new(
            MeshServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES),
            MESSAGE_TIMEOUT,
        ))
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
    let (served, accepted, ()) = tokio::join!(serving, accepting, ended);
    served?;
    accepted.map_err(LinkError::Listen)
}

struct MeshService {
    door: Arc<Door>,
    told: Told,
    newest: Newest,
    /// The calls by which places collect.
    collecting: Newest,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl Mesh for MeshService {
    type DeliverStream = ReceiverStream<Result<Receipt, Status>>;
    type CollectStream = Pin<Box<dyn Stream<Item = Result<Parcel, Status>> + Send>>;
    type RevocationsStream = lists::Answer;

    async fn deliver(
        &self,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        let caller = caller_of(&request)?;
        caller.called.cancel();
        let from = self.place_of(&request).await?;
        let reading = self.newest.begin(&caller.peer.identity);
        let key = caller.peer.key;
        let (answers, receipts) = mpsc::channel(MAX_RECEIPTS);
        let receiving = receive(
            Arc::clone(&self.door),
            (from, key),
            request.into_inner(),
            answers,
            Ends {
                stop: self.stop.clone(),
                reading,
            },
        );
        self.tasks.spawn(receiving);
        Ok(Response::new(ReceiverStream::new(receipts)))
    }

    async fn meet(&self, request: Request<Hello>) -> Result<Response<wire::Welcome>, Status> {
        let caller = caller_of(&request)?;
        let from = self.place_of(&request).await?;
        let reading = self.newest.begin(&caller.peer.identity);
        let key = caller.peer.key;
        let mut hello = request.into_inner();
        believe_if_signed(&mut hello.head, &from, key.as_ref());
        let Some(_turn) = reading.turn().await else {
            return Err(Status::aborted(NEWER));
        };
        let met = self.door.inbox.meet(&from, &hello).await;
        met.map(Response::new).map_err(|error| {
            tracing::warn!(%error, %from, "not met");
            Status::unavailable("meet")
        })
    }

    async fn greet(&self, request: Request<Heard>) -> Result<Response<Said>, Status> {
        let collector = self.collector(&request).await?;
        let Some(_turn) = collector.reading.turn().await else {
            return Err(Status::aborted(NEWER));
        };
        let whom = (&collector.to, &collector.key);
        let said = collect::say(collector.outbox.as_ref(), whom, request.into_inner()).await;
        said.map(Response::new)
    }

    async fn collect(
        &self,
        request: Request<Streaming<Receipt>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let collector = self.collector(&request).await?;
        let (parcels, going) = collect::channel();
        let opened = Opened {
            parcels,
            receipts: request.into_inner(),
            key: collector.key,
        };
        let ends = collect::Ends {
            stop: self.stop.clone(),
            reading: collector.reading,
        };
        let offering = collect::offer(collector.outbox, collector.to, opened, ends);
        self.tasks.spawn(offering);
        Ok(Response::new(Box::pin(ReceiverStream::new(going).map(Ok))))
    }

    async fn fetch(&self, request: Request<Wanted>) -> Result<Response<Chunk>, Status> {
        let (place, bulk) = self.carries(&request).await?;
        let given = bulk::give(bulk.as_ref(), &place, request.into_inner()).await;
        given.map(Response::new)
    }

    async fn put(&self, request: Request<Chunk>) -> Result<Response<Wanted>, Status> {
        let (place, bulk) = self.carries(&request).await?;
        let taken = bulk::take(bulk.as_ref(), &place, request.into_inner()).await;
        taken.map(Response::new)
    }

    async fn revocations(
        &self,
        request: Request<Streaming<Lists>>,
    ) -> Result<Response<Self::RevocationsStream>, Status> {
        self.place_of(&request).await?;
        let ends = (&self.tasks, self.stop.clone());
        let answer = lists::answer(&self.door.tls, request.into_inner(), ends);
        Ok(Response::new(answer))
    }

    async fn renew(&self, request: Request<Renewal>) -> Result<Response<Renewed>, Status> {
        let who = self.place_of(&request).await?;
        let authority = self.door.authority.clone();
        renew::answer(authority, &who, request.into_inner()).await
    }

    async fn certify(&self, request: Request<DeviceRequest>) -> Result<Response<Renewed>, Status> {
        let who = self.place_of(&request).await?;
        let by = caller_of(&request)?.peer.serial.clone();
        let authority = self.door.authority.clone();
        renew::of_device(authority, (&who, &by), request.into_inner()).await
    }
}

impl MeshService {
    /// The place that calls, if it has business here.
    async fn place_of<T>(&self, request: &Request<T>) -> Result<Place, Status> {
        let caller = caller_of(request)?;
        let identity = &caller.peer.identity;
        self.door.business_of(identity, &self.told).await
    }

    /// The place that calls, and the blobs of this node.
    async fn carries<T>(&self, request: &Request<T>) -> Result<(Place, Arc<dyn Bulk>), Status> {
        let place = self.place_of(request).await?;
        let bulk = self.door.bulk.clone();
        let bulk = bulk.ok_or_else(|| Status::unimplemented("this node carries no blobs"))?;
        Ok((place, bulk))
    }

    /// The place that collects here, with the key in its certificate, and from what.
    async fn collector<T>(&self, request: &Request<T>) -> Result<Collector, Status> {
        let caller = caller_of(request)?;
        caller.called.cancel();
        let identity = &caller.peer.identity;
        let to = self.door.business_of(identity, &self.told).await?;
        let key = caller
            .peer
            .key
            .ok_or_else(|| Status::permission_denied(reason::NO_IDENTITY))?;
        let outbox = self.door.outbox.clone();
        Ok(Collector {
            outbox: outbox.ok_or_else(|| Status::unimplemented("nothing goes down from here"))?,
            reading: self.collecting.begin(identity),
            to,
            key,
        })
    }
}

/// Whose connection a call came on.
fn caller_of<T>(request: &Request<T>) -> Result<&Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.ok_or_else(|| Status::unauthenticated("no client certificate"))
}

struct Collector {
    outbox: Arc<dyn Outbox>,
    reading: Reading,
    to: Place,
    key: VerifyingKey,
}

/// A peer whose certificate states no key has no audit log.
fn believe_if_signed(head: &mut String, of: &Place, key: Option<&VerifyingKey>) {
    match key {
        Some(key) => believe(head, of, key),
        None => head.clear(),
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
    fn inspect(&self, from: &str, parcel: &Parcel, digest: &Bytes) -> Option<&'static str> {
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
        } else if parcel.digest != digest {
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
        let mut traced = Vec::new();
        for mut parcel in parcels {
            traced.extend(trace::step(&mut parcel.traceparent, Name::LinkReceive));
            let digest = envelope::digest(&parcel.body);
            let fault = self.inspect(&sender, &parcel, &digest);
            blanks.push(self.blank(&parcel, digest));
            arrivals.push(Arrival { parcel, fault });
        }
        let judging = self.judge(from, arrivals);
        let verdicts = trace::within(traced.first(), judging).await;
        trace::end_all(traced);
        if let Some(last) = blanks.last_mut() {
            last.head = match self.inbox.head().await {
                Ok(head) => head,
                Err(error) => {
                    tracing::warn!(%error, "receipts without the audit log's head");
                    String::new()
                }
            };
        }
        blanks
            .into_iter()
            .zip(verdicts)
            .map(|(blank, verdict)| receipt::sign(fill(blank, &verdict), &self.key))
            .collect()
    }

    async fn judge(&self, from: &Place, mut arrivals: Vec<Arrival>) -> Vec<Verdict> {
        let count = arrivals.len();
        let named = |arrival: &Arrival| arrival.parcel.traceparent.clone();
        let traced = trace::steps(Name::Gate, arrivals.iter().map(named));
        let admitted = self.gate.admit(from, &mut arrivals).await;
        trace::end_all(traced);
        if let Err(error) = admitted {
            return vec![later(&error); count];
        }
        let faults: Vec<_> = arrivals.iter().map(|arrival| arrival.fault).collect();
        // Without a fault a parcel has the digest of its body.
        let good: Vec<_> = arrivals
            .into_iter()
            .filter(|arrival| arrival.fault.is_none())
            .map(|arrival| Intact::hashed(arrival.parcel))
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

    fn blank(&self, parcel: &Parcel, digest: Bytes) -> Receipt {
        let id = Some(parcel.id.clone()).filter(|id| id.len() == 16);
        Receipt {
            id: id.unwrap_or_default(),
            priority: parcel.priority,
            seq: parcel.seq,
            digest,
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

/// What ends a stream from outside.
struct Ends {
    stop: CancellationToken,
    /// The sender may begin another one.
    reading: Reading,
}

/// Takes parcels of one stream, a batch at a time, until the sender ends it or the node stops. A stream that breaks is
/// answered with an error, never with an end as if all were well.
async fn receive(
    door: Arc<Door>,
    (from, key): (Place, Option<VerifyingKey>),
    mut parcels: Streaming<Parcel>,
    answers: mpsc::Sender<Result<Receipt, Status>>,
    ends: Ends,
) {
    loop {
        let mut taken = tokio::select! {
            () = ends.stop.cancelled() => return,
            () = ends.reading.newer.cancelled() => Taken::broken(Status::aborted(NEWER)),
            taken = next_batch(&mut parcels) => taken,
        };
        for parcel in &mut taken.parcels {
            believe_if_signed(&mut parcel.head, &from, key.as_ref());
        }
        let receipts = match ends.reading.turn().await {
            Some(_turn) => door.answer(&from, std::mem::take(&mut taken.parcels)).await,
            None => {
                taken = Taken::broken(Status::aborted(NEWER));
                Vec::new()
            }
        };
        for receipt in receipts {
            match timeout(RECEIPT_TIMEOUT, answers.send(Ok(receipt))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    metrics::counter!("medmesh_link_late_total", "step" => "receipt").increment(1);
                    return;
                }
            }
        }
        match taken.end {
            None => {}
            Some(Ok(())) => return,
            Some(Err(status)) => {
                let status = broken(&status);
                tracing::warn!(peer = %from, code = ?status.code(), "stream broken");
                let _ = timeout(RECEIPT_TIMEOUT, answers.send(Err(status))).await;
                return;
            }
        }
    }
}
