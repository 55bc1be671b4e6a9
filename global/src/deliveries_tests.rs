//! Files that are sent down, over real files: put up piece by piece, sent once they are whole, taken back.
use super::*;
use ed25519_dalek::SigningKey;
use federation::{
    audit::{Log, Signer},
    blobs::{CHUNK_BYTES, Files},
    ledger::{Apply as _, Handlers},
    policy::Rules,
    port::Outbox as _,
    wire::Parcel,
};
use messages::DeliveryReport;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const CONTENT: &[u8] = b"an image of a device";

struct World {
    dir: TempDir,
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    deliveries: Deliveries,
}

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn region() -> Place {
    place("regional/us/us")
}

impl World {
    async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// A node over the files of an earlier one, if there was one.
    async fn over(dir: TempDir) -> Self {
        let signer = Signer::new(&Place::Global, SigningKey::from_bytes(&[7; 32]));
        let rules = Rules::builtin().unwrap();
        let now = Arc::new(|| Timestamp(1_000));
        let path = dir.path().join("ledger.db");
        let ledger = Ledger::open(&path, Place::Global, rules, signer, now).unwrap();
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

    async fn begun(&self, class: DataClass, purpose: Purpose) -> Delivery {
        let asked = self.ask_by("operator", class, purpose).await;
        match asked {
            Begun::Yes(delivery) => delivery,
            other => panic!("{other:?}"),
        }
    }

    async fn ask_by(&self, client: &str, class: DataClass, purpose: Purpose) -> Begun {
        let ask = Ask {
            name: "image-2.bin".parse().unwrap(),
            sha256: Sha256::digest(CONTENT).into(),
            size: CONTENT.len() as u64,
            class,
            purpose,
            to: [place("edge/us/us/us-f1"), place("edge/us/us/us-f2")].into(),
            by: client.into(),
        };
        self.deliveries.begin(ask).await.unwrap()
    }

    async fn put(&self, id: Id128, offset: u64, bytes: &'static [u8]) -> Delivery {
        let taken = self.deliveries.put(id, offset, Bytes::from_static(bytes));
        taken.await.unwrap().unwrap()
    }

    async fn waiting(&self) -> u64 {
        let depths = self.ledger.depths(&region()).await.unwrap();
        depths.of(Priority::Backlog)
    }

    async fn gets(&self, to: &Place) -> bool {
        let digest = Digest::from_bytes(Sha256::digest(CONTENT).into());
        let chunk = self
            .blobs
            .chunk(to, Missing { digest, offset: 0 }, CHUNK_BYTES);
        chunk.await.unwrap().is_some()
    }

    async fn says(&self, from: &Place, id: Id128, facility: &str, state: &str) {
        let body = DeliveryReports {
            reports: vec![DeliveryReport {
                id: id.as_bytes().to_vec().into(),
                facility: facility.into(),
                state: state.into(),
                time_ms: 7,
            }],
        };
        let bytes = encoded(&body);
        let parcel = Parcel {
            id: rand::random::<[u8; 16]>().to_vec().into(),
            kind: DeliveryReports::KIND.into(),
            count: 1,
            digest: envelope::digest(&bytes),
            body: bytes.into(),
            ..Parcel::default()
        };
        let reports = TakesReports(self.deliveries.clone());
        let handlers = Handlers::new().on::<DeliveryReports>(reports);
        let taken = handlers
            .apply(from, &Intact::all([parcel]).unwrap())
            .await
            .unwrap();
        assert_eq!(taken, [Verdict::Accepted { stored: 1 }]);
    }

    async fn state_at(&self, id: Id128, at: &str) -> &'static str {
        let delivery = self.deliveries.find(id).await.unwrap().unwrap();
        let found = delivery.places.iter().find(|it| it.place == place(at));
        found.map_or("nowhere", |it| it.state.as_str())
    }
}

fn encoded<T: Body>(body: &T) -> Vec<u8> {
    body.encode_to_vec()
}

#[tokio::test]
async fn a_file_of_which_all_was_put_up_just_before_a_kill_is_sent_after_it() {
    let world = World::new().await;
    let delivery = world.begun(DataClass::Firmware, Purpose::Operations).await;
    let name = format!("blobs/{}.part", Digest::from_bytes(delivery.sha256));
    std::fs::write(world.dir.path().join(name), CONTENT).unwrap();
    let world = World::over(world.dir).await;
    world.deliveries.settle().await.unwrap();
    world.deliveries.look().await.unwrap();
    let found = world.deliveries.find(delivery.id).await.unwrap().unwrap();
    assert_eq!(found.state, State::Sent);
}

