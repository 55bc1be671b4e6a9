//! Heads that this node's log can never take back, in a file beside the database.
//!
//! Every signed head that a peer was given and told back is written here, and once a minute the node's own, so that a
//! database that is emptied, cut or put back alone is found without asking anybody. The file begins with its log, before
//! the log's first commit, and is never begun anew beside a log that has grown: where it is gone, or holds no head, the
//! log has failed ([`super::VerifyError::NoHeadBeside`]) until a person has acknowledged it. Whoever puts the whole
//! folder back is found by the peers ([`crate::meet`]), and by an outsider with `medmesh audit verify --head FILE`.
use super::origin;
use crate::note::TreeHead;
use ed25519_dalek::VerifyingKey;
use parking_lot::Mutex;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};
use types::Place;

/// The file's name, beside the database of the log.
pub const HEADS_FILE: &str = "audit-heads.txt";
/// Where heads go that a person acknowledged as lost.
const SET_ASIDE: &str = "audit-heads.set-aside.txt";
/// The file is written anew with its newest heads when it is longer than this, in bytes: some 4,000 heads.
const MAX_BYTES: u64 = 1 << 20;
/// Heads that stay then.
const KEPT: usize = 256;
/// Ends a head in the file: no checkpoint has such a line.
const END: &str = "--";

/// The file.
pub struct Witness {
    path: PathBuf,
    origin: String,
    key: VerifyingKey,
    /// The length of the file, and the size of the largest head in it then.
    largest: Mutex<Option<(u64, u64)>>,
}

impl Witness {
    /// The file beside the database of a place's log, which its key signs.
    #[must_use]
    pub fn beside(database: &Path, place: &Place, key: VerifyingKey) -> Self {
        Self {
            path: database.with_file_name(HEADS_FILE),
            origin: origin(place),
            key,
            largest: Mutex::new(None),
        }
    }

    /// The name of this log.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key that signs this log.
    #[must_use]
    pub const fn key(&self) -> VerifyingKey {
        self.key
    }

    /// The head in a note, if this node's key signed it as one of this log.
    #[must_use]
    pub fn open(&self, note: &str) -> Option<TreeHead> {
        TreeHead::open(note, &self.origin, &self.key).ok()
    }

    /// The heads in the file, in the order in which they came. What this node did not sign is passed over: it proves
    /// nothing.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn heads(&self) -> io::Result<Vec<String>> {
        let heads = read(&self.path)?;
        Ok(heads
            .into_iter()
            .filter(|note| self.open(note).is_some())
            .collect())
    }

    /// Makes the file without any head, durably, before the first commit of a log. One that is there stays as it is.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(&self) -> io::Result<()> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        file.sync_all()?;
        sync_folder(&self.path)
    }

    /// Keeps the first head of a log that begins, if the file is there and holds none.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(&self, note: &str) -> io::Result<()> {
        let mut largest = self.largest.lock();
        if self.path.exists() && self.largest_in_file()?.is_none() && self.open(note).is_some() {
            *largest = None;
            self.append(note)?;
        }
        Ok(())
    }

    /// Keeps a head that a peer holds, durably, if it is newer than all in the file. A file that is gone, or holds no
    /// head, stays so: what was in it is lost, and that is to be found.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, note: &str) -> io::Result<()> {
        let mut largest = self.largest.lock();
        // Another process may have set heads aside.
        let before = match *largest {
            Some((length, size)) if length == self.length() => Some(size),
            _ => self.largest_in_file()?,
        };
        let Some(before) = before else {
            return Ok(());
        };
        *largest = Some((self.length(), before));
        // A signature is looked at of what is newer alone.
        if TreeHead::read(note).is_ok_and(|head| head.size > before)
            && let Some(head) = self.open(note)
        {
            *largest = None;
            self.append(note)?;
            *largest = Some((self.length(), head.size));
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// The size of the largest head in the file; none when it holds none, or is not there.
    fn largest_in_file(&self) -> io::Result<Option<u64>> {
        let notes = read(&self.path)?;
        let heads = notes.iter().filter_map(|note| self.open(note));
        Ok(heads.map(|head| head.size).max())
    }

    fn append(&self, note: &str) -> io::Result<()> {
        if self.length() > MAX_BYTES {
            let mut heads = self.heads()?;
            heads.drain(..heads.len().saturating_sub(KEPT));
            replace(&self.path, &heads)?;
        }
        append(&self.path, note)
    }

    /// A person knows that the log was put back: the heads that it does not hold are moved to a file of their own, which
    /// nobody reads by himself. How many.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn set_aside(&self, holds: impl Fn(&TreeHead) -> bool) -> io::Result<usize> {
        let mut largest = self.largest.lock();
        let (held, lost): (Vec<_>, Vec<_>) = self
            .heads()?
            .into_iter()
            .partition(|note| self.open(note).is_some_and(|head| holds(&head)));
        for note in &lost {
            append(&self.path.with_file_name(SET_ASIDE), note)?;
        }
        if !lost.is_empty() {
            replace(&self.path, &held)?;
        }
        *largest = None;
        Ok(lost.len())
    }
}

/// The heads of a file that one of these, or `medmesh audit heads`, wrote; or the one checkpoint that it holds.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Vec<String>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // What is no text is no head either.
    let text = String::from_utf8_lossy(&bytes);
    let ends = format!("\n{END}\n");
    // An end that was not written whole is written again: then there are two.
    let again = format!("{END}\n");
    let heads = text
        .split(&ends)
        .map(|note| note.trim_start_matches(&again).trim_end())
        .filter(|note| !note.is_empty());
    Ok(heads.map(|note| format!("{note}\n")).collect())
}

