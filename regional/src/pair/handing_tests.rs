//! Requests that are handed on to a node at a real socket, and what becomes of those that cannot be.
use super::*;
use crate::server::{self, tests::enrol};
use axum::{
    Router,
    http::{Method, StatusCode},
    routing::any,
};
use federation::{pki::Ca, tls::paths};
use futures_util::{StreamExt as _, stream};
use http_body_util::BodyExt as _;
use node::{clock::Clock, task::Tasks};
use rustls::ServerConfig;
use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::Notify,
};

/// A node with these routes, and the way to it for a node of the same place.
struct Nodes {
    handing: Handing,
    stop: CancellationToken,
    /// By which another server is that node too.
    server: Arc<ServerConfig>,
    _tasks: Tasks,
    _dir: TempDir,
}

async fn nodes(app: Router, served_by: &str) -> Nodes {
    let dir = tempfile::tempdir().unwrap();
    let now = Clock::new(None).real();
    let ca = Ca::init(&dir.path().join("ca"), now).unwrap();
    let tls = |place: &Place, seed| {
        let files = paths(&enrol(&ca, dir.path(), place, seed));
        ReloadingTls::open(files, true, Arc::new(|| Clock::new(None).real())).unwrap()
    };
    let here: Place = "regional/eu/eu".parse().unwrap();
    let (own, other_tls) = (tls(&here, 1), tls(&served_by.parse().unwrap(), 2));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = CancellationToken::new();
    let mut tasks = Tasks::new(CancellationToken::new());
    let serving = https::serve(
        listener,
        other_tls.server_https().unwrap(),
        app,
        None,
        tasks.stop(),
    );
    tasks.spawn("https", node::task::Kind::Critical, serving);
    let other = ("127.0.0.1".to_owned(), port);
    Nodes {
        handing: Handing::new(other, (&own, &here), stop.clone()).unwrap(),
        stop,
        server: other_tls.server_https().unwrap(),
        _tasks: tasks,
        _dir: dir,
    }
}

fn request() -> Request {
    Request::post("/api/v1/a?b=c%20d")
        .header("host", "region.example.org:8443")
        .header("x-own", "kept")
        .header("x-hop", "dropped")
        .header("connection", "close, x-hop")
        .header("te", "trailers")
        .body(Body::from("asked"))
        .unwrap()
}

/// Says what came.
async fn echo(request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_LONG_BODY_BYTES).await.unwrap();
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value
            .map_or("-", |value| value.to_str().unwrap())
            .to_owned()
    };
    let names = ["host", "x-own", "x-hop", "te", "medmesh-handed-on"];
    let headers = names.map(header).join(" ");
    let body = String::from_utf8(body.to_vec()).unwrap();
    let said = format!("{} {} {headers} {body}", parts.method, parts.uri);
    Response::builder()
        .status(StatusCode::ACCEPTED)
        .header("content-location", "https://region.example.org:8443/x")
        .body(said.into())
        .unwrap()
}

#[tokio::test]
async fn a_request_goes_on_as_it_came_but_for_what_is_between_two_nodes() {
    let nodes = nodes(Router::new().fallback(echo), "regional/eu/eu").await;
    let answer = nodes.handing.hand(request(), true).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let place = &answer.headers()["content-location"];
    assert_eq!(place, "https://region.example.org:8443/x");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let said = "POST /api/v1/a?b=c%20d region.example.org:8443 kept - - 1 asked";
    assert_eq!(body, said.as_bytes());
    let places = nodes.handing.known.available_permits();
    assert_eq!(places, MAX_KNOWN, "a place is given back with the answer");
}

#[tokio::test]
async fn what_was_handed_on_once_is_not_handed_on_again() {
    let nodes = nodes(Router::new().fallback(echo), "regional/eu/eu").await;
    let mut again = request();
    again
        .headers_mut()
        .insert(HANDED_ON, HeaderValue::from_static("1"));
    let refused = nodes.handing.hand(again, true).await.unwrap_err();
    assert_eq!(refused, NotHanded::Nowhere);
}

#[tokio::test]
async fn another_place_than_this_one_is_asked_nothing() {
    let nodes = nodes(Router::new().fallback(echo), "regional/eu/eu-2").await;
    let refused = nodes.handing.hand(request(), true).await.unwrap_err();
    assert_eq!(refused, NotHanded::Away);
}

#[tokio::test]
async fn strangers_take_no_place_of_those_that_are_known() {
    let nodes = nodes(Router::new().fallback(echo), "regional/eu/eu").await;
    let all = u32::try_from(MAX_STRANGERS).unwrap();
    let strangers = Arc::clone(&nodes.handing.strangers);
    let _all = strangers.acquire_many_owned(all).await.unwrap();
    let refused = nodes.handing.hand(request(), false).await.unwrap_err();
    assert_eq!(refused, NotHanded::Busy);
    assert!(nodes.handing.hand(request(), true).await.is_ok());
}

#[tokio::test]
async fn a_body_that_is_longer_than_any_of_its_kind_is_not_handed_on() {
    let answers = any(async || "asked");
    let nodes = nodes(Router::new().fallback_service(answers), "regional/eu/eu").await;
    for (is_known, most) in [
        (true, MAX_LONG_BODY_BYTES),
        (false, MAX_STRANGERS_BODY_BYTES),
    ] {
        let long = |bytes| request().map(|_| Body::from(vec![b'x'; bytes]));
        assert!(nodes.handing.hand(long(most), is_known).await.is_ok());
        let refused = nodes.handing.hand(long(most + 1), is_known).await;
        assert_eq!(refused.unwrap_err(), NotHanded::TooLong);
    }
}

