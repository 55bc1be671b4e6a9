//! Puts a backup back: all of it into a folder that is not there yet, where it is looked at, and from there to its place.
use super::{
    archive,
    manifest::{self, Engine, Manifest, encrypted, is_database},
    paths,
    seal::{Opener, Passphrase},
};
use crate::{
    command::nodes::{self, Node},
    scratch::Scratch,
};
use anyhow::{Context, Result, anyhow, ensure};
use federation::{
    audit::{Log, Signer, witness::Witness},
    pki::load_signing_key,
    restored,
};
use regional::numbering::Numbering;
use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};
use storage::file::{self, PRIVATE, private_dir};
use toml::Table;
use types::{Place, Timestamp};

/// A backup in a folder of its own.
pub struct Stage {
    /// The folder.
    pub dir: PathBuf,
    /// What it is of.
    pub manifest: Manifest,
    /// The node, by a configuration that names what is in the folder.
    pub node: Node,
}

impl Stage {
    /// The configuration in the folder.
    fn config(&self) -> PathBuf {
        self.dir.join(config_name(&self.node.here))
    }
}

fn config_name(here: &Place) -> String {
    format!("{}.toml", here.tier())
}

/// Opens a backup into a folder, which is made.
///
/// # Errors
/// It is none, of another passphrase, damaged, of a newer version, or of a configuration that no longer holds.
pub fn extract(file: &Path, passphrase: &Passphrase, to: &Path) -> Result<Stage> {
    let opened = File::open(file).with_context(|| file.display().to_string())?;
    let clear = Opener::new(BufReader::new(opened), passphrase);
    let clear = clear.with_context(|| file.display().to_string())?;
    private_dir(to)?;
    archive::extract(clear, to).with_context(|| file.display().to_string())?;
    let said = fs::read(to.join(manifest::NAME)).context("it does not say what it is of")?;
    let manifest: Manifest = serde_json::from_slice(&said).context(manifest::NAME)?;
    ensure!(
        manifest.format == manifest::FORMAT,
        "{}: has layout {}, this program knows {}",
        file.display(),
        manifest.format,
        manifest::FORMAT
    );
    let place: Place = manifest.place.parse().context("its place")?;
    // A node that had not run has no data, and a folder that is named may be empty.
    private_dir(&to.join(manifest::DATA))?;
    for number in 0..manifest.named.len() {
        let named = to.join(manifest::NAMED).join(number.to_string());
        if !named.exists() {
            private_dir(&named)?;
        }
    }
    let config = to.join(config_name(&place));
    let text = configuration(to, &manifest, to)?;
    file::replace(&config, text.as_bytes(), PRIVATE)?;
    let node = nodes::checked(&config)?;
    ensure!(node.here == place, "its configuration is of {}", node.here);
    Ok(Stage {
        dir: to.to_owned(),
        manifest,
        node,
    })
}

/// The configuration of a backup in a folder, with the paths that it has when that folder is `there`.
fn configuration(dir: &Path, manifest: &Manifest, there: &Path) -> Result<String> {
    let there = std::path::absolute(there)?;
    let table: Table = fs::read_to_string(dir.join(manifest::CONFIG))?.parse()?;
    let data = Path::new(&manifest.data_dir);
    let moved = paths::exchange(&table, &|text| {
        let named = manifest.named.iter().position(|named| named == text);
        let to = match named {
            Some(number) => there.join(manifest::NAMED).join(number.to_string()),
            None => {
                let below = Path::new(text).strip_prefix(data).ok()?;
                let data = there.join(manifest::DATA);
                if below.as_os_str().is_empty() {
                    data
                } else {
                    data.join(below)
                }
            }
        };
        Some(to.display().to_string())
    });
    Ok(toml::to_string(&moved)?)
}

