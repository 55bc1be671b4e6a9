//! The twin of a device, as far as it is a document: the merge patch, its bounds, and its ETag.
use serde_json::{Map, Value};
use std::{fmt, str::FromStr};

/// A desired or reported document at most, in bytes of JSON: some dozens of properties.
pub const MAX_TWIN_BYTES: usize = 16 << 10;
/// Objects within objects at most: properties and their parts, with room.
pub const MAX_DEPTH: usize = 8;

/// A patch with objects within objects beyond [`MAX_DEPTH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("objects lie within each other more than 8 deep")]
pub struct TooDeep;

/// Applies a JSON Merge Patch (RFC 7396 §2).
///
/// # Errors
/// [`TooDeep`]; the target is then as it was.
pub fn merge_patch(target: &Value, patch: &Value) -> Result<Value, TooDeep> {
    if depth_exceeds(patch, MAX_DEPTH) {
        return Err(TooDeep);
    }
    Ok(merged(target.clone(), patch))
}

/// RFC 7396 §2, "MergePatch".
fn merged(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut object = match target {
        Value::Object(object) => object,
        _ => Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            object.shift_remove(name);
        } else {
            let old = object.get(name).cloned().unwrap_or(Value::Null);
            object.insert(name.clone(), merged(old, value));
        }
    }
    Value::Object(object)
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Object(object) => {
            left == 0 || object.values().any(|inner| depth_exceeds(inner, left - 1))
        }
        Value::Array(items) => {
            left == 0 || items.iter().any(|inner| depth_exceeds(inner, left - 1))
        }
        _ => false,
    }
}

/// The version of a twin as an entity tag (RFC 9110 §8.8.3): `"7"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub u64);

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

impl ETag {
    /// Those that an `If-Match` may be met by: of a list of entity tags the strong ones that are of a twin. None where it
    /// is no such list (RFC 9110 §8.8.3, §13.1.1).
    #[must_use]
    pub fn list(text: &str) -> Option<Vec<Self>> {
        Self::tags(text, false)
    }

    /// Those that an `If-None-Match` is not met by: of a list of entity tags those that are of a twin, weak ones too, since it
    /// compares weakly. None where it is no such list (RFC 9110 §8.8.3, §13.1.2).
    #[must_use]
    pub fn weak_list(text: &str) -> Option<Vec<Self>> {
        Self::tags(text, true)
    }

    fn tags(text: &str, weak_too: bool) -> Option<Vec<Self>> {
        // Empty elements are none (RFC 9110 §5.6.1.2).
        let blank = |one: char| one == ',' || one == ' ' || one == '\t';
        let (mut rest, mut found) = (text.trim_matches(blank), Vec::new());
        loop {
            let weak = rest.strip_prefix("W/");
            let opened = weak.unwrap_or(rest).strip_prefix('"')?;
            let (tag, after) = opened.split_once('"')?;
            if !tag.bytes().all(|byte| byte.is_ascii_graphic()) {
                return None;
            }
            let own: Option<Self> = format!("\"{tag}\"").parse().ok();
            found.extend(own.filter(|_| weak_too || weak.is_none()));
            let after = after.trim_start();
            if after.is_empty() {
                return Some(found);
            }
            rest = after.strip_prefix(',')?.trim_start_matches(blank);
        }
    }
}

impl FromStr for ETag {
    type Err = ();

    /// A strong tag alone: `If-Match` compares strongly (RFC 9110 §13.1.1).
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'));
        let version: u64 = digits.ok_or(())?.parse().map_err(|_| ())?;
        let tag = Self(version);
        if tag.to_string() == text {
            Ok(tag)
        } else {
            Err(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7396 Appendix A, every row: original, patch, result.
    const APPENDIX_A: &[(&str, &str, &str)] = &[
        (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
        (r#"{"a":"b"}"#, r#"{"a":null}"#, r#"{}"#),
        (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
        (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
        (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
        (
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":{"b":"d","c":null}}"#,
            r#"{"a":{"b":"d"}}"#,
        ),
        (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
        (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
        (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
        (r#"{"a":"foo"}"#, "null", "null"),
        (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
        (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
        (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
        (
            r#"{}"#,
            r#"{"a":{"bb":{"ccc":null}}}"#,
            r#"{"a":{"bb":{}}}"#,
        ),
    ];

    #[test]
    fn every_row_of_the_appendix_of_the_rfc_holds() {
        for (original, patch, result) in APPENDIX_A {
            let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let got = merge_patch(&json(original), &json(patch)).unwrap();
            assert_eq!(got, json(result), "{original} patched by {patch}");
        }
    }

    #[test]
    fn a_patch_that_is_too_deep_is_refused() {
        let nested = |depth: usize| {
            let inner = (0..depth).fold(Value::from(1), |inner, _| {
                Value::Object(Map::from_iter([("a".to_owned(), inner)]))
            });
            merge_patch(&Value::Null, &inner).is_ok()
        };
        assert!(nested(MAX_DEPTH));
        assert!(!nested(MAX_DEPTH + 1));
    }

    #[test]
    fn a_tag_is_strong_and_has_one_text() {
        assert_eq!("\"7\"".parse(), Ok(ETag(7)));
        for text in [
            "7", "W/\"7\"", "\"07\"", "\"\"", "\"+7\"", "*", "\"7", "\"a\"",
        ] {
            assert_eq!(text.parse::<ETag>(), Err(()), "{text}");
        }
    }

    #[test]
    fn a_list_of_tags_has_the_strong_ones_of_twins() {
        for (text, found) in [
            (r#""7""#, Some(vec![7])),
            (r#""6", "7""#, Some(vec![6, 7])),
            (r#" "6" ,"a,b" , W/"7" "#, Some(vec![6])),
            (r#"W/"7""#, Some(vec![])),
            (r#""07""#, Some(vec![])),
            ("7", None),
            ("", None),
            (r#""7" "8""#, None),
            // Empty elements are none.
            (r#""7","#, Some(vec![7])),
            (r#", "7",, "8""#, Some(vec![7, 8])),
            (",", None),
            (r#""7"#, None),
        ] {
            let found = found.map(|all: Vec<u64>| all.into_iter().map(ETag).collect());
            assert_eq!(ETag::list(text), found, "{text}");
        }
    }

    #[test]
    fn a_weak_list_has_the_weak_ones_too() {
        for (text, found) in [
            (r#""6" , W/"7", "a""#, Some(vec![ETag(6), ETag(7)])),
            (r#"W/"07""#, Some(vec![])),
            ("W/7", None),
        ] {
            assert_eq!(ETag::weak_list(text), found, "{text}");
        }
    }
}
