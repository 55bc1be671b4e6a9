//! Tests of long resources: that they are taken, and that no page and no transaction holds many of them.
use super::synthea_tests::{identified, without_what_the_server_says};
use super::*;
use crate::admit::Holding;
use crate::rest::routes::{MAX_RESOURCE_BYTES, may_be_long};
use crate::store::{Change, Draft, Expect, MAX_PAGE_BYTES, Transaction};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Bytes of one, of which a page has room for six.
const LONG: usize = 700_000;
/// Of each type.
const COUNT: usize = 13;

fn examples() -> Vec<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
    let data = std::env::var_os("MEDMESH_DATA").map_or_else(|| beside.into(), PathBuf::from);
    let parts = ["us-core-examples", "fhir-test-cases-r4"];
    let mut folders = parts.map(|part| data.join("fhir-r4").join(part)).to_vec();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false if path.extension().is_some_and(|end| end == "json") => found.push(path),
                false => {}
            }
        }
    }
    found
}

#[tokio::test]
#[cfg_attr(not(medmesh_data), ignore = "needs the examples: MEDMESH_DATA")]
async fn every_example_of_r4_is_taken_and_read_back_equal_however_long_it_is() {
    let api = identified().await;
    let (mut taken, mut refused, mut long) = (0, 0, 0);
    for file in examples() {
        let text = std::fs::read_to_string(&file).unwrap();
        let resource: Value = serde_json::from_str(&text).unwrap();
        let kind = resource["resourceType"].as_str().unwrap().to_owned();
        let path = format!("/fhir/{kind}");
        let reply = api.write(Method::POST, &path, &[], &text).await;
        // What is not R4 is listed where that is judged; and a Subscription is one of a topic.
        if crate::r4::validate(&text).is_err() || kind == "Subscription" {
            assert_eq!(reply.status.as_u16(), 422, "{}", file.display());
            refused += 1;
            continue;
        }
        let told = format!("{}: {:.500}", file.display(), reply.text);
        assert_eq!(reply.status, StatusCode::CREATED, "{told}");
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        let read = api.get(&format!("{path}/{id}")).await.json();
        let expected = without_what_the_server_says(resource);
        assert_eq!(without_what_the_server_says(read), expected, "{told}");
        taken += 1;
        long += usize::from(text.len() > 128 << 10);
    }
    assert!(taken > 290, "{taken}");
    assert_eq!((refused, long), (11, 7));
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// Long Conditions and Observations of patient 1, as they may be where whatever is R4 is held.
async fn fill(api: &Fixture) {
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let note = json!([{"text": "a".repeat(LONG)}]);
    let condition = json!({
        "resourceType": "Condition", "note": note, "subject": {"reference": patient},
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "38341003"}]},
    });
    let observation = json!({
        "resourceType": "Observation", "note": note, "subject": {"reference": patient},
        "status": "final", "code": {"coding": [{"system": "http://x", "code": "38341003"}]},
    });
    for text in [condition.to_string(), observation.to_string()] {
        let kind = ResourceType::parse(match text.contains("\"Condition\"") {
            true => "Condition",
            false => "Observation",
        });
        let base = "https://region.example/fhir";
        let put = |number| Change::Put {
            draft: Draft::parse(
                &Holding::Identified,
                kind.unwrap(),
                id(number).parse().unwrap(),
                &text,
                base,
            )
            .unwrap(),
            expect: Expect::Absent,
        };
        let transaction = Transaction {
            author: "all".into(),
            now: Timestamp(2_000),
            changes: (0..COUNT).map(put).collect(),
            guards: Vec::new(),
        };
        api.store.transact(transaction).await.unwrap();
    }
}

/// The long resources of a type on each page of a listing.
async fn pages(api: &Fixture, (path, token): (&str, &str), kind: &str) -> Vec<Vec<String>> {
    let (mut url, mut pages) = (format!("/fhir/{path}"), Vec::new());
    loop {
        let reply = api.get_with(&url, &[("authorization", token)]).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {:.500}", reply.text);
        assert!(
            reply.text.len() < MAX_PAGE_BYTES + LONG + (64 << 10),
            "{path}"
        );
        let json = reply.json();
        let entries = json["entry"].as_array().cloned().unwrap_or_default();
        let resources = entries.iter().map(|entry| &entry["resource"]);
        // Readings that facilities delivered have a short note of their own.
        let is_long = |one: &Value| one["note"][0]["text"].as_str().map(str::len) == Some(LONG);
        let long = resources.filter(|one| one["resourceType"] == kind && is_long(one));
        pages.push(long.map(|one| one["id"].to_string()).collect());
        match reply.link("next") {
            Some(next) => url = next.replace("https://region.example", ""),
            None => return pages,
        }
        assert!(pages.len() < 20, "{path}: pages end");
    }
}

