//! Beds at run time: what is entered late gives readings to those whom they belong to, here and in the region.
use super::*;
use messages::Correction;
use std::collections::{BTreeMap, BTreeSet};

/// The patient of a reading, its time, and whether it was withdrawn.
type Held = (Option<Vec<u8>>, i64, bool);

/// What a region holds of a facility's readings, by uid.
#[derive(Default)]
struct Region {
    readings: BTreeMap<Vec<u8>, Held>,
    /// Of whom it has readings under each name of a device.
    names: BTreeMap<Vec<u8>, BTreeSet<Option<Vec<u8>>>>,
}

impl Region {
    fn take(&mut self, batch: &ReadingBatch) {
        for reading in &batch.readings {
            let patient = (reading.patient as usize).checked_sub(1);
            let patient = patient.map(|at| batch.patients[at].pseudonym.to_vec());
            let device = &batch.devices[reading.device as usize].pseudonym;
            let of = self.names.entry(device.to_vec()).or_default();
            of.insert(patient.clone());
            assert_eq!(of.len(), 1, "a name of a device is one patient's");
            let known = self.readings.entry(reading.uid.to_vec());
            let kept = known.or_insert((patient, reading.effective_ms, reading.withdrawn));
            kept.2 |= reading.withdrawn;
        }
    }

    /// Takes everything that waits, the last parcel first if so wished.
    async fn drain(&mut self, store: &Store, reverse: bool) -> Vec<String> {
        let mut kinds = Vec::new();
        for priority in Priority::ALL {
            let mut waiting = parcels(store, priority).await;
            if reverse {
                waiting.reverse();
            }
            for parcel in &waiting {
                kinds.push(parcel.kind.clone());
                if parcel.kind == "Correction" {
                    let correction: Correction = opened(parcel);
                    self.take(&correction.batch.unwrap());
                } else {
                    self.take(&opened(parcel));
                }
            }
            waiting.reverse();
            let receipts = waiting.iter().map(|p| receipt(p, Outcome::Accepted));
            store
                .settle(store.region(), receipts.collect())
                .await
                .unwrap();
        }
        kinds
    }

    /// How many readings each patient has, and how many were withdrawn.
    fn standing(&self) -> (BTreeMap<Option<Vec<u8>>, usize>, usize) {
        let (mut standing, mut withdrawn) = (BTreeMap::new(), 0);
        for (patient, _, gone) in self.readings.values() {
            if *gone {
                withdrawn += 1;
            } else {
                *standing.entry(patient.clone()).or_default() += 1;
            }
        }
        (standing, withdrawn)
    }
}

/// A sample measured so many minutes after the start.
fn minute(seq: u64) -> Sample {
    Sample {
        source_time: Timestamp(START + seq.cast_signed() * 60_000),
        ..sample("m1", seq)
    }
}

fn at(minutes: i64, patient: Option<&str>) -> BedFact {
    BedFact {
        from: Timestamp(START + minutes * 60_000),
        by: "nurse".into(),
        ..bed("2026-01-01T00:00:00Z", patient)
    }
}

/// What the facility's log says of who entered something.
async fn audited(store: &Store) -> Vec<(String, String)> {
    let read = |db: &Connection| {
        let rows = federation::audit::list(db, 0, 10_000).unwrap().into_iter();
        let entries = rows.map(|row| row.1);
        let beds = entries.filter(|e| e.decision() == federation::audit::Decision::BedEntered);
        Ok(beds
            .map(|e| (e.from().to_owned(), e.reason().to_owned()))
            .collect())
    };
    store.read(read).await.unwrap()
}

/// Steps until nothing is left; gives the readings that moved and the steps.
pub(super) async fn correct(store: &Store) -> (usize, usize) {
    let (mut moved, mut steps) = (0, 0);
    loop {
        let step = store.correct().await.unwrap();
        assert!(!step.held);
        moved += step.moved;
        steps += 1;
        if !step.left {
            return (moved, steps);
        }
    }
}

async fn pseudonym(store: &Store, id: &str) -> Option<Vec<u8>> {
    let id = id.to_owned();
    let bytes: [u8; 16] = store
        .read(move |db| {
            let sql = "SELECT pseudonym FROM patient WHERE id = ?1";
            Ok(db.query_row(sql, [id], |row| row.get(0))?)
        })
        .await
        .unwrap();
    Some(bytes.to_vec())
}

