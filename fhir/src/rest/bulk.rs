//! Bulk data: exports (HL7 FHIR Bulk Data Access 2.0.0) and imports as jobs that outlive the request, and the node.
//!
//! A job is a folder of its own: `asked.json` says what was asked for and never changes, `done.json` is its journal, and
//! beside them are its files. The journal is replaced after the files are durable, and says how long each of them is: a
//! job that was cut off, whenever that was, goes on at its last entry, and what a file has beyond it is cut away. Exports
//! list what was there at one commit ([`crate::store::Extent`]), so that going on changes nothing of what is exported.
//!
//! All jobs of a node take turns, each of them some MiB of text long: a long one holds up none, and memory does not grow
//! with what is exported. A job is its client's: nobody else is told that it exists.
mod door;
mod export;
mod files;
mod import;
mod incoming;
mod kickoff;
mod record;
mod stream;
mod whose;

use super::{FhirApi, Reader, outcome::Failure};
use axum::http::StatusCode;
pub use door::routes;
use files::Folder;
pub use kickoff::in_parameters;
use parking_lot::Mutex;
use record::{Asked, Done};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use storage::chunks::Chunks;
use tokio::sync::Notify;
use types::Timestamp;

/// Jobs of one client, ended ones among them, until they are deleted or collected: bounds the disk that it holds.
pub const MAX_JOBS_OF_CLIENT: usize = 8;
/// Jobs of all clients.
pub const MAX_JOBS: usize = 64;
/// How long the files of an ended job are kept, in ms: a night and the day after.
pub const KEEP_MS: i64 = 24 * 3_600_000;
/// A job that has not ended this long after it was asked for is given up, in ms.
pub const MAX_RUN_MS: i64 = 7 * 24 * 3_600_000;
/// How long a job waits for a store or a disk that does not answer.
const WAIT: Duration = Duration::from_secs(1);
/// How often it is looked what is to be collected when there is nothing to do.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Turns of a job that fail one after the other, of a fault that is not the store's being away, before it is given up.
const MAX_FAULTS: u32 = 8;

/// How much of an export is done at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Resources that are asked of the store at once, which ends a page by its bytes too.
    pub page: u16,
    /// Lines of one turn, in bytes: what an fsync costs is then little beside them.
    pub turn_bytes: usize,
    /// Pages of one turn: of much that is looked at and not taken, another job waits for no more.
    pub turn_pages: usize,
    /// A file that has as many bytes is followed by another: a client fetches several at once.
    pub file_bytes: u64,
}

/// Those of a node.
const LIMITS: Limits = Limits {
    page: 200,
    turn_bytes: 4 << 20,
    turn_pages: 64,
    file_bytes: 128 << 20,
};

/// The jobs of one node.
pub struct Bulk {
    dir: PathBuf,
    /// Where jobs are kept beside this disk, if another node is to go on with them.
    kept: Option<Arc<dyn Chunks>>,
    /// Where an operator puts what is imported.
    import: PathBuf,
    limits: Limits,
    jobs: Mutex<BTreeMap<String, Arc<Job>>>,
    /// Who takes a job in.
    taking: Arc<tokio::sync::Mutex<()>>,
    woken: Notify,
}

/// One job.
struct Job {
    asked: Asked,
    folder: Folder,
    /// Held for no longer than a look takes: clients ask how far it is.
    done: Mutex<Done>,
    /// Its files change, here and elsewhere, and then what `done` says.
    changing: Mutex<()>,
    /// Faults since the last turn that went well.
    faults: Mutex<u32>,
}

/// A file that a job begins with.
struct First {
    name: String,
    text: Vec<u8>,
    /// Whether the client is told of it, as of outcomes.
    is_told: bool,
}

