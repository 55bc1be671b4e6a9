//! `medmesh edge plans`, `medmesh fl ledger` and `medmesh fl worker`: what a facility's own staff and its node do.
use super::{node, noted::who};
use crate::{
    cli::{
        fl::LedgerArgs,
        plans::{ListArgs, PlansCommand},
    },
    failure::Failure,
    out,
};
use ::node::clock::Clock;
use anyhow::{Context, anyhow};
use edge::{
    config::EdgeConfig,
    learning::{Decided, Plans, Stands, Waiting, work_here},
};
use fl::ledger::Ledger;
use rustix::process::{Resource, Rlimit, nice, setrlimit};
use serde_json::{Value, json};
use std::{
    fs,
    io::{stdin, stdout},
    path::PathBuf,
};

/// Priority of a worker: the last one.
const NICE: i32 = 19;
/// What a worker may have of memory, in bytes: a hundred times a table of a million records is not needed by any model.
const MAX_MEMORY_BYTES: u64 = 8 << 30;
/// What a worker may have open: its input, its output and its errors.
const MAX_OPEN: u64 = 3;

/// Runs `edge plans`.
pub fn run(command: &PlansCommand) -> Result<(), Failure> {
    match command {
        PlansCommand::List(args) => list(args),
        PlansCommand::Approve(args) => decide(args, Decided::Approved),
        PlansCommand::Refuse(args) => decide(args, Decided::Refused),
        PlansCommand::Hold(args) => decide(args, Decided::Held),
    }
}

fn open(config: &EdgeConfig) -> Result<Plans, Failure> {
    let opened = Plans::open(config);
    Ok(opened.context("has the node run, and may you read its store?")?)
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.print.config)?;
    let found = open(&config)?.list(Clock::new(None).real());
    let mut found = found.map_err(anyhow::Error::from)?;
    let none = match found.is_empty() {
        true => "no study has come to this facility",
        false => "every study that came to this facility has ended: `--all` lists them",
    };
    found.retain(|plan| args.all || plan.stands != Stands::Ended);
    if args.print.json {
        let plans: Vec<_> = found.iter().map(plan_json).collect();
        return Ok(out::line(json!({ "plans": plans }))?);
    }
    out::none(found.is_empty(), none);
    for plan in &found {
        let (decided, stands) = (plan.decided.as_str(), plan.stands.as_str());
        let summary = Plans::summary(plan);
        out::line(format!("{}  {decided}  {stands}  {summary}", plan.study))?;
    }
    Ok(())
}

fn plan_json(plan: &Waiting) -> Value {
    json!({
        "study": plan.study,
        "sha256": plan.digest,
        "decided": plan.decided.as_str(),
        "stands": plan.stands.as_str(),
        "by": plan.by,
        "time": plan.at.to_rfc3339(),
        "summary": Plans::summary(plan),
        "text": plan.text,
    })
}

fn decide(args: &crate::cli::plans::DecideArgs, decided: Decided) -> Result<(), Failure> {
    let config: EdgeConfig = node::read(&args.config)?;
    let by = who();
    let found = open(&config)?.decide(args.study.as_str(), decided, (&by, Clock::new(None).real()));
    if !found.context("nothing was decided")? {
        return Err(anyhow!("no study `{}` has come here", args.study).into());
    }
    let word = decided.as_str();
    if args.json {
        return Ok(out::line(
            json!({ "study": args.study.as_str(), "decided": word }),
        )?);
    }
    Ok(out::line(format!("{} is {word}", args.study))?)
}

