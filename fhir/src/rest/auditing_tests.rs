//! Tests of the server's own AuditEvents over the API.
use super::*;
use crate::audit::{self, Ended, Logged, OwnEvents, Whom};
use crate::store::FhirId;
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn id(number: u8) -> FhirId {
    audit::own_id(b"secret", "regional/eu/eu", u64::from(number), &[number]).unwrap()
}

impl Fixture {
    /// Two accesses: a read of reading 4 by `reader` about nobody, and one by `other` about patient 1 of facility 1.
    pub(super) async fn audited(&self, recorded: Option<Timestamp>) {
        let reading = format!("Observation/{}", fixture::observation(4).id());
        let reading: String = Sha256::digest(&reading)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let logged = |client, whom| Logged {
            interaction: "read",
            asked: "Observation",
            ended: Ended::Given,
            client,
            place: "regional/eu/eu",
            count: 1,
            whom,
            request: if client == "reader" { &reading } else { "" },
            recorded,
        };
        let patient = Whom::Patient(fixture::patient(1, 1950).id().clone());
        let first = audit::event(id(1), &logged("reader", Whom::Nobody)).unwrap();
        let second = audit::event(id(2), &logged("other", patient)).unwrap();
        let own = OwnEvents {
            events: vec![(first, None), (second, Some(fixture::source(1).fresh))],
            dropped: Vec::new(),
            place: "2".into(),
            // The log has a row before the store has its event.
            now: recorded.map_or(0, |time| time.0 + 5_000),
        };
        self.store.keep_audit(own).await.unwrap();
    }

    async fn sorted(&self, query: &str) -> Vec<String> {
        let mut ids = self.get(&format!("/fhir/{query}")).await.ids();
        ids.sort_unstable();
        ids
    }
}

fn sorted(numbers: &[u8]) -> Vec<String> {
    let mut ids: Vec<String> = numbers.iter().map(|one| id(*one).to_string()).collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn where_instants_are_logical_an_event_is_recorded_at_one_and_found_by_it() {
    let api = fixture().await;
    api.get("/fhir/Patient").await;
    api.audited(None).await;
    let path = format!("/fhir/AuditEvent/{}", id(1));
    let event = api.get(&path).await.json();
    let instant = event["meta"]["lastUpdated"].as_str().unwrap();
    assert_eq!(event["recorded"], instant);
    assert!(instant.starts_with("1970-01-01T00:00:00.0"), "{instant}");
    let at = |prefix: &str| format!("AuditEvent?date={prefix}{instant}");
    assert_eq!(api.sorted(&at("")).await, sorted(&[1, 2]));
    assert_eq!(api.sorted(&at("gt")).await, sorted(&[]));
    assert_eq!(
        api.sorted("AuditEvent?date=1970-01-01T00:00:00.000Z").await,
        sorted(&[])
    );
    assert_eq!(api.sorted("AuditEvent?date=ge2020").await, sorted(&[]));
    let mut url = "/fhir/AuditEvent?_sort=-date&_count=1".to_owned();
    let mut all = Vec::new();
    for _ in 0..2 {
        let page = api.get(&url).await;
        all.extend(page.ids());
        let next = page.link("next");
        url = next.map_or_else(String::new, |next| {
            next.replace("https://region.example", "")
        });
    }
    all.sort_unstable();
    assert_eq!((all, url.as_str()), (sorted(&[1, 2]), ""));
    let history = api.get(&format!("{path}/_history")).await.json();
    let version = &history["entry"][0]["resource"];
    assert_eq!(version["recorded"], version["meta"]["lastUpdated"]);
    let chained = format!("Patient?_has:AuditEvent:patient:date={instant}");
    assert_eq!(
        api.sorted(&chained).await,
        [fixture::patient(1, 1950).id().to_string()]
    );
}

/// Whatever the ids are, and whatever times are stored.
#[tokio::test]
async fn where_instants_are_logical_events_are_sorted_by_when_their_reader_was_shown_them() {
    let api = fixture().await;
    let mut order = vec![id(1), id(2), id(3)];
    order.sort_unstable_by(|a, b| b.as_str().cmp(a.as_str()));
    for (at, own) in (1..).zip(&order) {
        // What is stored from here on bears the next mark of the reader.
        api.get("/fhir/Patient").await;
        let logged = Logged {
            interaction: "read",
            asked: "Patient",
            ended: Ended::Given,
            client: "reader",
            place: "regional/eu/eu",
            count: 1,
            whom: Whom::Nobody,
            request: "",
            recorded: Some(Timestamp(1_790_000_000_000 - at * 60_000)),
        };
        let event = audit::event(own.clone(), &logged).unwrap();
        let kept = OwnEvents {
            events: vec![(event, None)],
            dropped: Vec::new(),
            place: at.to_string(),
            now: at,
        };
        api.store.keep_audit(kept).await.unwrap();
    }
    let order: Vec<String> = order.iter().map(ToString::to_string).collect();
    let backwards: Vec<String> = order.iter().rev().cloned().collect();
    for (sort, expected) in [("date", &order), ("-date", &backwards)] {
        let (mut found, mut instants) = (Vec::new(), Vec::new());
        let mut url = format!("/fhir/AuditEvent?_sort={sort}&_count=1");
        while !url.is_empty() {
            let page = api.get(&url).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.text);
            found.extend(page.ids());
            let recorded = page.json()["entry"][0]["resource"]["recorded"].clone();
            instants.push(recorded.as_str().unwrap().to_owned());
            let next = page.link("next");
            url = next.map_or_else(String::new, |next| {
                next.replace("https://region.example", "")
            });
        }
        assert_eq!(found, *expected, "{sort}");
        instants.sort_unstable();
        instants.dedup();
        assert_eq!(instants.len(), order.len(), "{instants:?}");
    }
}