#[tokio::test]
async fn a_file_is_put_up_from_where_it_stopped_and_sent_to_its_region_once_it_is_what_its_name_says()
 {
    let world = World::new().await;
    let begun = world.begun(DataClass::Firmware, Purpose::Operations).await;
    let id = begun.id;
    assert_eq!((begun.state, begun.places.len()), (State::Incoming, 3));
    let after = world.put(id, 0, &CONTENT[..7]).await;
    assert_eq!(world.deliveries.held(&after), 7);
    world.put(id, 9, &CONTENT[9..]).await;
    assert_eq!(
        world.deliveries.held(&after),
        7,
        "a gap is no piece of a file"
    );
    let world = World::over(world.dir).await;
    assert_eq!(
        world.deliveries.held(&after),
        7,
        "a node that was killed has what came"
    );
    let broken = world.put(id, 7, b"something wro").await;
    assert_eq!(broken.state, State::Incoming);
    assert_eq!(
        world.deliveries.held(&broken),
        0,
        "what is not what its name says is not kept"
    );
    assert_eq!(world.put(id, 0, CONTENT).await.state, State::Sent);
    assert_eq!(world.waiting().await, 1);
    assert!(world.gets(&region()).await && !world.gets(&place("regional/eu/eu")).await);
    // The same bytes under another name need not be put up again.
    let again = world.begun(DataClass::Firmware, Purpose::Audit).await;
    assert_eq!((again.state, world.waiting().await), (State::Sent, 2));
    let log = Log::open(&world.dir.path().join("ledger.db")).unwrap();
    let rows = log.list(0, 1_000).unwrap();
    let count = |decision| {
        let rows = rows.iter();
        rows.filter(|(_, entry)| entry.decision() == decision)
            .count()
    };
    assert_eq!(count(Decision::BlobSent), 2);
    assert_eq!(count(Decision::BlobWhole), 2);
}

#[tokio::test]
async fn a_region_speaks_of_its_own_places_and_what_is_taken_back_is_kept_by_nobody() {
    let world = World::new().await;
    let begun = world.begun(DataClass::Policy, Purpose::Operations).await;
    let id = begun.id;
    world.put(id, 0, CONTENT).await;
    world
        .says(&place("regional/eu/eu"), id, "us-f1", "arrived")
        .await;
    assert_eq!(world.state_at(id, "edge/us/us/us-f1").await, "sent");
    world.says(&region(), id, "us-f1", "arrived").await;
    world.says(&region(), id, "us-f9", "arrived").await;
    world.says(&region(), id, "us-f2", "lost").await;
    assert_eq!(world.state_at(id, "edge/us/us/us-f1").await, "arrived");
    assert_eq!(world.state_at(id, "edge/us/us/us-f2").await, "sent");
    assert_eq!(world.state_at(id, "edge/us/us/us-f9").await, "nowhere");
    let back = world.deliveries.withdraw(id, "operator".into()).await;
    assert_eq!(back.unwrap().unwrap().state, State::Withdrawn);
    assert_eq!(world.waiting().await, 2, "the region is told");
    assert!(!world.gets(&region()).await);
    let digest = Digest::from_bytes(begun.sha256);
    assert_eq!(world.blobs.files().held(digest).unwrap(), Held::Part(0));
    world.says(&region(), id, "us-f1", "arrived").await;
    assert_eq!(world.state_at(id, "edge/us/us/us-f1").await, "withdrawn");
}

#[tokio::test]
async fn what_the_rules_keep_is_refused_and_nothing_of_it_may_be_fetched() {
    let world = World::new().await;
    let begun = world.begun(DataClass::Firmware, Purpose::Research).await;
    world.put(begun.id, 0, CONTENT).await;
    assert_eq!(world.state_at(begun.id, "regional/us/us").await, "refused");
    assert!(!world.gets(&region()).await);
    assert_eq!(world.waiting().await, 0);
}

#[tokio::test]
async fn a_client_that_begins_files_and_never_puts_them_up_keeps_no_other_from_it() {
    let world = World::new().await;
    let ask = |client| world.ask_by(client, DataClass::Firmware, Purpose::Operations);
    for _ in 0..MAX_INCOMING_OF_A_CLIENT {
        assert!(matches!(ask("idle").await, Begun::Yes(_)));
    }
    assert_eq!(ask("idle").await, Begun::TooMany);
    assert!(matches!(ask("operator").await, Begun::Yes(_)));
}
