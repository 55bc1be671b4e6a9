//! Studies: submitted by data scientists, ordered of regions round by round, closed with what these release.
//!
//! What a study leads to is decided in `fl`. Here it is stored: its state and what is ordered next are one commit of the
//! node's ledger, so that a global node that is killed at any moment goes on where it was.
mod blobs;

use async_trait::async_trait;
use ed25519_dalek::{Signer as _, SigningKey};
use federation::{
    blobs::Blobs,
    db::DbError,
    envelope::{self, Intact, OpenError},
    ledger::{Commit, Handler, Ledger, Shipped},
    port::{PortError, Verdict},
    reason,
};
use fl::{
    course::{Course, Standing},
    order::Release,
    wire,
};
use messages::{StudyEnd, StudyRelease, StudyRound};
use rusqlite::{Connection, OptionalExtension as _, params};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use types::{EnvelopeId, Name, Place, Priority, Purpose, RegionId};

/// How often it is looked for regions that do not answer (real time).
const TICK: Duration = Duration::from_secs(1);
/// Studies that run at the same time: each holds facilities up by as much as its rounds take.
const MAX_RUNNING: usize = 100;

const TABLES: &[&str] = &["
CREATE TABLE study (
  n         INTEGER PRIMARY KEY AUTOINCREMENT,
  id        TEXT NOT NULL UNIQUE,
  by        TEXT NOT NULL,              -- the client that submitted it
  at_ms     INTEGER NOT NULL,
  is_running INTEGER NOT NULL,
  state     TEXT NOT NULL
) STRICT;
CREATE INDEX study_running ON study (is_running);
"];
const FIND: &str = "SELECT state, at_ms FROM study WHERE id = ?1";
const KNOWS: &str = "SELECT 1 FROM study WHERE id = ?1";
const LIST: &str = "SELECT state, at_ms FROM study
     WHERE ?2 IS NULL OR n < (SELECT n FROM study WHERE id = ?2) ORDER BY n DESC LIMIT ?1";
const RUNNING: &str = "SELECT state, at_ms FROM study WHERE is_running = 1 ORDER BY n";
const ADD: &str = "INSERT INTO study (id, by, at_ms, is_running, state) VALUES (?1, ?2, ?3, 1, ?4)";
const CHANGE: &str = "UPDATE study SET is_running = ?2, state = ?3 WHERE id = ?1";

/// The studies of the global node.
#[derive(Clone)]
pub struct Studies {
    ledger: Ledger,
    blobs: Arc<Blobs<Ledger>>,
    /// The node's key, which signs orders.
    key: Arc<SigningKey>,
}

/// A study, and when it was submitted (ms since 1970).
pub type Found = (Course, i64);

/// A page of studies.
#[derive(Debug)]
pub struct Listed {
    /// The studies, the newest first.
    pub found: Vec<Found>,
    /// The last of them, where older ones follow.
    pub next: Option<Name>,
}

/// What became of a wish.
#[derive(Debug)]
pub enum Wished {
    /// It is done.
    Done(Box<Found>),
    /// There is no such study.
    Missing,
    /// It cannot be, and why.
    Refused(String),
}

impl Studies {
    /// The studies that a ledger holds.
    ///
    /// # Errors
    /// [`PortError`] when its tables cannot be made.
    pub async fn open(
        ledger: Ledger,
        blobs: Arc<Blobs<Ledger>>,
        key: SigningKey,
    ) -> Result<Self, PortError> {
        ledger.tables("studies", TABLES).await?;
        Ok(Self {
            ledger,
            blobs,
            key: Arc::new(key),
        })
    }

    /// The regions of the mesh, each with its place.
    ///
    /// # Errors
    /// [`PortError`].
    pub(crate) async fn regions(&self) -> Result<BTreeMap<RegionId, Place>, PortError> {
        let below = self.ledger.below().await?.into_iter();
        let named = below.filter_map(|place| Some((place.region()?.clone(), place)));
        Ok(named.collect())
    }

    /// Begins a study. Its id is its name and `random` digits.
    ///
    /// # Errors
    /// [`PortError`]: nothing was begun.
    pub async fn submit(&self, text: String, by: String, random: u32) -> Result<Wished, PortError> {
        let regions = self.regions().await?;
        let known: BTreeSet<_> = regions.keys().cloned().collect();
        let key = self.key.clone();
        let first = self.first(text.clone()).await?;
        let model = first.as_ref().map(|put| put.descriptor);
        let begin = move |commit: &mut Commit<'_>| {
            let id = match id(&text, random) {
                Ok(id) => id,
                Err(why) => return Ok(Wished::Refused(why)),
            };
            let runs = |(course, _): &Found| *course.standing() == Standing::Running;
            if running(commit.tx())?.iter().filter(|of| runs(of)).count() >= MAX_RUNNING {
                let why = format!("{MAX_RUNNING} studies run already");
                return Ok(Wished::Refused(why));
            }
            let now = commit.now().0;
            let vector = model.map(blobs::vector);
            let course = match Course::begin_large(id, text, &known, vector, now) {
                Ok(course) => course,
                Err(why) => return Ok(Wished::Refused(why)),
            };
            if let Some(model) = model {
                match Self::keep_first(commit, &course, model) {
                    Err(DbError::Full) => {
                        let why = "there is no room for one more model that fits no parcel";
                        return Ok(Wished::Refused(why.into()));
                    }
                    kept => kept?,
                }
            }
            let state = json(&course)?;
            let id = course.id().to_string();
            commit
                .tx()
                .prepare_cached(ADD)?
                .execute(params![id, by, now, state])?;
            let course = go_on(commit, course, &regions, &key)?;
            Ok(Wished::Done(Box::new((course, now))))
        };
        let wished = self.ledger.commit("submit a study", begin).await;
        drop(first);
        wished
    }

    /// One study, with its model where it is done.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn find(&self, id: Name) -> Result<Option<Found>, PortError> {
        let find = move |commit: &mut Commit<'_>| find(commit.tx(), &id);
        match self.ledger.commit("find a study", find).await? {
            Some((course, at)) => Ok(Some((self.with_model(course).await?, at))),
            None => Ok(None),
        }
    }

    /// The newest studies, or those that are older than one; none when there is no such study.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn list(&self, most: u16, after: Option<Name>) -> Result<Option<Listed>, PortError> {
        let list = move |commit: &mut Commit<'_>| {
            let after = after.as_ref().map(Name::as_str);
            if let Some(id) = after
                && !commit.tx().prepare_cached(KNOWS)?.exists([id])?
            {
                return Ok(None);
            }
            let mut statement = commit.tx().prepare_cached(LIST)?;
            let rows = statement.query_map(params![u32::from(most) + 1, after], row)?;
            let found: Result<Vec<Found>, DbError> = rows.map(|row| read(row?)).collect();
            let mut found = found?;
            let has_more = found.len() > usize::from(most);
            found.truncate(most.into());
            let last = found.last().filter(|_| has_more);
            let next = last.map(|(course, _)| course.id().clone());
            Ok(Some(Listed { found, next }))
        };
        self.ledger.commit("list studies", list).await
    }

    /// Ends a study.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn cancel(&self, id: Name) -> Result<Wished, PortError> {
        self.change(id, |course, _| match course.cancel() {
            true => Ok(()),
            false => Err(format!("it is {}", course.standing().as_str())),
        })
        .await
    }

    /// Goes on with a study that has ended without a result.
    ///
    /// # Errors
    /// [`PortError`].
    pub async fn resume(&self, id: Name) -> Result<Wished, PortError> {
        self.change(id, Course::resume).await
    }

    async fn change(
        &self,
        id: Name,
        change: impl FnOnce(&mut Course, i64) -> Result<(), String> + Send + 'static,
    ) -> Result<Wished, PortError> {
        let regions = self.regions().await?;
        let key = self.key.clone();
        let changed = move |commit: &mut Commit<'_>| {
            let Some((mut course, at)) = find(commit.tx(), &id)? else {
                return Ok(Wished::Missing);
            };
            if let Err(why) = change(&mut course, commit.now().0) {
                return Ok(Wished::Refused(why));
            }
            let course = go_on(commit, course, &regions, &key)?;
            Ok(Wished::Done(Box::new((course, at))))
        };
        self.ledger.commit("change a study", changed).await
    }

    async fn released(
        &self,
        sender: Place,
        from: RegionId,
        release: Release,
        body: Vec<u8>,
    ) -> Result<Verdict, PortError> {
        let regions = self.regions().await?;
        let key = self.key.clone();
        let taken = move |commit: &mut Commit<'_>| {
            let Some((mut course, _)) = find(commit.tx(), &release.key.study)? else {
                return Ok(STORED);
            };
            if let Some(kept) = blobs::kept(commit, &course, (&sender, &release), &body)? {
                return Ok(kept);
            }
            if course.take(&from, release, commit.now().0) {
                go_on(commit, course, &regions, &key)?;
            }
            Ok(STORED)
        };
        let verdict = self.ledger.commit("take a release", taken).await?;
        self.blobs.stir();
        Ok(verdict)
    }

    async fn tick(&self) -> Result<(), PortError> {
        let regions = self.regions().await?;
        let key = self.key.clone();
        let passed = move |commit: &mut Commit<'_>| {
            let now = commit.now().0;
            for (mut course, _) in running(commit.tx())? {
                // What was not said, since as much waited for its region as may, is said now.
                let is_due = !course.orders().is_empty() || !course.ends().is_empty();
                if course.tick(now) || is_due {
                    go_on(commit, course, &regions, &key)?;
                }
            }
            Ok(())
        };
        self.ledger.commit("deadlines of studies", passed).await
    }

    /// Looks for regions that do not answer, and takes the steps that are due, until stopped.
    pub async fn keep_time(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut arrivals = self.blobs.arrivals();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = arrivals.next() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "studies wait");
            }
        }
    }

    /// Ends what has waited long enough, takes the releases whose sums are whole, and the steps that are due.
    ///
    /// # Errors
    /// [`PortError`]: what was done until then stands, and the rest is left to the next time.
    pub async fn step(&self) -> Result<(), PortError> {
        let ticked = self.tick().await;
        self.look().await?;
        ticked
    }
}