/// Answers one connection after the other as a server that closes each with its answer, which is there at once.
async fn closing(listener: TcpListener, tls: tokio_rustls::TlsAcceptor, answer: String) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = tls.accept(stream).await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"asked") {
            stream.read_buf(&mut asked).await.unwrap();
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_that_ends_its_connection_comes_whole_however_late_it_is_read() {
    for body in ["", "all of it"] {
        let mut nodes = nodes(Router::new(), "regional/eu/eu").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        nodes.handing.other.1 = listener.local_addr().unwrap().port();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let acceptor = tokio_rustls::TlsAcceptor::from(nodes.server.clone());
        let serving = tokio::spawn(closing(listener, acceptor, answer));
        let answer = nodes.handing.hand(request(), true).await.unwrap();
        assert!(answer.headers().get("connection").is_none());
        let mut read = answer.into_body();
        let mut all = Vec::new();
        while let Some(frame) = read.frame().await {
            all.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
        assert_eq!(all, body.as_bytes());
        // Who looks once more at what has ended is told that it has.
        assert!(read.frame().await.is_none());
        serving.abort();
    }
}

#[tokio::test]
async fn who_waits_for_an_answer_is_told_when_the_lease_moves() {
    let heard = Arc::new(Notify::new());
    let told = heard.clone();
    let never = any(move || {
        told.notify_one();
        std::future::pending::<()>()
    });
    let nodes = nodes(Router::new().fallback_service(never), "regional/eu/eu").await;
    let (asking, stopping) = (nodes.handing.hand(request(), true), async {
        heard.notified().await;
        nodes.stop.cancel();
    });
    let (asked, ()) = tokio::join!(asking, stopping);
    assert_eq!(asked.unwrap_err(), NotHanded::Unanswered);
}

#[tokio::test]
async fn a_node_that_waits_too_is_asked_again_until_it_does_what_it_is_asked() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = tries.clone();
    let app = any(move || {
        let answer = match counted.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Response::builder()
                .status(StatusCode::SERVICE_UNAVAILABLE)
                .header("medmesh-handed-on", "0"),
            _ => Response::builder().status(StatusCode::CREATED),
        };
        std::future::ready(answer.body(Body::empty()).unwrap())
    });
    let nodes = nodes(Router::new().fallback_service(app), "regional/eu/eu").await;
    let answer = nodes.handing.hand(request(), true).await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_node_that_has_got_the_lease_asks_itself() {
    let mut nodes = nodes(Router::new().fallback(echo), "regional/eu/eu").await;
    let own = ([127, 0, 0, 1], nodes.handing.other.1).into();
    nodes.handing.other.1 = away().await;
    nodes.handing = nodes.handing.then(own);
    nodes.stop.cancel();
    let answer = nodes.handing.hand(request(), true).await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

#[tokio::test]
async fn what_only_reads_is_asked_again_where_it_was_not_answered_and_nothing_else_is() {
    for (method, path, is_answered) in [
        (Method::GET, "/api/v1/a", true),
        (Method::POST, "/api/v1/a", false),
        // It begins a job.
        (Method::GET, "/fhir/Patient/$export", false),
        (Method::GET, "/fhir/%24export", false),
    ] {
        let mut nodes = nodes(Router::new(), "regional/eu/eu").await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        nodes.handing.other.1 = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(nodes.server.clone());
        let serving = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            drop(stream);
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            closing(listener, acceptor, answer.to_owned()).await;
        });
        let mut asks = request();
        *asks.method_mut() = method;
        *asks.uri_mut() = path.parse().unwrap();
        let answer = nodes.handing.hand(asks, true).await;
        let status = answer.map(|answer| answer.status());
        let expected = match is_answered {
            true => Ok(StatusCode::OK),
            false => Err(NotHanded::Unanswered),
        };
        assert_eq!(status, expected);
        serving.abort();
    }
}

/// A port at which nobody listens.
async fn away() -> u16 {
    let (listener, address) = server::listen("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    drop(listener);
    address.port()
}

#[tokio::test]
async fn pieces_of_an_answer_without_an_end_come_as_they_are_sent() {
    let events = any(async || {
        let first = stream::once(async { Ok::<_, Infallible>("data: 1\n\n") });
        let body = Body::from_stream(first.chain(stream::pending()));
        Response::builder()
            .header("content-type", "text/event-stream")
            .body(body)
            .unwrap()
    });
    let nodes = nodes(Router::new().fallback_service(events), "regional/eu/eu").await;
    let mut answer = nodes.handing.hand(request(), true).await.unwrap();
    let is_lasting = answer.extensions().get::<https::Lasting>().is_some();
    assert!(is_lasting);
    let piece = answer.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(piece.into_data().unwrap(), "data: 1\n\n");
    drop(answer);
    assert_eq!(nodes.handing.known.available_permits(), MAX_KNOWN);
}

#[tokio::test]
async fn a_node_that_is_away_is_said_to_be() {
    let mut nodes = nodes(Router::new().fallback(echo), "regional/eu/eu").await;
    nodes.handing.other.1 = away().await;
    let refused = nodes.handing.hand(request(), true).await.unwrap_err();
    assert_eq!(refused, NotHanded::Away);
}
