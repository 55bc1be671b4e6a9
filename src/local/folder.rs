//! The folder of a mesh: a mark that it is one, locks, and a file of every process that was started.
use super::process::Process;
use crate::up::{files, plan::Plan};
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::ErrorKind,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A folder without this file is none of ours: nothing in it is touched.
const MARK: &str = "local.json";
/// What the mark says.
const MARKED: &[u8] = b"{\"made_by\": \"medmesh local install\"}\n";
/// Held shared by every start, alone by the end of the mesh.
pub const STARTS: &str = "starts.lock";

/// A mesh's folder.
pub struct Folder(PathBuf);

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its process id.
    pub pid: u32,
    /// The token of its start.
    pub token: String,
    /// How often it was found dead before.
    pub restarts: u64,
    /// Its configuration.
    pub config: PathBuf,
    /// The program that it runs.
    pub binary: PathBuf,
}

impl Run {
    /// What it is found by.
    pub fn process(&self) -> Process {
        Process {
            pid: self.pid,
            config: self.config.clone(),
        }
    }
}

impl Folder {
    /// Makes the folder. One that holds anything else is refused.
    pub fn make(dir: &Path) -> Result<Self> {
        let at = || dir.display().to_string();
        ensure!(dir.is_absolute(), "{}: not an absolute path", at());
        storage::file::private_dir(dir).with_context(at)?;
        let mark = dir.join(MARK);
        if !mark.exists() {
            let empty = fs::read_dir(dir).with_context(at)?.next().is_none();
            ensure!(empty, "{}: holds something else than a mesh", at());
            files::replace(&mark, MARKED)?;
        }
        fs::create_dir_all(dir.join("run")).with_context(at)?;
        Self::open(dir)
    }

    /// The folder of a mesh.
    pub fn open(dir: &Path) -> Result<Self> {
        match Self::open_if_there(dir)? {
            Some(folder) => Ok(folder),
            None => bail!("{}: there is no mesh", dir.display()),
        }
    }

    /// The folder of a mesh; none when there is nothing.
    pub fn open_if_there(dir: &Path) -> Result<Option<Self>> {
        match fs::read(dir.join(MARK)) {
            Ok(mark) if mark == MARKED => Ok(Some(Self(dir.canonicalize()?))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Ok(_) => bail!("{}: made by something else", dir.join(MARK).display()),
            Err(error) => Err(error).with_context(|| dir.join(MARK).display().to_string()),
        }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Where things lie in it: as in a folder of `medmesh up`, without its regions.
    pub fn plan(&self) -> Plan {
        Plan {
            dir: self.0.clone(),
            regions: Vec::new(),
            pairs: false,
        }
    }

    /// A path that has to be in the folder.
    pub fn inside(&self, path: &Path) -> Result<PathBuf> {
        let rest = path.strip_prefix(&self.0).ok();
        let plain = |rest: &&Path| {
            rest.components()
                .all(|one| matches!(one, std::path::Component::Normal(_)))
        };
        match rest.filter(plain) {
            Some(rest) => Ok(self.0.join(rest)),
            None => bail!("{}: not in {}", path.display(), self.0.display()),
        }
    }

    /// Waits until nobody else holds a lock, and holds it.
    pub fn alone(&self, lock: &str) -> Result<File> {
        let file = self.lock_file(lock)?;
        file.lock().with_context(|| lock.to_owned())?;
        Ok(file)
    }

    /// Holds back the end of the mesh.
    pub fn open_to_starts(&self) -> Result<File> {
        let file = self.lock_file(STARTS)?;
        file.lock_shared().context(STARTS)?;
        // It may have ended while this waited.
        Self::open(&self.0)?;
        Ok(file)
    }

    fn lock_file(&self, lock: &str) -> Result<File> {
        let path = self.0.join(lock);
        File::create(&path).with_context(|| path.display().to_string())
    }

    /// Where a process finds its program: a link, so that a process that goes on as another program finds the new one.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.join("programs").join(name)
    }

    /// Lets a process find this program.
    pub fn point(&self, name: &str, binary: &Path) -> Result<()> {
        let link = self.program(name);
        let at = || link.display().to_string();
        fs::create_dir_all(self.0.join("programs")).with_context(at)?;
        let beside = link.with_extension("new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(at);
            }
            _ => {}
        }
        symlink(binary, &beside).with_context(at)?;
        storage::file::rename(&beside, &link).with_context(at)
    }

    /// What was started under a name.
    pub fn run(&self, name: &str) -> Result<Option<Run>> {
        let path = self.run_file(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)
                .map(Some)
                .with_context(|| path.display().to_string())?),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Notes what was started.
    pub fn note(&self, name: &str, run: &Run) -> Result<()> {
        files::replace(&self.run_file(name), &serde_json::to_vec(run)?)
    }

    /// Forgets what was stopped.
    pub fn forget(&self, name: &str) -> Result<()> {
        let path = self.run_file(name);
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    fn run_file(&self, name: &str) -> PathBuf {
        self.0.join("run").join(format!("{name}.json"))
    }
}

/// A name that can be a file's.
pub fn file_name(name: &str) -> Result<&str> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        !name.is_empty() && name.len() <= 64 && name.chars().all(good),
        "name: {name:?} is not of 1 to 64 characters of a-z, 0-9 and '-'"
    );
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_something_else_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(Folder::make(dir.path()).is_err());
        assert!(Folder::open(dir.path()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let own = dir.path().join("mesh");
        Folder::make(&own).unwrap();
        Folder::make(&own).unwrap();
        fs::write(own.join(MARK), "{}").unwrap();
        assert!(Folder::open_if_there(&own).is_err());
    }

    #[test]
    fn a_path_that_leads_out_of_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(&dir.path().canonicalize().unwrap().join("mesh")).unwrap();
        let at = |rest: &str| folder.inside(&folder.dir().join(rest));
        assert!(at("bin/medmesh-1").is_ok());
        assert!(at("../medmesh").is_err());
        assert!(folder.inside(Path::new("/usr/bin/medmesh")).is_err());
        for name in ["", "a/b", "..", "A", &"a".repeat(65)] {
            assert!(file_name(name).is_err(), "{name}");
        }
        assert!(file_name("edge-charite-berlin").is_ok());
    }

    #[test]
    fn a_process_finds_the_program_that_was_pointed_to_last() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(&dir.path().join("mesh")).unwrap();
        for binary in ["/m/bin/medmesh-1", "/m/bin/medmesh-2"] {
            folder.point("edge-a", Path::new(binary)).unwrap();
            let found = fs::read_link(folder.program("edge-a")).unwrap();
            assert_eq!(found, Path::new(binary));
        }
    }

    #[test]
    fn what_was_noted_of_a_process_is_read_again_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::make(&dir.path().join("mesh")).unwrap();
        let run = Run {
            pid: 7,
            token: "t".into(),
            restarts: 1,
            config: "/m/edge.toml".into(),
            binary: "/m/bin/medmesh".into(),
        };
        folder.note("a", &run).unwrap();
        assert_eq!(folder.run("a").unwrap(), Some(run));
        folder.forget("a").unwrap();
        assert_eq!(folder.run("a").unwrap(), None);
    }
}
