//! Blobs of two nodes without a link between, and what becomes of them when they break, come again or are not needed.
use super::*;
use crate::{audit, port::PortError};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use std::{io::Cursor, sync::Arc};
use tempfile::TempDir;

fn place(text: &str) -> Place {
    text.parse().unwrap()
}

fn region() -> Place {
    place("regional/eu/eu")
}

fn edge() -> Place {
    place("edge/eu/eu/eu-f1")
}

const MODEL: (DataClass, Purpose) = (DataClass::ModelRelease, Purpose::Research);

/// The rows of a node in memory.
#[derive(Clone)]
struct Table {
    here: Place,
    rules: Arc<Rules>,
    db: Arc<Mutex<Connection>>,
}

impl Table {
    fn new(here: Place) -> Self {
        let db = Connection::open_in_memory().unwrap();
        audit::schema(&db).unwrap();
        schema(&db).unwrap();
        Self {
            here,
            rules: Arc::new(Rules::builtin().unwrap()),
            db: Arc::new(Mutex::new(db)),
        }
    }

    fn step<T>(
        &self,
        step: impl FnOnce(&Connection) -> Result<T, DbError>,
    ) -> Result<T, PortError> {
        step(&self.db.lock()).map_err(|error| error.port("blobs"))
    }
}

#[async_trait]
impl Rows for Table {
    async fn wanted(&self, from: &Place) -> Result<Vec<Descriptor>, PortError> {
        self.step(|db| wanted(db, from))
    }

    async fn complete(&self, digest: Digest) -> Result<(), PortError> {
        self.step(|db| complete(db, digest))
    }

    async fn is_granted(&self, to: &Place, digest: Digest) -> Result<bool, PortError> {
        self.step(|db| is_granted(db, &self.rules, (&self.here, to), digest))
    }

    async fn grants_to(&self, to: &Place) -> Result<bool, PortError> {
        self.step(|db| grants_to(db, to))
    }

    async fn sweep(&self) -> Result<BTreeSet<Digest>, PortError> {
        self.step(sweep)
    }
}

struct Node {
    dir: TempDir,
    table: Table,
    blobs: Blobs<Table>,
}

impl Node {
    fn new(here: Place) -> Self {
        let (dir, table) = (TempDir::new().unwrap(), Table::new(here));
        let files = Arc::new(Files::open(&dir.path().join("blobs")).unwrap());
        Self {
            blobs: Blobs::new(table.clone(), files),
            dir,
            table,
        }
    }

    /// The same files and rows after a kill.
    fn again(self) -> Self {
        let files = Arc::new(Files::open(&self.dir.path().join("blobs")).unwrap());
        Self {
            blobs: Blobs::new(self.table.clone(), files),
            ..self
        }
    }

    fn make(&self, bytes: &[u8]) -> Descriptor {
        let put = self.blobs.files().put_in(Cursor::new(bytes)).unwrap();
        let descriptor = put.descriptor;
        self.table.step(|db| keep(db, descriptor, "test")).unwrap();
        descriptor
    }

    fn all(&self, digest: Digest) -> Option<Vec<u8>> {
        self.blobs.files().read(digest, 0, usize::MAX >> 1).unwrap()
    }
}

/// Bytes that do not repeat.
fn bytes(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8)
        .collect()
}

/// One chunk from one node to another: whether one was missing.
async fn carry(from: &Node, to: &Node) -> bool {
    let (here, there) = (&from.table.here, &to.table.here);
    let Some(missing) = to.blobs.missing(here).await.unwrap() else {
        return false;
    };
    match from.blobs.chunk(there, missing, CHUNK_BYTES).await.unwrap() {
        Some(chunk) => {
            let next = to.blobs.take(here, missing, chunk).await.unwrap();
            let then = to.blobs.missing(here).await.unwrap();
            assert_eq!(next, then.filter(|then| then.digest == missing.digest));
        }
        None => to.blobs.not_given(missing.digest).await,
    }
    true
}

