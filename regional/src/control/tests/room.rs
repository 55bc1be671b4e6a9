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

#[tokio::test]
async fn what_was_brought_about_makes_room_for_what_is_desired_now() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    world.sql("UPDATE command_kept SET count = 100000").await;
    world.set(json!("6s")).await;
    // The first one is taken back, and has ended, in the look that brings the second one about.
    assert_eq!(world.commands().await, 1);
    let commands = world.get("/commands").await;
    assert_eq!(
        commands["items"][0]["parameters"],
        json!({"interval": "6s"})
    );
    world.sql("UPDATE command_kept SET count = 100000").await;
    world.set(json!("7s")).await;
    world
        .sql("UPDATE command SET key = 'k', ended = NULL")
        .await;
    world.sql("DELETE FROM withdrawn").await;
    assert_eq!(world.commands().await, 1, "none of it is a wish's");
}

#[tokio::test]
async fn what_ended_a_day_ago_makes_room_and_what_ended_since_does_not() {
    let world = World::new().await;
    let (_, _, first) = world.ask("k1", set_interval()).await;
    let id = first["id"].as_str().unwrap();
    world.step(EDGE, id, State::Acknowledged, "device").await;
    world.sql("UPDATE command_kept SET count = 180000").await;
    let (status, _, refused) = world.ask("k2", set_interval()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(
        refused["detail"],
        "the region keeps as many commands as it may"
    );
    world
        .sql("UPDATE command SET ended = ended - 90000000")
        .await;
    let (status, _, second) = world.ask("k3", set_interval()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let commands = world.get("/commands").await;
    let ids: Vec<&Value> = commands["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| &command["id"])
        .collect();
    assert_eq!(ids, [&second["id"]]);
}
