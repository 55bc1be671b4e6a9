//! A small HTTPS client for the nodes of a local mesh: it trusts the mesh's own authority and nothing else.
mod kept;
pub use kept::Kept;

use anyhow::{Context, Result, bail};
use axum::body::{Body, to_bytes};
use http_body_util::BodyExt as _;
use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::WebPkiSupportedAlgorithms,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// One exchange, from connect to the whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer taken: metrics are some 100 KiB.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// A model that is fetched whole: the largest has 100 MB.
const MAX_FILE_BYTES: usize = 128 << 20;
/// The same over a slow line.
const FILE_TIMEOUT: Duration = Duration::from_secs(900);

/// A client of the mesh.
#[derive(Clone)]
pub struct Https {
    tls: TlsConnector,
    /// Whether an address may say `http://`.
    in_the_clear: bool,
}

impl Https {
    /// A client that trusts the authority in a PEM file.
    pub fn new(ca: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let cert = CertificateDer::from_pem_file(ca)
            .map_err(|error| anyhow::anyhow!("{}: {error}", ca.display()))?;
        roots.add(cert)?;
        Ok(Self::trusting(roots))
    }

    fn trusting(roots: RootCertStore) -> Self {
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            tls: TlsConnector::from(Arc::new(config)),
            in_the_clear: false,
        }
    }

    /// A client of one node of this machine: it trusts the certificate in the node's own PEM file and nothing else, so
    /// that it need not know under which name the node is reached.
    pub fn of_node(cert: &Path) -> Result<Self> {
        let cert = CertificateDer::from_pem_file(cert)
            .map_err(|error| anyhow::anyhow!("{}: {error}", cert.display()))?;
        let provider = rustls::crypto::ring::default_provider();
        let pinned = Pinned {
            cert: cert.into_owned(),
            algorithms: provider.signature_verification_algorithms,
        };
        let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned))
            .with_no_client_auth();
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
            in_the_clear: false,
        })
    }

    /// A client of a server that is not ours, which may also be one without TLS, where the address says `http://`. It
    /// trusts the authority in a PEM file; without one, no server with TLS.
    pub fn elsewhere(ca: Option<&Path>) -> Result<Self> {
        let mut client = match ca {
            Some(ca) => Self::new(ca)?,
            None => Self::trusting(RootCertStore::empty()),
        };
        client.in_the_clear = true;
        Ok(client)
    }

    /// Any request with any headers: status and body.
    pub async fn any(
        &self,
        method: &str,
        url: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Result<(u16, String)> {
        let method = Method::from_bytes(method.as_bytes())?;
        self.send(method, url, body.to_owned(), headers).await
    }

    /// `GET url`: status and body.
    pub async fn get(&self, url: &str) -> Result<(u16, String)> {
        self.send(Method::GET, url, String::new(), &[]).await
    }

    /// `GET url` with a bearer token, of a file that may be large and take its time: status and body.
    pub async fn file(&self, url: &str, token: &str) -> Result<(u16, Vec<u8>)> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let begun = timeout(
            TIMEOUT,
            self.begin(Method::GET, url, String::new(), &headers),
        )
        .await;
        let answer = begun.with_context(|| format!("{url}: no answer"))??;
        let status = answer.status().as_u16();
        let body = to_bytes(Body::new(answer.into_body()), MAX_FILE_BYTES);
        let bytes = timeout(FILE_TIMEOUT, body).await;
        let bytes = bytes.with_context(|| format!("{url}: the file does not end"))??;
        Ok((status, bytes.to_vec()))
    }

    /// `GET url` with a bearer token: status and body, which may be no text.
    pub async fn get_with(&self, url: &str, token: &str) -> Result<(u16, Vec<u8>)> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        self.bytes(Method::GET, url, String::new(), &headers).await
    }

    /// `POST url` of a form: status and body.
    pub async fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<(u16, String)> {
        let pairs: Vec<_> = form
            .iter()
            .map(|(key, value)| format!("{key}={}", escape(value)))
            .collect();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        self.send(Method::POST, url, pairs.join("&"), &form).await
    }

    /// `POST url` without a token: status and body.
    pub async fn post(
        &self,
        url: &str,
        body: &str,
        headers: &[(&str, &str)],
    ) -> Result<(u16, String)> {
        self.send(Method::POST, url, body.to_owned(), headers).await
    }

    /// `POST url` of JSON with a bearer token: status and body.
    pub async fn post_json(&self, url: &str, token: &str, json: &str) -> Result<(u16, String)> {
        let extra = [("content-type", "application/json")];
        self.api("POST", url, token, json, &extra).await
    }

    /// A request of `/api/v1` with a bearer token and further headers: status and body.
    pub async fn api(
        &self,
        method: &str,
        url: &str,
        token: &str,
        body: &str,
        extra: &[(&str, &str)],
    ) -> Result<(u16, String)> {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(extra);
        let method = Method::from_bytes(method.as_bytes())?;
        self.send(method, url, body.to_owned(), &headers).await
    }

    /// `GET url` with a bearer token, and hands each line of the answer over with its status as it comes; the status.
    pub async fn lines(
        &self,
        url: &str,
        token: &str,
        mut each: impl FnMut(u16, &str) -> Result<()>,
    ) -> Result<u16> {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let began = self.begin(Method::GET, url, String::new(), &headers);
        let mut answer = timeout(TIMEOUT, began)
            .await
            .with_context(|| format!("{url}: no answer in {} s", TIMEOUT.as_secs()))??;
        let status = answer.status().as_u16();
        let mut rest = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let Ok(data) = frame?.into_data() else {
                continue;
            };
            rest.extend_from_slice(&data);
            if rest.len() > MAX_ANSWER_BYTES {
                bail!("{url}: a line without an end");
            }
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                each(status, String::from_utf8(line)?.trim_end())?;
            }
        }
        each(status, std::str::from_utf8(&rest)?)?;
        Ok(status)
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<(u16, String)> {
        let (status, bytes) = self.bytes(method, url, body, headers).await?;
        Ok((status, String::from_utf8(bytes)?))
    }

    async fn bytes(
        &self,
        method: Method,
        url: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<(u16, Vec<u8>)> {
        timeout(TIMEOUT, self.exchange(method, url, body, headers))
            .await
            .with_context(|| format!("{url}: no answer in {} s", TIMEOUT.as_secs()))?
            .with_context(|| url.to_owned())
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<(u16, Vec<u8>)> {
        let answer = self.begin(method, url, body, headers).await?;
        let status = answer.status().as_u16();
        let bytes = to_bytes(Body::new(answer.into_body()), MAX_ANSWER_BYTES).await?;
        Ok((status, bytes.to_vec()))
    }

    /// Sends a request on a connection of its own: the answer, whose body is still to be read.
    async fn begin(
        &self,
        method: Method,
        url: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>> {
        let (rest, is_clear) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) if self.in_the_clear => (rest, true),
            _ => bail!("not an https address"),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority, is_clear);
        let stream = TcpStream::connect((host, port)).await?;
        let mut sender = if is_clear {
            handshake(stream).await?
        } else {
            let name = ServerName::try_from(host.to_owned())?;
            handshake(self.tls.connect(name, stream).await?).await?
        };
        let mut request = Request::builder()
            .method(method)
            .uri(if path.is_empty() { "/" } else { path })
            .header("host", authority)
            .header("content-length", body.len());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Ok(sender.send_request(request.body(body)?).await?)
    }
}

