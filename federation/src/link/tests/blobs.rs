//! Blobs beside parcels, on a line that breaks.
use super::*;
use crate::{
    audit::Signer,
    blobs::{self, Blobs, Bulk, Descriptor, Digest, Files, HALF_BYTES, Held, Missing},
    ledger::Ledger,
    policy::Rules,
    port::PortError,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::io::Cursor;
use types::{DataClass, Place, Purpose, Timestamp};

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

/// Joins a facility with its region by a line that breaks: the line, and what the facility sends.
async fn joined(
    bed: &Testbed,
    (us, f1): (&Holder, &Holder),
    (above, below): (Arc<dyn Bulk>, Arc<dyn Bulk>),
    stop: &CancellationToken,
) -> (Proxy, Arc<MemOutbox>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::to(listener.local_addr().unwrap()).await;
    let inbox = Arc::<MemInbox>::default();
    let serving = Door {
        here: us.identity.place().unwrap().clone(),
        key: us.key.clone(),
        gate: Arc::new(MemGate::new(&inbox)),
        inbox: Arc::clone(&inbox) as _,
        tls: bed.tls(us),
        outbox: None,
        bulk: Some(above),
        authority: None,
        tap: None,
    };
    tokio::spawn(serve(listener, serving, stop.clone()));
    let outbox = Arc::new(MemOutbox::new(EDGE, US));
    let uplink = Uplink::new(UplinkParts {
        outbox: Arc::clone(&outbox) as _,
        bulk: Some(below),
        ..parts(bed, f1, proxy.address, US)
    });
    tokio::spawn(uplink.unwrap().run(stop.clone()));
    (proxy, outbox)
}

/// Blobs of a node that gives so many bytes at once, however many are asked for.
struct Older(Arc<Blobs<Ledger>>, usize);

#[async_trait]
impl Bulk for Older {
    async fn missing(&self, from: &Place) -> Result<Option<Missing>, PortError> {
        self.0.missing(from).await
    }

    async fn take(
        &self,
        from: &Place,
        at: Missing,
        chunk: Bytes,
    ) -> Result<Option<Missing>, PortError> {
        self.0.take(from, at, chunk).await
    }

    async fn chunk(&self, to: &Place, at: Missing, _: usize) -> Result<Option<Bytes>, PortError> {
        self.0.chunk(to, at, self.1).await
    }

    async fn not_given(&self, digest: Digest) {
        self.0.not_given(digest).await;
    }

    async fn grants_to(&self, to: &Place) -> Result<bool, PortError> {
        self.0.grants_to(to).await
    }

    async fn stirred(&self) {
        self.0.stirred().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_arrives_whole_from_an_end_that_does_not_know_how_much_is_asked_for() {
    // Less than is asked for first, and more.
    for gives in [HALF_BYTES / 2, HALF_BYTES * 3] {
        let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
        let (us, f1) = both(&bed);
        let (region, facility) = (node_of(&dir, &us), node_of(&dir, &f1));
        let above: Arc<dyn Bulk> = Arc::new(Older(Arc::clone(&region.blobs), gives));
        let below: Arc<dyn Bulk> = facility.blobs.clone();
        let stop = CancellationToken::new();
        let _line = joined(&bed, (&us, &f1), (above, below), &stop).await;
        // The end of one is the end of a part, that of the other is not.
        for size in [6 * gives, 6 * gives + 1] {
            let bytes: Vec<u8> = (0_u8..251).cycle().take(size).collect();
            let model = region.make(&bytes, EDGE, MODEL).await;
            facility.want(model, US).await;
            eventually("the model", || facility.held(model.digest) == Held::Whole).await;
            assert_eq!(facility.all(model.digest), bytes);
        }
        stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_arrive_whole_both_ways_on_a_line_that_breaks_and_parcels_go_between_their_chunks() {
    let (bed, dir) = (Testbed::new(), tempfile::tempdir().unwrap());
    let (us, f1) = both(&bed);
    let (region, facility) = (node_of(&dir, &us), node_of(&dir, &f1));
    let above: Arc<dyn Bulk> = region.blobs.clone();
    let below: Arc<dyn Bulk> = facility.blobs.clone();
    let stop = CancellationToken::new();
    let (proxy, outbox) = joined(&bed, (&us, &f1), (above, below), &stop).await;
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
