//! One connection: its handshake, its requests one after the other, and the moment by which each step must be done.
use super::{
    Clients, GRACE, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_LONG_BODY_BYTES,
    MAX_STRANGERS_BODY_BYTES, MayBeLong, Timeouts, Unread,
    lasting::{Lasting, Paced},
    long::{LongBodies, Place},
    unread::Worded,
};
use crate::{
    admission::{Known, Slot},
    health, trace,
};
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version,
        header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, RETRY_AFTER},
    },
};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::Instrument;

/// The id by which a request is found in the logs (FHIR R4 §3.1.0.1.9): always the server's own, since what a client names
/// may be anything.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The id that the client gave a request, given back.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Bytes of a body that is too long which are read all the same.
const MAX_DROPPED_BYTES: usize = 16 << 20;
/// How long that may take.
const DROPPED_WITHIN: Duration = Duration::from_secs(3);

/// What a connection is served with.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) app: Router,
    /// What is said to requests that the router does not see.
    pub(super) unread: Option<Unread>,
    pub(super) clients: Option<Clients>,
    /// Which requests may bring long bodies, and the places of these.
    pub(super) long: (MayBeLong, Arc<LongBodies>),
    pub(super) timeouts: Timeouts,
    pub(super) slot: Arc<Slot>,
    pub(super) stop: CancellationToken,
}

/// Serves one accepted socket to its end.
pub(super) async fn serve(stream: TcpStream, config: Arc<ServerConfig>, server: Server) {
    let slot = server.slot.clone();
    let served = async {
        let handshake = TlsAcceptor::from(config).accept(stream);
        let Ok(Ok(stream)) = timeout(server.timeouts.handshake, handshake).await else {
            metrics::counter!("medmesh_https_handshake_errors_total").increment(1);
            return;
        };
        slot.shaken();
        requests(stream, server).await;
    };
    tokio::select! {
        () = served => {}
        () = slot.displaced() => {}
    }
}

