//! Where notifications go, and where they never do.
use super::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

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
    let (mut stream, _) = listener.accept().await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.ends_with("{\"a\":1}") {
        let read = stream.read(&mut buffer).await.unwrap();
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
    text
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
