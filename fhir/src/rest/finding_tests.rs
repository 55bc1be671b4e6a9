//! Tests of searches by the parameters of R4, of what is included, and of what a token does not cover.
use super::*;
use serde_json::json;

/// An identifier that says nothing.
pub fn identifier(number: u32) -> String {
    format!("urn:uuid:00000000-0000-4000-8000-{number:012}")
}

/// A finding in that year, of patient 1.
pub fn finding(year: u32, encounter: Option<&str>) -> Value {
    let mut finding = json!({
        "resourceType": "Condition",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": identifier(year)}],
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
        "subject": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())},
        "recordedDate": year.to_string(),
    });
    if let Some(encounter) = encounter {
        finding["encounter"] = json!({"reference": encounter});
    }
    finding
}

impl Fixture {
    /// The reference to what was created of a resource.
    pub async fn create(&self, resource: &Value) -> String {
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        let path = format!("/fhir/{kind}");
        let reply = self
            .write(Method::POST, &path, &[], &resource.to_string())
            .await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        format!("{kind}/{}", reply.json()["id"].as_str().unwrap())
    }

    /// Findings of 2001 to 2007, the odd ones of an encounter; the encounter and the findings.
    async fn findings(&self) -> (String, Vec<String>) {
        let encounter = self.create(&writing_tests::encounter()).await;
        let mut findings = Vec::new();
        for year in 2001..2008 {
            let of = (year % 2 == 1).then_some(encounter.as_str());
            findings.push(self.create(&finding(year, of)).await);
        }
        (encounter, findings)
    }
}

impl Reply {
    /// References of the entries of a mode.
    pub fn entries(&self, mode: &str) -> Vec<String> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let json = self.json();
        let entries = json["entry"].as_array().cloned().unwrap_or_default();
        let of_mode = entries
            .iter()
            .filter(|entry| entry["search"]["mode"] == mode);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        of_mode
            .map(|entry| {
                let resource = &entry["resource"];
                format!(
                    "{}/{}",
                    text(&resource["resourceType"]),
                    text(&resource["id"])
                )
            })
            .collect()
    }
}

#[tokio::test]
async fn what_clients_write_is_found_by_its_parameters_by_get_and_by_post() {
    let api = fixture().await;
    let (encounter, _) = api.findings().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let other = fixture::patient(2, 1950).id().clone();
    let one = identifier(2004);
    for (query, count) in [
        (String::new(), 7),
        ("code=38341003".into(), 7),
        ("code=http://snomed.info/sct%7C38341003".into(), 7),
        ("code=http://loinc.org%7C38341003".into(), 0),
        ("code:not=38341003".into(), 0),
        (format!("subject=Patient/{patient}"), 7),
        (format!("patient={patient}&recorded-date=ge2003"), 5),
        (format!("subject=Patient/{other}"), 0),
        (
            format!("subject=https%3A%2F%2Fregion.example%2Ffhir%2FPatient%2F{patient}"),
            7,
        ),
        (format!("identifier=urn:ietf:rfc:3986%7C{one}"), 1),
        ("recorded-date=2001,2002".into(), 2),
        ("encounter:missing=true".into(), 3),
        (format!("encounter={encounter}"), 4),
        ("encounter.status=finished".into(), 4),
        ("encounter:Encounter.status=planned".into(), 0),
        (format!("subject:Patient._id={patient}"), 7),
    ] {
        let path = format!("/fhir/Condition?{query}");
        let reply = api.get(&path).await;
        assert_eq!(reply.entries("match").len(), count, "{query}");
        assert!(reply.json().get("total").is_none());
        let total = api.get(&format!("{path}&_total=accurate")).await.json();
        assert_eq!(
            total["total"].as_u64(),
            u64::try_from(count).ok(),
            "{query}"
        );
        let form = Request::post("/fhir/Condition/_search")
            .header("authorization", "Bearer all")
            .header("content-type", "application/x-www-form-urlencoded");
        let posted = api
            .send(form.body(Body::from(query.clone())).unwrap())
            .await;
        assert_eq!(posted.ids().len(), count, "posted {query}");
    }
    let has = "/fhir/Encounter?_has:Condition:encounter:recorded-date=";
    assert_eq!(
        api.get(&format!("{has}2003")).await.entries("match"),
        [encounter]
    );
    assert_eq!(api.get(&format!("{has}2002")).await.ids(), [""; 0]);
}

