//! Tests of the mapping: tables, an independent reader, and the decimal's text.
use super::*;
use crate::contract::fixture;
use crate::validate::validate;
use proptest::prelude::*;
use serde_json::Value as Json;

fn json_of(model: &impl Serialize) -> Json {
    serde_json::from_str(resource(model).unwrap().json()).unwrap()
}

fn sample() -> ClinicalReading {
    let code: Code = "8867-4".parse().unwrap();
    ClinicalReading {
        uid: ReadingUid::from_bytes([1; 16]),
        patient: Some(PatientPseudonym::from_bytes([2; 16])),
        device: DevicePseudonym::from_bytes([3; 16]),
        code,
        unit: "/min".parse().unwrap(),
        value: Value::Quantity("72.50".parse().unwrap()),
        effective: "2026-11-22T10:00:00.007Z".parse().unwrap(),
        flags: Flags::NONE,
        withdrawn: false,
    }
}

#[test]
fn a_heart_rate_becomes_this_observation() {
    let expected = concat!(
        r#"{"resourceType":"Observation","id":"01010101010101010101010101010101","#,
        r#""meta":{"profile":["http://hl7.org/fhir/StructureDefinition/heartrate"]},"#,
        r#""identifier":[{"system":"urn:medmesh:reading","value":"01010101010101010101010101010101"}],"#,
        r#""status":"final","category":[{"coding":[{"system":"#,
        r#""http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"#,
        r#""code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"#,
        r#""subject":{"reference":"Patient/02020202020202020202020202020202"},"#,
        r#""effectiveDateTime":"2026-11-22T10:00:00.007Z","#,
        r#""valueQuantity":{"value":72.50,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"},"#,
        r#""device":{"reference":"Device/03030303030303030303030303030303"}}"#,
    );
    assert_eq!(resource(&observation(&sample())).unwrap().json(), expected);
}

