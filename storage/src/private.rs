//! What is nobody else's business on a machine with several users: data directories 0700, files in them 0600.
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// What a node takes from the mode of every file and directory that it makes: all of group and others.
const UMASK: u32 = 0o077;
/// Directories below a data directory that are looked into: none of ours is as deep.
const MAX_DEPTH: usize = 8;

/// From now on whatever this process makes is its owner's alone (umask(2)). Call it once, before any other thread.
pub fn make_private() {
    #[expect(unsafe_code, reason = "a system call without arguments in memory")]
    // SAFETY: umask(2) always succeeds and touches no memory.
    unsafe {
        libc::umask(UMASK as libc::mode_t);
    }
}

/// Makes a data directory, and takes from it and from everything in it what group and others may do: an earlier
/// version made files wider. Links are left alone.
///
/// # Errors
/// When it cannot be made, or something in it is another user's.
pub fn claim(dir: &Path) -> io::Result<()> {
    claim_except(dir, &|_| false)
}

/// As [`claim`], but for the files for which `open` is true: an authority's certificate.
///
/// # Errors
/// As [`claim`].
pub fn claim_except(dir: &Path, open: &dyn Fn(&Path) -> bool) -> io::Result<()> {
    crate::file::private_dir(dir)?;
    narrow(dir)?;
    walk(dir, open, MAX_DEPTH)
}

fn walk(dir: &Path, open: &dyn Fn(&Path) -> bool, depth: usize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        let done = if kind.is_dir() && depth > 0 {
            narrow(&path).and_then(|()| walk(&path, open, depth - 1))
        } else if kind.is_file() && !open(&path) {
            narrow(&path)
        } else {
            Ok(())
        };
        match done {
            // A log or a temporary file that another process removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        }
    }
    Ok(())
}

/// What in a data directory, itself among it, others than its owner may use: at most `limit` paths.
///
/// # Errors
/// When something cannot be looked at.
pub fn wide(dir: &Path, limit: usize) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![(dir.to_owned(), 0)];
    while let Some((path, depth)) = left.pop() {
        let about = match fs::symlink_metadata(&path) {
            Ok(about) => about,
            // A temporary file that another process removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound && depth > 0 => continue,
            Err(error) => return Err(error),
        };
        if about.is_symlink() || found.len() == limit {
            continue;
        }
        if about.permissions().mode() & 0o7777 & UMASK != 0 {
            found.push(path.clone());
        }
        if about.is_dir() && depth < MAX_DEPTH {
            for entry in fs::read_dir(&path)? {
                left.push((entry?.path(), depth + 1));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Only what is too wide is changed, so that a file of another user that is private already is no error.
fn narrow(path: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(path)?.permissions().mode() & 0o7777;
    if mode & UMASK == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !UMASK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn an_existing_directory_and_everything_in_it_is_narrowed_but_for_what_others_must_read() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let deep = data.join("pki/deep");
        fs::create_dir_all(&deep).unwrap();
        let files = ["store.db", "pki/ca.pem", "pki/deep/key"];
        for file in files {
            fs::write(data.join(file), "x").unwrap();
            fs::set_permissions(data.join(file), Permissions::from_mode(0o664)).unwrap();
        }
        for dir in [&data, &deep] {
            fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        }
        claim_except(&data, &|path| path.ends_with("ca.pem")).unwrap();
        let modes = files.map(|file| mode(&data.join(file)));
        assert_eq!(modes, [0o600, 0o664, 0o600]);
        assert_eq!([mode(&data), mode(&deep)], [0o700, 0o700]);
        claim(&data).unwrap();
        assert_eq!(mode(&data.join("pki/ca.pem")), 0o600);
    }

    #[test]
    fn what_others_may_use_is_named_however_deep_and_links_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        claim(&data).unwrap();
        fs::create_dir(data.join("deep")).unwrap();
        for (file, mode) in [("store.db", 0o600), ("deep/key", 0o640)] {
            fs::write(data.join(file), "x").unwrap();
            fs::set_permissions(data.join(file), Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(data.join("deep"), Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", data.join("link")).unwrap();
        assert_eq!(wide(&data, 9).unwrap(), [data.join("deep/key")]);
        claim(&data).unwrap();
        assert!(wide(&data, 9).unwrap().is_empty());
        assert!(wide(&dir.path().join("gone"), 9).is_err());
    }

    #[test]
    fn a_directory_that_is_not_there_is_made_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        claim(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
    }
}
