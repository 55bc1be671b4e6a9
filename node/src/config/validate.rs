//! What is checked of a configuration beyond its shape: files that exist, ports that differ.
use std::{fmt, path::Path};

/// One thing wrong in a configuration. It never quotes a value: configurations name patients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The key, such as `tls.cert` or `devices[2].id`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    /// A problem of a key.
    #[must_use]
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// A configuration that knows what is wrong with it.
pub trait Validate {
    /// Everything that is wrong, not only the first thing.
    fn problems(&self) -> Vec<Problem>;
}

/// The problems of a part, with their paths below `key`.
#[must_use]
pub fn within(key: &str, part: &impl Validate) -> Vec<Problem> {
    let below = |problem: Problem| Problem {
        path: if problem.path.is_empty() {
            key.to_owned()
        } else {
            format!("{key}.{}", problem.path)
        },
        ..problem
    };
    part.problems().into_iter().map(below).collect()
}

/// A problem unless `path` is a file that can be read.
#[must_use]
pub fn file(key: &str, path: &Path) -> Option<Problem> {
    match std::fs::File::open(path).and_then(|file| file.metadata()) {
        Ok(found) if found.is_file() => None,
        Ok(_) => Some(Problem::new(
            key,
            format!("{} is not a file", path.display()),
        )),
        Err(error) => Some(Problem::new(key, format!("{}: {error}", path.display()))),
    }
}

/// A problem unless `path` is a directory.
#[must_use]
pub fn directory(key: &str, path: &Path) -> Option<Problem> {
    (!path.is_dir()).then(|| Problem::new(key, format!("{} is not a directory", path.display())))
}

/// A problem unless `path` is a file that its owner alone can read.
#[must_use]
pub fn secret_file(key: &str, path: &Path) -> Option<Problem> {
    use std::os::unix::fs::PermissionsExt;
    /// Read, write and execute of group and others.
    const OTHERS: u32 = 0o077;

    if let Some(problem) = file(key, path) {
        return Some(problem);
    }
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & OTHERS != 0).then(|| {
        Problem::new(
            key,
            format!("{0} can be read by others: chmod 600 {0}", path.display()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_secret_that_others_can_read_is_a_problem() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert!(secret_file("key", &path).is_some(), "missing");
        fs::write(&path, "x").unwrap();
        for (mode, refused) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret_file("key", &path).is_some(), refused, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_is_not_a_file_and_a_file_is_not_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        assert!(file("k", dir.path()).is_some());
        assert!(file("k", &path).is_none());
        assert!(directory("k", &path).is_some());
        assert!(directory("k", dir.path()).is_none());
    }
}
