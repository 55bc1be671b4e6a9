//! Tests of what clients write of the types that facilities deliver: whose a resource is, is a matter of the resource. What
//! clients observe is found beside readings, whichever way it is asked for, and hidden as they are.
use super::bulk_tests::{ALL, Exporting};
use super::*;
use crate::contract::fixture;
use serde_json::json;
use std::collections::BTreeSet;

/// A blood pressure, of a patient.
fn pressure(patient: &str, systolic: u32) -> Value {
    let part = |code: &str, value: u32| {
        json!({
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"},
        })
    };
    json!({
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "vital-signs"}]}],
        "code": {"coding": [
            {"system": "http://loinc.org", "code": "85354-9"},
            {"system": "http://snomed.info/sct", "code": "75367002"},
        ]},
        "subject": {"reference": patient},
        "effectiveDateTime": "2023-11-15",
        "component": [part("8480-6", systolic), part("8462-4", 80)],
    })
}

fn the_patient() -> String {
    format!("Patient/{}", fixture::patient(1, 1950).id())
}

/// A wave of a device that a client registered, with samples.
fn wave(device: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "11524-6"}]},
        "subject": {"reference": device},
        "device": {"reference": device},
        "issued": "2023-11-14T22:13:25.000Z",
        "valueSampledData": {"origin": {"value": 2048}, "period": 4, "dimensions": 1, "data": "2041 2043 E 2037"},
    })
}

impl Fixture {
    /// Everything that a search finds, page by page.
    pub async fn found(&self, path: &str) -> Vec<String> {
        let mut url = format!("/fhir/{path}");
        let mut found = Vec::new();
        loop {
            let reply = self.get(&url).await;
            found.extend(reply.entries("match"));
            match reply.link("next") {
                Some(next) => url = next.replace("https://region.example", ""),
                None => return found,
            }
        }
    }
}

#[tokio::test]
async fn an_observation_is_in_every_compartment_that_r4_puts_it_into() {
    let api = fixture().await;
    let one = the_patient();
    let other = format!("Patient/{}", fixture::patient(2, 1950).id());
    let device = "Device/11111111-2222-4333-8444-555555555555";
    let practitioner = "Practitioner/11111111-2222-4333-8444-666666666666";
    let mut performed = pressure(&other, 131);
    performed["performer"] = json!([{"reference": one}, {"reference": practitioner}]);
    let performed = api.create(&performed).await;
    let mut of_subject = wave(device);
    of_subject.as_object_mut().unwrap().remove("device");
    let of_subject = api.create(&of_subject).await;
    let mut by_device = wave(device);
    by_device["subject"] = json!({"reference": other});
    let by_device = api.create(&by_device).await;
    let mut own = api
        .found(&format!("Observation?patient={one}&_count=1000"))
        .await;
    assert!(!own.is_empty() && !own.contains(&performed));
    own.push(performed.clone());
    for (path, expected) in [
        (one.as_str(), own),
        (device, vec![of_subject, by_device]),
        (practitioner, vec![performed]),
    ] {
        let expected: BTreeSet<String> = expected.into_iter().collect();
        for sort in ["date", "-_lastUpdated", "_id"] {
            let path = format!("{path}/Observation?_count=7&_sort={sort}");
            let found = api.found(&path).await;
            assert_eq!(found.len(), expected.len(), "{path}");
            assert_eq!(
                found.into_iter().collect::<BTreeSet<_>>(),
                expected,
                "{path}"
            );
        }
        let page = api.get(&format!("/fhir/{path}/Observation?_count=1")).await;
        let within = format!("https://region.example/fhir/{path}/Observation?");
        assert!(
            page.link("self").unwrap().starts_with(&within),
            "{}",
            page.text
        );
    }
}

