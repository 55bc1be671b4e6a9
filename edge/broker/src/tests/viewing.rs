//! Programs of the facility that hear what is stored, with certificates of their own.
use super::wire::{Connect, LOOK, Raw, V5, got, packet, publish, subscribe};
use super::world::{LAB, World, until};
use crate::{BrokerLimits, Change, Noted, Viewers, show};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::broadcast;
use types::DeviceId;

const WALL: &str = "spiffe://medmesh/device/us/us/us-f1/wall-1";
const NURSE: &str = "spiffe://medmesh/device/us/us/us-f1/nurse-1";

const RIGHTS: &str = "[[client]]\nid = \"wall-1\"\ntopics = [\"local/us-f1/#\"]\n\
    [[client]]\nid = \"nurse-1\"\ntopics = [\"local/us-f1/+/alarm\", \"local/us-f1/missed\"]\n";

fn read(rights: &str) -> Viewers {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("acl.toml");
    std::fs::write(&path, rights).unwrap();
    Viewers::read(&path, &"us-f1".parse().unwrap()).unwrap()
}

/// The viewers of every world of these tests.
pub(super) fn viewers() -> Viewers {
    read(RIGHTS)
}

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

#[async_trait]
impl Noted for Notes {
    async fn note(&self, viewer: &DeviceId) -> bool {
        self.0.lock().push(viewer.to_string());
        true
    }
}

struct Shown {
    world: World,
    notes: Arc<Notes>,
    changes: broadcast::Sender<Arc<Sample>>,
}

/// What was stored, as a node might show it.
#[derive(Debug)]
struct Sample {
    device: DeviceId,
    alarm: bool,
    readings: usize,
}

impl Change for Sample {
    fn device(&self) -> &DeviceId {
        &self.device
    }

    fn is_alarm(&self) -> bool {
        self.alarm
    }

    fn json(&self) -> Vec<u8> {
        let reading = json!({"code": "2951-2", "value": 140.0, "unit": "mmol/L"});
        let readings = vec![reading; self.readings];
        json!({"device": self.device.as_str(), "alarm": self.alarm, "readings": readings})
            .to_string()
            .into()
    }
}

impl Shown {
    async fn new(limits: BrokerLimits) -> Self {
        Self::of(World::with(limits).await)
    }

    fn of(world: World) -> Self {
        let notes = Arc::<Notes>::default();
        world.broker.noted_by(Arc::clone(&notes) as _);
        let changes = broadcast::Sender::new(64);
        let showing = show(
            world.broker.clone(),
            changes.subscribe(),
            world.stop.clone(),
        );
        tokio::spawn(showing);
        Self {
            world,
            notes,
            changes,
        }
    }

    async fn joins(&self, identity: &str, filters: &[(&str, u8)], codes: &[u8]) -> Raw {
        let raw = self.world.dial(identity).await;
        let name = identity.rsplit('/').next().unwrap();
        self.joins_by(raw, &Connect::new(V5, name), filters, codes)
            .await
    }

    async fn joins_by(
        &self,
        mut raw: Raw,
        connect: &Connect,
        filters: &[(&str, u8)],
        codes: &[u8],
    ) -> Raw {
        raw.send(&connect.bytes()).await;
        let connack = raw.next().await.unwrap();
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        raw.send(&subscribe(V5, 1, filters)).await;
        let suback = raw.next().await.unwrap();
        assert_eq!(suback, packet(0x90, &[&[0, 1, 0], codes].concat()));
        raw
    }

    fn says(&self, device: &str, alarm: bool, readings: usize) {
        let change = Sample {
            device: device.parse().unwrap(),
            alarm,
            readings,
        };
        self.changes.send(Arc::new(change)).unwrap();
    }
}

async fn heard(raw: &mut Raw) -> (String, Value) {
    let came = raw.next().await.expect("closed");
    let got = got(V5, &came);
    (got.topic, serde_json::from_str(&got.payload).unwrap())
}

#[tokio::test]
async fn a_viewer_hears_what_it_is_granted_as_json_and_publishes_nothing() {
    let shown = Shown::new(BrokerLimits::default()).await;
    let mut wall = shown.joins(WALL, &[("local/us-f1/#", 1)], &[1]).await;
    let filters = [
        ("local/us-f1/+/alarm", 0),
        ("local/us-f1/#", 0),
        ("devices/us/us-f1/lab-1/#", 0),
    ];
    let mut nurse = shown.joins(NURSE, &filters, &[0, 0x87, 0x87]).await;
    let mut lab = shown
        .joins(
            LAB,
            &[("local/us-f1/#", 0), ("devices/us/us-f1/lab-1/#", 0)],
            &[0x87, 0],
        )
        .await;
    assert_eq!(*shown.notes.0.lock(), ["wall-1", "nurse-1"]);
    shown.says("lab-1", false, 1);
    shown.says("lab-2", true, 1);
    let (topic, json) = heard(&mut wall).await;
    assert_eq!(topic, "local/us-f1/lab-1/telemetry");
    assert_eq!(
        (&json["device"], &json["alarm"]),
        (&"lab-1".into(), &false.into())
    );
    assert_eq!(json["readings"][0]["code"], "2951-2");
    for viewer in [&mut wall, &mut nurse] {
        assert_eq!(heard(viewer).await.0, "local/us-f1/lab-2/alarm");
    }
    lab.quiet().await;
    for topic in [
        "local/us-f1/lab-1/telemetry",
        "devices/us/us-f1/lab-1/telemetry",
    ] {
        nurse.send(&publish(V5, 0x32, 7, topic, b"{}")).await;
        let puback = nurse.next().await.expect("closed");
        assert_eq!((puback[0], puback[4]), (0x40, 0x87), "{puback:02x?}");
    }
    assert!(shown.world.journal.kept.lock().samples.is_empty());
}

