//! A small HTTPS client that trusts the mesh's own authority and gets its token by SMART Backend Services.
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use hyper::{Method, Request, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::net::TcpStream;

/// A client of one mesh.
#[derive(Clone)]
pub struct Https {
    tls: Arc<ClientConfig>,
    /// Where the server of an authority is reached, if not there.
    led: Arc<Mutex<BTreeMap<String, String>>>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: hyper::HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// The status is not 2xx, or the body is not JSON.
    pub fn json(&self) -> Result<Value> {
        let text = String::from_utf8_lossy(&self.body);
        if self.status / 100 != 2 {
            bail!("status {}: {text}", self.status);
        }
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {text}"))
    }
}

impl Https {
    /// A client that trusts the authority in `ca` and nothing else.
    ///
    /// # Errors
    /// The file is not a certificate.
    pub fn new(ca: &Path) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut roots = RootCertStore::empty();
        roots.add(
            CertificateDer::from_pem_file(ca).map_err(|e| anyhow!("{}: {e:?}", ca.display()))?,
        )?;
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (tls, led) = (Arc::new(tls), Arc::default());
        Ok(Self { tls, led })
    }

    /// Reaches the server of an authority elsewhere from now on, by its name all the same: so do all clones of this.
    pub fn lead(&self, authority: &str, to: &str) {
        let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        led.insert(authority.to_owned(), to.to_owned());
    }

    fn led(&self, authority: &str) -> String {
        let led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
        let to = led.get(authority).cloned();
        to.unwrap_or_else(|| authority.to_owned())
    }

    /// `GET`, with a bearer token where given.
    ///
    /// # Errors
    /// No connection or no answer; any status is an answer.
    pub async fn get(&self, url: &str, token: Option<&str>) -> Result<Answer> {
        self.get_with(url, token, &[]).await
    }

    /// The same with further headers.
    ///
    /// # Errors
    /// As [`Https::get`].
    pub async fn get_with(
        &self,
        url: &str,
        token: Option<&str>,
        extra: &[(&str, &str)],
    ) -> Result<Answer> {
        let mut request = Request::builder().method(Method::GET);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        self.send(url, request, String::new()).await
    }

    /// Sum of a metric over the series that have all these labels, such as `reason="expired"`, as a node's `/metrics`
    /// says it now.
    ///
    /// # Errors
    /// The node does not answer.
    pub async fn metric(&self, url: &str, name: &str, labels: &[&str]) -> Result<f64> {
        let answer = self.get(url, None).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Ok(text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// `POST` of a form.
    ///
    /// # Errors
    /// No connection or no answer; any status is an answer.
    pub async fn post_form(&self, url: &str, form: &[(&str, &str)]) -> Result<Answer> {
        let body: Vec<_> = form
            .iter()
            .map(|(k, v)| format!("{k}={}", escape(v)))
            .collect();
        let request = Request::builder()
            .method(Method::POST)
            .header("content-type", "application/x-www-form-urlencoded");
        self.send(url, request, body.join("&")).await
    }

    async fn send(
        &self,
        url: &str,
        request: hyper::http::request::Builder,
        body: String,
    ) -> Result<Answer> {
        let (authority, path) = split(url)?;
        let mut session = self.session(authority).await?;
        session.send(path, request, body).await
    }

    /// A connection that serves several requests, one after another; `authority` is `host:port`.
    ///
    /// # Errors
    /// No connection.
    pub async fn session(&self, authority: &str) -> Result<Session> {
        let tcp = TcpStream::connect(self.led(authority))
            .await
            .with_context(|| authority.to_owned())?;
        tcp.set_nodelay(true)?;
        let host = authority
            .rsplit_once(':')
            .map_or(authority, |(host, _)| host)
            .to_owned();
        let tls = tokio_rustls::TlsConnector::from(self.tls.clone())
            .connect(ServerName::try_from(host)?, tcp)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        tokio::spawn(connection);
        Ok(Session {
            sender,
            authority: authority.to_owned(),
        })
    }

    /// An access token for a client of `mesh.json`.
    ///
    /// # Errors
    /// The key cannot be read, or the server refuses.
    pub async fn token(&self, client: &Value, region: &str) -> Result<String> {
        let url = text(&client["token_url"][region])?;
        let answer = self
            .ask_token(client, url, &assertion(client, url)?)
            .await?;
        Ok(text(&answer.json()?["access_token"])?.to_owned())
    }

    /// Asks at a URL for a token by an assertion.
    ///
    /// # Errors
    /// No connection or no answer; any status is an answer.
    pub async fn ask_token(&self, client: &Value, url: &str, assertion: &str) -> Result<Answer> {
        let form = [
            ("grant_type", "client_credentials"),
            ("scope", text(&client["scope"])?),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
        ];
        self.post_form(url, &form).await
    }
}

/// A connection of an [`Https`] client.
pub struct Session {
    sender: http1::SendRequest<String>,
    authority: String,
}

impl Session {
    /// `GET` of a path, with a bearer token where given.
    ///
    /// # Errors
    /// The connection broke; any status is an answer.
    pub async fn get(&mut self, path: &str, token: Option<&str>) -> Result<Answer> {
        let mut request = Request::builder().method(Method::GET);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(path, request, String::new()).await
    }

    /// `POST` of JSON with a bearer token and further headers.
    ///
    /// # Errors
    /// The connection broke; any status is an answer.
    pub async fn post_json(
        &mut self,
        path: &str,
        token: &str,
        extra: &[(&str, &str)],
        body: String,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(Method::POST)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"));
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        self.send(path, request, body).await
    }

    /// Whether it takes another request.
    pub async fn is_open(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    async fn send(
        &mut self,
        path: &str,
        request: hyper::http::request::Builder,
        body: String,
    ) -> Result<Answer> {
        let request = request
            .uri(path)
            .header("host", &self.authority)
            .header("content-length", body.len())
            .body(body)?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        Ok(Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            body: collect(answer.into_body()).await?,
        })
    }
}

/// Authority and path of a URL.
///
/// # Errors
/// It is not `https://…`.
pub fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url
        .strip_prefix("https://")
        .ok_or_else(|| anyhow!("not https: {url}"))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Ok((authority, if path.is_empty() { "/" } else { path }))
}

/// The signed assertion of SMART Backend Services (client authentication: asymmetric, ES384).
///
/// # Errors
/// The client's key cannot be read.
pub fn assertion(client: &Value, audience: &str) -> Result<String> {
    let now = now_s();
    let claims = json!({
        "iss": client["client_id"], "sub": client["client_id"], "aud": audience,
        "exp": now + 240, "iat": now, "jti": hex::encode(rand::random::<[u8; 16]>()),
    });
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES384);
    header.kid = Some(text(&client["kid"])?.to_owned());
    let pem = std::fs::read(text(&client["key"])?)?;
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&pem)?;
    Ok(jsonwebtoken::encode(&header, &claims, &key)?)
}

fn now_s() -> i64 {
    crate::clock::real_now().0 / 1_000
}

fn text(value: &Value) -> Result<&str> {
    value.as_str().ok_or_else(|| anyhow!("not a text: {value}"))
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

async fn collect(mut body: Incoming) -> Result<Bytes> {
    use hyper::body::Body;
    let mut all = Vec::new();
    while let Some(frame) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all.into())
}
