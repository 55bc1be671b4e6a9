//! Tests of patches in batches and transactions.
use super::finding_tests::finding;
use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::join_all;
use serde_json::json;

/// An entry with a JSON Patch, in a Binary.
fn json_patch(url: &str, patch: &Value) -> Value {
    let data = STANDARD.encode(patch.to_string());
    json!({"request": {"method": "PATCH", "url": url}, "resource": {
        "resourceType": "Binary", "contentType": "application/json-patch+json", "data": data,
    }})
}

/// An entry with a FHIRPath Patch.
fn fhirpath_patch(url: &str, year: &str) -> Value {
    json!({"request": {"method": "PATCH", "url": url}, "resource": {
        "resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "replace"},
            {"name": "path", "valueString": "Condition.recordedDate"},
            {"name": "value", "valueDateTime": year},
        ]}],
    }})
}

fn replace(year: &str) -> Value {
    json!([{"op": "replace", "path": "/recordedDate", "value": year}])
}

#[tokio::test]
async fn patches_are_done_in_a_batch_and_in_a_transaction() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let other = api.create(&finding(2002, None)).await;
    let by_condition = format!(
        "Condition?identifier=urn:ietf:rfc:3986%7C{}",
        finding_tests::identifier(2002)
    );
    for (kind, years) in [
        ("batch", ["2003", "2004"]),
        ("transaction", ["2005", "2006"]),
    ] {
        let entries = json!([
            json_patch(&one, &replace(years[0])),
            fhirpath_patch(&by_condition, years[1]),
        ]);
        let reply = api.bundle(kind, &entries).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        for at in [0, 1] {
            let status = &reply.json()["entry"][at]["response"]["status"];
            assert_eq!(status, "200 OK", "{}", reply.text);
        }
        for (reference, year) in [(&one, years[0]), (&other, years[1])] {
            let read = api.get(&format!("/fhir/{reference}")).await.json();
            assert_eq!(read["recordedDate"], year, "{kind}");
        }
    }
    let fails = json!([{"op": "test", "path": "/recordedDate", "value": "1999"}]);
    let names = json!([{"op": "add", "path": "/note", "value": [{"text": "Ada"}]}]);
    let not_there = "Condition/11111111-2222-4333-8444-555555555555";
    for (entry, status) in [
        (json_patch(&other, &fails), 422),
        (json_patch(&other, &names), 422),
        (json_patch(not_there, &replace("1999")), 404),
        (
            json!({"request": {"method": "PATCH", "url": other}, "resource": {"resourceType": "Binary"}}),
            415,
        ),
        (json!({"request": {"method": "PATCH", "url": other}}), 400),
    ] {
        let entries = json!([json_patch(&one, &replace("2007")), entry]);
        let reply = api.bundle("transaction", &entries).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
        let read = api.get(&format!("/fhir/{one}")).await.json();
        assert_eq!(read["recordedDate"], "2005", "nothing of it was done");
    }
}

#[tokio::test]
async fn of_patches_that_come_at_once_in_transactions_each_is_kept() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let bundles = (0..8_u32).map(|number| {
        let value =
            json!({"system": "urn:ietf:rfc:3986", "value": finding_tests::identifier(number)});
        json!([json_patch(
            &one,
            &json!([{"op": "add", "path": "/identifier/-", "value": value}])
        )])
    });
    let bundles: Vec<Value> = bundles.collect();
    for reply in join_all(
        bundles
            .iter()
            .map(|entries| api.bundle("transaction", entries)),
    )
    .await
    {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    }
    let read = api.get(&format!("/fhir/{one}")).await.json();
    assert_eq!(read["identifier"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn who_may_not_read_is_not_shown_what_a_patch_made() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    for (token, shown) in [("Bearer writes", false), ("Bearer all", true)] {
        let patch = Request::patch(format!("/fhir/{one}"))
            .header("authorization", token)
            .header("content-type", "application/json-patch+json")
            .header("prefer", "return=representation")
            .body(Body::from(replace("2002").to_string()));
        let reply = api.send(patch.unwrap()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.text.contains("38341003"), shown, "{}", reply.text);
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": [
            json_patch(&one, &replace("2003")),
        ]});
        let all = Request::post("/fhir")
            .header("authorization", token)
            .header("content-type", FHIR_JSON)
            .header("prefer", "return=representation")
            .body(Body::from(bundle.to_string()));
        let reply = api.send(all.unwrap()).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        assert_eq!(reply.text.contains("38341003"), shown, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_patch_is_of_the_resource_as_it_is_read_with_its_version_and_its_meta() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let path = format!("/fhir/{one}");
    let tagged = |version: &str, tag: &str| {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ActReason";
        json!([
            {"op": "test", "path": "/meta/versionId", "value": version},
            {"op": "add", "path": "/meta/tag", "value": [{"system": system, "code": tag}]},
        ])
    };
    let kind = "application/json-patch+json";
    let (stale, current) = (
        tagged("2", "HTEST").to_string(),
        tagged("1", "HTEST").to_string(),
    );
    let reply = api.patch(&path, kind, &stale).await;
    assert_eq!(reply.issue().0, 422, "it is in version 1");
    let reply = api.patch(&path, kind, &current).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    assert_eq!(reply.json()["meta"]["versionId"], "2");
    assert_eq!(reply.json()["meta"]["tag"][0]["code"], "HTEST");
    let entries = json!([json_patch(&one, &tagged("2", "TREAT"))]);
    let reply = api.bundle("transaction", &entries).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let read = api.get(&path).await.json();
    assert_eq!(read["meta"]["versionId"], "3");
    assert_eq!(read["meta"]["tag"][0]["code"], "TREAT");
    // Nothing is changed by what changes nothing.
    let reply = api.patch(&path, kind, "[]").await;
    assert_eq!(reply.headers[header::ETAG], "W/\"3\"");
}