#[tokio::test]
async fn an_entry_that_comes_late_moves_the_readings_of_its_time_to_the_right_patient() {
    for reverse in [false, true] {
        let dir = TempDir::new().unwrap();
        let (store, mut region) = (store(&dir), Region::default());
        for seq in 0..20 {
            store.append(minute(seq)).await.unwrap();
        }
        let mut named = minute(99);
        named.source_time = Timestamp(START + 10 * 60_000);
        named.patient = Some(Phi::new("p-1".into()));
        store.append(named).await.unwrap();
        if !reverse {
            region.drain(&store, false).await;
        }
        let entered = store.enter(at(5, Some("p-2"))).await.unwrap();
        assert_eq!((entered.changed, entered.corrects), (true, true));
        let entered = store.enter(at(15, None)).await.unwrap();
        assert_eq!((entered.changed, entered.corrects), (true, true));
        let wrote = |what: &str| ("nurse".to_owned(), what.to_owned());
        assert_eq!(audited(&store).await, [wrote("assign"), wrote("discharge")]);
        assert_eq!(correct(&store).await.0, 2 * 15);
        // What comes in now is right at once.
        store.append(minute(20)).await.unwrap();
        let kinds = region.drain(&store, reverse).await;
        assert!(kinds.iter().any(|kind| kind == "Correction"));
        let (standing, withdrawn) = region.standing();
        let expected = [
            (pseudonym(&store, "p-1").await, 2 * 6),
            (pseudonym(&store, "p-2").await, 2 * 10),
            (None, 2 * 6),
        ];
        assert_eq!(standing, expected.into_iter().collect(), "{reverse}");
        assert_eq!(withdrawn, 2 * 15);
        assert_eq!(correct(&store).await, (0, 1));
        // What came again is a duplicate still, and what the store says is what the region has.
        assert_eq!(store.append(minute(7)).await.unwrap(), Stored::Duplicate);
        let uids: BTreeSet<Vec<u8>> = store
            .read(|db| {
                let mut query = db.prepare("SELECT readings FROM sample")?;
                let blobs: Vec<Vec<u8>> = query
                    .query_map([], |row| row.get(0))?
                    .collect::<Result<_, _>>()?;
                let packed = blobs
                    .iter()
                    .flat_map(|blob| PackedReading::unpack(blob).unwrap());
                Ok(packed
                    .map(|reading| reading.uid.as_bytes().to_vec())
                    .collect())
            })
            .await
            .unwrap();
        let standing = region.readings.iter().filter(|(_, reading)| !reading.2);
        let standing: BTreeSet<Vec<u8>> = standing.map(|(uid, _)| uid.clone()).collect();
        assert_eq!(uids, standing);
    }
}

#[tokio::test]
async fn a_reading_that_moves_is_shifted_as_its_new_patients_dates_are() {
    let dir = TempDir::new().unwrap();
    let (store, mut region) = (store(&dir), Region::default());
    store.append(minute(10)).await.unwrap();
    region.drain(&store, false).await;
    store.enter(at(5, Some("p-2"))).await.unwrap();
    correct(&store).await;
    region.drain(&store, false).await;
    let shift_of = |id: &'static str| {
        store.read(move |db| {
            let sql = "SELECT shift_days FROM patient WHERE id = ?1";
            Ok(db.query_row(sql, [id], |row| row.get::<_, i64>(0))?)
        })
    };
    let (first, second) = (
        shift_of("p-1").await.unwrap(),
        shift_of("p-2").await.unwrap(),
    );
    let true_ms = START + 600_000;
    for (_, effective, withdrawn) in region.readings.values() {
        let days = if *withdrawn { first } else { second };
        assert_eq!(*effective, true_ms + days * Timestamp::DAY_MS);
    }
    assert_eq!(region.standing().1, 2);
}

