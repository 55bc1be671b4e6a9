//! What programs may do: nothing without a token, nothing beyond its scopes, and what becomes of what they write.
use super::*;

#[tokio::test]
async fn nothing_is_shown_without_a_token_of_the_facility_nor_beyond_the_scopes_of_one() {
    let (reader, writer) = ("reader-token", "writer-token");
    let digest = |token: &str| hex::encode(Sha256::digest(token));
    let rights = format!(
        "[[client]]\nid = \"ehr\"\ntoken_sha256 = \"{}\"\nfhir = \"system/Observation.rs?category=laboratory system/Patient.rs\"\n\
         [[client]]\nid = \"forms\"\ntoken_sha256 = \"{}\"\nfhir = \"system/Condition.cruds\"\n",
        digest(reader),
        digest(writer)
    );
    let mut facility = facility(&rights).await;
    facility.measure(1..3).await;
    facility.follow().await;
    for (token, path, status) in [
        ("", "Patient", 401),
        ("strange", "Patient", 401),
        ("strange", "Observation", 401),
        (reader, "Patient", 200),
        (reader, "Device/m1", 403),
        (reader, "Encounter", 403),
        (writer, "Patient", 403),
        (writer, "Condition", 200),
    ] {
        let (found, _) = facility.ask("GET", path, token, "").await;
        assert_eq!(found, status, "{token} {path}");
    }
    let (_, bundle) = facility.ask("GET", "Observation", reader, "").await;
    assert!(
        bundle["entry"].is_null(),
        "vital signs are beyond its scope"
    );
    let (status, _) = facility.ask("POST", "Condition", reader, "{}").await;
    assert_eq!(status, 403);
    let rows = facility.rows().await;
    let rows: Vec<_> = rows.iter().filter(|row| row.from() == "ehr").collect();
    assert_eq!(rows.len(), 2, "one for each answer");
    let says = |row: &&federation::audit::Entry| format!("{row:?}").contains("\"phi\"");
    assert!(rows.iter().all(says), "{rows:?}");
}

#[tokio::test]
async fn what_programs_write_may_identify_is_theirs_and_is_never_in_a_parcel_nor_in_the_clear() {
    let mut facility = facility("").await;
    facility.measure(1..3).await;
    facility.follow().await;
    let patients = facility.find("Patient").await;
    let patient = format!("Patient/{}", patients[0]["id"].as_str().unwrap());
    let relative = json!({
        "resourceType": "RelatedPerson",
        "patient": {"reference": patient},
        "name": [{"family": "Canary-Relative", "given": ["Ida"]}],
        "telecom": [{"system": "phone", "value": "CANARY-PHONE"}],
    });
    let (status, made) = facility
        .ask("POST", "RelatedPerson", OWN, &relative.to_string())
        .await;
    assert_eq!(status, 201, "{made}");
    let found = facility.find("RelatedPerson?name=canary-relative").await;
    assert_eq!(found.len(), 1);
    // What the facility itself says is nobody else's to change, and it is R4 or nothing.
    let path = format!(
        "Encounter/{}",
        facility.find("Encounter").await[0]["id"].as_str().unwrap()
    );
    let theirs = json!({"resourceType": "Patient", "id": patients[0]["id"]}).to_string();
    for (method, path, body, expected) in [
        ("PUT", patient.as_str(), theirs.as_str(), 403),
        ("DELETE", patient.as_str(), "", 403),
        ("DELETE", path.as_str(), "", 403),
        (
            "POST",
            "RelatedPerson",
            r#"{"resourceType":"RelatedPerson"}"#,
            422,
        ),
    ] {
        let (status, outcome) = facility.ask(method, path, OWN, body).await;
        assert_eq!(status, expected, "{method} {path}: {outcome}");
    }
    for canary in ["Canary", "CANARY", "Ida", "p-1"] {
        assert!(!facility.leaves(canary).await, "{canary} leaves");
    }
    // A create is written down as one, and a search for the same is none.
    let rows = facility.rows().await;
    let of_relatives = rows
        .iter()
        .filter(|row| row.kind().starts_with("RelatedPerson"));
    let decisions: Vec<_> = of_relatives.map(|row| row.decision()).collect();
    assert_eq!(decisions, [Decision::DataWritten, Decision::DataRead]);
    let named = |row: &federation::audit::Entry| format!("{row:?}");
    for row in facility.rows().await {
        assert!(!named(&row).contains("anary"), "{row:?}");
    }
    facility.store.close().await;
    for canary in ["Canary", "CANARY-PHONE", "RelatedPerson", "8867-4"] {
        assert!(
            !anywhere(facility.dir.path(), canary),
            "{canary} is in the clear"
        );
    }
}