/// Looks at every database of a stage, and recomputes the audit log with what is beside it.
///
/// # Errors
/// What is not whole.
pub fn check(stage: &Stage) -> Result<()> {
    let node = &stage.node;
    for path in archive::files(&node.data_dir)? {
        if !is_database(&path) {
            continue;
        }
        let whole = node.data_dir.join(&path);
        let fault = match (&node.here, &node.key_file) {
            (Place::Edge { .. }, Some(key)) if let Some(name) = encrypted(&path) => {
                edge::backup::fault(&node.data_dir, key, name)?
            }
            _ => storage::copy::fault(&storage::copy::open(&whole)?)?,
        };
        ensure!(
            fault.is_none(),
            "{}: {}",
            path.display(),
            fault.unwrap_or_default()
        );
    }
    let Some((log, database)) = log(node)? else {
        return Ok(());
    };
    let key = load_signing_key(&node.tls.signing_key)?.verifying_key();
    let witness = Witness::beside(&database, &node.here, key);
    log.verify_beside(&witness, &[]).context("the audit log")?;
    Ok(())
}

/// The audit log of a node; none of one that has not run.
fn log(node: &Node) -> Result<Option<(Log, PathBuf)>> {
    let name = match node.here {
        Place::Edge { .. } => store::Store::FILE,
        _ => crate::command::audit::LEDGER,
    };
    let database = node.data_dir.join(name);
    if !database.exists() {
        return Ok(None);
    }
    let log = match &node.key_file {
        Some(key) => edge::backup::log(&node.data_dir, key)?,
        None => Log::open(&database)?,
    };
    Ok(Some((log, database)))
}

/// Says in the log of a stage that it was put back, and doubts whoever delivers to it.
fn mark(stage: &Stage, now: Timestamp) -> Result<()> {
    let node = &stage.node;
    let Some((_, database)) = log(node)? else {
        return Ok(());
    };
    let signer = Signer::new(&node.here, load_signing_key(&node.tls.signing_key)?);
    match &node.key_file {
        Some(key) => edge::backup::mark(&node.data_dir, key, &node.here, &signer, now)?,
        None => {
            let mut tables = federation::db::open(&database)?;
            restored::mark(&mut tables, &node.here, &signer, now)?;
            if matches!(node.here, Place::Regional { .. }) {
                Numbering::open(&node.data_dir)?.begin_anew(rand::random())?;
            }
        }
    }
    Ok(())
}

/// What was put back, and where.
pub struct Put {
    /// What the backup was of.
    pub manifest: Manifest,
    /// The configuration to start the node with.
    pub config: PathBuf,
    /// Where a dump of PostgreSQL lies, if there is one.
    pub dump: Option<PathBuf>,
}

/// Puts all of a backup below a new folder.
///
/// # Errors
/// Why not; nothing is there then.
pub fn into_folder(file: &Path, passphrase: &Passphrase, to: &Path, now: Timestamp) -> Result<Put> {
    ensure!(
        !to.exists(),
        "{}: exists, and is not written over",
        to.display()
    );
    let stage = beside(to)?;
    let opened = extract(file, passphrase, stage.path())?;
    check(&opened)?;
    mark(&opened, now)?;
    let text = configuration(stage.path(), &opened.manifest, to)?;
    file::replace(&opened.config(), text.as_bytes(), PRIVATE)?;
    set_down(stage.path(), to)?;
    Ok(Put {
        config: to.join(config_name(&opened.node.here)),
        dump: dumped(&opened.manifest, to),
        manifest: opened.manifest,
    })
}

/// Gives what lies in a folder to whoever owns the folder around it, and the folder its name.
fn set_down(stage: &Path, to: &Path) -> Result<()> {
    // Around a name alone there is no folder by that path.
    file::hand_over(stage, stage.parent().unwrap_or(to))?;
    file::rename(stage, to).with_context(|| to.display().to_string())
}

fn dumped(manifest: &Manifest, dir: &Path) -> Option<PathBuf> {
    (manifest.engine == Engine::Dumped).then(|| dir.join(manifest::DUMP))
}