#[tokio::test]
async fn a_long_correction_goes_in_bounded_steps_and_goes_on_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let (store, mut region) = (store(&dir), Region::default());
    let samples: Vec<_> = (0..6_000)
        .map(|seq| Sample {
            source_time: Timestamp(START + seq),
            ..sample("m1", seq.cast_unsigned())
        })
        .collect();
    store.append_batch(samples).await;
    region.drain(&store, false).await;
    store.enter(at(-1, Some("p-2"))).await.unwrap();
    let mut moved = 0;
    for _ in 0..3 {
        let step = store.correct().await.unwrap();
        assert!(step.left && (1..=1_100).contains(&step.moved), "{step:?}");
        moved += step.moved;
        // Live samples are stored between the steps.
        let seq = 10_000 + moved as u64;
        assert_eq!(store.append(minute(seq)).await.unwrap(), Stored::New);
    }
    // A second store on the files as they are is what a start after a kill finds.
    let copy = TempDir::new().unwrap();
    for name in ["store.db", "store.db-wal", "store.key"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = self::store(&copy);
    let (rest, steps) = correct(&store).await;
    assert_eq!(moved + rest, 12_000);
    assert!(steps > 5, "{steps}");
    region.drain(&store, false).await;
    let (standing, withdrawn) = region.standing();
    assert_eq!(standing[&pseudonym(&store, "p-2").await], 12_000);
    assert_eq!(withdrawn, 12_000);
}

#[tokio::test]
async fn entries_outlive_a_restart_and_the_configuration_says_nothing_twice() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    // A correction of what the configuration says, at the very instant that it names.
    let other = BedFact {
        from: "2025-12-31T00:00:00Z".parse().unwrap(),
        ..at(0, Some("p-9"))
    };
    assert!(store.enter(other.clone()).await.unwrap().changed);
    assert!(!store.enter(other).await.unwrap().changed);
    let before = store.bed_rows().await.unwrap();
    store.close().await;
    let store = self::store(&dir);
    assert_eq!(store.bed_rows().await.unwrap(), before);
    let said: Vec<_> = before
        .0
        .iter()
        .map(|row| (row.patient.as_deref(), row.by.as_str(), row.holds))
        .collect();
    assert_eq!(
        said,
        [
            (Some("p-1"), BY_CONFIGURATION, false),
            (Some("p-9"), "nurse", true),
            (None, BY_CONFIGURATION, true)
        ]
    );
    let beds = store.beds().await.unwrap();
    assert_eq!(beds["bed-1"][0].1, Some(Phi::new("p-9".into())));
}

#[tokio::test]
async fn an_entry_that_cannot_be_made_is_refused_with_the_field_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let long = "x".repeat(65);
    let wrong = [
        BedFact {
            bed: String::new(),
            ..at(0, None)
        },
        BedFact {
            by: long.clone(),
            ..at(0, None)
        },
        BedFact {
            by: "an\u{200b}na".into(),
            ..at(0, None)
        },
        BedFact {
            from: Timestamp(i64::MAX),
            ..at(0, None)
        },
        at(0, Some(&long)),
        at(0, Some("")),
    ];
    let before = store.bed_rows().await.unwrap();
    for fact in wrong {
        let error = store.enter(fact).await.unwrap_err();
        assert_eq!(error.kind, StoreErrorKind::Refused);
    }
    assert_eq!(store.bed_rows().await.unwrap(), before);
    assert_eq!(store.condition(), Condition::Good);
}

#[tokio::test]
async fn readings_of_another_bed_than_the_device_stood_at_do_not_move() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store.append(minute(1)).await.unwrap();
    store.close().await;
    // The monitor is taken to another bed, where somebody else lies.
    let mut options = options(dir.path(), time.clone());
    options.devices[0].bed = Some("bed-2".into());
    time.forward(600_000);
    let store = Store::open(options).unwrap();
    store.append(minute(11)).await.unwrap();
    let elsewhere = BedFact {
        bed: "bed-2".into(),
        ..at(0, Some("p-2"))
    };
    store.enter(elsewhere).await.unwrap();
    assert_eq!(correct(&store).await.0, 2, "what was measured at bed 2");
}

#[tokio::test]
async fn an_alarm_about_a_patient_who_had_left_is_withdrawn_and_one_of_another_moves() {
    let dir = TempDir::new().unwrap();
    let (store, mut region) = (store(&dir), Region::default());
    store.append(minute(1)).await.unwrap();
    let alarm = |minutes: i64| EdgeSample {
        device: "m1".parse().unwrap(),
        source_time: Timestamp(START + minutes * 60_000),
        patient: None,
        owned_at: Timestamp(START + 60_000),
        readings: vec![SampleReading {
            value: Value::Absent(AbsentReason::Stale),
            ..sample("m1", 1).readings.remove(0)
        }],
    };
    assert!(store.raise(vec![alarm(8)]).await[0].is_ok());
    region.drain(&store, false).await;
    // p-2 lay there all the time, and left before the alarm was raised.
    store.enter(at(0, Some("p-2"))).await.unwrap();
    assert_eq!(correct(&store).await.0, 3);
    store.enter(at(5, None)).await.unwrap();
    assert_eq!(correct(&store).await.0, 1);
    region.drain(&store, false).await;
    let (standing, withdrawn) = region.standing();
    let expected = BTreeMap::from([(pseudonym(&store, "p-2").await, 2)]);
    assert_eq!((standing, withdrawn), (expected, 4));
    assert_eq!(correct(&store).await, (0, 1));
}

