//! What a command works in until it is done: a file or a folder that goes away with the command. What one left behind that was
//! killed, the next one of its kind takes away: nobody holds its lock.
use anyhow::{Context, Result, ensure};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use storage::file::PRIVATE;

/// A file or a folder that is there until this is dropped, unless it got another name.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Says that somebody works in it.
    lock: File,
}

impl Scratch {
    /// A folder for this user alone, in a folder that is there; `before` and `after` say of which kind it is.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(within: &Path, (before, after): (&str, &str)) -> Result<Self> {
        Self::make(within, (before, after), |path| {
            fs::DirBuilder::new().mode(0o700).create(path)?;
            File::open(path)
        })
    }

    /// A file for this user alone, as [`Self::folder`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(within: &Path, (before, after): (&str, &str)) -> Result<Self> {
        Self::make(within, (before, after), |path| {
            let mut open = OpenOptions::new();
            open.write(true).create_new(true).mode(PRIVATE).open(path)
        })
    }

    fn make(
        within: &Path,
        (before, after): (&str, &str),
        make: impl FnOnce(&Path) -> std::io::Result<File>,
    ) -> Result<Self> {
        clear(within, before, after);
        let path = within.join(format!("{before}{}{after}", std::process::id()));
        let made = make(&path).with_context(|| path.display().to_string())?;
        let scratch = Self { path, lock: made };
        let locked = scratch.lock.lock();
        let at = || scratch.path.display().to_string();
        locked.with_context(at)?;
        // Another command may have taken it for one that was left, before it was locked.
        let (named, held) = (fs::symlink_metadata(&scratch.path), scratch.lock.metadata());
        let is_named = named.is_ok_and(|named| held.is_ok_and(|held| named.ino() == held.ino()));
        ensure!(is_named, "{}: was taken away meanwhile: try again", at());
        Ok(scratch)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of a file: to write it.
    ///
    /// # Errors
    /// When the process has too many files open.
    pub fn writer(&self) -> Result<File> {
        let at = || self.path.display().to_string();
        self.lock.try_clone().with_context(at)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Takes away what others of a kind left. What cannot be looked at stays: it is in nobody's way.
fn clear(within: &Path, before: &str, after: &str) {
    for entry in fs::read_dir(within).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let number = name.strip_prefix(before)?.strip_suffix(after)?;
            number.parse::<u32>().ok()
        });
        let kind = entry.file_type();
        let is_ours = kind.is_ok_and(|kind| kind.is_dir() || kind.is_file());
        let is_left = || File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if number.is_some() && is_ours && is_left() {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    let _another_name = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: (&str, &str) = (".us-f1.", ".tmp");

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_command_left_goes_with_the_next_one_and_what_is_in_use_or_anothers_stays() {
        let dir = tempfile::tempdir().unwrap();
        // Of a command that lives: its lock is held.
        let other = dir.path().join(".us-f1.4294967295.tmp");
        fs::create_dir(&other).unwrap();
        let held = File::open(&other).unwrap();
        held.lock().unwrap();
        for left in [".us-f1.4294967294.tmp", ".us-f1.4294967293.tmp/deep"] {
            fs::create_dir_all(dir.path().join(left)).unwrap();
        }
        fs::write(dir.path().join(".us-f1.7.tmp"), "a key").unwrap();
        let strangers = [".us-f1.x.tmp", ".us-f2.7.tmp", "us-f1.backup"];
        for stranger in strangers {
            fs::write(dir.path().join(stranger), "").unwrap();
        }
        let folder = Scratch::folder(dir.path(), KIND).unwrap();
        fs::write(folder.path().join("key"), "another").unwrap();
        let own = format!(".us-f1.{}.tmp", std::process::id());
        let mut expected = vec![own, ".us-f1.4294967295.tmp".to_owned()];
        expected.extend(strangers.map(str::to_owned));
        expected.sort();
        assert_eq!(names(dir.path()), expected);
        drop(folder);
        assert_eq!(names(dir.path()).len(), 4);
    }

    #[test]
    fn a_file_goes_away_unless_it_got_another_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = Scratch::file(dir.path(), KIND).unwrap();
        assert!(Scratch::file(dir.path(), KIND).is_err(), "one at a time");
        fs::hard_link(file.path(), dir.path().join("kept")).unwrap();
        drop(file);
        assert_eq!(names(dir.path()), ["kept"]);
    }
}
