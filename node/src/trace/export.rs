//! Sends spans to the collector that the configuration names (OTLP over HTTP, in JSON): in batches, again when it does
//! not answer, and with no effect on anything else when it never does.
use super::{Queue, install, otlp};
use crate::{
    config::{Problem, file},
    outbound::{self, Endpoint},
    task::{Kind, Tasks},
};
use hyper::{StatusCode, body::Bytes};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, net::IpAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use types::{Jurisdiction, Place};

/// Spans of one request, some 400 bytes each.
const BATCH: usize = 512;
/// Spans are sent this long after the first that waits, so that a request holds several.
const LINGER: Duration = Duration::from_secs(1);
/// A request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Waits before a request is made again; after the last one its spans are dropped.
const RETRIES: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];
/// After a stop other tasks may take this long to end, and what they say is sent.
const FAREWELL: Duration = Duration::from_millis(500);
/// What is sent after a stop has this long to arrive.
const LAST: Duration = Duration::from_secs(1);
/// Of an answer no more is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// Where traces go; nothing is traced when it is left out.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// URL of a collector's OTLP/HTTP traces, such as `https://collector.example:4318/v1/traces`. Without TLS it is
    /// reached at an address of this machine alone.
    pub otlp: String,
    /// The jurisdiction in which the collector keeps what it gets: that of the node.
    pub jurisdiction: Jurisdiction,
    /// The share of samples, and of requests, that is traced: 0 to 1.
    pub ratio: f64,
    /// PEM of the authorities that the collector's certificate may be by; needed for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl TelemetryConfig {
    /// Everything that is wrong with it, for a node of that jurisdiction. The global node is of none, and knows no time at
    /// which anything was measured: its collector may be anywhere, and says where.
    #[must_use]
    pub fn problems(&self, here: impl Into<Option<Jurisdiction>>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut wrong = |key: &str, why: &str| {
            problems.push(Problem::new(format!("telemetry.{key}"), why));
        };
        if here.into().is_some_and(|here| here != self.jurisdiction) {
            wrong(
                "jurisdiction",
                "is another one than the node's: when something was measured stays in it",
            );
        }
        // Not a number is in no range.
        if !(0.0..=1.0).contains(&self.ratio) {
            wrong("ratio", "is 0 to 1");
        }
        match Endpoint::parse(&self.otlp) {
            Err(why) => wrong("otlp", why),
            Ok(url) if url.is_tls && self.ca.is_none() => {
                wrong("ca", "https needs an authority");
            }
            Ok(url) if !url.is_tls && !is_of_this_machine(&url) => {
                wrong(
                    "otlp",
                    "without TLS is an address of this machine, such as 127.0.0.1",
                );
            }
            Ok(_) => {}
        }
        problems.extend(self.ca.iter().filter_map(|ca| file("telemetry.ca", ca)));
        problems
    }
}

fn is_of_this_machine(url: &Endpoint) -> bool {
    let address = url.host_to_resolve().parse::<IpAddr>();
    address.is_ok_and(|address| address.is_loopback())
}

/// Begins to trace, if the configuration says so: before any other task is spawned, since each has a span.
///
/// # Errors
/// What of the configuration cannot be used.
pub fn start(
    config: Option<&TelemetryConfig>,
    here: &Place,
    tasks: &mut Tasks,
) -> Result<(), String> {
    let Some(config) = config else {
        return Ok(());
    };
    let exporter = Exporter {
        collector: Collector::open(config)?,
        here: here.clone(),
        queue: install(config.ratio),
    };
    tasks.spawn("traces", Kind::Background, exporter.run(tasks.stop()));
    Ok(())
}

/// Spans that will never be told.
pub(super) fn dropped(reason: &'static str, count: u64) {
    metrics::counter!("medmesh_spans_dropped_total", "reason" => reason).increment(count);
}

/// Why the collector did not take spans.
#[derive(Debug, PartialEq, Eq)]
enum Untaken {
    /// It may take them later (OTLP §"Retryable response codes"), or cannot be reached now.
    Later,
    /// It never will.
    Refused,
}

struct Collector {
    url: Endpoint,
    tls: Option<TlsConnector>,
}

