//! Tests of the API, request by request: what is read, found, refused, and in which form it comes.
use super::*;

#[tokio::test]
async fn a_resource_is_read_with_its_text_version_and_time() {
    let api = fixture_of(true).await;
    let new = fixture::observation(4);
    let reply = api.get(&format!("/fhir/Observation/{}", new.id())).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers[header::CONTENT_TYPE], FHIR_JSON);
    assert_eq!(reply.headers[header::ETAG], "W/\"1\"");
    assert_eq!(
        reply.headers[header::LAST_MODIFIED],
        "Thu, 01 Jan 1970 00:00:01 GMT"
    );
    assert!(reply.text.contains("\"value\":1E5,"), "{}", reply.text);
    assert_eq!(reply.json()["meta"]["versionId"], "1");
    assert_eq!(
        reply.json()["meta"]["lastUpdated"],
        "1970-01-01T00:00:01.000Z"
    );
    let known = [
        ("authorization", "Bearer all"),
        ("if-none-match", "W/\"1\""),
    ];
    let reply = api
        .get_with(&format!("/fhir/Observation/{}", new.id()), &known)
        .await;
    assert_eq!(
        (reply.status, reply.text.as_str()),
        (StatusCode::NOT_MODIFIED, "")
    );
}

#[tokio::test]
async fn every_version_of_a_patient_can_be_read() {
    let api = fixture().await;
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    assert_eq!(api.get(&path).await.json()["birthDate"], "1951");
    for (version, year) in [("1", "1950"), ("2", "1951")] {
        let reply = api.get(&format!("{path}/_history/{version}")).await;
        assert_eq!(reply.json()["birthDate"], year);
        assert_eq!(reply.headers[header::ETAG], format!("W/\"{version}\""));
    }
    for version in ["0", "3", "x", "-1", "01", "%2B1", "1.0", "1%20"] {
        let reply = api.get(&format!("{path}/_history/{version}")).await;
        assert_eq!(reply.issue(), (404, "not-found".into()), "{version}");
    }
}

#[tokio::test]
async fn every_refusal_is_an_operation_outcome() {
    let api = fixture().await;
    for (path, expected) in [
        ("/fhir/Observation/nope", (404, "not-found")),
        ("/fhir/Observation/%20", (404, "not-found")),
        ("/fhir/Nonsense", (404, "not-supported")),
        ("/fhir/Nonsense/1", (404, "not-supported")),
        ("/fhir?_tag=x", (400, "not-supported")),
        ("/fhir?_type=Nonsense", (400, "value")),
        ("/fhir/Observation?date=yesterday", (400, "value")),
        ("/fhir/Observation?code:in=heart", (400, "not-supported")),
        ("/fhir/", (404, "not-supported")),
        ("/fhir/Observation/%ff", (400, "structure")),
        ("/fhir/Observation?code=%ff", (400, "structure")),
        ("/fhir/Observation?code=%zz", (400, "structure")),
        ("/fhir/Condition?code=a%", (400, "structure")),
        ("/fhir/Patient/a/_history/%ff", (400, "structure")),
        ("/fhir/Observation?_sort=code,-date", (400, "not-supported")),
        ("/fhir/Observation/x?_format=xml", (406, "not-supported")),
        ("/fhir/Observation?_cursor=x", (400, "value")),
        ("/fhir/Observation?_count=%2B5", (400, "value")),
        ("/fhir/metadata?_format=xml", (406, "not-supported")),
        (
            "/fhir/Observation?_lastUpdated=gt1970-01-01T00:20:00Z",
            (400, "value"),
        ),
        ("/fhir/Observation?_format=xml", (406, "not-supported")),
    ] {
        let (status, code) = expected;
        assert_eq!(
            api.get(path).await.issue(),
            (status, code.to_owned()),
            "{path}"
        );
    }
    let headers = [
        ("authorization", "Bearer all"),
        ("accept", "application/fhir+xml"),
    ];
    let reply = api.get_with("/fhir/Observation", &headers).await;
    assert_eq!(reply.issue(), (406, "not-supported".into()));
    let not_a_form = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/json")
        .body(Body::from("{}"));
    let reply = api.send(not_a_form.unwrap()).await;
    assert_eq!(reply.issue(), (415, "not-supported".into()));
    let not_utf8 = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("code=%ff"));
    let reply = api.send(not_utf8.unwrap()).await;
    assert_eq!(reply.issue(), (400, "structure".into()));
    let too_long = Request::post("/fhir/Observation/_search")
        .header("authorization", "Bearer all")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Body::from("a".repeat(MAX_FORM_BYTES + 1)));
    let reply = api.send(too_long.unwrap()).await;
    assert_eq!(reply.issue(), (413, "too-long".into()));
    for method in [Method::DELETE, Method::PUT, Method::PATCH] {
        let request = Request::builder().method(method).uri("/fhir/Observation/1");
        let reply = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.issue(), (401, "login".into()));
    }
    let request = Request::post("/fhir/Observation/1").body(Body::empty());
    let reply = api.send(request.unwrap()).await;
    assert_eq!(reply.issue(), (405, "not-supported".into()));
}

