//! Tests of writing over the API.
use super::*;
use serde_json::json;

fn condition() -> Value {
    json!({
        "resourceType": "Condition",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
        "subject": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())},
    })
}

impl Fixture {
    pub async fn write(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", "Bearer all");
        if !body.is_empty() {
            request = request.header("content-type", FHIR_JSON);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap())
            .await
    }

    /// The path of a new Condition.
    async fn made(&self) -> String {
        let body = condition().to_string();
        let reply = self
            .write(Method::POST, "/fhir/Condition", &[], &body)
            .await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text);
        format!("/fhir/Condition/{}", reply.json()["id"].as_str().unwrap())
    }

    pub async fn bundle(&self, kind: &str, entries: &Value) -> Reply {
        let bundle = json!({"resourceType": "Bundle", "type": kind, "entry": entries});
        self.write(Method::POST, "/fhir", &[], &bundle.to_string())
            .await
    }
}

#[tokio::test]
async fn a_resource_is_created_read_updated_and_deleted_and_its_history_stays() {
    let api = fixture().await;
    let mut body = condition();
    body["id"] = json!("mine");
    body["meta"] = json!({"versionId": "77", "lastUpdated": "2020-01-01T00:00:00Z"});
    let made = api
        .write(Method::POST, "/fhir/Condition", &[], &body.to_string())
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.headers[header::ETAG], "W/\"1\"");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let location = made.headers[header::LOCATION].to_str().unwrap().to_owned();
    assert_eq!(
        location,
        format!("https://region.example/fhir/Condition/{id}/_history/1")
    );
    assert_eq!(made.json()["meta"]["versionId"], "1");
    assert!(
        made.json()["meta"]["lastUpdated"]
            .as_str()
            .unwrap()
            .starts_with("1970")
    );
    let path = format!("/fhir/Condition/{id}");
    assert_eq!(api.get(&path).await.text, made.text);

    let mut body: Value = made.json();
    body["recordedDate"] = json!("2001");
    let body = body.to_string();
    for (headers, status) in [
        (vec![("if-match", "W/\"2\"")], 412),
        (vec![("if-match", "2")], 412),
        (vec![("if-match", "W/\"9\", *")], 412),
        (vec![("if-match", "*"), ("if-match", "W/\"9\"")], 412),
        (vec![("if-none-match", "*")], 412),
        (vec![("if-match", "W/\"8\", \"9\"")], 412),
        (vec![("if-match", "W/\"9\", \"1\"")], 200),
        (vec![("if-match", "W/\"1\"")], 412),
        (vec![], 200),
    ] {
        let reply = api.write(Method::PUT, &path, &headers, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{headers:?} {}", reply.text);
    }
    let read = api.get(&path).await;
    assert_eq!(
        read.headers[header::ETAG],
        "W/\"2\"",
        "the same content is no new version"
    );
    assert_eq!(read.json()["recordedDate"], "2001");
    let another = body.replace(&id, "11111111-2222-4333-8444-555555555555");
    assert_eq!(
        api.write(Method::PUT, &path, &[], &another).await.issue().0,
        400
    );
    deleted(&api, &path, &body).await;
}

