//! The attack on a listener: hostile connections of every kind, two thousand at once, while honest clients work.
#![cfg(test)]
use super::tests::{Server, start_at, start_by};
use super::*;
use crate::{
    clock::Clock,
    config::ClientConfig,
    descriptors,
    health::Health,
    telemetry::resident_bytes,
    token::{ASSERTION_TYPE, Claims, TOKEN_PATH, TokenServer, sign_assertion},
};
use axum::{http::HeaderMap, http::StatusCode, routing::get};
use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Connections of the attack, where descriptors allow; in one process each takes two.
const HOSTILE: usize = 2_000;
/// Descriptors for everything else.
const SPARE: usize = 512;
/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(180);
/// From being cut off to coming again.
const AGAIN: Duration = Duration::from_secs(5);
/// From one of them to the next.
const RAMP: Duration = Duration::from_millis(5);
/// Fresh connections of honest clients that may be displaced in the whole test, of some hundred.
const MAX_TRIES: usize = 20;
/// Bytes of an answer that a hostile client asks for and does not read.
const BIG: usize = 256 << 10;
/// Memory that the attack may cost, of both its sides.
const MAX_BYTES: f64 = 400e6;

#[derive(Clone, Copy)]
enum Kind {
    Idle,
    HalfHandshake,
    SlowHeader,
    SlowBody,
    NeverReads,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Idle,
        Self::HalfHandshake,
        Self::SlowHeader,
        Self::SlowBody,
        Self::NeverReads,
    ];

    /// Does its worst until it is cut off.
    async fn attack(self, server: &Server, begun: &AtomicUsize) -> io::Result<()> {
        let header = match self {
            Self::Idle | Self::HalfHandshake => {
                let mut stream = TcpStream::connect(server.address).await?;
                if matches!(self, Self::HalfHandshake) {
                    // A record that promises a ClientHello of 512 bytes.
                    stream.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).await?;
                }
                begun.fetch_add(1, SeqCst);
                return until_cut(stream).await;
            }
            Self::SlowHeader => "GET /big HTTP/1.1\r\nhost: localh".to_owned(),
            Self::SlowBody => {
                format!(
                    "POST {TOKEN_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000\r\n\r\nx"
                )
            }
            Self::NeverReads => "GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(8),
        };
        let mut stream = server.dial().await?;
        stream.write_all(header.as_bytes()).await?;
        begun.fetch_add(1, SeqCst);
        if matches!(self, Self::NeverReads) {
            return until_broken(stream).await;
        }
        until_cut(stream).await
    }
}

async fn until_cut(mut stream: impl AsyncRead + Unpin) -> io::Result<()> {
    while stream.read(&mut [0; 256]).await? > 0 {}
    Ok(())
}

/// Asks for more now and then, and reads nothing.
async fn until_broken(mut stream: impl AsyncWrite + Unpin) -> io::Result<()> {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream
            .write_all(b"GET /big HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await?;
        stream.flush().await?;
    }
}

/// An honest client: a token, and connections that are kept.
struct Honest {
    key: KeyPair,
    token_url: String,
    token: String,
}

