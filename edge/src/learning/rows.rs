//! What is stored of studies at a facility: asks that wait, rounds with their secrets, debits.
use federation::gap;
use fl::{
    ledger::{Budget, Entry, Ledger},
    member::MemberRound,
    order::{Ask, RoundKey},
    privacy::Event,
    update::Memory,
    wire::{self, Asked},
};
use messages::StudyAsk;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};
use store::{StoreError, StoreErrorKind};
use types::Timestamp;

/// Rounds whose end was never told are forgotten after so long (real time).
const FORGET_MS: i64 = 60 * Timestamp::DAY_MS;
/// Asks that are in memory at the same time.
const LOOKED_AT: u32 = 64;

/// An ask that waits.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    /// Its row.
    pub(super) n: i64,
    /// What is asked.
    pub(super) asked: Asked,
}

/// A debit that is to be written.
#[derive(Clone, Debug)]
pub(super) struct Debit {
    /// The entry.
    pub(super) entry: Entry,
    /// δ at which its ε is.
    pub(super) delta: f64,
    /// Entries before it.
    pub(super) before: usize,
}

pub(super) fn waiting(tx: &Connection) -> Result<u32, StoreError> {
    Ok(tx.query_row("SELECT count(*) FROM study_ask", [], |row| row.get(0))?)
}

/// Stores an ask. The same step of the same round asks once.
pub(super) fn add(tx: &Connection, asked: &Asked, body: &[u8]) -> Result<(), StoreError> {
    let step = asked
        .ask
        .step()
        .map_or_else(|| "over".into(), |step| step.to_string());
    let key = &asked.key;
    if asked.ask == Ask::Over {
        // The round is over: what it asked before, and was not answered, costs nothing any more.
        tx.prepare_cached(
            "DELETE FROM study_ask WHERE study = ?1 AND round = ?2 AND attempt = ?3",
        )?
        .execute(params![key.study.as_str(), key.round, key.attempt])?;
    }
    tx.prepare_cached(
        "INSERT OR IGNORE INTO study_ask (study, round, attempt, step, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute(params![key.study.as_str(), key.round, key.attempt, step, body])?;
    Ok(())
}

/// The first asks that wait behind row `after`, 0 for all; where a person decides, without the studies that wait for that.
pub(super) fn pending(
    tx: &Connection,
    after: i64,
    by_person: bool,
) -> Result<Vec<Pending>, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT n, body FROM study_ask AS ask WHERE n > ?1 AND NOT (?2 AND step = 'invite' AND EXISTS (
           SELECT 1 FROM study_consent WHERE study = ask.study AND decided IN ('waiting', 'held')))
         ORDER BY n LIMIT ?3",
    )?;
    let rows = statement.query_map(params![after, by_person, LOOKED_AT], |row| {
        Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?))
    })?;
    let mut found = Vec::new();
    for row in rows {
        let (n, body) = row?;
        let message = StudyAsk::decode(&body[..]).map_err(|_| corrupt("an ask"))?;
        let asked = wire::read_ask(message).map_err(|_| corrupt("an ask"))?;
        found.push(Pending { n, asked });
    }
    Ok(found)
}

/// Takes an ask away that is answered; false when it was taken away before, since its round is over.
pub(super) fn remove(tx: &Connection, n: i64) -> Result<bool, StoreError> {
    let removed = tx
        .prepare_cached("DELETE FROM study_ask WHERE n = ?1")?
        .execute([n])?;
    Ok(removed > 0)
}

/// Whether an ask still waits.
pub(super) fn waits(db: &Connection, n: i64) -> Result<bool, StoreError> {
    let found = db
        .prepare_cached("SELECT 1 FROM study_ask WHERE n = ?1")?
        .exists([n])?;
    Ok(found)
}

pub(super) fn find(tx: &Connection, key: &RoundKey) -> Result<Option<MemberRound>, StoreError> {
    let text: Option<String> = tx
        .prepare_cached(
            "SELECT state FROM study_member WHERE study = ?1 AND round = ?2 AND attempt = ?3",
        )?
        .query_row(params![key.study.as_str(), key.round, key.attempt], |row| {
            row.get(0)
        })
        .optional()?;
    let read = |text: String| serde_json::from_str(&text).map_err(|_| corrupt("a round"));
    text.map(read).transpose()
}

/// Keeps the state of a round, or nothing of it any more. Rounds that nobody ended go with their time.
pub(super) fn put(
    tx: &Connection,
    key: &RoundKey,
    round: Option<&MemberRound>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (study, number, attempt) = (key.study.as_str(), key.round, key.attempt);
    match round {
        None => tx
            .prepare_cached(
                "DELETE FROM study_member WHERE study = ?1 AND round = ?2 AND attempt = ?3",
            )?
            .execute(params![study, number, attempt])?,
        Some(round) => {
            let text = serde_json::to_string(round).map_err(|_| corrupt("a round"))?;
            tx.prepare_cached(
                "INSERT INTO study_member (study, round, attempt, state, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (study, round, attempt) DO UPDATE SET state = excluded.state",
            )?
            .execute(params![study, number, attempt, text, now.0])?
        }
    };
    tx.prepare_cached("DELETE FROM study_member WHERE at_ms < ?1")?
        .execute([now.0.saturating_sub(FORGET_MS)])?;
    super::large::collect(tx)
}

/// Rounds that were answered are known for so long (real time): longer than any study runs.
const REMEMBER_MS: i64 = 800 * Timestamp::DAY_MS;

