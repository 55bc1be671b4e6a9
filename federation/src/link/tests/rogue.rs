//! Peers that do not keep to the rules: a region whose receipts lie, and a client that dials whom it should not.
use super::super::io::Guarded;
use crate::{
    receipt,
    testbed::{Holder, Testbed, place},
    tls::ReloadingTls,
    wire::{
        Chunk, DeviceRequest, Heard, Hello, Lists, Outcome, Parcel, Receipt, Renewal, Renewed,
        Said, Wanted, Welcome,
        mesh_client::MeshClient,
        mesh_server::{Mesh, MeshServer},
    },
};
use ed25519_dalek::SigningKey;
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

/// Pairs of parcels that a lying region answers in one go.
pub const PAIRS: usize = 4;

/// What is wrong with the receipts.
#[derive(Clone, Copy, PartialEq)]
pub enum Lie {
    Key,
    Digest,
    Receiver,
    Reversed,
    Twice,
}

struct Liar {
    key: SigningKey,
    lie: Lie,
    calls: Arc<AtomicUsize>,
}

impl Liar {
    fn answer(&self, parcel: &Parcel) -> Receipt {
        let mut receipt = Receipt {
            id: parcel.id.clone(),
            priority: parcel.priority,
            seq: parcel.seq,
            digest: parcel.digest.clone(),
            outcome: Outcome::Accepted.into(),
            receiver: super::US.into(),
            stored: 1,
            ..Receipt::default()
        };
        match self.lie {
            Lie::Digest => receipt.digest = vec![0; 32].into(),
            Lie::Receiver => receipt.receiver = "regional/eu/eu".into(),
            Lie::Key => return receipt::sign(receipt, &SigningKey::from_bytes(&[99; 32])),
            Lie::Reversed | Lie::Twice => {}
        }
        receipt::sign(receipt, &self.key)
    }
}

#[tonic::async_trait]
impl Mesh for Liar {
    type DeliverStream = ReceiverStream<Result<Receipt, Status>>;
    type CollectStream = ReceiverStream<Result<Parcel, Status>>;
    type RevocationsStream = ReceiverStream<Result<Lists, Status>>;

    async fn revocations(
        &self,
        _: Request<Streaming<Lists>>,
    ) -> Result<Response<Self::RevocationsStream>, Status> {
        Err(Status::unimplemented("an earlier version"))
    }

    async fn renew(&self, _: Request<Renewal>) -> Result<Response<Renewed>, Status> {
        Err(Status::unimplemented("renew"))
    }

    async fn certify(&self, _: Request<DeviceRequest>) -> Result<Response<Renewed>, Status> {
        Err(Status::unimplemented("certify"))
    }

    async fn meet(&self, _: Request<Hello>) -> Result<Response<Welcome>, Status> {
        Ok(Response::new(Welcome::default()))
    }

    async fn deliver(
        &self,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Self::DeliverStream>, Status> {
        self.calls.fetch_add(1, SeqCst);
        let (answers, receipts) = mpsc::channel(64);
        let me = Self {
            key: self.key.clone(),
            lie: self.lie,
            calls: Arc::clone(&self.calls),
        };
        tokio::spawn(async move {
            let mut parcels = request.into_inner();
            let mut held = Vec::new();
            while let Ok(Some(parcel)) = parcels.message().await {
                held.push(me.answer(&parcel));
                match me.lie {
                    Lie::Reversed if held.len() < 2 => continue,
                    Lie::Reversed => held.reverse(),
                    Lie::Twice => held.push(held[0].clone()),
                    Lie::Key | Lie::Digest | Lie::Receiver => {}
                }
                for receipt in held.drain(..) {
                    let _ = answers.send(Ok(receipt)).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receipts)))
    }

    async fn greet(&self, _: Request<Heard>) -> Result<Response<Said>, Status> {
        Err(Status::unimplemented("greet"))
    }

    async fn fetch(&self, _: Request<Wanted>) -> Result<Response<Chunk>, Status> {
        Err(Status::unimplemented("fetch"))
    }

    async fn put(&self, _: Request<Chunk>) -> Result<Response<Wanted>, Status> {
        Err(Status::unimplemented("put"))
    }

    async fn collect(
        &self,
        _: Request<Streaming<Receipt>>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        Err(Status::unimplemented("collect"))
    }
}

/// A region with a good certificate whose receipts lie; and how often it was called.
pub async fn serve(bed: &Testbed, holder: &Holder, lie: Lie) -> (SocketAddr, impl Fn() -> usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(bed.tls(holder).server_mtls().unwrap());
    let peer = bed.tls(holder).me();
    let calls = Arc::new(AtomicUsize::new(0));
    let liar = Liar {
        key: holder.key.clone(),
        lie,
        calls: Arc::clone(&calls),
    };
    let (ready, incoming) = mpsc::channel::<io::Result<_>>(1);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let never = std::future::pending();
            let _ = ready
                .send(Guarded::new(stream, peer.clone(), never, None))
                .await;
        }
    });
    let serving = Server::builder()
        .add_service(MeshServer::new(liar))
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::spawn(serving);
    (address, move || calls.load(SeqCst))
}

/// Dials as a holder, and does not look at its own rules.
pub async fn dial(
    bed: &Testbed,
    holder: &Holder,
    to: SocketAddr,
    expected: &str,
) -> io::Result<TlsStream<TcpStream>> {
    use tokio::io::AsyncReadExt;
    let config = bed.tls(holder).client_mtls(&place(expected)).unwrap();
    let tcp = TcpStream::connect(to).await?;
    let connector = TlsConnector::from(config);
    let mut stream = connector.connect(ReloadingTls::server_name(), tcp).await?;
    // The server's HTTP/2 preface begins with a frame header; a refused client reads an alert instead.
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    Ok(stream)
}

/// A client that calls whom it should not.
pub async fn client(
    bed: &Testbed,
    holder: &Holder,
    to: SocketAddr,
    expected: &str,
) -> MeshClient<Channel> {
    let config = bed.tls(holder).client_mtls(&place(expected)).unwrap();
    let tcp = TcpStream::connect(to).await.unwrap();
    let connector = TlsConnector::from(config);
    let stream = connector
        .connect(ReloadingTls::server_name(), tcp)
        .await
        .unwrap();
    let mut once = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = once.take().map(TokioIo::new);
        async move { stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let endpoint = Endpoint::from_static("http://node.medmesh.internal");
    MeshClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}
