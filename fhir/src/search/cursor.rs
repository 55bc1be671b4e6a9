//! The place in a listing as a client holds it, from one page to the next.
//!
//! The number of a commit, which would tell the order of resources of different patients, is in it only sealed, and sealed
//! for one search: in another one it opens to nothing. The whole is hidden from the client besides ([`Seal::hide`]): a place
//! may be that of a resource which its token does not show.
use super::{Position, SortKey};
use crate::store::FhirId;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use types::{Secret, Timestamp};

/// Bytes of the proof that a sealed number is of ours.
const TAG: usize = 16;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After this time and id.
    Date(Timestamp, FhirId),
    /// After this id.
    Id(FhirId),
    /// Within the mark of a reader's axis, after this id.
    Mark(i64, FhirId),
    /// After a commit.
    Sealed(Vec<u8>),
}

/// With what commits are sealed: a secret of the node, kept as long as cursors are to be good.
#[derive(Clone)]
pub struct Seal(Secret<[u8; 32]>);

impl Seal {
    /// Derived from a secret that serves other ends too.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update("medmesh/fhir-cursor/v1")
            .chain_update(secret);
        Self(Secret::new(hash.finalize().into()))
    }

    fn hash(&self, what: &str, of: &[u8], commit: Option<i64>) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.0.reveal());
        hash.update(what);
        hash.update((of.len() as u64).to_be_bytes());
        hash.update(of);
        hash.update(commit.unwrap_or_default().to_be_bytes());
        hash.finalize().into()
    }

    fn mask(&self, tag: &[u8], number: [u8; 8]) -> [u8; 8] {
        let pad = self.hash("pad", tag, None);
        let mut masked = number;
        for (byte, pad) in masked.iter_mut().zip(pad) {
            *byte ^= pad;
        }
        masked
    }

    /// What follows from a text, for a search of `what`, and from nothing else.
    fn tag_of(&self, what: &str, text: &str) -> Vec<u8> {
        let length = (what.len() as u64).to_be_bytes();
        let of = [&length[..], what.as_bytes(), text.as_bytes()].concat();
        let hash = self.hash("text", &of, None);
        hash.get(..TAG).unwrap_or_default().to_vec()
    }

    /// Bytes masked by what follows from a tag, or unmasked.
    fn masked(&self, tag: &[u8], bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for (number, chunk) in (0..).zip(bytes.chunks(32)) {
            let pad = self.hash("stream", tag, Some(number));
            out.extend(chunk.iter().zip(pad).map(|(byte, pad)| byte ^ pad));
        }
        out
    }

    /// A text that nobody else reads, and the proof that it is of ours, for a search of `what`.
    #[must_use]
    pub fn hide(&self, what: &str, text: &str) -> (Vec<u8>, Vec<u8>) {
        let tag = self.tag_of(what, text);
        (self.masked(&tag, text.as_bytes()), tag)
    }

    /// The inverse of [`Seal::hide`]; none when it was hidden for another search, or by nobody.
    #[must_use]
    pub fn read(&self, what: &str, hidden: &[u8], tag: &[u8]) -> Option<String> {
        let text = String::from_utf8(self.masked(tag, hidden)).ok()?;
        (self.tag_of(what, &text) == tag).then_some(text)
    }

    /// The commit, for a search of `what`.
    #[must_use]
    pub fn seal(&self, what: &str, commit: i64) -> Vec<u8> {
        let hash = self.hash("tag", what.as_bytes(), Some(commit));
        let tag = hash.get(..TAG).unwrap_or_default();
        let masked = self.mask(tag, commit.to_be_bytes());
        [tag, &masked[..]].concat()
    }

    /// The inverse of [`Seal::seal`]; none when it was sealed for another search, or by nobody.
    #[must_use]
    pub fn open(&self, what: &str, sealed: &[u8]) -> Option<i64> {
        let (tag, masked) = sealed.split_at_checked(TAG)?;
        let commit = i64::from_be_bytes(self.mask(tag, masked.try_into().ok()?));
        (self.seal(what, commit) == sealed).then_some(commit)
    }
}

impl Cursor {
    /// The key of the order that it is a place in.
    #[must_use]
    pub const fn key(&self) -> SortKey {
        match self {
            Self::Date(..) => SortKey::Date,
            Self::Id(_) => SortKey::Id,
            Self::Mark(..) | Self::Sealed(_) => SortKey::LastUpdated,
        }
    }

