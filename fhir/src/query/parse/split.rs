//! Escapes of values (FHIR R4 search.html#escaping).

/// Splits at a separator that no backslash precedes; escapes stay for the next level.
pub fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        if c == separator && !escaped {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
}

/// The text without its escapes `\,` `\|` `\$` `\\`; none where another one is in it.
pub fn plain(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some(c @ (',' | '|' | '$' | '\\')) => plain.push(c),
                _ => return None,
            },
            (c, false) => plain.push(c),
        }
    }
    Some(plain)
}
