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
                is_uri(text) && (text.starts_with('#') || text.contains(':')),
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
                is_date(text),
                "a date is expected: YYYY, YYYY-MM or YYYY-MM-DD",
            ),
            Self::DateTime => (
                is_date_time(text),
                "a date, or a date and a time with seconds and a zone, is expected",
            ),
            Self::Instant => (
                text.split_once('T')
                    .is_some_and(|(day, time)| is_day(day) && is_zoned(time)),
                "a date and a time with seconds and a zone are expected",
            ),
            Self::Time => (is_clock(text), "a time is expected: hh:mm:ss"),
            Self::Base64Binary => (is_base64(text), "base64 is expected"),
            Self::Xhtml => (
                is_narrative(text),
                "one div of XHTML without scripts, and with content, is expected",
            ),
            _ => (
                text.chars().any(|c| !c.is_whitespace())
                    && text.len() <= MAX_STRING_BYTES
                    && !text.bytes().any(is_control),
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

/// FHIR R4 `string`: no control characters but for tab, line feed and carriage return. In UTF-8 each is a byte of its own.
const fn is_control(byte: u8) -> bool {
    byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')
}

/// Whether a text has white space, as Unicode has it, or a control character, which no string has; most texts are ASCII.
fn has_white_space(text: &str) -> bool {
    match text.is_ascii() {
        true => text.bytes().any(|byte| byte <= b' '),
        false => text.contains(|c: char| c < ' ' || c.is_whitespace()),
    }
}

fn is_id(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&text.len()) && text.bytes().all(known)
}

fn is_code(text: &str) -> bool {
    let word = |word: &str| !word.is_empty() && !has_white_space(word);
    text.split(' ').all(word)
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

fn digits(text: &str, len: usize) -> Option<u32> {
    let all = text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let year = parts.next().and_then(|year| digits(year, 4));
    let month = parts.next().map(|month| digits(month, 2));
    match (year, month, parts.next()) {
        (Some(year), None, _) => year > 0,
        (Some(year), Some(Some(month)), None) => year > 0 && (1..=12).contains(&month),
        (Some(_), Some(Some(_)), Some(_)) => is_day(text),
        _ => false,
    }
}

/// A day of the calendar.
fn is_day(text: &str) -> bool {
    let Some((year, rest)) = text.split_once('-') else {
        return false;
    };
    let Some((month, day)) = rest.split_once('-') else {
        return false;
    };
    let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2))
    else {
        return false;
    };
    let year = i32::try_from(year).unwrap_or_default();
    year > 0 && chrono::NaiveDate::from_ymd_opt(year, month, day).is_some()
}

fn is_date_time(text: &str) -> bool {
    match text.split_once('T') {
        None => is_date(text),
        Some((day, time)) => is_day(day) && is_zoned(time),
    }
}

/// A time of day and `Z`, or an offset of at most 14 hours.
fn is_zoned(text: &str) -> bool {
    if let Some(clock) = text.strip_suffix('Z') {
        return is_clock(clock);
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return false;
    };
    let (clock, zone) = text.split_at(at);
    let zone = zone.get(1..).and_then(|zone| zone.split_once(':'));
    let Some((Some(hours), Some(minutes))) =
        zone.map(|(hours, minutes)| (digits(hours, 2), digits(minutes, 2)))
    else {
        return false;
    };
    let in_range = minutes < 60 && hours * 60 + minutes <= 14 * 60;
    in_range && is_clock(clock)
}

