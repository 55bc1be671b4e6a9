//! What a facility's own id of a patient may be, the same at every door: a device's message, an entry of a bed, the
//! configuration. What a person cannot see in it, or what moves the cursor of a terminal, would make one patient look
//! like another.

/// The longest id, in bytes (HL7 v2 CX.1 has 15, FHIR `id` 64).
pub const MAX_BYTES: usize = 64;
/// Why a text is none.
pub const PROBLEM: &str = "a patient id is 1 to 64 bytes without control or invisible characters";

/// Whether a text may be an id.
#[must_use]
pub fn is_one(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.chars().all(is_seen)
}

/// Neither a control character nor one that has no width or turns the direction of what is around it (Unicode 16,
/// general categories Cc, Cf, Zl and Zp, as far as they are in use).
#[must_use]
pub const fn is_seen(c: char) -> bool {
    !matches!(c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_what_a_person_can_read() {
        let long = "x".repeat(MAX_BYTES);
        for good in ["p-132539", "Müller 7", "病人", "a", &long] {
            assert!(is_one(good), "{good}");
        }
        let longer = "x".repeat(MAX_BYTES + 1);
        for bad in [
            "",
            "a\nb",
            "a\tb",
            "\u{1b}[2Jx",
            "nul\0",
            "\u{7f}",
            "\u{9b}2J",
            "a\u{202e}b",
            "a\u{200b}",
            "\u{feff}a",
            &longer,
        ] {
            assert!(!is_one(bad), "{bad:?}");
        }
    }
}