/// The name of a study and eight random digits, as long as a name may be.
fn id(text: &str, random: u32) -> Result<Name, String> {
    let (study, _) = fl::order::read(text)?;
    let most = Name::MAX_LEN - 9;
    let name: String = study.name.as_str().chars().take(most).collect();
    let name = format!("{}-{random:08x}", name.trim_end_matches('-'));
    name.parse()
        .map_err(|_| "name: cannot be one of a study".into())
}

/// Orders what is to be ordered, and stores the study.
fn go_on(
    commit: &mut Commit<'_>,
    mut course: Course,
    regions: &BTreeMap<RegionId, Place>,
    signing: &SigningKey,
) -> Result<Course, DbError> {
    blobs::hold(commit, &course)?;
    for (region, mut order) in course.orders() {
        order.signature = Some(signing.sign(&order.signed()).to_bytes().to_vec());
        let Some(to) = regions.get(&region) else {
            continue;
        };
        let key = &order.key;
        let id = envelope_id(&format!(
            "{}/{}/{}/{region}",
            key.study, key.round, key.attempt
        ));
        let how = (Purpose::Research, Priority::Backlog);
        let body = wire::round(&order);
        let shipped = match order.large {
            Some(model) => {
                let digest = blobs::descriptor(model).digest;
                commit.offer::<StudyRound>(to, (Purpose::Research, id), body, digest)?
            }
            None => commit.ship::<StudyRound>(to, how, id, body)?,
        };
        if let Shipped::Refused(refusal) = shipped {
            tracing::error!(
                reason = refusal.reason(),
                "the rules keep an order of a study back"
            );
        }
        course.was_ordered(&region);
    }
    tell_ends(commit, &mut course, regions)?;
    let (id, state) = (course.id().to_string(), json(&course)?);
    let is_running = *course.standing() == Standing::Running || !course.ends().is_empty();
    commit
        .tx()
        .prepare_cached(CHANGE)?
        .execute(params![id, is_running, state])?;
    Ok(course)
}