async fn requests(stream: TlsStream<TcpStream>, server: Server) {
    let Timeouts { header, linger, .. } = server.timeouts;
    let stop = server.stop.clone();
    let stream = Worded::new(stream, server.unread);
    let (deadline, due) = watch::channel(Instant::now() + header);
    let deadline = Arc::new(deadline);
    let service = service_fn(move |request| answer(server.clone(), deadline.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = passed(due) => {
            metrics::counter!("medmesh_https_late_total").increment(1);
            return;
        }
        () = stop.cancelled() => match timeout(linger, connection.as_mut()).await {
            Ok(ended) => ended,
            Err(_) => {
                connection.as_mut().graceful_shutdown();
                timeout(GRACE, connection).await.unwrap_or(Ok(()))
            }
        },
    };
    if ended.is_err() {
        metrics::counter!("medmesh_https_connection_errors_total").increment(1);
    }
}

/// Resolves when the deadline, which moves with each step, has passed.
async fn passed(mut due: watch::Receiver<Instant>) {
    loop {
        let at = *due.borrow_and_update();
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = due.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

async fn answer(
    server: Server,
    deadline: Arc<watch::Sender<Instant>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let by = |span: Duration| {
        deadline.send_replace(Instant::now() + span);
    };
    let timeouts = server.timeouts;
    by(timeouts.body + timeouts.request + GRACE);
    server.slot.holds_unread(0);
    if health::PATHS.contains(&request.uri().path()) {
        server.slot.asks_health();
    } else if let Some(clients) = &server.clients
        && let Some(client) = (clients.0)(request.headers())
    {
        server.slot.known_as(&client);
    }
    let most = match server.slot.is_known() {
        true if (server.long.0)(request.method(), request.uri().path()) => MAX_LONG_BODY_BYTES,
        true => MAX_BODY_BYTES,
        false => MAX_STRANGERS_BODY_BYTES,
    };
    if most > MAX_BODY_BYTES {
        // It may wait for its place before.
        by(timeouts.body + timeouts.body + timeouts.request + GRACE);
    }
    let (traced, method) = (trace::Request::begin(), word(request.method()));
    let asked = request.headers().get(REQUEST_ID).cloned();
    let responding = addressed(&server, request, most).instrument(traced.logged());
    let mut response = responding.await;
    let own = HeaderValue::try_from(traced.id()).ok();
    for (name, id) in [(REQUEST_ID, own), (CORRELATION_ID, asked)] {
        if let Some(id) = id {
            response.headers_mut().insert(name, id);
        }
    }
    traced.end(method, response.status().as_u16());
    if server.stop.is_cancelled() {
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(Known(client)) = response.extensions().get() {
        server.slot.known_as(client);
    }
    let bytes = response.body().size_hint().lower();
    server
        .slot
        .holds_unread(usize::try_from(bytes).unwrap_or(usize::MAX));
    by(timeouts.answer);
    if response.extensions().get::<Lasting>().is_some() {
        let (span, stop) = (timeouts.answer, server.stop.clone());
        response = response.map(|body| Paced::of(body, deadline.clone(), span, stop));
    }
    Ok(response)
}

/// The method, of those that are served.
fn word(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let same = |word: &&&str| **word == method.as_str();
    // As OpenTelemetry's conventions for HTTP spans name any other.
    known.iter().find(same).copied().unwrap_or("_OTHER")
}

/// Answers a request that says whom it is for: one of HTTP/1.1 names one host (RFC 9112 §3.2).
async fn addressed(server: &Server, request: Request<Incoming>, most: usize) -> Response<Body> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match request.version() == Version::HTTP_11 && hosts != 1 {
        true => Unread::answer(server.unread, StatusCode::BAD_REQUEST),
        false => respond(server, request, most).await,
    }
}

async fn respond(server: &Server, request: Request<Incoming>, most: usize) -> Response<Body> {
    let (mut parts, mut body) = request.into_parts();
    parts.extensions.insert(server.slot.network());
    let (body, place) = match take(server, &parts.headers, &mut body, most).await {
        Ok((bytes, place)) => (Body::from(bytes), place),
        Err(NotTaken::TooLong) => {
            let_go(&parts.headers, body).await;
            // Who reads it learns that it is too long, and answers so in its own words.
            (Body::new(Limited::new(Body::from("x"), 0)), None)
        }
        Err(NotTaken::Broken) => return Unread::answer(server.unread, StatusCode::BAD_REQUEST),
        Err(NotTaken::Late) => return Unread::answer(server.unread, StatusCode::REQUEST_TIMEOUT),
        Err(NotTaken::NoPlace) => {
            let_go(&parts.headers, body).await;
            let full = StatusCode::SERVICE_UNAVAILABLE;
            let mut answer = Unread::answer(server.unread, full);
            let after = HeaderValue::from_static("5");
            answer.headers_mut().insert(RETRY_AFTER, after);
            return answer;
        }
    };
    let request = Request::from_parts(parts, body);
    let answering = server.app.clone().oneshot(request);
    let answered = timeout(server.timeouts.request, answering).await;
    drop(place);
    match answered {
        Ok(response) => response.unwrap_or_else(|never| match never {}),
        Err(_) => Unread::answer(server.unread, StatusCode::REQUEST_TIMEOUT),
    }
}

/// Why a body is not taken.
enum NotTaken {
    /// It is longer than any that is.
    TooLong,
    /// It broke off, or what came is none (RFC 9112 §7.1).
    Broken,
    /// It was not there in time.
    Late,
    /// It is long, and there was no place for it in time.
    NoPlace,
}

/// The whole body, and the place that it has where it is longer than [`MAX_BODY_BYTES`]. One of which nothing is said may be
/// short, as most are: it waits for a place once it is found to be longer.
async fn take(
    server: &Server,
    headers: &HeaderMap,
    body: &mut Incoming,
    most: usize,
) -> Result<(Vec<u8>, Option<Place>), NotTaken> {
    let (within, begun, stated) = (server.timeouts.body, Instant::now(), stated(headers));
    if stated.is_some_and(|length| length > most) {
        return Err(NotTaken::TooLong);
    }
    let mut read = Reading::default();
    if stated.is_none_or(|length| length <= MAX_BODY_BYTES) {
        read.on(body, most.min(MAX_BODY_BYTES), within).await?;
        if read.is_whole {
            return Ok((read.bytes, None));
        }
        if most <= MAX_BODY_BYTES {
            return Err(NotTaken::TooLong);
        }
    }
    let left = within.saturating_sub(begun.elapsed());
    let client = server.slot.identity().unwrap_or_default();
    let place = match timeout(within, server.long.1.place(&client)).await {
        Ok(Ok(place)) => place,
        _ => return Err(NotTaken::NoPlace),
    };
    read.on(body, most, left).await?;
    match read.is_whole {
        true => Ok((read.bytes, Some(place))),
        false => Err(NotTaken::TooLong),
    }
}

/// A body, as far as it is read.
#[derive(Default)]
struct Reading {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Reading {
    /// Reads on, to the end or until it is longer than `most` bytes.
    async fn on(
        &mut self,
        body: &mut Incoming,
        most: usize,
        within: Duration,
    ) -> Result<(), NotTaken> {
        let reading = async {
            while !self.is_whole && self.bytes.len() <= most {
                match body.frame().await {
                    None => self.is_whole = true,
                    Some(Ok(frame)) => {
                        if let Some(data) = frame.data_ref() {
                            self.bytes.extend_from_slice(data);
                        }
                    }
                    Some(Err(_)) => return Err(NotTaken::Broken),
                }
            }
            Ok(())
        };
        timeout(within, reading)
            .await
            .unwrap_or(Err(NotTaken::Late))
    }
}

/// The length that a header states.
fn stated(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads what is not taken and keeps nothing of it: most clients read why only once they have sent everything, and one
/// whose connection ends before that never learns it. Who waits to be told to go on (RFC 9110 §10.1.1) sends nothing
/// before it reads why not.
async fn let_go(headers: &HeaderMap, body: Incoming) {
    if !headers.contains_key(EXPECT) {
        drop(timeout(DROPPED_WITHIN, dropped(body)).await);
    }
}

async fn dropped(mut body: Incoming) {
    let mut read = 0;
    while read <= MAX_DROPPED_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        read += frame.data_ref().map_or(0, Bytes::len);
    }
}
