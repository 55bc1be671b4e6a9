//! A short technical text, such as a model or a firmware version. It is not a place for remarks.
use alloc::string::{String, ToString};
use core::{fmt, str::FromStr};

/// A text with another alphabet or length than [`Label`] allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {max} characters of A-Z, a-z, 0-9, '.', '_', '+' and '-', and begins with a letter or digit", max = Label::MAX_LEN)]
pub struct InvalidLabel;

/// `[A-Za-z0-9][A-Za-z0-9._+-]{0,47}`: what a device is called by its maker. No spaces, so no sentences.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

impl Label {
    /// The longest label, in characters: the longest model names seen have fewer than 40.
    pub const MAX_LEN: usize = 48;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        let starts = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
        if starts && text.len() <= Self::MAX_LEN && text.bytes().all(allowed) {
            Ok(Self(text.to_string()))
        } else {
            Err(InvalidLabel)
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Label {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Label {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_and_a_version_are_labels_and_a_sentence_is_not() {
        for text in ["XY-MD02", "1.4.2+build.7", "a", "7"] {
            assert_eq!(text.parse::<Label>().unwrap().as_str(), text);
        }
        let long = "a".repeat(Label::MAX_LEN + 1);
        for text in ["", "Jane Doe", "-x", "a\tb", "a/b", "é", "a\n", &long] {
            assert_eq!(text.parse::<Label>(), Err(InvalidLabel), "{text:?}");
        }
    }
}