/// Heads as [`read`] reads them.
#[must_use]
pub fn written(heads: &[String]) -> String {
    heads.iter().map(|note| format!("{note}{END}\n")).collect()
}

fn append(path: &Path, note: &str) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)?;
    if is_torn(&mut file)? {
        file.write_all(format!("\n{END}\n").as_bytes())?;
    }
    file.write_all(written(&[note.to_owned()]).as_bytes())?;
    file.sync_all()?;
    if is_new { sync_folder(path) } else { Ok(()) }
}

/// Whether the last head of a file was not written whole: a power loss may end in the middle of one, and what is
/// written behind it would not be read.
fn is_torn(file: &mut File) -> io::Result<bool> {
    let end = format!("\n{END}\n");
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(false);
    }
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(end.len() as u64)))?;
    file.read_to_end(&mut last)?;
    Ok(last != end.as_bytes())
}

fn replace(path: &Path, heads: &[String]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(written(heads).as_bytes())?;
    file.sync_all()?;
    storage::file::rename(&new, path)
}

/// A name is durable when its folder is, and the file is its folder's owner's, whoever made it: a command that an
/// administrator runs leaves nothing that the node cannot open.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        Some(folder) => {
            storage::file::give(path, folder)?;
            File::open(folder)?.sync_all()
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[6; 32])
    }

    fn head(size: u64) -> String {
        let origin = "medmesh/global".to_owned();
        let root = [size as u8; 32];
        TreeHead { origin, size, root }.sign(&key())
    }

    fn witness(dir: &Path) -> Witness {
        Witness::beside(
            &dir.join("ledger.db"),
            &Place::Global,
            key().verifying_key(),
        )
    }

    #[test]
    fn a_head_that_a_peer_holds_is_kept_once_and_older_or_foreign_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let one = witness(dir.path());
        assert_eq!(one.heads().unwrap(), Vec::<String>::new());
        one.create().unwrap();
        one.begin(&head(3)).unwrap();
        for note in [
            head(3),
            head(2),
            head(3),
            head(9).replace('9', "8"),
            head(4),
        ] {
            one.keep(&note).unwrap();
        }
        assert_eq!(one.heads().unwrap(), [head(3), head(4)]);
        let again = witness(dir.path());
        again.keep(&head(4)).unwrap();
        assert_eq!(again.heads().unwrap().len(), 2);
    }

    #[test]
    fn a_file_that_is_gone_or_was_emptied_is_not_begun_anew_beside_a_log_that_has_grown() {
        let dir = tempfile::tempdir().unwrap();
        let one = witness(dir.path());
        one.begin(&head(1)).unwrap();
        one.keep(&head(2)).unwrap();
        assert!(!one.path.exists(), "it is made with its log alone");
        one.create().unwrap();
        one.keep(&head(2)).unwrap();
        assert_eq!(one.heads().unwrap(), Vec::<String>::new());
        one.begin(&head(2)).unwrap();
        one.begin(&head(3)).unwrap();
        one.keep(&head(4)).unwrap();
        assert_eq!(one.heads().unwrap(), [head(2), head(4)]);
        for emptied in [None, Some(&b""[..]), Some(&b"\xff\xfe\0 no text"[..])] {
            match emptied {
                None => fs::remove_file(&one.path).unwrap(),
                Some(bytes) => fs::write(&one.path, bytes).unwrap(),
            }
            for again in [&one, &witness(dir.path())] {
                again.keep(&head(5)).unwrap();
                assert_eq!(again.heads().unwrap(), Vec::<String>::new());
            }
        }
    }

    #[test]
    fn a_head_behind_one_that_was_not_written_whole_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let one = witness(dir.path());
        for torn in [&head(3)[..20], "-", "\n--"] {
            fs::write(&one.path, torn).unwrap();
            one.begin(&head(1)).unwrap();
            one.keep(&head(4)).unwrap();
            assert_eq!(one.heads().unwrap(), [head(1), head(4)]);
        }
    }

    #[test]
    fn heads_that_a_person_gave_up_are_set_aside_and_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let one = witness(dir.path());
        one.create().unwrap();
        one.begin(&head(3)).unwrap();
        one.keep(&head(7)).unwrap();
        assert_eq!(one.set_aside(|head| head.size < 5).unwrap(), 1);
        assert_eq!(one.heads().unwrap(), [head(3)]);
        assert_eq!(read(&dir.path().join(SET_ASIDE)).unwrap(), [head(7)]);
        one.keep(&head(5)).unwrap();
        assert_eq!(one.heads().unwrap().len(), 2);
    }

    #[test]
    fn the_file_stays_short_and_keeps_its_newest_heads() {
        let dir = tempfile::tempdir().unwrap();
        let one = witness(dir.path());
        let rubbish = (0..300).map(|n| format!("{n}{}\n", "x".repeat(4_096)));
        let many: Vec<String> = rubbish.chain([head(1), head(2)]).collect();
        replace(&one.path, &many).unwrap();
        one.keep(&head(3)).unwrap();
        assert_eq!(one.heads().unwrap(), [head(1), head(2), head(3)]);
        assert!(fs::metadata(&one.path).unwrap().len() < 4_096);
    }

    #[test]
    fn a_file_with_one_checkpoint_is_read_as_one_head() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head.txt");
        fs::write(&path, head(5)).unwrap();
        assert_eq!(read(&path).unwrap(), [head(5)]);
    }
}
