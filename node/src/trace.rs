//! Traces: what became of one sample on its way from the device to the region's store, as spans that OpenTelemetry
//! knows ([`otlp`]), sent to a collector that the node's configuration names ([`export`]), and to nobody else.
//!
//! A trace is begun where a sample is taken in ([`source`]), for the share of samples that the configuration states, and
//! goes with the parcel: [`step`] ends one hop's hold of it and begins the next. Whatever a span says is a word or a
//! number of this file's closed lists, or random: no id of a patient, a device, a parcel or a reading, and no value. It is
//! told by type: an attribute holds no text that was made while the program runs.
//!
//! Nothing here holds up what it watches: a span goes into a bounded queue ([`Queue`]) or is dropped and counted.
mod context;
pub mod export;
pub mod otlp;

pub use context::{Context, SpanId, TraceId};

use crate::clock::unix_nanos;
use parking_lot::Mutex;
use std::{
    cell::Cell,
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::Instant,
};
use tokio::sync::Notify;
use tracing::Instrument;
use types::Timestamp;

/// Spans that wait for the collector, some 200 bytes each; one more is dropped.
pub const MAX_WAITING: usize = 4_096;

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A sample read from the registers of a device, from the first request on, until it is stored.
    ModbusRead,
    /// A sample that an MQTT client published, until it is stored.
    MqttPublish,
    /// A sample in the facility's store: from its place in the queue to the end of the commit.
    StoreCommit,
    /// A parcel that waits in the outbox, until its receipt is settled.
    Outbox,
    /// A parcel on the link: from its sending to its receipt. Sent again, it has another such span.
    LinkSend,
    /// A parcel at its receiver, until it is answered.
    LinkReceive,
    /// A parcel before the receiver's rules, and its row in the audit log.
    Gate,
    /// The readings of a parcel, made into FHIR resources.
    FhirMap,
    /// FHIR resources on their way into the region's store, until the commit stands.
    FhirCommit,
    /// A request of a client.
    Request,
    /// A task of a node, from its start to its end.
    Task,
}

impl Name {
    /// The name, as the collector is told.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ModbusRead => "modbus.read",
            Self::MqttPublish => "mqtt.publish",
            Self::StoreCommit => "store.commit",
            Self::Outbox => "outbox",
            Self::LinkSend => "link.send",
            Self::LinkReceive => "link.receive",
            Self::Gate => "gate",
            Self::FhirMap => "fhir.map",
            Self::FhirCommit => "fhir.commit",
            Self::Request => "request",
            Self::Task => "task",
        }
    }
}

