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

#[tokio::test]
async fn a_part_of_a_resource_is_read_where_it_is_asked_for() {
    let api = fixture().await;
    let reference = api.create(&finding_tests::finding(2001, None)).await;
    let whole = api.get(&format!("/fhir/{reference}")).await.json();
    for path in [reference.clone(), format!("{reference}/_history/1")] {
        for (query, left_out) in [
            ("_elements=code", &["recordedDate", "identifier"][..]),
            ("_summary=text", &["recordedDate", "identifier", "code"]),
            (
                "_summary=false&_elements=recordedDate",
                &["identifier", "code"],
            ),
            ("_summary=false", &[]),
            ("_summary=data", &[]),
        ] {
            let reply = api.get(&format!("/fhir/{path}?{query}")).await;
            assert_eq!(reply.headers[header::ETAG], "W/\"1\"", "{query}");
            let mut expected = whole.clone();
            for name in left_out {
                expected.as_object_mut().unwrap().remove(*name);
            }
            let mut found = reply.json();
            let tag = found["meta"].as_object_mut().unwrap().remove("tag");
            let tag = tag.map(|tag| tag[0]["code"].clone());
            assert_eq!(found, expected, "{query}");
            let is_part = !left_out.is_empty();
            assert_eq!(tag, is_part.then(|| json!("SUBSETTED")), "{query}");
        }
        for (query, code) in [
            ("_summary=count", "value"),
            ("_elements=colour", "not-supported"),
            ("colour=red", "not-supported"),
        ] {
            let reply = api.get(&format!("/fhir/{path}?{query}")).await;
            assert_eq!(reply.issue(), (400, code.into()), "{query}");
        }
        let unknown = format!("/fhir/{path}?colour=red&_pretty=true");
        let lenient = api.get_with(&unknown, &LENIENT).await;
        assert_eq!(lenient.json(), whole, "{unknown}");
    }
}

#[tokio::test]
async fn a_place_that_a_client_makes_itself_is_none() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        for path in [
            "/fhir/Observation?_count=2&_sort=-date",
            "/fhir/Observation?_count=2&_sort=_id",
            "/fhir/Observation?_count=2&status=final",
            "/fhir/Patient/_history?_count=1",
            "/fhir/_history?_count=2",
        ] {
            let next = api.get(path).await.link("next").unwrap();
            let next = next.replace("https://region.example", "");
            let there = api.get(&next).await;
            assert_eq!(there.status, StatusCode::OK, "{}", there.text);
            let (front, cursor) = next.split_once("_cursor=").unwrap();
            let (text, proof) = cursor.rsplit_once('.').unwrap();
            let other = if proof.starts_with('A') { "B" } else { "A" };
            for forged in [
                format!("{front}_cursor={text}"),
                format!("{front}_cursor={text}A.{proof}"),
                format!("{front}_cursor={text}.{other}{}", &proof[1..]),
                next.replace("_count=", "_count=1"),
            ] {
                let reply = api.get(&forged).await;
                assert_eq!(reply.issue(), (400, "value".into()), "{forged}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_is_packed_where_the_client_takes_that() {
    use std::io::Read;
    let api = fixture().await;
    let ask = async |path: &str, encoding: &str| {
        let request = Request::get(path).header("authorization", "Bearer all");
        let request = request.header("accept-encoding", encoding);
        let request = request.body(Body::empty()).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        let coding = response.headers().get(header::CONTENT_ENCODING).cloned();
        assert_eq!(response.headers()[header::VARY], "accept-encoding");
        let body = axum::body::to_bytes(response.into_body(), 1 << 22).await;
        (coding, body.unwrap())
    };
    let path = "/fhir/Observation?_count=50";
    let (coding, packed) = ask(path, "gzip, deflate").await;
    assert_eq!(coding.unwrap(), "gzip");
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(&packed[..]);
    unpacked.read_to_string(&mut text).unwrap();
    assert!(packed.len() * 2 < text.len());
    for (path, encoding) in [
        (path, "identity"),
        (path, "gzip;q=0"),
        ("/fhir/Observation/x", "gzip"),
    ] {
        let (coding, plain) = ask(path, encoding).await;
        assert_eq!(coding, None, "{path} {encoding}");
        let plain: Value = serde_json::from_slice(&plain).unwrap();
        assert!(plain["resourceType"].is_string());
    }
    let plain: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plain["entry"], api.get(path).await.json()["entry"]);
}

#[tokio::test]
async fn what_is_not_allowed_says_what_is() {
    let api = fixture().await;
    let patient = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    for (method, path, allowed) in [
        (Method::POST, patient.as_str(), "PUT"),
        (Method::DELETE, "/fhir/Observation/_history", "GET"),
        (Method::POST, "/fhir/Condition/a", "PUT"),
        (Method::POST, "/fhir/Condition/a/_history", "GET"),
        (Method::DELETE, "/fhir/metadata", "GET"),
        (Method::PUT, "/fhir/Condition/_search", "POST"),
        (Method::DELETE, "/fhir/Condition/a/_history", "GET"),
    ] {
        let reply = api.write(method.clone(), path, &[], "").await;
        assert_eq!(reply.issue().0, 405, "{method} {path}");
        let allow = reply
            .headers
            .get(header::ALLOW)
            .map(|value| value.to_str().unwrap());
        let allow: Vec<&str> = allow
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .collect();
        assert!(allow.contains(&allowed), "{method} {path}: {allow:?}");
    }
}
