//! Subscriptions from end to end within the process: clients write, endpoints take or do not, days pass by a clock.
use super::*;
use crate::store::Delivery;
use crate::subscription::{Status, retry::KEPT_MS};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

#[path = "subscribing_refused_tests.rs"]
mod refused;

const HOUR_MS: i64 = 3_600_000;
const BEGIN: i64 = 1_800_000_000_000;

/// Endpoints below `https://ehr.example/`: what each took, in its order.
#[derive(Default)]
pub struct Endpoints {
    taken: Mutex<Vec<(String, Value)>>,
    /// Those that do not answer.
    down: Mutex<BTreeSet<String>>,
    /// Whether an answer gets lost behind what was taken.
    loses_answers: AtomicBool,
    attempts: AtomicI64,
}

#[async_trait::async_trait]
impl Hook for Endpoints {
    fn allows(&self, endpoint: &str) -> Result<(), &'static str> {
        match endpoint.starts_with("https://ehr.example/") {
            true => Ok(()),
            false => Err("notifications do not go there"),
        }
    }

    async fn post(&self, notification: Notification<'_>) -> Result<(), Untaken> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        if self.down.lock().contains(notification.endpoint) {
            return Err(Untaken::Unreachable);
        }
        let body = serde_json::from_str(&notification.body).unwrap();
        self.taken
            .lock()
            .push((notification.endpoint.to_owned(), body));
        match self.loses_answers.load(Ordering::Relaxed) {
            true => Err(Untaken::Late),
            false => Ok(()),
        }
    }
}

/// What a parameter of the status says.
fn parameter<'v>(bundle: &'v Value, name: &str) -> &'v str {
    let list = bundle["entry"][0]["resource"]["parameter"]
        .as_array()
        .unwrap();
    let found = list.iter().find(|one| one["name"] == name).unwrap();
    let value = found
        .as_object()
        .unwrap()
        .iter()
        .find(|(key, _)| key.starts_with("value"));
    value.unwrap().1.as_str().unwrap_or_default()
}

/// The numbers of the events of a notification.
fn numbers(bundle: &Value) -> Vec<u64> {
    let list = bundle["entry"][0]["resource"]["parameter"]
        .as_array()
        .unwrap();
    let events = list.iter().filter(|one| one["name"] == "notificationEvent");
    let number = |one: &Value| {
        one["part"][0]["valueString"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    events.map(number).collect()
}

/// `all` and `other` may see what they are registered for; the rest is [`ByName`]'s.
pub struct Registered(Mutex<Option<Vec<String>>>);

pub struct Clients(pub Arc<Registered>);

impl Authorize for Clients {
    fn authorize(
        &self,
        headers: &HeaderMap,
        kind: ResourceType,
        interaction: Interaction,
    ) -> Result<Granted, Denied> {
        ByName.authorize(headers, kind, interaction)
    }

    fn known(&self, headers: &HeaderMap) -> Result<Reader, Denied> {
        ByName.known(headers)
    }

    fn standing(&self, reader: &Reader, _: ResourceType) -> Option<Granted> {
        let only = self.0.0.lock().clone()?;
        let reader = reader.clone();
        Some(Granted { reader, only })
    }
}

pub struct World {
    pub base: Fixture,
    pub hook: Arc<Endpoints>,
    now: Arc<AtomicI64>,
    pub rights: Arc<Registered>,
    sender: Sender,
}

/// A server over a store, as a start of the node makes it.
fn server(
    store: Arc<SqliteStore>,
    log: Arc<access::Rows>,
    (hook, now, rights): (Arc<Endpoints>, Arc<AtomicI64>, Arc<Registered>),
) -> (Router, Sender) {
    let mut api = api_over(store, false, log, None);
    api.subscriptions = Some(Subscriptions {
        hook,
        numbering: Some(Arc::new(|| "another".into())),
    });
    api.authorize = Arc::new(Clients(rights));
    api.now = Arc::new(move || Timestamp(now.load(Ordering::Relaxed)));
    let sender = api.sender().unwrap();
    (api.router(), sender)
}

impl World {
    pub async fn new() -> Self {
        let mut base = fixture().await;
        let hook = Arc::<Endpoints>::default();
        let now = Arc::new(AtomicI64::new(BEGIN));
        let rights = Arc::new(Registered(Mutex::new(Some(Vec::new()))));
        let parts = (hook.clone(), now.clone(), rights.clone());
        let (router, sender) = server(base.store.clone(), base.log.clone(), parts);
        base.router = router;
        Self {
            base,
            hook,
            now,
            rights,
            sender,
        }
    }

    /// The process ends, whatever it was at, and another one goes on.
    fn restart(&mut self) {
        let path = self.base.dir.path().join("fhir.db");
        let store = Arc::new(SqliteStore::open(&path).unwrap());
        let parts = (self.hook.clone(), self.now.clone(), self.rights.clone());
        let (router, sender) = server(store.clone(), self.base.log.clone(), parts);
        (self.base.store, self.base.router, self.sender) = (store, router, sender);
    }

    fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::Relaxed);
    }

    /// Until nothing is due any more.
    async fn settle(&self) {
        for _ in 0..1_000 {
            if self.sender.turn().await == 0 {
                return;
            }
        }
        panic!("something is due all the time");
    }

    pub async fn subscribe(&self, subscription: &Value) -> String {
        let reference = self.base.create(subscription).await;
        self.settle().await;
        reference
    }

    /// What an endpoint took of a sort.
    fn taken(&self, endpoint: &str, sort: &str) -> Vec<Value> {
        let taken = self.hook.taken.lock();
        let own = taken
            .iter()
            .filter(|(of, bundle)| of == endpoint && parameter(bundle, "type") == sort);
        own.map(|(_, bundle)| bundle.clone()).collect()
    }

    async fn status(&self, reference: &str) -> String {
        let read = self.base.get(&format!("/fhir/{reference}")).await.json();
        read["status"].as_str().unwrap().to_owned()
    }
}

