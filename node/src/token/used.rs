//! Assertions that were used, until they expire: in memory, and in a file that outlives the process, so that one that
//! was seen on the way cannot be used again after a restart.
use super::Refused;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use storage::file::{self, PRIVATE};

/// Assertions of one client that are remembered until they expire: 33 a second for five minutes. A client that uses
/// more is told to wait, and no other is.
const MAX_REMEMBERED: usize = 10_000;
/// Lines of the file after which it is written anew without those that have expired.
const MAX_LINES: usize = 65_536;

/// What became of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is used now, for every node that shares these.
    First,
    /// It was used before.
    Again,
    /// Its client has used as many as are remembered.
    TooMany,
}

/// Assertions that were used at any of several nodes with the same clients.
pub trait SharedUse: Send + Sync {
    /// Notes an assertion, durably, until `end`; times in seconds since 1970. A client has at most `most` at once. Blocks.
    ///
    /// # Errors
    /// Why it cannot be known; it may have been noted.
    fn note(
        &self,
        assertion: (&str, &str),
        times: (i64, i64),
        most: usize,
    ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>>;
}

/// Assertions that were used. Cheap to look at; every new one costs an fsync.
pub(super) enum Used {
    /// At this node.
    Own(Mutex<Memory>),
    /// At any node of several.
    Shared(Arc<dyn SharedUse>),
}

impl fmt::Debug for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Used")
    }
}

#[derive(Debug)]
pub(super) struct Memory {
    ids: BTreeSet<(String, String)>,
    ends: BTreeSet<(i64, String, String)>,
    of_client: HashMap<String, usize>,
    file: File,
    path: PathBuf,
    lines: usize,
}

impl Used {
    /// Reads what an earlier process has remembered; `now` in seconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(super) fn open(path: &Path, now: i64) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut memory = Memory {
            ids: BTreeSet::new(),
            ends: BTreeSet::new(),
            of_client: HashMap::new(),
            file: OpenOptions::new()
                .create(true)
                .append(true)
                .mode(PRIVATE)
                .open(path)?,
            path: path.to_owned(),
            lines: 0,
        };
        // A line that a crash cut off is of an assertion for which no token was given.
        for (end, kid, jti) in text.lines().filter_map(parse).filter(|line| line.0 >= now) {
            memory.remember(end, kid, jti);
        }
        memory.rewrite()?;
        Ok(Self::Own(Mutex::new(memory)))
    }

    /// Notes an assertion, durably; refuses one that was used before. Blocks for an fsync.
    pub(super) fn note(&self, kid: &str, jti: &str, end: i64, now: i64) -> Result<(), Refused> {
        let mut memory = match self {
            Self::Own(memory) => memory.lock(),
            Self::Shared(shared) => return shared_note(shared.as_ref(), (kid, jti), (end, now)),
        };
        memory.forget(now);
        let id = (kid.to_owned(), jti.to_owned());
        if memory.ids.contains(&id) {
            return Err(Refused::InvalidClient(BEFORE));
        }
        if memory.of_client.get(kid).copied().unwrap_or(0) >= MAX_REMEMBERED {
            return Err(Refused::Busy);
        }
        memory
            .write(end, kid, jti)
            .map_err(|error| not_remembered(&error))?;
        memory.remember(end, id.0, id.1);
        Ok(())
    }
}

const BEFORE: &str = "the assertion was used before";

fn not_remembered(error: &dyn fmt::Display) -> Refused {
    tracing::error!(%error, "a used assertion cannot be remembered; no token is given");
    Refused::Busy
}

fn shared_note(
    shared: &dyn SharedUse,
    assertion: (&str, &str),
    times: (i64, i64),
) -> Result<(), Refused> {
    match shared.note(assertion, times, MAX_REMEMBERED) {
        Ok(Noted::First) => Ok(()),
        Ok(Noted::Again) => Err(Refused::InvalidClient(BEFORE)),
        Ok(Noted::TooMany) => Err(Refused::Busy),
        Err(error) => Err(not_remembered(&error)),
    }
}

impl Memory {
    fn remember(&mut self, end: i64, kid: String, jti: String) {
        if self.ids.insert((kid.clone(), jti.clone())) {
            *self.of_client.entry(kid.clone()).or_default() += 1;
            self.ends.insert((end, kid, jti));
        }
    }