/// Tells regions that their round ends before its time. One for which as much waits as may is told later.
fn tell_ends(
    commit: &mut Commit<'_>,
    course: &mut Course,
    regions: &BTreeMap<RegionId, Place>,
) -> Result<(), DbError> {
    let (key, how) = (course.key(), (Purpose::Research, Priority::Backlog));
    for region in course.ends() {
        let id = format!("{}/{}/{}/{region}/end", key.study, key.round, key.attempt);
        let shipped = match regions.get(&region) {
            Some(to) => commit
                .ship::<StudyEnd>(to, how, envelope_id(&id), wire::end(&key))
                .map(drop),
            None => Ok(()),
        };
        match shipped {
            Ok(()) => course.was_ended(&region),
            Err(DbError::Full) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn envelope_id(text: &str) -> EnvelopeId {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let (id, _) = digest.split_at(16);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(id);
    EnvelopeId::from_bytes(bytes)
}

fn json(course: &Course) -> Result<String, DbError> {
    serde_json::to_string(course).map_err(|_| DbError::Corrupt("a study"))
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn read((text, at): (String, i64)) -> Result<Found, DbError> {
    let course = serde_json::from_str(&text).map_err(|_| DbError::Corrupt("a study"))?;
    Ok((course, at))
}

fn find(tx: &Connection, id: &Name) -> Result<Option<Found>, DbError> {
    let found = tx
        .prepare_cached(FIND)?
        .query_row([id.as_str()], row)
        .optional()?;
    found.map(read).transpose()
}

fn running(tx: &Connection) -> Result<Vec<Found>, DbError> {
    let mut statement = tx.prepare_cached(RUNNING)?;
    let rows = statement.query_map([], row)?;
    rows.map(|row| read(row?)).collect()
}

const STORED: Verdict = Verdict::Accepted { stored: 1 };

/// Releases of regions.
pub struct TakesReleases(pub Studies);

#[async_trait]
impl Handler for TakesReleases {
    async fn apply(&self, from: &Place, parcels: &[Intact]) -> Result<Vec<Verdict>, PortError> {
        let mut verdicts = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            verdicts.push(match (release_of(parcel), from.region()) {
                (Err(verdict), _) => verdict,
                (Ok(_), None) => Verdict::Refused {
                    reason: reason::WRONG_SENDER,
                },
                (Ok(release), Some(region)) => {
                    let (body, region) = (parcel.body.to_vec(), region.clone());
                    self.0.released(from.clone(), region, release, body).await?
                }
            });
        }
        Ok(verdicts)
    }
}

fn release_of(parcel: &Intact) -> Result<Release, Verdict> {
    let malformed = Verdict::Quarantined {
        reason: reason::MALFORMED,
    };
    let message = envelope::open::<StudyRelease>(parcel).map_err(|error| match error {
        OpenError::Kind => Verdict::Refused {
            reason: error.reason(),
        },
        OpenError::Malformed => malformed.clone(),
    })?;
    wire::read_release(message).map_err(|_| malformed)
}
