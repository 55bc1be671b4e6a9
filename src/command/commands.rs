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
    let (all_held, items) = (rows(&answer, "held"), rows(&answer, "items"));
    let is_empty = all_held.is_empty() && items.is_empty();
    out::none(
        is_empty && !args.json,
        "no command has come down, and none is held back",
    );
    for held in all_held {
        let (device, by) = (text(held, "device"), text(held, "by"));
        if args.json {
            out::line(json!({ "device": device, "held_by": by }))?;
            continue;
        }
        out::line(format!("the commands of {device} are held back by {by}"))?;
    }
    for item in items {
        if args.json {
            out::line(item)?;
        } else {
            out::text(&command(item))?;
        }
    }
    Ok(())
}

fn rows<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    answer[name].as_array().map_or(&[][..], Vec::as_slice)
}

/// A command as people read it: its id with what became of it, then what it is and who said what of it.
fn command(item: &Value) -> String {
    let said = |what: &str, name: &str| {
        let by = item[name].as_str().map(out::printable);
        by.map(|by| format!(", {what} by {by}")).unwrap_or_default()
    };
    let (id, state, reason) = (text(item, "id"), text(item, "state"), text(item, "reason"));
    let head = format!("{id}  {state:<12} {reason}");
    let parameters = out::printable(&item["parameters"].to_string());
    let (device, name) = (text(item, "device"), text(item, "name"));
    let what = out::wrapped("  ", &format!("{device} {name} {parameters}"));
    let (refused, held) = (said("refused", "refused_by"), said("held", "held_by"));
    let who = format!("by {}{refused}{held}", text(item, "by"));
    format!("{}\n{what}{}", head.trim_end(), out::wrapped("  ", &who))
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
    let items = rows(&answer, "items");
    let is_empty = items.is_empty() && !args.json;
    out::none(is_empty, "no file has come down to this facility");
    for item in items {
        if args.json {
            out::line(item)?;
        } else {
            out::text(&blob(item))?;
        }
    }
    Ok(())
}

/// A file as people read it: its id and class, then its name, how much of it is here, and where it lies.
fn blob(item: &Value) -> String {
    let path = item["path"].as_str().map(out::printable);
    let path = path.unwrap_or_else(|| "on its way".into());
    let (name, held, size) = (text(item, "name"), &item["held"], &item["size"]);
    let below = format!("{name}, {held} of {size} bytes, {path}");
    let head = format!("{}  {}", text(item, "id"), text(item, "class"));
    format!("{head}\n{}", out::wrapped("  ", &below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_came_down_fits_a_terminal() {
        let told = json!({
            "id": ID, "device": "bedside-monitor-17", "name": "set-alarm-limits", "state": "acknowledged",
            "reason": "wrong-parameters", "by": "operator-of-the-region", "held_by": "anna of the ward",
            "refused_by": "bert of the ward", "parameters": {"heart-rate-high": 120, "heart-rate-low": 50,
            "spo2-low": 90},
        });
        let file = json!({
            "id": ID, "name": "image-of-the-monitors-2.4.1.bin", "class": "firmware",
            "held": 1_073_741_824_u64, "size": 1_073_741_824_u64,
        });
        for text in [command(&told), blob(&file)] {
            let long = text.lines().find(|line| line.chars().count() > out::WIDTH);
            assert_eq!(long, None, "{text}");
            assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text}");
        }
        let text = command(&told);
        for said in ["refused by bert", "held by anna", "\"spo2-low\":90"] {
            assert!(text.contains(said), "{said}: {text}");
        }
    }
}
