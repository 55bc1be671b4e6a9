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
    privacy::{Delta, Event, InvalidEvent, epsilon, epsilon_by_rdp},
    study::{Plan, Study},
};
use global::lacking;
use node::config::{ConfigError, Problem};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io::Read as _, path::Path};
use types::RegionId;

/// Runs the command.
pub async fn run(args: &FlArgs) -> Result<(), Failure> {
    match &args.command {
        FlCommand::Check { study, dir, json } => check(study, dir.as_deref(), *json),
        FlCommand::Epsilon(args) => spent(args),
        FlCommand::Submit(args) => {
            let read = text_of(&args.study).and_then(|text| {
                planned(&args.study, &text)?;
                Ok(text)
            });
            let text = read.map_err(|error| said(error, args.mesh.json))?;
            fits(args, &text)?;
            studies::submit(args, &text).await
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

fn check(path: &Path, mesh: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let mesh = mesh.map(told).transpose()?;
    let found = read(path).and_then(|(study, plan)| {
        let problems = mesh.map_or_else(Vec::new, |mesh| lacking(&study, &facilities(&mesh)));
        if problems.is_empty() {
            return Ok((study, plan));
        }
        Err(ConfigError {
            path: path.to_owned(),
            problems,
        })
    });
    let (study, plan) = found.map_err(|error| said(error, as_json))?;
    if as_json {
        let plan = serde_json::to_value(plan).context("the plan")?;
        let study = study.name.as_str();
        return Ok(out::line(
            json!({ "ok": true, "study": study, "plan": plan }),
        )?);
    }
    Ok(out::text(&table(&study, &plan))?)
}

/// What is wrong with a study, as JSON too where that is asked for.
fn said(error: ConfigError, as_json: bool) -> Failure {
    if as_json {
        let told = json!({ "ok": false, "problems": problems(&error) });
        if let Err(broken) = out::line(told) {
            return broken.into();
        }
    }
    error.into()
}

/// What the folder of a mesh says of it.
fn told(dir: &Path) -> anyhow::Result<Value> {
    let path = dir.join("mesh.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("{}: is `medmesh up` running?", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Refuses a study that a mesh cannot run, where the mesh is a folder: nothing is sent. A node at an address refuses
/// regions that it has not met, and leaves the rest to them.
fn fits(args: &crate::cli::fl::SubmitArgs, text: &str) -> Result<(), Failure> {
    if args.mesh.server.is_some() {
        return Ok(());
    }
    let fail = |problems| ConfigError {
        path: args.study.clone(),
        problems,
    };
    let (study, _) = global::read_study(text).map_err(fail)?;
    let problems = lacking(&study, &facilities(&told(&args.mesh.dir)?));
    if problems.is_empty() {
        return Ok(());
    }
    Err(said(fail(problems), args.mesh.json))
}

/// How many facilities each region of a mesh has, by what its folder says.
fn facilities(mesh: &Value) -> BTreeMap<RegionId, usize> {
    let regions = mesh["regions"].as_object().into_iter().flatten();
    let of = |(id, _): (&String, &Value)| {
        let all = mesh["facilities"].as_array().into_iter().flatten();
        let have = all.filter(|of| of["region"] == id.as_str()).count();
        Some((id.parse().ok()?, have))
    };
    regions.filter_map(of).collect()
}

/// The text of a study. It is read once, so that it may be a pipe, and no more of it than a study has.
fn text_of(path: &Path) -> Result<String, ConfigError> {
    let fail = |message: String| ConfigError {
        path: path.to_owned(),
        problems: vec![Problem::new("", message)],
    };
    let io = |error: std::io::Error| fail(error.to_string());
    let file = fs::File::open(path).map_err(io)?;
    let mut text = String::new();
    let most = MAX_STUDY_BYTES as u64;
    file.take(most + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() > MAX_STUDY_BYTES {
        return Err(fail(format!(
            "is longer than {MAX_STUDY_BYTES} bytes, which a study has at most"
        )));
    }
    Ok(text)
}

/// A study and what it comes to.
fn planned(path: &Path, text: &str) -> Result<(Study, Plan), ConfigError> {
    global::read_study(text).map_err(|problems| ConfigError {
        path: path.to_owned(),
        problems,
    })
}

fn read(path: &Path) -> Result<(Study, Plan), ConfigError> {
    planned(path, &text_of(path)?)
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
    let event = event.map_err(wrong)?;
    let delta = Delta::new(args.delta).map_err(wrong)?;
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

/// What is wrong with an argument of `fl epsilon`, by its name.
fn wrong(why: InvalidEvent) -> anyhow::Error {
    let argument = match why {
        InvalidEvent::Sampling(_) => "--sampling",
        InvalidEvent::Noise(_) => "--noise-multiplier",
        InvalidEvent::Steps(_) => "--steps",
        InvalidEvent::Delta(_) => "--delta",
    };
    anyhow::Error::new(why).context(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_accounted_for_is_refused_by_the_name_of_its_argument() {
        let good = EpsilonArgs {
            sampling: 0.1,
            noise_multiplier: 2.0,
            steps: 10,
            delta: 1e-5,
            json: true,
        };
        let change = |change: fn(&mut EpsilonArgs)| {
            let mut args = EpsilonArgs { ..good };
            change(&mut args);
            let Err(Failure::Failed(why)) = spent(&args) else {
                return String::new();
            };
            format!("{why:#}")
        };
        assert_eq!(change(|_| {}), "");
        for (said, expected) in [
            (
                change(|args| args.sampling = 1.5),
                "--sampling: a sampling probability is from",
            ),
            (
                change(|args| args.sampling = f64::NAN),
                "--sampling: a sampling",
            ),
            (
                change(|args| args.noise_multiplier = 0.0),
                "--noise-multiplier: a noise",
            ),
            (
                change(|args| args.steps = 0),
                "--steps: a mechanism is used from 1",
            ),
            (change(|args| args.delta = 1.0), "--delta: a delta is from"),
        ] {
            assert!(said.starts_with(expected), "{said}");
        }
    }

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
    fn a_study_that_its_mesh_cannot_run_is_refused_before_it_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let mesh = json!({ "regions": { "us": {} }, "facilities": [{ "region": "us" }, { "region": "us" }] });
        std::fs::write(dir.path().join("mesh.json"), mesh.to_string()).unwrap();
        let mut args = crate::cli::fl::SubmitArgs {
            study: "study.toml".into(),
            wait: false,
            to: None,
            mlflow: None,
            mesh: crate::cli::fl::MeshArgs {
                dir: dir.path().to_owned(),
                server: None,
                client_id: "data-scientist".into(),
                key: None,
                kid: None,
                ca: None,
                json: false,
            },
        };
        let Err(Failure::Config(why)) = fits(&args, STUDY) else {
            panic!("four facilities of two");
        };
        let few = "sites: 4 facilities of each region are asked, and `us` has 2";
        assert!(why.to_string().contains(few), "{why}");
        let small = STUDY
            .replace("sites = 4", "sites = 2")
            .replace("quorum = 3", "quorum = 2");
        assert!(fits(&args, &small).is_ok());
        // Nothing is known of a node at an address.
        args.mesh.server = Some("https://mesh.example:8443".into());
        assert!(fits(&args, STUDY).is_ok());
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