/// Writes down that a round was answered and is over.
pub(super) fn done(tx: &Connection, key: &RoundKey, now: Timestamp) -> Result<(), StoreError> {
    tx.prepare_cached(
        "INSERT OR IGNORE INTO study_done (study, round, attempt, at_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![key.study.as_str(), key.round, key.attempt, now.0])?;
    tx.prepare_cached("DELETE FROM study_done WHERE at_ms < ?1")?
        .execute([now.0.saturating_sub(REMEMBER_MS)])?;
    Ok(())
}

/// Whether a round was answered before: it is over, or runs, or was paid for.
pub(super) fn is_answered(tx: &Connection, key: &RoundKey) -> Result<bool, StoreError> {
    let release = format!("{}/{}/{}", key.study, key.round, key.attempt);
    let found = tx
        .prepare_cached(
            "SELECT 1 FROM study_done WHERE study = ?1 AND round = ?2 AND attempt = ?3
             UNION ALL SELECT 1 FROM study_member WHERE study = ?1 AND round = ?2 AND attempt = ?3
             UNION ALL SELECT 1 FROM study_debit WHERE release = ?4",
        )?
        .exists(params![key.study.as_str(), key.round, key.attempt, release])?;
    Ok(found)
}

/// What the facility kept of its update in the last round of a study before this one.
pub(super) fn memory(tx: &Connection, key: &RoundKey) -> Result<Option<Memory>, StoreError> {
    let text: Option<String> = tx
        .prepare_cached(
            "SELECT memory FROM study_memory WHERE study = ?1 AND round < ?2 ORDER BY round DESC LIMIT 1",
        )?
        .query_row(params![key.study.as_str(), key.round], |row| row.get(0))
        .optional()?;
    let read = |text: String| serde_json::from_str(&text).map_err(|_| corrupt("a memory"));
    text.map(read).transpose()
}

/// Keeps what is kept of an update. Of a study only the last two rounds are: a round that fails begins anew from the one
/// before it.
pub(super) fn keep(
    tx: &Connection,
    key: &RoundKey,
    memory: &Memory,
    now: Timestamp,
) -> Result<(), StoreError> {
    let text = serde_json::to_string(memory).map_err(|_| corrupt("a memory"))?;
    let (study, round) = (key.study.as_str(), key.round);
    tx.prepare_cached(
        "INSERT INTO study_memory (study, round, memory, at_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (study, round) DO UPDATE SET memory = excluded.memory, at_ms = excluded.at_ms",
    )?
    .execute(params![study, round, text, now.0])?;
    tx.prepare_cached(
        "DELETE FROM study_memory WHERE at_ms < ?3 OR study = ?1 AND round < (
           SELECT max(round) FROM study_memory WHERE study = ?1 AND round < ?2)",
    )?
    .execute(params![study, round, now.0.saturating_sub(FORGET_MS)])?;
    Ok(())
}

/// The ledger of the facility across all studies.
pub(super) fn ledger(tx: &Connection, budget: Budget) -> Result<Ledger, StoreError> {
    let mut statement = tx.prepare_cached(
        "SELECT release, sampling, noise_multiplier, steps, epsilon_after, delta FROM study_debit ORDER BY n",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            (row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?),
            (row.get::<_, f64>(4)?, row.get::<_, f64>(5)?),
        ))
    })?;
    let (mut entries, mut same_delta) = (Vec::new(), true);
    for row in rows {
        let (release, (sampling, noise, steps), (epsilon_after, delta)) = row?;
        let event = Event::new(sampling, noise, steps.unsigned_abs());
        same_delta &= delta == budget.delta.get();
        entries.push(Entry {
            release,
            event: event.map_err(|_| corrupt("a debit"))?,
            epsilon_after,
        });
    }
    let ledger = Ledger::restored(budget, entries, same_delta);
    ledger.map_err(|_| corrupt("a ledger"))
}

/// The same to spend from: nothing is spent while the node may have been put back to an older state, as long as no person has
/// acknowledged what is missing since.
pub(super) fn ledger_to_spend(tx: &Connection, budget: Budget) -> Result<Ledger, StoreError> {
    Ok(ledger(tx, budget)?.doubted(gap::any(tx)?))
}

/// Writes a debit.
///
/// # Errors
/// Refused when another one was written since it was worked out, or entries may be missing since: the whole step is to be
/// tried again.
pub(super) fn debit(tx: &Connection, debit: &Debit, now: Timestamp) -> Result<(), StoreError> {
    if gap::any(tx)? {
        let op = "debit: entries may be missing";
        return Err(StoreError::new(StoreErrorKind::Refused, op));
    }
    let have: i64 = tx.query_row("SELECT count(*) FROM study_debit", [], |row| row.get(0))?;
    if usize::try_from(have) != Ok(debit.before) {
        return Err(StoreError::new(
            StoreErrorKind::Refused,
            "debit: another debit came before",
        ));
    }
    let (entry, event) = (&debit.entry, &debit.entry.event);
    let steps = i64::try_from(event.steps()).unwrap_or(i64::MAX);
    tx.prepare_cached(
        "INSERT INTO study_debit (release, sampling, noise_multiplier, steps, epsilon_after, delta, at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        entry.release,
        event.sampling(),
        event.noise_multiplier(),
        steps,
        entry.epsilon_after,
        debit.delta,
        now.0
    ])?;
    Ok(())
}

fn corrupt(op: &'static str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, op)
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
