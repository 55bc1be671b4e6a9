//! Primitive types and which texts are values of them (FHIR R4 datatypes.html#primitive).
use crate::json::Json;

/// Characters of a string: 1 MiB (FHIR R4 datatypes.html#string).
pub const MAX_STRING_BYTES: usize = 1 << 20;

/// A primitive type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are FHIR's")]
pub enum Primitive {
    Base64Binary,
    Boolean,
    Canonical,
    Code,
    Date,
    DateTime,
    Decimal,
    Id,
    Instant,
    Integer,
    Markdown,
    Oid,
    PositiveInt,
    String,
    Time,
    UnsignedInt,
    Uri,
    Url,
    Uuid,
    Xhtml,
}

impl Primitive {
    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "base64Binary" => Self::Base64Binary,
            "boolean" => Self::Boolean,
            "canonical" => Self::Canonical,
            "code" => Self::Code,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "decimal" => Self::Decimal,
            "id" => Self::Id,
            "instant" => Self::Instant,
            "integer" => Self::Integer,
            "markdown" => Self::Markdown,
            "oid" => Self::Oid,
            "positiveInt" => Self::PositiveInt,
            "string" => Self::String,
            "time" => Self::Time,
            "unsignedInt" => Self::UnsignedInt,
            "uri" => Self::Uri,
            "url" => Self::Url,
            "uuid" => Self::Uuid,
            "xhtml" => Self::Xhtml,
            _ => return None,
        })
    }

    /// The name of the type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base64Binary => "base64Binary",
            Self::Boolean => "boolean",
            Self::Canonical => "canonical",
            Self::Code => "code",
            Self::Date => "date",
            Self::DateTime => "dateTime",
            Self::Decimal => "decimal",
            Self::Id => "id",
            Self::Instant => "instant",
            Self::Integer => "integer",
            Self::Markdown => "markdown",
            Self::Oid => "oid",
            Self::PositiveInt => "positiveInt",
            Self::String => "string",
            Self::Time => "time",
            Self::UnsignedInt => "unsignedInt",
            Self::Uri => "uri",
            Self::Url => "url",
            Self::Uuid => "uuid",
            Self::Xhtml => "xhtml",
        }
    }

    /// What is wrong with a value, if anything: what a value of the type looks like.
    #[must_use]
    pub fn refuses(self, value: &Json<'_>) -> Option<&'static str> {
        let (holds, expected) = match (self, value) {
            (Self::Boolean, value) => (matches!(value, Json::Bool(_)), "true or false is expected"),
            (Self::Decimal, value) => (
                matches!(value, Json::Number(_)),
                "a JSON number is expected",
            ),
            (Self::Integer, value) => (
                integer(value).is_some_and(|number| i32::try_from(number).is_ok()),
                "a whole number of 32 bits is expected",
            ),
            (Self::UnsignedInt, value) => (
                integer(value).is_some_and(|number| (0..=MAX_INTEGER).contains(&number)),
                "a whole number from 0 to 2147483647 is expected",
            ),
            (Self::PositiveInt, value) => (
                integer(value).is_some_and(|number| (1..=MAX_INTEGER).contains(&number)),
                "a whole number from 1 to 2147483647 is expected",
            ),
            (_, Json::Text(text)) => self.of_text(text),
            _ => (false, "a JSON string is expected"),
        };
        (!holds).then_some(expected)
    }

    fn of_text(self, text: &str) -> (bool, &'static str) {
        match self {
            Self::Id => (
                is_id(text),
                "1 to 64 of A-Z, a-z, 0-9, - and . are expected",
            ),
            Self::Code => (
                is_code(text),
                "a code without leading, trailing or double white space is expected",
            ),
            Self::Canonical => (
                is_canonical(text),
                "an absolute URI, or # and an id, without white space is expected",
            ),
            Self::Uri | Self::Url => (is_uri(text), "a URI without white space is expected"),
            Self::Oid => (
                text.strip_prefix("urn:oid:").is_some_and(is_oid),
                "urn:oid: and an OID are expected",
            ),
            Self::Uuid => (
                text.strip_prefix("urn:uuid:").is_some_and(is_uuid),
                "urn:uuid: and a UUID in lower case are expected",
            ),
            Self::Date => (
                is_date(text.as_bytes()),
                "a date is expected: YYYY, YYYY-MM or YYYY-MM-DD",
            ),
            Self::DateTime => (
                is_date_time(text.as_bytes()),
                "a date, or a date and a time with seconds and a zone, is expected",
            ),
            Self::Instant => (
                is_instant(text.as_bytes()),
                "a date and a time with seconds and a zone are expected",
            ),
            Self::Time => (is_clock(text.as_bytes()), "a time is expected: hh:mm:ss"),
            Self::Base64Binary => (is_base64(text), "base64 is expected"),
            Self::Xhtml => (
                is_narrative(text),
                "one div of XHTML with its xmlns, without scripts and with content, is expected",
            ),
            _ => (
                text.len() <= MAX_STRING_BYTES
                    && !has_control(text)
                    && text.chars().any(|c| !c.is_whitespace()),
                "a string that is not blank, of at most 1 MiB, without control characters is expected",
            ),
        }
    }
}