/// Patches, JSON Patches or the path of what a FHIRPath Patch deletes, and the status for who may not read and who may.
const LOOKING: &[(&str, u16, u16)] = &[
    (
        r#"[{"op": "test", "path": "/resourceType", "value": "Condition"}]"#,
        403,
        200,
    ),
    (
        r#"[{"op": "test", "path": "/resourceType", "value": "Patient"}]"#,
        403,
        422,
    ),
    (
        r#"[{"op": "copy", "from": "/code", "path": "/code"}]"#,
        403,
        200,
    ),
    (
        r#"[{"op": "move", "from": "/code", "path": "/code"}]"#,
        403,
        200,
    ),
    (r#"[{"op": "remove", "path": "/note"}]"#, 422, 422),
    (
        r#"[{"op": "replace", "path": "/recordedDate", "value": "2003"}]"#,
        200,
        200,
    ),
    ("Condition.note.where(text = 'x')", 403, 200),
    ("Condition.note[0].text", 200, 200),
];

#[tokio::test]
async fn who_may_not_read_finds_nothing_out_by_a_patch() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let delete = |path: &str| {
        json!({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
            {"name": "type", "valueCode": "delete"}, {"name": "path", "valueString": path},
        ]}]})
    };
    for (patch, unseen, seen) in LOOKING {
        let (kind, body) = match patch.starts_with('[') {
            true => ("application/json-patch+json", (*patch).to_owned()),
            false => (FHIR_JSON, delete(patch).to_string()),
        };
        for (token, status) in [("Bearer writes", *unseen), ("Bearer all", *seen)] {
            let request = Request::patch(format!("/fhir/{one}"))
                .header("authorization", token)
                .header("content-type", kind)
                .body(Body::from(body.clone()));
            let reply = api.send(request.unwrap()).await;
            let text = &reply.text;
            assert_eq!(reply.status.as_u16(), status, "{token} {patch}: {text}");
            let is_told = status == 422 && token == "Bearer all";
            assert_eq!(text.contains("operation 1"), is_told, "{patch}: {text}");
        }
    }
    let test = json!([{"op": "test", "path": "/resourceType", "value": "Patient"}]);
    let entries = json!([json_patch(&one, &test)]);
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    let request = Request::post("/fhir")
        .header("authorization", "Bearer writes")
        .header("content-type", FHIR_JSON)
        .body(Body::from(bundle.to_string()));
    let reply = api.send(request.unwrap()).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text);
}

#[tokio::test]
async fn what_is_no_patch_is_told_which_patches_are_taken() {
    let api = fixture().await;
    let path = format!("/fhir/{}", api.create(&finding(2001, None)).await);
    for kind in ["application/merge-patch+json", "text/plain"] {
        let reply = api.patch(&path, kind, "{}").await;
        assert_eq!(reply.issue().0, 415, "{kind}");
        let taken = &reply.headers["accept-patch"];
        assert_eq!(taken, "application/json-patch+json, application/fhir+json");
        assert!(!reply.headers.contains_key(header::ALLOW));
    }
}
