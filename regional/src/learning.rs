//! Rounds of studies in this region: ordered by the global node, asked of the region's own facilities, released as a sum.
//!
//! What a round leads to is decided in `fl`. Here it is stored: the state of each round, what is asked next and the
//! answer to whoever sent the parcel are one commit of the node's ledger, so that a region that is killed at any moment
//! goes on where it was, and asks nothing twice.
mod blobs;

use async_trait::async_trait;
use federation::{
    blobs::{Blobs, keep_message, want},
    db::DbError,
    envelope::{self, Intact, OpenError},
    ledger::{Commit, Handler, Ledger, Shipped},
    port::{PortError, Verdict},
    reason,
};
use fl::{
    order::{Answer, Outcome, Release, RoundKey, RoundOrder},
    region::RegionRound,
    wire,
};
use messages::{Body, StudyAnswer, StudyAsk, StudyEnd, StudyRelease, StudyRound};
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use types::{EnvelopeId, FacilityId, Place, Priority, Purpose};

/// How often it is looked for deadlines that have passed (real time).
const TICK: Duration = Duration::from_secs(1);
/// Characters of the reason of a round that failed, where it names very many facilities.
const MOST_WHY: usize = 10_000;

const TABLES: &[&str] = &[
    "
CREATE TABLE study_round (
  study TEXT NOT NULL, round INTEGER NOT NULL, attempt INTEGER NOT NULL,
  state TEXT,                           -- none when it is over and everybody was told
  PRIMARY KEY (study, round, attempt)
) STRICT, WITHOUT ROWID;
",
    blobs::TABLE,
];
const FIND: &str = "SELECT state FROM study_round WHERE study = ?1 AND round = ?2 AND attempt = ?3";
const PUT: &str = "INSERT INTO study_round (study, round, attempt, state) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (study, round, attempt) DO UPDATE SET state = excluded.state";
const RUNNING: &str = "SELECT state FROM study_round WHERE state IS NOT NULL";

/// The rounds of a region.
#[derive(Clone)]
pub struct Learning {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    /// Wakes who makes sums: one may be due.
    due: Arc<Notify>,
}

impl Learning {
    /// The rounds that a ledger holds.
    ///
    /// # Errors
    /// [`PortError`] when its tables cannot be made.
    pub async fn open(ledger: Ledger, blobs: Arc<Blobs<Ledger>>) -> Result<Self, PortError> {
        ledger.tables("learning", TABLES).await?;
        Ok(Self {
            ledger,
            blobs,
            due: Arc::default(),
        })
    }

    /// The region's facilities, in the order of their names.
    async fn known(&self) -> Result<Vec<FacilityId>, PortError> {
        let below = self.ledger.below().await?;
        let mut known: Vec<_> = below.iter().filter_map(Place::facility).cloned().collect();
        known.sort();
        Ok(known)
    }