pub const EHR: &str = "https://ehr.example/notify";
pub const CHANGED: &str = "urn:medmesh:topic:resource-changed";

fn extension(name: &str) -> String {
    format!("http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/{name}")
}

pub fn subscription(topic: &str, filters: &[&str], endpoint: &str, content: &str) -> Value {
    let filters: Vec<Value> = filters
        .iter()
        .map(|text| json!({"url": extension("backport-filter-criteria"), "valueString": text}))
        .collect();
    let mut subscription = json!({
        "resourceType": "Subscription",
        "status": "requested",
        "reason": topic,
        "criteria": topic,
        "channel": {
            "type": "rest-hook",
            "endpoint": endpoint,
            "payload": "application/fhir+json",
            "_payload": {"extension": [
                {"url": extension("backport-payload-content"), "valueCode": content}
            ]},
        },
    });
    if !filters.is_empty() {
        subscription["_criteria"] = json!({"extension": filters});
    }
    subscription
}

pub fn conditions(content: &str) -> Value {
    subscription(CHANGED, &["Condition?code=38341003"], EHR, content)
}

#[tokio::test]
async fn a_subscription_begins_with_a_handshake_and_is_told_of_what_it_asks_for() {
    let world = World::new().await;
    let reference = world.base.create(&conditions("full-resource")).await;
    assert_eq!(world.status(&reference).await, "requested");
    world.settle().await;
    assert_eq!(world.status(&reference).await, "active");
    assert_eq!(world.taken(EHR, "handshake").len(), 1);
    let mut other = finding_tests::finding(2001, None);
    other["code"]["coding"][0]["code"] = json!("73211009");
    world.base.create(&other).await;
    let id = world.base.create(&finding_tests::finding(2002, None)).await;
    world.base.log.take();
    world.settle().await;
    let taken = world.taken(EHR, "event-notification");
    assert_eq!(taken.len(), 1, "{taken:?}");
    let bundle = &taken[0];
    assert_eq!(
        (bundle["type"].as_str(), numbers(bundle)),
        (Some("history"), vec![1])
    );
    assert_eq!(parameter(bundle, "topic"), CHANGED);
    assert_eq!(parameter(bundle, "eventsSinceSubscriptionStart"), "1");
    assert_eq!(parameter(bundle, "numbering"), "another");
    let read = world.base.get(&format!("/fhir/{id}")).await.json();
    assert_eq!(bundle["entry"][1]["resource"], read, "as it would be read");
    assert_eq!(bundle["entry"][1]["request"]["method"], "POST");
    let rows = world.base.log.take();
    let of_condition = rows
        .iter()
        .find(|row| row.kind.as_str() == "Condition")
        .unwrap();
    assert_eq!(
        (of_condition.reader.0.as_str(), of_condition.resources),
        ("all", 1)
    );
    assert_eq!(
        of_condition.patient,
        Some(fixture::patient(1, 1950).id().clone())
    );
    world.base.send(delete(&id)).await;
    world.settle().await;
    let last = world.taken(EHR, "event-notification").pop().unwrap();
    assert_eq!(last["entry"][1]["request"]["method"], "DELETE");
    assert_eq!(
        (numbers(&last), last["entry"][1].get("resource")),
        (vec![2], None)
    );
}

