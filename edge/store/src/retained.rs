//! Retained messages: the last of each topic, with its QoS, the properties that subscribers get, and when it lapses.
//!
//! A message that has lapsed is never given out again (MQTT 5 §3.3.2.3.3): a command that came too late is worse than
//! none. Within the run that stored it its lifetime is measured by the machine's monotonic clock, and by the node's real
//! time as well, whichever ends first. After a restart only the real time is left: as long as that is not believed
//! ([`crate::clockguard`]), nobody knows how long the node was away, and what can lapse is held back.
use super::{Store, StoreError, StoreErrorKind, apply::Apply, job::Job, meta, steps::Kept};
use crate::clockguard::Now;
use ingest::{RetainedMessage, Urgency};
use rusqlite::{Connection, Transaction, params};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Retained messages up to so many bytes are kept while alarms are: a device that cannot say that it is there again
/// sends no alarm either. There is one for each topic of a device, so that they cannot use the reserve up.
const SHORT: usize = 256;
/// Topics with a retained message: every topic of a large facility. One more is refused.
pub(super) const MAX_ROWS: i64 = 65_536;
/// The longest topic of a retained message, in bytes.
const MAX_TOPIC: usize = 255;
/// The largest retained message with its properties, in bytes: a device's status.
const MAX_BYTES: usize = 64 * 1024;

/// When the retained messages of this run lapse, by topic; at most [`MAX_ROWS`] have a row at all.
pub(super) type Lapses = HashMap<String, Instant>;

impl Apply<'_> {
    /// Keeps or deletes the retained message of a topic: whether there was room. A short one may use the reserve.
    pub(super) fn retain(&mut self, message: &RetainedMessage) -> Result<Kept, StoreError> {
        let admitted = self.bounds.admits(urgency(message), self.used);
        if !message.payload.is_empty() && !admitted {
            self.tally.full += 1;
            return Ok(Kept::Full);
        }
        self.used += (message.payload.len() + message.properties.len()) as u64;
        keep(self.tx, message, self.now)
    }
}

/// Which part of the disk a message may use.
fn urgency(message: &RetainedMessage) -> Urgency {
    match message.payload.len() + message.properties.len() {
        0..=SHORT => Urgency::Alarm,
        _ => Urgency::Routine,
    }
}

/// Keeps a message in place of its topic's last one; an empty one deletes it.
fn keep(tx: &Transaction<'_>, message: &RetainedMessage, now: Now) -> Result<Kept, StoreError> {
    if message.payload.is_empty() {
        tx.prepare_cached("DELETE FROM retained WHERE topic = ?1")?
            .execute([&message.topic])?;
        return Ok(Kept::Durably);
    }
    if !has_room(tx, &message.topic)? {
        return Ok(Kept::TooManyTopics);
    }
    let expires_ms = message.lapses_in.map(|left| {
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        now.real.0.saturating_add(left)
    });
    let boot = meta::get(tx, meta::BOOT)?.unwrap_or(0);
    tx.prepare_cached(
        "INSERT INTO retained (topic, message, qos, properties, expires_ms, boot)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (topic) DO UPDATE
         SET message = ?2, qos = ?3, properties = ?4, expires_ms = ?5, boot = ?6",
    )?
    .execute(params![
        message.topic,
        &message.payload[..],
        message.qos,
        &message.properties[..],
        expires_ms,
        boot
    ])?;
    Ok(Kept::Durably)
}

/// A topic that has a message already needs no more room.
fn has_room(tx: &Transaction<'_>, topic: &str) -> Result<bool, StoreError> {
    let known = tx
        .prepare_cached("SELECT 1 FROM retained WHERE topic = ?1")?
        .exists([topic])?;
    if known {
        return Ok(true);
    }
    let rows: i64 = tx
        .prepare_cached("SELECT count(*) FROM retained")?
        .query_row([], |row| row.get(0))?;
    Ok(rows < MAX_ROWS)
}

/// Deletes what has lapsed, as far as the time is believed.
pub(super) fn drop_lapsed(tx: &Transaction<'_>, now: Now) -> Result<(), StoreError> {
    if now.trusted {
        tx.prepare_cached("DELETE FROM retained WHERE expires_ms <= ?1")?
            .execute([now.real.0])?;
    }
    Ok(())
}