/// The Condition, of which there are two versions, is deleted and comes back.
async fn deleted(api: &Fixture, path: &str, body: &str) {
    let stale = [("if-match", "W/\"1\"")];
    assert_eq!(
        api.write(Method::DELETE, path, &stale, "").await.issue().0,
        412
    );
    for _ in 0..2 {
        let reply = api.write(Method::DELETE, path, &[], "").await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    }
    assert_eq!(api.get(path).await.issue(), (410, "deleted".into()));
    assert_eq!(api.get(&format!("{path}/_history/3")).await.issue().0, 410);
    assert_eq!(
        api.get(&format!("{path}/_history/1")).await.json()["meta"]["versionId"],
        "1"
    );
    assert_eq!(api.get("/fhir/Condition").await.ids(), [""; 0]);
    let history = api.get(&format!("{path}/_history")).await.json();
    let methods: Vec<_> = history["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["request"]["method"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(methods, ["DELETE", "PUT", "POST"]);
    let again = api.write(Method::PUT, path, &[], body).await;
    assert_eq!(again.status, StatusCode::CREATED);
    assert_eq!(again.headers[header::ETAG], "W/\"4\"");
}

#[tokio::test]
async fn the_client_says_what_the_answer_to_a_write_holds() {
    let api = fixture().await;
    for (prefer, is_like) in [
        ("return=minimal", ""),
        ("return=representation", "\"Condition\""),
        ("return=OperationOutcome", "\"OperationOutcome\""),
    ] {
        let headers = [("prefer", prefer)];
        let body = condition().to_string();
        let reply = api
            .write(Method::POST, "/fhir/Condition", &headers, &body)
            .await;
        assert_eq!(reply.status, StatusCode::CREATED);
        assert!(reply.headers.contains_key(header::LOCATION));
        assert!(reply.text.contains(is_like) && reply.text.is_empty() == is_like.is_empty());
    }
}

#[tokio::test]
async fn a_write_that_holds_what_identifies_or_is_not_r4_names_each_element_and_writes_nothing() {
    let api = fixture().await;
    let mut identified = condition();
    identified["subject"]["display"] = json!("Ada Lovelace");
    identified["note"] = json!([{"text": "called Ada"}]);
    identified["evidence"] = json!([{"detail": [{"reference": "#p1"}]}]);
    identified["contained"] =
        json!([{"resourceType": "Patient", "id": "p1", "name": [{"text": "Ada"}]}]);
    let mut not_r4 = condition();
    not_r4["subject"] = json!("Patient/1");
    not_r4["colour"] = json!("red");
    for (method, body, code, places) in [
        (
            Method::POST,
            &identified,
            "business-rule",
            vec![
                "Condition.contained[0].name",
                "Condition.note[0].text",
                "Condition.subject.display",
            ],
        ),
        (
            Method::POST,
            &not_r4,
            "structure",
            vec!["Condition", "Condition.subject"],
        ),
    ] {
        let reply = api
            .write(method, "/fhir/Condition", &[], &body.to_string())
            .await;
        assert_eq!(reply.issue(), (422, code.to_owned()), "{}", reply.text);
        let issues = reply.json()["issue"].as_array().unwrap().clone();
        let mut found: Vec<_> = issues
            .iter()
            .map(|issue| issue["expression"][0].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, places);
        assert!(!reply.text.contains("Ada"), "no value is repeated");
    }
    for (body, status) in [
        ("{", 400),
        ("[]", 422),
        ("{\"resourceType\":\"Basic\",\"code\":{}}", 422),
    ] {
        let reply = api.write(Method::POST, "/fhir/Condition", &[], body).await;
        assert_eq!(reply.issue().0, status, "{body}");
    }
    let form = [("content-type", "text/plain")];
    let request = Request::post("/fhir/Condition").header("authorization", "Bearer all");
    let request = request.header(form[0].0, form[0].1).body(Body::from("{}"));
    assert_eq!(api.send(request.unwrap()).await.issue().0, 415);
    assert_eq!(api.get("/fhir/Condition").await.ids(), [""; 0]);
    let system = api.get("/fhir/Condition/_history").await.json();
    assert_eq!(system.get("entry"), None);
}

#[tokio::test]
async fn ids_that_may_say_something_are_not_taken_and_those_of_facilities_are_refused() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let body = json!({"resourceType": "Patient", "id": patient.to_string()}).to_string();
    let path = format!("/fhir/Patient/{patient}");
    for method in [Method::PUT, Method::DELETE] {
        let reply = api.write(method, &path, &[], &body).await;
        assert_eq!(reply.issue().0, 403, "{}", reply.text);
    }
    assert_eq!(api.get(&path).await.headers[header::ETAG], "W/\"2\"");
    for (id, status) in [
        ("lovelace", 422),
        ("0123456789abcdef0123456789abcdef", 422),
        ("11111111-2222-4333-8444-555555555555", 201),
    ] {
        let mut body = condition();
        body["id"] = json!(id);
        let path = format!("/fhir/Condition/{id}");
        let reply = api.write(Method::PUT, &path, &[], &body.to_string()).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
    }
}

