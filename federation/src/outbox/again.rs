//! Shipping again what the receiver did not take, once its cause may be gone: a policy that was mended, a profile that
//! holds again, a kind, code or unit that a newer receiver knows.
//!
//! The receiver's answer is final for the order: a parcel that is shipped again is a new one, with a new id and
//! sequence and the same body, so the receiver tells by the records' own ids what it has already. An alarm stays an
//! alarm; everything else is backlog. The rules are asked again. While nothing of it is taken a step ships few
//! ([`PROBES`]); when one is taken the others of its reason follow at once ([`MAX_AGAIN`] a step).
use super::{held, peer, reserve};
use crate::audit::{self, Decision, Entry};
use crate::db::{Count, DbError};
use crate::envelope::reseal;
use crate::policy::Rules;
use crate::reason::{WORDS, curable};
use crate::wire::Parcel;
use prost::Message as _;
use rusqlite::Connection;
use types::{EnvelopeId, Place, Priority, Timestamp};

/// Parcels that one step ships of which it is not known that their cause is gone. With a step a second, what is never
/// cured costs at most so many parcels a second, however many are held.
pub const PROBES: usize = 4;
/// Parcels that one step ships.
pub const MAX_AGAIN: usize = 256;
/// The time from which a parcel is due that a person released, or whose cause went away for another one.
const AT_ONCE: i64 = 0;
/// The time from which a parcel is due that is tried for another reason than that its time has come.
const SOON: i64 = 1;

struct Due {
    number: u64,
    parcel: Parcel,
    tries: u32,
}

/// What one step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Again {
    /// Parcels that it shipped.
    pub shipped: usize,
    /// Parcels that the rules of this node keep back now.
    pub kept: usize,
}

/// One bounded step: ships held parcels that are due, in the caller's transaction. Audited, if it did anything: then call
/// [`audit::sign_head`]. `draw` fills an id with random bytes; `now` is real time.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn ship_again(
    tx: &Connection,
    rules: &Rules,
    me: &Place,
    draw: &mut dyn FnMut(&mut [u8]),
    now: Timestamp,
) -> Result<Again, DbError> {
    let mut again = Again::default();
    for due in due(tx, now)? {
        let mut id = [0; 16];
        draw(&mut id);
        if ship_one(tx, rules, me, due, EnvelopeId::from_bytes(id), now)? {
            again.shipped += 1;
        } else {
            again.kept += 1;
        }
    }
    Ok(again)
}

/// The parcels of this step, by when they are due.
fn due(tx: &Connection, now: Timestamp) -> Result<Vec<Due>, DbError> {
    let mut statement = tx.prepare_cached(
        "SELECT n, parcel, tries, due_ms FROM outbox_refused
         WHERE key IS NULL AND due_ms <= ?1 ORDER BY due_ms, n LIMIT ?2",
    )?;
    let limit = i64::try_from(MAX_AGAIN).unwrap_or(i64::MAX);
    let mut rows = statement.query((now.0, limit))?;
    let (mut found, mut probes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(3)? != AT_ONCE {
            if probes == PROBES {
                break;
            }
            probes += 1;
        }
        let blob = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        found.push(Due {
            number: row.get::<_, Count>(0)?.0,
            parcel: Parcel::decode(blob)
                .map_err(|_| DbError::Corrupt("parcel in the quarantine"))?,
            tries: row.get(2)?,
        });
    }
    Ok(found)
}

fn ship_one(
    tx: &Connection,
    rules: &Rules,
    me: &Place,
    due: Due,
    id: EnvelopeId,
    now: Timestamp,
) -> Result<bool, DbError> {
    let tries = due.tries.saturating_add(1);
    let urgent = due.parcel.priority == u32::from(Priority::Alarm.rank());
    let priority = if urgent {
        Priority::Alarm
    } else {
        Priority::Backlog
    };
    let cleared = match reseal(rules, &due.parcel) {
        Ok(cleared) => cleared,
        Err(refusal) => {
            let reason = refusal.reason();
            let entry = Entry::of_parcel(now, Decision::Refused, reason, me, me, &due.parcel);
            audit::append(tx, &entry)?;
            let next = now.plus_ms(held::wait_ms(tries)).0;
            tx.prepare_cached("UPDATE outbox_refused SET tries = ?2, due_ms = ?3 WHERE n = ?1")?
                .execute((Count(due.number), tries, next))?;
            return Ok(false);
        }
    };
    let to: Place = due
        .parcel
        .to
        .parse()
        .map_err(|_| DbError::Corrupt("parcel in the quarantine"))?;
    let peer = peer::peer_or_new(tx, me, &to)?;
    let place = reserve::reserve_of(tx, peer, priority)?;
    let parcel = cleared.at(id, priority, place.seq());
    super::insert(tx, (peer, priority), &parcel, now)?;
    tx.prepare_cached(
        "UPDATE outbox_refused SET tries = ?2, key = ?3, parcel = x'', origin = coalesce(origin, ?4) WHERE n = ?1",
    )?
    .execute((
        Count(due.number),
        tries,
        peer.key(priority, parcel.seq)?,
        origin(peer, &due.parcel),
    ))?;
    Ok(true)
}

/// The key under which a parcel lay that an earlier version held.
fn origin(peer: peer::Peer, parcel: &Parcel) -> i64 {
    let rank = u8::try_from(parcel.priority).ok();
    let priority = rank.and_then(Priority::from_rank);
    let key = priority.map(|priority| peer.key(priority, parcel.seq));
    key.and_then(Result::ok).unwrap_or(0)
}

/// The link came up, and the receiver may be another one than before: what may be cured is tried soon.
///
/// # Errors
/// [`DbError`]: roll back.
pub fn due_soon(tx: &Connection) -> Result<(), DbError> {
    tx.prepare_cached("UPDATE outbox_refused SET due_ms = ?1 WHERE key IS NULL AND due_ms > ?1")?
        .execute([SOON])?;
    Ok(())
}

/// What an earlier version held for a reason that cannot be cured waits for a person.
pub(super) fn leave_incurable(conn: &Connection) -> Result<(), DbError> {
    for word in WORDS.iter().filter(|word| !curable(word)) {
        conn.prepare_cached(
            "UPDATE outbox_refused SET due_ms = NULL WHERE reason = ?1 AND due_ms = ?2 AND tries = 0",
        )?
        .execute((word, SOON))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "again_tests.rs"]
mod tests;
