//! What a device is told, between two reads.
use super::*;
use commands::Reason;
use tokio::sync::mpsc;
use types::Id128;

/// The first register of a monitor's interval, in ms, two words.
const INTERVAL: u16 = 64;

fn told(id: u8, until: Instant, answer: &mpsc::Sender<(Id128, Result<(), Reason>)>) -> Told {
    let interval_ms = 1_000 * u32::from(id);
    let write = format!("address = {INTERVAL}\nwords = 2\nconstant = {interval_ms}");
    Told {
        id: Id128::from_bytes([id; 16]),
        writes: vec![(toml::from_str(&write).unwrap(), interval_ms.into())],
        until,
        answer: answer.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_time_ended_while_it_waited_for_the_line_is_not_written() {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let device: DeviceId = "m1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    facility.simulate(Source::Physiology);
    facility.bridge();
    facility.flows("m1", 1).await;
    let (answer, mut answers) = mpsc::channel(2);
    let (now, later) = (Instant::now(), Instant::now() + DEADLINE);
    let told = |id, until| facility.writes.tell(&device, told(id, until, &answer));
    told(2, now).unwrap();
    told(3, later).unwrap();
    let mut said = Vec::new();
    for _ in 0..2 {
        let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
        said.push(heard.unwrap().unwrap());
    }
    let id = |id: u8| Id128::from_bytes([id; 16]);
    assert_eq!(said, [(id(2), Err(Reason::Stale)), (id(3), Ok(()))]);
}
