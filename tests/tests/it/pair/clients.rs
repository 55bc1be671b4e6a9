//! FHIR clients of a region of two nodes: each writes one resource after the other, at whichever node answers, and
//! sends again what it has no answer for.
use super::{WRITER, tokens::Tokens};
use anyhow::{Context, Result, bail, ensure};
use medmesh_tests::https::{Https, Session};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};

const CLIENTS: usize = 4;
/// How long a client waits for an answer before it asks the other node.
const WAITS: Duration = Duration::from_secs(2);
/// Between two resources of a client.
const BETWEEN: Duration = Duration::from_millis(20);
pub const SYSTEM: &str = "urn:ietf:rfc:3986";

/// Clients that write until they are told to stop.
pub struct Clients {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    running: Vec<JoinHandle<Result<Wrote>>>,
}

/// What a client has done.
#[derive(Default)]
pub struct Wrote {
    /// The values that it was told are stored.
    pub stored: BTreeSet<String>,
    /// The longest time between two of them, or since the last one.
    pub longest: Duration,
    /// How often it asked in vain.
    pub in_vain: u64,
    /// By how many of them each node has answered.
    pub at: [u64; 2],
}

impl Clients {
    /// Begins, with the tokens of a client, at two authorities.
    pub fn begin(https: &Https, tokens: &Tokens, nodes: &[String; 2]) -> Self {
        let (stop, written) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let run = |number: usize| {
            let client = Client {
                https: https.clone(),
                tokens: tokens.clone(),
                nodes: nodes.clone(),
                at: number % 2,
                session: None,
            };
            tokio::spawn(client.run(number, stop.clone(), written.clone()))
        };
        let running = (0..CLIENTS).map(run).collect();
        Self {
            stop,
            written,
            running,
        }
    }

    /// How many resources were stored so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Stops all of them, each after the resource in hand, or after its next try of it.
    pub async fn end(self) -> Result<Wrote> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Wrote::default();
        for one in self.running {
            let one = one.await??;
            all.stored.extend(one.stored);
            all.longest = all.longest.max(one.longest);
            all.in_vain += one.in_vain;
            all.at = [all.at[0] + one.at[0], all.at[1] + one.at[1]];
        }
        Ok(all)
    }
}

struct Client {
    https: Https,
    tokens: Tokens,
    nodes: [String; 2],
    at: usize,
    session: Option<Session>,
}

impl Client {
    async fn run(
        mut self,
        number: usize,
        stop: Arc<AtomicBool>,
        written: Arc<AtomicU64>,
    ) -> Result<Wrote> {
        let (mut wrote, mut last) = (Wrote::default(), Instant::now());
        let mut next = 0;
        let stopped = || stop.load(Ordering::Relaxed);
        'all: while !stopped() {
            next += 1;
            let value = format!("urn:uuid:00000000-0000-4000-8000-{number:02}{next:010}");
            while !matches!(timeout(WAITS, self.write(&value)).await, Ok(Ok(()))) {
                // Whether it is stored is not known: the same again, elsewhere.
                wrote.in_vain += 1;
                self.session = None;
                self.at = 1 - self.at;
                if stopped() {
                    break 'all;
                }
                tokio::time::sleep(BETWEEN).await;
            }
            wrote.at[self.at] += 1;
            wrote.longest = wrote.longest.max(last.elapsed());
            last = Instant::now();
            wrote.stored.insert(value);
            written.fetch_add(1, Ordering::Relaxed);
            // Each asks both in turn, also while both answer.
            if next % 8 == 0 {
                (self.session, self.at) = (None, 1 - self.at);
            }
            tokio::time::sleep(BETWEEN).await;
        }
        wrote.longest = wrote.longest.max(last.elapsed());
        Ok(wrote)
    }

    async fn write(&mut self, value: &str) -> Result<()> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.https.session(&self.nodes[self.at]).await?,
        };
        let condition = format!("identifier={SYSTEM}%7C{value}");
        let extra = [("if-none-exist", &condition[..])];
        let body = resource(value).to_string();
        let path = "/fhir/Basic";
        let token = self.tokens.of(WRITER);
        let answer = session.post_json(path, &token, &extra, body).await?;
        if !matches!(answer.status, 200 | 201) {
            bail!("{}", answer.status);
        }
        self.session = Some(session);
        Ok(())
    }
}

pub fn resource(value: &str) -> Value {
    json!({
        "resourceType": "Basic",
        "code": {"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/basic-resource-type", "code": "study"
        }]},
        "identifier": [{"system": SYSTEM, "value": value}],
    })
}

/// Everything that clients were told is stored is there, and everything that is there is there once.
pub fn check(wrote: &Wrote, there: &[String]) -> Result<()> {
    let once: BTreeSet<_> = there.iter().cloned().collect();
    ensure!(once.len() == there.len(), "some are stored twice");
    let lost: Vec<_> = wrote.stored.difference(&once).collect();
    ensure!(lost.is_empty(), "lost: {lost:?}");
    let both = wrote.at.iter().all(|count| *count > 0);
    both.then_some(())
        .context("one of the nodes served nothing")
}