#[tokio::test]
async fn a_viewer_with_a_token_hears_what_it_is_granted_and_with_another_or_none_it_is_not_let_in()
{
    let token = "5d1e-a token that the facility drew";
    let digest = hex::encode(ring::digest::digest(
        &ring::digest::SHA256,
        token.as_bytes(),
    ));
    let rights = format!(
        "{RIGHTS}[[client]]\nid = \"pager-1\"\ntopics = [\"local/us-f1/+/alarm\"]\ntoken_sha256 = \"{digest}\"\n"
    );
    let authority = World::shared_authority();
    let limits = BrokerLimits::default();
    let world = World::heard_by(read(&rights), authority, Arc::default(), limits).await;
    let shown = Shown::of(world);
    let nobody = || shown.world.dial_with(shown.world.authority.client(None));
    let by = |name: &str, password: Option<&str>| Connect {
        password: password.map(Into::into),
        ..Connect::new(V5, name)
    };
    for wrong in [
        by("pager-1", None),
        by("pager-1", Some("")),
        by("pager-1", Some("another token")),
        // What is in the file is not the token.
        by("pager-1", Some(&digest)),
        // Whoever is to have a certificate is not let in by anybody's token, a device least of all.
        by("wall-1", Some(token)),
        by("lab-1", Some(token)),
        by("stranger-1", Some(token)),
    ] {
        let mut raw = nobody().await;
        raw.send(&wrong.bytes()).await;
        let connack = raw.next().await.unwrap();
        assert_eq!((connack[0], connack[3]), (0x20, 0x87), "{}", wrong.id);
    }
    // A certificate says who it is, whatever token is shown.
    let mut lab = shown.world.dial(LAB).await;
    lab.send(&by("pager-1", Some(token)).bytes()).await;
    let connack = lab.next().await.unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0x87));
    let filters = [("local/us-f1/+/alarm", 0), ("local/us-f1/#", 0)];
    let connect = by("pager-1", Some(token));
    let mut pager = shown
        .joins_by(nobody().await, &connect, &filters, &[0, 0x87])
        .await;
    assert_eq!(*shown.notes.0.lock(), ["pager-1"]);
    shown.says("lab-2", true, 1);
    assert_eq!(heard(&mut pager).await.0, "local/us-f1/lab-2/alarm");
}

#[tokio::test]
async fn a_viewer_that_does_not_read_misses_samples_is_told_how_many_and_holds_up_nobody() {
    const CHANGES: u64 = 50;
    let limits = BrokerLimits {
        queue_messages: 8,
        ..BrokerLimits::default()
    };
    let shown = Shown::new(limits).await;
    let mut wall = shown.joins(WALL, &[("local/us-f1/#", 0)], &[0]).await;
    let mut nurse = shown.world.dial(NURSE).await;
    nurse.send(&Connect::lasting(V5, "nurse-1").bytes()).await;
    nurse.next().await.expect("a CONNACK");
    let filters = [("local/us-f1/+/alarm", 0), ("local/us-f1/missed", 0)];
    nurse.send(&subscribe(V5, 1, &filters)).await;
    nurse.next().await.expect("a SUBACK");
    nurse.cut().await;
    // What goes out at QoS 0 before the broker sees that the socket is gone is lost, and nobody can count it.
    let name: DeviceId = "nurse-1".parse().unwrap();
    let present = &shown.world.broker.ctx.present;
    until("the broker sees that it is gone", || {
        !present.lock().contains(&name)
    })
    .await;
    for _ in 0..CHANGES {
        shown.says("lab-1", true, 2);
        assert_eq!(heard(&mut wall).await.0, "local/us-f1/lab-1/alarm");
    }
    let mut nurse = shown.world.dial(NURSE).await;
    nurse.send(&Connect::lasting(V5, "nurse-1").bytes()).await;
    assert_eq!(
        nurse.next().await.expect("a CONNACK")[2],
        1,
        "its session is there"
    );
    // What is missed is said with the next sample that finds room.
    let (mut came, mut missed, mut last) = (0, 0, 0);
    while came + missed < CHANGES + last {
        last += 1;
        assert!(
            last < 100,
            "{came} came, {missed} were missed, of {CHANGES} and {last}"
        );
        shown.says("lab-1", true, 1);
        loop {
            let looked = tokio::time::timeout(LOOK, heard(&mut nurse)).await;
            match looked {
                Ok((topic, json)) if topic == "local/us-f1/missed" => {
                    missed += json["missed"].as_u64().unwrap();
                }
                Ok((_, json)) => {
                    came += 1;
                    if json["readings"].as_array().unwrap().len() == 1 {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
    }
    assert!(missed > 0 && came > 0, "{came} came, {missed} were missed");
}