/// As after a profile under which instants may be told has lapsed.
#[tokio::test]
async fn an_instant_that_was_stored_is_neither_shown_nor_found_where_instants_are_logical() {
    let api = fixture().await;
    api.get("/fhir/Patient").await;
    let told = Timestamp(1_790_000_000_000);
    api.audited(Some(told)).await;
    let path = format!("/fhir/AuditEvent/{}", id(1));
    let patient = fixture::patient(1, 1950).id().to_string();
    for path in [path.clone(), format!("{path}/_history/1")] {
        let event = api.get(&path).await.json();
        assert_eq!(event["recorded"], event["meta"]["lastUpdated"], "{path}");
    }
    let bundles = [
        "AuditEvent".to_owned(),
        "AuditEvent/_history".to_owned(),
        "?_type=AuditEvent".to_owned(),
        format!("Patient/{patient}/$everything?_type=AuditEvent"),
        "Patient?_revinclude=AuditEvent:patient".to_owned(),
    ];
    for path in bundles {
        let slash = if path.starts_with('?') { "" } else { "/" };
        let text = api.get(&format!("/fhir{slash}{path}")).await.text;
        assert!(
            text.contains("log-") && !text.contains("2026-09-21"),
            "{text}"
        );
    }
    let instant = api.get(&path).await.json()["recorded"].clone();
    let instant = instant.as_str().unwrap();
    for (by, expected) in [
        ("date=2026-09-21".to_owned(), vec![]),
        ("date=gt2026".to_owned(), vec![]),
        ("date=ne2026-09-21".to_owned(), vec![1, 2]),
        (format!("date={instant}"), vec![1, 2]),
        ("date:missing=true".to_owned(), vec![]),
        ("date:missing=false".to_owned(), vec![1, 2]),
    ] {
        let query = format!("AuditEvent?{by}");
        assert_eq!(api.sorted(&query).await, sorted(&expected), "{by}");
    }
    let by_real = "date=2026-09-21";
    for (by, chained, all) in [
        ("Patient?_has:AuditEvent:patient:", by_real.to_owned(), 0),
        (
            "Patient?_has:AuditEvent:patient:",
            format!("date={instant}"),
            1,
        ),
    ] {
        assert_eq!(
            api.sorted(&format!("{by}{chained}")).await.len(),
            all,
            "{by}"
        );
    }
    // Nor by what is to be changed, or by what a token covers.
    let delete = format!("/fhir/AuditEvent?{by_real}");
    let deleted = api.write(Method::DELETE, &delete, &[], "").await;
    assert_ne!(deleted.status, StatusCode::FORBIDDEN, "{}", deleted.text);
    let token = format!("Bearer only:AuditEvent?{by_real}");
    let refused = api
        .get_with("/fhir/AuditEvent", &[("authorization", token.as_str())])
        .await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text);
}