/// Why a turn of a job was not done.
enum Trouble {
    /// The store does not answer: it goes on when it does.
    Away,
    /// A fault that may pass.
    Fault(&'static str),
    /// It can never be done: why.
    Never(&'static str),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        tracing::warn!(%error, "the files of a bulk job cannot be written");
        Self::Fault("its files cannot be written")
    }
}

impl From<crate::store::StoreError> for Trouble {
    fn from(error: crate::store::StoreError) -> Self {
        tracing::warn!(op = error.op, kind = ?error.kind, source = ?error.source, "a bulk job waits for the store");
        match error.kind.may_pass() {
            true => Self::Away,
            false => Self::Fault("the store failed"),
        }
    }
}

impl Bulk {
    /// Opens the folder, or makes it. Jobs that had not ended go on; what is left of one that never began is removed.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(dir: &Path) -> io::Result<Arc<Self>> {
        Self::open_with(dir, LIMITS, None)
    }

    /// As [`Bulk::open`]; with `kept`, jobs and their files are there too, and those that are there go on here. Blocks.
    ///
    /// # Errors
    /// As [`Bulk::open`]; what is kept cannot be read or written.
    pub fn open_kept(dir: &Path, kept: Arc<dyn Chunks>) -> io::Result<Arc<Self>> {
        Self::open_with(dir, LIMITS, Some(kept))
    }

    pub(super) fn open_with(
        dir: &Path,
        limits: Limits,
        kept: Option<Arc<dyn Chunks>>,
    ) -> io::Result<Arc<Self>> {
        let import = dir.with_file_name("import");
        storage::file::private_dir(dir)?;
        storage::file::private_dir(&import)?;
        let mut jobs = BTreeMap::new();
        for (id, folder) in files::folders(dir, kept.as_ref())? {
            match Job::load(&folder) {
                Some(job) => drop(jobs.insert(id, Arc::new(job))),
                None => folder.remove()?,
            }
        }
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            kept,
            import,
            limits,
            jobs: Mutex::new(jobs),
            taking: Arc::default(),
            woken: Notify::new(),
        }))
    }

    /// The job of that name, of that client.
    fn of(&self, id: &str, reader: &Reader) -> Option<Arc<Job>> {
        let job = self.jobs.lock().get(id).cloned();
        job.filter(|job| job.asked.owner == reader.0)
    }

    /// Refuses one more than a client, or all of them, may have.
    fn has_room(&self, owner: &str) -> Result<(), Failure> {
        let jobs = self.jobs.lock();
        let own = jobs.values().filter(|job| job.asked.owner == owner).count();
        let too_many = |who: &str, most: usize| {
            Failure::new(
                StatusCode::TOO_MANY_REQUESTS,
                "throttled",
                format!("{who} at most {most} jobs at once; delete one that has ended, or wait"),
            )
        };
        if own >= MAX_JOBS_OF_CLIENT {
            return Err(too_many("a client has", MAX_JOBS_OF_CLIENT));
        }
        if jobs.len() >= MAX_JOBS {
            return Err(too_many("this server has", MAX_JOBS));
        }
        Ok(())
    }

    /// Takes a job in: durable when this returns. `first` are its files so far.
    async fn begin(
        self: &Arc<Self>,
        id: String,
        asked: Asked,
        first: Vec<First>,
    ) -> Result<(), Failure> {
        let taking = Arc::clone(&self.taking).lock_owned().await;
        self.has_room(&asked.owner)?;
        let bulk = Arc::clone(self);
        let begun = tokio::task::spawn_blocking(move || {
            // Also when nobody waits for it any more.
            let _taking = taking;
            let folder = Folder::new(bulk.dir.join(&id), bulk.kept.clone());
            let job = Job::make(folder, asked, first)?;
            bulk.jobs.lock().insert(id, Arc::new(job));
            bulk.woken.notify_one();
            Ok::<(), io::Error>(())
        });
        match begun.await {
            Ok(Ok(())) => Ok(()),
            failed => {
                tracing::error!(?failed, "a bulk job cannot be kept");
                Err(Failure::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "transient",
                    "the server cannot keep the job now; try again later",
                ))
            }
        }
    }

    /// Removes the files of a job, and forgets it then. A turn that is under way finds it gone.
    ///
    /// # Errors
    /// Some of its files may be there still, and it is: ask again.
    async fn forget(self: &Arc<Self>, id: &str) -> Result<(), Failure> {
        let Some(job) = self.jobs.lock().get(id).cloned() else {
            return Ok(());
        };
        let removed = tokio::task::spawn_blocking(move || {
            // A turn that is under way has its files first.
            let _changing = job.changing.lock();
            job.folder.remove()
        });
        match removed.await {
            Ok(Ok(())) => {
                self.jobs.lock().remove(id);
                Ok(())
            }
            failed => {
                tracing::warn!(?failed, "the files of a bulk job are not removed yet");
                Err(Failure::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "transient",
                    "the server cannot remove all files of the job now; try again later",
                ))
            }
        }
    }

    /// Whether a job is there still.
    fn has(&self, job: &Job) -> bool {
        job.folder.exists()
    }

    fn all(&self) -> Vec<(String, Arc<Job>)> {
        let jobs = self.jobs.lock();
        jobs.iter()
            .map(|(id, job)| (id.clone(), Arc::clone(job)))
            .collect()
    }

    /// One turn of every job that has not ended: whether there was one.
    #[cfg(test)]
    pub(super) async fn turn_once(&self, api: &FhirApi) -> bool {
        let mut any = false;
        for (_, job) in self.all() {
            if job.done.lock().ended.is_none() {
                any = true;
                job.turn(api, self).await;
            }
        }
        any
    }

    /// Removes what has been kept long enough, and gives up what runs for too long.
    pub(super) async fn collect(self: &Arc<Self>, now: Timestamp) {
        for (id, job) in self.all() {
            let ended = job.done.lock().ended;
            match ended {
                Some(ended) if now.since(Timestamp(ended)) > KEEP_MS => {
                    // What is left is looked at again.
                    let _later = self.forget(&id).await;
                }
                None if now.since(Timestamp(job.asked.made)) > MAX_RUN_MS => {
                    job.end(now, Some("it took longer than any job may")).await;
                }
                _ => {}
            }
        }
    }
}

