//! Commands to devices while nodes and engines are killed: each that a region accepted ends once, and none is carried out
//! twice.
use crate::{
    https::{self, Session},
    mesh::Mesh,
    wait,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two commands to a facility: its devices carry out one at a time.
const EVERY: Duration = Duration::from_millis(250);
/// The devices that get them, by kind: one by registers, one by MQTT.
const KINDS: [&str; 2] = ["bedside-monitor", "lab-analyser"];

/// A region's commands, each with its device, in the order in which the region accepted them.
#[derive(Debug)]
pub struct Given {
    region: String,
    accepted: Vec<(String, String)>,
}

/// Gives commands to the devices of a region until stopped; each is asked for under its key until the region has accepted
/// it.
///
/// # Errors
/// The region refuses one, or accepts another one under the same key.
pub async fn give(mesh: Arc<Mesh>, region: String, stop: Arc<AtomicBool>) -> Result<Given> {
    let mut accepted = Vec::new();
    let mut connected: Option<(Session, String)> = None;
    let mut devices: Vec<String> = Vec::new();
    // Some are given when nobody is killed any more: these are carried out for certain.
    let (mut last, deadline) = (0, Instant::now() + wait::PATIENCE);
    while last < KINDS.len() {
        let is_over = stop.load(Ordering::Relaxed);
        ensure!(
            !is_over || Instant::now() < deadline,
            "{region}: no command is accepted"
        );
        tokio::time::sleep(EVERY).await;
        let Some((session, token)) = &mut connected else {
            connected = connect(&mesh, &region).await.ok();
            continue;
        };
        if devices.len() < KINDS.len() {
            match known(session, &mesh, (&region, token)).await {
                Ok(known) => devices = known,
                Err(_) => connected = None,
            }
            continue;
        }
        let device = &devices[accepted.len() % devices.len()];
        match one(session, &mesh, (&region, token, device), accepted.len()).await {
            Ok(id) => {
                accepted.push((device.clone(), id));
                last += usize::from(is_over);
            }
            // The region is away: the same is asked again under the same key.
            Err(Failed::Away) => connected = None,
            Err(Failed::Wrong(error)) => return Err(error),
        }
    }
    Ok(Given { region, accepted })
}

enum Failed {
    Away,
    Wrong(anyhow::Error),
}

async fn connect(mesh: &Mesh, region: &str) -> Result<(Session, String)> {
    let url = api(mesh, region)?;
    let session = mesh.https.session(https::split(&url)?.0).await?;
    Ok((session, mesh.token("operator", region).await?))
}

fn api(mesh: &Mesh, region: &str) -> Result<String> {
    let json = mesh.json()?;
    let api = json["regions"][region]["api"].as_str();
    Ok(api.context("the region's API")?.to_owned())
}

async fn known(
    session: &mut Session,
    mesh: &Mesh,
    (region, token): (&str, &str),
) -> Result<Vec<String>> {
    let url = api(mesh, region)?;
    let path = format!("{}/devices?limit=100", https::split(&url)?.1);
    let answer = session.get(&path, Some(token)).await?;
    ensure!(answer.status == 200, "{}", answer.status);
    let list = answer.json()?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let of = |kind: &&str| {
        let device = items.iter().find(|device| device["kind"] == **kind)?;
        Some(device["id"].as_str()?.to_owned())
    };
    Ok(KINDS.iter().filter_map(of).collect())
}

async fn one(
    session: &mut Session,
    mesh: &Mesh,
    (region, token, device): (&str, &str, &str),
    number: usize,
) -> Result<String, Failed> {
    let asked = async {
        let url = api(mesh, region)?;
        let path = format!("{}/devices/{device}/commands", https::split(&url)?.1);
        let body = json!({"name": "identify", "parameters": {}, "ttl": "120s"}).to_string();
        let key = format!("through-kills-{number}");
        let extra = [("idempotency-key", key.as_str())];
        session.post_json(&path, token, &extra, body).await
    };
    let answer = asked.await.map_err(|_| Failed::Away)?;
    // 5xx: its store is away for a moment. 401: its clients are not known yet, or the token has ended.
    if answer.status >= 500 || answer.status == 401 || answer.status == 429 {
        return Err(Failed::Away);
    }
    let command = answer.json().map_err(Failed::Wrong)?;
    let id = command["id"].as_str().context("an id");
    Ok(id.map_err(Failed::Wrong)?.to_owned())
}

impl Given {
    /// Every command has ended, once, and in both audit logs none is carried out twice.
    ///
    /// # Errors
    /// One is lost, has no end, or was carried out twice.
    pub async fn check(&self, mesh: &Mesh) -> Result<()> {
        let region = &self.region;
        ensure!(
            !self.accepted.is_empty(),
            "{region}: no command was accepted"
        );
        let mut done = 0;
        for (device, id) in &self.accepted {
            let ended = || async {
                let url = api(mesh, region).ok()?;
                let url = format!("{url}/devices/{device}/commands/{id}");
                let token = mesh.token("operator", region).await.ok()?;
                let shown = mesh.https.get(&url, Some(&token)).await.ok()?.json().ok()?;
                (!ends(&shown).is_empty()).then_some(shown)
            };
            let command = wait::until("a command ends", wait::PATIENCE, ended).await?;
            let ends = ends(&command);
            ensure!(
                ends.len() == 1,
                "{region}: it ended more than once: {command}"
            );
            // What a kill interrupts is not tried again, and what waits too long lapses.
            let reason = command["history"].to_string();
            let excused = reason.contains("interrupted") || ends[0] == "expired";
            ensure!(ends[0] == "acknowledged" || excused, "{region}: {command}");
            done += usize::from(ends[0] == "acknowledged");
        }
        ensure!(done > 0, "{region}: no command was carried out");
        for node in [format!("edge:{region}-f1"), format!("regional:{region}")] {
            let mut times = HashMap::<String, usize>::new();
            for row in mesh.listed(&node, ["audit", "list"])? {
                if row["decision"] == "command-done" {
                    *times.entry(row["id"].to_string()).or_default() += 1;
                }
            }
            let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
            ensure!(twice.is_empty(), "{node}: carried out twice: {twice:?}");
        }
        println!(
            "{region}: {done} of {} commands were carried out, each once",
            self.accepted.len()
        );
        Ok(())
    }
}

/// The states in which a command has ended.
fn ends(command: &Value) -> Vec<&str> {
    let steps = command["history"].as_array().into_iter().flatten();
    steps
        .filter_map(|step| step["state"].as_str())
        .filter(|state| !["queued", "delivered"].contains(state))
        .collect()
}
