//! A facility with a good certificate that writes into what is another's: the region must take none of it.
use super::nodes::Watch;
use federation::{
    envelope,
    link::Door,
    wire::{Outcome, Parcel},
};
use messages::{Body, DeviceRecord, DeviceRecords, Reading, ReadingBatch, reading};
use types::Place;

/// The rogue neighbour of a facility: how many parcels it has sent of each priority.
#[derive(Default)]
pub struct Rogue([u64; 3]);

/// Where a parcel of a rogue comes from, and what for.
struct From<'a> {
    place: &'a Place,
    purpose: &'a str,
    rank: u8,
}

impl Rogue {
    /// The rogue neighbour of a facility.
    #[must_use]
    pub fn place(of: &Place) -> Option<Place> {
        let (jurisdiction, region) = (of.jurisdiction()?, of.region()?);
        format!("edge/{jurisdiction}/{region}/{region}-f9")
            .parse()
            .ok()
    }

    /// Claims patient and device of `owner` in clinical data, and its device in the catalog. What was taken of it.
    pub async fn claim(
        &mut self,
        owner: &Place,
        door: &Door,
        watch: &Watch,
        catalog_id: Option<Vec<u8>>,
    ) -> Option<&'static str> {
        let place = Self::place(owner)?;
        let known = watch.seen.lock().batches.get(&owner.to_string()).cloned();
        if let Some(batch) = known.map(forge) {
            let from = From {
                place: &place,
                purpose: "care",
                rank: 1,
            };
            if self.deliver(&from, door, &batch).await {
                return Some("a reading of another facility's patient was taken");
            }
        }
        let records = forge_records(&place, catalog_id?);
        let from = From {
            place: &place,
            purpose: "operations",
            rank: 0,
        };
        let taken = self.deliver(&from, door, &records).await;
        taken.then_some("a record of another facility's device was taken")
    }

    /// Sends readings of a patient to a node that may have none. Whether any was taken.
    pub async fn trespass(&mut self, from: &Place, door: &Door) -> bool {
        let from = From {
            place: from,
            purpose: "care",
            rank: 2,
        };
        self.deliver(&from, door, &forge(ReadingBatch::default()))
            .await
    }

    async fn deliver<T: Body>(&mut self, from: &From<'_>, door: &Door, body: &T) -> bool {
        let seq = &mut self.0[usize::from(from.rank)];
        *seq += 1;
        let bytes = body.encode_to_vec();
        let mut id = [0xee; 16];
        id[0] = from.rank;
        id[1..9].copy_from_slice(&seq.to_be_bytes());
        let parcel = Parcel {
            id: id.to_vec().into(),
            priority: from.rank.into(),
            seq: *seq,
            data_class: T::CLASS.as_str().into(),
            purpose: from.purpose.into(),
            from: from.place.to_string(),
            to: door.here.to_string(),
            kind: T::KIND.into(),
            count: body.count(),
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let receipts = door.answer(from.place, vec![parcel]).await;
        let last = receipts.last();
        if last.is_none_or(|receipt| receipt.outcome() == Outcome::Deferred) {
            // It is to be sent again: another parcel may take its place.
            self.0[usize::from(from.rank)] -= 1;
        }
        last.is_some_and(|receipt| receipt.outcome() == Outcome::Accepted && receipt.stored > 0)
    }
}

/// One reading of the first patient and device of a batch.
fn forge(mut batch: ReadingBatch) -> ReadingBatch {
    batch.patients.truncate(1);
    batch.devices.truncate(1);
    if let Some(patient) = batch.patients.first_mut() {
        patient.gender = "other".into();
    }
    batch.readings = vec![Reading {
        withdrawn: false,
        uid: vec![0xee; 16].into(),
        device: 0,
        patient: u32::from(!batch.patients.is_empty()),
        code: "8867-4".into(),
        unit: "/min".into(),
        value: Some(reading::Value::Quantity("250".into())),
        effective_ms: 0,
        flags: 0,
    }];
    batch
}

fn forge_records(place: &Place, catalog_id: Vec<u8>) -> DeviceRecords {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    DeviceRecords {
        facility: text(place.facility().map(|it| it.as_str())),
        region: text(place.region().map(|it| it.as_str())),
        jurisdiction: text(place.jurisdiction().map(|it| it.as_str())),
        devices: vec![DeviceRecord {
            catalog_id: catalog_id.into(),
            kind: "bedside-monitor".into(),
            model: String::new(),
            firmware: String::new(),
            status: "retired".into(),
            updated_ms: 1,
        }],
    }
}
