//! The words that say why a parcel was not taken: a closed set, so that neither a receipt nor an audit row, nor a
//! metric label can carry anything else.

/// Words for what the gate and the ledger find; a [`Refusal`](crate::floor) has its own.
pub const WORDS: [&str; 29] = [
    // residency
    "phi-stays-in-facility",
    "other-jurisdiction",
    "other-region",
    "no-link",
    "same-place",
    "wrong-tier",
    "wrong-purpose",
    "policy",
    "policy-error",
    // the parcel
    WRONG_SENDER,
    WRONG_RECEIVER,
    WRONG_CLASS,
    UNKNOWN_PURPOSE,
    UNKNOWN_KIND,
    DIGEST_MISMATCH,
    MALFORMED,
    TOO_LARGE,
    // the order
    CONFLICT,
    FORGOTTEN,
    OUT_OF_ORDER,
    OTHER_STREAM,
    // the receiver
    NO_SPACE,
    UNAVAILABLE,
    UNMAPPABLE,
    LEFT_OUT,
    // the peer
    NO_IDENTITY,
    WRONG_PEER,
    REVOKED,
    OTHER,
];

/// The parcel's sender is not the peer that its certificate names.
pub const WRONG_SENDER: &str = "wrong-sender";
/// The parcel is for another place.
pub const WRONG_RECEIVER: &str = "wrong-receiver";
/// The parcel claims another class than its message has.
pub const WRONG_CLASS: &str = "wrong-class";
/// The parcel's purpose is none.
pub const UNKNOWN_PURPOSE: &str = "unknown-purpose";
/// The receiver does not know this kind of message.
pub const UNKNOWN_KIND: &str = "unknown-kind";
/// The body is not what its digest says.
pub const DIGEST_MISMATCH: &str = "digest-mismatch";
/// The body is not a message of its kind.
pub const MALFORMED: &str = "malformed";
/// The body is larger than a parcel's may be.
pub const TOO_LARGE: &str = "too-large";
/// The same place in the order held another parcel before.
pub const CONFLICT: &str = "conflict";
/// Answered so long ago that the answer is gone.
pub const FORGOTTEN: &str = "forgotten";
/// A parcel before this one is missing.
pub const OUT_OF_ORDER: &str = "out-of-order";
/// The parcel is of another stream than the receiver knows: the two must meet again.
pub const OTHER_STREAM: &str = "other-stream";
/// The receiver has no space now.
pub const NO_SPACE: &str = "no-space";
/// The receiver's store does not answer now.
pub const UNAVAILABLE: &str = "unavailable";
/// No record of the parcel can be understood.
pub const UNMAPPABLE: &str = "unmappable";
/// The receiver stored some records of the parcel and could not understand the others.
pub const LEFT_OUT: &str = "left-out";
/// The peer's certificate names no place.
pub const NO_IDENTITY: &str = "no-identity";
/// A peer of this place has no business here.
pub const WRONG_PEER: &str = "wrong-peer";
/// The peer's certificate was revoked.
pub const REVOKED: &str = "revoked";
/// A word that this program does not know.
pub const OTHER: &str = "other";

/// The word itself when it is in the set, otherwise [`OTHER`].
#[must_use]
pub fn known(word: &str) -> &'static str {
    match WORDS.iter().find(|known| **known == word) {
        Some(known) => known,
        None if word.is_empty() => "",
        None => OTHER,
    }
}

/// Whether what is refused for this reason may be taken later without being changed: by a policy that is mended, a
/// profile that is signed anew, a receiver that is newer. What is wrong with the parcel itself, or with where it is to
/// go, stays wrong. A word that is not of the set comes from a newer receiver and says nothing for good.
#[must_use]
pub fn curable(word: &str) -> bool {
    match word {
        // residency: the floor never changes
        "phi-stays-in-facility"
        | "other-jurisdiction"
        | "other-region"
        | "no-link"
        | "same-place"
        | "wrong-tier"
        | "wrong-purpose" => false,
        "policy" | "policy-error" => true,
        // the parcel
        WRONG_SENDER | WRONG_RECEIVER | WRONG_CLASS | DIGEST_MISMATCH | MALFORMED | TOO_LARGE => {
            false
        }
        UNKNOWN_PURPOSE | UNKNOWN_KIND => true,
        // the order
        CONFLICT | FORGOTTEN => false,
        OUT_OF_ORDER => true,
        // the receiver
        NO_SPACE | UNAVAILABLE | UNMAPPABLE | LEFT_OUT => true,
        // the peer
        NO_IDENTITY | WRONG_PEER | REVOKED => false,
        // `OTHER`, and what is not of the set
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{OpenError, Refusal};

    #[test]
    fn every_refusal_has_a_word_of_the_set_and_free_text_has_none() {
        for refusal in Refusal::ALL {
            assert_eq!(known(refusal.reason()), refusal.reason());
        }
        for error in [OpenError::Kind, OpenError::Malformed] {
            assert_eq!(known(error.reason()), error.reason());
        }
        assert_eq!(known("Jane Doe"), OTHER);
        assert_eq!(known(""), "");
    }

    #[test]
    fn every_word_is_curable_or_not_and_the_list_is_complete() {
        let curable_words: Vec<_> = WORDS.into_iter().filter(|word| curable(word)).collect();
        let expected = [
            "policy",
            "policy-error",
            UNKNOWN_PURPOSE,
            UNKNOWN_KIND,
            OUT_OF_ORDER,
            OTHER_STREAM,
            NO_SPACE,
            UNAVAILABLE,
            UNMAPPABLE,
            LEFT_OUT,
            OTHER,
        ];
        assert_eq!(curable_words, expected);
    }
}
