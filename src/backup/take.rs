//! Takes a backup of a node beside it, and shows that it can be put back before it is there.
use super::{
    archive::{Writer, files},
    manifest::{self, Engine, Manifest, encrypted, is_database},
    paths, postgres, put,
    seal::{Passphrase, Sealer},
};
use crate::{
    command::nodes::{self, Node},
    scratch::Scratch,
};
use anyhow::{Context, Result, bail, ensure};
use rand::RngCore;
use std::{
    fs,
    io::BufWriter,
    path::{Path, PathBuf},
};
use toml::Table;
use types::{Place, Timestamp};

/// Begins the name of a folder in the data directory that a backup works in.
const WORK: &str = ".backup-";
/// The folders of bulk data: files that a client asks for again, of the store as it is now, and what an operator imports.
const BULK: [&str; 2] = ["bulk/", "import/"];
/// What SQLite keeps beside a database, files that are not finished, and what a running node has locked: a copy of the
/// database has what counts.
const PASSING: [&str; 5] = ["-wal", "-shm", "-journal", ".tmp", ".lock"];

/// How a backup is taken.
pub struct Order<'a> {
    /// The node's configuration.
    pub config: &'a Path,
    /// The backup, which must not exist.
    pub to: &'a Path,
    /// Encrypts it.
    pub passphrase: &'a Passphrase,
    /// Leave out what an engine holds.
    pub files_only: bool,
}

/// What was taken.
pub struct Taken {
    /// What it is of.
    pub manifest: Manifest,
    /// Files in it.
    pub files: usize,
    /// Its size.
    pub bytes: u64,
}

