//! `medmesh quarantine`: the quarantine of every node of a mesh whose files are on this machine. It finds the node that is
//! meant, and does there what the command of its tier does, with the same row in its audit log.
use super::{
    super::{
        check_config::detect,
        nodes::{self, of_mesh},
    },
    List, Node,
};
use crate::{
    cli::{
        ConfigKind,
        quarantine::{
            MeshEntryArgs, MeshListArgs, MeshQuarantineCommand, QuarantineCommand,
            QuarantineEntryArgs, WhichNodes,
        },
    },
    failure::Failure,
};
use anyhow::{Result, anyhow, bail};
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn mesh(command: &MeshQuarantineCommand) -> Result<(), Failure> {
    match command {
        MeshQuarantineCommand::List(args) => Ok(list(args)?),
        MeshQuarantineCommand::Show(args) => of_one(args, QuarantineCommand::Show),
        MeshQuarantineCommand::Release(args) => of_one(args, QuarantineCommand::Release),
        MeshQuarantineCommand::Discard(args) => of_one(args, QuarantineCommand::Discard),
    }
}

fn files(which: &WhichNodes) -> Result<Vec<PathBuf>> {
    if which.config.is_empty() {
        of_mesh(&which.dir)
    } else {
        Ok(which.config.clone())
    }
}

/// Every node is looked at; one that cannot be is said at the end, after the others.
fn list(args: &MeshListArgs) -> Result<()> {
    let files = files(&args.nodes)?;
    let (mut list, mut failed) = (List::new(args.json), Vec::new());
    for file in &files {
        if let Err(error) = add(file, &mut list) {
            failed.push(format!("{}: {error:#}", file.display()));
        }
    }
    if failed.is_empty() {
        return list.end();
    }
    list.cut_short()?;
    bail!("not every node could be looked at: {}", failed.join("; "))
}

fn add(file: &Path, list: &mut List) -> Result<()> {
    let node = nodes::checked(file)?;
    list.of(node.here);
    let open = match detect(file) {
        ConfigKind::Edge => Node::of_edge,
        ConfigKind::Regional => Node::of_region,
        ConfigKind::Global | ConfigKind::Device => Node::of_global,
    };
    open(file).map_err(nodes::one_error)?.list(list)
}

/// Does with one entry what the command of its node's tier does.
fn of_one(
    args: &MeshEntryArgs,
    what: impl Fn(QuarantineEntryArgs) -> QuarantineCommand,
) -> Result<(), Failure> {
    let config = meant(&files(&args.nodes)?, args.entry.node.as_deref())?;
    let tier = detect(&config);
    let command = what(QuarantineEntryArgs {
        entry: args.entry.entry,
        config,
        json: args.json,
    });
    match tier {
        ConfigKind::Edge => super::edge(&command),
        ConfigKind::Regional => super::regional(&command),
        ConfigKind::Global => super::global(&command),
        ConfigKind::Device => Err(anyhow!("devices have no quarantine").into()),
    }
}

/// The configuration of the node of that name or place. A node that cannot be looked at may have the name; a place is one node's.
fn meant(files: &[PathBuf], node: Option<&str>) -> Result<PathBuf> {
    let Some(wanted) = node else {
        return match files {
            [only] => Ok(only.clone()),
            _ => bail!("there are several nodes: say which as NODE/ENTRY, such as us-f1/p12"),
        };
    };
    let (mut found, mut unread) = (Vec::new(), None);
    for file in files {
        match nodes::checked(file) {
            Ok(node) if node.here.to_string() == wanted => return Ok(file.clone()),
            Ok(node) if node.name() == wanted => found.push((node.here.to_string(), file)),
            Ok(_) => {}
            Err(error) => unread = Some(error.context(file.display().to_string())),
        }
    }
    if let Some(error) = unread {
        let says =
            format!("{wanted}: a node cannot be looked at; say the place, as edge/us/us/us-f1/p12");
        return Err(error.context(says));
    }
    match found.as_slice() {
        [(_, file)] => Ok((*file).clone()),
        [] => bail!("{wanted}: no node has this name or place"),
        several => {
            let places: Vec<_> = several.iter().map(|(place, _)| place.as_str()).collect();
            bail!(
                "{wanted}: several nodes have this name; say the place: {}",
                places.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_alone_needs_no_name() {
        let files = ["a", "b"].map(PathBuf::from);
        assert_eq!(meant(&files[..1], None).unwrap(), files[0]);
        assert!(meant(&files, None).is_err());
        assert!(meant(&[], None).is_err());
    }

    #[test]
    fn a_name_that_a_node_may_have_which_cannot_be_looked_at_is_asked_for_by_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let absent = dir.path().join("absent.toml");
        let name = meant(std::slice::from_ref(&absent), Some("us-f1")).unwrap_err();
        let says = format!("{name:#}");
        assert!(says.contains("say the place"), "{says}");
        assert!(says.contains("absent.toml"), "{says}");
    }
}
