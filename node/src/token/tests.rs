//! A token is given for one fresh assertion of a registered client, and for nothing else.
use super::*;
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
use serde_json::Value;
use tower::ServiceExt;

const ORIGIN: &str = "https://127.0.0.1:8443";
const URL: &str = "https://127.0.0.1:8443/auth/token";

struct World {
    server: TokenServer,
    key: KeyPair,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let client = register(dir.path(), "reader", &key);
    let server = TokenServer::new(
        ORIGIN,
        &[client],
        Clock::new(None),
        &dir.path().join("used"),
    )
    .unwrap();
    World { server, key }
}

fn register(dir: &std::path::Path, name: &str, key: &KeyPair) -> ClientConfig {
    let public_key = dir.join(format!("{name}.pem"));
    std::fs::write(&public_key, key.public_key_pem()).unwrap();
    ClientConfig {
        client_id: name.into(),
        kid: format!("{name}-1"),
        public_key,
        scope: "system/*.rs mesh/devices.r".into(),
    }
}

fn now() -> i64 {
    Clock::new(None).real().0 / 1_000
}

fn claims() -> Value {
    json!({"iss": "reader", "sub": "reader", "aud": URL, "exp": now() + 300, "jti": "one"})
}

fn changed(key: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[key] = value;
    claims
}

impl World {
    fn sign(&self, claims: &Value) -> String {
        sign(&self.key, Algorithm::ES384, Some("reader-1"), claims)
    }

    async fn ask(&self, fields: &[(&str, &str)]) -> (StatusCode, Value) {
        let escape = |text: &str| {
            text.replace(' ', "%20")
                .replace(':', "%3A")
                .replace('/', "%2F")
        };
        let pairs: Vec<_> = fields
            .iter()
            .map(|(k, v)| format!("{k}={}", escape(v)))
            .collect();
        let request = Request::post(TOKEN_PATH)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(pairs.join("&")))
            .unwrap();
        let response = self.server.router().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["cache-control"], "no-store");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn assert(&self, assertion: &str, scope: &str) -> (StatusCode, Value) {
        self.ask(&[
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
            ("scope", scope),
        ])
        .await
    }

    fn check(&self, authorization: &str) -> Result<Scopes, TokenError> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", authorization.parse().unwrap());
        self.server.verifier().check(&headers)
    }
}

fn sign(key: &KeyPair, algorithm: Algorithm, kid: Option<&str>, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(str::to_owned);
    let key = EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&header, claims, &key).unwrap()
}

#[tokio::test]
async fn a_registered_client_gets_a_token_that_allows_what_it_asked_for() {
    let world = world();
    let (status, body) = world.assert(&world.sign(&claims()), "system/*.rs").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("bearer"), &json!(300))
    );
    assert_eq!(body["scope"], "system/*.rs");
    let token = body["access_token"].as_str().unwrap();
    let scopes = world.check(&format!("Bearer {token}")).unwrap();
    assert!(scopes.over("Observation", Interaction::Search).is_some());
    assert_eq!(scopes.over("Observation", Interaction::Create), None);
    assert!(!scopes.allow_api("devices", Interaction::Read));
}

#[tokio::test]
async fn an_assertion_is_good_for_one_token_only() {
    let world = world();
    let assertion = world.sign(&claims());
    assert_eq!(
        world.assert(&assertion, "system/*.rs").await.0,
        StatusCode::OK
    );
    let (status, body) = world.assert(&assertion, "system/*.rs").await;
    assert_eq!(
        (status, &body["error"]),
        (StatusCode::UNAUTHORIZED, &json!("invalid_client"))
    );
}

#[tokio::test]
async fn a_wrong_claim_is_refused() {
    let world = world();
    for (key, value, good) in [
        ("aud", json!([URL]), true),
        ("nbf", json!(now() - 5), true),
        ("iat", json!(now()), true),
        ("exp", json!(now() as f64 + 60.5), true),
        ("aud", json!([URL, "https://elsewhere"]), false),
        ("aud", json!(format!("{URL}/")), false),
        ("iat", json!(now() + 120), false),
        ("iat", json!("now"), false),
        ("exp", json!(now() as f64 - 60.5), false),
        ("iss", json!("another"), false),
        ("sub", json!("another"), false),
        ("aud", json!("https://elsewhere/auth/token"), false),
        ("exp", json!(now() - 60), false),
        ("exp", json!(now() + 3_600), false),
        ("exp", json!("soon"), false),
        ("nbf", json!(now() + 120), false),
        ("jti", json!(""), false),
        ("jti", json!("j".repeat(257)), false),
        ("jti", Value::Null, false),
    ] {
        let mut claims = changed(key, value.clone());
        if good {
            claims["jti"] = json!(format!("good {key}"));
        }
        let (status, body) = world.assert(&world.sign(&claims), "system/*.rs").await;
        let expected = if good {
            StatusCode::OK
        } else {
            StatusCode::UNAUTHORIZED
        };
        assert_eq!(status, expected, "{key} {value} {body}");
        assert!(
            good || body["error"] == "invalid_client",
            "{key} {value} {body}"
        );
    }
}

