//! A new key and certificate in the place of those that a node has: two files that must fit each other, and a machine
//! that may stop between any two steps.
//!
//! Both are laid down beside the files in use, the certificate last: once it is there, the pair is complete and takes their
//! place, now or at the next start. Whoever reads the files puts a complete pair in place first ([`settle`]).
use super::{PkiError, files, write_private, write_public};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use types::Secret;

/// What a file is called until it takes the place of the one that is in use.
const NEXT: &str = "next";

/// The file beside a file.
fn next(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(NEXT);
    path.with_file_name(name)
}

/// Puts a new key and its certificate (PEM) in the place of those in `cert` and `key`, durable when this returns.
///
/// # Errors
/// When the folder cannot be written: the pair in use stays, or [`settle`] completes the change.
pub fn replace(
    (cert, key): (&Path, &Path),
    new_cert: &str,
    new_key: &Secret<String>,
) -> Result<(), PkiError> {
    // One of an attempt that ended before it was complete would make a pair with the key of this one.
    discard(&next(cert))?;
    write_private(&next(key), new_key)?;
    write_public(&next(cert), new_cert)?;
    settle(cert, key)
}

/// Completes a change that was begun, if its pair is complete. Whoever does so at the same time does no harm.
///
/// # Errors
/// When the folder cannot be written.
pub fn settle(cert: &Path, key: &Path) -> Result<(), PkiError> {
    if !next(cert).exists() {
        return Ok(());
    }
    take(&next(key), key)?;
    take(&next(cert), cert)
}

/// Gives a file its name, unless somebody just did.
fn take(from: &Path, to: &Path) -> Result<(), PkiError> {
    match storage::file::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PkiError::io(to, error)),
        _ => Ok(()),
    }
}

fn discard(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PkiError::io(path, error)),
        _ => Ok(()),
    }
}

/// A node's certificate and key as they are now (PEM).
///
/// # Errors
/// When one cannot be read, or others may read the key.
pub fn current(cert: &Path, key: &Path) -> Result<(String, Secret<String>), PkiError> {
    settle(cert, key)?;
    Ok((files::read(cert)?, files::read_private(key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: (&str, &str) = ("old certificate", "old key");
    const NEW: (&str, &str) = ("new certificate", "new key");

    fn key_of(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn bed() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = (dir.path().join("node.pem"), dir.path().join("node.key"));
        write_public(&cert, OLD.0).unwrap();
        write_private(&key, &key_of(OLD.1)).unwrap();
        (dir, cert, key)
    }

    fn pair(cert: &Path, key: &Path) -> (String, String) {
        let (cert, key) = current(cert, key).unwrap();
        (cert, key.reveal().clone())
    }

    fn text((cert, key): (&str, &str)) -> (String, String) {
        (cert.to_owned(), key.to_owned())
    }

    #[test]
    fn a_pair_takes_the_place_of_another_and_nothing_is_left_beside_it() {
        let (dir, cert, key) = bed();
        replace((&cert, &key), NEW.0, &key_of(NEW.1)).unwrap();
        assert_eq!(pair(&cert, &key), text(NEW));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_machine_that_stops_after_any_step_comes_back_with_a_pair_that_fits() {
        type Step = fn(&Path, &Path);
        let steps: [(Step, _); 4] = [
            (
                |_, key| write_private(&next(key), &key_of(NEW.1)).unwrap(),
                OLD,
            ),
            (|cert, _| write_public(&next(cert), NEW.0).unwrap(), NEW),
            (|_, key| take(&next(key), key).unwrap(), NEW),
            (|cert, _| take(&next(cert), cert).unwrap(), NEW),
        ];
        for stopped in 0..=steps.len() {
            let (_dir, cert, key) = bed();
            for (step, _) in &steps[..stopped] {
                step(&cert, &key);
            }
            let expected = stopped.checked_sub(1).map_or(OLD, |last| steps[last].1);
            assert_eq!(pair(&cert, &key), text(expected), "after {stopped} steps");
            // What was left of it is in nobody's way.
            replace((&cert, &key), "third certificate", &key_of("third key")).unwrap();
            let third = text(("third certificate", "third key"));
            assert_eq!(pair(&cert, &key), third, "after {stopped} steps");
        }
    }
}
