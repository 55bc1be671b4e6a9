//! What is looked for in the bytes of a program: paths of the machine that built it, which nobody else has, and the version
//! of the C library that it needs.
use anyhow::{Context, Result, ensure};
use std::{fs, os::unix::ffi::OsStrExt, path::Path};

/// Before the versions of the C library's functions that a program was linked with.
const LIBC: &[u8] = b"GLIBC_2.";

/// Refuses a program in which one of these paths stands, each with what was to stand there instead.
pub fn no_path(binary: &Path, paths: &[(&Path, &str)]) -> Result<()> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    for (path, instead) in paths {
        // One that is called like that is no path of this machine alone.
        if *path == Path::new(instead) {
            continue;
        }
        let found = all(&bytes, path.as_os_str().as_bytes()).find(|at| begins(&bytes, *at));
        ensure!(
            found.is_none(),
            "{} knows the path {} of this machine, at byte {}",
            binary.display(),
            path.display(),
            found.unwrap_or_default()
        );
    }
    Ok(())
}

/// The dependency of a package with this program: from the newest version of the C library on of which it needs something.
pub fn libc(binary: &Path) -> Result<String> {
    let bytes = fs::read(binary).with_context(|| binary.display().to_string())?;
    let versions = all(&bytes, LIBC).filter_map(|at| {
        let digits = bytes.get(at + LIBC.len()..)?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let text = std::str::from_utf8(digits.get(..end)?).ok()?;
        text.parse::<u32>().ok()
    });
    let newest = versions.max();
    Ok(newest.map_or_else(
        || "libc6".to_owned(),
        |minor| format!("libc6 (>= 2.{minor})"),
    ))
}

/// Where some bytes stand in others.
fn all<'a>(bytes: &'a [u8], words: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let starts = bytes.windows(words.len().max(1)).enumerate();
    starts.filter_map(move |(at, window)| (window == words).then_some(at))
}

/// Whether a path that stands there begins there: `/etc/medmesh` is no path below `/medmesh`.
fn begins(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|before| bytes.get(before));
    before.is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"._-".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_the_machine_is_found_wherever_it_stands_and_a_longer_one_is_none() -> Result<()> {
        let dir = crate::run::temp_dir("inside")?;
        let file = dir.join("program");
        let look = |bytes: &[u8], path: &str, instead: &str| -> Result<()> {
            fs::write(&file, bytes)?;
            no_path(&file, &[(Path::new(path), instead)])
        };
        look(
            b"/target/release/out/a.rs\0/etc/medmesh/a",
            "/medmesh",
            "/src",
        )?;
        look(b"MODULESDIR: \"/src/a\"", "/src", "/src")?;
        let said = look(b"\0MODULESDIR: \"/builds/me/x\"", "/builds/me", "/src");
        let said = said.unwrap_err().to_string();
        assert!(
            said.ends_with("/builds/me of this machine, at byte 14"),
            "{said}"
        );
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn a_package_needs_the_newest_version_of_the_c_library_that_its_program_does() -> Result<()> {
        let dir = crate::run::temp_dir("libc")?;
        let file = dir.join("program");
        for (bytes, needs) in [
            (&b"#!/bin/sh\n"[..], "libc6"),
            (
                b"\0GLIBC_2.9\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE\0",
                "libc6 (>= 2.34)",
            ),
        ] {
            fs::write(&file, bytes)?;
            assert_eq!(libc(&file)?, needs);
        }
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
