//! What is checked of a configuration beyond its shape: files that exist, ports that differ.
use std::{fmt, net::SocketAddr, path::Path};
use types::MeshClock;

/// One thing wrong in a configuration. It never quotes a value: configurations name patients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The key, such as `tls.cert` or `devices[2].id`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Problem {
    /// Whether its words name a key or one below it, in backquotes: as a path, or below its own.
    pub(super) fn names(&self, path: &str) -> bool {
        let below = path
            .strip_prefix(self.path.as_str())
            .and_then(|rest| rest.strip_prefix('.'));
        let mut words = self.message.split('`').skip(1).step_by(2);
        let is_at_or_below = |word: &str| {
            let rest = word.strip_prefix(path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        words.any(|word| is_at_or_below(word) || Some(word) == below)
    }

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

    /// Values that stand in for what is wrong, so that the rest is read too, where those of every configuration are not
    /// enough: one for each kind of table that says by a key of its own what it is.
    #[must_use]
    fn stand_ins() -> Vec<toml::Value>
    where
        Self: Sized,
    {
        Vec::new()
    }
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

/// A problem where `path` is to become a directory, and is empty, a file or below one.
#[must_use]
pub fn becomes_directory(key: &str, path: &Path) -> Option<Problem> {
    if path.as_os_str().is_empty() {
        return Some(Problem::new(key, "is empty: write the path of a directory"));
    }
    let there = path.ancestors().find(|at| at.symlink_metadata().is_ok())?;
    directory(key, there)
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

/// A problem for every address that is given twice. Port 0 is any free port, so it is never the same.
#[must_use]
pub fn different_ports(listeners: &[(&str, SocketAddr)]) -> Vec<Problem> {
    let same = |(index, (key, address)): (usize, &(&str, SocketAddr))| {
        let twin = listeners
            .iter()
            .take(index)
            .find(|(_, other)| other == address && address.port() != 0)?;
        Some(Problem::new(
            *key,
            format!("is the address of {} too", twin.0),
        ))
    };
    listeners.iter().enumerate().filter_map(same).collect()
}

/// What is wrong with a mesh clock. One that is not real time is for a mesh on one machine: elsewhere its freshness and
/// retention would be another's than the patients'.
#[must_use]
pub fn mesh_clock(clock: Option<&MeshClock>, local_mesh: bool) -> Vec<Problem> {
    let Some(clock) = clock else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    // Not a number is in no range.
    if !(MeshClock::MIN_SPEED..=MeshClock::MAX_SPEED).contains(&clock.speed) {
        let (min, max) = (MeshClock::MIN_SPEED, MeshClock::MAX_SPEED);
        problems.push(Problem::new("clock.speed", format!("is {min} to {max}")));
    }
    for (key, origin) in [
        ("clock.real_origin", clock.real_origin),
        ("clock.mesh_origin", clock.mesh_origin),
    ] {
        if !origin.is_measurable() && *clock != MeshClock::REAL {
            problems.push(Problem::new(key, "is in ms since 1970, from 1901 to 2198"));
        }
    }
    if !local_mesh && *clock != MeshClock::REAL {
        let message = "a clock that is not real time is for a mesh on one machine (local_mesh)";
        problems.push(Problem::new("clock", message));
    }
    problems
}

/// A problem unless `text` is `https://host:port`.
#[must_use]
pub fn url(key: &str, text: &str) -> Option<Problem> {
    let authority = text
        .strip_prefix("https://")
        .and_then(|rest| rest.rsplit_once(':'));
    let good = authority.is_some_and(|(host, port)| {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"/@?#".contains(c);
        !host.is_empty()
            && host.chars().all(plain)
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    (!good).then(|| Problem::new(key, "is written https://host:port"))
}

/// A problem unless `text` is `https://host` or `https://host:port`, without a path.
#[must_use]
pub fn public_url(key: &str, text: &str) -> Option<Problem> {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let bare = !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ', ':']);
    let good = bare || url(key, &format!("https://{rest}")).is_none();
    (!good || !text.starts_with("https://"))
        .then(|| Problem::new(key, "is written https://host or https://host:port"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};
    use types::Timestamp;

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
        let below = path.join("data/deep");
        let problem = becomes_directory("k", &below).unwrap();
        assert!(problem.message.starts_with(&*path.to_string_lossy()));
        for good in [dir.path(), &dir.path().join("new/data"), Path::new("data")] {
            assert!(becomes_directory("k", good).is_none(), "{}", good.display());
        }
        assert!(becomes_directory("k", Path::new("")).is_some(), "empty");
    }

    #[test]
    fn a_mesh_clock_runs_and_is_real_time_but_in_a_mesh_on_one_machine() {
        let clock = |speed, origin| MeshClock {
            real_origin: Timestamp(1_700_000_000_000),
            mesh_origin: Timestamp(origin),
            speed,
        };
        let keys = |clock, local| -> Vec<String> {
            let problems = mesh_clock(Some(&clock), local);
            problems.into_iter().map(|problem| problem.path).collect()
        };
        let good = 1_700_000_000_000;
        assert!(mesh_clock(None, false).is_empty());
        assert!(keys(MeshClock::REAL, false).is_empty());
        assert!(keys(clock(600.0, good), true).is_empty());
        assert_eq!(keys(clock(600.0, good), false), ["clock"]);
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(keys(clock(speed, good), true), ["clock.speed"], "{speed}");
        }
        for origin in [i64::MIN, i64::MAX] {
            assert_eq!(keys(clock(1.0, origin), true), ["clock.mesh_origin"]);
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        assert!(url("k", "https://db.example:443").is_none());
        for bad in [
            "https://u:p@db:443",
            "https://db:0",
            "http://db:1",
            "https://a b:1",
            "https://db/x:1",
        ] {
            assert!(url("k", bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn two_listeners_on_one_address_are_a_problem() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let listeners = [
            ("a", at(1)),
            ("b", at(2)),
            ("c", at(1)),
            ("d", at(0)),
            ("e", at(0)),
        ];
        let problems = different_ports(&listeners);
        assert_eq!(problems, [Problem::new("c", "is the address of a too")]);
    }

    #[test]
    fn a_public_url_has_no_path_and_may_leave_out_the_port() {
        for (text, good) in [
            ("https://fhir.example.org", true),
            ("https://fhir.example.org/", true),
            ("https://fhir.example.org:8443", true),
            ("https://[::1]:8443", true),
            ("http://fhir.example.org", false),
            ("https://fhir.example.org/fhir", false),
            ("https://user@fhir.example.org", false),
            ("https://fhir.example.org:0", false),
            ("https://", false),
            ("fhir.example.org", false),
        ] {
            assert_eq!(public_url("k", text).is_none(), good, "{text}");
        }
    }

    #[test]
    fn an_address_of_a_node_is_https_with_host_and_port() {
        for (text, good) in [
            ("https://127.0.0.1:9000", true),
            ("https://[::1]:9000", true),
            ("https://region.example:443", true),
            ("http://127.0.0.1:9000", false),
            ("https://127.0.0.1", false),
            ("https://127.0.0.1:0", false),
            ("https://:443", false),
            ("https://a/b:443", false),
            ("", false),
        ] {
            assert_eq!(url("k", text).is_none(), good, "{text}");
        }
    }
}
