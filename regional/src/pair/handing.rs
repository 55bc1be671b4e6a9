//! What a node cannot do while it waits it hands on to the node that writes, and gives the answer back as it comes: one
//! connection for each request, to the node that stands where this one stands, by the mesh's authority. Nothing of a
//! request is read here but its header. While that node cannot be reached a request is held for a moment, since this one may
//! take the lease: then it is asked of this one.
use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Uri,
        header::{self, CONNECTION, CONTENT_TYPE, EXPECT},
        request::Parts,
    },
    response::Response,
};
use federation::tls::{ReloadingTls, TlsError};
use futures_util::FutureExt as _;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use node::https::{self, MAX_LONG_BODY_BYTES, MAX_STRANGERS_BODY_BYTES};
use std::{
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use types::Place;

/// Requests at once of clients that are known by their token, and of all others: each holds a connection.
const MAX_KNOWN: usize = 256;
const MAX_STRANGERS: usize = 64;
/// A node that cannot be connected to by then, TLS too, is away.
const DIALLED: Duration = Duration::from_secs(2);
/// The answer has begun by then: sooner than a client is told that its request took too long.
const ANSWERED: Duration = Duration::from_secs(55);
/// For so long after it came a request is asked again of which surely nothing was done, or which only reads: the other node
/// may have ended, and this one have the lease soon.
const HELD: Duration = Duration::from_millis(900);
/// Before it is asked again.
const AGAIN: Duration = Duration::from_millis(75);
/// Says that a request was handed on already: two nodes that both wait do not send it round. In an answer it says that
/// nothing was done of such a request.
pub(super) const HANDED_ON: HeaderName = HeaderName::from_static("medmesh-handed-on");
/// What is between two nodes and goes no further (RFC 9110 §7.6.1), beside what `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Answers that go on: each piece of them, and not the whole, is to be read in time.
const LASTING: [&str; 2] = ["text/event-stream", "application/fhir+ndjson"];

/// Why a request was not handed on, or has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotHanded {
    /// No other node is configured, the request comes from there, or this one has the lease.
    Nowhere,
    /// As many as may be are under way.
    Busy,
    /// The other node cannot be reached: it was not asked.
    Away,
    /// It was asked and gave no answer: whether it did anything is not known.
    Unanswered,
    /// The body is longer than any that is taken.
    TooLong,
}

impl NotHanded {
    const fn word(self) -> &'static str {
        match self {
            Self::Nowhere => "nowhere",
            Self::Busy => "busy",
            Self::Away => "away",
            Self::Unanswered => "unanswered",
            Self::TooLong => "too-long",
        }
    }
}

/// The longest body of a client that is known, and of any other: the listener has let through what that path may bring.
const fn longest(is_known: bool) -> usize {
    match is_known {
        true => MAX_LONG_BODY_BYTES,
        false => MAX_STRANGERS_BODY_BYTES,
    }
}

