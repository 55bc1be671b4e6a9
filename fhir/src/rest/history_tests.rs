//! Tests of histories by time.
use super::finding_tests::finding;
use super::*;
use serde_json::json;

/// `meta.lastUpdated` of a resource, for a query.
fn instant(reply: &Reply) -> String {
    let json = reply.json();
    json["meta"]["lastUpdated"].as_str().unwrap().to_owned()
}

impl Reply {
    /// Versions of the entries that are of a type; a deletion has none.
    fn versions(&self, kind: &str) -> Vec<String> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let json = self.json();
        let entries = json["entry"].as_array().cloned().unwrap_or_default();
        let of_kind = entries.iter().filter(|entry| {
            let url = entry["fullUrl"].as_str().unwrap();
            url.contains(&format!("/{kind}/"))
        });
        of_kind
            .map(|entry| entry["response"]["etag"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[tokio::test]
async fn a_history_shows_what_was_there_at_an_instant_and_what_came_since() {
    let api = fixture().await;
    let mut body = finding(2001, None);
    let first = api
        .write(Method::POST, "/fhir/Condition", &[], &body.to_string())
        .await;
    let path = format!("/fhir/Condition/{}", first.json()["id"].as_str().unwrap());
    let mut written = vec![first];
    for year in ["2002", "2003"] {
        body["id"] = written[0].json()["id"].clone();
        body["recordedDate"] = year.into();
        let reply = api.write(Method::PUT, &path, &[], &body.to_string()).await;
        written.push(reply);
    }
    api.write(Method::DELETE, &path, &[], "").await;
    let instants: Vec<String> = written.iter().map(instant).collect();
    assert!(instants.is_sorted());
    for scope in [path.as_str(), "/fhir/Condition", "/fhir"] {
        let none = api.get(&format!("{scope}/_history?_count=0")).await;
        assert_eq!(none.status, StatusCode::OK, "{scope}: {}", none.text);
        assert_eq!(none.versions("Condition"), [""; 0]);
        assert_eq!(none.link("next"), None);
        for (query, expected) in [
            (String::new(), vec![4, 3, 2, 1]),
            (format!("_at={}", instants[0]), vec![1]),
            (format!("_at={}", instants[1]), vec![2]),
            (format!("_at={}", instants[2]), vec![3]),
            (format!("_since={}", instants[1]), vec![4, 3, 2]),
            (format!("_since={0}&_at={0}", instants[1]), vec![2]),
            ("_at=1970-01-01T00:00:00Z".into(), vec![4, 3, 2, 1]),
        ] {
            let reply = api.get(&format!("{scope}/_history?{query}")).await;
            let expected: Vec<String> = expected.iter().map(|n| format!("W/\"{n}\"")).collect();
            let mut found = reply.versions("Condition");
            found.sort_unstable_by(|a, b| b.cmp(a));
            assert_eq!(found, expected, "{scope} {query}");
        }
        let mut url = format!("{scope}/_history?_at={}&_count=1", instants[1]);
        let mut seen = 0;
        loop {
            let reply = api.get(&url).await;
            assert!(reply.versions("").len() <= 1);
            seen += reply.versions("Condition").len();
            match reply.link("next") {
                Some(link) => url = link.replace("https://region.example", ""),
                None => break,
            }
        }
        assert_eq!(seen, 1, "{scope}");
    }
    for query in [
        "_at=yesterday",
        "_at=",
        "_at=2024",
        "_since=x",
        "_at=gt1970",
    ] {
        let reply = api.get(&format!("{path}/_history?{query}")).await;
        assert_eq!(reply.issue(), (400, "value".into()), "{query}");
    }
}

#[tokio::test]
async fn where_times_are_true_a_history_is_of_the_calendar() {
    let api = fixture_of(true).await;
    let patient = format!("/fhir/Patient/{}/_history", fixture::patient(1, 1950).id());
    for (query, count) in [
        ("_at=1970-01-01T00:00:01Z", 1),
        ("_at=1970", 2),
        ("_at=1969", 0),
        ("_at=2024", 1),
        ("_since=1970-01-01T00:00:02Z", 0),
        ("_since=1970-01-01T00:00:01Z&_at=1970", 2),
    ] {
        let reply = api.get(&format!("{patient}?{query}")).await;
        assert_eq!(reply.versions("Patient").len(), count, "{query}");
    }
}

#[tokio::test]
async fn a_history_says_what_was_posted_and_what_was_put() {
    let api = fixture().await;
    let mut body = finding(2001, None);
    let posted = api.create(&body).await;
    let entry = json!([{"resource": body, "request": {"method": "POST", "url": "Condition"}}]);
    let done = api.bundle("transaction", &entry).await.json();
    let place = done["entry"][0]["response"]["location"].as_str().unwrap();
    let in_transaction = place.split("/_history").next().unwrap().to_owned();
    body["id"] = json!("11111111-2222-4333-8444-555555555555");
    let put = "Condition/11111111-2222-4333-8444-555555555555".to_owned();
    let path = format!("/fhir/{put}");
    for status in [201, 200] {
        let reply = api.write(Method::PUT, &path, &[], &body.to_string()).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        body["recordedDate"] = json!("2002");
    }
    assert_eq!(api.write(Method::DELETE, &path, &[], "").await.status, 204);
    let revived = api.write(Method::PUT, &path, &[], &body.to_string()).await;
    assert_eq!(revived.status, 201, "{}", revived.text);
    let delivered = format!("Patient/{}", fixture::patient(1, 1950).id());
    let kind = "Condition".to_owned();
    for (of, expected) in [
        (&posted, vec![("POST", &kind, "201")]),
        (&in_transaction, vec![("POST", &kind, "201")]),
        (
            &put,
            vec![
                ("PUT", &put, "201"),
                ("DELETE", &put, "204"),
                ("PUT", &put, "200"),
                ("PUT", &put, "201"),
            ],
        ),
        (
            &delivered,
            vec![("PUT", &delivered, "200"), ("PUT", &delivered, "201")],
        ),
    ] {
        let history = api.get(&format!("/fhir/{of}/_history")).await.json();
        let entries = history["entry"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found: Vec<[String; 3]> = entries
            .map(|entry| {
                let (request, response) = (&entry["request"], &entry["response"]);
                [&request["method"], &request["url"], &response["status"]].map(text)
            })
            .collect();
        let expected = expected.into_iter();
        let expected: Vec<[String; 3]> = expected
            .map(|(method, url, status)| [method.to_owned(), url.clone(), status.to_owned()])
            .collect();
        assert_eq!(found, expected, "{of}");
    }
    // Who does not see that it was deleted is not told that it came again.
    let own = [("authorization", "Bearer only:Condition?code=38341003")];
    let history = api.get_with(&format!("{path}/_history"), &own).await.json();
    let statuses = history["entry"].as_array().unwrap().iter();
    let statuses: Vec<&str> = statuses
        .map(|entry| entry["response"]["status"].as_str().unwrap())
        .collect();
    assert_eq!(statuses, ["200", "200", "201"]);
}
