//! What regional nodes deliver, into the catalog: device records and nothing else. Applying a parcel twice, or an old
//! one after a new one, changes nothing, as the catalog merges by each record's own time.
use crate::catalog::{Catalog, Entry, Home, Kind, MAX_RECORDS, Put, Records};
use async_trait::async_trait;
use federation::{
    envelope::{self, Intact, OpenError},
    ledger::{Handler, Handlers, Ledger},
    models::DeviceModels,
    port::{PortError, Verdict},
    reason,
};
use messages::{AuditCheckpoint, DeviceRecords};
use node::clock::Clock;
use std::sync::Arc;
use types::{Place, Timestamp};

/// How far ahead of ours a record's time may be, in ms: a day, since a record bears the day of its sender. A record from
/// further ahead would win over every later one.
const MAX_AHEAD_MS: i64 = Timestamp::DAY_MS;

/// Applies device records to a catalog.
pub struct Intake {
    catalog: Arc<dyn Catalog>,
    models: DeviceModels,
    clock: Clock,
}

impl Intake {
    /// Into this catalog, which may name these models; the clock's real time bounds the time of records.
    pub fn new(catalog: Arc<dyn Catalog>, models: DeviceModels, clock: Clock) -> Self {
        Self {
            catalog,
            models,
            clock,
        }
    }

    /// What the global node takes in, by kind.
    #[must_use]
    pub fn handlers(self, ledger: &Ledger) -> Handlers {
        Handlers::new()
            .on::<DeviceRecords>(self)
            .on::<AuditCheckpoint>(ledger.keeps_heads())
    }

    async fn put(&self, taken: Taken) -> Result<Verdict, PortError> {
        let (stored, left_out) = (taken.records.devices.len(), taken.left_out);
        match self.catalog.put_devices(&taken.records).await {
            Ok(Put::Stored) => {}
            Ok(Put::Foreign) => {
                return Ok(Verdict::Refused {
                    reason: reason::WRONG_SENDER,
                });
            }
            Err(error) if error.kind == Kind::Refused => {
                tracing::error!(%error, "device records quarantined");
                return Ok(Verdict::Quarantined {
                    reason: reason::UNMAPPABLE,
                });
            }
            Err(error) => return Err(error.into()),
        }
        if left_out > 0 {
            tracing::error!(facility = %taken.records.home.facility, left_out, "device records left out");
        }
        count("stored", stored);
        count("left-out", left_out);
        Ok(Verdict::Accepted {
            stored: u32::try_from(stored).unwrap_or(u32::MAX),
        })
    }
}

#[async_trait]
impl Handler for Intake {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let now = self.clock.real();
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            verdicts.push(match take(from, parcel, &self.models, now) {
                Ok(taken) => self.put(taken).await?,
                Err(verdict) => verdict,
            });
        }
        Ok(verdicts)
    }
}

/// The records of a parcel that can be understood, and how many cannot.
struct Taken {
    records: Records,
    left_out: usize,
}

fn take(
    from: &Place,
    parcel: &Intact,
    models: &DeviceModels,
    now: Timestamp,
) -> Result<Taken, Verdict> {
    let quarantined = |reason| Verdict::Quarantined { reason };
    let refused = |reason| Verdict::Refused { reason };
    let mut body: DeviceRecords = envelope::open(parcel).map_err(|error| match error {
        OpenError::Kind => refused(error.reason()),
        OpenError::Malformed => quarantined(reason::MALFORMED),
    })?;
    let home = home(&body).ok_or_else(|| quarantined(reason::MALFORMED))?;
    if !home.is_below(from) {
        return Err(refused(reason::WRONG_SENDER));
    }
    if body.devices.len() > MAX_RECORDS {
        return Err(quarantined(reason::TOO_LARGE));
    }
    for record in &mut body.devices {
        models.restrict(&mut record.model, &mut record.firmware);
    }
    let times = 0..=now.plus_ms(MAX_AHEAD_MS).0;
    let devices: Vec<_> = body
        .devices
        .iter()
        .filter_map(Entry::read)
        .filter(|entry| times.contains(&entry.updated.0))
        .collect();
    let left_out = body.devices.len() - devices.len();
    if devices.is_empty() && left_out > 0 {
        return Err(quarantined(reason::UNMAPPABLE));
    }
    Ok(Taken {
        records: Records { home, devices },
        left_out,
    })
}

