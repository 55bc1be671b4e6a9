//! HTTPS for one router: TLS handshakes off the accept loop, and a limit on everything that a client can hold.
use axum::{Router, extract::DefaultBodyLimit, extract::Request, http::StatusCode, middleware};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{fmt, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Connections at once, each about 50 KiB of buffers; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 1_024;
/// A client that has not finished its handshake by then is cut off.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client that has not sent the next request's headers by then is cut off.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A request that is not answered by then gets 408.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Body of a request; a router may set its own with [`DefaultBodyLimit`].
pub const MAX_BODY_BYTES: usize = 4 << 20;
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

/// Serves until `stop`, then finishes the requests in hand within [`GRACE`].
///
/// # Errors
/// When the listener breaks. Errors of a connection end that connection only.
pub async fn serve(
    listener: TcpListener,
    tls: impl Into<TlsSource>,
    app: Router,
    stop: CancellationToken,
) -> io::Result<()> {
    let tls = tls.into();
    let app = app
        .layer(middleware::from_fn(in_time))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES));
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = accepted?;
        let (config, app, stop) = ((tls.0)(), app.clone(), stop.clone());
        connections.spawn(async move {
            serve_connection(stream, config, app, stop).await;
            drop(slot);
        });
    }
    connections.close();
    let _cut_off = timeout(GRACE, connections.wait()).await;
    Ok(())
}

/// The next connection, once there is room for it. Running out of file descriptors is waited out.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    /// Pause after an accept that failed for want of resources.
    const PAUSE: Duration = Duration::from_millis(100);
    let slot = slots
        .clone()
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, slot)),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err(error),
            Err(error) => {
                metrics::counter!("medmesh_https_accept_errors_total").increment(1);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    app: Router,
    stop: CancellationToken,
) {
    let _best_effort = stream.set_nodelay(true);
    let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
    let Ok(Ok(stream)) = handshake.await else {
        metrics::counter!("medmesh_https_handshake_errors_total").increment(1);
        return;
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            timeout(GRACE, connection).await.unwrap_or(Ok(()))
        }
    };
    if ended.is_err() {
        metrics::counter!("medmesh_https_connection_errors_total").increment(1);
    }
}

async fn in_time(request: Request, next: middleware::Next) -> axum::response::Response {
    use axum::response::IntoResponse;
    match timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

#[cfg(test)]
mod tests;
