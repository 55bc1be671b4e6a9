//! The public keys of clients, as they are registered: the PEM of one, or a JWK Set (RFC 7517), of which the key with the
//! client's `kid` is taken. A set is a file, as clients publish it: no address is fetched from, so that nobody who holds a
//! client's web server gets its keys in.
use super::ClientError;
use crate::config::ClientConfig;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// An uncompressed point of P-384 (SEC 1 §2.3.3): 0x04 and two coordinates of 48 bytes.
const P384_POINT_BYTES: usize = 97;

/// A JWK Set (RFC 7517 §5). Other members are passed over.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The key of a client.
pub(crate) fn read(config: &ClientConfig) -> Result<DecodingKey, ClientError> {
    let path = &config.public_key;
    let text = std::fs::read(path).map_err(|source| ClientError::Unreadable {
        path: path.clone(),
        source,
    })?;
    if text.trim_ascii_start().starts_with(b"{") {
        return of_set(&text, path, &config.kid);
    }
    let key = DecodingKey::from_ec_pem(&text).ok();
    key.filter(is_p384)
        .ok_or_else(|| ClientError::NotP384(path.clone()))
}

fn is_p384(key: &DecodingKey) -> bool {
    let point = key.try_get_as_bytes();
    point.is_ok_and(|point| point.len() == P384_POINT_BYTES)
}

/// The one key of that id.
fn of_set(text: &[u8], path: &Path, kid: &str) -> Result<DecodingKey, ClientError> {
    let wrong = |why| ClientError::Set {
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
