//! Tests of `$validate`, request by request.
use super::*;
use serde_json::json;

impl Fixture {
    async fn validate(&self, path: &str, body: impl Into<Body>) -> Reply {
        let request = Request::post(path)
            .header("authorization", "Bearer patients")
            .header("content-type", "application/fhir+json");
        self.send(request.body(body.into()).unwrap()).await
    }
}

#[tokio::test]
async fn a_resource_of_any_type_is_judged_and_each_fault_points_at_its_element() {
    let api = fixture().await;
    let good = r#"{"resourceType":"Goal","lifecycleStatus":"active","description":{"text":"a"},"subject":{"reference":"Patient/a"}}"#;
    for path in [
        "/fhir/Goal/$validate",
        "/fhir/Goal/%24validate?_format=json",
        "/fhir/$validate",
        "/fhir/%24validate?mode=profile",
    ] {
        let reply = api.validate(path, good).await;
        assert_eq!(reply.issue(), (200, "informational".into()), "{path}");
    }
    let bad = good.replace("active", "gone").replace("text", "words");
    let wrapped = json!({"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": serde_json::from_str::<Value>(&bad).unwrap()},
    ]});
    let bodies = [bad, wrapped.to_string()];
    let paths = ["/fhir/Goal/$validate", "/fhir/$validate"];
    let asked = paths
        .iter()
        .flat_map(|path| bodies.iter().map(move |body| (*path, body.clone())));
    for (path, body) in asked {
        let reply = api.validate(path, body).await;
        assert_eq!(reply.status, StatusCode::OK);
        let issues = reply.json()["issue"].as_array().unwrap().clone();
        let told: Vec<_> = issues
            .iter()
            .map(|issue| {
                (
                    issue["code"].as_str().unwrap(),
                    issue["expression"][0].as_str().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("code-invalid", "Goal.lifecycleStatus"),
            ("structure", "Goal.description"),
        ];
        assert_eq!(told, expected);
    }
    let other = api.validate("/fhir/Patient/$validate", good).await;
    assert_eq!(other.issue(), (200, "structure".into()));
}

#[tokio::test]
async fn what_cannot_be_judged_is_refused_with_an_outcome() {
    let api = fixture().await;
    let profile =
        r#"{"resourceType":"Parameters","parameter":[{"name":"profile","valueUri":"u"}]}"#;
    for (path, body, expected) in [
        ("/fhir/Goal/$validate", "{", (400, "invalid")),
        ("/fhir/Goal/$validate", "", (400, "invalid")),
        ("/fhir/Goal/$validate", profile, (400, "invalid")),
        (
            "/fhir/Goal/$validate?profile=u",
            "{}",
            (400, "not-supported"),
        ),
        (
            "/fhir/Goal/$validate?_format=xml",
            "{}",
            (406, "not-supported"),
        ),
        ("/fhir/Colour/$validate", "{}", (404, "not-supported")),
    ] {
        let reply = api.validate(path, body).await;
        assert_eq!(
            reply.issue(),
            (expected.0, expected.1.to_owned()),
            "{path} {body}"
        );
    }
    let not_utf8 = api
        .validate("/fhir/Goal/$validate", vec![b'"', 0xff, b'"'])
        .await;
    assert_eq!(not_utf8.issue(), (400, "invalid".into()));
    let long = format!(
        "\"{}\"",
        "a".repeat(crate::rest::routes::MAX_RESOURCE_BYTES)
    );
    let too_long = api.validate("/fhir/Goal/$validate", long).await;
    assert_eq!(too_long.issue(), (413, "too-long".into()));
    let request = Request::post("/fhir/Goal/$validate").header("authorization", "Bearer all");
    let bare = api.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(bare.issue(), (415, "not-supported".into()));
    let request = Request::post("/fhir/Goal/$validate").header("content-type", "application/json");
    let stranger = api.send(request.body(Body::from("{}")).unwrap()).await;
    assert_eq!(stranger.issue(), (401, "login".into()));
    assert_eq!(api.get("/fhir/Goal/$validate").await.issue().0, 405);
}

const OWN: &str = "http://hl7.org/fhir/StructureDefinition/Condition";

fn wrapped(mode: &str, resource: &Value) -> Value {
    json!({"resourceType": "Parameters", "parameter": [
        {"name": "mode", "valueCode": mode},
        {"name": "profile", "valueCanonical": OWN},
        {"name": "resource", "resource": resource},
    ]})
}

fn with_id(resource: &Value, id: &str) -> Value {
    let mut resource = resource.clone();
    resource["id"] = id.into();
    resource
}

type Case = (String, Value, (u16, &'static str));

/// Of creates and of what is asked: path, body, and status and code of the answer.
fn of_types() -> Vec<Case> {
    let plain = finding_tests::finding(2002, None);
    let mut named = plain.clone();
    named["note"] = json!([{"text": "Ada Lovelace"}]);
    let reading = json!({"resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}});
    let good = (200, "informational");
    let cases = [
        ("Condition/$validate?mode=create", plain.clone(), good),
        ("Condition/$validate", wrapped("create", &plain), good),
        ("Condition/$validate", named.clone(), good),
        ("Condition/$validate?mode=profile", named.clone(), good),
        (
            "Condition/$validate?mode=create",
            named.clone(),
            (200, "business-rule"),
        ),
        (
            "Condition/$validate",
            wrapped("update", &named),
            (200, "invalid"),
        ),
        // Ids that a client may not choose here.
        (
            "Condition/$validate?mode=update",
            with_id(&plain, "lovelace"),
            (200, "business-rule"),
        ),
        (
            "Condition/$validate?mode=update",
            with_id(&plain, "11111111-2222-4333-8444-555555555555"),
            good,
        ),
        ("Condition/$validate?mode=delete", json!({}), (400, "value")),
        (
            "Condition/$validate?mode=purge",
            plain.clone(),
            (400, "value"),
        ),
        (
            "Condition/$validate?profile=http://example.org/p",
            plain.clone(),
            (400, "not-supported"),
        ),
        ("Observation/$validate?mode=create", reading, good),
    ];
    let mut all: Vec<Case> = cases
        .into_iter()
        .map(|(path, body, told)| (path.to_owned(), body, told))
        .collect();
    let versioned = format!("Condition/$validate?profile={OWN}%7C4.0.1");
    all.push((versioned, plain, good));
    all
}

/// Of updates and deletions.
fn of_one(reference: &str, stored: &Value) -> Vec<Case> {
    let plain = finding_tests::finding(2002, None);
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let unused = "Condition/11111111-2222-4333-8444-555555555555";
    let good = (200, "informational");
    let deletes = |of: &str| format!("{of}/$validate?mode=delete");
    vec![
        (
            format!("{reference}/$validate"),
            wrapped("update", stored),
            good,
        ),
        (
            format!("{reference}/$validate?mode=update"),
            plain,
            (200, "invalid"),
        ),
        (deletes(reference), json!({}), good),
        (deletes(&patient), json!({}), (200, "forbidden")),
        (deletes(unused), json!({}), (404, "not-found")),
    ]
}

#[tokio::test]
async fn with_a_mode_it_is_judged_as_the_write_would_be_and_nothing_is_written() {
    let api = fixture().await;
    let reference = api.create(&finding_tests::finding(2001, None)).await;
    let stored = api.get(&format!("/fhir/{reference}")).await.json();
    let all = of_types().into_iter().chain(of_one(&reference, &stored));
    for (path, body, expected) in all {
        let request = Request::post(format!("/fhir/{path}")).header("authorization", "Bearer all");
        let request = request.header("content-type", FHIR_JSON);
        let request = request.body(Body::from(body.to_string()));
        let reply = api.send(request.unwrap()).await;
        assert_eq!(
            reply.issue(),
            (expected.0, expected.1.to_owned()),
            "{path}: {}",
            reply.text
        );
        assert!(!reply.text.contains("Ada"), "no value is repeated");
    }
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 1);
    let read = api.get(&format!("/fhir/{reference}")).await;
    assert_eq!(read.headers[header::ETAG], "W/\"1\"");
}

#[tokio::test]
async fn an_entry_of_a_batch_is_judged_at_the_base_too() {
    let api = fixture().await;
    let ask = |status: &str| {
        let goal = json!({
            "resourceType": "Goal", "lifecycleStatus": status, "description": {"text": "a"},
            "subject": {"reference": "Patient/a"},
        });
        json!({"resource": goal, "request": {"method": "POST", "url": "$validate"}})
    };
    let entries = json!([ask("active"), ask("gone")]);
    let reply = api.bundle("batch", &entries).await.json();
    for (at, code) in [(0, "informational"), (1, "code-invalid")] {
        let entry = &reply["entry"][at];
        assert_eq!(entry["response"]["status"], "200 OK", "{reply}");
        assert_eq!(entry["resource"]["issue"][0]["code"], code, "{reply}");
    }
}