    async fn begin(&self, from: &Place, order: RoundOrder) -> Result<Verdict, PortError> {
        let (known, from) = (self.known().await?, from.clone());
        let begun = move |commit: &mut Commit<'_>| {
            if is_known(commit.tx(), &order.key)? {
                return Ok(STORED);
            }
            let key = order.key.clone();
            match RegionRound::begin(order, commit.place(), &known, commit.now().0) {
                Ok(round) => {
                    blobs::begin(commit.tx(), &key)?;
                    if let Some(model) = round.order().large {
                        let model = blobs::descriptor(model);
                        match want(commit.tx(), model, &from, &blobs::of_round(&key)) {
                            Err(DbError::Full) => return Ok(FULL),
                            wanted => wanted?,
                        }
                    }
                    go_on(commit, round)?;
                }
                Err(why) => {
                    put(commit.tx(), &key, None)?;
                    release(commit, "release", nothing(key, why))?;
                }
            }
            Ok(STORED)
        };
        let verdict = self.ledger.commit("begin a round", begun).await?;
        self.blobs.stir();
        Ok(verdict)
    }

    /// The study goes on without this round: whoever takes part in it is told.
    async fn ended(&self, key: RoundKey) -> Result<(), PortError> {
        let ended = move |commit: &mut Commit<'_>| {
            let Some(mut round) = find(commit.tx(), &key)?.filter(RegionRound::is_running) else {
                return Ok(());
            };
            round.end();
            go_on(commit, round)
        };
        self.ledger.commit("end a round", ended).await?;
        self.blobs.stir();
        Ok(())
    }

    async fn answered(
        &self,
        (sender, from): (Place, FacilityId),
        (key, answer): (RoundKey, Answer),
        body: Vec<u8>,
    ) -> Result<Verdict, PortError> {
        let due = Arc::clone(&self.due);
        let taken = move |commit: &mut Commit<'_>| {
            let Some(mut round) = find(commit.tx(), &key)? else {
                return Ok(STORED);
            };
            if let Some(vector) = round.awaits(&from, &answer) {
                let (vector, name) = (blobs::descriptor(vector), blobs::of_round(&key));
                return match want(commit.tx(), vector, &sender, &name) {
                    Err(DbError::Full) => Ok(FULL),
                    wanted => {
                        wanted?;
                        keep_message(commit.tx(), vector.digest, &name, &sender, &body)?;
                        Ok(STORED)
                    }
                };
            }
            round.take(&from, answer, commit.now().0);
            let is_due = round.summing().is_some();
            go_on(commit, round)?;
            if is_due {
                due.notify_one();
            }
            Ok(STORED)
        };
        let verdict = self.ledger.commit("take an answer", taken).await?;
        self.blobs.stir();
        Ok(verdict)
    }

    /// A facility sent what is no answer: it is named, and the round goes on without it.
    async fn no_answer(&self, from: FacilityId, key: RoundKey) -> Result<(), PortError> {
        let taken = move |commit: &mut Commit<'_>| {
            let Some(mut round) = find(commit.tx(), &key)? else {
                return Ok(());
            };
            round.refuse(&from, commit.now().0);
            go_on(commit, round)
        };
        self.ledger.commit("refuse an answer", taken).await
    }

    /// Ends what has waited long enough.
    async fn tick(&self) -> Result<(), PortError> {
        let passed = |commit: &mut Commit<'_>| {
            let now = commit.now().0;
            for mut round in running(commit.tx())? {
                if round.tick(now) {
                    go_on(commit, round)?;
                } else if let Some(waiting) = round.waiting(now) {
                    say(commit, round, waiting)?;
                }
            }
            Ok(())
        };
        self.ledger.commit("deadlines of rounds", passed).await
    }

    /// Looks for deadlines that have passed, and makes the sums that are due, until stopped.
    pub async fn keep_time(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut arrivals = self.blobs.arrivals();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = arrivals.next() => {}
                () = self.due.notified() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "rounds wait");
            }
        }
    }

    /// Ends what has waited long enough, takes the answers whose blobs are whole, and makes the sums that are due.
    ///
    /// # Errors
    /// [`PortError`]: what was done until then stands, and the rest is left to the next time.
    pub async fn step(&self) -> Result<(), PortError> {
        let ticked = self.tick().await;
        self.look().await?;
        ticked
    }
}

