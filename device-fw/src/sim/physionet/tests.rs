//! The replay against the real archive and against hand-made rows.
use super::*;
use std::path::PathBuf;

fn archive() -> PathBuf {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| shared.into());
    PathBuf::from(root).join("physionet2012/set-a.tar.gz")
}

fn stay(rows: &str) -> Stay {
    Stay {
        record: 1,
        died: None,
        text: format!("Time,Parameter,Value\n00:00,RecordID,1\n{rows}").into(),
    }
}

fn beds(stays: &[u32]) -> Vec<BedStays> {
    vec![BedStays {
        bed: "bed-1".into(),
        stays: stays.to_vec(),
    }]
}

#[test]
fn what_is_said_of_a_patient_is_understood_or_left_out_with_a_reason() {
    let mut survey = Survey::default();
    let stay = stay(
        "00:00,Age,NaN\n00:00,Gender,2\n00:00,ICUType,-1\n00:00,Age,20\n00:00,Gender,2\n00:00,ICUType,4\n00:00,HR,80\n",
    );
    samples(&stay, &mut survey).for_each(drop);
    assert_eq!((survey.rows, survey.readings, survey.unknown), (8, 1, 1));
    let contradicts = "says another thing of the patient than a row before";
    assert_eq!(
        survey.named,
        [
            (1, 3, "an age is 0 to 130 years"),
            (1, 4, "a gender is 0 or 1"),
            (1, 6, contradicts),
            (1, 7, "a gender is 0 or 1"),
            (1, 8, contradicts),
        ]
    );
    assert_eq!(survey.left_out_rows(), 5);
}

#[test]
fn the_decimal_in_the_file_is_the_decimal_emitted_and_unknown_values_are_not() {
    let mut survey = Survey::default();
    let stay = stay(
        "00:00,Age,54\n00:00,Gender,0\n00:00,Height,-1\n00:07,Temp,92.33\n00:07,AST,1.422e+04\n00:07,Na,.5\n00:07,Urine,0.10\n00:07,HR,x\n00:07,Nothing,1\nbroken\n",
    );
    let minutes: Vec<Minute> = samples(&stay, &mut survey).collect();
    let minute = minutes.last().unwrap();
    assert_eq!(
        minute.vitals,
        [(
            Signal::Temperature,
            Reading::Value {
                mantissa: 9233,
                exponent: -2
            }
        )]
    );
    let texts: Vec<&str> = minute
        .others
        .iter()
        .map(|(_, decimal)| decimal.as_str())
        .collect();
    assert_eq!(texts, ["1.422e+04", "0.5", "0.10"]);
    assert_eq!((survey.rows, survey.readings), (11, 4));
    assert_eq!((survey.normalised, survey.unknown), (1, 1));
    assert_eq!(
        survey.named,
        [
            (1, 12, "fewer than three fields"),
            (1, 10, "not a number"),
            (1, 11, "unknown parameter"),
        ]
    );
    assert_eq!(stay.gender(), Some("female"));
    assert_eq!(stay.length_ms(), 8 * 60_000);
}

#[test]
fn a_parameter_that_repeats_within_a_minute_is_a_sample_of_its_own() {
    let stay = stay("01:00,HR,70\n01:00,HR,71\n01:00,Temp,36.6\n01:00,HR,71\n01:01,HR,72\n");
    let ward = Ward {
        beds: vec![("bed-1".into(), vec![(Timestamp(1_000), stay)])],
        survey: Survey::default(),
    };
    let seen: Vec<_> = ward
        .monitor("bed-1")
        .map(|sample| {
            (
                sample.time.0,
                sample.readings[Signal::HeartRate as usize],
                sample.readings[Signal::Temperature as usize],
            )
        })
        .collect();
    let value = |mantissa, exponent| Reading::Value { mantissa, exponent };
    let none = Reading::NotInSample;
    assert_eq!(
        seen,
        [
            (3_601_000, value(70, 0), value(366, -1)),
            (3_601_000, value(71, 0), none),
            (3_601_000, value(71, 0), none),
            (3_661_000, value(72, 0), none),
        ]
    );
}

#[test]
fn every_reading_of_real_stays_is_emitted_once_in_order_with_its_text() {
    let (first, second) = (132_539, 132_540);
    let ward = Ward::load((&archive(), None), &beds(&[first, second]), Timestamp(0)).unwrap();
    assert_eq!(ward.survey().left_out_rows() + ward.survey().normalised, 0);
    let mut emitted: Vec<(Option<Arc<str>>, String, String)> = Vec::new();
    let (mut monitor_time, mut analyser_time) = (i64::MIN, i64::MIN);
    for sample in ward.monitor("bed-1") {
        assert!(sample.time.0 >= monitor_time);
        monitor_time = sample.time.0;
        for (signal, reading) in Signal::ALL.iter().zip(sample.readings) {
            if let Reading::Value { mantissa, exponent } = reading {
                let text = Decimal::from_parts(mantissa.into(), exponent).to_string();
                emitted.push((sample.patient.clone(), signal.loinc().into(), text));
            }
        }
    }
    for sample in ward.analyser() {
        assert!(sample.time.0 >= analyser_time);
        analyser_time = sample.time.0;
        emitted.extend(sample.readings.iter().map(|(code, decimal)| {
            (
                sample.patient.clone(),
                code.to_string(),
                decimal.to_string(),
            )
        }));
    }
    // The same rows, read by a plain loop over the text.
    let mut expected = Vec::new();
    for (_, stay) in
        &schedules((&archive(), None), &beds(&[first, second]), Timestamp(0)).unwrap()[0]
    {
        for line in stay.text.lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            let code = match target(fields[1]).unwrap() {
                Target::Person => continue,
                _ if fields[2] == "-1" => continue,
                Target::Monitor(signal) => signal.loinc().to_owned(),
                Target::Analyser(system, code) => Code::of(system, code).unwrap().to_string(),
            };
            expected.push((Some(Arc::from(stay.patient())), code, fields[2].to_owned()));
        }
    }
    assert!(expected.len() > 500);
    emitted.sort();
    expected.sort();
    assert_eq!(emitted, expected);
}

