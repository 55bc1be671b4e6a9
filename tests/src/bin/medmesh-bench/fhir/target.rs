//! A FHIR server that is asked: the region of a mesh, or another one by its URL.
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::{Method, Request, body::Body, client::conn::http1};
use hyper_util::rt::TokioIo;
use medmesh_tests::{https, mesh::Mesh};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::Value;
use std::{
    future::poll_fn,
    path::Path,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

/// The longest that a region may take to make the AuditEvents of a benchmark.
const LONGEST: Duration = Duration::from_secs(900);

/// Between two looks for that.
const BETWEEN: Duration = Duration::from_secs(1);

/// What is asked: a path below the base, and a resource.
#[derive(Clone)]
pub struct Asked {
    path: String,
    body: Option<String>,
    /// `Prefer: respond-async`.
    is_kickoff: bool,
}

impl Asked {
    /// A read or a search.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            body: None,
            is_kickoff: false,
        }
    }

    /// A resource that is sent.
    pub fn post(path: impl Into<String>, body: String) -> Self {
        Self {
            path: path.into(),
            body: Some(body),
            is_kickoff: false,
        }
    }

    /// The same, of what is done meanwhile.
    pub fn without_waiting(self) -> Self {
        Self {
            is_kickoff: true,
            ..self
        }
    }
}

/// An answer.
pub struct Told {
    pub status: u16,
    pub location: String,
    pub body: Vec<u8>,
}

impl Told {
    /// The first of what it says.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .take(400)
            .collect()
    }
}

/// How a server is reached.
#[derive(Clone)]
pub struct Way {
    pub authority: String,
    pub base: String,
    pub tls: Option<Arc<ClientConfig>>,
    pub token: Option<String>,
}

/// A server.
pub struct Target {
    pub name: String,
    pub is_peer: bool,
    /// `Patient/id`: of whom Conditions are.
    pub patient: String,
    pub way: Way,
    /// Where tokens come from: the client, and the mesh that knows it.
    client: Option<(https::Https, Value, String)>,
}

impl Target {
    /// The region of a mesh.
    pub async fn of_mesh(mesh: &Mesh, region: &str) -> Result<Self> {
        let json = mesh.json()?;
        let url = json["regions"][region]["fhir"].as_str().context("fhir")?;
        let (authority, base) = https::split(url)?;
        let found = mesh.search(region, "Patient?_count=1").await?;
        let patient = found.first().and_then(|one| one["id"].as_str());
        let ca = json["ca"].as_str().context("ca")?;
        Ok(Self {
            name: "region".into(),
            is_peer: false,
            patient: format!("Patient/{}", patient.context("the region has no patient")?),
            way: Way {
                authority: authority.to_owned(),
                base: base.to_owned(),
                tls: Some(trusting(Path::new(ca))?),
                token: None,
            },
            client: Some((
                mesh.https.clone(),
                json["clients"]["fhir-writer"].clone(),
                region.to_owned(),
            )),
        })
    }