/// Asks what is to be asked, releases what is to be released, and stores the round.
fn go_on(commit: &mut Commit<'_>, mut round: RegionRound) -> Result<(), DbError> {
    let now = commit.now().0;
    let (jurisdiction, region) = match commit.place() {
        Place::Regional {
            jurisdiction,
            region,
        } => (*jurisdiction, region.clone()),
        Place::Edge { .. } | Place::Global => return Ok(()),
    };
    loop {
        let mut refused = Vec::new();
        for (member, facility, ask) in round.asks() {
            let to = Place::Edge {
                jurisdiction,
                region: region.clone(),
                facility: facility.clone(),
            };
            let body = wire::ask(round.order(), member, &ask);
            let id = envelope_id(round.key(), &format!("{facility}/{:?}", ask.step()));
            let how = (Purpose::Research, Priority::Backlog);
            let model = round.order().large.filter(|_| body.order.is_some());
            let shipped = match model {
                Some(model) => {
                    let digest = blobs::descriptor(model).digest;
                    commit.offer::<StudyAsk>(&to, (Purpose::Research, id), body, digest)?
                }
                None => commit.ship::<StudyAsk>(&to, how, id, body)?,
            };
            if let Shipped::Refused(_) = shipped {
                refused.push(facility);
            }
            round.was_asked(member, &ask);
        }
        if refused.is_empty() {
            break;
        }
        for facility in refused {
            let why = "the rules of its region let nothing of a study go there".to_owned();
            round.take(&facility, Answer::Unable(why), now);
        }
    }
    if let Some(found) = round.release().filter(|_| !round.is_released()) {
        tracing::info!(study = %round.key().study, round = round.key().round, "round over");
        release(commit, "release", found)?;
        round.was_released();
    }
    let is_over = round.is_released() && round.asks().is_empty();
    if is_over && round.order().large.is_some() {
        blobs::over(commit.tx(), round.key())?;
    }
    put(commit.tx(), round.key(), (!is_over).then_some(&round))
}

