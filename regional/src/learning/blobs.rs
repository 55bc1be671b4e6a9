//! Rounds whose model and updates fit no parcel: the model is on its way down as a blob, updates come up as blobs, and the
//! sum is made of their files, outside of any commit.
//!
//! Everything that a round needs has its name, so that what is over is collected together. The sum is kept until the study
//! goes on, for the global node fetches it when the round is over here.
use super::{Learning, find, go_on, running};
use federation::{
    blobs::{self, Descriptor, Digest, PutIn},
    db::DbError,
    ledger::Commit,
    port::{PortError, PortErrorKind},
};
use fl::{
    large::{Blocks, Summing, Vector},
    order::RoundKey,
    wire,
};
use messages::StudyAnswer;
use prost::Message as _;
use rusqlite::Connection;
use std::{fs::File, io, num::NonZeroUsize, os::unix::fs::FileExt as _, thread};

/// A sum that the global node did not fetch is forgotten after so long (real time): its study has failed by then.
const FORGET_MS: i64 = 7 * types::Timestamp::DAY_MS;

pub(super) const TABLE: &str = "
CREATE TABLE study_sum (name TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT, WITHOUT ROWID;
";

/// What everything of a study is called by.
fn of_study(key: &RoundKey) -> String {
    format!("study/{}/", key.study)
}

/// What everything of a round is called by.
pub(super) fn of_round(key: &RoundKey) -> String {
    format!("study/{}/{}/{}/round", key.study, key.round, key.attempt)
}

fn of_sum(key: &RoundKey) -> String {
    format!("study/{}/{}/{}/sum", key.study, key.round, key.attempt)
}

pub(super) const fn descriptor(vector: Vector) -> Descriptor {
    Descriptor {
        digest: Digest::from_bytes(vector.sha256),
        size: vector.bytes,
    }
}

pub(super) const fn vector(descriptor: Descriptor) -> Vector {
    Vector {
        sha256: *descriptor.digest.as_bytes(),
        bytes: descriptor.size,
    }
}

/// A round of a study begins: what its earlier rounds needed is collected.
pub(super) fn begin(tx: &Connection, key: &RoundKey) -> Result<(), DbError> {
    let round = of_round(key);
    blobs::release_others(tx, &of_study(key), Some(&round))?;
    let mut query =
        tx.prepare_cached("DELETE FROM study_sum WHERE substr(name, 1, length(?1)) = ?1")?;
    query.execute([of_study(key)])?;
    Ok(())
}

/// A round is over: its sum is all that is needed of it.
pub(super) fn over(tx: &Connection, key: &RoundKey) -> Result<(), DbError> {
    blobs::release_others(tx, &of_round(key), None)
}

/// Sums that nobody fetched.
fn forget(commit: &Commit<'_>) -> Result<(), DbError> {
    let until = commit.now().0.saturating_sub(FORGET_MS);
    let mut query = commit
        .tx()
        .prepare_cached("DELETE FROM study_sum WHERE at_ms < ?1 RETURNING name")?;
    let mut rows = query.query([until])?;
    while let Some(row) = rows.next()? {
        blobs::release_others(commit.tx(), &row.get::<_, String>(0)?, None)?;
    }
    Ok(())
}

impl Learning {
    /// Takes the answers whose blobs are whole, and makes the sums that are due.
    pub(super) async fn look(&self) -> Result<(), PortError> {
        let come = |commit: &mut Commit<'_>| {
            for come in blobs::come(commit.tx())? {
                let answer = StudyAnswer::decode(&come.body[..]).ok();
                let answer = answer.and_then(|message| wire::read_answer(message).ok());
                let (Some((key, answer)), Some(from)) = (answer, come.sender.facility()) else {
                    continue;
                };
                if let Some(mut round) = find(commit.tx(), &key)? {
                    round.take(from, answer, commit.now().0);
                    go_on(commit, round)?;
                }
            }
            forget(commit)?;
            let rounds = running(commit.tx())?.into_iter();
            let due = rounds.filter_map(|round| Some((round.key().clone(), round.summing()?)));
            Ok(due.collect::<Vec<_>>())
        };
        let due = self.ledger.commit("updates that came", come).await?;
        for (key, due) in due {
            self.sum(key, due).await?;
        }
        Ok(())
    }

    /// Makes a sum of files, and releases it.
    async fn sum(&self, key: RoundKey, due: Result<Summing, String>) -> Result<(), PortError> {
        let made = match due {
            Err(why) => Err(why),
            Ok(summing) => self.made(summing).await?,
        };
        let sum = made.as_ref().map(|put| put.descriptor);
        let sum = sum.map_err(Clone::clone);
        let step = move |commit: &mut Commit<'_>| {
            let found = find(commit.tx(), &key)?;
            let Some(mut round) = found.filter(|round| round.summing().is_some()) else {
                return Ok(());
            };
            if let Ok(sum) = sum {
                let name = of_sum(&key);
                blobs::keep(commit.tx(), sum, &name)?;
                commit
                    .tx()
                    .prepare_cached(
                        "INSERT OR REPLACE INTO study_sum (name, at_ms) VALUES (?1, ?2)",
                    )?
                    .execute((name, commit.now().0))?;
            }
            round.was_summed(sum.map(vector));
            go_on(commit, round)
        };
        self.ledger.commit("release a sum", step).await?;
        drop(made);
        self.blobs.stir();
        self.blobs.sweep().await.map(drop)
    }

    /// The sum as a file, or why there is none.
    async fn made(&self, summing: Summing) -> Result<Result<PutIn, String>, PortError> {
        let files = self.blobs.files().clone();
        let work = move || {
            let open = |vector: &Vector| files.reader(descriptor(*vector).digest).map(Update);
            let inputs = summing.vectors.iter().map(open);
            let inputs = inputs.collect::<io::Result<Vec<_>>>()?;
            let threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
            files.put_in(summing.sum(inputs, threads))
        };
        let made = tokio::task::spawn_blocking(work).await;
        let failed = |source| PortError {
            kind: PortErrorKind::Unavailable,
            op: "sum updates",
            source: Some(source),
        };
        match made.map_err(|error| failed(error.into()))? {
            Ok(put) => Ok(Ok(put)),
            Err(error) if is_of_the_file(error.kind()) => Ok(Err(format!(
                "an update that came is not there any more: {error}"
            ))),
            // A full disk has room again one day, and the deadline of the study ends what waits for it.
            Err(error) => Err(failed(error.into())),
        }
    }
}

/// The file of an update.
struct Update(File);

impl Blocks for Update {
    fn read_exact_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }
}

const fn is_of_the_file(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}