#[tokio::test]
async fn a_write_is_in_the_log_before_it_is_done_and_without_the_log_it_is_not_done() {
    let api = fixture().await;
    api.log.break_it(true);
    let body = condition().to_string();
    let reply = api.write(Method::POST, "/fhir/Condition", &[], &body).await;
    assert_eq!(reply.issue(), (503, "transient".into()));
    api.log.break_it(false);
    assert_eq!(api.get("/fhir/Condition").await.ids(), [""; 0]);
    api.log.take();
    let path = api.made().await;
    let rows = api.log.take();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].interaction, Interaction::Create);
    assert_eq!(format!("/fhir/{}", rows[0].request), path);
    assert_eq!(
        rows[0].patient.as_ref(),
        Some(fixture::patient(1, 1950).id())
    );
    let patients = Request::post("/fhir/Condition").header("authorization", "Bearer patients");
    let reply = api.send(patients.body(Body::from(body)).unwrap()).await;
    assert_eq!(reply.issue(), (403, "forbidden".into()));
    let stale = [("if-match", "W/\"9\"")];
    assert_eq!(
        api.write(Method::DELETE, &path, &stale, "").await.issue().0,
        412
    );
    assert_eq!(api.log.refused_of(Interaction::Delete), 1);
}

#[tokio::test]
async fn histories_go_by_the_readers_marks_and_page_on() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        let path = api.made().await;
        api.get(&path).await;
        let mut url = "/fhir/_history?_count=7".to_owned();
        let mut seen = Vec::new();
        loop {
            let reply = api.get(&url).await;
            assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
            let json = reply.json();
            for entry in json["entry"].as_array().unwrap() {
                assert_eq!(
                    entry["resource"]["meta"]["lastUpdated"],
                    entry["response"]["lastModified"]
                );
                seen.push(format!(
                    "{} {}",
                    entry["fullUrl"], entry["response"]["etag"]
                ));
            }
            match reply.link("next") {
                Some(next) => url = next.replace("https://region.example", ""),
                None => break,
            }
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            (count, seen.len()),
            (64, 64),
            "60 readings, 2 + 1 versions, 1 condition"
        );
        let page = api.get("/fhir/_history?_count=1").await.json();
        let last = page["entry"][0]["response"]["lastModified"]
            .as_str()
            .unwrap();
        let since = api
            .get(&format!("/fhir/Condition/_history?_since={last}"))
            .await;
        assert_eq!(since.status, StatusCode::OK, "{}", since.text);
        for query in [
            "_since=yesterday",
            "_count=x",
            "colour=red",
            "_cursor=x",
            "_at=yesterday",
        ] {
            assert_eq!(
                api.get(&format!("/fhir/_history?{query}")).await.issue().0,
                400,
                "{query}"
            );
        }
        assert_eq!(api.get("/fhir/Condition/x/_history").await.issue().0, 404);
    }
}

pub fn encounter() -> Value {
    json!({
        "resourceType": "Encounter", "status": "finished",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
    })
}

