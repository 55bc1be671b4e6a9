//! What devices are called outside the facility, and when their records are said to have changed.
use super::*;
use crate::schema::File;
use std::collections::BTreeSet;
use types::DevicePseudonym;

/// What the device of the first reading of each batch is called, in the order of commits.
async fn called(store: &Store) -> Vec<DevicePseudonym> {
    let batches = batches(store).await;
    let one = |batch: &ReadingBatch| {
        let device = &batch.devices[batch.readings[0].device as usize];
        DevicePseudonym::try_from(&device.pseudonym[..]).unwrap()
    };
    batches.iter().map(one).collect()
}

#[tokio::test]
async fn a_device_has_another_name_for_each_stay_and_keeps_it_through_a_restart() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let options = || {
        let mut options = options(dir.path(), time.clone());
        options.beds = vec![
            bed("2025-12-31T00:00:00Z", Some("p-1")),
            // The same patient again is the same stay.
            bed("2026-01-01T01:00:00Z", Some("p-1")),
            bed("2026-01-01T02:00:00Z", Some("p-2")),
            bed("2026-01-01T03:00:00Z", None),
            bed("2026-01-01T04:00:00Z", Some("p-1")),
        ];
        options
    };
    let at = |seq, hours: i64, patient: Option<&str>| Sample {
        source_time: Timestamp(START + hours * 3_600_000),
        patient: patient.map(|id| Phi::new(id.into())),
        ..sample("m1", seq)
    };
    let named = Some("p-1");
    let measured = [
        (0, None, 0),
        (1, None, 0),
        (1, named, 0),
        (2, None, 1),
        (3, None, 2),
        (4, None, 3),
        // Named by the device while another one lies in its bed.
        (2, named, 4),
        (2, Some("p-9"), 5),
    ];
    let mut all = Vec::new();
    for round in 0..2 {
        let store = Store::open(options()).unwrap();
        for (seq, (hours, patient, _)) in (0..).zip(measured) {
            let sample = at(round * 100 + seq, hours, patient);
            store.append(sample).await.unwrap();
        }
        all = called(&store).await;
        store.close().await;
    }
    let first = &all[..measured.len()];
    assert_eq!(&all[measured.len()..], first, "names are kept");
    let mut of_stay: Vec<Vec<DevicePseudonym>> = vec![Vec::new(); 6];
    for (name, (.., stay)) in first.iter().zip(measured) {
        of_stay[stay].push(*name);
    }
    for names in &of_stay {
        assert!(names.iter().all(|name| *name == names[0]));
    }
    let distinct: BTreeSet<_> = of_stay.iter().map(|names| names[0]).collect();
    assert_eq!(distinct.len(), 6, "no name serves two stays");
}

#[tokio::test]
async fn a_sample_from_before_there_were_stays_goes_out_under_the_name_of_its_device() {
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let mut options_without = options(dir.path(), time.clone());
    options_without.profile = Some(federation::profile::SignedProfile {
        jurisdiction: types::Jurisdiction::Eu,
        to: federation::profile::GrantedTo::Facility("eu-f1".parse().unwrap()),
        profile: federation::profile::Profile::Limited,
        not_after: Timestamp(START),
    });
    let store = Store::open(options_without).unwrap();
    store.append(sample("m1", 1)).await.unwrap();
    store.close().await;
    let key = key::open_or_create(dir.path(), &Secret::new([7; 32]), system_entropy).unwrap();
    let file = File {
        path: dir.path().join(Store::FILE),
        key,
        vfs: None,
    };
    // As the migration leaves a store of version 3.
    file.open_writer()
        .unwrap()
        .execute_batch(
            "UPDATE sample SET stay = NULL; DELETE FROM stay;
             INSERT INTO stay (device, patient, since_ms, pseudonym) SELECT row, -1, 0, zeroblob(16) FROM device;",
        )
        .unwrap();
    let store = Store::open(options(dir.path(), time)).unwrap();
    assert_eq!(store.ship_late().await.unwrap().shipped, 1);
    assert_eq!(called(&store).await, [DevicePseudonym::from_bytes([0; 16])]);
}

#[tokio::test]
async fn two_parcels_of_the_same_readings_have_nothing_to_be_recognised_by() {
    let dir = TempDir::new().unwrap();
    let store = store(&dir);
    for seq in 1..3 {
        store.append(sample("m1", seq)).await.unwrap();
    }
    let batches = batches(&store).await;
    assert!(batches.iter().all(|batch| batch.salt.len() == 16));
    assert_ne!(batches[0].salt, batches[1].salt);
}

#[tokio::test]
async fn the_catalog_learns_the_day_on_which_a_device_became_another_one_and_no_instant() {
    const DAY: i64 = Timestamp::DAY_MS;
    let (dir, time) = (TempDir::new().unwrap(), hand());
    let store = Store::open(options(dir.path(), time.clone())).unwrap();
    let id = store
        .device(&"m1".parse().unwrap())
        .await
        .unwrap()
        .catalog_id;
    let mut last = 0;
    // At 13:37:42.123 of the first day, and so on.
    time.forward(49_062_123);
    for (forward, firmware, status, day) in [
        (0, "1.0", "active", 0),
        (3_600_000, "1.0", "silent", 0),
        (DAY, "1.0", "active", 0),
        (DAY, "1.1", "active", 2),
        (DAY, "1.1", "silent", 2),
        (-5 * DAY, "1.2", "silent", 2),
    ] {
        time.forward(forward);
        let records = messages::DeviceRecords {
            devices: vec![messages::DeviceRecord {
                catalog_id: id.as_bytes().to_vec().into(),
                kind: "bedside-monitor".into(),
                firmware: firmware.into(),
                status: status.into(),
                ..messages::DeviceRecord::default()
            }],
            ..messages::DeviceRecords::default()
        };
        store.ship_devices(records).await.unwrap();
        let sent = parcels(&store, Priority::Live).await;
        let sent: messages::DeviceRecords = opened(sent.last().unwrap());
        let updated = sent.devices[0].updated_ms;
        assert_eq!(
            (updated - START).div_euclid(DAY),
            day,
            "{firmware} {status}"
        );
        assert!(updated > last, "a later record is later");
        let within = (updated - START).rem_euclid(DAY);
        assert!(within < 10_000, "no time of day: {within} ms");
        last = updated;
    }
}
