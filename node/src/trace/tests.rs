//! Spans: how they follow from each other, what is sampled, and what is dropped.
use super::*;
use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};
use types::Place;

/// The spans of a trace that have ended, of this process.
fn spans_of(trace: TraceId) -> Vec<Span> {
    static SEEN: Mutex<Vec<Span>> = Mutex::new(Vec::new());
    let mut seen = SEEN.lock();
    seen.extend(install(0.0).take(usize::MAX));
    let of = seen.iter().filter(|span| span.context.trace == trace);
    of.cloned().collect()
}

/// A trace that no other test has.
fn fresh() -> Context {
    install(0.0);
    draw()
}

fn span(name: Name) -> Span {
    Span {
        context: Context::new(0xabc, 0xd),
        parent: None,
        name,
        from_ns: 1_700_000_000_000_000_000,
        until_ns: 1_700_000_000_001_000_000,
        failed: false,
        says: Vec::new(),
    }
}

#[test]
fn the_share_that_is_stated_is_sampled_and_nothing_at_none() {
    for (ratio, drawn, sampled) in [
        (0.0, 0.0, false),
        (0.25, 0.249, true),
        (0.25, 0.25, false),
        (1.0, 0.999_999, true),
    ] {
        assert_eq!(is_sampled(ratio, drawn), sampled, "{ratio} {drawn}");
    }
    install(0.0);
    assert!((0..1_000).all(|_| root(Name::ModbusRead).is_none()));
}

#[test]
fn a_hop_goes_on_from_the_one_before_it_and_rubbish_is_passed_to_nobody() {
    let first = fresh();
    let mut passed = first.to_string();
    let hop = step(&mut passed, Name::LinkSend).unwrap();
    let second = Context::parse(&passed).unwrap();
    assert_eq!(second, hop.context());
    assert_eq!(second.trace, first.trace);
    assert_ne!(second.span, first.span);
    hop.end(&[Attribute::Outcome("accepted")]);
    let told = spans_of(first.trace);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].parent, Some(first.span));
    assert_eq!(told[0].context.span, second.span);
    for rubbish in ["", "x", "Canaryname-Quetzalcoatl", "00-0-0-01"] {
        let mut passed = rubbish.to_owned();
        assert!(step(&mut passed, Name::LinkSend).is_none());
        assert_eq!(passed, "");
    }
}

#[test]
fn each_of_several_parcels_has_its_own_span() {
    let (one, two) = (fresh(), fresh());
    let named = [one.to_string(), String::new(), two.to_string()];
    let open = steps(Name::Gate, named.iter());
    assert_eq!(open.len(), 2);
    end_all(open);
    for context in [one, two] {
        let told = spans_of(context.trace);
        assert_eq!(told.len(), 1);
        assert_eq!(
            (told[0].name, told[0].parent),
            (Name::Gate, Some(context.span))
        );
    }
}

#[tokio::test]
async fn the_first_sample_of_a_source_is_traced_and_no_other() {
    let parent = fresh();
    let handing = async {
        let first = of_source(Name::StoreCommit);
        let second = of_source(Name::StoreCommit);
        assert!(second.is_none());
        first.unwrap().end(&[]);
    };
    below(child(parent, Name::ModbusRead), handing).await;
    assert!(
        of_source(Name::StoreCommit).is_none(),
        "outside of a source"
    );
    let told = spans_of(parent.trace);
    let [inner, outer] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (inner.name, outer.name),
        (Name::StoreCommit, Name::ModbusRead)
    );
    assert_eq!(inner.parent, Some(outer.context.span));
    assert_eq!(outer.parent, Some(parent.span));
    assert!(outer.from_ns <= inner.from_ns && inner.until_ns <= outer.until_ns);
}

#[test]
fn what_does_not_fit_into_the_queue_is_dropped_and_the_oldest_stay() {
    let queue = Queue::default();
    (0..MAX_WAITING).for_each(|_| queue.push(span(Name::Gate)));
    queue.push(span(Name::FhirMap));
    let first = queue.take(1);
    assert_eq!(first.len(), 1);
    let rest = queue.take(usize::MAX);
    assert_eq!(rest.len(), MAX_WAITING - 1);
    assert!(rest.iter().all(|span| span.name == Name::Gate));
    assert!(queue.take(1).is_empty());
}

