//! One table for each kind of identifier, and a canary in every field at once.
use super::*;

fn phi(text: &str) -> Phi<String> {
    Phi::new(text.to_owned())
}

fn canary(field: &str) -> Option<Phi<String>> {
    Some(phi(&format!("canary-{field}")))
}

/// Every field holds its own canary.
fn planted() -> PatientRecord {
    PatientRecord {
        facility_id: canary("facility-id"),
        name: canary("name"),
        gender: canary("gender"),
        birth_date: canary("birth-date"),
        care_unit: canary("care-unit"),
        height_cm: canary("height"),
        weight_kg: canary("weight"),
        address: canary("address"),
        zip: canary("zip"),
        phone: canary("phone"),
        fax: canary("fax"),
        email: canary("email"),
        social_security: canary("social-security"),
        mrn: canary("mrn"),
        health_plan: canary("health-plan"),
        account: canary("account"),
        licence: canary("licence"),
        vehicle: canary("vehicle"),
        device_serial: canary("device-serial"),
        url: canary("url"),
        ip: canary("ip"),
        biometric: canary("biometric"),
        photo: canary("photo"),
        other: canary("other"),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn nothing_is_left_of_any_identifier_that_is_removed() {
    assert_eq!(REMOVED.len(), 17);
    for (name, function) in REMOVED {
        assert_eq!(function(&planted()), None, "{name}");
    }
}

#[test]
fn no_canary_of_any_field_reaches_the_wire() {
    let now = at("2026-11-22T10:00:00Z");
    let patient = clinical_patient(PatientPseudonym::from_bytes([7; 16]), &planted(), now);
    let expected = ClinicalPatient {
        pseudonym: vec![7; 16].into(),
        gender: String::new(),
        birth_year: 0,
        care_unit: String::new(),
    };
    assert_eq!(patient, expected);
    let serial = canary("serial");
    let device = clinical_device(
        DevicePseudonym::from_bytes([8; 16]),
        DeviceKind::ColdChain,
        serial.as_ref(),
    );
    assert_eq!(device.kind, "cold-chain");
    assert!(!format!("{:?}", planted()).contains("canary"));
}

#[test]
fn what_may_travel_of_a_patient_travels() {
    let record = PatientRecord {
        gender: Some(phi("female")),
        birth_date: Some(phi("1961-04-05")),
        care_unit: Some(phi("MICU")),
        ..planted()
    };
    let now = at("2026-11-22T10:00:00Z");
    let patient = clinical_patient(PatientPseudonym::from_bytes([7; 16]), &record, now);
    assert_eq!(
        (patient.gender.as_str(), patient.birth_year),
        ("female", 1961)
    );
    assert_eq!(patient.care_unit, "MICU");
}

#[test]
fn a_record_that_makes_no_sense_is_refused_by_the_name_of_its_field() {
    type Field = fn(&mut PatientRecord) -> &mut Option<Phi<String>>;
    let table: [(Field, &str, &[&str], &[&str]); 5] = [
        (
            |record| &mut record.birth_date,
            "birth_date",
            &["1950", "1950-03", "1950-03-04", "1952-02-29", "1950-12-31"],
            &[
                "",
                "50",
                "1950-13",
                "1950-03-32",
                "1950-02-29",
                "1950-04-31",
                "1950-03-04T00",
                "1950-",
                "1950-03-04-05",
                "March",
            ],
        ),
        (
            |record| &mut record.gender,
            "gender",
            &["male", "female", "other", "unknown"],
            &["", "F", "Female", "male "],
        ),
        (
            |record| &mut record.height_cm,
            "height_cm",
            &["170", "170.50", "0.5", "1.7e2"],
            &[
                "",
                "0",
                "0.00",
                "-1",
                "tall",
                "170 cm",
                "NaN",
                "17000000000000000",
            ],
        ),
        (
            |record| &mut record.weight_kg,
            "weight_kg",
            &["80", "3.50"],
            &["", "0", "-80", "80,5"],
        ),
        (
            |record| &mut record.care_unit,
            "care_unit",
            &["CCU", "CSRU", "MICU", "SICU"],
            &["", "micu", "4", "ICU"],
        ),
    ];
    for (field, name, good, bad) in table {
        let check = |text: &str| {
            let mut record = PatientRecord {
                facility_id: Some(phi("p-1")),
                ..PatientRecord::default()
            };
            *field(&mut record) = Some(phi(text));
            check_record(&record)
        };
        for text in good {
            assert_eq!(check(text), Ok(()), "{name} {text}");
        }
        for text in bad {
            let reason = check(text).unwrap_err();
            assert!(reason.starts_with(&format!("{name}: ")), "{name} {text}");
        }
    }
}

#[test]
fn a_zip_code_keeps_three_digits_and_small_areas_none() {
    for (zip, expected) in [
        ("02139", Some("021")),
        ("02139-4307", Some("021")),
        ("021394307", Some("021")),
        ("03601", Some("000")),
        ("10213", Some("000")),
        ("89301-0001", Some("000")),
        ("0213", None),
        ("0213A", None),
        ("02139-", None),
        ("02139-430", None),
        ("02139 Jane", None),
        ("é2139", None),
        ("", None),
    ] {
        assert_eq!(zip3(&phi(zip)).as_deref(), expected, "{zip}");
    }
    for area in RESTRICTED_ZIP3 {
        assert_eq!(zip3(&phi(&format!("{area}01"))).as_deref(), Some("000"));
    }
}

#[test]
fn a_birth_date_keeps_its_year_and_ages_from_90_are_pooled() {
    for (date, expected) in [
        ("1961-04-05", 1961),
        ("1961-04", 1961),
        ("1961", 1961),
        ("2026-11-22", 2026),
        ("1937-01-01", 1937),
        ("1937-12-31", 1937),
        ("1936-12-31", 0),
        ("1936-01-01", 0),
        ("1900-01-01", 0),
        ("2027-01-01", 0),
        ("05.04.1961", 0),
        ("1961x", 0),
        ("+961-01-01", 0),
        ("", 0),
    ] {
        assert_eq!(
            birth_year(&phi(date), at("2026-11-22T10:00:00Z")),
            expected,
            "{date}"
        );
    }
}

#[test]
fn a_gender_is_one_of_four_codes_or_nothing() {
    for (text, expected) in [
        ("male", "male"),
        ("female", "female"),
        ("other", "other"),
        ("unknown", "unknown"),
        ("Female", ""),
        ("Jane Doe", ""),
        ("", ""),
    ] {
        assert_eq!(gender(&phi(text)), expected);
    }
}

#[test]
fn every_shift_but_none_is_drawn_equally_often() {
    let mut seen = std::collections::BTreeMap::new();
    for number in 0..=u16::MAX {
        let mut random = [0xff; 32];
        random[..2].copy_from_slice(&number.to_le_bytes());
        if let Some(shift) = Shift::draw(&random) {
            *seen.entry(shift.days()).or_insert(0u32) += 1;
        }
    }
    let days: Vec<i32> = (-365..=365).filter(|days| *days != 0).collect();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), days);
    assert!(
        seen.values().all(|count| *count == 65_536 / 730),
        "{seen:?}"
    );
    assert_eq!(Shift::draw(&[0xff; 32]), None);
}

#[test]
fn a_number_that_would_bias_the_draw_is_passed_over() {
    let mut random = [0xff; 32];
    random[2..4].copy_from_slice(&0u16.to_le_bytes());
    assert_eq!(Shift::draw(&random), Shift::from_days(-365));
}

#[test]
fn a_stored_shift_of_no_day_or_of_more_than_a_year_is_none() {
    for (days, valid) in [
        (0, false),
        (1, true),
        (-365, true),
        (365, true),
        (366, false),
        (i32::MAX, false),
        (-366, false),
    ] {
        assert_eq!(Shift::from_days(days).is_some(), valid, "{days}");
    }
}

#[test]
fn a_shift_keeps_intervals_and_the_time_of_day() {
    let (early, late) = (at("2026-03-01T23:59:59.250Z"), at("2026-03-02T00:10:00Z"));
    let by = Shift::from_days(-40).unwrap();
    let moved = |time| shift(time, Profile::Shifted, by);
    assert_eq!(moved(early), at("2026-01-20T23:59:59.250Z"));
    assert_eq!(moved(late).since(moved(early)), late.since(early));
    assert_eq!(shift(early, Profile::Limited, by), early);
}
