//! A device takes the commands that its facility says, not those of its kind.
use super::*;

/// A narrower interval than the product's, a command that the product does not have, and one that needs a second person.
const OWN: &str = r#"
    [[command]]
    name = "set-interval"
    property = "interval"
    [[command.parameters]]
    name = "interval"
    type = "span"
    range = ["5s", "30s"]
    [[command]]
    name = "set-volume"
    property = "volume"
    [[command.parameters]]
    name = "volume"
    type = "integer"
    range = [0, 10]
    [[command]]
    name = "identify"
    safety = true
"#;

/// What a facility says of the device: the tables of the message, and to which the device refers.
fn told(tables: &[&str], table: u32) -> TwinReports {
    let volume = TwinProperty {
        name: "volume".into(),
        value: "7".into(),
    };
    let report = TwinReport {
        device: vec![1; 16].into(),
        version: 1,
        properties: vec![volume],
        table,
        ..TwinReport::default()
    };
    TwinReports {
        twins: vec![report],
        tables: tables.iter().map(ToString::to_string).collect(),
    }
}

impl World {
    /// The names of the commands that the device takes.
    async fn takes(&self) -> Vec<String> {
        let device = self.get("").await;
        let commands = device["commands"].as_array().unwrap().clone();
        let names = commands
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned());
        names.collect()
    }

    /// The status of a request for a command, and the member that is wrong.
    async fn asked(&self, key: &str, name: &str, parameters: Value) -> (u16, Value) {
        let body = json!({"name": name, "parameters": parameters});
        let (status, _, answer) = self.ask(key, body).await;
        (status.as_u16(), answer["field"].clone())
    }
}

const PRODUCTS: [&str; 4] = ["set-interval", "set-alarm-limits", "identify", "restart"];
const OWNS: [&str; 3] = ["set-interval", "set-volume", "identify"];

#[tokio::test]
async fn a_device_takes_the_commands_of_its_own_table() {
    let world = World::new().await;
    assert_eq!(world.takes().await, PRODUCTS);
    world.report("edge/eu/eu/eu-f2", &told(&[OWN], 1)).await;
    assert_eq!(
        world.takes().await,
        PRODUCTS,
        "of another facility's it says nothing"
    );
    world.report(EDGE, &told(&["", OWN], 2)).await;
    assert_eq!(world.takes().await, OWNS);
    let interval = json!("/parameters/interval");
    let narrow = world
        .asked("a", "set-interval", json!({"interval": "2s"}))
        .await;
    assert_eq!(narrow, (422, interval), "the product's begins at 1s");
    let good = world
        .asked("b", "set-interval", json!({"interval": "5s"}))
        .await;
    assert_eq!(good, (202, Value::Null));
    let own = world.asked("c", "set-volume", json!({"volume": 3})).await;
    assert_eq!(own, (202, Value::Null));
    let gone = world.asked("d", "restart", json!({})).await;
    assert_eq!(gone, (422, json!("/name")));
    let (_, _, identify) = world.ask("e", json!({"name": "identify"})).await;
    assert_eq!(identify["approval"]["needed"], true);
    assert_eq!(identify["sequence"], Value::Null, "it is not signed yet");
}

#[tokio::test]
async fn a_twin_is_desired_and_reported_by_the_devices_own_table() {
    let world = World::new().await;
    let set = async |desired: Value| {
        let (status, _, answer) = world.patch(None, json!({ "desired": desired })).await;
        (status.as_u16(), answer["field"].clone())
    };
    world.report(EDGE, &told(&[], 0)).await;
    assert_eq!(world.get("/twin").await["reported"], json!({}));
    world.report(EDGE, &told(&[OWN], 1)).await;
    assert_eq!(world.get("/twin").await["reported"], json!({"volume": 7}));
    let wrong = set(json!({"interval": "2s"})).await;
    assert_eq!(wrong, (422, json!("/desired/interval")));
    assert_eq!(set(json!({"volume": 3})).await, (200, Value::Null));
    assert_eq!(world.commands().await, 1);
}

#[tokio::test]
async fn of_a_table_that_cannot_be_read_the_device_takes_no_command() {
    let world = World::new().await;
    let long = format!("{OWN}#{}", "x".repeat(commands::MAX_TABLE_BYTES));
    for (case, (text, table)) in [("[[command]]", 1), (long.as_str(), 1), (OWN, 2), ("", 1)]
        .into_iter()
        .enumerate()
    {
        world.report(EDGE, &told(&[OWN], 1)).await;
        assert_eq!(world.takes().await, OWNS);
        world.report(EDGE, &told(&[text], table)).await;
        assert!(world.takes().await.is_empty(), "{case}");
        let key = format!("k{case}");
        let asked = world
            .asked(&key, "set-interval", json!({"interval": "5s"}))
            .await;
        assert_eq!(asked, (422, json!("/name")), "{case}");
    }
    world.report(EDGE, &told(&[OWN], 0)).await;
    assert_eq!(world.takes().await, PRODUCTS);
}

#[tokio::test]
async fn what_waits_for_approval_is_held_against_the_table_as_it_is_then() {
    let world = World::new().await;
    world.report(EDGE, &told(&[OWN], 1)).await;
    let mut ids = Vec::new();
    for key in ["a", "b"] {
        let (_, _, command) = world.ask(key, json!({"name": "identify"})).await;
        ids.push(command["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(
        world.approve(&world.approver, &ids[0]).await,
        StatusCode::OK
    );
    let fewer = OWN.split("[[command]]").take(3).collect::<Vec<_>>();
    world
        .report(EDGE, &told(&[&fewer.join("[[command]]")], 1))
        .await;
    assert_eq!(world.takes().await, OWNS[..2]);
    let late = world.approve(&world.approver, &ids[1]).await;
    assert_eq!(late, StatusCode::CONFLICT);
    let command = world.get(&format!("/commands/{}", ids[1])).await;
    assert_eq!(states(&command), ["queued", "refused"]);
    assert_eq!(command["history"][1]["reason"], "unknown-command");
    assert_eq!(command["sequence"], Value::Null, "it was never signed");
}
