//! Which texts are values of a primitive type: by examples, and beside the patterns that R4 publishes.
use super::*;
use proptest::prelude::*;
use regex::Regex;
use std::sync::LazyLock;

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
            "\"http://a/b|1\" \"#a\" \"urn:x\" \"urn:uuid:c757873d-ec9a-4326-a141-556f43239520|2\"",
            "\"Questionnaire/a\" \"\" \"|1\" \"urn:uuid:1|2\"",
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
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'><img src='a.png'/></div>\"",
            true,
        ),
        ("xhtml", "\"<div>a</div>\"", false),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'><p>a</div>\"",
            false,
        ),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'>a<br/><!-- > --></div>\"",
            true,
        ),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'>a</div><p>b</p>\"",
            false,
        ),
        ("xhtml", "\"<div xmlns='urn:x'>a</div>\"", false),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'> </div>\"",
            false,
        ),
        (
            "xhtml",
            "\"<p xmlns='http://www.w3.org/1999/xhtml'>a</p>\"",
            false,
        ),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'>a<script>b</script></div>\"",
            false,
        ),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml' onclick='x'>a</div>\"",
            false,
        ),
        (
            "xhtml",
            "\"<div xmlns='http://www.w3.org/1999/xhtml'><a href='JavaScript:x'>a</a></div>\"",
            false,
        ),
    ] {
        assert_eq!(holds(kind, text), expected, "{kind} {text}");
    }
}

/// FHIR R4 datatypes.html#primitive: the pattern of each type, as published.
const PATTERNS: [(&str, &str); 11] = [
    ("id", r"[A-Za-z0-9\-\.]{1,64}"),
    ("code", r"[^\s]+(\s[^\s]+)*"),
    ("uri", r"\S*"),
    ("oid", r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+"),
    (
        "uuid",
        r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    ),
    (
        "date",
        r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1]))?)?",
    ),
    (
        "dateTime",
        r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])(-(0[1-9]|[1-2][0-9]|3[0-1])(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?",
    ),
    (
        "instant",
        r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)-(0[1-9]|1[0-2])-(0[1-9]|[1-2][0-9]|3[0-1])T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00))",
    ),
    (
        "time",
        r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?",
    ),
    // `(\s*([0-9a-zA-Z\+\/=]){4}\s*)+`, without white space.
    ("base64Binary", r"([0-9a-zA-Z\+/=]{4})+"),
    // `[ \r\n\t\S]+`, where white space is that of ASCII.
    ("string", r"[^\x0b\x0c]+"),
];

static COMPILED: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let compiled = |(kind, pattern): &(&'static str, &str)| {
        (*kind, Regex::new(&format!("^(?:{pattern})$")).unwrap())
    };
    PATTERNS.iter().map(compiled).collect()
});

/// What R4 says of a type in words beside its pattern.
fn in_words(kind: &str, text: &str) -> bool {
    let is_day = |day: Option<&str>| {
        day.is_none_or(|day| chrono::NaiveDate::parse_from_str(day, "%Y-%m-%d").is_ok())
    };
    match kind {
        // One space is what may be within a code.
        "code" => text
            .chars()
            .all(|c| c == ' ' || c > ' ' && !c.is_whitespace()),
        "uri" => {
            let (uuid, oid) = (&COMPILED[4].1, &COMPILED[3].1);
            !text.is_empty()
                && !text.contains(|c: char| c < ' ')
                && (!text.starts_with("urn:uuid:") || uuid.is_match(text))
                && (!text.starts_with("urn:oid:") || oid.is_match(text))
        }
        "date" | "dateTime" | "instant" => is_day(text.get(..10)),
        // RFC 4648: padding is at the end, of two characters at most.
        "base64Binary" => {
            let body = text.trim_end_matches('=');
            !body.contains('=') && text.len() - body.len() <= 2
        }
        "string" => {
            let is_control = |c: char| c < ' ' && !"\t\r\n".contains(c);
            !text.trim().is_empty() && !text.contains(is_control)
        }
        _ => true,
    }
}

/// A value of one of the types by its pattern, of which some characters may be others, or gone.
fn near() -> impl Strategy<Value = String> {
    const VALUES: &str = "[A-Za-z0-9.-]{1,66}|[a-c]{1,3}( [a-c]{1,3}){0,2}|urn:oid:[0-3](\\.[0-9]{1,3}){1,3}|urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]|[0-2][0-9]{3}-[01][0-9]|[0-2][0-9]{3}|[12][0-9]{3}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,4})?(Z|[+-][01][0-9]:[0-6][0-9])|[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,3})?|([A-Za-z0-9+/]{4}){0,2}[A-Za-z0-9+/]{2}[=A]{2}";
    let change = prop::option::weighted(
        0.6,
        (
            any::<prop::sample::Index>(),
            "[-:.+=TZ 0-9a-zA-Z\t\n\u{b}\u{1}\u{a0}\u{e9}]{0,2}",
        ),
    );
    (VALUES, change).prop_map(|(value, change)| {
        let mut chars: Vec<char> = value.chars().collect();
        if let Some((at, with)) = change {
            let at = at.index(chars.len());
            chars.splice(at..=at, with.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_text_is_a_value_where_the_published_pattern_and_the_words_beside_it_say_so(text in near()) {
        for (kind, pattern) in COMPILED.iter() {
            let value = Json::Text(text.as_str().into());
            let ours = Primitive::parse(kind).unwrap().refuses(&value).is_none();
            // White space may stand anywhere in it.
            let bare = || text.split_ascii_whitespace().collect();
            let judged = match *kind {
                "base64Binary" => bare(),
                _ => text.clone(),
            };
            let theirs = pattern.is_match(&judged) && in_words(kind, &judged);
            prop_assert_eq!(ours, theirs, "{} {:?}", kind, text);
        }
    }
}