#[tokio::test]
async fn patients_devices_and_observations_are_created_changed_and_deleted_by_clients() {
    let api = fixture().await;
    let patient = api
        .create(&json!({"resourceType": "Patient", "gender": "male", "birthDate": "1970"}))
        .await;
    let device = json!({"resourceType": "Device", "status": "active", "type": {"coding": [
        {"system": "http://snomed.info/sct", "code": "706767009"}]}});
    let device = api.create(&device).await;
    let made = api.create(&pressure(&patient, 131)).await;
    let wave = api.create(&wave(&device)).await;
    let read = api.get(&format!("/fhir/{made}")).await;
    assert_eq!(read.json()["component"][0]["valueQuantity"]["value"], 131);
    let read = api.get(&format!("/fhir/{wave}")).await;
    assert_eq!(read.json()["valueSampledData"]["data"], "2041 2043 E 2037");
    let mut changed = pressure(&patient, 140);
    changed["id"] = made.trim_start_matches("Observation/").into();
    let path = format!("/fhir/{made}");
    let body = changed.to_string();
    let put = api.write(Method::PUT, &path, &[], &body).await;
    assert_eq!(put.headers[header::ETAG], "W/\"2\"");
    let patch = r#"[{"op": "replace", "path": "/status", "value": "amended"}]"#;
    let kind = [("content-type", "application/json-patch+json")];
    let request = Request::patch(path.as_str()).header("authorization", "Bearer all");
    let request = request.header(kind[0].0, kind[0].1).body(Body::from(patch));
    let patched = api.send(request.unwrap()).await;
    assert_eq!(patched.json()["status"], "amended", "{}", patched.text);
    let entry = |resource: Value| {
        let url = resource["resourceType"].clone();
        json!({"resource": resource, "request": {"method": "POST", "url": url},
            "fullUrl": "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"})
    };
    let born = entry(json!({"resourceType": "Patient", "gender": "female"}));
    let mut of_it = entry(pressure(
        "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a",
        99,
    ));
    of_it.as_object_mut().unwrap().remove("fullUrl");
    let reply = api
        .bundle("transaction", &json!([of_it, born]))
        .await
        .json();
    let place = |at: usize| {
        let told = &reply["entry"][at]["response"];
        assert_eq!(told["status"], "201 Created", "{reply}");
        let location = told["location"].as_str().unwrap();
        location.split("/_history").next().unwrap().to_owned()
    };
    let read = api.get(&format!("/fhir/{}", place(0))).await.json();
    assert_eq!(read["subject"]["reference"], place(1));
    let history = api.get(&format!("{path}/_history")).await.json();
    assert_eq!(history["entry"].as_array().unwrap().len(), 3);
    assert_eq!(api.write(Method::DELETE, &path, &[], "").await.status, 204);
    assert_eq!(api.get(&path).await.status, StatusCode::GONE);
    let count = api.get("/fhir/Observation?_summary=count").await.json();
    assert_eq!(count["total"], u64::from(READINGS) + 2);
    let count = api.get("/fhir/Patient?_summary=count").await.json();
    assert_eq!(count["total"], 3);
    // What identifies is refused, as of any other type.
    let named = json!({"resourceType": "Patient", "name": [{"family": "Lovelace"}]});
    let body = named.to_string();
    let reply = api.write(Method::POST, "/fhir/Patient", &[], &body).await;
    assert_eq!(reply.issue().0, 422);
}

