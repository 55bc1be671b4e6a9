//! Signed notes and tree heads in the formats of C2SP (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), so that any
//! transparency-log tool can check an audit log without this program.

use crate::merkle::Hash;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

/// Why a note is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not the format of a signed note or of a checkpoint.
    #[error("not a signed checkpoint")]
    Malformed,
    /// A checkpoint of another log.
    #[error("the checkpoint is of another log")]
    Origin,
    /// No signature of that key, or a wrong one.
    #[error("the checkpoint has no valid signature of the log's key")]
    Signature,
}

/// The signed algorithm's byte for Ed25519 (signed-note, "Signature types").
const ED25519: u8 = 0x01;
/// The longest note that is read, in bytes: three lines and a handful of signatures.
const MAX_NOTE_BYTES: usize = 16 * 1024;

/// The head of a log: everything that was logged, in one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    /// Whose log it is: `medmesh/edge/us/us/us-f1`.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The Merkle root over them.
    pub root: Hash,
}

fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519])
        .chain_update(key.as_bytes())
        .finalize()
        .into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// The verifier key of a name, in the notation that note verifiers read: `name+id+base64`.
#[must_use]
pub fn verifier_key(name: &str, key: &VerifyingKey) -> String {
    let mut material = vec![ED25519];
    material.extend(key.as_bytes());
    format!(
        "{name}+{}+{}",
        hex::encode(key_id(name, key)),
        STANDARD.encode(material)
    )
}

/// Signs a text, which ends with a newline.
#[must_use]
pub fn sign(text: &str, name: &str, key: &SigningKey) -> String {
    let mut material = key_id(name, &key.verifying_key()).to_vec();
    material.extend(key.sign(text.as_bytes()).to_bytes());
    format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(material))
}

/// The text of a note that `name` signed with `key`. Signatures of others (witnesses) are passed over.
///
/// # Errors
/// [`NoteError`] when the note is malformed or has no such signature.
pub fn verify<'a>(note: &'a str, name: &str, key: &VerifyingKey) -> Result<&'a str, NoteError> {
    if note.len() > MAX_NOTE_BYTES {
        return Err(NoteError::Malformed);
    }
    let split = note.rfind("\n\n").ok_or(NoteError::Malformed)?;
    let (text, signatures) = (&note[..=split], &note[split + 2..]);
    let prefix = format!("\u{2014} {name} ");
    let ours = signatures
        .lines()
        .filter_map(|line| line.strip_prefix(prefix.as_str()));
    for encoded in ours {
        let material = STANDARD.decode(encoded).map_err(|_| NoteError::Malformed)?;
        let Some((id, signature)) = material.split_first_chunk::<4>() else {
            return Err(NoteError::Malformed);
        };
        if *id != key_id(name, key) {
            continue;
        }
        let signature = Signature::from_slice(signature).map_err(|_| NoteError::Malformed)?;
        return key
            .verify_strict(text.as_bytes(), &signature)
            .map(|()| text)
            .map_err(|_| NoteError::Signature);
    }
    Err(NoteError::Signature)
}

impl TreeHead {
    /// The head as a signed checkpoint.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        let text = format!(
            "{}\n{}\n{}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root)
        );
        sign(&text, &self.origin, key)
    }

    /// The head that a checkpoint of the log `origin`, signed with `key`, states.
    ///
    /// # Errors
    /// [`NoteError`] when it is malformed, of another log, or not signed with that key.
    pub fn open(note: &str, origin: &str, key: &VerifyingKey) -> Result<Self, NoteError> {
        if note.lines().next() != Some(origin) {
            return Err(NoteError::Origin);
        }
        Self::read(verify(note, origin, key)?)
    }

    /// The head that a checkpoint states, whoever signed it: for what was verified before.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn read(note: &str) -> Result<Self, NoteError> {
        let mut lines = note.lines();
        let origin = lines.next().ok_or(NoteError::Malformed)?;
        let mut next = || lines.next().ok_or(NoteError::Malformed);
        let (size, root) = (next()?, next()?);
        let canonical = size == "0" || !size.starts_with(['0', '+']);
        let root = STANDARD.decode(root).map_err(|_| NoteError::Malformed)?;
        match (size.parse(), root.try_into()) {
            (Ok(size), Ok(root)) if canonical => Ok(Self {
                origin: origin.to_owned(),
                size,
                root,
            }),
            _ => Err(NoteError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[9; 32])
    }

    fn head() -> TreeHead {
        TreeHead {
            origin: "medmesh/edge/us/us/us-f1".into(),
            size: 15_368_377,
            root: [7; 32],
        }
    }

    /// The example of the documentation of Go's golang.org/x/mod/sumdb/note, which defined the format.
    #[test]
    fn a_note_signed_by_another_implementation_verifies() {
        let material = STANDARD
            .decode("ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW")
            .unwrap();
        let key = VerifyingKey::from_bytes(&material[1..].try_into().unwrap()).unwrap();
        assert_eq!(
            verifier_key("PeterNeumann", &key),
            "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
        );
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let signature = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=";
        let note = format!("{text}\n\u{2014} PeterNeumann {signature}\n");
        assert_eq!(verify(&note, "PeterNeumann", &key), Ok(text));
    }

    #[test]
    fn a_checkpoint_opens_to_the_head_that_was_signed() {
        let note = head().sign(&key());
        let opened = TreeHead::open(&note, &head().origin, &key().verifying_key());
        assert_eq!(opened, Ok(head()));
        assert!(
            note.starts_with("medmesh/edge/us/us/us-f1\n15368377\nBwcH"),
            "{note}"
        );
    }

    #[test]
    fn an_altered_checkpoint_is_refused() {
        let (note, origin) = (head().sign(&key()), head().origin);
        let open = |note: &str, origin: &str, key: &SigningKey| {
            TreeHead::open(note, origin, &key.verifying_key()).unwrap_err()
        };
        let larger = note.replace("15368377", "15368378");
        assert_eq!(open(&larger, &origin, &key()), NoteError::Signature);
        assert_eq!(open(&note, "medmesh/global", &key()), NoteError::Origin);
        assert_eq!(
            open(&note, &origin, &SigningKey::from_bytes(&[8; 32])),
            NoteError::Signature
        );
        for text in [
            "",
            "\n\n",
            "medmesh/edge/us/us/us-f1\n",
            "medmesh/edge/us/us/us-f1\n\n",
        ] {
            assert!(
                TreeHead::open(text, &origin, &key().verifying_key()).is_err(),
                "{text:?}"
            );
        }
        let text = format!("{origin}\n007\n{}\n", STANDARD.encode([7; 32]));
        let padded = sign(&text, &origin, &key());
        assert_eq!(open(&padded, &origin, &key()), NoteError::Malformed);
    }

    #[test]
    fn the_signature_of_a_witness_is_passed_over() {
        let witness = SigningKey::from_bytes(&[3; 32]);
        let note = head().sign(&key());
        let (text, _) = note.split_at(note.rfind("\n\n").unwrap() + 1);
        let cosigned = sign(text, "witness", &witness) + &note[text.len() + 1..];
        let opened = TreeHead::open(&cosigned, &head().origin, &key().verifying_key());
        assert_eq!(opened, Ok(head()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_or_believe(text in "\\PC{0,60}(\n{0,3}\\PC{0,60}){0,6}") {
            let (origin, key) = (head().origin, key().verifying_key());
            assert!(TreeHead::open(&text, &origin, &key).is_err());
            assert!(TreeHead::open(&format!("{origin}\n{text}"), &origin, &key).is_err());
        }
    }
}
