//! Searchset bundles: the stored texts, unparsed, with links that page on.
use super::outcome::outcome;
use super::vantage::Instants;
use crate::search::{Cursor, Search};
use crate::store::{Kind, StoreError, Stored};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

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

#[derive(Serialize)]
struct Link {
    relation: &'static str,
    url: String,
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

/// The bundle of a page. Parameters that were ignored are reported in it (FHIR R4 search.html#errors).
pub fn searchset(
    base: &str,
    search: &Search,
    page: &[Stored],
    next: Option<&Cursor>,
    total: Option<u64>,
    instants: &Instants,
) -> Result<String, StoreError> {
    let internal = |_| StoreError::new(Kind::Internal, "bundle");
    let link = |relation, cursor: Option<&Cursor>| Link {
        relation,
        url: format!("{base}/{}", request(search, cursor)),
    };
    let mut links = vec![link("self", search.cursor.as_ref())];
    links.extend(next.map(|next| link("next", Some(next))));
    let mut entry = Vec::with_capacity(page.len() + 1);
    for stored in page {
        entry.push(Entry {
            full_url: Some(format!("{base}/{}/{}", stored.kind, stored.id)),
            resource: stored.stamped(&instants.of(stored))?,
            search: Mode { mode: "match" },
        });
    }
    if !search.ignored.is_empty() {
        let text = format!("ignored search parameters: {}", search.ignored.join(", "));
        entry.push(Entry {
            full_url: None,
            resource: to_raw_value(&outcome("warning", "not-supported", &text))
                .map_err(internal)?,
            search: Mode { mode: "outcome" },
        });
    }
    let bundle = Bundle {
        meta: instants.last().map(|last_updated| Meta { last_updated }),
        kind: "searchset",
        total,
        link: links,
        entry,
    };
    serde_json::to_string(&bundle).map_err(internal)
}

/// The parameters that were understood, as the client may check them, and the page: what follows the base in a link.
pub fn request(search: &Search, cursor: Option<&Cursor>) -> String {
    let cursor = cursor.map(|cursor| ("_cursor".to_owned(), cursor.to_text()));
    with_query(
        search.query.kind.as_str(),
        search.used.iter().chain(cursor.iter()),
    )
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
