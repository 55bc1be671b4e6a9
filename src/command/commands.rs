//! `medmesh edge commands` and `medmesh edge blobs`: what came down to a facility, and what its staff says to it.
use super::{local_api::LocalApi, node};
use crate::{
    cli::{
        commands::{EdgeCommandsCommand, HoldArgs, RefuseArgs},
        view::RunningArgs,
    },
    failure::Failure,
    out,
};
use edge::config::EdgeConfig;
use serde_json::{Value, json};

fn api(args: &RunningArgs) -> Result<LocalApi, Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    Ok(LocalApi::of(&config)?)
}

/// Runs `edge commands`.
pub async fn run(command: EdgeCommandsCommand) -> Result<(), Failure> {
    match command {
        EdgeCommandsCommand::List(args) => list(&args).await,
        EdgeCommandsCommand::Hold(args) => hold(&args, "hold", "held back").await,
        EdgeCommandsCommand::Release(args) => hold(&args, "release", "released").await,
        EdgeCommandsCommand::Refuse(args) => refuse(&args).await,
    }
}

/// A text of an answer, shown and never obeyed.
fn text(value: &Value, name: &str) -> String {
    out::printable(value[name].as_str().unwrap_or_default())
}

async fn list(args: &RunningArgs) -> Result<(), Failure> {
    let answer = api(args)?.get("commands", &[]).await?;
    for held in answer["held"].as_array().into_iter().flatten() {
        let (device, by) = (text(held, "device"), text(held, "by"));
        if args.json {
            out::line(json!({ "device": device, "held_by": by }))?;
            continue;
        }
        out::line(format!("the commands of {device} are held back by {by}"))?;
    }
    for item in answer["items"].as_array().into_iter().flatten() {
        if args.json {
            out::line(item)?;
            continue;
        }
        let held = item["held_by"].as_str().map(out::printable);
        let held = held.map(|by| format!("  held by {by}")).unwrap_or_default();
        let refused = item["refused_by"].as_str().map(out::printable);
        let refused = refused.map(|by| format!(" by {by}")).unwrap_or_default();
        let parameters = out::printable(&item["parameters"].to_string());
        out::line(format!(
            "{}  {:<16} {:<18} {:<12} {parameters}  by {}{held} {}{refused}",
            text(item, "id"),
            text(item, "device"),
            text(item, "name"),
            text(item, "state"),
            text(item, "by"),
            text(item, "reason"),
        ))?;
    }
    Ok(())
}

async fn hold(args: &HoldArgs, what: &str, done: &str) -> Result<(), Failure> {
    let body = json!({ "device": args.device.as_str(), "by": args.by });
    let path = format!("commands/{what}");
    let answer = api(&args.node)?.post(&path, &body.to_string()).await?;
    if args.node.json {
        return Ok(out::line(answer)?);
    }
    Ok(out::line(format!(
        "the commands of {} are {done}",
        args.device
    ))?)
}

async fn refuse(args: &RefuseArgs) -> Result<(), Failure> {
    let body = json!({ "command": args.command.to_string(), "by": args.by });
    let answer = api(&args.node)?;
    let answer = answer.post("commands/refuse", &body.to_string()).await?;
    if args.node.json {
        return Ok(out::line(answer)?);
    }
    Ok(out::line("refused; the region is told")?)
}

/// Runs `edge blobs`.
pub async fn blobs(args: &RunningArgs) -> Result<(), Failure> {
    let answer = api(args)?.get("blobs", &[]).await?;
    for item in answer["items"].as_array().into_iter().flatten() {
        if args.json {
            out::line(item)?;
            continue;
        }
        let path = item["path"].as_str().map(out::printable);
        out::line(format!(
            "{}  {:<24} {:<14} {} of {} bytes  {}",
            text(item, "id"),
            text(item, "name"),
            text(item, "class"),
            item["held"],
            item["size"],
            path.unwrap_or_else(|| "on its way".into()),
        ))?;
    }
    Ok(())
}