    /// Another server, without TLS and without tokens.
    pub async fn of_peer(name: &str, url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://");
        let rest = rest.with_context(|| format!("--fhir-peer {name}: http://… is expected"))?;
        let rest = rest.trim_end_matches('/');
        let (authority, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let mut target = Self {
            name: name.to_owned(),
            is_peer: true,
            patient: String::new(),
            way: Way {
                authority: authority.to_owned(),
                base: base.to_owned(),
                tls: None,
                token: None,
            },
            client: None,
        };
        let patient = "{\"resourceType\":\"Patient\",\"gender\":\"female\"}".to_owned();
        let told = target
            .line()
            .await?
            .ask(&Asked::post("/Patient", patient))
            .await?;
        ensure!(
            told.status == 201,
            "{name}: a Patient is answered {}: {}",
            told.status,
            told.text()
        );
        let made: Value = serde_json::from_slice(&told.body).unwrap_or_default();
        let of_location = || told.location.split("/Patient/").nth(1)?.split('/').next();
        let id = made["id"].as_str().or_else(of_location);
        target.patient = format!("Patient/{}", id.context("a Patient without an id")?);
        Ok(target)
    }

    /// Something that answers whatever it is asked.
    pub fn of_echo(way: Way) -> Self {
        Self {
            name: "echo".into(),
            is_peer: true,
            patient: String::new(),
            way,
            client: None,
        }
    }

    /// Another token: one lives for minutes.
    pub async fn renew(&mut self) -> Result<()> {
        if let Some((https, client, region)) = &self.client {
            self.way.token = Some(https.token(client, region).await?);
        }
        Ok(())
    }

    /// A connection.
    pub async fn line(&self) -> Result<Line> {
        Line::open(self.way.clone()).await
    }

    /// Waits until the region has made the AuditEvents of what was asked so far: what is timed next is not beside that work.
    pub async fn settle(&mut self) -> Result<()> {
        let began = Instant::now();
        while !self.is_peer {
            self.renew().await?;
            let told = self
                .line()
                .await?
                .ask(&Asked::get("/AuditEvent?_count=1"))
                .await?;
            if told.status == 200 {
                break;
            }
            ensure!(
                told.status != 403 && began.elapsed() < LONGEST,
                "AuditEvents are answered {}: {}",
                told.status,
                told.text()
            );
            tokio::time::sleep(BETWEEN).await;
        }
        Ok(())
    }

    /// Asks so much by so many clients; the answers, in no order.
    pub async fn each(
        &self,
        clients: usize,
        count: usize,
        asked: impl Fn(usize) -> Asked + Send + Sync + 'static,
    ) -> Result<Vec<Told>> {
        let (next, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(asked));
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let mut line = self.line().await?;
            let (next, asked) = (Arc::clone(&next), Arc::clone(&asked));
            tasks.spawn(async move {
                let mut told = Vec::new();
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return anyhow::Ok(told);
                    }
                    told.push(line.ask(&asked(at)).await?);
                }
            });
        }
        let mut all = Vec::with_capacity(count);
        while let Some(told) = tasks.join_next().await {
            all.extend(told??);
        }
        Ok(all)
    }
}

fn trusting(ca: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::from_pem_file(ca);
    roots.add(read.map_err(|error| anyhow::anyhow!("{}: {error:?}", ca.display()))?)?;
    Ok(Arc::new(
        ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    ))
}

/// One connection.
pub struct Line {
    sender: http1::SendRequest<String>,
    way: Way,
}

impl Line {
    async fn open(way: Way) -> Result<Self> {
        let tcp = TcpStream::connect(&way.authority)
            .await
            .with_context(|| way.authority.clone())?;
        tcp.set_nodelay(true)?;
        let sender = match &way.tls {
            None => {
                let (sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
                tokio::spawn(connection);
                sender
            }
            Some(tls) => {
                let host = way
                    .authority
                    .rsplit_once(':')
                    .map_or(way.authority.as_str(), |(host, _)| host);
                let name = ServerName::try_from(host.to_owned())?;
                let tls = TlsConnector::from(Arc::clone(tls))
                    .connect(name, tcp)
                    .await?;
                let (sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        Ok(Self { sender, way })
    }

    /// Asks once.
    pub async fn ask(&mut self, asked: &Asked) -> Result<Told> {
        let method = if asked.body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        let body = asked.body.clone().unwrap_or_default();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.way.base, asked.path))
            .header("host", &self.way.authority)
            .header("accept", "application/fhir+json")
            .header("content-length", body.len());
        if asked.body.is_some() {
            request = request.header("content-type", "application/fhir+json");
        }
        if asked.is_kickoff {
            request = request.header("prefer", "respond-async");
        }
        if let Some(token) = &self.way.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(body)?).await?;
        let location = answer
            .headers()
            .get("location")
            .or_else(|| answer.headers().get("content-location"))
            .and_then(|value| value.to_str().ok());
        let (status, location) = (
            answer.status().as_u16(),
            location.unwrap_or_default().to_owned(),
        );
        Ok(Told {
            status,
            location,
            body: whole(answer.into_body()).await?,
        })
    }
}

async fn whole(mut body: hyper::body::Incoming) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let data: Option<Bytes> = frame?.into_data().ok();
        all.extend_from_slice(&data.unwrap_or_default());
    }
    Ok(all)
}
