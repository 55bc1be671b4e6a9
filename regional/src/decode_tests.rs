//! Tests of the receiver's own check: one wrong field, one fault, and never a word of it kept.
use super::*;
use fhir::store::ResourceType;
use proptest::prelude::*;

/// In July of 2026.
const NOW: Timestamp = Timestamp(1_782_900_000_000);

pub fn batch() -> ReadingBatch {
    let reading = |number: u8| messages::Reading {
        uid: vec![number; 16].into(),
        device: 0,
        patient: u32::from(number % 2),
        code: "8867-4".into(),
        unit: "/min".into(),
        value: Some(messages::reading::Value::Quantity("72.50".into())),
        effective_ms: 1_700_000_000_000,
        flags: 0,
        withdrawn: false,
    };
    ReadingBatch {
        devices: vec![messages::ClinicalDevice {
            pseudonym: vec![0xd; 16].into(),
            kind: "bedside-monitor".into(),
        }],
        patients: vec![messages::ClinicalPatient {
            pseudonym: vec![0xa; 16].into(),
            gender: "female".into(),
            birth_year: 1950,
            care_unit: "MICU".into(),
        }],
        readings: vec![reading(1), reading(2), reading(3)],
        ..ReadingBatch::default()
    }
}

fn changed(change: impl FnOnce(&mut ReadingBatch)) -> Decoded {
    let mut batch = batch();
    change(&mut batch);
    decode(&batch, NOW)
}

#[test]
fn a_good_batch_becomes_its_device_its_patient_and_its_readings() {
    let decoded = decode(&batch(), NOW);
    let kinds: Vec<_> = decoded.resources.iter().map(NewResource::kind).collect();
    let observation = ResourceType::Observation;
    assert_eq!(
        kinds,
        [
            ResourceType::Device,
            ResourceType::Patient,
            observation,
            observation,
            observation
        ]
    );
    assert_eq!(
        (decoded.others, &decoded.positions[..]),
        (2, &[0, 1, 2][..])
    );
    assert_eq!(decoded.faults, []);
    assert!(decoded.resources[2].json().contains("\"value\":72.50,"));
    assert!(decoded.resources[2].json().contains("Patient/0a0a"));
    assert!(decoded.resources[3].index().patient.is_none());
    let positions: Vec<_> = (0..6).map(|at| decoded.position_of(at)).collect();
    assert_eq!(positions, [None, None, Some(0), Some(1), Some(2), None]);
}

#[test]
fn each_wrong_field_of_a_reading_has_its_fault_and_costs_no_other_reading() {
    type Change = fn(&mut messages::Reading);
    let cases: &[(Change, Fault)] = &[
        (|one| one.uid = vec![1; 15].into(), Fault::Uid),
        (|one| one.uid = "Jane Doe".into(), Fault::Uid),
        (|one| one.device = 1, Fault::Device),
        (|one| one.device = u32::MAX, Fault::Device),
        (|one| one.patient = 2, Fault::Patient),
        (|one| one.patient = u32::MAX, Fault::Patient),
        (|one| one.code = "Jane Doe".into(), Fault::Code),
        (|one| one.code = String::new(), Fault::Code),
        (
            |one| one.code = "urn:medmesh:code|in-hospital-death".into(),
            Fault::Code,
        ),
        (|one| one.unit = "beats of Jane".into(), Fault::Unit),
        (|one| one.unit = "kg".into(), Fault::Unit),
        (|one| one.value = None, Fault::NoValue),
        (
            |one| one.value = Some(messages::reading::Value::Quantity("Jane".into())),
            Fault::Value,
        ),
        (
            |one| one.value = Some(messages::reading::Value::Quantity("NaN".into())),
            Fault::Value,
        ),
        (
            |one| one.value = Some(messages::reading::Value::Quantity("1,\"x\":2".into())),
            Fault::Value,
        ),
        (
            |one| one.value = Some(messages::reading::Value::Absent("asked-declined".into())),
            Fault::Value,
        ),
        (|one| one.effective_ms = i64::MIN, Fault::Time),
        (
            |one| one.effective_ms = Timestamp::EARLIEST.0 - 1,
            Fault::Time,
        ),
        (|one| one.effective_ms = Timestamp::TOO_LATE.0, Fault::Time),
        (|one| one.flags = 16, Fault::Flags),
        (|one| one.flags = 256, Fault::Flags),
    ];
    for (at, (change, fault)) in cases.iter().enumerate() {
        let decoded = changed(|batch| change(&mut batch.readings[1]));
        assert_eq!(decoded.faults, [(1, *fault)], "case {at}");
        assert_eq!(decoded.positions, [0, 2]);
    }
}

