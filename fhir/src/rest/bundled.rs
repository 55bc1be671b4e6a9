//! The entries of a Bundle that is a batch or a transaction, as requests (FHIR R4 http.html#transaction).
use super::{
    conditional, http_date,
    outcome::Failure,
    routes::{MAX_RESOURCE_BYTES, decoded},
};
use crate::bases::Bases;
use crate::json::Json;
use crate::r4::R4;
use axum::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeSet, HashMap};
use types::Timestamp;

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
    /// What follows the base, without the query and decoded: `Patient`, `1`.
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

/// Reads a Bundle. `bases` are the URLs of this server, with one of which an entry's may begin.
pub fn read(text: &str, bases: Bases<'_>) -> Result<(Sort, Vec<Asked>), Failure> {
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
    let read = entries.map(|(at, entry)| entry.read(bases).map_err(|failure| failure.of_entry(at)));
    Ok((sort, read.collect()))
}

impl EntryText<'_> {
    fn read(&self, bases: Bases<'_>) -> Result<Entry, Failure> {
        if self
            .resource
            .is_some_and(|it| it.get().len() > MAX_RESOURCE_BYTES)
        {
            return Err(Failure::resource_too_long());
        }
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
        let own = bases.behind(url).unwrap_or(url);
        let own = own.trim_start_matches('/');
        let (path, query) = own.split_once('?').unwrap_or((own, ""));
        let query = conditional::pairs_of(query)?;
        let path: Option<Vec<String>> = path.split('/').map(decoded).collect();
        // In a Bundle it is an instant (FHIR R4 Bundle.entry.request.ifModifiedSince), in a header an HTTP date.
        let since = request.if_modified_since.as_deref().map(|since| {
            let instant = since.parse::<Timestamp>();
            instant.map_or_else(|_| since.to_owned(), http_date)
        });
        let conditions = [
            ("if-none-match", request.if_none_match.clone()),
            ("if-modified-since", since),
            ("if-match", request.if_match.clone()),
            ("if-none-exist", request.if_none_exist.clone()),
        ];
        let stated = conditions.into_iter();
        Ok(Entry {
            full_url: self.full_url.clone(),
            resource: self.resource.map(|text| text.get().to_owned()),
            method,
            path: path.ok_or_else(Failure::unreadable_path)?,
            query,
            conditions: stated
                .filter_map(|(name, value)| Some((name, value?)))
                .collect(),
        })
    }
}

/// What entries are called, and what each is called here. A relative reference is to what is below the base of the entry
/// that it stands in (FHIR R4 bundle.html#references).
pub struct Names<'a> {
    pub all: &'a HashMap<String, String>,
    pub base: &'a str,
}