#[tokio::test]
async fn no_program_takes_the_name_of_a_device_before_the_device_has_it() {
    let mut facility = facility("").await;
    let free = "11111111-2222-4333-8444-555555555555";
    facility.follow().await;
    for (id, status) in [("m1", 403), ("m2", 422), (free, 201)] {
        let device = json!({"resourceType": "Device", "id": id, "lotNumber": "7"}).to_string();
        let (found, outcome) = facility
            .ask("PUT", &format!("Device/{id}"), OWN, &device)
            .await;
        assert_eq!(found, status, "{id}: {outcome}");
    }
    // What a device is called is there for whatever else has no such name.
    let bed = json!({"resourceType": "Location", "id": "m2", "name": "Canary"}).to_string();
    let (found, outcome) = facility.ask("PUT", "Location/m2", OWN, &bed).await;
    assert_eq!(found, 201, "{outcome}");
    // A device that nobody has named measures, and is there.
    facility.store.append(sample("m2", 1)).await.unwrap();
    facility.follow().await;
    let (found, device) = facility.ask("GET", "Device/m2", OWN, "").await;
    assert_eq!(found, 200, "{device}");
    assert_eq!(device["deviceName"][0]["name"], "m2");
}

#[tokio::test]
async fn what_was_given_nothing_is_in_the_log_once_a_minute_with_who_why_and_how_often() {
    let token = "reader-token";
    let rights = format!(
        "[[client]]\nid = \"ehr\"\ntoken_sha256 = \"{}\"\nfhir = \"system/Location.rs\"\n",
        hex::encode(Sha256::digest(token))
    );
    let facility = facility(&rights).await;
    for (path, token, times) in [
        ("Location/none", token, 1),
        ("Patient", token, 2),
        ("Location", "strange", 3),
    ] {
        for _ in 0..times {
            let (status, _) = facility.ask("GET", path, token, "").await;
            assert!(status.is_client_error(), "{path}: {status}");
        }
    }
    let given_nothing = async || {
        let key = types::Secret::new([7; 32]);
        let db = store::open_read_only(facility.dir.path(), &key).unwrap();
        let all = federation::audit::list(&db, 0, 10_000).unwrap().into_iter();
        let rows = all.filter_map(|(_, row)| {
            let why = match row.decision() {
                Decision::ReadUnauthenticated => "who",
                Decision::ReadForbidden => "scope",
                Decision::ReadUnanswered => "what",
                _ => return None,
            };
            Some((why, row.from().to_owned(), row.count()))
        });
        rows.collect::<std::collections::BTreeSet<_>>()
    };
    facility.log.tell().await;
    assert!(given_nothing().await.is_empty(), "the minute is not over");
    facility.hand.forward(60_000);
    facility.log.tell().await;
    let rows = given_nothing().await;
    let counts: Vec<_> = rows.iter().map(|row| (row.0, row.2)).collect();
    assert_eq!(counts, [("scope", 2), ("what", 1), ("who", 3)], "{rows:?}");
    let who: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(who[..2], ["ehr", "ehr"], "{rows:?}");
    facility.hand.forward(60_000);
    facility.log.tell().await;
    assert_eq!(given_nothing().await, rows, "each is told once");
}

#[tokio::test]
async fn a_program_does_what_the_letters_of_its_scope_say_and_nothing_else() {
    let (mut rights, letters) = (String::new(), ["c", "r", "u", "d", "s"]);
    for letter in letters {
        rights += &format!(
            "[[client]]\nid = \"may-{letter}\"\ntoken_sha256 = \"{}\"\nfhir = \"system/Basic.{letter}\"\n",
            hex::encode(Sha256::digest(letter))
        );
    }
    let facility = facility(&rights).await;
    let basic = r#"{"resourceType":"Basic","id":"b","code":{"text":"x"}}"#;
    let (status, made) = facility.ask("PUT", "Basic/b", OWN, basic).await;
    assert_eq!(status, 201, "{made}");
    let patch = r#"{"resourceType":"Parameters"}"#;
    for (method, path, body, needs) in [
        ("POST", "Basic", basic, "c"),
        ("GET", "Basic/b", "", "r"),
        ("GET", "Basic/b/_history", "", "r"),
        ("GET", "Basic/b/_history/1", "", "r"),
        ("PUT", "Basic/b", basic, "u"),
        ("PATCH", "Basic/b", patch, "u"),
        ("GET", "Basic", "", "s"),
        ("GET", "Basic/_history", "", "s"),
        ("DELETE", "Basic/b", "", "d"),
    ] {
        for letter in letters {
            let (status, _) = facility.ask(method, path, letter, body).await;
            let is_refused = status == StatusCode::FORBIDDEN;
            assert_eq!(
                is_refused,
                letter != needs,
                "{method} {path} by {letter}: {status}"
            );
        }
    }
}
