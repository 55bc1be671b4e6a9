//! What a request asks for beside its content: format, strictness, and whether the client has the answer already.
use super::FHIR_JSON;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use chrono::{DateTime, NaiveDateTime};
use types::Timestamp;

/// The elements of a list header, of all its lines.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The version of FHIR in the parameter `fhirVersion` of a media type (FHIR R4 versioning.html#mt-version).
const MIME_VERSION: &str = "4.0";

/// Whether that is the version; with the number of a correction too, which clients write.
fn is_version(text: &str) -> bool {
    let rest = text.strip_prefix(MIME_VERSION);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A media type or range: its type, the version of FHIR and the character set that it names, and how much it is wanted, from
/// 0 to 1.
struct Media {
    name: String,
    version_is_ours: bool,
    is_utf8: bool,
    quality: f32,
}

impl Media {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut media = Self {
            name: parts.next().unwrap_or_default().to_ascii_lowercase(),
            version_is_ours: true,
            is_utf8: true,
            quality: 1.0,
        };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "fhirversion" => media.version_is_ours = is_version(value),
                "charset" => {
                    let own = ["utf-8", "utf8", "us-ascii"];
                    media.is_utf8 = own.iter().any(|one| value.eq_ignore_ascii_case(one));
                }
                // What is no number says nothing.
                "q" => media.quality = value.parse().unwrap_or(1.0),
                _ => {}
            }
        }
        media
    }

    /// How closely it names what is served, if it does: the closest range counts (RFC 9110 §12.5.1).
    fn closeness(&self) -> Option<u8> {
        match self.name.as_str() {
            _ if !self.version_is_ours => None,
            FHIR_JSON => Some(3),
            // Other names of the same format (FHIR R4 http.html#mime-type).
            "json" | "application/json" | "text/json" => Some(2),
            "application/*" => Some(1),
            "*/*" => Some(0),
            _ => None,
        }
    }
}

/// Whether a body says that it is a resource as it is served: of this version, in UTF-8 (FHIR R4 http.html#mime-type), and not
/// packed.
pub fn is_resource(headers: &HeaderMap) -> bool {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let coding = text(header::CONTENT_ENCODING);
    let media = Media::parse(text(header::CONTENT_TYPE));
    let is_json = matches!(
        media.name.as_str(),
        FHIR_JSON | "application/json" | "text/json"
    );
    is_json && media.version_is_ours && media.is_utf8 && matches!(coding, "" | "identity")
}

fn is_json(format: &str) -> bool {
    Media::parse(format).closeness().is_some()
}

/// Whether JSON may be answered. `_format` overrides `Accept` (FHIR R4 http.html#parameters); a form-encoded `+` comes
/// as a space. An empty `Accept` asks for nothing in particular, and a range of quality 0 is what is not wanted.
pub fn takes_json(headers: &HeaderMap, pairs: &[(String, String)]) -> bool {
    let mut formats = pairs
        .iter()
        .filter(|(name, _)| name == "_format")
        .map(|(_, value)| value.trim().replace("; ", ";").replace(' ', "+"))
        .peekable();
    if formats.peek().is_some() {
        return formats.all(|format| is_json(&format));
    }
    let mut accepted = elements(headers, header::ACCEPT)
        .filter(|text| !text.is_empty())
        .map(Media::parse)
        .peekable();
    if accepted.peek().is_none() {
        return true;
    }
    let ranges: Vec<(u8, f32)> = accepted
        .filter_map(|media| Some((media.closeness()?, media.quality)))
        .collect();
    let closest = ranges.iter().map(|(closeness, _)| *closeness).max();
    ranges
        .iter()
        .any(|(closeness, quality)| Some(*closeness) == closest && *quality > 0.0)
}

/// The preferences of that name (RFC 7240), lower case.
fn preferences<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = String> + 'a {
    elements(headers, HeaderName::from_static("prefer"))
        .flat_map(|value| value.split(';'))
        .filter_map(|part| part.trim().split_once('='))
        .filter(move |(known, _)| known.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().trim_matches('"').to_ascii_lowercase())
}

/// `Prefer: respond-async` (RFC 7240 §4.1).
pub fn wants_async(headers: &HeaderMap) -> bool {
    let mut parts = elements(headers, HeaderName::from_static("prefer"))
        .flat_map(|value| value.split(';'))
        .map(str::trim);
    parts.any(|part| part.eq_ignore_ascii_case("respond-async"))
}

/// Whether the answer may be packed by gzip (RFC 9110 §12.5.3): where it is named, or everything is, and not at quality 0.
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    let listed: Vec<Media> = elements(headers, header::ACCEPT_ENCODING)
        .map(Media::parse)
        .collect();
    let named = |names: &[&str]| {
        let mut found = listed
            .iter()
            .filter(|one| names.contains(&one.name.as_str()));
        found.next().map(|one| one.quality > 0.0)
    };
    named(&["gzip", "x-gzip"]).or_else(|| named(&["*"])) == Some(true)
}

