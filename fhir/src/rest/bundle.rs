//! Searchset bundles: the stored texts, unparsed, with links that page on.
use super::place;
use crate::search::{Cursor, Seal, Search};
use crate::store::{Kind, StoreError};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Serialize)]
#[serde(tag = "resourceType", rename_all = "camelCase")]
struct Bundle {
    /// Up to when the page shows everything, as the reader is told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    link: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    entry: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    last_updated: String,
}

/// A link of a Bundle.
#[derive(Serialize)]
pub(super) struct Link {
    pub(super) relation: &'static str,
    pub(super) url: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(skip_serializing_if = "Option::is_none")]
    full_url: Option<String>,
    resource: Box<RawValue>,
    search: Mode,
}

#[derive(Serialize)]
struct Mode {
    mode: &'static str,
}

/// A page as it grows.
pub struct Page(Bundle);

impl Page {
    /// Without links and entries. `last` is up to when it shows everything, as the reader is told it.
    pub fn new(last: Option<String>, total: Option<u64>) -> Self {
        Self(Bundle {
            meta: last.map(|last_updated| Meta { last_updated }),
            kind: "searchset",
            total,
            link: Vec::new(),
            entry: Vec::new(),
        })
    }

    /// Adds a link.
    pub fn link(&mut self, relation: &'static str, url: String) {
        self.0.link.push(Link { relation, url });
    }

    /// Adds a resource, and why it is there.
    pub fn entry(&mut self, full_url: Option<String>, resource: Box<RawValue>, mode: &'static str) {
        self.0.entry.push(Entry {
            full_url,
            resource,
            search: Mode { mode },
        });
    }

    /// The text.
    pub fn text(&self) -> Result<String, StoreError> {
        let text = serde_json::to_string(&self.0);
        text.map_err(|_| StoreError::new(Kind::Internal, "bundle"))
    }
}

/// The parameters that were understood, as the client may check them, and the page: what follows the base in a link.
pub fn request(search: &Search, cursor: Option<&Cursor>, seal: &Seal) -> String {
    let path = search.path.as_str();
    let prove = |cursor: &Cursor| {
        let own = with_query(path, search.used.iter());
        place::prove(seal, &own, &cursor.to_text())
    };
    let cursor = cursor.map(|cursor| ("_cursor".to_owned(), prove(cursor)));
    with_query(path, search.used.iter().chain(cursor.iter()))
}

/// A path with a query.
pub fn with_query<'a>(path: &str, pairs: impl Iterator<Item = &'a (String, String)>) -> String {
    let pairs: Vec<String> = pairs
        .map(|(name, value)| format!("{}={}", percent(name), percent(value)))
        .collect();
    let query = if pairs.is_empty() { "" } else { "?" };
    format!("{path}{query}{}", pairs.join("&"))
}

/// RFC 3986 §2.3: everything but unreserved characters is escaped.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