/// A client writes an AuditEvent of its own, which is a resource as all others.
async fn write_one(api: &Fixture) -> String {
    let mine = json!({
        "resourceType": "AuditEvent",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "recorded": "2027-01-15T00:00:00Z",
        "agent": [{"requestor": true}],
        "source": {"observer": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())}},
        "entity": [{"what": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())}}],
    });
    let made = api
        .write(Method::POST, "/fhir/AuditEvent", &[], &mine.to_string())
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    made.json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_servers_own_events_are_found_where_their_type_is_asked_for_and_nowhere_else() {
    let api = fixture().await;
    let versions = async || {
        let history = api.get("/fhir/_history?_count=1000").await.json();
        history["entry"].as_array().map_or(0, Vec::len)
    };
    let before = versions().await;
    api.audited(None).await;
    let own = write_one(&api).await;
    let patient = fixture::patient(1, 1950).id().clone();
    let (own_of, all): (Vec<String>, Vec<String>) = (vec![own.clone()], {
        let mut all = sorted(&[1, 2]);
        all.push(own.clone());
        all.sort_unstable();
        all
    });
    let of_patient = {
        let mut of_patient = sorted(&[2]);
        of_patient.push(own.clone());
        of_patient.sort_unstable();
        of_patient
    };
    for (path, expected) in [
        ("?_lastUpdated=ge1970", &own_of),
        ("?_lastUpdated=ge1970&_count=1", &own_of),
        ("?_type=AuditEvent,Patient", &all),
        ("/_history", &own_of),
        ("/_history?_count=1", &own_of),
        ("/AuditEvent/_history", &all),
        (&format!("/Patient/{patient}/$everything"), &own_of),
        (
            &format!("/Patient/{patient}/$everything?_type=AuditEvent"),
            &of_patient,
        ),
    ] {
        let (mut found, mut url) = (Vec::new(), format!("/fhir{path}"));
        while !url.is_empty() {
            let page = api.get(&url).await;
            assert_eq!(page.status, StatusCode::OK, "{path} {}", page.text);
            let body = page.json();
            let entries = body["entry"].as_array().cloned().unwrap_or_default();
            let events = entries.iter().map(|entry| &entry["resource"]);
            let events = events.filter(|one| one["resourceType"] == "AuditEvent");
            found.extend(events.map(|one| one["id"].as_str().unwrap().to_owned()));
            let next = page.link("next");
            url = next.map_or_else(String::new, |next| {
                next.replace("https://region.example", "")
            });
        }
        found.sort_unstable();
        assert_eq!(found, *expected, "{path}");
    }
    assert!(before > 0);
    assert_eq!(versions().await, before + 1);
    // The others are there: nothing else is left out.
    let total = api.get("/fhir?_lastUpdated=ge1970&_summary=count").await;
    let typed = api.get("/fhir?_type=AuditEvent&_summary=count").await;
    assert_eq!(typed.json()["total"], 3);
    assert!(total.json()["total"].as_u64().unwrap() > 3);
}

#[tokio::test]
async fn where_they_are_true_it_is_recorded_when_it_was() {
    let api = fixture_of(true).await;
    api.audited(Some(Timestamp(1_790_000_000_000))).await;
    let event = api.get(&format!("/fhir/AuditEvent/{}", id(1))).await.json();
    assert_eq!(event["recorded"], "2026-09-21T14:13:20.000Z");
    assert_eq!(
        api.sorted("AuditEvent?date=2026-09-21").await,
        sorted(&[1, 2])
    );
    assert_eq!(
        api.sorted("AuditEvent?date=lt2026-09-21").await,
        sorted(&[])
    );
}

