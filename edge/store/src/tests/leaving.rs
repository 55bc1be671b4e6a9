//! What leaves the store, whose it is, and by how much its times are moved.
use super::*;

#[tokio::test]
async fn a_reading_belongs_to_whom_lay_in_the_bed_when_it_was_measured() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let at = |seq, time: &str, patient: Option<&str>| Sample {
        source_time: time.parse().unwrap(),
        patient: patient.map(|id| Phi::new(id.into())),
        ..sample("m1", seq)
    };
    store
        .append(at(1, "2026-01-01T11:59:59.999Z", None))
        .await
        .unwrap();
    store
        .append(at(2, "2026-01-01T12:00:00Z", None))
        .await
        .unwrap();
    store
        .append(at(3, "2026-01-01T12:00:00Z", Some("p-1")))
        .await
        .unwrap();
    store
        .append(at(4, "2026-01-01T12:00:00Z", Some("never seen")))
        .await
        .unwrap();
    let batches = batches(&store).await;
    let of = |batch: &ReadingBatch| {
        let index = batch.readings[0].patient as usize;
        index
            .checked_sub(1)
            .map(|at| batch.patients[at].pseudonym.clone())
    };
    let patients: Vec<_> = batches.iter().map(of).collect();
    assert!(patients[0].is_some() && patients[1].is_none());
    assert_eq!(patients[0], patients[2]);
    assert!(patients[3].is_some() && patients[3] != patients[0]);
    let moved = batches[0].readings[0].effective_ms - (START + 12 * 3_600_000 - 1);
    assert!(is_shift(moved));
    // Nobody lay in the bed: the time is moved all the same, since it tells when a stay ended.
    assert!(is_shift(
        batches[1].readings[0].effective_ms - (START + 12 * 3_600_000)
    ));
}

fn is_shift(moved: i64) -> bool {
    moved != 0 && moved % Timestamp::DAY_MS == 0 && moved.abs() <= 365 * Timestamp::DAY_MS
}

#[tokio::test]
async fn what_is_of_no_patient_is_moved_by_its_devices_constant() {
    let dir = TempDir::new().unwrap();
    let mut options = options(dir.path(), hand());
    let cold = DeviceFacts {
        id: "cold".parse().unwrap(),
        kind: types::DeviceKind::ColdChain,
        ..options.devices[0].clone()
    };
    options.devices.push(cold);
    options.beds.clear();
    let store = Store::open(options).unwrap();
    for (device, seq) in [("m1", 1), ("m1", 2), ("ext", 1), ("cold", 1)] {
        store.append(sample(device, seq)).await.unwrap();
    }
    let batches = batches(&store).await;
    let moved: Vec<_> = batches
        .iter()
        .flat_map(|batch| &batch.readings)
        .map(|reading| reading.effective_ms - START)
        .step_by(2)
        .collect();
    assert!(is_shift(moved[0]) && moved[1] == moved[0] && is_shift(moved[2]));
    assert!(is_shift(moved[3]));
    let shift = store.device(&"m1".parse().unwrap()).await.unwrap().shift;
    assert_eq!(moved[0], i64::from(shift.days()) * Timestamp::DAY_MS);
}

/// The pseudonym of the only patient of a batch, and how far the times of its readings are moved from an instant.
fn whose(batch: &ReadingBatch, at: i64) -> (bytes::Bytes, i64) {
    assert!(batch.readings.iter().all(|reading| reading.patient == 1));
    let moved = batch.readings[0].effective_ms - at;
    (batch.patients[0].pseudonym.clone(), moved)
}

#[tokio::test]
async fn an_alarm_is_moved_by_the_shift_of_the_patient_whose_value_it_is_about() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    let mut named = sample("ext", 1);
    named.patient = Some(Phi::new("p-9".into()));
    store.append(named.clone()).await.unwrap();
    // The bed is empty by the time that the alarm is raised.
    time.forward(24 * 3_600_000);
    let now = START + 24 * 3_600_000;
    let alarm = |device: &str, patient: Option<&str>| EdgeSample {
        device: device.parse().unwrap(),
        source_time: Timestamp(now),
        patient: patient.map(|id| Phi::new(id.into())),
        owned_at: Timestamp(START),
        readings: sample("m1", 1).readings,
    };
    let alarms = vec![alarm("m1", None), alarm("ext", Some("p-9"))];
    for stored in store.raise(alarms).await {
        assert_eq!(stored.unwrap(), Stored::New);
    }
    named.readings.pop();
    assert!(is_conflict(&store.append(named).await));
    let batches = batches(&store).await;
    let alarms: ReadingBatch = batches[0].clone();
    let shift_of = |batch: &ReadingBatch| whose(batch, START);
    let (p_1, p_9) = (shift_of(&batches[2]), shift_of(&batches[3]));
    assert_ne!(p_1.0, p_9.0);
    let of = |reading: &messages::Reading, at: i64| {
        let patient = &alarms.patients[reading.patient as usize - 1];
        (patient.pseudonym.clone(), reading.effective_ms - at)
    };
    assert_eq!(of(&alarms.readings[0], now), p_1);
    assert_eq!(of(&alarms.readings[2], now), p_9);
    // The conflict's, in a commit of its own.
    assert_eq!(whose(&batches[1], START), p_9);
}