#[tokio::test]
async fn a_blob_goes_on_where_it_stopped_and_is_seen_once_it_was_checked_as_a_whole() {
    let (above, mut below) = (Node::new(region()), Node::new(edge()));
    let made = bytes(3 * CHUNK_BYTES + 17);
    let descriptor = above.make(&made);
    let digest = descriptor.digest;
    above
        .table
        .step(|db| grant(db, digest, &edge(), MODEL))
        .unwrap();
    below
        .table
        .step(|db| want(db, descriptor, &region(), "test"))
        .unwrap();
    for chunk in 1..=3u64 {
        assert!(carry(&above, &below).await);
        assert_eq!(below.all(digest), None, "nobody sees a part");
        below = below.again();
        let held = below.blobs.files().held(digest).unwrap();
        assert_eq!(held, Held::Part(chunk * CHUNK_BYTES as u64));
    }
    // The same chunk again, and one from further on, change nothing.
    for offset in [0, 17, 5 * CHUNK_BYTES as u64] {
        let at = Missing { digest, offset };
        let chunk = Bytes::from(vec![1; 9]);
        let next = below.blobs.take(&region(), at, chunk).await.unwrap();
        let offset = 3 * CHUNK_BYTES as u64;
        assert_eq!(next, Some(Missing { digest, offset }));
    }
    let mut listeners = [below.blobs.arrivals(), below.blobs.arrivals()];
    let mut hear = || {
        let heard = |listener: &mut Arrivals| listener.next().now_or_never().is_some();
        listeners.each_mut().map(heard)
    };
    assert_eq!(hear(), [false; 2], "nothing has become whole since");
    assert!(carry(&above, &below).await);
    assert_eq!(hear(), [true; 2], "each of them hears of it");
    assert_eq!(hear(), [false; 2], "once");
    assert!(!carry(&above, &below).await, "all of it is there");
    assert_eq!(below.all(digest), Some(made));
    assert!(below.table.step(|db| is_whole(db, digest)).unwrap());
}

#[tokio::test]
async fn what_came_whole_just_before_a_kill_is_checked_at_the_next_start() {
    let want_of = |below: &Node, descriptor| {
        let step = |db: &Connection| want(db, descriptor, &region(), "test");
        below.table.step(step).unwrap();
    };
    let (above, below) = (Node::new(region()), Node::new(edge()));
    let made = bytes(CHUNK_BYTES + 17);
    let descriptor = above.make(&made);
    want_of(&below, descriptor);
    // Killed when the last chunk was written, and nothing was checked.
    let part = |of: Digest| below.dir.path().join(format!("blobs/{of}.part"));
    std::fs::write(part(descriptor.digest), &made).unwrap();
    assert_eq!(below.blobs.missing(&region()).await.unwrap(), None);
    assert_eq!(below.all(descriptor.digest), Some(made.clone()));
    // What is not what its name says comes anew.
    let other = above.make(&bytes(99));
    want_of(&below, other);
    std::fs::write(part(other.digest), [7; 99]).unwrap();
    let missing = below.blobs.missing(&region()).await.unwrap().unwrap();
    assert_eq!((missing.digest, missing.offset), (other.digest, 0));
    let at = |offset| Missing {
        digest: other.digest,
        offset,
    };
    let chunk = Bytes::from(bytes(99));
    below.blobs.take(&region(), at(0), chunk).await.unwrap();
    assert_eq!(below.all(other.digest), Some(bytes(99)));
}

#[tokio::test]
async fn a_place_gets_only_blobs_whose_descriptor_it_was_sent_while_the_rules_let_it() {
    let above = Node::new(region());
    let digest = above.make(b"weights").digest;
    let at = Missing { digest, offset: 0 };
    let chunk = async |to: &Place| above.blobs.chunk(to, at, CHUNK_BYTES).await.unwrap();
    assert_eq!(chunk(&edge()).await, None);
    above
        .table
        .step(|db| grant(db, digest, &edge(), MODEL))
        .unwrap();
    assert_eq!(chunk(&edge()).await.unwrap(), "weights");
    assert_eq!(chunk(&place("edge/eu/eu/eu-f2")).await, None);
    // Of a class that does not go that way.
    let share = (DataClass::ModelUpdate, Purpose::Research);
    above
        .table
        .step(|db| grant(db, digest, &edge(), share))
        .unwrap();
    assert_eq!(chunk(&edge()).await, None);
    above.table.step(|db| revoke(db, digest, &edge())).unwrap();
    assert_eq!(chunk(&edge()).await, None);
    // A receiver takes nothing that it does not want from there.
    let below = Node::new(edge());
    let chunk = Bytes::from_static(b"weights");
    let next = below.blobs.take(&region(), at, chunk).await.unwrap();
    assert_eq!((next, below.all(digest)), (None, None));
}

