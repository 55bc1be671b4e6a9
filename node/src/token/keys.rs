//! The public keys of clients, as they are registered: the PEM of one, or a JWK Set (RFC 7517), of which the key with the
//! client's `kid` is taken. A set is a file, as clients publish it: no address is fetched from, so that nobody who holds a
//! client's web server gets its keys in.
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use std::{
    io,
    path::{Path, PathBuf},
};

/// An uncompressed point of P-384 (SEC 1 §2.3.3): 0x04 and two coordinates of 48 bytes.
const P384_POINT_BYTES: usize = 97;

/// Why a file does not have the public key of a client.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not the PEM of a P-384 public key.
    #[error("{} is neither the PEM of a P-384 public key nor a JWK Set", .0.display())]
    NotP384(PathBuf),
    /// It is a JWK Set that does not have the key of the client.
    #[error("{}: {why} ({kid})", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// The key that it should have.
        kid: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// A JWK Set (RFC 7517 §5). Other members are passed over.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The key of a client, in its file.
pub(crate) fn read(path: &Path, kid: &str) -> Result<DecodingKey, KeyError> {
    let text = std::fs::read(path).map_err(|source| KeyError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    if text.trim_ascii_start().starts_with(b"{") {
        return of_set(&text, path, kid);
    }
    let key = DecodingKey::from_ec_pem(&text).ok();
    key.filter(is_p384)
        .ok_or_else(|| KeyError::NotP384(path.to_owned()))
}

fn is_p384(key: &DecodingKey) -> bool {
    let point = key.try_get_as_bytes();
    point.is_ok_and(|point| point.len() == P384_POINT_BYTES)
}

/// The one key of that id.
fn of_set(text: &[u8], path: &Path, kid: &str) -> Result<DecodingKey, KeyError> {
    let wrong = |why| KeyError::Set {
        path: path.to_owned(),
        kid: kid.to_owned(),
        why,
    };
    let set: Set = serde_json::from_slice(text).map_err(|_| wrong("it is no JWK Set"))?;
    let text_of = |key: &Value, name: &str| Some(key.get(name)?.as_str()?.to_owned());
    let is_own = |key: &&Value| text_of(key, "kid").as_deref() == Some(kid);
    let mut own = set.keys.iter().filter(is_own);
    let key = match (own.next(), own.next()) {
        (Some(key), None) => key,
        (None, _) => return Err(wrong("no key has this kid")),
        _ => return Err(wrong("several keys have this kid")),
    };
    if key.get("d").is_some() {
        return Err(wrong(
            "the key is a private one, which its client keeps to itself",
        ));
    }
    let is_for = |name: &str, wanted: &str| key.get(name).is_none_or(|value| value == wanted);
    if !is_for("use", "sig") || !is_for("alg", "ES384") {
        return Err(wrong("the key is not for signatures with ES384"));
    }
    let of = |name: &str| text_of(key, name);
    let is_of_curve = of("kty").as_deref() == Some("EC") && of("crv").as_deref() == Some("P-384");
    let point = of("x").zip(of("y")).filter(|_| is_of_curve);
    let read = point.and_then(|(x, y)| DecodingKey::from_ec_components(&x, &y).ok());
    read.filter(is_p384)
        .ok_or_else(|| wrong("the key is none of P-384 (kty EC, crv P-384, x and y)"))
}
