//! Tests of who asks too often.
use super::*;
use serde_json::json;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Who [`ByName`] lets in, as long as so many requests are left.
struct Left(AtomicU32);

impl Authorize for Left {
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

    fn spend(&self, _: &HeaderMap, requests: u32, _: bool) -> Result<(), TooOften> {
        let take = |left: u32| left.checked_sub(requests);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.map(drop).map_err(|_| TooOften {
            per_second: 2,
            wait: Duration::from_millis(1_500),
        })
    }
}

async fn with_left(requests: u32) -> Fixture {
    let mut api = fixture().await;
    let served = FhirApi {
        authorize: Arc::new(Left(AtomicU32::new(requests))),
        ..api_over(api.store.clone(), false, Arc::clone(&api.log), None)
    };
    api.router = served.router();
    api
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_ask_again_and_each_entry_of_a_bundle_is_asked_for() {
    let entry = json!({"request": {"method": "GET", "url": "Patient"}});
    let entries = json!([entry, entry]);
    let api = with_left(4).await;
    // The Bundle, and each of its entries.
    let reply = api.bundle("batch", &entries).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let reply = api.get("/fhir/Patient").await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text);
    let reply = api.get("/fhir/Patient").await;
    assert_eq!(reply.issue(), (429, "throttled".to_owned()));
    assert_eq!(reply.headers[header::RETRY_AFTER], "2");
    for kind in ["batch", "transaction"] {
        let reply = with_left(2).await.bundle(kind, &entries).await;
        assert_eq!(reply.issue(), (429, "throttled".to_owned()), "{kind}");
    }
}