/// `Prefer: handling=…` (FHIR R4 search.html#errors).
pub fn prefers(headers: &HeaderMap, handling: &str) -> bool {
    preferences(headers, "handling").any(|value| value == handling)
}

/// What the body of an answer to a write is (FHIR R4 http.html#ops, `Prefer: return=…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// Nothing.
    Minimal,
    /// The resource.
    Representation,
    /// An OperationOutcome.
    Outcome,
}

/// The first preference that is understood; the resource when there is none.
pub fn returns(headers: &HeaderMap) -> Return {
    let known = |value: String| match value.as_str() {
        "minimal" => Some(Return::Minimal),
        "representation" => Some(Return::Representation),
        "operationoutcome" => Some(Return::Outcome),
        _ => None,
    };
    let found = preferences(headers, "return").find_map(known);
    found.unwrap_or(Return::Representation)
}

/// Whether the client says that it wants the resource.
pub fn asks_for_representation(headers: &HeaderMap) -> bool {
    preferences(headers, "return").any(|value| value == "representation")
}

/// Whether the client wants something to be there: `If-Match: *` (RFC 9110 §13.1.1).
pub fn wants_some(headers: &HeaderMap) -> bool {
    let mut tags = elements(headers, header::IF_MATCH);
    tags.next() == Some("*") && tags.next().is_none()
}

/// The versions that `If-Match` names, of which any may be there (RFC 9110 §13.1.1); none without the header.
///
/// # Errors
/// When what it names is no list of tags, or none of them can be a version's.
pub fn if_match(headers: &HeaderMap) -> Result<Vec<u32>, ()> {
    let mut versions = Vec::new();
    // Empty elements of a list are passed over (RFC 9110 §5.6.1).
    for tag in elements(headers, header::IF_MATCH).filter(|tag| !tag.is_empty()) {
        let tag = tag.strip_prefix("W/").unwrap_or(tag);
        let quoted = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        // A tag that no version has matches none.
        versions.extend(quoted.ok_or(())?.parse::<u32>().ok());
    }
    versions.sort_unstable();
    versions.dedup();
    match headers.contains_key(header::IF_MATCH) && versions.is_empty() {
        true => Err(()),
        false => Ok(versions),
    }
}

/// Whether the client wants nothing to be there: `If-None-Match: *` (RFC 9110 §13.1.2).
pub fn wants_none(headers: &HeaderMap) -> bool {
    elements(headers, header::IF_NONE_MATCH).any(|tag| tag == "*")
}

/// Whether a resource of that time is not newer than `If-Modified-Since`, in whole seconds, where it counts: only
/// without `If-None-Match` (RFC 9110 §13.1.3).
pub fn is_unmodified(headers: &HeaderMap, time: Timestamp) -> bool {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return false;
    }
    let since = headers.get(header::IF_MODIFIED_SINCE);
    let since = since.and_then(|value| http_seconds(value.to_str().ok()?));
    since.is_some_and(|since| time.0.div_euclid(1_000) <= since)
}

/// The seconds since 1970 of an HTTP date, in any of the three forms (RFC 9110 §5.6.7).
fn http_seconds(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc2822(text) {
        return Some(time.timestamp());
    }
    let obsolete = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];
    let mut times = obsolete
        .iter()
        .filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    Some(times.next()?.and_utc().timestamp())
}

