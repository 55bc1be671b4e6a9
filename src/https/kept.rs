//! A connection that is kept for many requests: for a file that is put up piece by piece.
use super::{Https, TIMEOUT};
use anyhow::{Context, Result, bail};
use axum::body::{Body, to_bytes};
use http_body_util::Full;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::time::Duration;
use tokio::{net::TcpStream, time::timeout};

/// The largest answer taken, in bytes.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// One exchange: the last piece is answered once a whole file was checked.
const EXCHANGE: Duration = Duration::from_secs(60);

/// A connection to one node.
pub struct Kept {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Https {
    /// Connects to the node of an address.
    pub async fn keep(&self, url: &str) -> Result<Kept> {
        timeout(TIMEOUT, self.connect(url))
            .await
            .with_context(|| format!("{url}: no answer in {} s", TIMEOUT.as_secs()))?
            .with_context(|| url.to_owned())
    }

    async fn connect(&self, url: &str) -> Result<Kept> {
        let Some(rest) = url.strip_prefix("https://") else {
            bail!("not an https address");
        };
        let authority = rest.split('/').next().unwrap_or(rest);
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host);
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the exchange: what goes wrong with it shows in the answer.
        tokio::spawn(connection);
        Ok(Kept {
            sender,
            authority: authority.to_owned(),
        })
    }
}

impl Kept {
    /// `PUT` of bytes with a bearer token: status and body.
    pub async fn put(&mut self, path: &str, token: &str, body: Bytes) -> Result<(u16, Vec<u8>)> {
        let exchange = async {
            self.sender.ready().await?;
            let request = Request::builder()
                .method("PUT")
                .uri(path)
                .header("host", &self.authority)
                .header("authorization", format!("Bearer {token}"))
                .header("content-type", "application/octet-stream")
                .header("content-length", body.len())
                .body(Full::new(body))?;
            let answer = self.sender.send_request(request).await?;
            let status = answer.status().as_u16();
            let bytes = to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await?;
            Ok((status, bytes.to_vec()))
        };
        timeout(EXCHANGE, exchange)
            .await
            .with_context(|| format!("no answer in {} s", EXCHANGE.as_secs()))?
    }
}
