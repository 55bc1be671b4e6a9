//! An envelope carries one message from one place to another; only a cleared one can be shipped.
//!
//! [`clear`] is the only maker of [`Cleared`]: it asks the floor ([`decide`]) and then the jurisdiction's Cedar
//! policies. The class comes from the type of the body, never from an argument.
//!
//! A `Cleared` cannot be forged outside this module:
//!
//! ```compile_fail,E0451
//! use medmesh_federation::envelope::{Cleared, Envelope};
//! use messages::ReadingBatch;
//! fn forge(envelope: Envelope<ReadingBatch>) -> Cleared<ReadingBatch> {
//!     Cleared { envelope }
//! }
//! ```
//!
//! ```
//! use medmesh_federation::{envelope::{Cleared, Envelope, Refusal, clear}, policy::Rules};
//! use messages::ReadingBatch;
//! fn ask(rules: &Rules, envelope: Envelope<ReadingBatch>) -> Result<Cleared<ReadingBatch>, Refusal> {
//!     clear(rules, envelope)
//! }
//! ```
//!
//! A message with a field of protected health information is no message. The twin without it is:
//!
//! ```
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Fine {
//!     #[prost(string, tag = "1")]
//!     code: String,
//!     #[prost(message, optional, tag = "2")]
//!     inner: Option<messages::ClinicalPatient>,
//! }
//! ```
//!
//! ```compile_fail,E0277
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Leak {
//!     #[prost(string, tag = "1")]
//!     code: String,
//!     #[prost(message, optional, tag = "2")]
//!     inner: Option<types::Phi<messages::ClinicalPatient>>,
//! }
//! ```
//!
//! And PHI itself is no body, however it is wrapped:
//!
//! ```compile_fail,E0277
//! use medmesh_federation::{envelope::{Cleared, Envelope, Refusal, clear}, policy::Rules};
//! use types::Phi;
//! fn leak(rules: &Rules, envelope: Envelope<Phi<String>>) -> Result<Cleared<Phi<String>>, Refusal> {
//!     clear(rules, envelope)
//! }
//! ```

pub use crate::floor::{Refusal, decide};
use crate::policy::Rules;
use crate::wire::Parcel;
use bytes::Bytes;
use messages::{Body, class_of};
use sha2::{Digest as _, Sha256};
use std::{borrow::Borrow, ops::Deref};
use types::{DataClass, EnvelopeId, Place, Priority, Purpose};

/// The largest body, in bytes: a parcel and its frame stay below gRPC's customary 4 MiB message with room to spare,
/// and one parcel never holds a slow link for long.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// A message on its way, not yet allowed to go.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope<T> {
    /// Where it comes from.
    pub from: Place,
    /// Where it is to go.
    pub to: Place,
    /// Why it is moved.
    pub purpose: Purpose,
    /// The message.
    pub body: T,
}

/// An envelope that may be shipped. Only [`clear`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Cleared<T> {
    envelope: Envelope<T>,
}

/// Clears an envelope: the floor first, then the Cedar policies, which can only tighten it.
///
/// # Errors
/// The [`Refusal`]. The caller writes it to the audit log ([`crate::outbox::ship`] does both).
pub fn clear<T: Body>(rules: &Rules, envelope: Envelope<T>) -> Result<Cleared<T>, Refusal> {
    rules.decide(T::CLASS, &envelope.from, &envelope.to, envelope.purpose)?;
    Ok(Cleared { envelope })
}

impl<T: Body> Cleared<T> {
    /// The class of the body.
    #[must_use]
    pub const fn class(&self) -> DataClass {
        T::CLASS
    }

    /// What was cleared, to read.
    #[must_use]
    pub const fn envelope(&self) -> &Envelope<T> {
        &self.envelope
    }

    /// Serializes the body into a parcel at its place `seq` in the sender's order of that priority, counted from 1.
    #[must_use]
    pub fn seal(self, id: EnvelopeId, priority: Priority, seq: u64) -> Parcel {
        let Envelope {
            from,
            to,
            purpose,
            body,
        } = self.envelope;
        let count = body.count();
        let body = Bytes::from(body.encode_to_vec());
        Parcel {
            id: Bytes::copy_from_slice(id.as_bytes()),
            priority: u32::from(priority.rank()),
            seq,
            data_class: T::CLASS.as_str().into(),
            purpose: purpose.as_str().into(),
            from: from.to_string(),
            to: to.to_string(),
            kind: T::KIND.into(),
            count,
            digest: digest(&body),
            body,
            // Set when it is sent: they say where the sender stands then.
            ..Parcel::default()
        }
    }
}

/// A parcel that was cleared once and may be shipped again. Only [`reseal`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Resealed<'a> {
    parcel: &'a Parcel,
}

/// Asks the rules once more whether a parcel may go, since they may have become tighter since it was sealed.
///
/// # Errors
/// The [`Refusal`]; [`Refusal::PolicyError`] when its own words do not make sense.
pub fn reseal<'a>(rules: &Rules, parcel: &'a Parcel) -> Result<Resealed<'a>, Refusal> {
    let class = class_of(&parcel.kind);
    let places = (parcel.from.parse::<Place>(), parcel.to.parse::<Place>());
    let (Some(class), Some(purpose), (Ok(from), Ok(to))) =
        (class, Purpose::parse(&parcel.purpose), places)
    else {
        return Err(Refusal::PolicyError);
    };
    rules.decide(class, &from, &to, purpose)?;
    Ok(Resealed { parcel })
}

