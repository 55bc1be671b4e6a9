//! The ledger of a region and of the global node against the suite of promises.
use crate::{
    audit::Signer,
    blobs::{self, Blobs, Descriptor, Files},
    contract::{CASES, Ports, Side, model, number},
    envelope::{self, Envelope, Intact},
    ledger::{Handler, Handlers, Ledger},
    policy::Rules,
    port::{PortError, Verdict},
};
use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use messages::{Body, DeviceRecord, DeviceRecords};
use parking_lot::Mutex;
use std::{io::Cursor, sync::Arc};
use tempfile::TempDir;
use types::{EnvelopeId, Place, Priority, Purpose, Timestamp};

/// A node that keeps everything in a ledger.
struct LedgerSide {
    dir: TempDir,
    here: Place,
    peer: Place,
    open: Mutex<Option<(Ledger, Arc<Blobs<Ledger>>)>>,
}

impl LedgerSide {
    fn of(here: &str, peer: &str) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            here: here.parse().unwrap(),
            peer: peer.parse().unwrap(),
            open: Mutex::default(),
        }
    }

    fn now(&self) -> (Ledger, Arc<Blobs<Ledger>>) {
        self.open.lock().clone().expect("it is open")
    }
}

/// Keeps the numbers that came, in a table of the ledger.
struct Keeps(Ledger);

const TABLE: &[&str] =
    &["CREATE TABLE number (n INTEGER PRIMARY KEY, said INTEGER NOT NULL UNIQUE) STRICT"];

#[async_trait]
impl Handler for Keeps {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::new();
        for parcel in parcels {
            let body = envelope::open::<DeviceRecords>(parcel).unwrap();
            let stored = body.count();
            let said = body
                .devices
                .iter()
                .filter_map(|device| number(&device.model));
            let said: Vec<u32> = said.collect();
            let keep = self.0.commit("keep", move |commit| {
                for number in said {
                    // The same parcel may come again after a crash, to no effect.
                    let sql = "INSERT OR IGNORE INTO number (said) VALUES (?1)";
                    commit.tx().execute(sql, [number])?;
                }
                Ok(())
            });
            keep.await?;
            verdicts.push(Verdict::Accepted { stored });
        }
        Ok(verdicts)
    }
}

#[async_trait]
impl Side for LedgerSide {
    fn here(&self) -> Place {
        self.here.clone()
    }

    fn peer(&self) -> Place {
        self.peer.clone()
    }

    async fn open(&self) -> Ports {
        drop(self.open.lock().take());
        let ledger = Ledger::open(
            &self.dir.path().join("ledger.db"),
            self.here.clone(),
            Rules::builtin().unwrap(),
            Signer::new(&self.here, SigningKey::from_bytes(&[7; 32])),
            Arc::new(|| Timestamp(1_800_000_000_000)),
        )
        .unwrap();
        ledger.begin_log().await.unwrap();
        ledger.tables("contract", TABLE).await.unwrap();
        let files = Files::open(&self.dir.path().join("blobs")).unwrap();
        let blobs = Arc::new(Blobs::new(ledger.clone(), Arc::new(files)));
        *self.open.lock() = Some((ledger.clone(), blobs.clone()));
        let handlers = Handlers::new().on::<DeviceRecords>(Keeps(ledger.clone()));
        Ports {
            outbox: Arc::new(ledger.clone()),
            inbox: Arc::new(ledger.inbox(handlers)),
            gate: Arc::new(ledger),
            bulk: blobs,
        }
    }

    async fn ship(&self, priority: Priority, number: u32) {
        let envelope = Envelope {
            from: self.here.clone(),
            to: self.peer.clone(),
            purpose: Purpose::Operations,
            body: DeviceRecords {
                devices: vec![DeviceRecord {
                    model: model(number),
                    ..DeviceRecord::default()
                }],
                ..DeviceRecords::default()
            },
        };
        let id = EnvelopeId::from_bytes(rand::random());
        self.now().0.ship(envelope, priority, id).await.unwrap();
    }

    async fn taken(&self) -> Vec<u32> {
        let (ledger, _) = self.now();
        let read = ledger.commit("taken", |commit| {
            let mut query = commit.tx().prepare("SELECT said FROM number ORDER BY n")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        });
        read.await.unwrap()
    }

    async fn grants(&self, bytes: &[u8]) -> Descriptor {
        let (ledger, blobs) = self.now();
        let put = blobs.files().put_in(Cursor::new(bytes.to_vec())).unwrap();
        let (descriptor, to) = (put.descriptor, self.peer.clone());
        let step = ledger.commit("grant", move |commit| {
            blobs::keep(commit.tx(), descriptor, "contract")?;
            commit.grant::<DeviceRecords>(&to, Purpose::Operations, descriptor.digest)
        });
        step.await.unwrap();
        descriptor
    }

    async fn wants(&self, descriptor: Descriptor) {
        let from = self.peer.clone();
        let (ledger, _) = self.now();
        let step = ledger.commit("want", move |commit| {
            blobs::want(commit.tx(), descriptor, &from, "contract")
        });
        step.await.unwrap();
    }
}

#[tokio::test]
async fn a_ledger_keeps_every_promise_of_the_ports_up_and_down() {
    for (here, peer) in [
        ("regional/us/us", "edge/us/us/us-f1"),
        ("global", "regional/us/us"),
    ] {
        for case in CASES {
            println!("{here}: {}", case.name);
            (case.run)(&LedgerSide::of(here, peer)).await;
        }
    }
}
