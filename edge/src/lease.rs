//! Leases: what a facility may do without asking, signed, and until when.
//!
//! A node that boots without a network has nobody to ask who it is and which policy holds. It has leases instead:
//! small signed notes ([`federation::note`]) that its authority issued while there was a network. They are verified
//! with a key that lies on the node. Without a good lease the facility goes on (it stores, polls and alarms); what it
//! may not do is to send anything out, and it says so.
use ed25519_dalek::{SigningKey, VerifyingKey};
use federation::note::{self, NoteError};
use std::path::Path;
use types::{Place, Timestamp};

const HEAD: &str = "medmesh/lease/v1";
/// Under which name the authority signs.
const AUTHORITY: &str = "medmesh/lease-authority";
/// The longest lease file, in bytes.
const MAX_BYTES: u64 = 4_096;
/// The longest that a lease may be issued for: no longer than the certificate of the node that it is for.
pub const MAX_LEASE_MS: i64 = federation::pki::NODE_DAYS as i64 * Timestamp::DAY_MS;

/// What a lease is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// That the node is who it is, and still belongs to the mesh.
    Identity,
    /// That its residency policy holds.
    Policy,
}

impl Subject {
    /// Every subject: each is needed to send anything.
    pub const ALL: [Self; 2] = [Self::Identity, Self::Policy];

    /// The subject's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Policy => "policy",
        }
    }

    /// Its file in the directory of leases.
    #[must_use]
    pub fn file_name(self) -> String {
        format!("{}.lease", self.as_str())
    }
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it is of.
    pub subject: Subject,
    /// Whose it is.
    pub place: Place,
    /// When it was issued (real time): then this time had come.
    pub issued: Timestamp,
    /// From when on it no longer holds (real time).
    pub expires: Timestamp,
}

/// Why a lease does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// There is none, or it cannot be read.
    #[error("there is no lease")]
    Missing,
    /// Not signed by the authority.
    #[error("the lease is not signed by the authority: {0}")]
    Signature(NoteError),
    /// Not the text of a lease.
    #[error("the lease is malformed")]
    Malformed,
    /// Of another subject or of another node.
    #[error("the lease is another one's")]
    Other,
    /// Its time is over.
    #[error("the lease has expired")]
    Expired,
}

impl LeaseError {
    /// The word for logs, readiness and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "lease-missing",
            Self::Signature(_) => "lease-signature",
            Self::Malformed => "lease-malformed",
            Self::Other => "lease-of-another",
            Self::Expired => "lease-expired",
        }
    }
}

impl Lease {
    fn text(&self) -> String {
        format!(
            "{HEAD}\nsubject {}\nplace {}\nissued {}\nexpires {}\n",
            self.subject.as_str(),
            self.place,
            self.issued,
            self.expires
        )
    }

    /// The note, signed by the authority.
    #[must_use]
    pub fn issue(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), AUTHORITY, key)
    }

    /// The lease of a subject that a note grants to the node at `me`. Its end is for [`Lease::holds_at`] to say.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn open(
        note: &str,
        key: &VerifyingKey,
        subject: Subject,
        me: &Place,
    ) -> Result<Self, LeaseError> {
        let text = note::verify(note, AUTHORITY, key).map_err(LeaseError::Signature)?;
        let lease = Self::parse(text).ok_or(LeaseError::Malformed)?;
        if lease.subject == subject && lease.place == *me {
            Ok(lease)
        } else {
            Err(LeaseError::Other)
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let mut field = |name| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let subject = field("subject")?;
        let lease = Self {
            subject: Subject::ALL
                .into_iter()
                .find(|known| known.as_str() == subject)?,
            place: field("place")?.parse().ok()?,
            issued: field("issued")?.parse().ok()?,
            expires: field("expires")?.parse().ok()?,
        };
        // Only the one way to write it, so that what is read is what was signed.
        (lease.text() == text).then_some(lease)
    }

    /// Whether it holds at an instant of real time.
    ///
    /// # Errors
    /// [`LeaseError::Expired`].
    pub fn holds_at(&self, now: Timestamp) -> Result<(), LeaseError> {
        if now < self.expires {
            Ok(())
        } else {
            Err(LeaseError::Expired)
        }
    }

    /// Reads `SUBJECT.lease` of a directory.
    ///
    /// # Errors
    /// [`LeaseError`].
    pub fn read(
        dir: &Path,
        key: &VerifyingKey,
        subject: Subject,
        me: &Place,
    ) -> Result<Self, LeaseError> {
        let path = dir.join(subject.file_name());
        let small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= MAX_BYTES);
        let text = if small {
            std::fs::read_to_string(path).map_err(|_| LeaseError::Missing)?
        } else {
            return Err(LeaseError::Missing);
        };
        Self::open(&text, key, subject, me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease() -> Lease {
        Lease {
            subject: Subject::Identity,
            place: "edge/eu/eu/eu-f1".parse().unwrap(),
            issued: Timestamp(1_000),
            expires: Timestamp(2_000),
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    #[test]
    fn a_lease_holds_for_its_node_and_subject_until_its_end() {
        let lease = lease();
        let note = lease.issue(&key());
        let opened = Lease::open(
            &note,
            &key().verifying_key(),
            Subject::Identity,
            &lease.place,
        )
        .unwrap();
        assert_eq!(opened, lease);
        assert_eq!(opened.holds_at(Timestamp(1_999)), Ok(()));
        assert_eq!(opened.holds_at(Timestamp(2_000)), Err(LeaseError::Expired));
    }

    #[test]
    fn a_lease_of_another_key_place_subject_or_text_does_not_hold() {
        let lease = lease();
        let note = lease.issue(&key());
        let open = |note: &str, key: &SigningKey, subject, place: &str| {
            let place = place.parse().unwrap();
            Lease::open(note, &key.verifying_key(), subject, &place).unwrap_err()
        };
        let (me, identity) = ("edge/eu/eu/eu-f1", Subject::Identity);
        let other = SigningKey::from_bytes(&[4; 32]);
        let signature = |error| matches!(error, LeaseError::Signature(_));
        assert!(signature(open(&note, &other, identity, me)));
        let longer = note.replace("00:00:02", "00:00:59");
        assert!(signature(open(&longer, &key(), identity, me)));
        assert_eq!(open(&note, &key(), Subject::Policy, me), LeaseError::Other);
        assert_eq!(
            open(&note, &key(), identity, "edge/eu/eu/eu-f2"),
            LeaseError::Other
        );
    }

    #[test]
    fn a_lease_that_is_not_there_is_missing() {
        let dir = tempfile::TempDir::new().unwrap();
        let read = || {
            let key = key().verifying_key();
            Lease::read(dir.path(), &key, Subject::Identity, &lease().place)
        };
        assert_eq!(read(), Err(LeaseError::Missing));
        std::fs::write(dir.path().join("identity.lease"), lease().issue(&key())).unwrap();
        assert_eq!(read(), Ok(lease()));
    }
}
