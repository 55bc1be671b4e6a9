//! What `/fhir/metadata` says is what is served: each interaction, parameter, include and operation that it declares is
//! called, and some that it does not are.
use super::finding_tests::finding;
use super::*;
use crate::query::{self, Kind};

/// Types of which everything that is declared is called. The table of all types is one (`offered`, `query::params`).
const TRIED: [&str; 10] = [
    "Condition",
    "Device",
    "Encounter",
    "List",
    "Location",
    "MedicationRequest",
    "Observation",
    "Patient",
    "RiskAssessment",
    "Subscription",
];

/// A value that can be read.
fn value(kind: Kind) -> &'static str {
    match kind {
        Kind::Date => "1970",
        Kind::Number | Kind::Quantity => "1",
        Kind::Special => "1.0%7C1.0%7C1%7Ckm",
        Kind::String | Kind::Token | Kind::Reference | Kind::Composite => "a",
        Kind::Uri => "http://x",
    }
}

fn value_of(name: &str, code: &str) -> String {
    let param = query::param(name, code).unwrap();
    match param.kind {
        Kind::Composite => {
            let parts = param.parts.iter().map(|part| value(part.kind));
            parts.collect::<Vec<_>>().join("%24")
        }
        kind => value(kind).to_owned(),
    }
}

async fn statement(api: &Fixture) -> Value {
    let statement = api.get_with("/fhir/metadata", &[]).await.json();
    assert_eq!(statement["fhirVersion"], "4.0.1");
    statement["rest"][0].clone()
}

/// The types that are tried, as they are declared.
async fn tried(api: &Fixture) -> Vec<(&'static str, Value)> {
    let statement = statement(api).await;
    let resources = statement["resource"].as_array().unwrap().clone();
    assert_eq!(resources.len(), ResourceType::every().count());
    let of = |name: &'static str| {
        let mut found = resources.iter().filter(|one| one["type"] == name);
        (name, found.next().unwrap().clone())
    };
    TRIED.map(of).to_vec()
}

fn texts<'v>(list: &'v Value, name: &str) -> Vec<&'v str> {
    let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |one: &'v Value| match one {
        Value::String(text) => text.as_str(),
        one => one[name].as_str().unwrap(),
    };
    all.iter().map(text).collect()
}

#[tokio::test]
async fn every_parameter_and_include_that_is_declared_is_served_and_others_are_refused() {
    let api = fixture().await;
    for (name, declared) in tried(&api).await {
        let params = texts(&declared["searchParam"], "name");
        assert!(params.len() > 4, "{name}");
        for code in &params {
            let value = value_of(name, code);
            let path = format!("/fhir/{name}?{code}={value}&_count=1");
            let reply = api.get(&path).await;
            assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        }
        for include in texts(&declared["searchInclude"], "") {
            let path = format!("/fhir/{name}?_include={include}&_count=1");
            assert_eq!(api.get(&path).await.status, StatusCode::OK, "{path}");
        }
        let known = |code: &&str| !params.contains(code) && query::param(name, code).is_none();
        let undeclared = [
            "colour", "_text", "_content", "_filter", "_query", "near-by",
        ];
        for code in undeclared.into_iter().filter(known) {
            let path = format!("/fhir/{name}?{code}=a");
            assert_eq!(api.get(&path).await.issue().0, 400, "{path}");
        }
        for path in [
            format!("/fhir/{name}?_include={name}:colour"),
            format!("/fhir/{name}?_include=Nonsense:subject"),
            format!("/fhir/{name}?_sort=colour"),
            format!("/fhir/{name}?{}:colour=a", params[0]),
        ] {
            assert_eq!(api.get(&path).await.issue().0, 400, "{path}");
        }
    }
}

/// A request for an interaction; what it writes or reads is not there, or is nothing that can be read.
fn request_for(code: &str, name: &str) -> Request<Body> {
    let (method, path) = match code {
        "read" => (Method::GET, format!("/{name}/x")),
        "vread" => (Method::GET, format!("/{name}/x/_history/1")),
        "search-type" => (Method::GET, format!("/{name}")),
        "create" => (Method::POST, format!("/{name}")),
        "update" => (Method::PUT, format!("/{name}/x")),
        "patch" => (Method::PATCH, format!("/{name}/x")),
        "delete" => (Method::DELETE, format!("/{name}/x")),
        "history-instance" => (Method::GET, format!("/{name}/x/_history")),
        "history-type" => (Method::GET, format!("/{name}/_history")),
        "batch" | "transaction" => (Method::POST, String::new()),
        "search-system" => (Method::GET, "?_count=1".to_owned()),
        "history-system" => (Method::GET, "/_history".to_owned()),
        other => panic!("{other}: no request is known"),
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("/fhir{path}"))
        .header("authorization", "Bearer all")
        .header("content-type", FHIR_JSON);
    request.body(Body::from("{}")).unwrap()
}

