//! The machine: its clock, its disk, and who else may read a node's files.
use super::{
    super::nodes::Node,
    finding::{Finding, Level, Report},
};
use node::discipline;
use std::{io, os::unix::fs::MetadataExt, path::Path, time::Duration};
use storage::{
    disk::{Room, room, sync_time},
    private::wide,
};

/// Below this a store soon refuses what is not urgent, and a node cannot write its logs.
const LEAST_ROOM: u64 = 256 << 20;
/// Below this part of the disk a person should look.
const LITTLE_ROOM_PERCENT: u64 = 10;
/// An fsync that takes longer bounds what a facility can acknowledge: 20 commits a second.
const SLOW_SYNC: Duration = Duration::from_millis(50);
/// Paths that are named.
const NAMED: usize = 5;

/// Whether anything keeps this machine's clock right.
pub fn clock() -> Report {
    Report {
        subject: "this machine".into(),
        findings: vec![judge_clock(discipline::is_disciplined())],
    }
}

fn judge_clock(disciplined: Option<bool>) -> Finding {
    const ADVICE: &str = "let a time server keep it: timedatectl set-ntp true, or install chrony";
    match disciplined {
        Some(true) => Finding::good("clock", "is kept right by a time source"),
        Some(false) => Finding::warning("clock", "nothing keeps it right", ADVICE),
        None => Finding::warning(
            "clock",
            "the kernel does not say whether it is right",
            ADVICE,
        ),
    }
}

/// The disk under a node's data.
pub fn disk(data: &Path) -> Vec<Finding> {
    if !data.exists() {
        let says = format!("{} is not there: the node has not run yet", data.display());
        return vec![Finding::warning(
            "disk",
            says,
            "start the node, which makes it",
        )];
    }
    vec![
        judge_room(data, room(data)),
        judge_sync(data, sync_time(data)),
    ]
}

fn judge_room(data: &Path, said: io::Result<Room>) -> Finding {
    let at = data.display();
    let room = match said {
        Ok(room) => room,
        Err(error) => {
            let advice = "make it readable for the node's user";
            return Finding::bad("disk", format!("{at}: {error}"), advice);
        }
    };
    let little = room.free < room.total / 100 * LITTLE_ROOM_PERCENT;
    let (level, advice) = if room.free < LEAST_ROOM {
        (
            Level::Bad,
            "make room at once, or move data_dir to a larger disk: readings are refused when it is full",
        )
    } else if little {
        (
            Level::Warning,
            "make room, or move data_dir to a larger disk",
        )
    } else {
        (Level::Good, "")
    };
    let (free, total) = (size(room.free), size(room.total));
    Finding::new(
        "disk",
        level,
        format!("{free} of {total} are free at {at}"),
        advice,
    )
}

/// A size in GiB with a tenth, or in MiB where it is small.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        mib @ ..1_024 => format!("{mib} MiB"),
        mib => format!("{}.{} GiB", mib / 1_024, mib % 1_024 * 10 / 1_024),
    }
}

fn judge_sync(data: &Path, took: io::Result<Duration>) -> Finding {
    let at = data.display();
    match took {
        Err(error) => {
            let advice = "the disk takes nothing: look at the kernel's log (dmesg), and at the user that you are";
            Finding::bad("fsync", format!("{at}: {error}"), advice)
        }
        Ok(took) if took > SLOW_SYNC => {
            let says = format!("takes {} ms at {at}", took.as_millis());
            Finding::warning(
                "fsync",
                says,
                "use a disk with a power-safe cache: every acknowledgement waits for one",
            )
        }
        Ok(took) => Finding::good("fsync", format!("takes {:.1} ms", took.as_secs_f64() * 1e3)),
    }
}

/// What of a node's data others than its user may use.
pub fn permissions(data: &Path) -> Option<Finding> {
    match wide(data, NAMED) {
        // Said of the disk.
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            let says = format!("{}: {error}", data.display());
            Some(Finding::warning(
                "permissions",
                says,
                "ask again as the node's user",
            ))
        }
        Ok(found) if found.is_empty() => {
            let says = "only the node's user can read its data";
            Some(Finding::good("permissions", says))
        }
        Ok(found) => {
            let named: Vec<_> = found
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            let says = format!("others may use {}", named.join(", "));
            let advice = format!("chmod -R go= {}", data.display());
            Some(Finding::bad("permissions", says, &advice))
        }
    }
}

/// Whether the node's user, who owns its data, can read its keys, and put its next certificate in the place of this one.
pub fn belongs(node: &Node) -> Vec<Finding> {
    let Ok(user) = Owner::of(&node.data_dir) else {
        // Said of the disk.
        return Vec::new();
    };
    let keys = [&node.tls.key, &node.tls.signing_key];
    let keys = keys.into_iter().chain(&node.key_file);
    let folder = |path: &Path| path.parent().map(Path::to_owned);
    let mut folders: Vec<_> = [&node.tls.key, &node.tls.cert]
        .into_iter()
        .filter_map(|path| folder(path))
        .chain(node.authority.clone())
        .collect();
    folders.dedup();
    let keys = keys.filter_map(|path| judge_key(path, &Owner::of(path).ok()?, &user));
    let folders = folders
        .iter()
        .filter_map(|path| judge_folder(path, &Owner::of(path).ok()?, &user));
    keys.chain(folders).collect()
}

