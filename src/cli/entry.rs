//! How an entry of a quarantine is named: a letter and a number, with its node where there are several.
use std::{fmt, str::FromStr};

/// Which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryId {
    /// A parcel that the next tier did not take.
    Parcel(u64),
    /// A note on what this node did not take.
    Note(u64),
    /// A message that could not be understood.
    Message(u64),
}

impl FromStr for EntryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "as `list` shows it: p12, n7 or m3".to_owned();
        let (kind, number) = text.split_at_checked(1).ok_or_else(wrong)?;
        let number = number.parse().map_err(|_| wrong())?;
        match kind {
            "p" => Ok(Self::Parcel(number)),
            "n" => Ok(Self::Note(number)),
            "m" => Ok(Self::Message(number)),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parcel(number) => write!(f, "p{number}"),
            Self::Note(number) => write!(f, "n{number}"),
            Self::Message(number) => write!(f, "m{number}"),
        }
    }
}

/// An entry of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Name or place of the node; none where there is one alone.
    pub node: Option<String>,
    /// Which of its entries.
    pub entry: EntryId,
}

impl FromStr for NodeEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (node, entry) = match text.rsplit_once('/') {
            Some(("", _)) => return Err("names no node: us-f1/p12".into()),
            Some((node, entry)) => (Some(node.to_owned()), entry),
            None => (None, text),
        };
        let entry = entry.parse()?;
        Ok(Self { node, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_letter_and_a_number() {
        for text in ["p1", "n20", "m300"] {
            assert_eq!(text.parse::<EntryId>().unwrap().to_string(), text);
        }
        for text in ["", "p", "1", "x1", "p-1", "é1", "p1x"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_entry_of_a_mesh_is_named_with_its_node() {
        for (text, node) in [
            ("p1", None),
            ("us-f1/p1", Some("us-f1")),
            ("edge/us/us/us-f1/p1", Some("edge/us/us/us-f1")),
        ] {
            let read: NodeEntry = text.parse().unwrap();
            assert_eq!(read.node.as_deref(), node);
            assert_eq!(read.entry, EntryId::Parcel(1));
        }
        for text in ["", "/p1", "us-f1", "us-f1/", "us-f1/x1"] {
            assert!(text.parse::<NodeEntry>().is_err(), "{text}");
        }
    }
}
