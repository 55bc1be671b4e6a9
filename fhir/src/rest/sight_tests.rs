//! The matrix of what a token with search parameters in its scopes reaches: every way to a resource, of what it covers and
//! of what it does not.
use super::finding_tests::{finding, identifier};
use super::*;
use serde_json::json;

/// What the scope of Conditions finds.
const COVERED: &str = "38341003";
/// What it does not.
const HIDDEN: &str = "44054006";

/// References of an encounter, and of a finding that is covered and of one that is hidden, both of it.
async fn data(api: &Fixture) -> (String, String, String) {
    let encounter = api.create(&writing_tests::encounter()).await;
    let covered = api.create(&finding(2001, Some(&encounter))).await;
    let mut other = finding(2002, Some(&encounter));
    other["code"]["coding"][0]["code"] = HIDDEN.into();
    let hidden = api.create(&other).await;
    (encounter, covered, hidden)
}

fn token(scopes: &str) -> String {
    format!("Bearer only:{scopes}")
}

fn id_of(reference: &str) -> &str {
    reference.split('/').nth(1).unwrap()
}

/// Ways to Conditions, each with how many resources it finds, where that is told.
fn paths(encounter: &str, hidden: &str, list: &str) -> Vec<(String, Option<usize>)> {
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let hidden_id = id_of(hidden);
    vec![
        ("Condition".to_owned(), Some(1)),
        (format!("Condition?code={HIDDEN}"), Some(0)),
        (format!("Condition?code={COVERED},{HIDDEN}"), Some(1)),
        ("Condition?code:not=x".into(), Some(1)),
        ("Condition?recorded-date=2002".into(), Some(0)),
        (
            "Condition?_sort=-recorded-date&_total=accurate".into(),
            Some(1),
        ),
        (format!("Condition?_id={hidden_id}"), Some(0)),
        (format!("Condition?_list={}", id_of(list)), Some(1)),
        ("Condition?encounter.status=finished".into(), Some(1)),
        ("?_type=Condition".into(), Some(1)),
        (
            "Encounter?_has:Condition:encounter:recorded-date=2002".into(),
            Some(0),
        ),
        (
            "Encounter?_has:Condition:encounter:recorded-date=2001".into(),
            Some(1),
        ),
        (
            "Patient?_has:Condition:subject:_id=".to_owned() + hidden_id,
            Some(0),
        ),
        ("Encounter?_revinclude=Condition:encounter".into(), Some(1)),
        (list.to_owned(), None),
        ("List?_include=List:item".into(), Some(1)),
        (format!("{patient}/Condition"), Some(1)),
        (format!("{encounter}/Condition?recorded-date=2002"), Some(0)),
        (format!("{patient}/$everything"), None),
        (format!("{encounter}/$everything?_count=1"), None),
        ("Condition/_history".into(), None),
        (hidden.to_owned(), None),
        (format!("{hidden}/_history"), None),
        (format!("{hidden}/_history/1"), None),
        (format!("{hidden}/$meta"), None),
    ]
}

#[tokio::test]
async fn no_way_leads_to_what_a_scope_does_not_find() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        let (encounter, covered, hidden) = data(&api).await;
        let list = api
            .create(
                &json!({"resourceType": "List", "status": "current", "mode": "working",
                "entry": [{"item": {"reference": covered}}, {"item": {"reference": hidden}}]}),
            )
            .await;
        let token = token(&format!("Condition?code={COVERED};Patient;Encounter;List"));
        let own = [("authorization", token.as_str())];
        let hidden_id = id_of(&hidden);
        for (path, count) in paths(&encounter, &hidden, &list) {
            let slash = if path.starts_with('?') { "" } else { "/" };
            let mut url = format!("/fhir{slash}{path}");
            loop {
                let reply = api.get_with(&url, &own).await;
                if path.starts_with(&hidden) {
                    assert_eq!(reply.issue(), (404, "not-found".into()), "{path}");
                    break;
                }
                assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
                let entries = reply.json()["entry"].to_string();
                let is_list = path.contains("List");
                let told = format!("\"id\":\"{hidden_id}\"");
                assert!(!entries.contains(&told), "{path}: {}", reply.text);
                assert!(is_list || !entries.contains(HIDDEN), "{path}");
                if let Some(count) = count {
                    assert_eq!(
                        reply.entries("match").len(),
                        count,
                        "{path}: {}",
                        reply.text
                    );
                }
                let is_bundle = reply.json()["resourceType"] == "Bundle";
                match is_bundle.then(|| reply.link("next")).flatten() {
                    Some(next) => url = next.replace("https://region.example", ""),
                    None => break,
                }
            }
        }
        for query in ["_summary=count", "_count=0", "_total=accurate"] {
            let path = format!("/fhir/Condition?{query}");
            let total = api.get_with(&path, &own).await.json()["total"].clone();
            assert_eq!(total, 1, "{query}");
        }
        let reply = api.get_with(&format!("/fhir/{covered}"), &own).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
}

