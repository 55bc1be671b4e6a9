//! Tests of the row that comes before every answer.
use super::*;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A log that can break.
#[derive(Default)]
pub struct Rows {
    given: Mutex<Vec<Access>>,
    refused: Mutex<Vec<Refused>>,
    breaks: AtomicBool,
    /// Rows of which no AuditEvents are made yet.
    behind: AtomicU64,
}

#[async_trait::async_trait]
impl AccessLog for Rows {
    async fn given(&self, access: Access) -> Result<(), Unwritten> {
        if self.breaks.load(Ordering::Acquire) {
            return Err(Unwritten);
        }
        self.given.lock().push(access);
        Ok(())
    }

    fn refused(&self, refused: Refused) {
        self.refused.lock().push(refused);
    }

    async fn caught_up(&self) -> Result<(), Behind> {
        match self.behind.load(Ordering::Acquire) {
            0 => Ok(()),
            rows => Err(Behind { rows }),
        }
    }
}

impl Rows {
    pub fn fall_behind(&self, rows: u64) {
        self.behind.store(rows, Ordering::Release);
    }

    pub fn break_it(&self, breaks: bool) {
        self.breaks.store(breaks, Ordering::Release);
    }

    /// Requests of that kind that were given nothing.
    pub fn refused_of(&self, interaction: Interaction) -> usize {
        let refused = self.refused.lock();
        let of = refused.iter().filter(|row| row.interaction == interaction);
        of.count()
    }

    pub fn take(&self) -> Vec<Access> {
        std::mem::take(&mut self.given.lock())
    }
}

/// A request for each interaction, each of which gives something.
fn requests() -> Vec<Request<Body>> {
    let patient = fixture::patient(1, 1950).id().clone();
    let device = fixture::device(1).id().clone();
    let reading = fixture::observation(4).id().clone();
    let paths = [
        format!("/fhir/Patient/{patient}"),
        format!("/fhir/Patient/{patient}/_history/1"),
        format!("/fhir/Device/{device}"),
        format!("/fhir/Device/{device}/_history/1"),
        format!("/fhir/Observation/{reading}"),
        format!("/fhir/Observation/{reading}/_history/1"),
        "/fhir/Patient".to_owned(),
        "/fhir/Device".to_owned(),
        "/fhir/Observation".to_owned(),
        "/fhir/Observation?_count=0".to_owned(),
        "/fhir/Observation?_total=accurate&_count=3".to_owned(),
    ];
    let as_all = |request: axum::http::request::Builder| {
        let request = request.header("authorization", "Bearer all");
        request.body(Body::empty()).unwrap()
    };
    let gets = paths.iter().map(|path| as_all(Request::get(path)));
    let heads = paths.iter().map(|path| as_all(Request::head(path)));
    let posts = ResourceType::DELIVERED
        .iter()
        .map(|kind| as_all(Request::post(format!("/fhir/{kind}/_search"))));
    gets.chain(heads).chain(posts).collect()
}

#[tokio::test]
async fn what_the_log_does_not_take_is_not_answered() {
    let api = fixture().await;
    api.log.breaks.store(true, Ordering::Release);
    for request in requests() {
        let name = format!("{} {}", request.method(), request.uri());
        let is_head = request.method() == Method::HEAD;
        let reply = api.send(request).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{name}");
        assert!(!reply.headers.contains_key(header::ETAG), "{name}");
        assert!(!reply.headers.contains_key(header::LAST_MODIFIED), "{name}");
        if !is_head {
            assert_eq!(reply.issue(), (503, "transient".into()), "{name}");
        }
    }
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let known = [("authorization", "Bearer all"), ("if-none-match", "*")];
    let reply = api.get_with(&path, &known).await;
    assert_eq!(reply.issue(), (503, "transient".into()));
    api.log.breaks.store(false, Ordering::Release);
    assert_eq!(api.get(&path).await.status, StatusCode::OK);
}

#[tokio::test]
async fn every_interaction_that_gives_something_has_one_row() {
    let api = fixture().await;
    for request in requests() {
        let name = format!("{} {}", request.method(), request.uri());
        assert_eq!(api.send(request).await.status, StatusCode::OK, "{name}");
        let rows = api.log.take();
        assert_eq!(rows.len(), 1, "{name}");
        assert_eq!(rows[0].reader, Reader("all".into()), "{name}");
    }
    assert_eq!(*api.log.refused.lock(), []);
    let metadata = api.get_with("/fhir/metadata", &[]).await;
    assert_eq!(metadata.status, StatusCode::OK);
    assert_eq!(api.log.take(), []);
}

fn row(interaction: Interaction, kind: ResourceType, request: &str, names: &[&str]) -> Access {
    Access {
        reader: Reader("all".into()),
        kind,
        interaction,
        parameters: names.iter().map(|name| (*name).to_owned()).collect(),
        request: request.to_owned(),
        patient: None,
        resources: 1,
    }
}