#[test]
fn every_code_keeps_its_system_display_category_and_unit() {
    for code in Code::all() {
        let info = code.info();
        let unit: Unit = info.unit.parse().unwrap();
        let json = json_of(&observation(&ClinicalReading {
            code,
            unit,
            ..sample()
        }));
        let coding = &json["code"]["coding"][0];
        assert_eq!(coding["system"], info.system, "{code}");
        assert_eq!(coding["code"], info.code);
        assert_eq!(coding["display"], info.display);
        let category = &json["category"][0]["coding"][0];
        assert_eq!(category["system"], info.category.system());
        assert_eq!(category["code"], info.category.as_str());
        assert_eq!(json["valueQuantity"]["code"], info.unit);
        assert_eq!(json["valueQuantity"]["unit"], info.unit);
        let vital = info.category == Category::VitalSigns;
        assert_eq!(json["meta"]["profile"][0].is_string(), vital, "{code}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_flag_is_a_tag_and_what_is_unverified_is_preliminary() {
    let quantity = Value::Quantity("1".parse().unwrap());
    for (value, flags, tags, status) in [
        (&quantity, Flags::NONE, &[][..], "final"),
        (
            &quantity,
            Flags::IMPLAUSIBLE,
            &["implausible"],
            "preliminary",
        ),
        (
            &quantity,
            Flags::CLOCK_UNTRUSTED,
            &["clock-untrusted"],
            "preliminary",
        ),
        (
            &quantity,
            Flags::IMPLAUSIBLE_FOR_CODE,
            &["implausible-for-code"],
            "preliminary",
        ),
        (&quantity, Flags::HISTORICAL, &["historical"], "final"),
        (
            &quantity,
            Flags::HISTORICAL.with(Flags::IMPLAUSIBLE),
            &["implausible", "historical"],
            "preliminary",
        ),
        (
            &Value::Absent(AbsentReason::Unknown),
            Flags::NONE,
            &[],
            "final",
        ),
        (
            &Value::Absent(AbsentReason::Error),
            Flags::NONE,
            &[],
            "final",
        ),
        (
            &Value::Absent(AbsentReason::Stale),
            Flags::NONE,
            &[],
            "preliminary",
        ),
    ] {
        let json = json_of(&observation(&ClinicalReading {
            value: value.clone(),
            flags,
            ..sample()
        }));
        assert_eq!(json["status"], status, "{value:?} {flags:?}");
        let found: Vec<_> = json["meta"]["tag"]
            .as_array()
            .into_iter()
            .flatten()
            .collect();
        assert!(found.iter().all(|tag| tag["system"] == FLAG_SYSTEM));
        let found: Vec<_> = found
            .iter()
            .map(|tag| tag["code"].as_str().unwrap())
            .collect();
        assert_eq!(found, tags);
    }
    let known = (0..=u8::MAX).filter_map(Flags::from_bits);
    let all = known.fold(Flags::NONE, Flags::with);
    let tagged = FLAGS
        .iter()
        .fold(Flags::NONE, |sum, (flag, ..)| sum.with(*flag));
    assert_eq!(all, tagged, "every flag has a code");
}

#[test]
fn every_flag_says_its_reason_in_a_note_whichever_door_the_reading_came_through() {
    for (flag, code, note) in FLAGS {
        let json = json_of(&observation(&ClinicalReading {
            flags: flag,
            ..sample()
        }));
        assert_eq!(json["note"], serde_json::json!([{ "text": note }]));
        assert_eq!(json["meta"]["tag"][0]["code"], code);
    }
    let both = Flags::IMPLAUSIBLE.with(Flags::IMPLAUSIBLE_FOR_CODE);
    let json = json_of(&observation(&ClinicalReading {
        flags: both,
        ..sample()
    }));
    assert_eq!(json["note"].as_array().unwrap().len(), 2);
    assert_eq!(json["status"], "preliminary");
    assert_eq!(json_of(&observation(&sample())).get("note"), None);
    // No other text is ever stored.
    let text = resource(&observation(&ClinicalReading {
        flags: both,
        ..sample()
    }));
    let text = text
        .unwrap()
        .json()
        .replace("outside the valid", "Jane Doe, outside the");
    assert!(NewResource::parse(text).is_err());
}

#[test]
fn a_reading_that_was_withdrawn_is_entered_in_error_whatever_it_says() {
    for value in [sample().value, Value::Absent(AbsentReason::Stale)] {
        let json = json_of(&observation(&ClinicalReading {
            value,
            withdrawn: true,
            ..sample()
        }));
        assert_eq!(json["status"], "entered-in-error");
        assert_eq!(
            json["subject"]["reference"],
            "Patient/02020202020202020202020202020202"
        );
    }
}

#[test]
fn an_absent_value_is_a_reason_and_no_quantity() {
    for reason in AbsentReason::ALL {
        let json = json_of(&observation(&ClinicalReading {
            value: Value::Absent(reason),
            ..sample()
        }));
        assert_eq!(json.get("valueQuantity"), None);
        let coding = &json["dataAbsentReason"]["coding"][0];
        assert_eq!(coding["system"], ABSENT_SYSTEM);
        assert_eq!(coding["code"], reason.as_str());
    }
}

#[test]
fn a_reading_of_no_patient_has_its_device_as_subject_and_claims_no_profile() {
    let json = json_of(&observation(&ClinicalReading {
        patient: None,
        ..sample()
    }));
    assert_eq!(json["subject"], json["device"]);
    assert_eq!(json.get("meta"), None);
}

#[test]
fn a_vital_sign_in_another_unit_than_its_profile_demands_claims_none() {
    for (code, unit, expected) in [
        (
            "8310-5",
            "Cel",
            Some("http://hl7.org/fhir/StructureDefinition/bodytemp"),
        ),
        ("8310-5", "1", None),
        ("76215-3", "mm[Hg]", Some(VITAL_SIGNS)),
        ("2951-2", "meq/L", None),
    ] {
        let found = profile(code.parse().unwrap(), unit.parse().unwrap(), true);
        assert_eq!(found, expected, "{code} {unit}");
    }
}

#[test]
fn a_patient_is_a_pseudonym_with_three_coarse_facts_at_most() {
    let known = ClinicalPatient {
        pseudonym: PatientPseudonym::from_bytes([2; 16]),
        gender: Some(Gender::Female),
        birth_year: Some(1941),
        care_unit: Some(CareUnit::CardiacSurgeryRecovery),
    };
    let json = json_of(&patient(&known));
    assert_eq!(json["gender"], "female");
    assert_eq!(json["birthDate"], "1941");
    assert_eq!(json["meta"]["security"][0]["code"], "PSEUDED");
    let unit = &json["meta"]["tag"][0];
    assert_eq!(
        (&unit["system"], &unit["code"]),
        (&"urn:medmesh:care-unit".into(), &"CSRU".into())
    );
    let json = json_of(&patient(&ClinicalPatient {
        gender: None,
        birth_year: None,
        care_unit: None,
        ..known
    }));
    let names: Vec<_> = json.as_object().unwrap().keys().collect();
    assert_eq!(names, ["resourceType", "id", "meta"]);
}

#[test]
fn a_device_is_a_pseudonym_and_a_kind() {
    for kind in DeviceKind::ALL {
        let pseudonym = DevicePseudonym::from_bytes([3; 16]);
        let json = json_of(&device(&ClinicalDevice { pseudonym, kind }));
        assert_eq!(json["type"]["coding"][0]["code"], kind.as_str());
        assert_eq!(json.as_object().unwrap().len(), 3);
    }
}

prop_compose! {
    fn any_reading()(
        uid in any::<[u8; 16]>(),
        patient in any::<Option<[u8; 16]>>(),
        device in any::<[u8; 16]>(),
        code in 0..Code::all().count(),
        unit in 0..Unit::all().count(),
        text in "-?(0|[1-9][0-9]{0,8})(\\.[0-9]{1,6})?([eE][+-]?[0-9]{1,2})?",
        absent in proptest::option::of(0..3usize),
        // Years 1900 to 2200.
        effective in -2_208_988_800_000_i64..7_258_118_400_000,
        flags in 0..16u8,
        withdrawn in any::<bool>(),
    ) -> (ClinicalReading, String) {
        let value = match absent {
            Some(reason) => Value::Absent(AbsentReason::ALL[reason]),
            None => Value::Quantity(text.parse().unwrap()),
        };
        let reading = ClinicalReading {
            uid: ReadingUid::from_bytes(uid),
            patient: patient.map(PatientPseudonym::from_bytes),
            device: DevicePseudonym::from_bytes(device),
            code: Code::all().nth(code).unwrap(),
            unit: Unit::all().nth(unit).unwrap(),
            value,
            effective: Timestamp(effective),
            flags: Flags::from_bits(flags).unwrap(),
            withdrawn,
        };
        (reading, text)
    }
}

proptest! {
    #[test]
    fn whatever_is_mapped_may_be_stored_and_is_found_by_what_it_is((reading, text) in any_reading()) {
        let new = resource(&observation(&reading)).unwrap();
        prop_assert!(validate(new.json()).is_ok());
        let index = new.index();
        prop_assert_eq!(new.id().as_str(), reading.uid.to_string());
        prop_assert_eq!(index.code, Some(reading.code));
        prop_assert_eq!(index.category, Some(reading.code.info().category));
        prop_assert_eq!(index.effective, Some(reading.effective));
        prop_assert_eq!(
            index.device.as_ref().map(ToString::to_string),
            Some(reading.device.to_string())
        );
        prop_assert_eq!(
            index.patient.as_ref().map(ToString::to_string),
            reading.patient.map(|patient| patient.to_string())
        );
        if reading.value == Value::Quantity(text.parse().unwrap()) {
            let verbatim = format!("\"value\":{text},\"unit\":\"{}\"", reading.unit);
            prop_assert!(new.json().contains(&verbatim), "{}", new.json());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_stored_reading_comes_back_with_its_text_unit_time_and_absence((reading, _) in any_reading()) {
        use crate::{sqlite::SqliteStore, store::{Delivery, ResourceStore}};
        let dir = tempfile::tempdir().unwrap();
        let new = resource(&observation(&reading)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let stored = runtime.block_on(async {
            let store = SqliteStore::open(&dir.path().join("fhir.db")).unwrap();
            let delivery = Delivery { parcel: fixture::parcel(1), source: fixture::source(1), resources: vec![new.clone()] };
            store.apply(vec![delivery], Timestamp(7)).await.unwrap();
            store.read(new.kind(), new.id()).await.unwrap().unwrap()
        });
        prop_assert_eq!(&stored.json, new.json());
        let stamped = stored.stamped("1970-01-01T00:00:00.007Z").unwrap();
        let source = fixture::source(1).fresh;
        let stamp = format!(r#""versionId":"1","lastUpdated":"1970-01-01T00:00:00.007Z","source":"urn:medmesh:facility:{source}""#);
        let plain = stamped.get().replace(&format!("{stamp},"), "");
        let plain = plain.replace(&format!(r#","meta":{{{stamp}}}"#), "");
        prop_assert_eq!(plain.as_str(), new.json());
    }
}
