//! What clients desire of a device: how it is brought about, tried again, and taken back.
use super::*;

#[tokio::test]
async fn what_is_desired_is_brought_about_by_a_command_and_a_stale_version_is_refused() {
    let world = World::new().await;
    let (status, headers, twin) = world
        .patch(Some("\"0\""), json!({"desired": {"interval": "7s"}}))
        .await;
    assert_eq!(status, StatusCode::OK, "{twin}");
    assert!(headers.contains(r#"\"1\""#), "{headers}");
    assert_eq!(twin["pending"], json!(["interval"]));
    assert_eq!(twin["connection"], "unknown");
    let (status, _, _) = world
        .patch(Some("\"0\""), json!({"desired": {"interval": "8s"}}))
        .await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED);
    for (body, field) in [
        (
            json!({"desired": {"alarm-limits": {"heart-rate-high": 130}}}),
            "/desired/alarm-limits",
        ),
        (json!({"desired": {"interval": "9d"}}), "/desired/interval"),
        (json!({"desired": {"note": "x"}}), "/desired/note"),
        (json!({"reported": {}}), "/reported"),
    ] {
        let (status, _, problem) = world.patch(None, body).await;
        assert_eq!((status.as_u16(), &problem["field"]), (422, &json!(field)));
    }
    world.control.look().await.unwrap();
    let commands = world.get("/commands").await;
    assert_eq!(commands["items"].as_array().unwrap().len(), 1);
    let id = commands["items"][0]["id"].as_str().unwrap();
    assert_eq!(commands["items"][0]["property"], "interval");
    world.step(EDGE, id, State::Acknowledged, "device").await;
    let report = TwinReport {
        device: vec![1; 16].into(),
        version: 1,
        properties: vec![
            TwinProperty {
                name: "interval".into(),
                value: "\"7s\"".into(),
            },
            TwinProperty {
                name: "note".into(),
                value: "\"Jane Doe\"".into(),
            },
        ],
        connected: true,
        seen_ms: Clock::new(None).real().0,
        ..TwinReport::default()
    };
    let body = TwinReports {
        twins: vec![report],
        ..TwinReports::default()
    };
    world.report("edge/eu/eu/eu-f2", &body).await;
    assert_eq!(
        world.get("/twin").await["reported"],
        json!({}),
        "another facility says nothing of it"
    );
    world.report(EDGE, &body).await;
    let twin = world.get("/twin").await;
    assert_eq!(twin["reported"], json!({"interval": "7s"}));
    assert_eq!(
        (&twin["pending"], &twin["connection"]),
        (&json!([]), &json!("connected"))
    );
    assert_eq!(world.commands().await, 1);
}

#[tokio::test]
async fn a_value_is_desired_as_the_device_reports_it_however_it_is_written() {
    let world = World::new().await;
    let set = async |value: &str| {
        let body = json!({"desired": {"interval": value}});
        world.patch(None, body).await.2
    };
    let twin = set("5000ms").await;
    assert_eq!(twin["desired"], json!({"interval": "5s"}));
    world.report(EDGE, &interval(1, "5s")).await;
    assert_eq!(world.get("/twin").await["pending"], json!([]));
    assert_eq!(world.commands().await, 1);
    for (other, version) in [("005s", 1), ("5s", 1), ("3600s", 2), ("60m", 2), ("1h", 2)] {
        assert_eq!(set(other).await["version"], version, "{other}");
    }
    assert_eq!(world.get("/twin").await["desired"]["interval"], "1h");
    assert_eq!(world.commands().await, 2);
}

#[tokio::test]
async fn what_is_set_again_is_brought_about_again_once_it_does_not_hold_any_more() {
    let world = World::new().await;
    let set = async || {
        let body = json!({"desired": {"interval": "5s"}});
        world.patch(None, body).await.2["version"].clone()
    };
    assert_eq!((set().await, world.commands().await), (json!(1), 1));
    assert_eq!(
        (set().await, world.commands().await),
        (json!(1), 1),
        "on its way"
    );
    let end = async |state: State| {
        let commands = world.get("/commands").await;
        let id = commands["items"][0]["id"].as_str().unwrap();
        world.step(EDGE, id, state, "device").await;
    };
    end(State::Acknowledged).await;
    world.report(EDGE, &interval(1, "5s")).await;
    assert_eq!(
        (set().await, world.commands().await),
        (json!(1), 1),
        "it holds"
    );
    // Somebody changes it at the bedside, which is not overruled before a client sets it again.
    world.report(EDGE, &interval(2, "8s")).await;
    assert_eq!(world.commands().await, 1);
    world.patch(None, json!({"desired": {}})).await;
    assert_eq!(world.commands().await, 1, "it names no property");
    assert_eq!((set().await, world.commands().await), (json!(2), 2));
    // What was refused is asked for again as well.
    end(State::Refused).await;
    assert_eq!(world.commands().await, 2);
    assert_eq!((set().await, world.commands().await), (json!(3), 3));
}

#[tokio::test]
async fn what_is_desired_no_more_is_taken_back_and_the_facility_says_what_became_of_it() {
    let world = World::new().await;
    world.set(json!("9s")).await;
    assert_eq!(world.commands().await, 1);
    let first = world.newest().await;
    world.set(json!("11s")).await;
    assert_eq!(world.commands().await, 2);
    let queued = ("queued".to_owned(), Value::Null);
    let given_up = ("queued expired".to_owned(), json!("superseded"));
    assert_eq!(world.ends().await, [queued, given_up.clone()]);
    // It had carried it out already.
    world
        .step(EDGE, &first, State::Acknowledged, "device")
        .await;
    assert_eq!(world.ends().await[1].0, "queued expired acknowledged");
    assert_eq!(world.commands().await, 2);
    world.set(Value::Null).await;
    assert_eq!(world.commands().await, 2);
    assert_eq!(world.ends().await[0], given_up);
    assert_eq!(world.get("/twin").await["pending"], json!([]));
}

#[tokio::test]
async fn what_a_device_has_lost_is_set_again_and_what_somebody_changed_is_not() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    let first = world.newest().await;
    world
        .step(EDGE, &first, State::Acknowledged, "device")
        .await;
    world.report(EDGE, &interval(1, "5s")).await;
    let mut none = interval(2, "8s");
    world.report(EDGE, &none).await;
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 1, "it was changed at the bedside");
    none.twins[0].version = 3;
    none.twins[0].properties.clear();
    world.report(EDGE, &none).await;
    assert_eq!(world.get("/twin").await["pending"], json!(["interval"]));
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 2, "it has lost it");
    let second = world.newest().await;
    world.step(EDGE, &second, State::Refused, "staff").await;
    world.report(EDGE, &interval(4, "5s")).await;
    none.twins[0].version = 5;
    world.report(EDGE, &none).await;
    world.sql("UPDATE want SET retry = 0").await;
    assert_eq!(world.commands().await, 2, "staff refused it");
}