    fn forget(&mut self, now: i64) {
        while let Some(first) = self.ends.first().filter(|(end, ..)| *end < now).cloned() {
            self.ends.remove(&first);
            if let Some(count) = self.of_client.get_mut(&first.1) {
                *count = count.saturating_sub(1);
            }
            self.ids.remove(&(first.1, first.2));
        }
    }

    fn write(&mut self, end: i64, kid: &str, jti: &str) -> io::Result<()> {
        if self.lines >= MAX_LINES {
            self.rewrite()?;
        }
        self.file.write_all(line(end, kid, jti).as_bytes())?;
        self.file.sync_data()?;
        self.lines += 1;
        Ok(())
    }

    /// Keeps the living lines alone: a new file takes the old one's place, whole.
    fn rewrite(&mut self) -> io::Result<()> {
        let text: String = self.ends.iter().map(|(e, k, j)| line(*e, k, j)).collect();
        self.file = file::replace(&self.path, text.as_bytes(), PRIVATE)?;
        self.lines = self.ends.len();
        Ok(())
    }
}

/// `END KID JTI`, in Base64 what a client chose.
fn line(end: i64, kid: &str, jti: &str) -> String {
    format!("{end} {} {}\n", BASE64.encode(kid), BASE64.encode(jti))
}

fn parse(line: &str) -> Option<(i64, String, String)> {
    let mut fields = line.split(' ');
    let end = fields.next()?.parse().ok()?;
    let mut text = || String::from_utf8(BASE64.decode(fields.next()?).ok()?).ok();
    Some((end, text()?, text()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(dir: &tempfile::TempDir, now: i64) -> Used {
        Used::open(&dir.path().join("used"), now).unwrap()
    }

    fn memory(used: &Used) -> &Mutex<Memory> {
        match used {
            Used::Own(memory) => memory,
            Used::Shared(_) => panic!("it is of this node"),
        }
    }

    #[test]
    fn what_another_node_has_seen_is_used_and_what_cannot_be_known_gives_nothing() {
        struct Elsewhere(Result<Noted, &'static str>);
        impl SharedUse for Elsewhere {
            fn note(
                &self,
                _: (&str, &str),
                _: (i64, i64),
                _: usize,
            ) -> Result<Noted, Box<dyn std::error::Error + Send + Sync>> {
                Ok(self.0?)
            }
        }
        let note = |says| Used::Shared(Arc::new(Elsewhere(says))).note("k", "j", 100, 0);
        assert_eq!(note(Ok(Noted::First)), Ok(()));
        assert_eq!(note(Ok(Noted::Again)), Err(Refused::InvalidClient(BEFORE)));
        assert_eq!(note(Ok(Noted::TooMany)), Err(Refused::Busy));
        assert_eq!(note(Err("no answer")), Err(Refused::Busy));
    }

    #[test]
    fn a_used_assertion_is_remembered_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let used = used(&dir, 0);
        assert!(used.note("k", "j", 100, 0).is_ok());
        assert!(used.note("k", "j", 100, 100).is_err());
        assert!(used.note("other", "j", 100, 100).is_ok());
        assert!(used.note("k", "j", 200, 101).is_ok());
        assert_eq!(memory(&used).lock().ids.len(), 1);
    }

    #[test]
    fn a_used_assertion_is_remembered_through_a_restart_and_a_cut_off_line() {
        let dir = tempfile::tempdir().unwrap();
        assert!(used(&dir, 0).note("k", "j 1", 100, 0).is_ok());
        let path = dir.path().join("used");
        let mut text = fs::read_to_string(&path).unwrap();
        text.push_str("100 aw");
        fs::write(&path, text).unwrap();
        let again = used(&dir, 50);
        assert!(again.note("k", "j 1", 100, 50).is_err());
        assert!(again.note("k", "j 2", 100, 50).is_ok());
        let late = used(&dir, 101);
        assert!(memory(&late).lock().ids.is_empty());
    }

    #[test]
    fn one_client_cannot_take_the_memory_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let used = used(&dir, 0);
        for i in 0..MAX_REMEMBERED {
            memory(&used)
                .lock()
                .remember(100, "k".into(), i.to_string());
        }
        assert_eq!(used.note("k", "more", 100, 0), Err(Refused::Busy));
        assert!(matches!(
            used.note("k", "0", 100, 0),
            Err(Refused::InvalidClient(_))
        ));
        assert!(used.note("other", "more", 100, 0).is_ok());
        assert!(used.note("k", "more", 300, 101).is_ok());
    }
}
