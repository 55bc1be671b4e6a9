//! The floor of blobs: the same bytes in one server-streaming gRPC call over the same TLS, in messages of one chunk, and
//! nothing done with them.
use super::{Authority, EDGE, REGION, rate};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use federation::{blobs::CHUNK_BYTES, tls::ReloadingTls};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{convert::Infallible, time::Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::http::{self, uri::PathAndQuery},
    transport::Endpoint,
};
use tonic_prost::ProstCodec;
use tower::service_fn;

/// The window that the link gives a stream, in bytes.
const WINDOW_BYTES: u32 = 1 << 20;
const METHOD: &str = "/medmesh.bench.Bare/Give";

/// MiB a second.
pub async fn stream(size: u64) -> Result<f64> {
    let authority = Authority::new()?;
    let (us, f1) = (authority.holder(REGION, 1)?, authority.holder(EDGE, 2)?);
    let acceptor = TlsAcceptor::from(us.tls.server_mtls()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(give(listener, acceptor, size));
    let connector = TlsConnector::from(f1.tls.client_mtls(&us.place)?);
    let began = Instant::now();
    let channel = Endpoint::from_static("http://bare")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .connect_with_connector(service_fn(move |_| {
            let connector = connector.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                let tls = connector.connect(ReloadingTls::server_name(), tcp).await?;
                std::io::Result::Ok(TokioIo::new(tls))
            }
        }))
        .await?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.context("the channel")?;
    let codec = ProstCodec::<(), Bytes>::default();
    let path = PathAndQuery::from_static(METHOD);
    let answer = client.server_streaming(Request::new(()), path, codec);
    let mut chunks = answer.await?.into_inner();
    let mut came = 0;
    while let Some(chunk) = chunks.message().await? {
        came += chunk.len() as u64;
    }
    ensure!(came == size, "all of it came");
    let rate = rate(size, began);
    serving.abort();
    Ok(rate)
}

/// Answers the calls of one connection.
async fn give(listener: TcpListener, acceptor: TlsAcceptor, size: u64) -> Result<()> {
    let (tcp, _) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await?;
    let service = service_fn(move |request: http::Request<Incoming>| async move {
        let mut grpc = tonic::server::Grpc::new(ProstCodec::<Bytes, ()>::default());
        let chunks = service_fn(move |_: Request<()>| async move {
            Ok::<_, Status>(Response::new(tokio_stream::iter(chunks(size))))
        });
        Ok::<_, Infallible>(grpc.server_streaming(chunks, request.map(Body::new)).await)
    });
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let served = server.serve_connection(TokioIo::new(tls), TowerToHyperService::new(service));
    served.await.context("the connection")
}

/// So many bytes, a chunk at a time.
fn chunks(size: u64) -> impl Iterator<Item = Result<Bytes, Status>> {
    let chunk = Bytes::from(vec![7; CHUNK_BYTES]);
    (0..size).step_by(CHUNK_BYTES).map(move |at| {
        let left = usize::try_from(size - at).unwrap_or(usize::MAX);
        Ok(chunk.slice(..left.min(CHUNK_BYTES)))
    })
}