#[tokio::test]
async fn a_transaction_is_done_in_the_order_of_the_specification_and_its_references_are_resolved() {
    let api = fixture().await;
    let old = api.made().await;
    let old = old.trim_start_matches("/fhir/");
    let mut finding = condition();
    finding["encounter"] = json!({"reference": "urn:uuid:11111111-0000-4000-8000-000000000001"});
    let fixed = "22222222-2222-4333-8444-555555555555";
    let mut put = condition();
    put["id"] = json!(fixed);
    let entries = json!([
        {"request": {"method": "GET", "url": "Condition?_count=9"}},
        {"fullUrl": "urn:uuid:11111111-0000-4000-8000-000000000002", "resource": finding,
            "request": {"method": "POST", "url": "Condition"}},
        {"resource": put, "request": {"method": "PUT", "url": format!("Condition/{fixed}")}},
        {"fullUrl": "urn:uuid:11111111-0000-4000-8000-000000000001", "resource": encounter(),
            "request": {"method": "POST", "url": "Encounter"}},
        {"request": {"method": "DELETE", "url": old}},
    ]);
    let reply = api.bundle("transaction", &entries).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let answer = reply.json();
    assert_eq!(answer["type"], "transaction-response");
    let status = |at: usize| {
        answer["entry"][at]["response"]["status"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let all: Vec<String> = (0..5).map(status).collect();
    assert_eq!(
        all,
        [
            "200 OK",
            "201 Created",
            "201 Created",
            "201 Created",
            "204 No Content"
        ]
    );
    assert_eq!(answer["entry"][0]["resource"]["total"].as_u64(), None);
    assert_eq!(
        answer["entry"][0]["resource"]["entry"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let place = |at: usize| {
        let location = answer["entry"][at]["response"]["location"]
            .as_str()
            .unwrap();
        location.split("/_history").next().unwrap().to_owned()
    };
    let read = api.get(&format!("/fhir/{}", place(1))).await.json();
    assert_eq!(read["encounter"]["reference"], place(3));
    assert_eq!(api.get(&format!("/fhir/{old}")).await.issue().0, 410);
}

#[tokio::test]
async fn of_a_transaction_that_fails_nothing_is_done_and_the_entry_is_named() {
    let api = fixture().await;
    let path = api.made().await;
    let own = path.trim_start_matches("/fhir/").to_owned();
    let good = json!({"resource": encounter(), "request": {"method": "POST", "url": "Encounter"}});
    let mut identified = condition();
    identified["subject"]["display"] = json!("Ada");
    let mut mine = condition();
    mine["id"] = json!(own.trim_start_matches("Condition/"));
    let put = |tag: &str| {
        json!({
            "resource": mine, "request": {"method": "PUT", "url": own, "ifMatch": tag},
        })
    };
    for (bad, status) in [
        (
            json!({"resource": identified, "request": {"method": "POST", "url": "Condition"}}),
            422,
        ),
        (put("W/\"7\""), 412),
        (
            json!({"request": {"method": "DELETE", "url": format!("Patient/{}", fixture::patient(1, 1950).id())}}),
            403,
        ),
        (
            json!({"request": {"method": "POST", "url": "Condition"}}),
            400,
        ),
        (
            json!({"resource": condition(), "request": {"method": "POST", "url": "Nonsense"}}),
            404,
        ),
    ] {
        let reply = api.bundle("transaction", &json!([good, bad])).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
        assert!(reply.text.contains("entry[1]"), "{}", reply.text);
        let batch = api.bundle("batch", &json!([bad])).await.json();
        let told = batch["entry"][0]["response"]["status"].as_str().unwrap();
        assert!(told.starts_with(&status.to_string()), "{told} {bad}");
        assert_eq!(
            batch["entry"][0]["response"]["outcome"]["resourceType"],
            "OperationOutcome"
        );
    }
    let twice = json!([{"request": {"method": "DELETE", "url": own}}, put("W/\"1\"")]);
    assert_eq!(api.bundle("transaction", &twice).await.issue().0, 400);
    assert_eq!(api.get("/fhir/Encounter").await.ids(), [""; 0]);
    assert_eq!(api.get(&path).await.headers[header::ETAG], "W/\"1\"");
    let reply = api
        .bundle(
            "batch",
            &json!([good, {"request": {"method": "GET", "url": own}}]),
        )
        .await;
    let answer = reply.json();
    assert_eq!(answer["entry"][0]["response"]["status"], "201 Created");
    assert_eq!(answer["entry"][1]["resource"]["resourceType"], "Condition");
    assert_eq!(api.bundle("history", &json!([])).await.issue().0, 400);
    let rows = api.log.take();
    assert_eq!(
        rows.iter()
            .filter(|row| row.interaction == Interaction::Create)
            .count(),
        4,
        "those of what the store refuses too: they are written before"
    );
}

#[tokio::test]
async fn an_entry_that_is_no_request_costs_no_other_of_a_batch_and_all_of_a_transaction() {
    let api = fixture().await;
    let create =
        json!({"resource": condition(), "request": {"method": "POST", "url": "Condition"}});
    let entries = json!([
        {"resource": condition()},
        {"request": {"method": "TRACE", "url": "Condition"}},
        {"request": {"method": "GET", "url": "metadata"}},
        {"request": {"method": "POST", "url": "Condition/$validate"}, "resource": condition()},
        create,
    ]);
    let reply = api.bundle("batch", &entries).await.json();
    let told: Vec<&str> = reply["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["response"]["status"]
                .as_str()
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
        })
        .collect();
    assert_eq!(told, ["400", "405", "200", "200", "201"], "{reply}");
    assert_eq!(
        reply["entry"][0]["response"]["outcome"]["resourceType"],
        "OperationOutcome"
    );
    assert_eq!(api.bundle("transaction", &entries).await.issue().0, 400);
    assert_eq!(api.get("/fhir/Condition?_count=0").await.json()["total"], 1);
}

#[tokio::test]
async fn the_deletion_of_what_never_was_has_no_version() {
    let api = fixture().await;
    let made = api.made().await;
    let never = "/fhir/Condition/11111111-2222-4333-8444-555555555555";
    for (path, tag) in [(made.as_str(), Some("W/\"2\"")), (never, None)] {
        let reply = api.write(Method::DELETE, path, &[], "").await;
        assert_eq!(reply.status, StatusCode::NO_CONTENT, "{}", reply.text);
        let given = reply.headers.get(header::ETAG);
        assert_eq!(given.map(|given| given.to_str().unwrap()), tag, "{path}");
    }
}

#[tokio::test]
async fn the_path_of_an_entry_is_decoded_as_that_of_a_request() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    for (url, status) in [
        (format!("{patient}/%24meta"), "200"),
        (patient.replace("Patient", "%50atient"), "200"),
        ("Patient/%ff".to_owned(), "400"),
        ("Patient/%2".to_owned(), "400"),
    ] {
        let entries = json!([{"request": {"method": "GET", "url": url}}]);
        let reply = api.bundle("batch", &entries).await.json();
        let told = reply["entry"][0]["response"]["status"].as_str();
        assert!(
            told.is_some_and(|told| told.starts_with(status)),
            "{url}: {reply}"
        );
    }
}

#[tokio::test]
async fn a_batch_reads_no_more_than_is_held_at_once_whether_by_get_or_by_an_operation() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let entry = |method: &str, url: &str| json!({"request": {"method": method, "url": url}});
    let large = api.get("/fhir/metadata").await.text.len();
    let mut entries =
        vec![entry("GET", "metadata"); crate::rest::transacting::MAX_ANSWER_BYTES / large + 1];
    let operations = [
        entry("GET", &patient),
        entry("POST", &format!("{patient}/$everything")),
        entry("POST", &format!("{patient}/$meta")),
        entry("POST", "Observation/$lastn"),
        entry("POST", "Observation/_search"),
        entry("POST", "_search?_type=Patient"),
    ];
    entries.extend(operations.clone());
    let reply = api.bundle("batch", &json!(entries)).await.json();
    let all = reply["entry"].as_array().unwrap();
    for told in &all[all.len() - operations.len()..] {
        let issue = &told["response"]["outcome"]["issue"][0];
        assert_eq!(issue["code"], "too-costly", "{told}");
    }
}

#[tokio::test]
async fn of_a_transaction_that_reads_what_it_is_not_given_nothing_is_done() {
    let api = fixture().await;
    let path = api.made().await;
    let own = path.trim_start_matches("/fhir/").to_owned();
    let good = json!({"resource": encounter(), "request": {"method": "POST", "url": "Encounter"}});
    let delete = json!({"request": {"method": "DELETE", "url": own}});
    let get = |url: &str| json!({"request": {"method": "GET", "url": url}});
    for (entries, status) in [
        (
            json!([good, get("Condition/11111111-2222-4333-8444-555555555555")]),
            404,
        ),
        (json!([good, get("Condition?colour=red")]), 400),
        (json!([good, get("Condition?code=%ff")]), 400),
        (json!([delete, get(&own)]), 410),
        (json!([good, get(&own), get("Nonsense")]), 404),
    ] {
        let reply = api.bundle("transaction", &entries).await;
        assert_eq!(reply.issue().0, status, "{}", reply.text);
        assert_eq!(api.get("/fhir/Encounter").await.ids(), [""; 0]);
        assert_eq!(api.get(&path).await.status, StatusCode::OK);
    }
    // What it writes is there when it reads.
    let id = "11111111-2222-4333-8444-555555555555";
    let mut new = condition();
    new["id"] = json!(id);
    let url = format!("Condition/{id}");
    let put = json!({"resource": new, "request": {"method": "PUT", "url": url}});
    let known = json!({"request": {"method": "GET", "url": own, "ifNoneMatch": "W/\"1\""}});
    let reply = api
        .bundle("transaction", &json!([get(&url), put, known]))
        .await
        .json();
    assert_eq!(reply["entry"][0]["resource"]["id"], id, "{reply}");
    assert_eq!(reply["entry"][2]["response"]["status"], "304 Not Modified");
}

#[tokio::test]
async fn a_write_keeps_to_every_condition_or_is_refused() {
    let api = fixture().await;
    let path = api.made().await;
    let mut body = condition();
    body["id"] = json!(path.trim_start_matches("/fhir/Condition/"));
    body["recordedDate"] = json!("2001");
    for (tag, status) in [("*", 412), ("W/\"1\"", 400), ("\"7\", \"1\"", 400)] {
        let tags = [("if-none-match", tag)];
        let reply = api
            .write(Method::PUT, &path, &tags, &body.to_string())
            .await;
        assert_eq!(reply.issue().0, status, "{tag}: {}", reply.text);
    }
    let since = ("if-unmodified-since", "Sat, 01 Jan 2000 00:00:00 GMT");
    let writes = [
        (Method::PUT, body.to_string()),
        (Method::DELETE, String::new()),
    ];
    for (method, text) in writes {
        let reply = api.write(method, &path, &[since], &text).await;
        assert_eq!(reply.issue().0, 400, "{}", reply.text);
    }
    assert_eq!(api.get(&path).await.headers[header::ETAG], "W/\"1\"");
    let both = [since, ("if-match", "W/\"1\"")];
    let reply = api
        .write(Method::PUT, &path, &both, &body.to_string())
        .await;
    assert_eq!(reply.status, StatusCode::OK, "a version goes before a time");
}

#[tokio::test]
async fn an_id_that_is_none_is_told_what_one_is() {
    let api = fixture().await;
    let body = condition().to_string();
    let reply = api
        .write(Method::PUT, "/fhir/Condition/a_b", &[], &body)
        .await;
    assert_eq!(reply.issue(), (422, "business-rule".into()));
    assert!(reply.text.contains("1 to 64"), "{}", reply.text);
}

#[tokio::test]
async fn an_entry_that_heads_has_no_content_and_one_that_deletes_nothing_has_no_version() {
    let api = fixture().await;
    let one = api.create(&condition()).await;
    let never = "Condition/55555555-5555-4555-8555-555555555555";
    let ask = |method: &str, url: &str| json!({"request": {"method": method, "url": url}});
    for kind in ["batch", "transaction"] {
        let entries = json!([ask("HEAD", &one), ask("GET", &one), ask("DELETE", never)]);
        let reply = api.bundle(kind, &entries).await.json();
        let entry = &reply["entry"];
        assert_eq!(entry[0]["response"]["etag"], "W/\"1\"", "{reply}");
        assert!(entry[0].get("resource").is_none(), "{reply}");
        assert_eq!(entry[1]["resource"]["resourceType"], "Condition", "{reply}");
        assert_eq!(entry[2]["response"], json!({"status": "204 No Content"}));
    }
    let reply = api
        .write(Method::DELETE, &format!("/fhir/{never}"), &[], "")
        .await;
    assert_eq!(reply.status, StatusCode::NO_CONTENT);
    assert!(!reply.headers.contains_key(header::ETAG));
}

#[tokio::test]
async fn an_entry_of_a_batch_searches_by_post_as_by_get() {
    let api = fixture().await;
    let one = api.create(&condition()).await;
    let ask = |method: &str, url: &str| json!({"request": {"method": method, "url": url}});
    let entries = json!([
        ask("GET", "Condition?code=38341003"),
        ask("POST", "Condition/_search?code=38341003"),
        ask("POST", "_search?_type=Condition&code=38341003"),
        ask("POST", "Condition/_search?colour=red"),
    ]);
    let reply = api.bundle("batch", &entries).await.json();
    for at in 0..3 {
        let found = &reply["entry"][at]["resource"]["entry"];
        assert_eq!(found.as_array().map(Vec::len), Some(1), "{reply}");
        let id = found[0]["resource"]["id"].as_str().unwrap_or_default();
        assert_eq!(format!("Condition/{id}"), one);
    }
    assert_eq!(reply["entry"][3]["response"]["status"], "400 Bad Request");
}
