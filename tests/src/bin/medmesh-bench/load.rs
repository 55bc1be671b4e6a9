//! The load generator: clients that publish QoS 1 over TLS 1.3 with a window of unacknowledged messages each.
//!
//! The same code, messages and TLS drive every broker. It speaks MQTT 3.1.1, in which an acknowledgement has four
//! bytes, and checks that every acknowledgement is of the oldest message that waits.
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::BytesMut;
use medmesh_tests::clock;
use rumqttc::mqttbytes::{
    QoS,
    v4::{Connect, Publish},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Before the measurement: every client is in full swing.
const WARM_UP: Duration = Duration::from_millis(700);
/// The measurement.
const MEASURED: Duration = Duration::from_secs(4);
/// Longest wait for one more acknowledgement.
const PATIENCE: Duration = Duration::from_secs(20);
/// Packet ids go round below 65,536, which is MQTT's limit.
const PACKET_IDS: u64 = 65_535;
/// Bytes of a PUBACK of MQTT 3.1.1 (§3.4).
const ACK_BYTES: usize = 4;
/// Bytes that one read takes at least.
const READ_BYTES: usize = 16 << 10;

/// A broker under load.
#[derive(Clone)]
pub struct Target {
    /// Where it listens.
    pub at: SocketAddr,
    /// Trust and certificate of each client; as many clients connect.
    pub clients: Vec<(String, Arc<ClientConfig>)>,
    /// Messages of one client that wait for their acknowledgement.
    pub window: u64,
}

/// TLS 1.3 with a client certificate.
pub fn tls(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<ClientConfig>> {
    let read = |path: &Path| {
        CertificateDer::from_pem_file(path).map_err(|e| anyhow!("{}: {e:?}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    roots.add(read(ca)?)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| anyhow!("{}: {e:?}", key.display()))?;
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![read(cert)?], key)?;
    Ok(Arc::new(config))
}

/// Messages acknowledged per second while every client keeps its window full.
pub async fn acknowledged_per_second(target: &Target) -> Result<f64> {
    let (acknowledged, stop) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut clients = JoinSet::new();
    for (id, tls) in &target.clients {
        let client = Client::connect(target.at, id, tls.clone(), target.window).await?;
        clients.spawn(client.publish(acknowledged.clone(), stop.clone()));
    }
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (acknowledged.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(MEASURED).await;
    let count = acknowledged.load(Ordering::Relaxed) - before;
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended??;
    }
    ensure!(count > 0, "nothing was acknowledged");
    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    Ok(count as f64 / took.as_secs_f64())
}

/// One client.
pub struct Client {
    stream: TlsStream<TcpStream>,
    topic: String,
    out: BytesMut,
    input: BytesMut,
    window: u64,
    sent: u64,
    acknowledged: u64,
}

impl Client {
    /// Connects with a clean session.
    pub async fn connect(
        at: SocketAddr,
        id: &str,
        tls: Arc<ClientConfig>,
        window: u64,
    ) -> Result<Self> {
        let tcp = TcpStream::connect(at).await?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut stream = TlsConnector::from(tls).connect(name, tcp).await?;
        let mut connect = Connect::new(id);
        connect.keep_alive = 60;
        connect.clean_session = true;
        let mut bytes = BytesMut::new();
        connect
            .write(&mut bytes)
            .map_err(|e| anyhow!("CONNECT: {e:?}"))?;
        stream.write_all(&bytes).await?;
        stream.flush().await?;
        let mut connack = [0; 4];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut connack))
            .await
            .context("no CONNACK")??;
        ensure!(connack == [0x20, 2, 0, 0], "CONNACK {connack:02x?}");
        Ok(Self {
            stream,
            topic: format!("devices/eu/eu-f1/{id}/telemetry"),
            out: BytesMut::new(),
            input: BytesMut::with_capacity(READ_BYTES),
            window,
            sent: 0,
            acknowledged: 0,
        })
    }

    /// Encodes a message, whose text `make` gives for its number, behind those that wait to be written.
    pub fn queue(&mut self, make: impl FnOnce(u64) -> String) -> Result<()> {
        let seq = self.sent;
        let mut publish = Publish::new(&self.topic, QoS::AtLeastOnce, make(seq));
        publish.pkid = packet_id(seq);
        publish
            .write(&mut self.out)
            .map_err(|e| anyhow!("PUBLISH: {e:?}"))?;
        self.sent += 1;
        Ok(())
    }

    /// Writes what is queued.
    pub async fn flush(&mut self) -> Result<()> {
        if !self.out.is_empty() {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }

    /// Queues and writes one message.
    pub async fn send(&mut self, make: impl FnOnce(u64) -> String) -> Result<()> {
        self.queue(make)?;
        self.flush().await
    }

    /// Waits for acknowledgements; gives how many came. May be dropped at any time.
    pub async fn read(&mut self) -> Result<u64> {
        self.input.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.input).await?;
        ensure!(read > 0, "the broker closed the connection");
        let before = self.acknowledged;
        while self.input.len() >= ACK_BYTES {
            let packet = self.input.split_to(ACK_BYTES);
            let [0x40, 2, high, low] = packet[..] else {
                bail!("not a PUBACK: {packet:02x?}");
            };
            ensure!(
                u16::from_be_bytes([high, low]) == packet_id(self.acknowledged),
                "acknowledged out of order"
            );
            self.acknowledged += 1;
        }
        Ok(self.acknowledged - before)
    }

    /// Messages that are not acknowledged yet.
    pub fn waiting(&self) -> u64 {
        self.sent - self.acknowledged
    }

    /// Waits until everything is acknowledged.
    pub async fn settle(&mut self) -> Result<()> {
        while self.acknowledged < self.sent {
            tokio::time::timeout(PATIENCE, self.read())
                .await
                .context("no acknowledgement")??;
        }
        Ok(())
    }

    /// Publishes until `stop`, then waits for what is not acknowledged yet.
    async fn publish(mut self, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            while self.waiting() < self.window {
                self.queue(message)?;
            }
            self.flush().await?;
            let read = tokio::time::timeout(PATIENCE, self.read())
                .await
                .context("no acknowledgement")??;
            count.fetch_add(read, Ordering::Relaxed);
        }
        self.settle().await
    }
}

fn packet_id(seq: u64) -> u16 {
    u16::try_from(seq % PACKET_IDS + 1).unwrap_or(1)
}

/// When the run began: the time of every reading.
static BEGAN: LazyLock<String> = LazyLock::new(|| clock::real_now().to_rfc3339());

/// What a laboratory analyser would send: one reading of one patient.
fn message(seq: u64) -> String {
    format!(
        r#"{{"epoch":1,"seq":{},"time":"{}","patient":"p-{}","readings":[{{"code":"2951-2","value":{}.{},"unit":"mmol/L"}}]}}"#,
        seq + 1,
        *BEGAN,
        seq % 8,
        100 + seq % 80,
        seq % 10
    )
}
