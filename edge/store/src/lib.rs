//! The facility's store: one SQLCipher database, one writer thread, group commit.
//!
//! The writer takes whatever waits, writes all of it in one transaction with one fsync, and only then answers every
//! caller. A commit holds the samples, the parcels made of them for the region, their audit rows and whatever the
//! crosswalk gained. It is not the controller's path: nothing that must happen within milliseconds waits for it.
//!
//! # Tables (schema version 21; the outbox and the audit log are `federation`'s tables in the same file)
//!
//! | table | a row is | notes |
//! |---|---|---|
//! | `meta` | a named number | `time_ms`: the last real time that was persisted; `boot`: how many starts there were |
//! | `device` | a device's crosswalk | pseudonym (clinical data) and catalog id are drawn apart; the shift of what it measures of no patient, in days; `edge_seq` counts samples that the edge itself made for it |
//! | `patient` | a patient's crosswalk | the facility's id, pseudonym, shift in days, and what the facility knows of them: PHI |
//! | `bed_entry` | who lies in a bed from an instant on, who said so and when | append-only; the last one of a bed and instant holds |
//! | `placement` | at which bed a device stood from an arrival on | append-only |
//! | `correction` | a device whose readings are looked through, since an entry of its bed came late | with the place where the last step stopped |
//! | `withdrawal` | readings of a sample as they were before they were given to another patient | kept as long as the sample |
//! | `run` | a run of a device's sample counter | its epochs do not tell them apart; the first is 0 |
//! | `sample` | one sample with its readings packed | key (device, epoch, seq), where `epoch` has the run in its upper half; `parcel` is the outbox sequence within `priority`, null while the rules or a lapsed profile keep it here, or an older one of its device that they kept |
//! | `forgotten` | a run of sequence numbers that retention deleted, with the oldest and the newest source time among them | so that a redelivery after that is still a duplicate, and a counter that restarted is not |
//! | `untaken` | a parcel that the region refused, put into quarantine or stored in part | its samples are never deleted by themselves |
//! | `shipped` | how many readings a parcel held | the newest 262,144, to count a gap with |
//! | `cured` | as which parcel the region took what it had not taken at first | |
//! | `dataset`, `dataset_part` | a research table of the facility, and a part of its values | see `edge::dataset` |
//! | `feed` | that something of this store changed | in the order of commits, written by triggers; see `feed.rs` |
//! | `unreadable` | a message that could not be understood | kept in the facility with its reason |
//! | `command`, `command_mark`, `command_hold`, `device_twin` | commands to devices, the number that was taken last, whose commands are held, what devices report | `edge::control` |
//! | `retained` | the retained message of a topic | with its QoS, the properties of MQTT 5 and when it lapses |
//!
//! Every page is encrypted and authenticated (AES-256, HMAC-SHA512) under a random data key that lies wrapped beside
//! the database. The log (`-wal`) adds at most [`writer::LOG_PAGES`] pages and a commit to the size that is bounded by
//! policy: what a reader that stays makes it longer counts towards that bound. Readers read in short pages.
//!
//! # What a failure does
//! A commit that fails refuses everybody in it. After an I/O error the connection is closed, opened again and the
//! whole log is written into the database before the next commit: the kernel may have dropped a page whose fsync
//! failed, and a log with a hole would swallow every later commit at the next power loss.
#![cfg_attr(not(test), deny(clippy::indexing_slicing))]
#[cfg(all(medmesh_unguarded, not(debug_assertions)))]
compile_error!(
    "MEDMESH_UNGUARDED takes de-identification out: it is for one test, never for a release"
);

mod append;
mod apply;
mod beds;
mod bounds;
mod bulk;
mod catalogued;
pub mod clockguard;
mod commit;
mod correction;
pub mod deid;
mod directory;
mod draft;
mod entering;
mod feed;
mod forgotten;
mod handlers;
mod held;
mod inbox;
mod job;
mod journal;
mod key;
mod known;
mod meta;
mod occupancy;
mod outbox;
mod pack;
pub mod page;
mod parcels;
mod prepared;
mod recall;
mod research;
mod resync;
mod retained;
mod retention;
mod runs;
mod schema;
mod shipped;
mod stays;
mod steps;
mod stored;
mod tally;
mod telling;
#[cfg(any(test, feature = "testbed"))]
#[allow(clippy::indexing_slicing, reason = "it is a test")]
pub mod testbed;
mod transit;
mod uids;
mod unreadable;
mod unshipped;
mod view;
mod withdrawal;
mod words;
mod writer;