#[tokio::test]
async fn nothing_but_metadata_is_shown_without_the_right_token() {
    let api = fixture().await;
    let id = fixture::patient(1, 1950).id().clone();
    let paths = [
        format!("/fhir/Patient/{id}"),
        format!("/fhir/Patient/{id}/_history/1"),
        "/fhir/Patient".to_owned(),
        "/fhir/Observation?_count=1".to_owned(),
        "/fhir/Device/nope".to_owned(),
    ];
    for path in &paths {
        let reply = api.get_with(path, &[]).await;
        assert_eq!(reply.issue(), (401, "login".into()), "{path}");
        assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer");
    }
    let patients = [("authorization", "Bearer patients")];
    assert_eq!(
        api.get_with(&paths[0], &patients).await.status,
        StatusCode::OK
    );
    for path in &paths[1..] {
        let reply = api.get_with(path, &patients).await;
        assert_eq!(reply.issue(), (403, "forbidden".into()), "{path}");
    }
    let reply = api.get_with("/fhir/metadata", &[]).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn pages_are_linked_and_show_each_resource_once() {
    let api = fixture().await;
    for sort in [
        "date",
        "-date",
        "_id",
        "-_lastUpdated",
        "-date%2C_id",
        "_lastUpdated%2C-_id",
    ] {
        let mut url = format!("/fhir/Observation?_count=7&_sort={sort}&_unknown=1");
        let mut seen = Vec::new();
        loop {
            let reply = api.get_with(&url, &LENIENT).await;
            assert_eq!(reply.json()["type"], "searchset");
            let own = reply.link("self").unwrap();
            assert!(own.starts_with("https://region.example/fhir/Observation?_count=7&_sort="));
            seen.extend(reply.ids());
            match reply.link("next") {
                Some(next) => {
                    url = next
                        .strip_prefix("https://region.example")
                        .unwrap()
                        .to_owned()
                }
                None => break,
            }
            assert!(seen.len() <= 60);
        }
        let all: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), all.len()), (60, 60), "{sort}");
    }
}

#[tokio::test]
async fn a_search_finds_what_it_asks_for() {
    let api = fixture().await;
    let reading = fixture::observation(4);
    let patient = fixture::patient(1, 1950).id().clone();
    let facility = fixture::source(1).fresh;
    let of_patient = (0..READINGS).filter(|number| number % 6 == 1).count();
    // Of no patient, so that the device is the subject.
    let device = fixture::device(1).id().clone();
    let of_device = (0..READINGS)
        .filter(|number| number % 6 == 5 && number % 4 == 1)
        .count();
    for (query, count) in [
        (format!("_id={}", reading.id()), 1),
        (
            format!("identifier=urn:medmesh:reading%7C{}", reading.id()),
            1,
        ),
        (format!("patient={patient}"), of_patient),
        (format!("patient=Patient/{patient}"), of_patient),
        (format!("subject=Patient/{patient}"), of_patient),
        (format!("subject={patient}"), of_patient),
        (format!("subject=Device/{device}"), of_device),
        (format!("subject={device}"), of_device),
        (
            format!("subject=Device/{device},Patient/{patient}"),
            of_device + of_patient,
        ),
        ("subject=Group/g".into(), 0),
        (
            format!("patient=https%3A%2F%2Fregion.example%2Ffhir%2FPatient%2F{patient}"),
            of_patient,
        ),
        (format!("patient=Patient/{patient}&code=no-such"), 0),
        ("code=http://loinc.org%7C8867-4".into(), 2),
        (format!("_source=urn:medmesh:facility:{facility}"), 60),
        (format!("_source={facility}"), 0),
        (
            "date=ge2023-11-14T22:13:20.123Z&date=lt2023-11-14T22:13:21Z".into(),
            3,
        ),
        ("date=1999".into(), 0),
    ] {
        let reply = api.get(&format!("/fhir/Observation?{query}")).await;
        assert_eq!(reply.ids().len(), count, "{query}: {}", reply.text);
        assert_eq!(reply.json().get("total"), None, "{query}");
        let reply = api
            .get(&format!("/fhir/Observation?{query}&_total=accurate"))
            .await;
        assert_eq!(reply.json()["total"].as_u64(), u64::try_from(count).ok());
        let form = Request::post("/fhir/Observation/_search")
            .header("authorization", "Bearer all")
            .header("content-type", "application/x-www-form-urlencoded");
        let posted = api
            .send(form.body(Body::from(query.clone())).unwrap())
            .await;
        assert_eq!(posted.ids().len(), count, "posted {query}");
    }
    let reply = api.get("/fhir/Observation?_count=0").await;
    assert_eq!(
        (reply.json()["total"].as_u64(), reply.ids().len()),
        (Some(60), 0)
    );
    assert_eq!(reply.json().get("entry"), None, "FHIR has no empty lists");
}

