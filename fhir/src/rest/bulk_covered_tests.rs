//! Tests of exports: whose they are, what a token covers of them, and what is refused.
use super::*;

#[tokio::test]
async fn every_refusal_of_an_export_is_an_operation_outcome() {
    let api = Exporting::new(false).await;
    for (path, code) in [
        ("/fhir/$export?_type=Nonsense", "not-supported"),
        ("/fhir/Patient/$export?_type=Device", "not-supported"),
        ("/fhir/$export?colour=red", "not-supported"),
        ("/fhir/$export?_elements=id", "not-supported"),
        ("/fhir/$export?_outputFormat=text/csv", "not-supported"),
        ("/fhir/$export?_since=yesterday", "value"),
        ("/fhir/$export?_since=1970-01-01", "value"),
        // Of the calendar, and beyond what there is: what would be exported is nothing.
        ("/fhir/$export?_since=2020-01-01T00:00:00Z", "value"),
        ("/fhir/$export?_since=1970-01-02T00:00:00Z", "value"),
        ("/fhir/$export?_typeFilter=Nonsense%3Fcode=1", "value"),
        (
            "/fhir/$export?_typeFilter=Condition%3Fcolour=1",
            "not-supported",
        ),
        (
            "/fhir/$export?_typeFilter=Condition%3Fsubject.gender=male",
            "value",
        ),
        (
            "/fhir/$export?_type=Device&_typeFilter=Condition%3Fcode=1",
            "value",
        ),
    ] {
        let reply = api.fixture.get_with(path, &[ALL, ASYNC]).await;
        assert_eq!(reply.issue(), (400, code.to_owned()), "{path}");
    }
    let reply = api.fixture.get("/fhir/$export").await;
    assert_eq!(reply.issue(), (400, "invalid".into()));
    let reply = api.fixture.get_with("/fhir/$export", &[ASYNC]).await;
    assert_eq!(reply.issue(), (401, "login".into()));
    let patients = [("authorization", "Bearer patients"), ASYNC];
    for path in ["/fhir/$export", "/fhir/Group/x/$export"] {
        let reply = api.fixture.get_with(path, &patients).await;
        assert_eq!(reply.issue(), (403, "forbidden".into()), "{path}");
    }
    let reply = api
        .fixture
        .get_with("/fhir/Group/x/$export", &[ALL, ASYNC])
        .await;
    assert_eq!(reply.issue(), (404, "not-found".into()));
    let xml = [ALL, ASYNC, ("accept", "application/fhir+xml")];
    let reply = api.fixture.get_with("/fhir/$export", &xml).await;
    assert_eq!(reply.issue(), (406, "not-supported".into()));
    for (method, path) in [
        (Method::HEAD, "/fhir/$export"),
        (Method::PUT, "/fhir/$export"),
        (Method::DELETE, "/fhir/Patient/$export"),
        (Method::POST, "/fhir/bulk/x"),
    ] {
        let request = Request::builder().method(&method).uri(path);
        let request = request.header(ALL.0, ALL.1).header(ASYNC.0, ASYNC.1);
        let reply = api.fixture.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(
            reply.status,
            StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path}"
        );
    }
    // None of them left a job behind; and who is lenient is told what was dropped.
    let left = std::fs::read_dir(api.fixture.dir.path().join("bulk")).unwrap();
    assert_eq!(left.count(), 0);
    let lenient = [ALL, ("prefer", "respond-async, handling=lenient")];
    let path = "/fhir/$export?_type=Device,Nonsense&colour=red&_outputFormat=ndjson";
    let job = api.begin(path, &lenient).await;
    let manifest = api.manifest(&job, ALL).await;
    let told = api.lines(&manifest, "error", ALL).await;
    assert_eq!(counts(&told), [("OperationOutcome", 2)]);
    let output = api.lines(&manifest, "output", ALL).await;
    assert_eq!(counts(&output), [("Device", 1)]);
}

#[tokio::test]
async fn an_export_holds_what_the_token_covers_and_a_narrower_token_is_shown_none_of_it() {
    let api = Exporting::new(false).await;
    let mut other = finding(2001, None);
    other["code"]["coding"][0]["code"] = "44054006".into();
    let hidden = api.fixture.create(&other).await;
    let shown = api.fixture.create(&finding(2002, None)).await;
    let token = |scopes: &str| format!("Bearer only:{scopes}");
    let narrow = token("Condition?code=38341003;Patient");
    let narrow = ("authorization", narrow.as_str());
    let job = api.begin("/fhir/$export", &[narrow, ASYNC]).await;
    // What is hidden is hidden as it was, and as it was deleted.
    let reply = api
        .fixture
        .write(Method::DELETE, &format!("/fhir/{hidden}"), &[], "")
        .await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    let manifest = api.manifest(&job, narrow).await;
    let lines = api.lines(&manifest, "output", narrow).await;
    assert_eq!(counts(&lines), [("Condition", 1), ("Patient", 1)]);
    assert_eq!(
        shown,
        format!(
            "Condition/{}",
            lines["Condition"][0]["id"].as_str().unwrap()
        )
    );
    let path = "/fhir/$export?_since=1970-01-01T00:00:00Z&_type=Condition";
    let job = api.begin(path, &[narrow, ASYNC]).await;
    assert_eq!(api.manifest(&job, narrow).await["deleted"], json!([]));
    let refused = api
        .fixture
        .get_with("/fhir/$export?_type=Device", &[narrow, ASYNC])
        .await;
    assert_eq!(refused.issue(), (403, "forbidden".into()));
    // The same client with another token.
    let file = |manifest: &Value, kind: &str| {
        let files = manifest["output"].as_array().unwrap().clone();
        let file = files.into_iter().find(|file| file["type"] == kind).unwrap();
        let url = file["url"].as_str().unwrap();
        url.strip_prefix("https://region.example")
            .unwrap()
            .to_owned()
    };
    let path = file(&manifest, "Condition");
    for (scopes, status) in [
        ("Condition", 200),
        ("Condition?code=38341003", 200),
        ("Condition?code=38341003&recorded-date=2002", 403),
        ("Condition?code=44054006", 403),
        ("Patient", 403),
    ] {
        let token = token(scopes);
        let reply = api
            .fixture
            .get_with(&path, &[("authorization", &token)])
            .await;
        assert_eq!(reply.status.as_u16(), status, "{scopes}");
    }
}