fn home(body: &DeviceRecords) -> Option<Home> {
    Some(Home {
        jurisdiction: body.jurisdiction.parse().ok()?,
        region: body.region.parse().ok()?,
        facility: body.facility.parse().ok()?,
    })
}

fn count(result: &'static str, records: usize) {
    metrics::counter!("medmesh_catalog_records_total", "result" => result)
        .increment(records as u64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use federation::wire::Parcel;
    use messages::{Body, DeviceRecord, ReadingBatch};

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn body() -> DeviceRecords {
        let record = |number: u8| DeviceRecord {
            catalog_id: vec![number; 16].into(),
            kind: "cold-chain".into(),
            model: "XY-MD02".into(),
            firmware: String::new(),
            status: "active".into(),
            updated_ms: 1,
        };
        DeviceRecords {
            facility: "eu-f1".into(),
            region: "eu".into(),
            jurisdiction: "eu".into(),
            devices: vec![record(1), record(2)],
        }
    }

    fn parcel<T: Body>(body: &T) -> Intact {
        let bytes = body.encode_to_vec();
        let parcel = Parcel {
            kind: T::KIND.into(),
            count: body.count(),
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        Intact::new(parcel).unwrap()
    }

    fn taken(body: &DeviceRecords) -> Result<(usize, usize), Verdict> {
        let from = "regional/eu/eu".parse().unwrap();
        take(&from, &parcel(body), &DeviceModels::default(), NOW)
            .map(|taken| (taken.records.devices.len(), taken.left_out))
    }

    #[test]
    fn records_that_can_be_understood_are_taken_and_the_others_counted() {
        assert_eq!(taken(&body()), Ok((2, 0)));
        let mut one = body();
        one.devices[1].model = "the pump of Jane Doe".into();
        assert_eq!(taken(&one), Ok((1, 1)));
        let mut late = body();
        late.devices[0].updated_ms = NOW.0 + MAX_AHEAD_MS + 1;
        late.devices[1].updated_ms = NOW.0 + MAX_AHEAD_MS;
        assert_eq!(taken(&late), Ok((1, 1)));
        let none = DeviceRecords {
            devices: Vec::new(),
            ..body()
        };
        assert_eq!(taken(&none), Ok((0, 0)));
    }

    #[test]
    fn a_model_that_is_not_listed_here_is_not_named_here_whatever_a_region_lists() {
        let from = "regional/eu/eu".parse().unwrap();
        let models = |models: &DeviceModels| -> Vec<_> {
            let taken = take(&from, &parcel(&body()), models, NOW).ok().unwrap();
            let facts = taken.records.devices.into_iter().map(|entry| entry.facts);
            facts
                .map(|facts| facts.model.unwrap().to_string())
                .collect()
        };
        assert_eq!(models(&DeviceModels::default()), ["unlisted"; 2]);
        let listed = DeviceModels::new(["XY-MD02".parse().unwrap()], []);
        assert_eq!(models(&listed), ["XY-MD02"; 2]);
    }

    #[test]
    fn what_cannot_be_understood_at_all_is_quarantined() {
        let quarantined = |reason| Err(Verdict::Quarantined { reason });
        let mut unknown = body();
        for record in &mut unknown.devices {
            record.kind = "toaster".into();
        }
        assert_eq!(taken(&unknown), quarantined(reason::UNMAPPABLE));
        let nowhere = DeviceRecords {
            facility: "Ward 3, Jane Doe".into(),
            ..body()
        };
        assert_eq!(taken(&nowhere), quarantined(reason::MALFORMED));
    }

    #[test]
    fn a_region_speaks_for_its_own_facilities_alone_and_only_of_devices() {
        let elsewhere = DeviceRecords {
            jurisdiction: "us".into(),
            ..body()
        };
        let refused = |reason| Err(Verdict::Refused { reason });
        assert_eq!(taken(&elsewhere), refused(reason::WRONG_SENDER));
        let from = "regional/eu/eu".parse().unwrap();
        let readings = take(
            &from,
            &parcel(&ReadingBatch::default()),
            &DeviceModels::default(),
            NOW,
        );
        let counts = readings.map(|taken| (taken.records.devices.len(), taken.left_out));
        assert_eq!(counts, refused(reason::UNKNOWN_KIND));
    }
}