/// Says how the sites of a round stand that goes on; later, where as much waits for the global node as may.
fn say(commit: &mut Commit<'_>, mut round: RegionRound, waiting: Release) -> Result<(), DbError> {
    let what = format!("waiting/{}", round.times_said());
    match release(commit, &what, waiting.clone()) {
        Ok(()) => {
            round.was_said(&waiting);
            put(commit.tx(), round.key(), Some(&round))
        }
        // What is too large is not said: the round ends all the same.
        Err(DbError::Full | DbError::TooLarge { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Hands a release on. One that is too large for a parcel goes without what it says of its sites: the round ends.
fn release(commit: &mut Commit<'_>, what: &str, found: Release) -> Result<(), DbError> {
    match ship(commit, what, found.clone()) {
        Err(DbError::TooLarge { bytes }) if found.outcome != Outcome::Waiting => {
            tracing::warn!(
                bytes,
                "a release says nothing of its sites: it is too large"
            );
            ship(commit, what, without_sites(found))
        }
        shipped => shipped,
    }
}

/// The outcome of a release alone.
fn without_sites(found: Release) -> Release {
    let outcome = match found.outcome {
        Outcome::Failed(why) => Outcome::Failed(why.chars().take(MOST_WHY).collect()),
        outcome => outcome,
    };
    Release {
        outcome,
        sites: BTreeMap::new(),
        ..found
    }
}

fn ship(commit: &mut Commit<'_>, what: &str, found: Release) -> Result<(), DbError> {
    let id = envelope_id(&found.key, what);
    let (how, large) = ((Purpose::Research, Priority::Backlog), found.large());
    let (to, body) = (Place::Global, wire::release(found));
    let shipped = match large {
        Some(sum) => {
            let digest = blobs::descriptor(sum).digest;
            commit.offer::<StudyRelease>(&to, (Purpose::Research, id), body, digest)?
        }
        None => commit.ship::<StudyRelease>(&to, how, id, body)?,
    };
    if let Shipped::Refused(refusal) = shipped {
        tracing::error!(
            reason = refusal.reason(),
            "the rules keep a release of a study back"
        );
    }
    Ok(())
}

/// A release of a round that could not begin.
fn nothing(key: RoundKey, why: String) -> Release {
    Release {
        key,
        outcome: Outcome::Failed(why),
        sites: BTreeMap::new(),
        bytes: 0,
        asked: false,
    }
}

/// The same for the same message of the same round: a second one changes nothing.
fn envelope_id(key: &RoundKey, what: &str) -> EnvelopeId {
    let text = format!("{}/{}/{}/{what}", key.study, key.round, key.attempt);
    let digest: [u8; 32] = Sha256::digest(text).into();
    let (id, _) = digest.split_at(16);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(id);
    EnvelopeId::from_bytes(bytes)
}

fn is_known(tx: &Connection, key: &RoundKey) -> Result<bool, DbError> {
    let found = tx.prepare_cached(FIND)?.exists(params_of(key))?;
    Ok(found)
}

fn params_of(key: &RoundKey) -> (&str, u32, u32) {
    (key.study.as_str(), key.round, key.attempt)
}

fn find(tx: &Connection, key: &RoundKey) -> Result<Option<RegionRound>, DbError> {
    let state: Option<Option<String>> = tx
        .prepare_cached(FIND)?
        .query_row(params_of(key), |row| row.get(0))
        .optional()?;
    state.flatten().map(|text| read(&text)).transpose()
}

fn running(tx: &Connection) -> Result<Vec<RegionRound>, DbError> {
    let mut statement = tx.prepare_cached(RUNNING)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    rows.map(|text| read(&text?)).collect()
}

fn read(text: &str) -> Result<RegionRound, DbError> {
    serde_json::from_str(text).map_err(|_| DbError::Corrupt("a round"))
}

fn put(tx: &Connection, key: &RoundKey, round: Option<&RegionRound>) -> Result<(), DbError> {
    let text = round.map(serde_json::to_string).transpose();
    let text = text.map_err(|_| DbError::Corrupt("a round"))?;
    let (study, round, attempt) = params_of(key);
    tx.prepare_cached(PUT)?
        .execute(params![study, round, attempt, text])?;
    Ok(())
}

/// Orders of the global node.
pub struct TakesRounds(pub Learning);
/// Rounds that the global node ends before their time.
pub struct TakesEnds(pub Learning);
/// Answers of facilities.
pub struct TakesAnswers(pub Learning);

fn opened<T: Body>(parcel: &Intact) -> Result<T, Verdict> {
    envelope::open(parcel).map_err(|error| match error {
        OpenError::Kind => Verdict::Refused {
            reason: error.reason(),
        },
        OpenError::Malformed => malformed(),
    })
}

const fn malformed() -> Verdict {
    Verdict::Quarantined {
        reason: reason::MALFORMED,
    }
}

const STORED: Verdict = Verdict::Accepted { stored: 1 };
/// There is no room for the blob of a message: it is sent again later.
const FULL: Verdict = Verdict::Deferred {
    reason: reason::NO_SPACE,
};

#[async_trait]
impl Handler for TakesRounds {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let order = opened::<StudyRound>(parcel)
                .and_then(|message| wire::read_round(message).map_err(|_| malformed()));
            verdicts.push(match order {
                Err(verdict) => verdict,
                Ok(order) => self.0.begin(from, order).await?,
            });
        }
        Ok(verdicts)
    }
}

#[async_trait]
impl Handler for TakesEnds {
    async fn apply(&self, _: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let key = opened::<StudyEnd>(parcel)
                .and_then(|message| wire::read_end(&message).map_err(|_| malformed()));
            verdicts.push(match key {
                Err(verdict) => verdict,
                Ok(key) => {
                    self.0.ended(key).await?;
                    STORED
                }
            });
        }
        Ok(verdicts)
    }
}

#[async_trait]
impl Handler for TakesAnswers {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            let message = opened::<StudyAnswer>(parcel);
            let key = message.as_ref().ok().and_then(|of| wire::key_of(of).ok());
            let answer =
                message.and_then(|message| wire::read_answer(message).map_err(|_| malformed()));
            if let (Err(_), Some(key), Some(facility)) = (&answer, key, from.facility()) {
                self.0.no_answer(facility.clone(), key).await?;
            }
            verdicts.push(match (answer, from.facility()) {
                (Err(verdict), _) => verdict,
                (Ok(_), None) => Verdict::Refused {
                    reason: reason::WRONG_SENDER,
                },
                (Ok(answer), Some(facility)) => {
                    let who = (from.clone(), facility.clone());
                    self.0.answered(who, answer, parcel.body.to_vec()).await?
                }
            });
        }
        Ok(verdicts)
    }
}