/// Whose a file or a folder is, and what may be done with it.
#[derive(Clone, Copy, Debug)]
struct Owner {
    user: u32,
    group: u32,
    mode: u32,
}

impl Owner {
    fn of(path: &Path) -> io::Result<Self> {
        let about = std::fs::metadata(path)?;
        Ok(Self {
            user: about.uid(),
            group: about.gid(),
            mode: about.mode(),
        })
    }
}

/// A key is read by its owner alone.
fn judge_key(path: &Path, key: &Owner, user: &Owner) -> Option<Finding> {
    if user.user == 0 || key.user == user.user {
        return None;
    }
    let at = path.display();
    Some(Finding::bad(
        "permissions",
        format!("the node's user ({}) cannot read {at}", user.user),
        &format!("chown {}:{} {at}", user.user, user.group),
    ))
}

/// A next certificate is laid down beside the one in use; an authority writes down what it signs.
fn judge_folder(path: &Path, folder: &Owner, user: &Owner) -> Option<Finding> {
    let may = match (
        user.user,
        folder.user == user.user,
        folder.group == user.group,
    ) {
        (0, _, _) => true,
        (_, true, _) => folder.mode & 0o200 != 0,
        (_, _, true) => folder.mode & 0o020 != 0,
        _ => folder.mode & 0o002 != 0,
    };
    let at = path.display();
    (!may).then(|| {
        Finding::bad(
            "permissions",
            format!("the node's user ({}) cannot write in {at}: no certificate can be renewed there", user.user),
            "keep certificate, key and authority below /var/lib/medmesh, and name them there in the configuration",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn what_the_nodes_user_cannot_read_or_replace_is_named_with_what_to_do() {
        let owner = |user, group, mode| Owner { user, group, mode };
        let (node, root) = (owner(105, 110, 0o700), owner(0, 0, 0o755));
        let key = Path::new("/etc/medmesh/node.key");
        let found = judge_key(key, &root, &node).unwrap();
        assert_eq!(found.level, Level::Bad);
        assert_eq!(found.advice, "chown 105:110 /etc/medmesh/node.key");
        assert_eq!(judge_key(key, &node, &node), None);
        assert_eq!(
            judge_key(key, &node, &root),
            None,
            "the superuser reads all"
        );
        let etc = Path::new("/etc/medmesh");
        for (folder, may) in [
            (owner(0, 110, 0o750), false),
            (owner(0, 110, 0o770), true),
            (owner(0, 0, 0o777), true),
            (owner(105, 0, 0o500), false),
            (owner(105, 0, 0o700), true),
        ] {
            let found = judge_folder(etc, &folder, &node);
            assert_eq!(found.is_none(), may, "{found:?}");
            assert!(found.is_none_or(|it| it.says.contains("/etc/medmesh")));
            assert_eq!(judge_folder(etc, &folder, &root), None);
        }
    }

    #[test]
    fn a_clock_that_nothing_keeps_right_is_to_be_looked_at() {
        let levels = [Some(true), Some(false), None].map(|it| judge_clock(it).level);
        assert_eq!(levels, [Level::Good, Level::Warning, Level::Warning]);
    }

    #[test]
    fn a_disk_that_is_full_slow_or_gone_is_found() {
        let at = Path::new("/data");
        let total = 100 << 30;
        for (free, level) in [
            (50 << 30, Level::Good),
            (9 << 30, Level::Warning),
            (200 << 20, Level::Bad),
        ] {
            assert_eq!(
                judge_room(at, Ok(Room { free, total })).level,
                level,
                "{free}"
            );
        }
        let broken = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(judge_room(at, Err(broken())).level, Level::Bad);
        for (took, level) in [
            (Ok(Duration::from_millis(3)), Level::Good),
            (Ok(Duration::from_millis(51)), Level::Warning),
            (Err(broken()), Level::Bad),
        ] {
            assert_eq!(judge_sync(at, took).level, level);
        }
        let gone = disk(Path::new("/is/not/there"));
        assert_eq!((gone.len(), gone[0].level), (1, Level::Warning));
    }

    #[test]
    fn a_file_that_others_can_read_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        storage::private::claim(dir.path()).unwrap();
        assert_eq!(permissions(dir.path()).unwrap().level, Level::Good);
        let key = dir.path().join("signing.key");
        fs::write(&key, "x").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let found = permissions(dir.path()).unwrap();
        assert_eq!(found.level, Level::Bad);
        assert!(found.says.contains("signing.key"), "{found:?}");
        assert!(found.advice.starts_with("chmod -R go= /"), "{found:?}");
    }
}
