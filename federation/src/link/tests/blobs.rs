//! Blobs beside parcels, on a line that breaks.
use super::*;
use crate::{
    audit::Signer,
    blobs::{self, Blobs, Descriptor, Digest, Files, Held},
    ledger::Ledger,
    policy::Rules,
};
use std::io::Cursor;
use types::{DataClass, Purpose, Timestamp};

const MODEL: (DataClass, Purpose) = (DataClass::ModelRelease, Purpose::Research);
const SHARE: (DataClass, Purpose) = (DataClass::ModelUpdate, Purpose::Research);

/// A node's blobs.
struct Node {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
}

fn node_of(dir: &tempfile::TempDir, holder: &Holder) -> Node {
    let here = holder.identity.place().unwrap().clone();
    let dir = dir.path().join(here.to_string().replace('/', "-"));
    std::fs::create_dir_all(&dir).unwrap();
    let ledger = Ledger::open(
        &dir.join("ledger.db"),
        here.clone(),
        Rules::builtin().unwrap(),
        Signer::new(&here, holder.key.clone()),
        Arc::new(|| Timestamp(1_000)),
    )
    .unwrap();
    let files = Arc::new(Files::open(&dir.join("blobs")).unwrap());
    let blobs = Arc::new(Blobs::new(ledger.clone(), files));
    Node { ledger, blobs }
}

impl Node {
    async fn make(&self, bytes: &[u8], to: &str, how: (DataClass, Purpose)) -> Descriptor {
        let put = self.blobs.files().put_in(Cursor::new(bytes)).unwrap();
        let (descriptor, to) = (put.descriptor, to.parse().unwrap());
        self.ledger
            .commit("make", move |commit| {
                blobs::keep(commit.tx(), descriptor, "test")?;
                blobs::grant(commit.tx(), descriptor.digest, &to, how)
            })
            .await
            .unwrap();
        self.blobs.stir();
        descriptor
    }

    async fn want(&self, descriptor: Descriptor, from: &str) {
        let from = from.parse().unwrap();
        self.ledger
            .commit("want", move |commit| {
                blobs::want(commit.tx(), descriptor, &from, "test")
            })
            .await
            .unwrap();
        self.blobs.stir();
    }

    fn held(&self, digest: Digest) -> Held {
        self.blobs.files().held(digest).unwrap()
    }

    fn all(&self, digest: Digest) -> Vec<u8> {
        let all = self.blobs.files().read(digest, 0, 1 << 30).unwrap();
        all.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_arrive_whole_both_ways_on_a_line_that_breaks_and_parcels_go_between_their_chunks() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let (us, f1) = both(&bed);
    let (region, facility) = (node_of(&dir, &us), node_of(&dir, &f1));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap()).await;
    let inbox = Arc::<MemInbox>::default();
    let serving = Door {
        here: us.identity.place().unwrap().clone(),
        key: us.key.clone(),
        gate: Arc::new(MemGate::new(&inbox)),
        inbox: Arc::clone(&inbox) as _,
        tls: bed.tls(&us),
        outbox: None,
        bulk: Some(Arc::clone(&region.blobs) as _),
        authority: None,
        tap: None,
    };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, serving, stop.clone()));
    let outbox = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        bulk: Some(Arc::clone(&facility.blobs) as _),
        ..parts(&bed, &f1, proxy.address, US)
    });
    tokio::spawn(uplink.unwrap().run(stop.clone()));

    let bytes: Vec<u8> = (0..6_000_001u32).map(|at| (at % 251) as u8).collect();
    let model = region.make(&bytes, EDGE, MODEL).await;
    facility.want(model, US).await;
    let share = facility.make(&bytes[7..], US, SHARE).await;
    region.want(share, EDGE).await;
    for breaks in 1..=3u64 {
        let far = breaks * 1_000_000;
        eventually("another chunk", || match facility.held(model.digest) {
            Held::Part(held) => held >= far,
            Held::Whole => true,
        })
        .await;
        outbox.add(Priority::Alarm, 10);
        eventually("the alarm", || outbox.waiting() == 0).await;
        proxy.breaker()();
    }
    eventually("the model", || facility.held(model.digest) == Held::Whole).await;
    eventually("the share", || region.held(share.digest) == Held::Whole).await;
    assert_eq!(facility.all(model.digest), bytes);
    assert_eq!(region.all(share.digest), &bytes[7..]);
    stop.cancel();
}