/// Puts a backup back to where a configuration says: its data directory, and files that it names and that are missing.
///
/// # Errors
/// Why not: the data directory is not empty, or the configuration is of another node. What was there stays as it was.
pub fn into_place(
    file: &Path,
    passphrase: &Passphrase,
    config: &Path,
    now: Timestamp,
) -> Result<Put> {
    let text = fs::read_to_string(config).with_context(|| config.display().to_string())?;
    let table: Table = text.parse().with_context(|| config.display().to_string())?;
    let data = table.get("data_dir").and_then(toml::Value::as_str);
    let data =
        PathBuf::from(data.ok_or_else(|| anyhow!("{}: data_dir is missing", config.display()))?);
    let place = place_of(&table);
    let is_empty = fs::read_dir(&data).map_or(true, |mut entries| entries.next().is_none());
    ensure!(
        is_empty,
        "{}: is not empty, and nothing in it is written over: move it away first",
        data.display()
    );
    let stage = beside(&data)?;
    let opened = extract(file, passphrase, stage.path())?;
    ensure!(
        place == opened.manifest.place,
        "{} is of {place}, the backup of {}",
        config.display(),
        opened.manifest.place
    );
    check(&opened)?;
    mark(&opened, now)?;
    // What an administrator puts back is the node's, whose folder it comes into.
    let restored = stage.path().join(manifest::DATA);
    let like = match data.exists() {
        true => data.as_path(),
        false => stage.path().parent().unwrap_or(&data),
    };
    for (number, named) in opened.manifest.named.iter().enumerate() {
        let from = stage.path().join(manifest::NAMED).join(number.to_string());
        put_back(&from, Path::new(named), like)?;
    }
    file::hand_over(stage.path(), like)?;
    if data.exists() {
        fs::remove_dir(&data)?;
    }
    file::rename(&restored, &data).with_context(|| data.display().to_string())?;
    let dump = match dumped(&opened.manifest, stage.path()) {
        None => None,
        Some(from) => {
            let to = data.join(manifest::DUMP);
            file::rename(&from, &to)?;
            Some(to)
        }
    };
    nodes::checked(config).with_context(|| format!("{} is back, but", data.display()))?;
    Ok(Put {
        manifest: opened.manifest,
        config: config.to_owned(),
        dump,
    })
}

/// Where the node of a configuration stands, also when files that it names are not there.
fn place_of(table: &Table) -> String {
    let text = |key: &str| table.get(key).and_then(toml::Value::as_str);
    let words = ["jurisdiction", "region", "facility"].map(text);
    let tier = match words {
        [_, _, Some(_)] => "edge",
        [_, Some(_), None] => "regional",
        _ => "global",
    };
    let place: Vec<_> = [Some(tier)].into_iter().chain(words).flatten().collect();
    place.join("/")
}

/// Puts a file or a folder back where nothing is, for whoever owns `like`.
fn put_back(from: &Path, to: &Path, like: &Path) -> Result<()> {
    if from.is_dir() {
        for file in archive::files(from)? {
            put_back(&from.join(&file), &to.join(&file), like)?;
        }
        return Ok(());
    }
    if !to.exists() {
        let folder = to.parent().unwrap_or(to);
        let is_new = !folder.exists();
        private_dir(folder)?;
        if is_new {
            file::give(folder, like)?;
        }
        file::create(to, &fs::read(from)?, PRIVATE).with_context(|| to.display().to_string())?;
        file::give(to, like)?;
    }
    Ok(())
}

/// A folder beside another one, on the same disk, for what is not put back yet.
fn beside(path: &Path) -> Result<Scratch> {
    let name = path.file_name().context("names no folder")?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    private_dir(folder)?;
    let kind = format!(".{}.", name.to_string_lossy());
    Scratch::folder(folder, (&kind, ".restoring"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_put_below_a_relative_path_that_is_a_name_alone() {
        let name = format!(".restored-{}", std::process::id());
        let to = Path::new(&name);
        let put = beside(to).and_then(|stage| set_down(stage.path(), to));
        let is_there = to.is_dir();
        let removed = fs::remove_dir_all(to);
        put.unwrap();
        assert!(is_there && removed.is_ok());
    }
}