#[tokio::test]
async fn an_assertion_whose_header_must_be_understood_is_refused() {
    let world = world();
    let key = EncodingKey::from_ec_pem(world.key.serialize_pem().as_bytes()).unwrap();
    let good = json!({"alg": "ES384", "kid": "reader-1", "typ": "JWT"});
    let critical = json!({"alg": "ES384", "kid": "reader-1", "crit": ["urn:x"], "urn:x": true});
    for (header, expected) in [(critical, StatusCode::UNAUTHORIZED), (good, StatusCode::OK)] {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims()));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::ES384);
        let assertion = format!("{signed}.{}", signature.unwrap());
        let (status, body) = world.assert(&assertion, "system/*.rs").await;
        assert_eq!(status, expected, "{header} {body}");
    }
}

#[tokio::test]
async fn a_client_that_takes_many_tokens_displaces_its_own_and_no_others() {
    let world = world();
    let inner = &world.server.inner;
    let now = inner.clock.real();
    let issue = |client: &str| {
        let client = client.into();
        format!(
            "Bearer {}",
            inner.issue(&client, "system/*.rs".parse().unwrap(), now)
        )
    };
    let (others, first) = (issue("reader"), issue("greedy"));
    let flood: Vec<_> = (0..2 * MAX_TOKENS_OF_A_CLIENT)
        .map(|_| issue("greedy"))
        .collect();
    assert!(world.check(&others).is_ok());
    assert_eq!(world.check(&first), Err(TokenError::Unknown));
    assert!(world.check(flood.last().unwrap()).is_ok());
    let alive = flood.iter().filter(|token| world.check(token).is_ok());
    assert_eq!(alive.count(), MAX_TOKENS_OF_A_CLIENT);
    for client in 0..2 * MAX_TOKENS / MAX_TOKENS_OF_A_CLIENT {
        for _ in 0..MAX_TOKENS_OF_A_CLIENT {
            issue(&client.to_string());
        }
    }
    assert!(world.check(&others).is_ok(), "many greedy clients");
    let tokens = inner.tokens.lock();
    assert_eq!(
        (tokens.granted.len(), tokens.shares.len()),
        (MAX_TOKENS, MAX_TOKENS)
    );
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    let world = world();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let good = world.sign(&claims());
    let (head, _) = good.rsplit_once('.').unwrap();
    for (why, assertion) in [
        (
            "another key",
            sign(&p384, Algorithm::ES384, Some("reader-1"), &claims()),
        ),
        (
            "another curve",
            sign(&p256, Algorithm::ES256, Some("reader-1"), &claims()),
        ),
        (
            "no kid",
            sign(&world.key, Algorithm::ES384, None, &claims()),
        ),
        (
            "unknown kid",
            sign(&world.key, Algorithm::ES384, Some("x"), &claims()),
        ),
        ("no signature", format!("{head}.")),
        ("not a JWT", "abc".to_owned()),
        ("empty", String::new()),
    ] {
        let (status, body) = world.assert(&assertion, "system/*.rs").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{why} {body}");
    }
    assert_eq!(world.assert(&good, "system/*.rs").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_request_is_answered_as_rfc_6749_says() {
    let world = world();
    let assertion = world.sign(&claims());
    let good = [
        ("grant_type", "client_credentials"),
        ("client_assertion_type", ASSERTION_TYPE),
        ("client_assertion", assertion.as_str()),
        ("scope", "system/*.rs"),
    ];
    for (change, value, error) in [
        (0, "password", "unsupported_grant_type"),
        (1, "saml", "invalid_request"),
        (3, "system/*.c", "invalid_scope"),
    ] {
        let mut fields = good;
        fields[change].1 = value;
        let (status, body) = world.ask(&fields).await;
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::BAD_REQUEST, &json!(error))
        );
    }
    for fields in [
        &good[1..],
        &good[..3],
        &[good.as_slice(), &good[..1]].concat(),
    ] {
        let (status, body) = world.ask(fields).await;
        assert_eq!(
            (status, &body["error"]),
            (StatusCode::BAD_REQUEST, &json!("invalid_request"))
        );
    }
}

