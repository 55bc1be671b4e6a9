//! How many commands there is room for.
use super::*;

#[tokio::test]
async fn a_client_is_told_how_many_commands_of_a_device_may_be_open() {
    let world = World::new().await;
    let limits =
        json!({"name": "set-alarm-limits", "parameters": {"heart-rate-high": 120}, "ttl": "60s"});
    let mut number = 0;
    for (body, most) in [(set_interval(), MAX_OPEN), (limits, MAX_OPEN + SAFETY_OPEN)] {
        let refused = loop {
            number += 1;
            let (status, _, answer) = world.ask(&format!("k{number}"), body.clone()).await;
            if status != StatusCode::ACCEPTED {
                break (status, answer);
            }
        };
        assert_eq!(refused.0, StatusCode::TOO_MANY_REQUESTS);
        let detail = format!("{most} commands of this device have not ended");
        assert_eq!(refused.1["detail"], detail);
    }
}
