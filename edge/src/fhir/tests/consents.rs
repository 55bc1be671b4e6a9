//! Consents of patients: what an opt-out stops, and when.
use super::*;

fn consent(patient: &str, status: &str, kind: &str) -> String {
    json!({
        "resourceType": "Consent",
        "status": status,
        "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]},
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentcategorycodes", "code": "rsreid"}]}],
        "patient": {"reference": patient},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
        "provision": {"type": kind},
    })
    .to_string()
}

#[tokio::test]
async fn an_opt_out_is_in_force_before_it_is_answered_through_kills_and_until_it_is_withdrawn() {
    let mut facility = facility("").await;
    facility.measure(1..3).await;
    facility.follow().await;
    let patient = facility.find("Patient").await[0]["id"].clone();
    let patient = format!("Patient/{}", patient.as_str().unwrap());
    assert_eq!(facility.withheld().await, [false]);
    assert!(facility.told().await.is_empty());
    let write = consent(&patient, "active", "deny");
    let (status, made) = facility.ask("POST", "Consent", OWN, &write).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(facility.withheld().await, [true]);
    assert_eq!(facility.told().await, [true]);
    let mut facility = facility.restart().await;
    facility.follow().await;
    assert_eq!(facility.withheld().await, [true], "whatever is killed");
    let path = format!("Consent/{}", made["id"].as_str().unwrap());
    let inactive = consent(&patient, "inactive", "deny");
    let with_id = |text: &str| {
        let mut resource: Value = serde_json::from_str(text).unwrap();
        resource["id"] = made["id"].clone();
        resource.to_string()
    };
    let (status, _) = facility.ask("PUT", &path, OWN, &with_id(&inactive)).await;
    assert_eq!(status, 200);
    assert_eq!(facility.withheld().await, [false], "it may be used again");
    assert_eq!(facility.told().await.last(), Some(&false));
    let (status, _) = facility.ask("PUT", &path, OWN, &with_id(&write)).await;
    assert_eq!(status, 200);
    let (status, _) = facility.ask("DELETE", &path, OWN, "").await;
    assert_eq!(status, 204);
    assert_eq!(facility.told().await, [true, false]);
    let key = Secret::new([7; 32]);
    let db = store::open_read_only(facility.dir.path(), &key).unwrap();
    let rows = federation::audit::list(&db, 0, 10_000).unwrap();
    let rows = rows.iter().map(|row| row.1.decision());
    let choices = rows.filter(|decision| {
        matches!(
            decision,
            federation::audit::Decision::ResearchOptedIn
                | federation::audit::Decision::ResearchOptedOut
        )
    });
    assert_eq!(choices.count(), 4);
}

#[tokio::test]
async fn an_opt_out_that_could_not_be_kept_is_refused() {
    let mut facility = facility("").await;
    facility.follow().await;
    for (patient, expected) in [
        ("Patient/nobody", 422),
        ("https://elsewhere.example/Patient/p-1", 422),
    ] {
        let write = consent(patient, "active", "deny");
        let (status, outcome) = facility.ask("POST", "Consent", OWN, &write).await;
        assert_eq!(status, expected, "{patient}: {outcome}");
    }
    assert!(facility.find("Consent").await.is_empty());
    let permitted = consent("Patient/nobody", "active", "permit");
    let (status, _) = facility.ask("POST", "Consent", OWN, &permitted).await;
    assert_eq!(status, 201, "what opts nobody out has nothing to keep");
    assert_eq!(facility.withheld().await, [false]);
}

#[tokio::test]
async fn an_opt_out_behind_a_page_of_other_consents_is_in_force() {
    let mut facility = facility("").await;
    facility.measure(1..3).await;
    facility.follow().await;
    let patient = facility.find("Patient").await[0]["id"].clone();
    let patient = format!("Patient/{}", patient.as_str().unwrap());
    let entry = |resource: String| {
        let resource: Value = serde_json::from_str(&resource).unwrap();
        json!({"resource": resource, "request": {"method": "POST", "url": "Consent"}})
    };
    // As many as a page has, about nobody who is here; and one more.
    let of_others = consent("Patient/nobody", "active", "permit");
    let page = usize::from(fhir::store::MAX_PAGE);
    for from in (0..page).step_by(100) {
        let entries: Vec<Value> = (from..from + 100)
            .map(|_| entry(of_others.clone()))
            .collect();
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        let (status, said) = facility.ask("POST", "", OWN, &bundle.to_string()).await;
        assert_eq!(status, 200, "{said}");
    }
    // A page is in the order of ids.
    let mut last: Value = serde_json::from_str(&consent(&patient, "active", "deny")).unwrap();
    last["id"] = "zz".into();
    let (status, said) = facility
        .ask("PUT", "Consent/zz", OWN, &last.to_string())
        .await;
    assert_eq!(status, 201, "{said}");
    assert_eq!(facility.withheld().await, [true]);
}

#[tokio::test]
async fn an_opt_out_of_a_patient_who_is_named_by_a_url_of_this_server_is_in_force() {
    let mut facility = facility("").await;
    facility.measure(1..3).await;
    facility.follow().await;
    let patient = facility.find("Patient").await[0]["id"].clone();
    let patient = format!("Patient/{}", patient.as_str().unwrap());
    let absolute = format!("https://facility.example/fhir/{patient}");
    let write = consent(&absolute, "active", "deny");
    let (status, made) = facility.ask("POST", "Consent", OWN, &write).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["patient"]["reference"], patient.as_str());
    assert_eq!(facility.withheld().await, [true]);
}
