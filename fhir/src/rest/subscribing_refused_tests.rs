//! What a Subscription asks for and is not served is refused, at its element.
use super::*;

fn with(change: &dyn Fn(&mut Value)) -> Value {
    let mut one = conditions("id-only");
    change(&mut one);
    one
}

fn filter(text: &str) -> Value {
    subscription(CHANGED, &[text], EHR, "empty")
}

fn header(line: &str) -> Value {
    with(&|one| one["channel"]["header"] = json!([line]))
}

fn timing(name: &str, value: Value) -> Value {
    with(&|one| {
        let mut timing = value.clone();
        timing["url"] = json!(extension(name));
        one["channel"]["extension"] = json!([timing]);
    })
}

/// What is not served, and the element that says it.
fn unserved() -> Vec<(Value, &'static str)> {
    vec![
        (
            with(&|one| one["status"] = json!("active")),
            "Subscription.status",
        ),
        (
            with(&|one| one["criteria"] = json!("Condition?code=a")),
            "Subscription.criteria",
        ),
        (
            with(&|one| one["reason"] = json!("Ms Smith asked")),
            "Subscription.reason",
        ),
        (
            with(&|one| one["end"] = json!("1999-01-01T00:00:00Z")),
            "Subscription.end",
        ),
        (
            with(&|one| one["channel"]["type"] = json!("email")),
            "Subscription.channel.type",
        ),
        (
            with(&|one| one["channel"]["payload"] = json!("application/xml")),
            "Subscription.channel.payload",
        ),
        (
            subscription(
                CHANGED,
                &["Condition"],
                "https://elsewhere.example/",
                "empty",
            ),
            "Subscription.channel.endpoint",
        ),
        (
            subscription(CHANGED, &["Condition"], EHR, "everything"),
            "Subscription.channel.payload.extension",
        ),
        (
            subscription(CHANGED, &[], EHR, "empty"),
            "Subscription.criteria",
        ),
        (
            subscription(
                "urn:medmesh:topic:encounter-changed",
                &["Condition"],
                EHR,
                "empty",
            ),
            "Subscription.criteria.extension[0]",
        ),
    ]
}

/// Filters, headers and times that are not served.
fn unserved_details() -> Vec<(Value, &'static str)> {
    vec![
        (
            filter("Condition?colour=red"),
            "Subscription.criteria.extension[0]",
        ),
        (
            filter("Condition?subject:Patient._id=a"),
            "Subscription.criteria.extension[0]",
        ),
        (
            filter("Condition?_lastUpdated=gt2001"),
            "Subscription.criteria.extension[0]",
        ),
        (
            filter("Condition?_count=4"),
            "Subscription.criteria.extension[0]",
        ),
        (
            filter("Nonsense?code=a"),
            "Subscription.criteria.extension[0]",
        ),
        (
            filter("Subscription?status=active"),
            "Subscription.criteria.extension[0]",
        ),
        (
            header("Host: elsewhere.example"),
            "Subscription.channel.header[0]",
        ),
        (
            header("Transfer-Encoding: chunked"),
            "Subscription.channel.header[0]",
        ),
        (
            header("X-A: b\r\nHost: elsewhere"),
            "Subscription.channel.header[0]",
        ),
        (header("no header"), "Subscription.channel.header[0]"),
        (
            timing("backport-timeout", json!({"valueUnsignedInt": 3600})),
            "Subscription.channel.extension[0]",
        ),
        (
            timing("backport-max-count", json!({"valuePositiveInt": 5000})),
            "Subscription.channel.extension[0]",
        ),
        (
            timing("backport-heartbeat-period", json!({"valueUnsignedInt": 1})),
            "Subscription.channel.extension[0]",
        ),
    ]
}

#[tokio::test]
async fn what_is_asked_for_and_not_served_is_refused_at_its_element() {
    let world = World::new().await;
    let mut cases = unserved();
    cases.extend(unserved_details());
    for (asked, expression) in cases {
        let reply = world
            .base
            .write(Method::POST, "/fhir/Subscription", &[], &asked.to_string())
            .await;
        assert_eq!(
            reply.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{asked}: {}",
            reply.text
        );
        let issues = reply.json()["issue"].as_array().unwrap().clone();
        let at = issues
            .iter()
            .any(|issue| issue["expression"][0] == expression);
        assert!(at, "{expression}: {}", reply.text);
    }
    assert!(
        world
            .base
            .store
            .event_store()
            .subscriptions()
            .await
            .unwrap()
            .is_empty()
    );
    let good = timing("backport-timeout", json!({"valueUnsignedInt": 5}));
    world.base.create(&good).await;
    let inner = json!({"resourceType": "Basic", "contained": [conditions("empty")], "code": {"coding": [
        {"system": "http://terminology.hl7.org/CodeSystem/basic-resource-type", "code": "consent"}]}});
    let reply = world
        .base
        .write(Method::POST, "/fhir/Basic", &[], &inner.to_string())
        .await;
    assert_eq!(
        reply.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "no text comes in within another resource"
    );
}