#[tokio::test]
async fn an_event_is_found_by_what_was_read_though_it_holds_a_digest_of_it_alone() {
    let api = fixture().await;
    api.audited(None).await;
    let reading = fixture::observation(4).id().clone();
    let by = format!("AuditEvent?entity=Observation/{reading}");
    assert_eq!(api.sorted(&by).await, sorted(&[1]));
    let other = fixture::observation(5).id().clone();
    let by = format!("AuditEvent?entity=Observation/{other}");
    assert_eq!(api.sorted(&by).await, sorted(&[]));
    let patient = fixture::patient(1, 1950).id().clone();
    for by in ["entity=Patient/", "patient=Patient/", "patient="] {
        assert_eq!(
            api.sorted(&format!("AuditEvent?{by}{patient}")).await,
            sorted(&[2])
        );
    }
    assert_eq!(
        api.sorted(&format!("Patient/{patient}/AuditEvent")).await,
        sorted(&[2])
    );
    let included = api
        .get("/fhir/AuditEvent?_include=AuditEvent:patient")
        .await;
    assert!(included.text.contains(&format!("/Patient/{patient}")));
    let counted = api.get("/fhir/AuditEvent?_summary=count").await.json();
    assert_eq!(counted["total"], 2);
}

#[tokio::test]
async fn no_client_makes_changes_or_deletes_an_event_of_the_servers() {
    let api = fixture().await;
    api.audited(None).await;
    // What a region takes of a client, so that nothing but the id is wrong with it.
    let event = |id: &str| {
        json!({
            "resourceType": "AuditEvent",
            "id": id,
            "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
            "recorded": "2027-01-15T00:00:00Z",
            "agent": [{"requestor": true}],
            "source": {"observer": {"reference": format!("Patient/{}", fixture::patient(1, 1950).id())}},
        })
    };
    let mut mine = event("");
    mine.as_object_mut().unwrap().remove("id");
    let made = api
        .write(Method::POST, "/fhir/AuditEvent", &[], &mine.to_string())
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json()["id"].as_str().unwrap().to_owned();
    assert!(!made.starts_with(audit::OWN));
    let known = id(1).to_string();
    let unknown = id(9).to_string();
    let path = |id: &str| format!("/fhir/AuditEvent/{id}");
    for (id, status) in [(&known, 403), (&unknown, 422)] {
        let body = event(id);
        let put = api
            .write(Method::PUT, &path(id), &[], &body.to_string())
            .await;
        assert_eq!(put.status.as_u16(), status, "{}", put.text);
        let entry = json!([{
            "request": {"method": "PUT", "url": format!("AuditEvent/{id}")},
            "resource": body,
        }]);
        let sent = api.bundle("transaction", &entry).await;
        assert_eq!(sent.status.as_u16(), status, "{}", sent.text);
    }
    let deleted = api.write(Method::DELETE, &path(&known), &[], "").await;
    assert_eq!(deleted.status, StatusCode::FORBIDDEN, "{}", deleted.text);
    let found = "/fhir/AuditEvent?agent-name=reader";
    let deleted = api.write(Method::DELETE, found, &[], "").await;
    assert_eq!(deleted.status, StatusCode::FORBIDDEN, "{}", deleted.text);
    let patch = [("content-type", "application/json-patch+json")];
    let mut request = Request::patch(path(&known)).header("authorization", "Bearer all");
    for (name, value) in patch {
        request = request.header(name, value);
    }
    let body = r#"[{"op": "replace", "path": "/action", "value": "C"}]"#;
    let patched = api.send(request.body(Body::from(body)).unwrap()).await;
    assert_eq!(patched.status, StatusCode::FORBIDDEN, "{}", patched.text);
    let mut all = sorted(&[1, 2]);
    all.push(made);
    all.sort_unstable();
    assert_eq!(api.sorted("AuditEvent").await, all);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_facility_or_a_client_sees_their_events_alone() {
    let api = fixture().await;
    api.audited(None).await;
    let facility = fixture::source(1).fresh;
    let other = fixture::source(2).fresh;
    for (scope, expected) in [
        (format!("_source=urn:medmesh:facility:{facility}"), vec![2]),
        (format!("_source=urn:medmesh:facility:{other}"), vec![]),
        ("altid=reader".to_owned(), vec![1]),
    ] {
        let token = format!("Bearer only:AuditEvent?{scope}");
        let headers = [("authorization", token.as_str())];
        let found = api
            .get_with("/fhir/AuditEvent?_total=accurate", &headers)
            .await;
        let mut ids = found.ids();
        ids.sort_unstable();
        assert_eq!(ids, sorted(&expected), "{scope}");
        assert_eq!(found.json()["total"], expected.len(), "{scope}");
        for number in [1, 2] {
            let path = format!("/fhir/AuditEvent/{}", id(number));
            for path in [path.clone(), format!("{path}/_history/1")] {
                let read = api.get_with(&path, &headers).await;
                let is_shown = read.status == StatusCode::OK;
                assert_eq!(is_shown, expected.contains(&number), "{scope} {path}");
            }
        }
        let history = api.get_with("/fhir/AuditEvent/_history", &headers).await;
        let entries = history.json()["entry"].as_array().map_or(0, Vec::len);
        assert_eq!(entries, expected.len(), "{scope}");
    }
    let conditions = [("authorization", "Bearer conditions")];
    let denied = api.get_with("/fhir/AuditEvent", &conditions).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn who_asks_for_events_waits_for_them_and_is_told_when_that_takes_long() {
    let api = fixture().await;
    api.audited(None).await;
    let patient = fixture::patient(1, 1950).id().clone();
    let event = id(1);
    let waiting = [
        format!("AuditEvent/{event}"),
        format!("AuditEvent/{event}/_history/1"),
        format!("AuditEvent/{event}/_history"),
        "AuditEvent/_history".to_owned(),
        "AuditEvent".to_owned(),
        format!("Patient/{patient}/AuditEvent"),
        "Patient?_revinclude=AuditEvent:patient".to_owned(),
        "Patient?_has:AuditEvent:patient:action=R".to_owned(),
        "Observation?_revinclude=AuditEvent:entity".to_owned(),
        "Observation?_has:AuditEvent:entity:action=R".to_owned(),
        "Observation?subject:Patient._has:AuditEvent:patient:action=R".to_owned(),
        "?_type=AuditEvent,Patient".to_owned(),
        format!("Patient/{patient}/$everything?_type=Patient,AuditEvent"),
    ];
    let at_once = [
        "Patient".to_owned(),
        "Observation".to_owned(),
        format!("Patient/{patient}"),
        "Patient?name=AuditEvent".to_owned(),
        "Observation?_revinclude=Provenance:target".to_owned(),
        "?_lastUpdated=ge1970".to_owned(),
        "_history".to_owned(),
        format!("Patient/{patient}/$everything"),
        format!("Patient/{patient}/$everything?_type=Patient"),
    ];
    let waiting = waiting.iter().map(|path| (path, false));
    for (path, is_at_once) in waiting.chain(at_once.iter().map(|path| (path, true))) {
        let path = match path.strip_prefix('?') {
            Some(query) => format!("/fhir?{query}"),
            None => format!("/fhir/{path}"),
        };
        assert_eq!(api.get(&path).await.status, StatusCode::OK, "{path}");
        api.log.fall_behind(17);
        let reply = api.get(&path).await;
        api.log.fall_behind(0);
        if is_at_once {
            assert_eq!(reply.status, StatusCode::OK, "{path}");
            continue;
        }
        assert_eq!(reply.issue(), (503, "transient".into()), "{path}");
        assert_eq!(reply.headers[header::RETRY_AFTER], "5", "{path}");
        assert!(reply.text.contains("17 rows"), "{}", reply.text);
    }
}

#[tokio::test]
async fn who_is_not_let_through_waits_for_nothing() {
    let api = fixture().await;
    api.audited(None).await;
    api.log.fall_behind(17);
    let conditions = [("authorization", "Bearer conditions")];
    let event = id(1);
    for path in [
        "/fhir/AuditEvent".to_owned(),
        "/fhir/AuditEvent/_history".to_owned(),
        format!("/fhir/AuditEvent/{event}"),
        "/fhir?_type=AuditEvent".to_owned(),
        "/fhir/Condition?_has:AuditEvent:entity:action=R".to_owned(),
    ] {
        let refused = api.get_with(&path, &conditions).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
        let refused = api.get_with(&path, &[("authorization", "none")]).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{path}");
    }
    // What is added is left out where it may not be seen.
    let path = "/fhir/Condition?_revinclude=AuditEvent:entity";
    let found = api.get_with(path, &conditions).await;
    assert_eq!(found.status, StatusCode::OK, "{}", found.text);
    assert_eq!(api.get(path).await.issue().0, 503);
    // What a client wrote is no row of the log.
    let read = api
        .get("/fhir/AuditEvent/0f8fad5b-d9cb-469f-a165-70867728950e")
        .await;
    assert_eq!(read.status, StatusCode::NOT_FOUND);
}