#[tokio::test]
async fn what_is_not_understood_is_refused_unless_the_client_is_lenient() {
    let api = fixture().await;
    api.findings().await;
    for query in [
        "colour=red",
        "code:colour=x",
        "_text=x",
        "subject:Patient.colour=x",
    ] {
        let path = format!("/fhir/Condition?{query}");
        assert_eq!(
            api.get(&path).await.issue(),
            (400, "not-supported".into()),
            "{query}"
        );
    }
    let reply = api
        .get_with("/fhir/Condition?colour=red&_count=2", &LENIENT)
        .await;
    assert_eq!(reply.entries("match").len(), 2);
    assert!(reply.text.contains("ignored search parameters: colour"));
    assert!(!reply.link("self").unwrap().contains("colour"));
    for query in [
        "recorded-date=yesterday",
        "_count=x",
        "_cursor=x",
        "_cursor=a.b",
    ] {
        let reply = api
            .get_with(&format!("/fhir/Condition?{query}"), &LENIENT)
            .await;
        assert_eq!(reply.issue(), (400, "value".into()), "{query}");
    }
    // Where no column answers, a look at readings would find nothing, which is no answer.
    for query in [
        "_has:Observation:patient:value-quantity=gt1",
        "_has:Observation:patient:code:missing=true",
        "_has:Observation:performer:status=final",
    ] {
        let chain = format!("/fhir/Patient?{query}");
        let reply = api.get_with(&chain, &LENIENT).await;
        assert_eq!(reply.issue(), (400, "not-supported".into()), "{query}");
    }
}

#[tokio::test]
async fn patients_and_reports_are_found_by_readings() {
    let api = fixture().await;
    let (own, other) = (fixture::reading(1), fixture::reading(2));
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let device = fixture::device(1).id().clone();
    let report = json!({"resourceType": "DiagnosticReport", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "24323-8"}]},
        "result": [{"reference": format!("Observation/{}", fixture::observation(1).id())}]});
    let report = api.create(&report).await;
    let token = |reading: &crate::map::ClinicalReading| {
        let info = reading.code.info();
        format!("{}%7C{}", info.system, info.code)
    };
    for (query, expected) in [
        (
            format!("Patient?_has:Observation:patient:code={}", token(&own)),
            Some(&patient),
        ),
        (
            format!(
                "Patient?_has:Observation:subject:code={}",
                own.code.info().code
            ),
            Some(&patient),
        ),
        (
            format!("Patient?_has:Observation:patient:device={device}"),
            Some(&patient),
        ),
        (
            "Patient?_has:Observation:patient:date=ge2023-11-14".into(),
            Some(&patient),
        ),
        ("Patient?_has:Observation:patient:date=lt2001".into(), None),
        (
            "Patient?_has:Observation:patient:code=29463-7-x".into(),
            None,
        ),
        (
            "Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=final".into(),
            Some(&patient),
        ),
        (
            "Patient?_has:Observation:patient:_has:DiagnosticReport:result:status=partial".into(),
            None,
        ),
        (
            format!("DiagnosticReport?result.code={}", token(&own)),
            Some(&report),
        ),
        (
            format!("DiagnosticReport?result.code={}", token(&other)),
            None,
        ),
    ] {
        let found = api.get(&format!("/fhir/{query}")).await.entries("match");
        let found: Vec<&String> = found.iter().collect();
        assert_eq!(found, Vec::from_iter(expected), "{query}");
    }
    // Who may not search readings is told nothing of them.
    let headers = [("authorization", "Bearer patients")];
    let reply = api
        .get_with(
            &format!(
                "/fhir/Patient?_has:Observation:patient:code={}",
                token(&own)
            ),
            &headers,
        )
        .await;
    assert_eq!(reply.issue().0, 403);
}

#[tokio::test]
async fn among_types_a_reading_is_found_by_its_id_as_its_identifier_and_a_patient_is_not() {
    let api = fixture().await;
    let reading = fixture::observation(1).id().to_string();
    let patient = fixture::patient(1, 1950).id().to_string();
    for (id, expected) in [
        (reading.as_str(), vec![format!("Observation/{reading}")]),
        (patient.as_str(), Vec::new()),
    ] {
        let path = format!("/fhir?_type=Observation,Patient&identifier={id}");
        assert_eq!(api.get(&path).await.entries("match"), expected, "{path}");
    }
}