#[test]
fn a_request_of_the_protocol_is_what_its_json_encoding_says() {
    let place: Place = "edge/eu/eu/eu-f1".parse().unwrap();
    let below = Span {
        parent: Some(SpanId::of(0xe)),
        failed: true,
        says: vec![Attribute::Method("GET"), Attribute::Status(500)],
        ..span(Name::Request)
    };
    let body = otlp::request(&place, &[span(Name::LinkSend), below]);
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let text =
        |key: &str, value: &str| serde_json::json!({"key": key, "value": {"stringValue": value}});
    let resource = &json["resourceSpans"][0]["resource"]["attributes"];
    let expected = serde_json::json!([
        text("service.namespace", "medmesh"),
        text("service.name", "edge"),
        text("service.version", version),
        text("service.instance.id", "edge/eu/eu/eu-f1"),
    ]);
    assert_eq!(resource, &expected);
    let spans = &json["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let expected = serde_json::json!([
        {
            "traceId": "00000000000000000000000000000abc",
            "spanId": "000000000000000d",
            "name": "link.send",
            "kind": 4,
            "startTimeUnixNano": "1700000000000000000",
            "endTimeUnixNano": "1700000000001000000",
            "attributes": [],
        },
        {
            "traceId": "00000000000000000000000000000abc",
            "spanId": "000000000000000d",
            "parentSpanId": "000000000000000e",
            "name": "request",
            "kind": 2,
            "startTimeUnixNano": "1700000000000000000",
            "endTimeUnixNano": "1700000000001000000",
            "attributes": [
                text("http.request.method", "GET"),
                {"key": "http.response.status_code", "value": {"intValue": "500"}},
            ],
            "status": {"code": 2},
        },
    ]);
    assert_eq!(spans, &expected);
}

/// What was logged, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn lines_of_the_log_carry_the_ids_of_their_trace_and_the_name_of_their_task() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        // Errors alone are asked for: what carries the ids is as urgent.
        .with_max_level(tracing::Level::ERROR)
        .with_writer(move || writer.clone())
        .finish();
    let context = fresh();
    // Of one dispatcher alone tracing asks that of the thread that comes to a span first, and keeps the answer: a test
    // beside this one has none.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let guard = tracing::subscriber::set_default(subscriber);
    let said = async {
        tracing::error!("within");
        tracing::info!("not asked for");
        Err::<(), _>(io::Error::other("broken"))
    };
    let open = child(context, Name::LinkReceive).unwrap();
    let ended = task("uplink", within(Some(&open), said)).await;
    assert!(ended.is_err());
    drop(guard);
    let text = String::from_utf8(lines.0.lock().clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["span"]["trace_id"], context.trace.to_string());
    assert_eq!(line["span"]["span_id"], open.context().span.to_string());
    let spans = line["spans"].as_array().unwrap();
    assert!(spans.iter().any(|span| span["task"] == "uplink"), "{line}");
    // The task has a trace of its own, whose id is in the line too, and it is told that it failed.
    let own = spans.iter().find(|span| span["of"] == "trace").unwrap();
    let own = Context::parse(&format!(
        "00-{}-{}-01",
        own["trace_id"].as_str().unwrap(),
        own["span_id"].as_str().unwrap()
    ));
    let told = spans_of(own.unwrap().trace);
    assert_eq!(told.len(), 1);
    assert!(told[0].failed);
    assert_eq!(told[0].says, [Attribute::Task("uplink")]);
}

#[tokio::test]
async fn a_task_that_ends_well_is_told_so() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    install(0.0);
    let work = async {
        ENDED.fetch_add(1, Ordering::Relaxed);
        Ok::<_, io::Error>(())
    };
    assert!(task("ends", work).await.is_ok());
    assert_eq!(ENDED.load(Ordering::Relaxed), 1);
}