#[tokio::test]
async fn what_a_device_loses_as_soon_as_it_has_it_is_set_once_a_minute_at_most() {
    let world = World::new().await;
    let before = Clock::new(None).real();
    world.set(json!("5s")).await;
    assert_eq!(world.commands().await, 1);
    let first = world.newest().await;
    world
        .step(EDGE, &first, State::Acknowledged, "device")
        .await;
    world.report(EDGE, &interval(1, "5s")).await;
    let mut none = interval(2, "5s");
    none.twins[0].properties.clear();
    world.report(EDGE, &none).await;
    let waits = |commit: &mut federation::ledger::Commit<'_>| {
        let sql = "SELECT settled, retry FROM want";
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?));
        Ok(commit.tx().query_row(sql, [], read)?)
    };
    let (settled, retry) = world.control.ledger.commit("test", waits).await.unwrap();
    assert_eq!(settled, 0, "it is set again");
    assert!(retry >= before.0 + RETRY_MS);
}

#[tokio::test]
async fn no_command_is_given_for_what_is_desired_while_nothing_is_heard_of_the_facility() {
    let world = World::new().await;
    world.report(EDGE, &interval(1, "5s")).await;
    world.sql("UPDATE twin SET heard = 0").await;
    for value in ["7s", "8s", "9s"] {
        world.set(json!(value)).await;
        assert_eq!(world.commands().await, 0, "{value}");
    }
    world.report(EDGE, &interval(1, "5s")).await;
    assert_eq!(world.commands().await, 1);
    let commands = world.get("/commands").await;
    assert_eq!(
        commands["items"][0]["parameters"],
        json!({"interval": "9s"})
    );
}

#[tokio::test]
async fn what_fails_is_tried_ever_more_seldom_and_few_of_its_tries_are_kept() {
    let world = World::new().await;
    world.set(json!("5s")).await;
    for _ in 0..KEPT_OF_WISH + 4 {
        world.commands().await;
        let id = world.newest().await;
        let before = Clock::new(None).real();
        world.step(EDGE, &id, State::Failed, "edge").await;
        let waits = |commit: &mut federation::ledger::Commit<'_>| {
            let sql = "SELECT failures, retry FROM want";
            let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u32>(0)?, row.get::<_, i64>(1)?));
            Ok(commit.tx().query_row(sql, [], read)?)
        };
        let (failures, retry) = world.control.ledger.commit("test", waits).await.unwrap();
        let least = (RETRY_MS << (failures - 1).min(16)).min(MAX_RETRY_MS);
        assert!(retry - before.0 >= least, "{failures}");
        world.sql("UPDATE want SET retry = 0").await;
    }
    let kept = usize::try_from(KEPT_OF_WISH).unwrap();
    assert_eq!(world.commands().await, kept + 1);
}