/// The way to the other node.
pub(super) struct Handing {
    other: (String, u16),
    /// Where this node itself serves, once it has the lease.
    own: Option<(String, u16)>,
    tls: TlsConnector,
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Handing {
    /// To the other node of the pair that stands at a place, until the stop: then nobody else has the lease.
    ///
    /// # Errors
    /// [`TlsError`].
    pub(super) fn new(
        other: (String, u16),
        (tls, place): (&ReloadingTls, &Place),
        stop: CancellationToken,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            other,
            own: None,
            tls: TlsConnector::from(tls.client_https(place)?),
            known: Arc::new(Semaphore::new(MAX_KNOWN)),
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
            stop,
        })
    }

    /// What is handed on after the stop goes to this node itself: it has the lease then, and serves at its own socket soon.
    #[must_use]
    pub(super) fn then(mut self, own: SocketAddr) -> Self {
        self.own = Some((own.ip().to_string(), own.port()));
        self
    }

    /// Hands a request on; the answer as it comes.
    ///
    /// # Errors
    /// [`NotHanded`].
    pub(super) async fn hand(
        &self,
        request: Request,
        is_known: bool,
    ) -> Result<Response, NotHanded> {
        let handed = self.handed(request, is_known).await;
        let result = handed.as_ref().err().map_or("answered", |why| why.word());
        metrics::counter!("medmesh_pair_handed_on_total", "result" => result).increment(1);
        handed
    }

    async fn handed(&self, request: Request, is_known: bool) -> Result<Response, NotHanded> {
        if request.headers().contains_key(&HANDED_ON) {
            return Err(NotHanded::Nowhere);
        }
        self.target()?;
        let places = match is_known {
            true => &self.known,
            false => &self.strangers,
        };
        let place = Arc::clone(places).try_acquire_owned();
        let place = place.map_err(|_| NotHanded::Busy)?;
        let until = Instant::now() + HELD;
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, longest(is_known)).await;
        let body = body.map_err(|_| NotHanded::TooLong)?;
        loop {
            let why = match self.once(parts.clone(), body.clone()).await {
                Ok(answered) => return Ok(answer(answered, place)),
                Err(why) => why,
            };
            let is_undone = match why {
                NotHanded::Away => true,
                NotHanded::Unanswered => only_reads(&parts),
                NotHanded::Nowhere | NotHanded::Busy | NotHanded::TooLong => false,
            };
            if !is_undone || Instant::now() >= until {
                return Err(why);
            }
            sleep(AGAIN).await;
        }
    }

    /// Whom it is handed to, and whether that is this node itself.
    fn target(&self) -> Result<(&(String, u16), bool), NotHanded> {
        match (&self.own, self.stop.is_cancelled()) {
            (_, false) => Ok((&self.other, false)),
            (Some(own), true) => Ok((own, true)),
            (None, true) => Err(NotHanded::Nowhere),
        }
    }

    async fn once(&self, parts: Parts, body: Bytes) -> Result<Answered, NotHanded> {
        let (to, is_own) = self.target()?;
        let moved = async {
            match is_own {
                true => std::future::pending().await,
                false => self.stop.cancelled().await,
            }
        };
        let mut moved = std::pin::pin!(moved);
        let stream = tokio::select! {
            dialled = timeout(DIALLED, self.dial(to)) => dialled.map_err(|_| NotHanded::Away)??,
            () = &mut moved => return Err(NotHanded::Away),
        };
        tokio::select! {
            answered = timeout(ANSWERED, ask(stream, parts, body)) => {
                answered.map_err(|_| NotHanded::Unanswered)?
            }
            () = &mut moved => Err(NotHanded::Unanswered),
        }
    }

    async fn dial(&self, (host, port): &(String, u16)) -> Result<TlsStream<TcpStream>, NotHanded> {
        let dialling = async {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(ReloadingTls::server_name(), stream).await
        };
        dialling.await.map_err(|error| {
            tracing::debug!(%error, "the node that writes cannot be reached");
            NotHanded::Away
        })
    }
}

/// An answer whose body comes, and what moves it.
type Answered = (axum::http::response::Parts, Incoming, Connection);

async fn ask(
    stream: TlsStream<TcpStream>,
    parts: Parts,
    body: Bytes,
) -> Result<Answered, NotHanded> {
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|_| NotHanded::Away)?;
    // It may end here, before the answer is read: then it is looked at again in vain.
    let connection = async {
        let _why = connection.await;
    };
    let mut connection: Connection = Box::pin(connection.fuse());
    let request = onwards(parts, body).ok_or(NotHanded::Nowhere)?;
    let mut answering = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answering => answer,
        // The connection may end with the answer already there.
        () = &mut connection => answering.await,
    };
    let answer = answer.map_err(|_| NotHanded::Unanswered)?;
    if answer.headers().contains_key(&HANDED_ON) {
        // That one waits too, and has done nothing.
        return Err(NotHanded::Away);
    }
    let (parts, incoming) = answer.into_parts();
    Ok((parts, incoming, connection))
}

/// The answer as the client gets it.
fn answer((mut parts, incoming, connection): Answered, place: OwnedSemaphorePermit) -> Response {
    without_hops(&mut parts.headers);
    let kind = parts.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if LASTING.iter().any(|lasting| kind.starts_with(lasting)) {
        parts.extensions.insert(https::Lasting);
    }
    let body = Coming {
        incoming,
        connection,
        _place: place,
    };
    Response::from_parts(parts, Body::new(body))
}

/// Whether a request may be answered twice. A `GET` of `$export` begins a job; what is encoded may be one.
fn only_reads(parts: &Parts) -> bool {
    let path = parts.uri.path();
    parts.method.is_safe() && !path.contains("$export") && !path.contains('%')
}

/// The request as the other node gets it.
fn onwards(mut parts: Parts, body: Bytes) -> Option<hyper::Request<http_body_util::Full<Bytes>>> {
    without_hops(&mut parts.headers);
    // The body is here: nobody need be told to send it.
    parts.headers.remove(EXPECT);
    let yes = HeaderValue::from_static("1");
    parts.headers.insert(HANDED_ON, yes);
    let path = parts.uri.path_and_query()?.clone();
    let mut request = hyper::Request::new(http_body_util::Full::new(body));
    *request.method_mut() = parts.method;
    *request.uri_mut() = Uri::from(path);
    *request.headers_mut() = parts.headers;
    Some(request)
}

fn without_hops(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// What moves the bytes of a connection.
type Connection = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An answer that comes: who reads it moves its connection.
struct Coming {
    incoming: Incoming,
    connection: Connection,
    _place: OwnedSemaphorePermit,
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let _ended = self.connection.as_mut().poll(context);
        Pin::new(&mut self.incoming).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(all(test, not(medmesh_unguarded)))]
#[path = "handing_tests.rs"]
mod tests;
