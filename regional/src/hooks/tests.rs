//! Where notifications go, and where they never do.
use super::*;
use ed25519_dalek::SigningKey;
use federation::identity::Identity;
use federation::pki::{Ca, LOCAL_NAMES, new_key_and_csr};
use node::clock::Clock;
use rand::{SeedableRng, rngs::StdRng};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn hooks(url: &str, networks: &[&str]) -> Hooks {
    let target = TargetConfig {
        url: url.to_owned(),
        ca: None,
        networks: networks.iter().map(|text| (*text).to_owned()).collect(),
    };
    let config = SubscriptionsConfig {
        targets: vec![target],
    };
    Hooks::open(&config).unwrap()
}

#[test]
fn an_endpoint_is_allowed_below_what_is_named_and_nowhere_else() {
    let hooks = hooks("http://ehr.example:8080/notify", &[]);
    for good in [
        "http://ehr.example:8080/notify",
        "http://EHR.example:8080/notify/a/b?c=d",
        "http://ehr.example.:8080/notify/",
    ] {
        assert_eq!(hooks.allows(good), Ok(()), "{good}");
    }
    for bad in [
        "https://ehr.example:8080/notify",
        "http://ehr.example/notify",
        "http://ehr.example:8081/notify",
        "http://ehr.example:8080/notifyall",
        "http://ehr.example:8080/",
        "http://ehr.example:8080/notify/../admin",
        "http://ehr.example:8080/notify/%2e%2E/admin",
        "http://ehr.example:8080/notify/..%2fadmin",
        "http://ehr.example:8080/notify//elsewhere",
        "http://ehr.example:8080@127.0.0.1/notify",
        "http://ehr.example.elsewhere:8080/notify",
        "http://127.0.0.1:8080/notify",
        "http://ehr.example:8080/notify#a",
        "http://ehr.example:8080/notify\\..\\admin",
        "ftp://ehr.example:8080/notify",
        "/notify",
        "",
    ] {
        assert!(hooks.allows(bad).is_err(), "{bad}");
    }
    assert!(
        Hooks::open(&SubscriptionsConfig::default())
            .unwrap()
            .allows("http://ehr.example:8080/notify")
            .is_err()
    );
}

