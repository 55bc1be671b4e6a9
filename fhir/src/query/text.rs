//! Texts as an index holds them.
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

/// Bytes of a text, a code or a URI that are compared; what follows is left out on both sides, so that every engine can
/// keep it in an index.
pub const MAX_INDEXED_BYTES: usize = 1_000;

/// The part of a text that is compared: its first bytes, up to a NUL, which no engine takes in a text.
#[must_use]
pub fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_INDEXED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    text.split('\0').next().unwrap_or_default()
}

/// Without case and diacritics, with single spaces (FHIR R4 search.html#string).
#[must_use]
pub fn fold(text: &str) -> String {
    // Folding makes at most a few characters of one, so that what lies far behind never comes into the part compared.
    let mut end = text.len().min(8 * MAX_INDEXED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = text.get(..end).unwrap_or_default();
    let text: String = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        let plain = text.nfd().filter(|c| !is_combining_mark(*c));
        plain.flat_map(char::to_lowercase).collect()
    };
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        for c in word.chars() {
            match c {
                'ß' => folded.push_str("ss"),
                'æ' => folded.push_str("ae"),
                'œ' => folded.push_str("oe"),
                'ø' => folded.push('o'),
                'ł' => folded.push('l'),
                'đ' | 'ð' => folded.push('d'),
                'þ' => folded.push_str("th"),
                'ı' => folded.push('i'),
                c => folded.push(c),
            }
        }
    }
    cut(&folded).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folded_text_has_no_case_no_diacritics_and_single_spaces() {
        for (text, folded) in [
            ("Müller", "muller"),
            ("  José \t LUIS ", "jose luis"),
            ("Straße", "strasse"),
            ("Søren Łukasz", "soren lukasz"),
            ("Ａ", "ａ"),
            ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
            ("", ""),
        ] {
            assert_eq!(fold(text), folded, "{text}");
        }
        assert_eq!(fold("Mu\u{308}ller"), fold("Müller"));
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "é".repeat(9_000);
        assert!(cut(&long).len() <= MAX_INDEXED_BYTES && cut(&long).chars().all(|c| c == 'é'));
        assert_eq!(fold(&long).len(), MAX_INDEXED_BYTES);
    }
}
