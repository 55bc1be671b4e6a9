//! Where things lie: the clone, the user's cache, the build and the reference data.
use anyhow::{Context, Result, bail};
use std::{env, path::PathBuf};

/// The paths that the stages share.
pub struct Places {
    /// The clone.
    pub root: PathBuf,
    /// What outlives a run: engines and the Python environment.
    pub cache: PathBuf,
    /// The build.
    pub target: PathBuf,
    /// The reference data, when it is there.
    pub data: Option<PathBuf>,
}

impl Places {
    /// Reads `CARGO_TARGET_DIR`, `MEDMESH_DATA`, `XDG_CACHE_HOME` and `HOME`.
    ///
    /// # Errors
    /// When there is no cache folder, or when the reference data is missing where it must not be: where
    /// `MEDMESH_DATA` names it, and in continuous integration.
    pub fn find() -> Result<Self> {
        // Several clones share one build, so that this program may have been built in another one.
        let own = set("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = own
            .parent()
            .context("xtask lies in the clone")?
            .to_path_buf();
        let cache = match (set("XDG_CACHE_HOME"), set("HOME")) {
            (Some(cache), _) => cache,
            (None, Some(home)) => home.join(".cache"),
            (None, None) => bail!("set HOME or XDG_CACHE_HOME: the build is cached there"),
        }
        .join("medmesh");
        let target = set("CARGO_TARGET_DIR").unwrap_or_else(|| cache.join("target"));
        let named = set("MEDMESH_DATA");
        let data = named.clone().unwrap_or_else(|| root.join("../shared/data"));
        let data = match data.canonicalize() {
            Ok(data) => Some(data),
            Err(_) if named.is_none() && !in_ci() => None,
            Err(error) => bail!("the reference data {}: {error}", data.display()),
        };
        let target = env::current_dir()?.join(target);
        Ok(Self {
            root,
            cache,
            target,
            data,
        })
    }
}

/// Whether this is continuous integration, where nothing may be left out.
pub fn in_ci() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

fn set(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}
