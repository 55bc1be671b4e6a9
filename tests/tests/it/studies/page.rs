//! `docs/federated-learning.md` as what it is: commands and programs that somebody types in their order.
use anyhow::{Context, Result, ensure};
use medmesh_tests::binary;
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const PAGE: &str = include_str!("../../../../docs/federated-learning.md");

/// The lines of the page's blocks of a language, without those that are empty.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let after = PAGE.split(fence.as_str()).skip(1);
    after
        .filter_map(|rest| rest.split("\n```").next())
        .map(str::to_owned)
        .collect()
}

/// The programs of the page.
#[cfg(asked_for_python)]
pub fn python() -> Vec<String> {
    blocks("python")
}

/// The folder in which the page is followed.
pub struct Follower {
    /// The folder, with everything that the page says is in it.
    pub folder: PathBuf,
    commands: std::vec::IntoIter<String>,
    /// What the page's placeholders stand for.
    pub stands_for: Vec<(&'static str, String)>,
}

impl Follower {
    /// Begins with the page's first command, which starts the mesh: its arguments behind `up`, without the folder.
    pub fn begin(folder: &Path) -> Result<(Self, Vec<String>)> {
        let all = blocks("sh");
        let lines = all.iter().flat_map(|block| block.lines());
        let commands: Vec<_> = lines.map(str::to_owned).collect();
        let mut commands = commands.into_iter();
        let first = commands.next().context("a page without a command")?;
        let up = first
            .strip_prefix("medmesh up ")
            .and_then(|rest| rest.strip_suffix(" --dir mesh &"));
        let up = up.with_context(|| first.clone())?;
        let up = up.split(' ').map(str::to_owned).collect();
        let folder = folder.to_owned();
        let follower = Self {
            folder,
            commands,
            stands_for: Vec::new(),
        };
        Ok((follower, up))
    }

    /// The page's next command, ready to be run by a shell in the folder. It begins with `begins`.
    pub fn next(&mut self, begins: &str) -> Result<Command> {
        let mut text = self.commands.next().context("the page has ended")?;
        ensure!(text.starts_with(begins), "not {begins}: {text}");
        for (placeholder, value) in &self.stands_for {
            text = text.replace(placeholder, value);
        }
        let medmesh = binary::medmesh();
        let own = medmesh.parent().context("a binary in a folder")?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command
            .args(["-ec", &text])
            .current_dir(&self.folder)
            .env("PATH", format!("{}:{path}", own.display()));
        Ok(command)
    }

    /// Runs the next command: what it prints.
    pub fn run(&mut self, begins: &str) -> Result<String> {
        printed(self.next(begins)?.output()?).with_context(|| begins.to_owned())
    }

    /// Nothing of the page is left.
    pub fn end(mut self) -> Result<()> {
        let left = self.commands.next();
        ensure!(left.is_none(), "not run: {left:?}");
        Ok(())
    }
}

/// What a command printed that went well.
pub fn printed(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