#[test]
fn public_addresses_are_those_of_the_internet_and_networks_hold_their_own() {
    for (address, public) in [
        ("8.8.8.8", true),
        ("10.1.2.3", false),
        ("127.0.0.1", false),
        ("169.254.169.254", false),
        ("172.31.255.255", false),
        ("172.32.0.1", true),
        ("192.168.1.1", false),
        ("100.100.0.1", false),
        ("0.0.0.0", false),
        ("224.0.0.1", false),
        ("255.255.255.255", false),
        ("2606:4700::1", true),
        ("::1", false),
        ("::ffff:10.1.2.3", false),
        ("::ffff:8.8.8.8", true),
        ("64:ff9b::a01:203", false),
        ("2002:a01:203::1", false),
        ("fc00::1", false),
        ("fe80::1", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
    }
    let network = Network::parse("10.20.0.0/16").unwrap();
    for (address, held) in [
        ("10.20.255.1", true),
        ("::ffff:10.20.0.1", true),
        ("10.21.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(network.holds(address.parse().unwrap()), held, "{address}");
    }
    assert!(
        Network::parse("0.0.0.0/0")
            .unwrap()
            .holds("1.2.3.4".parse().unwrap())
    );
    for bad in ["10.20.0.1/16", "10.20.0.0", "10.20.0.0/33", "a/8", "::/129"] {
        assert_eq!(Network::parse(bad), None, "{bad}");
    }
}

#[test]
fn what_is_wrong_with_the_configuration_is_told_with_its_key() {
    let config = SubscriptionsConfig {
        targets: vec![
            TargetConfig {
                url: "https://ehr.example/".into(),
                ca: None,
                networks: vec!["10.0.0.1/8".into()],
            },
            TargetConfig {
                url: "ehr.example".into(),
                ca: None,
                networks: Vec::new(),
            },
        ],
    };
    let problems: Vec<String> = config
        .problems()
        .iter()
        .map(|one| format!("{one:?}"))
        .collect();
    for key in ["targets[0].ca", "targets[0].networks", "targets[1].url"] {
        assert!(
            problems.iter().any(|one| one.contains(key)),
            "{key}: {problems:?}"
        );
    }
    assert!(Hooks::open(&config).is_err());
}

/// Answers one request with a status line and headers; what was asked.
async fn answer_once(listener: TcpListener, answer: &str) -> String {
    let (stream, _) = listener.accept().await.unwrap();
    answer_on(stream, answer).await
}

async fn answer_on(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.ends_with("{\"a\":1}") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the whole request comes: {text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    text
}

/// An authority, and what a server needs to prove itself by a certificate of it, for the names of this machine.
fn authority(dir: &Path) -> (Ca, TlsAcceptor) {
    let (now, mut rng) = (Clock::new(None).real(), StdRng::seed_from_u64(1));
    let ca = Ca::init(dir, now).unwrap();
    let identity = Identity::Node("regional/eu/eu".parse().unwrap());
    let code = ca.invite(
        &identity,
        &LOCAL_NAMES,
        Duration::from_secs(60),
        now,
        &mut rng,
    );
    let new = new_key_and_csr(&identity, Some(&SigningKey::from_bytes(&[1; 32]))).unwrap();
    let pem = ca.enrol(&code.unwrap(), &new.csr_pem, now, &mut rng);
    let pem = pem.unwrap();
    let chain = CertificateDer::pem_slice_iter(pem.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(new.key_pem.reveal().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.collect::<Result<_, _>>().unwrap(), key);
    (ca, TlsAcceptor::from(Arc::new(config.unwrap())))
}

/// What becomes of a notification to a server of one authority, where another one is configured; and what was asked.
async fn posted_by_tls(server: &TlsAcceptor, ca: &Ca, host: &str) -> (Result<(), Untaken>, bool) {
    let address = host.replace("localhost", "127.0.0.1");
    let listener = TcpListener::bind((address.as_str(), 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = SubscriptionsConfig {
        targets: vec![TargetConfig {
            url: format!("https://{host}:{port}/notify/"),
            ca: Some(ca.ca_path()),
            networks: vec!["127.0.0.0/8".into(), "::1/128".into()],
        }],
    };
    assert!(config.problems().is_empty(), "{:?}", config.problems());
    let hooks = Hooks::open(&config).unwrap();
    let endpoint = format!("https://{host}:{port}/notify/a");
    assert_eq!(hooks.allows(&endpoint), Ok(()));
    let notification = Notification {
        endpoint: &endpoint,
        headers: &[],
        body: "{\"a\":1}".to_owned(),
        timeout: Duration::from_secs(30),
    };
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(stream) = server.accept(stream).await else {
            return false;
        };
        let asked = answer_on(stream, "HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(asked.starts_with("POST /notify/a HTTP/1.1\r\n"), "{asked}");
        true
    };
    tokio::join!(hooks.post(notification), answering)
}

#[tokio::test]
async fn a_notification_goes_by_tls_to_whom_the_configured_authority_vouches_for_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, server) = authority(&dir.path().join("ours"));
    let (others, _) = authority(&dir.path().join("others"));
    for name in ["localhost", "127.0.0.1"] {
        assert_eq!(posted_by_tls(&server, &ours, name).await, (Ok(()), true));
    }
    let unreachable = (Err(Untaken::Unreachable), false);
    assert_eq!(
        posted_by_tls(&server, &others, "localhost").await,
        unreachable
    );
    // Its certificate is for another name.
    assert_eq!(
        posted_by_tls(&server, &ours, "127.0.0.2").await,
        unreachable
    );
}

async fn posted(answer: &str, networks: &[&str]) -> (Result<(), Untaken>, Option<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = format!("http://localhost:{}/hook?x=1", address.port());
    let hooks = hooks(&endpoint.replace("?x=1", ""), networks);
    let headers = [("authorization".to_owned(), "Bearer secret".to_owned())];
    let notification = Notification {
        endpoint: &endpoint,
        headers: &headers,
        body: "{\"a\":1}".to_owned(),
        timeout: Duration::from_secs(30),
    };
    let answering = answer_once(listener, answer);
    let posting = hooks.post(notification);
    tokio::pin!(answering, posting);
    tokio::select! {
        posted = &mut posting => (posted, None),
        asked = &mut answering => (posting.await, Some(asked)),
    }
}

#[tokio::test]
async fn a_notification_is_sent_once_and_a_redirection_is_not_followed() {
    let near = ["127.0.0.0/8", "::1/128"];
    let (taken, asked) = posted("HTTP/1.1 204 No Content\r\n\r\n", &near).await;
    assert_eq!(taken, Ok(()));
    let asked = asked.unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("post /hook?x=1 http/1.1\r\n"), "{asked}");
    for header in [
        "host: localhost:",
        "content-type: application/fhir+json",
        "authorization: bearer secret",
    ] {
        assert!(asked.contains(header), "{header}: {asked}");
    }
    let moved = "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(posted(moved, &near).await.0, Err(Untaken::Answered(307)));
    let failed = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(posted(failed, &near).await.0, Err(Untaken::Answered(500)));
}

#[tokio::test]
async fn a_name_that_leads_into_a_network_that_is_not_named_is_not_connected_to() {
    for networks in [&[][..], &["10.0.0.0/8"]] {
        let (posted, asked) = posted("HTTP/1.1 200 OK\r\n\r\n", networks).await;
        assert_eq!((posted, asked), (Err(Untaken::NotAllowed), None));
    }
}
