//! The facility's store against the suites of promises of the ports.
use super::*;
use async_trait::async_trait;
use federation::{
    blobs::{Blobs, Descriptor},
    contract::{CASES, Ports, Side, model, number},
    envelope::{self, Intact},
    port::Verdict,
};
use messages::{Body, DeviceRecord, DeviceRecords};
use parking_lot::Mutex;
use std::io::Cursor;
use types::Purpose;

/// The facility.
struct StoreSide {
    dir: TempDir,
    open: Mutex<Option<(Store, Arc<Blobs<Store>>)>>,
}

impl StoreSide {
    fn new() -> Self {
        Self {
            dir: TempDir::new().unwrap(),
            open: Mutex::default(),
        }
    }

    fn now(&self) -> (Store, Arc<Blobs<Store>>) {
        self.open.lock().clone().expect("it is open")
    }
}

/// Keeps the numbers that came, in a table of the store.
struct Keeps;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS number (n INTEGER PRIMARY KEY, said INTEGER NOT NULL UNIQUE) STRICT";

impl Handler for Keeps {
    fn apply(
        &self,
        commit: &mut Commit<'_, '_>,
        _: &Place,
        parcel: &Intact,
    ) -> Result<Verdict, StoreError> {
        commit.tx().execute_batch(TABLE)?;
        let body = envelope::open::<DeviceRecords>(parcel).unwrap();
        for number in body
            .devices
            .iter()
            .filter_map(|device| number(&device.model))
        {
            let sql = "INSERT INTO number (said) VALUES (?1)";
            commit.tx().execute(sql, [number])?;
        }
        let stored = body.count();
        Ok(Verdict::Accepted { stored })
    }
}

#[async_trait]
impl Side for StoreSide {
    fn here(&self) -> Place {
        "edge/eu/eu/eu-f1".parse().unwrap()
    }

    fn peer(&self) -> Place {
        "regional/eu/eu".parse().unwrap()
    }

    async fn open(&self) -> Ports {
        let before = self.open.lock().take();
        if let Some((store, _)) = before {
            store.close().await;
        }
        let store = Store::open(StoreOptions {
            handlers: Handlers::new().on::<DeviceRecords>(Arc::new(Keeps)),
            ..options(self.dir.path(), hand())
        })
        .unwrap();
        store.begin_log().await.unwrap();
        let blobs = store.blobs(self.dir.path()).unwrap();
        *self.open.lock() = Some((store.clone(), blobs.clone()));
        Ports {
            outbox: Arc::new(store.clone()),
            inbox: Arc::new(store.clone()),
            gate: Arc::new(store),
            bulk: blobs,
        }
    }

    async fn ship(&self, priority: Priority, number: u32) {
        let body = DeviceRecords {
            devices: vec![DeviceRecord {
                model: model(number),
                ..DeviceRecord::default()
            }],
            ..DeviceRecords::default()
        };
        let step =
            move |commit: &mut Commit<'_, '_>| commit.ship(priority, Purpose::Operations, body);
        assert!(self.now().0.in_commit(step).await.unwrap());
    }

    async fn taken(&self) -> Vec<u32> {
        let read = |commit: &mut Commit<'_, '_>| {
            commit.tx().execute_batch(TABLE)?;
            let mut query = commit.tx().prepare("SELECT said FROM number ORDER BY n")?;
            let rows = query.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<Result<_, _>>()?)
        };
        self.now().0.in_commit(read).await.unwrap()
    }

    async fn grants(&self, bytes: &[u8]) -> Descriptor {
        let (store, blobs) = self.now();
        let put = blobs.files().put_in(Cursor::new(bytes.to_vec())).unwrap();
        let descriptor = put.descriptor;
        let step = move |commit: &mut Commit<'_, '_>| {
            commit.keep(descriptor, "contract")?;
            commit.grant::<DeviceRecords>(Purpose::Operations, descriptor.digest)
        };
        store.in_commit(step).await.unwrap();
        descriptor
    }

    async fn wants(&self, descriptor: Descriptor) {
        let step = move |commit: &mut Commit<'_, '_>| commit.want(descriptor, "contract");
        self.now().0.in_commit(step).await.unwrap();
    }
}

#[tokio::test]
async fn the_store_of_a_facility_keeps_every_promise_of_the_ports() {
    for case in CASES {
        println!("{}", case.name);
        (case.run)(&StoreSide::new()).await;
    }
}

#[tokio::test]
async fn the_store_of_a_facility_keeps_the_promises_of_a_journal() {
    let dir = TempDir::new().unwrap();
    ingest::contract::a_journal(&store(&dir)).await;
}
