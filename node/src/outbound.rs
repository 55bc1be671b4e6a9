//! Servers outside the mesh that a node sends something to: a subscriber, a collector. Only what the configuration names
//! is one; redirections are not followed, and of an answer no more is read than was asked for.
use axum::http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{path::Path, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Characters of an endpoint.
const MAX_CHARS: usize = 2_048;

/// A URL in its parts, in one form: two texts that lead to the same place are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// The host in small letters; brackets around an IPv6 address.
    pub host: String,
    /// The port, also where it is the scheme's.
    pub port: u16,
    /// The path and the query.
    pub path_and_query: String,
    path: String,
}

impl Endpoint {
    /// Reads an absolute URL without user, fragment and steps that lead out of its path.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_CHARS || text.contains('#') || text.contains('@') {
            return Err("the endpoint is a short URL without a user and a fragment");
        }
        let uri: Uri = text.parse().map_err(|_| "the endpoint is no URL")?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the endpoint begins with https://"),
        };
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or("the endpoint names a host")?;
        let path = uri.path().to_owned();
        if path.split('/').any(is_step) || has_hidden_step(&path) {
            return Err(
                "the path of the endpoint has no steps such as .. and nothing that hides one",
            );
        }
        Ok(Self {
            is_tls,
            host: host.to_ascii_lowercase().trim_end_matches('.').to_owned(),
            port: uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            path_and_query: uri
                .path_and_query()
                .map_or_else(|| "/".to_owned(), ToString::to_string),
            path,
        })
    }

    /// Whether another URL is this one or below it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let same = (self.is_tls, &self.host, self.port) == (other.is_tls, &other.host, other.port);
        let below = other.path.strip_prefix(&self.path);
        same && below.is_some_and(|rest| {
            rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
        })
    }

    /// The host as it is resolved, and as its certificate names it.
    #[must_use]
    pub fn host_to_resolve(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The name that its certificate must be of; none when no certificate can be.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host_to_resolve().to_owned()).ok()
    }

    /// `Host`: with the port where it is not the scheme's.
    #[must_use]
    pub fn authority(&self) -> String {
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => self.host.clone(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

/// TLS to servers that authorities of a file vouch for.
///
/// # Errors
/// What is wrong with the file.
pub fn connector(ca: &Path) -> Result<TlsConnector, String> {
    let failed = |why: String| format!("{}: {why}", ca.display());
    let pem = std::fs::read(ca).map_err(|error| failed(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|_| failed("is no PEM".to_owned()))?;
        let added = roots.add(certificate);
        added.map_err(|_| failed("holds no authority that can be used".to_owned()))?;
    }
    if roots.is_empty() {
        return Err(failed("holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Posts a body with these headers beside its own. The status of the answer, and what it says, empty when that is longer
/// than `most` bytes; none when there is no whole answer.
pub async fn post<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    (to, headers, body): (&Endpoint, &[(&str, &str)], Bytes),
    most: usize,
) -> Option<(StatusCode, Bytes)> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(&to.path_and_query)
        .header(header::HOST, to.authority())
        .header(header::CONNECTION, "close");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let asking = async {
        let answer = sender.send_request(request).await.ok()?;
        let status = answer.status();
        let said = match most {
            0 => Bytes::new(),
            _ => {
                let body = Limited::new(answer.into_body(), most).collect().await;
                body.map_or_else(|_| Bytes::new(), |body| body.to_bytes())
            }
        };
        Some((status, said))
    };
    tokio::pin!(asking, connection);
    tokio::select! {
        biased;
        answer = &mut asking => answer,
        // The connection may end with the answer already there.
        _ = &mut connection => asking.await,
    }
}

fn is_step(segment: &str) -> bool {
    matches!(segment, "." | "..")
}

/// Dots and slashes that are written in another way.
fn has_hidden_step(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    ["%2e", "%2f", "%5c", "\\", "//"]
        .iter()
        .any(|hidden| path.contains(hidden))
}
