//! A SQLite file of which every commit is also elsewhere before it counts.
//!
//! What a commit wrote is read from the log of the file (SQLite file format, §4 "The Write-Ahead Log"), and put into a
//! [`Replica`] as whole pages in one step. A step on the file is done once both the disk and the replica have it, and
//! fails otherwise; then the connection is made anew, and what the replica lacks is put there before anything else is
//! done ([`crate::sqlite::Reopening`]).
//!
//! The log is emptied by this process alone, and only once the replica has all of it. Another process that writes to the
//! same file (a command beside a running node) is put into the replica with the next step; where it may have begun the
//! log anew meanwhile, every page is compared.
use crate::replica::log::{Place, Read, read};
use parking_lot::Mutex;
use rusqlite::{Connection, config::DbConfig, ffi};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

mod log;

/// Frames of a log after which it is written into the file, so that the log does not grow for ever: 4 MiB of pages.
const FOLDED_FRAMES: u32 = 1_000;

/// A page of a file by its number, from 1 on.
pub type Page = (u32, Vec<u8>);

/// What the file becomes by a step.
pub struct Change<'a> {
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Pages of the file afterwards.
    pub pages: u32,
    /// The pages that may differ, each once.
    pub changed: &'a mut (dyn Iterator<Item = io::Result<Page>> + Send),
    /// Whether these are all pages of the file.
    pub is_whole: bool,
    /// What was appended to the file beside it.
    pub beside: Option<Appended>,
}

/// Bytes that a small file has from an offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset; 0 when the file was written anew.
    pub at: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Why a change is not elsewhere, or not surely so. It is put again, as it is or with more.
#[derive(Debug, thiserror::Error)]
pub enum NotPut {
    /// This node may not write any more: another one does.
    #[error("another node writes")]
    Fenced,
    /// It cannot be reached, or refuses; what was put may be there or not.
    #[error("the copy cannot be written: {0}")]
    Unavailable(String),
    /// What was put before is not there any more, and nothing was put: all of it is missing perhaps.
    #[error("the copy is older than what was put there")]
    Older,
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Where the pages of files are kept beside the disk.
pub trait Replica: Send + Sync {
    /// Puts pages of a file, all of them in one step, durably. The same again changes nothing.
    ///
    /// # Errors
    /// [`NotPut`].
    fn put(&self, file: &str, change: Change<'_>) -> Result<(), NotPut>;

    /// Whether nobody else can have put anything until now, so that what is read here is the newest there is.
    ///
    /// # Errors
    /// [`NotPut`].
    fn is_newest(&self) -> Result<(), NotPut>;
}

/// A file that is kept elsewhere too.
pub struct Kept {
    replica: Arc<dyn Replica>,
    name: String,
    path: PathBuf,
    beside: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    /// How far the replica is; none when that is not known.
    place: Option<Place>,
    /// What SQLite said when it was looked at last, on the connection that is open: it changes when another one commits
    /// (`PRAGMA data_version`).
    version: Option<i64>,
    /// Bytes of the file beside that are elsewhere.
    beside: Option<u64>,
}

impl Kept {
    /// A file that `replica` has by this name as it is on the disk now, if `is_there`; otherwise all of it is put there
    /// with the first step. The log of the file is empty.
    #[must_use]
    pub fn new(replica: Arc<dyn Replica>, name: &str, path: &Path, is_there: bool) -> Self {
        let state = State {
            place: is_there.then(Place::new),
            version: None,
            beside: None,
        };
        Self {
            replica,
            name: name.to_owned(),
            path: path.to_owned(),
            beside: None,
            state: Mutex::new(state),
        }
    }

    /// With a file beside it to which lines are appended, whose end may come a step later.
    #[must_use]
    pub fn with(mut self, beside: PathBuf) -> Self {
        self.beside = Some(beside);
        self
    }

    /// Has the log emptied by nobody but this.
    pub(crate) fn configure(connection: &Connection) -> rusqlite::Result<()> {
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)
    }

    /// Another connection was opened.
    pub(crate) fn opened_again(&self) {
        self.state.lock().version = None;
    }

