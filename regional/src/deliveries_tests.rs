//! Files on their way through a region, over real files: fetched once, offered to each facility, let go when all have them.
use super::*;
use crate::intake::tests::intake;
use federation::{
    audit::Log,
    blobs::{Bulk as _, CHUNK_BYTES, Files, Held, Missing},
    ledger::Apply as _,
    port::Outbox as _,
    wire::Parcel,
};
use messages::Delivery;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const ID: [u8; 16] = [5; 16];
const CONTENT: &[u8] = b"an image of a device";

struct World {
    dir: TempDir,
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    deliveries: Deliveries,
}

fn facility(name: &str) -> Place {
    format!("edge/eu/eu/{name}").parse().unwrap()
}

fn content() -> Digest {
    Digest::from_bytes(Sha256::digest(CONTENT).into())
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ledger = intake(&dir).ledger;
        ledger.begin_log().await.unwrap();
        let files = Files::open(&dir.path().join("blobs")).unwrap();
        let blobs = Arc::new(Blobs::new(ledger.clone(), Arc::new(files)));
        let deliveries = Deliveries::open(ledger.clone(), blobs.clone(), rand::random);
        Self {
            dir,
            ledger,
            blobs,
            deliveries: deliveries.await.unwrap(),
        }
    }

    async fn takes<T: Body>(&self, from: &Place, body: &T) -> Vec<Verdict> {
        let bytes = body.encode_to_vec();
        let parcel = Parcel {
            id: rand::random::<[u8; 16]>().to_vec().into(),
            kind: T::KIND.into(),
            count: body.count(),
            purpose: "operations".into(),
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let handlers = self.deliveries.takes_descriptors(Handlers::new());
        let handlers = self.deliveries.takes_reports(handlers);
        let parcels = Intact::all([parcel]).unwrap();
        handlers.apply(from, &parcels).await.unwrap()
    }

    async fn delivered(&self, withdrawn: bool) {
        let delivery = Delivery {
            id: ID.to_vec().into(),
            name: "image-2.bin".into(),
            sha256: content().as_bytes().to_vec().into(),
            size: CONTENT.len() as u64,
            facilities: vec!["eu-f1".into(), "eu-f2".into()],
            withdrawn,
        };
        let body = FirmwareDelivery::of(delivery);
        assert_eq!(self.takes(&Place::Global, &body).await, [TAKEN]);
    }

    async fn says(&self, from: &str, state: &str) {
        let reports = vec![DeliveryReport {
            id: ID.to_vec().into(),
            facility: String::new(),
            state: state.into(),
            time_ms: 1,
        }];
        let body = DeliveryReports { reports };
        assert_eq!(self.takes(&facility(from), &body).await, [TAKEN]);
    }

    async fn waiting(&self, to: &Place) -> u64 {
        self.ledger.depths(to).await.unwrap().of(Priority::Backlog)
    }

    async fn gets(&self, to: &str) -> bool {
        let (digest, offset) = (content(), 0);
        let to = facility(to);
        let chunk = self
            .blobs
            .chunk(&to, Missing { digest, offset }, CHUNK_BYTES);
        chunk.await.unwrap().is_some()
    }

    async fn fetch(&self) {
        let missing = self.blobs.missing(&Place::Global).await.unwrap();
        let missing = missing.expect("it is wanted");
        self.blobs
            .take(&Place::Global, missing, CONTENT.to_vec().into())
            .await
            .unwrap();
        self.deliveries.look().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_is_fetched_once_offered_to_each_facility_and_let_go_when_all_have_it() {
    let world = World::new().await;
    let (f1, f2) = (facility("eu-f1"), facility("eu-f2"));
    world.delivered(false).await;
    world.deliveries.look().await.unwrap();
    assert_eq!(
        world.waiting(&f1).await,
        0,
        "nobody is told of what is not here"
    );
    world.fetch().await;
    assert_eq!((world.waiting(&f1).await, world.waiting(&f2).await), (1, 1));
    world.deliveries.look().await.unwrap();
    assert_eq!(world.waiting(&f1).await, 1, "each is told once");
    for (name, gets) in [("eu-f1", true), ("eu-f2", true), ("eu-f3", false)] {
        assert_eq!(world.gets(name).await, gets, "{name}");
    }
    world.says("eu-f3", "arrived").await;
    world.says("eu-f1", "withdrawn").await;
    assert!(
        world.gets("eu-f1").await,
        "who is not meant, and a word that is not theirs, change nothing"
    );
    world.says("eu-f1", "arrived").await;
    assert!(!world.gets("eu-f1").await && world.gets("eu-f2").await);
    world.says("eu-f2", "refused").await;
    assert_eq!(world.blobs.files().held(content()).unwrap(), Held::Part(0));
    assert_eq!(
        world.waiting(&Place::Global).await,
        3,
        "region, eu-f1, eu-f2"
    );
    let whole = |entry: &Entry| entry.decision() == Decision::BlobWhole;
    let log = Log::open(&world.dir.path().join("ledger.db")).unwrap();
    let rows = log.list(0, 1_000).unwrap();
    assert_eq!(rows.iter().filter(|(_, entry)| whole(entry)).count(), 1);
    // The global node was put back and asks again: it hears all of it again, and nothing is fetched.
    world.delivered(false).await;
    assert_eq!(world.waiting(&Place::Global).await, 6);
    assert_eq!(world.blobs.missing(&Place::Global).await.unwrap(), None);
}

#[tokio::test]
async fn a_facility_that_was_put_back_is_offered_its_file_again_and_one_that_is_taken_back_is_offered_to_nobody()
 {
    let world = World::new().await;
    world.delivered(false).await;
    world.fetch().await;
    world.says("eu-f1", "arrived").await;
    world.says("eu-f2", "arrived").await;
    let again = |commit: &mut Commit<'_>| lacked_by(commit, &"eu-f1".parse().unwrap());
    world.ledger.commit("put back", again).await.unwrap();
    world.fetch().await;
    assert!(world.gets("eu-f1").await && !world.gets("eu-f2").await);
    let before = world.waiting(&facility("eu-f1")).await;
    world.delivered(true).await;
    world.deliveries.look().await.unwrap();
    assert_eq!(world.waiting(&facility("eu-f1")).await, before + 1);
    assert!(!world.gets("eu-f1").await);
    world.blobs.sweep().await.unwrap();
    assert_eq!(world.blobs.files().held(content()).unwrap(), Held::Part(0));
    world.says("eu-f1", "arrived").await;
    world.delivered(false).await;
    assert_eq!(
        world.blobs.missing(&Place::Global).await.unwrap(),
        None,
        "what was taken back stays so"
    );
}