#[tokio::test]
async fn while_nothing_may_leave_a_correction_waits() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    store.append(minute(10)).await.unwrap();
    store.close().await;
    let mut options = options(dir.path(), hand());
    let refuse = "forbid (principal, action, resource);";
    let policies = TempDir::new().unwrap();
    std::fs::write(policies.path().join("none.cedar"), refuse).unwrap();
    options.rules = Arc::new(federation::policy::Rules::load(Some(policies.path())).unwrap());
    let held = Store::open(options).unwrap();
    held.enter(at(5, Some("p-2"))).await.unwrap();
    let step = held.correct().await.unwrap();
    assert_eq!((step.moved, step.left, step.held), (0, true, true));
    held.close().await;
    let store = self::store(&dir);
    assert_eq!(correct(&store).await.0, 2);
}

/// The patients of parcels without readings, as the region is told of them.
async fn told(store: &Store) -> Vec<messages::ClinicalPatient> {
    let mut told = Vec::new();
    for priority in Priority::ALL {
        for parcel in parcels(store, priority).await {
            let batch: ReadingBatch = opened(&parcel);
            if batch.readings.is_empty() {
                told.extend(batch.patients);
            }
            let receipts = vec![receipt(&parcel, Outcome::Accepted)];
            store.settle(store.region(), receipts).await.unwrap();
        }
    }
    told
}

async fn ship_late(store: &Store) {
    while store.ship_late().await.unwrap().left {}
}

fn known(birth_date: &str, care_unit: &str, weight_kg: &str) -> BedFact {
    let mut fact = at(30, Some("p-7"));
    if let Some(record) = &mut fact.patient {
        let phi = |text: &str| Some(Phi::new(text.to_owned()));
        record.birth_date = phi(birth_date);
        record.care_unit = phi(care_unit);
        record.weight_kg = phi(weight_kg);
    }
    fact
}

#[tokio::test]
async fn a_patient_of_whom_nothing_is_measured_is_told_to_the_region_once_and_again_when_better_known()
 {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    // p-1 of the configuration.
    ship_late(&store).await;
    assert_eq!(told(&store).await.len(), 1);
    let entered = store
        .enter(known("1950-03-04", "MICU", "80.5"))
        .await
        .unwrap();
    assert!(entered.changed && entered.described && store.has_unshipped());
    ship_late(&store).await;
    let said = told(&store).await;
    assert_eq!(said.len(), 1);
    assert_eq!(
        said[0].pseudonym.to_vec(),
        pseudonym(&store, "p-7").await.unwrap()
    );
    let facts = (
        said[0].birth_year,
        &said[0].gender[..],
        &said[0].care_unit[..],
    );
    assert_eq!(facts, (1950, "female", "MICU"));
    // Nothing new, and then what does and what does not leave.
    for (fact, described) in [
        (known("1950-03-04", "MICU", "80.5"), false),
        (known("1950-03-04", "SICU", "80.5"), true),
        (known("1950-03-04", "SICU", "81"), true),
    ] {
        let entered = store.enter(fact).await.unwrap();
        assert_eq!((entered.changed, entered.described), (false, described));
        ship_late(&store).await;
        let said = told(&store).await;
        assert_eq!(said.len(), usize::from(described));
        assert!(said.iter().all(|patient| patient.care_unit == "SICU"));
    }
    // Who is measured goes along with their readings.
    store.enter(known("1950-03-05", "CCU", "81")).await.unwrap();
    store.append(minute(40)).await.unwrap();
    ship_late(&store).await;
    assert_eq!(told(&store).await, []);
}

#[tokio::test]
async fn an_old_file_does_not_undo_what_was_said_of_a_patient_at_run_time() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let mut said = at(0, Some("p-1"));
    said.patient.as_mut().unwrap().gender = Some(Phi::new("male".into()));
    assert!(store.enter(said).await.unwrap().described);
    store.close().await;
    let store = self::store(&dir);
    ship_late(&store).await;
    assert_eq!(told(&store).await[0].gender, "male");
}
