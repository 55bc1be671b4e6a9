//! What is sent to a collector, and what becomes of it when the collector does not want it.
use super::*;
use crate::trace::{Context, Name, Span};
use std::path::Path;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

fn config(otlp: &str) -> TelemetryConfig {
    TelemetryConfig {
        otlp: otlp.to_owned(),
        jurisdiction: Jurisdiction::Eu,
        ratio: 0.5,
        ca: None,
    }
}

fn keys(config: &TelemetryConfig) -> Vec<String> {
    let problems = config.problems(Jurisdiction::Eu).into_iter();
    problems.map(|problem| problem.path).collect()
}

#[test]
fn what_would_leave_the_jurisdiction_or_go_in_the_clear_is_refused() {
    let local = "http://127.0.0.1:4318/v1/traces";
    assert!(keys(&config(local)).is_empty());
    assert!(keys(&config("http://[::1]:4318/v1/traces")).is_empty());
    for (otlp, key) in [
        ("http://collector.example:4318/v1/traces", "telemetry.otlp"),
        ("http://localhost.example/v1/traces", "telemetry.otlp"),
        ("http://10.0.0.1:4318/v1/traces", "telemetry.otlp"),
        ("https://collector.example:4318/v1/traces", "telemetry.ca"),
        ("collector.example:4318", "telemetry.otlp"),
        (
            "http://me:secret@127.0.0.1:4318/v1/traces",
            "telemetry.otlp",
        ),
    ] {
        assert_eq!(keys(&config(otlp)), [key], "{otlp}");
    }
    let abroad = config(local).problems(Jurisdiction::Us);
    assert_eq!(abroad.len(), 1);
    assert_eq!(abroad[0].path, "telemetry.jurisdiction");
    for ratio in [-0.1, 1.1, f64::NAN] {
        let config = TelemetryConfig {
            ratio,
            ..config(local)
        };
        assert_eq!(keys(&config), ["telemetry.ratio"], "{ratio}");
    }
    let missing = TelemetryConfig {
        ca: Some(Path::new("/nowhere/ca.pem").to_owned()),
        ..config("https://collector.example/v1/traces")
    };
    assert_eq!(keys(&missing), ["telemetry.ca"]);
}

#[test]
fn an_answer_says_what_was_taken_and_whether_to_come_again() {
    let (ok, full) = (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(judge(ok, b""), Ok(0));
    assert_eq!(judge(ok, b"{}"), Ok(0));
    assert_eq!(judge(ok, b"no json"), Ok(0));
    for answer in [
        &br#"{"partialSuccess": {"rejectedSpans": "3", "errorMessage": "x"}}"#[..],
        br#"{"partialSuccess": {"rejectedSpans": 3}}"#,
    ] {
        assert_eq!(judge(ok, answer), Ok(3));
    }
    assert_eq!(judge(full, b""), Err(Untaken::Later));
    assert_eq!(
        judge(StatusCode::TOO_MANY_REQUESTS, b""),
        Err(Untaken::Later)
    );
    assert_eq!(judge(StatusCode::BAD_REQUEST, b""), Err(Untaken::Refused));
}

fn span(number: u64) -> Span {
    Span {
        context: Context::new(9, number),
        parent: None,
        name: Name::Gate,
        from_ns: 1,
        until_ns: 2,
        failed: false,
        says: Vec::new(),
    }
}

/// Answers requests with these statuses, one connection each: the bodies that came.
async fn collect(listener: TcpListener, statuses: &[&str]) -> Vec<serde_json::Value> {
    let mut bodies = Vec::new();
    for status in statuses {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        let body = loop {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).await.unwrap();
            assert_ne!(count, 0, "a request that is cut");
            read.extend_from_slice(&some[..count]);
            let text = String::from_utf8_lossy(&read);
            let Some((head, body)) = text.split_once("\r\n\r\n") else {
                continue;
            };
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let head = head.to_ascii_lowercase();
            assert!(
                head.contains("\r\ncontent-type: application/json"),
                "{head}"
            );
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() == length {
                break body.to_owned();
            }
        };
        bodies.push(serde_json::from_str(&body).unwrap());
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    bodies
}

fn ids(body: &serde_json::Value) -> Vec<String> {
    let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
    let spans = spans.as_array().unwrap().iter();
    spans
        .map(|span| {
            span["spanId"]
                .as_str()
                .unwrap()
                .trim_start_matches('0')
                .to_owned()
        })
        .collect()
}

async fn exporter() -> (Exporter, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let exporter = Exporter {
        collector: Collector::open(&config(&url)).unwrap(),
        here: "regional/eu/eu".parse().unwrap(),
        queue: Arc::default(),
    };
    (exporter, listener)
}

#[tokio::test]
async fn spans_arrive_once_and_come_again_when_the_collector_is_busy() {
    let (exporter, listener) = exporter().await;
    exporter.queue.push(span(1));
    exporter.queue.push(span(2));
    let (queue, stop) = (exporter.queue.clone(), CancellationToken::new());
    let running = exporter.run(stop.clone());
    let collecting = async {
        let first = collect(listener, &["503 Service Unavailable", "200 OK"]).await;
        stop.cancel();
        first
    };
    let (ended, bodies) = tokio::join!(running, collecting);
    assert!(ended.is_ok());
    assert_eq!(
        bodies.iter().map(ids).collect::<Vec<_>>(),
        [["1", "2"], ["1", "2"]]
    );
    assert!(queue.take(1).is_empty());
}

#[tokio::test]
async fn what_ends_after_the_stop_is_still_sent() {
    let (exporter, listener) = exporter().await;
    let (queue, stop) = (exporter.queue.clone(), CancellationToken::new());
    stop.cancel();
    let running = exporter.run(stop);
    let last = async {
        queue.push(span(7));
        collect(listener, &["200 OK"]).await
    };
    let (ended, bodies) = tokio::join!(running, last);
    assert!(ended.is_ok());
    assert_eq!(ids(&bodies[0]), ["7"]);
}

#[tokio::test]
async fn a_refusal_drops_its_batch_and_the_next_one_goes() {
    let (exporter, listener) = exporter().await;
    (0..=BATCH as u64).for_each(|at| exporter.queue.push(span(at + 1)));
    let stop = CancellationToken::new();
    let sending = exporter.send_all(&stop);
    let collecting = collect(listener, &["400 Bad Request", "200 OK"]);
    let ((), bodies) = tokio::join!(sending, collecting);
    assert_eq!(ids(&bodies[0]).len(), BATCH);
    assert_eq!(ids(&bodies[1]).len(), 1, "the rest, and nothing again");
}

#[tokio::test]
async fn a_collector_that_is_not_there_holds_up_no_stop() {
    let (exporter, listener) = exporter().await;
    drop(listener);
    exporter.queue.push(span(1));
    let stop = CancellationToken::new();
    let running = exporter.run(stop.clone());
    tokio::pin!(running);
    let waits = tokio::time::timeout(Duration::from_millis(50), running.as_mut()).await;
    assert!(waits.is_err(), "it goes on trying");
    stop.cancel();
    assert!(running.await.is_ok());
}
