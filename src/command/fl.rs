//! `medmesh fl`: what a study comes to and what it spends, without a mesh.
use crate::{
    cli::fl::{EpsilonArgs, FlArgs, FlCommand},
    failure::Failure,
    out,
};
use anyhow::Context;
use fl::{
    privacy::{Delta, Event, epsilon, epsilon_by_rdp},
    study::{Plan, Study},
};
use node::config::{self, ConfigError, Problem, Validate};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// A study in a file; overrides of a node's configuration do not apply to it.
#[derive(Deserialize)]
#[serde(transparent)]
struct StudyFile(Study);

impl Validate for StudyFile {
    fn problems(&self) -> Vec<Problem> {
        let of = |problem: fl::study::Problem| Problem::new(problem.path, problem.message);
        self.0.problems().into_iter().map(of).collect()
    }
}

/// Runs the command.
pub fn run(args: &FlArgs) -> Result<(), Failure> {
    match &args.command {
        FlCommand::Check { study, json } => check(study, *json),
        FlCommand::Epsilon(args) => spent(args),
    }
}

fn check(path: &Path, as_json: bool) -> Result<(), Failure> {
    let (study, plan) = match read(path) {
        Ok(found) => found,
        Err(error) if as_json => {
            out::line(json!({ "ok": false, "problems": problems(&error) }))?;
            return Err(error.into());
        }
        Err(error) => return Err(error.into()),
    };
    if as_json {
        let plan = serde_json::to_value(plan).context("the plan")?;
        let study = study.name.as_str();
        return Ok(out::line(
            json!({ "ok": true, "study": study, "plan": plan }),
        )?);
    }
    Ok(out::text(&table(&study, &plan))?)
}

fn read(path: &Path) -> Result<(Study, Plan), ConfigError> {
    let study = config::load::<StudyFile>(path, [])?.0;
    let plan = study.plan().map_err(|problems| ConfigError {
        path: path.to_owned(),
        problems: problems
            .into_iter()
            .map(|problem| Problem::new(problem.path, problem.message))
            .collect(),
    })?;
    Ok((study, plan))
}

fn problems(error: &ConfigError) -> Vec<Value> {
    let one = |problem: &Problem| json!({ "path": problem.path, "message": problem.message });
    error.problems.iter().map(one).collect()
}

fn table(study: &Study, plan: &Plan) -> String {
    let mut text = format!(
        "{}: a good study\n  model       {} parameters of {} inputs, {} bytes an update\n  quorum      {} of {} sites, {} may be lost\n",
        study.name,
        plan.parameters,
        plan.inputs,
        plan.update_bytes,
        study.aggregation.quorum,
        study.sites,
        plan.dropouts,
    );
    if let Some(bits) = plan.bits {
        text += &format!(
            "  numbers     {} of {} bits, a unit is {:.3e}\n",
            bits.needed, bits.available, bits.unit
        );
    }
    match plan.spend {
        Some(spend) => {
            text += &format!(
                "  privacy     epsilon {:.4} at delta {:e} by {}: {} steps, sampling {:.6}, noise multiplier {:.4}\n",
                spend.epsilon,
                spend.delta,
                spend.unit.as_str(),
                spend.steps,
                spend.sampling,
                spend.noise_multiplier
            );
        }
        None => text += "  privacy     nothing is promised\n",
    }
    text
}

fn spent(args: &EpsilonArgs) -> Result<(), Failure> {
    let event = Event::new(args.sampling, args.noise_multiplier, args.steps);
    let event = event.map_err(anyhow::Error::new)?;
    let delta = Delta::new(args.delta).map_err(anyhow::Error::new)?;
    let found = epsilon(&[event], delta);
    if !args.json {
        return Ok(out::line(format!("{found:.6}"))?);
    }
    Ok(out::line(json!({
        "epsilon": found,
        "epsilon_renyi": epsilon_by_rdp(&[event], delta),
        "delta": args.delta,
        "sampling": args.sampling,
        "noise_multiplier": args.noise_multiplier,
        "steps": args.steps,
        "neighbours": "add-or-remove-one",
    }))?)
}