#[cfg(test)]
mod tests;

pub use beds::{BY_CONFIGURATION, BedFact, BedRow, Entered, MAX_NAME, Timeline};
pub use bounds::Bounds;
pub use commit::Commit;
pub use directory::{DeviceEntry, DeviceFacts};
pub use feed::{Changed, InBed, LocalId, LocalIds, Measured, PatientNow, Stays};
pub use handlers::{Handler, Handlers};
pub use held::Holding;
pub use pack::PackedReading;
pub use prepared::{EDGE_EPOCH, EdgeSample, WITHDRAWN_FOR_GOOD};
pub use recall::LastValue;
pub use runs::split as run_and_epoch;
pub use steps::{Corrected, Late, Swept};
pub use storage::{StoreError, StoreErrorKind};
pub use view::BedRead;

use clockguard::Time;
use federation::{audit::witness::Witness, profile::SignedProfile};
use node::quantity::Span;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    thread::JoinHandle,
};
use tokio::sync::{Notify, mpsc, watch};
use types::{Place, Secret};

/// Fills a buffer with random bytes: ids, pseudonyms and shifts are drawn from it.
pub type Entropy = fn(&mut [u8]);

/// The operating system's generator, by way of the thread's.
pub fn system_entropy(bytes: &mut [u8]) {
    rand::RngCore::fill_bytes(&mut rand::rng(), bytes);
}

/// How the store fares, for readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The last commit went through.
    Good,
    /// Its bound, or the disk, is full.
    Full,
    /// The disk does not take writes.
    Unavailable,
    /// What is stored does not make sense; nothing is taken in until a person has looked.
    Corrupt,
}

impl Condition {
    const ALL: [Self; 4] = [Self::Good, Self::Full, Self::Unavailable, Self::Corrupt];

    /// Its name in metrics and in readiness.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
        }
    }
}

/// What a store is made of.
pub struct StoreOptions {
    /// Directory of its files.
    pub dir: PathBuf,
    /// The facility's key, which unwraps the data key.
    pub facility_key: Secret<[u8; 32]>,
    /// Where the facility stands.
    pub place: Place,
    /// The region that its readings go to.
    pub region: Place,
    /// Sizes it keeps to.
    pub bounds: Bounds,
    /// Receipted samples older than this (mesh time of arrival) are deleted.
    pub retention: Span,
    /// The devices that are known beforehand; any other is of kind `external`.
    pub devices: Vec<DeviceFacts>,
    /// Who lies where from when on.
    pub beds: Vec<BedFact>,
    /// What may be cleared.
    pub rules: Arc<federation::policy::Rules>,
    /// How times leave the facility, if the data-protection officer signed another way than shifted.
    pub profile: Option<SignedProfile>,
    /// Signs the audit log's heads.
    pub signer: federation::audit::Signer,
    /// Time.
    pub time: Arc<dyn Time>,
    /// Randomness.
    pub entropy: Entropy,
    /// Who takes in which kind of what comes down.
    pub handlers: Handlers,
}

/// The store: a handle that is cheap to clone. See the head of this file.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

struct Shared {
    jobs: mpsc::Sender<job::Job>,
    /// None once the store is closed.
    reader: Mutex<Option<Connection>>,
    readers: view::Readers,
    status: Arc<Status>,
    region: Place,
    place: Place,
    rules: Arc<federation::policy::Rules>,
    leases: Mutex<federation::outbox::Leases>,
    /// What came down and was let in, until it is answered.
    admitted: Mutex<federation::inbox::Admitted>,
    /// Whether what comes down waits for something before it.
    order: Mutex<federation::ledger::Lateness>,
    /// When retained messages of this run lapse, by a clock that no step of the machine's moves.
    lapses: Mutex<retained::Lapses>,
    time: Arc<dyn Time>,
    entropy: Entropy,
    uids: uids::UidKey,
    file: schema::File,
    witness: Witness,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Ends with the writer's thread.
    alive: watch::Receiver<()>,
}

