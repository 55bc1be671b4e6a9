//! A device that its facility has no more is told nothing.
use super::*;
use types::DeviceStatus;

impl World {
    /// The facility says whether the device is in use.
    async fn becomes(&self, status: DeviceStatus) {
        let id = DEVICE.parse().unwrap();
        let device = self.registry.device(id).await.unwrap().unwrap();
        let changed = Device {
            status,
            updated: device.updated.plus_ms(1),
            ..device
        };
        assert!(self.registry.put(vec![changed]).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_desired_of_a_retired_device_is_not_tried_until_its_facility_has_it_again() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    world.becomes(DeviceStatus::Retired).await;
    // Its facility does not know it: the command has ended, and would be given again.
    let id: types::Id128 = world.newest().await.parse().unwrap();
    let report = CommandReport {
        command: id.as_bytes().to_vec().into(),
        device: vec![1; 16].into(),
        state: State::Refused.as_str().into(),
        reason: "unknown-device".into(),
        time_ms: Clock::new(None).real().0,
        by: "edge".into(),
    };
    let body = CommandReports {
        reports: vec![report],
    };
    world.report(EDGE, &body).await;
    for _ in 0..2 {
        world.sql("UPDATE want SET retry = 0").await;
        assert_eq!(world.commands().await, 1);
    }
    // What was said before it was retired may come late.
    world.report(EDGE, &interval(5, "7s")).await;
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 1);
    world.becomes(DeviceStatus::Active).await;
    world.report(EDGE, &interval(6, "7s")).await;
    assert_eq!(world.commands().await, 2);
    assert_eq!(world.commands().await, 2, "it is given once");
}

#[tokio::test]
async fn what_was_given_for_a_retired_device_is_taken_back() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    world
        .sql(
            "INSERT INTO want SELECT device, 'other', facility, name, parameters, by, NULL, 0, 0, 0 FROM want",
        )
        .await;
    world.becomes(DeviceStatus::Retired).await;
    assert_eq!(world.commands().await, 1, "nothing is given for the other");
    let superseded = ("queued expired".to_owned(), json!("superseded"));
    assert_eq!(world.ends().await, [superseded]);
}

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
