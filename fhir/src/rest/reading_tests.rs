//! Tests of searches of readings by what no column answers, and of searches of the system.
use super::finding_tests::finding;
use super::*;
use serde_json::json;

/// Every reading, as a client is given it.
async fn readings(api: &Fixture) -> Vec<Value> {
    let json = api.get("/fhir/Observation?_count=1000").await.json();
    let entries = json["entry"].as_array().unwrap().clone();
    entries
        .into_iter()
        .map(|mut entry| entry["resource"].take())
        .collect()
}

/// Ids of the readings that something holds of, sorted.
fn those(all: &[Value], holds: impl Fn(&Value) -> bool) -> Vec<String> {
    let found = all.iter().filter(|one| holds(one));
    let mut ids: Vec<String> = found
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort_unstable();
    ids
}

impl Fixture {
    /// Ids of every page, sorted; no page has more than were asked for.
    async fn pages(&self, query: &str, count: usize) -> Vec<String> {
        let mut url = format!("/fhir/Observation?{query}&_count={count}");
        let mut found = Vec::new();
        loop {
            let reply = self.get(&url).await;
            assert_eq!(reply.status, StatusCode::OK, "{url}: {}", reply.text);
            assert!(reply.ids().len() <= count);
            found.extend(reply.ids());
            match reply.link("next") {
                Some(link) => url = link.replace("https://region.example", ""),
                None => break,
            }
        }
        found.sort_unstable();
        found
    }
}

/// Queries, each with the ids of the readings that it finds.
fn queries(all: &[Value], patient: &str, reading: &str) -> Vec<(String, Vec<String>)> {
    let is_of = |one: &Value| one["subject"]["reference"] == format!("Patient/{patient}");
    let number = |one: &Value| one["valueQuantity"]["value"].as_f64();
    let code = |one: &Value| one["code"]["coding"][0]["code"].clone();
    vec![
        (
            "status=final".to_owned(),
            those(all, |one| one["status"] == "final"),
        ),
        (
            "status:not=final".into(),
            those(all, |one| one["status"] != "final"),
        ),
        (
            "value-quantity=gt100".into(),
            those(all, |one| number(one).is_some_and(|number| number > 100.0)),
        ),
        (
            "combo-value-quantity=lt-10".into(),
            those(all, |one| number(one).is_some_and(|number| number < -10.0)),
        ),
        (
            "data-absent-reason:missing=false".into(),
            those(all, |one| one["dataAbsentReason"].is_object()),
        ),
        (
            "code:not=8867-4".into(),
            those(all, |one| code(one) != "8867-4"),
        ),
        (
            "code-value-quantity=8867-4%24gt1".into(),
            those(all, |one| {
                code(one) == "8867-4" && number(one).is_some_and(|n| n > 1.0)
            }),
        ),
        ("encounter:missing=true".into(), those(all, |_| true)),
        ("encounter=Encounter/x".into(), Vec::new()),
        ("patient.birthdate=1951".into(), those(all, is_of)),
        ("subject:Patient.birthdate=1951".into(), those(all, is_of)),
        ("patient.birthdate=1950".into(), Vec::new()),
        (
            "patient.birthdate=1951&status=final".into(),
            those(all, |one| is_of(one) && one["status"] == "final"),
        ),
        (
            format!("_id:not={reading}"),
            those(all, |one| one["id"] != reading),
        ),
    ]
}

#[tokio::test]
async fn readings_are_found_by_every_parameter_of_r4() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        let all = readings(&api).await;
        let patient = fixture::patient(1, 1950).id().to_string();
        let reading = fixture::observation(4).id().to_string();
        let basis = json!({"resourceType": "RiskAssessment", "status": "final",
            "subject": {"reference": format!("Patient/{patient}")},
            "basis": [{"reference": format!("Observation/{reading}")}]});
        api.create(&basis).await;
        // It leads to patients, never to readings.
        let path = "/fhir/Observation?_has:RiskAssessment:subject:status=final";
        assert_eq!(api.get(path).await.ids(), [""; 0]);
        for (query, expected) in queries(&all, &patient, &reading) {
            for (sort, count) in [("", 1_000), ("&_sort=_id", 7), ("&_sort=-_lastUpdated", 7)] {
                let found = api.pages(&format!("{query}{sort}"), count).await;
                assert_eq!(found, expected, "{query} {sort}");
            }
            for total in ["_total=accurate", "_summary=count", "_count=0"] {
                let reply = api.get(&format!("/fhir/Observation?{query}&{total}")).await;
                let told = reply.json()["total"].as_u64();
                assert_eq!(told, u64::try_from(expected.len()).ok(), "{query} {total}");
            }
        }
    }
}

