//! The one way to write a file whole: it is there as it was or as it shall be, whenever the power fails.
//!
//! A file is written beside its place, made durable, renamed into its place, and the directory is made durable too: a
//! rename that only the kernel knows of is undone by a power loss (rename(2), fsync(2)).
//!
//! What the superuser makes belongs to whoever owns what it replaces, or the folder that it is in: a node runs as a user of
//! its own, and has to find, read and replace what an administrator's command wrote for it.
use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

/// What only its owner may read and write. The process's umask can only narrow it.
pub const PRIVATE: u32 = 0o600;
/// What everybody may read. The process's umask narrows it; see [`replace_for_all`].
pub const PUBLIC: u32 = 0o644;

/// Replaces a file by a whole new one that is durable when this returns, and hands the new one back, open for writing.
///
/// # Errors
/// When the directory cannot be written, or the path leads to what is no regular file: the former file stays.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<File> {
    may_go(path)?;
    let (temporary, file) = beside(path, bytes, mode)?;
    rename(&temporary, path)?;
    Ok(file)
}

/// As [`replace`], for what other users of this machine must read whatever the umask is: an authority's certificate.
///
/// # Errors
/// As [`replace`].
pub fn replace_for_all(path: &Path, bytes: &[u8]) -> io::Result<()> {
    may_go(path)?;
    let (temporary, file) = beside(path, bytes, PUBLIC)?;
    file.set_permissions(fs::Permissions::from_mode(PUBLIC))?;
    file.sync_all()?;
    rename(&temporary, path)
}

/// A file may get another in its place. A device of the machine may not, such as `/dev/null` or what `/dev/stdout` leads to: all
/// programs that write to it would fill a file from then on.
fn may_go(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "is no regular file, and nothing else is written over",
        )),
        _ => Ok(()),
    }
}

/// Makes a file that must not exist yet, with the permission bits `mode` of Unix (such as 0o600), durable when this
/// returns. False when it exists: nothing was changed.
///
/// # Errors
/// When the directory cannot be written.
pub fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<bool> {
    let (temporary, _) = beside(path, bytes, mode)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Ok(()) => {
            done(Step::Named);
            sync_parent(path).map(|()| true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a directory, and those above it that are missing, for its owner alone; one that exists stays as it is.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(path: &Path) -> io::Result<()> {
    let is_missing = |at: &&Path| !at.as_os_str().is_empty() && !at.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    missing
        .into_iter()
        .rev()
        .try_for_each(|made| give(made, parent(made)))
}

/// Gives a file, or a folder with everything in it, to whoever owns another one, as [`give`]: what is inside first, so that
/// nobody else can change a folder before all of it is given. Links are left alone, and files that have a second name.
///
/// # Errors
/// When something cannot be looked at or given.
pub fn hand_over(path: &Path, like: &Path) -> io::Result<()> {
    hand_over_to(path, &fs::metadata(like)?)
}

fn hand_over_to(path: &Path, owner: &Metadata) -> io::Result<()> {
    let Some(file) = itself(path)? else {
        return Ok(());
    };
    let about = file.metadata()?;
    if about.is_dir() {
        // By its descriptor: its name may lead elsewhere by now.
        let folder = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        for entry in fs::read_dir(&folder)? {
            hand_over_to(&folder.join(entry?.file_name()), owner)?;
        }
    } else if about.nlink() > 1 {
        return Ok(());
    }
    give_to(&file, owner)
}

/// Gives a file or a folder to whoever owns another one. Who may not give, or where nobody can be given anything (a folder of
/// another machine, a user that this container does not know), keeps it. Links are left alone.
///
/// # Errors
/// When one of them cannot be looked at, or the disk refuses.
pub fn give(path: &Path, like: &Path) -> io::Result<()> {
    let owner = fs::metadata(like)?;
    match itself(path)? {
        Some(file) => give_to(&file, &owner),
        None => Ok(()),
    }
}

/// A file or a folder, and nothing that a link leads to: none of a link, and of what this user may not open.
fn itself(path: &Path) -> io::Result<Option<File>> {
    let mut open = OpenOptions::new();
    open.read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match open.open(path) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        opened => opened.map(Some),
    }
}

fn give_to(file: &File, owner: &Metadata) -> io::Result<()> {
    if file.metadata()?.uid() == owner.uid() {
        return Ok(());
    }
    match fchown(file, Some(owner.uid()), Some(owner.gid())) {
        Err(error)
            if [io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidInput]
                .contains(&error.kind()) =>
        {
            Ok(())
        }
        given => given,
    }
}

pub(crate) fn parent(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Gives a file or a folder another name, durably: the only place where anything is renamed. What is in it is durable
/// before, which is the caller's.
///
/// # Errors
/// As the kernel's; the name may have changed when the folder could not be made durable.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    // What an administrator's command left as its own goes by its folder.
    let of_a_node = |about: &Metadata| about.uid() != 0 && !about.is_symlink();
    if fs::symlink_metadata(to).is_ok_and(|about| of_a_node(&about)) {
        give(from, to)?;
    }
    fs::rename(from, to)?;
    done(Step::Named);
    sync_parent(to)
}

/// What a test is told of: no file system shows what a power loss would leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Synced,
    Named,
    FolderSynced,
}

#[cfg(not(test))]
const fn done(_: Step) {}

#[cfg(test)]
fn done(step: Step) {
    tests::STEPS.with_borrow_mut(|steps| steps.push(step));
}

/// Writes a durable file beside `path`, of this process and thread alone.
fn beside(path: &Path, bytes: &[u8], mode: u32) -> io::Result<(PathBuf, File)> {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}-{digits}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    give_to(&file, &fs::metadata(parent(path))?)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    done(Step::Synced);
    Ok((temporary, file))
}

