//! `medmesh fl`: what a study comes to and what it spends, without a mesh; and studies of one that runs.
use super::{plans, studies};
use crate::{
    cli::fl::{EpsilonArgs, FlArgs, FlCommand},
    failure::Failure,
    out,
};
use anyhow::Context;
use fl::{
    order::MAX_STUDY_BYTES,
    privacy::{Delta, Event, epsilon, epsilon_by_rdp},
    study::{Plan, Study},
};
use node::config::{ConfigError, Problem};
use serde_json::{Value, json};
use std::{fs, path::Path};

/// Runs the command.
pub async fn run(args: &FlArgs) -> Result<(), Failure> {
    match &args.command {
        FlCommand::Check { study, json } => check(study, *json),
        FlCommand::Epsilon(args) => spent(args),
        FlCommand::Submit(args) => {
            read(&args.study)?;
            studies::submit(args).await
        }
        FlCommand::List(mesh) => studies::list(mesh).await,
        FlCommand::Show(study) => studies::show(study).await,
        FlCommand::Watch(args) => studies::watch(args).await,
        FlCommand::Open { id, mesh } => studies::open(mesh, id.as_ref()).await,
        FlCommand::Cancel(study) => studies::change(study, "cancel").await,
        FlCommand::Resume(study) => studies::change(study, "resume").await,
        FlCommand::Export { study, to } => studies::export(study, to).await,
        FlCommand::Ledger(args) => plans::ledger(args),
        FlCommand::Worker => plans::work(),
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
    let fail = |problems| ConfigError {
        path: path.to_owned(),
        problems,
    };
    let io = |error: std::io::Error| fail(vec![Problem::new("", error.to_string())]);
    let bytes = fs::metadata(path).map_err(io)?.len();
    if bytes > MAX_STUDY_BYTES as u64 {
        let most = format!("is {bytes} bytes long, and a study has at most {MAX_STUDY_BYTES}");
        return Err(fail(vec![Problem::new("", most)]));
    }
    let text = fs::read_to_string(path).map_err(io)?;
    global::read_study(&text).map_err(fail)
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

#[cfg(test)]
mod tests {
    use super::*;

    const STUDY: &str = r#"
name = "heart"
sites = 4
data = { table = "heart", minimum_records = 40, features = [{ name = "age", unit = "a", missing = "mean", scale = { centre = 54, width = 9 } }], label = { kind = "binary", column = "num" } }
model = { kind = "logistic" }
training = { rounds = 5, steps = 4, batch = 8, learning_rate = 0.1, strategy = { kind = "fed-avg" } }
privacy = { unit = "record", epsilon = 2.0, delta = 1e-4, clip = 1.0 }
aggregation = { secure = true, quorum = 3, bound = 4.0 }
"#;

    fn read_text(text: &str) -> Result<(Study, Plan), ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("study.toml");
        std::fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn a_good_study_is_printed_with_what_it_comes_to() {
        let (study, plan) = read_text(STUDY).unwrap();
        let text = table(&study, &plan);
        assert!(text.contains("2 parameters of 1 inputs"), "{text}");
        assert!(text.contains("3 of 4 sites, 1 may be lost"), "{text}");
        assert!(text.contains("by record: 20 steps"), "{text}");
    }

    #[test]
    fn a_bad_study_is_a_wrong_configuration_with_every_problem() {
        let bad = STUDY
            .replace("sites = 4", "sites = 4\nsurprise = 1")
            .replace("rounds = 5", "rounds = \"many\"")
            .replace("quorum = 3", "quorum = 2");
        let error = read_text(&bad).unwrap_err();
        let paths: Vec<_> = error.problems.iter().map(|p| p.path.as_str()).collect();
        for path in ["surprise", "training.rounds", "aggregation.quorum"] {
            assert!(paths.contains(&path), "{path} in {paths:?}");
        }
    }
}
