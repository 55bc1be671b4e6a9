//! Tests of imports: each line is judged as a PUT of it would be, told by its number where it is not stored, and stored
//! once however often the job is cut off.
use super::bulk_tests::{ALL, ASYNC, Exporting, place_of};
use super::finding_tests::finding;
use super::*;
use serde_json::json;

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// A line that is a finding in that year.
fn line(number: u32, year: u32) -> String {
    let mut finding = finding(year, None);
    finding["id"] = id(number).into();
    finding.to_string()
}

async fn send(api: &Exporting, kind: &str, token: &str, body: String) -> Reply {
    let request = Request::post("/fhir/$import")
        .header("content-type", kind)
        .header("authorization", token)
        .header(ASYNC.0, ASYNC.1);
    api.fixture
        .send(request.body(Body::from(body)).unwrap())
        .await
}

async fn begin(api: &Exporting, lines: &[String]) -> String {
    let body = lines.join("\n");
    let reply = send(api, "application/fhir+ndjson", ALL.1, body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    place_of(&reply)
}

/// The versions of finding `number`.
async fn versions(api: &Exporting, number: u32) -> usize {
    let path = format!("/fhir/Condition/{}/_history", id(number));
    let reply = api.fixture.get(&path).await;
    let json = reply.json();
    json["entry"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn good_lines_are_stored_and_each_bad_one_is_told_by_its_number() {
    let api = Exporting::new(false).await;
    let patient = fixture::patient(1, 1950).id().to_string();
    let named =
        json!({"resourceType": "Condition", "id": id(7), "subject": {"display": "Jane Roe"}});
    let lines = [
        line(1, 2001),
        "{\"resourceType\":\"Condition\"".to_owned(),
        String::new(),
        line(2, 2002),
        json!({"resourceType": "Patient", "id": patient}).to_string(),
        json!({"resourceType": "Nonsense", "id": id(9)}).to_string(),
        line(3, 2003).replace(&id(3), "my-own-id"),
        named.to_string(),
        json!({"resourceType": "Condition", "id": id(8), "colour": "red"}).to_string(),
        format!("\"{}\"", "a".repeat(40_000)),
        line(1, 2004),
        line(4, 2005),
    ];
    let job = begin(&api, &lines).await;
    let manifest = api.manifest(&job, ALL).await;
    assert_eq!(manifest["extension"], json!({"lines": 12, "stored": 4}));
    assert_eq!(manifest["output"], json!([]));
    let told = api.lines(&manifest, "error", ALL).await;
    let issue = |one: &Value| {
        let issue = &one["issue"][0];
        let text = issue["diagnostics"].as_str().unwrap().to_owned();
        let number = text.split(' ').nth(2).unwrap().trim_end_matches(':');
        (
            number.parse().unwrap(),
            issue["code"].as_str().unwrap().to_owned(),
        )
    };
    let mut found: Vec<(u32, String)> = told["OperationOutcome"].iter().map(issue).collect();
    found.sort();
    let expected = [
        (2, "invalid"),
        (5, "forbidden"),
        (6, "invalid"),
        (7, "business-rule"),
        (8, "business-rule"),
        (9, "structure"),
        (10, "invalid"),
    ];
    assert_eq!(
        found,
        expected.map(|(number, code)| (number, code.to_owned()))
    );
    let texts = told["OperationOutcome"].iter().map(Value::to_string);
    assert!(
        texts
            .clone()
            .any(|text| text.contains("Condition.subject.display"))
    );
    assert!(texts.clone().all(|text| !text.contains("Jane Roe")));
    // The line that came later counts, and the one before is a version.
    for (number, year, count) in [(1, "2004", 2), (2, "2002", 1), (4, "2005", 1)] {
        let reply = api
            .fixture
            .get(&format!("/fhir/Condition/{}", id(number)))
            .await;
        assert_eq!(reply.json()["recordedDate"], year);
        assert_eq!(versions(&api, number).await, count);
    }
    let rows = api.fixture.log.take();
    let written = rows.iter().filter(|row| row.parameters == ["$import"]);
    assert_eq!(written.map(|row| row.resources).sum::<u32>(), 4);
}

#[tokio::test]
async fn of_two_lines_of_one_resource_that_follow_each_other_the_later_counts() {
    let api = Exporting::new(false).await;
    let lines = [line(1, 2001), line(1, 2002), "{".into(), line(2, 2003)];
    let job = begin(&api, &lines).await;
    let manifest = api.manifest(&job, ALL).await;
    assert_eq!(manifest["extension"], json!({"lines": 4, "stored": 3}));
    let told = api.lines(&manifest, "error", ALL).await;
    let said = &told["OperationOutcome"][0]["issue"][0]["diagnostics"];
    assert!(said.as_str().unwrap().contains(" 3:"), "{said}");
    let path = format!("/fhir/Condition/{}", id(1));
    let reply = api.fixture.get(&path).await.json();
    assert_eq!(reply["recordedDate"], "2002");
    assert_eq!(versions(&api, 1).await, 2);
    assert_eq!(versions(&api, 2).await, 1);
}

#[tokio::test]
async fn an_import_that_is_cut_off_anywhere_stores_each_line_once() {
    let mut api = Exporting::new(false).await;
    let lines: Vec<String> = (0..40).map(|n| line(n, 2001 + n % 5)).collect();
    // A file of an operator, whose end another program may go on writing at.
    let folder = api.fixture.dir.path().join("import");
    std::fs::write(folder.join("findings.ndjson"), lines.join("\n")).unwrap();
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "input", "valueString": "findings.ndjson"},
        {"name": "input", "valueString": "findings.ndjson"},
    ]});
    let reply = send(&api, FHIR_JSON, ALL.1, parameters.to_string()).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let job = place_of(&reply);
    let journal = api.fixture.dir.path().join("bulk");
    let journal = journal
        .join(job.rsplit('/').next().unwrap())
        .join("done.json");
    let mut turns = 0;
    loop {
        let before = std::fs::read(&journal).unwrap();
        let bulk = api.api.bulk.clone().unwrap();
        if !bulk.turn_once(&api.api).await {
            break;
        }
        turns += 1;
        // Every other turn is done and never written down.
        if turns % 2 == 1 {
            std::fs::write(&journal, before).unwrap();
        }
        api.restart();
    }
    assert!(turns > 8, "{turns}");
    let manifest = api.manifest(&job, ALL).await;
    assert_eq!(manifest["error"], json!([]));
    assert_eq!(manifest["extension"], json!({"lines": 80, "stored": 80}));
    for number in 0..40 {
        assert_eq!(versions(&api, number).await, 1, "{number}");
    }
}

