//! `medmesh local`: the processes of a mesh on this machine that somebody else keeps: Terraform, which says what shall
//! run, and finds by the files of `run/` what does. `medmesh up` keeps its processes itself; both lay a mesh out alike.
//!
//! A process outlives the command that starts it, and is found again by its process id together with the path of its
//! configuration, so that another process with a reused id is never taken for it.
mod folder;
mod order;
mod process;
mod ready;
mod start;

use crate::{
    cli::local::{LocalArgs, LocalCommand, OrderArgs},
    failure::Failure,
    out,
    up::{files, identity, plan},
};
use anyhow::{Context, Result};
use folder::Folder;
use node::clock::Clock;
use order::{Describe, Install, Stop, Sweep};
use serde::de::DeserializeOwned;
use std::fs;

/// Runs the command.
pub async fn run(args: LocalArgs) -> Result<(), Failure> {
    storage::private::make_private();
    match args.command {
        LocalCommand::Install(args) => Ok(install(&read(&args)?)?),
        LocalCommand::Start(args) => start::start(&read(&args)?).await,
        LocalCommand::Stop(args) => Ok(stop(&read(&args)?)?),
        LocalCommand::Describe(args) => Ok(describe(&read(&args)?)?),
        LocalCommand::Sweep(args) => Ok(sweep(&read(&args)?)?),
    }
}

fn read<T: DeserializeOwned>(args: &OrderArgs) -> Result<T> {
    serde_json::from_str(&args.order).context("the order")
}

/// What is there stays: identities, data and other versions of the program.
fn install(order: &Install) -> Result<()> {
    let folder = Folder::make(&order.dir)?;
    let plan = folder.plan();
    {
        let _alone = folder.alone("pki.lock")?;
        identity::prepare(&plan, Clock::new(None).real(), || ())?;
        for client in plan::CLIENTS {
            identity::client(&plan, client)?;
        }
    }
    let to = folder.inside(&order.binary)?;
    if !to.exists() {
        let own = std::env::current_exe().context("this program's own path")?;
        let bytes = fs::read(&own).with_context(|| own.display().to_string())?;
        fs::create_dir_all(to.parent().unwrap_or(&to))?;
        storage::file::replace(&to, &bytes, 0o700).with_context(|| to.display().to_string())?;
    }
    Ok(out::line(to.display())?)
}

fn stop(order: &Stop) -> Result<()> {
    let Some(folder) = Folder::open_if_there(&order.dir)? else {
        return Ok(());
    };
    let _open = folder.open_to_starts()?;
    let name = folder::file_name(&order.name)?;
    match folder.run(name)? {
        Some(run) if run.token == order.token => {
            process::stop(&[run.process()]);
            folder.forget(name)
        }
        _ => Ok(()),
    }
}

fn describe(order: &Describe) -> Result<()> {
    let folder = Folder::open(&order.dir)?;
    let bytes = serde_json::to_vec_pretty(&order.mesh)?;
    files::replace(&folder.dir().join("mesh.json"), &bytes)
}

fn sweep(order: &Sweep) -> Result<()> {
    let Some(folder) = Folder::open_if_there(&order.dir)? else {
        return Ok(());
    };
    // Starts that are under way come to their end first; later ones find no folder.
    let _alone = folder.alone(folder::STARTS)?;
    process::stop(&process::below(folder.dir())?);
    let dir = folder.dir();
    fs::remove_dir_all(dir).with_context(|| dir.display().to_string())
}