#[test]
fn readings_of_a_device_or_patient_that_cannot_be_understood_are_left_out() {
    type Change = fn(&mut ReadingBatch);
    let of_device: &[Change] = &[
        |batch| batch.devices[0].pseudonym = "serial 4711".into(),
        |batch| batch.devices[0].kind = "the pump of Jane Doe".into(),
        |batch| batch.devices.clear(),
    ];
    for change in of_device {
        let decoded = changed(change);
        assert_eq!(decoded.faults, [0, 1, 2].map(|at| (at, Fault::Device)));
    }
    let of_patient: &[Change] = &[
        |batch| batch.patients[0].pseudonym = "MRN 4711".into(),
        |batch| batch.patients[0].gender = "Jane Doe".into(),
        |batch| batch.patients[0].birth_year = 19_500_203,
        |batch| batch.patients[0].care_unit = "the ward of Jane Doe".into(),
        |batch| batch.patients.clear(),
    ];
    for change in of_patient {
        let decoded = changed(change);
        assert_eq!(decoded.faults, [0, 2].map(|at| (at, Fault::Patient)));
        assert_eq!(decoded.positions, [1], "the reading of no patient stays");
    }
}

#[test]
fn the_bounds_of_what_is_plausible_are_taken() {
    for effective_ms in [Timestamp::EARLIEST.0, 0, Timestamp::TOO_LATE.0 - 1] {
        let decoded = changed(|batch| batch.readings[0].effective_ms = effective_ms);
        assert_eq!(decoded.faults, [], "{effective_ms}");
    }
    for birth_year in [0, *BIRTH_YEARS.start(), *BIRTH_YEARS.end()] {
        let decoded = changed(|batch| batch.patients[0].birth_year = birth_year);
        assert_eq!(decoded.faults, [], "{birth_year}");
    }
}

#[test]
fn a_year_of_birth_that_may_not_be_told_is_left_out_and_the_readings_stay() {
    for (year, told) in [
        (1_900, false),
        (1_936, false),
        (1_937, true),
        (2_027, false),
    ] {
        let decoded = changed(|batch| batch.patients[0].birth_year = year);
        assert_eq!(decoded.faults, [], "{year}");
        let patient = decoded.resources[1].json();
        assert_eq!(patient.contains("birthDate"), told, "{patient}");
    }
}

#[test]
fn every_fault_has_a_name_of_its_own() {
    let names: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|one| one.as_str()).collect();
    assert_eq!(names.len(), Fault::ALL.len());
}

proptest! {
    /// Whatever a peer writes into a field, nothing of it that is not of a table reaches a resource.
    #[test]
    fn no_text_of_a_peer_reaches_a_resource(
        text in "[a-zA-Z \"\\\\{}:,]{12,30}",
        field in 0..8_usize,
    ) {
        let canary = format!("Canary {text}");
        let decoded = changed(|batch| {
            let reading = &mut batch.readings[0];
            match field {
                0 => reading.uid = canary.clone().into(),
                1 => reading.code = canary.clone(),
                2 => reading.unit = canary.clone(),
                3 => reading.value = Some(messages::reading::Value::Quantity(canary.clone())),
                4 => reading.value = Some(messages::reading::Value::Absent(canary.clone())),
                5 => batch.devices[0].kind = canary.clone(),
                6 => batch.patients[0].gender = canary.clone(),
                _ => batch.patients[0].pseudonym = canary.clone().into(),
            }
        });
        prop_assert!(!decoded.faults.is_empty());
        for resource in &decoded.resources {
            prop_assert!(!resource.json().contains("Canary"));
        }
    }
}