impl Honest {
    async fn ask_for_token(&mut self, server: &Server, jti: &str) -> io::Result<()> {
        let id = "reader".to_owned();
        let claims = Claims {
            iss: id.clone(),
            sub: id,
            aud: self.token_url.clone(),
            exp: Clock::new(None).real().0 / 1_000 + 200,
            nbf: None,
            jti: jti.to_owned(),
        };
        let pem = self.key.serialize_pem();
        let assertion = sign_assertion(&claims, "reader-1", pem.as_bytes()).unwrap();
        let kind = ASSERTION_TYPE.replace(':', "%3A");
        let form = format!(
            "grant_type=client_credentials&client_assertion_type={kind}&client_assertion={assertion}&scope=system%2F*.rs"
        );
        let request = format!(
            "POST {TOKEN_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        );
        let mut stream = server.dial().await?;
        let (status, body) = ask(&mut stream, &request).await?;
        assert_eq!(status, 200, "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        self.token = body["access_token"].as_str().unwrap().to_owned();
        Ok(())
    }

    fn request(&self) -> String {
        let token = &self.token;
        format!("GET /data HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n")
    }
}

/// One request and its whole answer, on a connection that is kept.
async fn ask(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
) -> io::Result<(u16, String)> {
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    loop {
        let mut chunk = [0; 4_096];
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        text.push_str(std::str::from_utf8(&chunk[..read]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
            .unwrap_or(0_usize);
        if body.len() >= length {
            let status = head[9..12].parse().unwrap();
            return Ok((status, body.to_owned()));
        }
    }
}

/// A server with data behind tokens, big answers for all, and health.
async fn world(dir: &std::path::Path, timeouts: Timeouts) -> (Arc<Server>, Honest, Admission) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let public_key = dir.join("reader.pem");
    std::fs::write(&public_key, key.public_key_pem()).unwrap();
    let client = ClientConfig {
        client_id: "reader".into(),
        kid: "reader-1".into(),
        public_key,
        scope: "system/*.rs".into(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("https://{}", listener.local_addr().unwrap());
    let clock = Clock::new(None);
    let tokens = TokenServer::new(&origin, &[client], clock, &dir.join("used")).unwrap();
    let admission = Admission::new("https", &LIMITS);
    let rules = Rules {
        admission: admission.clone(),
        timeouts,
        clients: Some(tokens.verifier().into()),
        long: Arc::new(LongBodies::new(1, 1)),
    };
    let verifier = tokens.verifier();
    let data = move |headers: HeaderMap| async move {
        match verifier.check(&headers) {
            Ok(_) => (StatusCode::OK, "data"),
            Err(_) => (StatusCode::UNAUTHORIZED, "none"),
        }
    };
    let honest = Honest {
        key,
        token_url: tokens.token_url().to_owned(),
        token: String::new(),
    };
    let app = Router::new()
        .route("/data", get(data))
        .route("/big", get(|| async { "x".repeat(BIG) }))
        .merge(tokens.router())
        .merge(Health::new().router());
    let server = start_at(rules, listener, |_| app).await;
    (Arc::new(server), honest, admission)
}

/// Asks on fresh connections until one is answered; how many were displaced before. Who has proved nothing yet may be
/// displaced by a burst, and comes again.
async fn until_answered(server: &Server, request: &str) -> usize {
    for tries in 0..MAX_TRIES {
        let Ok(mut stream) = server.dial().await else {
            continue;
        };
        if let Ok((status, body)) = ask(&mut stream, request).await {
            assert_eq!(status, 200, "{body}");
            return tries;
        }
    }
    MAX_TRIES
}

fn begin_attack(server: &Arc<Server>, begun: &Arc<AtomicUsize>) -> usize {
    let descriptors = usize::try_from(descriptors::raise()).unwrap();
    let hostile = HOSTILE.min(descriptors.saturating_sub(SPARE) / 2);
    for n in 0..hostile {
        let (server, begun) = (server.clone(), begun.clone());
        tokio::spawn(async move {
            tokio::time::sleep(RAMP * u32::try_from(n).unwrap()).await;
            loop {
                let _cut = Kind::ALL[n % Kind::ALL.len()].attack(&server, &begun).await;
                // Comes again, as long as the test lasts.
                tokio::time::sleep(AGAIN).await;
            }
        });
    }
    hostile
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_hostile_connections_keep_no_honest_request_from_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    // No time limit helps: whoever holds a place gives it up to another alone.
    let patient = Timeouts {
        handshake: PATIENCE,
        header: PATIENCE,
        body: PATIENCE,
        request: PATIENCE,
        answer: PATIENCE,
        linger: Duration::from_millis(10),
    };
    let (server, mut honest, admission) = world(dir.path(), patient).await;
    honest.ask_for_token(&server, "before").await.unwrap();
    let mut kept = server.dial().await.unwrap();
    assert_eq!(ask(&mut kept, &honest.request()).await.unwrap().0, 200);
    let before = resident_bytes().unwrap();
    let begun = Arc::new(AtomicUsize::new(0));
    let hostile = begin_attack(&server, &begun);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut rounds, mut tries) = (0, 0);
    while rounds < 20 || begun.load(SeqCst) < hostile {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{begun:?} of {hostile}"
        );
        let (status, body) = ask(&mut kept, &honest.request()).await.unwrap();
        assert_eq!(
            (status, body.as_str()),
            (200, "data"),
            "a client that was there"
        );
        let ready = "GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n";
        tries += until_answered(&server, ready).await;
        while let Err(error) = honest
            .ask_for_token(&server, &format!("{rounds} {tries}"))
            .await
        {
            tries += 1;
            assert!(tries < MAX_TRIES, "{error}");
        }
        tries += until_answered(&server, &honest.request()).await;
        assert!(tries < MAX_TRIES, "{tries} tries more than rounds");
        rounds += 1;
    }
    let [handshakes, unknown, health, _] = admission.held();
    assert!(handshakes <= LIMITS.handshakes && unknown <= LIMITS.unknown);
    assert!(health <= LIMITS.health);
    let cost = resident_bytes().unwrap() - before;
    assert!(cost < MAX_BYTES, "{cost} bytes");
    server.stop.cancel();
}

#[tokio::test]
async fn every_step_that_drips_is_cut_off() {
    const SHORT: Duration = Duration::from_millis(300);
    let dir = tempfile::tempdir().unwrap();
    let timeouts = Timeouts {
        handshake: SHORT,
        header: SHORT,
        body: SHORT,
        request: SHORT,
        answer: SHORT,
        linger: Duration::from_millis(10),
    };
    let (server, _, admission) = world(dir.path(), timeouts).await;
    let begun = AtomicUsize::new(0);
    for kind in Kind::ALL {
        let ended = tokio::time::timeout(PATIENCE, kind.attack(&server, &begun)).await;
        assert!(ended.is_ok(), "cut off");
    }
    for header in [
        "GET /ready HTTP/1.1\r\nhost: localhost\r\nx: ".to_owned(),
        format!("POST {TOKEN_PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000\r\n\r\n"),
    ] {
        let mut stream = server.dial().await.unwrap();
        stream.write_all(header.as_bytes()).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        let drip = async {
            while to.write_all(b"x").await.is_ok() && to.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let read = async {
            let _ = until_cut(&mut from).await;
        };
        let ended = tokio::time::timeout(PATIENCE, async {
            tokio::select! { () = drip => {} () = read => {} }
        });
        assert!(ended.await.is_ok(), "{header}");
    }
    let gone = async {
        while admission.held() != [0; 4] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused_in_the_words_of_the_listener() {
    let rules = Rules {
        admission: Admission::new("https", &LIMITS),
        timeouts: TIMEOUTS,
        clients: None,
        long: Arc::new(LongBodies::new(1, 1)),
    };
    let server = start_by(rules, |_| App {
        router: Health::new().router(),
        unread: Some(Unread {
            content_type: "text/plain",
            body: |status| format!("refused: {}", status.as_u16()),
        }),
        long: |_, _| false,
    });
    let server = server.await;
    // It is looked at after each read, of up to as many bytes; what is left unread may cut the answer off.
    let filler = "x".repeat(4 * MAX_HEADER_BYTES);
    let request = format!("GET /live?{filler} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut stream = server.dial().await.unwrap();
    if let Ok((status, body)) = ask(&mut stream, &request).await {
        assert_eq!((status, body.as_str()), (431, "refused: 431"));
    }
    let filler = "x".repeat(MAX_HEADER_BYTES - "GET /live?".len());
    let mut stream = server.dial().await.unwrap();
    let answer = ask(&mut stream, &format!("GET /live?{filler}")).await;
    assert_eq!(answer.unwrap(), (431, "refused: 431".to_owned()));
    let mut stream = server.dial().await.unwrap();
    let answer = ask(&mut stream, "no request at all\r\n\r\n").await;
    assert_eq!(answer.unwrap(), (400, "refused: 400".to_owned()));
}