#[test]
fn what_is_asked_of_many_types_becomes_the_same_as_what_is_asked_of_one() {
    let context = crate::query::Context {
        now: 0,
        base: crate::bases::Bases::default(),
        handling: crate::query::Handling::Strict,
    };
    for name in ["_has:Observation:patient:code", "identifier"] {
        let pairs = [(name.to_owned(), "8867-4".to_owned())];
        let kind = if name == "identifier" {
            ResourceType::Observation
        } else {
            ResourceType::Patient
        };
        let found = crate::query::parse_conditions(kind.as_str(), &pairs, context);
        let mut filter = found.unwrap();
        finding::by_columns(kind, &mut filter).unwrap();
        let once = filter.clone();
        finding::by_columns(kind, &mut filter).unwrap();
        assert_eq!(filter, once, "{name}");
    }
}

#[tokio::test]
async fn operations_take_their_parameters_by_post_too() {
    let api = fixture().await;
    let (_, findings) = api.findings().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let parameters =
        |list: Value| json!({"resourceType": "Parameters", "parameter": list}).to_string();
    let post = async |path: &str, body: &str| {
        let path = format!("/fhir/{path}");
        api.write(Method::POST, &path, &[], body).await
    };
    let body = parameters(
        json!([{"name": "_count", "valueInteger": 2}, {"name": "_type", "valueCode": "Condition"}]),
    );
    let page = post(&format!("{patient}/$everything"), &body).await;
    let asked = "$everything?_count=2&_type=Condition";
    assert_eq!(page.entries("match").len(), 2);
    assert_eq!(
        page.json()["link"][0],
        api.get(&format!("/fhir/{patient}/{asked}")).await.json()["link"][0]
    );
    let all = post(&format!("{patient}/$everything"), "").await;
    assert!(all.entries("match").contains(&patient));
    // A parameter that R4 has several times.
    let body = parameters(
        json!([{"name": "_type", "valueCode": "Patient"}, {"name": "_type", "valueCode": "Condition"}]),
    );
    let both = post(&format!("{patient}/$everything"), &body).await;
    let both = both.entries("match");
    assert!(
        both.contains(&patient) && both.contains(&findings[0]),
        "{both:?}"
    );
    let body = parameters(
        json!([{"name": "patient", "valueString": patient}, {"name": "max", "valuePositiveInt": 2}]),
    );
    let last = post("Observation/$lastn", &body).await;
    let same = api
        .get(&format!("/fhir/Observation/$lastn?patient={patient}&max=2"))
        .await;
    assert!(!last.entries("match").is_empty());
    assert_eq!(last.entries("match"), same.entries("match"));
    let meta = post(&format!("{}/$meta", findings[0]), "").await;
    assert_eq!(meta.json()["parameter"][0]["valueMeta"]["versionId"], "1");
    for (path, body, status) in [
        (format!("{patient}/$everything"), "{}", 400),
        (format!("{patient}/$everything"), "[", 400),
        (format!("{patient}/$nothing"), "", 405),
        (format!("{patient}/Observation"), "", 405),
        ("Observation/$nothing".into(), "", 405),
        (findings[0].clone(), "", 405),
    ] {
        assert_eq!(post(&path, body).await.issue().0, status, "{path} {body}");
    }
    // What was stored since an instant: that of the first finding, and of all behind it.
    let instant = meta.json()["parameter"][0]["valueMeta"]["lastUpdated"].clone();
    let since = format!(
        "/fhir/{patient}/$everything?_since={}",
        instant.as_str().unwrap()
    );
    let since = api.get(&since).await.entries("match");
    assert!(
        findings.iter().all(|one| since.contains(one)) && !since.contains(&patient),
        "{since:?}"
    );
    let ahead = format!("/fhir/{patient}/$everything?_since=1970-01-01T00:20:00Z");
    assert_eq!(api.get(&ahead).await.issue().0, 400);
}