#[tokio::test]
async fn what_is_not_what_its_name_says_is_never_seen_and_is_fetched_anew_a_few_times() {
    let below = Node::new(edge());
    let descriptor = Descriptor {
        digest: Digest::from_bytes([7; 32]),
        size: 4,
    };
    let digest = descriptor.digest;
    below
        .table
        .step(|db| want(db, descriptor, &region(), "test"))
        .unwrap();
    let mut asked = 0;
    while let Some(missing) = below.blobs.missing(&region()).await.unwrap() {
        let chunk = Bytes::from_static(b"liar");
        below.blobs.take(&region(), missing, chunk).await.unwrap();
        assert_eq!(below.all(digest), None);
        asked += 1;
        assert!(asked < 9, "for ever");
    }
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn a_blob_is_held_once_for_all_who_need_it_and_deleted_when_nobody_does() {
    let node = Node::new(region());
    let digest = node.make(b"one").digest;
    assert_eq!(node.make(b"one").digest, digest);
    let step = |step: &dyn Fn(&Connection) -> Result<(), DbError>| node.table.step(step).unwrap();
    step(&|db| grant(db, digest, &edge(), MODEL));
    step(&|db| release(db, digest, "test"));
    assert_eq!(
        node.blobs.sweep().await.unwrap(),
        0,
        "the facility may come"
    );
    step(&|db| revoke(db, digest, &edge()));
    // What was just put in is nobody's yet.
    let put = node.blobs.files().put_in(Cursor::new(b"two")).unwrap();
    assert_eq!(node.blobs.sweep().await.unwrap(), 1);
    assert_eq!(node.all(digest), None);
    assert!(node.all(put.descriptor.digest).is_some());
    drop(put);
    assert_eq!(node.blobs.sweep().await.unwrap(), 1);
}

#[tokio::test]
async fn blobs_are_bounded_one_by_one_and_all_together() {
    let node = Node::new(edge());
    let descriptor = |n: u8, size| Descriptor {
        digest: Digest::from_bytes([n; 32]),
        size,
    };
    let ask = |n, size| {
        let wanted = |db: &Connection| want(db, descriptor(n, size), &region(), "test");
        wanted(&node.table.db.lock())
    };
    assert!(matches!(
        ask(1, MAX_BLOB_BYTES + 1),
        Err(DbError::TooLarge { .. })
    ));
    let most = u8::try_from(MAX_BLOBS_BYTES / MAX_BLOB_BYTES).unwrap();
    for n in 1..=most {
        ask(n, MAX_BLOB_BYTES).unwrap();
    }
    assert!(matches!(ask(99, 1), Err(DbError::Full)));
    assert!(
        matches!(ask(1, 5), Err(DbError::TooLarge { .. })),
        "another length"
    );
    ask(1, MAX_BLOB_BYTES).unwrap();
}

#[tokio::test]
async fn one_that_is_not_given_holds_up_no_other() {
    let (above, below) = (Node::new(region()), Node::new(edge()));
    let given = above.make(b"given");
    above
        .table
        .step(|db| grant(db, given.digest, &edge(), MODEL))
        .unwrap();
    let absent = Descriptor {
        digest: Digest::from_bytes([0; 32]),
        size: 9,
    };
    for descriptor in [absent, given] {
        below
            .table
            .step(|db| want(db, descriptor, &region(), "test"))
            .unwrap();
    }
    for _ in 0..4 {
        carry(&above, &below).await;
    }
    assert!(below.all(given.digest).is_some());
}

#[tokio::test]
async fn what_a_round_needed_goes_when_it_is_over_and_what_another_needs_stays() {
    let node = Node::new(region());
    let [model, update, other] = [b"model", b"updat", b"other"].map(|bytes| {
        let put = node.blobs.files().put_in(Cursor::new(bytes)).unwrap();
        put.descriptor
    });
    let from = edge();
    let step = |db: &Connection| -> Result<(), DbError> {
        for (descriptor, name) in [
            (model, "study/heart-1/1/1"),
            (update, "study/heart-1/1/1"),
            (model, "study/heart-1/2/1"),
            (other, "study/heart-12/1/1"),
        ] {
            keep(db, descriptor, name)?;
            grant(db, descriptor.digest, &from, MODEL)?;
        }
        keep_message(db, update.digest, "study/heart-1/1/1", &from, b"one")?;
        let come = come(db)?;
        assert_eq!(come.len(), 1, "its blob is whole");
        assert_eq!((&come[0].sender, &come[0].body[..]), (&from, &b"one"[..]));
        assert_eq!(super::come(db)?, [], "it comes once");
        keep_message(db, update.digest, "study/heart-1/1/1", &from, b"again")?;
        release_others(db, "study/heart-1/", Some("study/heart-1/2/1"))?;
        assert_eq!(super::come(db)?, [], "its round is over");
        let granted = |digest| is_granted(db, &node.table.rules, (&node.table.here, &from), digest);
        assert!(granted(model.digest)? && granted(other.digest)? && !granted(update.digest)?);
        Ok(())
    };
    node.table.step(step).unwrap();
    node.blobs.sweep().await.unwrap();
    let whole = |it: Descriptor| node.blobs.files().path(it.digest).unwrap().is_some();
    assert!(whole(model) && whole(other) && !whole(update));
}