const MAX_INTEGER: i64 = 2_147_483_647;

/// A whole number without leading zeros, as the patterns of the integer types have it.
fn integer(value: &Json<'_>) -> Option<i64> {
    let Json::Number(text) = value else {
        return None;
    };
    let number: i64 = text.parse().ok()?;
    (*text != "-0").then_some(number)
}

/// FHIR R4 `string`: no control characters but for tab, line feed and carriage return. In UTF-8 each is a byte of its
/// own; all are looked at, which a machine does many at a time.
fn has_control(text: &str) -> bool {
    let is_control = |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    let all = text.bytes();
    all.fold(false, |any, byte| any | is_control(byte))
}

/// Whether a text has white space, as Unicode has it, or a control character, which no string has; most texts are ASCII.
fn has_white_space(text: &str) -> bool {
    let mut is_ascii = true;
    let all = text.bytes();
    let has = all.fold(false, |any, byte| {
        is_ascii &= byte.is_ascii();
        any | (byte <= b' ')
    });
    has || !is_ascii && text.contains(char::is_whitespace)
}

/// FHIR R4 datatypes.html#id.
pub fn is_id(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(known)
}

/// Words with one space between them.
fn is_code(text: &str) -> bool {
    let mut after_space = true;
    for byte in text.bytes() {
        if byte < b' ' || (byte == b' ' && after_space) {
            return false;
        }
        after_space = byte == b' ';
    }
    let other = |c: char| c.is_whitespace() && !c.is_ascii();
    !after_space && (text.is_ascii() || !text.contains(other))
}

fn is_oid(text: &str) -> bool {
    let mut parts = text.split('.');
    let root = parts.next().unwrap_or_default();
    let arc = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    matches!(root, "0" | "1" | "2") && text.contains('.') && parts.all(arc)
}

fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| {
        let known = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        part.bytes().all(known)
    };
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.split('-').all(hex)
}

/// No white space; and what says that it is a UUID or an OID is one (FHIR R4 datatypes.html#uri).
fn is_uri(text: &str) -> bool {
    let is_named = match text.split_at_checked("urn:uuid:".len()) {
        Some(("urn:uuid:", rest)) => is_uuid(rest),
        _ => text.strip_prefix("urn:oid:").is_none_or(is_oid),
    };
    is_named && !text.is_empty() && !has_white_space(text)
}

/// A version may follow behind a bar (FHIR R4 datatypes.html#canonical).
fn is_canonical(text: &str) -> bool {
    let (url, version) = text.split_once('|').unwrap_or((text, ""));
    is_uri(url) && !has_white_space(version) && (url.starts_with('#') || url.contains(':'))
}

/// The number that so many digits are.
fn digits<const N: usize>(text: &[u8]) -> Option<u32> {
    let text: &[u8; N] = text.try_into().ok()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    text.iter()
        .try_fold(0, |number, byte| Some(number * 10 + digit(byte)?))
}

fn is_year(text: &[u8]) -> bool {
    digits::<4>(text).is_some_and(|year| year > 0)
}

/// A year, a month or a day.
fn is_date(text: &[u8]) -> bool {
    match text {
        [year @ .., b'-', m1, m2] if year.len() == 4 => {
            let month = digits::<2>(&[*m1, *m2]);
            is_year(year) && month.is_some_and(|month| (1..=12).contains(&month))
        }
        year if year.len() == 4 => is_year(year),
        _ => is_day(text),
    }
}

/// A day of the calendar.
fn is_day(text: &[u8]) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (
        digits::<4>(&[*y1, *y2, *y3, *y4]),
        digits::<2>(&[*m1, *m2]),
        digits::<2>(&[*d1, *d2]),
    ) else {
        return false;
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap => 29,
        2 => 28,
        _ => return false,
    };
    year > 0 && (1..=last).contains(&day)
}

fn is_date_time(text: &[u8]) -> bool {
    is_date(text) || is_instant(text)
}

/// A day, `T`, a time of day, and `Z` or an offset of at most 14 hours.
fn is_instant(text: &[u8]) -> bool {
    let Some((day, [b'T', time @ ..])) = text.split_at_checked("YYYY-MM-DD".len()) else {
        return false;
    };
    let clock = match time {
        [clock @ .., b'Z'] => clock,
        [clock @ .., b'+' | b'-', h1, h2, b':', m1, m2] => {
            let zone = (digits::<2>(&[*h1, *h2]), digits::<2>(&[*m1, *m2]));
            let is_near = |hours, minutes| minutes < 60 && hours * 60 + minutes <= 14 * 60;
            match zone {
                (Some(hours), Some(minutes)) if is_near(hours, minutes) => clock,
                _ => return false,
            }
        }
        _ => return false,
    };
    is_day(day) && is_clock(clock)
}

