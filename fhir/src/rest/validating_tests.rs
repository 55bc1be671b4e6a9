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
    ] {
        let reply = api.validate(path, good).await;
        assert_eq!(reply.issue(), (200, "informational".into()), "{path}");
    }
    let bad = good.replace("active", "gone").replace("text", "words");
    let wrapped = json!({"resourceType": "Parameters", "parameter": [
        {"name": "resource", "resource": serde_json::from_str::<Value>(&bad).unwrap()},
    ]});
    for body in [bad, wrapped.to_string()] {
        let reply = api.validate("/fhir/Goal/$validate", body).await;
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
    let long = format!("\"{}\"", "a".repeat(128 * 1024));
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
