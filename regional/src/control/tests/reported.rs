//! What facilities say of their devices.
use super::*;

#[tokio::test]
async fn a_facility_that_was_put_back_says_whether_its_device_is_there_and_nothing_older_of_it() {
    let world = World::new().await;
    world.report(EDGE, &interval(5, "7s")).await;
    let mut older = interval(3, "5s");
    for (connected, expected) in [(false, "disconnected"), (true, "connected")] {
        older.twins[0].connected = connected;
        older.twins[0].seen_ms = Clock::new(None).real().0;
        world.report(EDGE, &older).await;
        let twin = world.get("/twin").await;
        assert_eq!(twin["connection"], expected);
        assert_eq!(twin["reported"], json!({"interval": "7s"}));
    }
}