#[tokio::test]
async fn an_unknown_parameter_is_refused_or_reported_as_the_client_prefers() {
    let api = fixture().await;
    let path = "/fhir/Observation?_count=1&colour=red";
    let reply = api.get_with(path, &LENIENT).await;
    let json = reply.json();
    assert_eq!(json["entry"][1]["search"]["mode"], "outcome");
    let text = json["entry"][1]["resource"]["issue"][0]["diagnostics"]
        .as_str()
        .unwrap();
    assert!(text.contains("colour"));
    assert!(!reply.link("self").unwrap().contains("colour"));
    let strict = [
        ("authorization", "Bearer all"),
        ("prefer", "respond-async; handling=strict"),
    ];
    let misspelt = "/fhir/Observation?_count=1&pateint=a";
    for reply in [
        api.get_with(path, &strict).await,
        api.get(path).await,
        api.get(misspelt).await,
    ] {
        assert_eq!(reply.issue(), (400, "not-supported".into()));
    }
    let pretty = api.get("/fhir/Observation?_count=1&_pretty=true").await;
    assert_eq!(pretty.ids().len(), 1);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let api = fixture().await;
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let request = Request::head(path).header("authorization", "Bearer all");
    let reply = api.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((reply.status, reply.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(reply.headers[header::ETAG], "W/\"2\"");
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let api = fixture().await;
    let path = format!("/fhir/Observation/{}", fixture::observation(4).id());
    for (known, status) in [
        ("\"1\"", StatusCode::NOT_MODIFIED),
        ("W/\"999\", W/\"1\"", StatusCode::NOT_MODIFIED),
        ("*", StatusCode::NOT_MODIFIED),
        ("W/\"2\"", StatusCode::OK),
    ] {
        let headers = [("authorization", "Bearer all"), ("if-none-match", known)];
        assert_eq!(
            api.get_with(&path, &headers).await.status,
            status,
            "{known}"
        );
    }
    let statement = api.get_with("/fhir/metadata", &[]).await.json();
    for resource in statement["rest"][0]["resource"].as_array().unwrap() {
        assert_eq!(resource["conditionalRead"], "not-match");
    }
}

#[tokio::test]
async fn the_format_that_the_url_asks_for_overrides_the_header() {
    let api = fixture().await;
    let id = fixture::observation(4).id().clone();
    for path in [
        format!("/fhir/Observation/{id}?"),
        "/fhir/Observation?_count=1&".into(),
        "/fhir/metadata?".into(),
    ] {
        for (accept, format, status) in [
            ("application/fhir+xml", "json", StatusCode::OK),
            ("text/html", "application/fhir%2Bjson", StatusCode::OK),
            ("application/fhir+json", "xml", StatusCode::NOT_ACCEPTABLE),
        ] {
            let headers = [("authorization", "Bearer all"), ("accept", accept)];
            let reply = api
                .get_with(&format!("{path}_format={format}"), &headers)
                .await;
            assert_eq!(reply.status, status, "{path} {format}");
        }
        for (accept, status) in [
            ("", StatusCode::OK),
            ("application/fhir+json;q=0", StatusCode::NOT_ACCEPTABLE),
            ("application/fhir+xml", StatusCode::NOT_ACCEPTABLE),
        ] {
            let headers = [("authorization", "Bearer all"), ("accept", accept)];
            let reply = api.get_with(&path, &headers).await;
            assert_eq!(reply.status, status, "{path} {accept}");
        }
    }
}

#[tokio::test]
async fn a_post_without_a_body_is_a_search_by_its_url() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let path = format!("/fhir/Observation/_search?patient={patient}&_count=1000");
    let request = Request::post(&path).header("authorization", "Bearer all");
    let posted = api.send(request.body(Body::empty()).unwrap()).await;
    let got = api
        .get(&format!("/fhir/Observation?patient={patient}&_count=1000"))
        .await;
    assert_eq!((posted.status, posted.ids()), (StatusCode::OK, got.ids()));
    for (path, status) in [("/fhir/", 401), ("/fhir", 401)] {
        let request = Request::post(path).body(Body::empty());
        assert_eq!(api.send(request.unwrap()).await.issue().0, status, "{path}");
    }
}

#[tokio::test]
async fn a_filter_of_fhir_that_is_not_offered_is_not_ignored_unless_the_client_wants_that() {
    let api = fixture().await;
    for query in [
        "_text=x",
        "_content=heart",
        "_filter=x",
        "colour=red",
        "code:in=http://hl7.org/fhir/ValueSet/x",
        "patient.colour=red",
    ] {
        let path = format!("/fhir/Observation?{query}");
        assert_eq!(
            api.get(&path).await.issue(),
            (400, "not-supported".into()),
            "{query}"
        );
        let lenient = [
            ("authorization", "Bearer all"),
            ("prefer", "handling=lenient"),
        ];
        let reply = api.get_with(&path, &lenient).await;
        assert_eq!(reply.status, StatusCode::OK, "{query}");
        assert!(reply.text.contains("ignored search parameters"), "{query}");
    }
    let other = api
        .get("/fhir/Observation?patient=https://elsewhere.example/fhir/Patient/a")
        .await;
    assert_eq!(other.issue(), (400, "value".into()));
}
