//! Tests of `Observation/$stats`.
use super::*;
use serde_json::json;

/// A code, its readings of patient 1 that are not withdrawn, and their numbers.
fn of_patient(code: &types::Code) -> Vec<f64> {
    let readings = (0..READINGS).map(fixture::reading);
    let own = readings.filter(|one| one.patient == Some(fixture::patient_id(1)));
    let of_code = own.filter(|one| one.code == *code);
    of_code
        .filter_map(|one| match one.value {
            types::Value::Quantity(text) => Some(text.to_string().parse().unwrap()),
            _ => None,
        })
        .collect()
}

/// The first code of which patient 1 has numbers.
fn a_code() -> (types::Code, Vec<f64>) {
    let mut all = types::Code::all().map(|code| (code, of_patient(&code)));
    all.find(|(_, numbers)| !numbers.is_empty()).unwrap()
}

fn figure(parameter: &Value, statistic: &str) -> Option<f64> {
    let components = parameter["resource"]["component"].as_array().unwrap();
    let own = |one: &&Value| one["code"]["coding"][0]["code"] == statistic;
    components.iter().find(own).unwrap()["valueQuantity"]["value"].as_f64()
}

fn path(code: &types::Code, more: &str) -> String {
    let patient = fixture::patient(1, 1950).id().clone();
    let (system, code) = (code.info().system, code.info().code);
    format!("/fhir/Observation/$stats?subject=Patient/{patient}&system={system}&code={code}{more}")
}

#[tokio::test]
async fn statistics_of_one_subject_are_those_of_its_readings_of_each_code() {
    let api = fixture().await;
    let (code, numbers) = a_code();
    let asked = "&statistic=max,min&statistic=sum,count,total-count&include=true";
    let reply = api.get(&path(&code, asked)).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let json = reply.json();
    assert_eq!(json["resourceType"], "Parameters");
    let all = json["parameter"].as_array().unwrap();
    let told = &all[0];
    assert_eq!(told["name"], "statistics");
    let resource = &told["resource"];
    assert_eq!(resource["status"], "final");
    assert_eq!(resource["code"]["coding"][0]["code"], code.info().code);
    let max = numbers.iter().copied().fold(f64::MIN, f64::max);
    assert_eq!(figure(told, "maximum"), Some(max));
    let count = u32::try_from(numbers.len()).unwrap();
    assert_eq!(figure(told, "count"), Some(f64::from(count)));
    let sum: f64 = numbers.iter().sum();
    assert!((figure(told, "sum").unwrap() - sum).abs() <= sum.abs() * 1e-9);
    assert!(
        resource["effectivePeriod"]["start"].as_str()
            <= resource["effectivePeriod"]["end"].as_str()
    );
    let sources = all.iter().filter(|one| one["name"] == "source").count();
    assert_eq!(
        figure(told, "total-count"),
        Some(f64::from(u32::try_from(sources).unwrap()))
    );
    let text = resource.to_string();
    let valid = crate::r4::validate(&text);
    assert!(valid.is_ok(), "{valid:?}");
    // What was withdrawn counts nowhere.
    let withdrawn: Vec<_> = (0..READINGS).map(fixture::withdrawn).collect();
    let delivery = Delivery {
        parcel: fixture::parcel(77),
        source: fixture::source(1),
        resources: withdrawn,
    };
    api.store
        .apply(vec![delivery], Timestamp(2_000))
        .await
        .unwrap();
    let reply = api
        .get(&path(&code, "&statistic=average,count,total-count"))
        .await;
    let told = &reply.json()["parameter"][0];
    assert_eq!(figure(told, "total-count"), Some(0.0));
    assert_eq!(figure(told, "average"), None);
    assert!(told.to_string().contains("not-applicable"));
}

#[tokio::test]
async fn statistics_are_of_what_the_token_covers_and_of_the_time_that_is_asked_for() {
    let api = fixture().await;
    let (code, numbers) = a_code();
    let whole = u32::try_from(numbers.len()).unwrap();
    let category = code.info();
    let reply = api.get(&path(&code, "&statistic=count")).await;
    assert_eq!(
        figure(&reply.json()["parameter"][0], "count"),
        Some(f64::from(whole))
    );
    for (scopes, expected) in [
        (format!("Observation?code={}", category.code), Some(whole)),
        ("Observation?code=nothing".to_owned(), Some(0)),
        ("Patient".to_owned(), None),
    ] {
        let token = format!("Bearer only:{scopes}");
        let asked = path(&code, "&statistic=count");
        let reply = api.get_with(&asked, &[("authorization", &token)]).await;
        match expected {
            Some(count) => {
                let told = &reply.json()["parameter"][0];
                assert_eq!(figure(told, "count"), Some(f64::from(count)), "{scopes}");
            }
            None => assert_eq!(reply.issue(), (403, "forbidden".into())),
        }
    }
    let patient = fixture::patient(1, 1950).id().clone();
    for (start, end, expected) in [("1980", "2100", whole), ("1980", "1990", 0)] {
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "subject", "valueUri": format!("Patient/{patient}")},
            {"name": "coding", "valueCoding": {"system": code.info().system, "code": code.info().code}},
            {"name": "period", "valuePeriod": {"start": start, "end": end}},
            {"name": "statistic", "valueCode": "count"},
        ]});
        let path = "/fhir/Observation/$stats";
        let reply = api
            .write(Method::POST, path, &[], &parameters.to_string())
            .await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
        let told = &reply.json()["parameter"][0];
        assert_eq!(figure(told, "count"), Some(f64::from(expected)), "{start}");
    }
}

#[tokio::test]
async fn what_statistics_cannot_be_of_is_refused() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    for (query, code) in [
        ("code=8867-4&statistic=count".to_owned(), "value"),
        (format!("subject={patient}&statistic=count"), "value"),
        (format!("subject={patient}&code=8867-4"), "value"),
        (
            format!("subject={patient}&code=8867-4&statistic=regression"),
            "not-supported",
        ),
        (
            format!("subject={patient}&code=8867-4&statistic=count&colour=red"),
            "not-supported",
        ),
        (
            format!("subject={patient}&code=8867-4&statistic=count&limit=0"),
            "value",
        ),
        (
            format!("subject={patient}&code=8867-4&statistic=count&include=perhaps"),
            "value",
        ),
        // Dates are shifted: the last hour is not known.
        (
            format!("subject={patient}&code=8867-4&statistic=count&duration=1"),
            "value",
        ),
        (
            format!("subject={patient},Patient/x&code=8867-4&statistic=count"),
            "value",
        ),
    ] {
        let reply = api.get(&format!("/fhir/Observation/$stats?{query}")).await;
        assert_eq!(reply.issue(), (400, code.to_owned()), "{query}");
    }
    let limited = fixture_of(true).await;
    let path = format!(
        "/fhir/Observation/$stats?subject={patient}&code=8867-4&statistic=count&duration=1"
    );
    let reply = limited.get(&path).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
}