#[test]
fn the_next_stay_begins_after_the_former_one_and_the_bed_is_empty_between() {
    let (source, origin) = (beds(&[132_539, 132_540]), Timestamp(1_000_000));
    let schedule = &schedules((&archive(), None), &source, origin).unwrap()[0];
    let source = super::super::config::Source::Physionet {
        outcomes: None,
        archive: archive(),
        beds: source,
    };
    let assignments = super::super::bed_assignments(&source, origin, &[]).unwrap();
    let patients: Vec<_> = assignments.iter().map(|it| it.patient.as_deref()).collect();
    assert_eq!(patients, [Some("p-132539"), None, Some("p-132540"), None]);
    assert_eq!(assignments[0].gender, Some("female"));
    // 54 years old when the stay begins, in 1970.
    assert_eq!(assignments[0].birth_year, Some(1_916));
    let known = |at: usize| {
        let it = &assignments[at];
        let unit = it.care_unit.map(types::CareUnit::as_str);
        (it.height_cm.as_deref(), it.weight_kg.as_deref(), unit)
    };
    assert_eq!(known(0), (None, None, Some("SICU")));
    assert_eq!(known(2), (Some("175.3"), Some("76"), Some("CSRU")));
    assert_eq!(known(1), (None, None, None));
    assert!(assignments.is_sorted_by_key(|it| it.from));
    let ward = Ward {
        beds: vec![("bed-1".into(), schedule.clone())],
        survey: Survey::default(),
    };
    let times = ward
        .monitor("bed-1")
        .map(|it| (it.time, it.patient))
        .chain(ward.analyser().map(|it| (it.time, it.patient)));
    for (time, patient) in times {
        let lies = assignments.iter().rev().find(|it| it.from <= time).unwrap();
        assert_eq!(lies.patient.as_deref(), patient.as_deref());
    }
}

#[test]
fn stays_are_dealt_to_facilities_and_beds_in_turn_and_a_missing_one_is_an_error() {
    let beds_of = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let facilities = [beds_of(&["a", "b"]), beds_of(&["c"])];
    let plan = super::super::plan(&archive(), &facilities, Some(5)).unwrap();
    let stays: Vec<Vec<u32>> = plan.iter().flatten().map(|bed| bed.stays.clone()).collect();
    assert_eq!(
        stays,
        [
            vec![132_539, 132_545],
            vec![132_541],
            vec![132_540, 132_543]
        ]
    );
    assert!(super::super::plan(&archive(), &[Vec::new()], None).is_err());
    assert!(schedules((&archive(), None), &beds(&[7]), Timestamp(0)).is_err());
}

#[test]
fn the_last_reading_of_a_stay_says_what_became_of_the_patient_while_they_are_still_in_the_bed() {
    let archive = archive();
    let outcomes = outcomes::beside(&archive).unwrap();
    let stays = beds(&[132_539, 132_551]);
    let files = (archive.as_path(), Some(outcomes.as_path()));
    let origin = Timestamp(3_600_000);
    let without = Ward::load((&archive, None), &stays, origin).unwrap();
    let with = Ward::load(files, &stays, origin).unwrap();
    assert_eq!(with.survey().readings, without.survey().readings + 2);
    assert_eq!(with.survey().rows, without.survey().rows + 2);
    let code = Code::of(Code::MEDMESH, outcomes::CODE).unwrap();
    let is_outcome = |sample: &LabSample| sample.readings.iter().any(|(of, _)| *of == code);
    let (ends, measured): (Vec<_>, Vec<_>) = with.analyser().partition(is_outcome);
    assert_eq!(measured, without.analyser().collect::<Vec<_>>());
    let schedule = &schedules(files, &stays, origin).unwrap()[0];
    let expected = schedule
        .iter()
        .zip(["0", "1"])
        .map(|((begin, stay), died)| LabSample {
            time: begin.plus_ms(stay.length_ms() - 1_000),
            patient: Some(stay.patient().into()),
            readings: vec![(code, died.parse().unwrap())],
        });
    assert_eq!(ends, expected.collect::<Vec<_>>());
}

#[test]
fn a_stay_that_is_replayed_and_whose_outcome_is_not_told_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Outcomes-a.txt");
    std::fs::write(
        &path,
        "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n132539,6,1,5,-1,0\n",
    )
    .unwrap();
    let archive = archive();
    let files = (archive.as_path(), Some(path.as_path()));
    assert!(schedules(files, &beds(&[132_539]), Timestamp(0)).is_ok());
    let refused = schedules(files, &beds(&[132_539, 132_540]), Timestamp(0));
    let said = refused.unwrap_err().to_string();
    assert!(
        said.ends_with("Outcomes-a.txt: says nothing of stay 132540, which is replayed"),
        "{said}"
    );
}