#[tokio::test]
async fn readings_are_shown_in_part_and_with_what_they_refer_to_or_what_is_referred_to() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let device = format!("Device/{}", fixture::device(1).id());
    let query = format!("patient={patient}&_count=3");
    let part = api
        .get(&format!("/fhir/Observation?{query}&_elements=code"))
        .await
        .json();
    let part = &part["entry"][0]["resource"];
    assert!(part["code"].is_object() && part.get("device").is_none());
    let include = "_include=Observation:patient&_include=Observation:device";
    let reply = api
        .get(&format!("/fhir/Observation?{query}&{include}"))
        .await;
    assert_eq!(reply.entries("match").len(), 3);
    assert!(reply.entries("include").contains(&patient));
    let back = api
        .get(&format!(
            "/fhir/{}?_revinclude=Observation:patient",
            "Patient"
        ))
        .await;
    let of_patient = api
        .get(&format!("/fhir/Observation?patient={patient}&_count=0"))
        .await;
    let count = of_patient.json()["total"].as_u64();
    assert_eq!(u64::try_from(back.entries("include").len()).ok(), count);
    let by_device = api.get("/fhir/Device?_revinclude=Observation:device").await;
    assert_eq!(by_device.entries("match"), [device]);
    assert!(!by_device.entries("include").is_empty());
    let own = [("authorization", "Bearer patients")];
    let reply = api
        .get_with("/fhir/Observation?patient.gender=male", &own)
        .await;
    assert_eq!(reply.issue().0, 403);
}

#[tokio::test]
async fn a_search_of_the_system_is_of_the_types_that_are_named_and_that_the_token_covers() {
    let api = fixture().await;
    let condition = api.create(&finding(2001, None)).await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    for (query, expected) in [
        (
            "_type=Condition,Patient".to_owned(),
            vec![condition.clone(), patient.clone()],
        ),
        ("_type=Patient&_tag=nothing".into(), vec![]),
        (
            format!("_id={}", patient.trim_start_matches("Patient/")),
            vec![patient.clone()],
        ),
        (
            "_type=Condition&_profile:missing=true".into(),
            vec![condition.clone()],
        ),
    ] {
        let reply = api.get(&format!("/fhir?{query}")).await;
        assert_eq!(reply.entries("match"), expected, "{query}");
        let form = Request::post("/fhir/_search")
            .header("authorization", "Bearer all")
            .header("content-type", "application/x-www-form-urlencoded");
        let posted = api
            .send(form.body(Body::from(query.clone())).unwrap())
            .await;
        assert_eq!(posted.entries("match"), expected, "posted {query}");
    }
    let mut url = "/fhir?_count=9".to_owned();
    let mut seen = Vec::new();
    loop {
        let reply = api.get(&url).await;
        seen.extend(reply.entries("match"));
        match reply.link("next") {
            Some(link) => url = link.replace("https://region.example", ""),
            None => break,
        }
    }
    assert_eq!(
        seen.len(),
        63,
        "60 readings, a patient, a device, a finding"
    );
    assert!(seen.is_sorted());
    let own = [("authorization", "Bearer conditions")];
    assert_eq!(
        api.get_with("/fhir", &own).await.entries("match"),
        [condition]
    );
    for (query, token, status) in [
        ("_type=Patient", "conditions", 403),
        ("_type=Condition", "patients", 403),
        ("", "patients", 403),
        ("_type=Condition&colour=red", "all", 400),
        ("_type=Condition&code=x", "all", 200),
        ("_type=Condition,Patient&code=x", "all", 400),
    ] {
        let token = format!("Bearer {token}");
        let reply = api
            .get_with(&format!("/fhir?{query}"), &[("authorization", &token)])
            .await;
        assert_eq!(reply.status.as_u16(), status, "{query}: {}", reply.text);
    }
    assert_eq!(api.get_with("/fhir", &[]).await.issue().0, 401);
}

#[tokio::test]
async fn a_compartment_is_searched_by_post() {
    let api = fixture().await;
    let condition = api.create(&finding(2001, None)).await;
    let patient = fixture::patient(1, 1950).id().to_string();
    for (kind, body, count) in [
        ("Condition", "recorded-date=2001", 1),
        ("Condition", "recorded-date=2002", 0),
        ("Observation", "status:missing=true", 0),
    ] {
        let form = Request::post(format!("/fhir/Patient/{patient}/{kind}/_search"))
            .header("authorization", "Bearer all")
            .header("content-type", "application/x-www-form-urlencoded");
        let reply = api.send(form.body(Body::from(body)).unwrap()).await;
        assert_eq!(reply.entries("match").len(), count, "{body}");
    }
    let form = Request::post(format!("/fhir/{condition}/Patient/_search"))
        .header("authorization", "Bearer all");
    assert_eq!(
        api.send(form.body(Body::empty()).unwrap()).await.issue().0,
        404
    );
}