#[tokio::test]
async fn a_client_id_beside_the_assertion_is_that_of_the_assertion() {
    for (id, status) in [
        ("reader", StatusCode::OK),
        ("operator", StatusCode::UNAUTHORIZED),
        ("", StatusCode::UNAUTHORIZED),
    ] {
        let world = world();
        let assertion = world.sign(&claims());
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", &assertion),
            ("scope", "system/*.rs"),
            ("client_id", id),
        ];
        assert_eq!(world.ask(&fields).await.0, status, "{id:?}");
        let twice = [&fields[..], &[("client_id", id)]].concat();
        assert_eq!(world.ask(&twice).await.0, StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_request_without_a_live_token_has_no_right() {
    let world = world();
    assert_eq!(
        world.server.verifier().check(&HeaderMap::new()),
        Err(TokenError::Missing)
    );
    assert_eq!(world.check("Basic abc"), Err(TokenError::Malformed));
    assert_eq!(world.check("Bearer"), Err(TokenError::Malformed));
    assert_eq!(world.check("Bearer abc"), Err(TokenError::Unknown));
    let inner = &world.server.inner;
    let past = Timestamp(inner.clock.real().0 - TOKEN_LIFE_MS - 1);
    let token = inner.issue(&"reader".into(), "system/*.rs".parse().unwrap(), past);
    assert_eq!(
        world.check(&format!("Bearer {token}")),
        Err(TokenError::Unknown),
        "expired"
    );
}

#[tokio::test]
async fn the_smart_configuration_says_where_tokens_are_given() {
    let world = world();
    for base in ["", "/fhir"] {
        let request = Request::get(format!("{base}/.well-known/smart-configuration"))
            .body(Body::empty())
            .unwrap();
        let response = world.server.router().oneshot(request).await.unwrap();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["token_endpoint"], URL);
        assert_eq!(body["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(
            body["scopes_supported"],
            json!(["mesh/devices.r", "system/*.rs"])
        );
    }
}

#[test]
fn a_key_that_is_not_p384_and_a_kid_that_is_used_twice_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let p384 = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let (clock, used) = (Clock::new(None), dir.path().join("used"));
    let wrong = register(dir.path(), "a", &p256);
    assert!(matches!(
        TokenServer::new(ORIGIN, &[wrong], clock, &used),
        Err(ClientError::Key(KeyError::NotP384(_)))
    ));
    let twice = register(dir.path(), "b", &p384);
    assert!(matches!(
        TokenServer::new(ORIGIN, &[twice.clone(), twice], clock, &used),
        Err(ClientError::DuplicateKid(_))
    ));
}

/// The key of that id, as a client publishes it.
fn jwk(key: &KeyPair, kid: &str) -> Value {
    let (x, y) = key.public_key_raw()[1..].split_at(48);
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    json!({"kty": "EC", "crv": "P-384", "kid": kid, "use": "sig", "alg": "ES384", "x": encode(x), "y": encode(y)})
}

#[tokio::test]
async fn a_client_is_known_by_the_key_of_its_id_in_a_jwk_set() {
    let dir = tempfile::tempdir().unwrap();
    let draw = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let (key, other) = (draw(), draw());
    let set = json!({"keys": [jwk(&other, "reader-0"), jwk(&key, "reader-1")]});
    let mut client = register(dir.path(), "reader", &other);
    client.public_key = dir.path().join("jwks.json");
    std::fs::write(&client.public_key, set.to_string()).unwrap();
    let used = dir.path().join("used");
    let server = TokenServer::new(ORIGIN, &[client], Clock::new(None), &used).unwrap();
    for (key, expected) in [(&other, StatusCode::UNAUTHORIZED), (&key, StatusCode::OK)] {
        let assertion = sign(key, Algorithm::ES384, Some("reader-1"), &claims());
        let world = World {
            server: server.clone(),
            key: draw(),
        };
        let (status, body) = world.assert(&assertion, "system/*.rs").await;
        assert_eq!(status, expected, "{body}");
    }
}

#[test]
fn a_jwk_set_without_one_public_key_of_that_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let with = |name: &str, value: &str| {
        let mut own = jwk(&key, "reader-1");
        own[name] = value.into();
        json!({"keys": [own]})
    };
    for (set, expected) in [
        (json!({"keys": []}), "no key has this kid"),
        (with("kid", "reader-2"), "no key has this kid"),
        (
            json!({"keys": [jwk(&key, "reader-1"), jwk(&key, "reader-1")]}),
            "several keys have this kid",
        ),
        (
            with("d", "AA"),
            "the key is a private one, which its client keeps to itself",
        ),
        (
            with("use", "enc"),
            "the key is not for signatures with ES384",
        ),
        (
            with("alg", "ES256"),
            "the key is not for signatures with ES384",
        ),
        (
            with("crv", "P-256"),
            "the key is none of P-384 (kty EC, crv P-384, x and y)",
        ),
        (
            with("x", "AA"),
            "the key is none of P-384 (kty EC, crv P-384, x and y)",
        ),
        (json!({"kid": "reader-1"}), "it is no JWK Set"),
    ] {
        let mut client = register(dir.path(), "reader", &key);
        client.public_key = dir.path().join("jwks.json");
        std::fs::write(&client.public_key, set.to_string()).unwrap();
        let used = dir.path().join("used");
        let opened = TokenServer::new(ORIGIN, &[client], Clock::new(None), &used);
        let why = match opened {
            Err(ClientError::Key(KeyError::Set { why, .. })) => why,
            other => panic!("{set}: {:?}", other.map(drop)),
        };
        assert_eq!(why, expected, "{set}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_by_a_form_that_can_be_read_and_one_proof() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let world = world();
    let form = |assertion: &str, scope: &str| {
        format!(
            "grant_type=client_credentials&client_assertion_type={}&client_assertion={assertion}&scope={scope}",
            ASSERTION_TYPE.replace(':', "%3A")
        )
    };
    let good = form(&world.sign(&claims()), "system%2F*.rs+mesh%2Fdevices.r");
    let garbage = form("a.b.c", "%ff");
    let secret = format!("{good}&client_secret=x");
    let no_secret = format!("{good}&client_secret=");
    let long = "a".repeat(3 << 20);
    for (kind, proof, body, status, error) in [
        ("text/plain", None, &good, 400, "invalid_request"),
        (FORM, None, &garbage, 400, "invalid_request"),
        (FORM, Some("Basic YTpi"), &good, 400, "invalid_request"),
        (FORM, None, &secret, 400, "invalid_request"),
        (FORM, None, &long, 413, "invalid_request"),
        (
            "Application/X-WWW-Form-Urlencoded; charset=UTF-8",
            None,
            &no_secret,
            200,
            "",
        ),
    ] {
        let mut request = Request::post(TOKEN_PATH).header("content-type", kind);
        if let Some(proof) = proof {
            request = request.header("authorization", proof);
        }
        let request = request.body(Body::from(body.clone())).unwrap();
        let response = world.server.router().oneshot(request).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{kind} {proof:?}");
        assert_eq!(response.headers()["pragma"], "no-cache");
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["error"].as_str().unwrap_or_default(), error);
        assert_eq!(body["access_token"].is_string(), status == 200, "{body}");
    }
}

/// Every use is the first one.
struct Unused;

impl SharedUse for Unused {
    fn note(
        &self,
        _: (&str, &str),
        _: (i64, i64),
        _: usize,
    ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Noted::First)
    }
}

