//! Figures of federated learning beside those of packages that are not ours: Google's dp-accounting and Flower.
use anyhow::{Context, Result, ensure};
use fl::{
    privacy::{Delta, Event, epsilon},
    strategy::{Coordinator, combine},
    study::{Adaptive, Strategy},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    process::{Command, Stdio},
};

/// Sampling probability, noise multiplier and number of steps.
const EVENTS: [(f64, f64, u64); 12] = [
    (0.001, 0.6, 1_000),
    (0.001, 1.0, 10_000),
    (0.001, 2.0, 1_000),
    (0.01, 0.7, 1_000),
    (0.01, 1.0, 1),
    (0.01, 1.1, 10_000),
    (0.01, 5.0, 100),
    (0.1, 1.0, 10),
    (0.1, 2.0, 1_000),
    (0.5, 4.0, 100),
    (1.0, 1.0, 1),
    (1.0, 5.0, 10),
];
const DELTAS: [f64; 2] = [1e-4, 1e-8];

const ADAPTIVE: Adaptive = Adaptive {
    server_learning_rate: 0.1,
    beta_1: 0.9,
    beta_2: 0.99,
    tau: 1e-3,
};

#[test]
#[cfg_attr(
    not(asked_for_python),
    ignore = "needs MEDMESH_TEST_PYTHON; cargo xtask test starts everything"
)]
fn budgets_and_strategies_are_those_of_independent_packages() -> Result<()> {
    let python = std::env::var("MEDMESH_TEST_PYTHON")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/check_federated.py");
    let mut check = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let given = json!({ "accountant": budgets()?, "strategies": strategies()? });
    let mut input = check.stdin.take().context("standard input")?;
    input.write_all(given.to_string().as_bytes())?;
    drop(input);
    let checked = check.wait_with_output()?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        checked.status.success(),
        "{}\n{}",
        said(&checked.stdout),
        said(&checked.stderr)
    );
    Ok(())
}

fn budgets() -> Result<Vec<Value>> {
    let mut cases = Vec::new();
    for (q, sigma, steps) in EVENTS {
        let event = Event::new(q, sigma, steps)?;
        for delta in DELTAS {
            let found = epsilon(&[event], Delta::new(delta)?);
            cases.push(
                json!({ "q": q, "sigma": sigma, "steps": steps, "delta": delta, "epsilon": found }),
            );
        }
    }
    Ok(cases)
}

/// Five rounds of four members with a thousand parameters, and where each strategy ends.
fn strategies() -> Result<Value> {
    let mut random = StdRng::seed_from_u64(7);
    let mut vector = |scale: f32| -> Vec<f32> {
        (0..1_000)
            .map(|_| random.random_range(-scale..scale))
            .collect()
    };
    let start = vector(1.0);
    let rounds: Vec<Vec<_>> = (0..5)
        .map(|_| {
            [31_u32, 7, 250, 12]
                .map(|records| (vector(0.5), records))
                .to_vec()
        })
        .collect();
    let mut models = serde_json::Map::new();
    for strategy in [
        Strategy::FedAvg {},
        Strategy::FedProx { mu: 0.1 },
        Strategy::FedAdam(ADAPTIVE),
        Strategy::FedYogi(ADAPTIVE),
        Strategy::FedAdagrad(ADAPTIVE),
    ] {
        let mut coordinator = Coordinator::new(start.clone())?;
        for members in &rounds {
            let updates: Vec<_> = members
                .iter()
                .map(|(update, records)| (update.clone(), f64::from(*records)))
                .collect();
            coordinator.step(&strategy, &combine(&strategy, &updates)?)?;
        }
        models.insert(strategy.name().into(), json!(coordinator.model()));
    }
    let member =
        |(update, records): &(Vec<f32>, u32)| json!({ "update": update, "records": records });
    let rounds: Vec<Vec<Value>> = rounds
        .iter()
        .map(|members| members.iter().map(member).collect())
        .collect();
    Ok(json!({
        "start": start,
        "rounds": rounds,
        "models": models,
        "server_learning_rate": ADAPTIVE.server_learning_rate,
        "beta_1": ADAPTIVE.beta_1,
        "beta_2": ADAPTIVE.beta_2,
        "tau": ADAPTIVE.tau,
    }))
}
