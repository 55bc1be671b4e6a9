//! The entries of a Bundle that is a batch or a transaction, as requests (FHIR R4 http.html#transaction).
use super::outcome::Failure;
use crate::json::Json;
use axum::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};

/// Entries of one Bundle: bounds how long others wait.
pub const MAX_ENTRIES: usize = 500;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Each entry for itself.
    Batch,
    /// All of them or none.
    Transaction,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What others of the Bundle call the resource.
    pub full_url: Option<String>,
    /// The text of the resource.
    pub resource: Option<String>,
    /// GET, HEAD, POST, PUT, PATCH or DELETE.
    pub method: Method,
    /// What follows the base, without the query: `Patient`, `1`.
    pub path: Vec<String>,
    /// The decoded pairs of the query.
    pub query: Vec<(String, String)>,
    /// Headers of the request, by their names.
    pub conditions: Vec<(&'static str, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleText<'a> {
    resource_type: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, borrow)]
    entry: Vec<EntryText<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryText<'a> {
    full_url: Option<String>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    request: Option<RequestText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestText {
    method: Option<String>,
    url: Option<String>,
    if_none_match: Option<String>,
    if_modified_since: Option<String>,
    if_match: Option<String>,
    if_none_exist: Option<String>,
}

/// An entry, or why it is no request.
pub type Asked = Result<Entry, Failure>;

/// Reads a Bundle. `base` is the URL of this server, with which an entry's may begin.
pub fn read(text: &str, base: &str) -> Result<(Sort, Vec<Asked>), Failure> {
    // Bounds depth and numbers, and refuses a member that stands twice.
    Json::parse(text).map_err(|error| Failure::no_resource(&error.to_string()))?;
    let bundle: BundleText<'_> = serde_json::from_str(text)
        .map_err(|_| Failure::no_resource("a Bundle of requests is expected"))?;
    let sort = match (bundle.resource_type.as_str(), bundle.kind.as_str()) {
        ("Bundle", "batch") => Sort::Batch,
        ("Bundle", "transaction") => Sort::Transaction,
        _ => {
            return Err(Failure::no_resource(
                "a Bundle of type batch or transaction is expected",
            ));
        }
    };
    if bundle.entry.len() > MAX_ENTRIES {
        return Err(Failure::too_many_entries());
    }
    let entries = bundle.entry.iter().enumerate();
    let read = entries.map(|(at, entry)| entry.read(base).map_err(|failure| failure.of_entry(at)));
    Ok((sort, read.collect()))
}

impl EntryText<'_> {
    fn read(&self, base: &str) -> Result<Entry, Failure> {
        let missing = || Failure::no_resource("request, with method and url, is missing");
        let request = self.request.as_ref().ok_or_else(missing)?;
        let method = request.method.as_deref().ok_or_else(missing)?;
        let url = request.url.as_deref().ok_or_else(missing)?;
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            "PATCH" => Method::PATCH,
            _ => return Err(Failure::method()),
        };
        let own = url.strip_prefix(base).unwrap_or(url);
        let own = own.trim_start_matches('/');
        let (path, query) = own.split_once('?').unwrap_or((own, ""));
        let uri = format!("http://local/?{query}").parse();
        let uri = uri.map_err(|_| Failure::parameters())?;
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri);
        let conditions = [
            ("if-none-match", &request.if_none_match),
            ("if-modified-since", &request.if_modified_since),
            ("if-match", &request.if_match),
            ("if-none-exist", &request.if_none_exist),
        ];
        let stated = conditions.into_iter();
        Ok(Entry {
            full_url: self.full_url.clone(),
            resource: self.resource.map(|text| text.get().to_owned()),
            method,
            path: path.split('/').map(str::to_owned).collect(),
            query: pairs.map_err(|_| Failure::parameters())?.0,
            conditions: stated
                .filter_map(|(name, value)| Some((name, value.clone()?)))
                .collect(),
        })
    }
}