impl Fixture {
    async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("authorization", token);
        if !body.is_null() && !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", FHIR_JSON);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = match body.is_null() {
            true => String::new(),
            false => body.to_string(),
        };
        self.send(request.body(Body::from(text)).unwrap()).await
    }
}

/// A body under the id of a reference.
fn of(reference: &str, body: &Value) -> Value {
    let mut body = body.clone();
    body["id"] = id_of(reference).into();
    body
}

/// A transaction of one entry.
fn entry(method: &str, url: &str, body: &Value) -> Value {
    let mut entry = json!({"request": {"method": method, "url": url}});
    if !body.is_null() {
        entry["resource"] = body.clone();
    }
    json!({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
}

#[tokio::test]
async fn nothing_is_written_that_a_scope_does_not_find() {
    let api = fixture().await;
    let (_, covered, hidden) = data(&api).await;
    let token = token(&format!("Condition?code={COVERED}"));
    let good = finding(2003, None);
    let mut bad = finding(2004, None);
    bad["code"]["coding"][0]["code"] = HIDDEN.into();
    let patch = json!([{"op": "replace", "path": "/code/coding/0/code", "value": HIDDEN}]);
    let mend = json!([{"op": "replace", "path": "/code/coding/0/code", "value": COVERED}]);
    let json_patch = [("content-type", "application/json-patch+json")];
    let nothing = Value::Null;
    let named = identifier(2002);
    let found = format!("/fhir/Condition?identifier=urn:ietf:rfc:3986%7C{named}");
    let (at_covered, at_hidden) = (format!("/fhir/{covered}"), format!("/fhir/{hidden}"));
    let to_hidden = of(&hidden, &good);
    for (method, path, headers, body, status) in [
        (Method::POST, "/fhir/Condition", &[][..], &bad, 403),
        (Method::PUT, &at_covered, &[], &of(&covered, &bad), 403),
        (Method::PUT, &at_hidden, &[], &to_hidden, 404),
        (Method::PATCH, &at_covered, &json_patch, &patch, 403),
        (Method::PATCH, &at_hidden, &json_patch, &mend, 404),
        (Method::PATCH, &found, &json_patch, &mend, 404),
        (Method::DELETE, &at_hidden, &[], &nothing, 404),
        (Method::DELETE, &found, &[], &nothing, 204),
        (
            Method::POST,
            "/fhir",
            &[],
            &entry("POST", "Condition", &bad),
            403,
        ),
        (
            Method::POST,
            "/fhir",
            &[],
            &entry("PUT", &hidden, &to_hidden),
            404,
        ),
        (
            Method::POST,
            "/fhir",
            &[],
            &entry("DELETE", &hidden, &nothing),
            404,
        ),
        (
            Method::POST,
            "/fhir/Encounter",
            &[],
            &writing_tests::encounter(),
            403,
        ),
    ] {
        let name = format!("{method} {path}");
        let reply = api.send_as(&token, method, path, headers, body).await;
        assert_eq!(reply.status.as_u16(), status, "{name}: {}", reply.text);
    }
    let read = api.get(&at_hidden).await;
    assert_eq!(read.headers[header::ETAG], "W/\"1\"");
    assert_eq!(api.get(&at_covered).await.headers[header::ETAG], "W/\"1\"");
    let path = "/fhir/Condition";
    let made = api.send_as(&token, Method::POST, path, &[], &good).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    for (method, body) in [
        (Method::PUT, of(&covered, &finding(2005, None))),
        (Method::DELETE, Value::Null),
    ] {
        let reply = api.send_as(&token, method, &at_covered, &[], &body).await;
        assert!(reply.status.is_success(), "{}", reply.text);
    }
}

type Write = (Method, String, Vec<(&'static str, &'static str)>, Value);

/// Writes at an id, each by itself and in a transaction: method, path, headers and body.
fn writes_at(reference: &str, body: &Value) -> Vec<Write> {
    let kind = reference.split('/').next().unwrap();
    let (path, body) = (format!("/fhir/{reference}"), of(reference, body));
    let none = format!(
        "{kind}?identifier=urn:ietf:rfc:3986%7Curn:uuid:{}",
        UNUSED[0]
    );
    let patch = json!([{"op": "replace", "path": "/status", "value": "final"}]);
    let json_patch = vec![("content-type", "application/json-patch+json")];
    let mut conditioned = entry("PUT", reference, &body);
    conditioned["entry"][0]["request"]["ifNoneMatch"] = "*".into();
    let nothing = Value::Null;
    let bundle = |body| (Method::POST, "/fhir".to_owned(), Vec::new(), body);
    vec![
        (Method::PUT, path.clone(), vec![], body.clone()),
        (
            Method::PUT,
            path.clone(),
            vec![("if-none-match", "*")],
            body.clone(),
        ),
        (
            Method::PUT,
            path.clone(),
            vec![("if-match", "W/\"1\"")],
            body.clone(),
        ),
        (
            Method::PUT,
            path.clone(),
            vec![("if-match", "*")],
            body.clone(),
        ),
        (
            Method::PUT,
            path.clone(),
            vec![],
            json!({"resourceType": kind, "id": id_of(reference)}),
        ),
        (Method::PUT, format!("/fhir/{none}"), vec![], body.clone()),
        (Method::PATCH, path.clone(), json_patch, patch),
        (Method::DELETE, path.clone(), vec![], nothing.clone()),
        (
            Method::DELETE,
            path,
            vec![("if-match", "W/\"1\"")],
            nothing.clone(),
        ),
        bundle(entry("PUT", reference, &body)),
        bundle(conditioned),
        bundle(entry("PUT", &none, &body)),
        bundle(entry("DELETE", reference, &nothing)),
    ]
}

/// Ids under which nothing is: of a client's choice, and as the mesh draws them.
const UNUSED: [&str; 2] = [
    "0b8f6a44-5d1c-4c7e-9f2e-0d9a3c1b7e55",
    "0123456789abcdef0123456789abcdef",
];

#[tokio::test]
async fn what_is_written_under_a_hidden_id_is_answered_as_under_one_that_nothing_has() {
    let api = fixture().await;
    let (_, _, hidden) = data(&api).await;
    let reading = fixture::observation(1);
    let delivered = format!("Observation/{}", reading.id());
    let token = token(&format!("Condition?code={COVERED};Observation?code=none"));
    let condition = finding(2003, None);
    let observation: Value = serde_json::from_str(reading.json()).unwrap();
    for (taken, unused, body) in [
        (&hidden, UNUSED[0], &condition),
        (&delivered, UNUSED[1], &observation),
    ] {
        let kind = taken.split('/').next().unwrap();
        let free = format!("{kind}/{unused}");
        let pairs = writes_at(taken, body)
            .into_iter()
            .zip(writes_at(&free, body));
        for ((method, path, headers, body), (_, other, _, same)) in pairs {
            let name = format!("{method} {path} {headers:?} {body}");
            let found = api
                .send_as(&token, method.clone(), &path, &headers, &body)
                .await;
            let none = api.send_as(&token, method, &other, &headers, &same).await;
            assert!(found.status.is_client_error(), "{name}: {}", found.text);
            assert_eq!(
                found.status, none.status,
                "{name}: {} {}",
                found.text, none.text
            );
            let told = found.text.replace(id_of(taken), unused);
            assert_eq!(told, none.text, "{name}");
        }
        let own = api.get(&format!("/fhir/{taken}")).await;
        assert_eq!(own.headers[header::ETAG], "W/\"1\"", "{taken}");
        let free = api.get(&format!("/fhir/{free}")).await;
        assert_eq!(free.status, StatusCode::NOT_FOUND, "{}", free.text);
    }
}

#[tokio::test]
async fn what_was_deleted_is_answered_as_what_never_was_to_who_does_not_see_everything() {
    let api = fixture().await;
    let (_, _, hidden) = data(&api).await;
    let path = format!("/fhir/{hidden}");
    let deleted = api.write(Method::DELETE, &path, &[], "").await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    let token = token(&format!("Condition?code={COVERED}"));
    let free = format!("Condition/{}", UNUSED[0]);
    let body = finding(2003, None);
    let mut pairs: Vec<(Write, Write)> = writes_at(&hidden, &body)
        .into_iter()
        .zip(writes_at(&free, &body))
        .collect();
    for rest in [
        "",
        "/_history",
        "/_history/1",
        "/_history/2",
        "/_history?_since=1970-01-01T00:00:00Z",
        "/$meta",
        "/$validate?mode=delete",
    ] {
        let method = match rest.starts_with("/$validate") {
            true => Method::POST,
            false => Method::GET,
        };
        let read = |of: &str| {
            let path = format!("/fhir/{of}{rest}");
            (method.clone(), path, Vec::new(), Value::Null)
        };
        pairs.push((read(&hidden), read(&free)));
    }
    for ((method, path, headers, body), (_, other, _, same)) in pairs {
        let name = format!("{method} {path} {headers:?} {body}");
        let found = api
            .send_as(&token, method.clone(), &path, &headers, &body)
            .await;
        let none = api.send_as(&token, method, &other, &headers, &same).await;
        assert_eq!(found.status, none.status, "{name}: {}", found.text);
        let told = found.text.replace(id_of(&hidden), UNUSED[0]);
        assert_eq!(told, none.text, "{name}");
    }
    assert_eq!(api.get(&path).await.issue().0, 410);
}

/// A reading is found by none of the ways that its id leads by.
async fn is_not_found(api: &Fixture, id: &str, own: &[(&'static str, &str)]) {
    for path in ["", "/_history", "/_history/1", "/$meta"] {
        let reply = api
            .get_with(&format!("/fhir/Observation/{id}{path}"), own)
            .await;
        assert_eq!(reply.issue(), (404, "not-found".into()), "{id}{path}");
    }
}

#[tokio::test]
async fn no_way_leads_to_readings_that_a_scope_does_not_find() {
    let api = fixture().await;
    let all = api.get("/fhir/Observation?_count=1000").await.json();
    let all: Vec<Value> = all["entry"].as_array().unwrap().clone();
    let is_vital =
        |entry: &&Value| entry["resource"]["category"][0]["coding"][0]["code"] == "vital-signs";
    let (vital, other): (Vec<&Value>, Vec<&Value>) = all.iter().partition(is_vital);
    assert!(!vital.is_empty() && !other.is_empty());
    let count = u64::try_from(vital.len()).ok();
    let patient = fixture::patient(1, 1950).id().to_string();
    let of_patient = vital
        .iter()
        .filter(|one| one["resource"]["subject"]["reference"] == format!("Patient/{patient}"));
    let of_patient = of_patient.count();
    for scope in [
        "category=vital-signs",
        "category:not=laboratory,survey,procedure,environment",
    ] {
        let token = token(&format!("Observation?{scope};Patient;Device"));
        let own = [("authorization", token.as_str())];
        for query in ["_count=0", "_summary=count", "_total=accurate&_count=1"] {
            let path = format!("/fhir/Observation?{query}");
            let total = api.get_with(&path, &own).await.json()["total"].as_u64();
            assert_eq!(total, count, "{scope} {query}");
        }
        for (path, is_all) in [
            ("Observation?_count=1000".to_owned(), false),
            ("Observation?_count=1000&_sort=-_lastUpdated".into(), false),
            (format!("Observation?patient={patient}&_count=1000"), true),
            (format!("Patient/{patient}/Observation?_count=1000"), true),
            (format!("Patient/{patient}/$everything?_count=1000"), true),
            (
                format!("Observation/$lastn?patient={patient}&max=100"),
                true,
            ),
            (
                format!("Patient?_id={patient}&_revinclude=Observation:patient"),
                true,
            ),
        ] {
            let reply = api.get_with(&format!("/fhir/{path}"), &own).await;
            let found: Vec<String> = ["match", "include"]
                .iter()
                .flat_map(|mode| reply.entries(mode))
                .filter(|one| one.starts_with("Observation/"))
                .collect();
            let expected = if is_all { of_patient } else { vital.len() };
            assert_eq!(found.len(), expected, "{scope} {path}");
        }
        for one in &other {
            is_not_found(&api, one["resource"]["id"].as_str().unwrap(), &own).await;
        }
        for path in ["?_type=Observation&_count=1000", "?_count=1000"] {
            let found = api.get_with(&format!("/fhir{path}"), &own).await;
            let found = found.entries("match");
            let readings = found.iter().filter(|one| one.starts_with("Observation/"));
            assert_eq!(readings.count(), vital.len(), "{scope} {path}");
        }
    }
    // What no column of readings answers is judged at their own path alone.
    let token = token("Observation?status=final;Patient;Device");
    let own = [("authorization", token.as_str())];
    let named = api.get_with("/fhir?_type=Observation", &own).await;
    assert_eq!(named.issue().0, 403);
    let left_out = api
        .get_with("/fhir?_count=1000", &own)
        .await
        .entries("match");
    assert!(left_out.iter().all(|one| !one.starts_with("Observation")));
}

#[tokio::test]
async fn a_scope_that_looks_elsewhere_or_cannot_be_read_covers_nothing() {
    let api = fixture().await;
    data(&api).await;
    for query in [
        "encounter.status=finished",
        "_has:Provenance:target:agent=x",
        "_list=x",
        "_lastUpdated=gt1970",
        "colour=red",
        "_count=1",
        "code",
    ] {
        let token = token(&format!("Condition?{query}"));
        let own = [("authorization", token.as_str())];
        let reply = api.get_with("/fhir/Condition", &own).await;
        assert_eq!(reply.issue(), (403, "forbidden".into()), "{query}");
    }
}

#[test]
fn of_several_scopes_over_a_type_those_that_can_be_read_count() {
    let condition = ResourceType::parse("Condition").unwrap();
    for (queries, expected) in [
        (&["code=a", "colour=red"][..], &["code=a"][..]),
        (
            &["encounter.status=x", "code=a", "code=b"][..],
            &["code=a", "code=b"][..],
        ),
        (&["colour=red"][..], &["colour=red"][..]),
        (
            &["colour=red", "_list=x"][..],
            &["colour=red", "_list=x"][..],
        ),
    ] {
        assert_eq!(understood(condition, queries.to_vec()), expected);
    }
}

#[path = "without_tests.rs"]
mod without_tests;

/// How many entries each page of a listing has, whose links tell nothing of what has these ids.
async fn pages(api: &Fixture, path: &str, token: &str, hidden: &[&str]) -> Vec<usize> {
    let (mut url, mut pages) = (path.to_owned(), Vec::new());
    loop {
        let reply = api.get_with(&url, &[("authorization", token)]).await;
        assert_eq!(reply.status, StatusCode::OK, "{url}: {}", reply.text);
        let json = reply.json();
        pages.push(json["entry"].as_array().map_or(0, Vec::len));
        for id in hidden {
            assert!(
                !json["link"].to_string().contains(id),
                "{path}: {}",
                json["link"]
            );
        }
        match reply.link("next") {
            Some(next) => url = next.replace("https://region.example", ""),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn the_pages_of_a_history_tell_nothing_of_what_is_hidden_on_the_way() {
    for limited in [false, true] {
        let api = fixture_of(limited).await;
        let mut hidden = Vec::new();
        for year in 2001..2013 {
            let mut one = finding(year, None);
            if year % 4 != 0 {
                one["code"]["coding"][0]["code"] = HIDDEN.into();
            }
            let made = api.create(&one).await;
            hidden.extend((year % 4 != 0).then_some(made));
        }
        let ids: Vec<&str> = hidden.iter().map(|made| id_of(made)).collect();
        let token = token(&format!("Condition?code={COVERED};Patient"));
        let found = pages(&api, "/fhir/Condition/_history?_count=1", &token, &ids).await;
        assert_eq!(found, [1, 1, 1]);
        let found = pages(&api, "/fhir/Condition/_history?_count=2", &token, &ids).await;
        assert_eq!(found, [2, 1]);
        let found = pages(&api, "/fhir/Condition/_history?_count=3", &token, &ids).await;
        assert_eq!(found, [3]);
        let all = pages(&api, "/fhir/Condition/_history?_count=5", "Bearer all", &[]).await;
        assert_eq!(all, [5, 5, 2]);
    }
}

#[tokio::test]
async fn the_pages_of_everything_of_a_patient_tell_nothing_of_hidden_readings() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let path = format!("/fhir/{patient}/$everything?_type=Observation&_count=1");
    let all = pages(&api, &path, "Bearer all", &[]).await;
    let one = fixture::observation(7).id().to_string();
    let token = token(&format!("Patient;Observation?identifier={one}"));
    let found = pages(&api, &path, &token, &[]).await;
    assert!(all.len() > 2 && found == [1], "{} {found:?}", all.len());
}

#[tokio::test]
async fn what_is_hidden_makes_no_page_too_large() {
    let api = fixture().await;
    let readings = (0..1_100).map(|number| fixture::observation(601 + 6 * number));
    let delivery = Delivery {
        parcel: fixture::parcel(9),
        source: fixture::source(1),
        resources: readings.collect(),
    };
    let applied = api.store.apply(vec![delivery], Timestamp(2_000)).await;
    applied.unwrap();
    let patient = fixture::patient(1, 1950).id().to_string();
    let path = format!("/fhir/Patient?_id={patient}&_revinclude=Observation:patient");
    assert_eq!(api.get(&path).await.issue(), (400, "too-costly".into()));
    let one = fixture::observation(607).id().to_string();
    let token = token(&format!("Patient;Observation?identifier={one}"));
    let own = [("authorization", token.as_str())];
    let found = api.get_with(&path, &own).await.entries("include");
    assert_eq!(found, [format!("Observation/{one}")]);
}
