//! Clients of a region's FHIR interface that ask without pause while something is done to the region. Nothing is tried
//! again: a request that gets no good answer has failed.
use anyhow::{Context, Result, ensure};
use medmesh_tests::https::{Https, split};
use serde_json::Value;
use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A client gets a new token every so many requests; between, the one that it has must stay good.
const REQUESTS_OF_A_TOKEN: u64 = 50;

/// Two clients that ask: one that connects for each request, and one that keeps its connection.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<[Asked; 2]>>,
}

/// What a client saw.
#[derive(Default)]
pub struct Asked {
    /// Requests with status 200.
    pub answered: u64,
    /// What happened to the others.
    pub failed: Vec<String>,
    /// The longest time from a request to its answer, with the connection.
    pub longest: Duration,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (answered, longest) = (self.answered, self.longest.as_millis());
        write!(
            f,
            "{answered} answered, the slowest after {longest} ms; failed: {:?}",
            self.failed
        )
    }
}

impl Asked {
    fn note(&mut self, begin: Instant, status: Result<u16>) {
        self.longest = self.longest.max(begin.elapsed());
        match status {
            Ok(200) => self.answered += 1,
            Ok(other) => self.failed.push(format!("status {other}")),
            Err(error) => self.failed.push(format!("{error:#}")),
        }
    }
}

impl Load {
    /// Begins to ask a region of the mesh in `dir`.
    pub fn start(dir: &Path, region: &str) -> Result<Self> {
        let mesh: Value = serde_json::from_slice(&std::fs::read(dir.join("mesh.json"))?)?;
        let client = Client {
            https: Https::new(&dir.join("pki/ca.pem"))?,
            url: mesh["regions"][region]["fhir"]
                .as_str()
                .context("fhir")?
                .to_owned()
                + "/Observation?_count=1",
            own: mesh["clients"]["fhir-reader"].clone(),
            region: region.to_owned(),
        };
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (new, kept) = tokio::join!(client.connects(&until), client.keeps(&until));
                Ok([new?, kept?])
            })
        });
        Ok(Self { stop, thread })
    }

    /// Ends it; every request must have been answered.
    pub fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        let asked = self.thread.join().ok().context("the clients panicked")??;
        for (client, asked) in ["connects each time", "keeps its connection"]
            .iter()
            .zip(&asked)
        {
            println!("a client that {client}: {asked}");
            ensure!(asked.answered > 0, "a client that {client} asked nothing");
            ensure!(asked.failed.is_empty(), "a client that {client}: {asked}");
        }
        Ok(())
    }
}

struct Client {
    https: Https,
    url: String,
    own: Value,
    region: String,
}

impl Client {
    async fn token(&self) -> Result<String> {
        self.https.token(&self.own, &self.region).await
    }

    async fn connects(&self, stop: &AtomicBool) -> Result<Asked> {
        let (mut asked, mut token) = (Asked::default(), self.token().await?);
        while !stop.load(Ordering::Acquire) {
            let begin = Instant::now();
            let answer = self.https.get(&self.url, Some(&token)).await;
            asked.note(begin, answer.map(|answer| answer.status));
            if asked.answered % REQUESTS_OF_A_TOKEN == 0 {
                token = self.token().await.context("a new token")?;
            }
        }
        Ok(asked)
    }

    async fn keeps(&self, stop: &AtomicBool) -> Result<Asked> {
        let (authority, path) = split(&self.url)?;
        let (mut asked, token) = (Asked::default(), self.token().await?);
        let mut session = self.https.session(authority).await?;
        while !stop.load(Ordering::Acquire) {
            let begin = Instant::now();
            // The answer before said that the connection ends: nothing was sent on it since.
            if !session.is_open().await {
                session = self.https.session(authority).await?;
            }
            let answer = session.get(path, Some(&token)).await;
            asked.note(begin, answer.map(|answer| answer.status));
        }
        Ok(asked)
    }
}
