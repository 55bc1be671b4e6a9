//! Tokens that a node leaves to the program that follows it in its process: their digests, in a file that is read once.
use super::{Granted, Inner, Scopes, TokenServer};
use serde::{Deserialize, Serialize};
use std::{fs, io, path::Path};
use types::Timestamp;

/// The file, beside that of used assertions.
pub(super) const FILE: &str = "tokens.left";

/// A token that is alive.
#[derive(Serialize, Deserialize)]
struct Left {
    digest: [u8; 32],
    client: String,
    scopes: String,
    until: Timestamp,
}

impl TokenServer {
    /// Leaves the tokens that are alive to the program that follows; `dir` is the node's data directory. Where that fails,
    /// clients have to ask for new ones.
    pub fn leave(&self, dir: &Path) {
        if let Err(error) = self.write(&dir.join(FILE)) {
            tracing::warn!(%error, "tokens are not left to the program that follows");
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let tokens = self.inner.tokens.lock();
        let left: Vec<Left> = tokens
            .granted
            .iter()
            .map(|(digest, granted)| Left {
                digest: *digest,
                client: granted.client.to_string(),
                scopes: granted.scopes.to_string(),
                until: granted.until,
            })
            .collect();
        drop(tokens);
        let bytes = serde_json::to_vec(&left)?;
        storage::file::replace(path, &bytes, 0o600).map(drop)
    }
}

impl Inner {
    /// Takes what was left, within what each client may have now. Whatever is wrong with the file, it goes: clients ask
    /// for new tokens.
    pub(super) fn take_left(&self, path: &Path, now: Timestamp) {
        let Ok(bytes) = fs::read(path) else { return };
        let left: Vec<Left> = serde_json::from_slice(&bytes).unwrap_or_default();
        // A token is never taken from a file that stays.
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(%error, "tokens that were left are not taken");
            return;
        }
        let mut tokens = self.tokens.lock();
        for left in left.into_iter().filter(|left| left.until > now) {
            let Some((client, allowed)) = self.registry.allowed(&left.client) else {
                continue;
            };
            let scopes = Scopes::lenient(&left.scopes).within(&allowed);
            if !scopes.is_empty() {
                let granted = Granted {
                    client,
                    scopes,
                    until: left.until,
                };
                tokens.add(left.digest, granted, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, config::ClientConfig};
    use rcgen::{KeyPair, PKCS_ECDSA_P384_SHA384};

    fn server(dir: &Path, clients: &[(&str, &str)]) -> TokenServer {
        let config = |(name, scope): &(&str, &str)| {
            let public_key = dir.join(format!("{name}.pem"));
            if !public_key.exists() {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
                fs::write(&public_key, key.public_key_pem()).unwrap();
            }
            ClientConfig {
                client_id: (*name).into(),
                kid: format!("{name}-1"),
                public_key,
                scope: (*scope).into(),
            }
        };
        let configs: Vec<ClientConfig> = clients.iter().map(config).collect();
        TokenServer::new("https://a", &configs, Clock::new(None), &dir.join("used")).unwrap()
    }

    fn scopes(server: &TokenServer, token: &str) -> Option<String> {
        let mut headers = axum::http::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
        let scopes = server.verifier().check(&headers).ok()?;
        Some(scopes.to_string())
    }

    #[test]
    fn a_token_that_was_left_is_good_within_what_its_client_may_have_now() {
        let dir = tempfile::tempdir().unwrap();
        let before = server(dir.path(), &[("a", "system/*.rs"), ("b", "system/*.rs")]);
        let now = Clock::new(None).real();
        let issue = |client: &str, now| {
            let scopes = Scopes::lenient("system/*.rs");
            before.inner.issue(&client.into(), scopes, now)
        };
        let (kept, gone) = (issue("a", now), issue("b", now));
        let expired = issue("a", Timestamp(0));
        before.leave(dir.path());
        let file = dir.path().join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains(&kept), "the token itself is in the file");

        // A program that follows none removes the file, and believes nothing of it.
        let after = server(dir.path(), &[("a", "system/Patient.r")]);
        assert!(!file.exists());
        assert_eq!(scopes(&after, &kept), None);

        before.leave(dir.path());
        after.inner.take_left(&file, now);
        assert_eq!(scopes(&after, &kept).as_deref(), Some("system/Patient.r"));
        assert_eq!(scopes(&after, &gone), None);
        assert_eq!(scopes(&after, &expired), None);
        assert!(!file.exists());
        fs::write(&file, "no list").unwrap();
        after.inner.take_left(&file, now);
        assert!(!file.exists());
    }
}
