//! What a device is told, between two reads.
use super::*;
use commands::Reason;
use tokio::sync::mpsc;
use types::Id128;

/// The first register of a monitor's interval, in ms, two words.
const INTERVAL: u16 = 64;

/// Lower and upper alarm limit of the heart rate, as the monitor's profile writes them.
const LIMITS: [(u16, bool); 2] = [(66, false), (67, true)];

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

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_out_of_order_are_refused_by_the_device_and_both_of_them_come_in_one_request()
 {
    let mut facility = Facility::new(30.0);
    facility.tcp("m1", MONITOR, "medmesh-monitor");
    let device: DeviceId = "m1".parse().unwrap();
    facility.writes = Writes::to(std::iter::once(&device));
    facility.simulate(Source::Physiology);
    facility.bridge();
    facility.flows("m1", 1).await;
    let (answer, mut answers) = mpsc::channel(2);
    for (id, limits, expected) in [
        (1, [Some(50), Some(120)], Ok(())),
        (2, [Some(120), None], Err(Reason::OverRange)),
        (3, [None, Some(50)], Err(Reason::OverRange)),
        // Both above what stands: one after the other the first would be refused.
        (4, [Some(150), Some(200)], Ok(())),
        (5, [Some(60), Some(100)], Ok(())),
    ] {
        let given = LIMITS.into_iter().zip(limits);
        let writes = given.filter_map(|((address, joined), limit)| {
            let write = format!("address = {address}\nconstant = 0\njoined = {joined}");
            Some((toml::from_str(&write).unwrap(), limit?))
        });
        let told = Told {
            id: Id128::from_bytes([id; 16]),
            writes: writes.collect(),
            until: Instant::now() + DEADLINE,
            answer: answer.clone(),
        };
        facility.writes.tell(&device, told).unwrap();
        let heard = tokio::time::timeout(DEADLINE, answers.recv()).await;
        let heard = heard.unwrap().unwrap();
        assert_eq!(heard, (Id128::from_bytes([id; 16]), expected));
    }
}