/// What a span says beside its name and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// How urgent a parcel is.
    Priority(&'static str),
    /// What became of a parcel.
    Outcome(&'static str),
    /// Which task of a node.
    Task(&'static str),
    /// The method of a request.
    Method(&'static str),
    /// The status of its answer.
    Status(u16),
}

/// A span that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Which one it is.
    pub context: Context,
    /// The span that it is below; none for the first of a trace.
    pub parent: Option<SpanId>,
    /// What it is of.
    pub name: Name,
    /// From when, ns since 1970.
    pub from_ns: u64,
    /// Until when, ns since 1970.
    pub until_ns: u64,
    /// Whether it ended in an error.
    pub failed: bool,
    /// What else it says.
    pub says: Vec<Attribute>,
}

/// Spans that have ended and wait to be sent.
#[derive(Debug, Default)]
pub struct Queue {
    spans: Mutex<VecDeque<Span>>,
    added: Notify,
}

impl Queue {
    /// Adds a span, unless [`MAX_WAITING`] wait: then it is dropped and counted.
    pub fn push(&self, span: Span) {
        let mut spans = self.spans.lock();
        if spans.len() >= MAX_WAITING {
            drop(spans);
            export::dropped("full", 1);
            return;
        }
        spans.push_back(span);
        drop(spans);
        self.added.notify_one();
    }

    /// The oldest spans, as many as are there and at most `most`.
    #[must_use]
    pub fn take(&self, most: usize) -> Vec<Span> {
        let mut spans = self.spans.lock();
        let count = spans.len().min(most);
        spans.drain(..count).collect()
    }

    /// Resolves when something was added since the last time.
    async fn added(&self) {
        self.added.notified().await;
    }
}

/// What a process that traces has.
struct Tracer {
    ratio: f64,
    queue: Arc<Queue>,
}

static TRACER: OnceLock<Tracer> = OnceLock::new();

tokio::task_local! {
    /// The span of the source that hands samples to a journal now. The first sample takes it.
    static SOURCE: Cell<Option<Context>>;
}

/// Begins to trace that share of samples and requests (0 to 1), and what comes from traced ones elsewhere. A second call
/// in one process changes nothing. The queue is the process's.
pub fn install(ratio: f64) -> Arc<Queue> {
    let begin = || Tracer {
        ratio,
        queue: Arc::default(),
    };
    TRACER.get_or_init(begin).queue.clone()
}

/// Whether a trace is begun, where a number below 1 was drawn.
fn is_sampled(ratio: f64, drawn: f64) -> bool {
    drawn < ratio
}

/// A span that has not ended. Dropped without an end it leaves nothing.
#[derive(Debug)]
#[must_use = "a span that is not ended is lost"]
pub struct Open {
    context: Context,
    parent: Option<SpanId>,
    name: Name,
    began: Instant,
}

impl Open {
    fn new(context: Context, parent: Option<SpanId>, name: Name) -> Self {
        Self {
            context,
            parent,
            name,
            began: Instant::now(),
        }
    }

    /// Which one it is.
    #[must_use]
    pub const fn context(&self) -> Context {
        self.context
    }

    /// It began then.
    pub const fn since(mut self, began: Instant) -> Self {
        self.began = began;
        self
    }

    /// It ends now.
    pub fn end(self, says: &[Attribute]) {
        self.end_as(false, says);
    }

    /// It ends now, well or in an error.
    pub fn end_as(self, failed: bool, says: &[Attribute]) {
        let until_ns = unix_nanos();
        let took = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        record(Span {
            context: self.context,
            parent: self.parent,
            name: self.name,
            from_ns: until_ns.saturating_sub(took),
            until_ns,
            failed,
            says: says.to_vec(),
        });
    }
}

/// Adds what has ended, if this process traces.
fn record(span: Span) {
    if let Some(tracer) = TRACER.get() {
        tracer.queue.push(span);
    }
}

/// A drawn trace, sampled or not: by its id a request can be found in the logs.
fn draw() -> Context {
    Context::new(rand::random(), rand::random())
}

/// The first span of a new trace, for the share of calls that is traced.
fn root(name: Name) -> Option<Open> {
    let tracer = TRACER.get()?;
    is_sampled(tracer.ratio, rand::random()).then(|| Open::new(draw(), None, name))
}

/// A span below another, if this process traces.
#[must_use]
pub fn child(parent: Context, name: Name) -> Option<Open> {
    TRACER.get()?;
    let context = parent.below(SpanId::of(rand::random()));
    Some(Open::new(context, Some(parent.span), name))
}

/// A span below the one that a `traceparent` names, which names the new one afterwards. Where nothing is traced it names
/// nothing.
#[must_use]
pub fn step(traceparent: &mut String, name: Name) -> Option<Open> {
    if traceparent.is_empty() {
        return None;
    }
    let next = Context::parse(traceparent).and_then(|parent| child(parent, name));
    *traceparent = next
        .as_ref()
        .map_or_else(String::new, |open| open.context.to_string());
    next
}

/// Spans of one name, each below what a `traceparent` names: of what is done for several parcels at once.
#[must_use]
pub fn steps<T: AsRef<str>>(name: Name, traceparents: impl Iterator<Item = T>) -> Vec<Open> {
    if TRACER.get().is_none() {
        return Vec::new();
    }
    let parents = traceparents.filter_map(|text| Context::parse(text.as_ref()));
    parents.filter_map(|parent| child(parent, name)).collect()
}

/// Ends spans alike.
pub fn end_all(spans: impl IntoIterator<Item = Open>) {
    spans.into_iter().for_each(|open| open.end(&[]));
}

/// Does something within a span, if there is one: what is logged meanwhile carries its ids.
pub async fn within<T>(open: Option<&Open>, work: impl Future<Output = T>) -> T {
    match open {
        None => work.await,
        Some(open) => work.instrument(logged("parcel", open.context())).await,
    }
}

/// A span below another, from and until these instants (real time).
pub fn span_between(
    parent: Context,
    name: Name,
    (from, until): (Timestamp, Timestamp),
    says: &[Attribute],
) {
    let ns = |at: Timestamp| u64::try_from(at.0).unwrap_or(0).saturating_mul(1_000_000);
    record(Span {
        context: parent.below(SpanId::of(rand::random())),
        parent: Some(parent.span),
        name,
        from_ns: ns(from),
        until_ns: ns(until).max(ns(from)),
        failed: false,
        says: says.to_vec(),
    });
}

/// Hands samples to a journal, the first of them as that of a new trace, for the share that is traced. `began` is when
/// the source began to get it.
pub async fn source<T>(name: Name, began: Instant, handing: impl Future<Output = T>) -> T {
    below(root(name).map(|open| open.since(began)), handing).await
}

/// Hands samples to a journal within a span, if there is one: the first of them is below it.
pub async fn below<T>(open: Option<Open>, handing: impl Future<Output = T>) -> T {
    let Some(open) = open else {
        return handing.await;
    };
    let traced = Cell::new(Some(open.context()));
    let logged = logged("source", open.context());
    let done = SOURCE.scope(traced, handing).instrument(logged).await;
    open.end(&[]);
    done
}

/// A span below the source's whose sample this is, for the first sample that asks.
#[must_use]
pub fn of_source(name: Name) -> Option<Open> {
    let parent = SOURCE.try_with(Cell::take).ok().flatten()?;
    child(parent, name)
}

/// Runs a task of a node within a span of its own: its lines in the log name it, and its end is told to the collector.
pub async fn task<E>(
    name: &'static str,
    task: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    let open = TRACER.get().map(|_| Open::new(draw(), None, Name::Task));
    let span = tracing::error_span!("task", task = name);
    let ended = match &open {
        None => task.instrument(span).await,
        Some(open) => {
            let within = span.in_scope(|| logged("trace", open.context()));
            task.instrument(within).instrument(span).await
        }
    };
    if let Some(open) = open {
        open.end_as(ended.is_err(), &[Attribute::Task(name)]);
    }
    ended
}

/// A request on its way: its id is in every line of the log that is written for it.
pub(crate) struct Request {
    context: Context,
    open: Option<Open>,
}

impl Request {
    /// A new one, traced for the share that is.
    pub(crate) fn begin() -> Self {
        let open = root(Name::Request);
        let context = open.as_ref().map_or_else(draw, Open::context);
        Self { context, open }
    }

    /// Its id.
    pub(crate) fn id(&self) -> String {
        self.context.trace.to_string()
    }

    /// The span of its lines in the log.
    pub(crate) fn logged(&self) -> tracing::Span {
        logged("request", self.context)
    }

    /// It is answered.
    pub(crate) fn end(self, method: &'static str, status: u16) {
        if let Some(open) = self.open {
            let says = [Attribute::Method(method), Attribute::Status(status)];
            open.end_as(status >= 500, &says);
        }
    }
}

/// A span of the log whose lines carry the ids of a trace. It is as urgent as what it may hold.
#[must_use]
pub fn logged(what: &'static str, context: Context) -> tracing::Span {
    let Context { trace, span } = context;
    tracing::error_span!("trace", of = what, trace_id = %trace, span_id = %span)
}

#[cfg(test)]
mod tests;