impl Resealed<'_> {
    /// The parcel at another place in the sender's order: the same body, under another id.
    #[must_use]
    pub fn at(&self, id: EnvelopeId, priority: Priority, seq: u64) -> Parcel {
        Parcel {
            id: Bytes::copy_from_slice(id.as_bytes()),
            priority: u32::from(priority.rank()),
            seq,
            ..self.parcel.clone()
        }
    }
}

/// A parcel whose body has the digest that the parcel names. It was hashed once, where it came in: what opens it
/// ([`open`]) does not do so again.
#[derive(Clone, Debug, PartialEq)]
pub struct Intact(Parcel);

impl Intact {
    /// Hashes the body of a parcel: none if it is another one than was sealed.
    #[must_use]
    pub fn new(parcel: Parcel) -> Option<Self> {
        (digest(&parcel.body) == parcel.digest).then_some(Self(parcel))
    }

    /// [`Intact::new`] of each: none if any was altered.
    #[must_use]
    pub fn all(parcels: impl IntoIterator<Item = Parcel>) -> Option<Vec<Self>> {
        parcels.into_iter().map(Self::new).collect()
    }

    /// A parcel whose body was hashed by the end of the link at which it came in ([`crate::link::Door::answer`]).
    pub(crate) const fn hashed(parcel: Parcel) -> Self {
        Self(parcel)
    }
}

impl Deref for Intact {
    type Target = Parcel;

    fn deref(&self) -> &Parcel {
        &self.0
    }
}

impl Borrow<Parcel> for Intact {
    fn borrow(&self) -> &Parcel {
        &self.0
    }
}

/// Why a parcel cannot be opened as a message. It holds no payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The parcel holds another kind of message.
    #[error("the parcel holds another kind of message")]
    Kind,
    /// The body does not decode, or holds another number of records than the parcel says.
    #[error("the body is not a valid message of its kind")]
    Malformed,
}

impl OpenError {
    /// The word for receipts, audit rows and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Kind => "unknown-kind",
            Self::Malformed => "malformed",
        }
    }
}

/// Opens a parcel that the gate admitted.
///
/// # Errors
/// [`OpenError`] when kind, encoding or count do not fit.
pub fn open<T: Body>(parcel: &Intact) -> Result<T, OpenError> {
    if parcel.kind != T::KIND {
        return Err(OpenError::Kind);
    }
    let body = T::decode(parcel.body.clone()).map_err(|_| OpenError::Malformed)?;
    if body.count() == parcel.count {
        Ok(body)
    } else {
        Err(OpenError::Malformed)
    }
}

/// SHA-256 of a body, as [`Parcel::digest`] holds it.
#[must_use]
pub fn digest(body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use messages::{DeviceRecord, DeviceRecords, ReadingBatch};

    fn records() -> Envelope<DeviceRecords> {
        Envelope {
            from: "edge/us/us/us-f1".parse().unwrap(),
            to: "regional/us/us".parse().unwrap(),
            purpose: Purpose::Operations,
            body: DeviceRecords {
                devices: vec![DeviceRecord::default(); 3],
                ..DeviceRecords::default()
            },
        }
    }

    #[test]
    fn a_sealed_parcel_opens_to_the_message_that_was_cleared() {
        let envelope = records();
        let parcel = clear(&Rules::builtin().unwrap(), envelope.clone())
            .unwrap()
            .seal(EnvelopeId::from_bytes([7; 16]), Priority::Live, 9);
        assert_eq!(
            (parcel.data_class.as_str(), parcel.purpose.as_str()),
            ("device-metadata", "operations")
        );
        assert_eq!((parcel.priority, parcel.seq, parcel.count), (1, 9, 3));
        let parcel = Intact::new(parcel).unwrap();
        assert_eq!(open::<DeviceRecords>(&parcel), Ok(envelope.body));
    }

    #[test]
    fn a_parcel_that_was_altered_does_not_open() {
        let parcel = clear(&Rules::builtin().unwrap(), records()).unwrap().seal(
            EnvelopeId::from_bytes([7; 16]),
            Priority::Live,
            9,
        );
        fn opened<T: Body>(parcel: &Parcel) -> Option<Result<T, OpenError>> {
            Some(open(&Intact::new(parcel.clone())?))
        }
        assert_eq!(opened::<ReadingBatch>(&parcel), Some(Err(OpenError::Kind)));
        let mut other = parcel.clone();
        other.body = Bytes::from_static(b"\xff");
        assert_eq!(opened::<DeviceRecords>(&other), None);
        other.digest = digest(&other.body);
        let malformed = Some(Err(OpenError::Malformed));
        assert_eq!(opened::<DeviceRecords>(&other), malformed);
        let mut miscounted = parcel;
        miscounted.count = 4;
        assert_eq!(opened::<DeviceRecords>(&miscounted), malformed);
    }

    #[test]
    fn an_envelope_against_the_floor_is_not_cleared() {
        let envelope = Envelope {
            to: Place::Global,
            ..records()
        };
        let rules = Rules::builtin().unwrap();
        assert_eq!(clear(&rules, envelope).unwrap_err(), Refusal::NoLink);
    }
}