/// Whether the client has the version of a tag already: `*`, or a list that holds it. Weak tags are compared
/// (RFC 9110 §13.1.2), so `W/"1"` and `"1"` are one.
pub fn has_already(headers: &HeaderMap, version: u32) -> bool {
    let own = format!("\"{version}\"");
    elements(headers, header::IF_NONE_MATCH)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_tag_is_compared_weakly_and_a_list_or_a_star_holds_it() {
        for (value, expected) in [
            ("\"1\"", true),
            ("W/\"1\"", true),
            ("W/\"999\", W/\"1\"", true),
            ("*", true),
            ("\"11\"", false),
            ("1", false),
            ("", false),
        ] {
            let found = has_already(&headers(&[("if-none-match", value)]), 1);
            assert_eq!(found, expected, "{value}");
        }
        let lines = [("if-none-match", "\"7\""), ("if-none-match", "\"1\"")];
        assert!(has_already(&headers(&lines), 1));
        assert!(!has_already(&headers(&[]), 1));
    }

    #[test]
    fn a_date_of_http_is_read_in_each_of_its_three_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(http_seconds(text), Some(784_111_777), "{text}");
            let since = headers(&[("if-modified-since", text)]);
            assert!(is_unmodified(&since, Timestamp(784_111_777_999)), "{text}");
            assert!(!is_unmodified(&since, Timestamp(784_111_778_000)), "{text}");
        }
        assert_eq!(http_seconds("1994-11-06T08:49:37Z"), None);
    }

    #[test]
    fn any_version_of_a_list_may_be_there() {
        for (value, expected) in [
            ("W/\"3\"", Ok(vec![3])),
            ("\"3\"", Ok(vec![3])),
            ("W/\"9\", \"1\"", Ok(vec![1, 9])),
            ("W/\"9\",, \"of-another\" ,W/\"9\"", Ok(vec![9])),
            ("\"of-another\"", Err(())),
            ("3", Err(())),
            ("W/\"3\", 4", Err(())),
            ("*, \"1\"", Err(())),
            ("\"", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(
                if_match(&headers(&[("if-match", value)])),
                expected,
                "{value}"
            );
        }
        let lines = [("if-match", "\"7\""), ("if-match", "W/\"1\"")];
        assert_eq!(if_match(&headers(&lines)), Ok(vec![1, 7]));
        assert_eq!(if_match(&headers(&[])), Ok(Vec::new()));
    }

    #[test]
    fn the_format_parameter_overrides_the_header() {
        let pairs = |format: &str| vec![("_format".to_owned(), format.to_owned())];
        for (accept, format, expected) in [
            ("application/fhir+xml", "json", true),
            ("text/html", "application/fhir json", true),
            ("*/*", "xml", false),
            ("application/fhir+json", "application/fhir+xml", false),
            ("text/html", "application/fhir+json; fhirVersion=4.0", true),
            ("text/html", "application/fhir+json; fhirVersion=5.0", false),
            ("text/html", "*/*", true),
        ] {
            let headers = headers(&[("accept", accept)]);
            assert_eq!(takes_json(&headers, &pairs(format)), expected, "{format}");
        }
        for (accept, expected) in [
            ("application/fhir+xml", false),
            ("text/html, application/fhir+json;q=0.5", true),
            ("application/json", true),
            ("", true),
            (" , ", true),
            ("*/*", true),
            ("application/*;q=0.1", true),
            ("application/fhir+json;q=0", false),
            ("application/fhir+json;q=0.000, */*", false),
            ("*/*;q=0", false),
            ("*/*;q=0, application/fhir+json", true),
            ("application/json;q=0, application/fhir+json;q=1", true),
            ("Application/FHIR+JSON; charset=utf-8", true),
            ("application/fhir+json; fhirVersion=4.0", true),
            ("application/fhir+json; fhirVersion=4.0.1", true),
            ("application/fhir+json; fhirVersion=4.01", false),
            ("application/fhir+json; fhirVersion=3.0", false),
            ("text/*", false),
        ] {
            let headers = headers(&[("accept", accept)]);
            assert_eq!(takes_json(&headers, &[]), expected, "{accept}");
        }
        assert!(takes_json(&headers(&[]), &[]));
    }

    #[test]
    fn a_body_is_json_of_this_version_and_not_packed() {
        for (kind, coding, expected) in [
            ("application/fhir+json", "", true),
            ("Application/FHIR+JSON; charset=UTF-8", "identity", true),
            ("application/json; fhirVersion=4.0", "", true),
            ("application/fhir+json; charset=\"utf-8\"", "", true),
            ("application/fhir+json; charset=iso-8859-1", "", false),
            ("application/fhir+json; fhirVersion=5.0", "", false),
            ("application/fhir+json", "gzip", false),
            ("application/fhir+xml", "", false),
            ("application/*", "", false),
            ("", "", false),
        ] {
            let mut asked = headers(&[("content-type", kind)]);
            if !coding.is_empty() {
                asked.append("content-encoding", coding.parse().unwrap());
            }
            assert_eq!(is_resource(&asked), expected, "{kind} {coding}");
        }
    }

    #[test]
    fn gzip_is_taken_where_it_is_asked_for() {
        for (value, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("*, gzip;q=0", false),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let found = takes_gzip(&headers(&[("accept-encoding", value)]));
            assert_eq!(found, expected, "{value}");
        }
        assert!(!takes_gzip(&headers(&[])));
        for (value, expected) in [
            ("respond-async", true),
            ("handling=lenient, Respond-Async", true),
            ("respond-async; wait=10", true),
            ("respond-sync", false),
        ] {
            assert_eq!(
                wants_async(&headers(&[("prefer", value)])),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_preference_is_found_in_any_list() {
        let asked = headers(&[("prefer", "respond-async; handling=strict")]);
        assert!(prefers(&asked, "strict") && !prefers(&asked, "lenient"));
        assert!(prefers(
            &headers(&[("prefer", "handling=\"lenient\"")]),
            "lenient"
        ));
    }
}
