//! Asks nodes how they are: at the operations listener of each, all at once, and for no longer than was said.
use super::{State, figures::Figures};
use crate::{
    cli::TokenArgs,
    command::{local_api::reachable, nodes::Node, token::token},
    failure::Failure,
    https::Https,
};
use anyhow::{Context, Result, anyhow};
use node::clock::Clock;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::timeout;
use types::Tier;

/// The client of `mesh.json` that asks.
const OPERATOR: &str = "operator";

/// A node that is asked.
#[derive(Clone)]
pub struct Asked {
    /// Its name: that of the facility or the region, or `global`.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// Where it serves `/ready` and `/metrics`.
    origin: String,
    https: Https,
    /// The mesh whose operator may read metrics, and its name for the node that gives tokens.
    operator: Option<(PathBuf, String)>,
}

/// What was seen of a node.
#[derive(Debug)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// What it answered, or why there is no answer.
    pub answer: Result<Answer, String>,
}

/// What a node answers.
#[derive(Debug)]
pub struct Answer {
    /// What it said under `/ready`.
    pub ready: Ready,
    /// What its metrics say, or why they are not shown.
    pub figures: Result<Figures, String>,
}

/// The answer of `/ready`.
#[derive(Debug, Default, Deserialize)]
pub struct Ready {
    /// Whether it can do its work.
    pub ready: bool,
    /// What it must have and has not.
    pub failing: Vec<Why>,
    /// What it does without.
    pub degraded: Vec<Why>,
}

/// A check that does not pass.
#[derive(Debug, Deserialize)]
pub struct Why {
    /// Its name.
    pub check: String,
    /// Why.
    pub reason: String,
}

/// What the name of the second node of a region ends with.
pub const SECOND: &str = " (b)";

impl Why {
    /// Of two nodes one waits.
    pub fn is_as_it_should_be(&self) -> bool {
        self.check == "writer" && self.reason == "standby"
    }
}

impl Seen {
    /// How the node is.
    pub fn state(&self) -> State {
        match &self.answer {
            Err(_) => State::Down,
            Ok(answer) if !answer.ready.ready => State::NotReady,
            Ok(answer) => {
                let ends = answer
                    .figures
                    .as_ref()
                    .is_ok_and(|it| !it.ending().is_empty());
                if answer.ready.degraded.iter().all(Why::is_as_it_should_be) && !ends {
                    State::Ready
                } else {
                    State::Degraded
                }
            }
        }
    }
}

/// The nodes of a mesh: the global one, and each region with its facilities behind it.
///
/// # Errors
/// There is no `mesh.json`, or it is none.
pub fn of_mesh(dir: &Path) -> Result<Vec<Asked>> {
    let file = dir.join("mesh.json");
    let text = fs::read_to_string(&file)
        .with_context(|| format!("{}: is a mesh running there?", file.display()))?;
    let mesh: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    let lacks = |what: &str| anyhow!("{}: {what} is missing", file.display());
    let https = Https::new(Path::new(mesh["ca"].as_str().ok_or_else(|| lacks("ca"))?))?;
    let node = |name: &str, tier: Tier, value: &Value, gives: &str| -> Result<Asked> {
        let metrics = value["metrics"].as_str();
        let metrics = metrics.ok_or_else(|| lacks(&format!("metrics of {name}")))?;
        Ok(Asked {
            name: name.to_owned(),
            tier,
            origin: metrics.trim_end_matches("/metrics").to_owned(),
            https: https.clone(),
            operator: (tier != Tier::Edge).then(|| (dir.to_owned(), gives.to_owned())),
        })
    };
    let mut asked = vec![node("global", Tier::Global, &mesh["global"], "global")?];
    let facilities = mesh["facilities"].as_array().map_or(&[][..], Vec::as_slice);
    for (region, value) in mesh["regions"]
        .as_object()
        .ok_or_else(|| lacks("regions"))?
    {
        match value["nodes"].as_array() {
            None => asked.push(node(region, Tier::Regional, value, region)?),
            Some(nodes) => {
                for (which, value) in ["", SECOND].into_iter().zip(nodes) {
                    let name = format!("{region}{which}");
                    asked.push(node(&name, Tier::Regional, value, region)?);
                }
            }
        }
        for facility in facilities
            .iter()
            .filter(|it| it["region"] == region.as_str())
        {
            let name = facility["id"].as_str().unwrap_or("?");
            asked.push(node(name, Tier::Edge, facility, "")?);
        }
    }
    Ok(asked)
}

/// The node of a configuration, on this machine.
///
/// # Errors
/// The configuration is wrong, or names no port.
pub fn of_config(file: &Path) -> Result<Asked, Failure> {
    let node = Node::of(file)?;
    let address = reachable(node.metrics.unwrap_or(node.https.listen))?;
    Ok(Asked {
        name: node.name().to_owned(),
        tier: node.here.tier(),
        origin: format!("https://{address}"),
        https: Https::of_node(&node.tls.cert)?,
        operator: None,
    })
}

/// Asks every node, all at once; what they answer, in the same order.
pub async fn all(asked: &[Asked], wait: Duration) -> Vec<Seen> {
    let tasks: Vec<_> = asked
        .iter()
        .cloned()
        .map(|asked| tokio::spawn(async move { asked.look(wait).await }))
        .collect();
    let mut seen = Vec::with_capacity(tasks.len());
    for (task, asked) in tasks.into_iter().zip(asked) {
        let answer = task.await.unwrap_or_else(|error| Err(error.to_string()));
        seen.push(Seen {
            name: asked.name.clone(),
            tier: asked.tier,
            answer,
        });
    }
    seen
}

impl Asked {
    async fn look(&self, wait: Duration) -> Result<Answer, String> {
        let url = format!("{}/ready", self.origin);
        let answered = timeout(wait, self.https.get(&url)).await;
        let (status, body) = match answered {
            Err(_) => return Err(format!("no answer within {:?}", wait)),
            Ok(Err(error)) => return Err(format!("{:#}", root(&error))),
            Ok(Ok(answer)) => answer,
        };
        let ready: Ready = serde_json::from_str(&body)
            .map_err(|_| format!("/ready answers {status}, and nothing that is understood"))?;
        let figures = match timeout(wait, self.figures()).await {
            Err(_) => Err(format!("no metrics within {:?}", wait)),
            Ok(figures) => figures.map_err(|error| format!("{:#}", root(&error))),
        };
        Ok(Answer { ready, figures })
    }

    async fn figures(&self) -> Result<Figures> {
        let url = format!("{}/metrics", self.origin);
        let (mut status, mut text) = self.https.get(&url).await?;
        if let (401 | 403 | 404, Some((dir, region))) = (status, &self.operator) {
            let who = TokenArgs {
                dir: dir.clone(),
                client: OPERATOR.to_owned(),
                region: region.clone(),
            };
            let token = token(&who).await?;
            (status, text) = self.https.api("GET", &url, token.reveal(), "", &[]).await?;
        }
        if status != 200 {
            return Err(anyhow!(
                "metrics are not shown ({status}): they are at [metrics] listen, or for tokens with mesh/metrics.r"
            ));
        }
        Ok(Figures::read(&text, Clock::new(None).real()))
    }
}

/// The first cause: what a person can do something about.
fn root(error: &anyhow::Error) -> String {
    error.root_cause().to_string()
}
