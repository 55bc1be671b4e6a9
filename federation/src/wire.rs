//! The messages of `proto/mesh.proto`, generated, and the data class of each body.
#![expect(
    missing_docs,
    clippy::all,
    clippy::too_many_lines,
    reason = "generated; the comments are in the proto file"
)]

use types::{Classified, DataClass};

tonic::include_proto!("medmesh.v1");

/// A message that can be the body of a parcel.
pub trait Body: Classified + prost::Message + Default + 'static {
    /// The name of the message in [`Parcel::kind`].
    const KIND: &'static str;

    /// How many records it holds.
    fn count(&self) -> u32;
}

impl Classified for ReadingBatch {
    const CLASS: DataClass = DataClass::Pseudonymous;
}

impl Body for ReadingBatch {
    const KIND: &'static str = "ReadingBatch";

    fn count(&self) -> u32 {
        u32::try_from(self.readings.len()).unwrap_or(u32::MAX)
    }
}

impl Classified for Correction {
    const CLASS: DataClass = DataClass::Pseudonymous;
}

impl Body for Correction {
    const KIND: &'static str = "Correction";

    fn count(&self) -> u32 {
        self.batch.as_ref().map_or(0, Body::count)
    }
}

impl Classified for DeviceRecords {
    const CLASS: DataClass = DataClass::DeviceMetadata;
}

impl Body for DeviceRecords {
    const KIND: &'static str = "DeviceRecords";

    fn count(&self) -> u32 {
        u32::try_from(self.devices.len()).unwrap_or(u32::MAX)
    }
}

impl Classified for AuditCheckpoint {
    const CLASS: DataClass = DataClass::AuditCheckpoint;
}

impl Body for AuditCheckpoint {
    const KIND: &'static str = "AuditCheckpoint";

    fn count(&self) -> u32 {
        u32::try_from(self.heads.len()).unwrap_or(u32::MAX)
    }
}

/// The class of the message that [`Parcel::kind`] names: it comes from the type, not from what the parcel claims.
#[must_use]
pub fn class_of_kind(kind: &str) -> Option<DataClass> {
    match kind {
        ReadingBatch::KIND => Some(ReadingBatch::CLASS),
        Correction::KIND => Some(Correction::CLASS),
        DeviceRecords::KIND => Some(DeviceRecords::CLASS),
        AuditCheckpoint::KIND => Some(AuditCheckpoint::CLASS),
        _ => None,
    }
}
