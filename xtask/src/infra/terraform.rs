//! The program `terraform`, with the folder of providers that this machine has, or the registry when it has none.
use crate::run::on_path;
use anyhow::{Context, Result};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A folder of that name holds the provider, in the layout of a filesystem mirror.
const PROVIDER: &str = "registry.terraform.io/hashicorp/aws";
/// Where a mirror is looked for, with [`MAX_DEPTH`] folders below each.
const MIRROR_ROOTS: [&str; 5] = [
    "/opt",
    "/usr/share",
    "/usr/local/share",
    "/usr/lib",
    "/usr/local/lib",
];
/// The same below the user's home.
const HOME_ROOTS: [&str; 2] = [".terraform.d", ".local/share"];
/// How deep a mirror is looked for.
const MAX_DEPTH: usize = 3;

/// A terraform that can be run.
pub struct Terraform {
    program: PathBuf,
    config: PathBuf,
}

/// What a command of terraform said, and whether it ended well.
pub struct Said {
    /// Exit code 0.
    pub ok: bool,
    /// Both of its outputs.
    pub text: String,
}

impl Terraform {
    /// The one on the PATH, with a command-line configuration in `dir` that names the mirror of this machine.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let Some(program) = on_path("terraform") else {
            return Ok(None);
        };
        let mirror = mirror();
        let text = mirror.as_ref().map_or_else(String::new, |mirror| {
            format!(
                "provider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n  }}\n  direct {{\n    exclude = [\"{PROVIDER}\"]\n  }}\n}}\n",
                mirror.display().to_string()
            )
        });
        match &mirror {
            Some(mirror) => eprintln!("infra: providers from {}", mirror.display()),
            None => eprintln!(
                "infra: no mirror of {PROVIDER} on this machine: it comes from the registry"
            ),
        }
        fs::create_dir_all(dir)?;
        let config = dir.join("terraform.rc");
        fs::write(&config, text).with_context(|| config.display().to_string())?;
        Ok(Some(Self { program, config }))
    }

    /// Makes a folder ready, without its backend: no state is looked for.
    pub fn init(&self, dir: &Path) -> Result<Said> {
        self.run(
            dir,
            &["init", "-backend=false", "-input=false", "-no-color"],
        )
    }

    /// Runs a command in a folder.
    pub fn run(&self, dir: &Path, arguments: &[&str]) -> Result<Said> {
        let output = self
            .command(dir, arguments)
            .stdin(Stdio::null())
            .output()
            .context("start terraform")?;
        let text = [output.stdout, output.stderr].concat();
        Ok(Said {
            ok: output.status.success(),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    /// A command in a folder that nobody asks questions. It has no account of any cloud, whoever runs it: the provider
    /// wants to see a key even for a plan without an account, and gets one that opens nothing.
    pub fn command(&self, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .current_dir(dir)
            .env("TF_CLI_CONFIG_FILE", &self.config)
            .env("TF_IN_AUTOMATION", "1")
            .env("CHECKPOINT_DISABLE", "1")
            .env("AWS_ACCESS_KEY_ID", "none")
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE");
        command
    }
}

/// The mirror of this machine: the folder above `registry.terraform.io`.
fn mirror() -> Option<PathBuf> {
    let home = env::var_os("HOME").map(PathBuf::from);
    let homes = home
        .iter()
        .flat_map(|home| HOME_ROOTS.map(|root| home.join(root)));
    MIRROR_ROOTS
        .iter()
        .map(PathBuf::from)
        .chain(homes)
        .find_map(|root| below(&root, MAX_DEPTH))
}

fn below(dir: &Path, depth: usize) -> Option<PathBuf> {
    if dir.join(PROVIDER).is_dir() {
        return Some(dir.to_path_buf());
    }
    if depth == 0 {
        return None;
    }
    let mut inside: Vec<_> = fs::read_dir(dir).ok()?.flatten().collect();
    inside.sort_by_key(fs::DirEntry::file_name);
    inside
        .iter()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| below(&entry.path(), depth - 1))
}

/// The counts of the last line of `terraform test`: `Success! 27 passed, 0 failed.`
pub fn counted(text: &str) -> (u64, u64) {
    let of = |line: &str, word: &str| -> Option<u64> {
        let before = line.split(word).next()?.trim_end();
        before.rsplit([' ', ',']).next()?.parse().ok()
    };
    text.lines()
        .rev()
        .filter(|line| line.starts_with("Success!") || line.starts_with("Failure!"))
        .find_map(|line| Some((of(line, "passed")?, of(line, "failed")?)))
        .unwrap_or((0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_a_test_is_read() {
        assert_eq!(counted("x\n\nSuccess! 27 passed, 0 failed.\n"), (27, 0));
        assert_eq!(counted("Failure! 3 passed, 2 failed, 1 skipped.\n"), (3, 2));
        assert_eq!(counted("Error: no such thing"), (0, 0));
    }

    #[test]
    fn a_mirror_is_found_some_folders_below() {
        let dir = crate::run::temp_dir("mirror").unwrap();
        assert_eq!(below(&dir, 2), None);
        fs::create_dir_all(dir.join("a/plugins").join(PROVIDER)).unwrap();
        assert_eq!(below(&dir, 2), Some(dir.join("a/plugins")));
        assert_eq!(below(&dir, 1), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