#[tokio::test]
async fn under_an_expired_profile_samples_are_kept_and_nothing_goes_out() {
    let dir = TempDir::new().unwrap();
    let time = hand();
    let mut options = options(dir.path(), time.clone());
    options.profile = Some(federation::profile::SignedProfile {
        jurisdiction: types::Jurisdiction::Eu,
        to: federation::profile::GrantedTo::Facility("eu-f1".parse().unwrap()),
        profile: federation::profile::Profile::Limited,
        not_after: Timestamp(START + 1_000),
    });
    let store = Store::open(options).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    assert_eq!(batches(&store).await[0].readings[0].effective_ms, START);
    time.forward(1_000);
    assert_eq!(store.append(sample("m1", 2)).await.unwrap(), Stored::New);
    assert_eq!(store.depths(store.region()).await.unwrap().0, [0, 0, 1]);
    let kept = Late {
        shipped: 0,
        allowed: false,
        left: true,
    };
    assert!(store.has_unshipped());
    assert_eq!(store.ship_late().await.unwrap(), kept);
    assert_eq!(store.depths(store.region()).await.unwrap().0, [0, 0, 1]);
}

#[tokio::test]
async fn what_might_not_leave_is_shipped_once_it_may_and_then_deleted_in_its_time() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let lapsed = federation::profile::SignedProfile {
        jurisdiction: types::Jurisdiction::Eu,
        to: federation::profile::GrantedTo::Facility("eu-f1".parse().unwrap()),
        profile: federation::profile::Profile::Limited,
        not_after: Timestamp(START),
    };
    let mut without = options(dir.path(), time.clone());
    without.profile = Some(lapsed);
    let store = Store::open(without).unwrap();
    let samples = (0..600).map(|seq| sample("m1", seq)).collect();
    store.append_batch(samples).await;
    let alarm = Sample {
        urgency: Urgency::Alarm,
        ..sample("m1", 600)
    };
    store.append(alarm).await.unwrap();
    assert_eq!(store.depths(store.region()).await.unwrap().0, [0; 3]);
    store.close().await;
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    assert!(store.has_unshipped());
    let first = store.ship_late().await.unwrap();
    assert_eq!(
        (first.shipped, first.allowed, first.left),
        (500, true, true)
    );
    let second = store.ship_late().await.unwrap();
    assert_eq!((second.shipped, second.left), (101, false));
    assert!(!store.has_unshipped());
    let batches = batches(&store).await;
    let codes = |batch: &ReadingBatch| batch.readings.len();
    let counts: Vec<_> = batches.iter().map(codes).collect();
    assert_eq!((counts[0], counts.iter().sum::<usize>()), (2, 1_202));
    for batch in &batches {
        assert!(is_shift(whose(batch, START).1));
    }
    for priority in Priority::ALL {
        let receipts = parcels(&store, priority).await;
        let receipts = receipts.iter().map(|p| receipt(p, Outcome::Accepted));
        store
            .settle(store.region(), receipts.collect())
            .await
            .unwrap();
    }
    time.forward(2 * 86_400_000);
    assert_eq!(sweep(&store).await, 601);
}

/// A store that may send nothing any more.
fn lapsed(dir: &TempDir, time: &Arc<Hand>) -> StoreOptions {
    let profile = federation::profile::SignedProfile {
        jurisdiction: types::Jurisdiction::Eu,
        to: federation::profile::GrantedTo::Facility("eu-f1".parse().unwrap()),
        profile: federation::profile::Profile::Limited,
        not_after: Timestamp(START),
    };
    StoreOptions {
        profile: Some(profile),
        ..options(dir.path(), time.clone())
    }
}

/// Values of what waits in a priority, in the order in which they will be sent.
async fn waiting(store: &Store, priority: Priority) -> Vec<String> {
    let waiting = parcels(store, priority).await;
    let opened = waiting.iter().map(opened);
    let values = |batch: ReadingBatch| batch.readings.into_iter().filter_map(|it| it.value);
    let texts = opened.flat_map(values).map(|value| match value {
        messages::reading::Value::Quantity(text) | messages::reading::Value::Absent(text) => text,
    });
    texts.collect()
}

fn valued(device: &str, seq: u64, urgency: Urgency) -> Sample {
    let mut sample = Sample {
        urgency,
        source_time: Timestamp(START + 1_000 * seq.cast_signed()),
        ..sample(device, seq)
    };
    sample.readings.truncate(1);
    sample.readings[0].value = Value::Quantity((60 + seq).to_string().parse().unwrap());
    sample
}