/// `hh:mm:ss` with any fraction. A second of 60 is a leap second.
fn is_clock(text: &[u8]) -> bool {
    let [h1, h2, b':', m1, m2, b':', s1, s2, fraction @ ..] = text else {
        return false;
    };
    let (Some(hours), Some(minutes), Some(seconds)) = (
        digits::<2>(&[*h1, *h2]),
        digits::<2>(&[*m1, *m2]),
        digits::<2>(&[*s1, *s2]),
    ) else {
        return false;
    };
    let is_fraction = match fraction {
        [] => true,
        [b'.', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    hours < 24 && minutes < 60 && seconds <= 60 && is_fraction
}

/// White space may stand anywhere (FHIR R4 datatypes.html#base64Binary).
fn is_base64(text: &str) -> bool {
    let (mut chars, mut padding) = (0_usize, 0_usize);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        chars += 1;
        match byte {
            b'=' => padding += 1,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => {}
            _ => return false,
        }
    }
    chars > 0 && chars.is_multiple_of(4) && padding <= 2
}

/// FHIR R4 narrative.html#xhtml, as far as it guards a reader: one `div` of XHTML's namespace, with content (txt-2), and
/// nothing that runs or loads (txt-1).
fn is_narrative(text: &str) -> bool {
    const NAMESPACE: &str = "http://www.w3.org/1999/xhtml";
    let text = text.trim();
    let tag = text.split('>').next().unwrap_or_default();
    if !(tag.contains("xmlns") && tag.contains(NAMESPACE)) {
        return false;
    }
    let is_div = text.strip_prefix("<div").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '>' | '/' | ':'))
    });
    is_div && is_closed(text) && has_content(text) && !runs(text)
}

/// Whether a text is one element, and each within it is closed in its turn (XML 1.0 §2.1).
fn is_closed(text: &str) -> bool {
    const SKIPPED: [(&str, &str); 2] = [("!--", "-->"), ("![CDATA[", "]]>")];
    let mut open: Vec<&str> = Vec::new();
    let (mut rest, mut has_begun) = (text, false);
    while let Some((_, after)) = rest.split_once('<') {
        if has_begun && open.is_empty() {
            return false;
        }
        if let Some((_, end)) = SKIPPED.iter().find(|(start, _)| after.starts_with(start)) {
            let Some((_, behind)) = after.split_once(end) else {
                return false;
            };
            rest = behind;
            continue;
        }
        let Some((tag, behind)) = tag_of(after) else {
            return false;
        };
        match tag.strip_prefix('/') {
            Some(name) if open.pop() != Some(name.trim()) => return false,
            Some(_) => {}
            None if tag.ends_with('/') => {}
            None => open.extend(tag.split_whitespace().next()),
        }
        (rest, has_begun) = (behind, true);
    }
    has_begun && open.is_empty() && rest.is_empty()
}

/// The tag with which a text goes on, and what is behind it: a `>` between quotes ends none.
fn tag_of(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let end = text.char_indices().find(|(_, c)| match (quote, *c) {
        (None, '>') => true,
        (None, '"' | '\'') => {
            quote = Some(*c);
            false
        }
        (Some(begun), c) => {
            quote = (begun != c).then_some(begun);
            false
        }
        (None, _) => false,
    });
    let (tag, behind) = text.split_at(end?.0);
    Some((tag, behind.strip_prefix('>')?))
}

/// Whether a text begins with another, in letters of either case.
fn begins(text: &str, with: &str) -> bool {
    let start = text.as_bytes().get(..with.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(with.as_bytes()))
}

/// Whether there is text outside of tags, or an image.
fn has_content(text: &str) -> bool {
    let mut depth = 0_i32;
    let is_text = |c: char| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            c => return depth == 0 && !c.is_whitespace(),
        }
        false
    };
    text.chars().any(is_text) || text.split('<').skip(1).any(|tag| begins(tag, "img"))
}

/// Whether there is something that runs, or loads what runs.
fn runs(text: &str) -> bool {
    const ACTIVE: [&str; 10] = [
        "script", "iframe", "object", "embed", "form", "link", "base", "body", "head", "!entity",
    ];
    const SCHEME: &str = "javascript";
    let is_active = |tag: &str| ACTIVE.iter().any(|name| begins(tag, name)) || has_handler(tag);
    let is_script = |before: &str| {
        let at = before.len().checked_sub(SCHEME.len());
        let end = at.and_then(|at| before.as_bytes().get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(SCHEME.as_bytes()))
    };
    // What stands before a colon: every part of the text but its last.
    let before_colons = text.match_indices(':').map(|(at, _)| text.get(..at));
    text.split('<').skip(1).any(is_active) || before_colons.flatten().any(is_script)
}

/// Whether a tag has an attribute like `onclick`.
fn has_handler(tag: &str) -> bool {
    let tag = tag.split('>').next().unwrap_or_default();
    let mut words = tag.split_ascii_whitespace().skip(1);
    words.any(|word| {
        let name = word.split('=').next().unwrap_or_default();
        name.len() > 2 && begins(name, "on") && word.contains('=')
    })
}

#[cfg(test)]
#[path = "primitive_tests.rs"]
mod tests;