impl FhirApi {
    /// Does the jobs of this node, in turns, until it is dropped. Whatever is dropped is done again by the next start.
    pub async fn work(self) {
        let Some(bulk) = self.bulk.clone() else {
            return std::future::pending().await;
        };
        loop {
            bulk.collect((self.now)()).await;
            let mut waits = true;
            for (_, job) in bulk.all() {
                if job.done.lock().ended.is_none() {
                    waits &= !job.turn(&self, &bulk).await;
                }
            }
            if waits {
                let is_open = bulk
                    .all()
                    .iter()
                    .any(|(_, job)| job.done.lock().ended.is_none());
                let span = if is_open { WAIT } else { LOOK_EVERY };
                // Whoever asks for a job wakes it.
                let _either = tokio::time::timeout(span, bulk.woken.notified()).await;
            }
        }
    }
}

impl Job {
    /// One turn: whether something was done.
    async fn turn(self: &Arc<Self>, api: &FhirApi, bulk: &Bulk) -> bool {
        let turned = match self.asked.import {
            None => export::turn(self, api, bulk.limits).await,
            Some(_) => import::turn(self, api, bulk.limits).await,
        };
        let trouble = match turned {
            Ok(()) => {
                *self.faults.lock() = 0;
                return true;
            }
            Err(_) if !bulk.has(self) => return true,
            Err(trouble) => trouble,
        };
        let why = match trouble {
            Trouble::Away => return false,
            Trouble::Never(why) => why,
            Trouble::Fault(why) => {
                let mut faults = self.faults.lock();
                *faults += 1;
                if *faults < MAX_FAULTS {
                    return false;
                }
                why
            }
        };
        self.end((api.now)(), Some(why)).await;
        true
    }

    /// It has ended; when it failed, why. What cannot be kept of that is found out again after a start.
    async fn end(self: &Arc<Self>, now: Timestamp, failed: Option<&'static str>) {
        let job = Arc::clone(self);
        let ended = tokio::task::spawn_blocking(move || {
            let _changing = job.changing.lock();
            let mut next = job.done.lock().clone();
            next.ended = Some(now.0);
            next.failed = failed.map(str::to_owned);
            let kept = job.folder.keep(files::DONE, &next);
            *job.done.lock() = next;
            kept
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::warn!("the end of a bulk job is not kept");
        }
    }
}