/// Makes the directory of a file durable: what was renamed, made or removed in it.
///
/// # Errors
/// When it cannot be opened or synchronized.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()?;
    done(Step::FolderSynced);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::os::unix::fs::lchown;

    thread_local! {
        pub(super) static STEPS: RefCell<Vec<Step>> = const { RefCell::new(Vec::new()) };
    }

    #[test]
    fn a_name_is_given_to_what_is_durable_and_is_durable_before_anybody_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let ways: [&dyn Fn(); 3] = [
            &|| drop(replace(&path("a"), b"a", PRIVATE).unwrap()),
            &|| replace_for_all(&path("b"), b"b").unwrap(),
            &|| assert!(create(&path("c"), b"c", PRIVATE).unwrap()),
        ];
        for way in ways {
            STEPS.take();
            way();
            let steps = STEPS.take();
            assert_eq!(steps, [Step::Synced, Step::Named, Step::FolderSynced]);
        }
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let (socket, link) = (path("socket"), path("link"));
        let _open = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        std::os::unix::fs::symlink(&socket, &link).unwrap();
        for at in [socket.as_path(), link.as_path(), dir.path()] {
            let error = replace(at, b"a", PRIVATE).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
            assert!(replace_for_all(at, b"a").is_err());
        }
        assert!(link.is_symlink() && !socket.is_file());
        std::os::unix::fs::symlink(path("absent"), path("broken")).unwrap();
        replace(&path("broken"), b"a", PRIVATE).unwrap();
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for text in ["a longer text", "short"] {
            replace(&path, text.as_bytes(), PRIVATE).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(mode(&path), PRIVATE);
        }
        replace_for_all(&path, b"for all").unwrap();
        assert_eq!(mode(&path), PUBLIC);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_replaced_goes_on_where_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let mut file = replace(&path, b"one", PRIVATE).unwrap();
        file.write_all(b" two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
    }

    #[test]
    fn a_file_is_created_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert!(create(&path, b"first", PRIVATE).unwrap());
        assert!(!create(&path, b"second", PRIVATE).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    }

    /// Any other user than this one; `chown` to it works for the superuser alone.
    const NODE: u32 = 64_999;

    #[test]
    fn what_the_superuser_makes_or_replaces_for_a_node_is_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let owner = |name: &str| fs::symlink_metadata(path(name)).unwrap().uid();
        // Who is not the superuser can give nothing away: then every owner below is this user.
        let node = match lchown(dir.path(), Some(NODE), Some(NODE)) {
            Ok(()) => NODE,
            Err(_) => fs::metadata(dir.path()).unwrap().uid(),
        };
        replace(&path("key"), b"k", PRIVATE).unwrap();
        create(&path("new"), b"n", PRIVATE).unwrap();
        private_dir(&path("a/b")).unwrap();
        crate::open::Opening::default()
            .open_lasting(&path("db"))
            .unwrap()
            .execute_batch("CREATE TABLE t (n)")
            .unwrap();
        for name in ["key", "new", "a", "a/b", "db"] {
            assert_eq!(owner(name), node, "{name}");
        }
        // A key of the node in a folder of the superuser stays the node's.
        let own = fs::metadata(tempfile::tempdir().unwrap().path())
            .unwrap()
            .uid();
        lchown(dir.path(), Some(own), None).unwrap();
        fs::write(path("next"), b"another").unwrap();
        rename(&path("next"), &path("key")).unwrap();
        assert_eq!(owner("key"), node);
        // And what was unpacked beside it comes to it whole.
        lchown(dir.path(), Some(node), None).unwrap();
        fs::create_dir_all(path("tree/deep")).unwrap();
        fs::write(path("tree/deep/file"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path("tree/link")).unwrap();
        std::os::unix::fs::symlink("/etc", path("tree/folder")).unwrap();
        fs::hard_link(path("tree/deep/file"), path("tree/deep/twice")).unwrap();
        hand_over(&path("tree"), dir.path()).unwrap();
        assert_eq!(owner("tree/deep/file"), own, "it has a second name");
        fs::remove_file(path("tree/deep/twice")).unwrap();
        hand_over(&path("tree"), dir.path()).unwrap();
        for name in ["tree", "tree/deep", "tree/deep/file"] {
            assert_eq!(owner(name), node, "{name}");
        }
        for other in ["/etc", "/etc/passwd"] {
            assert_ne!(fs::metadata(other).unwrap().uid(), NODE);
        }
        // What the superuser left as its own where a node writes becomes the node's with the next.
        lchown(path("key"), Some(own), None).unwrap();
        replace(&path("key"), b"a third", PRIVATE).unwrap();
        assert_eq!(owner("key"), node);
    }

    #[test]
    fn a_file_in_a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(replace(&dir.path().join("no/f"), b"", PRIVATE).is_err());
    }
}
