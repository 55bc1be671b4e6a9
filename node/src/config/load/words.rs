//! What serde and TOML say of a fault, in words for whoever wrote the file: without the value, and without types of Rust.

/// serde's message without the value it quotes: `invalid type: string "Jane Doe", expected a sequence`.
pub(super) fn without_value(text: &str) -> String {
    let quotes = [
        "invalid type: ",
        "invalid value: ",
        "invalid length ",
        "unknown variant ",
    ];
    if quotes.iter().any(|start| text.starts_with(start)) {
        return match text.rsplit_once(", expected ") {
            Some((_, expected)) => format!("expected {}", plain(expected)),
            None => "is not what is expected here".to_owned(),
        };
    }
    match text.trim_end() {
        "invalid socket address syntax" => {
            "expected an IP address and a port, such as 0.0.0.0:8443".to_owned()
        }
        other => other.to_owned(),
    }
}

/// What a type of Rust takes, for whoever writes a file.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "any valid TOML value" => "a value that TOML has: a whole number is of 64 bits",
        "a sequence" => "a list",
        "variant identifier" => "a string",
        other if other.starts_with("struct ") => "a table",
        other if other.starts_with("internally tagged enum ") => "a table",
        other => other,
    }
}