#[tokio::test]
async fn what_was_kept_back_leaves_before_what_its_device_measured_later() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(lapsed(&dir, &time)).unwrap();
    for (seq, urgency) in [
        (1, Urgency::Alarm),
        (2, Urgency::Routine),
        (3, Urgency::Alarm),
    ] {
        store.append(valued("m1", seq, urgency)).await.unwrap();
    }
    store.close().await;
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    // Another device's alarm waits for nobody, and one of this device leaves with those before it, in one commit.
    store.append(valued("m2", 4, Urgency::Alarm)).await.unwrap();
    assert_eq!(waiting(&store, Priority::Alarm).await, ["64"]);
    store.release(store.region()).await.unwrap();
    store.append(valued("m1", 5, Urgency::Alarm)).await.unwrap();
    assert_eq!(
        waiting(&store, Priority::Alarm).await,
        ["64", "61", "63", "65"]
    );
    store.release(store.region()).await.unwrap();
    store
        .append(valued("m1", 6, Urgency::Routine))
        .await
        .unwrap();
    assert_eq!(waiting(&store, Priority::Backlog).await, ["62", "66"]);
    assert!(!store.ship_late().await.unwrap().left);
    assert!(!store.has_unshipped());
}

#[tokio::test]
async fn an_alarm_behind_more_than_a_step_of_older_ones_leaves_in_its_turn() {
    const KEPT: u64 = 700;
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(lapsed(&dir, &time)).unwrap();
    let kept = (0..KEPT).map(|seq| valued("m1", seq, Urgency::Alarm));
    store.append_batch(kept.collect()).await;
    store.close().await;
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    store
        .append(valued("m1", KEPT, Urgency::Alarm))
        .await
        .unwrap();
    assert!(store.has_unshipped());
    let expected = |count: u64| {
        (60..60 + count)
            .map(|value| value.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(waiting(&store, Priority::Alarm).await, expected(500));
    store.release(store.region()).await.unwrap();
    store
        .append(valued("m1", KEPT + 1, Urgency::Alarm))
        .await
        .unwrap();
    assert_eq!(waiting(&store, Priority::Alarm).await, expected(KEPT + 2));
}

#[tokio::test]
async fn what_a_device_sends_again_to_an_older_copy_has_the_ids_that_it_had() {
    let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = store(&dir);
    store.append(sample("m1", 1)).await.unwrap();
    store.close().await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let mut uids = Vec::new();
    for dir in [&dir, &copy] {
        let store = self::store(dir);
        // What the edge itself measures is not what it measured before under that number.
        let raised = EdgeSample {
            device: "m1".parse().unwrap(),
            source_time: Timestamp(START),
            patient: None,
            owned_at: Timestamp(START),
            readings: sample("m1", 2).readings,
        };
        store.raise(vec![raised]).await[0].as_ref().unwrap();
        assert_eq!(store.append(sample("m1", 2)).await.unwrap(), Stored::New);
        let batches = batches(&store).await;
        let of = |batch: &ReadingBatch| batch.readings.iter().map(|it| it.uid.clone()).collect();
        uids.push(batches.iter().map(of).collect::<Vec<Vec<_>>>());
    }
    let [before, after] = &uids[..] else { panic!() };
    // The alarm, sample 1 and sample 2.
    assert_eq!((before.len(), after.len()), (3, 3));
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
}

#[tokio::test]
async fn what_became_of_a_stay_is_stored_and_never_leaves_its_facility() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    let outcome = SampleReading {
        code: "urn:medmesh:code|in-hospital-death".parse().unwrap(),
        unit: "1".parse().unwrap(),
        value: Value::Quantity("1".parse().unwrap()),
        flags: Flags::NONE,
    };
    let alone = Sample {
        readings: vec![outcome.clone()],
        ..sample("m1", 1)
    };
    assert_eq!(store.append(alone.clone()).await.unwrap(), Stored::New);
    assert!(batches(&store).await.is_empty());
    assert_eq!(store.append(alone).await.unwrap(), Stored::Duplicate);
    let mut mixed = sample("m1", 2);
    mixed.readings.insert(1, outcome);
    store.append(mixed).await.unwrap();
    let batches = batches(&store).await;
    let sent: Vec<_> = batches.iter().flat_map(|batch| &batch.readings).collect();
    let codes: Vec<_> = sent.iter().map(|reading| reading.code.as_str()).collect();
    assert_eq!(codes, ["8867-4", "2708-6"]);
    assert_eq!(batches[0].patients.len(), 1, "the patient is told of now");
    let asked = crate::page::SeriesAsked {
        whose: crate::page::Whose::Patient(Phi::new("p-1".into())),
        code: None,
        from: Timestamp(START - 1),
        until: Timestamp(START + 1),
        after: None,
        limit: 100,
    };
    let page = store.look_at_series(asked).await.unwrap();
    assert_eq!(page.points.len(), 4);
}