#[tokio::test]
async fn patients_and_devices_that_facilities_deliver_are_found_by_what_they_are_now() {
    let api = fixture().await;
    api.findings().await;
    let facility = fixture::source(1).fresh;
    for (path, count) in [
        ("Patient".to_owned(), 1),
        ("Patient?birthdate=1951".into(), 1),
        ("Patient?birthdate=1950".into(), 0),
        ("Patient?name:missing=true&_sort=-birthdate".into(), 1),
        (
            format!("Patient?_source=urn:medmesh:facility:{facility}"),
            1,
        ),
        (format!("Device?_source=urn:medmesh:facility:{facility}"), 1),
        ("Device?_source=urn:medmesh:facility:other".into(), 0),
        ("Condition?subject:Patient.birthdate=1951".into(), 7),
        ("Condition?subject:Patient.birthdate=1950".into(), 0),
        (
            "Patient?_has:Condition:subject:recorded-date=2001".into(),
            1,
        ),
        (
            "Patient?_has:Condition:subject:recorded-date=1999".into(),
            0,
        ),
    ] {
        let reply = api.get(&format!("/fhir/{path}")).await;
        assert_eq!(
            reply.entries("match").len(),
            count,
            "{path}: {}",
            reply.text
        );
    }
    assert_eq!(api.get("/fhir/Patient").await.json()["total"], 1);
}

#[tokio::test]
async fn pages_of_a_search_are_linked_and_a_cursor_serves_no_other_search() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        let (_, findings) = api.findings().await;
        for sort in [
            "recorded-date",
            "-recorded-date,_id",
            "code,-_lastUpdated",
            "_id",
        ] {
            let mut url = format!(
                "/fhir/Condition?_count=3&_sort={}",
                sort.replace(',', "%2C")
            );
            let mut seen = Vec::new();
            let mut next = None;
            loop {
                let reply = api.get(&url).await;
                seen.extend(reply.entries("match"));
                match reply.link("next") {
                    Some(link) => url = link.replace("https://region.example", ""),
                    None => break,
                }
                next = Some(url.clone());
                assert!(seen.len() <= 7);
            }
            if sort == "recorded-date" {
                assert_eq!(seen, findings);
            }
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 7, "{sort}");
            let (_, cursor) = next.as_ref().unwrap().split_once("_cursor=").unwrap();
            let other = format!("/fhir/Condition?_count=4&_cursor={cursor}");
            assert_eq!(api.get(&other).await.issue(), (400, "value".into()));
        }
    }
}

#[tokio::test]
async fn a_search_counts_shows_parts_and_includes_what_is_asked_for() {
    let api = fixture().await;
    let (encounter, findings) = api.findings().await;
    for query in ["_count=0", "_summary=count"] {
        let json = api.get(&format!("/fhir/Condition?{query}")).await.json();
        assert_eq!((json["total"].as_u64(), json.get("entry")), (Some(7), None));
    }
    let part = api
        .get("/fhir/Condition?_elements=code&_count=1")
        .await
        .json();
    let part = &part["entry"][0]["resource"];
    assert!(part["code"].is_object() && part.get("recordedDate").is_none());
    assert_eq!(part["meta"]["tag"][0]["code"], "SUBSETTED");
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    api.log.take();
    let query = "recorded-date=2001&_include=Condition:encounter&_include=Condition:subject";
    let reply = api.get(&format!("/fhir/Condition?{query}")).await;
    assert_eq!(reply.entries("match"), findings[..1]);
    assert_eq!(
        reply.entries("include"),
        [encounter.clone(), patient.clone()]
    );
    let rows = api.log.take();
    let mut kinds: Vec<&str> = rows.iter().map(|row| row.kind.as_str()).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["Condition", "Encounter", "Patient"],
        "each type has its row"
    );
    let back = "/fhir/Encounter?_revinclude=Condition:encounter";
    let reply = api.get(back).await;
    assert_eq!(reply.entries("match"), [encounter]);
    assert_eq!(reply.entries("include").len(), 4);
    let on = api
        .get(&format!("{back}&_include:iterate=Condition:subject"))
        .await;
    assert_eq!(on.entries("include").len(), 5);
    assert!(on.entries("include").contains(&patient));
}