fn delete(reference: &str) -> Request<Body> {
    let request = Request::delete(format!("/fhir/{reference}"));
    let request = request.header("authorization", "Bearer all");
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_subscriber_that_is_dead_for_three_days_loses_nothing_and_can_tell_what_comes_twice() {
    let mut world = World::new().await;
    world.subscribe(&conditions("id-only")).await;
    world.hook.down.lock().insert(EHR.to_owned());
    let mut written = 0;
    for hour in 0..72 {
        if hour % 2 == 0 {
            written += 1;
            let finding = finding_tests::finding(1900 + written, None);
            world.base.create(&finding).await;
        }
        if hour % 20 == 7 {
            world.restart();
        }
        for _ in 0..6 {
            world.sender.turn().await;
            world.pass(HOUR_MS / 6);
        }
    }
    assert!(world.taken(EHR, "event-notification").is_empty());
    let attempts = world.hook.attempts.load(Ordering::Relaxed);
    assert!(
        (60..200).contains(&attempts),
        "{attempts} attempts in three days"
    );
    world.hook.down.lock().clear();
    world.hook.loses_answers.store(true, Ordering::Relaxed);
    world.pass(HOUR_MS);
    world.sender.turn().await;
    world.hook.loses_answers.store(false, Ordering::Relaxed);
    world.restart();
    world.pass(HOUR_MS);
    world.settle().await;
    let taken = world.taken(EHR, "event-notification");
    let told: Vec<Vec<u64>> = taken.iter().map(numbers).collect();
    assert_eq!(
        told[0], told[1],
        "the same numbers again, since the answer was lost"
    );
    let all: Vec<u64> = told[1..].concat();
    assert_eq!(all, (1..=u64::from(written)).collect::<Vec<_>>());
}

#[tokio::test]
async fn readings_that_a_facility_delivers_are_told_and_a_dead_endpoint_delays_nobody() {
    let world = World::new().await;
    let topic = "urn:medmesh:topic:observation-created";
    let all = ["https://ehr.example/a", "https://ehr.example/b"];
    let patient = fixture::patient(1, 1950).id().clone();
    let filter = format!("Observation?patient={patient}");
    for endpoint in all {
        let asked = subscription(topic, &[&filter], endpoint, "full-resource");
        world.subscribe(&asked).await;
    }
    world.hook.down.lock().insert(all[0].to_owned());
    let delivery = fixture::delivery(9, READINGS..READINGS + 30);
    let of_patient = delivery.resources.iter();
    let of_patient = of_patient.filter(|one| one.index().patient.as_ref() == Some(&patient));
    let expected = of_patient.count();
    assert!(expected > 0 && expected < 30);
    let deliveries: Vec<Delivery> = vec![delivery.clone(), delivery];
    world
        .base
        .store
        .apply(deliveries, Timestamp(BEGIN))
        .await
        .unwrap();
    world.settle().await;
    let taken = world.taken(all[1], "event-notification");
    let told: Vec<u64> = taken.iter().flat_map(numbers).collect();
    assert_eq!(told, (1..=expected as u64).collect::<Vec<_>>());
    let subject = format!("Patient/{patient}");
    for bundle in &taken {
        for entry in &bundle["entry"].as_array().unwrap()[1..] {
            assert_eq!(entry["resource"]["subject"]["reference"], json!(subject));
        }
    }
    assert!(world.taken(all[0], "event-notification").is_empty());
}

#[tokio::test]
async fn a_client_is_told_what_it_may_see_when_it_happens_and_when_it_is_told() {
    let world = World::new().await;
    let of_all = [(
        "authorization",
        "Bearer only:Subscription;Condition?code=73211009",
    )];
    let asked = subscription(CHANGED, &["Condition"], EHR, "id-only").to_string();
    let post = |headers: &[(&str, &str)]| {
        let mut request = Request::post("/fhir/Subscription").header("content-type", FHIR_JSON);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        world
            .base
            .send(request.body(Body::from(asked.clone())).unwrap())
    };
    let narrow = [("authorization", "Bearer only:Subscription;Encounter")];
    assert_eq!(post(&narrow).await.status, StatusCode::FORBIDDEN);
    let none = [("authorization", "Bearer conditions")];
    assert_eq!(post(&none).await.status, StatusCode::FORBIDDEN);
    assert_eq!(post(&of_all).await.status, StatusCode::CREATED);
    world.settle().await;
    world.base.create(&finding_tests::finding(2001, None)).await;
    let mut seen = finding_tests::finding(2002, None);
    seen["code"]["coding"][0]["code"] = json!("73211009");
    world.base.create(&seen).await;
    world.settle().await;
    let told = world.taken(EHR, "event-notification");
    assert_eq!(
        (told.len(), numbers(&told[0])),
        (1, vec![1]),
        "what the token does not cover is no event"
    );
    assert_eq!(told[0]["entry"].as_array().unwrap().len(), 2);
    *world.rights.0.lock() = Some(vec!["code=1".to_owned()]);
    seen["identifier"][0]["value"] = json!(finding_tests::identifier(2003));
    world.base.create(&seen).await;
    world.settle().await;
    let told = world.taken(EHR, "event-notification");
    assert_eq!(numbers(&told[1]), [2]);
    assert_eq!(
        told[1]["entry"].as_array().unwrap().len(),
        1,
        "a number without a resource"
    );
    *world.rights.0.lock() = None;
    seen["identifier"][0]["value"] = json!(finding_tests::identifier(2004));
    world.base.create(&seen).await;
    world.settle().await;
    assert_eq!(
        world.taken(EHR, "event-notification").len(),
        2,
        "nothing is sent"
    );
    let standing = world
        .base
        .store
        .event_store()
        .subscriptions()
        .await
        .unwrap();
    assert_eq!(
        (standing[0].status, standing[0].watched),
        (Status::Error, false)
    );
}

#[tokio::test]
async fn an_endpoint_is_given_up_after_a_week_and_told_the_rest_when_it_is_requested_again() {
    let world = World::new().await;
    let reference = world.subscribe(&conditions("empty")).await;
    world.hook.down.lock().insert(EHR.to_owned());
    world.base.create(&finding_tests::finding(2001, None)).await;
    for _ in 0..7 * 24 + 2 {
        world.sender.turn().await;
        world.pass(HOUR_MS);
    }
    let read = world.base.get(&format!("/fhir/{reference}")).await.json();
    assert_eq!(read["status"], "error");
    assert!(read["error"].as_str().unwrap().contains("7 days"), "{read}");
    world.base.create(&finding_tests::finding(2002, None)).await;
    world.hook.down.lock().clear();
    let mut again = read.clone();
    again["status"] = json!("requested");
    let path = format!("/fhir/{reference}");
    let reply = world
        .base
        .write(Method::PUT, &path, &[], &again.to_string())
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    world.settle().await;
    let told = world.taken(EHR, "event-notification");
    assert_eq!(told.iter().flat_map(numbers).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(world.status(&reference).await, "active");
    world.hook.down.lock().insert(EHR.to_owned());
    world.base.create(&finding_tests::finding(2003, None)).await;
    for _ in 0..3 {
        world.pass(KEPT_MS / 2 + HOUR_MS);
        world.settle().await;
    }
    let read = world.base.get(&format!("/fhir/{reference}")).await.json();
    assert!(
        read["error"].as_str().unwrap().contains("14 days"),
        "{read}"
    );
    let path = format!("/fhir/{reference}/$events?eventsSinceNumber=3");
    assert_eq!(
        world.base.get(&path).await.status,
        StatusCode::GONE,
        "never silently"
    );
}

#[tokio::test]
async fn heartbeats_are_sent_when_nothing_happens_and_nothing_after_the_end() {
    let world = World::new().await;
    let mut asked = conditions("empty");
    asked["channel"]["extension"] = json!([
        {"url": extension("backport-heartbeat-period"), "valueUnsignedInt": 60},
    ]);
    asked["end"] = json!(Timestamp(BEGIN + 150_000).to_rfc3339());
    let reference = world.subscribe(&asked).await;
    for beats in [0, 1, 2] {
        assert_eq!(world.taken(EHR, "heartbeat").len(), beats);
        world.pass(61_000);
        world.settle().await;
    }
    assert_eq!(world.status(&reference).await, "off");
    world.base.create(&finding_tests::finding(2001, None)).await;
    world.settle().await;
    assert!(world.taken(EHR, "event-notification").is_empty());
}

#[tokio::test]
async fn events_and_status_are_asked_for_by_get_and_post_and_events_by_their_subscriber_alone() {
    let world = World::new().await;
    let reference = world.subscribe(&conditions("empty")).await;
    for year in 2001..2006 {
        world.base.create(&finding_tests::finding(year, None)).await;
    }
    world.settle().await;
    let path = format!("/fhir/{reference}/$events");
    let asked = format!("{path}?eventsSinceNumber=2&eventsUntilNumber=4&content=full-resource");
    let reply = world.base.get(&asked).await.json();
    assert_eq!(numbers(&reply), [2, 3, 4]);
    assert_eq!(parameter(&reply, "type"), "query-event");
    assert_eq!(reply["entry"][1]["resource"]["resourceType"], "Condition");
    let parameters = json!({"resourceType": "Parameters", "parameter": [
        {"name": "eventsSinceNumber", "valueString": "5"},
        {"name": "content", "valueCode": "id-only"},
    ]});
    let reply = world
        .base
        .write(Method::POST, &path, &[], &parameters.to_string())
        .await
        .json();
    assert_eq!(numbers(&reply), [5]);
    assert_eq!(reply["entry"][1].get("resource"), None);
    let status = world
        .base
        .get(&format!("/fhir/{reference}/$status"))
        .await
        .json();
    assert_eq!(parameter(&status, "status"), "active");
    for path in [
        "/fhir/Subscription/$status?status=active",
        "/fhir/Subscription/%24status",
    ] {
        let all = world.base.get(path).await.json();
        assert_eq!(all["total"], 1, "{path}");
    }
    let none = world
        .base
        .get("/fhir/Subscription/$status?status=error")
        .await
        .json();
    assert_eq!((none["total"].as_u64(), none.get("entry")), (Some(0), None));
    let other = [("authorization", "Bearer other")];
    let reply = world.base.get_with(&path, &other).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN);
    for bad in [
        "eventsSinceNumber=x",
        "eventsSinceNumber=1&eventsSinceNumber=2",
        "content=some",
        "colour=red",
    ] {
        assert_eq!(
            world.base.get(&format!("{path}?{bad}")).await.status,
            StatusCode::BAD_REQUEST
        );
    }
    let bundle = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        {"request": {"method": "GET", "url": format!("{reference}/$status")}},
    ]});
    let reply = world
        .base
        .write(Method::POST, "/fhir", &[], &bundle.to_string())
        .await
        .json();
    assert_eq!(reply["entry"][0]["response"]["status"], "200 OK", "{reply}");
}