/// When a row lapses by real time, and the start that stored it.
#[derive(Clone, Copy, Debug)]
struct Terms {
    expires_ms: i64,
    boot: i64,
}

impl Terms {
    /// What is left of its lifetime; `None`: nothing, or nobody knows.
    fn left(self, now: Now, boot: u32, monotonic: Option<Duration>) -> Option<Duration> {
        if self.boot != i64::from(boot) && !now.trusted {
            return None;
        }
        let left = u64::try_from(self.expires_ms.saturating_sub(now.real.0)).ok()?;
        let left = Duration::from_millis(left);
        let left = monotonic.map_or(left, |monotonic| monotonic.min(left));
        (!left.is_zero()).then_some(left)
    }
}

fn read(db: &Connection, prefix: &str) -> rusqlite::Result<Vec<(RetainedMessage, Option<Terms>)>> {
    db.prepare_cached(
        "SELECT topic, message, qos, properties, expires_ms, boot FROM retained
         WHERE substr(topic, 1, length(?1)) = ?1 ORDER BY topic",
    )?
    .query_map([prefix], |row| {
        let message = RetainedMessage {
            topic: row.get(0)?,
            payload: row.get(1)?,
            qos: row.get(2)?,
            properties: row.get(3)?,
            lapses_in: None,
        };
        let expires_ms: Option<i64> = row.get(4)?;
        let boot = row.get(5)?;
        Ok((
            message,
            expires_ms.map(|expires_ms| Terms { expires_ms, boot }),
        ))
    })?
    .collect()
}

impl Store {
    /// As [`ingest::Journal::retain`].
    pub(super) async fn keep_retained(&self, message: RetainedMessage) -> Result<(), StoreError> {
        let bytes = message.payload.len() + message.properties.len();
        if message.topic.len() > MAX_TOPIC || bytes > MAX_BYTES {
            let op = "retain: a topic has at most 255 bytes and its message 64 KiB";
            return Err(StoreError::new(StoreErrorKind::Refused, op));
        }
        let topic = message.topic.clone();
        let kept = !message.payload.is_empty();
        let lapses = message.lapses_in.filter(|_| kept);
        let lapses = lapses.and_then(|left| Instant::now().checked_add(left));
        self.ask_step(|reply| Job::Retain { message, reply })
            .await?;
        let mut known = self.0.lapses.lock();
        match lapses {
            Some(at) => known.insert(topic, at),
            None => known.remove(&topic),
        };
        Ok(())
    }

    /// As [`ingest::Journal::retained`].
    pub(super) async fn retained_below(
        &self,
        prefix: String,
    ) -> Result<Vec<RetainedMessage>, StoreError> {
        let rows = self
            .read(move |db| read(db, &prefix).map_err(StoreError::sqlite("read retained messages")))
            .await?;
        let (now, instant, boot) = (self.0.time.now(), Instant::now(), self.boot());
        let known = self.0.lapses.lock();
        let alive = |(mut message, terms): (RetainedMessage, Option<Terms>)| {
            if let Some(terms) = terms {
                let at = known.get(&message.topic);
                let monotonic = at.map(|at| at.saturating_duration_since(instant));
                message.lapses_in = Some(terms.left(now, boot, monotonic)?);
            }
            Some(message)
        };
        Ok(rows.into_iter().filter_map(alive).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Timestamp;

    #[test]
    fn what_may_have_lapsed_is_not_given_out() {
        let at = |real, trusted| Now {
            real: Timestamp(real),
            mesh: Timestamp(real),
            trusted,
        };
        let second = |seconds| Some(Duration::from_secs(seconds));
        let terms = Terms {
            expires_ms: 10_000,
            boot: 1,
        };
        for (now, boot, monotonic, left) in [
            (at(7_000, true), 1, None, second(3)),
            (at(7_000, true), 1, second(2), second(2)),
            (at(7_000, true), 2, None, second(3)),
            (at(7_000, false), 1, second(9), second(3)),
            (at(7_000, false), 2, None, None),
            (at(10_000, true), 1, second(5), None),
            (at(-9_000_000, true), 1, second(0), None),
        ] {
            assert_eq!(terms.left(now, boot, monotonic), left, "{now:?}");
        }
    }
}
