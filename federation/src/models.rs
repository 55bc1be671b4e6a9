//! Which models and firmware versions of devices may be named in the catalog: a table per deployment, signed by whoever
//! answers for its policy. Whatever is not in it is the word [`UNLISTED`], at the facility, in the region and at the
//! global node alike, so that no remark travels in the place of a name. Without a table nothing is listed.
//!
//! The table is a note in the format of [`crate::note`]; a model or a version is a label (`types::Label`):
//!
//! ```text
//! medmesh/device-models/v1
//! model XY-MD02
//! firmware 1.4.2
//!
//! — medmesh/policy …
//! ```
use crate::{
    note::{self, NoteError},
    signed_file::{SignedFile, SignedFileError},
};
use ed25519_dalek::{SigningKey, VerifyingKey};
use std::{collections::BTreeSet, fmt::Write as _};
use types::Label;

const HEAD: &str = "medmesh/device-models/v1";
/// The name under which tables are signed.
pub const SIGNER: &str = "medmesh/policy";
/// The key that tables are signed with, in the folder of the certificate authority: `policy.key` and `policy.pem`.
pub const AUTHORITY: &str = "policy";
/// The word for a model or a firmware version that is not in the table.
pub const UNLISTED: &str = "unlisted";

/// Why a table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// One of its files cannot be read.
    #[error(transparent)]
    File(#[from] SignedFileError),
    /// Not signed by the authority.
    #[error("the table of models is not signed by the authority: {0}")]
    Signature(NoteError),
    /// The text is not that of a table.
    #[error("the table of models is malformed: see federation/src/models.rs for its form")]
    Malformed,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceModels {
    models: BTreeSet<Label>,
    firmware: BTreeSet<Label>,
}

impl DeviceModels {
    /// Of these names.
    pub fn new(
        models: impl IntoIterator<Item = Label>,
        firmware: impl IntoIterator<Item = Label>,
    ) -> Self {
        Self {
            models: models.into_iter().collect(),
            firmware: firmware.into_iter().collect(),
        }
    }

    /// The table that a configuration names; an empty one when it names none.
    ///
    /// # Errors
    /// [`ModelsError`].
    pub fn load(file: Option<&SignedFile>) -> Result<Self, ModelsError> {
        let Some(file) = file else {
            return Ok(Self::default());
        };
        let (note, key) = file.read()?;
        Self::open(&note, &key)
    }

    /// The table of a note.
    ///
    /// # Errors
    /// [`ModelsError`].
    pub fn open(note: &str, key: &VerifyingKey) -> Result<Self, ModelsError> {
        let text = note::verify(note, SIGNER, key).map_err(ModelsError::Signature)?;
        Self::parse(text).ok_or(ModelsError::Malformed)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let mut table = Self::default();
        for line in lines {
            match line.split_once(' ')? {
                ("model", label) => table.models.insert(label.parse().ok()?),
                ("firmware", label) => table.firmware.insert(label.parse().ok()?),
                _ => return None,
            };
        }
        Some(table)
    }

    /// The note, signed.
    #[must_use]
    pub fn sign(&self, key: &SigningKey) -> String {
        let mut text = format!("{HEAD}\n");
        for (word, labels) in [("model", &self.models), ("firmware", &self.firmware)] {
            for label in labels {
                // Writing to a string does not fail.
                let _ = writeln!(text, "{word} {label}");
            }
        }
        note::sign(&text, SIGNER, key)
    }

    /// Puts [`UNLISTED`] in the place of names that are not in the table. A text that is no name at all is left: whoever
    /// reads them refuses it.
    pub fn restrict(&self, model: &mut String, firmware: &mut String) {
        let names = [(model, &self.models), (firmware, &self.firmware)];
        for (name, listed) in names {
            if name
                .parse()
                .is_ok_and(|label: Label| !listed.contains(&label))
            {
                UNLISTED.clone_into(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Label {
        text.parse().unwrap()
    }

    fn restricted(table: &DeviceModels, model: &str, firmware: &str) -> [String; 2] {
        let (mut model, mut firmware) = (model.into(), firmware.into());
        table.restrict(&mut model, &mut firmware);
        [model, firmware]
    }

    #[test]
    fn a_name_that_is_not_in_the_table_becomes_the_word_unlisted() {
        let table = DeviceModels::new([label("XY-MD02")], [label("1.4.2")]);
        for (given, expected) in [
            (("XY-MD02", "1.4.2"), ("XY-MD02", "1.4.2")),
            (("1.4.2", "XY-MD02"), (UNLISTED, UNLISTED)),
            (("Jane-Doe-1950-03-04", ""), (UNLISTED, "")),
            (("bed of Jane Doe", "1.4.3"), ("bed of Jane Doe", UNLISTED)),
        ] {
            assert_eq!(
                restricted(&table, given.0, given.1),
                [expected.0, expected.1]
            );
        }
        assert_eq!(
            restricted(&DeviceModels::default(), "XY-MD02", "1.4.2"),
            [UNLISTED, UNLISTED],
            "nothing is listed without a table"
        );
    }

    #[test]
    fn a_signed_table_is_read_and_anything_wrong_with_it_is_refused() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let table = DeviceModels::new([label("a"), label("b-2")], [label("1+x")]);
        let note = table.sign(&key);
        let open = |note: &str| DeviceModels::open(note, &key.verifying_key());
        assert_eq!(open(&note).unwrap(), table);
        let forged = note.replace("b-2", "Jane");
        assert!(matches!(open(&forged), Err(ModelsError::Signature(_))));
        for text in [
            "other\n",
            "medmesh/device-models/v1\nmodel a b\n",
            "medmesh/device-models/v1\nmodels a\n",
        ] {
            let note = note::sign(text, SIGNER, &key);
            assert!(matches!(open(&note), Err(ModelsError::Malformed)), "{text}");
        }
    }
}
