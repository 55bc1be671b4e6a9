//! What is checked of the package's scripts: they do twice what they do once, a node goes on through an upgrade and ends before
//! its program goes, and what it has is removed only when that was asked for.
use crate::place::Places;
use anyhow::{Result, ensure};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

/// Programs that are only written down.
const NOTED: [&str; 3] = ["adduser", "install", "systemctl"];
/// Folders of a machine that the scripts name.
const FOLDERS: [&str; 3] = ["/etc/", "/run/", "/var/lib/"];

/// Runs the scripts as dpkg does, in a root of their own: programs that would change this machine only write down what they
/// are told.
pub fn scripts(places: &Places) -> Result<()> {
    let stage = Stage::new(places)?;
    let [etc, var] = ["etc/medmesh", "var/lib/medmesh"].map(|folder| stage.root.join(folder));
    stage.run("postinst", "configure")?;
    let once = stage.told()?;
    stage.run("postinst", "configure")?;
    ensure!(
        stage.told()? == once && etc.is_dir() && var.is_dir(),
        "the second configuration is another one"
    );
    let held = [etc.join("edge.toml"), var.join("node.key")];
    let is_there = || held.iter().all(|file| file.exists());
    for file in &held {
        fs::write(file, "secret")?;
    }
    stage.run("prerm", "upgrade")?;
    ensure!(stage.told()?.is_empty(), "an upgrade ends a node");
    stage.run("prerm", "remove")?;
    let told = stage.told()?;
    ensure!(
        told == "systemctl stop medmesh@*.service\n",
        "removed under a node: {told:?}"
    );
    stage.run("postrm", "remove")?;
    let said = stage.run("postrm", "purge")?;
    ensure!(is_there(), "what a node has went without being asked for");
    ensure!(
        said.contains("/etc/medmesh and ") && said.contains("stay"),
        "nobody is told of what stays: {said}"
    );
    fs::write(etc.join("erase"), "")?;
    // The second time nothing is there any longer.
    for _ in 0..2 {
        let said = stage.run("postrm", "purge")?;
        let gone = !etc.exists() && !var.exists();
        ensure!(gone && said.is_empty(), "something stays: {said}");
    }
    Ok(())
}

/// A root for the scripts, and what they have told to programs.
struct Stage {
    scripts: PathBuf,
    programs: PathBuf,
    root: PathBuf,
    log: PathBuf,
}

impl Stage {
    fn new(places: &Places) -> Result<Self> {
        let dir = places.target.join("package-scripts");
        fs::remove_dir_all(&dir).ok();
        let stage = Self {
            scripts: places.root.join("infra/packaging/debian"),
            programs: dir.join("bin"),
            root: dir.join("root"),
            log: dir.join("log"),
        };
        fs::create_dir_all(&stage.programs)?;
        fs::create_dir_all(stage.root.join("run/systemd/system"))?;
        for name in NOTED {
            let program = stage.programs.join(name);
            let makes = if name == "install" {
                "for last; do :; done\nmkdir -p \"$last\"\n"
            } else {
                ""
            };
            let log = stage.log.display();
            fs::write(
                &program,
                format!("#!/bin/sh\necho \"{name} $*\" >> '{log}'\n{makes}"),
            )?;
            fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        }
        Ok(stage)
    }

    /// Runs a script; what it says on its error stream.
    fn run(&self, script: &str, argument: &str) -> Result<String> {
        const ROOT: &str = "@ROOT@";
        let text = fs::read_to_string(self.scripts.join(script))?;
        let inside = FOLDERS.iter().fold(text, |text, folder| {
            text.replace(folder, &format!("{ROOT}{folder}"))
        });
        let file = self.root.with_file_name(script);
        let root = self.root.to_string_lossy();
        fs::write(&file, inside.replace(ROOT, &root))?;
        let mut path = self.programs.clone().into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let done = Command::new("sh")
            .arg(&file)
            .arg(argument)
            .env("PATH", path)
            .output()?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure!(done.status.success(), "{script} {argument}: {said}");
        Ok(said)
    }

    /// What programs were told since this was asked last.
    fn told(&self) -> Result<String> {
        let told = fs::read_to_string(&self.log).unwrap_or_default();
        fs::write(&self.log, "")?;
        Ok(told)
    }
}