impl Collector {
    fn open(config: &TelemetryConfig) -> Result<Self, String> {
        let url = Endpoint::parse(&config.otlp)?;
        let tls = match (&config.ca, url.is_tls) {
            (Some(ca), true) => Some(outbound::connector(ca)?),
            (None, true) => return Err("telemetry: https needs an authority".to_owned()),
            (_, false) => None,
        };
        Ok(Self { url, tls })
    }

    /// Sends a request: how many of its spans the collector did not want.
    async fn post(&self, body: Bytes) -> Result<u64, Untaken> {
        let asking = async {
            let to = (self.url.host_to_resolve(), self.url.port);
            let stream = TcpStream::connect(to).await.map_err(|_| Untaken::Later)?;
            let headers = [("content-type", "application/json")];
            let post = (&self.url, &headers[..], body);
            let answered = match &self.tls {
                None => outbound::post(stream, post, MAX_ANSWER_BYTES).await,
                Some(tls) => {
                    let name = self.url.server_name().ok_or(Untaken::Refused)?;
                    let stream = tls.connect(name, stream).await;
                    let stream = stream.map_err(|_| Untaken::Later)?;
                    outbound::post(stream, post, MAX_ANSWER_BYTES).await
                }
            };
            let (status, answer) = answered.ok_or(Untaken::Later)?;
            judge(status, &answer)
        };
        timeout(TIMEOUT, asking)
            .await
            .unwrap_or(Err(Untaken::Later))
    }
}

/// What an answer means (OTLP/HTTP §"Response").
fn judge(status: StatusCode, answer: &[u8]) -> Result<u64, Untaken> {
    /// `ExportTraceServiceResponse`.
    #[derive(Default, Deserialize)]
    struct Answer {
        #[serde(default, rename = "partialSuccess")]
        partial: Option<Partial>,
    }
    #[derive(Deserialize)]
    struct Partial {
        /// A 64-bit number: text in OTLP's JSON, which a reader also takes as a number.
        #[serde(default, rename = "rejectedSpans")]
        rejected: serde_json::Value,
    }
    match status.as_u16() {
        200..=299 => {
            let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
            let rejected = answer.partial.map(|partial| partial.rejected);
            let rejected = rejected.and_then(|said| match said {
                serde_json::Value::String(text) => text.parse().ok(),
                number => number.as_u64(),
            });
            Ok(rejected.unwrap_or(0))
        }
        429 | 502 | 503 | 504 => Err(Untaken::Later),
        _ => Err(Untaken::Refused),
    }
}

struct Exporter {
    collector: Collector,
    here: Place,
    queue: Arc<Queue>,
}

impl Exporter {
    async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.queue.added() => {}
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(LINGER) => {}
            }
            self.send_all(&stop).await;
        }
        tokio::time::sleep(FAREWELL).await;
        if timeout(LAST, self.send_all(&stop)).await.is_err() {
            tracing::warn!("the last spans were not sent: the collector does not answer");
        }
        Ok(())
    }

    /// Sends what waits, batch after batch.
    async fn send_all(&self, stop: &CancellationToken) {
        loop {
            let spans = self.queue.take(BATCH);
            let count = spans.len() as u64;
            if count == 0 {
                return;
            }
            let body = Bytes::from(otlp::request(&self.here, &spans));
            match self.send(body, stop).await {
                Ok(rejected) => {
                    let rejected = rejected.min(count);
                    metrics::counter!("medmesh_spans_exported_total").increment(count - rejected);
                    if rejected > 0 {
                        dropped("refused", rejected);
                    }
                }
                Err(Untaken::Refused) => {
                    tracing::warn!(count, "the collector refuses spans");
                    dropped("refused", count);
                }
                Err(Untaken::Later) => {
                    tracing::warn!(count, "the collector does not take spans: they are dropped");
                    dropped("unreachable", count);
                }
            }
        }
    }

    /// Sends a batch, again while the collector may take it later.
    async fn send(&self, body: Bytes, stop: &CancellationToken) -> Result<u64, Untaken> {
        for wait in RETRIES {
            match self.collector.post(body.clone()).await {
                Err(Untaken::Later) if !stop.is_cancelled() => {}
                done => return done,
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.collector.post(body).await
    }
}

#[cfg(test)]
mod tests;
