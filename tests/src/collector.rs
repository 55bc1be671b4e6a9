//! A collector of traces for tests (OTLP over HTTP, in JSON): it takes what comes, refuses what is not of the protocol,
//! and gives back the spans.
use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// The largest request that is taken: more than any batch of spans.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// A running collector; it ends with the runtime.
#[derive(Clone)]
pub struct Collector {
    /// Where it takes traces.
    pub url: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    bodies: Vec<u8>,
    spans: Vec<Span>,
    faults: Vec<String>,
}

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.instance.id`: the place of the node that sent it.
    pub place: String,
    /// 32 digits.
    pub trace: String,
    /// 16 digits.
    pub id: String,
    /// 16 digits, or nothing.
    pub parent: String,
    /// What it is of.
    pub name: String,
    /// From and until when, ns since 1970.
    pub time: (u64, u64),
    /// What else it says.
    pub says: BTreeMap<String, String>,
}

impl Collector {
    /// Begins to listen.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let collector = Self {
            url: format!("http://{}/v1/traces", listener.local_addr()?),
            seen: Arc::default(),
        };
        let taking = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let one = taking.clone();
                tokio::spawn(async move {
                    if let Err(error) = one.take(stream).await {
                        one.seen.lock().faults.push(format!("{error:#}"));
                    }
                });
            }
        });
        Ok(collector)
    }

    /// Every body that came, as it was.
    #[must_use]
    pub fn bodies(&self) -> Vec<u8> {
        self.seen.lock().bodies.clone()
    }

    /// The spans that came.
    ///
    /// # Errors
    /// Something that came is not of the protocol.
    pub fn spans(&self) -> Result<Vec<Span>> {
        let seen = self.seen.lock();
        ensure!(seen.faults.is_empty(), "{:#?}", seen.faults);
        Ok(seen.spans.clone())
    }

    fn keep(&self, body: &[u8], spans: Result<Vec<Span>>) {
        let mut seen = self.seen.lock();
        seen.bodies.extend_from_slice(body);
        seen.bodies.push(b'\n');
        match spans {
            Ok(spans) => seen.spans.extend(spans),
            Err(error) => seen.faults.push(format!("{error:#}")),
        }
    }

    async fn take(&self, mut stream: TcpStream) -> Result<()> {
        let body = read(&mut stream).await?;
        let spans = decode(&body);
        let status = match spans {
            Ok(_) => "200 OK",
            Err(_) => "400 Bad Request",
        };
        self.keep(&body, spans);
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        Ok(stream.write_all(answer.as_bytes()).await?)
    }
}

async fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        let mut some = [0; 16 << 10];
        let count = stream.read(&mut some).await?;
        ensure!(count > 0, "a request that is cut");
        read.extend_from_slice(&some[..count]);
        ensure!(
            read.len() <= MAX_REQUEST_BYTES,
            "a request that is too long"
        );
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
        ensure!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        ensure!(
            head.contains("\r\ncontent-type: application/json"),
            "{head}"
        );
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no length")?.parse()?;
        if read.len() >= end + 4 + length {
            return Ok(read.split_off(end + 4));
        }
    }
}

/// The spans of an `ExportTraceServiceRequest` in OTLP's JSON.
fn decode(body: &[u8]) -> Result<Vec<Span>> {
    let json: Value = serde_json::from_slice(body)?;
    let mut spans = Vec::new();
    for resource in array(&json, "resourceSpans")? {
        let of = attributes(&resource["resource"])?;
        let place = of.get("service.instance.id").context("no instance")?;
        for scope in array(resource, "scopeSpans")? {
            for span in array(scope, "spans")? {
                spans.push(decode_span(place, span).with_context(|| span.to_string())?);
            }
        }
    }
    ensure!(!spans.is_empty(), "a request without spans");
    Ok(spans)
}

fn decode_span(place: &str, span: &Value) -> Result<Span> {
    let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let id = |key: &str, digits| -> Result<String> {
        let id = text(key);
        let lower = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        ensure!(id.len() == digits && id.chars().all(lower), "{key}: {id}");
        Ok(id)
    };
    let time = |key: &str| text(key).parse::<u64>().with_context(|| key.to_owned());
    let parent = match span.get("parentSpanId") {
        None => String::new(),
        Some(_) => id("parentSpanId", 16)?,
    };
    let kind = span["kind"].as_u64().context("kind")?;
    ensure!((1..=5).contains(&kind), "kind {kind}");
    let time = (time("startTimeUnixNano")?, time("endTimeUnixNano")?);
    ensure!(time.0 <= time.1, "it ends before it begins");
    Ok(Span {
        place: place.to_owned(),
        trace: id("traceId", 32)?,
        id: id("spanId", 16)?,
        parent,
        name: text("name"),
        time,
        says: attributes(span)?,
    })
}

fn array<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key].as_array().with_context(|| format!("no {key}"))
}

fn attributes(of: &Value) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for one in array(of, "attributes")? {
        let key = one["key"].as_str().context("a key")?;
        let value = &one["value"];
        let text = value["stringValue"].as_str().or(value["intValue"].as_str());
        found.insert(key.to_owned(), text.context("a value")?.to_owned());
    }
    Ok(found)
}
