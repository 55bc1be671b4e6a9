//! A copy of a file whose pages are in the region's PostgreSQL, and how it becomes the file of this node.
use federation::audit::witness::{HEADS_FILE, read, written};
use fhir::{
    postgres::{Pair, Shape},
    store::StoreError,
};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};
use storage::file;

/// A copy that follows.
pub(super) struct Copied {
    name: &'static str,
    path: PathBuf,
    file: File,
    /// Changes that it has; none while the file is not kept.
    number: Option<i64>,
}

impl Copied {
    /// An empty one, in place of any that was there: a process that ended may have left half of a change.
    pub(super) fn begin(standby: &Path, name: &'static str) -> io::Result<Self> {
        file::private_dir(standby)?;
        let path = standby.join(name);
        let mut open = OpenOptions::new();
        let file = open.create(true).truncate(true).write(true).open(&path)?;
        Ok(Self {
            name,
            path,
            file,
            number: None,
        })
    }

    /// Whether the file is kept.
    pub(super) const fn is_there(&self) -> bool {
        self.number.is_some()
    }

    /// Takes over what changed since the last time. When it fails in the middle, the next time takes all of that again; and
    /// all there is where fewer changes are there: a standby was promoted that had not received what is here.
    pub(super) async fn catch_up(&mut self, pair: &Pair) -> Result<(), StoreError> {
        loop {
            let file = &self.file;
            let mut write = |shape: Shape, page: u32, bytes: &[u8]| {
                let at = u64::from(page.saturating_sub(1)) * u64::from(shape.page_bytes);
                file.write_all_at(bytes, at)
            };
            let since = self.number.unwrap_or(0);
            let found = pair.changed_since(self.name, since, &mut write).await?;
            if found.map_or(0, |shape| shape.number) < since {
                self.number = None;
                continue;
            }
            if let Some(shape) = found.filter(|shape| Some(shape.number) != self.number) {
                let length = u64::from(shape.pages) * u64::from(shape.page_bytes);
                self.file.set_len(length).map_err(|error| StoreError {
                    kind: fhir::store::Kind::Unavailable,
                    op: "copy pages",
                    source: Some(Box::new(error)),
                })?;
                self.number = Some(shape.number);
            }
            return Ok(());
        }
    }

    /// Becomes the file of this node, durably, in place of the one that is there. One that is not kept is left as it is.
    pub(super) fn place(self, data_dir: &Path) -> io::Result<()> {
        if self.number.is_none() {
            return fs::remove_file(&self.path);
        }
        self.file.sync_all()?;
        for log in ["-wal", "-shm"] {
            match fs::remove_file(data_dir.join(format!("{}{log}", self.name))) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        file::rename(&self.path, &data_dir.join(self.name))
    }
}

/// Puts the heads that the other node has kept before those that this one has: none of either may be lost.
pub(super) fn heads(data_dir: &Path, kept: &[u8]) -> io::Result<()> {
    let path = data_dir.join(HEADS_FILE);
    let theirs = path.with_extension("kept");
    file::replace(&theirs, kept, file::PRIVATE)?;
    let mut heads = read(&theirs)?;
    let own = read(&path)?;
    heads.extend(
        own.into_iter()
            .filter(|own| !heads.contains(own))
            .collect::<Vec<_>>(),
    );
    file::replace(&path, written(&heads).as_bytes(), file::PRIVATE)?;
    fs::remove_file(theirs)
}