#[tokio::test]
async fn a_page_of_long_resources_ends_before_its_count_and_its_link_goes_on_behind_it() {
    let api = fixture().await;
    fill(&api).await;
    let everything = format!(
        "Patient/{}/$everything?_count=1000",
        fixture::patient(1, 1950).id()
    );
    let of_codes = "Bearer only:Condition?code=38341003;Observation?code=38341003";
    for (path, token, kind) in [
        ("Condition?_count=1000", "Bearer all", "Condition"),
        ("Condition?_count=1000", of_codes, "Condition"),
        (
            "Condition?_sort=-_lastUpdated&_count=1000",
            "Bearer all",
            "Condition",
        ),
        ("Condition/_history?_count=1000", "Bearer all", "Condition"),
        ("Condition/_history?_count=1000", of_codes, "Condition"),
        ("_history?_count=1000", "Bearer all", "Condition"),
        ("Observation?_count=1000", "Bearer all", "Observation"),
        (
            "Observation?_sort=-_lastUpdated&_count=1000",
            "Bearer all",
            "Observation",
        ),
        (
            "Observation?_sort=_id&_count=1000",
            "Bearer all",
            "Observation",
        ),
        (
            "Observation?encounter:missing=true&_count=1000",
            "Bearer all",
            "Observation",
        ),
        (everything.as_str(), "Bearer all", "Condition"),
        (everything.as_str(), "Bearer all", "Observation"),
    ] {
        let pages = pages(&api, (path, token), kind).await;
        let all: BTreeSet<&String> = pages.iter().flatten().collect();
        let count = pages.iter().map(Vec::len).sum::<usize>();
        assert_eq!((all.len(), count), (COUNT, COUNT), "{path}");
        assert!(pages.iter().all(|page| page.len() <= 6), "{path}");
    }
}

#[tokio::test]
async fn what_is_included_is_refused_where_it_is_too_long() {
    let api = fixture().await;
    fill(&api).await;
    let patient = fixture::patient(1, 1950).id().to_string();
    for (path, status) in [
        (
            format!("Patient?_id={patient}&_revinclude=Condition:subject"),
            400,
        ),
        (
            format!("Patient?_id={patient}&_revinclude=Observation:subject"),
            400,
        ),
        (
            "Condition?_count=3&_include=Condition:subject".to_owned(),
            200,
        ),
    ] {
        let reply = api.get(&format!("/fhir/{path}")).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {:.500}", reply.text);
        assert!(status == 200 || reply.text.contains("8 MiB"), "{path}");
    }
}

#[tokio::test]
async fn a_transaction_of_short_entries_holds_no_more_than_one_may_of_what_is_long() {
    let api = fixture().await;
    fill(&api).await;
    let patch = r#"[{"op":"add","path":"/recordedDate","value":"2002"}]"#;
    let patch = json!({"resourceType": "Binary", "contentType": "application/json-patch+json",
        "data": STANDARD.encode(patch)});
    let entry = |number| {
        let url = format!("Condition/{}", id(number));
        json!({"resource": patch, "request": {"method": "PATCH", "url": url}})
    };
    let entries: Vec<Value> = (0..COUNT).map(entry).collect();
    let reply = api.bundle("transaction", &entries.into()).await;
    assert_eq!(reply.issue(), (400, "too-costly".into()), "{}", reply.text);
    assert!(reply.text.contains("Bundle.entry[11]"), "{}", reply.text);
}

#[test]
fn resources_patches_and_bundles_may_be_long_and_no_other_body() {
    for (method, path, may) in [
        (Method::POST, "/fhir", true),
        (Method::POST, "/fhir/", true),
        (Method::POST, "/fhir/Patient", true),
        (Method::PUT, "/fhir/Patient/1", true),
        (Method::PUT, "/fhir/Patient", true),
        (Method::PATCH, "/fhir/Patient/1", true),
        (Method::POST, "/fhir/$validate", true),
        (Method::POST, "/fhir/Patient/%24validate", true),
        (Method::POST, "/fhir/Patient/1/$validate", true),
        (Method::POST, "/fhir/_search", false),
        (Method::POST, "/fhir/Patient/_search", false),
        (Method::POST, "/fhir/$import", false),
        (Method::POST, "/fhir/Colour", false),
        (Method::GET, "/fhir/Patient", false),
        (Method::DELETE, "/fhir/Patient/1", false),
        (Method::PUT, "/fhirs/Patient/1", false),
        (Method::POST, "/fhirs", false),
        (Method::POST, "/auth/token", false),
    ] {
        assert_eq!(may_be_long(&method, path), may, "{method} {path}");
    }
}

#[tokio::test]
async fn a_resource_of_the_longest_is_taken_and_of_one_byte_more_is_not() {
    let api = identified().await;
    let of_bytes = |bytes: usize| {
        let codings = |texts: [usize; 2]| {
            texts
                .map(|length| format!(r#"{{"display":"{}"}}"#, "a".repeat(length)))
                .join(",")
        };
        let text = |texts| {
            format!(
                r#"{{"resourceType":"Basic","code":{{"coding":[{}]}}}}"#,
                codings(texts)
            )
        };
        let rest = bytes - text([0, 0]).len();
        text([rest / 2, rest - rest / 2])
    };
    for (bytes, status) in [(MAX_RESOURCE_BYTES, 201), (MAX_RESOURCE_BYTES + 1, 413)] {
        let body = of_bytes(bytes);
        assert_eq!(body.len(), bytes);
        let reply = api.write(Method::POST, "/fhir/Basic", &[], &body).await;
        assert_eq!(reply.status.as_u16(), status, "{:.500}", reply.text);
    }
}
