//! Tests of `$meta-add` and `$meta-delete`, request by request.
use super::finding_tests::finding;
use super::*;
use serde_json::json;

fn tag(system: &str) -> String {
    let meta = json!({"tag": [{"system": system, "code": "38341003"}]});
    let parameters = json!([{"name": "meta", "valueMeta": meta}]);
    json!({"resourceType": "Parameters", "parameter": parameters}).to_string()
}

const SNOMED: &str = "http://snomed.info/sct";

impl Fixture {
    async fn change_meta(&self, path: &str, body: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::post(format!("/fhir/{path}")).header("content-type", FHIR_JSON);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }
}

#[tokio::test]
async fn tags_are_added_and_taken_away_by_new_versions() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let all = ("authorization", "Bearer all");
    let (add, delete) = (format!("{one}/$meta-add"), format!("{one}/$meta-delete"));
    let expected = json!([{"system": SNOMED, "code": "38341003"}]);
    for (path, if_match, version, tags) in [
        (&add, "W/\"1\"", 2, &expected),
        // It is there already.
        (&add, "W/\"2\"", 2, &expected),
        (&delete, "W/\"2\"", 3, &Value::Null),
        (&delete, "*", 3, &Value::Null),
    ] {
        let headers = [all, ("if-match", if_match)];
        let reply = api.change_meta(path, &tag(SNOMED), &headers).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        assert_eq!(reply.headers[header::ETAG], format!("W/\"{version}\""));
        let told = reply.json()["parameter"][0].clone();
        assert_eq!(told["name"], "return");
        assert_eq!(told["valueMeta"]["versionId"], version.to_string());
        let read = api.get(&format!("/fhir/{one}")).await.json();
        assert_eq!(read["meta"], told["valueMeta"]);
        assert_eq!(read["meta"]["tag"], *tags, "{path}");
        assert_eq!(read["recordedDate"], "2001");
    }
    let stale = [all, ("if-match", "W/\"1\"")];
    let reply = api.change_meta(&add, &tag(SNOMED), &stale).await;
    assert_eq!(reply.issue(), (412, "conflict".into()));
    for (path, body, status) in [
        (&add, "{}".to_owned(), 400),
        (&add, "[".to_owned(), 400),
        // What may not be here.
        (&add, tag("http://hospital.example/people"), 422),
        (&format!("{add}?colour=red"), tag(SNOMED), 400),
        (&format!("{one}x/$meta-add"), tag(SNOMED), 404),
        (&format!("{one}/$meta-change"), tag(SNOMED), 405),
    ] {
        let reply = api.change_meta(path, &body, &[all]).await;
        assert_eq!(reply.issue().0, status, "{path} {body}");
    }
    assert_eq!(api.get(&format!("/fhir/{add}")).await.issue().0, 405);
    let read = api.get(&format!("/fhir/{one}")).await;
    assert_eq!(read.json()["meta"]["versionId"], "3");
}

#[tokio::test]
async fn meta_is_changed_by_who_may_read_and_update_what_they_see_alone() {
    let api = fixture().await;
    let one = api.create(&finding(2001, None)).await;
    let delivered = format!("Patient/{}", fixture::patient(1, 1950).id());
    for (path, token, status) in [
        (&one, "Bearer only:Condition?code=38341003", 200),
        (&one, "Bearer only:Condition?code=44054006", 404),
        (&one, "Bearer only:Patient", 403),
        // They write, and may not read.
        (&one, "Bearer writes", 403),
        (&one, "Bearer patients", 403),
        (&one, "", 401),
        (&delivered, "Bearer all", 403),
    ] {
        let headers = [("authorization", token)];
        let headers = if token.is_empty() { &[] } else { &headers[..] };
        let path = format!("{path}/$meta-add");
        let reply = api.change_meta(&path, &tag(SNOMED), headers).await;
        assert_eq!(
            reply.status.as_u16(),
            status,
            "{path} {token}: {}",
            reply.text
        );
    }
    let read = api.get(&format!("/fhir/{one}")).await;
    assert_eq!(read.json()["meta"]["versionId"], "2");
    let read = api.get(&format!("/fhir/{delivered}")).await;
    // What it came with, and no more.
    let tags = &read.json()["meta"]["tag"];
    assert_eq!(tags.as_array().map(Vec::len), Some(1));
    assert_eq!(tags[0]["system"], "urn:medmesh:care-unit");
}