#[tokio::test]
async fn every_interaction_that_is_declared_is_served_and_others_are_refused() {
    const OF_TYPES: [&str; 9] = [
        "read",
        "vread",
        "search-type",
        "create",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
    ];
    let api = fixture().await;
    let system = statement(&api).await;
    let system = texts(&system["interaction"], "code");
    assert_eq!(system.len(), 4);
    for code in system {
        let reply = api.send(request_for(code, "")).await;
        assert_ne!(reply.status, StatusCode::METHOD_NOT_ALLOWED, "{code}");
        assert_ne!(reply.status, StatusCode::NOT_FOUND, "{code}");
    }
    for (name, declared) in tried(&api).await {
        let codes = texts(&declared["interaction"], "code");
        for code in OF_TYPES {
            let reply = api.send(request_for(code, name)).await;
            let is_served = reply.status != StatusCode::METHOD_NOT_ALLOWED;
            assert_eq!(is_served, codes.contains(&code), "{code} {name}");
            if !reply.status.is_success() {
                reply.issue();
            }
        }
        let writes = codes.contains(&"create");
        assert_eq!(
            declared["conditionalUpdate"].as_bool().unwrap_or(false),
            writes
        );
        let by_condition = Request::delete(format!("/fhir/{name}?_id=x"))
            .header("authorization", "Bearer all")
            .body(Body::empty());
        let status = api.send(by_condition.unwrap()).await.status.as_u16();
        assert_eq!(status, if writes { 204 } else { 405 }, "{name}");
    }
}

#[tokio::test]
async fn every_operation_that_is_declared_is_served_and_others_are_not() {
    let api = fixture().await;
    api.create(&finding(2001, None)).await;
    let patient = fixture::patient(1, 1950).id().clone();
    let all = [
        "meta",
        "everything",
        "lastn",
        "stats",
        "export",
        "colour",
        "status",
        "events",
        "sse",
    ];
    for (name, declared) in tried(&api).await {
        let operations = texts(&declared["operation"], "name");
        // These two are asked by POST alone, which has tests of its own.
        let by_post = ["meta-add", "meta-delete"];
        assert!(by_post.iter().all(|one| operations.contains(one)));
        assert!(
            operations
                .iter()
                .all(|one| all.contains(one) || by_post.contains(one)),
            "{operations:?}"
        );
        let found = api.get(&format!("/fhir/{name}?_count=1")).await;
        let id = found.ids().pop().unwrap_or_else(|| "x".to_owned());
        for operation in all {
            let path = match operation {
                "lastn" => format!("/fhir/{name}/$lastn?patient={patient}"),
                "stats" => format!(
                    "/fhir/{name}/$stats?subject=Patient/{patient}&code=8867-4&statistic=count"
                ),
                _ => format!("/fhir/{name}/{id}/${operation}"),
            };
            let reply = api.get(&path).await;
            let is_served = match id.as_str() {
                // There is none of the type: it is the resource that is not found.
                "x" if !matches!(operation, "lastn" | "stats") => {
                    reply.status == StatusCode::NOT_FOUND && reply.issue().1 == "not-found"
                }
                _ => reply.status == StatusCode::OK,
            };
            let is_declared = operations.contains(&operation);
            assert_eq!(is_served, is_declared, "{path}: {}", reply.text);
        }
        let validate = Request::post(format!("/fhir/{name}/$validate"))
            .header("authorization", "Bearer all")
            .header("content-type", FHIR_JSON)
            .body(Body::from(format!("{{\"resourceType\":\"{name}\"}}")));
        assert_eq!(
            api.send(validate.unwrap()).await.status,
            StatusCode::OK,
            "{name}"
        );
    }
    let system = statement(&api).await;
    assert_eq!(texts(&system["operation"], "name"), ["validate"]);
    let whole = api.get("/fhir/metadata").await.json();
    let formats = ["application/json-patch+json", FHIR_JSON];
    assert_eq!(whole["patchFormat"], serde_json::json!(formats));
}

#[tokio::test]
async fn what_there_is_is_told_whole_and_nothing_of_terminology() {
    let api = fixture().await;
    let whole = api.get("/fhir/metadata").await.json();
    for mode in ["full", "normative"] {
        let told = api.get(&format!("/fhir/metadata?mode={mode}")).await.json();
        assert_eq!(told, whole, "{mode}");
    }
    for mode in ["terminology", "everything"] {
        let reply = api.get(&format!("/fhir/metadata?mode={mode}")).await;
        assert_eq!(reply.issue(), (400, "value".to_owned()), "{mode}");
    }
}

#[tokio::test]
async fn a_read_is_conditional_by_its_time_where_times_are_true() {
    let patient = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let headers = [
        ("authorization", "Bearer all"),
        ("if-modified-since", "Sat, 01 Jan 2050 00:00:00 GMT"),
    ];
    for (true_times, declared, status) in [(false, "not-match", 200), (true, "full-support", 304)] {
        let api = fixture_of(true_times).await;
        let told = statement(&api).await["resource"][0]["conditionalRead"].clone();
        assert_eq!(told, declared);
        let read = api.get_with(&patient, &headers).await;
        assert_eq!(read.status.as_u16(), status, "{declared}");
    }
}

#[tokio::test]
async fn every_compartment_and_parameter_of_all_types_that_is_declared_is_served() {
    let api = fixture().await;
    let told = statement(&api).await;
    let declared = texts(&told["compartment"], "");
    for kind in [
        "Device",
        "Encounter",
        "Patient",
        "Practitioner",
        "RelatedPerson",
        "Organization",
    ] {
        let url = format!("http://hl7.org/fhir/CompartmentDefinition/{kind}");
        let is_declared = declared.iter().any(|one| one.eq_ignore_ascii_case(&url));
        let reply = api.get(&format!("/fhir/{kind}/x/Observation")).await;
        assert_eq!(reply.status == StatusCode::OK, is_declared, "{kind}");
    }
    let params = texts(&told["searchParam"], "name");
    assert_eq!(params, ["_id", "_lastUpdated"]);
    for param in params {
        let reply = api.get(&format!("/fhir?{param}=1970&_count=1")).await;
        assert_eq!(reply.status, StatusCode::OK, "{param}: {}", reply.text);
    }
}