impl Names<'_> {
    fn of(&self, reference: &str) -> Option<&String> {
        let below = || self.all.get(&format!("{}/{reference}", self.base));
        self.all.get(reference).or_else(below)
    }

    /// The text of a narrative with its links replaced: `href` and `src`, whose quotes are escaped in JSON or single.
    fn linked(&self, narrative: &str) -> String {
        let mut out = String::with_capacity(narrative.len());
        let mut rest = narrative;
        // Where a link begins, and with which quote it ends.
        let begin = |text: &str| {
            text.match_indices('=').find_map(|(at, _)| {
                let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
                let links = before.ends_with("href") || before.ends_with("src");
                let quotes = ["\\\"", "'"].into_iter();
                let quote = quotes.filter(|_| links).find(|it| after.starts_with(*it))?;
                Some((at + 1 + quote.len(), quote))
            })
        };
        while let Some((at, quote)) = begin(rest) {
            let (before, link) = rest.split_at(at);
            let (link, after) = link.split_at(link.find(quote).unwrap_or(link.len()));
            out.push_str(before);
            out.push_str(self.all.get(link).map_or(link, String::as_str));
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// The base of an entry of that `fullUrl`: what is before its type and id; that of this server where it has none.
pub fn base_of<'a>(full_url: Option<&'a str>, own: &'a str) -> &'a str {
    let mut parts = full_url.unwrap_or_default().rsplitn(3, '/');
    let (_, kind, base) = (parts.next(), parts.next(), parts.next());
    let is_resource = kind.is_some_and(|kind| R4.is_resource(kind));
    base.filter(|_| is_resource).unwrap_or(own)
}

/// The text with every reference to what an entry is called replaced by what it is called here. Only values of members
/// that refer are looked at, and the links of narratives: an identifier may be a UUID too.
pub fn resolved(text: &str, names: &Names<'_>) -> String {
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
        let refers = !names_a_member && refers(member);
        match refers.then(|| names.of(inner)).flatten() {
            Some(name) => {
                out.push('"');
                out.push_str(name);
                out.push('"');
            }
            None if member == "div" && !names_a_member => out.push_str(&names.linked(string)),
            None => out.push_str(string),
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
    match text.contains('?') {
        true => references(text, |reference| reference.contains('?')),
        false => BTreeSet::new(),
    }
}

/// Whether a text refers to an entry of a Bundle by a name that is good there alone.
pub fn refers_to_an_entry(text: &str) -> bool {
    let is_urn = |reference: &str| {
        let of = |scheme| reference.starts_with(scheme);
        of("urn:uuid:") || of("urn:oid:")
    };
    text.contains("\"urn:") && !references(text, is_urn).is_empty()
}

/// The values of `reference` that are such, as they stand in a text.
fn references(text: &str, is_such: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    let mut member = "";
    while let Some(start) = rest.find('"') {
        let (_, quoted) = rest.split_at(start);
        let (string, after) = quoted.split_at(end_of_string(quoted));
        let inner = string.trim_matches('"');
        if after.trim_start().starts_with(':') {
            member = inner;
        } else if member == "reference" && is_such(inner) {
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

    const HERE: Bases<'_> = Bases::of("https://here/fhir");

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
        let names = Names {
            all: &names,
            base: "https://here/fhir",
        };
        assert_eq!(resolved(text, &names), expected);
        for odd in ["", "\"", "{\"a", "\"\\"] {
            assert_eq!(resolved(odd, &names), odd);
        }
    }

    #[test]
    fn a_relative_reference_is_below_the_base_of_its_entry_and_a_narrative_has_links() {
        let all = HashMap::from([
            (
                "https://there/fhir/Encounter/x".to_owned(),
                "Encounter/1".to_owned(),
            ),
            (
                "https://here/fhir/Encounter/x".to_owned(),
                "Encounter/2".to_owned(),
            ),
            ("urn:uuid:a".to_owned(), "Patient/1".to_owned()),
        ]);
        let of = |full_url| Names {
            all: &all,
            base: base_of(full_url, "https://here/fhir"),
        };
        let text = r#"{"encounter": {"reference": "Encounter/x"}}"#;
        for (full_url, found) in [
            (Some("https://there/fhir/Condition/y"), "Encounter/1"),
            (Some("https://elsewhere/Condition/y"), "Encounter/x"),
            (Some("urn:uuid:b"), "Encounter/2"),
            (None, "Encounter/2"),
        ] {
            let expected = text.replace("Encounter/x", found);
            assert_eq!(resolved(text, &of(full_url)), expected, "{full_url:?}");
        }
        let div = r#"{"div": "<div><a href=\"urn:uuid:a\">urn:uuid:a</a><img src='urn:uuid:a'/><a href='#b'/></div>"}"#;
        let expected = r#"{"div": "<div><a href=\"Patient/1\">urn:uuid:a</a><img src='Patient/1'/><a href='#b'/></div>"}"#;
        assert_eq!(resolved(div, &of(None)), expected);
        for cut in ["{\"div\": \"<a href=\\\"urn", "{\"div\": \"<a href='"] {
            assert_eq!(resolved(cut, &of(None)), cut);
        }
        assert!(refers_to_an_entry(r#"{"a": {"reference": "urn:uuid:b"}}"#));
        assert!(!refers_to_an_entry(r#"{"a": {"value": "urn:uuid:b"}}"#));
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
        let (_, entries) = read(&bundle(good), HERE).unwrap();
        let entry = entries[0].as_ref().unwrap();
        assert_eq!(entry.path, ["Patient"]);
        assert_eq!(entry.query, [("_id".to_owned(), "a,b".to_owned())]);
        let is_refused = |text: &str| match read(text, HERE) {
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
        assert!(read(r#"{"resourceType":"Bundle","type":"document"}"#, HERE).is_err());
        let of_bytes = |bytes: usize| {
            let id = "a".repeat(bytes - r#"{"id":""}"#.len());
            let request = r#""request":{"method":"POST","url":"Basic"}"#;
            bundle(&format!(r#"{{"resource":{{"id":"{id}"}},{request}}}"#))
        };
        assert!(!is_refused(&of_bytes(MAX_RESOURCE_BYTES)));
        assert!(is_refused(&of_bytes(MAX_RESOURCE_BYTES + 1)));
        let many = vec![good; MAX_ENTRIES + 1].join(",");
        assert!(read(&bundle(&many), HERE).is_err());
    }

    #[test]
    fn the_instant_of_a_condition_becomes_the_date_of_a_header() {
        let conditions = |since: &str| {
            let text = format!(
                r#"{{"resourceType":"Bundle","type":"batch","entry":[{{"request":{{"method":"GET",
                    "url":"Patient/1","ifModifiedSince":"{since}","ifNoneMatch":"W/\"1\""}}}}]}}"#
            );
            read(&text, HERE).unwrap().1.remove(0).unwrap().conditions
        };
        let date = "Thu, 02 Jan 2020 03:04:05 GMT";
        let expected = [
            ("if-none-match", "W/\"1\"".to_owned()),
            ("if-modified-since", date.to_owned()),
        ];
        for since in ["2020-01-02T03:04:05Z", "2020-01-02T04:04:05.6+01:00", date] {
            assert_eq!(conditions(since), expected, "{since}");
        }
    }

    #[test]
    fn the_url_of_an_entry_is_relative_or_begins_with_a_base_of_the_server() {
        let others = ["https://there/fhir".to_owned()];
        let bases = HERE.and(&others);
        let path = |url: &str| {
            let text = format!(
                r#"{{"resourceType":"Bundle","type":"batch","entry":[{{"request":{{"method":"GET","url":"{url}"}}}}]}}"#
            );
            let entry = read(&text, bases).unwrap().1.remove(0).unwrap();
            (entry.path.join("/"), entry.query.len())
        };
        for base in ["", "https://here/fhir/", "https://there/fhir/"] {
            let found = path(&format!("{base}Patient/1"));
            assert_eq!(found, ("Patient/1".to_owned(), 0), "{base}");
        }
        assert_eq!(path("https://there/fhir?_type=Basic"), (String::new(), 1));
        assert_ne!(path("https://elsewhere/fhir/Patient/1").0, "Patient/1");
    }
}
