//! A reading that comes again by another name: a facility that was put back to an older copy of its store gives patients
//! and devices that it first saw since then other pseudonyms, and patients another shift. What a device sends to it again
//! has its old id all the same, and is the reading that is here; it is neither stored twice nor left out as a conflict.
//! The one that came first stays: of a reading nothing is changed afterwards.
use fhir::store::{NewResource, ResourceType, Stored};
use serde::Deserialize;
use serde_json::value::RawValue;
use types::Timestamp;

/// Shifts are whole days.
const DAY_MS: i64 = 86_400_000;

/// What was measured, beside the time: as the mapping wrote it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    value_quantity: Option<&'a RawValue>,
    #[serde(borrow)]
    data_absent_reason: Option<&'a RawValue>,
    effective_date_time: String,
}

impl Measured<'_> {
    fn said(&self) -> [Option<&str>; 3] {
        [self.code, self.value_quantity, self.data_absent_reason]
            .map(|part| part.map(RawValue::get))
    }

    fn time(&self) -> Option<Timestamp> {
        self.effective_date_time.parse().ok()
    }
}

/// Whether what is stored under the id of a new Observation, and is of the same source, is that very reading: the same
/// code and value, of another patient or device, at a time that another shift makes of the same one.
pub(crate) fn is_same_reading(stored: &Stored, new: &NewResource) -> bool {
    if new.kind() != ResourceType::Observation || stored.source.is_none() {
        return false;
    }
    let texts = (stored.json.as_str(), new.json());
    let (Ok(old), Ok(new)) = (
        serde_json::from_str::<Measured<'_>>(texts.0),
        serde_json::from_str::<Measured<'_>>(texts.1),
    ) else {
        return false;
    };
    let (Some(was), Some(is)) = (old.time(), new.time()) else {
        return false;
    };
    old.said() == new.said()
        && is
            .0
            .checked_sub(was.0)
            .is_some_and(|apart| apart % DAY_MS == 0)
}
