//! A whole node on real files and sockets, with nobody at the other end of its link.
use super::*;
use federation::{
    identity::Identity,
    pki::{Ca, LOCAL_NAMES, new_key_and_csr, signing_key},
    port::{LeaseLimits, Outbox},
};
use ingest::{Sample, SampleReading, Stored, Urgency};
use messages::{Body as _, DeviceRecords};
use node::clock::Clock;
use rand::rngs::StdRng;
use std::time::Duration;
use store::testbed::opened;
use tempfile::TempDir;
use types::{Flags, Priority, Value};

const LIMITS: LeaseLimits = LeaseLimits {
    parcels: 100,
    bytes: 1 << 20,
};

/// The files of a facility, and its configuration.
struct Facility {
    dir: TempDir,
}

impl Facility {
    fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().unwrap();
        let (now, mut rng) = (Clock::new(None).real(), StdRng::seed_from_u64(1));
        let ca = Ca::init(&dir.path().join("ca"), now).unwrap();
        let me = Identity::Node("edge/eu/eu/eu-f1".parse().unwrap());
        let key = signing_key(&dir.path().join("signing.pem"), &mut rng).unwrap();
        let minute = Duration::from_secs(60);
        let code = ca.invite(&me, &LOCAL_NAMES, minute, now, &mut rng).unwrap();
        let new = new_key_and_csr(&me, Some(&key)).unwrap();
        let cert = ca.enrol(&code, &new.csr_pem, now, &mut rng).unwrap();
        federation::pki::write_private(&dir.path().join("key.pem"), &new.key_pem).unwrap();
        federation::pki::write_public(&dir.path().join("cert.pem"), &cert).unwrap();
        std::fs::create_dir(dir.path().join("profiles")).unwrap();
        std::fs::write(dir.path().join("facility.key"), hex::encode([5; 32])).unwrap();
        Self { dir }
    }

    fn config(&self) -> EdgeConfig {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let text = format!(
            r#"
            jurisdiction = "eu"
            region = "eu"
            facility = "eu-f1"
            data_dir = "{}"
            key_file = "{}"
            profiles = "{}"
            local_mesh = true
            [tls]
            ca = "{}"
            crl = "{}"
            cert = "{}"
            key = "{}"
            signing_key = "{}"
            [https]
            listen = "127.0.0.1:0"
            [mqtt]
            listen = "127.0.0.1:0"
            [uplink]
            url = "https://127.0.0.1:1"
            [[devices]]
            id = "lab-1"
            kind = "lab-analyser"
            serial = "CANARY-SERIAL"
            model = "LA-7"
            "#,
            at("data"),
            at("facility.key"),
            at("profiles"),
            at("ca/ca.pem"),
            at("ca/crl.pem"),
            at("cert.pem"),
            at("key.pem"),
            at("signing.pem"),
        );
        toml::from_str(&text).unwrap()
    }
}

fn sample(seq: u64) -> Sample {
    Sample {
        device: "lab-1".parse().unwrap(),
        epoch: 1,
        seq,
        source_time: Clock::new(None).real(),
        patient: None,
        urgency: Urgency::Routine,
        readings: vec![SampleReading {
            code: "2951-2".parse().unwrap(),
            unit: "mmol/L".parse().unwrap(),
            value: Value::Quantity("140.0".parse().unwrap()),
            flags: Flags::NONE,
        }],
    }
}

#[tokio::test]
async fn a_node_without_a_network_starts_stores_and_starts_again() {
    let facility = Facility::new();
    for boot in 1..=2 {
        let stop = CancellationToken::new();
        let node = start(facility.config(), stop.clone()).await.unwrap();
        assert_eq!(node.store.boot(), boot);
        assert_ne!((node.mqtt.port(), node.https.port()), (0, 0));
        let stored = node.store.append(sample(boot.into())).await.unwrap();
        assert_eq!(stored, Stored::New);
        stop.cancel();
        node.join().await.unwrap();
    }
}

#[tokio::test]
async fn the_catalog_learns_what_a_device_is_and_not_its_serial() {
    let facility = Facility::new();
    let stop = CancellationToken::new();
    let node = start(facility.config(), stop.clone()).await.unwrap();
    let parcel = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let live = node
                .store
                .lease(node.store.region(), Priority::Live, LIMITS)
                .await
                .unwrap();
            if let Some(parcel) = live.into_iter().next() {
                return parcel;
            }
            node.store.added(node.store.region()).await;
        }
    });
    let records: DeviceRecords = opened(&parcel.await.unwrap());
    // No table is signed, so no model is named.
    assert_eq!(records.devices[0].model, "unlisted");
    assert_eq!(records.devices[0].status, "silent");
    assert!(!format!("{records:?}").contains("CANARY"));
    let device = node.store.device(&"lab-1".parse().unwrap()).await.unwrap();
    assert_eq!(
        records.devices[0].catalog_id,
        device.catalog_id.as_bytes()[..]
    );
    stop.cancel();
    node.join().await.unwrap();
}

/// Waits until what the catalog was told last of a device is this.
async fn told(node: &Node, device: &str, status: &str) {
    let id = node.store.device(&device.parse().unwrap()).await.unwrap();
    let region = node.store.region();
    let told = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let live = node.store.lease(region, Priority::Live, LIMITS).await;
            node.store.release(region).await.unwrap();
            let parcels = live.unwrap().into_iter();
            let parcels = parcels.filter(|parcel| parcel.kind == DeviceRecords::KIND);
            let records = parcels.flat_map(|parcel| opened::<DeviceRecords>(&parcel).devices);
            let own = records.filter(|record| record.catalog_id == id.catalog_id.as_bytes()[..]);
            let last = own.max_by_key(|record| record.updated_ms);
            if last.is_some_and(|last| last.status == status) {
                return;
            }
            node.store.added(region).await;
        }
    });
    told.await
        .unwrap_or_else(|_| panic!("{device} is not {status}"));
}

#[tokio::test]
async fn a_device_that_is_taken_out_of_the_configuration_is_retired_until_it_is_back() {
    let facility = Facility::new();
    let config = |devices: &[&str]| {
        let mut config = facility.config();
        let first = config.devices.remove(0);
        config.devices = devices
            .iter()
            .map(|id| {
                let mut device = first.clone();
                device.id = id.parse().unwrap();
                device
            })
            .collect();
        config
    };
    for (devices, status) in [
        (&["lab-1", "lab-2"][..], "silent"),
        (&["lab-1"], "retired"),
        (&["lab-1", "lab-2"], "silent"),
    ] {
        let stop = CancellationToken::new();
        let node = start(config(devices), stop.clone()).await.unwrap();
        told(&node, "lab-2", status).await;
        told(&node, "lab-1", "silent").await;
        stop.cancel();
        node.join().await.unwrap();
    }
}

#[tokio::test]
async fn the_floor_of_the_clock_is_what_the_store_kept_and_when_leases_were_issued() {
    let facility = Facility::new();
    let stop = CancellationToken::new();
    let node = start(facility.config(), stop.clone()).await.unwrap();
    node.store.housekeep().await.unwrap();
    let kept = node.store.kept_time().await.unwrap().unwrap();
    assert!((0..60_000).contains(&Clock::new(None).real().since(kept)));
    stop.cancel();
    node.join().await.unwrap();
    let year = 365 * Timestamp::DAY_MS;
    let guard = ClockGuard::new(None, BUILT, -year);
    guard.raise(kept);
    assert!(!guard.now().trusted && guard.now().real >= kept);
}