#[tokio::test]
async fn an_observation_is_written_by_a_condition_that_is_looked_up_beside_readings() {
    let api = fixture().await;
    let patient = the_patient();
    let identifier = "urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e";
    let mut known = pressure(&patient, 150);
    known["identifier"] = json!([{"system": "urn:ietf:rfc:3986", "value": identifier}]);
    let by = format!("identifier=urn:ietf:rfc:3986|{identifier}");
    let none = [("if-none-exist", by.as_str())];
    let path = "/fhir/Observation";
    let body = known.to_string();
    for status in [201, 200] {
        let reply = api.write(Method::POST, path, &none, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }
    let by = format!("/fhir/Observation?identifier=urn:ietf:rfc:3986%7C{identifier}");
    let reply = api.write(Method::PUT, &by, &[], &known.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let reply = api.write(Method::DELETE, &by, &[], "").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text);
    let reading = fixture::observation(1);
    let by = format!("identifier=urn:medmesh:reading|{}", reading.id());
    let none = [("if-none-exist", by.as_str())];
    let body = pressure(&patient, 150).to_string();
    let found = api.write(Method::POST, path, &none, &body).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text);
    assert_eq!(found.json()["id"], reading.id().as_str());
    let by = format!("patient={patient}&code=85354-9&date=2023-11-15");
    let none = [("if-none-exist", by.as_str())];
    for status in [201, 200] {
        let reply = api.write(Method::POST, path, &none, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }
    // What no column of readings answers is not guessed at.
    let none = [("if-none-exist", "status=final")];
    let reply = api.write(Method::POST, path, &none, &body).await;
    assert_eq!(reply.issue().0, 400);
}

#[tokio::test]
async fn what_a_facility_delivered_is_changed_by_no_client_whichever_way_it_tries() {
    let api = fixture().await;
    let delivered = [
        (
            the_patient(),
            json!({"resourceType": "Patient", "gender": "other"}),
            "W/\"2\"",
        ),
        (
            format!("Device/{}", fixture::device(1).id()),
            json!({"resourceType": "Device", "status": "inactive"}),
            "W/\"1\"",
        ),
        (
            format!("Observation/{}", fixture::observation(1).id()),
            pressure(&the_patient(), 120),
            "W/\"1\"",
        ),
    ];
    for (reference, mut body, version) in delivered {
        let (kind, id) = reference.split_once('/').unwrap();
        body["id"] = id.into();
        let (path, body) = (format!("/fhir/{reference}"), body.to_string());
        let found = format!("/fhir/{kind}?_id={id}");
        let before = api.get(&path).await.text;
        for (method, path) in [
            (Method::PUT, &path),
            (Method::PUT, &found),
            (Method::DELETE, &path),
            (Method::DELETE, &found),
        ] {
            let reply = api.write(method.clone(), path, &[], &body).await;
            assert_eq!(reply.issue(), (403, "forbidden".into()), "{method} {path}");
            assert!(
                reply.text.contains("a facility delivered"),
                "{}",
                reply.text
            );
        }
        let patch = r#"[{"op": "add", "path": "/language", "value": "de"}]"#;
        for path in [&path, &found] {
            let request = Request::patch(path.as_str())
                .header("authorization", "Bearer all")
                .header("content-type", "application/json-patch+json")
                .body(Body::from(patch));
            let reply = api.send(request.unwrap()).await;
            assert_eq!(reply.issue(), (403, "forbidden".into()), "{path}");
        }
        let resource: Value = serde_json::from_str(&body).unwrap();
        for request in [
            json!({"method": "PUT", "url": reference}),
            json!({"method": "DELETE", "url": reference}),
        ] {
            let entry = json!([{"resource": resource, "request": request}]);
            assert_eq!(api.bundle("transaction", &entry).await.issue().0, 403);
            let batch = api.bundle("batch", &entry).await.json();
            let told = batch["entry"][0]["response"]["status"].as_str().unwrap();
            assert!(told.starts_with("403"), "{told}");
        }
        let after = api.get(&path).await;
        assert_eq!(after.headers[header::ETAG], version);
        assert_eq!(after.text, before);
    }
}

#[tokio::test]
async fn an_import_writes_observations_and_none_that_a_facility_delivered() {
    let api = Exporting::new(false).await;
    let own = "00000000-0000-4000-8000-000000000001";
    let mut mine = pressure(&the_patient(), 120);
    mine["id"] = own.into();
    let mut theirs = mine.clone();
    theirs["id"] = fixture::observation(1).id().to_string().into();
    let request = Request::post("/fhir/$import")
        .header("content-type", "application/fhir+ndjson")
        .header("authorization", ALL.1)
        .header("prefer", "respond-async")
        .body(Body::from(format!("{mine}\n{theirs}")));
    let reply = api.fixture.send(request.unwrap()).await;
    let job = bulk_tests::place_of(&reply);
    let manifest = api.manifest(&job, ALL).await;
    assert_eq!(manifest["extension"], json!({"lines": 2, "stored": 1}));
    let read = api.fixture.get(&format!("/fhir/Observation/{own}")).await;
    assert_eq!(read.status, StatusCode::OK);
}

/// What clients wrote, as references: an encounter, a pressure of it, another one that is a part of a panel, the panel, and a
/// report on it.
async fn written(api: &Fixture) -> [String; 5] {
    let encounter = api.create(&writing_tests::encounter()).await;
    let mut of_stay = pressure(&the_patient(), 135);
    of_stay["encounter"] = json!({"reference": encounter});
    let of_stay = api.create(&of_stay).await;
    let part = api.create(&pressure(&the_patient(), 125)).await;
    let reading = format!("Observation/{}", fixture::observation(1).id());
    let panel = json!({
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85353-1"}]},
        "hasMember": [{"reference": part}, {"reference": reading}],
    });
    let panel = api.create(&panel).await;
    let report = json!({"resourceType": "DiagnosticReport", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85353-1"}]},
        "result": [{"reference": panel}]});
    let report = api.create(&report).await;
    [encounter, of_stay, part, panel, report]
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn what_clients_observe_is_found_beside_readings_by_every_kind_of_condition() {
    let api = fixture().await;
    let [encounter, of_stay, part, panel, _] = written(&api).await;
    let own = fixture::reading(1);
    let reading = format!("Observation/{}", fixture::observation(1).id());
    let code = own.code.info().code;
    let (pressures, all) = ([&of_stay, &part], [&of_stay, &part, &panel]);
    let id = of_stay.trim_start_matches("Observation/");
    let cases: &[(String, &[&String])] = &[
        ("code=85354-9".to_owned(), &pressures),
        ("code=http://snomed.info/sct%7C75367002".into(), &pressures),
        ("code=http://loinc.org%7C85354-9,85353-1".into(), &all),
        (format!("code=85354-9,{code}"), &[&of_stay, &part, &reading]),
        (format!("code={code}"), &[&reading]),
        (
            "category=vital-signs&component-code:missing=false".into(),
            &pressures,
        ),
        (
            "category=laboratory&component-code:missing=false".into(),
            &[],
        ),
        ("component-code=8480-6".into(), &pressures),
        ("combo-code=8462-4".into(), &pressures),
        (
            "component-code-value-quantity=8480-6$gt130".into(),
            &[&of_stay],
        ),
        ("component-code-value-quantity=8462-4$gt130".into(), &[]),
        (
            "component-value-quantity=gt130%7C%7Cmm%5BHg%5D".into(),
            &[&of_stay],
        ),
        ("combo-value-quantity=125".into(), &[&part]),
        ("value-quantity=gt0&date=2023-11-15".into(), &[]),
        (
            format!("patient={}", the_patient()),
            &[&of_stay, &part, &reading],
        ),
        (
            format!("subject={}&code=85354-9", the_patient()),
            &pressures,
        ),
        ("patient=nobody".into(), &[]),
        ("subject:missing=true".into(), &[&panel]),
        ("date=2023-11-15".into(), &pressures),
        ("date=lt2023-11-15".into(), &[&reading]),
        ("date:missing=true".into(), &[&panel]),
        (
            "patient.birthdate=1951".into(),
            &[&of_stay, &part, &reading],
        ),
        ("patient.birthdate=1950".into(), &[]),
        (format!("encounter={encounter}"), &[&of_stay]),
        ("encounter.status=finished".into(), &[&of_stay]),
        ("has-member.code=85354-9".into(), &[&panel]),
        (format!("has-member.code={code}"), &[&panel]),
        ("has-member.component-code=8480-6".into(), &[&panel]),
        ("has-member.code=85353-1".into(), &[]),
        (
            "_has:DiagnosticReport:result:status=final".into(),
            &[&panel],
        ),
        (
            "_has:Observation:has-member:code=85353-1".into(),
            &[&part, &reading],
        ),
        (format!("_id={id}"), &[&of_stay]),
        (format!("_id:not={id}&code=85354-9"), &[&part]),
        ("status=final&code=85354-9".into(), &pressures),
        ("status=amended".into(), &[]),
        ("code:not=85354-9&status=final".into(), &[&panel]),
    ];
    for (query, expected) in cases {
        let found = api.found(&format!("Observation?_count=50&{query}")).await;
        // Of the readings the first alone is told of.
        let is_told = |one: &&String| all.contains(one) || **one == reading;
        let found: BTreeSet<&String> = found.iter().filter(is_told).collect();
        let expected: BTreeSet<&String> = expected.iter().copied().collect();
        let with_reading = query.starts_with("status=final") || query.starts_with("code:not");
        let found = match with_reading {
            true => found.into_iter().filter(|one| **one != reading).collect(),
            false => found,
        };
        assert_eq!(found, expected, "{query}");
    }
    let path = format!("/fhir/{encounter}/Observation");
    assert_eq!(
        api.get(&path).await.entries("match"),
        std::slice::from_ref(&of_stay)
    );
    for sort in [
        "",
        "date",
        "-date,_id",
        "_id",
        "-_id",
        "_lastUpdated",
        "-_lastUpdated",
    ] {
        let sort = match sort {
            "" => String::new(),
            sort => format!("&_sort={sort}"),
        };
        for condition in ["", "&status:not=amended"] {
            let path = format!("Observation?_count=7{condition}{sort}");
            let found = api.found(&path).await;
            let each: BTreeSet<&String> = found.iter().collect();
            let count = usize::try_from(READINGS).unwrap() + 3;
            assert_eq!((found.len(), each.len()), (count, count), "{path}");
        }
        let total = format!("/fhir/Observation?_total=accurate&_count=1{sort}");
        let total = api.get(&total).await.json()["total"].clone();
        assert_eq!(total, READINGS + 3);
    }
    // The newest first: these are of the day after the readings.
    let newest = api
        .get("/fhir/Observation?_count=2&patient:missing=false")
        .await;
    let newest: BTreeSet<String> = newest.entries("match").into_iter().collect();
    assert_eq!(newest, BTreeSet::from([of_stay, part]));
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn what_clients_observe_is_looked_at_from_elsewhere_included_and_summed_up() {
    let api = fixture().await;
    let [encounter, of_stay, part, panel, report] = written(&api).await;
    let patient = the_patient();
    let code = fixture::reading(1).code.info().code;
    for (query, expected) in [
        (
            "Patient?_has:Observation:patient:code=85354-9".to_owned(),
            Some(&patient),
        ),
        (
            "Patient?_has:Observation:subject:component-code=8480-6".into(),
            Some(&patient),
        ),
        (
            "Patient?_has:Observation:patient:component-code=8867-4".into(),
            None,
        ),
        (
            format!("Patient?_has:Observation:patient:code={code}"),
            Some(&patient),
        ),
        (
            "Encounter?_has:Observation:encounter:code=85354-9".into(),
            Some(&encounter),
        ),
        (
            format!("Encounter?_has:Observation:encounter:code={code}"),
            None,
        ),
        ("DiagnosticReport?result.code=85353-1".into(), Some(&report)),
        ("DiagnosticReport?result.code=85354-9".into(), None),
        (
            "DiagnosticReport?result.has-member.code=85354-9".into(),
            Some(&report),
        ),
    ] {
        let found = api.found(&query).await;
        let found: Vec<&String> = found.iter().collect();
        assert_eq!(found, Vec::from_iter(expected), "{query}");
    }
    for (query, mode, expected) in [
        (
            format!(
                "Encounter?_id={}&_revinclude=Observation:encounter",
                &encounter[10..]
            ),
            "include",
            &of_stay,
        ),
        (
            format!(
                "Observation?_id={}&_include=Observation:encounter",
                &of_stay[12..]
            ),
            "include",
            &encounter,
        ),
        (
            format!(
                "Observation?_id={}&_include=Observation:has-member",
                &panel[12..]
            ),
            "include",
            &part,
        ),
        (
            format!(
                "Observation?_id={}&_revinclude=Observation:has-member",
                &part[12..]
            ),
            "include",
            &panel,
        ),
        (
            format!(
                "Patient?_id={}&_revinclude=Observation:patient",
                &patient[8..]
            ),
            "include",
            &of_stay,
        ),
        (
            format!("{patient}/$everything?_count=200"),
            "match",
            &of_stay,
        ),
        (
            format!("{encounter}/$everything?_count=200"),
            "match",
            &of_stay,
        ),
        (
            "?_type=Observation,Encounter&_count=200".into(),
            "match",
            &part,
        ),
    ] {
        let slash = if query.starts_with('?') { "" } else { "/" };
        let reply = api.get(&format!("/fhir{slash}{query}")).await;
        assert!(
            reply.entries(mode).contains(expected),
            "{query}: {}",
            reply.text
        );
    }
    let mut later = pressure(&patient, 110);
    later["effectiveDateTime"] = "2023-11-16".into();
    let later = api.create(&later).await;
    for query in ["code=85354-9,8867-4", "category=vital-signs", "date=ge2020"] {
        let path = format!("/fhir/Observation/$lastn?patient={patient}&{query}");
        let last = api.get(&path).await.entries("match");
        assert!(last.contains(&later), "{query}: {last:?}");
        assert!(!last.contains(&of_stay), "{query}: {last:?}");
    }
    let own = fixture::reading(1);
    let info = own.code.info();
    let stats = format!(
        "/fhir/Observation/$stats?subject={patient}&code={}&system={}&statistic=count",
        info.code, info.system
    );
    let total = async || -> f64 {
        let reply = api.get(&stats).await.json();
        let found = reply["parameter"].as_array().unwrap().iter();
        let counts = found.map(|one| &one["resource"]["component"][0]["valueQuantity"]["value"]);
        counts.filter_map(Value::as_f64).sum()
    };
    let before = total().await;
    let mut one = pressure(&patient, 1);
    one["code"] = json!({"coding": [{"system": info.system, "code": info.code}]});
    one["valueQuantity"] =
        json!({"value": 71, "system": "http://unitsofmeasure.org", "code": own.unit.as_str()});
    api.create(&one).await;
    // A number that no float holds is none.
    one["valueQuantity"] = json!({"unit": "huge"});
    let huge = one
        .to_string()
        .replace("\"unit\":\"huge\"", "\"value\":1e400");
    let reply = api
        .write(Method::POST, "/fhir/Observation", &[], &huge)
        .await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
    assert_eq!(total().await, before + 1.0);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn what_clients_observe_is_hidden_by_a_scope_and_with_a_patient_who_opted_out() {
    let api = fixture().await;
    let (hidden, other) = (
        the_patient(),
        format!("Patient/{}", fixture::patient(2, 1950).id()),
    );
    let theirs = api.create(&pressure(&hidden, 131)).await;
    let mut told = pressure(&other, 132);
    told["performer"] = json!([{"reference": hidden}]);
    let told = api.create(&told).await;
    let mut seen = pressure(&other, 133);
    seen["category"][0]["coding"][0]["code"] = "exam".into();
    let seen = api.create(&seen).await;
    let kinds = ["Patient", "Observation", "Encounter"];
    let scopes = kinds.map(|kind| format!("{kind}?{WITHOUT}={}", &hidden[8..]));
    let opted_out = format!("Bearer only:{}", scopes.join(";"));
    let scoped = "Bearer only:Observation?category=exam;Patient;Encounter";
    for token in [opted_out.as_str(), scoped] {
        let own = [("authorization", token)];
        for (path, found) in [
            (
                "Observation?code=85354-9&_total=accurate".to_owned(),
                Some(1),
            ),
            ("Observation?component-code=8480-6".into(), Some(1)),
            ("Observation?_sort=-_lastUpdated&_count=1".into(), Some(1)),
            (format!("Observation?_id={}", &theirs[12..]), Some(0)),
            (
                format!(
                    "Patient?_has:Observation:patient:code=85354-9&_id={}",
                    &hidden[8..]
                ),
                Some(0),
            ),
            ("?_type=Observation&_count=200".into(), None),
            (format!("{hidden}/Observation?code=85354-9"), Some(0)),
            ("Observation/_history?_count=200".into(), None),
            ("Observation?_count=100".into(), None),
        ] {
            let slash = if path.starts_with('?') { "" } else { "/" };
            let reply = api.get_with(&format!("/fhir{slash}{path}"), &own).await;
            assert_eq!(
                reply.status,
                StatusCode::OK,
                "{token} {path}: {}",
                reply.text
            );
            let entries = reply.json()["entry"].to_string();
            for one in [&theirs, &told] {
                assert!(!entries.contains(&one[12..]), "{token} {path}: {one}");
            }
            if let Some(found) = found {
                assert_eq!(reply.entries("match").len(), found, "{token} {path}");
            }
        }
        for one in [&theirs, &told] {
            for path in [format!("/fhir/{one}"), format!("/fhir/{one}/_history/1")] {
                let reply = api.get_with(&path, &own).await;
                assert_eq!(reply.status, StatusCode::NOT_FOUND, "{token} {path}");
            }
        }
        let reply = api.get_with(&format!("/fhir/{seen}"), &own).await;
        assert_eq!(reply.status, StatusCode::OK, "{token}");
        let reply = Request::post("/fhir/Observation")
            .header("authorization", token)
            .header("content-type", FHIR_JSON)
            .body(Body::from(pressure(&hidden, 134).to_string()));
        let reply = api.send(reply.unwrap()).await;
        assert_eq!(
            reply.issue().0,
            403,
            "{token}: what it does not cover is not written"
        );
    }
    let count = api
        .get("/fhir/Observation?code=85354-9&_summary=count")
        .await;
    assert_eq!(count.json()["total"], 3);
}

#[tokio::test]
async fn the_last_readings_are_none_that_were_entered_in_error_or_cancelled() {
    let api = fixture().await;
    let patient = the_patient();
    let mut written = Vec::new();
    for (systolic, status) in [
        (131, "final"),
        (132, "cancelled"),
        (133, "entered-in-error"),
    ] {
        let mut one = pressure(&patient, systolic);
        one["status"] = json!(status);
        written.push(api.create(&one).await);
    }
    // The last reading of the patient.
    let reading = fixture::observation(55);
    let name = format!("Observation/{}", reading.id());
    let code = reading.index().code.unwrap().info().code;
    let paths = [
        format!("/fhir/Observation/$lastn?patient={patient}&max=100"),
        format!("/fhir/Observation/$lastn?patient={patient}&max=100&code={code},85354-9"),
    ];
    for is_withdrawn in [false, true] {
        for path in &paths {
            let found = api.get(path).await.entries("match");
            assert_eq!(found.contains(&name), !is_withdrawn, "{path}");
            assert!(found.contains(&written[0]), "{path}");
            assert!(
                !found.contains(&written[1]) && !found.contains(&written[2]),
                "{path}"
            );
        }
        let delivery = Delivery {
            parcel: fixture::parcel(77),
            source: fixture::source(1),
            resources: vec![fixture::withdrawn(55)],
        };
        let applied = api.store.apply(vec![delivery], Timestamp(3_000)).await;
        assert!(applied.unwrap()[0].conflicts.is_empty());
    }
}