    /// A place in a listing of the store, sealed for a search of `what`.
    #[must_use]
    pub fn of(position: Position, seal: &Seal, what: &str) -> Self {
        match position {
            Position::Date(time, id) => Self::Date(time, id),
            Position::Id(id) => Self::Id(id),
            Position::LastUpdated(commit) => Self::Sealed(seal.seal(what, commit)),
        }
    }

    /// The inverse of [`Cursor::of`]; none for a place within a mark, and for what was sealed for another search.
    #[must_use]
    pub fn position(&self, seal: &Seal, what: &str) -> Option<Position> {
        Some(match self {
            Self::Date(time, id) => Position::Date(*time, id.clone()),
            Self::Id(id) => Position::Id(id.clone()),
            Self::Sealed(sealed) => Position::LastUpdated(seal.open(what, sealed)?),
            Self::Mark(..) => return None,
        })
    }

    /// An opaque text. It holds nothing that the page did not show.
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(match self {
            Self::Date(time, id) => format!("d:{}:{id}", time.0),
            Self::Id(id) => format!("i:{id}"),
            Self::Mark(mark, id) => format!("m:{mark}:{id}"),
            Self::Sealed(sealed) => format!("s:{}", URL_SAFE_NO_PAD.encode(sealed)),
        })
    }

    /// The inverse of [`Cursor::to_text`].
    #[must_use]
    pub fn of_text(text: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (form, rest) = text.split_once(':')?;
        let numbered = || -> Option<(i64, FhirId)> {
            let (number, id) = rest.split_once(':')?;
            Some((number.parse().ok()?, id.parse().ok()?))
        };
        Some(match form {
            "d" => {
                let (ms, id) = numbered()?;
                Self::Date(Timestamp(ms), id)
            }
            "i" => Self::Id(rest.parse().ok()?),
            "m" => {
                let (mark, id) = numbered()?;
                Self::Mark(mark, id)
            }
            "s" => Self::Sealed(URL_SAFE_NO_PAD.decode(rest).ok()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_text_is_read_for_its_own_search_alone_and_tells_nothing() {
        let seal = Seal::of_secret(b"a");
        for text in ["", "Observation:0123", &"é0".repeat(40)] {
            let (hidden, tag) = seal.hide("one", text);
            assert_eq!(seal.read("one", &hidden, &tag).as_deref(), Some(text));
            assert_eq!(seal.read("another", &hidden, &tag), None);
            assert_eq!(Seal::of_secret(b"b").read("one", &hidden, &tag), None);
            let begins_so = |bytes: &[u8]| text.as_bytes().starts_with(bytes);
            assert!(
                text.is_empty() || !hidden.chunks(4).any(begins_so),
                "{text}"
            );
            for at in 0..hidden.len() {
                let mut forged = hidden.clone();
                forged[at] ^= 1;
                assert_eq!(seal.read("one", &forged, &tag), None, "{text} {at}");
            }
            assert_eq!(seal.read("one", &hidden, &tag[1..]), None);
        }
        // Chunks of 32 bytes are masked each in its own way.
        let (hidden, _) = seal.hide("one", &"a".repeat(64));
        assert_ne!(hidden[..32], hidden[32..]);
    }

    #[test]
    fn a_cursor_round_trips_and_hides_the_number_of_a_commit() {
        let seal = Seal::of_secret(b"a");
        let id: FhirId = "a.b-c".parse().unwrap();
        for position in [
            Position::Date(Timestamp(-5), id.clone()),
            Position::Id(id.clone()),
            Position::LastUpdated(i64::MAX),
            Position::LastUpdated(12),
        ] {
            let cursor = Cursor::of(position.clone(), &seal, "one");
            let read = Cursor::of_text(&cursor.to_text()).unwrap();
            assert_eq!(read.position(&seal, "one"), Some(position));
        }
        let mark = Cursor::Mark(9, id);
        assert_eq!(Cursor::of_text(&mark.to_text()), Some(mark));
        let sealed = seal.seal("one", 12);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert_eq!(seal.open("one", &forged), None);
        }
        assert_eq!(seal.open("another", &sealed), None);
        assert_eq!(Seal::of_secret(b"b").open("one", &sealed), None);
        for text in ["", "d:1", "s:!", "u:12"] {
            assert_eq!(Cursor::of_text(&URL_SAFE_NO_PAD.encode(text)), None);
        }
    }
}
