//! A connection to the next tier: TCP, TLS 1.3, the check that it is the expected peer, and HTTP/2 on top.
use super::{
    super::{
        HANDSHAKE_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, LinkError, MAX_MESSAGE_BYTES,
        STREAM_WINDOW_BYTES, believe,
        collect::{self, Collecting},
        flight::MAX_PARCELS,
        io::Guarded,
        peer_place, route,
    },
    Uplink, ended,
};
use crate::{
    identity::Peer,
    pki::NODE_DNS,
    reason,
    tls::{ReloadingTls, UnexpectedPeer},
    wire::{Parcel, Receipt, mesh_client::MeshClient},
};
use ed25519_dalek::VerifyingKey;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rand::RngCore as _;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint, Uri},
};

/// A connection that is not made by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Times that a sender says where it stands on one connection: once, and once more when its stream begins anew; the
/// others are for a receiver that changed its state meanwhile.
const MAX_HELLOS: usize = 4;

/// An open call: parcels go in, receipts come out, signed with a key.
pub(in crate::link) struct Opened {
    pub(in crate::link) parcels: mpsc::Sender<Parcel>,
    pub(in crate::link) receipts: Streaming<Receipt>,
    pub(in crate::link) key: VerifyingKey,
}

impl Uplink {
    pub(super) async fn open(
        &mut self,
    ) -> Result<(Opened, Option<Collecting>, MeshClient<Channel>), LinkError> {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, self.dial()).await;
        let (stream, key) = dialled.map_err(|_| LinkError::Timeout(CONNECT_TIMEOUT))??;
        let channel = channel(stream).await?;
        let mut client = MeshClient::new(channel)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        self.meet(&mut client, &key).await?;
        let collecting = match &self.parts.collect {
            None => None,
            Some(door) => {
                let from = (&self.parts.there, &key);
                collect::begin(door, &mut client, from, HANDSHAKE_TIMEOUT).await?
            }
        };
        let (parcels, outgoing) = mpsc::channel(MAX_PARCELS);
        let call = client.deliver(ReceiverStream::new(outgoing));
        let answered = tokio::time::timeout(HANDSHAKE_TIMEOUT, call).await;
        let receipts = answered
            .map_err(|_| LinkError::Timeout(HANDSHAKE_TIMEOUT))?
            .map_err(ended)?
            .into_inner();
        let opened = Opened {
            parcels,
            receipts,
            key,
        };
        Ok((opened, collecting, client))
    }

    /// Before parcels flow both ends say where they stand ([`crate::meet`]).
    async fn meet(
        &mut self,
        client: &mut MeshClient<Channel>,
        key: &VerifyingKey,
    ) -> Result<(), LinkError> {
        let (outbox, there) = (Arc::clone(&self.parts.outbox), self.parts.there.clone());
        let mut hello = outbox.hello(&there).await?;
        for _ in 0..MAX_HELLOS {
            let answered = tokio::time::timeout(HANDSHAKE_TIMEOUT, client.meet(hello)).await;
            let mut welcome = answered
                .map_err(|_| LinkError::Timeout(HANDSHAKE_TIMEOUT))?
                .map_err(ended)?
                .into_inner();
            believe(&mut welcome.head, &there, key);
            let mut fresh = [0; 16];
            self.parts.rng.fill_bytes(&mut fresh);
            match outbox.resync(&there, &welcome, fresh).await? {
                None => return Ok(()),
                Some(next) => hello = next,
            }
        }
        Err(LinkError::NotMet)
    }

    /// TCP, TLS, and the check that it is the expected peer.
    async fn dial(&self) -> Result<(Guarded<TlsStream<TcpStream>>, VerifyingKey), LinkError> {
        let none = || LinkError::Connect(io::ErrorKind::AddrNotAvailable.into());
        let (host, port) = self.addresses.get(self.next).ok_or_else(none)?;
        let tcp = TcpStream::connect((host.as_str(), *port))
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
}

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