/// The text with every reference to what an entry is called replaced by what it is called here. Only values of members
/// that refer are looked at: an identifier may be a UUID too.
pub fn resolved(text: &str, names: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut member = "";
    while let Some(start) = rest.find('"') {
        let (before, quoted) = rest.split_at(start);
        let end = end_of_string(quoted);
        let (string, after) = quoted.split_at(end);
        let inner = string.trim_matches('"');
        out.push_str(before);
        let names_a_member = after.trim_start().starts_with(':');
        match names.get(inner) {
            Some(name) if !names_a_member && refers(member) => {
                out.push('"');
                out.push_str(name);
                out.push('"');
            }
            _ => out.push_str(string),
        }
        if names_a_member {
            member = inner;
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// The references of a text that are conditions (`Practitioner?identifier=…`), as they stand in it.
pub fn conditional_references(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    let mut member = "";
    while let Some(start) = rest.find('"') {
        let (_, quoted) = rest.split_at(start);
        let (string, after) = quoted.split_at(end_of_string(quoted));
        let inner = string.trim_matches('"');
        if after.trim_start().starts_with(':') {
            member = inner;
        } else if member == "reference" && inner.contains('?') {
            found.insert(inner.to_owned());
        }
        rest = after;
    }
    found
}

/// Where a string ends, with its quotes.
fn end_of_string(quoted: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in quoted.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    quoted.len()
}

fn refers(member: &str) -> bool {
    matches!(
        member,
        "reference" | "uri" | "url" | "valueUri" | "valueUrl" | "valueUuid" | "valueCanonical"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_replaced_and_nothing_else_is() {
        let names = HashMap::from([("urn:uuid:a".to_owned(), "Patient/1".to_owned())]);
        let text = r#"{"x": "say \"urn:uuid:a\"", "subject": { "reference" : "urn:uuid:a" },
            "identifier": [{"value": "urn:uuid:a"}], "n": 1.50, "list": [{"reference":"urn:uuid:b"}]}"#;
        let expected = text.replacen(
            r#""reference" : "urn:uuid:a""#,
            r#""reference" : "Patient/1""#,
            1,
        );
        assert_eq!(resolved(text, &names), expected);
        for odd in ["", "\"", "{\"a", "\"\\"] {
            assert_eq!(resolved(odd, &names), odd);
        }
    }

    #[test]
    fn references_that_are_conditions_are_found_and_no_other_text_is() {
        let text = r#"{"url": "x?y", "a": {"reference": "Practitioner?identifier=s|1"},
            "b": [{"reference":"Patient/1"}], "c": {"reference" : "Location?name=a\"b"}}"#;
        let found: Vec<String> = conditional_references(text).into_iter().collect();
        assert_eq!(
            found,
            [r#"Location?name=a\"b"#, "Practitioner?identifier=s|1"]
        );
    }

    #[test]
    fn an_entry_without_a_request_is_named() {
        let bundle = |entry: &str| {
            format!(r#"{{"resourceType":"Bundle","type":"batch","entry":[{entry}]}}"#)
        };
        let good = r#"{"request":{"method":"GET","url":"https://here/fhir/Patient?_id=a%2Cb"}}"#;
        let (_, entries) = read(&bundle(good), "https://here/fhir").unwrap();
        let entry = entries[0].as_ref().unwrap();
        assert_eq!(entry.path, ["Patient"]);
        assert_eq!(entry.query, [("_id".to_owned(), "a,b".to_owned())]);
        let is_refused = |text: &str| match read(text, "https://here/fhir") {
            Ok((_, entries)) => entries.iter().any(Result::is_err),
            Err(_) => true,
        };
        for bad in [
            "{}",
            r#"{"request":{"method":"TRACE","url":"Patient"}}"#,
            r#"{"request":{"method":"GET"}}"#,
            r#"{"request":{"method":"GET","url":"Patient","url":"Patient"}}"#,
        ] {
            assert!(is_refused(&bundle(bad)), "{bad}");
        }
        assert!(read(r#"{"resourceType":"Bundle","type":"document"}"#, "").is_err());
        let many = vec![good; MAX_ENTRIES + 1].join(",");
        assert!(read(&bundle(&many), "").is_err());
    }
}
