//! A client can hold its own connection only, and a stop lets the request in hand finish.
use super::*;
use crate::admission::Network;
use axum::{
    Extension,
    routing::{get, post},
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, pki_types::PrivateKeyDer},
};

pub(super) struct Server {
    pub(super) address: SocketAddr,
    client: TlsConnector,
    pub(super) stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

async fn start(app: Router) -> Server {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: TIMEOUTS,
        clients: None,
        long: Arc::new(LongBodies::new(1, 1)),
    };
    start_by(rules, |_| app).await
}

/// A server by rules; the router is made for the address that it gets.
pub(super) async fn start_by<A: Into<App>>(
    rules: Rules,
    app: impl FnOnce(SocketAddr) -> A,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    start_at(rules, listener, app).await
}

pub(super) async fn start_at<A: Into<App>>(
    rules: Rules,
    listener: TcpListener,
    app: impl FnOnce(SocketAddr) -> A,
) -> Server {
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let address = listener.local_addr().unwrap();
    let (stop, app) = (CancellationToken::new(), app(address).into());
    let (until, tls) = (stop.clone(), Arc::new(config).into());
    let task = tokio::spawn(async move { serve_by(&rules, listener, tls, app, until).await });
    Server {
        address,
        client: TlsConnector::from(Arc::new(client)),
        stop,
        task,
    }
}

impl Server {
    async fn connect(&self) -> TlsStream<TcpStream> {
        self.dial().await.unwrap()
    }

    pub(super) async fn dial(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = "localhost".try_into().unwrap();
        self.client.connect(name, stream).await
    }

    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(stream).await
    }
}

async fn answer(mut stream: TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    let _unclean_end = stream.read_to_end(&mut text).await;
    String::from_utf8(text).unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_shakes_hands_does_not_delay_another() {
    let server = start(Router::new().route("/", get(|| async { "hello" }))).await;
    let _idle = TcpStream::connect(server.address).await.unwrap();
    assert!(server.ask(GET).await.ends_with("hello"));
}

#[tokio::test]
async fn a_request_says_where_it_comes_from() {
    let here = Network::of(std::net::IpAddr::from([127, 0, 0, 1]));
    let says = move |Extension(from): Extension<Network>| async move { (from == here).to_string() };
    let server = start(Router::new().route("/", get(says))).await;
    assert!(server.ask(GET).await.ends_with("true"));
}

#[tokio::test]
async fn a_request_of_http_1_1_names_one_host() {
    let server = start(Router::new().route("/", get(|| async { "hello" }))).await;
    for (version, hosts, status) in [
        ("1.1", 1, 200),
        ("1.1", 0, 400),
        ("1.1", 2, 400),
        ("1.0", 0, 200),
    ] {
        let hosts = "host: localhost\r\n".repeat(hosts);
        let request = format!("GET / HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
        let answer = server.ask(&request).await;
        let expected = format!("HTTP/{version} {status}");
        assert!(answer.starts_with(&expected), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let app = Router::new().route(
        "/",
        post(|body: axum::body::Bytes| async move { body.len().to_string() }),
    );
    let server = start(app).await;
    let size = MAX_BODY_BYTES + 1;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n{}",
        "x".repeat(size)
    );
    let answer = server.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // So is one that does not fit into the buffers on the way, to a client that reads once it has sent everything.
    let size = 8 << 20;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n{}",
        "x".repeat(size)
    );
    let answer = server.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Who asks before it sends is told why not, and not to go on.
    let request = format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: {size}\r\n\r\n"
    );
    let answer = server.ask(&request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

/// A POST of so many bytes by somebody; nothing is said of the length of those without it.
fn posted(path: &str, who: &str, size: usize, is_said: bool) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: {who}\r\n"
    );
    let body = "x".repeat(size);
    match is_said {
        true => format!("{head}content-length: {size}\r\n\r\n{body}"),
        false => format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n"),
    }
}

fn known(headers: &HeaderMap) -> Option<Arc<str>> {
    (headers.get("authorization")? == "known").then(|| "a".into())
}

#[tokio::test]
async fn a_long_body_is_taken_of_a_known_client_where_it_may_be_long() {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: TIMEOUTS,
        clients: Some(Clients::new(known)),
        long: Arc::new(LongBodies::new(1, 1)),
    };
    let length = post(|body: axum::body::Bytes| async move { body.len().to_string() });
    let length = length.layer(axum::extract::DefaultBodyLimit::disable());
    let app = App {
        long: |_, path| path == "/long",
        ..Router::new().route("/{any}", length).into()
    };
    let server = start_by(rules, |_| app).await;
    for (path, who, size, status) in [
        ("/long", "known", MAX_LONG_BODY_BYTES, 200),
        ("/long", "known", MAX_LONG_BODY_BYTES + 1, 413),
        ("/long", "stranger", MAX_STRANGERS_BODY_BYTES, 200),
        ("/long", "stranger", MAX_STRANGERS_BODY_BYTES + 1, 413),
        ("/short", "known", MAX_BODY_BYTES, 200),
        ("/short", "known", MAX_BODY_BYTES + 1, 413),
    ] {
        for is_said in [true, false] {
            let answer = server.ask(&posted(path, who, size, is_said)).await;
            let expected = format!("HTTP/1.1 {status}");
            assert!(
                answer.starts_with(&expected),
                "{path} {who} {size}: {answer}"
            );
            assert!(status != 200 || answer.ends_with(&size.to_string()));
        }
    }
}