#[tokio::test]
async fn an_import_is_an_operators_and_of_what_their_token_lets_them_update() {
    let api = Exporting::new(false).await;
    let ndjson = "application/fhir+ndjson";
    for (token, kind, body, expected) in [
        ("Bearer other", ndjson, line(1, 2001), (403, "forbidden")),
        ("Basic x", ndjson, line(1, 2001), (401, "login")),
        (
            "Bearer all",
            "text/csv",
            line(1, 2001),
            (415, "not-supported"),
        ),
        ("Bearer all", FHIR_JSON, line(1, 2001), (400, "invalid")),
        (
            "Bearer all",
            FHIR_JSON,
            json!({"resourceType": "Parameters"}).to_string(),
            (400, "invalid"),
        ),
    ] {
        let reply = send(&api, kind, token, body).await;
        let (status, code) = expected;
        assert_eq!(reply.issue(), (status, code.to_owned()), "{token} {kind}");
    }
    for name in [
        "../fhir.db",
        "nothing",
        ".hidden",
        "/etc/passwd",
        "http://x/y",
    ] {
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "input", "valueString": name},
        ]});
        let reply = send(&api, FHIR_JSON, ALL.1, parameters.to_string()).await;
        assert_eq!(reply.issue(), (400, "invalid".into()), "{name}");
    }
    let request = Request::post("/fhir/$import").header(ALL.0, ALL.1);
    let request = request.header("content-type", ndjson);
    let reply = api
        .fixture
        .send(request.body(Body::from(line(1, 2001))).unwrap())
        .await;
    assert_eq!(reply.issue(), (400, "invalid".into()));
    // A token over some findings alone; of what another one hides nothing is changed.
    let hidden = line(5, 2005).replace("38341003", "44054006");
    let job = begin(&api, std::slice::from_ref(&hidden)).await;
    api.manifest(&job, ALL).await;
    let narrow = "Bearer only:Condition?code=38341003";
    let body = [
        line(1, 2001),
        line(2, 2002).replace("38341003", "44054006"),
        line(5, 2006),
        json!({"resourceType": "Basic", "id": id(6), "code": {"coding": []}}).to_string(),
    ];
    let reply = send(&api, ndjson, narrow, body.join("\n")).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text);
    let (job, token) = (place_of(&reply), ("authorization", narrow));
    let manifest = api.manifest(&job, token).await;
    assert_eq!(manifest["extension"], json!({"lines": 4, "stored": 1}));
    let reply = api.fixture.get(&format!("/fhir/Condition/{}", id(5))).await;
    assert_eq!(reply.json()["recordedDate"], "2005");
}

#[tokio::test]
async fn lines_that_came_to_one_node_are_stored_by_the_other() {
    let mut api = Exporting::new(false).await;
    let chunks: Arc<dyn storage::chunks::Chunks> =
        Arc::new(storage::chunks::memory::Memory::default());
    api.start_at("a", Some(chunks.clone()));
    let lines: Vec<String> = (1..30).map(|number| line(number, 2001)).collect();
    let job = begin(&api, &lines).await;
    assert!(api.api.bulk.clone().unwrap().turn_once(&api.api).await);
    api.start_at("b", Some(chunks));
    let manifest = api.manifest(&job, ALL).await;
    assert_eq!(manifest["extension"], json!({"lines": 29, "stored": 29}));
    for number in 1..30 {
        assert_eq!(versions(&api, number).await, 1);
    }
}
