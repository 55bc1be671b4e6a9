//! HTTP/2 over a stream, and the address that is dialled for one.
use super::super::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LinkError, STREAM_WINDOW_BYTES};
use crate::pki::NODE_DNS;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{io, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

/// HTTP/2 over a stream that is connected already; it is not connected again.
pub(super) async fn channel(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Channel, LinkError> {
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

/// Host and port of `https://host:port`.
pub(super) fn host_and_port(url: &str) -> Result<(String, u16), LinkError> {
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
