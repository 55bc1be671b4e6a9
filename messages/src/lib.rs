//! What crosses between places as the body of a parcel: the schemas, the class of each, and the one table of kinds.
//!
//! A new kind is one entry in `kinds!` below, one message in `proto/payload.proto`, and one handler at the nodes that take
//! it in (`federation::ledger::Handlers`). The transport knows none of them: it asks [`class_of`] by name, and the
//! residency rules by class. A message holds nothing that identifies a patient, and no [`types::Phi`] can be a field.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]

pub mod delivery;
mod schema;
pub use schema::*;
use types::DataClass;

/// A type whose values are all of one class. The class comes from the type, never from an argument.
pub trait Classified {
    /// The class of every value of this type.
    const CLASS: DataClass;
}

/// A message that can be the body of a parcel.
pub trait Body: Classified + prost::Message + Default + 'static {
    /// The name of the message in the parcel.
    const KIND: &'static str;

    /// How many records it holds.
    fn count(&self) -> u32;
}

/// One row of the table of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// [`Body::KIND`].
    pub name: &'static str,
    /// [`Classified::CLASS`].
    pub class: DataClass,
}

/// The table of kinds: name of the message, class of data, and how many records a message holds.
macro_rules! kinds {
    ($($message:ident is $class:ident, $it:ident holds $count:expr;)*) => {
        $(
            impl Classified for $message {
                const CLASS: DataClass = DataClass::$class;
            }

            impl Body for $message {
                const KIND: &'static str = stringify!($message);

                fn count(&self) -> u32 {
                    let $it = self;
                    u32::try_from($count).unwrap_or(u32::MAX)
                }
            }
        )*

        /// Every kind.
        pub const KINDS: &[Kind] = &[
            $(Kind { name: $message::KIND, class: $message::CLASS },)*
        ];
    };
}

kinds! {
    ReadingBatch is Pseudonymous, it holds it.readings.len();
    Correction is Pseudonymous, it holds it.batch.as_ref().map_or(0, |batch| batch.readings.len());
    ResearchChoices is Pseudonymous, it holds it.choices.len();
    DeviceRecords is DeviceMetadata, it holds it.devices.len();
    AuditCheckpoint is AuditCheckpoint, it holds it.heads.len();
    StudyRound is ModelRelease, _it holds 1_u32;
    StudyEnd is ModelRelease, _it holds 1_u32;
    StudyAsk is ModelRelease, _it holds 1_u32;
    StudyAnswer is ModelUpdate, _it holds 1_u32;
    StudyRelease is ModelRelease, _it holds 1_u32;
    DeviceCommand is Command, it holds usize::from(!it.signed.is_empty());
    CommandReports is DeviceReport, it holds it.reports.len();
    TwinReports is DeviceReport, it holds it.twins.len();
    FirmwareDelivery is Firmware, it holds usize::from(it.delivery.is_some());
    PolicyDelivery is Policy, it holds usize::from(it.delivery.is_some());
    ModelDelivery is ModelRelease, it holds usize::from(it.delivery.is_some());
    DeliveryReports is DeviceMetadata, it holds it.reports.len();
}

/// The class of the kind of that name: it comes from the type, not from what a parcel claims. None when it is unknown.
#[must_use]
pub fn class_of(kind: &str) -> Option<DataClass> {
    let found = KINDS.iter().find(|known| known.name == kind);
    found.map(|kind| kind.class)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_none_is_phi() {
        let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert!(KINDS.iter().all(|kind| kind.class != DataClass::Phi));
    }

    #[test]
    fn the_table_says_what_the_types_say() {
        assert_eq!(class_of("ReadingBatch"), Some(ReadingBatch::CLASS));
        assert_eq!(class_of("DeviceRecords"), Some(DataClass::DeviceMetadata));
        assert_eq!(class_of("Phi"), None);
        let correction = Correction {
            batch: Some(ReadingBatch {
                readings: vec![Reading::default(); 2],
                ..ReadingBatch::default()
            }),
        };
        assert_eq!(correction.count(), 2);
        assert_eq!(Correction::default().count(), 0);
    }
}
