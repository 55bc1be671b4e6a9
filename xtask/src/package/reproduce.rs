//! `cargo xtask package --reproduce`: whether the same commit gives the same bytes. The program and its package are built twice,
//! each from a copy of the clone in a folder of another name and length, with nothing of an earlier build; what differs is
//! said with its place. It takes two release builds, one after the other, so it is no part of the suite.
use super::{epoch, pack, release};
use crate::place::Places;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs::{self, File},
    io::{BufReader, Read},
    path::{Path, PathBuf},
    process::Command,
};

/// The folders of the two builds: what keeps a path keeps one of these.
const FOLDERS: [&str; 2] = ["one", "another-one-with-a-longer-name"];

/// Builds the package twice, and says where both are, which are the same bytes.
pub fn twice(places: &Places) -> Result<[PathBuf; 2]> {
    let epoch = epoch(&places.root)?;
    let mut binaries = Vec::new();
    let mut packages = Vec::new();
    for folder in FOLDERS {
        let at = places.target.join("reproduce").join(folder);
        fs::remove_dir_all(&at).ok();
        let copy = Places {
            root: at.join("clone"),
            target: at.join("build"),
            cache: places.cache.clone(),
            data: None,
        };
        copy_clone(&places.root, &copy.root)?;
        let binary = release(&copy, &epoch)?;
        packages.push(pack(&copy, &binary, &at, &epoch)?);
        // A build takes gigabytes, and the other one is still to come.
        let kept = at.join("medmesh");
        fs::rename(&binary, &kept)?;
        fs::remove_dir_all(&copy.target)?;
        binaries.push(kept);
    }
    same(&binaries[0], &binaries[1])?;
    same(&packages[0], &packages[1])?;
    packages.try_into().ok().context("two packages")
}

/// Every file that git knows of, as it is now.
fn copy_clone(from: &Path, to: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(from)
        .output()
        .context("start git")?;
    ensure!(listed.status.success(), "{} is no clone", from.display());
    let names = String::from_utf8(listed.stdout).context("names of files")?;
    for name in names.split_terminator('\0') {
        let (file, copy) = (from.join(name), to.join(name));
        if !file.is_file() {
            continue;
        }
        fs::create_dir_all(copy.parent().unwrap_or(to))?;
        fs::copy(&file, &copy).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// Refuses two files that differ, with the first byte that does.
fn same(one: &Path, other: &Path) -> Result<()> {
    let open = |path: &Path| -> Result<_> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(BufReader::new(file).bytes())
    };
    let (mut left, mut right) = (open(one)?, open(other)?);
    for at in 0_u64.. {
        let (a, b) = (left.next().transpose()?, right.next().transpose()?);
        if a != b {
            bail!(
                "{} and {} differ from byte {at} on: this build keeps something of its machine, its folder or its time",
                one.display(),
                other.display()
            );
        }
        if a.is_none() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_differ_are_refused_with_the_place_and_a_longer_one_is_another() -> Result<()> {
        let dir = crate::run::temp_dir("reproduce")?;
        let file = |name: &str, bytes: &[u8]| -> Result<PathBuf> {
            let path = dir.join(name);
            fs::write(&path, bytes)?;
            Ok(path)
        };
        let (one, twin) = (file("one", b"abc")?, file("twin", b"abc")?);
        same(&one, &twin)?;
        for (name, bytes, at) in [
            ("byte", &b"abd"[..], "byte 2"),
            ("longer", b"abcd", "byte 3"),
            ("empty", b"", "byte 0"),
        ] {
            let said = same(&one, &file(name, bytes)?).unwrap_err().to_string();
            assert!(said.contains(at), "{name}: {said}");
        }
        fs::remove_dir_all(&dir)?;
        Ok(())
    }

    #[test]
    fn a_copy_of_the_clone_has_what_git_knows_and_nothing_else() -> Result<()> {
        let dir = crate::run::temp_dir("clone")?;
        let (from, to) = (dir.join("from"), dir.join("to"));
        fs::create_dir_all(from.join("deep"))?;
        let git = |arguments: &[&str]| -> Result<()> {
            let mut command = Command::new("git");
            let done = command.args(arguments).current_dir(&from).output()?;
            ensure!(done.status.success(), "git {arguments:?}: {done:?}");
            Ok(())
        };
        git(&["init", "--quiet"])?;
        fs::write(from.join("deep/known"), "as committed")?;
        git(&["add", "deep/known"])?;
        fs::write(from.join("deep/known"), "as it is now")?;
        fs::write(from.join("unknown"), "")?;
        copy_clone(&from, &to)?;
        assert_eq!(fs::read_to_string(to.join("deep/known"))?, "as it is now");
        assert_eq!(fs::read_dir(&to)?.count(), 1);
        fs::remove_dir_all(&dir)?;
        Ok(())
    }
}
