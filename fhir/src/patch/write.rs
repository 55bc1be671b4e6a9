//! A tree of JSON as text.
use crate::json::Json;
use std::fmt::Write as _;

/// The text of a tree, without white space; numbers as they were written.
#[must_use]
pub fn write(json: &Json<'_>) -> String {
    let mut out = String::new();
    value(json, &mut out);
    out
}

fn value(json: &Json<'_>, out: &mut String) {
    match json {
        Json::Null => out.push_str("null"),
        Json::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Json::Number(text) => out.push_str(text),
        Json::Text(text) => string(text, out),
        Json::List(list) => {
            out.push('[');
            for (at, one) in list.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                value(one, out);
            }
            out.push(']');
        }
        Json::Object(object) => {
            out.push('{');
            for (at, (name, one)) in object.0.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                string(name, out);
                out.push(':');
                value(one, out);
            }
            out.push('}');
        }
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    let mut plain = text;
    while let Some(at) = plain.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        out.push_str(plain.get(..at).unwrap_or_default());
        let rest = plain.get(at..).unwrap_or_default();
        let mut chars = rest.chars();
        match chars.next() {
            Some('"') => out.push_str("\\\""),
            Some('\\') => out.push_str("\\\\"),
            Some('\n') => out.push_str("\\n"),
            Some('\r') => out.push_str("\\r"),
            Some('\t') => out.push_str("\\t"),
            Some(c) => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            None => {}
        }
        plain = chars.as_str();
    }
    out.push_str(plain);
    out.push('"');
}
