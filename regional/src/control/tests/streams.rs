//! Commands as streams of events.
use super::*;

#[tokio::test]
async fn a_stream_looks_again_when_its_own_command_changes_and_not_for_others() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for (key, body) in [
        ("k1", set_interval()),
        ("k2", json!({"name": "identify", "ttl": "60s"})),
    ] {
        let (_, _, command) = world.ask(key, body).await;
        ids.push(command["id"].as_str().unwrap().to_owned());
    }
    let of = |id: &String| world.control.changes.of(id.parse().unwrap());
    let (one, other) = (of(&ids[0]), of(&ids[1]));
    world.step(EDGE, &ids[1], State::Delivered, "edge").await;
    world.report(EDGE, &interval(5, "7s")).await;
    world.set(json!("5s")).await;
    world.control.look().await.unwrap();
    assert!(!one.has_changed().unwrap() && other.has_changed().unwrap());
    let path = format!("/commands/{}", ids[0]);
    let request = world.request(&world.operator, "GET", &path);
    let request = request.header("accept", "text/event-stream");
    let request = request.body(Body::empty()).unwrap();
    let answer = world.app.clone().oneshot(request).await.unwrap();
    let steps = async {
        world.step(EDGE, &ids[0], State::Delivered, "edge").await;
        world
            .step(EDGE, &ids[0], State::Acknowledged, "device")
            .await;
    };
    let (read, ()) = tokio::join!(to_bytes(answer.into_body(), 1 << 20), steps);
    let text = String::from_utf8(read.unwrap().to_vec()).unwrap();
    let events = text.lines().filter_map(|line| line.strip_prefix("event: "));
    let events: Vec<_> = events.collect();
    assert_eq!(events, ["queued", "delivered", "acknowledged"]);
}

#[tokio::test]
async fn a_stream_hears_that_the_time_of_its_command_has_ended_and_that_it_was_taken_back() {
    let world = World::new().await;
    let (_, _, asked) = world.ask("k1", set_interval()).await;
    let id = asked["id"].as_str().unwrap().parse().unwrap();
    let changed = world.control.changes.of(id);
    world.sql("UPDATE command SET expires = 0").await;
    world.control.look().await.unwrap();
    assert!(changed.has_changed().unwrap());
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 2);
    let id = world.newest().await.parse().unwrap();
    let changed = world.control.changes.of(id);
    world.set(json!("9s")).await;
    world.control.look().await.unwrap();
    assert!(changed.has_changed().unwrap());
}