#[tokio::test]
async fn an_assertion_for_another_address_of_the_same_server_is_good_and_each_address_names_itself()
{
    let dir = tempfile::tempdir().unwrap();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let client = register(dir.path(), "reader", &key);
    let used = dir.path().join("used");
    let shared = Shared::new(Arc::new(Unused), b"s").at(&["https://b:8443".to_owned()]);
    let clock = Clock::new(None);
    let server = TokenServer::sharing(ORIGIN, &[client], clock, &used, Some(shared)).unwrap();
    let world = World { server, key };
    for (audience, status) in [
        (URL, StatusCode::OK),
        ("https://b:8443/auth/token", StatusCode::OK),
        ("https://c:8443/auth/token", StatusCode::UNAUTHORIZED),
    ] {
        let assertion = world.sign(&changed("aud", audience.into()));
        let given = world.assert(&assertion, "system/*.rs").await;
        assert_eq!(given.0, status, "{audience}");
    }
    let named = async |router: Router| {
        let request = Request::get("/.well-known/smart-configuration");
        let request = request.body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let body = to_bytes(response.into_body(), 1 << 16).await.unwrap();
        let said: Value = serde_json::from_slice(&body).unwrap();
        said["token_endpoint"].as_str().unwrap().to_owned()
    };
    assert_eq!(named(world.server.router()).await, URL);
    let other = named(world.server.router_at("https://b:8443")).await;
    assert_eq!(other, "https://b:8443/auth/token");
}
