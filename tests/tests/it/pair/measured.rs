//! How much of what clients ask of a region of two nodes is answered right within a second, while one thing fails after the
//! other. A client knows both addresses: it gives one node 300 ms, and then the other one the rest of the second.
use super::{
    OPERATOR, WRITER,
    clients::{SYSTEM, resource},
    tokens::Tokens,
};
use anyhow::{Result, bail, ensure};
use medmesh_tests::https::{Answer, Https, Session};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};

/// What is not answered by then is not answered in time.
const IN_TIME: Duration = Duration::from_secs(1);
/// What the first node is given of it.
const FIRST: Duration = Duration::from_millis(300);
/// Between two requests of a client.
const BETWEEN: Duration = Duration::from_millis(25);
/// Before a node is asked again that could not be asked.
const AGAIN: Duration = Duration::from_millis(20);

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// A search by FHIR.
    Read,
    /// A conditional create by FHIR.
    Write,
    /// The devices: only the node that writes knows them.
    Devices,
}

/// Clients that ask until they are told to stop.
pub struct Measured {
    stop: Arc<AtomicBool>,
    /// Right answers of each so far.
    right: Vec<Arc<AtomicU32>>,
    running: Vec<JoinHandle<Tally>>,
    fault: Fault,
}

/// What is wrong now.
#[derive(Clone)]
struct Fault(Arc<Mutex<&'static str>>);

impl Fault {
    fn now(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of the requests of a client.
#[derive(Debug)]
pub struct Tally {
    asks: Asks,
    asked: u32,
    right: u32,
    /// Requests that were not answered right in time, by what was wrong when they were made.
    missed: BTreeMap<&'static str, u32>,
    /// The longest time without a right answer, also at the end.
    longest: Duration,
}

impl Tally {
    /// In percent.
    fn share(&self) -> f64 {
        100.0 * f64::from(self.right) / f64::from(self.asked.max(1))
    }
}

impl Measured {
    /// Begins, one for each kind of request, at two authorities.
    pub fn begin(https: &Https, tokens: &Tokens, nodes: &[String; 2]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let asks = [Asks::Read, Asks::Write, Asks::Devices];
        let right: Vec<Arc<AtomicU32>> = asks.iter().map(|_| Arc::default()).collect();
        let fault = Fault(Arc::new(Mutex::new("nothing")));
        let run = |(asks, right): (Asks, &Arc<AtomicU32>)| {
            let client = Client {
                https: https.clone(),
                asks,
                tokens: tokens.clone(),
                right: right.clone(),
                nodes: nodes.clone(),
                sessions: [None, None],
                at: 0,
                fault: fault.clone(),
            };
            tokio::spawn(client.run(stop.clone()))
        };
        let running = asks.into_iter().zip(&right).map(run).collect();
        Self {
            stop,
            right,
            running,
            fault,
        }
    }

    /// Says what is wrong from now on.
    pub fn during(&self, fault: &'static str) {
        *self.fault.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What was said last.
    pub fn fault(&self) -> &'static str {
        self.fault.now()
    }

    /// How often each was answered right so far.
    pub fn right(&self) -> Vec<u32> {
        let right = self.right.iter();
        right.map(|count| count.load(Ordering::Relaxed)).collect()
    }

    /// Stops, and prints what was measured. Each client must have been answered at all.
    pub async fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for one in self.running {
            let tally = one.await?;
            println!(
                "{:?}: {} of {} answered right within {IN_TIME:?}, {:.3} %; at most {:?} between two right answers; missed {:?}",
                tally.asks,
                tally.right,
                tally.asked,
                tally.share(),
                tally.longest,
                tally.missed
            );
            ensure!(tally.right > 0, "{tally:?}");
        }
        Ok(())
    }
}

struct Client {
    https: Https,
    asks: Asks,
    tokens: Tokens,
    right: Arc<AtomicU32>,
    nodes: [String; 2],
    sessions: [Option<Session>; 2],
    at: usize,
    fault: Fault,
}

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Tally {
        let mut tally = Tally {
            asks: self.asks,
            asked: 0,
            right: 0,
            missed: BTreeMap::new(),
            longest: Duration::ZERO,
        };
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            tally.asked += 1;
            let fault = self.fault.now();
            let in_time = timeout(IN_TIME, self.answered(tally.asked)).await;
            if in_time.is_ok() {
                tally.right += 1;
                self.right.store(tally.right, Ordering::Relaxed);
                tally.longest = tally.longest.max(last.elapsed());
                last = Instant::now();
            } else {
                *tally.missed.entry(fault).or_default() += 1;
                self.sessions = [None, None];
            }
            tokio::time::sleep(BETWEEN).await;
        }
        tally.longest = tally.longest.max(last.elapsed());
        tally
    }

    /// Ends with the first right answer of either.
    async fn answered(&mut self, number: u32) {
        let mut given = FIRST;
        loop {
            if matches!(timeout(given, self.ask(number)).await, Ok(Ok(()))) {
                return;
            }
            self.sessions[self.at] = None;
            self.at = 1 - self.at;
            given = IN_TIME;
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn ask(&mut self, number: u32) -> Result<()> {
        let mut session = match self.sessions[self.at].take() {
            Some(session) => session,
            None => self.https.session(&self.nodes[self.at]).await?,
        };
        let token = self.tokens.of(match self.asks {
            Asks::Read | Asks::Write => WRITER,
            Asks::Devices => OPERATOR,
        });
        let token = token.as_str();
        let right = match self.asks {
            Asks::Read => is_found(&session.get("/fhir/Basic?_count=1", Some(token)).await?),
            Asks::Devices => session.get("/api/v1/devices", Some(token)).await?.status == 200,
            Asks::Write => {
                let value = format!("urn:uuid:00000000-0000-4000-9000-{number:012}");
                let condition = format!("identifier={SYSTEM}%7C{value}");
                let extra = [("if-none-exist", &condition[..])];
                let body = resource(&value).to_string();
                let answer = session.post_json("/fhir/Basic", token, &extra, body);
                matches!(answer.await?.status, 200 | 201)
            }
        };
        if !right {
            bail!("another answer");
        }
        self.sessions[self.at] = Some(session);
        Ok(())
    }
}

/// Whether an answer shows a resource.
fn is_found(answer: &Answer) -> bool {
    let found = answer.json();
    found.is_ok_and(|found| found["entry"].as_array().is_some_and(|all| !all.is_empty()))
}
