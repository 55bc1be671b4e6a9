//! What a disk can still do: its room, and how long it takes to make something durable.
use crate::file::PRIVATE;
use std::{
    ffi::CString,
    fs::{self, OpenOptions},
    io::{self, Write},
    mem::MaybeUninit,
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::Path,
    time::{Duration, Instant},
};

/// Bytes that are made durable to see how long it takes: a page.
const PROBE_BYTES: usize = 4_096;

/// Room of the file system that a path is on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What this user may still write.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

/// The room of the file system that holds `path` (statvfs(3)).
///
/// # Errors
/// When the path is not there.
pub fn room(path: &Path) -> io::Result<Room> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut said = MaybeUninit::<libc::statvfs>::zeroed();
    #[expect(unsafe_code, reason = "a system call that fills a structure")]
    // SAFETY: the name ends with 0, and the structure is ours and as large as the call expects.
    let (done, said) = unsafe {
        let done = libc::statvfs(name.as_ptr(), said.as_mut_ptr());
        (done, said.assume_init())
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Room {
        free: said.f_bavail.saturating_mul(said.f_frsize),
        total: said.f_blocks.saturating_mul(said.f_frsize),
    })
}

/// How long a page takes to become durable in a directory. Nothing is left behind.
///
/// # Errors
/// When nothing can be written there, or the disk does not make it durable.
pub fn sync_time(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".probe-{}.tmp", std::process::id()));
    let probed = probe(&path);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => probed.and(Err(error)),
        _ => probed,
    }
}

fn probe(path: &Path) -> io::Result<Duration> {
    let mut open = OpenOptions::new();
    let mut file = open.write(true).create_new(true).mode(PRIVATE).open(path)?;
    file.write_all(&[0; PROBE_BYTES])?;
    let begun = Instant::now();
    file.sync_all()?;
    Ok(begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_says_its_room_and_a_probe_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let said = room(dir.path()).unwrap();
        assert!(said.free <= said.total && said.total > 0, "{said:?}");
        sync_time(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let gone = dir.path().join("gone");
        assert!(room(&gone).is_err());
        assert!(sync_time(&gone).is_err());
    }
}