#[tokio::test]
async fn a_dashboard_streams_the_events_of_a_subscription_and_goes_on_where_it_was() {
    let world = World::new().await;
    let mut asked = conditions("id-only");
    asked["channel"] = json!({
        "type": "message",
        "_type": {"extension": [{"url": extension("backport-channel-type"), "valueCoding":
            {"system": "urn:medmesh:subscription-channel", "code": "server-sent-events"}}]},
    });
    let reference = world.subscribe(&asked).await;
    assert_eq!(world.status(&reference).await, "active");
    for year in 2001..2004 {
        world.base.create(&finding_tests::finding(year, None)).await;
    }
    let request = Request::get(format!("/fhir/{reference}/$sse"))
        .header("authorization", "Bearer all")
        .header("last-event-id", "1")
        .body(Body::empty());
    let response = world
        .base
        .router
        .clone()
        .oneshot(request.unwrap())
        .await
        .unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut text = String::new();
    let mut body = response.into_body().into_data_stream();
    let read = async {
        use futures_util::StreamExt;
        while !text.contains("id: 3") {
            text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), read)
        .await
        .expect("the events come");
    assert!(
        text.contains("id: 2") && !text.contains("id: 1\n"),
        "{text}"
    );
    assert!(text.contains("backport-subscription-notification-r4"));
}
