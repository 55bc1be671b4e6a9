//! The disk of a simulated node: a folder in memory, copied whole when the node is killed, backed up or put back.
//!
//! A node is killed by copying its folder while nothing is written, and opening the copy: what the product made
//! durable is in it, what it held in memory is not. What a disk loses that was written and not synced is another
//! test's matter (the store's own tests of faults).
use anyhow::{Context, Result};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};
use storage::fault::Room;
use tempfile::TempDir;
use tokio::sync::Mutex;

/// A file system in memory, where there is one: an fsync costs nothing there.
const MEMORY: &str = "/dev/shm";

/// A folder for simulated disks, gone when it is dropped.
///
/// # Errors
/// There is no room for one.
pub fn folder() -> Result<TempDir> {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let usable = tempfile::tempdir_in(MEMORY).is_ok();
        if usable {
            MEMORY.into()
        } else {
            std::env::temp_dir()
        }
    });
    Ok(tempfile::Builder::new()
        .prefix("medmesh-sim-")
        .tempdir_in(base)?)
}

/// Disks of nodes that were set up and never used, by place: made once, as that takes longer than a line.
pub struct Templates {
    folder: TempDir,
    made: Mutex<BTreeSet<String>>,
}

impl Templates {
    /// None yet.
    ///
    /// # Errors
    /// There is no room for any.
    pub fn new() -> Result<Self> {
        Ok(Self {
            folder: folder()?,
            made: Mutex::default(),
        })
    }

    /// The disk of a place.
    ///
    /// # Errors
    /// The node does not start on an empty disk.
    pub async fn of(
        &self,
        place: &str,
        set_up: impl AsyncFnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let dir = self.folder.path().join(place.replace('/', "-"));
        let mut made = self.made.lock().await;
        if made.insert(place.to_owned()) {
            fs::create_dir_all(&dir)?;
            set_up(&dir).await?;
        }
        Ok(dir)
    }
}

/// The disk of one node.
pub struct Disk {
    root: PathBuf,
    /// Folders made so far.
    made: u32,
    /// What the node works on.
    pub now: PathBuf,
    /// Copies, the oldest first.
    pub copies: Vec<PathBuf>,
    /// Whether there is room on it.
    pub room: Room,
}

impl Disk {
    /// A disk below `root` with the files of a template.
    ///
    /// # Errors
    /// The files cannot be copied.
    pub fn of(root: PathBuf, template: &Path) -> Result<Self> {
        let mut disk = Self {
            now: root.join("0"),
            room: Room::of(&root),
            root,
            made: 0,
            copies: Vec::new(),
        };
        disk.now = disk.clone_of(template, |_| true)?;
        Ok(disk)
    }

    /// Makes a copy.
    ///
    /// # Errors
    /// As [`Disk::of`].
    pub fn copy(&mut self) -> Result<()> {
        let copy = self.clone_of(&self.now.clone(), |_| true)?;
        self.copies.push(copy);
        Ok(())
    }

    /// The disk as it is, in another folder: whoever still has the old one open does no harm.
    ///
    /// # Errors
    /// As [`Disk::of`].
    pub fn cut(&mut self) -> Result<()> {
        self.now = self.clone_of(&self.now.clone(), |_| true)?;
        Ok(())
    }

    /// Puts the files whose name begins with `prefix` back to a copy, numbered from the newest; false when there is
    /// no copy.
    ///
    /// # Errors
    /// As [`Disk::of`].
    pub fn restore(&mut self, back: usize, prefix: &str) -> Result<bool> {
        let Some(at) = self.copies.len().checked_sub(back + 1) else {
            return Ok(false);
        };
        let copy = self.copies[at].clone();
        let next = self.clone_of(&copy, |name| name.starts_with(prefix))?;
        copy_into(&self.now, &next, |name| !name.starts_with(prefix))?;
        self.now = next;
        Ok(true)
    }

    fn clone_of(&mut self, from: &Path, which: impl Fn(&str) -> bool) -> Result<PathBuf> {
        self.made += 1;
        let to = self.root.join(self.made.to_string());
        fs::create_dir_all(&to)?;
        copy_into(from, &to, which)?;
        Ok(to)
    }
}

/// The shared index of a log is memory, not disk.
fn copy_into(from: &Path, to: &Path, which: impl Fn(&str) -> bool) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_str().context("a file name")?;
        if !text.ends_with("-shm") && which(text) {
            fs::write(to.join(&name), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
