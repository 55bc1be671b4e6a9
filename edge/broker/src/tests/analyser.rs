//! The simulated laboratory analyser against the broker, over connections that are cut again and again.
use super::world::{LAB, World, until};
use device_fw::sim::{
    self,
    config::{BedStays, SimConfig, SimDevice, Source},
};
use node::clock::Clock;
use std::{collections::BTreeMap, fs, net::SocketAddr, path::PathBuf};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use types::{DeviceKind, MeshClock, Phi, Value};

/// Passes connections on and cuts each after some bytes from the broker: acknowledgements are lost on the way.
async fn cut(listener: TcpListener, broker: SocketAddr) {
    loop {
        let Ok((mut device, _)) = listener.accept().await else {
            continue;
        };
        let Ok(mut broker) = TcpStream::connect(broker).await else {
            continue;
        };
        tokio::spawn(async move {
            // The handshake takes about 3 kB, an acknowledgement about 25 bytes.
            let mut left = rand::random_range(2_000..5_000);
            let (mut up, mut down) = ([0; 1024], [0; 64]);
            while left > 0 {
                tokio::select! {
                    Ok(count @ 1..) = device.read(&mut up) => broker.write_all(&up[..count]).await?,
                    Ok(count @ 1..) = broker.read(&mut down) => {
                        device.write_all(&down[..count]).await?;
                        left -= i64::try_from(count).unwrap();
                    }
                    else => break,
                }
            }
            std::io::Result::Ok(())
        });
    }
}

fn archive() -> PathBuf {
    let shared = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
    let root = std::env::var("MEDMESH_DATA").unwrap_or_else(|_| shared.into());
    PathBuf::from(root).join("physionet2012/set-a.tar.gz")
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story from start to end")]
async fn every_laboratory_value_of_a_stay_is_stored_once_however_often_the_connection_is_cut() {
    let world = World::new().await;
    let [ca, cert, key] = world.authority.files(LAB);
    let directory = tempfile::tempdir().unwrap();
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (sent, done) = (
        directory.path().join("sent.ndjson"),
        directory.path().join("done"),
    );
    let config = SimConfig {
        region: "us".parse().unwrap(),
        facility: "us-f1".parse().unwrap(),
        sent: sent.clone(),
        done: done.clone(),
        clock: MeshClock {
            real_origin: Clock::new(None).real(),
            mesh_origin: "2026-11-22T10:00:00Z".parse().unwrap(),
            speed: 30_000.0,
        },
        mqtt: proxy.local_addr().unwrap(),
        ca,
        source: Source::Physionet {
            outcomes: None,
            archive: archive(),
            beds: vec![
                BedStays {
                    bed: "a".into(),
                    stays: vec![132_539],
                },
                BedStays {
                    bed: "b".into(),
                    stays: vec![132_540],
                },
            ],
        },
        seed: 1,
        sample_every_ms: 1_000,
        control: None,
        commanded: None,
        devices: vec![SimDevice {
            id: "lab-1".parse().unwrap(),
            kind: DeviceKind::LabAnalyser,
            bed: None,
            listen: None,
            pty: None,
            unit_id: 1,
            cert: Some(cert),
            key: Some(key),
        }],
    };
    let proxy = tokio::spawn(cut(proxy, world.broker.local_addr()));
    let stop = CancellationToken::new();
    let devices = tokio::spawn(sim::run(config, stop.clone()));
    until("the replay ends", || done.exists() || devices.is_finished()).await;
    stop.cancel();
    devices.await.unwrap().unwrap();
    proxy.abort();

    let mut stored = Vec::new();
    for sample in &world.journal.kept.lock().samples {
        for (index, reading) in sample.readings.iter().enumerate() {
            let Value::Quantity(value) = &reading.value else {
                panic!("no value")
            };
            let patient = ["p-132539", "p-132540"]
                .into_iter()
                .find(|id| sample.patient == Some(Phi::new((*id).into())));
            stored.push(format!(
                "{}.{}.{index} {} {} {} {value} {}",
                sample.epoch,
                sample.seq,
                patient.unwrap(),
                sample.source_time,
                reading.code,
                reading.unit
            ));
        }
    }
    let text = |value: &serde_json::Value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    };
    let mut emitted: Vec<String> = Vec::new();
    for line in fs::read_to_string(sent).unwrap().lines() {
        let line: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        let keys = [
            "epoch", "seq", "index", "patient", "time", "code", "value", "unit",
        ];
        let [epoch, seq, index, patient, time, code, value, unit] =
            keys.map(|key| text(&line[key]));
        emitted.push(format!(
            "{epoch}.{seq}.{index} {patient} {time} {code} {value} {unit}"
        ));
    }
    assert!(emitted.len() > 150);
    stored.sort();
    emitted.sort();
    assert_eq!(stored, emitted);
    assert!(world.journal.kept.lock().quarantined.is_empty());
}