#[tokio::test]
async fn what_a_canonical_url_leads_to_is_included_and_followed() {
    let api = fixture().await;
    let of = |kind: &str, url: &str| match kind {
        "Questionnaire" => json!({"resourceType": kind, "status": "active", "url": url}),
        _ => json!({"resourceType": kind, "status": "completed", "questionnaire": url}),
    };
    let form = api
        .create(&of("Questionnaire", "http://hl7.org/fhir/x"))
        .await;
    api.create(&of("Questionnaire", "http://hl7.org/fhir/y"))
        .await;
    let answers = "QuestionnaireResponse";
    let reply = api.create(&of(answers, "http://hl7.org/fhir/x")).await;
    let older = api.create(&of(answers, "http://hl7.org/fhir/x|9")).await;
    let with = format!("_include={answers}:questionnaire");
    for (id, expected) in [(&reply, vec![form.clone()]), (&older, Vec::new())] {
        let (_, id) = id.split_once('/').unwrap();
        let path = format!("/fhir/{answers}?_id={id}&{with}");
        assert_eq!(api.get(&path).await.entries("include"), expected, "{path}");
    }
    let path = format!(
        "/fhir/Questionnaire?url=http://hl7.org/fhir/x&_revinclude={answers}:questionnaire"
    );
    assert_eq!(
        api.get(&path).await.entries("include"),
        std::slice::from_ref(&reply)
    );
    for (path, expected) in [
        (
            format!("{answers}?questionnaire.status=active"),
            vec![reply],
        ),
        (format!("{answers}?questionnaire.status=draft"), Vec::new()),
        (
            format!("Questionnaire?_has:{answers}:questionnaire:status=completed"),
            vec![form],
        ),
    ] {
        let path = format!("/fhir/{path}");
        assert_eq!(api.get(&path).await.entries("match"), expected, "{path}");
    }
}

#[tokio::test]
async fn what_is_within_a_bundle_is_neither_followed_nor_declared_as_included() {
    let api = fixture().await;
    for path in [
        "Bundle?composition.status=final",
        "Bundle?_include=Bundle:composition",
        "Composition?_has:Bundle:composition:type=document",
    ] {
        let reply = api.get(&format!("/fhir/{path}")).await;
        assert_eq!(reply.issue(), (400, "not-supported".into()), "{path}");
    }
}

#[tokio::test]
async fn a_compartment_is_searched_and_everything_of_it_is_listed_page_by_page() {
    let api = fixture().await;
    let (encounter, findings) = api.findings().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let found = api
        .get(&format!("/fhir/{patient}/Condition?recorded-date=2002"))
        .await;
    assert_eq!(found.entries("match"), findings[1..2]);
    let other = format!("/fhir/Patient/{}/Condition", fixture::patient(2, 1950).id());
    assert_eq!(api.get(&other).await.ids(), [""; 0]);
    let readings = api
        .get(&format!("/fhir/{patient}/Observation?_count=1000"))
        .await;
    let readings = readings.entries("match").len();
    assert!(readings > 0);
    assert_eq!(
        api.get(&format!("/fhir/{encounter}/Condition"))
            .await
            .ids()
            .len(),
        4
    );
    for path in [
        format!("/fhir/{patient}/Location"),
        format!("/fhir/{patient}/Nonsense"),
        format!("/fhir/{}/Condition", findings[0]),
    ] {
        assert_eq!(api.get(&path).await.issue().0, 404, "{path}");
    }
    let mut url = format!("/fhir/{patient}/$everything?_count=3");
    let mut seen = Vec::new();
    loop {
        let reply = api.get(&url).await;
        let entries = reply.entries("match");
        assert!(entries.len() <= 3);
        seen.extend(entries);
        match reply.link("next") {
            Some(link) => url = link.replace("https://region.example", ""),
            None => break,
        }
    }
    let count = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((count, seen.len()), (readings + 7 + 1, readings + 7 + 1));
    assert!(seen.contains(&patient));
    let meta = api
        .get(&format!("/fhir/{}/$meta", findings[0]))
        .await
        .json();
    assert_eq!(meta["parameter"][0]["valueMeta"]["versionId"], "1");
    assert_eq!(
        api.get("/fhir/Patient/nobody/$everything").await.issue().0,
        404
    );
}