/// Begins HTTP on a stream.
async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<http1::SendRequest<String>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the exchange: what goes wrong with it shows in the answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// The host of an address, without the brackets of IPv6, and its port or the usual one.
fn host_and_port(authority: &str, is_clear: bool) -> (&str, u16) {
    let usual = if is_clear { 80 } else { 443 };
    let split = authority
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.unwrap_or((authority, usual));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host, port)
}

/// Takes one certificate, and the proof that its key is there.
#[derive(Debug)]
struct Pinned {
    cert: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.cert {
            return Ok(ServerCertVerified::assertion());
        }
        let error = rustls::CertificateError::ApplicationVerificationFailure;
        Err(rustls::Error::InvalidCertificate(error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986 §2.3).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_leave_its_port_out() {
        assert_eq!(host_and_port("a.example", false), ("a.example", 443));
        assert_eq!(host_and_port("a.example", true), ("a.example", 80));
        assert_eq!(host_and_port("[::1]:8443", false), ("::1", 8443));
        assert_eq!(host_and_port("127.0.0.1:5000", true), ("127.0.0.1", 5000));
    }

    #[test]
    fn a_form_value_is_escaped() {
        assert_eq!(
            escape("system/*.rs mesh/devices.r"),
            "system%2F%2A.rs%20mesh%2Fdevices.r"
        );
        assert_eq!(escape("aA0-._~é"), "aA0-._~%C3%A9");
    }
}