/// Takes a backup, puts it back into a folder of its own, looks at every database and the audit log there, and only then
/// gives it its name.
///
/// # Errors
/// Why there is no backup; nothing of it is left.
pub fn take(order: &Order<'_>, now: Timestamp) -> Result<Taken> {
    let to = order.to;
    ensure!(
        !to.exists(),
        "{}: exists, and is not written over",
        to.display()
    );
    let node = nodes::checked(order.config)?;
    lies_apart(to, &node.data_dir)?;
    let engine = engine(&node, order.files_only)?;
    let work = Scratch::folder(&node.data_dir, (WORK, ""))?;
    let text = fs::read_to_string(order.config)?;
    let table: Table = text.parse().context("the configuration")?;
    let data_dir = node.data_dir.display().to_string();
    let manifest = Manifest {
        format: manifest::FORMAT,
        place: node.here.to_string(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        time: now,
        named: paths::named(&table, &data_dir),
        data_dir,
        engine,
    };
    let unfinished = unfinished(to)?;
    let count = write(order, &unfinished, &work, &node, &manifest, &text)?;
    // What is not put back now may never be.
    let tried = put::extract(
        unfinished.path(),
        order.passphrase,
        &work.path().join("tried"),
    );
    let stage = tried.context("what was written cannot be read again")?;
    put::check(&stage).context("what was written does not stand a test")?;
    let bytes = fs::metadata(unfinished.path())?.len();
    name(unfinished.path(), to)?;
    Ok(Taken {
        manifest,
        files: count,
        bytes,
    })
}

/// A backup that has no name yet.
fn unfinished(to: &Path) -> Result<Scratch> {
    let name = to.file_name().context("--to names no file")?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let kind = format!(".{}.", name.to_string_lossy());
    Scratch::file(folder.unwrap_or(Path::new(".")), (&kind, ".tmp"))
}

fn engine(node: &Node, files_only: bool) -> Result<Engine> {
    match (&node.engine, files_only) {
        (nodes::Engine::Files, _) => Ok(Engine::Files),
        (_, true) => Ok(Engine::LeftOut),
        (nodes::Engine::Postgres(_), false) => Ok(Engine::Dumped),
        (nodes::Engine::Cassandra(_), false) => bail!(
            "the catalog in Cassandra is not taken: say --files-only, and back it up with nodetool snapshot; what it \
             lacks after a restore, regions ship again"
        ),
    }
}

/// Writes every file, in the order that keeps what is promised: how many there were.
fn write(
    order: &Order<'_>,
    unfinished: &Scratch,
    work: &Scratch,
    node: &Node,
    manifest: &Manifest,
    config: &str,
) -> Result<usize> {
    let mut fresh = [0; 23];
    rand::rng().fill_bytes(&mut fresh);
    let out = BufWriter::new(unfinished.writer()?);
    let mut writer = Writer::new(Sealer::new(out, order.passphrase, fresh)?);
    writer.bytes(manifest::NAME, &serde_json::to_vec_pretty(manifest)?)?;
    writer.bytes(manifest::CONFIG, config.as_bytes())?;
    let mut count = 2;
    for path in in_order(&node.data_dir)? {
        let name = format!("{}/{}", manifest::DATA, path.display());
        let whole = node.data_dir.join(&path);
        let written = if is_database(&path) {
            let copy = work.path().join("copy.db");
            copied(node, &whole, &copy).with_context(|| name.clone())?;
            let written = writer.file(&name, &copy);
            fs::remove_file(&copy)?;
            written
        } else if whole.exists() {
            writer.file(&name, &whole)
        } else {
            // A blob or an unfinished file that the node removed meanwhile.
            continue;
        };
        written?;
        count += 1;
    }
    for (number, named) in manifest.named.iter().enumerate() {
        count += add_named(&mut writer, number, Path::new(named))?;
    }
    if let (Engine::Dumped, nodes::Engine::Postgres(store)) = (manifest.engine, &node.engine) {
        let dump = work.path().join(manifest::DUMP);
        postgres::dump(store, &dump)?;
        writer.file(manifest::DUMP, &dump)?;
        fs::remove_file(&dump)?;
        count += 1;
    }
    let out = writer.finish()?.finish()?;
    out.into_inner()
        .map_err(|error| error.into_error())?
        .sync_all()?;
    Ok(count)
}

/// A copy of a database of one instant.
fn copied(node: &Node, from: &Path, to: &Path) -> Result<()> {
    match (&node.here, &node.key_file) {
        (Place::Edge { .. }, Some(key)) if let Some(name) = encrypted(from) => {
            Ok(edge::backup::copy(&node.data_dir, key, name, to)?)
        }
        _ => Ok(storage::copy::copy(&storage::copy::open(from)?, to)?),
    }
}

/// A backup in the data directory would go with it, and the next one would hold it.
fn lies_apart(to: &Path, data: &Path) -> Result<()> {
    let whole = |path: &Path| fs::canonicalize(path).with_context(|| path.display().to_string());
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = whole(folder.unwrap_or(Path::new(".")))?;
    ensure!(
        !folder.starts_with(whole(data)?),
        "--to: {}: lies in the node's data directory: write it elsewhere",
        to.display()
    );
    Ok(())
}

/// The files of a data directory: heads of the audit log first, which the log must reach; then the ledger, then other
/// databases, which may be ahead of it and never behind; then what these name.
fn in_order(data: &Path) -> Result<Vec<PathBuf>> {
    let mut found = files(data)?;
    found.retain(|path| {
        let text = path.to_string_lossy();
        !text.starts_with(WORK)
            && !BULK.iter().any(|name| text.starts_with(name))
            && !PASSING.iter().any(|end| text.ends_with(end))
    });
    found.sort_by_key(|path| {
        let name = path.to_string_lossy();
        if name.starts_with("audit-heads") {
            0
        } else if name == "ledger.db" {
            1
        } else {
            2 + u8::from(!is_database(path))
        }
    });
    Ok(found)
}

fn add_named(
    writer: &mut Writer<impl std::io::Write>,
    number: usize,
    path: &Path,
) -> Result<usize> {
    let name = format!("{}/{number}", manifest::NAMED);
    if path.is_file() {
        writer.file(&name, path)?;
        return Ok(1);
    }
    let below = files(path)?;
    for file in &below {
        writer.file(&format!("{name}/{}", file.display()), &path.join(file))?;
    }
    Ok(below.len())
}

/// Gives what was written its name, where none is.
fn name(unfinished: &Path, to: &Path) -> Result<()> {
    fs::hard_link(unfinished, to).with_context(|| to.display().to_string())?;
    Ok(storage::file::sync_parent(to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_lies_outside_of_what_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("data/blobs")).unwrap();
        fs::create_dir(at("data-2")).unwrap();
        std::os::unix::fs::symlink(at("data"), at("link")).unwrap();
        for good in ["us-f1.backup", "data-2/us-f1.backup"] {
            lies_apart(&at(good), &at("data")).unwrap();
        }
        for bad in ["data/b", "data/blobs/b", "link/b", "data-2/../data/b"] {
            let error = lies_apart(&at(bad), &at("data")).unwrap_err().to_string();
            assert!(error.starts_with("--to: "), "{bad}: {error}");
        }
        let error = lies_apart(&at("nowhere/b"), &at("data")).unwrap_err();
        assert!(format!("{error:#}").contains("nowhere: "), "{error:#}");
    }
}