#[tokio::test]
async fn the_last_readings_of_a_patient_are_so_many_of_each_code() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let all = api
        .get(&format!(
            "/fhir/Observation?patient={patient}&_sort=-date&_count=1000"
        ))
        .await
        .json();
    let code = |entry: &Value| entry["resource"]["code"]["coding"][0]["code"].to_string();
    let mut of_codes: std::collections::BTreeMap<String, Vec<String>> = Default::default();
    for entry in all["entry"].as_array().unwrap() {
        let id = entry["resource"]["id"].as_str().unwrap().to_owned();
        of_codes.entry(code(entry)).or_default().push(id);
    }
    for max in [1, 2] {
        let path = format!("/fhir/Observation/$lastn?patient={patient}&max={max}");
        let mut found = api.get(&path).await.ids();
        let last = of_codes
            .values()
            .flat_map(|ids| ids.iter().take(max).cloned());
        let mut expected: Vec<String> = last.collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
        let (one, ids) = of_codes.first_key_value().unwrap();
        let named = api
            .get(&format!("{path}&code={}", one.trim_matches('"')))
            .await;
        assert_eq!(named.ids(), ids[..max.min(ids.len())]);
    }
    for query in [
        "max=1",
        "patient=a,b",
        "patient=a&max=0",
        "patient=a&colour=red",
    ] {
        let path = format!("/fhir/Observation/$lastn?{query}");
        assert_eq!(api.get(&path).await.issue().0, 400, "{query}");
    }
}

#[tokio::test]
async fn what_a_token_does_not_cover_is_reached_in_no_way() {
    let api = fixture().await;
    let (encounter, _) = api.findings().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let own = [("authorization", "Bearer conditions")];
    for (path, status) in [
        ("Condition?code=38341003".to_owned(), 200),
        (format!("Condition?subject={patient}"), 200),
        ("Condition?encounter.status=finished".into(), 403),
        ("Condition?encounter:Encounter._id=x&_count=0".into(), 403),
        (
            "Condition?_has:Encounter:diagnosis:status=finished".into(),
            403,
        ),
        ("Condition?_list=x".into(), 403),
        ("Encounter".into(), 403),
        ("Observation/$lastn?patient=x".into(), 403),
        (format!("{patient}/Condition"), 200),
        (format!("{patient}/Observation"), 403),
        (format!("{patient}/$everything"), 403),
        (format!("{encounter}/$everything"), 403),
        (format!("{encounter}/$meta"), 403),
    ] {
        let reply = api.get_with(&format!("/fhir/{path}"), &own).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text);
    }
    let path = "/fhir/Condition?_include=Condition:subject&_include=Condition:encounter";
    let reply = api.get_with(path, &own).await;
    assert_eq!(reply.entries("match").len(), 7);
    assert_eq!(reply.entries("include"), [""; 0]);
}

#[tokio::test]
async fn where_instants_are_logical_no_search_tells_the_order_or_the_time_of_commits() {
    let api = fixture().await;
    api.findings().await;
    // Who wrote knows when; another reader learns nothing of it.
    let page = api
        .get_as("other", "/fhir/Condition?_sort=-_lastUpdated&_count=2")
        .await;
    let (seen, instants) = page.instants();
    assert!(seen.starts_with("1970"));
    assert_eq!(
        instants[0][..23],
        instants[1][..23],
        "one mark: {instants:?}"
    );
    let ids = page.ids();
    assert!(ids.is_sorted(), "within a mark by id: {ids:?}");
    for (query, count) in [
        (format!("_lastUpdated=gt{seen}"), 0),
        (format!("_lastUpdated=le{seen}"), 7),
        (format!("encounter:Encounter._lastUpdated=le{seen}"), 4),
        (format!("_has:Condition:encounter:_lastUpdated=gt{seen}"), 0),
    ] {
        let kind = if query.starts_with("_has") {
            "Encounter"
        } else {
            "Condition"
        };
        let reply = api.get_as("other", &format!("/fhir/{kind}?{query}")).await;
        assert_eq!(reply.entries("match").len(), count, "{query}");
    }
    let ahead = api
        .get_as("other", "/fhir/Condition?_lastUpdated=gt1975")
        .await;
    assert_eq!(ahead.issue(), (400, "value".into()));
}
