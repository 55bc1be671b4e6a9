//! The listings of devices and of commands: which parameters they take, and what they say of others.
use super::*;

impl World {
    async fn listed(&self, path: &str) -> (u16, Value) {
        let request = Request::get(format!("/api/v1/devices{path}"));
        let request = request.header("authorization", format!("Bearer {}", self.operator));
        let (status, _, json) = self.send(request.body(Body::empty()).unwrap()).await;
        (status.as_u16(), json)
    }
}

#[tokio::test]
async fn devices_are_listed_by_facility_kind_and_status() {
    let world = World::new().await;
    let count = async |query: &str| {
        let (status, json) = world.listed(query).await;
        assert_eq!(status, 200, "{query}: {json}");
        json["items"].as_array().unwrap().len()
    };
    let all = count("").await;
    assert!(all > 0);
    let (_, first) = world.listed("").await;
    let status = first["items"][0]["status"].as_str().unwrap().to_owned();
    let other = if status == "active" {
        "silent"
    } else {
        "active"
    };
    for (query, expected) in [
        ("?facility=eu-f1", all),
        ("?facility=eu-f2", 0),
        ("?kind=bedside-monitor", all),
        ("?kind=external", 0),
        (
            &format!("?kind=bedside-monitor&status={status}&limit=1000"),
            all,
        ),
        (&format!("?status={other}"), 0),
        ("?limit=1", 1),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_parameter_that_is_not_understood_is_named() {
    let world = World::new().await;
    let commands = format!("/{DEVICE}/commands");
    for (path, parameter) in [
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?kind=toaster", "kind"),
        ("?status=gone", "status"),
        ("?facility=EU%20F1", "facility"),
        ("?after=x", "after"),
        ("?kind=", "kind"),
        ("?limit=1&limit=1", "limit"),
        ("?kinds=external", "kinds"),
        (&format!("{commands}?limit=0"), "limit"),
        (&format!("{commands}?before=x"), "before"),
        (&format!("{commands}?after=1"), "after"),
    ] {
        let (status, problem) = world.listed(path).await;
        assert_eq!(
            (status, &problem["parameter"]),
            (400, &json!(parameter)),
            "{path}"
        );
    }
}