#[tokio::test]
async fn a_row_says_what_was_asked_for_how_much_was_given_and_of_which_one_patient() {
    let api = fixture().await;
    let patient = fixture::patient(1, 1950).id().clone();
    let (of_patient, observation) = (ResourceType::Patient, ResourceType::Observation);
    let path = format!("Patient/{patient}");
    let old = format!("{path}/_history/1");
    let by_id = format!("Patient?_id={patient}");
    let none = format!("Observation?_id=none&patient={patient}&_id=none");
    let (read, search) = (Interaction::Read, Interaction::SearchType);
    for (asked, expected, given, is_of_one) in [
        (path.clone(), row(read, of_patient, &path, &[]), 1, true),
        (
            format!("{path}/_history/1"),
            row(Interaction::Vread, of_patient, &old, &[]),
            1,
            true,
        ),
        (
            by_id.clone(),
            row(search, of_patient, &by_id, &["_id"]),
            1,
            true,
        ),
        (
            format!("{none}&John=Doe"),
            row(search, observation, &none, &["_id", "patient"]),
            0,
            true,
        ),
        (
            "Observation?_count=7".to_owned(),
            row(search, observation, "Observation?_count=7", &["_count"]),
            7,
            false,
        ),
    ] {
        let reply = api.get_with(&format!("/fhir/{asked}"), &LENIENT).await;
        assert_eq!(reply.status, StatusCode::OK, "{asked}");
        let expected = Access {
            resources: given,
            patient: is_of_one.then(|| patient.clone()),
            ..expected
        };
        assert_eq!(api.log.take(), [expected], "{asked}");
    }
}

#[tokio::test]
async fn each_page_has_its_row_and_a_version_that_is_known_gives_none() {
    let api = fixture().await;
    let first = api.get("/fhir/Observation?_count=50").await;
    let next = first.link("next").unwrap();
    let (base, path) = next.split_at("https://region.example".len());
    assert_eq!(base, "https://region.example");
    let second = api.get(path).await;
    assert_eq!(second.ids().len(), 10);
    let rows = api.log.take();
    let given: Vec<_> = rows.iter().map(|row| row.resources).collect();
    assert_eq!(given, [50, 10]);
    assert_eq!(rows[1].parameters, ["_count", "_cursor"]);
    assert_eq!(format!("{base}/fhir/{}", rows[1].request), next);
    let path = format!("/fhir/Patient/{}", fixture::patient(1, 1950).id());
    let known = [("authorization", "Bearer all"), ("if-none-match", "*")];
    let reply = api.get_with(&path, &known).await;
    assert_eq!(reply.status, StatusCode::NOT_MODIFIED);
    assert_eq!(api.log.take()[0].resources, 0);
}

#[tokio::test]
async fn what_is_given_nothing_is_told_to_the_log_with_its_client() {
    let api = fixture().await;
    let id = fixture::patient(1, 1950).id().clone();
    for (path, token, reader, why) in [
        (format!("Patient/{id}"), "none", None, Why::Unauthenticated),
        (
            "Patient".into(),
            "patients",
            Some("patients"),
            Why::Forbidden,
        ),
        ("Patient/nobody".into(), "all", Some("all"), Why::Unanswered),
        ("Patient?_id=".into(), "all", Some("all"), Why::Unanswered),
        ("Patient/%ff".into(), "all", Some("all"), Why::Unanswered),
        (
            "Patient?_format=xml".into(),
            "all",
            Some("all"),
            Why::Unanswered,
        ),
    ] {
        let token = format!("Bearer {token}");
        let reply = api
            .get_with(&format!("/fhir/{path}"), &[("authorization", &token)])
            .await;
        assert!(!reply.status.is_success(), "{path}");
        let told = std::mem::take(&mut *api.log.refused.lock());
        assert_eq!(told.len(), 1, "{path}");
        assert_eq!(told[0].reader, reader.map(|name| Reader(name.into())));
        assert_eq!((told[0].kind, told[0].why), (ResourceType::Patient, why));
    }
    assert_eq!(api.log.take(), []);
}

#[tokio::test]
async fn what_a_transaction_reads_beside_what_it_writes_has_one_row_and_none_where_it_fails() {
    let api = fixture().await;
    let patient = format!("Patient/{}", fixture::patient(1, 1950).id());
    let read = |url: &str| json!({"request": {"method": "GET", "url": url}});
    let written = json!({
        "request": {"method": "POST", "url": "Basic"},
        "resource": {"resourceType": "Basic", "code": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/basic-resource-type", "code": "consent",
        }]}},
    });
    let reads = |rows: Vec<Access>| {
        let read = rows.into_iter().filter(|row| !row.interaction.writes());
        read.map(|row| row.request).collect::<Vec<_>>()
    };
    api.log.take();
    let done = api
        .bundle("transaction", &json!([written, read(&patient)]))
        .await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(reads(api.log.take()), [patient.as_str()]);
    // Of reads alone each is shown as it is asked.
    let done = api.bundle("transaction", &json!([read(&patient)])).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    assert_eq!(reads(api.log.take()), [patient.as_str()]);
    let before = api.log.refused_of(Interaction::Read);
    let entries = json!([written, read(&patient), read("Patient/nobody")]);
    let failed = api.bundle("transaction", &entries).await;
    assert_eq!(failed.issue().0, 404, "{}", failed.text);
    assert_eq!(reads(api.log.take()), [""; 0]);
    assert_eq!(api.log.refused_of(Interaction::Read), before + 1);
}