/// What the writer says of itself, and what it is told.
#[derive(Default)]
struct Status {
    condition: AtomicU8,
    boot: AtomicU32,
    link_up: AtomicBool,
    /// The link has come up since it was last asked.
    link_came_up: AtomicBool,
    /// The region has been met since the store was opened.
    has_met: AtomicBool,
    /// Samples are stored that were never shipped.
    unshipped: AtomicBool,
    /// A new stream was begun: what is not made of samples must be shipped again.
    resynced: AtomicBool,
    /// How often who lies where has changed.
    beds: AtomicU32,
    /// How often the choices of patients about research have changed.
    research: AtomicU32,
    added: Notify,
    /// The store is to meet the region again.
    meet_again: Notify,
    transit: Mutex<transit::Transit>,
}

impl Store {
    /// The name of the database within its directory.
    pub const FILE: &'static str = "store.db";

    /// Opens the store of a directory, or makes a new one, and starts its writer.
    ///
    /// # Errors
    /// `Refused` with another facility key or a newer schema, `Corrupt` when what is there does not make sense,
    /// `Unavailable` or `Full` when the disk does not take it, `Internal` when a bed assignment contradicts one
    /// that was made before.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(options, None)
    }

    /// As [`Store::open`], on another virtual file system of SQLite.
    fn open_on(options: StoreOptions, vfs: Option<&'static str>) -> Result<Self, StoreError> {
        let StoreOptions { ref dir, .. } = options;
        let key = key::open_or_create(dir, &options.facility_key, options.entropy)?;
        let file = schema::File {
            path: dir.join(Self::FILE),
            key,
            vfs,
        };
        let status = Arc::new(Status::default());
        let entropy = options.entropy;
        let time = Arc::clone(&options.time);
        let key = options.signer.verifying_key();
        let witness = Witness::beside(&file.path, &options.place, key);
        let (jobs, queue) = mpsc::channel(writer::QUEUE);
        let region = options.region.clone();
        let (place, rules) = (options.place.clone(), Arc::clone(&options.rules));
        let writer = writer::Writer::open(file.clone(), options, status.clone())?;
        let reader = file.open_reader()?;
        let (alive, watched) = watch::channel(());
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                // Dropped when the writer ends, also by a panic.
                let _alive = alive;
                writer.run(queue);
            })
            .map_err(StoreError::io("start the writer thread"))?;
        Ok(Self(Arc::new(Shared {
            jobs,
            reader: Mutex::new(Some(reader)),
            readers: view::Readers::default(),
            status,
            region,
            place,
            rules,
            leases: Mutex::default(),
            admitted: Mutex::default(),
            order: Mutex::default(),
            lapses: Mutex::default(),
            time,
            entropy,
            uids: file.key.uids(),
            file,
            witness,
            writer: Mutex::new(Some(writer)),
            alive: watched,
        })))
    }

    /// Resolves when the writer has ended: nothing can be stored any more, and the node that uses the store must end.
    pub async fn writer_ended(&self) {
        let mut alive = self.0.alive.clone();
        // Nothing is ever sent: the sender ends with the thread.
        while alive.changed().await.is_ok() {}
    }

    /// How the store fares.
    #[must_use]
    pub fn condition(&self) -> Condition {
        let condition = self.0.status.condition.load(Ordering::Relaxed);
        // Only conditions are stored there; what is none of them would be a fault to look at.
        let all = Condition::ALL.get(usize::from(condition));
        all.copied().unwrap_or(Condition::Corrupt)
    }

    /// Says whether the link to the region is healthy: what is committed while it is not becomes backlog.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.0.status.link_up.load(Ordering::Relaxed)
    }

    /// The link came up or went down.
    pub fn set_link(&self, up: bool) {
        let was_up = self.0.status.link_up.swap(up, Ordering::Relaxed);
        if up && !was_up {
            self.0.status.link_came_up.store(true, Ordering::Relaxed);
        }
    }

    /// The number of this start: larger than every earlier one's.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.0.status.boot.load(Ordering::Relaxed)
    }

    /// Writes what waits, closes the database and ends the writer. Everything after it is refused.
    pub async fn close(&self) {
        // Last one out writes the log into the database and removes it, so the reader goes first.
        drop(self.0.reader.lock().take());
        self.0.readers.close();
        let (reply, closed) = tokio::sync::oneshot::channel();
        if self.0.jobs.send(job::Job::Close(reply)).await.is_ok() {
            let _ended = closed.await;
        }
        let writer = self.0.writer.lock().take();
        if let Some(writer) = writer {
            let _ended = tokio::task::spawn_blocking(move || writer.join()).await;
        }
    }

    /// Reads on the connection that the uplink and the node's tasks share, off the async threads.
    ///
    /// # Errors
    /// As any read.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.0.clone();
        let read = move || match &*shared.reader.lock() {
            Some(reader) => read(reader),
            None => {
                let op = "read: the store is closed";
                Err(StoreError::new(StoreErrorKind::Unavailable, op))
            }
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| StoreError::new(StoreErrorKind::Internal, "read"))?
    }
}

