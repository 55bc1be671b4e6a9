//! The laboratory analyser: an MQTT 5 client that publishes each sample with QoS 1 and offers it again, under the same
//! number, until it is acknowledged, across any number of connections.
//!
//! At most [`WINDOW`] samples wait for their acknowledgement; beyond that emission is held back. A sample that the
//! broker says it will never take (payload format invalid) is counted and given up; every other refusal is retried.
use super::{
    SimError,
    clock::SimClock,
    config::{SimConfig, SimDevice},
    fault::{Fault, Faults},
    obey::Obedient,
    sample::{Feed, LabSample},
    sent::{Emitted, Line, SentLog},
};
use parking_lot::Mutex;
use rumqttc::{
    Outgoing, TlsConfiguration, Transport,
    v5::{
        AsyncClient, Event, EventLoop, Incoming, MqttOptions,
        mqttbytes::{QoS, v5::PubAckReason},
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::Serialize;
use serde_json::value::RawValue;
use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;
use types::{Code, Decimal, DeviceId, DeviceKind, Timestamp, Value};

/// Samples that wait for their acknowledgement at most.
const WINDOW: usize = 64;
/// The first and the longest pause before another connection, real time.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Keep-alive of the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How often a silent analyser looks whether it may speak again.
const SILENT: Duration = Duration::from_millis(25);

/// What it takes to reach the broker.
pub(super) struct Link {
    device: DeviceId,
    topic: String,
    /// Where commands come, and where they are answered.
    commands: [String; 2],
    options: MqttOptions,
}

impl Link {
    pub(super) fn new(config: &SimConfig, device: &SimDevice) -> Result<Self, SimError> {
        let (Some(cert), Some(key)) = (&device.cert, &device.key) else {
            return Err(SimError::Config(format!(
                "device {}: needs `cert` and `key`",
                device.id
            )));
        };
        let host = config.mqtt.ip().to_string();
        let mut options = MqttOptions::new(device.id.as_str(), host, config.mqtt.port());
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_start(true);
        options.set_transport(Transport::Tls(TlsConfiguration::Rustls(tls(
            &config.ca, cert, key,
        )?)));
        let own = |name: &str| {
            let (region, facility) = (&config.region, &config.facility);
            format!("devices/{region}/{facility}/{}/{name}", device.id)
        };
        Ok(Self {
            topic: own("telemetry"),
            commands: [own("command"), own("command/result")],
            device: device.id.clone(),
            options,
        })
    }
}

/// TLS 1.3 with the device's certificate, trusting the mesh's authority only.
fn tls(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<rustls::ClientConfig>, SimError> {
    let data = |path: &Path, problem: String| SimError::Data {
        path: path.into(),
        problem,
    };
    let certificates = |path: &Path| {
        let found =
            CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        found.map_err(|error| data(path, error.to_string()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for authority in certificates(ca)? {
        roots
            .add(authority)
            .map_err(|error| data(ca, error.to_string()))?;
    }
    let chain = certificates(cert)?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| data(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| {
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, private)
        });
    config
        .map(Arc::new)
        .map_err(|error| data(cert, error.to_string()))
}

/// A sample that waits for its acknowledgement.
struct Waiting {
    number: u64,
    payload: Vec<u8>,
    sent: bool,
}

/// The samples between emission and acknowledgement, in order.
#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Waiting>>,
    /// Answers to commands. One that is lost is given again when the command comes again.
    answers: Mutex<VecDeque<Vec<u8>>>,
    /// Told when a sample was added.
    added: Notify,
    /// Told when a sample was settled.
    settled: Notify,
}

impl Queue {
    async fn push(&self, number: u64, payload: Vec<u8>) {
        while self.waiting.lock().len() >= WINDOW {
            self.settled.notified().await;
        }
        self.waiting.lock().push_back(Waiting {
            number,
            payload,
            sent: false,
        });
        self.added.notify_one();
    }

    fn settle(&self, number: u64) {
        self.waiting.lock().retain(|sample| sample.number != number);
        self.settled.notify_one();
    }

    /// The next sample that this connection has not sent.
    fn next(&self) -> Option<(u64, Vec<u8>)> {
        let mut waiting = self.waiting.lock();
        let sample = waiting.iter_mut().find(|sample| !sample.sent)?;
        sample.sent = true;
        Some((sample.number, sample.payload.clone()))
    }

    /// Answers a command, before further samples.
    fn answer(&self, answer: Vec<u8>) {
        let mut answers = self.answers.lock();
        if answers.len() >= WINDOW {
            answers.pop_front();
        }
        answers.push_back(answer);
        drop(answers);
        self.added.notify_one();
    }

    /// A new connection sends everything again.
    fn rewind(&self) {
        self.waiting
            .lock()
            .iter_mut()
            .for_each(|sample| sample.sent = false);
    }

    async fn drained(&self) {
        while !self.waiting.lock().is_empty() {
            self.settled.notified().await;
        }
    }
}

/// Emits an analyser's samples; ends when the last one has been acknowledged.
pub(super) async fn run(
    (link, obedient): (Link, Option<Arc<Obedient>>),
    feed: Feed<LabSample>,
    sent: Arc<SentLog>,
    clock: SimClock,
    faults: Faults,
) -> Result<(), SimError> {
    let queue = Queue::default();
    let obedient = obedient.as_deref();
    let again = obedient.and_then(|obedient| obedient.resume(SimClock::real()));
    again.into_iter().for_each(|answer| queue.answer(answer));
    let interval_ms = || obedient.map_or(0, Obedient::interval_ms);
    tokio::select! {
        emitted = emit(&link.device, (feed, interval_ms), &sent, clock, &queue) => emitted,
        never = connect(&link, obedient, &queue, &faults) => match never {},
    }
}

async fn emit(
    device: &DeviceId,
    (feed, interval_ms): (Feed<LabSample>, impl Fn() -> i64),
    sent: &SentLog,
    clock: SimClock,
    queue: &Queue,
) -> Result<(), SimError> {
    let mut earlier = sent.earlier(device);
    let mut number = 0;
    // One more than wait: the newest one may have been logged while it waited for room.
    for lines in earlier.last(WINDOW + 1) {
        number += 1;
        queue.push(number, again(&lines)?).await;
    }
    let skip = if feed.replay { earlier.samples } else { 0 };
    let (replay, samples) = (feed.replay, feed.samples);
    let samples = samples.skip(usize::try_from(skip).unwrap_or(usize::MAX));
    let (mut seq, mut last): (u64, Option<Timestamp>) = (0, None);
    for sample in samples {
        clock.reached(sample.time).await;
        // A replay is of what was measured once; what is simulated is measured as often as the analyser is told.
        if !replay && last.is_some_and(|last| sample.time.since(last) < interval_ms()) {
            continue;
        }
        last = Some(sample.time);
        seq += 1;
        number += 1;
        let readings: Vec<(Code, Value)> = sample
            .readings
            .into_iter()
            .map(|(code, decimal)| (code, Value::Quantity(decimal)))
            .collect();
        let emitted = Emitted {
            device,
            kind: DeviceKind::LabAnalyser,
            seq,
            time: sample.time,
            patient: sample.patient.as_deref(),
            readings: &readings,
        };
        sent.append(&emitted)?;
        let message = Message {
            epoch: sent.epoch(),
            seq,
            time: &sample.time.to_rfc3339(),
            patient: emitted.patient,
            readings: readings
                .iter()
                .map(|(code, value)| Entry::new(*code, code.info().unit, value))
                .collect::<Result<_, _>>()?,
        };
        queue.push(number, message.encode()?).await;
    }
    queue.drained().await;
    Ok(())
}

#[derive(Serialize)]
struct Message<'a> {
    epoch: u32,
    seq: u64,
    time: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<&'a str>,
    readings: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: Code,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn new(code: Code, unit: &'a str, value: &Value) -> Result<Self, SimError> {
        let (value, absent) = match value {
            Value::Quantity(decimal) => (Some(number(decimal)?), None),
            Value::Absent(reason) => (None, Some(reason.as_str())),
        };
        Ok(Self {
            code,
            unit,
            value,
            absent,
        })
    }
}

/// The JSON number; text with an exponent goes as a string, as JSON parsers rewrite exponents.
fn number(decimal: &Decimal) -> Result<Box<RawValue>, SimError> {
    let text = decimal.as_str();
    let json = if text.contains(['e', 'E']) {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    };
    RawValue::from_string(json).map_err(|error| SimError::Config(error.to_string()))
}

impl Message<'_> {
    fn encode(&self) -> Result<Vec<u8>, SimError> {
        serde_json::to_vec(self).map_err(|error| SimError::Config(error.to_string()))
    }
}

/// The message of a sample that an earlier run emitted, under its old number.
fn again(lines: &[Line]) -> Result<Vec<u8>, SimError> {
    let bad = || {
        SimError::Config("sent.ndjson holds a line of an analyser that no analyser emits".into())
    };
    let first = lines.first().ok_or_else(bad)?;
    let entry = |line: &'_ Line| {
        let text = line.value.as_deref().ok_or_else(bad)?;
        let value = Value::Quantity(text.parse().map_err(|_| bad())?);
        Entry::new(line.code, line.code.info().unit, &value)
    };
    let message = Message {
        epoch: first.epoch,
        seq: first.seq,
        time: &first.time,
        patient: first.patient.as_deref(),
        readings: lines.iter().map(entry).collect::<Result<_, _>>()?,
    };
    message.encode()
}

/// Connects again and again; each connection sends everything that waits.
async fn connect(
    link: &Link,
    obedient: Option<&Obedient>,
    queue: &Queue,
    faults: &Faults,
) -> std::convert::Infallible {
    let mut pause = RECONNECT.0;
    loop {
        while faults.of(&link.device) == Fault::Silent {
            tokio::time::sleep(SILENT).await;
        }
        queue.rewind();
        let (client, events) = AsyncClient::new(link.options.clone(), WINDOW + 1);
        let order = Mutex::new(VecDeque::new());
        if obedient.is_some() {
            let [commands, _] = &link.commands;
            // The queue of a new client has room; what fails shows in the connection.
            let _queued = client.subscribe(commands, QoS::AtLeastOnce).await;
        }
        let progress = tokio::select! {
            progress = receive(events, (queue, obedient), &order) => progress,
            () = send(&client, link, queue, &order) => false,
            () = silenced(link, faults) => true,
        };
        pause = if progress {
            RECONNECT.0
        } else {
            (pause * 2).min(RECONNECT.1)
        };
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
    }
}

async fn silenced(link: &Link, faults: &Faults) {
    while faults.of(&link.device) != Fault::Silent {
        tokio::time::sleep(SILENT).await;
    }
}

/// Hands what waits to the connection. `order` says which sample the next packet id belongs to; none: it is an answer's.
async fn send(
    client: &AsyncClient,
    link: &Link,
    queue: &Queue,
    order: &Mutex<VecDeque<Option<u64>>>,
) {
    let [_, results] = &link.commands;
    loop {
        loop {
            let answer = queue.answers.lock().pop_front();
            let next = match answer {
                Some(answer) => Some((results, None, answer)),
                None => queue
                    .next()
                    .map(|(number, payload)| (&link.topic, Some(number), payload)),
            };
            let Some((topic, number, payload)) = next else {
                break;
            };
            order.lock().push_back(number);
            let sent = client.publish(topic, QoS::AtLeastOnce, false, payload);
            if sent.await.is_err() {
                return;
            }
        }
        queue.added.notified().await;
    }
}

/// Drives the connection until it breaks; says whether anything was acknowledged on it.
async fn receive(
    mut events: EventLoop,
    (queue, obedient): (&Queue, Option<&Obedient>),
    order: &Mutex<VecDeque<Option<u64>>>,
) -> bool {
    let mut in_flight = HashMap::new();
    let mut progress = false;
    loop {
        match events.poll().await {
            Ok(Event::Outgoing(Outgoing::Publish(id))) => {
                if let Some(Some(number)) = order.lock().pop_front() {
                    in_flight.insert(id, number);
                }
            }
            Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                let Some(number) = in_flight.remove(&ack.pkid) else {
                    continue;
                };
                match ack.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {}
                    PubAckReason::PayloadFormatInvalid => {
                        tracing::error!("the broker will never take a sample of the analyser");
                    }
                    _ => return progress,
                }
                progress = true;
                queue.settle(number);
            }
            Ok(Event::Incoming(Incoming::Publish(message))) => {
                let Some(obedient) = obedient else {
                    continue;
                };
                let (answer, restarts) = obedient.take(&message.payload, SimClock::real());
                answer.into_iter().for_each(|answer| queue.answer(answer));
                progress = true;
                if restarts {
                    // It comes back, says what it did, and is asked again if nobody heard it.
                    let again = obedient.resume(SimClock::real());
                    again.into_iter().for_each(|answer| queue.answer(answer));
                    return progress;
                }
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "connection to the broker lost");
                return progress;
            }
        }
    }
}
