//! Tests of conditional writes and of patches.
use super::finding_tests::{finding, identifier};
use super::*;
use futures_util::future::join_all;
use serde_json::json;

/// Clients that create by one condition at once.
const CLIENTS: usize = 64;

fn condition_of(year: u32) -> String {
    format!("identifier=urn:ietf:rfc:3986%7C{}", identifier(year))
}

#[tokio::test]
async fn of_many_clients_that_create_by_one_condition_one_creates_and_the_others_are_given_that() {
    let api = fixture().await;
    for year in 2001..2004 {
        let body = finding(year, None).to_string();
        let condition = condition_of(year);
        let headers = [("if-none-exist", condition.as_str())];
        let all = (0..CLIENTS).map(|_| api.write(Method::POST, "/fhir/Condition", &headers, &body));
        let replies = join_all(all).await;
        let created = replies
            .iter()
            .filter(|reply| reply.status == StatusCode::CREATED);
        assert_eq!(created.count(), 1);
        let mut ids = std::collections::BTreeSet::new();
        for reply in &replies {
            assert!(reply.status.is_success(), "{}", reply.text);
            assert!(reply.headers.contains_key(header::LOCATION));
            ids.insert(reply.json()["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids.len(), 1);
    }
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 3);
}

#[tokio::test]
async fn a_condition_that_finds_several_or_says_nothing_writes_nothing() {
    let api = fixture().await;
    let body = finding(2001, None);
    for _ in 0..2 {
        api.create(&body).await;
    }
    let text = body.to_string();
    let twice = condition_of(2001);
    for (condition, status) in [
        (twice.as_str(), 412),
        ("", 412),
        ("_format=json", 412),
        ("colour=red", 400),
        ("_count=1", 400),
    ] {
        let headers = [("if-none-exist", condition)];
        let reply = api
            .write(Method::POST, "/fhir/Condition", &headers, &text)
            .await;
        assert_eq!(reply.issue().0, status, "{condition}: {}", reply.text);
        let path = format!("/fhir/Condition?{condition}");
        for method in [Method::PUT, Method::DELETE] {
            let body = if method == Method::PUT {
                text.as_str()
            } else {
                ""
            };
            let reply = api.write(method.clone(), &path, &[], body).await;
            assert_eq!(
                reply.issue().0,
                status,
                "{method} {condition}: {}",
                reply.text
            );
        }
    }
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 2);
}

#[tokio::test]
async fn what_a_condition_finds_is_updated_patched_and_deleted() {
    let api = fixture().await;
    let path = format!("/fhir/Condition?{}", condition_of(2001));
    let mut body = finding(2001, None);
    let made = api.write(Method::PUT, &path, &[], &body.to_string()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let id = made.json()["id"].as_str().unwrap().to_owned();
    body["recordedDate"] = json!("2002");
    let updated = api.write(Method::PUT, &path, &[], &body.to_string()).await;
    assert_eq!(
        (updated.status, &updated.json()["id"]),
        (StatusCode::OK, &json!(id))
    );
    assert_eq!(updated.headers[header::ETAG], "W/\"2\"");
    let stale = [("if-match", "W/\"1\"")];
    let reply = api
        .write(Method::PUT, &path, &stale, &body.to_string())
        .await;
    assert_eq!(reply.issue().0, 412);
    // Any version will do, and nothing will not (RFC 9110 §13.1.1).
    let some = [("if-match", "*")];
    let reply = api
        .write(Method::PUT, &path, &some, &body.to_string())
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let mut other = finding(2002, None);
    other["id"] = json!("11111111-2222-4333-8444-555555555555");
    for path in [
        "/fhir/Condition/11111111-2222-4333-8444-555555555555".to_owned(),
        format!("/fhir/Condition?{}", condition_of(2002)),
    ] {
        let reply = api
            .write(Method::PUT, &path, &some, &other.to_string())
            .await;
        assert_eq!(reply.issue().0, 412, "{path}");
    }
    body["id"] = json!("11111111-2222-4333-8444-555555555555");
    let reply = api.write(Method::PUT, &path, &[], &body.to_string()).await;
    assert_eq!(reply.issue().0, 400);
    let patch = r#"[{"op": "replace", "path": "/recordedDate", "value": "2003"}]"#;
    let reply = api.patch(&path, "application/json-patch+json", patch).await;
    assert_eq!(
        (reply.status, &reply.json()["recordedDate"]),
        (StatusCode::OK, &json!("2003"))
    );
    let reply = api.write(Method::DELETE, &path, &[], "").await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert_eq!(
        api.get(&format!("/fhir/Condition/{id}")).await.issue().0,
        410
    );
    // As of a resource that is not there (FHIR R4 http.html#cdelete, no matches or one match).
    let again = api.write(Method::DELETE, &path, &[], "").await;
    assert_eq!(
        (again.status, again.text.as_str()),
        (StatusCode::NO_CONTENT, "")
    );
    let stale = [("if-match", "W/\"1\"")];
    let reply = api.write(Method::DELETE, &path, &stale, "").await;
    assert_eq!(reply.issue().0, 412);
    assert_eq!(
        api.patch(&path, "application/json-patch+json", patch)
            .await
            .issue()
            .0,
        404
    );
}

impl Fixture {
    pub async fn patch(&self, path: &str, kind: &str, body: &str) -> Reply {
        let request = Request::patch(path).header("authorization", "Bearer all");
        let request = request.header("content-type", kind);
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }
}

#[tokio::test]
async fn a_patch_is_judged_as_an_update_is_and_applied_to_the_version_that_is_there() {
    let api = fixture().await;
    let path = format!("/fhir/{}", api.create(&finding(2001, None)).await);
    let fhirpath = json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Condition.recordedDate"},
        {"name": "value", "valueDateTime": "2005"},
    ]}]});
    let reply = api.patch(&path, FHIR_JSON, &fhirpath.to_string()).await;
    assert_eq!(
        (reply.status, &reply.json()["recordedDate"]),
        (StatusCode::OK, &json!("2005"))
    );
    assert_eq!(reply.headers[header::ETAG], "W/\"2\"");
    let json_patch = "application/json-patch+json";
    for (kind, patch, status) in [
        (json_patch, "[", 400),
        (
            json_patch,
            r#"[{"op":"test","path":"/recordedDate","value":"1999"}]"#,
            422,
        ),
        (
            json_patch,
            r#"[{"op":"add","path":"/note","value":[{"text":"Ada"}]}]"#,
            422,
        ),
        (
            json_patch,
            r#"[{"op":"add","path":"/colour","value":"red"}]"#,
            422,
        ),
        (json_patch, r#"[{"op":"remove","path":"/id"}]"#, 422),
        ("text/plain", "[]", 415),
        (FHIR_JSON, r#"{"resourceType":"Patient"}"#, 400),
    ] {
        let reply = api.patch(&path, kind, patch).await;
        assert_eq!(reply.issue().0, status, "{patch}: {}", reply.text);
        assert!(!reply.text.contains("Ada"), "no value is repeated");
    }
    assert_eq!(api.get(&path).await.headers[header::ETAG], "W/\"2\"");
    let patient = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    assert_eq!(api.patch(&patient, json_patch, "[]").await.issue().0, 403);
    // Many add to one list: each addition is kept.
    let add = |number: u32| {
        let value = json!({"system": "urn:ietf:rfc:3986", "value": identifier(number)});
        json!([{"op": "add", "path": "/identifier/-", "value": value}]).to_string()
    };
    let patches: Vec<String> = (0..8).map(add).collect();
    let all = patches
        .iter()
        .map(|patch| api.patch(&path, json_patch, patch));
    for reply in join_all(all).await {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
    let read = api.get(&path).await.json();
    assert_eq!(read["identifier"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn conditions_in_a_transaction_are_resolved_and_hold_when_it_is_done() {
    let api = fixture().await;
    let there = api.create(&finding(2001, None)).await;
    let condition = condition_of(2001);
    let create = |year: u32| {
        json!({"fullUrl": format!("urn:uuid:{year}"), "resource": finding(year, None), "request": {
            "method": "POST", "url": "Condition", "ifNoneExist": condition_of(year),
        }})
    };
    let goal = |reference: &str| {
        json!({"resource": {
            "resourceType": "RiskAssessment", "status": "final",
            "subject": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())},
            "condition": {"reference": reference},
        }, "request": {"method": "POST", "url": "RiskAssessment"}})
    };
    let by_condition = format!("Condition?{condition}");
    let entries = json!([
        create(2001),
        create(2002),
        goal("urn:uuid:2001"),
        goal(&by_condition)
    ]);
    let reply = api.bundle("transaction", &entries).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    let of = |at: usize, name: &str| {
        let value = &answer["entry"][at]["response"][name];
        value.as_str().unwrap().to_owned()
    };
    assert_eq!(
        (of(0, "status"), of(1, "status")),
        ("200 OK".into(), "201 Created".into())
    );
    assert!(of(0, "location").starts_with(&there));
    for at in [2, 3] {
        let place = of(at, "location");
        let path = place.split("/_history").next().unwrap().to_owned();
        let read = api.get(&format!("/fhir/{path}")).await.json();
        assert_eq!(read["condition"]["reference"], there);
    }
    let put = |query: &str| {
        json!({"resource": finding(2002, None), "request": {
            "method": "PUT", "url": format!("Condition?{query}"),
        }})
    };
    let delete = json!({"request": {"method": "DELETE", "url": format!("Condition?{condition}")}});
    let reply = api
        .bundle("transaction", &json!([put(&condition_of(2002)), delete]))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(api.get(&format!("/fhir/{there}")).await.issue().0, 410);
    for (entries, status) in [
        (json!([create(2003), create(2003)]), 400),
        (json!([create(2003), goal(&by_condition)]), 412),
        (json!([create(2003), put("colour=red")]), 400),
    ] {
        let reply = api.bundle("transaction", &entries).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
    }
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 1);
    // What a condition finds before anything is written is deleted, and where that is nothing, nothing is.
    let delete = json!({"request": {"method": "DELETE", "url": format!("Condition?{}", condition_of(2003))}});
    let reply = api
        .bundle("transaction", &json!([create(2003), delete]))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let told = &reply.json()["entry"][1]["response"];
    assert_eq!(*told, json!({"status": "204 No Content"}));
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 2);
}

#[tokio::test]
async fn what_a_transaction_deletes_is_not_what_it_finds_by_a_condition() {
    let api = fixture().await;
    let old = api.create(&finding(2001, None)).await;
    let delete = json!({"request": {"method": "DELETE", "url": old}});
    let create = json!({"resource": finding(2001, None), "request": {
        "method": "POST", "url": "Condition", "ifNoneExist": condition_of(2001),
    }});
    let mut refers = finding(2002, None);
    refers["evidence"] =
        json!([{"detail": [{"reference": format!("Condition?{}", condition_of(2001))}]}]);
    let refers = json!({"resource": refers, "request": {"method": "POST", "url": "Condition"}});
    for (entry, status) in [(create, 400), (refers, 412)] {
        let reply = api.bundle("transaction", &json!([delete, entry])).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
        assert!(reply.text.contains("entry[1]"), "{}", reply.text);
        assert_eq!(
            api.get("/fhir/Condition").await.ids(),
            [old.trim_start_matches("Condition/")]
        );
    }
}

#[tokio::test]
async fn a_reference_that_is_a_condition_is_taken_in_a_transaction_alone() {
    let api = fixture().await;
    let mut refers = finding(2002, None);
    refers["evidence"] =
        json!([{"detail": [{"reference": format!("Condition?{}", condition_of(2001))}]}]);
    let reply = api
        .write(Method::POST, "/fhir/Condition", &[], &refers.to_string())
        .await;
    assert_eq!(reply.issue(), (422, "business-rule".to_owned()));
    assert!(
        reply.text.contains("in a transaction alone"),
        "{}",
        reply.text
    );
}

#[tokio::test]
async fn of_a_transaction_no_reference_leads_to_an_entry_that_is_not_there() {
    let api = fixture().await;
    let name = "urn:uuid:11111111-0000-4000-8000-000000000001";
    let entry = json!({"resource": finding(2001, Some(name)), "request": {"method": "POST", "url": "Condition"}});
    let reply = api.bundle("transaction", &json!([entry])).await;
    assert_eq!(reply.issue(), (422, "not-found".to_owned()));
    assert!(reply.text.contains("entry[0]"), "{}", reply.text);
    assert_eq!(api.get("/fhir/Condition").await.ids(), [""; 0]);
}

#[tokio::test]
async fn a_condition_of_a_reference_finds_what_the_other_entries_create_and_no_other() {
    let api = fixture().await;
    let create = |year: u32| {
        json!({"resource": finding(year, None), "request": {
            "method": "POST", "url": "Condition",
        }})
    };
    let mut refers = finding(2009, None);
    refers["evidence"] =
        json!([{"detail": [{"reference": format!("Condition?{}", condition_of(2001))}]}]);
    let refers = json!({"resource": refers, "request": {"method": "POST", "url": "Condition"}});
    for (others, status) in [
        (vec![create(2002)], 412),
        (vec![create(2001), create(2001)], 412),
    ] {
        let mut entries = vec![refers.clone()];
        entries.extend(others);
        let entries = json!(entries);
        let reply = api.bundle("transaction", &entries).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
    }
    let reply = api
        .bundle("transaction", &json!([refers, create(2001)]))
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    let of = |at: usize| {
        let place = answer["entry"][at]["response"]["location"].as_str();
        let place = place.and_then(|place| place.split("/_history").next());
        place.unwrap_or_default().to_owned()
    };
    let read = api.get(&format!("/fhir/{}", of(0))).await.json();
    assert_eq!(read["evidence"][0]["detail"][0]["reference"], of(1));
    // One is there now, and with another one it is two.
    let reply = api
        .bundle("transaction", &json!([refers, create(2001)]))
        .await;
    assert_eq!(reply.issue(), (412, "multiple-matches".to_owned()));
    // What is put instead of it is not found by what it was.
    let mut put = finding(2003, None);
    put["id"] = json!(of(1).trim_start_matches("Condition/"));
    let put = json!({"resource": put, "request": {"method": "PUT", "url": of(1)}});
    let reply = api.bundle("transaction", &json!([refers, put])).await;
    assert_eq!(reply.issue().0, 412, "{}", reply.text);
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 2);
}