#[tokio::test]
async fn an_export_of_patients_or_of_a_group_holds_their_compartments() {
    let api = Exporting::new(false).await;
    deliver(
        &api,
        5,
        vec![fixture::patient(2, 1970), fixture::patient(3, 1970)],
    )
    .await;
    let of = |number: u32| format!("Patient/{}", fixture::patient(number, 1950).id());
    for number in 1..4_u32 {
        let mut own = finding(2000 + number, None);
        own["subject"]["reference"] = of(number).into();
        api.fixture.create(&own).await;
    }
    let nobodys = json!({"resourceType": "Location", "status": "active"});
    api.fixture.create(&nobodys).await;
    let patients = api.output("/fhir/Patient/$export").await;
    let of_nobody = (0..READINGS).filter(|number| number % 6 == 5).count();
    let readings = 60 - of_nobody;
    let expected = [("Condition", 3), ("Observation", readings), ("Patient", 3)];
    assert_eq!(counts(&patients), expected);
    let group = |members: &[(String, bool)]| {
        let member = |(reference, inactive): &(String, bool)| json!({"entity": {"reference": reference}, "inactive": inactive});
        let members: Vec<Value> = members.iter().map(member).collect();
        json!({"resourceType": "Group", "type": "person", "actual": true, "member": members})
    };
    let inner = api
        .fixture
        .create(&group(&[(of(2), false), (of(3), true)]))
        .await;
    let outer = api
        .fixture
        .create(&group(&[(of(1), false), (inner.clone(), false)]))
        .await;
    for (reference, members) in [(&outer, vec![1, 2]), (&inner, vec![2])] {
        let path = format!("/fhir/{reference}/$export?_type=Condition,Observation,Patient");
        let lines = api.output(&path).await;
        let subjects: BTreeSet<String> = lines["Condition"]
            .iter()
            .chain(&lines["Observation"])
            .map(|one| one["subject"]["reference"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(subjects, members.iter().map(|number| of(*number)).collect());
        let readings = 10 * members.len();
        let expected = [
            ("Condition", members.len()),
            ("Observation", readings),
            ("Patient", members.len()),
        ];
        assert_eq!(counts(&lines), expected);
    }
    // What of a type is asked for, by Parameters; nobody's is not of a patient.
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "_type", "valueString": "Condition,Patient"},
        {"name": "_typeFilter", "valueString": "Condition?recorded-date=2002,Patient?birthdate=1970"},
        {"name": "_outputFormat", "valueString": "application/fhir+ndjson"},
    ]});
    let reply = api
        .fixture
        .write(
            Method::POST,
            "/fhir/Patient/$export",
            &[ASYNC],
            &parameters.to_string(),
        )
        .await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let manifest = api.manifest(&place_of(&reply), ALL).await;
    let lines = api.lines(&manifest, "output", ALL).await;
    assert_eq!(counts(&lines), [("Condition", 1), ("Patient", 2)]);
}

#[tokio::test]
async fn a_client_has_so_many_jobs_and_what_can_not_be_done_ends_with_its_reason() {
    let mut api = Exporting::new(true).await;
    let mut jobs = Vec::new();
    for _ in 0..MAX_JOBS_OF_CLIENT {
        jobs.push(api.begin("/fhir/$export?_type=Device", &[ALL, ASYNC]).await);
    }
    let reply = api.fixture.get_with("/fhir/$export", &[ALL, ASYNC]).await;
    assert_eq!(reply.issue(), (429, "throttled".into()));
    let other = [("authorization", "Bearer other"), ASYNC];
    api.begin("/fhir/$export?_type=Device", &other).await;
    let ended = api.ended(&jobs[0], ALL).await;
    assert_eq!(ended.status, StatusCode::OK);
    // The region may not tell true times any more: neither what was not made yet, nor what was.
    let undone = api.begin("/fhir/$export?_type=Device", &other).await;
    api.api.true_times = Arc::new(|| false);
    api.restart();
    for (job, token) in [(&jobs[0], ALL), (&undone, other[0])] {
        let reply = api.ended(job, token).await;
        assert_eq!(reply.issue(), (500, "exception".into()));
        let file = api
            .fixture
            .get_with(&format!("{job}/Device.0.ndjson"), &[token])
            .await;
        assert_eq!(file.status, StatusCode::NOT_FOUND);
    }
    // What was kept long enough is collected, and makes room.
    let begun = (api.api.now)();
    api.api.now = Arc::new(move || begun.plus_ms(bulk::KEEP_MS + 1));
    api.restart();
    let job = api.api.bulk.clone().unwrap();
    job.collect((api.api.now)()).await;
    assert_eq!(
        api.fixture.get(&jobs[0]).await.status,
        StatusCode::NOT_FOUND
    );
    api.begin("/fhir/$export?_type=Device", &[ALL, ASYNC]).await;
}