    /// Puts what was committed since the last time, and empties the log when it is long.
    pub(crate) fn settle(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut state = self.state.lock();
        let version: i64 = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        let is_alone = match state.version {
            Some(known) => known == version,
            None => state.place.as_ref().is_some_and(Place::is_new),
        };
        let done = match self.next(&state, is_alone) {
            Ok(Some(Read { place, pages, .. })) if pages.is_empty() => {
                state.place = Some(place);
                self.replica.is_newest()
            }
            Ok(Some(read)) => {
                // All of the log before is there, whatever becomes of this put.
                state.place = Some(read.begin.clone());
                self.put(&mut state, read)
            }
            Ok(None) => self.put_whole(&mut state, connection),
            Err(error) => Err(error),
        };
        let done = match done {
            Err(NotPut::Older) => {
                (state.place, state.beside) = (None, None);
                self.put_whole(&mut state, connection)
            }
            done => done,
        };
        done.map_err(|error| failed(&error))?;
        state.version = Some(version);
        if state
            .place
            .as_ref()
            .is_some_and(|it| it.frames() >= FOLDED_FRAMES)
        {
            // What is not written into the file yet is with the next step.
            connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
        Ok(())
    }

    /// What follows the place that is known; none when the log was begun anew and that may not be all that happened.
    fn next(&self, state: &State, is_alone: bool) -> Result<Option<Read>, NotPut> {
        let Some(place) = &state.place else {
            return Ok(None);
        };
        let found = read(&self.path, Some(place))?;
        Ok(match found {
            Some(found) if found.is_same_log || is_alone => Some(found),
            _ => None,
        })
    }

    fn put(&self, state: &mut State, read: Read) -> Result<(), NotPut> {
        let beside = self.appended(state)?;
        let change = Change {
            page_bytes: read.page_bytes,
            pages: read.size,
            changed: &mut read.pages.into_iter().map(Ok),
            is_whole: false,
            beside: beside.clone(),
        };
        self.replica.put(&self.name, change)?;
        state.place = Some(read.place);
        said(state, beside);
        Ok(())
    }

    /// Puts every page. Nobody else writes meanwhile.
    fn put_whole(&self, state: &mut State, connection: &Connection) -> Result<(), NotPut> {
        let locked = |error: rusqlite::Error| NotPut::Unavailable(error.to_string());
        connection
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(locked)?;
        let done = self.whole(state);
        connection.execute_batch("ROLLBACK").map_err(locked)?;
        done
    }

    fn whole(&self, state: &mut State) -> Result<(), NotPut> {
        let log = read(&self.path, None)?;
        let mut file = File::open(&self.path)?;
        let (page_bytes, in_file) = shape(&mut file)?;
        let (size, mut newer, place) = match log {
            Some(log) if log.size > 0 => (log.size, log.pages, log.place),
            _ => (in_file, BTreeMap::new(), Place::default()),
        };
        let mut pages = (1..=size).map(|number| match newer.remove(&number) {
            Some(bytes) => Ok((number, bytes)),
            None => page(&mut file, number, page_bytes).map(|bytes| (number, bytes)),
        });
        let beside = self.appended(state)?;
        let change = Change {
            page_bytes,
            pages: size,
            changed: &mut pages,
            is_whole: true,
            beside: beside.clone(),
        };
        self.replica.put(&self.name, change)?;
        state.place = Some(place);
        said(state, beside);
        Ok(())
    }

    fn appended(&self, state: &State) -> io::Result<Option<Appended>> {
        let Some(path) = &self.beside else {
            return Ok(None);
        };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let at = state.beside.filter(|at| *at <= length).unwrap_or(0);
        if state.beside == Some(length) {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        file.read_to_end(&mut bytes)?;
        Ok(Some(Appended { at, bytes }))
    }
}

fn said(state: &mut State, beside: Option<Appended>) {
    if let Some(Appended { at, bytes }) = beside {
        state.beside = Some(at + bytes.len() as u64);
    }
}

/// Bytes of a page and pages of a database file, as its header says (SQLite file format, §1.3).
fn shape(file: &mut File) -> io::Result<(u32, u32)> {
    let mut header = [0; 100];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut header)?;
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => u32::from(bytes),
    };
    let pages = file.metadata()?.len() / u64::from(page_bytes.max(512));
    Ok((page_bytes, u32::try_from(pages).unwrap_or(u32::MAX)))
}

fn page(file: &mut File, number: u32, page_bytes: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; page_bytes as usize];
    file.seek(SeekFrom::Start(
        u64::from(number - 1) * u64::from(page_bytes),
    ))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// As an fsync that failed: the connection is in doubt.
fn failed(error: &NotPut) -> rusqlite::Error {
    let code = ffi::Error::new(ffi::SQLITE_IOERR_FSYNC);
    rusqlite::Error::SqliteFailure(code, Some(error.to_string()))
}

#[cfg(test)]
mod tests;