/// Opens the database of a store for reading only, beside a running node or without one.
///
/// # Errors
/// `Refused` with another facility key or when there is no store, as [`Store::open`] otherwise.
pub fn open_read_only(
    dir: &Path,
    facility_key: &Secret<[u8; 32]>,
) -> Result<Connection, StoreError> {
    let file = schema::File {
        path: dir.join(Store::FILE),
        key: key::open_existing(dir, facility_key)?,
        vfs: None,
    };
    file.open_reader()
}

/// Opens the database of a store for a decision of a person, beside a running node or without one.
///
/// # Errors
/// As [`open_read_only`].
pub fn open_beside(dir: &Path, facility_key: &Secret<[u8; 32]>) -> Result<Connection, StoreError> {
    let file = schema::File {
        path: dir.join(Store::FILE),
        key: key::open_existing(dir, facility_key)?,
        vfs: None,
    };
    file.open_beside()
}

/// Opens an encrypted file of a facility beside the running node: that of the store, or a copy of it.
///
/// # Errors
/// As [`open_read_only`].
pub fn open_file(
    dir: &Path,
    facility_key: &Secret<[u8; 32]>,
    name: &str,
) -> Result<Connection, StoreError> {
    let key = key::open_existing(dir, facility_key)?;
    let open = || {
        let connection = storage::copy::open(&dir.join(name))?;
        connection.execute_batch(schema::first_statements(&key).reveal())?;
        Ok(connection)
    };
    open().map_err(StoreError::sqlite("open a file of the facility"))
}

pub use key::read_facility_key;

pub use apply::used_bytes;
pub use beds::{check as check_bed, read as read_beds};

impl Store {
    /// The crosswalk of a device, drawn if it is new.
    ///
    /// # Errors
    /// As any write.
    pub async fn device(&self, id: &types::DeviceId) -> Result<Arc<DeviceEntry>, StoreError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.ask(job::Job::Device(id.clone(), reply), answer)
            .await?
    }

    /// One bounded step of retention: deletes old samples that have their receipt, gives free pages back and keeps
    /// the time.
    ///
    /// # Errors
    /// As any write.
    pub async fn housekeep(&self) -> Result<Swept, StoreError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.ask(job::Job::Housekeep(reply), answer).await?
    }

    /// Whether samples are stored that were never shipped, since nothing might leave when they came.
    #[must_use]
    pub fn has_unshipped(&self) -> bool {
        self.0.status.unshipped.load(Ordering::Relaxed)
    }

    /// Ships some of them, if it may be now: one bounded step.
    ///
    /// # Errors
    /// As any write.
    pub async fn ship_late(&self) -> Result<Late, StoreError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.ask(job::Job::ShipLate(reply), answer).await?
    }

    /// The last real time that the store kept: the clock's floor. It is kept now and then; the audit log has the time
    /// of the last commit that made a parcel, so that after a kill time goes on behind what was stored.
    ///
    /// # Errors
    /// As any read.
    pub async fn kept_time(&self) -> Result<Option<types::Timestamp>, StoreError> {
        self.read(|db| {
            let kept = meta::get(db, meta::TIME)?.map(types::Timestamp);
            let last = federation::audit::last(db)?.and_then(|entry| entry.time());
            Ok(kept.max(last))
        })
        .await
    }
}
