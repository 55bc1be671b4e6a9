//! Access tokens that every node with the same secret believes: what such a token says is signed (JWS, RFC 7515, by
//! HMAC-SHA-256, RFC 7518 §3.2), so that a client goes on at another node with the one that it has. It is good within what
//! that node's own configuration lets its client have, and no longer than where it was given.
use super::{Granted, Inner, Scopes};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use types::{Secret, Timestamp};

/// Scopes of a token that is signed, in bytes: the header of a request has room for it, and for all else. A token of longer
/// ones is good at one node.
const MAX_SCOPES_BYTES: usize = 4_096;
/// Bytes of a token that is looked at: the longest that is given, with room for a client's name.
const MAX_TOKEN_BYTES: usize = 8_192;

/// With what tokens are signed, and believed.
pub(super) struct Signing {
    key: EncodingKey,
    check: DecodingKey,
}

impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing(..)")
    }
}

/// What a token says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Says {
    /// The client.
    sub: String,
    scope: String,
    /// Until when, in ms since 1970.
    until: i64,
    /// Tells it from every other one.
    jti: String,
}

impl Signing {
    /// Derived from a secret that serves other ends too.
    pub(super) fn of_secret(secret: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update("medmesh/access-token/v1")
            .chain_update(secret);
        let own = Secret::new(<[u8; 32]>::from(hash.finalize()));
        Self {
            key: EncodingKey::from_secret(own.reveal()),
            check: DecodingKey::from_secret(own.reveal()),
        }
    }

    /// A token with that unique id; none when its scopes are too long for one.
    pub(super) fn sign(&self, granted: &Granted, id: &str) -> Option<String> {
        let says = Says {
            sub: granted.client.to_string(),
            scope: granted.scopes.to_string(),
            until: granted.until.0,
            jti: id.to_owned(),
        };
        if says.scope.len() > MAX_SCOPES_BYTES {
            return None;
        }
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &says, &self.key).ok()
    }

    /// What a token says that was signed with this secret, by this algorithm alone.
    fn read(&self, token: &str) -> Option<Says> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let mut rules = Validation::new(Algorithm::HS256);
        rules.required_spec_claims.clear();
        // The end is judged by the node's own clock.
        rules.validate_exp = false;
        rules.validate_aud = false;
        let read = jsonwebtoken::decode::<Says>(token, &self.check, &rules);
        Some(read.ok()?.claims)
    }
}

impl Inner {
    /// What a token grants here that another node has given; none when it is no such token, or is over.
    pub(super) fn given_elsewhere(&self, token: &str, now: Timestamp) -> Option<Granted> {
        let says = self.signing.as_ref()?.read(token)?;
        let (client, allowed) = self.registry.allowed(&says.sub)?;
        let scopes = Scopes::lenient(&says.scope).within(&allowed);
        let until = Timestamp(says.until);
        let is_good = until > now && !scopes.is_empty();
        is_good.then_some(Granted {
            client,
            scopes,
            until,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Noted, Shared, SharedUse, TOKEN_LIFE_MS, TokenServer};
    use super::*;
    use crate::{clock::Clock, config::ClientConfig};
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};
    use std::{path::Path, sync::Arc};

    struct Never;

    impl SharedUse for Never {
        fn note(
            &self,
            _: (&str, &str),
            _: (i64, i64),
            _: usize,
        ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>> {
            Ok(Noted::First)
        }
    }

    fn server(dir: &Path, secret: &[u8], clients: &[(&str, &str)]) -> TokenServer {
        let config = |(name, scope): &(&str, &str)| {
            let public_key = dir.join(format!("{name}.pem"));
            let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
            std::fs::write(&public_key, key.public_key_pem()).unwrap();
            ClientConfig {
                client_id: (*name).into(),
                kid: format!("{name}-1"),
                public_key,
                scope: (*scope).into(),
            }
        };
        let configs: Vec<ClientConfig> = clients.iter().map(config).collect();
        let shared = Shared::new(Arc::new(Never), secret);
        let (clock, used) = (Clock::new(None), dir.join("used"));
        TokenServer::sharing("https://a", &configs, clock, &used, Some(shared)).unwrap()
    }

    fn scopes(server: &TokenServer, token: &str) -> Option<String> {
        let mut headers = axum::http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let scopes = server.verifier().check(&headers).ok()?;
        Some(scopes.to_string())
    }

    #[test]
    fn a_token_is_good_at_the_other_node_within_what_its_client_may_have_there() {
        let dir = tempfile::tempdir().unwrap();
        let all = [("a", "system/*.rs"), ("b", "system/*.rs")];
        let one = server(dir.path(), b"secret", &all);
        let other = server(dir.path(), b"secret", &[("a", "system/Patient.r")]);
        let stranger = server(dir.path(), b"another", &all);
        let now = Clock::new(None).real();
        let issue = |client: &str, now| {
            let scopes = Scopes::lenient("system/*.rs");
            one.inner.issue(&client.into(), scopes, now)
        };
        let (good, unknown) = (issue("a", now), issue("b", now));
        assert_eq!(scopes(&one, &good).as_deref(), Some("system/*.rs"));
        for _ in 0..2 {
            assert_eq!(scopes(&other, &good).as_deref(), Some("system/Patient.r"));
        }
        assert_eq!(scopes(&other, &unknown), None, "no client of that node");
        assert_eq!(scopes(&stranger, &good), None, "signed with another secret");
        let over = issue("a", now.plus_ms(-TOKEN_LIFE_MS));
        assert_eq!(scopes(&other, &over), None, "its time is over");
    }

    #[test]
    fn a_token_that_was_changed_or_is_signed_in_another_way_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let all = [("a", "system/*.rs"), ("b", "system/*.cruds")];
        let (one, other) = (
            server(dir.path(), b"secret", &all),
            server(dir.path(), b"secret", &all),
        );
        let now = Clock::new(None).real();
        let of = |client: &str| {
            let scopes = Scopes::lenient("system/*.rs");
            one.inner.issue(&client.into(), scopes, now)
        };
        let (a, b) = (of("a"), of("b"));
        let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (parts(&a), parts(&b));
        assert_eq!((a.len(), b.len()), (3, 3));
        // {"alg":"none"}
        let none = "eyJhbGciOiJub25lIn0";
        for forged in [
            format!("{}.{}.{}", a[0], b[1], a[2]),
            format!("{none}.{}.", a[1]),
            format!("{none}.{}.{}", a[1], a[2]),
            format!("{}.{}.", a[0], a[1]),
        ] {
            assert_eq!(scopes(&other, &forged), None, "{forged}");
        }
        assert!(scopes(&other, &a.join(".")).is_some());
    }

    #[test]
    fn a_token_whose_scopes_are_too_long_for_a_header_is_good_where_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let all = [("a", "system/*.rs")];
        let (one, other) = (
            server(dir.path(), b"secret", &all),
            server(dir.path(), b"secret", &all),
        );
        let scope = |n| format!("system/Observation.rs?code={n}{}", "x".repeat(200));
        let long: Vec<String> = (0..40).map(scope).collect();
        let given = Scopes::lenient(&long.join(" "));
        let now = Clock::new(None).real();
        let token = one.inner.issue(&"a".into(), given, now);
        assert!(token.len() < 64 && scopes(&one, &token).is_some());
        assert_eq!(scopes(&other, &token), None);
    }
}
