//! What the catalog knows of a device, and how its facts are written so that two records of the same time merge
//! alike in every engine.
use types::{
    CatalogId, DeviceKind, DeviceStatus, FacilityId, Jurisdiction, Label, Place, RegionId,
    Timestamp,
};

/// The facility that a device belongs to, ordered by the texts of its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Home {
    /// Whose law applies.
    pub jurisdiction: Jurisdiction,
    /// The region.
    pub region: RegionId,
    /// The facility.
    pub facility: FacilityId,
}

impl Home {
    fn texts(&self) -> (&str, &str, &str) {
        (
            self.jurisdiction.as_str(),
            self.region.as_str(),
            self.facility.as_str(),
        )
    }

    /// Whether a peer at `place` may speak for this facility: its own node, or its region's.
    #[must_use]
    pub fn is_below(&self, place: &Place) -> bool {
        place.jurisdiction() == Some(self.jurisdiction)
            && place.region() == Some(&self.region)
            && place.facility().is_none_or(|own| *own == self.facility)
    }
}

impl Ord for Home {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.texts().cmp(&other.texts())
    }
}

impl PartialOrd for Home {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What may change of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// How it is.
    pub status: DeviceStatus,
    /// What it is.
    pub kind: DeviceKind,
    /// Its maker's name for it, when known.
    pub model: Option<Label>,
    /// The version of its software, when known.
    pub firmware: Option<Label>,
}

impl Facts {
    /// Status, kind, model and firmware, separated by tabs: one value, so that an engine that merges value by value
    /// never mixes two records.
    #[must_use]
    pub fn encode(&self) -> String {
        let text = |label: &Option<Label>| label.as_ref().map_or(String::new(), Label::to_string);
        let (model, firmware) = (text(&self.model), text(&self.firmware));
        format!("{}\t{}\t{model}\t{firmware}", self.status, self.kind)
    }

    /// The inverse of [`Facts::encode`].
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('\t');
        let facts = Self {
            status: DeviceStatus::parse(parts.next()?)?,
            kind: DeviceKind::parse(parts.next()?)?,
            model: label(parts.next()?).ok()?,
            firmware: label(parts.next()?).ok()?,
        };
        parts.next().is_none().then_some(facts)
    }
}

/// Empty text: not known.
fn label(text: &str) -> Result<Option<Label>, types::InvalidLabel> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some)
}

/// One device of a facility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The device, to the catalog.
    pub id: CatalogId,
    /// What is known of it.
    pub facts: Facts,
    /// The day of the last change of what it is, with the order of its entries within the day; the later entry wins.
    pub updated: Timestamp,
}

impl Entry {
    /// The latest time that every engine can keep: Cassandra's write times are microseconds in an `i64`.
    pub const LATEST: Timestamp = Timestamp(i64::MAX / 1_000);

    /// Reads a record of the wire; none when a field is not what it has to be.
    #[must_use]
    pub fn read(record: &messages::DeviceRecord) -> Option<Self> {
        Some(Self {
            id: CatalogId::try_from(record.catalog_id.as_ref()).ok()?,
            facts: Facts {
                status: DeviceStatus::parse(&record.status)?,
                kind: DeviceKind::parse(&record.kind)?,
                model: label(&record.model).ok()?,
                firmware: label(&record.firmware).ok()?,
            },
            updated: Timestamp(record.updated_ms),
        })
    }
}

/// Devices of one facility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The facility.
    pub home: Home,
    /// Its devices, or some of them.
    pub devices: Vec<Entry>,
}

/// A device and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its facility.
    pub home: Home,
    /// The device.
    pub entry: Entry,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_round_trip_and_text_that_is_none_is_refused() {
        for text in [
            "active\tbedside-monitor\tBM-7\t1.4.2",
            "silent\tcold-chain\t\t",
            "retired\texternal\tXY-MD02\t",
        ] {
            assert_eq!(Facts::decode(text).unwrap().encode(), text);
        }
        for text in [
            "",
            "active",
            "active\tcold-chain\t",
            "active\tcold-chain\t\t\t",
            "happy\tcold-chain\t\t",
            "active\tcold-chain\tJane Doe\t",
        ] {
            assert_eq!(Facts::decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_record_with_free_text_is_none() {
        let record = messages::DeviceRecord {
            catalog_id: vec![7; 16].into(),
            kind: "cold-chain".into(),
            model: "XY-MD02".into(),
            firmware: String::new(),
            status: "active".into(),
            updated_ms: 1,
        };
        assert!(Entry::read(&record).is_some());
        let with = |change: fn(&mut messages::DeviceRecord)| {
            let mut record = record.clone();
            change(&mut record);
            Entry::read(&record)
        };
        assert_eq!(with(|record| record.model = "bed of Jane Doe".into()), None);
        assert_eq!(with(|record| record.kind = "pump of ward 3".into()), None);
        assert_eq!(with(|record| record.status = "lent to Jane".into()), None);
        assert_eq!(with(|record| record.catalog_id = vec![7; 15].into()), None);
    }

    #[test]
    fn only_a_facility_and_its_region_speak_for_it() {
        let home = Home {
            jurisdiction: Jurisdiction::Eu,
            region: "eu".parse().unwrap(),
            facility: "eu-f1".parse().unwrap(),
        };
        for (place, expected) in [
            ("regional/eu/eu", true),
            ("edge/eu/eu/eu-f1", true),
            ("edge/eu/eu/eu-f2", false),
            ("regional/eu/eu-north", false),
            ("regional/us/eu", false),
            ("global", false),
        ] {
            assert_eq!(home.is_below(&place.parse().unwrap()), expected, "{place}");
        }
    }
}
