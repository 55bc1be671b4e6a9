//! What a request asks for beside its content: format, strictness, and whether the client has the answer already.
use axum::http::{HeaderMap, HeaderName, header};

/// The elements of a list header, of all its lines.
fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn is_json(format: &str) -> bool {
    let format = format.split(';').next().unwrap_or_default().trim();
    matches!(
        format.to_ascii_lowercase().as_str(),
        "json"
            | "application/json"
            | "application/fhir+json"
            | "text/json"
            | "*/*"
            | "application/*"
    )
}

/// Whether JSON may be answered. `_format` overrides `Accept` (FHIR R4 http.html#parameters); a form-encoded `+` comes
/// as a space.
pub fn takes_json(headers: &HeaderMap, pairs: &[(String, String)]) -> bool {
    let mut formats = pairs
        .iter()
        .filter(|(name, _)| name == "_format")
        .map(|(_, value)| value.replace(' ', "+"))
        .peekable();
    if formats.peek().is_some() {
        return formats.all(|format| is_json(&format));
    }
    let mut accepted = elements(headers, header::ACCEPT).peekable();
    accepted.peek().is_none() || accepted.any(is_json)
}

/// `Prefer: handling=…` (FHIR R4 search.html#errors).
pub fn prefers(headers: &HeaderMap, handling: &str) -> bool {
    elements(headers, HeaderName::from_static("prefer"))
        .flat_map(|value| value.split(';'))
        .filter_map(|part| part.trim().split_once('='))
        .any(|(name, value)| {
            name.trim().eq_ignore_ascii_case("handling")
                && value
                    .trim()
                    .trim_matches('"')
                    .eq_ignore_ascii_case(handling)
        })
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
    fn the_format_parameter_overrides_the_header() {
        let pairs = |format: &str| vec![("_format".to_owned(), format.to_owned())];
        for (accept, format, expected) in [
            ("application/fhir+xml", "json", true),
            ("text/html", "application/fhir json", true),
            ("*/*", "xml", false),
            ("application/fhir+json", "application/fhir+xml", false),
        ] {
            let headers = headers(&[("accept", accept)]);
            assert_eq!(takes_json(&headers, &pairs(format)), expected, "{format}");
        }
        for (accept, expected) in [
            ("application/fhir+xml", false),
            ("text/html, application/fhir+json;q=0.5", true),
            ("application/json", true),
        ] {
            let headers = headers(&[("accept", accept)]);
            assert_eq!(takes_json(&headers, &[]), expected, "{accept}");
        }
        assert!(takes_json(&headers(&[]), &[]));
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
