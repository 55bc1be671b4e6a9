//! A connection to the next tier: TCP, TLS 1.3, the check that it is the expected peer, and HTTP/2 on top.
use super::{
    super::{
        HANDSHAKE_TIMEOUT, LinkError, MAX_MESSAGE_BYTES, believe, collect, ended,
        flight::MAX_PARCELS, io::Guarded, peer_place, route,
    },
    Uplink,
    channel::channel,
    opened::{Collecting, Opened},
};
use crate::{
    identity::Peer,
    reason,
    tls::{ReloadingTls, UnexpectedPeer},
    wire::mesh_client::MeshClient,
};
use ed25519_dalek::VerifyingKey;
use rand::RngCore as _;
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::mpsc};
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// A connection that is not made by then is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Times that a sender says where it stands on one connection: once, and once more when its stream begins anew; the
/// others are for a receiver that changed its state meanwhile.
const MAX_HELLOS: usize = 4;

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
