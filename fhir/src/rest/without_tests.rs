//! What a client is shown that may see nothing of a patient.
use super::*;
use serde_json::json;

#[tokio::test]
async fn what_names_a_patient_who_opted_out_is_shown_no_more_than_what_is_theirs() {
    let api = fixture().await;
    let (hidden, other) = (fixture::patient(1, 1950), fixture::patient(2, 1950));
    let named = |id| json!({"item": {"reference": format!("Patient/{id}")}});
    let list = |entries: &[Value]| json!({"resourceType": "List", "status": "current", "mode": "working", "entry": entries});
    let of_both = api
        .create(&list(&[named(hidden.id()), named(other.id())]))
        .await;
    let of_other = api.create(&list(&[named(other.id())])).await;
    let token = format!("Bearer only:List?{WITHOUT}={}", hidden.id());
    let own = [("authorization", token.as_str())];
    let shown = api.get_with("/fhir/List?_total=accurate", &own).await;
    assert_eq!(shown.json()["total"], 1, "{}", shown.text);
    assert_eq!(shown.ids(), [of_other.trim_start_matches("List/")]);
    for path in [of_both.clone(), format!("{of_both}/_history/1")] {
        let reply = api.get_with(&format!("/fhir/{path}"), &own).await;
        assert_eq!(
            reply.status,
            StatusCode::NOT_FOUND,
            "{path}: {}",
            reply.text
        );
    }
    let to_others = api.get(&format!("/fhir/{of_both}")).await;
    assert_eq!(to_others.status, StatusCode::OK);
}

#[tokio::test]
async fn nothing_of_a_patient_who_opted_out_is_shown_whichever_way_it_is_asked_for() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950);
    let (hidden, reading) = (patient.id(), fixture::observation(1));
    assert_eq!(reading.index().patient.as_ref(), Some(hidden));
    let theirs = format!("\"Patient/{hidden}\"");
    let kinds = ["Patient", "Observation", "Device", "*"];
    let scopes = kinds.map(|kind| format!("{kind}?{WITHOUT}={hidden}"));
    let token = format!("Bearer only:{}", scopes.join(";"));
    let own = [("authorization", token.as_str())];
    let total =
        (0..READINGS).filter(|n| fixture::observation(*n).index().patient.as_ref() != Some(hidden));
    let total = total.count();
    for (path, found) in [
        ("Patient".to_owned(), Some(0)),
        (format!("Patient?_id={hidden}"), Some(0)),
        ("Patient/_history".into(), None),
        ("Observation?_count=100".into(), Some(total)),
        (
            "Observation?_count=100&_include=Observation:subject".into(),
            Some(total),
        ),
        (format!("Observation?patient={hidden}"), Some(0)),
        (
            format!("Observation?subject=Patient/{hidden}&_sort=-date"),
            Some(0),
        ),
        (format!("Observation?_id={}", reading.id()), Some(0)),
        ("Observation/_history?_count=100".into(), None),
        (format!("Patient/{hidden}/Observation"), Some(0)),
    ] {
        let reply = api.get_with(&format!("/fhir/{path}"), &own).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text);
        assert!(
            !reply.json()["entry"].to_string().contains(&theirs),
            "{path}: {}",
            reply.text
        );
        let entries = reply.json()["entry"].to_string();
        assert!(!entries.contains(&format!("\"id\":\"{hidden}\"")), "{path}");
        if let Some(found) = found {
            assert_eq!(reply.ids().len(), found, "{path}: {}", reply.text);
        }
    }
    let count = api.get_with("/fhir/Observation?_summary=count", &own).await;
    assert_eq!(count.json()["total"], total);
    for path in [
        format!("Patient/{hidden}"),
        format!("Patient/{hidden}/_history"),
        format!("Patient/{hidden}/_history/1"),
        format!("Patient/{hidden}/$everything"),
        format!("Observation/{}", reading.id()),
        format!("Observation/{}/_history/1", reading.id()),
    ] {
        let reply = api.get_with(&format!("/fhir/{path}"), &own).await;
        assert_eq!(
            reply.status,
            StatusCode::NOT_FOUND,
            "{path}: {}",
            reply.text
        );
    }
    let everything = api.get_with("/fhir/_history", &own).await;
    assert_eq!(everything.status, StatusCode::FORBIDDEN);
    let path = format!("/fhir/Patient/{hidden}");
    let to_others = api
        .get_with(&path, &[("authorization", "Bearer all")])
        .await;
    assert_eq!(to_others.status, StatusCode::OK);
}
