//! Tests of `$everything` by the time of care.
use super::*;
use serde_json::json;

fn coded(code: &str) -> Value {
    json!({"coding": [{"system": "http://snomed.info/sct", "code": code}]})
}

/// A finding that begins and ends then.
fn finding(patient: &str, begins: &str, ends: &str) -> Value {
    let mut finding = json!({
        "resourceType": "Condition",
        "subject": {"reference": patient},
        "code": coded("38341003"),
    });
    if !ends.is_empty() {
        let status = "http://terminology.hl7.org/CodeSystem/condition-clinical";
        finding["clinicalStatus"] = json!({"coding": [{"system": status, "code": "resolved"}]});
    }
    for (name, date) in [("onsetDateTime", begins), ("abatementDateTime", ends)] {
        if !date.is_empty() {
            finding[name] = json!(date);
        }
    }
    finding
}

#[tokio::test]
async fn everything_is_of_the_time_of_care_where_that_is_asked_for() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let ended = api.create(&finding(&patient, "2001-02-03", "2003")).await;
    let lasting = api.create(&finding(&patient, "2002", "")).await;
    let later = api.create(&finding(&patient, "2011-05", "")).await;
    let undated = api.create(&finding(&patient, "", "")).await;
    let procedure = json!({
        "resourceType": "Procedure", "status": "completed", "subject": {"reference": patient},
        "performedPeriod": {"start": "2009-12-30", "end": "2010-01-02"}, "code": coded("80146002"),
    });
    let procedure = api.create(&procedure).await;
    let all = [&ended, &lasting, &later, &undated, &procedure];
    let everything = format!("{patient}/$everything?_count=20");
    let count = api.found(&everything).await.len();
    let readings = count - all.len() - 1;
    assert!(readings > 0);
    for (query, left_out, of_readings) in [
        ("start=1990", vec![], readings),
        ("start=2010", vec![&ended], readings),
        ("end=2010", vec![&later], 0),
        ("start=2010-01-01&end=2010", vec![&ended, &later], 0),
        (
            "start=2010-01-05&end=2011-04",
            vec![&ended, &later, &procedure],
            0,
        ),
        ("start=2003&end=2003", vec![&later, &procedure], 0),
    ] {
        let found = api.found(&format!("{everything}&{query}")).await;
        let missing = all.iter().copied().filter(|one| !found.contains(one));
        assert_eq!(missing.collect::<Vec<_>>(), left_out, "{query}");
        assert!(found.contains(&patient), "{query}");
        let own = all.len() - left_out.len() + 1;
        assert_eq!(found.len() - own, of_readings, "{query}");
    }
    for wrong in [
        "start=",
        "start=soon",
        "end=ge2010",
        "start=2010&start=2011",
    ] {
        let reply = api.get(&format!("/fhir/{everything}&{wrong}")).await;
        assert_eq!(reply.issue(), (400, "value".into()), "{wrong}");
    }
}

#[tokio::test]
async fn all_types_of_a_compartment_are_searched_at_once() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let one = api.create(&finding(&patient, "2001", "")).await;
    let everything = api.found(&format!("{patient}/$everything")).await;
    assert!(everything.contains(&one) && everything.len() > 2);
    for (query, expected) in [
        ("", everything.clone()),
        ("?_count=1", everything),
        ("?_type=Condition,Encounter", vec![one]),
        ("?_lastUpdated=lt1960", vec![]),
    ] {
        let found = api.found(&format!("{patient}/*{query}")).await;
        assert_eq!(found, expected, "{query}");
    }
    let device = format!("Device/{}", fixture::device(1).id());
    let readings = api.found(&format!("{device}/Observation")).await;
    let found = api.found(&format!("{device}/*?_type=Observation")).await;
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert!(!readings.is_empty());
    assert_eq!(sorted(found), sorted(readings));
    for (path, status) in [
        (format!("{patient}/*?code=38341003"), 400),
        (format!("{patient}/*?_since=2020-01-01T00:00:00Z"), 400),
        (
            format!("{patient}/*?_lastUpdated=lt1960&_lastUpdated=gt1950"),
            400,
        ),
        ("Organization/1/*".to_owned(), 404),
    ] {
        let reply = api.get(&format!("/fhir/{path}")).await;
        assert_eq!(reply.issue().0, status, "{path}");
    }
}