/// Runs `fl ledger`.
pub fn ledger(args: &LedgerArgs) -> Result<(), Failure> {
    let (configs, is_one) = ledgers(args)?;
    let mut all = Vec::new();
    for path in configs {
        let config: EdgeConfig = node::read(&path)?;
        let plans = open(&config)?;
        let ledger = plans.ledger(&config).map_err(anyhow::Error::from)?;
        let facility = &config.facility;
        let Some(ledger) = ledger else {
            let none =
                format!("{facility} lets nothing be learnt: its configuration has no [learning]");
            if is_one {
                return Err(anyhow!(none).into());
            }
            // The others have one.
            if !args.json {
                out::line(none)?;
            }
            continue;
        };
        if args.signed {
            let text = signed_text(&config, &ledger)?;
            out::text(&plans.sign_ledger(&text).0)?;
        } else if args.json {
            let mut told = told(&config, &ledger)?;
            let (note, key) = plans.sign_ledger(&signed_text(&config, &ledger)?);
            told["note"] = json!(note);
            told["key"] = json!(key);
            all.push(told);
        } else {
            if !is_one {
                out::line(&config.facility)?;
            }
            shown(&ledger)?;
        }
    }
    match (args.json, all.pop()) {
        (true, Some(only)) if is_one => out::line(only)?,
        (true, last) => {
            all.extend(last);
            out::line(json!({ "ledgers": all }))?;
        }
        (false, _) => {}
    }
    Ok(())
}

/// The configurations whose ledgers are asked for, and whether that is one.
fn ledgers(args: &LedgerArgs) -> anyhow::Result<(Vec<PathBuf>, bool)> {
    if let Some(config) = &args.config {
        return Ok((vec![config.clone()], true));
    }
    let nodes = args.dir.join("edge");
    let of = |facility: &str| nodes.join(facility).join("edge.toml");
    if let Some(facility) = &args.facility {
        return Ok((vec![of(facility.as_str())], true));
    }
    if args.signed {
        anyhow::bail!("--signed: a note is of one facility: name it by --facility or --config");
    }
    let folders = fs::read_dir(&nodes);
    let folders =
        folders.with_context(|| format!("{}: is it the folder of a mesh?", nodes.display()))?;
    let names = folders
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut found: Vec<_> = names
        .map(|name| of(&name))
        .filter(|path| path.exists())
        .collect();
    if found.is_empty() {
        anyhow::bail!("{}: no facility has a configuration there", nodes.display());
    }
    found.sort();
    Ok((found, false))
}

fn shown(ledger: &Ledger) -> std::io::Result<()> {
    let (budget, spent) = (ledger.budget(), ledger.spent());
    out::line(format!(
        "epsilon {spent:.4} of {} at delta {:e}",
        budget.epsilon,
        budget.delta.get()
    ))?;
    for entry in ledger.entries() {
        let event = &entry.event;
        out::line(format!(
            "  {}  sampling {}  noise multiplier {}  steps {}  epsilon after it {:.4}",
            entry.release,
            event.sampling(),
            event.noise_multiplier(),
            event.steps(),
            entry.epsilon_after
        ))?;
    }
    Ok(())
}

/// What anybody needs to compute ε again.
fn told(config: &EdgeConfig, ledger: &Ledger) -> anyhow::Result<Value> {
    let budget = ledger.budget();
    Ok(json!({
        "facility": config.facility.as_str(),
        "delta": budget.delta.get(),
        "budget": budget.epsilon,
        "spent": ledger.spent(),
        "unit": "record",
        "neighbours": "add-or-remove-one",
        "mechanism": "gaussian on poisson samples; each entry is composed `steps` times, noise in units of the clip",
        "entries": serde_json::to_value(ledger.entries())?,
    }))
}

/// The text that is signed: what it is and of whom, when, and all of it in one line.
fn signed_text(config: &EdgeConfig, ledger: &Ledger) -> anyhow::Result<String> {
    let time = Clock::new(None).real().to_rfc3339();
    let told = told(config, ledger)?;
    Ok(format!("{}\n{time}\n{told}\n", Plans::ledger_name(config)))
}

/// Runs `fl worker`: what it reads it works on, and nothing else is within its reach.
pub fn work() -> Result<(), Failure> {
    nice(NICE).context("the priority")?;
    let bound = |resource, most| {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )
    };
    bound(Resource::As, MAX_MEMORY_BYTES).context("the bound of memory")?;
    bound(Resource::Nofile, MAX_OPEN).context("the bound of what may be open")?;
    work_here(stdin().lock(), stdout().lock())?;
    Ok(())
}