/// `hh:mm:ss` with any fraction. A second of 60 is a leap second.
fn is_clock(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let mut parts = clock.split(':').map(|part| digits(part, 2));
    let (Some(Some(hours)), Some(Some(minutes)), Some(Some(seconds)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
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

/// FHIR R4 narrative.html#xhtml, as far as it guards a reader: one `div`, with content (txt-2), and nothing that runs
/// or loads (txt-1).
fn is_narrative(text: &str) -> bool {
    let text = text.trim();
    let is_div = text.strip_prefix("<div").is_some_and(|rest| {
        rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '>' | '/' | ':'))
    });
    is_div && text.ends_with('>') && has_content(text) && !runs(text)
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
mod tests {
    use super::*;

    fn holds(kind: &str, text: &str) -> bool {
        let value = Json::parse(text).unwrap();
        Primitive::parse(kind).unwrap().refuses(&value).is_none()
    }

    #[test]
    fn a_value_is_of_its_type_or_is_refused() {
        for (kind, good, bad) in [
            ("boolean", "true false", "1 null \"true\""),
            (
                "integer",
                "0 -5 2147483647 -2147483648",
                "2147483648 1.0 1e3 -0 \"1\"",
            ),
            ("unsignedInt", "0 2147483647", "-1 1.5"),
            ("positiveInt", "1", "0 -1"),
            (
                "decimal",
                "1.50 -0.0 1E-5 100000000000000000000000",
                "\"1\" null",
            ),
            ("id", "\"a.b-C\"", "\"\" \"a_b\" \"a/b\""),
            (
                "uri",
                "\"urn:x\" \"http://a/b?c#d\" \"x\" \"urn:oid:1.2\"",
                "\"\" \"urn:uuid:A\" \"urn:oid:9\"",
            ),
            (
                "canonical",
                "\"http://a/b|1\" \"#a\" \"urn:x\"",
                "\"Questionnaire/a\" \"\"",
            ),
            (
                "oid",
                "\"urn:oid:1.2.3\" \"urn:oid:0.1\"",
                "\"1.2.3\" \"urn:oid:3.1\" \"urn:oid:1.02\" \"urn:oid:1\"",
            ),
            (
                "uuid",
                "\"urn:uuid:c757873d-ec9a-4326-a141-556f43239520\"",
                "\"urn:uuid:C757873D-EC9A-4326-A141-556F43239520\" \"urn:uuid:1\"",
            ),
            (
                "date",
                "\"2024\" \"2024-02\" \"2024-02-29\"",
                "\"2023-02-29\" \"2024-13\" \"24\" \"2024-2-1\" \"0000\" \"2024-01-01T00:00:00Z\" \"2024-\"",
            ),
            (
                "dateTime",
                "\"2024\" \"2024-02-29T23:59:60Z\" \"2024-01-01T00:00:00.5+14:00\" \"2015-02-07T13:28:17-05:00\"",
                "\"2024-01-01T00:00\" \"2024-01-01T00:00:00\" \"2024-01-01T24:00:00Z\" \"2024-01-01T00:00:00+14:01\" \"2024-01T00:00:00Z\" \"2024-01-01T00:00:00.Z\"",
            ),
            (
                "instant",
                "\"2015-02-07T13:28:17.239+02:00\"",
                "\"2015\" \"2015-02-07\"",
            ),
            (
                "time",
                "\"12:00:00\" \"23:59:59.999\"",
                "\"12:00\" \"24:00:00\" \"12:00:00Z\"",
            ),
            (
                "base64Binary",
                "\"YQ==\" \"YWJj\"",
                "\"YQ=\" \"Y=Q=\" \"!\" \"\"",
            ),
            ("string", "\"x\" \"\u{e9}\"", "\"\" 1"),
        ] {
            for text in good.split(' ') {
                assert!(holds(kind, text), "{kind} {text}");
            }
            for text in bad.split(' ') {
                assert!(!holds(kind, text), "{kind} {text}");
            }
        }
    }

    #[test]
    fn white_space_and_what_runs_in_a_reader_are_judged_too() {
        for (kind, text, expected) in [
            ("code", "\"a b\"", true),
            ("code", "\"a  b\"", false),
            ("code", "\" a\"", false),
            ("string", "\"  \"", false),
            ("string", "\"a\\u0001\"", false),
            ("string", "\"a\\n\\tb\"", true),
            ("uri", "\"a\\u0000b\"", false),
            ("uri", "\"\u{e9}\\u0001\"", false),
            ("uri", "\"urn:\u{e9}\"", true),
            ("code", "\"a\\u0007\"", false),
            (
                "xhtml",
                "\"<div xmlns='http://www.w3.org/1999/xhtml'>a</div>\"",
                true,
            ),
            ("xhtml", "\"<div><img src='a.png'/></div>\"", true),
            ("xhtml", "\"<div> </div>\"", false),
            ("xhtml", "\"<p>a</p>\"", false),
            ("xhtml", "\"<div>a<script>b</script></div>\"", false),
            ("xhtml", "\"<div onclick='x'>a</div>\"", false),
            (
                "xhtml",
                "\"<div><a href='JavaScript:x'>a</a></div>\"",
                false,
            ),
        ] {
            assert_eq!(holds(kind, text), expected, "{kind} {text}");
        }
    }
}
