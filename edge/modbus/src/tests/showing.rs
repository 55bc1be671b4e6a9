//! What a device shows of its settings.
use super::*;
use commands::Reason;
use tokio::sync::mpsc;
use types::Id128;

#[tokio::test(flavor = "multi_thread")]
async fn a_device_shows_what_it_has_of_its_settings_and_is_told_nothing_while_it_is_away() {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let device: DeviceId = "m1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    let mut shown = facility.writes.shown().unwrap();
    facility.bridge();
    let write: commands::Write =
        toml::from_str("parameter = \"interval\"\naddress = 64\nwords = 2").unwrap();
    let (answer, mut answers) = mpsc::channel(2);
    let told = |id: u8| Told {
        id: Id128::from_bytes([id; 16]),
        what: What::Writes(vec![(write.clone(), 7_000)]),
        until: Instant::now() + DEADLINE,
        answer: answer.clone(),
    };
    let mut tell = async |id: u8| {
        facility.writes.tell(&device, told(id)).unwrap();
        let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
        heard.unwrap().unwrap().1
    };
    assert_eq!(tell(1).await, Err(Reason::Unreached), "nobody is there");
    facility.simulate(Source::Physiology);
    facility.flows("m1", 1).await;
    let mut next = async || {
        let one = tokio::time::timeout(DEADLINE, shown.recv()).await;
        one.unwrap().unwrap()
    };
    let first = next().await;
    assert_eq!((first.number(&write), first.afresh), (Some(0), true));
    let (answer, mut answers) = mpsc::channel(2);
    let told = Told { answer, ..told(2) };
    facility.writes.tell(&device, told).unwrap();
    let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
    assert_eq!(heard.unwrap().unwrap().1, Ok(()));
    while next().await.number(&write) != Some(7_000) {}
}