#[tokio::test]
async fn a_body_that_is_none_is_a_bad_request_and_not_too_long() {
    let app = Router::new().route(
        "/",
        post(|body: axum::body::Bytes| async move { body.len().to_string() }),
    );
    let server = start(app).await;
    for chunks in ["zz\r\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n"] {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
        );
        let answer = server.ask(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

#[tokio::test]
async fn a_long_body_for_which_there_is_no_place_is_not_read_and_a_short_one_goes_on() {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: Timeouts {
            body: Duration::from_millis(200),
            ..TIMEOUTS
        },
        clients: Some(Clients::new(known)),
        long: Arc::new(LongBodies::new(0, 1)),
    };
    let app = App {
        long: |_, _| true,
        ..Router::new()
            .route("/long", post(|| async { "taken" }))
            .into()
    };
    let server = start_by(rules, |_| app).await;
    for is_said in [true, false] {
        let short = server.ask(&posted("/long", "known", 9, is_said)).await;
        assert!(short.ends_with("taken"), "{short}");
        let long = posted("/long", "known", MAX_BODY_BYTES + 1, is_said);
        let answer = server.ask(&long).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("retry-after: 5"), "{answer}");
    }
}

#[tokio::test]
async fn a_stop_lets_the_request_in_hand_finish_and_takes_no_new_one() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let slow = move || {
        let (mut gate, entered) = (gate.clone(), entered.clone());
        async move {
            entered.send(()).await.unwrap();
            gate.wait_for(|open| *open).await.unwrap();
            "late"
        }
    };
    let server = start(Router::new().route("/", get(slow))).await;
    let mut stream = server.connect().await;
    stream.write_all(GET.as_bytes()).await.unwrap();
    inside.recv().await.unwrap();
    server.stop.cancel();
    go.send(true).unwrap();
    assert!(answer(stream).await.ends_with("late"));
    server.task.await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_is_kept_through_a_stop_gets_one_more_answer_that_ends_it() {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: Timeouts {
            linger: Duration::from_secs(600),
            ..TIMEOUTS
        },
        clients: None,
        long: Arc::new(LongBodies::new(1, 1)),
    };
    let app = Router::new().route("/", get(|| async { "here" }));
    let server = start_by(rules, |_| app).await;
    let mut kept = server.connect().await;
    let fresh = server.connect().await;
    server.stop.cancel();
    let request = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for stream in [&mut kept, &mut { fresh }] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}
