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
