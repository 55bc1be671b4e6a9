//! A device that its facility has no more is told nothing.
use super::*;
use types::DeviceStatus;

#[tokio::test]
async fn a_retired_device_is_told_nothing_and_nothing_is_desired_of_it() {
    let world = World::new().await;
    let limits = json!({"name": "set-alarm-limits", "parameters": {"heart-rate-high": 120}});
    let (_, _, waits) = world.ask("waits", limits).await;
    let waits = waits["id"].as_str().unwrap();
    let id = DEVICE.parse().unwrap();
    let device = world.registry.device(id).await.unwrap().unwrap();
    for (status, expected) in [
        (DeviceStatus::Retired, 409),
        (DeviceStatus::Silent, 202),
        (DeviceStatus::Retired, 409),
    ] {
        let later = world.registry.device(id).await.unwrap().unwrap().updated;
        let changed = Device {
            status,
            updated: later.plus_ms(1),
            ..device.clone()
        };
        assert!(world.registry.put(vec![changed]).await.unwrap());
        assert_eq!(world.get("").await["status"], status.as_str());
        let key = format!("{}", later.0);
        let (asked, _, _) = world.ask(&key, set_interval()).await;
        assert_eq!(asked.as_u16(), expected, "{status:?}");
        let body = json!({"desired": {"interval": "7s"}});
        let (set, _, _) = world.patch(None, body).await;
        assert_eq!(set.as_u16() == 409, expected == 409, "{status:?}");
    }
    let approved = world.approve(&world.approver, waits).await;
    assert_eq!(approved, StatusCode::CONFLICT);
}
