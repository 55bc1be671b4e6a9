//! What a place says of subscriptions beside serving them: whether it takes one, and that another node numbers its events.
use super::subscribing_tests::{CHANGED, Clients, EHR, World, conditions, subscription};
use super::*;
use serde_json::json;

#[tokio::test]
async fn what_a_subscription_may_ask_for_is_what_validate_says_of_it() {
    let world = World::new().await;
    let validate = async |endpoint: &str| {
        let asked = subscription(CHANGED, &["Condition?code=38341003"], endpoint, "id-only");
        let path = "/fhir/Subscription/$validate?mode=create";
        let reply = world
            .base
            .write(Method::POST, path, &[], &asked.to_string())
            .await;
        reply.json()["issue"][0]["code"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(validate(EHR).await, "informational");
    assert_eq!(
        validate("https://elsewhere.example/").await,
        "not-supported"
    );
}

#[tokio::test]
async fn how_subscriptions_stand_is_said_by_the_node_that_numbers_events_alone() {
    let mut world = World::new().await;
    let reference = world.subscribe(&conditions("id-only")).await;
    let mut api = api_over(
        world.base.store.clone(),
        false,
        world.base.log.clone(),
        None,
    );
    api.subscriptions = Some(Subscriptions {
        hook: world.hook.clone(),
        numbering: None,
    });
    api.authorize = Arc::new(Clients(world.rights.clone()));
    world.base.router = api.router();
    let paths = ["$status", "$events"].map(|name| format!("{reference}/{name}"));
    let paths = paths.into_iter().chain(["Subscription/$status".to_owned()]);
    for path in paths {
        let reply = world.base.get(&format!("/fhir/{path}")).await;
        assert_eq!(reply.issue().0, 503, "{path}");
        let entry = json!([{"request": {"method": "GET", "url": path}}]);
        let batch = world.base.bundle("batch", &entry).await.json();
        let status = batch["entry"][0]["response"]["status"].as_str().unwrap();
        // A type has no operations by GET in a batch.
        let is_refused = ["503", "404"].iter().any(|one| status.starts_with(one));
        assert!(is_refused, "{path}: {batch}");
    }
    assert_eq!(
        world.base.get(&format!("/fhir/{reference}")).await.status,
        200
    );
}

#[tokio::test]
async fn a_filter_that_looks_for_somebody_is_not_kept() {
    let world = World::new().await;
    for (filters, element) in [
        (
            &[
                "Condition?code=38341003",
                "Patient?identifier=http://hospital.example%7C4711",
            ][..],
            Some("Subscription.criteria.extension[1]"),
        ),
        (
            &["Patient?name=Lovelace"][..],
            Some("Subscription.criteria.extension[0]"),
        ),
        (
            &["Condition?subject=Patient/lovelace"][..],
            Some("Subscription.criteria.extension[0]"),
        ),
        (&["Patient?gender=female", "Condition"][..], None),
    ] {
        let asked = subscription(CHANGED, filters, EHR, "id-only").to_string();
        let path = "/fhir/Subscription";
        let reply = world.base.write(Method::POST, path, &[], &asked).await;
        let expected = if element.is_some() { 422 } else { 201 };
        assert_eq!(
            reply.status.as_u16(),
            expected,
            "{filters:?}: {}",
            reply.text
        );
        let told = reply.json()["issue"][0]["expression"][0].clone();
        assert_eq!(told.as_str(), element, "{filters:?}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_stream_does_not_go_on_from_what_is_no_event() {
    let world = World::new().await;
    let reference = world.subscribe(&conditions("id-only")).await;
    let path = format!("/fhir/{reference}/$sse");
    for (last, expected) in [
        ("1", (410, "deleted")),
        ("99999", (410, "deleted")),
        ("-1", (400, "value")),
        ("x", (400, "value")),
        ("18446744073709551616", (400, "value")),
    ] {
        let own = [("authorization", "Bearer all"), ("last-event-id", last)];
        let reply = world.base.get_with(&path, &own).await;
        let (status, code) = expected;
        assert_eq!(reply.issue(), (status, code.to_owned()), "{last}");
    }
    let reply = world.base.get(&format!("{path}?colour=red")).await;
    assert_eq!(reply.issue(), (400, "not-supported".to_owned()));
}
