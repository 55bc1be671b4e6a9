//! Files that are sent down as blobs: one kind of message for each class of data that may be a file, and what a descriptor
//! has to say before anybody believes it.
use crate::{Body, Delivery, FirmwareDelivery, ModelDelivery, PolicyDelivery};
use types::{DataClass, FacilityId, Id128, Label};

/// Facilities that one delivery is for, in one region, at most: what fits into a parcel many times over.
pub const MAX_FACILITIES: usize = 1_000;

/// A message with the descriptor of a file. The class of the file is that of the message's type.
pub trait Delivers: Body {
    /// The message of a descriptor.
    fn of(delivery: Delivery) -> Self;
    /// The descriptor.
    fn into_delivery(self) -> Option<Delivery>;
}

macro_rules! delivers {
    ($($kind:ident),*) => {$(
        impl Delivers for $kind {
            fn of(delivery: Delivery) -> Self {
                Self { delivery: Some(delivery) }
            }

            fn into_delivery(self) -> Option<Delivery> {
                self.delivery
            }
        }
    )*};
}

delivers!(FirmwareDelivery, PolicyDelivery, ModelDelivery);

/// The classes of data that may be sent down as a file.
pub const CLASSES: [DataClass; 3] = [
    DataClass::Firmware,
    DataClass::Policy,
    DataClass::ModelRelease,
];

/// Something that is done with the message of a class: a closure cannot choose its own type.
pub trait WithKind {
    /// What comes out.
    type Output;
    /// Does it with messages of kind `T`.
    fn with<T: Delivers>(self) -> Self::Output;
}

/// Does something with the kind of message that delivers files of a class; none when files of that class are not sent.
pub fn with_kind<W: WithKind>(class: DataClass, what: W) -> Option<W::Output> {
    match class {
        DataClass::Firmware => Some(what.with::<FirmwareDelivery>()),
        DataClass::Policy => Some(what.with::<PolicyDelivery>()),
        DataClass::ModelRelease => Some(what.with::<ModelDelivery>()),
        DataClass::Phi
        | DataClass::Pseudonymous
        | DataClass::Aggregate
        | DataClass::ModelUpdate
        | DataClass::DeviceMetadata
        | DataClass::Command
        | DataClass::DeviceReport
        | DataClass::AuditCheckpoint => None,
    }
}

/// A descriptor that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// What the delivery is called by.
    pub id: Id128,
    /// The file's name.
    pub name: Label,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its length, in bytes.
    pub size: u64,
    /// The facilities that it is for; none: the receiver.
    pub facilities: Vec<FacilityId>,
    /// It is taken back.
    pub withdrawn: bool,
}

impl Described {
    /// Reads a descriptor; none when any part of it is not what it has to be.
    #[must_use]
    pub fn read(delivery: &Delivery) -> Option<Self> {
        if delivery.facilities.len() > MAX_FACILITIES {
            return None;
        }
        let facilities = delivery.facilities.iter().map(|name| name.parse().ok());
        Some(Self {
            id: Id128::try_from(&delivery.id[..]).ok()?,
            name: delivery.name.parse().ok()?,
            sha256: delivery.sha256[..].try_into().ok()?,
            size: delivery.size,
            facilities: facilities.collect::<Option<_>>()?,
            withdrawn: delivery.withdrawn,
        })
    }

    /// The descriptor as it is sent to one receiver.
    #[must_use]
    pub fn to_delivery(&self) -> Delivery {
        let facilities = self.facilities.iter().map(ToString::to_string);
        Delivery {
            id: self.id.as_bytes().to_vec().into(),
            name: self.name.to_string(),
            sha256: self.sha256.to_vec().into(),
            size: self.size,
            facilities: facilities.collect(),
            withdrawn: self.withdrawn,
        }
    }

    /// What the delivery's need of its blob is called.
    #[must_use]
    pub fn reference(&self) -> String {
        reference(self.id)
    }
}

/// What the need of a delivery of its blob is called.
#[must_use]
pub fn reference(id: Id128) -> String {
    format!("delivery/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Classified as _;

    struct ClassOf;

    impl WithKind for ClassOf {
        type Output = DataClass;

        fn with<T: Delivers>(self) -> DataClass {
            T::CLASS
        }
    }

    #[test]
    fn each_class_of_file_has_a_message_of_that_class_and_nothing_of_a_patient_is_a_file() {
        for class in DataClass::ALL {
            let kind = with_kind(class, ClassOf);
            assert_eq!(kind, CLASSES.contains(&class).then_some(class));
        }
        assert_eq!(FirmwareDelivery::CLASS, DataClass::Firmware);
        for hidden in [
            DataClass::Phi,
            DataClass::Pseudonymous,
            DataClass::ModelUpdate,
        ] {
            assert!(!CLASSES.contains(&hidden), "files are not encrypted");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_whole_is_none() {
        let described = Described {
            id: Id128::from_bytes([7; 16]),
            name: "image-2.bin".parse().unwrap(),
            sha256: [9; 32],
            size: 5,
            facilities: vec!["us-f1".parse().unwrap()],
            withdrawn: false,
        };
        let good = described.to_delivery();
        assert_eq!(Described::read(&good), Some(described));
        let bad = |change: fn(&mut Delivery)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(Described::read(&bad), None, "{bad:?}");
        };
        bad(|it| it.id = vec![7; 15].into());
        bad(|it| it.name = "../../etc".into());
        bad(|it| it.name = String::new());
        bad(|it| it.sha256 = vec![9; 31].into());
        bad(|it| it.facilities = vec!["US F1".into()]);
        bad(|it| it.facilities = vec!["us-f1".into(); MAX_FACILITIES + 1]);
    }
}
