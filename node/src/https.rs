//! HTTPS for one router: TLS handshakes off the accept loop, and a limit on everything that a client can hold.
//!
//! Who may hold a connection is [`crate::admission`]'s to say. A connection is known while it has sent a token that
//! this node gave; every other is a stranger's, which another stranger may displace. Each step has an end that no drop
//! of a byte puts off: handshake, header, body, answer, and the client's reading of it.
use crate::{
    admission::{Admission, Limits},
    token::Verifier,
};
use axum::{
    Router,
    http::{HeaderMap, Method},
};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::timeout};
use tokio_rustls::rustls::ServerConfig;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod connection;
mod lasting;
mod long;
mod unread;

pub use lasting::Lasting;
use long::LongBodies;
pub use unread::Unread;

/// Connections at once. A stranger's holds at most its header and body ([`MAX_HEADER_BYTES`],
/// [`MAX_STRANGERS_BODY_BYTES`]): 75 MiB for all of them. A client by token has room for a pool of workers, and eight clients that use all of
/// theirs fill the listener.
pub const LIMITS: Limits = Limits {
    handshakes: 4_096,
    unknown: 1_536,
    health: 64,
    known: 1_024,
    per_identity: 128,
    unread_bytes: 32 << 20,
};
/// How long each step of a connection may take, whatever drops of bytes come meanwhile.
#[derive(Clone, Copy, Debug)]
struct Timeouts {
    /// A client that has not finished its handshake by then is cut off.
    handshake: Duration,
    /// A client that has not sent the next request's header by then, to its last byte, is cut off.
    header: Duration,
    /// A request whose body is not there by then, to its last byte, gets 408.
    body: Duration,
    /// A request that is not answered by then gets 408.
    request: Duration,
    /// A client that has not read its answer by then, to the last byte, and sent no further request is cut off. Longer
    /// than `header`, within which a client that has read it must ask again.
    answer: Duration,
    /// After a stop a kept connection may ask once more by then, and is told with the answer to make another. What is
    /// idle longer is closed: HTTP lets a server do that at any time (RFC 9112 §9.3.1).
    linger: Duration,
}

const TIMEOUTS: Timeouts = Timeouts {
    handshake: Duration::from_secs(5),
    header: Duration::from_secs(30),
    body: Duration::from_secs(20),
    request: Duration::from_secs(60),
    answer: Duration::from_secs(60),
    linger: Duration::from_millis(500),
};
/// Line and header of a request: a search by URL, with room.
pub const MAX_HEADER_BYTES: usize = 32 << 10;
/// Body of a request: the forms of FHIR and of tokens, and most resources. What is longer gets 413, or takes a place.
pub const MAX_BODY_BYTES: usize = 128 << 10;
/// Body of a request that may be long ([`App::long`]) of a client that is known: a Bundle of FHIR with some hundred
/// resources, or a document. What is longer gets 413.
pub const MAX_LONG_BODY_BYTES: usize = 2 << 20;
/// Long bodies in hand at once, of all clients of a listener: what is made of one takes some ten times its bytes, so 80 MiB
/// for all of them. One takes its place when it is said, or found, to be longer than [`MAX_BODY_BYTES`]. Another one waits as
/// long as a body may take, and gets 503 then.
const LONG_BODIES: usize = 4;
/// Of these so many of one client, so that none keeps all others from theirs.
const LONG_BODIES_OF_ONE: usize = 2;
/// Body of a request of a client that is not known: a form with an assertion, with room.
pub const MAX_STRANGERS_BODY_BYTES: usize = 16 << 10;
/// Requests in hand may take this long after a stop.
pub const GRACE: Duration = Duration::from_secs(3);

/// Where the TLS configuration of a new connection comes from, so that rotated certificates take effect.
#[derive(Clone)]
pub struct TlsSource(Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>);

impl TlsSource {
    /// Asks `source` at every connection.
    pub fn new(source: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }
}

impl From<Arc<ServerConfig>> for TlsSource {
    fn from(config: Arc<ServerConfig>) -> Self {
        Self::new(move || config.clone())
    }
}

impl From<Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>> for TlsSource {
    fn from(source: Arc<dyn Fn() -> Arc<ServerConfig> + Send + Sync>) -> Self {
        Self(source)
    }
}

impl fmt::Debug for TlsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsSource(..)")
    }
}

/// Whether a request of a method and a path may bring a long body.
pub type MayBeLong = fn(&Method, &str) -> bool;

/// What is served, and what is said to requests that it does not see.
#[derive(Clone, Debug)]
pub struct App {
    /// The routes.
    pub router: Router,
    /// Nothing but the status when left out.
    pub unread: Option<Unread>,
    /// Whether a request of this method and path may bring a body of up to [`MAX_LONG_BODY_BYTES`].
    pub long: MayBeLong,
}

impl From<Router> for App {
    fn from(router: Router) -> Self {
        Self {
            router,
            unread: None,
            long: |_, _| false,
        }
    }
}

/// Whom the headers of a request show: a client that is known, by its name; none of a stranger.
#[derive(Clone)]
pub struct Clients(Arc<Known>);

type Known = dyn Fn(&HeaderMap) -> Option<Arc<str>> + Send + Sync;

impl Clients {
    /// Asks `known` at every request.
    pub fn new(known: impl Fn(&HeaderMap) -> Option<Arc<str>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(known))
    }
}

impl From<Verifier> for Clients {
    fn from(tokens: Verifier) -> Self {
        Self::new(move |headers| tokens.client(headers))
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clients(..)")
    }
}

/// Serves until `stop`, then finishes the requests in hand within [`GRACE`]. `clients` says who is known by
/// a token; without it every connection is a stranger's.
///
/// # Errors
/// When the listener breaks. Errors of a connection end that connection only.
pub async fn serve(
    listener: TcpListener,
    tls: impl Into<TlsSource>,
    app: impl Into<App>,
    clients: Option<Clients>,
    stop: CancellationToken,
) -> io::Result<()> {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: TIMEOUTS,
        clients,
        long: Arc::new(LongBodies::new(LONG_BODIES, LONG_BODIES_OF_ONE)),
    };
    serve_by(&rules, listener, tls.into(), app.into(), stop).await
}

/// Who is let in, how long a step may take, and by what a client is known.
struct Rules {
    admission: Admission,
    timeouts: Timeouts,
    clients: Option<Clients>,
    /// Places of long bodies.
    long: Arc<LongBodies>,
}

async fn serve_by(
    rules: &Rules,
    listener: TcpListener,
    tls: TlsSource,
    app: App,
    stop: CancellationToken,
) -> io::Result<()> {
    let connections = TaskTracker::new();
    let accepted = rules
        .admission
        .accept(&listener, &stop, |stream, slot| {
            let config = (tls.0)();
            let server = connection::Server {
                app: app.router.clone(),
                unread: app.unread,
                clients: rules.clients.clone(),
                long: (app.long, rules.long.clone()),
                timeouts: rules.timeouts,
                slot: Arc::new(slot),
                stop: stop.clone(),
            };
            connections.spawn(connection::serve(stream, config, server));
        })
        .await;
    // Closed before the wait: nobody is left in the queue of a listener that accepts no more.
    drop(listener);
    accepted?;
    connections.close();
    let _cut_off = timeout(GRACE, connections.wait()).await;
    Ok(())
}

#[cfg(test)]
mod attack;
#[cfg(test)]
mod tests;
