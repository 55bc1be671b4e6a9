//! Tests of `$everything`: by the time of care, and what the record refers to.
use super::*;
use crate::admit::Holding;
use crate::store::{Change, Draft, Expect, Transaction};
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

/// Puts resources into the store as a place holds them that takes whatever is R4.
async fn keep(api: &Fixture, resources: &[Value]) {
    let put = |resource: &Value| {
        let text = |name: &str| resource[name].as_str().unwrap().to_owned();
        let kind = ResourceType::parse(&text("resourceType")).unwrap();
        let id = text("id").parse().unwrap();
        let base = "https://region.example/fhir";
        let draft = Draft::parse(&Holding::Identified, kind, id, &resource.to_string(), base);
        Change::Put {
            draft: draft.unwrap(),
            expect: Expect::Absent,
        }
    };
    let transaction = Transaction {
        author: "all".into(),
        now: Timestamp(2_000),
        changes: resources.iter().map(put).collect(),
        guards: Vec::new(),
    };
    api.store.transact(transaction).await.unwrap();
}

/// What the pages of a listing have of a mode.
async fn walked(api: &Fixture, (path, token): (&str, &str), mode: &str) -> Vec<String> {
    let (mut url, mut all) = (format!("/fhir/{path}"), Vec::new());
    loop {
        let reply = api.get_with(&url, &[("authorization", token)]).await;
        all.extend(reply.entries(mode));
        match reply.link("next") {
            Some(next) => url = next.replace("https://region.example", ""),
            None => return all,
        }
    }
}

/// A record of the patient, and one of another patient to which it refers.
fn record(patient: &str) -> Vec<Value> {
    let condition = |id: &str, patient: &str, recorder: &str| {
        json!({"resourceType": "Condition", "id": id, "subject": {"reference": patient},
            "recorder": {"reference": recorder}, "code": coded("38341003")})
    };
    let absolute = "https://region.example/fhir/Practitioner/p-2";
    let mut with_evidence = condition("c-2", patient, absolute);
    with_evidence["evidence"] = json!([{"detail": [
        {"reference": "Condition/c-other"}, {"reference": "Task/t-other"}, {"reference": "Device/d-other"},
    ]}]);
    vec![
        json!({"resourceType": "Practitioner", "id": "p-1"}),
        json!({"resourceType": "Practitioner", "id": "p-2"}),
        json!({"resourceType": "Practitioner", "id": "p-3"}),
        json!({"resourceType": "Binary", "id": "b", "contentType": "text/plain"}),
        json!({"resourceType": "Patient", "id": "other"}),
        json!({"resourceType": "Task", "id": "t-other", "status": "requested", "intent": "order",
            "for": {"reference": "https://region.example/fhir/Patient/other"}}),
        json!({"resourceType": "Device", "id": "d-other", "patient": {"reference": "Patient/other"}}),
        condition("c-1", patient, "Practitioner/p-1"),
        with_evidence,
        condition("c-3", patient, "Practitioner/p-1"),
        condition("c-other", "Patient/other", "Practitioner/p-3"),
        json!({"resourceType": "DocumentReference", "id": "d", "status": "current",
            "subject": {"reference": patient}, "content": [{"attachment": {"url": "Binary/b"}}]}),
    ]
}

#[tokio::test]
async fn everything_shows_what_the_record_refers_to_once_and_nothing_of_another_patient() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    keep(&api, &record(&patient)).await;
    let device = format!("Device/{}", fixture::device(1).id());
    let all = [
        "Practitioner/p-1",
        "Practitioner/p-2",
        "Binary/b",
        device.as_str(),
    ];
    let own = "Bearer only:Patient;Condition;Practitioner?_id=p-2";
    for (query, token, expected) in [
        ("_count=1", "Bearer all", &all[..]),
        ("_count=1000", "Bearer all", &all[..]),
        ("_type=Condition", "Bearer all", &all[..0]),
        (
            "_type=Condition,Practitioner&_count=1",
            "Bearer all",
            &all[..2],
        ),
        ("_count=1", own, &all[1..2]),
        ("_since=2999-01-01T00:00:00Z", "Bearer all", &all[..0]),
    ] {
        let path = format!("{patient}/$everything?{query}");
        let mut found = walked(&api, (path.as_str(), token), "include").await;
        let mut expected = expected.to_vec();
        found.sort();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query} {token}");
        let matched = walked(&api, (path.as_str(), token), "match").await;
        assert!(!matched.iter().any(|one| one.contains("other")), "{query}");
    }
    let path = format!("{patient}/*");
    let below = walked(&api, (path.as_str(), "Bearer all"), "include").await;
    assert_eq!(below, [""; 0]);
}

#[tokio::test]
async fn everything_of_a_page_that_refers_to_very_many_is_refused() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let condition = |id: &str| {
        let of = |number: u32| json!({"reference": format!("Practitioner/{id}-{number}")});
        json!({"resourceType": "Condition", "id": id, "subject": {"reference": patient},
            "code": coded("38341003"),
            "evidence": [{"detail": (0..4_000).map(of).collect::<Vec<Value>>()}]})
    };
    let everything = format!("/fhir/{patient}/$everything?_count=1000");
    keep(&api, &[condition("c-many")]).await;
    let reply = api.get(&everything).await;
    assert_eq!(reply.status.as_u16(), 200, "{:.500}", reply.text);
    keep(&api, &[condition("c-more")]).await;
    let reply = api.get(&everything).await;
    assert_eq!(reply.issue(), (400, "too-costly".into()));
    // What is nobody's is not asked for.
    let own = api.get(&format!("{everything}&_type=Condition")).await;
    assert_eq!(own.status.as_u16(), 200, "{:.500}", own.text);
}
